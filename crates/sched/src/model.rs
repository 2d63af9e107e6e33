//! What is asked for and what there is: tasks, nodes, and whether one can ever run on the other.
//!
//! Source: seed 002 (the thesis), 5.1: a task has a name, cores, memory, GPU or not, an image; nodes are one initiator and
//! several servers, Table 5-2. Added: labels, local only, priority, deadline, transfers, speeds, and resources kept for the
//! controller on the initiator, for want of which the thesis's estimates were spoiled (5.2.3).

use crate::Nanos;
use crate::plan::Objective;
use crate::units::{Bytes, Cores, nanos, normal_quantile, within};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// A task, for as long as the caller knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub u64);

/// A node, for as long as the caller knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

/// An image, such as the first bytes of its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageId(pub u64);

/// How long a task will run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Seconds on a node of speed 1.
    pub seconds: f64,
    /// Standard deviation / mean of the error; 0 when exact.
    pub cv: f64,
}

impl Estimate {
    /// One that is not in doubt.
    pub const fn exact(seconds: f64) -> Self {
        Self { seconds, cv: 0.0 }
    }

    /// Seconds that are left of a task when so many are done and it has not ended: the median, run times being lognormal
    /// ([`crate::estimates`]). A task that runs for longer than was thought has the more left the less sure that was.
    ///
    /// ```text
    /// S(done + left) = S(done) / 2,   S(t) = erfc((ln t - ln seconds) / (sigma sqrt 2)) / 2,   sigma^2 = ln(1 + cv^2)
    /// ```
    pub fn left(&self, done: f64) -> f64 {
        let (all, done) = (within(self.seconds, 1e-9, 1e9), within(done, 0.0, 1e9));
        let cv = within(self.cv, 0.0, 10.0);
        if done <= 0.0 || cv < 1e-3 {
            return (all - done).max(0.0);
        }
        let sigma = libm::sqrt(libm::log1p(cv * cv));
        let z = libm::log(done / all) / sigma;
        let survival = libm::erfc(z / core::f64::consts::SQRT_2) / 2.0;
        let half = all * libm::exp(sigma * normal_quantile(1.0 - survival / 2.0));
        // Far out the quantile is no more than its bound.
        (half - done).max(0.0)
    }
}

/// A task that somebody wants to have run.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskSpec {
    /// Whose answer this is.
    pub id: TaskId,
    /// Hundredths of a core.
    pub cores: u32,
    /// Bytes.
    pub memory: u64,
    /// Needs a GPU.
    pub gpu: bool,
    /// What it runs.
    pub image: ImageId,
    /// Bytes to send to a node that lacks the image.
    pub transfer: u64,
    /// Labels that its node must have.
    pub labels: Vec<String>,
    /// Stays on the initiator.
    pub local_only: bool,
    /// The higher the sooner; comes before everything else.
    pub priority: i32,
    /// When it has to be over, on the clock of the plan. Missed deadlines are counted, not refused.
    pub deadline: Option<Nanos>,
    /// How long it will run.
    pub work: Estimate,
    /// For an [`Engine`](crate::Engine): what its set is to be good at, if that is another than the engine's. Tasks for which the mean
    /// response counts come before those of the same owner and priority of which only the last one's end does.
    pub objective: Option<Objective>,
}

impl TaskSpec {
    /// One core, 400 MB (the thesis's smallest demand of memory), no wishes.
    pub fn new(id: u64, seconds: f64) -> Self {
        Self {
            id: TaskId(id),
            cores: 100,
            memory: 400_000_000,
            gpu: false,
            image: ImageId(0),
            transfer: 0,
            labels: Vec::new(),
            local_only: false,
            priority: 0,
            deadline: None,
            work: Estimate::exact(seconds),
            objective: None,
        }
    }

    /// Seconds on a node of speed 1, finite and at least a nanosecond.
    pub fn seconds(&self) -> f64 {
        within(self.work.seconds, 1e-9, 1e9)
    }

    /// Core seconds on nodes of speed 1.
    pub fn area(&self) -> f64 {
        self.seconds() * f64::from(self.cores) / 100.0
    }
}

/// How bytes come to a node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// Bytes per second.
    pub bandwidth: f64,
    /// One way.
    pub latency: Nanos,
}

impl Link {
    /// How long it takes to send that much: nothing for nothing.
    pub fn send(&self, bytes: u64) -> Nanos {
        if bytes == 0 { 0 } else { self.latency.min(Nanos::MAX / 4) + nanos(bytes as f64 / self.bandwidth.max(1.0)) }
    }
}

/// A machine that runs tasks.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Its name here.
    pub id: NodeId,
    /// Hundredths of a core, those of the controller included.
    pub cores: u32,
    /// Bytes, those of the controller included.
    pub memory: u64,
    /// Has a GPU.
    pub gpu: bool,
    /// What its owner says about it.
    pub labels: Vec<String>,
    /// How many times as fast as a node of speed 1.
    pub speed: f64,
    /// Images that need not be sent.
    pub images: Vec<ImageId>,
    /// The way there from where images are.
    pub link: Link,
    /// Gets nothing new.
    pub cordoned: bool,
    /// Hundredths of a core that no task gets, such as the controller's on the initiator.
    pub reserved_cores: u32,
    /// Bytes that no task gets.
    pub reserved_memory: u64,
    /// Where tasks are submitted; `local` and `local_only` mean this one.
    pub is_initiator: bool,
    /// What runs there when a plan begins. An engine is told by [`crate::Engine::handle_running`] instead.
    pub busy: Vec<Busy>,
}

/// Cores and memory of a node that something has until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy {
    /// When it ends, on the clock of the plan, by the estimate.
    pub end: Nanos,
    /// Hundredths of a core.
    pub cores: u32,
    /// Bytes.
    pub memory: u64,
}

