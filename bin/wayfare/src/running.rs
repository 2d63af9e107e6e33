//! A task's life in this process, from the first instruction here to the last, and the captures in between.
//!
//! Two threads: the task's own, whose stack is as large as a task may need, and the main one, which answers the socket. A request
//! to be captured goes like this:
//!
//! ```text
//! socket thread                         task thread
//! order into the slot
//! Handle::capture() ──── stops ───────► Task::run() = Captured; takes the order
//!                                       stop:          writes the file, answers, ends with status 75
//! encodes, writes, answers ◄── copy ──  keep running:  copies what is needed, runs on
//! ```
//! Whatever fails on the way to a complete file leaves the task running.

use crate::control::{self, Order, Reply, Request, Stats};
use crate::mounts::Mount;
use crate::output;
use crate::registry::{Claim, Entry};
use anyhow::{Context, Result, anyhow, bail};
use std::io::Write;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use wayfare_engine::wasmtime;
use wayfare_engine::{Error, Freezer, Frozen, Handle, Image, Outcome, Stopped, THREAD_STACK, Task};
use wayfare_snapshot::{Compression, Digest, Snapshot};
use wayfare_store::program::Program;

/// The task was captured and goes on from the file: `EX_TEMPFAIL`, "try again (elsewhere)".
const CAPTURED: u8 = 75;
/// What a shell says of a program that aborted (128 + SIGABRT), and wasmtime of one that trapped.
const TRAPPED: u8 = 134;
/// A client that reads no answer must not keep a task from ending.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// What is decided before a task can be built.
pub struct Plan {
    /// Its name.
    pub claim: Claim,
    /// What `wayfare ps` will say.
    pub entry: Entry,
    /// The program.
    pub program: Program,
    /// Where the volumes go when the program has ended.
    pub volumes: Vec<Mount>,
}

/// Builds the task on a thread of its own, by `build`, and runs it to its end here. The calling thread, which has
/// nothing else to do, answers the socket; so this returns only with an error, and the process ends with the task.
///
/// # Errors
/// Those of `build`, and when this machine lacks something.
pub fn run(plan: Plan, build: impl FnOnce(&Image) -> Result<Task> + Send) -> Result<ExitCode> {
    let (ready, built) = channel();
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(THREAD_STACK);
        let life = move || {
            let life = std::panic::AssertUnwindSafe(|| live(plan, build, &ready));
            // A panic has printed what is known of it. Without this the process would live on without its task.
            let status = std::panic::catch_unwind(life).unwrap_or(Some(1));
            if let Some(status) = status {
                std::process::exit(status.into());
            }
        };
        thread.spawn_scoped(scope, life).context("cannot start a thread for the task")?;
        match built.recv() {
            Ok(Ok((desk, listener))) => {
                desk.open(&listener);
                // The task needs no socket to run to its end.
                loop {
                    std::thread::park();
                }
            }
            Ok(Err(e)) => Err(e),
            // The process is ending.
            Err(_) => loop {
                std::thread::park();
            },
        }
    })
}

type Built = Result<(Arc<Desk>, UnixListener)>;

/// Gives the process's status, or nothing when there is no task and the error went to `ready`.
fn live(plan: Plan, build: impl FnOnce(&Image) -> Result<Task>, ready: &Sender<Built>) -> Option<u8> {
    let Plan { mut claim, entry, program, volumes } = plan;
    let program = Arc::new(program);
    let built = build(&program.image).and_then(|task| Ok((task, claim.publish(&entry)?)));
    let (mut task, listener) = match built {
        Ok(built) => built,
        Err(e) => {
            drop(claim);
            let _ = ready.send(Err(e));
            return None;
        }
    };
    let desk = Arc::new(Desk {
        handle: task.handle(),
        program: program.clone(),
        slot: Mutex::default(),
        turn: Mutex::default(),
        busy: false.into(),
    });
    let _ = ready.send(Ok((desk.clone(), listener)));
    let status = loop {
        match task.run() {
            Outcome::Exited(status) => break ended(&mut task, &volumes, (status & 0xff) as u8),
            Outcome::Trapped(e) => {
                report_trap(&entry.name, &e);
                break ended(&mut task, &volumes, TRAPPED);
            }
            Outcome::Captured => {
                let frozen = Instant::now();
                let job = lock(&desk.slot).take();
                if let Some(file) = job.and_then(|job| job.carry_out(&mut task, &program, frozen)) {
                    let _ = writeln!(std::io::stderr(), "{}: captured to {}", entry.name, file.display());
                    break CAPTURED;
                }
                if let Err(e) = go_on(&mut task, &program) {
                    output::complain(&format!("{}: the task cannot go on: {e:#}", entry.name));
                    break 1;
                }
            }
        }
    };
    // A copy that is being written is waited for.
    drop(lock(&desk.turn));
    drop(claim);
    // The process ends now: giving back its memory piece by piece would be for nothing.
    std::mem::forget((task, program));
    Some(status)
}

