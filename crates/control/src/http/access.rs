//! Who may ask: tokens with roles, and sessions of browsers, whose cookie is a token.

use super::{App, Failed, Named, Said, failed};
use crate::Access;
use crate::core::{Command, Usages, clock};
use crate::store::{Store, Token};
use anyhow::{Context, Result};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use std::path::Path;
use std::sync::{PoisonError, RwLock};
use wayfare_api::{Role, SHARES, ShareRequest, SignIn, TokenMade, TokenRequest, TokenView, WhoView, check_name};
use wayfare_store::atomic;

/// The cookie of a browser's session.
pub(super) const COOKIE: &str = "wayfare";
/// What a page must say with a cookie to have something done: another site's page cannot.
const BY_PAGE: &str = "x-wayfare";

/// Who may ask.
pub(crate) struct Tokens(RwLock<Vec<Token>>);

impl Tokens {
    /// Reads them; makes the first one, for those who can read the file.
    pub(crate) fn open(store: &Store, file: &Path, mut access: Access) -> Result<Tokens> {
        let known = std::fs::read(file).ok().and_then(|text| serde_json::from_slice::<Access>(&text).ok());
        let mut tokens = store.tokens()?;
        let is_good = |access: &Access| tokens.iter().any(|token| token.hash == hash_of(&access.token));
        access.token = match known.filter(is_good) {
            Some(access) => access.token,
            None => {
                let (text, token) = make("admin", Role::Admin, None, 1.0)?;
                let name = if tokens.iter().any(|token| token.name == "admin") {
                    format!("admin-{}", clock())
                } else {
                    "admin".into()
                };
                let token = Token { name, ..token };
                store.put_token(&token)?;
                tokens.push(token);
                text
            }
        };
        atomic::write(file, &serde_json::to_vec(&access)?).with_context(|| file.display().to_string())?;
        std::fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        Ok(Tokens(RwLock::new(tokens)))
    }

    fn find(&self, token: &str) -> Option<Who> {
        // Of a hash nobody learns anything by how long it takes to compare it.
        let hash = hash_of(token);
        let tokens = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let found = tokens.iter().find(|other| other.hash == hash)?;
        let holds = found.expires.is_none_or(|end| clock() < end);
        holds.then(|| Who { name: found.name.clone(), role: found.role })
    }

    fn put(&self, token: Token) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).push(token);
    }

    fn end(&self, name: &str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).retain(|token| token.name != name);
    }

    fn list(&self, usages: &Usages) -> Vec<TokenView> {
        let tokens = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let view = |token: &Token| {
            let usage = usages.get(&token.name).cloned().unwrap_or_default();
            TokenView {
                name: token.name.clone(),
                role: token.role,
                expires: token.expires,
                share: usage.share,
                cores: usage.cores,
                cores_waiting: usage.waiting,
                core_seconds: usage.charged,
            }
        };
        // One that was made or ended between the question and now is in the next answer.
        tokens.iter().filter(|token| usages.contains_key(&token.name)).map(view).collect()
    }
}

/// A token, and what is kept of it.
fn make(name: &str, role: Role, ttl: Option<u64>, share: f64) -> Result<(String, Token)> {
    let text: String = wayfare_node::random::<24>()?.iter().map(|byte| format!("{byte:02x}")).collect();
    let expires = ttl.map(|seconds| clock().saturating_add(seconds.saturating_mul(1000)));
    let token = Token { name: name.into(), hash: hash_of(&text), role, expires, share };
    Ok((text, token))
}

fn hash_of(token: &str) -> [u8; 32] {
    *blake3::hash(token.as_bytes()).as_bytes()
}

/// Who asks.
#[derive(Clone)]
pub(super) struct Who {
    pub(super) name: String,
    pub(super) role: Role,
}

impl Who {
    pub(super) fn may(&self, role: Role) -> Result<(), Failed> {
        if self.role >= role {
            return Ok(());
        }
        Err(failed(403, format!("the token {} is for {}; this needs {}", self.name, self.role.name(), role.name())))
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    all.flat_map(|line| line.split(';')).find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

/// Lets pass who may ask.
pub(super) async fn guard(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let headers = request.headers();
    let who = match bearer(headers) {
        Some(token) => app.tokens.find(token),
        None => {
            let who = cookie(headers).and_then(|token| app.tokens.find(token));
            let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
            if who.is_some() && changes && !headers.contains_key(BY_PAGE) {
                return failed(403, format!("with a cookie this needs the header {BY_PAGE}, too")).into_response();
            }
            who
        }
    };
    match who {
        Some(who) => {
            request.extensions_mut().insert(who);
            next.run(request).await
        }
        None => failed(401, "say who you are: Authorization: Bearer TOKEN").into_response(),
    }
}

/// Signs in at a browser: what it asks from now on has the token's rights.
#[utoipa::path(post, path = "/v1/session", tag = "access", request_body = SignIn, security(()), responses(
    (status = 200, body = WhoView),
))]
pub(super) async fn sign_in(State(app): State<App>, Said(word): Said<SignIn>) -> Result<Response, Failed> {
    let token = word.token.trim();
    let who = app.tokens.find(token).ok_or_else(|| failed(401, "no such token is good here"))?;
    // Without an age it ends with the browser.
    let secure = if app.is_secure { "; Secure" } else { "" };
    let cookie = format!("{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict{secure}");
    Ok(([(header::SET_COOKIE, cookie)], Json(WhoView { name: who.name, role: who.role })).into_response())
}

