//! A snapshot of a task that goes on at once: it stands still only while its pages are write-protected, and they are
//! copied while it runs. Whoever writes to a page that was not copied yet waits until it is.
//!
//! ```text
//! requesting thread   prepare_freeze   capture             collect
//!                     │ protect, while it runs │           │
//! task's thread       ─────running───────────►│frozen│────running──►
//! own thread              let writers go on            │ copy a page, let its writers go on, ... │
//! ```
//! Protecting hundreds of MiB takes longer than a task may stand still, so that most is protected before: a write then
//! only takes the protection off its page again, and puts it back on pages that were written to earlier. So there is
//! little to do once it stands still, whatever it does. Finding out which pages differ from the module's initial image
//! takes long, too, and is done before; from then on they become more only by writes to protected pages, which
//! are noted, and by pages that turn up unprotected.

use crate::changed;
use crate::grounds::{Claim, Visit, bytes_of};
use crate::pagemap::{self, Question, Ranges, union};
use crate::uffd::Uffd;
use crate::{Error, Handle, Task};
use rustix::event::{EventfdFlags, PollFd, PollFlags};
use rustix::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use wayfare_snapshot::{MemoryState, PAGE_SIZE, PageRun, Snapshot};

/// Pages that are copied and released together: a write that waits for one hardly waits longer for all, and the next
/// ones need not wait.
const BATCH: usize = 16 * PAGE_SIZE;
/// Bytes that are protected in one go. The guest cannot grow its memory meanwhile.
const PIECE: usize = 16 << 20;
/// So few pages are protected in no time once the task stands still.
const FEW: usize = 64;
/// Rounds of protecting what was written in the round before.
const ROUNDS: usize = 16;

/// Has protected a running task's memory, and waits for it to be stopped. Dropped, it lets the task be.
pub struct Freezer {
    ice: Arc<Ice>,
    worker: Option<JoinHandle<Copied>>,
    generation: u64,
    /// By memory: pages that differed when all was protected first, and those that turned up unprotected later.
    changed: Vec<(Ranges, Ranges)>,
}

/// The state of a task at one moment, of which the pages may be still being copied. Dropped, it lets the task be.
pub struct Frozen {
    snapshot: Snapshot<'static>,
    worker: Option<JoinHandle<Copied>>,
}

/// By memory, in the order of their indices.
type Copied = Result<Vec<Vec<PageRun<'static>>>, Error>;

/// What the three threads share.
struct Ice {
    uffd: Uffd,
    /// Written to when there is another phase.
    wake: OwnedFd,
    phase: Mutex<Phase>,
    claim: Claim,
}

enum Phase {
    /// Writers get their pages back.
    Arming,
    /// The task stands still, and is being protected: nobody gets a page back.
    Stopped,
    /// These are to be copied.
    Frozen(Plan),
    /// It was called off.
    Over,
}

struct Plan {
    visit: Visit,
    /// By memory: pages that differ, and those that may.
    changed: Vec<(Ranges, Ranges)>,
}

impl Handle {
    /// Protects the task's memory while it runs, for [`Freezer::frozen`]. `None` where that is impossible: the kernel
    /// lacks it or does not allow it, the memory is being watched, the task cannot be captured or is gone. Take a
    /// plain snapshot then.
    ///
    /// The task runs slower from now until the pages are copied.
    pub fn prepare_freeze(&self) -> Option<Freezer> {
        let claim = self.claim().ok()?;
        let visit = claim.grounds().visit()?;
        let uffd = Uffd::holding()?;
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok()?;
        for region in visit.regions.iter() {
            uffd.register(region.base, region.reserved).ok()?;
        }
        let ice = Arc::new(Ice { uffd, wake, phase: Mutex::new(Phase::Arming), claim });
        let work = {
            let (ice, generation) = (ice.clone(), visit.generation);
            move || ice.work(generation)
        };
        let worker = std::thread::Builder::new().name("wayfare-freeze".into()).spawn(work).ok()?;
        let mut freezer = Freezer { ice, worker: Some(worker), generation: visit.generation, changed: Vec::new() };
        let armed = freezer.arm(&visit);
        // Before the freezer may be dropped: its thread would wait to become a visitor, too, while the task, going,
        // waits for us to leave.
        drop(visit);
        armed.map(|()| freezer)
    }
}

