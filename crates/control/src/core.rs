//! The controller's state, and the one who changes it. Everything that happens comes as a [`Command`], several at a time: what
//! they change is written down together, and only then answered, told, and done on nodes. So whoever hears of something will
//! hear of it after a crash as well, and a node is never told to start what is not on the disk.

mod command;
mod guard;
mod moves;
mod nodes;
mod scene;
mod shares;
mod snapshots;

pub(crate) use command::{Answer, Command, Deed, Doing, Leaving, Start, Survey};
pub(crate) use moves::Candidate;
pub(crate) use shares::{Usage, Usages};
pub(crate) use snapshots::{Order, files};

use crate::hub::Hub;
use crate::metrics::Metrics;
use crate::store::Store;
use crate::task::{Set, Task};
use crate::trace::{self, Place};
use anyhow::Result;
use nodes::Member;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;
use wayfare_api::{Accepted, Event, Problem, SetRequest, SetView, TaskState, TaskView, Wrong};
use wayfare_sched::engine::Settings;
use wayfare_sched::{Action, Cluster, Engine, History, Objective, TaskSpec};
use wayfare_transfer::TaskId;

/// Commands that are looked at together.
const TOGETHER: usize = 4096;
/// Between two attempts to start a task that could not be.
const AGAIN: Duration = Duration::from_millis(500);

/// An answer that is said when all is written down.
type Saying = Box<dyn FnOnce(&Core)>;

/// See the module.
pub(crate) struct Core {
    me: String,
    salt: [u8; 16],
    store: Store,
    engine: Engine,
    history: History,
    began: Instant,
    sets: BTreeMap<String, Set>,
    tasks: BTreeMap<u64, Task>,
    by_name: HashMap<String, u64>,
    by_id: HashMap<TaskId, u64>,
    by_set: HashMap<String, BTreeSet<u64>>,
    /// What is starting or runs, by node; and by task, where that is.
    there: HashMap<String, BTreeSet<u64>>,
    is_there: HashMap<u64, String>,
    nodes: BTreeMap<String, Member>,
    next: u64,
    next_node: u32,
    /// Tasks that the engine does not know: no node was there that could have them.
    unplaced: Vec<u64>,
    /// Tasks that ran on a node which has not been heard of since the controller began.
    awaited: HashMap<u64, String>,
    /// Tasks that are tried again then.
    later: Vec<(Instant, u64)>,
    /// Tasks that are to have a standby; those that are being given one, or are tried again then; those that a standby is to go on
    /// with, until when.
    guarded: BTreeSet<u64>,
    guarding: HashMap<u64, Instant>,
    takeovers: HashMap<u64, Instant>,
    /// Tasks that run and of which snapshots are made by themselves.
    pictured: BTreeSet<u64>,
    album: snapshots::Album,
    balance: moves::Balance,
    /// Bytes of programs.
    sizes: HashMap<String, u64>,
    /// Logs that are being fetched.
    collecting: HashSet<TaskId>,
    /// Tasks that a node does not speak of, once.
    missing: HashSet<TaskId>,
    deeds: Vec<Deed>,
    told: Vec<Event>,
    changed: HashSet<u64>,
    hub: Hub,
    metrics: Arc<Metrics>,
    doer: mpsc::UnboundedSender<Doing>,
}

/// Milliseconds since 1970.
pub(crate) fn clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

fn problem(status: u16, title: impl Into<String>) -> Problem {
    Problem { status, title: title.into(), errors: Vec::new() }
}

