//! Tasks that run, and nodes that are other than was thought: moves, chances for moves that pay, and nodes that change.

use super::fleet::Class;
use super::{Engine, Running};
use crate::Nanos;
use crate::model::{Estimate, ImageId, Link, Node, NodeId, TaskId};
use crate::units::{seconds, within};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::cmp::Reverse;

/// Tasks of each node class that are looked at for a move: as many of those that will end last as of those that should have ended.
const LOOK: usize = 4;
/// Tasks of which it is reckoned what they have left, at most.
const CLOSELY: usize = 64;

/// How many times as fast a node must be: speeds are measured to some ten per cent.
const FASTER: f64 = 1.25;

/// A task that runs, and a node with room for it on which it would end sooner if the move cost nothing. What it costs is for
/// whoever knows the task and the link to say: see [`crate::migrate::weigh`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chance {
    /// The task.
    pub task: TaskId,
    /// Where it runs.
    pub from: NodeId,
    /// Where it could.
    pub to: NodeId,
    /// What it has left to do: seconds at speed 1.
    pub left: Estimate,
    /// The speed that it has.
    pub here: f64,
    /// The speed that it would have.
    pub there: f64,
}

impl Chance {
    /// Seconds by which it would end sooner.
    fn gain(&self) -> f64 {
        self.left.seconds / self.here - self.left.seconds / self.there
    }
}

impl Engine {
    /// A task that runs is about to go over to another node, and has cores and memory there from now on, besides those that it has.
    /// False, and nothing has changed, if it does not run, is on its way already, or the other node is not known or has no room.
    pub fn handle_moving(&mut self, now: Nanos, id: TaskId, to: NodeId) -> bool {
        self.now = self.now.max(now);
        let Some(to) = self.fleet.place(to) else { return false };
        let room = self.fleet.free(to);
        let Some(task) = self.tasks.get_mut(&id) else { return false };
        let Some(running) = task.running.as_mut().filter(|running| running.to.is_none() && running.node != to) else {
            return false;
        };
        if task.spec.cores > room.0 || task.spec.memory > room.1 {
            return false;
        }
        running.to = Some(to);
        self.fleet.take(to, &task.spec);
        self.coming.insert((to, id));
        true
    }

    /// A task that was about to go over has not.
    pub fn handle_stayed(&mut self, now: Nanos, id: TaskId) {
        self.now = self.now.max(now);
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if let Some(to) = task.running.as_mut().and_then(|running| running.to.take()) {
            self.coming.remove(&(to, id));
            self.fleet.give_back(to, &task.spec);
            self.freed.push_back(to);
        }
    }

    /// A task that ran has gone over to another node without being stopped, and has its cores and memory there. False, and
    /// nothing has changed, if it does not run, or the other node is not known or has no room: look there before the move, or
    /// say that it is about to happen ([`Engine::handle_moving`]).
    pub fn handle_moved(&mut self, now: Nanos, id: TaskId, to: NodeId) -> bool {
        self.now = self.now.max(now);
        let Some(to) = self.fleet.place(to) else { return false };
        let Some(task) = self.tasks.get(&id) else { return false };
        let Some(old) = task.running else { return false };
        let (cores, memory) = self.fleet.free(to);
        let has_room = old.to == Some(to) || (task.spec.cores <= cores && task.spec.memory <= memory);
        if old.node == to || !has_room {
            return false;
        }
        let done = self.done(&old);
        self.halt(id);
        self.freed.push_back(old.node);
        self.run_there(id, to, 0, done);
        true
    }

    /// What of a task that runs is done, in seconds at speed 1.
    fn done(&self, running: &Running) -> f64 {
        let here = self.fleet.members[running.node as usize].node.speed();
        running.done + seconds(self.now.saturating_sub(running.begins)) * here
    }

    /// Those that are on their way to a node stay where they are: it is gone.
    pub(super) fn turn_back(&mut self, n: u32) {
        while let Some(&(_, id)) = self.coming.range((n, TaskId(0))..=(n, TaskId(u64::MAX))).next() {
            self.coming.remove(&(n, id));
            if let Some(task) = self.tasks.get_mut(&id)
                && let Some(running) = &mut task.running
            {
                running.to = None;
                self.fleet.give_back(n, &task.spec);
            }
        }
    }

