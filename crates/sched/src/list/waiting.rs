//! What waits, so that the first that fits a node is found quickly.
//!
//! Nodes that offer the same (speed, GPU, labels) are one *class*, tasks that ask for the same one *shape*. Usually there are few
//! shapes: each has its tasks in the order of the list, and a tree over the shapes finds the first by looking at a
//! branch only when its least demand fits and its head comes before what was found. Where there are more than [`SHAPES`], a
//! tree over all tasks, in the order of the list, finds the leftmost that fits by looking at a branch only when the least
//! demand, the shortest length and some class in it would do.

use super::{Rule, key, scale};
use crate::model::{Node, TaskSpec};
use crate::units::nanos;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;

/// Shapes up to which each has a row of its own.
const SHAPES: usize = 64;

/// Nodes that offer the same.
pub(super) struct Class<'a> {
    pub sample: &'a Node,
    /// What their tasks can have at most, each once.
    pub rooms: BTreeSet<(u32, u64)>,
}

impl Class<'_> {
    /// Some of them would do.
    fn takes(&self, task: &TaskSpec) -> bool {
        self.sample.lacks(task).is_none() && self.rooms.iter().any(|r| r.0 >= task.cores && r.1 >= task.memory)
    }
}

/// What a node has for the next task.
pub(super) struct Offer {
    pub cores: u32,
    pub memory: u64,
    pub class: u32,
    pub speed: f64,
    /// The longest that may come, nanoseconds at speed 1.
    pub most: f64,
    /// Longer ones may come, too, where no node is faster for them.
    pub late: bool,
}

/// Priority and key.
type Head = (Reverse<i32>, u64);

/// What waits.
pub(super) enum Waiting {
    /// By shape.
    Shapes(Shapes),
    /// Each for itself.
    Each(Each),
}

impl Waiting {
    /// All tasks that can ever run, and which these are, with the speed of the fastest node for each; the others are told.
    pub fn new(
        tasks: &[TaskSpec],
        classes: &[Class<'_>],
        rule: Rule,
        mut refuse: impl FnMut(usize),
    ) -> (Self, Vec<(u32, f64)>) {
        type Demand<'t> = (u32, u64, Reverse<i32>, bool, bool, &'t [String]);
        let mut known: BTreeMap<Demand<'_>, Option<u32>> = BTreeMap::new();
        let mut last: Option<(Demand<'_>, Option<u32>)> = None;
        let mut shapes: Vec<Shape> = Vec::new();
        let mut accepted = Vec::with_capacity(tasks.len());
        let fastest = |task: &TaskSpec| {
            classes.iter().filter(|c| c.takes(task)).fold(0.0, |most: f64, c| c.sample.speed().max(most))
        };
        for (i, task) in tasks.iter().enumerate() {
            if shapes.len() > SHAPES {
                match fastest(task) {
                    0.0 => refuse(i),
                    fastest => accepted.push((i as u32, fastest)),
                }
                continue;
            }
            let demand: Demand<'_> =
                (task.cores, task.memory, Reverse(task.priority), task.gpu, task.local_only, &task.labels);
            let shape = match last {
                Some((same, shape)) if same == demand => shape,
                _ => *known.entry(demand).or_insert_with(|| {
                    let fastest = fastest(task);
                    if fastest == 0.0 {
                        return None;
                    }
                    shapes.push(Shape {
                        priority: Reverse(task.priority),
                        cores: task.cores,
                        memory: task.memory,
                        row: Vec::new(),
                        next: Vec::new(),
                        able: classes.iter().map(|c| c.takes(task)).collect(),
                        fastest,
                        scale: scale(task.cores, rule.wide),
                    });
                    Some(shapes.len() as u32 - 1)
                }),
            };
            last = Some((demand, shape));
            if let Some(shape) = shape {
                let shape = &mut shapes[shape as usize];
                accepted.push((i as u32, shape.fastest));
                shape.row.push((key(task, rule.objective, rule.wide), i as u32));
            } else {
                refuse(i);
            }
        }
        let waiting = if shapes.len() > SHAPES {
            Waiting::Each(Each::new(tasks, classes, rule, &accepted))
        } else {
            Waiting::Shapes(Shapes::new(shapes))
        };
        (waiting, accepted)
    }

    /// Takes the first that fits.
    pub fn take_first(&mut self, offer: &Offer) -> Option<u32> {
        match self {
            Waiting::Shapes(shapes) => shapes.take_first(offer),
            Waiting::Each(each) => each.take_first(offer),
        }
    }
}

/// Tasks that ask for the same, at the same priority.
struct Shape {
    priority: Reverse<i32>,
    cores: u32,
    memory: u64,
    /// Key and task, least key first.
    row: Vec<(u64, u32)>,
    /// The first at or after each place that still waits; a forest with path halving.
    next: Vec<u32>,
    /// Which classes will do.
    able: Vec<bool>,
    /// Speed of the fastest node that will do.
    fastest: f64,
    /// What lengths are multiplied by in the keys.
    scale: f64,
}

impl Shape {
    fn find(&mut self, mut at: usize) -> usize {
        while self.next[at] as usize != at {
            let over = self.next[self.next[at] as usize];
            self.next[at] = over;
            at = over as usize;
        }
        at
    }

