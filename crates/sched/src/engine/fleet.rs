//! The nodes of an engine, such that one with enough room is found without looking at all.
//!
//! Nodes that offer the same are one class. Each class has a tree over its nodes whose branches know the most free cores and
//! the most free memory below them. A branch may promise both from different nodes, so that a search sometimes turns back.

use crate::model::{Node, NodeId, TaskSpec};
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

/// Cores and memory.
pub(super) type Room = (u32, u64);

/// The largest room below each branch; leaves from the middle on.
#[derive(Clone, Debug)]
struct Tree {
    most: Vec<Room>,
}

impl Tree {
    fn leaves(&self) -> usize {
        self.most.len() / 2
    }

    fn set(&mut self, at: usize, room: Room) {
        if at >= self.leaves() {
            let old = self.most.split_off(self.leaves());
            let leaves = (at + 1).next_power_of_two();
            self.most = vec![(0, 0); 2 * leaves];
            self.most[leaves..leaves + old.len()].copy_from_slice(&old);
            for i in (1..leaves).rev() {
                self.most[i] = most(self.most[2 * i], self.most[2 * i + 1]);
            }
        }
        let mut i = self.leaves() + at;
        self.most[i] = room;
        while i > 1 {
            i /= 2;
            let both = most(self.most[2 * i], self.most[2 * i + 1]);
            if self.most[i] == both {
                break;
            }
            self.most[i] = both;
        }
    }

    fn find(&self, branch: usize, room: Room) -> Option<usize> {
        let most = self.most[branch];
        if most.0 < room.0 || most.1 < room.1 {
            return None;
        }
        if branch >= self.leaves() {
            return Some(branch - self.leaves());
        }
        self.find(2 * branch, room).or_else(|| self.find(2 * branch + 1, room))
    }
}

fn most(a: Room, b: Room) -> Room {
    (a.0.max(b.0), a.1.max(b.1))
}

#[derive(Debug)]
pub(super) struct Class {
    /// One of them, for its speed, labels and GPU; never cordoned.
    pub sample: Node,
    free: Tree,
    usable: Tree,
    /// Places of its nodes.
    members: Vec<u32>,
}

impl Class {
    /// A node with so much free.
    pub fn find_free(&self, room: Room) -> Option<u32> {
        self.free.find(1, room).map(|at| self.members[at])
    }

    /// A node that would have so much if nothing ran.
    pub fn find_usable(&self, room: Room) -> Option<u32> {
        self.usable.find(1, room).map(|at| self.members[at])
    }
}

#[derive(Debug)]
pub(super) struct Member {
    pub node: Node,
    pub class: u32,
    /// Place among the class's members.
    seat: u32,
    /// Free as far as what runs is concerned.
    pub free: Room,
    /// There, as far as is known.
    pub up: bool,
    /// Kept for one task: not found by others.
    kept: bool,
}

#[derive(Debug, Default)]
pub(super) struct Fleet {
    pub members: Vec<Member>,
    known: BTreeMap<NodeId, u32>,
    pub classes: Vec<Class>,
    offers: BTreeMap<(u64, bool, bool, Vec<String>), u32>,
    /// Core speed of all nodes that may get tasks, and their cores.
    pub power: f64,
    pub cores: f64,
}

impl Fleet {
    pub fn place(&self, id: NodeId) -> Option<u32> {
        self.known.get(&id).copied()
    }

    /// A node that is new, or there again, or has changed; nothing of the engine's runs on it.
    pub fn join(&mut self, node: Node) -> u32 {
        if let Some(n) = self.place(node.id) {
            // Its old seat stays empty: it may be of another class now.
            self.part(n);
        }
        let offer = (node.speed().to_bits(), node.gpu, node.is_initiator, node.labels.clone());
        let class = *self.offers.entry(offer).or_insert_with(|| {
            let empty = Tree { most: vec![(0, 0); 2] };
            let sample = Node { cordoned: false, ..node.clone() };
            self.classes.push(Class { sample, free: empty.clone(), usable: empty, members: Vec::new() });
            self.classes.len() as u32 - 1
        });
        let n = self.place(node.id).unwrap_or(self.members.len() as u32);
        let members = &mut self.classes[class as usize].members;
        let old = self.members.get(n as usize).filter(|m| m.class == class).map(|m| m.seat);
        let seat = old.unwrap_or(members.len() as u32);
        if old.is_none() {
            members.push(n);
        }
        self.known.insert(node.id, n);
        let free = (node.usable_cores(), node.usable_memory());
        let member = Member { node, class, seat, free, up: true, kept: false };
        if (n as usize) < self.members.len() {
            self.members[n as usize] = member;
        } else {
            self.members.push(member);
        }
        self.count(n, 1.0);
        self.show(n);
        n
    }

    /// Not there any more, for now.
    pub fn part(&mut self, n: u32) {
        if self.members[n as usize].up {
            self.count(n, -1.0);
            self.members[n as usize].up = false;
            self.show(n);
        }
    }

    pub fn cordon(&mut self, n: u32, cordoned: bool) {
        self.count(n, -1.0);
        self.members[n as usize].node.cordoned = cordoned;
        self.count(n, 1.0);
        self.show(n);
    }

    pub fn keep(&mut self, n: u32, kept: bool) {
        self.members[n as usize].kept = kept;
        self.show(n);
    }

    pub fn take(&mut self, n: u32, task: &TaskSpec) {
        let free = &mut self.members[n as usize].free;
        *free = (free.0 - task.cores, free.1 - task.memory);
        self.show(n);
    }

    pub fn give_back(&mut self, n: u32, task: &TaskSpec) {
        let free = &mut self.members[n as usize].free;
        *free = (free.0 + task.cores, free.1 + task.memory);
        self.show(n);
    }

    /// What is free for tasks that others bring: who cordons a node has nothing new begin there, and no more.
    pub fn free(&self, n: u32) -> Room {
        let member = &self.members[n as usize];
        if member.up { member.free } else { (0, 0) }
    }

    /// What is free for new tasks.
    pub fn open(&self, n: u32) -> Room {
        let member = &self.members[n as usize];
        if member.up && !member.node.cordoned { member.free } else { (0, 0) }
    }

    /// Adds a node to the sums (1), or takes it out (-1), if it counts.
    fn count(&mut self, n: u32, sign: f64) {
        let member = &self.members[n as usize];
        if member.up && !member.node.cordoned {
            let cores = sign * f64::from(member.node.usable_cores()) / 100.0;
            self.cores += cores;
            self.power += cores * member.node.speed();
        }
    }

    fn show(&mut self, n: u32) {
        let open = self.open(n);
        let member = &self.members[n as usize];
        let all = (member.node.usable_cores(), member.node.usable_memory());
        let usable = if member.up && !member.node.cordoned { all } else { (0, 0) };
        let class = &mut self.classes[member.class as usize];
        class.free.set(member.seat as usize, if member.kept { (0, 0) } else { open });
        class.usable.set(member.seat as usize, usable);
    }
}
