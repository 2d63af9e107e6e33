//! Two agents as users have them: processes of their own with directories of their own, and between them a link with
//! a rate and a delay, in a temporary directory on the disk that temporary files are on.
//!
//! ```text
//! a ──dials──► proxy ──► b       b's agent says that it is reached at the proxy's address
//! b ──dials──► proxy ──► a       and so does a's
//! ```

use crate::client::Client;
use anyhow::{Context, Result, bail};
use rustix::process::Pid;
use rustix::thread::CpuSet;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use wayfare_node::control::State;
use wayfare_node::control::{Order, Reply, Report, Request, TaskInfo};
use wayfare_node::protection::Pair;
use wayfare_sim::proxy::{Proxy, Shape};
use wayfare_transfer::message::Mode;

/// Longest time that anything may take which is not measured.
const PATIENCE: Duration = Duration::from_secs(60);

/// An agent.
pub struct Node {
    pub name: &'static str,
    home: PathBuf,
    proxy: Proxy,
    listen: String,
    /// What runs its agent, before the agent's own options: nothing but this program, or that in an emulator.
    program: Vec<String>,
    agent: Option<Child>,
}

impl Node {
    fn new(name: &'static str, dir: &Path, shape: &Shape, program: &[String]) -> Result<Node> {
        let home = dir.join(name);
        for below in ["cache", "data", "run"] {
            std::fs::create_dir_all(home.join(below))?;
        }
        let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let proxy = Proxy::start("127.0.0.1:0".parse()?, listen, shape.clone())?;
        Ok(Node { name, home, proxy, listen: listen.to_string(), program: program.into(), agent: None })
    }

    /// A file of this node's.
    pub fn file(&self, name: &str) -> PathBuf {
        self.home.join(name)
    }

    /// A token by which another joins this node's cluster, and where.
    pub fn invitation(&self) -> Result<String> {
        Ok(format!("{}@{}", self.cli(&["node", "invite"])?, self.listen))
    }

    fn state(&self) -> PathBuf {
        self.home.join("state")
    }

    /// `wayfare` as a user of this node types it.
    pub fn command(&self) -> Result<Command> {
        Ok(self.of(Command::new(std::env::current_exe()?)))
    }

    /// A program with this node's directories.
    fn of(&self, mut command: Command) -> Command {
        command.env("WAYFARE_STATE", self.state()).env("HOME", &self.home).stdin(Stdio::null());
        for (variable, below) in [("XDG_CACHE_HOME", "cache"), ("XDG_DATA_HOME", "data"), ("XDG_RUNTIME_DIR", "run")] {
            command.env(variable, self.home.join(below));
        }
        command
    }

