//! A task's linear memories as another thread sees them while the task runs: which pages it wrote to, and their bytes.
//!
//! Pages are copied while the guest writes, so a copy may be torn. What makes that good enough is the order: a page is
//! armed again *before* it is copied, and a write that comes after is told of the next time. Once the task stands
//! still, one last round gives a copy that is exact.
//!
//! On Linux the kernel notes the writes (`uffd`). Where it cannot, pages are compared by their hashes with what was
//! read last.

use crate::grounds::{Claim, Grounds, Region, Visit, bytes_of};
use crate::pagemap::{self, Question, Ranges};
use crate::uffd::Uffd;
use crate::{Error, Handle};
use std::sync::{Arc, Mutex, PoisonError};
use wayfare_snapshot::PAGE_SIZE;

/// Pages of a linear memory that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRange {
    /// Index of the memory.
    pub memory: u32,
    /// Number of the first page, in units of [`PAGE_SIZE`].
    pub first: u64,
    /// Number of pages.
    pub count: u64,
}

/// How written pages are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The kernel notes writes.
    Kernel,
    /// All pages are read and compared: as correct, and slow.
    Compare,
}

/// Looks at a task's linear memories from outside, on any thread, whatever becomes of the task.
pub struct Watch {
    tracker: Tracker,
    /// Whose memories are being watched; another number means that all has to be told again.
    generation: u64,
    claim: Claim,
}

enum Tracker {
    Kernel(Uffd),
    /// By memory and page: what was told or read last.
    Compare(Mutex<Vec<Vec<Hash>>>),
}

/// Of a page, cut to 128 bits.
type Hash = [u8; 16];
/// Equal to no page's: it counts as written.
const UNKNOWN: Hash = [0xff; 16];

impl Handle {
    /// Begins to watch the task's linear memories.
    ///
    /// # Errors
    /// [`Error::Unmovable`] when the task cannot be captured, so that there is no use in it; [`Error::Watched`] while
    /// there is another watch, or a freeze.
    pub fn watch(&self) -> Result<Watch, Error> {
        let claim = self.claim()?;
        let tracker = Uffd::noting().map_or_else(Tracker::compare, Tracker::Kernel);
        Ok(Watch { tracker, generation: 0, claim })
    }

    /// [`Handle::watch`] as where the kernel does not help.
    #[doc(hidden)]
    pub fn watch_by_comparison(&self) -> Result<Watch, Error> {
        Ok(Watch { tracker: Tracker::compare(), generation: 0, claim: self.claim()? })
    }

    pub(crate) fn claim(&self) -> Result<Claim, Error> {
        if !self.unmovable().is_empty() {
            return Err(Error::Unmovable(self.unmovable().to_vec()));
        }
        self.grounds().claim().ok_or(Error::Watched)
    }
}

impl Watch {
    /// Index and bytes of every memory now; none when the task is gone.
    pub fn sizes(&self) -> Vec<(u32, u64)> {
        let visit = self.grounds().visit();
        visit.map_or_else(Vec::new, |v| v.regions.iter().map(|r| (r.index, r.size() as u64)).collect())
    }

    /// Pages written since the last call; the first call gives every page that may differ from the module's initial
    /// image, and so does the first one after the task has gone over to another image. Ascending, as few ranges as
    /// possible; none when the task is gone.
    ///
    /// A page that was never written may be among them.
    pub fn dirty(&mut self) -> Vec<PageRange> {
        let Some(visit) = self.grounds().visit() else { return Vec::new() };
        let fresh = self.generation != visit.generation;
        if fresh {
            self.generation = visit.generation;
            self.tracker.adopt(&visit);
        }
        let mut out = Vec::new();
        for (place, region) in visit.regions.iter().enumerate() {
            let size = region.size();
            let ranges = match &self.tracker {
                // After an error the pages are still unprotected, or told of now: either way none is lost.
                Tracker::Kernel(_) => pagemap::scan(Question::Take, region.base, size).unwrap_or_else(|| all(size)),
                Tracker::Compare(hashes) => {
                    let mut hashes = hashes.lock().unwrap_or_else(PoisonError::into_inner);
                    hashes.get_mut(place).map_or_else(|| all(size), |hashes| compare(region, size, hashes, fresh))
                }
            };
            let memory = region.index;
            out.extend(ranges.into_iter().map(|(first, count)| PageRange { memory, first, count }));
        }
        out
    }

