//! The scheduler as things happen: tasks come and go, nodes too, and what is to start is asked for.
//!
//! `handle_*` say what has happened, with the time; [`Engine::poll`] gives one thing to do at a time, until there is none. A time
//! before one that was told earlier counts as that one. What `poll` says is to be started counts as started; when it does not
//! come to be, [`Engine::handle_failed`] says so. Events and polls cost O(log n) in tasks and nodes, times the number of node classes, and of
//! kinds of demands that wait, of which no more than 64 are looked at.
//!
//! ```text
//! handle_arrived --> waiting --poll: Start--> running --handle_ended--> gone
//!                      ^  \--handle_cancelled--> gone    | \--handle_cancelled, poll: Stop, handle_ended--> gone
//!                      +-----handle_lost, handle_failed--+
//! ```
//! A lost node's tasks wait again, with what is left to do since the last state of theirs that is kept elsewhere
//! ([`Engine::handle_synced`]).

mod fleet;
mod moves;
mod queue;

pub use moves::Chance;

use crate::Nanos;
use crate::list::{key, liquid};
use crate::model::{ImageId, Node, NodeId, Refusal, TaskId, TaskSpec};
use crate::plan::{Objective, Reason};
use crate::units::{self, nanos, seconds, within};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use core::cmp::Reverse;
use fleet::Fleet;
use queue::{Queue, Rank};

/// How an engine works.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// What is to be small.
    pub objective: Objective,
    /// For makespan, how much more a task of many cores counts than a narrow one of the same length: tasks come by
    /// length times cores to this power. See [`crate::tune::width`].
    pub wide: f64,
    /// Tasks that may wait; more are refused.
    pub queue: usize,
    /// A task that is overtaken by one of the same owner that came so much later gets a node kept for it.
    pub patience: Nanos,
}

impl Default for Settings {
    fn default() -> Self {
        Self { objective: Objective::Makespan, wide: 0.5, queue: 1_000_000, patience: 300 * units::SECOND }
    }
}

/// Something to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Action {
    /// Start a task there, now.
    Start {
        /// The task.
        task: TaskId,
        /// The node.
        node: NodeId,
        /// When it will end, by its estimate.
        end: Nanos,
        /// Why there.
        reason: Reason,
    },
    /// Stop a task that was cancelled; it ends by [`Engine::handle_ended`].
    Stop {
        /// The task.
        task: TaskId,
        /// Where it runs.
        node: NodeId,
    },
}

#[derive(Clone, Copy, Debug)]
struct Running {
    node: u32,
    /// Since when it has cores there.
    start: Nanos,
    /// When its image is there.
    begins: Nanos,
    /// By the estimate.
    end: Nanos,
    /// Seconds at speed 1 that were done before it ran here.
    done: f64,
    /// The node that it is on its way to, and has cores and memory of.
    to: Option<u32>,
    /// Core speed, and that times the expected end in seconds.
    load: (f64, f64),
}

#[derive(Debug)]
struct Task {
    spec: TaskSpec,
    owner: u32,
    shape: u32,
    rank: Rank,
    arrived: Nanos,
    running: Option<Running>,
    /// Seconds at speed 1 that need not be done again.
    synced: f64,
    /// Runs, and is to be stopped.
    cancelled: bool,
}

/// Of the target for the makespan, as part of a mean run: more than in a plan, since nothing is taken back.
pub(crate) const SLACK: f64 = 0.3;

/// A scheduler that is told what happens.
#[derive(Debug)]
pub struct Engine {
    settings: Settings,
    now: Nanos,
    fleet: Fleet,
    queue: Queue,
    tasks: BTreeMap<TaskId, Task>,
    /// By node: what runs there.
    there: BTreeSet<(u32, TaskId)>,
    /// By node: what is on its way there.
    coming: BTreeSet<(u32, TaskId)>,
    /// By node class: when what runs there ends, by the estimates.
    ending: BTreeSet<(u32, Nanos, TaskId)>,
    /// A node that is kept for a task.
    kept: Option<(u32, TaskId)>,
    /// When images that were sent will have come.
    images: BTreeMap<(u32, ImageId), Nanos>,
    /// Nodes that have an image, or will soon.
    holders: BTreeSet<(ImageId, u32)>,
    /// Nodes that have room since they were last looked at.
    freed: VecDeque<u32>,
    /// Shapes that have new tasks since a node was last looked for.
    fresh: BTreeSet<u32>,
    stops: VecDeque<(TaskId, NodeId)>,
    /// Counts changes of what nodes there are.
    topology: u64,
    arrivals: u64,
    /// Core seconds at speed 1 that wait.
    area: f64,
    load: (f64, f64),
}