impl Freezer {
    /// Protects everything, and again what was written meanwhile, until that is little or does not get less.
    fn arm(&mut self, visit: &Visit) -> Option<()> {
        for region in visit.regions.iter() {
            self.ice.protect(region.base, region.size())?;
        }
        // Not before all is protected: what becomes different after this shows itself.
        for region in visit.regions.iter() {
            self.changed.push((pagemap::scan(Question::Changed, region.base, region.size())?, Ranges::new()));
        }
        let mut before = u64::MAX;
        for _ in 0..ROUNDS {
            let mut unprotected = 0;
            for (region, (_, later)) in visit.regions.iter().zip(&mut self.changed) {
                let found = self.ice.protect(region.base, region.size())?;
                unprotected += found.iter().map(|(_, count)| count).sum::<u64>();
                later.extend(found);
            }
            if unprotected <= FEW as u64 || unprotected >= before {
                break;
            }
            before = unprotected;
        }
        Some(())
    }

    /// Takes the state of the captured task, on its own thread; it may be run on at once.
    ///
    /// # Errors
    /// As [`Task::snapshot`].
    pub fn frozen(mut self, task: &mut Task) -> Result<Frozen, Error> {
        let snapshot = task.state()?;
        if let Some(plan) = self.plan(task, &snapshot) {
            *self.ice.phase() = Phase::Frozen(plan);
            self.ice.wake();
            return Ok(Frozen { snapshot, worker: self.worker.take() });
        }
        // The task has gone over to other memories, or the kernel failed us: all is as it was without us.
        drop(self);
        let memories = task.pages().into_iter().map(MemoryState::into_owned).collect();
        Ok(Frozen { snapshot: Snapshot { memories, ..snapshot }, worker: None })
    }

    /// Protects what is not yet.
    fn plan(&mut self, task: &Task, snapshot: &Snapshot<'_>) -> Option<Plan> {
        let grounds = self.ice.claim.grounds();
        if !Arc::ptr_eq(grounds, task.grounds()) {
            return None;
        }
        let visit = grounds.visit().filter(|visit| visit.generation == self.generation)?;
        // Before the last scan: a page that the worker gave back after it would be missed.
        *self.ice.phase() = Phase::Stopped;
        for ((region, memory), (_, later)) in visit.regions.iter().zip(&snapshot.memories).zip(&mut self.changed) {
            later.extend(self.ice.protect(region.base, usize::try_from(memory.size).ok()?)?);
        }
        Some(Plan { visit, changed: std::mem::take(&mut self.changed) })
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        if let Some(worker) = self.worker.take() {
            *self.ice.phase() = Phase::Over;
            self.ice.wake();
            let _ = worker.join();
        }
    }
}

impl Frozen {
    /// Whether the task can run while its pages are copied; else they were copied while it stood still.
    pub fn while_running(&self) -> bool {
        self.worker.is_some()
    }

    /// Waits until all pages are copied.
    ///
    /// # Errors
    /// [`Error::System`] when the kernel failed in the middle of it.
    pub fn collect(mut self) -> Result<Snapshot<'static>, Error> {
        if let Some(worker) = self.worker.take() {
            let failed = |_| Error::System("the thread that copies pages has failed".to_string());
            let copied = worker.join().map_err(failed)??;
            for (memory, runs) in self.snapshot.memories.iter_mut().zip(copied) {
                memory.runs = runs;
            }
        }
        Ok(self.snapshot)
    }
}

impl Ice {
    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    /// Protects the pages of a memory that are there and not protected, and says which these were.
    fn protect(&self, base: usize, size: usize) -> Option<Ranges> {
        let unprotected = pagemap::scan(Question::Unprotected, base, size)?;
        for (first, count) in &unprotected {
            let range = bytes_of(*first, *count, size);
            for from in range.clone().step_by(PIECE) {
                self.uffd.protect(base + from, PIECE.min(range.end - from), true).ok()?;
            }
        }
        Some(unprotected)
    }

    /// What the thread of its own does.
    fn work(&self, generation: u64) -> Copied {
        let mut written = Vec::new();
        let plan = self.arm(&mut written);
        let called_off = || Err(Error::System("the copying of pages was called off".to_string()));
        let copied = plan.as_ref().map_or_else(called_off, |plan| self.copy(plan, &written));
        // Explicitly, as the descriptor may have a copy, for a moment, in a process that is being started.
        let visit = plan.map(|plan| plan.visit).or_else(|| self.claim.grounds().visit());
        if let Some(visit) = visit.filter(|visit| visit.generation == generation) {
            visit.regions.iter().for_each(|r| self.uffd.unregister(r.base, r.reserved));
        }
        copied
    }