    /// As the tree sees it.
    fn leaf(&mut self) -> Branch {
        let head = self.find(0);
        match self.row.get(head) {
            Some(w) => Branch { cores: self.cores, memory: self.memory, head: (self.priority, w.0) },
            None => NOTHING,
        }
    }

    /// The first with at least this key.
    fn first(&mut self, least: u64) -> Option<(u64, usize)> {
        let head = self.find(0);
        let (key, _) = *self.row.get(head)?;
        if key >= least {
            return Some((key, head));
        }
        let at = head + self.row[head..].partition_point(|w| w.0 < least);
        let at = self.find(at);
        self.row.get(at).map(|w| (w.0, at))
    }
}

/// A branch of the tree over shapes: the least that anything below it asks for, and what would come first.
#[derive(Clone, Copy)]
struct Branch {
    cores: u32,
    memory: u64,
    head: Head,
}

const NOTHING: Branch = Branch { cores: u32::MAX, memory: u64::MAX, head: (Reverse(i32::MIN), u64::MAX) };

/// By shape.
pub(super) struct Shapes {
    shapes: Vec<Shape>,
    /// Leaves from the middle on.
    tree: Vec<Branch>,
}

impl Shapes {
    fn new(mut shapes: Vec<Shape>) -> Self {
        // Neighbours in the tree ask for about the same.
        shapes.sort_by_key(|s| (s.cores, s.memory, s.priority));
        let leaves = shapes.len().next_power_of_two();
        let mut tree = vec![NOTHING; 2 * leaves];
        for (i, shape) in shapes.iter_mut().enumerate() {
            shape.row.sort_unstable();
            shape.next = (0..=shape.row.len() as u32).collect();
            tree[leaves + i] = shape.leaf();
        }
        for i in (1..leaves).rev() {
            tree[i] = join(tree[2 * i], tree[2 * i + 1]);
        }
        Self { shapes, tree }
    }

    fn take_first(&mut self, offer: &Offer) -> Option<u32> {
        let mut best = None;
        self.look(1, offer, &mut best);
        let (_, at, place) = best?;
        let shape = &mut self.shapes[at];
        shape.next[place] = place as u32 + 1;
        let task = shape.row[place].1;
        let leaf = shape.leaf();
        let mut i = self.tree.len() / 2 + at;
        if self.tree[i].head != leaf.head {
            self.tree[i] = leaf;
            while i > 1 {
                i /= 2;
                self.tree[i] = join(self.tree[2 * i], self.tree[2 * i + 1]);
            }
        }
        Some(task)
    }

