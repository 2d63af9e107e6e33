//! Tasks and sets as the controller has them.

use crate::store::Resumed;
use crate::trace::Place;
use std::sync::Arc;
use wayfare_api::{Objective, SetView, TaskRequest, TaskState, TaskView};
use wayfare_cluster::spec::{Limits, Spec};
use wayfare_sched::{Estimate, History, ImageId, TaskSpec};
use wayfare_transfer::TaskId;

/// A set.
#[derive(Clone)]
pub(crate) struct Set {
    pub(crate) name: String,
    pub(crate) owner: String,
    pub(crate) objective: Objective,
    /// Milliseconds since 1970, as all times here.
    pub(crate) submitted: u64,
}

/// A task.
#[derive(Clone)]
pub(crate) struct Task {
    /// Its name for the scheduler.
    pub(crate) number: u64,
    pub(crate) name: String,
    pub(crate) set: String,
    pub(crate) request: Arc<TaskRequest>,
    pub(crate) state: TaskState,
    /// Its identity on its node: another one for each attempt.
    pub(crate) id: TaskId,
    pub(crate) attempt: u32,
    pub(crate) node: Option<String>,
    /// The node that it is on its way to.
    pub(crate) to: Option<String>,
    /// The node where it has a standby.
    pub(crate) standby: Option<String>,
    pub(crate) why: String,
    /// Nobody wants it any more; it may still run.
    pub(crate) cancelled: bool,
    pub(crate) estimate: Option<f64>,
    pub(crate) submitted: u64,
    pub(crate) started: Option<u64>,
    pub(crate) ended: Option<u64>,
    pub(crate) status: Option<u32>,
    /// How often in a row it could not be started.
    pub(crate) failures: u32,
    /// How often it had changed nodes when it was heard of last.
    pub(crate) epoch: u64,
    /// Of its submission, in its client's trace.
    pub(crate) place: Place,
    /// What it goes on from when it is started; its beginning if nothing.
    pub(crate) resumed: Option<Resumed>,
    /// Seconds of its work, at speed 1, that were done before it ran on its node, and since when it runs there.
    pub(crate) done: f64,
    /// See `done`.
    pub(crate) since: Option<u64>,
}

impl Task {
    /// It is starting, or runs.
    pub(crate) fn is_on_node(&self) -> bool {
        matches!(self.state, TaskState::Starting | TaskState::Running | TaskState::Moving)
    }

    /// It runs from now on.
    pub(crate) fn begins(&mut self, now: u64) {
        self.state = TaskState::Running;
        (self.started, self.since) = (Some(now), Some(now));
        self.done = self.resumed.map_or(0.0, |from| from.done);
    }

    /// Seconds of its work, at speed 1, that are done, if its node is so fast.
    pub(crate) fn work_done(&self, speed: f64, now: u64) -> f64 {
        self.done + self.since.map_or(0.0, |since| now.saturating_sub(since) as f64 / 1e3 * speed)
    }

    /// As nodes have it.
    pub(crate) fn spec(&self) -> Spec {
        let request = &self.request;
        Spec {
            id: self.id,
            name: self.name.clone(),
            program: format!("{}.wasm", self.name),
            module: request.image.clone(),
            canonical_nan: false,
            args: request.args.clone(),
            env: request.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            dirs: Vec::new(),
            volumes: Vec::new(),
            limits: Limits { memory: Some(request.memory), cpus: hundredths(request.cores), ..Limits::default() },
            checkpoint_every: 0,
            publish: Vec::new(),
            origin: String::new(),
            started: 0,
            placed: true,
        }
    }

    /// As the scheduler has it.
    pub(crate) fn demand(&self, work: Estimate) -> TaskSpec {
        demand(&self.request, self.number, work)
    }

    /// See [`class`].
    pub(crate) fn class(&self) -> String {
        class(&self.request)
    }

    /// `controller`: its node.
    pub(crate) fn view(&self, owner: &str, controller: &str) -> TaskView {
        TaskView {
            name: self.name.clone(),
            set: self.set.clone(),
            owner: owner.into(),
            image: self.request.image.clone(),
            args: self.request.args.clone(),
            cores: self.request.cores,
            memory: self.request.memory,
            priority: self.request.priority,
            state: self.state,
            node: self.node.clone(),
            to: self.to.clone(),
            standby: self.standby.clone(),
            offloaded: self.node.as_ref().is_some_and(|node| node != controller),
            gpu: self.request.gpu,
            labels: self.request.labels.clone(),
            why: self.why.clone(),
            attempt: self.attempt,
            estimate: self.estimate,
            submitted: self.submitted,
            started: self.started,
            ended: self.ended,
            status: self.status,
            snapshot: self.resumed.map(|from| from.snapshot),
            snapshot_every: self.request.snapshot_every,
        }
    }
}

/// What a request asks for, as the scheduler has it: each task of it, but for the number.
pub(crate) fn demand(request: &TaskRequest, number: u64, work: Estimate) -> TaskSpec {
    TaskSpec {
        cores: hundredths(request.cores),
        memory: request.memory,
        gpu: request.gpu,
        image: image(&request.image),
        labels: request.labels.clone(),
        local_only: request.local_only,
        priority: request.priority,
        deadline: request.deadline.map(|seconds| (seconds * 1e9) as u64),
        work,
        ..TaskSpec::new(number, 1.0)
    }
}

/// How long such a task will run: as it has, else as whoever submits it thinks, else as others of the program have.
pub(crate) fn estimate(history: &History, request: &TaskRequest) -> Estimate {
    let class = class(request);
    let said = request.estimate.filter(|_| !history.has_run(&request.image, &class));
    let said = said.map(|seconds| Estimate { seconds, cv: 0.5 });
    said.unwrap_or_else(|| history.estimate(&request.image, &class))
}

/// Arguments of one class run about as long: those of the same text.
pub(crate) fn class(request: &TaskRequest) -> String {
    request.args.join(" ")
}

/// As the scheduler counts processors.
pub(crate) fn hundredths(cores: f64) -> u32 {
    (cores * 100.0).round().max(1.0) as u32
}

fn image(digest: &str) -> ImageId {
    ImageId(u64::from_str_radix(digest.get(..16).unwrap_or_default(), 16).unwrap_or_default())
}

impl Set {
    pub(crate) fn view<'a>(&self, tasks: impl Iterator<Item = &'a Task>) -> SetView {
        let mut view = SetView {
            name: self.name.clone(),
            owner: self.owner.clone(),
            objective: self.objective,
            total: 0,
            waiting: 0,
            running: 0,
            succeeded: 0,
            failed: 0,
            cancelled: 0,
            submitted: self.submitted,
            ended: None,
        };
        let (mut last, mut over) = (None, true);
        for task in tasks {
            view.total += 1;
            *match task.state {
                TaskState::Waiting => &mut view.waiting,
                TaskState::Starting | TaskState::Running | TaskState::Moving => &mut view.running,
                TaskState::Succeeded => &mut view.succeeded,
                TaskState::Failed => &mut view.failed,
                TaskState::Cancelled => &mut view.cancelled,
            } += 1;
            over &= task.state.is_over();
            last = last.max(task.ended);
        }
        view.ended = last.filter(|_| over);
        view
    }
}
