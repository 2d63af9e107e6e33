//! `wayfare node ...`: becoming a node, and being one.

use crate::cli::{Init, Invite, Join, Listing, NodeCommand, Nodes, Revoke, Rotate, Serve};
use crate::client::Client;
use crate::output::{self, Paint};
use crate::sets;
use anyhow::{Context, Result, bail};
use std::process::ExitCode;
use std::time::Duration;
use wayfare_node::agent::{Agent, Settings};
use wayfare_node::control::{NodeInfo, Reply, Request};
use wayfare_node::restart::Restart;
use wayfare_node::token::Token;
use wayfare_node::{Dirs, membership};

/// Does it.
///
/// # Errors
/// Those of each command.
pub fn run(command: NodeCommand) -> Result<ExitCode> {
    match command {
        NodeCommand::Init(args) => init(&args),
        NodeCommand::Serve(args) => serve(args),
        NodeCommand::Invite(args) => invite(&args),
        NodeCommand::Join(args) => join(&args),
        NodeCommand::Revoke(args) => revoke(&args),
        NodeCommand::Rotate(args) => rotate(&args),
        NodeCommand::Cordon(args) => sets::cordon(&args),
        NodeCommand::Drain(args) => sets::drain(&args),
        NodeCommand::Label(args) => sets::label(&args),
        NodeCommand::Rm(args) => sets::forget(&args),
        NodeCommand::Speed { runs } => output::print(&format!("{}\n", wayfare_node::speed::measure(runs.into())?)),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn host_name(given: Option<&String>) -> String {
    if let Some(name) = given {
        return name.clone();
    }
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name.trim().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let name = name.trim_matches('-').to_string();
    if name.is_empty() { "node".into() } else { name }
}

fn init(args: &Init) -> Result<()> {
    let dirs = Dirs::open(args.at.state.as_deref())?;
    let identity = membership::init(&dirs, &args.cluster, &host_name(args.name.as_ref()))?;
    output::print(&format!(
        "{} is the first node of the cluster {}; its key is in {}\nnext: wayfare node serve --listen ADDRESS\n",
        identity.name,
        identity.cluster,
        dirs.root().display()
    ))
}

fn invite(args: &Invite) -> Result<()> {
    if let Some(file) = &args.nodes {
        return sets::invite(args.at.state.as_deref(), file);
    }
    let dirs = Dirs::open(args.at.state.as_deref())?;
    let token = membership::invite(&dirs, args.valid)?;
    output::print(&format!("{token}\n"))
}

/// What futures run on.
///
/// # Errors
/// When there can be no threads.
pub fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")
}

/// Takes `TOKEN@ADDRESS` apart.
///
/// # Errors
/// When it is something else.
pub fn invitation(text: &str) -> Result<(Token, &str)> {
    let (token, address) = text.rsplit_once('@').context("say TOKEN@ADDRESS: where is the agent to ask?")?;
    Ok((token.parse()?, address))
}

fn join(args: &Join) -> Result<()> {
    let (token, address) = invitation(&args.token)?;
    let dirs = Dirs::open(args.at.state.as_deref())?;
    let name = host_name(args.name.as_ref());
    let identity = runtime()?.block_on(membership::join(&dirs, &token, address, &name))?;
    output::print(&format!(
        "{} is a node of the cluster {}\nnext: wayfare node serve --listen ADDRESS\n",
        identity.name, identity.cluster
    ))
}

fn revoke(args: &Revoke) -> Result<()> {
    membership::revoke(&Dirs::open(args.at.state.as_deref())?, &args.name)?;
    output::print(&format!("{} is no member any more, as soon as the others hear of it\n", args.name))
}

fn rotate(args: &Rotate) -> Result<()> {
    let dirs = Dirs::open(args.at.state.as_deref())?;
    runtime()?.block_on(membership::rotate(&dirs, args.via.as_deref()))?;
    output::print("this node has a new key; the old one is revoked\n")
}

fn serve(args: Serve) -> Result<()> {
    let dirs = Dirs::open(args.at.state.as_deref())?;
    // Until all else has ended. That this is no node yet is told below.
    let _spans = crate::log::begin(&dirs.identity().map(|me| me.name).unwrap_or_default());
    for share in &args.share {
        if !share.is_absolute() || !share.is_dir() {
            bail!("--share {}: it is not an absolute path of a directory", share.display());
        }
    }
    wayfare_engine::heaps::few();
    let runtime = runtime()?;
    let served = runtime.block_on(async move {
        use tokio::signal::unix::{SignalKind, signal};
        let settings = Settings {
            address: args.advertise.unwrap_or_else(|| args.listen.clone()),
            shares: args.share,
            memory: args.memory,
            cpus: args.cpus,
            keep: args.keep,
            measure: std::env::current_exe().ok(),
        };
        let agent = Agent::open(dirs, settings)?;
        let identity = agent.identity()?;
        let server = wayfare_node::serve(agent, &args.listen).await?;
        tracing::info!(node = %identity.name, cluster = %identity.cluster, listen = %args.listen, "serving");
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let stop = async move {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            tracing::info!("ending: tasks are written to the disk");
        };
        server.run(stop).await
    });
    // A thread that waits for a task which never stops must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    served
}

/// What a node has below it.
fn system(node: &NodeInfo) -> &'static str {
    if node.peer.is_bare() { "bare metal" } else { "linux" }
}

