//! The controller's state, and the one who changes it. Everything that happens comes as a [`Command`], several at a time: what
//! they change is written down together, and only then answered, told, and done on nodes. So whoever hears of something will
//! hear of it after a crash as well, and a node is never told to start what is not on the disk.

use crate::store::{Marks, Store};
use crate::task::{Set, Task, hundredths};
use anyhow::Result;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{broadcast, mpsc, oneshot};
use wayfare_api::{Accepted, Event, NodeView, Problem, SetRequest, SetView, TaskState, TaskView, Wrong};
use wayfare_cluster::control::{Brief, NodeInfo, State};
use wayfare_sched::engine::Settings;
use wayfare_sched::{Action, Engine, History, Node, NodeId};
use wayfare_transfer::TaskId;

/// Commands that are looked at together.
const TOGETHER: usize = 4096;
/// A task that could not be started so often in a row cannot be.
const FAILURES: u32 = 5;
/// Between two attempts to start a task that could not be.
const AGAIN: Duration = Duration::from_millis(500);
/// What an embedded controller keeps for itself and its node's agent, of processors in hundredths and bytes.
const RESERVED: (u32, u64) = (0, 64 << 20);

/// An answer that is said when all is written down.
type Saying = Box<dyn FnOnce(&Core)>;
/// Where an answer goes.
pub(crate) type Answer<T> = oneshot::Sender<Result<T, Problem>>;

/// Something happens.
pub(crate) enum Command {
    Submit {
        owner: String,
        set: SetRequest,
        answer: Answer<Accepted>,
    },
    Cancel {
        name: String,
        answer: Answer<()>,
    },
    Remove {
        name: String,
        answer: Answer<()>,
    },
    Task {
        name: String,
        answer: Answer<TaskView>,
    },
    /// Its number, by which its log is kept.
    Number {
        name: String,
        answer: Answer<u64>,
    },
    Tasks {
        set: Option<String>,
        state: Option<TaskState>,
        answer: Answer<Vec<TaskView>>,
    },
    Set {
        name: String,
        answer: Answer<SetView>,
    },
    Sets {
        answer: Answer<Vec<SetView>>,
    },
    Nodes {
        answer: Answer<Vec<NodeView>>,
    },
    Cordon {
        node: String,
        cordoned: bool,
        answer: Answer<()>,
    },
    Label {
        node: String,
        add: Vec<String>,
        remove: Vec<String>,
        answer: Answer<()>,
    },
    /// Where tasks of a node could go that is drained: each with its name on the node, and a node with room.
    Drain {
        node: String,
        answer: Answer<Vec<(String, String)>>,
    },
    /// A node is there, with so much room.
    Joined {
        info: NodeInfo,
    },
    /// What it says of its tasks; `all` if that is all of them.
    Heard {
        node: String,
        tasks: Vec<Brief>,
        all: bool,
    },
    /// Nothing is heard of it any more.
    Lost {
        node: String,
    },
    /// What became of the word to start a task.
    Launched {
        id: TaskId,
        number: u64,
        result: Start,
    },
    /// The log of a task that has ended is here.
    Collected {
        id: TaskId,
    },
    /// Time passes.
    Tick,
}

/// What became of the word to start a task.
pub(crate) enum Start {
    Done,
    /// The node has not, and says why.
    Refused(String),
    /// The node does not answer: it may have.
    Unheard(String),
}

/// Something to do on a node.
pub(crate) enum Deed {
    Launch {
        node: String,
        number: u64,
        task: Box<wayfare_cluster::spec::Spec>,
    },
    Stop {
        node: String,
        name: String,
    },
    /// Its log is fetched, and it is forgotten there.
    Collect {
        node: String,
        id: TaskId,
        name: String,
        number: u64,
    },
    /// It goes on elsewhere, or has: it is stopped and forgotten there.
    Discard {
        node: String,
        name: String,
    },
}