impl Node {
    /// A server of speed 1 with whole cores and gigabytes, behind 1500 Mbit/s (Table 5-2).
    pub fn new(id: u32, cores: u32, gigabytes: u64) -> Self {
        Self {
            id: NodeId(id),
            cores: cores * 100,
            memory: gigabytes * crate::units::GB,
            gpu: false,
            labels: Vec::new(),
            speed: 1.0,
            images: Vec::new(),
            link: Link { bandwidth: 1.5e9 / 8.0, latency: 0 },
            cordoned: false,
            reserved_cores: 0,
            reserved_memory: 0,
            is_initiator: false,
            busy: Vec::new(),
        }
    }

    /// Hundredths of a core for tasks.
    pub fn usable_cores(&self) -> u32 {
        self.cores.saturating_sub(self.reserved_cores)
    }

    /// Bytes for tasks.
    pub fn usable_memory(&self) -> u64 {
        self.memory.saturating_sub(self.reserved_memory)
    }

    /// What runs there when a plan begins, each as far as there is room for it.
    pub(crate) fn taken(&self) -> impl Iterator<Item = Busy> + '_ {
        let room = (self.usable_cores(), self.usable_memory());
        self.busy.iter().scan(room, |room, busy| {
            let taken = Busy { cores: busy.cores.min(room.0), memory: busy.memory.min(room.1), ..*busy };
            *room = (room.0 - taken.cores, room.1 - taken.memory);
            Some(taken)
        })
    }

    /// Hundredths of a core and bytes that are free when a plan begins.
    pub(crate) fn free(&self) -> (u32, u64) {
        let all = (self.usable_cores(), self.usable_memory());
        self.taken().fold(all, |free, busy| (free.0 - busy.cores, free.1 - busy.memory))
    }

    /// Speed as a number that can be divided by.
    pub fn speed(&self) -> f64 {
        within(self.speed, 1e-6, 1e6)
    }

    /// How long a task of so many seconds runs here.
    pub fn run(&self, seconds: f64) -> Nanos {
        nanos(seconds / self.speed()).max(1)
    }

    /// How long it takes until a task's image is here, if nothing has been sent yet.
    pub fn fetch(&self, task: &TaskSpec) -> Nanos {
        if task.transfer == 0 || self.is_initiator || self.images.contains(&task.image) {
            0
        } else {
            self.link.send(task.transfer)
        }
    }

    /// What a task asks for beside cores and memory, and this node is not; none where all is well.
    pub fn lacks(&self, task: &TaskSpec) -> Option<Refusal> {
        if self.cordoned {
            return Some(Refusal::Cordoned);
        }
        if task.local_only && !self.is_initiator {
            return Some(Refusal::NotLocal);
        }
        if task.gpu && !self.gpu {
            return Some(Refusal::NoGpu);
        }
        task.labels.iter().find(|l| !self.labels.contains(l)).map(|l| Refusal::NoLabel(l.clone()))
    }

    /// Why a task can never run here, even when nothing else does.
    pub fn refuses(&self, task: &TaskSpec) -> Option<Refusal> {
        if let Some(refusal) = self.lacks(task) {
            return Some(refusal);
        }
        if task.cores > self.usable_cores() {
            return Some(Refusal::Cores { asks: task.cores, most: self.usable_cores() });
        }
        (task.memory > self.usable_memory()).then(|| Refusal::Memory { asks: task.memory, most: self.usable_memory() })
    }
}

/// Why a task is not taken. Of a cluster's nodes, the reason of the one that came closest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// There is no node.
    NoNodes,
    /// All nodes are cordoned.
    Cordoned,
    /// It is to stay on the initiator, and that is not there.
    NotLocal,
    /// No node that would do has a GPU.
    NoGpu,
    /// No node that would do has this label.
    NoLabel(String),
    /// No node that would do has so many cores.
    Cores {
        /// Hundredths.
        asks: u32,
        /// Hundredths that the largest has for tasks.
        most: u32,
    },
    /// No node that would do has so much memory.
    Memory {
        /// Bytes.
        asks: u64,
        /// Bytes that the largest has for tasks.
        most: u64,
    },
    /// As many tasks wait as may wait.
    QueueFull {
        /// That many.
        waiting: usize,
    },
    /// A task of this name waits or runs.
    Known,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NoNodes => f.write_str("refused: there is no node"),
            Refusal::Cordoned => f.write_str("refused: every node is cordoned"),
            Refusal::NotLocal => f.write_str("refused: it is to run on the initiating node, which cannot take it"),
            Refusal::NoGpu => f.write_str("refused: no node that would do has a GPU"),
            Refusal::NoLabel(label) => write!(f, "refused: no node that would do has the label {label}"),
            Refusal::Cores { asks, most } => {
                write!(f, "refused: it asks for {} cores, and the largest node has {}", Cores(*asks), Cores(*most))
            }
            Refusal::Memory { asks, most } => {
                write!(f, "refused: it asks for {}, and the largest node has {}", Bytes(*asks), Bytes(*most))
            }
            Refusal::QueueFull { waiting } => write!(f, "refused: {waiting} tasks wait already"),
            Refusal::Known => f.write_str("refused: a task of this name waits or runs"),
        }
    }
}

/// The nodes that there are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cluster {
    /// In no order; no two of the same name.
    pub nodes: Vec<Node>,
}

impl Cluster {
    /// Why a task can never run on any node; none if it can.
    pub fn refuses(&self, task: &TaskSpec) -> Option<Refusal> {
        let mut worst = None;
        for node in &self.nodes {
            // Reasons are in the order in which they are looked for: the largest came closest.
            worst = worst.max(Some(node.refuses(task)?));
        }
        worst.or(Some(Refusal::NoNodes))
    }
}