impl Core {
    pub(crate) fn open(
        store: Store,
        me: String,
        hub: Hub,
        metrics: Arc<Metrics>,
        doer: mpsc::UnboundedSender<Doing>,
        stay: bool,
        snapshots: PathBuf,
    ) -> Result<Core> {
        let mut history = History::default();
        for (image, args, seconds) in store.runs()? {
            history.handle_run(&image, &args, seconds, 1.0);
        }
        let tasks: BTreeMap<u64, Task> = store.tasks()?.into_iter().map(|task| (task.number, task)).collect();
        let mut core = Core {
            me,
            salt: store.salt()?,
            engine: Engine::new(Settings::default()),
            history,
            began: Instant::now(),
            sets: store.sets()?.into_iter().map(|set| (set.name.clone(), set)).collect(),
            by_name: tasks.values().map(|task| (task.name.clone(), task.number)).collect(),
            by_id: tasks.values().filter(|task| task.attempt > 0).map(|task| (task.id, task.number)).collect(),
            by_set: HashMap::new(),
            there: HashMap::new(),
            is_there: HashMap::new(),
            nodes: BTreeMap::new(),
            next: store.next()?,
            next_node: 0,
            unplaced: Vec::new(),
            awaited: HashMap::new(),
            later: Vec::new(),
            guarded: BTreeSet::new(),
            guarding: HashMap::new(),
            takeovers: HashMap::new(),
            pictured: BTreeSet::new(),
            album: snapshots::Album::open(&store, snapshots)?,
            balance: moves::Balance::new(stay),
            sizes: HashMap::new(),
            collecting: HashSet::new(),
            missing: HashSet::new(),
            deeds: Vec::new(),
            told: Vec::new(),
            changed: HashSet::new(),
            tasks,
            store,
            hub,
            metrics,
            doer,
        };
        core.weigh()?;
        for task in core.tasks.values().filter(|task| !task.state.is_over()) {
            match &task.node {
                Some(node) if task.state != TaskState::Waiting => _ = core.awaited.insert(task.number, node.clone()),
                _ => core.unplaced.push(task.number),
            }
        }
        let numbers: Vec<u64> = core.tasks.keys().copied().collect();
        for number in numbers {
            if let Some(task) = core.tasks.get(&number) {
                core.sizes.entry(task.request.image.clone()).or_insert_with(|| size_of_program(&task.request.image));
                core.by_set.entry(task.set.clone()).or_default().insert(number);
            }
            core.index(number);
        }
        Ok(core)
    }

    /// Puts down where a task is, as it says itself.
    fn index(&mut self, number: u64) {
        let now = self.tasks.get(&number).filter(|task| task.is_on_node()).and_then(|task| task.node.clone());
        if self.is_there.get(&number) == now.as_ref() {
            return;
        }
        if let Some(there) = self.is_there.remove(&number).and_then(|before| self.there.get_mut(&before)) {
            there.remove(&number);
        }
        match self.tasks.get(&number).is_some_and(|task| task.request.standby) && now.is_some() {
            true => self.guarded.insert(number),
            false => self.guarded.remove(&number),
        };
        match self.tasks.get(&number).is_some_and(|task| task.request.snapshot_every.is_some()) && now.is_some() {
            true => self.pictured.insert(number),
            false => self.pictured.remove(&number),
        };
        if let Some(node) = now {
            self.there.entry(node.clone()).or_default().insert(number);
            self.is_there.insert(number, node);
        }
    }

    /// What is starting or runs on a node.
    fn on(&self, node: &str) -> impl Iterator<Item = &Task> {
        self.there.get(node).into_iter().flatten().filter_map(|number| self.tasks.get(number))
    }

    /// The tasks of a set.
    fn of(&self, set: &str) -> impl Iterator<Item = &Task> {
        self.by_set.get(set).into_iter().flatten().filter_map(|number| self.tasks.get(number))
    }

