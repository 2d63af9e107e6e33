//! Tasks that go from one node to another while they run: because somebody says so, because their node is drained, or because
//! they end sooner elsewhere by more than the move costs.

use super::nodes::Member;
use super::{Core, Deed, problem};
use crate::task::Task;
use anyhow::Result;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};
use wayfare_api::{DestinationView, Moved, Problem, TaskState};
use wayfare_cluster::control::Sample;
use wayfare_sched::migrate::{self, Move, Settings, Verdict};
use wayfare_sched::{Estimate, Link, Refusal};
use wayfare_transfer::TaskId;

/// Moves for gain that are weighed, or under way, at once: each takes something of two nodes and of the link.
const AT_ONCE: usize = 4;
/// A task for which a move does not pay is not looked at again for so long.
const SETTLED: Duration = Duration::from_secs(15);
/// Bytes per second that are taken for granted where nothing has been seen.
const BANDWIDTH: f64 = 1.5e9 / 8.0;

/// How often something has to go one way, or the other, while a task stands still: it is asked for, sent, and the word that it runs there
/// comes back.
const WORDS: u64 = 3;
/// Nanoseconds that stopping it and setting it going take.
const STILL: u64 = 1_500_000;

/// Who may move for gain.
#[derive(Default)]
pub(super) struct Balance {
    /// Tasks are left where they are.
    is_off: bool,
    /// Tasks that are being weighed, or move for gain.
    busy: HashSet<u64>,
    /// Not to be weighed before.
    settled: HashMap<u64, Instant>,
    /// Where somebody has put a task by hand it stays.
    by_hand: HashSet<u64>,
}

impl Balance {
    pub(super) fn new(is_off: bool) -> Balance {
        Balance { is_off, ..Balance::default() }
    }
}

/// A move that might pay.
pub(crate) struct Candidate {
    pub(crate) number: u64,
    /// The attempt that is meant.
    pub(crate) id: TaskId,
    pub(crate) name: String,
    pub(crate) from: String,
    pub(crate) to: String,
}

impl Core {
    /// Where a task is that is to move to a node, and whether it has a standby, if it may. It has room there from now on.
    pub(super) fn may_move(&mut self, name: &str, to: &str) -> Result<(String, bool), Problem> {
        let task = self.find(name)?;
        let number = task.number;
        let (TaskState::Running, Some(from)) = (task.state, &task.node) else {
            return Err(problem(409, format!("{name} does not run: it is {}", task.state.name())));
        };
        let member = self.nodes.get(to).ok_or_else(|| problem(404, format!("no node named {to} is known")))?;
        if let Some(why) = self.lacks_for(task, from, member) {
            return Err(problem(409, why));
        }
        let (leaving, id) = ((from.clone(), task.standby.is_some()), member.id);
        let now = self.now();
        self.engine.handle_moving(now, wayfare_sched::TaskId(number), id);
        self.balance.by_hand.insert(number);
        Ok(leaving)
    }

    /// Why a task that runs cannot move to a node now; none if it can.
    fn lacks_for(&self, task: &Task, from: &str, member: &Member) -> Option<String> {
        let (name, to) = (&task.name, &member.info.peer.name);
        if from == to {
            return Some(format!("{name} runs on {to} already"));
        }
        if !member.is_there {
            return Some(format!("{to} is lost"));
        }
        if let Some(why) = member.lacks_for_move(&self.me, task) {
            let why = match why {
                Refusal::Cordoned => "it is cordoned".into(),
                Refusal::NotLocal => "the task is to stay on the controller's node".into(),
                Refusal::NoGpu => "it has no GPU".into(),
                Refusal::NoLabel(label) => format!("it lacks the label {label}"),
                other => other.to_string(),
            };
            return Some(format!("{to} cannot have {name}: {why}"));
        }
        let view = self.node(member);
        let has_room = view.cores_taken + task.request.cores <= view.cores + 1e-6
            && view.memory_taken.saturating_add(task.request.memory) <= view.memory;
        (!has_room).then(|| format!("{to} has no room for {name} now: other tasks run there"))
    }

