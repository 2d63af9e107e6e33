//! What a plan is made of, as the core knows it now.

use super::Core;
use crate::plan::Scene;
use crate::task::hundredths;
use wayfare_api::{SetRequest, TaskState};
use wayfare_sched::{Busy, Cluster, TaskSpec};

impl Core {
    /// The nodes that take tasks, what runs there and how long it still will, and what waits. A task that runs for longer than
    /// was thought is taken for one that ends now.
    pub(super) fn scene(&self, set: &SetRequest) -> Scene {
        let now = super::clock();
        let (mut names, mut nodes, mut running) = (Vec::new(), Vec::new(), Vec::new());
        for (name, member) in self.nodes.iter().filter(|(_, m)| m.is_there && !m.is_closed()) {
            let mut node = member.as_node(&self.me);
            let mut there = Vec::new();
            for task in self.on(name) {
                let ran = now.saturating_sub(task.started.unwrap_or(now)) as f64 / 1e3;
                let estimate = task.estimate.unwrap_or_else(|| self.demand(task).seconds());
                node.busy.push(Busy {
                    end: wayfare_sched::units::nanos(estimate - ran),
                    cores: hundredths(task.request.cores),
                    memory: task.request.memory,
                });
                there.push(task.name.clone());
            }
            names.push(name.clone());
            nodes.push(node);
            running.push(there);
        }
        let waits = self.tasks.values().filter(|task| task.state == TaskState::Waiting && !task.cancelled);
        let waiting: Vec<TaskSpec> = waits.map(|task| self.demand(task)).collect();
        let estimates = set.tasks.iter().map(|request| crate::task::estimate(&self.history, request));
        Scene { names, cluster: Cluster { nodes }, running, estimates: estimates.collect(), waiting }
    }
}
