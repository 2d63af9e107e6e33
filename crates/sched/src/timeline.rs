//! One node's future when its tasks start in a fixed order, each as soon as there is room: what static plans are made of.

use crate::Nanos;
use crate::model::{Node, TaskSpec};
use crate::units;
use alloc::vec::Vec;

/// A node, from the start of the last task that was put on it.
#[derive(Clone, Debug)]
pub(crate) struct Timeline {
    clock: Nanos,
    cores: u32,
    memory: u64,
    /// End, cores, memory of what runs at `clock`, the soonest end last.
    running: Vec<(Nanos, u32, u64)>,
    /// When images that were sent will have come.
    images: Vec<(crate::model::ImageId, Nanos)>,
}

impl Timeline {
    /// With what runs there already.
    pub fn new(node: &Node) -> Self {
        let (cores, memory) = node.free();
        let mut running: Vec<_> = node.taken().map(|busy| (busy.end, busy.cores, busy.memory)).collect();
        running.sort_unstable_by_key(|r| core::cmp::Reverse(r.0));
        Self { clock: 0, cores, memory, running, images: Vec::new() }
    }

    /// When a task that fits on the empty node could start: not before the one that was put here last.
    pub fn earliest(&self, task: &TaskSpec) -> Nanos {
        let (mut cores, mut memory, mut at) = (self.cores, self.memory, self.clock);
        let mut ends = self.running.iter().rev();
        while cores < task.cores || memory < task.memory {
            let Some(&(end, c, m)) = ends.next() else { break };
            cores += c;
            memory += m;
            at = end;
        }
        at
    }

    /// How long, from then, until its image is here.
    pub fn fetch(&self, node: &Node, task: &TaskSpec, at: Nanos) -> Nanos {
        match self.images.iter().find(|i| i.0 == task.image) {
            Some(&(_, come)) => come.saturating_sub(at),
            None => node.fetch(task),
        }
    }

    /// Has its image sent from then on, unless it is here or on its way; how long until it is here.
    pub fn expect(&mut self, node: &Node, task: &TaskSpec, at: Nanos) -> Nanos {
        let fetch = self.fetch(node, task, at);
        if fetch > 0 && self.images.iter().all(|i| i.0 != task.image) {
            self.images.push((task.image, at.saturating_add(fetch)));
        }
        fetch
    }

    /// Puts a task here that takes so many seconds at speed 1; its start and end.
    pub fn push(&mut self, node: &Node, task: &TaskSpec, seconds: f64) -> (Nanos, Nanos) {
        let start = self.earliest(task);
        let fetch = self.expect(node, task, start);
        let end = units::end(start, fetch, node.run(seconds));
        while let Some(&(ended, cores, memory)) = self.running.last() {
            if ended > start {
                break;
            }
            self.cores += cores;
            self.memory += memory;
            self.running.pop();
        }
        self.clock = start;
        self.cores -= task.cores;
        self.memory -= task.memory;
        let at = self.running.partition_point(|r| r.0 > end);
        self.running.insert(at, (end, task.cores, task.memory));
        (start, end)
    }
}