    /// Those of a range that were written since the last [`Watch::dirty`], which will tell of them all the same; `None`
    /// where that cannot be said without reading them, or when the task is gone.
    pub fn written(&self, range: PageRange) -> Option<Vec<PageRange>> {
        let visit = self.grounds().visit().filter(|visit| visit.generation == self.generation)?;
        let region = visit.regions.iter().find(|region| region.index == range.memory)?;
        let bytes = bytes_of(range.first, range.count, region.size());
        let Tracker::Kernel(_) = self.tracker else { return None };
        /// To look at so many pages that need not be looked at takes as long as another call.
        const GAP: u64 = 64;
        let start = region.base + bytes.start;
        // As a rule few pages can have been written, and only there a closer look is taken.
        let mut near: Vec<(u64, u64)> = Vec::new();
        for (first, count) in pagemap::scan(Question::Open, start, bytes.len())? {
            match near.last_mut() {
                Some((from, pages)) if first - (*from + *pages) < GAP => *pages = first + count - *from,
                _ => near.push((first, count)),
            }
        }
        let mut found = Vec::new();
        for (from, pages) in near {
            let part = pagemap::scan(Question::Written, start + from as usize * PAGE_SIZE, pages as usize * PAGE_SIZE)?;
            let absolute = |(first, count)| PageRange { first: range.first + from + first, count, ..range };
            found.extend(part.into_iter().map(absolute));
        }
        Some(found)
    }

    /// Copies pages from `first` on while the guest may be writing to them. A page that was torn by that is among the
    /// next [`Watch::dirty`] ones. `false`, and nothing copied, when they are not all there or the task is gone.
    pub fn read(&self, memory: u32, first: u64, into: &mut [u8]) -> bool {
        let Some(visit) = self.grounds().visit() else { return false };
        let Some(at) = usize::try_from(first).ok().and_then(|page| page.checked_mul(PAGE_SIZE)) else { return false };
        let Some(place) = visit.regions.iter().position(|r| r.index == memory) else { return false };
        if !visit.regions[place].copy(at, into) {
            return false;
        }
        if let Tracker::Compare(hashes) = &self.tracker
            && self.generation == visit.generation
        {
            // The next comparison is with what was given here: the page may have changed since it was hashed, and
            // may yet become again what it was then.
            let mut hashes = hashes.lock().unwrap_or_else(PoisonError::into_inner);
            let known = hashes.get_mut(place).and_then(|hashes| hashes.get_mut(at / PAGE_SIZE..));
            for (known, page) in known.unwrap_or_default().iter_mut().zip(into.chunks(PAGE_SIZE)) {
                *known = if page.len() == PAGE_SIZE { hash(page) } else { UNKNOWN };
            }
        }
        true
    }

    /// How written pages are found.
    pub fn method(&self) -> Method {
        match self.tracker {
            Tracker::Kernel(_) => Method::Kernel,
            Tracker::Compare(_) => Method::Compare,
        }
    }

    fn grounds(&self) -> &Arc<Grounds> {
        self.claim.grounds()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Closing the descriptor does this too, but not before the last of its copies is closed, and a process that is
        // being started on another thread may have one for a moment.
        if let Tracker::Kernel(uffd) = &self.tracker
            && let Some(visit) = self.grounds().visit()
            && visit.generation == self.generation
        {
            visit.regions.iter().for_each(|r| uffd.unregister(r.base, r.reserved));
        }
    }
}

impl Tracker {
    fn compare() -> Tracker {
        Tracker::Compare(Mutex::default())
    }

    /// Goes over to new memories.
    fn adopt(&mut self, visit: &Visit) {
        if let Tracker::Kernel(uffd) = self {
            // All that is reserved, so that pages are covered which the memory grows by.
            if visit.regions.iter().all(|r| uffd.register(r.base, r.reserved).is_ok()) {
                return;
            }
            *self = Tracker::compare();
        }
        if let Tracker::Compare(hashes) = self {
            *hashes = Mutex::new(visit.regions.iter().map(|_| Vec::new()).collect());
        }
    }
}

fn all(size: usize) -> Ranges {
    if size == 0 { Ranges::new() } else { vec![(0, size.div_ceil(PAGE_SIZE) as u64)] }
}

/// Pages whose hashes are others now, and takes the new ones. A page that is new is one that was zero, except
/// the first time: then nothing is known, and what the kernel says has changed is told of instead, or every page.
fn compare(region: &Region, size: usize, hashes: &mut Vec<Hash>, fresh: bool) -> Ranges {
    let zero = hash(&[0; PAGE_SIZE]);
    hashes.resize(size / PAGE_SIZE, zero);
    let mut page = [0; PAGE_SIZE];
    let mut out = Ranges::new();
    for (i, known) in (0u64..).zip(hashes) {
        if !region.copy(bytes_of(i, 1, size).start, &mut page) {
            break;
        }
        let now = if page.iter().all(|byte| *byte == 0) { zero } else { hash(&page) };
        if core::mem::replace(known, now) == now {
            continue;
        }
        match out.last_mut() {
            Some((first, count)) if *first + *count == i => *count += 1,
            _ => out.push((i, 1)),
        }
    }
    if fresh { pagemap::scan(Question::Changed, region.base, size).unwrap_or_else(|| all(size)) } else { out }
}

fn hash(page: &[u8]) -> Hash {
    let mut short = [0; 16];
    short.copy_from_slice(&blake3::hash(page).as_bytes()[..16]);
    short
}
