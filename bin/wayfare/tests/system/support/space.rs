//! Networks of a test's own: two namespaces with a cable between them, that nobody else sees and that end with the test.
//!
//! Whoever is not root may make them in a user namespace, where he is. So a test that needs them runs itself once more,
//! in namespaces; cables and file systems that it makes there are gone with its last process, however it ends.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

/// Says to the second process that it is it.
const INSIDE: &str = "WAYFARE_TEST_INSIDE";

/// Runs the rest of the calling test in a mount and a network namespace of its own; gives `false` where there are none
/// to be had. `name` is the test's.
pub fn inside(name: &str, test: impl FnOnce(bool)) {
    if std::env::var_os(INSIDE).is_some() {
        run(&["ip", "link", "set", "lo", "up"]);
        return test(true);
    }
    let mut unshare = vec!["unshare", "--net", "--mount"];
    if !rustix::process::geteuid().is_root() {
        unshare.extend(["--user", "--map-root-user"]);
    }
    let probe = "ip link add w0 type veth peer name w1 && mount -t tmpfs none /mnt";
    let can = Command::new(unshare[0]).args(&unshare[1..]).args(["sh", "-c", probe]).output();
    if !can.as_ref().is_ok_and(|out| out.status.success()) {
        eprintln!("{name}: no namespaces are to be had here, so it runs on the loopback device: {can:?}");
        return test(false);
    }
    let own = std::env::current_exe().unwrap();
    let again = Command::new(unshare[0])
        .args(&unshare[1..])
        .args(["--kill-child", "--fork"])
        .arg(own)
        .args([name, "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&again.stdout), text(&again.stderr));
    assert!(again.status.success() && out.contains("1 passed"), "{out}\n{err}");
    eprint!("{err}");
}

/// Runs a command that must go well.
#[track_caller]
pub fn run(args: &[&str]) {
    let done = Command::new(args[0]).args(&args[1..]).output();
    let done = done.unwrap_or_else(|e| panic!("{args:?}: {e}"));
    assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// A network namespace. A process that does nothing holds it.
pub struct Space {
    holder: Child,
}

impl Space {
    pub fn new() -> Arc<Space> {
        let mut holder = Command::new("unshare");
        // It waits for the end of its input, which comes with the end of the test at the latest.
        holder.args(["--net", "sh", "-c", "ip link set lo up && echo && exec cat"]);
        let mut holder = holder.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = [0];
        std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut ready).unwrap();
        Arc::new(Space { holder })
    }

    fn path(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.holder.id()).into()
    }

    /// A program with this network. The process is the program's own.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg(program);
        command
    }

    /// Runs a command with this network.
    #[track_caller]
    pub fn run(&self, args: &[&str]) {
        let done = self.command(args[0]).args(&args[1..]).output().unwrap();
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// Does something on a thread with this network, which the threads that it starts have too.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let space = File::open(self.path()).unwrap();
        let body = || {
            use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
            move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        };
        std::thread::scope(|scope| scope.spawn(body).join().unwrap())
    }

    /// Lays a cable to another: this end has the address 10.77.0.1, the other 10.77.0.2.
    pub fn cable(&self, other: &Space) {
        let pid = other.holder.id().to_string();
        self.run(&["ip", "link", "add", "w0", "type", "veth", "peer", "name", "w0", "netns", &pid]);
        for (space, address) in [(self, "10.77.0.1/24"), (other, "10.77.0.2/24")] {
            space.run(&["ip", "address", "add", address, "dev", "w0"]);
            space.run(&["ip", "link", "set", "w0", "up"]);
        }
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// A small disk in the place of a directory, for tests that are [`inside`].
pub struct Disk {
    at: PathBuf,
}

impl Disk {
    pub fn mount(at: PathBuf, size: &str) -> Disk {
        std::fs::create_dir_all(&at).unwrap();
        let options = format!("size={size},mode=700");
        run(&["mount", "-t", "tmpfs", "-o", &options, "wayfare-test", at.to_str().unwrap()]);
        Disk { at }
    }

    /// Fills it up, but for so many bytes.
    pub fn fill(&self, but: u64) {
        let file = File::create(self.at.join("ballast")).unwrap();
        let mut block = 1 << 20;
        let mut len = 0;
        // Little by little: what is there is said in pages only.
        while block >= 4096 {
            match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), len, block) {
                Ok(()) => len += block,
                Err(_) => block /= 2,
            }
        }
        file.set_len(len.saturating_sub(but.next_multiple_of(4096))).unwrap();
    }

    /// Makes space.
    pub fn empty(&self) {
        std::fs::remove_file(self.at.join("ballast")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.at).output();
    }
}
