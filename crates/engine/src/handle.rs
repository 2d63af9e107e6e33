//! The side of a task that other threads hold: they stop it, and look at it.

use crate::grounds::Grounds;
use crate::late::Absent;
use crate::{Error, Trigger};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};
use wayfare_wasi::std_host::Canceller;

/// What a task shares with those who ask something of it.
#[derive(Default)]
pub struct Shared {
    /// Somebody wants it captured.
    pub requested: AtomicBool,
    /// Number of captures so far, and whether the task has ended.
    pub stopped: Mutex<(u64, bool)>,
    /// One of these is another now.
    pub changed: Condvar,
    /// Nanoseconds that the guest ran for until it stood still last.
    pub ran: AtomicU64,
    /// The work that it had done when it stood still last.
    pub work: AtomicU64,
    /// Since when it runs, if it does.
    pub running_since: Mutex<Option<Instant>>,
    /// Where its linear memories are.
    pub grounds: Arc<Grounds>,
    /// Pages that it was begun without.
    pub absent: OnceLock<Arc<Absent>>,
}

/// Stops a task from other threads. Cheap to clone; outlives the task safely.
#[derive(Clone)]
pub struct Handle {
    pub(crate) trigger: Trigger,
    pub(crate) canceller: Canceller,
    pub(crate) shared: Arc<Shared>,
    pub(crate) unmovable: Arc<[String]>,
}

/// What came of asking a task to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// It stands at a migration point.
    Captured,
    /// It ended first.
    Ended,
}

impl Handle {
    /// Asks the task to stop at its next migration point and waits until it has. A task that waits for a late page
    /// ([`crate::Late`]) reaches none before that has come.
    ///
    /// # Errors
    /// [`Error::Unmovable`] with the reasons when it cannot be captured; it goes on running.
    pub fn capture(&self) -> Result<Stopped, Error> {
        if !self.unmovable.is_empty() {
            return Err(Error::Unmovable(self.unmovable.to_vec()));
        }
        let mut state = self.shared.stopped.lock().unwrap_or_else(|e| e.into_inner());
        let before = state.0;
        loop {
            if state.1 {
                return Ok(Stopped::Ended);
            }
            if state.0 != before {
                return Ok(Stopped::Captured);
            }
            self.shared.requested.store(true, Ordering::SeqCst);
            self.trigger.fire();
            self.canceller.cancel();
            // A resume that was just ending may have cleared the request: repeat it.
            state = self
                .shared
                .changed
                .wait_timeout(state, Duration::from_micros(500))
                .unwrap_or_else(|e| e.into_inner())
                .0;
        }
    }

    /// How long the guest has run, pauses not counted.
    pub fn ran(&self) -> Duration {
        let since = *self.shared.running_since.lock().unwrap_or_else(|e| e.into_inner());
        let now = since.map_or(Duration::ZERO, |since| since.elapsed());
        Duration::from_nanos(self.shared.ran.load(Ordering::Relaxed)) + now
    }

    /// The work that the task had done when it last stood still, or ended: see [`crate::Task::work`].
    pub fn work(&self) -> u64 {
        self.shared.work.load(Ordering::Relaxed)
    }

    /// Bytes of its linear memories; none when it is gone.
    pub fn memory(&self) -> u64 {
        self.shared.grounds.visit().map_or(0, |visit| visit.regions.iter().map(|r| r.size() as u64).sum())
    }

    /// Why the task cannot be captured; empty when it can.
    pub(crate) fn unmovable(&self) -> &[String] {
        &self.unmovable
    }

    pub(crate) fn grounds(&self) -> &Arc<Grounds> {
        &self.shared.grounds
    }
}
