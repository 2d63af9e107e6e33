//! Nodes: looked at, cordoned, drained, labelled, invited, removed.

use super::access::Who;
use super::{App, Failed, Named, Perhaps, Said, failed};
use crate::core::{Command, Leaving};
use crate::fleet::carry;
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use std::time::Duration;
use wayfare_api::{
    Invitation, InviteRequest, LABELS_MAX, Labels, NodeView, NodeWish, OnNode, Problem, Role, Wrong, check_label,
};
use wayfare_cluster::control::{Reply, Request as OfNode, State as At, TaskInfo};

/// How long an invitation holds.
const INVITED: Duration = Duration::from_secs(3600);
/// How long a node may take to say what runs there.
const ANSWER: Duration = Duration::from_secs(5);

/// The nodes.
#[utoipa::path(get, path = "/v1/nodes", tag = "nodes", responses(
    (status = 200, body = Vec<NodeView>),
))]
pub(super) async fn nodes(State(app): State<App>) -> Result<Json<Vec<NodeView>>, Failed> {
    app.ask(|answer| Command::Nodes { answer }).await.map(Json)
}

/// A node.
#[utoipa::path(get, path = "/v1/nodes/{name}", tag = "nodes", params(("name" = String, Path)), responses(
    (status = 200, body = NodeView),
))]
pub(super) async fn node(State(app): State<App>, Named(name): Named<String>) -> Result<Json<NodeView>, Failed> {
    app.ask(|answer| Command::Node { name, answer }).await.map(Json)
}

/// What runs on a node, or has ended there, whoever has started it: asked now.
#[utoipa::path(get, path = "/v1/nodes/{name}/tasks", tag = "nodes", params(("name" = String, Path)), responses(
    (status = 200, body = Vec<OnNode>),
))]
pub(super) async fn on_node(State(app): State<App>, Named(name): Named<String>) -> Result<Json<Vec<OnNode>>, Failed> {
    let node = name.clone();
    app.ask(|answer| Command::Node { name: node, answer }).await?;
    match tokio::time::timeout(ANSWER, app.agent.ask_node(&name, OfNode::List)).await {
        Ok(Ok(Reply::Tasks { tasks })) => Ok(Json(tasks.into_iter().map(on).collect())),
        Ok(Ok(_)) => Err(failed(502, format!("{name} answered something else"))),
        Ok(Err(e)) => Err(failed(502, format!("{name}: {e:#}"))),
        Err(_) => Err(failed(504, format!("{name} does not answer"))),
    }
}

fn on(task: TaskInfo) -> OnNode {
    let state = match task.state {
        At::Running => "running",
        At::Moving { .. } => "moving",
        At::Unknown { .. } => "unknown",
        At::Exited { .. } => "exited",
        At::Trapped { .. } => "trapped",
        At::Stopped { .. } => "stopped",
        At::Left { .. } => "left",
        At::Failed { .. } => "failed",
    };
    OnNode {
        name: task.spec.name,
        state: state.into(),
        placed: task.spec.placed,
        ran: task.ran as f64 / 1e6,
        memory: task.memory,
        log: task.log_bytes,
        epoch: task.epoch,
        target: task.target,
    }
}

/// Lets nothing new begin on a node.
#[utoipa::path(post, path = "/v1/nodes/{name}/cordon", tag = "nodes", params(("name" = String, Path)), responses(
    (status = 204),
))]
pub(super) async fn cordon(
    State(app): State<App>,
    Extension(who): Extension<Who>,
    Named(node): Named<String>,
) -> Result<StatusCode, Failed> {
    who.may(Role::Admin)?;
    app.ask(|answer| Command::Cordon { node, cordoned: true, answer }).await.map(|()| StatusCode::NO_CONTENT)
}

/// Lets tasks begin on a node again.
#[utoipa::path(delete, path = "/v1/nodes/{name}/cordon", tag = "nodes", params(("name" = String, Path)), responses(
    (status = 204),
))]
pub(super) async fn uncordon(
    State(app): State<App>,
    Extension(who): Extension<Who>,
    Named(node): Named<String>,
) -> Result<StatusCode, Failed> {
    who.may(Role::Admin)?;
    app.ask(|answer| Command::Cordon { node, cordoned: false, answer }).await.map(|()| StatusCode::NO_CONTENT)
}

/// Cordons a node, and moves what runs there, task by task, while it runs; what cannot go stays. The answer says what has gone
/// where.
#[utoipa::path(post, path = "/v1/nodes/{name}/drain", tag = "nodes", params(("name" = String, Path)), responses(
    (status = 200, body = Vec<String>),
))]
pub(super) async fn drain(
    State(app): State<App>,
    Extension(who): Extension<Who>,
    Named(node): Named<String>,
) -> Result<Json<Vec<String>>, Failed> {
    who.may(Role::Admin)?;
    let moves = app.ask(|answer| Command::Drain { node: node.clone(), answer }).await?;
    // Whoever asks may go away: room is kept for all of them, and the moves go on.
    let moving = tokio::spawn(async move {
        let mut moved = Vec::new();
        for Leaving { name, to, guarded } in moves {
            match carry(&app.agent, &app.core, &name, &node, &to, guarded).await {
                Ok(_) => moved.push(format!("{name} to {to}")),
                // It may have ended meanwhile.
                Err(e) => tracing::warn!(task = %name, "is not moved away from {node}: {e:#}"),
            }
        }
        moved
    });
    let moved = moving.await.map_err(|e| failed(500, format!("the moves broke off: {e}")))?;
    Ok(Json(moved))
}