    /// A node is as fast as that, the way there is like that, and it has these images: what runs there goes on. False if it is not
    /// there.
    pub fn handle_measured(&mut self, now: Nanos, id: NodeId, speed: f64, link: Link, images: Vec<ImageId>) -> bool {
        self.now = self.now.max(now);
        let Some(n) = self.fleet.place(id).filter(|n| self.fleet.members[*n as usize].up) else { return false };
        self.holders.extend(images.iter().map(|image| (*image, n)));
        let node = &mut self.fleet.members[n as usize].node;
        // What was sent there meanwhile is there, whether it was told or not.
        (node.link, node.images) = (link, images);
        let speed = within(speed, 1e-6, 1e6);
        if self.fleet.members[n as usize].node.speed() == speed {
            return true;
        }
        let all = |set: &BTreeSet<(u32, TaskId)>| -> Vec<TaskId> {
            set.range((n, TaskId(0))..=(n, TaskId(u64::MAX))).map(|there| there.1).collect()
        };
        let (here, coming) = (all(&self.there), all(&self.coming));
        let done: Vec<(TaskId, Option<u32>, f64)> = (here.into_iter())
            .filter_map(|id| self.tasks.get(&id)?.running.map(|running| (id, running.to, self.done(&running))))
            .collect();
        for (id, ..) in &done {
            self.halt(*id);
        }
        let node = Node { speed, ..self.fleet.members[n as usize].node.clone() };
        self.fleet.join(node);
        self.fleet.keep(n, self.kept.is_some_and(|kept| kept.0 == n));
        self.changed();
        self.freed.push_back(n);
        for id in coming {
            if let Some(task) = self.tasks.get(&id) {
                self.fleet.take(n, &task.spec);
            }
        }
        for (id, to, done) in done {
            self.run_there(id, n, 0, done);
            if let Some(to) = to.map(|to| self.fleet.members[to as usize].node.id) {
                self.handle_moving(now, id, to);
            }
        }
        true
    }

    /// Tasks that run, and nodes on which they would end sooner, those that would gain most first: at most so many, each task and each
    /// node once. To be asked when nothing is left to be started: room for what waits is not to be given away. Costs O(classes log n),
    /// and next to nothing where all nodes are equally fast.
    pub fn chances(&self, most: usize) -> Vec<Chance> {
        let speed = |class: usize| self.fleet.classes[class].sample.speed();
        let has_room = |class: &usize| self.fleet.classes[*class].find_free((1, 0)).is_some();
        let mut open: Vec<usize> = (0..self.fleet.classes.len()).filter(has_room).collect();
        open.sort_by(|a, b| speed(*b).total_cmp(&speed(*a)));
        let Some(&fastest) = open.first() else { return Vec::new() };
        // How far from its end each is thought to be, one way or the other, tells which are worth a closer look.
        let slow = (0..self.fleet.classes.len()).filter(|d| speed(*d) * FASTER < speed(fastest));
        let mut looked: Vec<(Nanos, TaskId)> = slow.flat_map(|d| self.candidates(d as u32)).collect();
        looked.sort_unstable_by_key(|(left, task)| (Reverse(*left), *task));
        looked.dedup_by_key(|(_, task)| *task);
        looked.truncate(CLOSELY);
        let mut nodes = BTreeSet::new();
        let chance = |(_, task): (Nanos, TaskId)| self.chance(task, &open, &mut nodes);
        let mut found: Vec<Chance> = looked.into_iter().filter_map(chance).collect();
        found.sort_by(|a, b| b.gain().total_cmp(&a.gain()).then(a.task.cmp(&b.task)));
        found.truncate(most);
        found
    }

    /// Of a class, those that will end last, and those that should have ended and may have much left: with the time to or from then.
    fn candidates(&self, class: u32) -> impl Iterator<Item = (Nanos, TaskId)> {
        let all = || self.ending.range((class, 0, TaskId(0))..=(class, Nanos::MAX, TaskId(u64::MAX)));
        let late = all().take(LOOK).filter(|ending| ending.1 <= self.now);
        all().rev().take(LOOK).chain(late).map(|ending| (ending.1.abs_diff(self.now), ending.2))
    }

    /// The fastest node that has room for a task, of those that are faster enough and that no other is to have.
    fn chance(&self, id: TaskId, open: &[usize], nodes: &mut BTreeSet<NodeId>) -> Option<Chance> {
        let task = self.tasks.get(&id).filter(|task| !task.cancelled)?;
        let running = task.running.filter(|running| running.to.is_none())?;
        let from = &self.fleet.members[running.node as usize].node;
        let left = Estimate { seconds: task.spec.work.left(self.done(&running)), ..task.spec.work };
        let classes = open.iter().map(|class| &self.fleet.classes[*class]);
        let faster = classes.take_while(|class| from.speed() * FASTER < class.sample.speed());
        let fits = |class: &Class| {
            let n = class.find_free((task.spec.cores, task.spec.memory))?;
            let node = &self.fleet.members[n as usize].node;
            (class.sample.lacks(&task.spec).is_none() && !nodes.contains(&node.id)).then_some(node)
        };
        let to = faster.filter(|_| left.seconds > 0.0).find_map(fits)?;
        nodes.insert(to.id);
        Some(Chance { task: id, from: from.id, to: to.id, left, here: from.speed(), there: to.speed() })
    }
}
