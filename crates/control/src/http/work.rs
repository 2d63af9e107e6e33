//! Sets and tasks: submitted, looked at, cancelled, moved, removed.

use super::access::Who;
use super::{App, Asked, Failed, Named, Raw, Said, failed};
use crate::core::{Answer, Command};
use crate::fleet::{carry, log_path};
use crate::trace::{self, Place};
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;
use tracing::Instrument;
use utoipa::IntoParams;
use wayfare_api::{
    Accepted, Moment, MoveRequest, Moved, Problem, Role, SetRequest, SetView, TaskRequest, TaskState, TaskView, Wrong,
};
use wayfare_snapshot::Digest;

/// Submits a set: all of it is taken, or nothing.
#[utoipa::path(post, path = "/v1/sets", tag = "work", request_body = SetRequest, responses(
    (status = 201, body = Accepted),
))]
pub(super) async fn submit(
    State(app): State<App>,
    Extension(who): Extension<Who>,
    Said(set): Said<SetRequest>,
) -> Result<(StatusCode, Json<Accepted>), Failed> {
    take(&app, who, set).await
}

/// Submits a task, which is a set of its own.
#[utoipa::path(post, path = "/v1/tasks", tag = "work", request_body = TaskRequest, responses(
    (status = 201, body = Accepted),
))]
pub(super) async fn submit_one(
    State(app): State<App>,
    Extension(who): Extension<Who>,
    Said(task): Said<TaskRequest>,
) -> Result<(StatusCode, Json<Accepted>), Failed> {
    take(&app, who, SetRequest::of(task)).await
}

async fn take(app: &App, who: Who, set: SetRequest) -> Result<(StatusCode, Json<Accepted>), Failed> {
    who.may(Role::Operate)?;
    for (i, task) in set.tasks.iter().enumerate() {
        let known = task.image.parse::<Digest>().is_ok_and(wayfare_store::program::has_module);
        // What is no digest is told with all else that is wrong.
        if !known && task.image.len() == 64 {
            let wrong = Wrong::new(format!("tasks[{i}].image"), "no such program is here: PUT /v1/images/DIGEST first");
            return Err(Failed(Problem { status: 422, title: "a program is missing".into(), errors: vec![wrong] }));
        }
    }
    let (owner, name) = (who.name.clone(), set.name.clone());
    submitted(app, &owner, &name, |place, answer| Command::Submit { owner: who.name, set, place, answer }).await
}

/// Has a set taken, as a span below which all that is done for it will be.
pub(super) async fn submitted(
    app: &App,
    owner: &str,
    set: &str,
    command: impl FnOnce(Place, Answer<Accepted>) -> Command,
) -> Result<(StatusCode, Json<Accepted>), Failed> {
    let span = trace::of_submission(owner, set);
    let place = Place::below(&span);
    let accepted = app.ask(|answer| command(place, answer)).instrument(span.clone()).await;
    let accepted = accepted.inspect_err(|e| trace::failed(&span, &e.0.title))?;
    span.record("wayfare.tasks", accepted.tasks);
    app.metrics.submitted(accepted.tasks);
    Ok((StatusCode::CREATED, Json(accepted)))
}

/// The sets.
#[utoipa::path(get, path = "/v1/sets", tag = "work", responses(
    (status = 200, body = Vec<SetView>),
))]
pub(super) async fn sets(State(app): State<App>) -> Result<Json<Vec<SetView>>, Failed> {
    app.ask(|answer| Command::Sets { answer }).await.map(Json)
}

/// A set.
#[utoipa::path(get, path = "/v1/sets/{name}", tag = "work", params(("name" = String, Path)), responses(
    (status = 200, body = SetView),
))]
pub(super) async fn set(State(app): State<App>, Named(name): Named<String>) -> Result<Json<SetView>, Failed> {
    app.ask(|answer| Command::Set { name, answer }).await.map(Json)
}

/// Which tasks.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Only those of this set.
    set: Option<String>,
    /// Only those that stand there.
    state: Option<TaskState>,
}

/// The tasks, in the order in which they were submitted.
#[utoipa::path(get, path = "/v1/tasks", tag = "work", params(Which), responses(
    (status = 200, body = Vec<TaskView>),
))]
pub(super) async fn tasks(
    State(app): State<App>,
    Asked(Which { set, state }): Asked<Which>,
) -> Result<Json<Vec<TaskView>>, Failed> {
    app.ask(|answer| Command::Tasks { set, state, answer }).await.map(Json)
}

