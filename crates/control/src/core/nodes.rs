//! What nodes say of themselves and of the tasks there, and what becomes of both: the part of the core that knows of nodes.

use super::{AGAIN, Core, Deed, Leaving, Start, Survey, clock, problem};
use crate::store::Marks;
use crate::task::{Task, hundredths};
use anyhow::Result;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};
use wayfare_api::{Event, NodeView, NodeWish, Problem, TaskState, Wrong};
use wayfare_cluster::control::{Brief, NodeInfo, State};
use wayfare_sched::{ImageId, Node, NodeId};
use wayfare_transfer::TaskId;

/// A task that could not be started so often in a row cannot be.
const FAILURES: u32 = 5;
/// Bytes that an embedded controller keeps for itself and its node's agent.
const RESERVED: u64 = 64 << 20;

pub(super) struct Member {
    pub(super) info: NodeInfo,
    pub(super) id: NodeId,
    pub(super) marks: Marks,
    pub(super) is_there: bool,
    /// It did not answer when it was last told something.
    pub(super) is_silent: bool,
    pub(super) heard: Instant,
    /// How long a question and its answer took last.
    pub(super) rtt: Option<Duration>,
    /// How fast it runs tasks, as it was measured.
    pub(super) speed: Option<f64>,
    /// Bytes per second between it and the controller, as far as has been seen.
    pub(super) bandwidth: Option<f64>,
    /// Programs that it has.
    pub(super) images: Vec<ImageId>,
}