    /// Gives writers their pages back until the task stands still, and notes their addresses.
    fn arm(&self, written: &mut Vec<usize>) -> Option<Plan> {
        // How many of these are protected again.
        let mut again = 0;
        loop {
            let mut fds = [PollFd::new(&self.uffd, PollFlags::IN), PollFd::new(&self.wake, PollFlags::IN)];
            let polled = rustix::event::poll(&mut fds, None);
            let _ = rustix::io::read(&self.wake, &mut [0; 8]);
            let mut phase = self.phase();
            match std::mem::replace(&mut *phase, Phase::Stopped) {
                Phase::Arming if matches!(polled, Ok(_) | Err(rustix::io::Errno::INTR)) => *phase = Phase::Arming,
                Phase::Stopped => continue,
                Phase::Frozen(plan) => return Some(plan),
                // Memory that is not served must not be protected: the caller ends the registration.
                Phase::Arming | Phase::Over => return None,
            }
            while let Some(address) = self.uffd.held() {
                let page = address & !(PAGE_SIZE - 1);
                let _ = self.uffd.protect(page, PAGE_SIZE, false);
                written.push(page);
            }
            // Half of them, so that what is being written to now is not lost again at once. It cannot have become
            // other memory: then there would be nothing registered there.
            while written.len() - again > FEW {
                for page in &written[again..again + FEW / 2] {
                    let _ = self.uffd.protect(*page, PAGE_SIZE, true);
                }
                again += FEW / 2;
            }
        }
    }

    fn copy(&self, plan: &Plan, written: &[usize]) -> Copied {
        let mut runs: Vec<Run> = Vec::new();
        for (place, (region, (changed, later))) in plan.visit.regions.iter().zip(&plan.changed).enumerate() {
            let here = written.iter().filter_map(|page| page.checked_sub(region.base));
            let here = here.filter(|at| *at < region.reserved).map(|at| ((at / PAGE_SIZE) as u64, 1));
            // Of the image, some pages have only been read: the plain snapshot leaves them out, too.
            let mut all = changed.clone();
            for (first, count) in union(later.iter().copied().chain(here)) {
                let (start, bytes) = (region.base + first as usize * PAGE_SIZE, count as usize * PAGE_SIZE);
                let found = pagemap::scan(Question::Changed, start, bytes);
                all.extend(found.unwrap_or_else(|| vec![(0, count)]).iter().map(|(from, n)| (first + from, *n)));
            }
            let run = |(first, count): (u64, u64)| {
                let bytes = count as usize * PAGE_SIZE;
                let start = region.base + first as usize * PAGE_SIZE;
                // Zeros that the system gives take no time here.
                Run { place, first, start, bytes: vec![0; bytes], done: vec![false; bytes.div_ceil(BATCH)] }
            };
            runs.extend(union(all).into_iter().map(run));
        }
        runs.sort_by_key(|run| run.start);
        for i in 0..runs.len() {
            for batch in 0..runs[i].done.len() {
                self.serve(&mut runs)?;
                if !runs[i].done[batch] {
                    runs[i].copy(batch, &self.uffd)?;
                }
            }
        }
        let mut copied: Vec<Vec<PageRun<'static>>> = plan.changed.iter().map(|_| Vec::new()).collect();
        // By address, so that those of one memory stay in order.
        for run in runs {
            copied[run.place].push(PageRun::bytes(run.first, run.bytes));
        }
        Ok(copied)
    }

    /// Copies the pages that somebody waits for.
    fn serve(&self, runs: &mut [Run]) -> Result<(), Error> {
        while let Some(address) = self.uffd.held() {
            let behind = runs.partition_point(|run| run.start <= address);
            match runs[..behind].last_mut().filter(|run| address - run.start < run.bytes.len()) {
                Some(run) => run.copy((address - run.start) / BATCH, &self.uffd)?,
                // Protected, but not to be copied? Then it was never written.
                None => self.uffd.protect(address & !(PAGE_SIZE - 1), PAGE_SIZE, false).map_err(failed)?,
            }
        }
        Ok(())
    }
}

/// Pages that follow each other in a memory.
struct Run {
    place: usize,
    first: u64,
    /// Address of the first.
    start: usize,
    bytes: Vec<u8>,
    /// By batch.
    done: Vec<bool>,
}

impl Run {
    /// Copies a batch, if it was not yet, and lets its writers go on.
    fn copy(&mut self, batch: usize, uffd: &Uffd) -> Result<(), Error> {
        let from = batch * BATCH;
        let len = BATCH.min(self.bytes.len() - from);
        if !std::mem::replace(&mut self.done[batch], true) {
            let source = core::ptr::with_exposed_provenance::<u8>(self.start + from);
            changed::populate(&mut self.bytes[from..from + len]);
            // SAFETY: the pages are in the accessible part of a memory, which stays mapped while the plan's visit
            // lasts, and nobody writes to them: they were protected while the task stood still, and are so until the
            // next statement. The other side is a part of our own vector.
            unsafe { source.copy_to_nonoverlapping(self.bytes[from..from + len].as_mut_ptr(), len) };
        }
        // Also when it was copied before: somebody may have come to wait since.
        uffd.protect(self.start + from, len, false).map_err(failed)
    }
}

fn failed(errno: rustix::io::Errno) -> Error {
    Error::System(format!("pages could not be released: {errno}"))
}