    pub fn cli(&self, args: &[&str]) -> Result<String> {
        let output = self.command()?.args(args).output()?;
        if !output.status.success() {
            bail!("wayfare {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8(output.stdout)?.trim().to_string())
    }

    fn serve(&mut self, options: &[&str]) -> Result<()> {
        let log = File::create(self.home.join("agent.log"))?;
        let advertise = self.proxy.address().to_string();
        let args = ["node", "serve", "--listen", &self.listen, "--advertise", &advertise];
        let mut command = match self.program.split_first() {
            Some((program, before)) => {
                let mut command = self.of(Command::new(program));
                command.args(before);
                command
            }
            None => self.command()?,
        };
        self.agent = Some(command.args(args).args(options).stdout(Stdio::null()).stderr(log).spawn()?);
        let state = self.state();
        until("the agent answers", || Ok(Client::try_connect(Some(&state)).is_some()))
    }

    fn ask(&self, request: &Request) -> Result<Reply> {
        Client::connect(Some(&self.state()))?.ask(request)
    }

    /// A task, if it knows it.
    pub fn task(&self, name: &str) -> Result<Option<TaskInfo>> {
        match self.ask(&Request::List)? {
            Reply::Tasks { tasks } => Ok(tasks.into_iter().find(|t| t.spec.name == name)),
            _ => bail!("the agent answered something else"),
        }
    }

    /// Starts a program in the background, as `wayfare run --detach` does.
    pub fn run(&self, name: &str, program: &Path, publish: Option<u16>, args: &[&str]) -> Result<()> {
        let (program, port) = (program.to_string_lossy(), publish.map(|p| p.to_string()));
        // Checkpoints are another matter, and would come in between.
        let mut all = vec!["run", "--detach", "--name", name, "--checkpoint-every", "0"];
        if let Some(port) = &port {
            all.extend(["--publish", port]);
        }
        all.extend([&program, "--"]);
        all.extend(args);
        self.cli(&all).map(|_| ())
    }

    /// Waits until a task has run for so long.
    pub fn ran(&self, name: &str, long: Duration) -> Result<()> {
        until("the task runs", || {
            let task = self.task(name)?.with_context(|| format!("{name} is gone"))?;
            if !matches!(task.state, State::Running) {
                bail!("{name} has ended before it was measured");
            }
            Ok(task.ran >= long.as_nanos() as u64)
        })
    }

    /// What is known here of a task that has a standby, or whose standby this is.
    pub fn pair(&self, name: &str) -> Result<Option<Pair>> {
        match self.ask(&Request::Protected)? {
            Reply::Protected { pairs } => Ok(pairs.into_iter().find(|pair| pair.name == name)),
            _ => bail!("the agent answered something else"),
        }
    }

    /// Waits until a task has ended.
    pub fn ends(&self, name: &str) -> Result<()> {
        until("the task ends", || {
            // Not so often that the agent has something to do because of it.
            std::thread::sleep(Duration::from_millis(50));
            Ok(self.task(name)?.is_none_or(|task| !task.state.is_alive()))
        })
    }

    /// Waits until nothing of a task is needed here any more: all of its pages have gone, and it is on the disk there.
    pub fn left(&self, name: &str) -> Result<()> {
        until("the task is all there", || {
            let task = self.task(name)?;
            Ok(task.is_none_or(|t| matches!(t.state, State::Left { saved: true, .. })))
        })
    }

    /// Stops a task, if it runs, and forgets it.
    pub fn forget(&self, name: &str) -> Result<()> {
        // One that has ended, or is elsewhere, need not be stopped.
        let _ = self.ask(&Request::Stop { name: name.into() });
        until("the task is over", || Ok(self.ask(&Request::Remove { name: name.into() }).is_ok()))
    }

    fn pid(&self) -> Result<i32> {
        Ok(self.agent.as_ref().context("no agent")?.id() as i32)
    }

    /// The agent's resident bytes, and its descriptors.
    pub fn holds(&self) -> Result<(u64, usize)> {
        let process = PathBuf::from(format!("/proc/{}", self.pid()?));
        let status = std::fs::read_to_string(process.join("status"))?;
        let resident = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
        let kib = resident.and_then(|l| l.trim().strip_suffix(" kB")).and_then(|n| n.parse::<u64>().ok());
        Ok((kib.context("no VmRSS")? << 10, std::fs::read_dir(process.join("fd"))?.count()))
    }

    /// Seconds of processor time that a task's thread has used, while it lives.
    pub fn busy(&self, name: &str) -> Option<f64> {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.agent.as_ref()?.id())).ok()?;
        let called = format!("task {name}");
        // The kernel keeps fifteen bytes of a name.
        let called = called.get(..15).unwrap_or(&called);
        let is_it = |comm: String| comm.trim_end() == called;
        let mut paths = threads.flatten().map(|thread| thread.path());
        let thread = paths.find(|path| std::fs::read_to_string(path.join("comm")).is_ok_and(is_it))?;
        let text = std::fs::read_to_string(thread.join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<f64>().ok().map(|nanos| nanos / 1e9)
    }

    /// Bytes that have come to it.
    pub fn carried(&self) -> u64 {
        self.proxy.stats().up
    }

    /// The last lines that the agent has written about itself.
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(self.home.join("agent.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            let _ = agent.kill();
            let _ = agent.wait();
        }
    }
}

/// Two of them.
pub struct Cluster {
    pub a: Node,
    pub b: Node,
    /// Goes last.
    _dir: TempDir,
}

impl Cluster {
    /// Starts them, with these options of `wayfare node serve`.
    ///
    /// # Errors
    /// When they do not come up.
    pub fn start(shape: &Shape, options: &[&str]) -> Result<Cluster> {
        Cluster::start_by(&[], shape, options)
    }