/// Labels a node.
#[utoipa::path(post, path = "/v1/nodes/{name}/labels", tag = "nodes", params(("name" = String, Path)),
    request_body = Labels, responses(
    (status = 204),
))]
pub(super) async fn label(
    State(app): State<App>,
    Extension(who): Extension<Who>,
    Named(node): Named<String>,
    Said(Labels { add, remove }): Said<Labels>,
) -> Result<StatusCode, Failed> {
    who.may(Role::Admin)?;
    for label in &add {
        check_label(label).map_err(|message| failed(422, message))?;
    }
    if add.len() > LABELS_MAX {
        return Err(failed(422, format!("{} labels are more than {LABELS_MAX}", add.len())));
    }
    app.ask(|answer| Command::Label { node, add, remove, answer }).await.map(|()| StatusCode::NO_CONTENT)
}

/// Forgets a node that is lost and does not come back: its certificate is revoked.
#[utoipa::path(delete, path = "/v1/nodes/{name}", operation_id = "remove_node", tag = "nodes", params(("name" = String, Path)), responses(
    (status = 204),
))]
pub(super) async fn remove(
    State(app): State<App>,
    Extension(who): Extension<Who>,
    Named(name): Named<String>,
) -> Result<StatusCode, Failed> {
    who.may(Role::Admin)?;
    let node = name.clone();
    app.ask(|answer| Command::PrepareRemoval { name: node, answer }).await?;
    app.agent.expel(&name).map_err(|e| failed(502, format!("{e:#}")))?;
    app.ask(|answer| Command::RemoveNode { name, answer }).await.map(|()| StatusCode::NO_CONTENT)
}

/// Invites machines: the answer says what to type on each, within an hour. Nodes that are named have their labels as soon as they
/// are there. Without a body one machine is invited, whatever it is called.
#[utoipa::path(post, path = "/v1/invitations", tag = "nodes", request_body = Option<InviteRequest>, responses(
    (status = 201, body = Vec<Invitation>),
))]
pub(super) async fn invite(
    State(app): State<App>,
    Extension(who): Extension<Who>,
    Perhaps(request): Perhaps<InviteRequest>,
) -> Result<(StatusCode, Json<Vec<Invitation>>), Failed> {
    who.may(Role::Admin)?;
    let agent = app.agent.clone();
    let invite = move |name: Option<String>| {
        let join = agent.invite(INVITED).map_err(|e| failed(502, format!("{e:#}")))?;
        let called = name.as_deref().unwrap_or("NAME");
        let command = format!("wayfare node join {join} --name {called} && wayfare node serve --listen 0.0.0.0:7600");
        Ok(Invitation { name, join, command, ttl: INVITED.as_secs() })
    };
    if request.nodes.is_empty() {
        return Ok((StatusCode::CREATED, Json(vec![invite(None)?])));
    }
    let nobody = |status: u16, errors: Vec<Wrong>| {
        Failed(Problem { status, title: "nobody was invited: these nodes cannot all be".into(), errors })
    };
    request.check().map_err(|errors| nobody(422, errors))?;
    // Some may be members that the controller has not heard of yet.
    let mut members = Vec::new();
    for (i, NodeWish { name, .. }) in request.nodes.iter().enumerate() {
        if app.agent.is_member(name).map_err(|e| failed(502, format!("{e:#}")))? {
            members.push(Wrong::new(format!("nodes[{i}].name"), format!("there is a node named {name} already")));
        }
    }
    if !members.is_empty() {
        return Err(nobody(409, members));
    }
    let names: Vec<String> = request.nodes.iter().map(|node| node.name.clone()).collect();
    app.ask(|answer| Command::Expect { nodes: request.nodes, answer }).await?;
    // Each is on the disk before it is said.
    let all = tokio::task::spawn_blocking(move || names.into_iter().map(|name| invite(Some(name))).collect());
    let all: Result<_, Failed> = all.await.map_err(|_| failed(500, "nobody could be invited"))?;
    Ok((StatusCode::CREATED, Json(all?)))
}

#[cfg(test)]
mod tests {
    use wayfare_api::check_node_name;
    use wayfare_cluster::token::check_name;

    #[test]
    fn who_may_be_invited_may_join() {
        for name in ["gw1", "A-1", "-a", "a_b", "", "a.b", "\u{e9}", &"x".repeat(63), &"x".repeat(64)] {
            assert_eq!(check_node_name(name).is_ok(), check_name(name).is_ok(), "{name}");
        }
    }
}
