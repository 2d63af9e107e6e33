//! One task on its thread: it runs, stands still when it is told to, goes on, or goes away.
//!
//! ```text
//!            freeze                       thaw
//! running ───────────► standing still ───────────► running
//!    │ exits, traps         │ drop
//!    ▼                      ▼
//!  End::Exited ...        End::Left
//! ```

use crate::dirs::Dirs;
use crate::service::Sockets;
use crate::spec::Spec;
use anyhow::{Context, Result, anyhow};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::oneshot;
use wayfare_cluster::envelope::Envelope;
use wayfare_engine::{Error, Freezer, Frozen, Handle, Outcome, Stopped, THREAD_STACK, Task, Watch};
use wayfare_snapshot::{Compression, Snapshot};
use wayfare_wasi::Stream;
use wayfare_wasi::std_host::{StdHost, StreamSource};

/// In a snapshot: how many bytes of its log the task had written.
pub(crate) const LOG: &str = "log";

/// How a task's time here ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, with this status.
    Exited(u32),
    /// By a trap.
    Trapped(String),
    /// It was told to.
    Stopped,
    /// It is elsewhere, or in a file.
    Left,
    /// Some of its pages will never come.
    Lost,
    /// It cannot go on here, for this reason.
    Broken(String),
}

/// What becomes of a task that stands still.
pub enum Verdict {
    /// It runs on here; at another epoch, if it was given one.
    Thaw(Option<u64>),
    /// It is gone.
    Drop,
}

enum Order {
    /// Stand still and wait for a verdict.
    Freeze { log_from: u64, frozen: oneshot::Sender<Result<Still>> },
    /// Write a snapshot; then run on, or be gone.
    Save { path: PathBuf, keep: bool, freezer: Option<Freezer>, saved: Sender<Result<(Option<Frozen>, u64)>> },
    /// Be gone.
    Stop,
}

/// A task that stands still.
pub struct Still {
    /// Its state.
    pub state: Vec<u8>,
    /// When it stopped.
    pub since: Instant,
    /// What is to become of it. Dropped without a verdict, it runs on, unless it may have been given away.
    pub verdict: Sender<Verdict>,
    /// Set before the word that gives it away is sent: from then on it runs here only by a verdict.
    pub given_away: Arc<AtomicBool>,
}

/// A task that is alive here.
pub struct Live {
    handle: Handle,
    /// Its thread, as the kernel numbers it; 0 before that has begun.
    thread: Arc<AtomicI32>,
    slot: Arc<Mutex<Option<Order>>>,
    /// One order at a time.
    turn: tokio::sync::Mutex<()>,
}