/// `wayfare nodes`.
///
/// # Errors
/// When no agent is at work.
pub fn list(args: &Nodes) -> Result<ExitCode> {
    if args.output == Listing::Wide {
        return sets::nodes(args.asked.at.state.as_deref());
    }
    let (_, reply) = Client::ask_at(&args.asked, Request::Nodes)?;
    let Reply::Nodes { nodes } = reply else { bail!("the agent answered something else") };
    if args.output == Listing::Json {
        let json = |node: &NodeInfo| -> Result<serde_json::Value> {
            let mut json = serde_json::to_value(node)?;
            json["isa"] = node.peer.instruction_set().into();
            json["system"] = system(node).into();
            Ok(json)
        };
        output::print_json(&nodes.iter().map(json).collect::<Result<Vec<_>>>()?.into())?;
        return Ok(ExitCode::SUCCESS);
    }
    let now = wayfare_node::unix_now();
    let row = |n: &NodeInfo| {
        let seen = match (n.this, n.peer.seen) {
            (true, _) if args.asked.node.is_none() => "this node".into(),
            (true, _) => "now".into(),
            (false, 0) => "never".into(),
            (false, seen) => {
                let ago = Duration::from_secs(now.saturating_sub(seen));
                format!("{} ago", output::long_duration(ago).replace(".0s", "s"))
            }
        };
        vec![n.peer.name.clone(), n.peer.instruction_set().into(), system(n).into(), n.peer.address.clone(), seen]
    };
    let rows: Vec<Vec<String>> = nodes.iter().map(row).collect();
    let mut text = output::table(&["NAME", "ISA", "SYSTEM", "ADDRESS", "SEEN"], &rows, Paint::stdout());
    nodes.iter().filter_map(|node| restarted(node, now)).for_each(|line| text.push_str(&line));
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// A line on a node that has failed and was reset a while ago, for people.
fn restarted(node: &NodeInfo, now: u64) -> Option<String> {
    const A_WHILE: u64 = 24 * 60 * 60;
    let restarted = node.restarted.as_ref()?;
    let ago = now.saturating_sub(restarted.at);
    let text = output::long_duration(Duration::from_secs(ago)).replace(".0s", "s");
    let Restart { part, text: how, times } = &restarted.why;
    // Not every node that may be asked is as careful as this one with what it was told.
    let how = how.replace(char::is_control, " ");
    let again = if *times > 1 { format!(" ({times} times in a row)") } else { String::new() };
    (ago < A_WHILE).then(|| format!("{} restarted {text} ago{again}: {}: {how}\n", node.peer.name, part.describe()))
}
