//! Spans, for those who have them exported: what this node does with a task. Nobody else's place in a trace comes to it from other
//! nodes: what they say to each other has no room for one. A task's name and identity tell which spans are of one task.

use anyhow::Result;
use tracing::Span;

/// Says of a span what became of what it is about.
pub(crate) fn ended<T>(span: &Span, result: &Result<T>) {
    if let (Err(e), false) = (result, span.is_disabled()) {
        span.record("otel.status_code", "ERROR");
        span.record("otel.status_description", format!("{e:#}"));
    }
}

/// Something that is done with a task: its name, and its identity if that is known already.
macro_rules! of_task {
    ($what:literal, $name:expr, $id:expr $(, $($more:tt)*)?) => {
        tracing::info_span!(
            $what,
            otel.status_code = tracing::field::Empty,
            otel.status_description = tracing::field::Empty,
            wayfare.task.name = %$name,
            wayfare.task.id = $id.map(tracing::field::display),
            $($($more)*)?
        )
    };
}
pub(crate) use of_task;
