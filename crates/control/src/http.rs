//! The HTTP API: who may ask, what is asked, and how it is answered. What is asked is read into types and checked before anybody
//! else sees it.

mod plan;

use crate::Access;
use crate::core::{Answer, Command, clock};
use crate::fleet::log_path;
use crate::store::Store;
use anyhow::{Context, Result};
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::{Stream, StreamExt};
use wayfare_api::{
    Accepted, BODY_MAX, Event, NodeView, Problem, SetRequest, SetView, TaskRequest, TaskState, TaskView,
};
use wayfare_cluster::control::{Order, Reply, Request as OfNode};
use wayfare_node::agent::Agent;
use wayfare_snapshot::Digest;

/// Largest module.
const IMAGE_MAX: usize = 256 << 20;
/// How long the core may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a token's holder may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    /// Look.
    Read,
    /// Submit tasks, too, and cancel and remove them.
    Submit,
    /// All, nodes included.
    Admin,
}

impl Role {
    fn parse(text: &str) -> Option<Role> {
        Some(match text {
            "read" => Role::Read,
            "submit" => Role::Submit,
            "admin" => Role::Admin,
            _ => return None,
        })
    }
}

/// Who may ask.
pub(crate) struct Tokens(Vec<(String, [u8; 32], Role)>);

impl Tokens {
    /// Reads them; makes the first one, for those who can read the file.
    pub(crate) fn open(store: &Store, file: &std::path::Path, url: &str) -> Result<Tokens> {
        let known = std::fs::read(file).ok().and_then(|text| serde_json::from_slice::<Access>(&text).ok());
        let mut tokens = store.tokens()?;
        let is_good = |access: &Access| tokens.iter().any(|(_, hash, _)| *hash == hash_of(&access.token));
        let token = match known.filter(is_good) {
            Some(access) => access.token,
            None => {
                let token: String = wayfare_node::random::<24>()?.iter().map(|byte| format!("{byte:02x}")).collect();
                let name = if tokens.iter().any(|(name, ..)| name == "admin") {
                    format!("admin-{}", clock())
                } else {
                    "admin".into()
                };
                store.put_token(&name, hash_of(&token), "admin")?;
                tokens = store.tokens()?;
                token
            }
        };
        let access = Access { url: url.into(), token };
        let part = file.with_extension("part");
        std::fs::write(&part, serde_json::to_vec(&access)?)?;
        std::fs::set_permissions(&part, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        std::fs::rename(&part, file).with_context(|| file.display().to_string())?;
        let known = tokens.into_iter().filter_map(|(name, hash, role)| Some((name, hash, Role::parse(&role)?)));
        Ok(Tokens(known.collect()))
    }

    fn find(&self, headers: &HeaderMap) -> Option<Who> {
        let token = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")?;
        // Of a hash nobody learns anything by how long it takes to compare it.
        let hash = hash_of(token);
        let (name, _, role) = self.0.iter().find(|(_, other, _)| *other == hash)?;
        Some(Who { name: name.clone(), role: *role })
    }
}

fn hash_of(token: &str) -> [u8; 32] {
    *blake3::hash(token.as_bytes()).as_bytes()
}

/// Who asks.
#[derive(Clone)]
struct Who {
    name: String,
    role: Role,
}

impl Who {
    fn may(&self, role: Role) -> Result<(), Failed> {
        if self.role >= role {
            return Ok(());
        }
        Err(failed(
            403,
            format!("the token {} may only {}", self.name, if self.role == Role::Read { "look" } else { "submit" }),
        ))
    }
}

/// What handlers need.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) core: mpsc::Sender<Command>,
    pub(crate) events: broadcast::Sender<Event>,
    pub(crate) agent: Arc<Agent>,
    pub(crate) logs: PathBuf,
    pub(crate) tokens: Arc<Tokens>,
}

/// A problem, as an answer.
struct Failed(Problem);

