//! A `wayfare` of its own for each test: its own cache, key and runtime directory, and guests built beforehand.

pub mod board;
pub mod client;
pub mod cluster;
pub mod collector;
pub mod link;
pub mod module;
pub mod samples;
pub mod space;
pub mod steady;
pub mod up;
pub mod wire;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The program.
pub const WAYFARE: &str = env!("CARGO_BIN_EXE_wayfare");

/// A user's directories, and where the test works.
pub struct Home {
    dir: tempfile::TempDir,
}

/// The module of a guest.
pub fn guest(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir));
    let path = target.join("guests").join(format!("{name}.wasm"));
    assert!(path.exists(), "{} is missing: run guests/build.sh", path.display());
    path
}

impl Home {
    pub fn new() -> Home {
        let dir = tempfile::Builder::new().prefix("wf").tempdir().unwrap();
        for name in ["run", "work"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        Home { dir }
    }

    /// A file in the working directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("work").join(name)
    }

    /// Directories below the cache.
    pub fn cache(&self) -> PathBuf {
        self.dir.path().join("cache/wayfare")
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data/wayfare")
    }

    pub fn tasks(&self) -> PathBuf {
        self.dir.path().join("run/wayfare/tasks")
    }

    /// `wayfare` with these arguments.
    pub fn wayfare<A: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        self.here(Command::new(WAYFARE), args)
    }

    /// The same for another ISA: `WAYFARE_AARCH64` holds the command.
    pub fn elsewhere<A: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let words = std::env::var("WAYFARE_AARCH64").expect("set by ./x test");
        let mut words = words.split_whitespace();
        let mut command = Command::new(words.next().expect("a command"));
        command.args(words);
        self.here(command, args)
    }

    /// A command with arguments, in this user's directories.
    pub fn here<A: AsRef<std::ffi::OsStr>>(&self, mut command: Command, args: impl IntoIterator<Item = A>) -> Command {
        command.args(args).current_dir(self.dir.path().join("work"));
        for (variable, dir) in [("XDG_CACHE_HOME", "cache"), ("XDG_DATA_HOME", "data"), ("XDG_RUNTIME_DIR", "run")] {
            command.env(variable, self.dir.path().join(dir));
        }
        command.env("WAYFARE_STATE", self.dir.path().join("work/state"));
        command.env_remove("WAYFARE_TARGET").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs it to its end.
    pub fn output<A: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Done {
        self.ended(&mut self.wayfare(args))
    }

    /// Runs a command to its end.
    pub fn ended(&self, command: &mut Command) -> Done {
        Done::of(command.output().unwrap())
    }

    /// Runs a guest to its end, for what it prints.
    pub fn plain(&self, name: &str, args: &[&str]) -> String {
        let mut all = vec!["run".into(), guest(name).into_os_string(), "--".into()];
        all.extend(args.iter().map(Into::into));
        self.output(all).ok().stdout
    }

    /// Compiles a guest, so that a resume or a capture in place need not.
    pub fn compile(&self, name: &str) {
        self.output(["compile".as_ref(), guest(name).as_os_str(), "-o".as_ref(), "compiled.img".as_ref()]).ok();
    }

    /// Starts a guest and waits until `wayfare ps` lists it.
    pub fn start(&self, options: &[&str], name: &str, args: &[&str]) -> Task<'_> {
        let mut all = vec!["run".into()];
        all.extend(options.iter().map(std::ffi::OsString::from));
        all.extend([guest(name).into_os_string(), "--".into()]);
        all.extend(args.iter().map(Into::into));
        self.spawn(all)
    }

    /// Starts a command that runs a task; gives it back when its socket is there.
    pub fn spawn<A: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Task<'_> {
        self.begin(self.wayfare(args).stdin(Stdio::piped()))
    }

    /// The same for any command.
    pub fn begin(&self, command: &mut Command) -> Task<'_> {
        self.try_begin(command).unwrap_or_else(|done| panic!("the task did not start: {done:?}"))
    }

    /// The same; or what became of it, where it has ended before its socket was seen.
    pub fn try_begin(&self, command: &mut Command) -> Result<Task<'_>, Done> {
        let before = self.sockets();
        let mut child = command.spawn().unwrap();
        let began = Instant::now();
        loop {
            if let Some(name) = self.sockets().into_iter().find(|s| !before.contains(s)) {
                return Ok(Task { home: self, child, name });
            }
            if child.try_wait().unwrap().is_some() {
                return Err(Done::of(child.wait_with_output().unwrap()));
            }
            if began.elapsed() > cluster::PATIENCE {
                let _ = child.kill();
                panic!("a task does not start: {:?}", Done::of(child.wait_with_output().unwrap()));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn sockets(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.tasks()).into_iter().flatten().flatten();
        let names = names.filter_map(|e| e.file_name().to_str()?.strip_suffix(".sock").map(String::from));
        names.collect()
    }
}

/// A task that runs.
pub struct Task<'h> {
    home: &'h Home,
    pub child: Child,
    /// What it is called.
    pub name: String,
}

impl Task<'_> {
    /// Captures it into a file in the working directory, and waits for both sides.
    pub fn capture(self, file: &str) -> Done {
        self.home.output(["capture", &self.name, "-o", file]).ok();
        self.end()
    }

    /// Says something to it.
    pub fn say(&mut self, text: &str) {
        self.child.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Reads its output until it has said so much.
    pub fn hear(&mut self, text: &str) -> String {
        let (mut heard, mut byte) = (Vec::new(), [0]);
        let out = self.child.stdout.as_mut().unwrap();
        while !heard.ends_with(text.as_bytes()) {
            assert_eq!(out.read(&mut byte).unwrap(), 1, "it said only {:?}", String::from_utf8_lossy(&heard));
            heard.push(byte[0]);
        }
        String::from_utf8(heard).unwrap()
    }

    /// Waits for its end, its input closed.
    pub fn end(self) -> Done {
        Done::of(self.child.wait_with_output().unwrap())
    }
}

/// How a command ended.
#[derive(Debug)]
pub struct Done {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    fn of(output: Output) -> Done {
        Done {
            status: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    #[track_caller]
    pub fn is(self, status: i32) -> Done {
        assert_eq!(self.status, Some(status), "{self:?}");
        self
    }

    #[track_caller]
    pub fn ok(self) -> Done {
        self.is(0)
    }

    /// It failed, with one line that holds `text`.
    #[track_caller]
    pub fn fails(self, text: &str) -> Done {
        let done = self.is(1);
        assert!(done.stderr.starts_with("wayfare: ") && done.stderr.contains(text), "{:?} lacks {text:?}", done.stderr);
        assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
        assert!(!done.stderr.contains("defect"), "{}", done.stderr);
        done
    }
}
