//! Plans: which task runs where and when, and why; the policies that make them.

use crate::model::{Cluster, NodeId, Refusal, TaskId, TaskSpec};
use crate::units::{Bytes, Span, seconds};
use crate::{Nanos, genetic, greedy, list, search, tune};
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

/// What is to be small.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Objective {
    /// When the last task of the set ends: what the thesis reports (5-9).
    #[default]
    Makespan,
    /// The mean time from submission to end: what the thesis optimises (5-4).
    MeanResponse,
}

/// How tasks get their nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Late-binding list dispatch: longest first for makespan, smallest first for mean response.
    #[default]
    List,
    /// Everything on the initiator, in the order of submission.
    Local,
    /// On the initiator where there is room, else where most memory is free, in the order of submission (5.1.2 (1)).
    MemoryFirst,
    /// Least sum of response times by genetic algorithm (5.1.2 (2)).
    MbctGa,
    /// Each task where it ends soonest, its image's way there included: HEFT without precedence.
    EarliestFinish,
    /// The earliest finish, then moves and swaps between nodes while these help.
    LocalSearch,
}

impl Policy {
    /// All, with their names.
    pub const ALL: [(Policy, &'static str); 6] = [
        (Policy::List, "list"),
        (Policy::Local, "local"),
        (Policy::MemoryFirst, "memory-first"),
        (Policy::MbctGa, "mbct-ga"),
        (Policy::EarliestFinish, "earliest-finish"),
        (Policy::LocalSearch, "local-search"),
    ];
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(Self::ALL.iter().find(|p| p.0 == *self).map_or("", |p| p.1))
    }
}

/// Not the name of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParsePolicyError;

impl fmt::Display for ParsePolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a policy is one of")?;
        Self::names(f)
    }
}

impl ParsePolicyError {
    fn names(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Policy::ALL.iter().enumerate().try_for_each(|(i, p)| write!(f, "{}{}", if i == 0 { " " } else { ", " }, p.1))
    }
}

impl core::error::Error for ParsePolicyError {}

impl FromStr for Policy {
    type Err = ParsePolicyError;

    fn from_str(s: &str) -> Result<Self, ParsePolicyError> {
        Self::ALL.iter().find(|p| p.1 == s).map(|p| p.0).ok_or(ParsePolicyError)
    }
}

/// Why a task lies where it lies, as one line that the user sees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reason {
    /// The longest that fitted when cores were free.
    Longest {
        /// Tasks that waited besides.
        waiting: u32,
    },
    /// The longest that fitted and would end in time here.
    LongestInTime {
        /// Tasks that waited besides.
        waiting: u32,
        /// When all are to have ended.
        by: Nanos,
    },
    /// The fewest core seconds of those that fitted when cores were free.
    Smallest {
        /// Tasks that waited besides.
        waiting: u32,
    },
    /// The first in line when the cores that it needs were free.
    First {
        /// Tasks that waited besides.
        waiting: u32,
    },
    /// Its owner had least of the cluster.
    Share {
        /// Tasks that waited besides.
        waiting: u32,
    },
    /// The policy runs everything there.
    Local,
    /// memory-first: the initiator has room.
    LocalFits,
    /// memory-first: the server with most free memory.
    MostMemory {
        /// Bytes, before it came.
        free: u64,
    },
    /// mbct-ga: the best of all generations has it there.
    Evolved {
        /// Cost of (5-5), seconds.
        cost: f64,
    },
    /// Ends there soonest.
    Earliest {
        /// When.
        end: Nanos,
        /// Of that, until its image has come.
        fetch: Nanos,
    },
    /// Local search put it there.
    Moved {
        /// How much sooner the set ends, or how much shorter the mean response is, in all.
        gain: Nanos,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Reason::Longest { waiting } => {
                write!(f, "the longest task that fits into what was free here; {waiting} more waited")
            }
            Reason::LongestInTime { waiting, by } => {
                write!(f, "the longest task that ends here within {}; {waiting} more waited", Span(by))
            }
            Reason::Smallest { waiting } => {
                write!(f, "the smallest task, and it fits into what was free here; {waiting} more waited")
            }
            Reason::First { waiting } => write!(f, "first in line, and this node had room; {waiting} more waited"),
            Reason::Share { waiting } => {
                write!(f, "its owner has had least, and this node had room; {waiting} more waited")
            }
            Reason::Local => f.write_str("everything runs on the initiating node"),
            Reason::LocalFits => f.write_str("the initiating node has room"),
            Reason::MostMemory { free } => {
                write!(f, "no room on the initiating node; here most memory was free: {}", Bytes(free))
            }
            Reason::Evolved { cost } => write!(f, "where the best generation has it (cost {cost:.0} s)"),
            Reason::Earliest { end, fetch: 0 } => write!(f, "ends here soonest, at {}", Span(end)),
            Reason::Earliest { end, fetch } => {
                write!(f, "ends here soonest, at {}, though its image needs {}", Span(end), Span(fetch))
            }
            Reason::Moved { gain } => write!(f, "moved here by the search, which gained {}", Span(gain)),
        }
    }
}