fn failed(status: u16, title: impl Into<String>) -> Failed {
    Failed(Problem { status, title: title.into(), errors: Vec::new() })
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        (status, kind, serde_json::to_vec(&self.0).unwrap_or_default()).into_response()
    }
}

impl App {
    async fn ask<T>(&self, command: impl FnOnce(Answer<T>) -> Command) -> Result<T, Failed> {
        let (to, answer) = oneshot::channel();
        let gone = || failed(503, "the controller has ended");
        self.core.send(command(to)).await.map_err(|_| gone())?;
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(answer)) => answer.map_err(Failed),
            Ok(Err(_)) => Err(gone()),
            Err(_) => Err(failed(503, "the controller is too busy to answer")),
        }
    }
}

/// The routes.
pub(crate) fn router(app: App) -> Router {
    let protected = Router::new()
        .route("/v1/sets", get(sets).post(submit))
        .route("/v1/sets/{name}", get(set))
        .route("/v1/plan", post(plan::plan))
        .route("/v1/tasks", get(tasks).post(submit_one))
        .route("/v1/tasks/{name}", get(task).delete(remove))
        .route("/v1/tasks/{name}/cancel", post(cancel))
        .route("/v1/tasks/{name}/logs", get(logs))
        .route("/v1/nodes", get(nodes))
        .route("/v1/nodes/{name}/cordon", post(cordon).delete(uncordon))
        .route("/v1/nodes/{name}/drain", post(drain))
        .route("/v1/nodes/{name}/labels", post(label))
        .route("/v1/images/{digest}", put(image).get(has_image))
        .layer(DefaultBodyLimit::max(IMAGE_MAX))
        .route("/v1/events", get(events))
        .layer(middleware::from_fn_with_state(app.clone(), guard));
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .merge(protected)
        .fallback(|| async { failed(404, "there is nothing here: /v1/tasks, /v1/sets, /v1/nodes, /v1/events") })
        .method_not_allowed_fallback(|| async { failed(405, "this can be asked for in another way only") })
        .with_state(app)
}

async fn guard(State(app): State<App>, mut request: Request, next: Next) -> Response {
    match app.tokens.find(request.headers()) {
        Some(who) => {
            request.extensions_mut().insert(who);
            next.run(request).await
        }
        None => failed(401, "say who you are: Authorization: Bearer TOKEN").into_response(),
    }
}

async fn ready(State(app): State<App>) -> Result<&'static str, Failed> {
    app.ask(|answer| Command::Sets { answer }).await.map(|_| "ready\n")
}

/// Reads a body of JSON.
fn read<T: serde::de::DeserializeOwned>(body: &Bytes) -> Result<T, Failed> {
    if body.len() > BODY_MAX {
        return Err(failed(413, format!("more than {BODY_MAX} bytes")));
    }
    wayfare_api::read(body)
        .map_err(|wrong| Failed(Problem { status: 400, title: "this cannot be read".into(), errors: vec![wrong] }))
}

async fn submit(
    State(app): State<App>,
    Extension(who): Extension<Who>,
    body: Bytes,
) -> Result<(StatusCode, Json<Accepted>), Failed> {
    who.may(Role::Submit)?;
    take(&app, who, read::<SetRequest>(&body)?).await
}

async fn submit_one(
    State(app): State<App>,
    Extension(who): Extension<Who>,
    body: Bytes,
) -> Result<(StatusCode, Json<Accepted>), Failed> {
    who.may(Role::Submit)?;
    take(&app, who, SetRequest::of(read::<TaskRequest>(&body)?)).await
}