    /// A task has moved, as was asked for; its node has said so, or will.
    pub(super) fn carried(&mut self, name: &str, moved: &Moved) -> Result<()> {
        let Some(number) = self.by_name.get(name).copied() else { return Ok(()) };
        let gain = self.balance.busy.remove(&number);
        // How fast bytes went there, if there were enough of them to tell.
        if moved.bytes > 1 << 20 && moved.took > 0.0 {
            let seen = moved.bytes as f64 / moved.took * 1e3;
            for node in [&moved.from, &moved.to] {
                if let Some(member) = self.nodes.get_mut(node).filter(|member| member.info.peer.name != self.me) {
                    member.saw(seen);
                }
            }
        }
        let Some(task) = self.tasks.get_mut(&number).filter(|task| !task.state.is_over()) else { return Ok(()) };
        let mib = moved.bytes as f64 / f64::from(1 << 20);
        let why = if gain { "it ends sooner here" } else { "it was moved here" };
        task.why = format!(
            "{why}: it came from {}, stood still for {:.1} ms, {mib:.1} MiB were sent",
            moved.from, moved.downtime
        );
        // It was taken away for the move.
        task.standby = None;
        self.arrived(number, &moved.to);
        self.tell(number);
        Ok(())
    }

    /// A task that was to move has not.
    pub(super) fn stayed(&mut self, name: &str) {
        let Some(number) = self.by_name.get(name).copied() else { return };
        let now = self.now();
        self.engine.handle_stayed(now, wayfare_sched::TaskId(number));
        self.balance.busy.remove(&number);
        self.balance.by_hand.remove(&number);
        self.balance.settled.insert(number, Instant::now() + SETTLED);
    }

    /// Looks for tasks that would end sooner elsewhere, and has them looked at more closely.
    pub(super) fn look_for_moves(&mut self) {
        let now = Instant::now();
        self.balance.settled.retain(|_, until| *until > now);
        // What is over, and perhaps forgotten, is not said to have moved or stayed.
        let runs = |number: &u64| self.tasks.get(number).is_some_and(|task| !task.state.is_over());
        self.balance.busy.retain(runs);
        self.balance.by_hand.retain(runs);
        let room = AT_ONCE.saturating_sub(self.balance.busy.len());
        if self.balance.is_off || room == 0 {
            return;
        }
        for chance in self.engine.chances(2 * AT_ONCE) {
            let number = chance.task.0;
            let named = |id| self.nodes.values().find(|m| m.id == id && m.speed.is_some());
            let (Some(from), Some(to)) = (named(chance.from), named(chance.to)) else { continue };
            let (from, to) = (from.info.peer.name.clone(), to.info.peer.name.clone());
            let Some(task) = self.tasks.get(&number) else { continue };
            let is_free = task.state == TaskState::Running && task.standby.is_none() && !task.request.standby;
            let balance = &mut self.balance;
            if !is_free || balance.by_hand.contains(&number) || balance.settled.contains_key(&number) {
                continue;
            }
            if balance.busy.len() >= AT_ONCE || !balance.busy.insert(number) {
                continue;
            }
            let (id, name) = (task.id, task.name.clone());
            self.deeds.push(Deed::Weigh(Candidate { number, id, name, from, to }));
        }
    }

    /// A task that might gain by a move has been looked at: it goes, if that pays.
    pub(super) fn weighed(&mut self, candidate: Candidate, sample: Option<Sample>) {
        let number = candidate.number;
        let verdict = sample.and_then(|sample| {
            let task = self.tasks.get(&number).filter(|task| task.id == candidate.id)?;
            let is_there = task.state == TaskState::Running && task.node.as_ref() == Some(&candidate.from);
            let member = self.nodes.get(&candidate.to).filter(|_| is_there && !task.cancelled)?;
            let free = self.lacks_for(task, &candidate.from, member).is_none() && !member.is_closed();
            free.then(|| self.verdict(task, &candidate.from, &candidate.to, &sample))
        });
        let now = self.now();
        let to = self.nodes.get(&candidate.to).map(|member| member.id);
        if let (Some(verdict), Some(to)) = (verdict, to)
            && verdict.go
            && self.engine.handle_moving(now, wayfare_sched::TaskId(number), to)
        {
            if let Some(task) = self.tasks.get_mut(&number) {
                task.why = format!("{} is free and faster: {verdict}", candidate.to);
                self.tell(number);
            }
            self.deeds.push(Deed::Move { name: candidate.name, from: candidate.from, to: candidate.to });
            return;
        }
        self.balance.busy.remove(&number);
        self.balance.settled.insert(number, Instant::now() + SETTLED);
    }

