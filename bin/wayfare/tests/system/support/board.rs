//! Boards of a cluster: machines without an operating system, in QEMU, that joined it.

use super::cluster::{Node, PATIENCE, free_port, until_or};
use super::{Done, WAYFARE};
use serde_json::Value;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What there are kernels for.
pub const TARGETS: [&str; 3] = ["x86_64", "aarch64", "riscv64"];

/// A processor that every KVM has: not each can be the one below it.
pub const KVM: [&str; 2] = ["-cpu", "Nehalem"];

/// One test at a time: several machines that are emulated take all the processors that there are.
pub fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A board, which a node of the same cluster speaks for.
pub struct Board<'n> {
    /// The node that has invited it, in whose directory its image is.
    pub by: &'n Node,
    pub name: String,
    /// Where it can be reached.
    pub address: String,
    advertised: Option<String>,
    pci: bool,
    kvm: bool,
    memory: &'static str,
    /// More on its command line.
    words: Vec<String>,
    /// How many it has.
    pub processors: u8,
    machine: Option<Child>,
}

impl<'n> Board<'n> {
    /// Makes one with so much memory, and switches it on.
    pub fn new(by: &'n Node, target: &str, name: &str, memory: &'static str) -> Board<'n> {
        let mut board = Board::made(by, target, name, memory);
        board.switch_on();
        board
    }

    /// The same, not switched on yet.
    pub fn made(by: &'n Node, target: &str, name: &str, memory: &'static str) -> Board<'n> {
        let token = format!("{}@{}", by.run(&["node", "invite"]).ok().stdout.trim(), by.address);
        let image = format!("{name}.img");
        by.run(&["unikernel", "build", "--target", target, "--join", &token, "--name", name, "-o", &image]).ok();
        let address = format!("127.0.0.1:{}", free_port());
        let words = Vec::new();
        Board {
            by,
            name: name.into(),
            address,
            advertised: None,
            pci: false,
            kvm: false,
            memory,
            words,
            processors: 1,
            machine: None,
        }
    }

    /// Others are to reach it there.
    pub fn advertise(&mut self, address: String) {
        self.advertised = Some(address);
    }

    /// It has this on its command line.
    pub fn append(&mut self, word: &str) {
        self.words.push(word.into());
    }

    /// Its devices are on PCI.
    pub fn put_on_pci(&mut self) {
        self.pci = true;
    }

    /// The processor of this machine runs it.
    pub fn use_kvm(&mut self) {
        self.kvm = true;
    }

    /// Boots it; it is a member when this returns.
    pub fn switch_on(&mut self) {
        let (image, monitor) = (format!("{}.img", self.name), format!("unix:{}.mon,server,nowait", self.name));
        let processors = self.processors.to_string();
        let mut args = vec!["unikernel", "run", &image, "--memory", self.memory, "--listen", &self.address];
        args.extend(["--cpus", &processors]);
        if let Some(advertised) = &self.advertised {
            args.extend(["--advertise", advertised]);
        }
        self.words.iter().for_each(|word| args.extend(["--append", word]));
        args.extend(self.pci.then_some("--pci"));
        args.extend(self.kvm.then_some(["--accel", "kvm"]).into_iter().flatten());
        args.extend(["--", "-monitor", &monitor]);
        args.extend(self.kvm.then_some(KVM).into_iter().flatten());
        let console = std::fs::OpenOptions::new().append(true).create(true).open(self.path("log")).unwrap();
        let mut command = self.by.home.here(Command::new(WAYFARE), &args);
        let errors = console.try_clone().unwrap();
        self.machine = Some(command.stdin(Stdio::null()).stdout(console).stderr(errors).spawn().unwrap());
        self.wait_joined(self.joined() + 1);
    }

    /// How often it has joined.
    fn joined(&self) -> usize {
        self.log().matches("joined after").count()
    }

    /// Waits until it has joined so often.
    #[track_caller]
    pub fn wait_joined(&self, times: usize) {
        until_or(&format!("{} joins", self.name), PATIENCE, || self.joined() >= times, || self.log());
    }

    fn path(&self, suffix: &str) -> std::path::PathBuf {
        self.by.home.path(&format!("{}.{suffix}", self.name))
    }

    /// What it has said on its console.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// The power is cut.
    pub fn switch_off(&mut self) {
        let mut machine = self.machine.take().unwrap();
        Command::new("kill").arg(machine.id().to_string()).status().unwrap();
        assert!(machine.wait().unwrap().success(), "{}", self.log());
    }

    /// The machine does not run for so long, and does not know that.
    pub fn hold(&self, time: Duration) {
        let run = self.machine.as_ref().unwrap().id();
        let machine = std::fs::read_to_string(format!("/proc/{run}/task/{run}/children")).unwrap();
        let signal = |signal| assert!(Command::new("kill").args([signal, machine.trim()]).status().unwrap().success());
        signal("-STOP");
        std::thread::sleep(time);
        signal("-CONT");
    }

    /// Pulls the cable, or puts it in again.
    pub fn plug(&self, is_in: bool) {
        self.monitor(if is_in { "set_link net on" } else { "set_link net off" });
    }

    /// Says something to QEMU.
    pub fn monitor(&self, line: &str) {
        let mut monitor = UnixStream::connect(self.path("mon")).unwrap();
        writeln!(monitor, "{line}").unwrap();
        // It reads what was said before it sees the end.
        monitor.shutdown(std::net::Shutdown::Write).unwrap();
        let _ = std::io::copy(&mut monitor, &mut std::io::sink());
    }

    /// Its tasks, as `ps` shows them.
    pub fn tasks(&self) -> Vec<Value> {
        let listed = self.by.run(&["ps", "-a", "--node", &self.name, "-o", "json"]).ok().stdout;
        serde_json::from_str(&listed).unwrap()
    }

    pub fn state(&self, task: &str) -> String {
        let tasks = self.tasks();
        let found = tasks.iter().find(|t| t["name"] == task);
        found.map_or_else(|| "none".into(), |t| t["state"].as_str().unwrap().into())
    }

    #[track_caller]
    pub fn wait(&self, task: &str, state: &str) {
        until_or(&format!("{task} is {state}"), PATIENCE, || self.state(task) == state, || self.log());
    }

    /// What it says of itself.
    pub fn about(&self) -> Value {
        let listed = self.by.run(&["nodes", "--node", &self.name, "-o", "json"]).ok().stdout;
        let listed: Vec<Value> = serde_json::from_str(&listed).unwrap();
        listed.into_iter().find(|n| n["this"] == true).unwrap()
    }

    /// Bytes of its memory that are free.
    pub fn free(&self) -> u64 {
        self.about()["free"].as_u64().unwrap()
    }
}

impl Drop for Board<'_> {
    fn drop(&mut self) {
        if let Some(mut machine) = self.machine.take() {
            let _ = Command::new("kill").arg(machine.id().to_string()).status();
            let _ = machine.wait();
        }
    }
}

/// Moves a task, wherever it is, as a user of this node.
#[track_caller]
pub fn send(user: &Node, task: &str, to: &str, options: &[&str]) -> Value {
    let done = try_to_send(user, task, to, options);
    assert_eq!(done.status, Some(0), "{task} to {to}: {done:?}");
    serde_json::from_str(&done.stdout).unwrap()
}

pub fn try_to_send(user: &Node, task: &str, to: &str, options: &[&str]) -> Done {
    user.run(&[&["migrate", task, "--to", to, "-o", "json"], options].concat())
}