    /// The same, with agents that an emulator runs: its command, with the program.
    ///
    /// # Errors
    /// When they do not come up.
    pub fn start_by(program: &[String], shape: &Shape, options: &[&str]) -> Result<Cluster> {
        let dir = tempfile::tempdir()?;
        let new = |name| Node::new(name, dir.path(), shape, program);
        let (mut a, mut b) = (new("a")?, new("b")?);
        a.cli(&["node", "init", "--cluster", "bench", "--name", a.name])?;
        a.serve(options)?;
        let token = a.invitation()?;
        b.cli(&["node", "join", &token, "--name", b.name])?;
        b.serve(options)?;
        until("the nodes know each other", || match a.ask(&Request::Nodes)? {
            Reply::Nodes { nodes } => Ok(nodes.len() == 2),
            _ => bail!("the agent answered something else"),
        })?;
        Ok(Cluster { a, b, _dir: dir })
    }
}

impl Cluster {
    /// Nothing passes between them any more.
    pub fn cut(&self) {
        self.a.proxy.cut();
        self.b.proxy.cut();
    }

    /// Keeps all but the source's agent to the last core.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn apart(&self) -> Result<()> {
        let all = self.cores()?;
        let last = (0..CpuSet::MAX_CPU).rev().find(|cpu| all.is_set(*cpu)).context("no core")?;
        let mut one = CpuSet::new();
        one.set(last);
        for process in [std::process::id() as i32, self.b.pid()?] {
            keep_to(process, &one)?;
        }
        Ok(())
    }

    /// Ends what [`Cluster::apart`] did to this process.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn together(&self) -> Result<()> {
        keep_to(std::process::id() as i32, &self.cores()?)
    }

    /// Those that the source's agent may have, as everybody had at first.
    fn cores(&self) -> Result<CpuSet> {
        Ok(rustix::thread::sched_getaffinity(Pid::from_raw(self.a.pid()?))?)
    }
}

fn keep_to(process: i32, cores: &CpuSet) -> Result<()> {
    // Threads that are made later have what those have that make them.
    for thread in std::fs::read_dir(format!("/proc/{process}/task"))? {
        let thread = thread?.file_name().to_string_lossy().parse().ok().and_then(Pid::from_raw);
        // One that has ended meanwhile needs no core.
        let _ = rustix::thread::sched_setaffinity(thread, cores);
    }
    Ok(())
}

/// An order as `wayfare migrate` gives it if nothing else is said.
pub fn order(name: &str, to: &Node) -> Order {
    order_to(name, to.name)
}

/// The same, to a node by its name.
pub fn order_to(name: &str, to: &str) -> Order {
    Order {
        name: name.into(),
        to: to.into(),
        mode: Mode::PreCopy,
        max_downtime: 10_000_000,
        give_up: false,
        limit: None,
        streams: 1,
    }
}

/// Moves a task.
///
/// # Errors
/// When it stays where it is.
pub fn migrate(from: &Node, order: Order) -> Result<Report> {
    let mut client = Client::connect(Some(&from.state()))?;
    let mut reply = client.ask(&Request::Migrate { order })?;
    loop {
        match reply {
            Reply::Moving { .. } => reply = client.next()?,
            Reply::Moved { report } => return Ok(report),
            _ => bail!("the agent answered something else"),
        }
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Waits until something is so.
pub fn until(what: &str, mut so: impl FnMut() -> Result<bool>) -> Result<()> {
    let began = Instant::now();
    while !so()? {
        if began.elapsed() > PATIENCE {
            bail!("not within {PATIENCE:?}: {what}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
