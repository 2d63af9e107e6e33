//! The tasks of a node: started, listed, looked after, ended.

use crate::capacity::{Capacity, Need, Total};
use crate::control::State;
use crate::db::Db;
use crate::dirs::Dirs;
use crate::ingress::Ingress;
use crate::kept::Kept;
use crate::link::Link;
use crate::membership::Identity;
use crate::peers::Peer;
use crate::protect::{Awaited, Couple, Protection};
use crate::reunion::Displaced;
use crate::service::{self, Sockets};
use crate::shared::Shared;
use crate::spec::Spec;
use crate::standby::Held;
use crate::task::{self, End, Live, Still};
use crate::{placed, random, unix_now};
use anyhow::{Context, Result, anyhow, bail};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use wayfare_engine::{Form, Image, Limits, Options, Target, Task};
use wayfare_snapshot::Digest;
use wayfare_store::program::{self, Wanted};
use wayfare_stream::ports::listener;
use wayfare_transfer::TaskId;
use wayfare_transfer::channel::Credentials;
use wayfare_transfer::journal::Record;
use wayfare_transfer::message::Answer;
use wayfare_wasi::{Ctx, Volume};

/// How an agent is set up.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Where other nodes reach it.
    pub address: String,
    /// Directories of this machine that tasks from elsewhere may use.
    pub shares: Vec<PathBuf>,
    /// Bytes of memory for tasks.
    pub memory: Option<u64>,
    /// Processors for tasks, in hundredths.
    pub cpus: Option<u32>,
    /// Bytes of pages of tasks that have left and may come back.
    pub keep: Option<u64>,
    /// The program whose `node speed` says how fast this machine is: in a process of its own, the compiler is gone again when that is
    /// known, and does not stay in the agent's memory. Without one the agent measures itself.
    pub measure: Option<PathBuf>,
}

/// A task of this node, or one that was.
pub struct Entry {
    /// What it is.
    pub spec: Spec,
    state: Mutex<State>,
    live: Mutex<Option<Arc<Live>>>,
    sockets: Mutex<Option<Arc<Sockets>>>,
    /// Its epoch here.
    pub(crate) epoch: AtomicU64,
    /// Told of every change of its state.
    pub(crate) changed: Notify,
    /// Held by what moves it, or brings it: until it is on the disk here.
    pub(crate) moving: Arc<tokio::sync::Mutex<()>>,
    /// What those have in common who keep its standbys up to date.
    pub(crate) shared: tokio::sync::Mutex<Weak<Shared>>,
    /// It has come from elsewhere, and the journal does not say yet that it is on the disk here.
    pub(crate) unsaved: AtomicBool,
    /// A person's word on what became of it.
    pub(crate) decision: tokio::sync::watch::Sender<Option<Answer>>,
}

impl Entry {
    pub(crate) fn new(spec: Spec, state: State, epoch: u64) -> Arc<Entry> {
        Arc::new(Entry {
            spec,
            state: Mutex::new(state),
            live: Mutex::default(),
            sockets: Mutex::default(),
            epoch: AtomicU64::new(epoch),
            changed: Notify::new(),
            moving: Arc::default(),
            shared: tokio::sync::Mutex::default(),
            unsaved: AtomicBool::new(false),
            decision: tokio::sync::watch::Sender::new(None),
        })
    }

    /// What it is doing.
    pub fn state(&self) -> State {
        lock(&self.state).clone()
    }

    pub(crate) fn set_state(&self, state: State) {
        *lock(&self.state) = state;
        self.changed.notify_waiters();
        placed::something_changed();
    }

    /// Changes the state from one to another; not if it is none of the two any more, since the task may end at any time.
    pub(crate) fn pass(&self, from: &State, to: State) -> bool {
        let mut state = lock(&self.state);
        let passes = *state == *from;
        if passes {
            *state = to;
        }
        drop(state);
        self.changed.notify_waiters();
        placed::something_changed();
        passes
    }