impl Live {
    /// Runs the task on a thread of its own, and says how that ended.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(
        mut task: Task,
        spec: &Spec,
        dirs: &Dirs,
        sockets: Arc<Sockets>,
        ended: impl FnOnce(End, &mut Task) + Send + 'static,
    ) -> Result<Arc<Live>> {
        let slot: Arc<Mutex<Option<Order>>> = Arc::default();
        let number: Arc<AtomicI32> = Arc::default();
        let turn = tokio::sync::Mutex::new(());
        let live = Arc::new(Live { handle: task.handle(), thread: number.clone(), slot: slot.clone(), turn });
        let (share, dirs, id) = (spec.limits.cpu_share, dirs.clone(), spec.id);
        let body = move || {
            number.store(rustix::thread::gettid().as_raw_pid(), Ordering::Relaxed);
            be_nice(share);
            let run = std::panic::AssertUnwindSafe(|| run(&mut task, &slot, &dirs.log(id), &sockets));
            let end = std::panic::catch_unwind(run).unwrap_or_else(|_| End::Broken("the engine failed".into()));
            ended(end, &mut task);
        };
        let thread = std::thread::Builder::new().name(format!("task {}", spec.name)).stack_size(THREAD_STACK);
        thread.spawn(body).context("no thread for the task")?;
        Ok(live)
    }

    /// Looks at its memory while it runs.
    ///
    /// # Errors
    /// When somebody else does.
    pub fn watch(&self) -> Result<Watch> {
        Ok(self.handle.watch()?)
    }

    /// How long it has run.
    pub fn ran(&self) -> std::time::Duration {
        self.handle.ran()
    }

    /// Processor time that its thread has had, which does not grow while the task waits; none where the kernel does not say.
    pub fn busy(&self) -> Option<std::time::Duration> {
        let thread = self.thread.load(Ordering::Relaxed);
        let text = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).ok()?;
        text.split(' ').next()?.parse().ok().map(std::time::Duration::from_nanos)
    }

    /// Bytes of its memories.
    pub fn memory(&self) -> u64 {
        self.handle.memory()
    }

    async fn order(&self, order: Order) -> Result<Stopped> {
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(order);
        let handle = self.handle.clone();
        let stopped = tokio::task::spawn_blocking(move || handle.capture()).await?;
        if !matches!(stopped, Ok(Stopped::Captured)) {
            self.slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
        Ok(stopped?)
    }

    /// Makes it stand still.
    ///
    /// # Errors
    /// When it ends first, or cannot be captured; it runs on then.
    pub async fn freeze(&self, log_from: u64) -> Result<Still> {
        let _turn = self.turn.lock().await;
        let (frozen, still) = oneshot::channel();
        match self.order(Order::Freeze { log_from, frozen }).await? {
            Stopped::Captured => still.await.context("the task has ended")?,
            Stopped::Ended => Err(anyhow!("the task has ended")),
        }
    }

    /// Writes a durable snapshot of it to `path`. With `keep` it runs on, and stands still only for a moment. Gives how many bytes of
    /// its log it had written then.
    ///
    /// # Errors
    /// When it ends first, cannot be captured, or the disk does not take it. It runs on then.
    pub async fn save(&self, path: &Path, keep: bool) -> Result<u64> {
        let _turn = self.turn.lock().await;
        let handle = self.handle.clone();
        let freezer = match keep {
            true => tokio::task::spawn_blocking(move || handle.prepare_freeze()).await?,
            false => None,
        };
        let (saved, result) = channel();
        match self.order(Order::Save { path: path.to_path_buf(), keep, freezer, saved }).await? {
            Stopped::Ended => return Err(anyhow!("the task has ended")),
            Stopped::Captured => {}
        }
        let path = path.to_path_buf();
        let finish = move || {
            let (frozen, log) = result.recv().context("the task has ended")??;
            if let Some(frozen) = frozen {
                write(&path, &frozen.collect()?)?;
            }
            Ok(log)
        };
        tokio::task::spawn_blocking(finish).await?
    }

    /// Ends it.
    ///
    /// # Errors
    /// When it cannot be stopped.
    pub async fn stop(&self) -> Result<()> {
        let _turn = self.turn.lock().await;
        self.order(Order::Stop).await.map(|_| ())
    }
}

fn run(task: &mut Task, slot: &Mutex<Option<Order>>, log: &Path, sockets: &Sockets) -> End {
    loop {
        match task.run() {
            Outcome::Exited(status) => return End::Exited(status),
            Outcome::Trapped(Error::Lost) => return End::Lost,
            Outcome::Trapped(e) => return End::Trapped(e.trap()),
            Outcome::Captured => {}
        }
        let since = Instant::now();
        let order = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        let verdict = match order {
            None => Verdict::Thaw(None),
            Some(Order::Stop) => return End::Stopped,
            Some(Order::Save { path, keep, freezer, saved }) => {
                let written = std::fs::metadata(log).map_or(0, |m| m.len());
                task.extra().insert(LOG.into(), written.to_string());
                let (verdict, frozen) = save(task, &path, keep, freezer);
                let _ = saved.send(frozen.map(|frozen| (frozen, written)));
                verdict
            }
            Some(Order::Freeze { log_from, frozen }) => stand_still(task, log, log_from, since, frozen, sockets),
        };
        match verdict {
            Verdict::Drop => return End::Left,
            Verdict::Thaw(epoch) => {
                if let Some(epoch) = epoch {
                    task.set_epoch(epoch);
                }
                task.unpause();
            }
        }
    }
}

