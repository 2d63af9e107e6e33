//! Figures for Prometheus, in OpenMetrics text: base units, and names as its guide has them.

use crate::core::{Usage, Usages};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use wayfare_api::{NodeView, TaskState};

type Number = Gauge<f64, AtomicU64>;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Answer {
    method: String,
    route: String,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Route {
    method: String,
    route: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct InState {
    state: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfNode {
    node: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfOwner {
    owner: String,
}

/// How many tasks stand where.
pub(crate) type Counts = Vec<(TaskState, u64)>;

/// What is counted as it happens.
pub(crate) struct Metrics {
    registry: Registry,
    answers: Family<Answer, Counter>,
    durations: Family<Route, Histogram>,
    submitted: Counter,
    ended: Family<InState, Counter>,
    waits: Histogram,
    runs: Histogram,
}

impl Metrics {
    pub(crate) fn new() -> Metrics {
        // From a millisecond, or a half, up by factors of two.
        let short = || Histogram::new(exponential_buckets(0.0005, 2.0, 16));
        let long = || Histogram::new(exponential_buckets(0.001, 4.0, 14));
        let mut metrics = Metrics {
            registry: Registry::with_prefix("wayfare"),
            answers: Family::default(),
            durations: Family::new_with_constructor(short),
            submitted: Counter::default(),
            ended: Family::default(),
            waits: long(),
            runs: long(),
        };
        let registry = &mut metrics.registry;
        registry.register("http_requests", "Answers of the API", metrics.answers.clone());
        let of = "How long answers of the API took";
        registry.register_with_unit("http_request_duration", of, Unit::Seconds, metrics.durations.clone());
        registry.register("tasks_submitted", "Tasks that were taken", metrics.submitted.clone());
        registry.register("tasks_ended", "Tasks that are over, by what became of them", metrics.ended.clone());
        let of = "From a task's submission to its start";
        registry.register_with_unit("task_wait", of, Unit::Seconds, metrics.waits.clone());
        let of = "From the start of a task that has succeeded to its end";
        registry.register_with_unit("task_run", of, Unit::Seconds, metrics.runs.clone());
        metrics
    }

    pub(crate) fn answered(&self, method: &str, route: &str, status: u16, took: Duration) {
        let (method, route) = (method.to_string(), route.to_string());
        self.answers.get_or_create(&Answer { method: method.clone(), route: route.clone(), status }).inc();
        self.durations.get_or_create(&Route { method, route }).observe(took.as_secs_f64());
    }

    pub(crate) fn submitted(&self, tasks: u64) {
        self.submitted.inc_by(tasks);
    }

    /// `waited`: milliseconds.
    pub(crate) fn started(&self, waited: u64) {
        self.waits.observe(waited as f64 / 1e3);
    }

    /// `ran`: milliseconds, of one that has succeeded.
    pub(crate) fn ended(&self, state: TaskState, ran: Option<u64>) {
        self.ended.get_or_create(&InState { state: state.name().into() }).inc();
        if let Some(ran) = ran {
            self.runs.observe(ran as f64 / 1e3);
        }
    }

    /// All figures.
    pub(crate) fn text(&self, nodes: &[NodeView], counts: &Counts, usages: &Usages) -> String {
        let mut now = Registry::with_prefix("wayfare");
        let tasks = Family::<InState, Gauge>::default();
        now.register("tasks", "Tasks that are known, by where they stand", tasks.clone());
        for (state, n) in counts {
            tasks.get_or_create(&InState { state: state.name().into() }).set(*n as i64);
        }
        let by_state = Family::<InState, Gauge>::default();
        now.register("nodes", "Nodes, by how they are", by_state.clone());
        let mut of_node = |name: &str, help: &str, unit: Option<Unit>, of: &dyn Fn(&NodeView) -> Option<f64>| {
            let family = Family::<OfNode, Number>::default();
            match unit {
                Some(unit) => now.register_with_unit(name, help, unit, family.clone()),
                None => now.register(name, help, family.clone()),
            }
            for node in nodes {
                if let Some(value) = of(node) {
                    family.get_or_create(&OfNode { node: node.name.clone() }).set(value);
                }
            }
        };
        of_node("node_cores", "Processors for tasks", None, &|node| Some(node.cores));
        of_node("node_cores_taken", "Processors that tasks have", None, &|node| Some(node.cores_taken));
        of_node("node_memory", "Memory for tasks", Some(Unit::Bytes), &|node| Some(node.memory as f64));
        of_node("node_memory_taken", "Memory that tasks have", Some(Unit::Bytes), &|node| {
            Some(node.memory_taken as f64)
        });
        let rtt = |node: &NodeView| node.rtt.map(|millis| millis / 1e3);
        of_node("node_round_trip", "A question to a node, and its answer", Some(Unit::Seconds), &rtt);
        let mut of_owner = |name: &str, help: &str, unit: Option<Unit>, of: &dyn Fn(&Usage) -> f64| {
            let family = Family::<OfOwner, Number>::default();
            match unit {
                Some(unit) => now.register_with_unit(name, help, unit, family.clone()),
                None => now.register(name, help, family.clone()),
            }
            for (owner, usage) in usages {
                family.get_or_create(&OfOwner { owner: owner.clone() }).set(of(usage));
            }
        };
        of_owner("owner_share", "An owner's part of the cluster against that of others", None, &|usage| usage.share);
        of_owner("owner_cores_taken", "Processors that an owner's tasks have", None, &|usage| usage.cores);
        of_owner("owner_cores_waiting", "Processors that an owner's tasks wait for", None, &|usage| usage.waiting);
        // No counter: what a task was thought to take is put right when it ends.
        let help = "Time on processors that an owner's tasks were charged since the controller began";
        of_owner("owner_charged_core", help, Some(Unit::Seconds), &|usage| usage.charged);
        for state in ["ready", "cordoned", "lost"] {
            let n = nodes.iter().filter(|node| node.state == state).count();
            by_state.get_or_create(&InState { state: state.into() }).set(n as i64);
        }
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode_registry(&mut text, &self.registry);
        let _ = encode_registry(&mut text, &now);
        let _ = encode_eof(&mut text);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_named_as_prometheus_names_them() {
        let metrics = Metrics::new();
        metrics.answered("GET", "/v1/tasks/{name}", 404, Duration::from_millis(3));
        metrics.submitted(7);
        metrics.ended(TaskState::Succeeded, Some(1500));
        let usage = Usage { share: 2.0, cores: 1.5, waiting: 4.0, charged: 12.25 };
        let usages = Usages::from([("alice".into(), usage)]);
        let text = metrics.text(&[], &vec![(TaskState::Waiting, 3)], &usages);
        for line in [
            "wayfare_http_requests_total{method=\"GET\",route=\"/v1/tasks/{name}\",status=\"404\"} 1",
            "wayfare_tasks_submitted_total 7",
            "wayfare_tasks_ended_total{state=\"succeeded\"} 1",
            "wayfare_task_run_seconds_sum 1.5",
            "wayfare_tasks{state=\"waiting\"} 3",
            "wayfare_nodes{state=\"lost\"} 0",
            "wayfare_owner_share{owner=\"alice\"} 2.0",
            "wayfare_owner_cores_taken{owner=\"alice\"} 1.5",
            "wayfare_owner_cores_waiting{owner=\"alice\"} 4.0",
            "wayfare_owner_charged_core_seconds{owner=\"alice\"} 12.25",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