async fn take(app: &App, who: Who, set: SetRequest) -> Result<(StatusCode, Json<Accepted>), Failed> {
    for (i, task) in set.tasks.iter().enumerate() {
        let known = task.image.parse::<Digest>().is_ok_and(wayfare_store::program::has_module);
        // What is no digest is told with all else that is wrong.
        if !known && task.image.len() == 64 {
            let wrong = wayfare_api::Wrong::new(
                format!("tasks[{i}].image"),
                "no such program is here: PUT /v1/images/DIGEST first",
            );
            return Err(Failed(Problem { status: 422, title: "a program is missing".into(), errors: vec![wrong] }));
        }
    }
    let accepted = app.ask(|answer| Command::Submit { owner: who.name, set, answer }).await?;
    Ok((StatusCode::CREATED, Json(accepted)))
}

async fn sets(State(app): State<App>) -> Result<Json<Vec<SetView>>, Failed> {
    app.ask(|answer| Command::Sets { answer }).await.map(Json)
}

async fn set(State(app): State<App>, Path(name): Path<String>) -> Result<Json<SetView>, Failed> {
    app.ask(|answer| Command::Set { name, answer }).await.map(Json)
}

/// Which tasks.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    set: Option<String>,
    state: Option<TaskState>,
}

async fn tasks(
    State(app): State<App>,
    which: Result<Query<Which>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Vec<TaskView>>, Failed> {
    let Query(Which { set, state }) = which.map_err(|e| failed(400, e.body_text()))?;
    app.ask(|answer| Command::Tasks { set, state, answer }).await.map(Json)
}

async fn task(State(app): State<App>, Path(name): Path<String>) -> Result<Json<TaskView>, Failed> {
    app.ask(|answer| Command::Task { name, answer }).await.map(Json)
}

async fn cancel(
    State(app): State<App>,
    Extension(who): Extension<Who>,
    Path(name): Path<String>,
) -> Result<StatusCode, Failed> {
    who.may(Role::Submit)?;
    app.ask(|answer| Command::Cancel { name, answer }).await.map(|()| StatusCode::NO_CONTENT)
}

async fn remove(
    State(app): State<App>,
    Extension(who): Extension<Who>,
    Path(name): Path<String>,
) -> Result<StatusCode, Failed> {
    who.may(Role::Submit)?;
    let number = app.ask(|answer| Command::Remove { name, answer }).await?;
    let _ = tokio::fs::remove_file(log_path(&app.logs, number)).await;
    Ok(StatusCode::NO_CONTENT)
}

/// How to show a log.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Showing {
    #[serde(default)]
    follow: bool,
}