    /// Takes commands until nobody gives any.
    pub(crate) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut batch = Vec::new();
        while commands.recv_many(&mut batch, TOGETHER).await > 0 {
            if let Err(e) = tokio::task::block_in_place(|| self.take(std::mem::take(&mut batch))) {
                // What is on the disk counts: a controller that begins anew has that.
                tracing::error!("the controller cannot write down what happens, and ends: {e:#}");
                return;
            }
        }
    }

    fn take(&mut self, batch: Vec<Command>) -> Result<()> {
        self.store.begin()?;
        let mut answers: Vec<Saying> = Vec::new();
        for command in batch {
            if let Some(answer) = self.handle(command)? {
                answers.push(answer);
            }
        }
        self.place()?;
        for number in std::mem::take(&mut self.changed) {
            if let Some(task) = self.tasks.get(&number) {
                self.store.put_task(task)?;
            }
        }
        for event in &self.told {
            if let Event::Task { at, task } = event
                && let Some(number) = self.by_name.get(&task.name)
            {
                self.store.put_moment(*number, *at, task)?;
            }
        }
        self.store.commit()?;
        answers.into_iter().for_each(|answer| answer(self));
        self.album.sweep();
        self.hub.tell(self.told.drain(..));
        for deed in std::mem::take(&mut self.deeds) {
            let span = trace::of_deed(&deed, self.find(deed.name()).ok());
            let _ = self.doer.send((deed, span));
        }
        Ok(())
    }

    /// Nanoseconds, for the scheduler.
    fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    /// Gives what is to be said when all is written down.
    fn handle(&mut self, command: Command) -> Result<Option<Saying>> {
        fn say<T: 'static>(answer: Answer<T>, result: Result<T, Problem>) -> Option<Saying> {
            Some(Box::new(move |_| _ = answer.send(result)))
        }
        fn look<T: 'static>(
            answer: Answer<T>,
            look: impl FnOnce(&Core) -> Result<T, Problem> + 'static,
        ) -> Option<Saying> {
            Some(Box::new(move |core| _ = answer.send(look(core))))
        }
        Ok(match command {
            Command::Submit { owner, set, place, answer } => say(answer, self.submit(owner, set, &place)?),
            Command::Cancel { name, answer } => say(answer, self.cancel(&name)),
            Command::Remove { name, answer } => say(answer, self.remove(&name)?),
            Command::Task { name, answer } => look(answer, move |core| Ok(core.view(core.find(&name)?))),
            Command::Log { name, answer } => look(answer, move |core| {
                let task = core.find(&name)?;
                Ok((task.number, task.node.clone().filter(|_| task.state != TaskState::Waiting)))
            }),
            Command::Tasks { set, state, answer } => look(answer, move |core| core.list(set.as_deref(), state)),
            Command::Set { name, answer } => look(answer, move |core| core.set(&name)),
            Command::Sets { answer } => {
                look(answer, |core| core.sets.keys().map(|name| core.set(name)).collect::<Result<_, _>>())
            }
            Command::Nodes { answer } => {
                look(answer, |core| Ok(core.nodes.values().map(|node| core.node(node)).collect()))
            }
            Command::Node { name, answer } => look(answer, move |core| {
                let found = core.nodes.get(&name).map(|member| core.node(member));
                found.ok_or_else(|| problem(404, format!("no node named {name} is known")))
            }),
            Command::History { name, answer } => {
                let history = match self.find(&name) {
                    Ok(task) => Ok(self.store.history(task.number)?),
                    Err(e) => Err(e),
                };
                say(answer, history)
            }
            Command::MayMove { name, to, answer } => say(answer, self.may_move(&name, &to)),
            Command::Carried { name, moved } => {
                self.carried(&name, &moved)?;
                None
            }
            Command::Stayed { name } => {
                self.stayed(&name);
                None
            }
            Command::Weighed { candidate, sample } => {
                self.weighed(candidate, sample);
                None
            }
            Command::Destinations { name, sample, answer } => {
                look(answer, move |core| core.destinations(&name, sample.as_ref()))
            }
            Command::Snapshot { name, answer } => self.snapshot_by_hand(&name, answer),
            Command::SnapshotMade { order, made } => self.snapshot_made(*order, made)?,
            Command::Snapshots { name, answer } => look(answer, move |core| core.snapshots_of(&name)),
            Command::SnapshotFiles { id, answer } => look(answer, move |core| core.snapshot_files(id)),
            Command::RemoveSnapshot { id, answer } => say(answer, self.remove_snapshot(id)?),
            Command::Resume { owner, id, name, place, answer } => say(answer, self.resume_as(owner, id, name, &place)?),
            Command::Counts { answer } => look(answer, |core| {
                let mut counts: BTreeMap<TaskState, u64> = BTreeMap::new();
                core.tasks.values().for_each(|task| *counts.entry(task.state).or_default() += 1);
                Ok(TaskState::ALL.map(|state| (state, counts.get(&state).copied().unwrap_or(0))).to_vec())
            }),
            Command::PutToken { token, answer } => say(answer, self.put_token(&token)?),
            Command::EndToken { name, answer } => say(answer, self.end_token(&name)?),
            Command::PutShare { name, share, answer } => say(answer, self.put_share(&name, share)?),
            Command::Usages { answer } => say(answer, Ok(self.usages()?)),
            Command::PrepareRemoval { name, answer } => say(answer, self.prepare_removal(&name)?),
            Command::RemoveNode { name, answer } => say(answer, self.remove_node(&name)?),
            Command::Scene { set, answer } => look(answer, move |core| Ok(core.scene(&set))),
            Command::Cordon { node, cordoned, answer } => say(answer, self.cordon(&node, cordoned)?),
            Command::Label { node, add, remove, answer } => say(answer, self.label(&node, &add, &remove)?),
            Command::Expect { nodes, answer } => say(answer, self.expect(nodes)?),
            Command::Drain { node, answer } => say(answer, self.drain(&node)?),
            Command::Joined { info } => {
                self.joined(info)?;
                None
            }
            Command::Looked { info, rtt } => {
                self.looked(info, rtt)?;
                None
            }
            Command::Measured { node, survey } => {
                self.measured(&node, survey);
                None
            }
            Command::Heard { node, tasks, all } => {
                self.heard(&node, &tasks, all)?;
                None
            }
            Command::Lost { node } => {
                self.lost(&node)?;
                None
            }
            Command::Launched { id, number, result } => {
                self.launched(id, number, result)?;
                None
            }
            Command::Guarded { name, standby } => {
                self.guarded_by_hand(&name, standby);
                None
            }
            Command::Protected { id, number, standby, result } => {
                self.protected(id, number, standby, result);
                None
            }
            Command::Collected { id } => {
                self.collecting.remove(&id);
                None
            }
            Command::Tick => {
                self.tick()?;
                None
            }
        })
    }

    fn find(&self, name: &str) -> Result<&Task, Problem> {
        let found = self.by_name.get(name).and_then(|number| self.tasks.get(number));
        found.ok_or_else(|| problem(404, format!("no task named {name} is known")))
    }

    fn view(&self, task: &Task) -> TaskView {
        task.view(self.owner(task), &self.me)
    }

    fn list(&self, set: Option<&str>, state: Option<TaskState>) -> Result<Vec<TaskView>, Problem> {
        if let Some(set) = set {
            self.set(set)?;
        }
        let wanted = |task: &&Task| state.is_none_or(|state| task.state == state);
        Ok(match set {
            Some(set) => self.of(set).filter(wanted).map(|task| self.view(task)).collect(),
            None => self.tasks.values().filter(wanted).map(|task| self.view(task)).collect(),
        })
    }

    fn set(&self, name: &str) -> Result<SetView, Problem> {
        let set = self.sets.get(name).ok_or_else(|| problem(404, format!("no set named {name} is known")))?;
        Ok(set.view(self.of(name)))
    }

    fn submit(&mut self, owner: String, set: SetRequest, place: &Place) -> Result<Result<Accepted, Problem>> {
        if let Err(errors) = set.check() {
            return Ok(Err(Problem { errors, ..problem(422, "the set cannot be taken, and nothing of it was") }));
        }
        let (mut errors, mut taken) = (Vec::new(), false);
        if self.sets.contains_key(&set.name) {
            taken = true;
            errors.push(Wrong::new("name", format!("there is a set named {} already", set.name)));
        }
        let submitted = clock();
        let there = self.nodes.values().filter(|member| member.is_there);
        let cluster = Cluster { nodes: there.map(|member| member.as_node(&self.me)).collect() };
        let mut new = Vec::new();
        for (i, request) in set.tasks.iter().enumerate() {
            let shared = Arc::new(request.clone());
            for name in request.names() {
                if self.by_name.contains_key(&name) {
                    taken = true;
                    errors
                        .push(Wrong::new(format!("tasks[{i}].name"), format!("there is a task named {name} already")));
                }
                new.push(Task {
                    number: self.next + new.len() as u64,
                    name,
                    set: set.name.clone(),
                    request: shared.clone(),
                    state: TaskState::Waiting,
                    id: TaskId([0; 16]),
                    attempt: 0,
                    node: None,
                    to: None,
                    standby: None,
                    why: "it waits until a node has room".into(),
                    cancelled: false,
                    estimate: None,
                    submitted,
                    started: None,
                    ended: None,
                    status: None,
                    failures: 0,
                    epoch: 0,
                    place: place.clone(),
                    resumed: None,
                    done: 0.0,
                    since: None,
                });
            }
            // One is as good as another.
            if let Some(why) = new.last().and_then(|task| self.never_fits(&cluster, task)) {
                errors.push(Wrong::new(format!("tasks[{i}]"), why));
            }
        }
        if !errors.is_empty() {
            let status = if taken { 409 } else { 422 };
            return Ok(Err(Problem { errors, ..problem(status, "the set cannot be taken, and nothing of it was") }));
        }
        let accepted = Accepted { set: set.name.clone(), tasks: new.len() as u64 };
        let set = Set { name: set.name, owner, objective: set.objective, submitted };
        self.store.put_set(&set)?;
        self.sets.insert(set.name.clone(), set);
        self.next += new.len() as u64;
        for task in &new {
            self.sizes.entry(task.request.image.clone()).or_insert_with(|| size_of_program(&task.request.image));
        }
        for task in new {
            let number = task.number;
            self.unplaced.push(number);
            self.by_name.insert(task.name.clone(), number);
            self.by_set.entry(task.set.clone()).or_default().insert(number);
            self.tasks.insert(number, task);
            self.tell(number);
        }
        Ok(Ok(accepted))
    }

    /// Why a task could run on none of the nodes that there are, even if nothing else did.
    fn never_fits(&self, cluster: &Cluster, task: &Task) -> Option<String> {
        let refusal = cluster.refuses(&self.demand(task)).filter(|_| !cluster.nodes.is_empty());
        refusal.map(|why| why.to_string())
    }

    /// A task as the scheduler is told of it.
    fn demand(&self, task: &Task) -> TaskSpec {
        let objective = self.sets.get(&task.set).map(|set| match set.objective {
            wayfare_api::Objective::Makespan => Objective::Makespan,
            wayfare_api::Objective::MeanResponse => Objective::MeanResponse,
        });
        let transfer = self.sizes.get(&task.request.image).copied().unwrap_or(0);
        TaskSpec { objective, transfer, ..task.demand(crate::task::estimate(&self.history, &task.request)) }
    }

    fn owner(&self, task: &Task) -> &str {
        self.sets.get(&task.set).map_or("", |set| &set.owner)
    }

    fn cancel(&mut self, name: &str) -> Result<(), Problem> {
        let number = self.find(name)?.number;
        let now = self.now();
        let Some(task) = self.tasks.get_mut(&number) else { return Ok(()) };
        match task.state {
            TaskState::Waiting => {
                (task.state, task.ended, task.why) = (TaskState::Cancelled, Some(clock()), "cancelled".into());
                self.unplaced.retain(|other| *other != number);
                self.tell(number);
            }
            TaskState::Starting | TaskState::Running | TaskState::Moving => {
                (task.cancelled, task.why) = (true, "cancelled".into());
                self.changed.insert(number);
                // Before the node has been heard of the engine does not know it.
                if let (Some(node), true) = (&task.node, self.awaited.contains_key(&number)) {
                    self.deeds.push(Deed::Stop { node: node.clone(), name: name.into() });
                }
            }
            state => return Err(problem(409, format!("{name} is over: it has {}", state.name()))),
        }
        self.engine.handle_cancelled(now, wayfare_sched::TaskId(number));
        Ok(())
    }

    /// Forgets a task; gives its number.
    fn remove(&mut self, name: &str) -> Result<Result<u64, Problem>> {
        let task = match self.find(name) {
            Ok(task) if task.state.is_over() => task.clone(),
            Ok(_) => return Ok(Err(problem(409, format!("{name} is not over: cancel it first")))),
            Err(e) => return Ok(Err(e)),
        };
        self.store.remove_task(task.number)?;
        // Its node may have it still.
        self.store.put_replaced(task.id)?;
        self.tasks.remove(&task.number);
        self.forget_snapshots_of(task.number);
        self.told.push(Event::Removed { at: clock(), name: name.into(), set: task.set.clone() });
        self.by_name.remove(name);
        self.by_id.remove(&task.id);
        let others = self.by_set.entry(task.set.clone()).or_default();
        others.remove(&task.number);
        if others.is_empty() {
            self.by_set.remove(&task.set);
            self.store.remove_set(&task.set)?;
            self.sets.remove(&task.set);
        }
        Ok(Ok(task.number))
    }

    /// A task does not run any more where it did, and its engine knows: it waits again, under another identity. Whoever still has
    /// the old one is to stop it.
    fn start_over(&mut self, number: u64, why: &str) -> Result<()> {
        let from = self.resume_from_latest(number)?;
        let why = &from.map_or_else(|| why.to_string(), |from| format!("{why}: {from}"));
        let Some(task) = self.tasks.get_mut(&number) else { return Ok(()) };
        self.store.put_replaced(task.id)?;
        self.by_id.remove(&task.id);
        self.awaited.remove(&number);
        if task.cancelled {
            (task.state, task.ended) = (TaskState::Cancelled, Some(clock()));
        } else {
            (task.state, task.started, task.why) = (TaskState::Waiting, None, why.into());
        }
        (task.to, task.standby, task.epoch, task.since) = (None, None, 0, None);
        self.guarding.remove(&number);
        self.takeovers.remove(&number);
        self.tell(number);
        Ok(())
    }

    fn end(&mut self, number: u64, state: TaskState, status: Option<u32>, why: &str) -> Result<()> {
        if let Some(task) = self.tasks.get_mut(&number) {
            (task.state, task.status, task.why, task.ended) = (state, status, why.into(), Some(clock()));
            (task.to, task.standby) = (None, None);
            let ran = task.started.zip(task.ended).map(|(from, to)| to.saturating_sub(from));
            self.metrics.ended(state, ran.filter(|_| state == TaskState::Succeeded));
            self.awaited.remove(&number);
            self.takeovers.remove(&number);
            self.guarding.remove(&number);
            self.tell(number);
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<()> {
        let now = Instant::now();
        let due = self.later.extract_if(.., |(at, _)| *at <= now).map(|(_, number)| number);
        self.unplaced.extend(due.collect::<Vec<_>>());
        self.watch_over()?;
        self.make_snapshots();
        self.look_for_moves();
        if self.began.elapsed() > crate::LEASE * 2 && !self.awaited.is_empty() {
            for (number, node) in std::mem::take(&mut self.awaited) {
                self.start_over(number, &format!("{node} was not heard of when the controller began"))?;
                self.unplaced.push(number);
            }
        }
        Ok(())
    }

    /// Has tasks start that can.
    fn place(&mut self) -> Result<()> {
        let now = self.now();
        if self.nodes.values().any(|member| member.is_there) {
            for number in std::mem::take(&mut self.unplaced) {
                let Some(task) = self.tasks.get(&number).filter(|task| task.state == TaskState::Waiting) else {
                    continue;
                };
                let (owner, mut demand) = (self.owner(task).to_string(), self.demand(task));
                if let Some(from) = task.resumed {
                    demand.work.seconds = demand.work.left(from.done).max(1e-3);
                }
                if let Err(why) = self.engine.handle_arrived(now, &owner, demand) {
                    // Nodes may come on which it can.
                    self.later.push((Instant::now() + AGAIN, number));
                    let why = why.to_string();
                    if let Some(task) = self.tasks.get_mut(&number).filter(|task| task.why != why) {
                        task.why = why;
                        self.changed.insert(number);
                    }
                }
            }
        }
        while let Some(action) = self.engine.poll(now) {
            match action {
                Action::Start { task: of, node, end, reason } => {
                    let name = self.nodes.values().find(|m| m.id == node).map(|m| m.info.peer.name.clone());
                    let (Some(name), Some(task)) = (name, self.tasks.get_mut(&of.0)) else { continue };
                    task.attempt += 1;
                    task.id = identity(&self.salt, of.0, task.attempt);
                    (task.state, task.why) = (TaskState::Starting, reason.to_string());
                    (task.node, task.estimate) = (Some(name.clone()), Some(end.saturating_sub(now) as f64 / 1e9));
                    self.by_id.insert(task.id, of.0);
                    let from = task.resumed.map(|from| self.album.kept(from.snapshot));
                    self.deeds.push(Deed::Launch { node: name, number: of.0, task: Box::new(task.spec()), from });
                    self.tell(of.0);
                }
                Action::Stop { task: of, .. } => {
                    if let Some(Task { node: Some(node), name, .. }) = self.tasks.get(&of.0) {
                        self.deeds.push(Deed::Stop { node: node.clone(), name: name.clone() });
                    }
                }
            }
        }
        Ok(())
    }

    fn tell(&mut self, number: u64) {
        self.changed.insert(number);
        self.index(number);
        if let Some(task) = self.tasks.get(&number) {
            self.told.push(Event::Task { at: clock(), task: self.view(task) });
        }
    }
}

/// Bytes to send to a node that lacks a program; nothing for one that is not here.
fn size_of_program(digest: &str) -> u64 {
    let path = digest.parse().ok().and_then(|digest| wayfare_store::locations::module(digest).ok());
    path.and_then(|path| std::fs::metadata(path).ok()).map_or(0, |file| file.len())
}

/// Of an attempt to run a task: nobody else's, and the same when it is reckoned again.
fn identity(salt: &[u8; 16], number: u64, attempt: u32) -> TaskId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(salt).update(&number.to_le_bytes()).update(&attempt.to_le_bytes());
    let mut id = [0; 16];
    hasher.finalize_xof().fill(&mut id);
    TaskId(id)
}