    /// Its sockets, while it is here.
    pub(crate) fn sockets(&self) -> Option<Arc<Sockets>> {
        lock(&self.sockets).clone()
    }

    /// The running task.
    ///
    /// # Errors
    /// When it does not run here.
    pub(crate) fn live(&self) -> Result<Arc<Live>> {
        let live = lock(&self.live).clone();
        live.ok_or_else(|| match self.state() {
            State::Running => anyhow!("{} is just being started here: try again in a moment", self.spec.name),
            _ => anyhow!("{} does not run here", self.spec.name),
        })
    }
}

/// How others reach a move to this node.
#[derive(Clone)]
pub(crate) struct Visitors {
    /// The epoch that it claims.
    pub(crate) epoch: u64,
    /// The node that the task comes from. Nobody else has a say in it.
    pub(crate) peer: String,
    /// To the move.
    pub(crate) door: UnboundedSender<Visit>,
}

/// What others want of a move to this node.
pub(crate) enum Visit {
    /// The source has dialled again.
    Reattached(Link),
    /// The source brings pages by one more link.
    Lane(Link),
    /// The source asks what became of it, and has closed, or lost, the link that it had.
    Asked {
        /// It still has the task as it was.
        holds: bool,
    },
}

/// A node's agent.
pub struct Agent {
    /// Where it keeps things.
    pub dirs: Dirs,
    pub(crate) db: Db,
    pub(crate) settings: Settings,
    pub(crate) capacity: Capacity,
    pub(crate) kept: Kept,
    pub(crate) tasks: Mutex<BTreeMap<String, Arc<Entry>>>,
    /// The clients of tasks that were published here.
    ingresses: Mutex<HashMap<TaskId, Arc<Ingress>>>,
    /// Moves to this node that are not over.
    pub(crate) arriving: Mutex<HashMap<TaskId, Visitors>>,
    /// Tasks of this node that have a standby, by name and the standby's node.
    pub(crate) protections: Mutex<BTreeMap<Couple, Arc<Protection>>>,
    /// Those that are to have one as soon as it is there.
    pub(crate) awaited: Mutex<BTreeMap<Couple, Arc<Awaited>>>,
    /// Copies of tasks that others have replaced.
    pub(crate) displaced: Mutex<HashMap<TaskId, Displaced>>,
    /// Tasks of which two copies go on, while it is weighed which counts.
    pub(crate) reuniting: Mutex<HashSet<TaskId>>,
    /// Tasks whose standby this node is.
    pub(crate) standbys: Mutex<HashMap<TaskId, Arc<Held>>>,
    /// How fast the node is, once somebody has asked.
    pub(crate) speed: Mutex<Option<f64>>,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The instruction set this runs on, as people call it.
pub fn isa() -> &'static str {
    std::env::consts::ARCH
}

/// Processors that tasks may use.
pub(crate) fn processors() -> u32 {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u32
}

impl Agent {
    /// Opens a node. Its tasks are picked up by [`Agent::recover`].
    ///
    /// # Errors
    /// When the directory is no node's, or cannot be used.
    pub fn open(dirs: Dirs, settings: Settings) -> Result<Arc<Agent>> {
        dirs.identity()?;
        let db = Db::open(&dirs)?;
        // Most tasks wait most of the time: four to a processor, unless told otherwise.
        let cpus = settings.cpus.unwrap_or(processors() * 400);
        let capacity = Capacity::new(Total { memory: settings.memory, cpus });
        Ok(Arc::new(Agent {
            dirs,
            db,
            capacity,
            kept: Kept::new(settings.keep),
            settings,
            tasks: Mutex::default(),
            ingresses: Mutex::default(),
            arriving: Mutex::default(),
            protections: Mutex::default(),
            awaited: Mutex::default(),
            displaced: Mutex::default(),
            reuniting: Mutex::default(),
            standbys: Mutex::default(),
            speed: Mutex::default(),
        }))
    }