/// A task.
#[utoipa::path(get, path = "/v1/tasks/{name}", tag = "work", params(("name" = String, Path)), responses(
    (status = 200, body = TaskView),
))]
pub(super) async fn task(State(app): State<App>, Named(name): Named<String>) -> Result<Json<TaskView>, Failed> {
    app.ask(|answer| Command::Task { name, answer }).await.map(Json)
}

/// What became of a task, the earliest first.
#[utoipa::path(get, path = "/v1/tasks/{name}/history", tag = "work", params(("name" = String, Path)), responses(
    (status = 200, body = Vec<Moment>),
))]
pub(super) async fn history(State(app): State<App>, Named(name): Named<String>) -> Result<Json<Vec<Moment>>, Failed> {
    app.ask(|answer| Command::History { name, answer }).await.map(Json)
}

/// Cancels a task: it is stopped, or never started.
#[utoipa::path(post, path = "/v1/tasks/{name}/cancel", tag = "work", params(("name" = String, Path)), responses(
    (status = 204),
))]
pub(super) async fn cancel(
    State(app): State<App>,
    Extension(who): Extension<Who>,
    Named(name): Named<String>,
) -> Result<StatusCode, Failed> {
    who.may(Role::Operate)?;
    app.ask(|answer| Command::Cancel { name, answer }).await.map(|()| StatusCode::NO_CONTENT)
}

/// Forgets a task that is over, and its log.
#[utoipa::path(delete, path = "/v1/tasks/{name}", tag = "work", params(("name" = String, Path)), responses(
    (status = 204),
))]
pub(super) async fn remove(
    State(app): State<App>,
    Extension(who): Extension<Who>,
    Named(name): Named<String>,
) -> Result<StatusCode, Failed> {
    who.may(Role::Operate)?;
    let number = app.ask(|answer| Command::Remove { name, answer }).await?;
    let _ = tokio::fs::remove_file(log_path(&app.logs, number)).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Moves a task to another node while it runs; the answer comes when it is there.
#[utoipa::path(post, path = "/v1/tasks/{name}/move", tag = "work", params(("name" = String, Path)),
    request_body = MoveRequest, responses(
    (status = 200, body = Moved),
))]
pub(super) async fn migrate(
    State(app): State<App>,
    Extension(who): Extension<Who>,
    Named(name): Named<String>,
    Said(wish): Said<MoveRequest>,
) -> Result<Json<Moved>, Failed> {
    who.may(Role::Operate)?;
    let (task, to) = (name.clone(), wish.to.clone());
    let (from, guarded) = app.ask(|answer| Command::MayMove { name: task, to, answer }).await?;
    let (agent, core, leaving) = (app.agent.clone(), app.core.clone(), from.clone());
    // Whoever asks may go away: the move goes on.
    let moving = async move { carry(&agent, &core, &name, &leaving, &wish.to, guarded).await };
    let moving = tokio::spawn(moving.in_current_span());
    let moved = moving.await.map_err(|e| failed(500, format!("the move broke off: {e}")))?;
    moved.map(Json).map_err(|e| failed(502, format!("it stays on {from}: {e:#}")))
}

fn digest(text: &str) -> Result<Digest, Failed> {
    text.parse().map_err(|_| failed(400, "no digest of a module: 64 hexadecimal digits"))
}

/// Whether a program is here.
#[utoipa::path(get, path = "/v1/images/{digest}", tag = "work", params(("digest" = String, Path)), responses(
    (status = 204),
))]
pub(super) async fn has_image(Named(name): Named<String>) -> Result<StatusCode, Failed> {
    match wayfare_store::program::has_module(digest(&name)?) {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(failed(404, "no such program is here")),
    }
}

/// Brings a program: a WebAssembly module. It is compiled before the answer.
#[utoipa::path(put, path = "/v1/images/{digest}", tag = "work",
    params(("digest" = String, Path, description = "BLAKE3 of the module, 64 hexadecimal digits")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"), responses(
    (status = 204),
))]
pub(super) async fn image(
    Extension(who): Extension<Who>,
    Named(name): Named<String>,
    Raw(body): Raw,
) -> Result<StatusCode, Failed> {
    who.may(Role::Operate)?;
    if Digest::of(&body) != digest(&name)? {
        return Err(failed(422, "the body has another digest"));
    }
    let kept = tokio::task::spawn_blocking(move || wayfare_node::agent::keep_program(&body)).await;
    match kept {
        Ok(Ok(())) => Ok(StatusCode::NO_CONTENT),
        Ok(Err(e)) => Err(failed(422, format!("{e:#}"))),
        Err(_) => Err(failed(500, "the program could not be compiled")),
    }
}
