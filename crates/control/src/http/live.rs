//! What goes on: changes as they happen, logs as they grow, figures.

use super::{App, Asked, Failed, Named, failed};
use crate::core::Command;
use crate::fleet::log_path;
use crate::hub::{Hub, Told};
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::{Stream, StreamExt};
use utoipa::IntoParams;
use wayfare_api::Event;

/// Where to go on.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct From {
    /// The `id` of the last change that was heard; the header `Last-Event-ID` says the same.
    after: Option<String>,
}

/// What changes, as it changes: server-sent events, each with an `id`, and an [`Event`] as its data. Where more was missed than is
/// kept, there is an event `missed`: look at all anew.
#[utoipa::path(get, path = "/v1/events", tag = "live", params(From), responses(
    (status = 200, body = Event, content_type = "text/event-stream"),
))]
pub(super) async fn events(
    State(app): State<App>,
    headers: HeaderMap,
    Asked(From { after }): Asked<From>,
) -> Sse<impl Stream<Item = Result<sse::Event, Infallible>>> {
    let by_header = headers.get("last-event-id").and_then(|id| id.to_str().ok().map(str::to_owned));
    let listener = app.hub.listen(by_header.or(after).as_deref());
    let (hub, again) = (app.hub.clone(), app.hub);
    let behind = listener.is_behind.then(missed);
    let before = listener.missed.into_iter().map(move |told| said(&hub, &told));
    let coming = BroadcastStream::new(listener.coming).map(move |told| match told {
        Ok(told) => said(&again, &told),
        Err(_) => missed(),
    });
    // Something at once, so that whoever stands between passes on that the listener is heard.
    let here = sse::Event::default().comment("listening");
    let first = [here].into_iter().chain(behind).chain(before);
    let all = tokio_stream::iter(first).chain(coming).map(Ok);
    Sse::new(all).keep_alive(KeepAlive::default())
}

fn said(hub: &Hub, told: &Arc<Told>) -> sse::Event {
    sse::Event::default().id(hub.mark(told)).event(told.kind()).data(told.json())
}

fn missed() -> sse::Event {
    sse::Event::default().event("missed").data("{}")
}

/// How to show a log.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Showing {
    /// And what the task will write, until it ends.
    #[serde(default)]
    #[param(required = false)]
    follow: bool,
}

/// What a task has written.
#[utoipa::path(get, path = "/v1/tasks/{name}/logs", tag = "live", params(("name" = String, Path), Showing), responses(
    (status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
))]
pub(super) async fn logs(
    State(app): State<App>,
    Named(name): Named<String>,
    Asked(Showing { follow }): Asked<Showing>,
) -> Result<Response, Failed> {
    let (number, node) = app.ask(|answer| Command::Log { name: name.clone(), answer }).await?;
    let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
    if let Ok(bytes) = tokio::fs::read(log_path(&app.logs, number)).await {
        return Ok((kind, bytes).into_response());
    }
    let Some(node) = node else { return Ok((kind, Bytes::new()).into_response()) };
    let log = match app.agent.log_of(&node, &name, follow).await {
        Ok(log) => log,
        // It has been fetched from there meanwhile.
        Err(e) => match tokio::fs::read(log_path(&app.logs, number)).await {
            Ok(bytes) => return Ok((kind, bytes).into_response()),
            Err(_) => return Err(failed(502, format!("{node}: {e:#}"))),
        },
    };
    Ok((kind, Body::from_stream(chunks(log))).into_response())
}

/// What is read, as it comes.
pub(super) fn chunks(mut from: impl AsyncRead + Unpin + Send + 'static) -> impl Stream<Item = std::io::Result<Bytes>> {
    let (to, chunks) = mpsc::channel(4);
    tokio::spawn(async move {
        let mut step = vec![0; 64 << 10];
        loop {
            let chunk = match from.read(&mut step).await {
                Ok(0) => return,
                Ok(n) => Ok(Bytes::copy_from_slice(&step[..n])),
                Err(e) => Err(e),
            };
            if to.send(chunk).await.is_err() {
                return;
            }
        }
    });
    tokio_stream::wrappers::ReceiverStream::new(chunks)
}

/// Figures for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "live", responses(
    (status = 200, body = String, content_type = "application/openmetrics-text"),
))]
pub(super) async fn metrics(State(app): State<App>) -> Result<Response, Failed> {
    let nodes = app.ask(|answer| Command::Nodes { answer }).await?;
    let counts = app.ask(|answer| Command::Counts { answer }).await?;
    let usages = app.ask(|answer| Command::Usages { answer }).await?;
    let kind = [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    Ok((kind, app.metrics.text(&nodes, &counts, &usages)).into_response())
}