struct Member {
    info: NodeInfo,
    id: NodeId,
    marks: Marks,
    is_there: bool,
    /// It did not answer when it was last told something.
    is_silent: bool,
    heard: Instant,
}

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
    nodes: BTreeMap<String, Member>,
    next: u64,
    next_node: u32,
    /// Tasks that the engine does not know: no node was there that could have them.
    unplaced: Vec<u64>,
    /// Tasks that ran on a node which has not been heard of since the controller began.
    awaited: HashMap<u64, String>,
    /// Tasks that are tried again then.
    later: Vec<(Instant, u64)>,
    /// Logs that are being fetched.
    collecting: HashSet<TaskId>,
    /// Tasks that a node does not speak of, once.
    missing: HashSet<TaskId>,
    deeds: Vec<Deed>,
    told: Vec<Event>,
    changed: HashSet<u64>,
    events: broadcast::Sender<Event>,
    doer: mpsc::UnboundedSender<Deed>,
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
        events: broadcast::Sender<Event>,
        doer: mpsc::UnboundedSender<Deed>,
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
            nodes: BTreeMap::new(),
            next: tasks.keys().next_back().map_or(1, |last| last + 1),
            next_node: 0,
            unplaced: Vec::new(),
            awaited: HashMap::new(),
            later: Vec::new(),
            collecting: HashSet::new(),
            missing: HashSet::new(),
            deeds: Vec::new(),
            told: Vec::new(),
            changed: HashSet::new(),
            tasks,
            store,
            events,
            doer,
        };
        for task in core.tasks.values().filter(|task| !task.state.is_over()) {
            match &task.node {
                Some(node) if task.state != TaskState::Waiting => _ = core.awaited.insert(task.number, node.clone()),
                _ => core.unplaced.push(task.number),
            }
        }
        Ok(core)
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
        self.store.commit()?;
        answers.into_iter().for_each(|answer| answer(self));
        self.told.drain(..).for_each(|event| _ = self.events.send(event));
        self.deeds.drain(..).for_each(|deed| _ = self.doer.send(deed));
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
            Command::Submit { owner, set, answer } => say(answer, self.submit(owner, set)?),
            Command::Cancel { name, answer } => say(answer, self.cancel(&name)),
            Command::Remove { name, answer } => say(answer, self.remove(&name)?),
            Command::Task { name, answer } => look(answer, move |core| Ok(core.view(core.find(&name)?))),
            Command::Number { name, answer } => look(answer, move |core| Ok(core.find(&name)?.number)),
            Command::Tasks { set, state, answer } => look(answer, move |core| core.list(set.as_deref(), state)),
            Command::Set { name, answer } => look(answer, move |core| core.set(&name)),
            Command::Sets { answer } => {
                look(answer, |core| core.sets.keys().map(|name| core.set(name)).collect::<Result<_, _>>())
            }
            Command::Nodes { answer } => {
                look(answer, |core| Ok(core.nodes.values().map(|node| core.node(node)).collect()))
            }
            Command::Cordon { node, cordoned, answer } => say(answer, self.cordon(&node, cordoned)?),
            Command::Label { node, add, remove, answer } => say(answer, self.label(&node, &add, &remove)?),
            Command::Drain { node, answer } => say(answer, self.drain(&node)?),
            Command::Joined { info } => {
                self.joined(info)?;
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
        task.view(self.sets.get(&task.set).map_or("", |set| &set.owner))
    }

    fn list(&self, set: Option<&str>, state: Option<TaskState>) -> Result<Vec<TaskView>, Problem> {
        if let Some(set) = set {
            self.set(set)?;
        }
        let wanted =
            |task: &&Task| set.is_none_or(|set| task.set == set) && state.is_none_or(|state| task.state == state);
        Ok(self.tasks.values().filter(wanted).map(|task| self.view(task)).collect())
    }

    fn set(&self, name: &str) -> Result<SetView, Problem> {
        let set = self.sets.get(name).ok_or_else(|| problem(404, format!("no set named {name} is known")))?;
        Ok(set.view(self.tasks.values().filter(|task| task.set == name)))
    }

    fn node(&self, member: &Member) -> NodeView {
        let name = &member.info.peer.name;
        let there = self.tasks.values().filter(|task| {
            matches!(task.state, TaskState::Starting | TaskState::Running) && task.node.as_ref() == Some(name)
        });
        let (mut tasks, mut cores, mut memory) = (0, 0.0, 0);
        for task in there {
            tasks += 1;
            cores += task.request.cores;
            memory += task.request.memory;
        }
        let room = member.info.room.unwrap_or_default();
        NodeView {
            name: name.clone(),
            isa: member.info.peer.instruction_set().into(),
            state: member.state().into(),
            cores: f64::from(room.0) / 100.0,
            memory: room.1,
            cores_taken: cores,
            memory_taken: memory,
            tasks,
            labels: member.marks.labels.clone(),
            heard: Some(member.heard.elapsed().as_millis() as u64),
        }
    }

    fn submit(&mut self, owner: String, set: SetRequest) -> Result<Result<Accepted, Problem>> {
        if let Err(errors) = set.check() {
            return Ok(Err(Problem { errors, ..problem(422, "the set cannot be taken, and nothing of it was") }));
        }
        let mut errors = Vec::new();
        if self.sets.contains_key(&set.name) {
            errors.push(Wrong::new("name", format!("there is a set named {} already", set.name)));
        }
        let submitted = clock();
        let mut new = Vec::new();
        for (i, request) in set.tasks.iter().enumerate() {
            let shared = Arc::new(request.clone());
            for name in request.names() {
                if self.by_name.contains_key(&name) {
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
                    why: "nothing has been decided yet".into(),
                    estimate: None,
                    submitted,
                    started: None,
                    ended: None,
                    status: None,
                    failures: 0,
                });
            }
            // One is as good as another.
            if let Some(why) = new.last().and_then(|task| self.never_fits(task)) {
                errors.push(Wrong::new(format!("tasks[{i}]"), why));
            }
        }
        if !errors.is_empty() {
            let status = if errors.iter().any(|wrong| wrong.message.starts_with("there is a")) { 409 } else { 422 };
            return Ok(Err(Problem { errors, ..problem(status, "the set cannot be taken, and nothing of it was") }));
        }
        let accepted = Accepted { set: set.name.clone(), tasks: new.len() as u64 };
        let set = Set { name: set.name, owner, objective: set.objective, submitted };
        self.store.put_set(&set)?;
        self.sets.insert(set.name.clone(), set);
        self.next += new.len() as u64;
        for task in new {
            self.unplaced.push(task.number);
            self.by_name.insert(task.name.clone(), task.number);
            self.changed.insert(task.number);
            self.tasks.insert(task.number, task);
        }
        Ok(Ok(accepted))
    }

    /// Why a task could run on none of the nodes that there are, even if nothing else did.
    fn never_fits(&self, task: &Task) -> Option<String> {
        let there: Vec<Node> = self.nodes.values().filter(|m| m.is_there).map(|m| m.as_node(&self.me)).collect();
        if there.is_empty() {
            return None;
        }
        let cluster = wayfare_sched::Cluster { nodes: there };
        cluster
            .refuses(&task.demand(self.history.estimate(&task.request.image, &task.class())))
            .map(|why| why.to_string())
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
            TaskState::Starting | TaskState::Running => {
                task.why = "cancelled".into();
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

    fn remove(&mut self, name: &str) -> Result<Result<(), Problem>> {
        let task = match self.find(name) {
            Ok(task) if task.state.is_over() => task.clone(),
            Ok(_) => return Ok(Err(problem(409, format!("{name} is not over: cancel it first")))),
            Err(e) => return Ok(Err(e)),
        };
        self.store.remove_task(task.number)?;
        self.tasks.remove(&task.number);
        self.by_name.remove(name);
        self.by_id.remove(&task.id);
        if !self.tasks.values().any(|other| other.set == task.set) {
            self.store.remove_set(&task.set)?;
            self.sets.remove(&task.set);
        }
        Ok(Ok(()))
    }

    fn member(&mut self, name: &str) -> Result<&mut Member, Problem> {
        self.nodes.get_mut(name).ok_or_else(|| problem(404, format!("no node named {name} is known")))
    }

    fn cordon(&mut self, name: &str, cordoned: bool) -> Result<Result<(), Problem>> {
        let now = self.now();
        let member = match self.member(name) {
            Ok(member) => member,
            Err(e) => return Ok(Err(e)),
        };
        member.marks.cordoned = cordoned;
        let (id, marks) = (member.id, member.marks.clone());
        self.store.put_marks(name, &marks)?;
        self.engine.handle_cordoned(now, id, cordoned);
        self.tell_node(name);
        Ok(Ok(()))
    }

    fn label(&mut self, name: &str, add: &[String], remove: &[String]) -> Result<Result<(), Problem>> {
        let member = match self.member(name) {
            Ok(member) => member,
            Err(e) => return Ok(Err(e)),
        };
        member.marks.labels.retain(|label| !remove.contains(label) && !add.contains(label));
        member.marks.labels.extend_from_slice(add);
        member.marks.labels.sort();
        let (marks, info) = (member.marks.clone(), member.info.clone());
        self.store.put_marks(name, &marks)?;
        // For the engine it is another node from now on, on which the same tasks run.
        self.joined(info)?;
        Ok(Ok(()))
    }

    fn drain(&mut self, name: &str) -> Result<Result<Vec<(String, String)>, Problem>> {
        if let Err(e) = self.cordon(name, true)? {
            return Ok(Err(e));
        }
        let mut free: HashMap<String, (u32, u64)> = HashMap::new();
        for member in self.nodes.values().filter(|m| m.is_there && !m.marks.cordoned) {
            let view = self.node(member);
            let cores = hundredths(view.cores).saturating_sub((view.cores_taken * 100.0).round() as u32);
            free.insert(view.name, (cores, view.memory.saturating_sub(view.memory_taken)));
        }
        let mut moves = Vec::new();
        for task in self.tasks.values().filter(|t| t.state == TaskState::Running && t.node.as_deref() == Some(name)) {
            let (cores, memory) = (hundredths(task.request.cores), task.request.memory);
            let demand = task.demand(wayfare_sched::Estimate::exact(1.0));
            let fits = free.iter_mut().filter(|(node, room)| {
                let node = self.nodes.get(*node).map(|member| member.as_node(&self.me));
                room.0 >= cores && room.1 >= memory && node.is_some_and(|node| node.lacks(&demand).is_none())
            });
            // Where most is left.
            if let Some((node, room)) = fits.max_by_key(|(_, room)| room.0) {
                *room = (room.0 - cores, room.1 - memory);
                moves.push((task.name.clone(), node.clone()));
            }
        }
        Ok(Ok(moves))
    }

    fn joined(&mut self, info: NodeInfo) -> Result<()> {
        let (name, now) = (info.peer.name.clone(), self.now());
        let marks = self.store.marks(&name)?;
        let id = self.nodes.get(&name).map(|member| member.id).unwrap_or_else(|| {
            self.next_node += 1;
            NodeId(self.next_node)
        });
        let member = Member { info, id, marks, is_there: true, is_silent: false, heard: Instant::now() };
        let node = member.as_node(&self.me);
        self.nodes.insert(name.clone(), member);
        self.engine.handle_joined(now, node);
        self.tell_node(&name);
        // What was said to run there does, until it says otherwise.
        let there: Vec<u64> = self
            .tasks
            .values()
            .filter(|task| {
                matches!(task.state, TaskState::Starting | TaskState::Running) && task.node.as_ref() == Some(&name)
            })
            .map(|task| task.number)
            .collect();
        for number in there {
            self.awaited.remove(&number);
            self.adopt(number, id)?;
        }
        Ok(())
    }

    /// The engine is told of a task that runs.
    fn adopt(&mut self, number: u64, node: NodeId) -> Result<()> {
        let now = self.now();
        let Some(task) = self.tasks.get(&number) else { return Ok(()) };
        let owner = self.sets.get(&task.set).map_or("", |set| &set.owner);
        let demand = task.demand(self.history.estimate(&task.request.image, &task.class()));
        self.engine.handle_cancelled(now, demand.id);
        self.engine.handle_ended(now, demand.id);
        if !self.engine.handle_running(now, owner, demand, node).unwrap_or(false) {
            tracing::warn!(task = %task.name, "runs where there is no room for it");
        }
        // Whether its node was told is not known; it starts a task once, however often it is told.
        if let (TaskState::Starting, Some(node)) = (task.state, &task.node) {
            self.deeds.push(Deed::Launch { node: node.clone(), number, task: Box::new(task.spec()) });
        }
        Ok(())
    }

    fn lost(&mut self, name: &str) -> Result<()> {
        let now = self.now();
        let Some(member) = self.nodes.get_mut(name).filter(|member| member.is_there) else { return Ok(()) };
        member.is_there = false;
        let id = member.id;
        tracing::warn!(node = %name, "is lost: what ran there is started elsewhere");
        self.engine.handle_lost(now, id);
        self.tell_node(name);
        let there: Vec<u64> = self
            .tasks
            .values()
            .filter(|task| {
                matches!(task.state, TaskState::Starting | TaskState::Running) && task.node.as_deref() == Some(name)
            })
            .map(|task| task.number)
            .collect();
        for number in there {
            self.start_over(number, &format!("{name} was lost"))?;
        }
        Ok(())
    }

    /// A task does not run any more where it did, and its engine knows: it waits again, under another identity. Whoever still has
    /// the old one is to stop it.
    fn start_over(&mut self, number: u64, why: &str) -> Result<()> {
        let Some(task) = self.tasks.get_mut(&number) else { return Ok(()) };
        self.store.put_replaced(task.id)?;
        self.by_id.remove(&task.id);
        self.awaited.remove(&number);
        if task.why == "cancelled" {
            (task.state, task.ended) = (TaskState::Cancelled, Some(clock()));
        } else {
            (task.state, task.started, task.why) = (TaskState::Waiting, None, why.into());
        }
        self.tell(number);
        Ok(())
    }

    fn launched(&mut self, id: TaskId, number: u64, result: Start) -> Result<()> {
        let (now, of) = (self.now(), wayfare_sched::TaskId(number));
        let Some(task) = self.tasks.get_mut(&number).filter(|task| task.id == id) else { return Ok(()) };
        let why = match result {
            Start::Done => {
                task.failures = 0;
                if task.state == TaskState::Starting {
                    (task.state, task.started) = (TaskState::Running, Some(clock()));
                    self.tell(number);
                }
                return Ok(());
            }
            // It has been heard that it runs, or has ended.
            _ if task.state != TaskState::Starting => return Ok(()),
            Start::Refused(why) => {
                task.failures += 1;
                why
            }
            Start::Unheard(why) => {
                // Nothing new is started there before it is heard again; if it is not, it is lost.
                if let Some(member) = task.node.as_ref().and_then(|node| self.nodes.get_mut(node)) {
                    member.is_silent = true;
                    let id = member.id;
                    self.engine.handle_cordoned(now, id, true);
                }
                why
            }
        };
        let why = format!("could not be started on {}: {why}", task.node.as_deref().unwrap_or("its node"));
        tracing::warn!(task = %task.name, "{why}");
        let gives_up = task.failures >= FAILURES;
        self.engine.handle_ended(now, of);
        if gives_up {
            return self.end(number, TaskState::Failed, None, &why);
        }
        // Not at once, and not before others: the engine hears of it later.
        self.start_over(number, &why)?;
        self.later.push((Instant::now() + AGAIN, number));
        Ok(())
    }

    fn heard(&mut self, node: &str, briefs: &[Brief], all: bool) -> Result<()> {
        let now = self.now();
        let Some(member) = self.nodes.get_mut(node).filter(|member| member.is_there) else { return Ok(()) };
        member.heard = Instant::now();
        if std::mem::take(&mut member.is_silent) {
            self.engine.handle_cordoned(now, member.id, member.marks.cordoned);
        }
        for brief in briefs {
            match self.by_id.get(&brief.id).copied() {
                Some(number) => self.heard_of(node, number, brief)?,
                None if matches!(brief.state, State::Left { .. }) => {}
                None if self.store.is_replaced(brief.id)? => {
                    self.deeds.push(Deed::Discard { node: node.into(), name: brief.name.clone() });
                }
                // Somebody else's.
                None => {}
            }
        }
        if all {
            let there: HashSet<TaskId> = briefs.iter().map(|brief| brief.id).collect();
            let gone = |task: &&Task| {
                task.state == TaskState::Running && task.node.as_deref() == Some(node) && !there.contains(&task.id)
            };
            let gone: Vec<(u64, TaskId)> =
                self.tasks.values().filter(gone).map(|task| (task.number, task.id)).collect();
            for (number, id) in gone {
                // It may be on its way from one node to another, and be seen at neither.
                if !self.missing.insert(id) {
                    self.missing.remove(&id);
                    let now = self.now();
                    self.engine.handle_failed(now, wayfare_sched::TaskId(number));
                    self.start_over(number, &format!("{node} does not have it any more"))?;
                }
            }
        }
        Ok(())
    }

    fn heard_of(&mut self, node: &str, number: u64, brief: &Brief) -> Result<()> {
        let now = self.now();
        let Some(task) = self.tasks.get_mut(&number) else { return Ok(()) };
        self.missing.remove(&brief.id);
        let of = wayfare_sched::TaskId(number);
        if brief.state.is_alive() {
            if task.state == TaskState::Starting {
                (task.state, task.started) = (TaskState::Running, Some(clock()));
                self.tell(number);
            } else if task.state == TaskState::Running
                && task.node.as_deref() != Some(node)
                && brief.state == State::Running
                && let Some(id) = self.nodes.get(node).map(|member| member.id)
            {
                task.why = format!("it was moved here from {}", task.node.as_deref().unwrap_or("another node"));
                task.node = Some(node.into());
                if !self.engine.handle_moved(now, of, id) {
                    tracing::warn!("a task has come to {node}, where there is no room for it");
                }
                self.tell(number);
            }
            return Ok(());
        }
        let (state, status, why) = match &brief.state {
            State::Exited { status: 0 } => (TaskState::Succeeded, Some(0), task.why.clone()),
            State::Exited { status } => (TaskState::Failed, Some(*status), format!("it ended with status {status}")),
            State::Stopped { .. } if task.why == "cancelled" => (TaskState::Cancelled, None, task.why.clone()),
            State::Stopped { why } => (TaskState::Failed, None, format!("it was stopped: {why}")),
            State::Trapped { why } => (TaskState::Failed, None, format!("it trapped: {why}")),
            State::Failed { why } => (TaskState::Failed, None, why.clone()),
            // It has moved on.
            _ => return Ok(()),
        };
        if !task.state.is_over() {
            if state == TaskState::Succeeded
                && let Some(started) = task.started
            {
                let seconds = clock().saturating_sub(started).max(1) as f64 / 1e3;
                let (image, class) = (task.request.image.clone(), task.class());
                self.history.handle_run(&image, &class, seconds, 1.0);
                self.store.put_run(&image, &class, seconds)?;
            }
            task.node = Some(node.into());
            self.engine.handle_ended(now, of);
            self.end(number, state, status, &why)?;
        }
        // Said again until it is forgotten there.
        if self.collecting.insert(brief.id) {
            self.deeds.push(Deed::Collect { node: node.into(), id: brief.id, name: brief.name.clone(), number });
        }
        Ok(())
    }

    fn end(&mut self, number: u64, state: TaskState, status: Option<u32>, why: &str) -> Result<()> {
        if let Some(task) = self.tasks.get_mut(&number) {
            (task.state, task.status, task.why, task.ended) = (state, status, why.into(), Some(clock()));
            self.awaited.remove(&number);
            self.tell(number);
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<()> {
        let now = Instant::now();
        let due = self.later.extract_if(.., |(at, _)| *at <= now).map(|(_, number)| number);
        self.unplaced.extend(due.collect::<Vec<_>>());
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
                let owner = self.sets.get(&task.set).map_or("", |set| &set.owner);
                let demand = task.demand(self.history.estimate(&task.request.image, &task.class()));
                if let Err(why) = self.engine.handle_arrived(now, owner, demand) {
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
                    self.deeds.push(Deed::Launch { node: name, number: of.0, task: Box::new(task.spec()) });
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
        if let Some(task) = self.tasks.get(&number) {
            self.told.push(Event::Task {
                at: clock(),
                name: task.name.clone(),
                set: task.set.clone(),
                state: task.state,
                node: task.node.clone(),
            });
        }
    }

    fn tell_node(&mut self, name: &str) {
        if let Some(member) = self.nodes.get(name) {
            self.told.push(Event::Node { at: clock(), name: name.into(), state: member.state().into() });
        }
    }
}

impl Member {
    fn state(&self) -> &'static str {
        match (self.is_there, self.marks.cordoned) {
            (false, _) => "lost",
            (true, true) => "cordoned",
            (true, false) => "ready",
        }
    }

    fn as_node(&self, controller: &str) -> Node {
        let (cores, memory) = self.info.room.unwrap_or_default();
        let is_initiator = self.info.peer.name == controller;
        let (reserved_cores, reserved_memory) = if is_initiator { RESERVED } else { (0, 0) };
        Node {
            cores,
            memory,
            gpu: self.marks.labels.iter().any(|label| label == "gpu"),
            labels: self.marks.labels.clone(),
            cordoned: self.marks.cordoned,
            is_initiator,
            reserved_cores,
            reserved_memory,
            ..Node::new(self.id.0, 1, 1)
        }
    }
}

/// Of an attempt to run a task: nobody else's, and the same when it is reckoned again.
fn identity(salt: &[u8; 16], number: u64, attempt: u32) -> TaskId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(salt).update(&number.to_le_bytes()).update(&attempt.to_le_bytes());
    let mut id = [0; 16];
    hasher.finalize_xof().fill(&mut id);
    TaskId(id)
}
