//! Tasks with warm standbys on other nodes, whoever has started them: what nodes say of them when they are asked.

use super::access::Who;
use super::{App, Failed, Named, Said, failed};
use crate::core::Command;
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use wayfare_api::{ProtectRequest, Role, StandbyView};
use wayfare_cluster::control::{Reply, Request as OfNode};
use wayfare_cluster::protection::{OnReturn, Pair, Protect, Role as Side};

/// How long a node may take to answer.
const ANSWER: Duration = Duration::from_secs(3);
/// When nodes were asked last, and what they have said.
pub(crate) type Heard = Option<(Instant, Vec<StandbyView>)>;

/// For so long an answer of the nodes is good for others who look.
const FRESH: Duration = Duration::from_millis(500);
/// How long a task may take to go on elsewhere.
const TAKEOVER: Duration = Duration::from_secs(30);

/// Tasks and their standbys.
#[utoipa::path(get, path = "/v1/standbys", tag = "standbys", responses(
    (status = 200, body = Vec<StandbyView>),
))]
pub(super) async fn standbys(State(app): State<App>) -> Result<Json<Vec<StandbyView>>, Failed> {
    // All who look at once get what the nodes said to one of them.
    let mut known = app.standbys.lock().await;
    if let Some((_, all)) = known.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
        return Ok(Json(all.clone()));
    }
    let all = ask_all(&app).await?;
    *known = Some((Instant::now(), all.clone()));
    Ok(Json(all))
}

async fn ask_all(app: &App) -> Result<Vec<StandbyView>, Failed> {
    let nodes = app.ask(|answer| Command::Nodes { answer }).await?;
    let mut asked = JoinSet::new();
    for node in nodes.into_iter().filter(|node| node.state != "lost") {
        let agent = app.agent.clone();
        asked.spawn(async move {
            let answer = tokio::time::timeout(ANSWER, agent.ask_node(&node.name, OfNode::Protected)).await;
            match answer {
                Ok(Ok(Reply::Protected { pairs })) => (node.name, pairs),
                _ => (node.name, Vec::new()),
            }
        });
    }
    // Both sides speak of a pair: the one where the task runs knows more.
    let mut all = BTreeMap::new();
    while let Some(answer) = asked.join_next().await {
        let Ok((node, pairs)) = answer else { continue };
        for pair in pairs {
            let is_primary = pair.role == Side::Primary;
            let view = view(pair, &node);
            let key = (view.task.clone(), view.primary.clone(), view.standby.clone());
            if is_primary || !all.contains_key(&key) {
                all.insert(key, view);
            }
        }
    }
    Ok(all.into_values().collect())
}

fn view(pair: Pair, node: &str) -> StandbyView {
    let millis = |nanos: u64| nanos as f64 / 1e6;
    let (primary, standby) = match pair.role {
        Side::Primary => (node.to_string(), pair.peer),
        Side::Standby => (pair.peer, node.to_string()),
    };
    StandbyView {
        task: pair.name,
        primary,
        standby,
        home: pair.home,
        connected: pair.connected,
        syncs: pair.sync,
        age: pair.age.map(millis),
        interval: pair.interval.map(millis),
        why: pair.reason,
        bytes: pair.bytes,
        pause: pair.pause.map(millis),
        loss: millis(pair.loss),
        bandwidth: pair.bandwidth,
        delay: pair.delay.map(millis),
    }
}

/// Has some node that knows the task do something.
async fn order(app: &App, name: &str, request: OfNode) -> Result<StatusCode, Failed> {
    // The agent here asks the others for it.
    let me = app.agent.identity().map_err(|e| failed(500, format!("{e:#}")))?.name;
    let task = name.to_string();
    let node = match app.ask(|answer| Command::Task { name: task, answer }).await {
        Ok(task) => task.node.unwrap_or(me),
        Err(_) => match holder(app, name).await? {
            Some(node) => node,
            None => return Err(failed(404, format!("no task named {name} is known"))),
        },
    };
    let done = tokio::time::timeout(TAKEOVER, app.agent.ask_node(&node, request)).await;
    *app.standbys.lock().await = None;
    match done {
        Ok(Ok(_)) => Ok(StatusCode::NO_CONTENT),
        Ok(Err(e)) => Err(failed(409, format!("{name}: {e:#}"))),
        Err(_) => Err(failed(504, format!("{node} does not answer"))),
    }
}

