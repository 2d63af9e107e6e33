//! What waits: by owner, and for each owner by what is asked for.
//!
//! The owner that has had least of the cluster, for its weight, comes first (start-time fair queueing: Goyal, Vin, Cheng
//! 1996); priorities order the tasks of one owner, so that nobody gets ahead of others by them. Within a priority tasks are in
//! the order of the list.

use super::fleet::Fleet;
use crate::Nanos;
use crate::list::scale;
use crate::model::{Refusal, TaskId, TaskSpec};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cmp::Reverse;

/// Shapes of one owner that are looked at for one decision; those that come first in the list.
const LOOK: usize = 64;

/// Keys from here on are of tasks for the makespan (longest first), those below of tasks for the mean response: either are
/// nanoseconds, and nothing runs for 292 years. See [`crate::list::key`].
const MAKESPAN: u64 = 1 << 63;

/// Where a task stands among those of its owner and shape: priority, key, arrival.
pub(super) type Rank = (Reverse<i32>, u64, u64);

/// What a shape's tasks have in common, and where they can run.
#[derive(Debug)]
pub(super) struct Shape {
    pub sample: TaskSpec,
    /// What lengths are multiplied by in the keys.
    scale: f64,
    /// By class, as far as it has been asked for.
    able: Vec<bool>,
    /// Speed of the fastest node that will do, and of which topology that is true.
    fastest: (f64, u64),
}

#[derive(Debug)]
struct Owner {
    weight: f64,
    /// Core seconds at speed 1 that it has had, over its weight, as a whole number of millionths.
    used: u64,
    /// Those core seconds themselves; `used` may be more, of one who came back.
    had: f64,
    /// The first of each shape, in order, with the shape.
    heads: BTreeSet<(Rank, u32)>,
    rows: BTreeMap<u32, BTreeMap<Rank, TaskId>>,
    /// When each came, with its shape.
    oldest: BTreeSet<(Nanos, TaskId, u32)>,
    /// When the youngest of those that have been started came.
    youngest: Nanos,
}

type Demand = (u32, u64, bool, bool, Vec<String>);

#[derive(Debug, Default)]
pub(super) struct Queue {
    pub shapes: Vec<Shape>,
    demands: BTreeMap<Demand, u32>,
    owners: Vec<Owner>,
    names: BTreeMap<String, u32>,
    /// Owners that have something waiting, those that have had least first.
    turn: BTreeSet<(u64, u32)>,
    pub waiting: usize,
}

impl Queue {
    pub fn owner(&mut self, name: &str) -> u32 {
        if let Some(&owner) = self.names.get(name) {
            return owner;
        }
        let owner = self.owners.len() as u32;
        self.owners.push(Owner {
            weight: 1.0,
            used: 0,
            had: 0.0,
            heads: BTreeSet::new(),
            rows: BTreeMap::new(),
            oldest: BTreeSet::new(),
            youngest: 0,
        });
        self.names.insert(name.to_string(), owner);
        owner
    }

    pub fn set_weight(&mut self, owner: u32, weight: f64) {
        self.owners[owner as usize].weight = weight;
    }

    /// Core seconds at speed 1 that an owner has had; none of one that is not known.
    pub fn had(&self, name: &str) -> f64 {
        self.names.get(name).map_or(0.0, |&owner| self.owners[owner as usize].had)
    }

    pub fn shape(&mut self, task: &TaskSpec, wide: f64) -> u32 {
        let demand = (task.cores, task.memory, task.gpu, task.local_only, task.labels.clone());
        *self.demands.entry(demand).or_insert_with(|| {
            self.shapes.push(Shape {
                sample: task.clone(),
                scale: scale(task.cores, wide),
                able: Vec::new(),
                fastest: (0.0, u64::MAX),
            });
            self.shapes.len() as u32 - 1
        })
    }

    pub fn able(&mut self, shape: u32, class: u32, fleet: &Fleet) -> bool {
        let shape = &mut self.shapes[shape as usize];
        for class in &fleet.classes[shape.able.len()..] {
            shape.able.push(class.sample.lacks(&shape.sample).is_none());
        }
        shape.able[class as usize]
    }

    /// Speed of the fastest node that would do; 0 where none does.
    pub fn fastest(&mut self, shape: u32, fleet: &Fleet, topology: u64) -> f64 {
        let (speed, of) = self.shapes[shape as usize].fastest;
        if of == topology {
            return speed;
        }
        let room = (self.shapes[shape as usize].sample.cores, self.shapes[shape as usize].sample.memory);
        let mut speed = 0.0;
        for (c, class) in fleet.classes.iter().enumerate() {
            if self.able(shape, c as u32, fleet) && class.find_usable(room).is_some() {
                speed = f64::max(speed, class.sample.speed());
            }
        }
        self.shapes[shape as usize].fastest = (speed, topology);
        speed
    }