    /// The first below a branch that fits, is not too long, and comes before what was found already: shape and place.
    fn look(&mut self, branch: usize, offer: &Offer, best: &mut Option<(Head, usize, usize)>) {
        let b = self.tree[branch];
        if b.cores > offer.cores || b.memory > offer.memory || best.is_some_and(|best| b.head >= best.0) {
            return;
        }
        let leaves = self.tree.len() / 2;
        if branch < leaves {
            let (left, right) = (2 * branch, 2 * branch + 1);
            let turn = self.tree[left].head > self.tree[right].head;
            let (first, second) = if turn { (right, left) } else { (left, right) };
            self.look(first, offer, best);
            self.look(second, offer, best);
            return;
        }
        let at = branch - leaves;
        let shape = &mut self.shapes[at];
        if !shape.able[offer.class as usize] {
            return;
        }
        let any = offer.most == f64::MAX || (offer.late && offer.speed >= shape.fastest);
        let least = if any { 0 } else { u64::MAX - (offer.most * shape.scale) as u64 };
        if let Some((key, place)) = shape.first(least)
            && best.is_none_or(|best| (shape.priority, key) < best.0)
        {
            *best = Some(((shape.priority, key), at, place));
        }
    }
}

fn join(a: Branch, b: Branch) -> Branch {
    Branch { cores: a.cores.min(b.cores), memory: a.memory.min(b.memory), head: a.head.min(b.head) }
}

/// A branch of the tree over tasks: the least of everything below it.
#[derive(Clone, Copy)]
struct Least {
    cores: u32,
    memory: u64,
    /// Nanoseconds at speed 1.
    length: u64,
    /// Speed of the fastest node.
    fastest: f64,
    /// Bits of classes that would do; the last stands for all others.
    classes: u64,
}

const NONE: Least = Least { cores: u32::MAX, memory: u64::MAX, length: u64::MAX, fastest: f64::MAX, classes: 0 };

/// Each task for itself, in the order of the list.
pub(super) struct Each {
    /// Leaves from the middle on.
    tree: Vec<Least>,
    tasks: Vec<u32>,
    /// By leaf: its place in `able`.
    wish: Vec<u32>,
    /// By what is asked for beside cores and memory: which classes will do.
    able: Vec<Vec<bool>>,
}

impl Each {
    fn new(tasks: &[TaskSpec], classes: &[Class<'_>], rule: Rule, accepted: &[(u32, f64)]) -> Self {
        let mut order: Vec<(Head, u32, f64)> = (accepted.iter())
            .map(|&(i, fastest)| {
                let task = &tasks[i as usize];
                ((Reverse(task.priority), key(task, rule.objective, rule.wide)), i, fastest)
            })
            .collect();
        order.sort_unstable_by_key(|o| (o.0, o.1));
        let leaves = order.len().next_power_of_two();
        let mut each = Self { tree: vec![NONE; 2 * leaves], tasks: Vec::new(), wish: Vec::new(), able: Vec::new() };
        let mut known: BTreeMap<(bool, bool, &[String]), u32> = BTreeMap::new();
        for (leaf, &(_, i, fastest)) in order.iter().enumerate() {
            let task = &tasks[i as usize];
            let wish = *known.entry((task.gpu, task.local_only, &task.labels)).or_insert_with(|| {
                each.able.push(classes.iter().map(|c| c.sample.lacks(task).is_none()).collect());
                each.able.len() as u32 - 1
            });
            let able = each.able[wish as usize].iter().enumerate();
            each.tree[leaves + leaf] = Least {
                cores: task.cores,
                memory: task.memory,
                length: nanos(task.seconds()),
                fastest,
                classes: able.fold(0, |bits, (c, able)| bits | u64::from(*able) << c.min(63)),
            };
            each.tasks.push(i);
            each.wish.push(wish);
        }
        for i in (1..leaves).rev() {
            each.tree[i] = least(each.tree[2 * i], each.tree[2 * i + 1]);
        }
        each
    }

    fn take_first(&mut self, offer: &Offer) -> Option<u32> {
        let leaf = self.look(1, offer)?;
        let mut i = self.tree.len() / 2 + leaf;
        self.tree[i] = NONE;
        while i > 1 {
            i /= 2;
            self.tree[i] = least(self.tree[2 * i], self.tree[2 * i + 1]);
        }
        Some(self.tasks[leaf])
    }

    fn look(&self, branch: usize, offer: &Offer) -> Option<usize> {
        let b = &self.tree[branch];
        let fits = b.cores <= offer.cores && b.memory <= offer.memory;
        let any = offer.most == f64::MAX || (offer.late && offer.speed >= b.fastest);
        let class = offer.class as usize;
        if !fits || b.classes & (1 << class.min(63)) == 0 || !(any || b.length as f64 <= offer.most) {
            return None;
        }
        let leaves = self.tree.len() / 2;
        if branch >= leaves {
            let leaf = branch - leaves;
            return self.able[self.wish[leaf] as usize][class].then_some(leaf);
        }
        self.look(2 * branch, offer).or_else(|| self.look(2 * branch + 1, offer))
    }
}

fn least(a: Least, b: Least) -> Least {
    Least {
        cores: a.cores.min(b.cores),
        memory: a.memory.min(b.memory),
        length: a.length.min(b.length),
        fastest: a.fastest.min(b.fastest),
        classes: a.classes | b.classes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Objective;
    use crate::rng::Rng;

    #[test]
    fn both_trees_find_the_same() {
        let mut rng = Rng::new(1);
        let nodes = [Node { gpu: true, ..Node::new(0, 4, 8) }, Node { speed: 2.0, ..Node::new(1, 8, 16) }];
        let rooms = |n: &Node| [(n.usable_cores(), n.usable_memory())].into();
        let classes: Vec<_> = nodes.iter().map(|sample| Class { sample, rooms: rooms(sample) }).collect();
        for round in 0..200 {
            let tasks: Vec<TaskSpec> = (0..60)
                .map(|id| TaskSpec {
                    cores: 50 + 150 * rng.below(6) as u32,
                    gpu: rng.below(4) == 0,
                    priority: rng.below(2) as i32,
                    ..TaskSpec::new(id, 1.0 + 100.0 * rng.unit())
                })
                .collect();
            let objective = [Objective::Makespan, Objective::MeanResponse][round % 2];
            let rule = Rule { objective, wide: [0.0, 0.5][round / 2 % 2], slack: None };
            let (mut shapes, accepted) = Waiting::new(&tasks, &classes, rule, |_| {});
            let mut each = Waiting::Each(Each::new(&tasks, &classes, rule, &accepted));
            assert!(matches!(shapes, Waiting::Shapes(_)));
            for _ in 0..100 {
                let class = rng.below(2) as u32;
                let offer = Offer {
                    cores: rng.below(nodes[class as usize].cores as usize + 1) as u32,
                    memory: 1_000_000_000,
                    class,
                    speed: nodes[class as usize].speed,
                    most: if objective == Objective::Makespan { 100e9 * rng.unit() } else { f64::MAX },
                    late: rng.below(2) == 0,
                };
                assert_eq!(shapes.take_first(&offer), each.take_first(&offer), "round {round}");
            }
        }
    }
}