impl Core {
    pub(super) fn node(&self, member: &Member) -> NodeView {
        let name = &member.info.peer.name;
        let (mut tasks, mut cores, mut memory) = (0, 0.0, 0);
        for task in self.on(name) {
            tasks += 1;
            cores += task.request.cores;
            memory += task.request.memory;
        }
        let room = member.room();
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
            address: member.info.peer.address.clone(),
            bare: member.info.peer.is_bare(),
            controller: *name == self.me,
            free: member.info.free,
            rtt: member.rtt.map(|rtt| rtt.as_secs_f64() * 1e3),
            speed: member.speed,
            bandwidth: member.bandwidth.filter(|_| *name != self.me).map(|bandwidth| bandwidth as u64),
        }
    }

    fn member(&mut self, name: &str) -> Result<&mut Member, Problem> {
        self.nodes.get_mut(name).ok_or_else(|| problem(404, format!("no node named {name} is known")))
    }

    pub(super) fn cordon(&mut self, name: &str, cordoned: bool) -> Result<Result<(), Problem>> {
        let now = self.now();
        let member = match self.member(name) {
            Ok(member) => member,
            Err(e) => return Ok(Err(e)),
        };
        member.marks.cordoned = cordoned;
        let (id, is_closed, marks) = (member.id, member.is_closed(), member.marks.clone());
        self.engine.handle_cordoned(now, id, is_closed);
        self.store.put_marks(name, &marks)?;
        self.tell_node(name);
        Ok(Ok(()))
    }

    pub(super) fn label(&mut self, name: &str, add: &[String], remove: &[String]) -> Result<Result<(), Problem>> {
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

    /// Keeps what nodes are to have that are not there yet.
    pub(super) fn expect(&mut self, nodes: Vec<NodeWish>) -> Result<Result<(), Problem>> {
        let is_known = |(i, node): (usize, &NodeWish)| {
            let message = || format!("there is a node named {} already", node.name);
            self.nodes.contains_key(&node.name).then(|| Wrong::new(format!("nodes[{i}].name"), message()))
        };
        let errors: Vec<Wrong> = nodes.iter().enumerate().filter_map(is_known).collect();
        if !errors.is_empty() {
            return Ok(Err(Problem { errors, ..problem(409, "nobody was invited: some of these nodes are there") }));
        }
        for NodeWish { name, labels } in nodes {
            let mut labels: Vec<String> = labels.into_iter().map(|label| label.0).collect();
            labels.sort();
            labels.dedup();
            self.store.put_marks(&name, &Marks { cordoned: false, labels })?;
        }
        Ok(Ok(()))
    }

    pub(super) fn drain(&mut self, name: &str) -> Result<Result<Vec<Leaving>, Problem>> {
        if let Err(e) = self.cordon(name, true)? {
            return Ok(Err(e));
        }
        let mut free: HashMap<String, (u32, u64)> = HashMap::new();
        for member in self.nodes.values().filter(|m| m.is_there && !m.marks.cordoned) {
            let view = self.node(member);
            let cores = hundredths(view.cores).saturating_sub((view.cores_taken * 100.0).round() as u32);
            free.insert(view.name, (cores, view.memory.saturating_sub(view.memory_taken)));
        }
        let (mut moves, mut going) = (Vec::new(), Vec::new());
        for task in self.on(name).filter(|task| task.state == TaskState::Running) {
            let (cores, memory) = (hundredths(task.request.cores), task.request.memory);
            let fits = free.iter_mut().filter(|(node, room)| {
                let member = self.nodes.get(*node);
                let may = member.is_some_and(|member| member.lacks_for_move(&self.me, task).is_none());
                may && room.0 >= cores && room.1 >= memory
            });
            // Where most is left.
            if let Some((node, room)) = fits.max_by_key(|(_, room)| room.0) {
                *room = (room.0 - cores, room.1 - memory);
                going.push((wayfare_sched::TaskId(task.number), self.nodes.get(node).map(|member| member.id)));
                moves.push(Leaving { name: task.name.clone(), to: node.clone(), guarded: task.standby.is_some() });
            }
        }
        let now = self.now();
        for (task, to) in going {
            // Nobody else is to have the room meanwhile.
            to.map(|to| self.engine.handle_moving(now, task, to));
        }
        Ok(Ok(moves))
    }

    pub(super) fn joined(&mut self, info: NodeInfo) -> Result<()> {
        let (name, now) = (info.peer.name.clone(), self.now());
        let _span = tracing::info_span!("node joined", wayfare.node = %name).entered();
        let marks = self.store.marks(&name)?;
        let id = self.nodes.get(&name).map(|member| member.id).unwrap_or_else(|| {
            self.next_node += 1;
            NodeId(self.next_node)
        });
        // What was measured of it is true until it is measured again.
        let before = self.nodes.remove(&name);
        let (speed, bandwidth) = before.map_or((None, None), |member| (member.speed, member.bandwidth));
        let member = Member {
            info,
            id,
            marks,
            is_there: true,
            is_silent: false,
            heard: Instant::now(),
            rtt: None,
            speed,
            bandwidth,
            images: Vec::new(),
        };
        let node = member.as_node(&self.me);
        self.nodes.insert(name.clone(), member);
        self.engine.handle_joined(now, node);
        self.tell_node(&name);
        // What was said to run there does, until it says otherwise.
        let there: Vec<u64> = self.on(&name).map(|task| task.number).collect();
        for number in there {
            self.awaited.remove(&number);
            self.adopt(number, id)?;
        }
        Ok(())
    }

    /// A node has been asked again what it has.
    pub(super) fn looked(&mut self, info: NodeInfo, rtt: Duration) -> Result<()> {
        let Some(member) = self.nodes.get_mut(&info.peer.name).filter(|member| member.is_there) else { return Ok(()) };
        member.rtt = Some(rtt);
        let (before, now) = (member.info.room, info.room);
        if before.map(|room| room.0) == now.map(|room| room.0) {
            // Memory that the machine has free changes all the time, by what tasks have, too: what it had at first counts.
            member.info = NodeInfo { room: before, ..info };
            return Ok(());
        }
        // Its agent has begun anew with other processors: for the engine it is another node.
        self.joined(info)
    }

    /// How fast a node is, which programs it has, and how fast bytes come from it, as far as it has said.
    pub(super) fn measured(&mut self, name: &str, survey: Survey) {
        let now = self.now();
        let Some(member) = self.nodes.get_mut(name).filter(|member| member.is_there) else { return };
        let Survey { speed, images, bandwidth } = survey;
        member.speed = speed.filter(|speed| speed.is_finite() && *speed > 0.0).or(member.speed);
        if let Some(images) = images {
            member.images = images.into_iter().map(ImageId).collect();
        }
        if let Some(bandwidth) = bandwidth.filter(|bandwidth| *bandwidth > 0.0) {
            member.saw(bandwidth);
        }
        let (id, speed, link, images) = (member.id, member.speed(), member.link(&self.me), member.images.clone());
        self.engine.handle_measured(now, id, speed, link, images);
        self.tell_node(name);
    }

    /// The engine is told of a task that runs.
    fn adopt(&mut self, number: u64, node: NodeId) -> Result<()> {
        let now = self.now();
        let Some(task) = self.tasks.get(&number) else { return Ok(()) };
        let (owner, demand) = (self.owner(task).to_string(), self.demand(task));
        let speed = task.node.as_ref().map_or(1.0, |node| self.speed_of(node));
        let done = if task.state == TaskState::Starting { 0.0 } else { task.work_done(speed, clock()) };
        self.engine.handle_cancelled(now, demand.id);
        self.engine.handle_ended(now, demand.id);
        if !self.engine.handle_running(now, &owner, demand, node, done) {
            tracing::warn!(task = %task.name, "runs where there is no room for it");
        }
        // Whether its node was told is not known; it starts a task once, however often it is told.
        if let (TaskState::Starting, Some(node)) = (task.state, &task.node) {
            let from = task.resumed.map(|from| self.album.kept(from.snapshot));
            self.deeds.push(Deed::Launch { node: node.clone(), number, task: Box::new(task.spec()), from });
        }
        Ok(())
    }

    pub(super) fn lost(&mut self, name: &str) -> Result<()> {
        let now = self.now();
        let Some(member) = self.nodes.get_mut(name).filter(|member| member.is_there) else { return Ok(()) };
        member.is_there = false;
        let id = member.id;
        let there: Vec<u64> = self.on(name).map(|task| task.number).collect();
        let _span = tracing::info_span!("node lost", wayfare.node = %name, wayfare.tasks = there.len()).entered();
        tracing::warn!(node = %name, "is lost: what ran there is started elsewhere");
        let waits: Vec<bool> = there.iter().map(|number| self.awaits_takeover(*number)).collect();
        self.engine.handle_lost(now, id);
        self.tell_node(name);
        for (number, _) in there.into_iter().zip(waits).filter(|(_, waits)| !waits) {
            self.start_over(number, &format!("{name} was lost"))?;
        }
        Ok(())
    }

    pub(super) fn launched(&mut self, id: TaskId, number: u64, result: Start) -> Result<()> {
        let (now, of) = (self.now(), wayfare_sched::TaskId(number));
        let Some(task) = self.tasks.get_mut(&number).filter(|task| task.id == id) else { return Ok(()) };
        let why = match result {
            Start::Done => {
                task.failures = 0;
                if task.state == TaskState::Starting {
                    task.begins(clock());
                    self.metrics.started(clock().saturating_sub(task.submitted));
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
                    self.engine.handle_cordoned(now, member.id, member.is_closed());
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

    pub(super) fn heard(&mut self, node: &str, briefs: &[Brief], all: bool) -> Result<()> {
        let now = self.now();
        let Some(member) = self.nodes.get_mut(node).filter(|member| member.is_there) else { return Ok(()) };
        member.heard = Instant::now();
        if std::mem::take(&mut member.is_silent) {
            self.engine.handle_cordoned(now, member.id, member.is_closed());
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
            let gone = |task: &&Task| task.state == TaskState::Running && !there.contains(&task.id);
            let gone: Vec<(u64, TaskId)> = self.on(node).filter(gone).map(|task| (task.number, task.id)).collect();
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
        if brief.epoch < task.epoch {
            // A copy that has been taken over, and does not know it yet.
            return Ok(());
        }
        task.epoch = brief.epoch;
        if brief.state.is_alive() {
            let is_here = task.node.as_deref() == Some(node);
            match (&brief.state, task.state) {
                (_, TaskState::Starting) => {
                    task.begins(clock());
                    self.metrics.started(clock().saturating_sub(task.submitted));
                    self.tell(number);
                }
                (State::Running, TaskState::Running | TaskState::Moving) if !is_here => {
                    let from = task.node.as_deref().unwrap_or("another node");
                    if task.standby.as_deref() == Some(node) {
                        // That is not lost, perhaps: somebody has asked for it, or only the way between the two is gone.
                        task.why = format!("its standby here took over from {from}");
                        // Which stands by in its turn when it is back.
                        task.standby = task.node.clone();
                    } else {
                        task.why = format!("it was moved here from {from}");
                    }
                    self.arrived(number, node);
                    self.tell(number);
                }
                (State::Running, TaskState::Moving) => {
                    let to = task.to.take().unwrap_or_else(|| "another node".into());
                    (task.state, task.why) = (TaskState::Running, format!("it stays here: it was not moved to {to}"));
                    self.engine.handle_stayed(now, of);
                    self.tell(number);
                }
                (State::Running, _) if self.takeovers.remove(&number).is_some() => {
                    // Its node was not lost, only silent.
                    task.why = format!("{node} was not heard of for a while");
                    self.arrived(number, node);
                    self.tell(number);
                }
                (State::Moving { to }, TaskState::Running) if is_here => {
                    (task.state, task.to) = (TaskState::Moving, Some(to.clone()));
                    task.why = format!("it is on its way to {to}");
                    self.tell(number);
                }
                _ => {}
            }
            return Ok(());
        }
        let (state, status, why) = match &brief.state {
            State::Exited { status: 0 } => (TaskState::Succeeded, Some(0), task.why.clone()),
            State::Exited { status } => (TaskState::Failed, Some(*status), format!("it ended with status {status}")),
            State::Stopped { .. } if task.cancelled => (TaskState::Cancelled, None, task.why.clone()),
            State::Stopped { why } => (TaskState::Failed, None, format!("it was stopped: {why}")),
            State::Trapped { why } => (TaskState::Failed, None, format!("it trapped: {why}")),
            State::Failed { why } => (TaskState::Failed, None, why.clone()),
            // It has moved on.
            _ => return Ok(()),
        };
        if !task.state.is_over() {
            if state == TaskState::Succeeded && task.since.is_some() {
                let speed = task.node.as_ref().and_then(|node| self.nodes.get(node)).map_or(1.0, Member::speed);
                let seconds = task.work_done(speed, clock()).max(1e-3);
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

    fn tell_node(&mut self, name: &str) {
        if let Some(member) = self.nodes.get(name) {
            self.told.push(Event::Node { at: clock(), node: self.node(member) });
        }
    }
}

impl Member {
    pub(super) fn state(&self) -> &'static str {
        match (self.is_there, self.marks.cordoned) {
            (false, _) => "lost",
            (true, true) => "cordoned",
            (true, false) => "ready",
        }
    }

    /// Nothing begins there: somebody wants it so, it does not answer, or it has no compiler (tasks come there by moves).
    pub(super) fn is_closed(&self) -> bool {
        self.marks.cordoned || self.is_silent || self.info.peer.is_bare()
    }

    /// Why a task that runs elsewhere could not go on there, whatever room there is: unlike a new one it needs no compiler.
    pub(super) fn lacks_for_move(&self, controller: &str, task: &Task) -> Option<wayfare_sched::Refusal> {
        let node = Node { cordoned: self.marks.cordoned, ..self.as_node(controller) };
        node.lacks(&task.demand(wayfare_sched::Estimate::exact(1.0)))
    }

    /// Hundredths of processors, and bytes of memory, that it has for tasks.
    pub(super) fn room(&self) -> (u32, u64) {
        let whole = || (self.info.processors.unwrap_or(1) * 100, self.info.free.unwrap_or(0));
        self.info.room.unwrap_or_else(whole)
    }

    pub(super) fn as_node(&self, controller: &str) -> Node {
        let (cores, memory) = self.room();
        let is_initiator = self.info.peer.name == controller;
        Node {
            cores,
            memory,
            gpu: self.marks.labels.iter().any(|label| label == "gpu"),
            labels: self.marks.labels.clone(),
            cordoned: self.is_closed(),
            is_initiator,
            reserved_memory: if is_initiator { RESERVED } else { 0 },
            speed: self.speed(),
            link: self.link(controller),
            images: self.images.clone(),
            ..Node::new(self.id.0, 1, 1)
        }
    }
}