    /// Why nothing of that shape can run anywhere, even when nothing else does.
    pub fn refuses(&mut self, shape: u32, fleet: &Fleet, topology: u64) -> Option<Refusal> {
        if self.fastest(shape, fleet, topology) > 0.0 {
            return None;
        }
        let task = &self.shapes[shape as usize].sample;
        let up = fleet.members.iter().filter(|m| m.up);
        Some(up.filter_map(|m| m.node.refuses(task)).max().unwrap_or(Refusal::NoNodes))
    }

    pub fn push(&mut self, owner: u32, shape: u32, rank: Rank, task: TaskId, arrived: Nanos) {
        self.waiting += 1;
        let least = self.turn.first().map_or(0, |t| t.0);
        let o = &mut self.owners[owner as usize];
        if o.heads.is_empty() {
            // Who comes back does not catch up on the time in which it wanted nothing.
            o.used = o.used.max(least);
            self.turn.insert((o.used, owner));
        }
        o.oldest.insert((arrived, task, shape));
        let row = o.rows.entry(shape).or_default();
        let old = row.first_key_value().map(|f| *f.0);
        row.insert(rank, task);
        if old.is_none_or(|old| rank < old) {
            if let Some(old) = old {
                o.heads.remove(&(old, shape));
            }
            o.heads.insert((rank, shape));
        }
    }

    pub fn remove(&mut self, owner: u32, shape: u32, rank: Rank, arrived: Nanos) {
        let o = &mut self.owners[owner as usize];
        let Some(row) = o.rows.get_mut(&shape) else { return };
        let Some(task) = row.remove(&rank) else { return };
        o.oldest.remove(&(arrived, task, shape));
        self.waiting -= 1;
        if o.heads.remove(&(rank, shape)) {
            match row.first_key_value() {
                Some((&next, _)) => _ = o.heads.insert((next, shape)),
                None => _ = o.rows.remove(&shape),
            }
        }
        if o.heads.is_empty() {
            self.turn.remove(&(o.used, owner));
        }
    }

    /// One that came then has been started.
    pub fn started(&mut self, owner: u32, arrived: Nanos) {
        let o = &mut self.owners[owner as usize];
        o.youngest = o.youngest.max(arrived);
    }

    /// Tasks, with their shapes, that others of the same owner have overtaken which came so much later; of the owners that
    /// have had least.
    pub fn overtaken(&self, patience: Nanos) -> impl Iterator<Item = (TaskId, u32)> {
        self.turn.iter().take(8).flat_map(move |&(_, owner)| {
            let o = &self.owners[owner as usize];
            let late = move |t: &&(Nanos, TaskId, u32)| t.0.saturating_add(patience) <= o.youngest;
            o.oldest.iter().take(8).take_while(late).map(|t| (t.1, t.2))
        })
    }

    /// An owner has had that many core seconds more, or fewer than was thought.
    pub fn charge(&mut self, owner: u32, seconds: f64) {
        let o = &mut self.owners[owner as usize];
        let waits = self.turn.remove(&(o.used, owner));
        o.had = (o.had + seconds).max(0.0);
        let millionths = (seconds.abs() / o.weight * 1e6) as u64;
        o.used = if seconds < 0.0 { o.used.saturating_sub(millionths) } else { o.used.saturating_add(millionths) };
        if waits {
            self.turn.insert((o.used, owner));
        }
    }

    /// Several owners wait.
    pub fn contended(&self) -> bool {
        self.turn.len() > 1
    }

    /// The task that a node should have: of the owner that comes first of those that have one that fits. `most` is the length,
    /// in nanoseconds at speed 1, over which a task had better wait for a faster node, if there is one.
    pub fn choose(&mut self, fleet: &Fleet, n: u32, most: Option<f64>, topology: u64) -> Option<TaskId> {
        let (cores, memory) = fleet.open(n);
        let member = &fleet.members[n as usize];
        let (class, speed) = (member.class, member.node.speed());
        for turn in 0..self.turn.len().min(LOOK) {
            let (_, owner) = *self.turn.iter().nth(turn)?;
            let mut best: Option<(Rank, TaskId)> = None;
            for look in 0..LOOK {
                let Some(&(head, shape)) = self.owners[owner as usize].heads.iter().nth(look) else { break };
                if best.is_some_and(|b| b.0 <= head) {
                    break;
                }
                let sample = &self.shapes[shape as usize].sample;
                if sample.cores > cores || sample.memory > memory || !self.able(shape, class, fleet) {
                    continue;
                }
                let most = most.filter(|_| head.1 >= MAKESPAN && speed < self.fastest(shape, fleet, topology));
                let scale = self.shapes[shape as usize].scale;
                let from = (head.0, most.map_or(0, |most| u64::MAX - (most * scale) as u64), 0);
                let row = &self.owners[owner as usize].rows[&shape];
                // Of the urgent ones only: the rest of them may not be passed over by those that are not.
                if let Some((&rank, &task)) = row.range(from..).next()
                    && rank.0 == head.0
                    && best.is_none_or(|b| rank < b.0)
                {
                    best = Some((rank, task));
                }
            }
            if let Some((_, task)) = best {
                return Some(task);
            }
        }
        None
    }
}
