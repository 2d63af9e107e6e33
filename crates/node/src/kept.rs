//! Pages of tasks that are not here (any more, or not yet): of one that has left and may come back, or of a move that
//! was cut off. By their digests they need not be sent again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use wayfare_snapshot::PAGE_SIZE;
use wayfare_transfer::TaskId;
use wayfare_transfer::pages::{PageDigest, digest};

/// Bytes of all pages that are kept, unless an agent is told otherwise.
const ROOM: u64 = 256 << 20;
/// How long.
const WHILE: Duration = Duration::from_secs(600);

/// The pages of one task.
#[derive(Default)]
pub struct Pages {
    by_digest: HashMap<PageDigest, Box<[u8]>>,
    bytes: usize,
    room: usize,
}

impl Pages {
    /// Whether there is room for another.
    pub fn has_room(&self) -> bool {
        self.bytes + PAGE_SIZE <= self.room
    }

    /// Keeps a page, if there is room.
    pub fn put(&mut self, page: &[u8]) {
        if self.bytes + page.len() <= self.room {
            let kept = self.by_digest.insert(digest(page), page.into());
            self.bytes += if kept.is_none() { page.len() } else { 0 };
        }
    }

    /// A page.
    pub fn page(&self, digest: &PageDigest) -> Option<&[u8]> {
        self.by_digest.get(digest).map(|page| &page[..])
    }
}

/// The pages of all tasks.
pub struct Kept {
    all: Mutex<HashMap<TaskId, (Pages, Instant)>>,
    room: usize,
}

impl Kept {
    /// Room for so many bytes.
    pub fn new(room: Option<u64>) -> Kept {
        Kept { all: Mutex::default(), room: usize::try_from(room.unwrap_or(ROOM)).unwrap_or(usize::MAX) }
    }

    /// Pages of a task that are to be kept.
    pub fn pages(&self) -> Pages {
        Pages { room: self.room, ..Pages::default() }
    }

    /// Keeps them for a while; the oldest make room.
    pub fn put(&self, task: TaskId, pages: Pages) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(&task);
        all.retain(|_, (_, since)| since.elapsed() < WHILE);
        while all.values().map(|(p, _)| p.bytes).sum::<usize>() + pages.bytes > self.room {
            let oldest = all.iter().min_by_key(|(_, (_, since))| *since).map(|(id, _)| *id);
            let Some(oldest) = oldest else { break };
            all.remove(&oldest);
        }
        if pages.bytes > 0 {
            all.insert(task, (pages, Instant::now()));
        }
    }

    /// Whether there are any.
    pub fn has(&self, task: TaskId) -> bool {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&task)
    }

    /// Takes them out.
    pub fn take(&self, task: TaskId) -> Pages {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(&task).map_or_else(|| self.pages(), |(pages, _)| pages)
    }
}