    /// What a move of a task that takes this much costs and gains.
    fn verdict(&self, task: &Task, from: &str, to: &str, sample: &Sample) -> Verdict {
        let work = self.demand(task).work;
        let (here, there) = (self.speed_of(from), self.speed_of(to));
        let link = self.link_between(from, to);
        // What a task waits for does not come sooner on a faster node.
        let busy = sample.busy.unwrap_or(1.0);
        let left = Estimate { seconds: work.left(task.work_done(here, super::clock())) * busy, ..work };
        let case = Move {
            left,
            here,
            there,
            wait: 0.0,
            memory: sample.touched.unwrap_or(sample.memory),
            // Of what cannot be seen the worst is thought: all of it, each second.
            dirty: sample.dirty.unwrap_or(sample.memory as f64),
            link: Link { latency: WORDS * link.latency + STILL, ..link },
        };
        migrate::weigh(&case, &Settings::default())
    }

    /// The way from one node to another. What is known are the ways between the controller and either.
    fn link_between(&self, from: &str, to: &str) -> Link {
        let ends = [from, to].map(|name| self.nodes.get(name).map(|member| member.link(&self.me)));
        let ends = ends.into_iter().flatten();
        let join = |a: Link, b: Link| Link {
            bandwidth: a.bandwidth.min(b.bandwidth),
            latency: a.latency.saturating_add(b.latency),
        };
        ends.reduce(join).unwrap_or(Link { bandwidth: BANDWIDTH, latency: 0 })
    }

    /// How fast a node is, as far as is known.
    pub(super) fn speed_of(&self, node: &str) -> f64 {
        self.nodes.get(node).map_or(1.0, Member::speed)
    }

    /// The nodes that a task could move to, and what that would cost it, which takes that much.
    pub(super) fn destinations(&self, name: &str, sample: Option<&Sample>) -> Result<Vec<DestinationView>, Problem> {
        let task = self.find(name)?;
        let (TaskState::Running, Some(from)) = (task.state, &task.node) else {
            return Err(problem(409, format!("{name} does not run: it is {}", task.state.name())));
        };
        let is_measured = self.nodes.get(from).is_some_and(|member| member.speed.is_some());
        let others = self.nodes.values().filter(|member| member.info.peer.name != *from);
        let view = |member: &Member| {
            let to = &member.info.peer.name;
            let verdict = sample.map(|sample| self.verdict(task, from, to, sample));
            let known = verdict.filter(|_| is_measured && member.speed.is_some());
            DestinationView {
                node: to.clone(),
                refused: self.lacks_for(task, from, member),
                took: verdict.map(|verdict| verdict.copy * 1e3),
                downtime: verdict.map(|verdict| verdict.downtime * 1e3),
                gain: known.map(|verdict| verdict.gain - verdict.cost),
            }
        };
        Ok(others.map(view).collect())
    }
}

impl Member {
    /// How fast it is, as far as is known.
    pub(super) fn speed(&self) -> f64 {
        // Measured twice it is not quite the same, and nodes that are alike are to be of one class.
        const STEP: f64 = 1.05;
        self.speed.map_or(1.0, |speed| STEP.powf((speed.clamp(1e-3, 1e3).ln() / STEP.ln()).round()))
    }

    /// The way there, as far as has been seen; none at all for the controller's own node.
    pub(super) fn link(&self, controller: &str) -> Link {
        if self.info.peer.name == controller {
            return Link { bandwidth: 1e10, latency: 0 };
        }
        let latency = self.rtt.map_or(0, |rtt| rtt.as_nanos() as u64 / 2);
        Link { bandwidth: self.bandwidth.unwrap_or(BANDWIDTH), latency }
    }

    /// Bytes have come from there, or gone there, at that rate.
    pub(super) fn saw(&mut self, bytes_per_s: f64) {
        let mean = self.bandwidth.map_or(bytes_per_s, |before| 0.7 * before + 0.3 * bytes_per_s);
        self.bandwidth = Some(mean.clamp(1e3, 1e11));
    }
}
