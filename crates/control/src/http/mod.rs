//! The HTTP API: who may ask, what is asked, and how it is answered. What is asked is read into types and checked before anybody
//! else sees it. Its description is made from the same code: `/openapi.json`.

// What describes parameters is named twice in what the macro makes.
#![allow(unused_qualifications)]

mod access;
mod live;
mod machines;
mod page;
mod plan;
mod snapshots;
mod standbys;
mod unikernels;
mod work;

pub(crate) use access::Tokens;
pub(crate) use standbys::protection;

use crate::core::{Answer, Command};
use crate::hub::Hub;
use crate::metrics::Metrics;
use crate::trace;
use access::guard;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, MatchedPath, Path, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::de::DeserializeOwned;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tracing::Instrument;
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, Ref, ResponseBuilder};
use utoipa_axum::{router::OpenApiRouter, routes};
use wayfare_api::{BODY_MAX, Event, Problem};
use wayfare_node::agent::Agent;

/// Largest module.
const IMAGE_MAX: usize = 256 << 20;
/// How long the core may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What handlers need.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) core: mpsc::Sender<Command>,
    pub(crate) hub: Hub,
    pub(crate) agent: Arc<Agent>,
    pub(crate) logs: PathBuf,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) metrics: Arc<Metrics>,
    /// What nodes have said of standbys last, and when.
    pub(crate) standbys: Arc<tokio::sync::Mutex<standbys::Heard>>,
    /// TLS is spoken: cookies are not to be said without it.
    pub(crate) is_secure: bool,
}

impl App {
    async fn ask<T>(&self, command: impl FnOnce(Answer<T>) -> Command) -> Result<T, Failed> {
        self.ask_within(PATIENCE, command).await
    }

    async fn ask_within<T>(&self, patience: Duration, command: impl FnOnce(Answer<T>) -> Command) -> Result<T, Failed> {
        let (to, answer) = oneshot::channel();
        let gone = || failed(503, "the controller has ended");
        self.core.send(command(to)).await.map_err(|_| gone())?;
        match tokio::time::timeout(patience, answer).await {
            Ok(Ok(answer)) => answer.map_err(Failed),
            Ok(Err(_)) => Err(gone()),
            Err(_) => Err(failed(503, "the controller is too busy to answer")),
        }
    }
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
        let mut answer = (status, kind, serde_json::to_vec(&self.0).unwrap_or_default()).into_response();
        if status == StatusCode::UNAUTHORIZED {
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        answer
    }
}

/// What the path names.
struct Named<T>(T);

impl<T: DeserializeOwned + Send> FromRequestParts<App> for Named<T> {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, state: &App) -> Result<Self, Failed> {
        let found = Path::from_request_parts(parts, state).await;
        found.map(|Path(name)| Named(name)).map_err(|e| failed(400, e.body_text()))
    }
}

/// What stands after the question mark.
struct Asked<T>(T);

impl<T: DeserializeOwned> FromRequestParts<App> for Asked<T> {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, state: &App) -> Result<Self, Failed> {
        let found = Query::from_request_parts(parts, state).await;
        found.map(|Query(asked)| Asked(asked)).map_err(|e| failed(400, e.body_text()))
    }
}

/// A body of bytes.
struct Raw(Bytes);

impl FromRequest<App> for Raw {
    type Rejection = Failed;

    async fn from_request(request: Request, state: &App) -> Result<Self, Failed> {
        let bytes = Bytes::from_request(request, state).await;
        bytes.map(Raw).map_err(|e| failed(e.status().as_u16(), e.body_text()))
    }
}

/// A body of JSON.
struct Said<T>(T);

impl<T: DeserializeOwned> FromRequest<App> for Said<T> {
    type Rejection = Failed;

    async fn from_request(request: Request, _: &App) -> Result<Self, Failed> {
        read(&body(request).await?).map(Said)
    }
}

/// A body of JSON, or none.
struct Perhaps<T>(T);

impl<T: DeserializeOwned + Default> FromRequest<App> for Perhaps<T> {
    type Rejection = Failed;

    async fn from_request(request: Request, _: &App) -> Result<Self, Failed> {
        let body = body(request).await?;
        if body.is_empty() {
            return Ok(Perhaps(T::default()));
        }
        Ok(Perhaps(read::<Option<T>>(&body)?.unwrap_or_default()))
    }
}

async fn body(request: Request) -> Result<Bytes, Failed> {
    let body = axum::body::to_bytes(request.into_body(), BODY_MAX).await;
    body.map_err(|e| failed(413, format!("more than {BODY_MAX} bytes, or cut off: {e}")))
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failed> {
    let title = "this cannot be read".to_string();
    wayfare_api::read(body).map_err(|wrong| Failed(Problem { status: 400, title, errors: vec![wrong] }))
}

/// What all answers have in common.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Wayfare",
        description = "Sets of tasks, the nodes that run them, and what becomes of both.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(Problem, Event)),
    security(("token" = []), ("session" = [])),
    tags(
        (name = "work", description = "Sets and tasks"),
        (name = "nodes", description = "Machines"),
        (name = "standbys", description = "Tasks that have a warm standby"),
        (name = "live", description = "What changes, as it changes"),
        (name = "access", description = "Who may ask"),
    )
)]
struct Description;