impl Engine {
    /// Without nodes and tasks.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            now: 0,
            fleet: Fleet::default(),
            queue: Queue::default(),
            tasks: BTreeMap::new(),
            there: BTreeSet::new(),
            coming: BTreeSet::new(),
            ending: BTreeSet::new(),
            kept: None,
            images: BTreeMap::new(),
            holders: BTreeSet::new(),
            freed: VecDeque::new(),
            fresh: BTreeSet::new(),
            stops: VecDeque::new(),
            topology: 0,
            arrivals: 0,
            area: 0.0,
            load: (0.0, 0.0),
        }
    }

    /// An owner's part of the cluster against that of others; 1 unless said.
    pub fn set_weight(&mut self, owner: &str, weight: f64) {
        let owner = self.queue.owner(owner);
        self.queue.set_weight(owner, within(weight, 1e-3, 1e3));
    }

    /// Core seconds at speed 1 that an owner's tasks have had since this engine was made: what runs counts as if it had run for as long
    /// as it is thought to, until it ends.
    pub fn charged(&self, owner: &str) -> f64 {
        self.queue.had(owner)
    }

    /// A task of this owner (a token's name). Refused at once if it can run on no node that there is, if too many wait, or if
    /// there is one of this name.
    pub fn handle_arrived(&mut self, now: Nanos, owner: &str, spec: TaskSpec) -> Result<(), Refusal> {
        self.now = self.now.max(now);
        if self.tasks.contains_key(&spec.id) {
            return Err(Refusal::Known);
        }
        if self.queue.waiting >= self.settings.queue {
            return Err(Refusal::QueueFull { waiting: self.queue.waiting });
        }
        let shape = self.queue.shape(&spec, self.settings.wide);
        if let Some(why) = self.queue.refuses(shape, &self.fleet, self.topology) {
            return Err(why);
        }
        let id = spec.id;
        self.know(owner, shape, spec);
        self.wait(id);
        Ok(())
    }

    /// A task is known from now on, and neither waits nor runs yet.
    fn know(&mut self, owner: &str, shape: u32, spec: TaskSpec) {
        let owner = self.queue.owner(owner);
        self.arrivals += 1;
        let objective = spec.objective.unwrap_or(self.settings.objective);
        let rank = (Reverse(spec.priority), key(&spec, objective, self.settings.wide), self.arrivals);
        let id = spec.id;
        let task = Task { spec, owner, shape, rank, arrived: self.now, running: None, synced: 0.0, cancelled: false };
        self.tasks.insert(id, task);
    }

    /// A task runs on a node already, where somebody else has started it: before this engine was there, or against its will; so much
    /// of it is done, in seconds at speed 1. `false`, and nothing has changed, if the engine knows the task, or the node is not known,
    /// or has no room for it.
    pub fn handle_running(&mut self, now: Nanos, owner: &str, spec: TaskSpec, node: NodeId, done: f64) -> bool {
        self.now = self.now.max(now);
        let (id, done) = (spec.id, within(done, 0.0, 1e9));
        let Some(n) = self.fleet.place(node) else { return false };
        let room = self.fleet.free(n);
        if self.tasks.contains_key(&id) || spec.cores > room.0 || spec.memory > room.1 {
            return false;
        }
        let shape = self.queue.shape(&spec, self.settings.wide);
        self.know(owner, shape, spec);
        self.run_there(id, n, 0, done);
        true
    }

    /// A task has ended, well or not.
    pub fn handle_ended(&mut self, now: Nanos, id: TaskId) {
        self.now = self.now.max(now);
        if let Some(running) = self.halt(id) {
            self.freed.push_back(running.node);
            self.tasks.remove(&id);
        }
    }

    /// A task that was to start, or ran, does not, and is to be tried again.
    pub fn handle_failed(&mut self, now: Nanos, id: TaskId) {
        self.now = self.now.max(now);
        if let Some(running) = self.halt(id) {
            self.freed.push_back(running.node);
            self.wait_or_drop(id);
        }
    }

    /// Nobody wants this task any more. One that waits is gone; one that runs is stopped.
    pub fn handle_cancelled(&mut self, now: Nanos, id: TaskId) {
        self.now = self.now.max(now);
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if task.cancelled {
            return;
        }
        if let Some(running) = task.running {
            task.cancelled = true;
            self.stops.push_back((id, self.fleet.members[running.node as usize].node.id));
        } else {
            self.unwait(id);
            self.tasks.remove(&id);
        }
    }

    /// A state of the task is kept elsewhere that has so many seconds of its work (at speed 1) in it.
    pub fn handle_synced(&mut self, id: TaskId, done: f64) {
        if let Some(task) = self.tasks.get_mut(&id).filter(|t| t.running.is_some()) {
            task.synced = within(done, task.synced, 1e9);
        }
    }

    /// A node is there: a new one, or one that was lost; or one of that name that is other than it was.
    pub fn handle_joined(&mut self, now: Nanos, node: Node) {
        self.now = self.now.max(now);
        if let Some(n) = self.fleet.place(node.id) {
            self.drop_tasks(n);
            // It may be slower than it was, so that what waited for it need not.
            self.changed();
        }
        let images = node.images.clone();
        let n = self.fleet.join(node);
        self.holders.extend(images.into_iter().map(|image| (image, n)));
        self.topology += 1;
        self.freed.push_back(n);
    }

    /// A node is gone, and with it what ran there.
    pub fn handle_lost(&mut self, now: Nanos, id: NodeId) {
        self.now = self.now.max(now);
        if let Some(n) = self.fleet.place(id) {
            self.fleet.part(n);
            self.changed();
            self.drop_tasks(n);
        }
    }

    /// A node gets nothing new from now on, or does again. What runs there goes on.
    pub fn handle_cordoned(&mut self, now: Nanos, id: NodeId, cordoned: bool) {
        self.now = self.now.max(now);
        if let Some(n) = self.fleet.place(id) {
            self.fleet.cordon(n, cordoned);
            if let Some((n, _)) = self.kept.take_if(|k| k.0 == n) {
                self.fleet.keep(n, false);
            }
            self.changed();
            self.freed.push_back(n);
        }
    }

    /// The next thing to do, if there is one.
    pub fn poll(&mut self, now: Nanos) -> Option<Action> {
        self.now = self.now.max(now);
        if let Some((task, node)) = self.stops.pop_front() {
            return Some(Action::Stop { task, node });
        }
        self.keep_one();
        while let Some(&n) = self.freed.front() {
            if let Some(action) = self.start_on(n) {
                return Some(action);
            }
            self.freed.pop_front();
        }
        while let Some(&shape) = self.fresh.first() {
            if let Some(action) = self.start_shape(shape) {
                return Some(action);
            }
            self.fresh.remove(&shape);
        }
        None
    }

    /// How many wait, and how many run.
    pub fn counts(&self) -> (usize, usize) {
        (self.queue.waiting, self.there.len())
    }

    /// Where a task runs; none while it waits, or is not known.
    pub fn node_of(&self, id: TaskId) -> Option<NodeId> {
        let running = self.tasks.get(&id)?.running?;
        Some(self.fleet.members[running.node as usize].node.id)
    }

    /// Why a task that waits could not run even if nothing else did: nodes have left since it came.
    pub fn stranded(&mut self, id: TaskId) -> Option<Refusal> {
        let task = self.tasks.get(&id).filter(|t| t.running.is_none())?;
        self.queue.refuses(task.shape, &self.fleet, self.topology)
    }

    /// Other nodes than before may be the fastest that a task can have.
    fn changed(&mut self) {
        self.topology += 1;
        self.fresh.extend(0..self.queue.shapes.len() as u32);
    }

    fn wait(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get(&id) else { return };
        self.queue.push(task.owner, task.shape, task.rank, id, task.arrived);
        self.fresh.insert(task.shape);
        self.area += left(task) * f64::from(task.spec.cores) / 100.0;
    }

    /// After it was taken off its node: nobody misses one that was cancelled.
    fn wait_or_drop(&mut self, id: TaskId) {
        if self.tasks.get(&id).is_some_and(|t| t.cancelled) {
            self.stops.retain(|s| s.0 != id);
            self.tasks.remove(&id);
        } else {
            self.wait(id);
        }
    }

    fn unwait(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get(&id) else { return };
        self.queue.remove(task.owner, task.shape, task.rank, task.arrived);
        self.area -= left(task) * f64::from(task.spec.cores) / 100.0;
        if let Some((n, _)) = self.kept.take_if(|k| k.1 == id) {
            self.fleet.keep(n, false);
            self.freed.push_back(n);
        }
    }

    /// Takes a task off its node.
    fn halt(&mut self, id: TaskId) -> Option<Running> {
        let task = self.tasks.get_mut(&id)?;
        let running = task.running.take()?;
        self.there.remove(&(running.node, id));
        self.ending.remove(&(self.fleet.members[running.node as usize].class, running.end, id));
        if let Some(to) = running.to {
            self.coming.remove(&(to, id));
            self.fleet.give_back(to, &task.spec);
            self.freed.push_back(to);
        }
        self.load = (self.load.0 - running.load.0, self.load.1 - running.load.1);
        // It was charged for what it was thought to take.
        let over = seconds(self.now.saturating_sub(running.start)) - seconds(running.end - running.start);
        let speed = self.fleet.members[running.node as usize].node.speed();
        self.queue.charge(task.owner, over * speed * f64::from(task.spec.cores) / 100.0);
        self.fleet.give_back(running.node, &task.spec);
        Some(running)
    }

    fn drop_tasks(&mut self, n: u32) {
        self.turn_back(n);
        while let Some(&(_, id)) = self.there.range((n, TaskId(0))..=(n, TaskId(u64::MAX))).next() {
            self.halt(id);
            self.wait_or_drop(id);
        }
        while let Some((&image, _)) = self.images.range((n, ImageId(0))..=(n, ImageId(u64::MAX))).next() {
            self.images.remove(&image);
            self.holders.remove(&(image.1, n));
        }
        for image in &self.fleet.members[n as usize].node.images {
            self.holders.remove(&(*image, n));
        }
        if let Some((n, _)) = self.kept.take_if(|k| k.0 == n) {
            self.fleet.keep(n, false);
        }
    }

    /// The longest task, in nanoseconds at speed 1, that had better begin here, now: it would end within the target, or not later
    /// than if it waited for a faster node to have ended what it runs.
    fn in_time(&self, n: u32) -> Option<f64> {
        let running = (self.load.1 - seconds(self.now) * self.load.0).max(0.0);
        let mean = self.area / self.queue.waiting.max(1) as f64;
        let left = liquid(self.area + running, mean, self.fleet.power, self.fleet.cores, SLACK);
        let speed = self.fleet.members[n as usize].node.speed();
        let waiting = |(c, class): (usize, &fleet::Class)| {
            let faster = class.sample.speed();
            let all = (c as u32, 0, TaskId(0))..=(c as u32, Nanos::MAX, TaskId(u64::MAX));
            let first = self.ending.range(all).next().filter(|_| faster > speed)?;
            // Length / speed = wait + length / faster.
            Some(seconds(first.1.saturating_sub(self.now)) / (1.0 / speed - 1.0 / faster))
        };
        let worth = self.fleet.classes.iter().enumerate().filter_map(waiting).reduce(f64::min).unwrap_or(0.0);
        // Tasks of which that is not asked are told apart by their keys.
        Some(nanos(f64::max(left * speed, worth)) as f64)
    }

    /// Starts a task there, or on a node that offers the same and has the task's image.
    fn start_on(&mut self, n: u32) -> Option<Action> {
        let id = self.choose(n)?;
        Some(self.start(self.with_image(n, id).unwrap_or(n), id))
    }

    /// The task that a node should have.
    fn choose(&mut self, n: u32) -> Option<TaskId> {
        if self.fleet.open(n).0 == 0 {
            return None;
        }
        match self.kept {
            Some((node, id)) if node == n => {
                let spec = &self.tasks.get(&id)?.spec;
                let (cores, memory) = self.fleet.open(n);
                (spec.cores <= cores && spec.memory <= memory).then_some(id)
            }
            _ => self.queue.choose(&self.fleet, n, self.in_time(n), self.topology),
        }
    }

    /// A node that offers the same as this one, and has the task's image, where this one has not.
    fn with_image(&self, n: u32, id: TaskId) -> Option<u32> {
        /// Nodes that are looked at.
        const LOOK: usize = 16;
        let spec = &self.tasks.get(&id)?.spec;
        let member = &self.fleet.members[n as usize];
        if member.node.fetch(spec) == 0 || self.holders.contains(&(spec.image, n)) {
            return None;
        }
        let is_kept = |n: u32| self.kept.is_some_and(|kept| kept.0 == n);
        let holders = self.holders.range((spec.image, 0)..=(spec.image, u32::MAX)).map(|holder| holder.1);
        holders.take(LOOK).find(|&other| {
            let room = self.fleet.open(other);
            let fits = spec.cores <= room.0 && spec.memory <= room.1 && !is_kept(other);
            fits && self.fleet.members[other as usize].class == member.class
        })
    }

    /// On the fastest node that has room for this shape, or on one that would do it in time.
    fn start_shape(&mut self, shape: u32) -> Option<Action> {
        let sample = &self.queue.shapes[shape as usize].sample;
        let room = (sample.cores, sample.memory);
        let mut speed = f64::MAX;
        loop {
            let mut next: Option<(f64, u32)> = None;
            for c in 0..self.fleet.classes.len() as u32 {
                let class = &self.fleet.classes[c as usize];
                let s = class.sample.speed();
                if s < speed && next.is_none_or(|n| s > n.0) && self.queue.able(shape, c, &self.fleet) {
                    let found = self.fleet.classes[c as usize].find_free(room);
                    next = found.map(|n| (s, n)).or(next);
                }
            }
            let (s, n) = next?;
            if let Some(action) = self.start_on(n) {
                return Some(action);
            }
            speed = s;
        }
    }

    fn start(&mut self, n: u32, id: TaskId) -> Action {
        self.unwait(id);
        let reason = self.reason(self.tasks.get(&id).and_then(|task| task.spec.objective));
        let member = &self.fleet.members[n as usize];
        let node = member.node.id;
        // Every id in the queue is one of a task.
        let Some(task) = self.tasks.get_mut(&id) else { return Action::Stop { task: id, node } };
        let fetch = match task.spec.transfer {
            0 => 0,
            _ => {
                let now = self.now;
                self.holders.insert((task.spec.image, n));
                let come = self.images.entry((n, task.spec.image));
                come.or_insert_with(|| now.saturating_add(member.node.fetch(&task.spec))).saturating_sub(now)
            }
        };
        let (owner, arrived, done) = (task.owner, task.arrived, task.synced);
        self.queue.started(owner, arrived);
        let end = self.run_there(id, n, fetch, done);
        Action::Start { task: id, node, end, reason }
    }

    /// Puts a task that does not wait on a node, where it begins after a while, with so much done. Gives when it will end.
    fn run_there(&mut self, id: TaskId, n: u32, fetch: Nanos, done: f64) -> Nanos {
        let now = self.now;
        let Some(task) = self.tasks.get_mut(&id) else { return now };
        let member = &self.fleet.members[n as usize];
        let end = units::end(now, fetch, member.node.run(task.spec.work.left(done).max(1e-3)));
        let rate = member.node.speed() * f64::from(task.spec.cores) / 100.0;
        let load = (rate, rate * seconds(end));
        self.load = (self.load.0 + load.0, self.load.1 + load.1);
        let begins = now.saturating_add(fetch).min(end);
        task.running = Some(Running { node: n, start: now, begins, end, done, to: None, load });
        self.queue.charge(task.owner, seconds(end - now) * rate);
        self.ending.insert((member.class, end, id));
        self.fleet.take(n, &task.spec);
        self.there.insert((n, id));
        end
    }

    fn reason(&self, objective: Option<Objective>) -> Reason {
        let waiting = self.queue.waiting as u32;
        match objective.unwrap_or(self.settings.objective) {
            _ if self.queue.contended() => Reason::Share { waiting },
            Objective::Makespan => Reason::Longest { waiting },
            Objective::MeanResponse => Reason::Smallest { waiting },
        }
    }

    /// Others that always come first, or always fit where a large task does not, could keep a task waiting for ever: keeps a
    /// node for one that was overtaken.
    fn keep_one(&mut self) {
        if self.kept.is_some() {
            return;
        }
        let mut found = None;
        for (id, shape) in self.queue.overtaken(self.settings.patience) {
            let sample = &self.queue.shapes[shape as usize].sample;
            let room = (sample.cores, sample.memory);
            // Those that are stranded find none.
            found = (self.fleet.classes.iter())
                .filter(|class| class.sample.lacks(sample).is_none())
                .find_map(|class| class.find_free(room).or_else(|| class.find_usable(room)))
                .map(|n| (n, id));
            if found.is_some() {
                break;
            }
        }
        if let Some((n, _)) = found {
            self.kept = found;
            self.fleet.keep(n, true);
            self.freed.push_back(n);
        }
    }
}

/// Seconds at speed 1 that are left to do.
fn left(task: &Task) -> f64 {
    task.spec.work.left(task.synced).max(1e-3)
}
