//! `wayfare protect`, `unprotect`, `protected`, `failover`, `failback`: tasks that have a standby.

use crate::cli::{Asked, Failback, Failover, Format, OfAgent, Protect, Protected, Return, Unprotect};
use crate::client::Client;
use crate::output::{self, Paint};
use crate::watched;
use anyhow::{Result, bail, ensure};
use serde_json::json;
use std::process::ExitCode;
use std::time::Duration;
use wayfare_node::control::{Reply, Request};
use wayfare_node::protection::{self, OnReturn, Pair, Role};

/// Gives a task a standby; comes back when that could go on with it.
///
/// # Errors
/// When it cannot have one there.
pub fn protect(args: &Protect) -> Result<ExitCode> {
    let order = protection::Protect {
        name: args.name.clone(),
        standbys: args.standbys.clone(),
        policy: args.policy.to_string(),
        max_loss: args.max_loss.map(|time| time.as_nanos() as u64),
        on_return: match args.on_return {
            Return::Standby => OnReturn::Standby,
            Return::Furthest => OnReturn::Furthest,
        },
        stay: args.stay,
    };
    let ask = || Client::ask_at(&args.asked, Request::Protect { order });
    done(crate::standing::while_running("the first sync", ask)?.1)?;
    let standbys = match &args.standbys[..] {
        [one] => format!("a standby on {one}"),
        several => format!("standbys on {}", several.join(", ")),
    };
    output::print(&format!("{} has {standbys}\n", args.name))?;
    Ok(ExitCode::SUCCESS)
}

/// Takes a task's standby away.
///
/// # Errors
/// When it has none.
pub fn unprotect(args: &Unprotect) -> Result<ExitCode> {
    let task = &args.task;
    done(Client::ask_at(&task.asked, Request::Unprotect { name: task.name.clone() })?.1)
}

/// Has a task's standby take over.
///
/// # Errors
/// When there is none, or it has nothing to go on from.
pub fn failover(args: &Failover) -> Result<ExitCode> {
    go_over(&args.task, false)
}

/// Has a task go back home.
///
/// # Errors
/// When it is there, or that is not its standby.
pub fn failback(args: &Failback) -> Result<ExitCode> {
    go_over(&args.task, true)
}

fn go_over(task: &OfAgent, back: bool) -> Result<ExitCode> {
    let ask = || Client::ask_at(&task.asked, Request::Failover { name: task.name.clone(), back });
    done(crate::standing::while_running("the last sync", ask)?.1)
}

fn done(reply: Reply) -> Result<ExitCode> {
    match reply {
        Reply::Done => Ok(ExitCode::SUCCESS),
        _ => bail!("the agent answered something else"),
    }
}

/// Lists pairs.
///
/// # Errors
/// When no agent is at work, or the node does not answer.
pub fn list(args: &Protected) -> Result<ExitCode> {
    if let (Some(name), Some(plot)) = (&args.name, &args.plot) {
        return watched::watch(&args.asked, name, plot, args.long);
    }
    let mut pairs = pairs(&args.asked)?;
    if let Some(name) = &args.name {
        pairs.retain(|pair| pair.name == *name);
        ensure!(!pairs.is_empty(), "{name} has no standby, and is none here");
    }
    if args.output == Format::Json {
        output::print_json(&json!(pairs))?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = pairs.iter().map(row).collect();
    let headings =
        ["NAME", "HERE", "PEER", "SYNCS", "AGE", "AT RISK", "EVERY", "LAST SYNC", "PAUSE", "TAKEOVER", "WHY"];
    output::print(&output::table(&headings, &rows, Paint::stdout()))?;
    Ok(ExitCode::SUCCESS)
}

/// Tasks with standbys, as a node has them.
pub(crate) fn pairs(asked: &Asked) -> Result<Vec<Pair>> {
    match Client::ask_at(asked, Request::Protected)?.1 {
        Reply::Protected { pairs } => Ok(pairs),
        _ => bail!("the agent answered something else"),
    }
}

fn row(pair: &Pair) -> Vec<String> {
    let time = |nanos: Option<u64>| nanos.map_or("-".into(), |n| output::long_duration(Duration::from_nanos(n)));
    let role = match pair.role {
        Role::Primary => "runs",
        Role::Standby => "stands by",
    };
    let last = match pair.took {
        Some(_) => format!("{} in {}", output::bytes(pair.bytes), time(pair.took)),
        None => "-".into(),
    };
    let peer = if pair.connected { pair.peer.clone() } else { format!("{} (not to be reached)", pair.peer) };
    let of_primary = pair.role == Role::Primary;
    let loss = if of_primary { time(Some(pair.loss)) } else { "-".into() };
    vec![
        pair.name.clone(),
        role.into(),
        peer,
        pair.sync.to_string(),
        time(pair.age),
        loss,
        time(pair.interval),
        last,
        time(pair.pause),
        time(pair.takeover),
        pair.reason.clone(),
    ]
}
