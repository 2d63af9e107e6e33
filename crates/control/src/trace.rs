//! Which trace things belong to. A client says which is its own (W3C `traceparent`); a task keeps the place of its submission there,
//! so that what is done with it on nodes, much later, is part of the same trace. Where no spans are exported all of this is empty:
//! a span that nobody wants is a look at a flag.
//!
//! The place is in memory only: what is done with a task after the controller has begun anew is a trace of its own.

use crate::core::Deed;
use crate::task::Task;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, StatusCode};
use opentelemetry::propagation::Extractor;
use opentelemetry::trace::{SpanContext, TraceContextExt};
use opentelemetry::{Context, global};
use std::sync::Arc;
use tracing::Span;
use tracing::field::Empty;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use wayfare_api::Moved;

/// Where something is in a trace, if that is known: below which span.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place(Option<Arc<SpanContext>>);

impl Place {
    /// Below this span.
    pub(crate) fn below(span: &Span) -> Place {
        if span.is_disabled() {
            return Place(None);
        }
        let of = span.context().span().span_context().clone();
        Place(of.is_valid().then(|| Arc::new(of)))
    }

    /// Puts a span there that has just been made.
    fn put(&self, span: &Span) {
        if let (Some(place), false) = (&self.0, span.is_disabled()) {
            // It fails where nobody wants spans.
            let _ = span.set_parent(Context::new().with_remote_span_context((**place).clone()));
        }
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(|name| name.as_str()).collect()
    }
}

/// Of a request to the API, below what its client says; of nothing else that is asked by HTTP, such as the page's files. Names are those
/// of OpenTelemetry's conventions for HTTP servers.
pub(crate) fn of_request(request: &Request) -> Span {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let Some(route) = route.filter(|route| route.starts_with("/v1/")) else { return Span::none() };
    let method = request.method().as_str();
    let span = tracing::info_span!(
        parent: None,
        "request",
        otel.name = %format_args!("{method} {route}"),
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = method,
        http.route = route,
        url.path = request.uri().path(),
        http.response.status_code = Empty,
        error.type = Empty,
    );
    if !span.is_disabled() {
        let theirs = global::get_text_map_propagator(|by| by.extract(&Headers(request.headers())));
        let _ = span.set_parent(theirs);
    }
    span
}

/// What was answered. That a client asks for what cannot be is no error of this side's.
pub(crate) fn answered(span: &Span, status: StatusCode) {
    span.record("http.response.status_code", i64::from(status.as_u16()));
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
        span.record("error.type", status.as_str());
    }
}

/// Of a set that is to be taken.
pub(crate) fn of_submission(owner: &str, set: &str) -> Span {
    tracing::info_span!(
        "submit",
        otel.status_code = Empty,
        otel.status_description = Empty,
        wayfare.task.set = set,
        wayfare.owner = owner,
        wayfare.tasks = Empty,
    )
}

/// Of something that is done on a node for a task, below the task's submission.
pub(crate) fn of_deed(deed: &Deed, task: Option<&Task>) -> Span {
    /// A span's name is known when the program is compiled.
    macro_rules! of {
        ($name:literal, $node:expr) => {
            tracing::info_span!(
                parent: None,
                $name,
                otel.kind = "client",
                otel.status_code = Empty,
                otel.status_description = Empty,
                wayfare.node = %$node,
                wayfare.task.name = deed.name(),
                wayfare.task.id = Empty,
                wayfare.task.set = Empty,
                wayfare.task.attempt = Empty,
                wayfare.reason = Empty,
                wayfare.standby = Empty,
            )
        };
    }
    let span = match deed {
        Deed::Launch { node, .. } => of!("launch", node),
        Deed::Weigh(candidate) => of!("weigh", candidate.from),
        // The move itself is below it.
        Deed::Move { from, .. } => of!("balance", from),
        Deed::Snapshot(order) => of!("snapshot", order.node),
        Deed::Stop { node, .. } => of!("stop", node),
        Deed::Collect { node, .. } => of!("collect", node),
        Deed::Protect { node, .. } => of!("protect", node),
        Deed::Discard { node, .. } => of!("discard", node),
    };
    if let (Some(task), false) = (task, span.is_disabled()) {
        task.place.put(&span);
        span.record("wayfare.task.id", tracing::field::display(task.id));
        span.record("wayfare.task.set", task.set.as_str());
        span.record("wayfare.task.attempt", i64::from(task.attempt));
        if let Deed::Launch { .. } = deed {
            span.record("wayfare.reason", task.why.as_str());
        }
        if let Deed::Protect { standby, .. } = deed {
            span.record("wayfare.standby", standby.as_str());
        }
    }
    span
}

/// Of a move, below whatever it is a part of: a request, or a deed.
pub(crate) fn of_move(name: &str, from: &str, to: &str) -> Span {
    tracing::info_span!(
        "move",
        otel.kind = "client",
        otel.status_code = Empty,
        otel.status_description = Empty,
        wayfare.task.name = name,
        wayfare.node = from,
        wayfare.to = to,
        wayfare.move.bytes = Empty,
        wayfare.move.downtime_ms = Empty,
        wayfare.move.took_ms = Empty,
    )
}

/// What became of a move.
pub(crate) fn moved(span: &Span, moved: &anyhow::Result<Moved>) {
    match moved {
        Ok(moved) => {
            span.record("wayfare.move.bytes", moved.bytes);
            span.record("wayfare.move.downtime_ms", moved.downtime);
            span.record("wayfare.move.took_ms", moved.took);
        }
        Err(e) => failed(span, &format!("{e:#}")),
    }
}

/// What a span is about has not been done.
pub(crate) fn failed(span: &Span, why: &str) {
    span.record("otel.status_code", "ERROR");
    span.record("otel.status_description", why);
}
