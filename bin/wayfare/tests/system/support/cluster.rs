//! Nodes of a cluster: each a process with directories of its own, at work wherever the test wants it to be.

use super::space::Space;
use super::{Done, Home, WAYFARE, guest};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use wayfare_node::control::{Line, Order, Reply, Report, Request};
use wayfare_transfer::Mode;

/// A port that is nobody's: none of those that the kernel gives to whoever asks for any, of whom there are many here, and each
/// once. Tests of several processes at once begin at different ones. It is looked for by connecting, not by binding: what another
/// thread begins meanwhile would have the bound socket until it is a program of its own, and the port be taken for so long.
pub fn free_port() -> u16 {
    const FIRST: u32 = 20_000;
    const COUNT: u32 = 10_000;
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id().wrapping_mul(101).wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
        let port = (FIRST + number % COUNT) as u16;
        if TcpStream::connect(("127.0.0.1", port)).is_err() {
            return port;
        }
    }
}

/// Longest time that anything here may take which is not under test.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something is so.
#[track_caller]
pub fn until(what: &str, patience: Duration, so: impl FnMut() -> bool) {
    until_or(what, patience, so, String::new);
}

/// Waits until something is so; if it does not get so, tells what `tells` says by then.
#[track_caller]
pub fn until_or(what: &str, patience: Duration, mut so: impl FnMut() -> bool, tells: impl FnOnce() -> String) {
    let began = Instant::now();
    while !so() {
        if began.elapsed() >= patience {
            panic!("not within {patience:?}: {what}\n{}", tells());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A node: its directories, and its agent while it runs.
pub struct Node {
    pub home: Home,
    pub name: &'static str,
    pub address: String,
    /// Where others reach it, if that is not where it listens.
    pub advertised: Option<String>,
    agent: Option<Child>,
    /// Runs under the emulator of another ISA.
    pub foreign: bool,
    /// The network that it has, if it is not the machine's.
    pub space: Option<Arc<Space>>,
    /// By how much its wall clock is wrong, as libfaketime has it.
    pub wrong: Option<&'static str>,
}

impl Node {
    pub fn new(name: &'static str) -> Node {
        Node::at(name, format!("127.0.0.1:{}", free_port()))
    }

    /// One that listens there.
    pub fn at(name: &'static str, address: String) -> Node {
        Node {
            home: Home::new(),
            name,
            address,
            advertised: None,
            agent: None,
            foreign: false,
            space: None,
            wrong: None,
        }
    }

    /// `wayfare` as a user of this node types it.
    pub fn command(&self, args: &[&str]) -> Command {
        match &self.space {
            _ if self.foreign => self.home.elsewhere(args),
            Some(space) => self.home.here(space.command(WAYFARE), args),
            None => self.home.wayfare(args),
        }
    }

    pub fn run(&self, args: &[&str]) -> Done {
        self.home.ended(&mut self.command(args))
    }

    pub fn serve_with(&mut self, more: &[&str]) {
        self.spawn(more);
        let began = Instant::now();
        while !self.run(&["nodes"]).stdout.contains(self.name) {
            assert!(began.elapsed() < PATIENCE, "{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn spawn(&mut self, more: &[&str]) {
        let mut args = vec!["node", "serve", "--listen", &self.address];
        if let Some(advertised) = &self.advertised {
            args.extend(["--advertise", advertised]);
        }
        args.extend(more);
        let log = std::fs::OpenOptions::new().append(true).create(true).open(self.home.path("agent.log")).unwrap();
        let mut command = self.command(&args);
        if let Some(wrong) = self.wrong {
            let library = format!("/usr/lib/{}-linux-gnu/faketime/libfaketimeMT.so.1", std::env::consts::ARCH);
            assert!(std::path::Path::new(&library).exists(), "{library} is missing: Debian's package is faketime");
            // What measures time is not what tells it.
            command.env("LD_PRELOAD", library).env("FAKETIME", wrong).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.agent = Some(child);
    }

    pub fn serve(&mut self) {
        self.serve_with(&[]);
    }

    /// The agent's process.
    pub fn pid(&self) -> u32 {
        self.agent.as_ref().unwrap().id()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.home.path("agent.log")).unwrap_or_default()
    }

    /// As a power cut.
    pub fn kill(&mut self) {
        let mut agent = self.agent.take().unwrap();
        agent.kill().unwrap();
        agent.wait().unwrap();
    }

    /// As a shutdown.
    pub fn end(&mut self) {
        let mut agent = self.agent.take().unwrap();
        Command::new("kill").arg(agent.id().to_string()).status().unwrap();
        assert!(agent.wait().unwrap().success(), "{}", self.log());
    }

    /// A task of it, as `ps` shows it.
    pub fn task(&self, name: &str) -> Option<Value> {
        let all: Value = serde_json::from_str(&self.run(&["ps", "-a", "-o", "json"]).ok().stdout).unwrap();
        all.as_array().unwrap().iter().find(|t| t["name"] == name).cloned()
    }

    /// A task that has a standby, or whose standby it is, as `protected` shows it.
    pub fn pair(&self, task: &str) -> Option<Value> {
        self.pairs(task).into_iter().next()
    }

    /// The same of one that has several, nearest first.
    pub fn pairs(&self, task: &str) -> Vec<Value> {
        let all: Vec<Value> = serde_json::from_str(&self.run(&["protected", "-o", "json"]).ok().stdout).unwrap();
        all.into_iter().filter(|pair| pair["name"] == task).collect()
    }

    /// It is the standby of a task, and could go on with it.
    pub fn stands_by(&self, task: &str) -> bool {
        self.pair(task).is_some_and(|pair| pair["role"] == "standby" && pair["sync"] != 0)
    }

    /// Stops the agent's process, or lets it go on.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid() as i32).unwrap(), signal).unwrap();
    }

    pub fn state(&self, name: &str) -> String {
        self.task(name).map_or_else(|| "none".into(), |t| t["state"].as_str().unwrap().into())
    }

    /// Waits until a task is in a state.
    #[track_caller]
    pub fn wait(&self, name: &str, state: &str) {
        let began = Instant::now();
        while self.state(name) != state {
            let now = self.task(name);
            assert!(began.elapsed() < PATIENCE, "{name}: {now:?} is not {state}; {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn start(&self, name: &str, options: &[&str], program: &str, args: &[&str]) {
        let wasm = guest(program);
        let wasm = wasm.to_str().unwrap();
        self.run(&[&["run", "-d", "--name", name], options, &[wasm, "--"], args].concat()).ok();
    }

    /// What a task has printed.
    pub fn output(&self, name: &str) -> String {
        self.run(&["logs", name]).ok().stdout
    }

    /// Forgets the programs that it has seen: the next one is sent and compiled.
    pub fn forget_programs(&self) {
        let _ = std::fs::remove_dir_all(self.home.cache());
    }

    /// The node's directory.
    pub fn state_dir(&self) -> PathBuf {
        self.home.path("state")
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

/// Two nodes of one cluster, at work.
pub fn pair() -> (Node, Node) {
    let (mut a, mut b) = (Node::new("a"), Node::new("b"));
    found(&mut a);
    join(&a, &mut b);
    b.serve();
    (a, b)
}

/// Makes a cluster with its first node, at work.
pub fn found(a: &mut Node) {
    a.run(&["node", "init", "--cluster", "test", "--name", a.name]).ok();
    a.serve();
}

/// Makes a second node of it.
pub fn join(a: &Node, b: &mut Node) {
    let token = a.run(&["node", "invite"]).ok().stdout;
    let token = format!("{}@{}", token.trim(), a.address);
    b.run(&["node", "join", &token, "--name", b.name]).ok();
}

pub fn migrate(from: &Node, to: &Node, name: &str) -> Value {
    migrate_by(from, to, name, &[])
}

/// With further options.
pub fn migrate_by(from: &Node, to: &Node, name: &str, options: &[&str]) -> Value {
    let done = from.run(&[&["migrate", name, "--to", to.name, "-o", "json"], options].concat());
    if done.status != Some(0) {
        panic!("{done:?}\n{}\n{}", from.log(), to.log());
    }
    serde_json::from_str(&done.stdout).unwrap()
}

/// A move that was begun the way `wayfare migrate` does it, and is watched.
pub struct Move {
    lines: BufReader<UnixStream>,
    end: Option<Result<Report, String>>,
    /// The phases that it has told of, in order.
    pub phases: Vec<String>,
}

impl Move {
    pub fn begin(from: &Node, to: &Node, name: &str) -> Move {
        Move::begin_by(from, to, name, Mode::PreCopy, None)
    }

    /// In a mode, with a limit of bytes per second.
    pub fn begin_by(from: &Node, to: &Node, name: &str, mode: Mode, limit: Option<u64>) -> Move {
        Move::begin_to(from, to.name, name, mode, limit)
    }

    /// To a node by its name, from wherever the task is.
    pub fn begin_to(from: &Node, to: &str, name: &str, mode: Mode, limit: Option<u64>) -> Move {
        let mut stream = UnixStream::connect(from.state_dir().join("agent.sock")).unwrap();
        stream.set_read_timeout(Some(2 * PATIENCE)).unwrap();
        let order = Order {
            name: name.into(),
            to: to.into(),
            mode,
            max_downtime: 10_000_000,
            give_up: false,
            limit,
            streams: 1,
        };
        let mut line = serde_json::to_vec(&Request::Migrate { order }).unwrap();
        line.push(b'\n');
        stream.write_all(&line).unwrap();
        Move { lines: BufReader::new(stream), end: None, phases: Vec::new() }
    }

    /// The next line of progress, unless it is over.
    fn next(&mut self) -> Option<Line> {
        if self.end.is_some() {
            return None;
        }
        let mut line = String::new();
        // An agent that was killed says nothing, or resets the connection.
        let read = self.lines.read_line(&mut line).unwrap_or(0);
        let end = match serde_json::from_str(&line) {
            _ if read == 0 => Err("the agent is gone".into()),
            Ok(Reply::Moving { line }) => {
                if self.phases.last() != Some(&line.phase) {
                    self.phases.push(line.phase.clone());
                }
                return Some(line);
            }
            Ok(Reply::Moved { report }) => Ok(report),
            Ok(Reply::Failed { error }) => Err(error),
            other => panic!("{other:?}"),
        };
        self.end = Some(end);
        None
    }

    /// Waits until it is in a phase; whether it ever was.
    pub fn reaches(&mut self, phase: &str) -> bool {
        while let Some(line) = self.next() {
            if line.phase == phase {
                return true;
            }
        }
        false
    }

    /// How it ended.
    pub fn end(&mut self) -> Result<Report, String> {
        while self.next().is_some() {}
        self.end.clone().unwrap()
    }
}

/// Who has a task in the end, when everybody is at work and can reach everybody: exactly one node, at which it runs or
/// has ended well. Nobody ever has it together with somebody else.
#[track_caller]
pub fn owner<'n>(name: &str, nodes: [&'n Node; 2]) -> &'n Node {
    let began = Instant::now();
    loop {
        let states = nodes.map(|node| node.state(name));
        let has = |state: &String| matches!(state.as_str(), "running" | "exited");
        let owners: Vec<_> = (0..2).filter(|i| has(&states[*i])).collect();
        let logs = || format!("{name}: {states:?}\n{}\n{}", nodes[0].log(), nodes[1].log());
        assert!(owners.len() < 2, "two have it: {}", logs());
        for state in &states {
            assert!(!matches!(state.as_str(), "failed" | "trapped" | "stopped"), "it is lost: {}", logs());
        }
        if let [one] = owners[..]
            && matches!(states[1 - one].as_str(), "none" | "left")
        {
            return nodes[one];
        }
        assert!(began.elapsed() < PATIENCE, "nobody has it: {}", logs());
        std::thread::sleep(Duration::from_millis(20));
    }
}
