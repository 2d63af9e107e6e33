//! Tasks that keep a warm standby: who stands by for them, and what becomes of them when their node is lost. The nodes themselves go on with a task whose node is gone; the controller gives them time for it.

use super::{Core, Deed, clock, problem};
use crate::task::Task;
use anyhow::Result;
use std::time::{Duration, Instant};
use wayfare_api::{Problem, TaskState};
use wayfare_transfer::TaskId;

/// From one attempt to give a task a standby to the next.
const AGAIN: Duration = Duration::from_secs(5);
/// How long the first sync may take.
const ASKING: Duration = Duration::from_secs(60);
/// How long a standby may take to go on with a task whose node is lost, from when that is known.
const TAKEOVER: Duration = Duration::from_secs(15);

impl Core {
    /// A task runs on another node than before.
    pub(super) fn arrived(&mut self, number: u64, node: &str) {
        let now = self.now();
        let Some(id) = self.nodes.get(node).map(|member| member.id) else { return };
        self.takeovers.remove(&number);
        let speed = |task: &Task| task.node.as_ref().map_or(1.0, |node| self.speed_of(node));
        let here = self.tasks.get(&number).map_or(1.0, speed);
        let Some(task) = self.tasks.get_mut(&number) else { return };
        if task.node.as_deref() != Some(node) {
            (task.done, task.since) = (task.work_done(here, clock()), Some(clock()));
        }
        (task.node, task.state, task.to) = (Some(node.into()), TaskState::Running, None);
        let of = wayfare_sched::TaskId(number);
        if self.engine.node_of(of) == Some(id) || self.engine.handle_moved(now, of, id) {
            return;
        }
        // If it does not know the task there, it must not know it where it was, and start it again when that node is lost.
        self.engine.handle_ended(now, of);
        let Some(task) = self.tasks.get(&number) else { return };
        let (owner, demand, done) = (self.owner(task).to_string(), self.demand(task), task.done);
        if !self.engine.handle_running(now, &owner, demand, id, done) {
            tracing::warn!(task = %task.name, "has come to {node}, where there is no room for it");
        }
    }

    /// The node of a task is lost: whether its standby is waited for.
    pub(super) fn awaits_takeover(&mut self, number: u64) -> bool {
        let now = self.now();
        let Some(task) = self.tasks.get_mut(&number) else { return false };
        let is_there = |node: &String| self.nodes.get(node).is_some_and(|member| member.is_there);
        let Some(standby) = task.standby.clone().filter(is_there) else { return false };
        if task.cancelled {
            return false;
        }
        task.why = format!("{} is lost, and {standby} is to go on with it", task.node.as_deref().unwrap_or("its node"));
        // Nobody else is to start it meanwhile.
        self.engine.handle_ended(now, wayfare_sched::TaskId(number));
        self.takeovers.insert(number, Instant::now() + TAKEOVER);
        self.tell(number);
        true
    }

    /// Gives standbys to tasks that lack one; starts those anew that no standby went on with.
    pub(super) fn watch_over(&mut self) -> Result<()> {
        let now = Instant::now();
        let late: Vec<u64> = self.takeovers.extract_if(|_, by| *by <= now).map(|(number, _)| number).collect();
        for number in late {
            self.start_over(number, "its node was lost, and its standby did not go on with it")?;
            self.unplaced.push(number);
        }
        let lacks = |task: &&Task| {
            task.request.standby
                && task.standby.is_none()
                && task.state == TaskState::Running
                && !task.cancelled
                && self.guarding.get(&task.number).is_none_or(|at| *at <= now)
        };
        let lacking: Vec<u64> =
            self.guarded.iter().filter_map(|n| self.tasks.get(n)).filter(lacks).map(|t| t.number).collect();
        for number in lacking {
            let Some(task) = self.tasks.get(&number) else { continue };
            let fits = |member: &&super::Member| {
                member.is_there
                    && !member.is_silent
                    && Some(&member.info.peer.name) != task.node.as_ref()
                    && member.lacks_for_move(&self.me, task).is_none()
            };
            let most = self.nodes.values().filter(fits).max_by_key(|member| member.info.free.unwrap_or(0));
            let (Some(node), Some(standby)) = (&task.node, most.map(|member| member.info.peer.name.clone())) else {
                continue;
            };
            self.deeds.push(Deed::Protect {
                node: node.clone(),
                id: task.id,
                number,
                name: task.name.clone(),
                standby,
            });
            self.guarding.insert(number, now + ASKING);
        }
        Ok(())
    }

    /// A task has got a standby, or not.
    pub(super) fn protected(&mut self, id: TaskId, number: u64, standby: String, result: Result<(), String>) {
        self.guarding.remove(&number);
        let Some(task) = self.tasks.get_mut(&number).filter(|task| task.id == id && !task.state.is_over()) else {
            return;
        };
        match result {
            Ok(()) => {
                task.standby = Some(standby);
                self.tell(number);
            }
            Err(why) => {
                tracing::warn!(task = %task.name, "has no standby on {standby}: {why}");
                self.guarding.insert(number, Instant::now() + AGAIN);
            }
        }
    }

    /// Somebody has given a task a standby, or taken it away.
    pub(super) fn guarded_by_hand(&mut self, name: &str, standby: Option<String>) {
        let Some(number) = self.by_name.get(name).copied() else { return };
        if let Some(task) = self.tasks.get_mut(&number).filter(|task| !task.state.is_over()) {
            task.standby = standby;
            self.tell(number);
        }
    }

    /// Lets nothing new begin on a node that is to be forgotten, if it may be.
    pub(super) fn prepare_removal(&mut self, name: &str) -> Result<Result<(), Problem>> {
        match self.may_remove(name) {
            Ok(()) => self.cordon(name, true),
            Err(e) => Ok(Err(e)),
        }
    }

    fn may_remove(&self, name: &str) -> Result<(), Problem> {
        let member = self.nodes.get(name).ok_or_else(|| problem(404, format!("no node named {name} is known")))?;
        if member.info.peer.name == self.me {
            return Err(problem(409, format!("{name} is the controller's own node")));
        }
        if self.on(name).next().is_some() {
            return Err(problem(409, format!("tasks run on {name}: drain it first")));
        }
        Ok(())
    }

    pub(super) fn remove_node(&mut self, name: &str) -> Result<Result<(), Problem>> {
        if let Err(e) = self.may_remove(name) {
            return Ok(Err(e));
        }
        let now = self.now();
        if let Some(member) = self.nodes.remove(name) {
            self.engine.handle_lost(now, member.id);
        }
        self.store.remove_marks(name)?;
        self.told.push(wayfare_api::Event::Gone { at: clock(), name: name.into() });
        Ok(Ok(()))
    }
}