/// Lets a captured task go on here, by an image that can resume it.
fn go_on(task: &mut Task, program: &Program) -> Result<()> {
    if !task.can_go_on() {
        task.go_over(&program.resumable()?)?;
    }
    Ok(())
}

/// Stores the volumes of a program that has ended.
fn ended(task: &mut Task, volumes: &[Mount], status: u8) -> u8 {
    let mut result = status;
    for (guest, volume) in task.wasi().volumes() {
        let Some(mount) = volumes.iter().find(|m| m.guest == guest) else {
            continue;
        };
        if let Err(e) = volume.store_dir(&mount.host) {
            output::complain(&format!("the volume {guest} could not be stored back: {e}"));
            result = if status == 0 { 1 } else { status };
        }
    }
    result
}

fn report_trap(name: &str, e: &Error) {
    let Error::Wasm(e) = e else {
        return output::complain(&format!("{name} trapped: {e}"));
    };
    let why = match e.downcast_ref::<wasmtime::Trap>() {
        Some(trap) => trap.to_string(),
        None => e.root_cause().to_string(),
    };
    let mut text = format!("wayfare: {name} trapped: {}\n", why.trim_start_matches("wasm trap: "));
    if let Some(backtrace) = e.downcast_ref::<wasmtime::WasmBacktrace>() {
        for (i, frame) in backtrace.frames().iter().enumerate() {
            let function = frame.func_name().map_or_else(|| format!("function {}", frame.func_index()), Into::into);
            text.push_str(&format!("  {i:>2}: {function}\n"));
        }
    }
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// A capture that was asked for.
struct Job {
    order: Order,
    /// What a delta stands on.
    base: Option<Arc<(Snapshot<'static>, Digest)>>,
    asked: Instant,
    /// Answers the client.
    client: UnixStream,
    /// Protects the task's memory, so that it can be copied while the task runs on.
    freezer: Option<Freezer>,
    /// Takes the copy of a task that runs on, with what is known so far.
    copies: Sender<(Copy, Stats)>,
}

/// What a task leaves behind that runs on.
enum Copy {
    /// All of it.
    Whole(Box<Snapshot<'static>>),
    /// Its pages are still being copied.
    Coming(Box<Frozen>),
}

impl Job {
    /// On the task's thread, with the task stopped. Gives the file when the task is to end here; else it runs on.
    fn carry_out(mut self, task: &mut Task, program: &Program, frozen: Instant) -> Option<std::path::PathBuf> {
        let done = self.attempt(task, program, frozen);
        if !matches!(done, Ok(Some(_))) {
            task.unpause();
        }
        match done {
            Ok(Some(stats)) => {
                let file = stats.file.clone();
                answer(&mut self.client, &Reply::Captured(stats));
                Some(file)
            }
            Ok(None) => None,
            Err(e) => {
                answer(&mut self.client, &Reply::Failed { error: format!("{e:#}") });
                None
            }
        }
    }

    fn attempt(&mut self, task: &mut Task, program: &Program, frozen: Instant) -> Result<Option<Stats>> {
        if let Some(freezer) = self.freezer.take().filter(|_| task.can_go_on()) {
            let pause_ns = (frozen - self.asked).as_nanos() as u64;
            let copy = Copy::Coming(Box::new(freezer.frozen(task)?));
            let held_ns = Some(frozen.elapsed().as_nanos() as u64);
            let stats = Stats { file: self.order.output.clone(), pause_ns, held_ns, ..Stats::default() };
            let _ = self.copies.send((copy, stats));
            return Ok(None);
        }
        let now = task.snapshot()?;
        let frames = program.image.metadata().frames(&now.frames)?.len() as u64;
        let pause_ns = (frozen - self.asked).as_nanos() as u64;
        let mut stats = Stats { file: self.order.output.clone(), frames, pause_ns, ..Stats::default() };
        let delta = match &self.base {
            Some(base) => Some(wayfare_snapshot::diff(&base.0, &now, base.1)?),
            None => None,
        };
        let wanted = delta.as_ref().unwrap_or(&now);
        stats.pages = wanted.memories.iter().flat_map(|m| &m.runs).map(|run| run.page_count()).sum();
        if !self.order.keep_running {
            return write(wanted, &self.order, stats).map(Some);
        }
        let copy = wanted.clone().into_owned();
        // Part of what the task is held for, the first time.
        go_on(task, program)?;
        stats.held_ns = Some(frozen.elapsed().as_nanos() as u64);
        // If nobody takes it, nobody waits for it.
        let _ = self.copies.send((Copy::Whole(Box::new(copy)), stats));
        Ok(None)
    }
}

/// Writes a snapshot to its file, whole or not at all.
fn write(snapshot: &Snapshot<'_>, order: &Order, mut stats: Stats) -> Result<Stats> {
    let began = Instant::now();
    let compression = Compression::from(order.compress);
    let header = wayfare_store::snapshots::write(&order.output, snapshot, compression)?;
    stats.bytes = header.total_len;
    stats.id = header.id().to_string();
    stats.write_ns = began.elapsed().as_nanos() as u64;
    Ok(stats)
}

/// Where requests arrive.
struct Desk {
    handle: Handle,
    program: Arc<Program>,
    /// Between the two threads.
    slot: Mutex<Option<Job>>,
    /// Held from a request to its answer: one at a time.
    turn: Mutex<()>,
    busy: AtomicBool,
}

impl Desk {
    fn open(self: Arc<Self>, listener: &UnixListener) {
        for client in listener.incoming().flatten() {
            let desk = self.clone();
            // A thread each, so that `ps` gets its answer during a long capture.
            let _ = std::thread::Builder::new().spawn(move || desk.serve(client));
        }
    }

    fn serve(&self, mut client: UnixStream) {
        let _ = client.set_write_timeout(Some(ANSWER_TIMEOUT));
        let reply = match control::receive::<Request>(&client, Some(ANSWER_TIMEOUT)) {
            Ok(None) => return,
            Ok(Some(Request::Status)) => {
                let state = if self.busy.load(Ordering::Relaxed) { "capturing" } else { "running" };
                Reply::Status { state: state.into() }
            }
            Ok(Some(Request::Capture(order))) => {
                let turn = lock(&self.turn);
                self.busy.store(true, Ordering::Relaxed);
                let captured = self.capture(order, &client);
                self.busy.store(false, Ordering::Relaxed);
                match captured {
                    Ok(Some(stats)) => answer(&mut client, &Reply::Captured(stats)),
                    // The task's thread has answered.
                    Ok(None) => {}
                    Err(e) => answer(&mut client, &Reply::Failed { error: format!("{e:#}") }),
                }
                drop(turn);
                return;
            }
            Err(e) => Reply::Failed { error: format!("{e:#}") },
        };
        answer(&mut client, &reply);
    }

    fn capture(&self, order: Order, client: &UnixStream) -> Result<Option<Stats>> {
        let base = order.since.as_deref().map(read_base).transpose()?.map(Arc::new);
        if order.keep_running {
            // Compiled, if it has to be, and loaded while the task works.
            self.program.resumable()?;
        }
        let freezer = if order.keep_running { self.handle.prepare_freeze() } else { None };
        let (copies, copied) = channel();
        let stands_on = base.clone();
        let client = client.try_clone()?;
        let job = Job { order: order.clone(), base, asked: Instant::now(), client, freezer, copies };
        *lock(&self.slot) = Some(job);
        let stopped = self.handle.capture();
        if !matches!(stopped, Ok(Stopped::Captured)) {
            lock(&self.slot).take();
        }
        match stopped? {
            Stopped::Ended => Err(anyhow!("the task ended before it could be captured")),
            // Nothing comes where the task's thread has written the file, or failed to.
            Stopped::Captured => match copied.recv() {
                Ok((Copy::Whole(snapshot), stats)) => write(&snapshot, &order, stats).map(Some),
                Ok((Copy::Coming(frozen), mut stats)) => {
                    let now = frozen.collect()?;
                    stats.frames = self.program.image.metadata().frames(&now.frames)?.len() as u64;
                    let delta = match &stands_on {
                        Some(base) => Some(wayfare_snapshot::diff(&base.0, &now, base.1)?),
                        None => None,
                    };
                    let wanted = delta.as_ref().unwrap_or(&now);
                    stats.pages = wanted.memories.iter().flat_map(|m| &m.runs).map(|run| run.page_count()).sum();
                    write(wanted, &order, stats).map(Some)
                }
                Err(_) => Ok(None),
            },
        }
    }
}

fn read_base(path: &Path) -> Result<(Snapshot<'static>, Digest)> {
    let name = || path.display().to_string();
    let bytes = std::fs::read(path).with_context(name)?;
    let base = crate::snapshots::decode(&bytes).with_context(name)?;
    if base.meta.base.is_some() {
        bail!("{}: this is a delta itself: squash it with its base first", path.display());
    }
    let id = wayfare_snapshot::id(&bytes).with_context(name)?;
    Ok((base, id))
}

fn answer(client: &mut UnixStream, reply: &Reply) {
    // A client that has gone away has no use for it.
    let _ = control::send(client, reply);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