/// Who asks.
#[utoipa::path(get, path = "/v1/session", tag = "access", responses(
    (status = 200, body = WhoView),
))]
pub(super) async fn who(Extension(who): Extension<Who>) -> Json<WhoView> {
    Json(WhoView { name: who.name, role: who.role })
}

/// Signs out at a browser.
#[utoipa::path(delete, path = "/v1/session", tag = "access", responses(
    (status = 204),
))]
pub(super) async fn sign_out() -> Response {
    let cookie = format!("{COOKIE}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0");
    (StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response()
}

/// The tokens, and what the tasks of each have of the cluster.
#[utoipa::path(get, path = "/v1/tokens", tag = "access", responses(
    (status = 200, body = Vec<TokenView>),
))]
pub(super) async fn tokens(
    State(app): State<App>,
    Extension(who): Extension<Who>,
) -> Result<Json<Vec<TokenView>>, Failed> {
    who.may(Role::Admin)?;
    let usages = app.ask(|answer| Command::Usages { answer }).await?;
    Ok(Json(app.tokens.list(&usages)))
}

/// Makes a token; what it is is said this once.
#[utoipa::path(post, path = "/v1/tokens", tag = "access", request_body = TokenRequest, responses(
    (status = 201, body = TokenMade),
))]
pub(super) async fn make_token(
    State(app): State<App>,
    Extension(who): Extension<Who>,
    Said(wish): Said<TokenRequest>,
) -> Result<(StatusCode, Json<TokenMade>), Failed> {
    who.may(Role::Admin)?;
    check_name(&wish.name).map_err(|why| failed(422, why))?;
    if wish.ttl.is_some_and(|seconds| seconds == 0 || seconds > 1_000_000_000) {
        return Err(failed(422, "ttl is 1 to 1000000000 seconds"));
    }
    check_share(wish.share)?;
    let (text, token) = make(&wish.name, wish.role, wish.ttl, wish.share).map_err(|e| failed(500, format!("{e:#}")))?;
    app.ask(|answer| Command::PutToken { token: token.clone(), answer }).await?;
    app.tokens.put(token);
    Ok((StatusCode::CREATED, Json(TokenMade { name: wish.name, role: wish.role, token: text })))
}

fn check_share(share: f64) -> Result<(), Failed> {
    if SHARES.contains(&share) {
        return Ok(());
    }
    Err(failed(422, format!("a share is {} to {}", SHARES.start(), SHARES.end())))
}

/// Says what part of the cluster a token's tasks have against those of others who wait: from now on.
#[utoipa::path(put, path = "/v1/tokens/{name}/share", tag = "access", params(("name" = String, Path)),
    request_body = ShareRequest, responses(
    (status = 204),
))]
pub(super) async fn put_share(
    State(app): State<App>,
    Extension(who): Extension<Who>,
    Named(name): Named<String>,
    Said(ShareRequest { share }): Said<ShareRequest>,
) -> Result<StatusCode, Failed> {
    who.may(Role::Admin)?;
    check_share(share)?;
    app.ask(|answer| Command::PutShare { name, share, answer }).await.map(|()| StatusCode::NO_CONTENT)
}

/// Ends a token.
#[utoipa::path(delete, path = "/v1/tokens/{name}", tag = "access", params(("name" = String, Path)), responses(
    (status = 204),
))]
pub(super) async fn end_token(
    State(app): State<App>,
    Extension(who): Extension<Who>,
    Named(name): Named<String>,
) -> Result<StatusCode, Failed> {
    who.may(Role::Admin)?;
    if name == who.name {
        return Err(failed(409, "this is the token that you ask with: end it with another one"));
    }
    app.ask(|answer| Command::EndToken { name: name.clone(), answer }).await?;
    app.tokens.end(&name);
    Ok(StatusCode::NO_CONTENT)
}
