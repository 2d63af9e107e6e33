//! `wayfare up`: a cluster on this machine, with a controller: one node in this process, the others in processes of their own.

use crate::cli::Up;
use crate::node;
use crate::output;
use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, WaitOptions};
use std::io::IsTerminal;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use wayfare_control::{Access, Controller};
use wayfare_node::agent::{Agent, Settings};
use wayfare_node::{Dirs, membership};

/// How long a node may take to end.
const ENDING: Duration = Duration::from_secs(15);

/// The nodes that run in processes of their own, until this goes.
struct Others(Vec<Pid>);

impl Drop for Others {
    fn drop(&mut self) {
        let is_there = |pid: &Pid| rustix::process::test_kill_process(*pid).is_ok();
        let end = |pid: &Pid, signal| _ = rustix::process::kill_process(*pid, signal);
        self.0.iter().for_each(|pid| end(pid, Signal::TERM));
        let by = Instant::now() + ENDING;
        while self.0.iter().any(is_there) && Instant::now() < by {
            std::thread::sleep(Duration::from_millis(20));
            // Those that this process has started are its to bury.
            for pid in &self.0 {
                let _ = rustix::process::waitpid(Some(*pid), WaitOptions::NOHANG);
            }
        }
        self.0.iter().filter(|pid| is_there(pid)).for_each(|pid| end(pid, Signal::KILL));
    }
}

/// Works until Ctrl-C.
///
/// # Errors
/// When a node or the controller cannot be.
pub fn run(args: &Up) -> Result<ExitCode> {
    let dirs = Dirs::open(args.at.state.as_deref())?;
    let me = match dirs.identity() {
        Ok(me) => me,
        Err(_) => membership::init(&dirs, "home", "node1")?,
    };
    // Until all else has ended.
    let _spans = crate::log::begin(&me.name);
    wayfare_engine::heaps::few();
    let runtime = node::runtime()?;
    let served = runtime.block_on(serve(args, dirs));
    // A thread that waits for a task which never stops must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    served.map(|()| ExitCode::SUCCESS)
}

async fn serve(args: &Up, dirs: Dirs) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let root = dirs.root().to_path_buf();
    let processors = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    let cpus = args.cpus.unwrap_or_else(|| (processors * 100 / u32::from(args.nodes)).max(1));
    let settings = Settings {
        address: args.listen.to_string(),
        shares: Vec::new(),
        memory: args.memory,
        cpus: Some(cpus),
        keep: None,
        measure: std::env::current_exe().ok(),
    };
    let agent = Agent::open(dirs, settings)?;
    let server = wayfare_node::serve(agent.clone(), &args.listen.to_string()).await?;
    let controller =
        Controller::open(agent.clone(), &root, args.api, wayfare_control::Settings { tls: args.tls, stay: args.stay })
            .await?;
    let url = controller.url()?;
    let (stop, mut stopping) = tokio::sync::watch::channel(false);
    let mut node_stopping = stop.subscribe();
    let node = tokio::spawn(server.run(async move { _ = node_stopping.wait_for(|stop| *stop).await }));
    let controlling = tokio::spawn(controller.run(async move { _ = stopping.wait_for(|stop| *stop).await }));
    let others = Others((2..=args.nodes).map(|n| other(args, &root, n, cpus)).collect::<Result<_>>()?);
    output::print(&format!(
        "{} on {}, the controller on {url}\nthe web page: {}\nnext: wayfare submit set.json, or more machines: wayfare node invite\n",
        output::count(u64::from(args.nodes), "node"),
        args.listen,
        page(&root, &format!("{url}/"))
    ))?;
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut controlling = controlling;
    let ended = tokio::select! {
        _ = term.recv() => Ok(()),
        _ = int.recv() => Ok(()),
        ended = &mut controlling => ended?,
    };
    // The controller first: that its nodes end is no loss of them.
    stop.send_replace(true);
    tokio::task::spawn_blocking(move || drop(others)).await?;
    node.await??;
    ended
}

/// Where the page is. A person at a terminal gets an address that signs in: what stands after `#` is not sent, and the page takes it
/// away. What goes into a file is no place for a token.
fn page(root: &Path, url: &str) -> String {
    let file = wayfare_control::access_file(root);
    let access = std::fs::read(&file).ok().and_then(|text| serde_json::from_slice::<Access>(&text).ok());
    match access {
        Some(access) if std::io::stdout().is_terminal() => format!("{url}#token={}", access.token),
        _ => format!("{url} (a token to sign in with is in {})", file.display()),
    }
}

/// A further node: joined when it is started for the first time. One that has outlived the last of these goes on.
fn other(args: &Up, root: &Path, n: u16, cpus: u32) -> Result<Pid> {
    let (state, name): (PathBuf, _) = (root.join("nodes").join(n.to_string()), format!("node{n}"));
    let dirs = Dirs::open(Some(&state))?;
    let me = std::env::current_exe()?;
    let pid_file = state.join("agent.pid");
    if UnixStream::connect(dirs.socket()).is_ok()
        && let Some(pid) =
            std::fs::read_to_string(&pid_file).ok().and_then(|text| Pid::from_raw(text.trim().parse().ok()?))
        && std::fs::read_link(format!("/proc/{}/exe", pid.as_raw_nonzero())).is_ok_and(|exe| exe == me)
    {
        return Ok(pid);
    }
    let wayfare = |words: &[&str]| {
        let mut command = Command::new(&me);
        command.args(words).env("WAYFARE_STATE", &state).stdin(Stdio::null());
        command
    };
    if dirs.identity().is_err() {
        let token = membership::invite(&Dirs::open(Some(root))?, Duration::from_secs(60))?;
        let joined = wayfare(&["node", "join", &format!("{token}@{}", args.listen), "--name", &name])
            .stdout(Stdio::null())
            .status()?;
        anyhow::ensure!(joined.success(), "{name} cannot join the cluster");
    }
    // A free port, which stays its own.
    let kept = state.join("address");
    let address = match std::fs::read_to_string(&kept) {
        Ok(address) => address,
        Err(_) => {
            let address = std::net::TcpListener::bind((args.listen.ip(), 0))?.local_addr()?.to_string();
            std::fs::write(&kept, &address)?;
            address
        }
    };
    let mut command =
        wayfare(&["node", "serve", "--listen", &address, "--cpus", &(f64::from(cpus) / 100.0).to_string()]);
    if let Some(memory) = args.memory {
        command.args(["--memory", &memory.to_string()]);
    }
    let child = command.stdout(Stdio::null()).spawn().with_context(|| format!("{name} cannot be started"))?;
    std::fs::write(&pid_file, child.id().to_string())?;
    Pid::from_raw(child.id() as i32).context("a process without a number")
}