/// The description, and the routes that need a token.
fn described() -> OpenApiRouter<App> {
    let mut all = OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(work::sets, work::submit))
        .routes(routes!(work::set))
        .routes(routes!(plan::plan))
        .routes(routes!(work::tasks, work::submit_one))
        .routes(routes!(work::task, work::remove))
        .routes(routes!(work::history))
        .routes(routes!(work::cancel))
        .routes(routes!(work::migrate))
        .routes(routes!(snapshots::snapshots, snapshots::capture))
        .routes(routes!(snapshots::download, snapshots::forget))
        .routes(routes!(snapshots::resume))
        .routes(routes!(snapshots::usage))
        .routes(routes!(snapshots::destinations))
        .routes(routes!(work::has_image, work::image))
        .routes(routes!(live::logs))
        .routes(routes!(live::events))
        .routes(routes!(live::metrics))
        .routes(routes!(machines::nodes))
        .routes(routes!(machines::node, machines::remove))
        .routes(routes!(machines::on_node))
        .routes(routes!(machines::cordon, machines::uncordon))
        .routes(routes!(machines::drain))
        .routes(routes!(machines::label))
        .routes(routes!(machines::invite))
        .routes(routes!(unikernels::unikernels))
        .routes(routes!(unikernels::unikernel))
        .routes(routes!(standbys::standbys))
        .routes(routes!(standbys::protect, standbys::unprotect))
        .routes(routes!(standbys::failover))
        .routes(routes!(standbys::failback))
        .routes(routes!(access::tokens, access::make_token))
        .routes(routes!(access::end_token))
        .routes(routes!(access::put_share))
        .routes(routes!(access::who, access::sign_out));
    let described = all.get_openapi_mut();
    described.info.version = env!("CARGO_PKG_VERSION").into();
    let components = described.components.get_or_insert_default();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    components.add_security_scheme("token", SecurityScheme::Http(bearer));
    let cookie = utoipa::openapi::security::ApiKey::Cookie(utoipa::openapi::security::ApiKeyValue::new(access::COOKIE));
    components.add_security_scheme("session", SecurityScheme::ApiKey(cookie));
    all
}

/// The routes that need a token, those that do not, and the description of both.
fn parts() -> (Router<App>, Router<App>, String) {
    let (protected, mut description) = described().split_for_parts();
    let (open, more) = OpenApiRouter::new().routes(routes!(access::sign_in)).split_for_parts();
    description.merge(more);
    describe_problems(&mut description);
    (protected, open, description.to_json().unwrap_or_default())
}

/// The description of the API.
pub(crate) fn openapi() -> String {
    parts().2
}

/// Whatever is asked, the answer may be a problem.
fn describe_problems(described: &mut utoipa::openapi::OpenApi) {
    let problem = Content::new(Some(Ref::from_schema_name("Problem")));
    let told =
        |what: &str| ResponseBuilder::new().description(what).content("application/problem+json", problem.clone());
    for path in described.paths.paths.values_mut() {
        let operations = [&mut path.get, &mut path.put, &mut path.post, &mut path.delete];
        for operation in operations.into_iter().flatten() {
            let responses = &mut operation.responses.responses;
            responses.insert("4XX".into(), told("It cannot be done").build().into());
            responses.insert("5XX".into(), told("It could not be done").build().into());
        }
    }
}

/// The routes.
pub(crate) fn router(app: App) -> Router {
    let (protected, open, description) = parts();
    let description: Arc<str> = description.into();
    let json = [(header::CONTENT_TYPE, "application/json")];
    protected
        .layer(middleware::from_fn_with_state(app.clone(), guard))
        .merge(open)
        .layer(DefaultBodyLimit::max(IMAGE_MAX))
        .route("/openapi.json", get(move || async move { (json, description.to_string()) }))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .fallback(page::page)
        .method_not_allowed_fallback(|| async { failed(405, "this can be asked for in another way only") })
        .layer(middleware::from_fn_with_state(app.clone(), count))
        .with_state(app)
}

async fn ready(State(app): State<App>) -> Result<&'static str, Failed> {
    app.ask(|answer| Command::Sets { answer }).await.map(|_| "ready\n")
}

/// Counts what is asked, and how long answers take; each is a span, for those who want such.
async fn count(State(app): State<App>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map_or("other".into(), |path| path.as_str().to_owned());
    let (began, span) = (Instant::now(), trace::of_request(&request));
    let answer = next.run(request).instrument(span.clone()).await;
    trace::answered(&span, answer.status());
    app.metrics.answered(method.as_str(), &route, answer.status().as_u16(), began.elapsed());
    answer
}