fn stand_still(
    task: &mut Task,
    log: &Path,
    log_from: u64,
    since: Instant,
    frozen: oneshot::Sender<Result<Still>>,
    sockets: &Sockets,
) -> Verdict {
    let state = task.state().map_err(anyhow::Error::from).and_then(|snapshot| {
        let encoded = wayfare_snapshot::encode(&snapshot, Compression::Lz4)?;
        let log = read_from(log, log_from)?;
        Ok(Envelope { snapshot: encoded, log, sockets: sockets.freeze() }.encode())
    });
    let state = match state {
        Ok(state) => state,
        Err(e) => {
            let _ = frozen.send(Err(e));
            return Verdict::Thaw(None);
        }
    };
    let (verdict, decided): (Sender<Verdict>, Receiver<Verdict>) = channel();
    let given_away = Arc::new(AtomicBool::new(false));
    if frozen.send(Ok(Still { state, since, verdict, given_away: given_away.clone() })).is_err() {
        return Verdict::Thaw(None);
    }
    match decided.recv() {
        Ok(verdict) => verdict,
        Err(_) if !given_away.load(Ordering::SeqCst) => Verdict::Thaw(None),
        // Whoever moved it failed without a word. The journal knows that it may run elsewhere; a restart asks.
        Err(_) => loop {
            std::thread::park();
        },
    }
}

fn save(task: &mut Task, path: &Path, keep: bool, freezer: Option<Freezer>) -> (Verdict, Result<Option<Frozen>>) {
    if keep {
        let frozen = match freezer {
            Some(freezer) => freezer.frozen(task).map(Some).map_err(Into::into),
            // Without write protection it stands still while it is written.
            None => task.snapshot().map_err(Into::into).and_then(|s| write(path, &s)).map(|()| None),
        };
        return (Verdict::Thaw(None), frozen);
    }
    let written = task.snapshot().map_err(Into::into).and_then(|snapshot| write(path, &snapshot));
    let verdict = if written.is_ok() { Verdict::Drop } else { Verdict::Thaw(None) };
    (verdict, written.map(|()| None))
}

fn write(path: &Path, snapshot: &Snapshot<'_>) -> Result<()> {
    wayfare_store::snapshots::write(path, snapshot, Compression::Lz4).map(|_| ())
}

/// The bytes of a log from an offset on.
fn read_from(log: &Path, from: u64) -> Result<Vec<u8>> {
    use std::io::{Read, Seek, SeekFrom};
    let mut bytes = Vec::new();
    let mut file = File::open(log).with_context(|| log.display().to_string())?;
    file.seek(SeekFrom::Start(from))?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The world of a task: its directories, and its log in the place of the standard streams.
///
/// # Errors
/// When the log cannot be opened.
pub fn host(spec: &Spec, dirs: &Dirs, sockets: &Arc<Sockets>) -> Result<StdHost> {
    let directory = dirs.task(spec.id);
    std::fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    let log = dirs.log(spec.id);
    let open = || OpenOptions::new().append(true).create(true).mode(0o600).open(&log);
    let (out, err) = (open().with_context(|| log.display().to_string())?, open()?);
    let host = StdHost::new()?
        .network(sockets.plug())
        .stream(Stream::Stdin, StreamSource::Null)
        .stream(Stream::Stdout, StreamSource::Fd(out.into()))
        .stream(Stream::Stderr, StreamSource::Fd(err.into()));
    Ok(spec.dirs.iter().fold(host, |host, d| host.dir(&d.guest, &d.host, d.read_only)))
}

/// Gives the thread its share of a busy processor: each step of niceness is a factor of 1.25.
fn be_nice(share: u32) {
    if share >= 100 {
        return;
    }
    let steps = ((100.0 / f64::from(share.max(1))).ln() / 1.25f64.ln()).round() as i32;
    // Linux keeps it by thread, and `0` is the calling one.
    let _ = rustix::process::setpriority_process(None, steps.min(19));
}