/// The node that has a task of this name, whoever has started it; or would go on with it.
async fn holder(app: &App, name: &str) -> Result<Option<String>, Failed> {
    let pairs = ask_all(app).await?;
    let nodes = app.ask(|answer| Command::Nodes { answer }).await?;
    let is_there = |name: &str| nodes.iter().any(|node| node.name == name && node.state != "lost");
    if let Some(pair) = pairs.iter().find(|pair| pair.task == name) {
        return Ok(Some(if is_there(&pair.primary) { pair.primary.clone() } else { pair.standby.clone() }));
    }
    for node in nodes.iter().filter(|node| node.state != "lost") {
        let answer = tokio::time::timeout(ANSWER, app.agent.ask_node(&node.name, OfNode::List)).await;
        if let Ok(Ok(Reply::Tasks { tasks })) = answer
            && tasks.iter().any(|task| task.spec.name == name && task.state.is_alive())
        {
            return Ok(Some(node.name.clone()));
        }
    }
    Ok(None)
}

/// Gives a task standbys.
#[utoipa::path(post, path = "/v1/standbys/{task}", tag = "standbys", params(("task" = String, Path)),
    request_body = ProtectRequest, responses(
    (status = 204),
))]
pub(super) async fn protect(
    State(app): State<App>,
    Extension(who): Extension<Who>,
    Named(name): Named<String>,
    Said(wish): Said<ProtectRequest>,
) -> Result<StatusCode, Failed> {
    who.may(Role::Operate)?;
    let nearest = wish.standbys.first().cloned();
    order(&app, &name, OfNode::Protect { order: protection(&name, wish.standbys) }).await?;
    guarded(&app, name, nearest).await
}

/// The core is told, if it is one of its tasks.
async fn guarded(app: &App, name: String, standby: Option<String>) -> Result<StatusCode, Failed> {
    let told = app.core.send(Command::Guarded { name, standby }).await;
    told.map(|()| StatusCode::NO_CONTENT).map_err(|_| failed(503, "the controller has ended"))
}

/// As the controller has tasks protected.
pub(crate) fn protection(name: &str, standbys: Vec<String>) -> Protect {
    Protect {
        name: name.into(),
        standbys,
        policy: "auto".into(),
        max_loss: None,
        on_return: OnReturn::default(),
        // Where it runs is the scheduler's to say.
        stay: true,
    }
}

/// Takes a task's standbys away.
#[utoipa::path(delete, path = "/v1/standbys/{task}", tag = "standbys", params(("task" = String, Path)), responses(
    (status = 204),
))]
pub(super) async fn unprotect(
    State(app): State<App>,
    Extension(who): Extension<Who>,
    Named(name): Named<String>,
) -> Result<StatusCode, Failed> {
    who.may(Role::Operate)?;
    let request = OfNode::Unprotect { name: name.clone() };
    order(&app, &name, request).await?;
    guarded(&app, name, None).await
}

/// Has a task's standby go on with it.
#[utoipa::path(post, path = "/v1/standbys/{task}/failover", tag = "standbys", params(("task" = String, Path)), responses(
    (status = 204),
))]
pub(super) async fn failover(
    State(app): State<App>,
    Extension(who): Extension<Who>,
    Named(name): Named<String>,
) -> Result<StatusCode, Failed> {
    who.may(Role::Operate)?;
    let request = OfNode::Failover { name: name.clone(), back: false };
    order(&app, &name, request).await
}

/// Has a task that was taken over go back to its home.
#[utoipa::path(post, path = "/v1/standbys/{task}/failback", tag = "standbys", params(("task" = String, Path)), responses(
    (status = 204),
))]
pub(super) async fn failback(
    State(app): State<App>,
    Extension(who): Extension<Who>,
    Named(name): Named<String>,
) -> Result<StatusCode, Failed> {
    who.may(Role::Operate)?;
    let request = OfNode::Failover { name: name.clone(), back: true };
    order(&app, &name, request).await
}
