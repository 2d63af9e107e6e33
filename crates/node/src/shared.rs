//! What those have in common who keep the standbys of one task up to date: its memory, that it is not moved meanwhile, and what
//! its clients have to say once more to the standby that is furthest behind.

use crate::agent::{Entry, lock};
use crate::watched::{Memory, Watched};
use anyhow::{Result, anyhow};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::OwnedMutexGuard;

/// How long a move of the task is waited for.
const MOVING: Duration = Duration::from_secs(30);

/// See the module.
pub(crate) struct Shared {
    memory: Memory,
    /// When the task stood still last, and what processor time it had had by then.
    pub(crate) thawed: Mutex<Option<(Instant, Duration)>>,
    kept: Mutex<BTreeMap<String, Option<Kept>>>,
    /// It cannot be moved meanwhile: whoever moves it looks at its memory as well.
    _moving: OwnedMutexGuard<()>,
}

/// What a standby has of a task's streams.
struct Kept {
    /// When that was so.
    of: Instant,
    marks: Vec<Vec<u8>>,
}

impl Shared {
    /// What the standbys of a task have in common; it is begun by the first of them.
    ///
    /// # Errors
    /// When the task is being moved, or has ended.
    pub(crate) async fn of(entry: &Entry) -> Result<Arc<Shared>> {
        let mut shared = entry.shared.lock().await;
        if let Some(shared) = shared.upgrade() {
            return Ok(shared);
        }
        // One that has just come is on its way to the disk here.
        let moving = tokio::time::timeout(MOVING, entry.moving.clone().lock_owned()).await;
        let moving = moving.map_err(|_| anyhow!("{} is being moved", entry.spec.name))?;
        let new = Arc::new(Shared {
            memory: Memory::new(entry.live()?.watch()?),
            thawed: Mutex::default(),
            kept: Mutex::default(),
            _moving: moving,
        });
        *shared = Arc::downgrade(&new);
        Ok(new)
    }

    /// The task's memory, for one of them.
    pub(crate) fn memory(&self) -> Watched {
        self.memory.watched()
    }

    /// The same, for whoever looks at all of it.
    pub(crate) fn whole_memory(&self) -> Memory {
        self.memory.clone()
    }

    /// What clients say is kept for this standby, which has nothing of it yet.
    pub(crate) fn begin(&self, standby: &str) {
        lock(&self.kept).insert(standby.into(), None);
    }

    /// A standby has what these marks say. Gives the marks of the one that has the oldest, if each of them has some: what comes
    /// before those nobody has to hear again.
    pub(crate) fn has(&self, standby: &str, of: Instant, marks: Vec<Vec<u8>>) -> Option<Vec<Vec<u8>>> {
        let mut kept = lock(&self.kept);
        *kept.get_mut(standby)? = Some(Kept { of, marks });
        let all = kept.values().map(Option::as_ref).collect::<Option<Vec<_>>>()?;
        all.into_iter().min_by_key(|kept| kept.of).map(|kept| kept.marks.clone())
    }

    /// Nothing is kept for this standby any more; gives whether that is so for all of them.
    pub(crate) fn end(&self, standby: &str) -> bool {
        let mut kept = lock(&self.kept);
        kept.remove(standby);
        kept.is_empty()
    }
}