/// A task on a node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placement {
    /// The task.
    pub task: TaskId,
    /// The node.
    pub node: NodeId,
    /// Its place in the tasks that were given.
    pub index: u32,
    /// The node's place in the cluster.
    pub at: u32,
    /// From when on it has its cores and memory; its image comes then.
    pub start: Nanos,
    /// When it ends, by the estimate.
    pub end: Nanos,
    /// Why there.
    pub reason: Reason,
}

/// What is to run where and when.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// In the order in which they were decided.
    pub placements: Vec<Placement>,
    /// Those that can never run here, in the order given.
    pub refused: Vec<(TaskId, Refusal)>,
}

impl Plan {
    /// When the last task ends.
    pub fn makespan(&self) -> Nanos {
        self.placements.iter().map(|p| p.end).max().unwrap_or(0)
    }

    /// Mean of the ends, seconds; all tasks were there at 0.
    pub fn mean_response(&self) -> f64 {
        let sum: f64 = self.placements.iter().map(|p| seconds(p.end)).sum();
        sum / self.placements.len().max(1) as f64
    }

    /// Seconds, of whichever is asked for.
    pub fn value(&self, objective: Objective) -> f64 {
        match objective {
            Objective::Makespan => seconds(self.makespan()),
            Objective::MeanResponse => self.mean_response(),
        }
    }

    /// Tasks that end after their deadlines. `tasks` are those that were planned.
    pub fn late(&self, tasks: &[TaskSpec]) -> usize {
        self.placements.iter().filter(|p| tasks[p.index as usize].deadline.is_some_and(|d| p.end > d)).count()
    }
}

/// A plan for tasks that are all there at 0, beside what runs already ([`crate::Node::busy`]). The seed matters to `mbct-ga` and `local-search`.
///
/// [`Policy::List`] gives the best, by the estimates, of: the list, on nodes of several speeds with targets for the makespan; and, up to
/// [`COMPARED`] tasks times nodes, the earliest finish where images have to be sent, and `memory-first` where all have the same
/// priority. So it is never worse than that if the
/// estimates are exact; what comes of estimates that are not may be, by chance.
pub fn plan(cluster: &Cluster, tasks: &[TaskSpec], policy: Policy, objective: Objective, seed: u64) -> Plan {
    match policy {
        Policy::List => best_list(cluster, tasks, objective, seed),
        Policy::Local => greedy::local(cluster, tasks, None),
        Policy::MemoryFirst => greedy::memory_first(cluster, tasks, None),
        Policy::MbctGa => genetic::plan(cluster, tasks, genetic::Settings::default(), seed),
        Policy::EarliestFinish => greedy::earliest_finish(cluster, tasks, objective),
        Policy::LocalSearch => search::plan(cluster, tasks, objective, seed),
    }
}

/// Up to so many tasks times nodes, [`plan()`] compares the list with `memory-first`, which looks at every node for each task.
pub const COMPARED: usize = 1_000_000;

fn best_list(cluster: &Cluster, tasks: &[TaskSpec], objective: Objective, seed: u64) -> Plan {
    let (rule, made) = tune::rule(cluster, tasks, objective, seed);
    let list = |slack| list::dispatch(cluster, tasks, None, list::Rule { slack, ..rule });
    let target = objective == Objective::Makespan && list::several_speeds(cluster);
    let small = tasks.len().saturating_mul(cluster.nodes.len()) <= COMPARED;
    let mut best = match made {
        Some(made) if !target => made,
        _ => list(target.then_some(TARGET)),
    };
    let mut better = |other: Plan| {
        if other.value(objective) < best.value(objective) {
            best = other;
        }
    };
    if small && target {
        better(list(None));
        better(list(Some(2.0 * TARGET)));
    }
    if small && tasks.iter().any(|t| t.transfer > 0) {
        better(greedy::earliest_finish(cluster, tasks, objective));
    }
    if small && tasks.windows(2).all(|w| w[0].priority == w[1].priority) {
        better(greedy::memory_first(cluster, tasks, None));
    }
    best
}

/// The first target for the makespan, as part of a mean run over what could be if tasks were a liquid.
const TARGET: f64 = 0.2;
