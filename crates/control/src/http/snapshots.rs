//! Snapshots that the controller keeps of tasks, what a task takes, and where it could move.

use super::access::Who;
use super::live::chunks;
use super::{App, Failed, Named, Said, failed, work};
use crate::core::Command;
use crate::fleet::sample;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use wayfare_api::{Accepted, DestinationView, ResumeRequest, Role, SnapshotView, TaskState, UsageView};
use wayfare_cluster::control::Sample;

/// How long a snapshot may take to be made and brought here.
const CAPTURE: Duration = Duration::from_secs(660);

/// The snapshots of a task that are kept, the earliest first.
#[utoipa::path(get, path = "/v1/tasks/{name}/snapshots", tag = "work", params(("name" = String, Path)), responses(
    (status = 200, body = Vec<SnapshotView>),
))]
pub(super) async fn snapshots(
    State(app): State<App>,
    Named(name): Named<String>,
) -> Result<Json<Vec<SnapshotView>>, Failed> {
    app.ask(|answer| Command::Snapshots { name, answer }).await.map(Json)
}

/// Makes a snapshot of a task, which runs on; the answer comes when it is kept.
#[utoipa::path(post, path = "/v1/tasks/{name}/snapshots", tag = "work", params(("name" = String, Path)), responses(
    (status = 201, body = SnapshotView),
))]
pub(super) async fn capture(
    State(app): State<App>,
    Extension(who): Extension<Who>,
    Named(name): Named<String>,
) -> Result<(StatusCode, Json<SnapshotView>), Failed> {
    who.may(Role::Operate)?;
    let made = app.ask_within(CAPTURE, |answer| Command::Snapshot { name, answer }).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// A snapshot's file, as `wayfare resume` and `wayfare inspect` read it.
#[utoipa::path(get, path = "/v1/snapshots/{id}", tag = "work", params(("id" = u64, Path)), responses(
    (status = 200, content_type = "application/octet-stream", body = Vec<u8>),
))]
pub(super) async fn download(
    State(app): State<App>,
    Extension(who): Extension<Who>,
    Named(id): Named<u64>,
) -> Result<Response, Failed> {
    // The task's memory is in it.
    who.may(Role::Operate)?;
    let (kept, view) = app.ask(|answer| Command::SnapshotFiles { id, answer }).await?;
    let gone = |e: std::io::Error| failed(500, format!("snapshot {id} cannot be read: {e}"));
    let file = tokio::fs::File::open(&kept.snapshot).await.map_err(gone)?;
    let len = file.metadata().await.map_err(gone)?.len();
    let name = format!("attachment; filename=\"{}-{id}.snap\"", view.task);
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_string()),
        (header::CONTENT_LENGTH, len.to_string()),
        (header::CONTENT_DISPOSITION, name),
    ];
    Ok((headers, Body::from_stream(chunks(file))).into_response())
}

/// Forgets a snapshot.
#[utoipa::path(delete, path = "/v1/snapshots/{id}", tag = "work", params(("id" = u64, Path)), responses(
    (status = 204),
))]
pub(super) async fn forget(
    State(app): State<App>,
    Extension(who): Extension<Who>,
    Named(id): Named<u64>,
) -> Result<StatusCode, Failed> {
    who.may(Role::Operate)?;
    app.ask(|answer| Command::RemoveSnapshot { id, answer }).await.map(|()| StatusCode::NO_CONTENT)
}

/// Submits a task that goes on from a snapshot, with the order of the task that it is of, under another name.
#[utoipa::path(post, path = "/v1/snapshots/{id}/resume", tag = "work", params(("id" = u64, Path)),
    request_body = ResumeRequest, responses(
    (status = 201, body = Accepted),
))]
pub(super) async fn resume(
    State(app): State<App>,
    Extension(who): Extension<Who>,
    Named(id): Named<u64>,
    Said(ResumeRequest { name }): Said<ResumeRequest>,
) -> Result<(StatusCode, Json<Accepted>), Failed> {
    who.may(Role::Operate)?;
    let (owner, set) = (who.name.clone(), name.clone());
    let command = |place, answer| Command::Resume { owner: who.name, id, name, place, answer };
    work::submitted(&app, &owner, &set, command).await
}

/// Looks at a task that runs.
async fn look(app: &App, name: &str) -> Result<Sample, Failed> {
    let of = name.to_string();
    let task = app.ask(|answer| Command::Task { name: of, answer }).await?;
    let runs = matches!(task.state, TaskState::Running | TaskState::Moving);
    let Some(node) = task.node.filter(|_| runs) else {
        return Err(failed(409, format!("{name} does not run: it is {}", task.state.name())));
    };
    sample(&app.agent, &node, name)
        .await
        .map_err(|e| failed(502, format!("{node} does not say what {name} takes: {e:#}")))
}

/// What a task takes at present: it is looked at for a quarter of a second.
#[utoipa::path(get, path = "/v1/tasks/{name}/usage", tag = "work", params(("name" = String, Path)), responses(
    (status = 200, body = UsageView),
))]
pub(super) async fn usage(State(app): State<App>, Named(name): Named<String>) -> Result<Json<UsageView>, Failed> {
    let Sample { memory, dirty, busy, ran, .. } = look(&app, &name).await?;
    let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    Ok(Json(UsageView { at, memory, dirty, busy, ran: ran as f64 / 1e6 }))
}

/// The other nodes, whether a task could move to each, and what that would cost: the task is looked at for a quarter of a second.
#[utoipa::path(get, path = "/v1/tasks/{name}/destinations", tag = "work", params(("name" = String, Path)), responses(
    (status = 200, body = Vec<DestinationView>),
))]
pub(super) async fn destinations(
    State(app): State<App>,
    Named(name): Named<String>,
) -> Result<Json<Vec<DestinationView>>, Failed> {
    let of = name.clone();
    // One that does not run has none, which is told before anybody is asked; a board does not say what its tasks take.
    app.ask(|answer| Command::Destinations { name: of, sample: None, answer }).await?;
    let sample = look(&app, &name).await.ok();
    app.ask(|answer| Command::Destinations { name, sample, answer }).await.map(Json)
}