async fn logs(
    State(app): State<App>,
    Path(name): Path<String>,
    showing: Result<Query<Showing>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Failed> {
    let Query(Showing { follow }) = showing.map_err(|e| failed(400, e.body_text()))?;
    let (number, node) = app.ask(|answer| Command::Log { name: name.clone(), answer }).await?;
    let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
    if let Ok(bytes) = tokio::fs::read(log_path(&app.logs, number)).await {
        return Ok((kind, bytes).into_response());
    }
    let Some(node) = node else { return Ok((kind, Bytes::new()).into_response()) };
    let log = app.agent.log_of(&node, &name, follow).await.map_err(|e| failed(502, format!("{node}: {e:#}")))?;
    Ok((kind, Body::from_stream(chunks(log))).into_response())
}

/// What is read, as it comes.
fn chunks(mut log: tokio::io::BufReader<tokio::net::UnixStream>) -> impl Stream<Item = std::io::Result<Bytes>> {
    let (to, chunks) = mpsc::channel(4);
    tokio::spawn(async move {
        use tokio::io::AsyncReadExt;
        let mut step = vec![0; 64 << 10];
        loop {
            let chunk = match log.read(&mut step).await {
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

async fn nodes(State(app): State<App>) -> Result<Json<Vec<NodeView>>, Failed> {
    app.ask(|answer| Command::Nodes { answer }).await.map(Json)
}

async fn cordon(
    State(app): State<App>,
    Extension(who): Extension<Who>,
    Path(node): Path<String>,
) -> Result<StatusCode, Failed> {
    who.may(Role::Admin)?;
    app.ask(|answer| Command::Cordon { node, cordoned: true, answer }).await.map(|()| StatusCode::NO_CONTENT)
}

async fn uncordon(
    State(app): State<App>,
    Extension(who): Extension<Who>,
    Path(node): Path<String>,
) -> Result<StatusCode, Failed> {
    who.may(Role::Admin)?;
    app.ask(|answer| Command::Cordon { node, cordoned: false, answer }).await.map(|()| StatusCode::NO_CONTENT)
}

/// Labels to be set, and to be taken away.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Labels {
    #[serde(default)]
    add: Vec<String>,
    #[serde(default)]
    remove: Vec<String>,
}

async fn label(
    State(app): State<App>,
    Extension(who): Extension<Who>,
    Path(node): Path<String>,
    body: Bytes,
) -> Result<StatusCode, Failed> {
    who.may(Role::Admin)?;
    let Labels { add, remove } = read(&body)?;
    let is_wrong = |label: &&String| label.is_empty() || label.len() > 64 || label.chars().any(char::is_whitespace);
    if let Some(wrong) = add.iter().find(is_wrong) {
        return Err(failed(422, format!("{wrong:?} cannot be a label: use 1 to 64 characters without spaces")));
    }
    app.ask(|answer| Command::Label { node, add, remove, answer }).await.map(|()| StatusCode::NO_CONTENT)
}

/// Cordons a node, and moves what runs there, task by task; what cannot go stays, and is told.
async fn drain(
    State(app): State<App>,
    Extension(who): Extension<Who>,
    Path(node): Path<String>,
) -> Result<Json<Vec<String>>, Failed> {
    who.may(Role::Admin)?;
    let moves = app.ask(|answer| Command::Drain { node: node.clone(), answer }).await?;
    let mut moved = Vec::new();
    for (name, to) in moves {
        let order = Order {
            name: name.clone(),
            to: to.clone(),
            mode: wayfare_transfer::message::Mode::PreCopy,
            max_downtime: 100_000_000,
            give_up: false,
            limit: None,
            streams: 1,
        };
        match app.agent.ask_node(&node, OfNode::Migrate { order }).await {
            Ok(Reply::Moved { .. }) => moved.push(format!("{name} to {to}")),
            Ok(_) => {}
            // It may have ended meanwhile.
            Err(e) => tracing::warn!(task = %name, "is not moved away from {node}: {e:#}"),
        }
    }
    Ok(Json(moved))
}

async fn has_image(Path(digest): Path<String>) -> Result<StatusCode, Failed> {
    let digest: Digest = digest.parse().map_err(|_| failed(400, "no digest of a module: 64 hexadecimal digits"))?;
    match wayfare_store::program::has_module(digest) {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(failed(404, "no such program is here")),
    }
}

async fn image(Extension(who): Extension<Who>, Path(digest): Path<String>, body: Bytes) -> Result<StatusCode, Failed> {
    who.may(Role::Submit)?;
    let digest: Digest = digest.parse().map_err(|_| failed(400, "no digest of a module: 64 hexadecimal digits"))?;
    if Digest::of(&body) != digest {
        return Err(failed(422, "the body has another digest"));
    }
    let kept = tokio::task::spawn_blocking(move || wayfare_node::agent::keep_program(&body)).await;
    match kept {
        Ok(Ok(())) => Ok(StatusCode::NO_CONTENT),
        Ok(Err(e)) => Err(failed(422, format!("{e:#}"))),
        Err(_) => Err(failed(500, "the program could not be compiled")),
    }
}

async fn events(State(app): State<App>) -> Sse<impl Stream<Item = Result<sse::Event, Infallible>>> {
    let all = BroadcastStream::new(app.events.subscribe()).map(|event| {
        Ok(match event {
            Ok(event) => sse::Event::default().json_data(&event).unwrap_or_default(),
            // Whoever is behind looks at all anew.
            Err(_) => sse::Event::default().event("missed").data("{}"),
        })
    });
    Sse::new(all).keep_alive(KeepAlive::default())
}