    /// What the node is. Read anew each time, since keys may be rotated.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn identity(&self) -> Result<Identity> {
        self.dirs.identity()
    }

    pub(crate) fn credentials(&self) -> Result<Credentials> {
        Ok(self.identity()?.credentials(self.db.revocations()?))
    }

    /// This node as others are to know it.
    pub(crate) fn me(&self) -> Result<Peer> {
        let name = self.identity()?.name;
        Ok(Peer { name, address: self.settings.address.clone(), isa: isa().into(), seen: unix_now() })
    }

    /// The nodes as a newcomer is to know them.
    pub(crate) fn peers(&self) -> Result<Vec<Peer>> {
        let mut peers = self.db.peers()?;
        peers.push(self.me()?);
        Ok(peers)
    }

    /// The tasks, by name.
    pub fn tasks(&self) -> Vec<Arc<Entry>> {
        lock(&self.tasks).values().cloned().collect()
    }

    /// A task by its name.
    ///
    /// # Errors
    /// When there is none.
    pub fn task(&self, name: &str) -> Result<Arc<Entry>> {
        let found = lock(&self.tasks).get(name).cloned();
        found.ok_or_else(|| anyhow!("no task named {name} is on this node: `wayfare ps -a` lists them"))
    }

    /// Whether a task of this name, and of another identity, is or may yet be here.
    pub(crate) fn name_is_taken(&self, name: &str, id: TaskId) -> bool {
        lock(&self.tasks).get(name).is_some_and(|e| e.spec.id != id && e.state().holds_name())
    }

    /// An image that runs and resumes here.
    ///
    /// # Errors
    /// When the module was never here, or cannot be compiled.
    pub(crate) fn image(&self, spec: &Spec) -> Result<Image> {
        let digest: Digest = spec.module.parse()?;
        let found = program::from_digest(digest, &wanted(spec.canonical_nan)?)?;
        let found = found.with_context(|| format!("the program of {} is not here any more", spec.name))?;
        found.resumable()
    }

    /// Starts a task.
    ///
    /// # Errors
    /// When its name is taken, it cannot be captured, or this machine lacks what it needs.
    pub fn start(self: &Arc<Self>, mut spec: Spec) -> Result<Arc<Entry>> {
        spec.check()?;
        let wanted = wanted(spec.canonical_nan)?;
        let found = program::from_file(spec.program.as_ref(), &wanted)?;
        let image = found.resumable()?;
        spec.id = TaskId(random()?);
        spec.module = image.digest().to_string();
        self.admit_and_start(spec, &image)
    }

    pub(crate) fn admit_and_start(self: &Arc<Self>, mut spec: Spec, image: &Image) -> Result<Arc<Entry>> {
        spec.started = unix_now();
        spec.origin = self.identity()?.name;
        let memory = spec.limits.memory.unwrap_or(0);
        self.capacity.promise(spec.id, Need { memory, cpus: spec.limits.cpus }).map_err(|r| anyhow!(r.text))?;
        let started = self.start_admitted(&spec, image);
        if started.is_err() {
            self.capacity.release(spec.id);
            let _ = std::fs::remove_dir_all(self.dirs.task(spec.id));
        }
        started
    }

    fn start_admitted(self: &Arc<Self>, spec: &Spec, image: &Image) -> Result<Arc<Entry>> {
        let entry = Entry::new(spec.clone(), State::Running, 1);
        {
            // The name is taken before anything of it is there.
            let mut tasks = lock(&self.tasks);
            if tasks.get(&spec.name).is_some_and(|e| e.state().holds_name()) {
                bail!("a task named {} is already on this node: give another --name", spec.name);
            }
            tasks.insert(spec.name.clone(), entry.clone());
        }
        let begin = || -> Result<()> {
            self.publish(spec)?;
            let sockets = Sockets::new(&spec.publish)?;
            let task = self.beginning(spec, image, &sockets)?;
            self.db.put_task(spec, &Record::Owned { epoch: 1 })?;
            self.run(&entry, task, sockets)
        };
        begin().inspect_err(|_| {
            lock(&self.tasks).remove(&spec.name);
            self.unpublish(spec.id);
        })?;
        Ok(entry)
    }

    /// Lets clients connect to a task, which may be anywhere.
    pub(crate) fn publish(&self, spec: &Spec) -> Result<()> {
        if spec.publish.is_empty() || lock(&self.ingresses).contains_key(&spec.id) {
            return Ok(());
        }
        // Identities of streams must not come back after the agent was started anew.
        let first = u64::from_le_bytes(random()?) >> 16;
        let ingress =
            tokio::runtime::Handle::current().block_on(Ingress::open(&spec.publish, first, spec.limits.network))?;
        lock(&self.ingresses).insert(spec.id, ingress);
        Ok(())
    }

    /// Nobody connects to the task any more.
    pub(crate) fn unpublish(&self, id: TaskId) {
        if let Some(ingress) = lock(&self.ingresses).remove(&id) {
            ingress.close();
        }
    }

    /// Where the clients of a task are, if that is here.
    pub(crate) fn ingress(&self, id: TaskId) -> Option<Arc<Ingress>> {
        lock(&self.ingresses).get(&id).cloned()
    }

    /// The task as it is before its first instruction.
    pub(crate) fn beginning(&self, spec: &Spec, image: &Image, sockets: &Arc<Sockets>) -> Result<Task> {
        let program = std::path::Path::new(&spec.program);
        let file_name = program.file_name().unwrap_or_default().to_string_lossy();
        let mut builder = Ctx::builder().arg(file_name).args(spec.args.iter().cloned());
        for (name, value) in &spec.env {
            builder = builder.env(name, value);
        }
        for dir in &spec.dirs {
            builder = builder.dir(&dir.guest, dir.read_only);
        }
        for volume in &spec.volumes {
            let content =
                Volume::load_dir(volume.host.as_ref()).with_context(|| format!("--volume {}", volume.host))?;
            builder = builder.volume(&volume.guest, content, volume.read_only);
        }
        for port in &spec.publish {
            builder = builder.listener(listener(*port));
        }
        let mut task = Task::start(image, &spec.name, builder.build(), task::host(spec, &self.dirs, sockets)?)?;
        task.limit(limits(spec, &self.settings))?;
        task.set_epoch(1);
        Ok(task)
    }

    /// Gives a task its thread.
    pub(crate) fn run(self: &Arc<Self>, entry: &Arc<Entry>, mut task: Task, sockets: Arc<Sockets>) -> Result<()> {
        if let Some(most) = entry.spec.limits.open_files {
            task.limit_descriptors(most as usize);
        }
        let (agent, of) = (self.clone(), entry.clone());
        let ended = move |end: End, task: &mut Task| agent.ended(&of, end, task);
        // The thread may be at its end before this is done: it waits for the lock then.
        let mut live = lock(&entry.live);
        *lock(&entry.sockets) = Some(sockets.clone());
        *live = Some(Live::start(task, &entry.spec, &self.dirs, sockets, ended)?);
        drop(live);
        self.look_after(entry);
        Ok(())
    }

    /// Its clients, snapshots from time to time, and an end after the time that it has: for as long as it is here.
    pub(crate) fn look_after(self: &Arc<Self>, entry: &Arc<Entry>) {
        let sockets = lock(&entry.sockets).clone();
        if let Some(sockets) = sockets.filter(|_| !entry.spec.publish.is_empty()) {
            tokio::spawn(service::carry(self.clone(), entry.clone(), sockets));
        }
        let every = entry.spec.checkpoint_every;
        if every > 0 {
            let (agent, entry) = (self.clone(), Arc::downgrade(entry));
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(Duration::from_secs(every)).await;
                    let Some(entry) = entry.upgrade() else { return };
                    if !entry.state().is_alive() {
                        return;
                    }
                    agent.checkpoint(&entry).await;
                }
            });
        }
        if let Some(seconds) = entry.spec.limits.wall_time {
            let started = entry.spec.started;
            let (agent, entry) = (self.clone(), Arc::downgrade(entry));
            let gone = unix_now().saturating_sub(started);
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(seconds.saturating_sub(gone))).await;
                // One that is on its way is stopped here if it does not go, and else by the node that it comes to.
                while let Some(entry) = entry.upgrade().filter(|e| e.state().is_alive()) {
                    agent.stop(&entry, "its time was up").await;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            });
        }
    }

    async fn checkpoint(&self, entry: &Arc<Entry>) {
        // Not while it moves: its memory is being watched, and the other node will do it.
        let Ok(_moving) = entry.moving.try_lock() else { return };
        let Ok(live) = entry.live() else { return };
        if let Err(e) = live.save(&self.dirs.checkpoint(entry.spec.id), true).await
            && entry.state().is_alive()
        {
            tracing::warn!(task = %entry.spec.name, "no checkpoint: {e:#}");
        }
    }

    /// Writes a task that has come to the disk, and then to the journal that it would go on from there.
    ///
    /// # Errors
    /// When the disk does not take it; it counts as not saved then.
    pub(crate) async fn save(&self, entry: &Entry, keep_running: bool) -> Result<()> {
        entry.live()?.save(&self.dirs.checkpoint(entry.spec.id), keep_running).await?;
        if entry.unsaved.load(Ordering::SeqCst) {
            self.db.set_record(entry.spec.id, &Record::Owned { epoch: entry.epoch.load(Ordering::SeqCst) })?;
            entry.unsaved.store(false, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Has a task stand still; so many bytes of the end of its log are part of its state.
    ///
    /// # Errors
    /// When it ends first, or cannot be captured.
    pub(crate) async fn stand_still(&self, entry: &Entry, log: u64) -> Result<Still> {
        let len = std::fs::metadata(self.dirs.log(entry.spec.id)).map_or(0, |m| m.len());
        entry.live()?.freeze(len.saturating_sub(log)).await
    }

    /// [`Agent::save`], beside what else there is to do: of a task that has come without a node that could take it back.
    pub(crate) fn save_soon(self: &Arc<Self>, entry: &Arc<Entry>) {
        let (agent, entry) = (self.clone(), entry.clone());
        // Nothing else watches its memory meanwhile.
        let moving = entry.moving.clone().try_lock_owned();
        tokio::runtime::Handle::current().spawn(async move {
            let _moving = moving;
            if let Err(e) = agent.save(&entry, true).await
                && entry.state().is_alive()
            {
                tracing::warn!(task = %entry.spec.name, "cannot be saved here yet: {e:#}");
            }
        });
    }

    /// A task's thread is at its end.
    fn ended(&self, entry: &Arc<Entry>, end: End, task: &mut Task) {
        lock(&entry.live).take();
        let state = match end {
            // Whoever took it away says where it is.
            End::Left => return,
            End::Lost => return self.give_up(entry),
            End::Exited(status) => State::Exited { status },
            End::Trapped(why) => State::Trapped { why },
            End::Broken(why) => State::Failed { why },
            End::Stopped => match entry.state() {
                stopped @ State::Stopped { .. } => stopped,
                _ => State::Stopped { why: "told to".into() },
            },
        };
        for (guest, volume) in task.wasi().volumes() {
            let Some(n) = entry.spec.volumes.iter().position(|v| v.guest == guest) else { continue };
            // Only the node that it was read from knows the directory; a path from elsewhere is not to be written to.
            let here = self.identity().is_ok_and(|i| i.name == entry.spec.origin);
            let kept = self.dirs.task(entry.spec.id).join(format!("volume-{n}"));
            let to = if here { PathBuf::from(&entry.spec.volumes[n].host) } else { kept };
            if let Err(e) = std::fs::create_dir_all(&to)
                .map_err(|e| e.to_string())
                .and_then(|()| volume.store_dir(&to).map_err(|e| e.to_string()))
            {
                tracing::error!(task = %entry.spec.name, "the volume {guest} could not be stored in {}: {e}", to.display());
            }
        }
        self.finish(entry, state);
    }

    /// Writes down that a task is over.
    pub(crate) fn finish(&self, entry: &Arc<Entry>, state: State) {
        let record = Record::Ended { epoch: entry.epoch.load(Ordering::SeqCst) };
        let how = serde_json::to_string(&state).unwrap_or_default();
        if let Err(e) = self.db.set_ended(entry.spec.id, &how, &record) {
            tracing::error!(task = %entry.spec.name, "its end could not be written down: {e:#}");
        }
        let _ = std::fs::remove_file(self.dirs.checkpoint(entry.spec.id));
        self.capacity.release(entry.spec.id);
        entry.set_state(state);
        if let Some(sockets) = lock(&entry.sockets).take() {
            sockets.close_all();
        }
    }

    /// A task was written to a file and goes on from there, wherever that is.
    pub(crate) fn captured(&self, entry: &Arc<Entry>, file: &std::path::Path) {
        lock(&entry.live).take();
        self.finish(entry, State::Stopped { why: format!("captured to {}", file.display()) });
    }

    /// Stops a task. Gives whether it was there to be stopped.
    pub async fn stop(&self, entry: &Arc<Entry>, why: &str) -> bool {
        let Ok(live) = entry.live() else { return false };
        {
            let mut state = lock(&entry.state);
            if !matches!(*state, State::Running) {
                return false;
            }
            *state = State::Stopped { why: why.into() };
        }
        if let Err(e) = live.stop().await {
            tracing::warn!(task = %entry.spec.name, "cannot be stopped: {e:#}");
        }
        while lock(&entry.live).is_some() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        true
    }

    /// Forgets a task that is over.
    ///
    /// # Errors
    /// While it is not.
    pub fn remove(&self, name: &str) -> Result<()> {
        let entry = self.task(name)?;
        match entry.state() {
            State::Left { to, saved: false } => {
                bail!(
                    "{name} is kept here until it is on the disk of {to}: try again, or decide (`wayfare task resolve`)"
                )
            }
            state if state.is_alive() => bail!("{name} is running: stop it first (`wayfare stop {name}`)"),
            _ => {}
        }
        self.db.remove_task(entry.spec.id)?;
        lock(&self.tasks).remove(name);
        let _ = std::fs::remove_dir_all(self.dirs.task(entry.spec.id));
        Ok(())
    }

    /// Whether a task has been in this process's memory since that epoch.
    pub(crate) fn runs(&self, task: TaskId, epoch: u64) -> bool {
        lock(&self.tasks).values().any(|e| e.spec.id == task && e.epoch.load(Ordering::SeqCst) == epoch)
    }

    /// Takes in a task that has come from elsewhere; the journal has it already.
    pub(crate) fn adopt(&self, spec: Spec, epoch: u64) -> Arc<Entry> {
        let entry = Entry::new(spec, State::Running, epoch);
        entry.unsaved.store(true, Ordering::SeqCst);
        lock(&self.tasks).insert(entry.spec.name.clone(), entry.clone());
        entry
    }
}

/// What the engine is to hold a task to: its own limit, or all that there is for tasks.
pub(crate) fn limits(spec: &Spec, settings: &Settings) -> Limits {
    Limits { memory: spec.limits.memory.or(settings.memory), table_elements: None }
}

pub(crate) fn wanted(canonical_nan: bool) -> Result<Wanted> {
    Wanted::here(None, Options { canonical_nan }, Form::Resume, false)
}

/// Compiles a program, unless that was done before: it can be run here from now on, and sent to other nodes.
///
/// # Errors
/// When it is none, or cannot be captured.
pub fn keep_program(wasm: &[u8]) -> Result<()> {
    program::from_module(wasm, Digest::of(wasm), &wanted(false)?).map(|_| ())
}

/// The target of this machine, for showing.
pub(crate) fn target() -> String {
    Target::host().to_string()
}
