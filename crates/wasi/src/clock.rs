//! The task's monotonic clock: the host's, rebased so that it never goes back and stands still while the task does.

use crate::host::Host;

/// The first reading. Not 0: Go's runtime stops with an error if its first look at the clock gives 0.
const ORIGIN: u64 = 1_000_000;

#[derive(Clone, Debug)]
pub(crate) struct Clock {
    /// Task time at the last reading, or when the clock stopped.
    task: u64,
    /// Host time at that moment; `None` while the clock stands.
    host: Option<u64>,
}

impl Clock {
    pub fn new() -> Self {
        Self::stopped_at(ORIGIN)
    }

    pub fn stopped_at(task: u64) -> Self {
        Self { task, host: None }
    }

    /// The last task time that was read.
    pub fn last(&self) -> u64 {
        self.task
    }

    /// Task time now. Starts the clock if it stands.
    pub fn now(&mut self, host: &mut dyn Host) -> u64 {
        let at = host.monotonic();
        if let Some(before) = self.host {
            self.task = self.task.saturating_add(at.saturating_sub(before));
        }
        // A host clock that went back must not be counted twice when it catches up.
        self.host = Some(self.host.map_or(at, |before| before.max(at)));
        self.task
    }

    pub fn stop(&mut self, host: &mut dyn Host) {
        if self.host.is_some() {
            self.now(host);
            self.host = None;
        }
    }

    pub fn start(&mut self, host: &mut dyn Host) {
        self.now(host);
    }

    /// The host's monotonic time at which task time will be `task`. The clock must be running.
    pub fn to_host(&self, task: u64) -> u64 {
        self.host.unwrap_or(0).saturating_add(task.saturating_sub(self.task))
    }
}
