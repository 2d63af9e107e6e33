//! A task that runs while pages of its memory are still at the machine it came from.
//!
//! Whoever touches such a page waits until it has come:
//! ```text
//! task's thread          kernel            driver
//! │ the guest touches     │                 │
//! ├──────────────────────►│ page is missing │
//! │ stopped               ├────────────────►│ Late::faults
//! │                       │                 │ ... over the link ...
//! │ goes on               │◄────────────────┤ Late::write
//! │◄──────────────────────┤                 │
//! │ calls the host: asks for all that the call will touch (`foresight`)
//! ├────────────────────────────────────────►│ Late::faults
//! │◄────────────────────────────────────────┤ Late::write
//! ```
//! Missing is a matter of the page tables: nothing is mapped at such a page, and the range is registered with a
//! userfaultfd. A page of the module's data would not be missing but come back from its file, so that fresh
//! memory takes its place first.
//!
//! **When pages never come** (a [`Late`] is dropped) the task is lost, and nothing that it could not have done with the
//! right pages may be seen of it. It cannot be left waiting, and cannot be killed: its thread may be
//! anywhere, in machine code, in `memory.copy`, in a call of the host. So the missing pages become zero, and the guest
//! runs on into a trap or a migration point, soon, while all ways out are shut: calls of the host are refused, its
//! state is not given out, its result is [`Error::Lost`]. A call that is under way touches no missing page, since
//! they were waited for before, and is let through to its end first.

use crate::grounds::{Claim, Visit};
use crate::handle::Shared;
use crate::uffd::Uffd;
use crate::{Error, Handle, PageRange, Task, foresight};
use core::ops::Range;
use rustix::event::{EventfdFlags, epoll};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::mm::{Advice, MapFlags, ProtFlags};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use wayfare_snapshot::PAGE_SIZE;
use wayfare_wasi::Function;

/// What to do where missing pages cannot be caught.
const NEEDS: &str = "this machine cannot run a task whose pages are still to come: it needs Linux with userfaultfd \
                     (CONFIG_USERFAULTFD) and pages of 4 KiB";

/// Brings a running task the pages that it was finished without ([`Arrival::finish_late`]). Pages may be written at any
/// time, in any order; once the last one is there, the task is as any other.
///
/// **Dropped before that, the task is lost**: it ends with [`Error::Lost`], without anything being seen of it that it
/// did not do with the right pages. A [`Handle::capture`] that waits is told that the task has ended. Nobody waits for
/// ever, but for a call of the host that touches a page that it did not ask for: a mistake in `foresight`.
/// Its thread stays in the kernel, and goes with the process.
///
/// [`Arrival::finish_late`]: crate::Arrival::finish_late
pub struct Late {
    absent: Arc<Absent>,
    handle: Handle,
    /// Readable when [`Late::faults`] has something to say.
    ready: OwnedFd,
}

/// What brings the pages, and the task's own thread, share.
pub struct Absent {
    inner: Mutex<Inner>,
    /// Pages have come, or never will.
    changed: Condvar,
    /// Written to when a call of the host waits for pages.
    wake: OwnedFd,
    /// All pages have come. For those who have to be quick.
    complete: AtomicBool,
}

struct Inner {
    fate: Fate,
    /// While pages are missing, and nobody else may register the memories; for ever when the task is lost.
    claim: Option<Claim>,
    /// While pages are missing, and until they have become zero if they never come.
    uffd: Option<Uffd>,
    memories: Vec<Place>,
    /// From (memory, first page) to the end.
    missing: BTreeMap<(u32, u64), u64>,
    count: u64,
    /// For [`Late::faults`]: pages that a call of the host waits for.
    wanted: Vec<PageRange>,
    /// The task is inside a call of the host, which has all the pages that it needs.
    hosted: bool,
    /// Pages that were touched in the middle of a call all the same.
    unforeseen: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Coming,
    Complete,
    Lost,
}

/// Where a memory is.
pub struct Place {
    pub index: u32,
    pub base: usize,
    /// Bytes that it had when the task came.
    pub size: usize,
    /// Bytes that the module starts with: what is not written there is not zero, but the module's data.
    pub initial: usize,
}

/// Who is to be stopped at a missing page.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Catch {
    /// The kernel, too, if that is allowed.
    Best,
    /// Code of this process only: as if it were not.
    User,
}

impl Late {
    /// Whether [`Late::begin`] can do it here.
    pub fn works() -> bool {
        Uffd::catching().is_some()
    }

    /// Takes pages away from a task that has not run.
    pub fn begin(task: &mut Task, late: &[PageRange], catch: Catch) -> Result<Late, Error> {
        let memories = task.places();
        let missing = merged(late, &memories)?;
        let handle = task.handle();
        let mut inner = Inner {
            fate: Fate::Complete,
            claim: None,
            uffd: None,
            memories,
            count: missing.iter().map(|((_, first), end)| end - first).sum(),
            missing,
            wanted: Vec::new(),
            hosted: false,
            unforeseen: 0,
        };
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(system)?;
        let ready = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(system)?;
        if inner.count > 0 {
            let best = || Uffd::catching().map(|found| found.unwrap_or_else(|user| user));
            let uffd = if catch == Catch::User { Uffd::catching_user() } else { best() };
            let uffd = uffd.ok_or_else(|| Error::System(NEEDS.into()))?;
            for source in [uffd.as_fd(), wake.as_fd()] {
                epoll::add(&ready, source, epoll::EventData::new_u64(0), epoll::EventFlags::IN).map_err(system)?;
            }
            inner.fate = Fate::Coming;
            inner.claim = Some(handle.grounds().claim().ok_or(Error::Watched)?);
            inner.take_away(&uffd).map_err(system)?;
            inner.uffd = Some(uffd);
        }
        let complete = AtomicBool::new(inner.fate == Fate::Complete);
        let absent = Arc::new(Absent { inner: Mutex::new(inner), changed: Condvar::new(), wake, complete });
        // Only now: an error before this leaves no trace but in the task, which goes with it.
        let _ = handle.shared.absent.set(absent.clone());
        Ok(Late { absent, handle, ready })
    }

    /// Readable when [`Late::faults`] has something to say. A duplicate serves as well, for a reactor that wants its own.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.ready.as_fd()
    }

    /// Pages that the task waits for and that were not told yet; does not wait itself. Call it until it gives none.
    ///
    /// As a rule each is told once: whoever forgets an answer lets the task wait for ever. (A page may be
    /// told again when a signal came to the task's thread.)
    pub fn faults(&mut self) -> Vec<PageRange> {
        let _ = rustix::io::read(&self.absent.wake, &mut [0; 8]);
        let mut inner = self.absent.lock();
        let inner = &mut *inner;
        let mut told = core::mem::take(&mut inner.wanted);
        told.retain(|range| !overlaps(&inner.missing, *range).is_empty());
        while let Some(address) = inner.uffd.as_ref().and_then(Uffd::held) {
            match inner.page_at(address) {
                Some(page) => {
                    inner.unforeseen += u64::from(inner.hosted);
                    told.push(page);
                }
                // It has come since.
                None => inner.uffd.iter().for_each(|uffd| uffd.wake(address & !(PAGE_SIZE - 1), PAGE_SIZE)),
            }
        }
        told
    }

    /// Brings whole pages from `first` on, and lets the task go on if it waits for one. Pages that are not missing are
    /// left alone: the task may have written to them since.
    ///
    /// # Errors
    /// [`Error::Misfit`] when there is no such memory, they are not whole (the memory's last may be short), or reach
    /// past the end that it had when the task came; nothing is written then. [`Error::System`] when the machine has no
    /// room for them: those that are missing still can be brought again.
    pub fn write(&mut self, memory: u32, first: u64, bytes: &[u8]) -> Result<(), Error> {
        let mut inner = self.absent.lock();
        let size = inner.place(memory)?.size;
        let end = usize::try_from(first).ok().and_then(|first| first.checked_mul(PAGE_SIZE)?.checked_add(bytes.len()));
        let end = end.filter(|end| *end <= size).ok_or_else(|| past(memory))?;
        if !bytes.len().is_multiple_of(PAGE_SIZE) && end != size {
            return Err(Error::Misfit(format!("memory {memory} has a part of a page")));
        }
        let count = bytes.len().div_ceil(PAGE_SIZE) as u64;
        let from = |page: u64| (page - first) as usize * PAGE_SIZE;
        self.bring(&mut inner, PageRange { memory, first, count }, |uffd, start, pages| {
            let (whole, rest) = bytes[from(pages.start)..from(pages.end).min(bytes.len())].as_chunks::<PAGE_SIZE>();
            // SAFETY: as `Inner::bring` says.
            unsafe { uffd.fill(start, whole.as_flattened()) }?;
            if !rest.is_empty() {
                let mut page = [0; PAGE_SIZE];
                page[..rest.len()].copy_from_slice(rest);
                let done = size_of_val(whole);
                // SAFETY: as above.
                unsafe { uffd.fill(start + done, &page) }.map_err(|(_, errno)| (done, errno))?;
            }
            Ok(())
        })
    }

    /// [`Late::write`] of zeros. Those that the module gives no other content take no memory by it.
    ///
    /// # Errors
    /// As [`Late::write`].
    pub fn zero(&mut self, memory: u32, first: u64, count: u64) -> Result<(), Error> {
        const ZEROS: &[u8] = &[0; 16 * PAGE_SIZE];
        let mut inner = self.absent.lock();
        // A page that is zero and was never written to counts as the module's own: below this it would not be that.
        let written = inner.place(memory)?.initial.div_ceil(PAGE_SIZE) as u64;
        self.bring(&mut inner, PageRange { memory, first, count }, |uffd, start, pages| {
            let middle = written.clamp(pages.start, pages.end);
            let mut done = 0;
            while done < (middle - pages.start) as usize * PAGE_SIZE {
                let len = ZEROS.len().min((middle - pages.start) as usize * PAGE_SIZE - done);
                // SAFETY: as `Inner::bring` says.
                unsafe { uffd.fill(start + done, &ZEROS[..len]) }.map_err(|(more, errno)| (done + more, errno))?;
                done += len;
            }
            // SAFETY: as `Inner::bring` says.
            let rest = unsafe { uffd.fill_zero(start + done, (pages.end - middle) as usize * PAGE_SIZE) };
            rest.map_err(|(more, errno)| (done + more, errno))
        })
    }

    /// Pages that are missing; none when the task is gone. With the last one the task becomes as any other: it can be
    /// watched and moved on, and this may be dropped.
    pub fn missing(&self) -> u64 {
        let inner = self.absent.lock();
        if inner.visit().is_some() { inner.count } else { 0 }
    }

    /// Which these are: ascending, as few ranges as possible.
    pub fn missing_pages(&self) -> Vec<PageRange> {
        let inner = self.absent.lock();
        let range = |((memory, first), end): (&(u32, u64), &u64)| PageRange {
            memory: *memory,
            first: *first,
            count: end - first,
        };
        if inner.visit().is_some() { inner.missing.iter().map(range).collect() } else { Vec::new() }
    }

    /// Pages that a call of the host touched without having waited for them before it: should be none.
    #[doc(hidden)]
    pub fn unforeseen(&self) -> u64 {
        self.absent.lock().unforeseen
    }

    /// Puts those pages of a range there that are missing: `put` is given the address and the numbers of some that
    /// follow each other, of a memory that is there and where nobody has seen anything in these places.
    fn bring(
        &self,
        inner: &mut Inner,
        range: PageRange,
        mut put: impl FnMut(&Uffd, usize, Range<u64>) -> Result<(), (usize, rustix::io::Errno)>,
    ) -> Result<(), Error> {
        let base = inner.place_of(range)?.base;
        // The task is gone, or has them all.
        let Some(_visit) = inner.visit() else { return Ok(()) };
        let Some(uffd) = inner.uffd.take() else { return Ok(()) };
        let mut result = Ok(());
        for pages in overlaps(&inner.missing, range) {
            let put = put(&uffd, base + pages.start as usize * PAGE_SIZE, pages.clone());
            let done = put.map_or_else(|(bytes, _)| pages.start + (bytes / PAGE_SIZE) as u64, |()| pages.end);
            inner.have_come(range.memory, pages.start..done);
            if let Err((_, errno)) = put {
                result = Err(Error::System(format!("pages could not be brought to the task: {errno}")));
                break;
            }
        }
        inner.uffd = Some(uffd);
        if inner.count == 0 {
            inner.unregister();
            inner.claim = None;
            inner.fate = Fate::Complete;
            self.absent.complete.store(true, Ordering::Release);
        }
        self.absent.changed.notify_all();
        result
    }
}

impl Drop for Late {
    fn drop(&mut self) {
        let mut inner = self.absent.lock();
        if inner.fate != Fate::Coming || inner.visit().is_none() {
            return;
        }
        inner.fate = Fate::Lost;
        inner.wanted.clear();
        // Else the call does it when it is over.
        if !inner.hosted {
            inner.unregister();
        }
        drop(inner);
        self.absent.changed.notify_all();
        let handle = self.handle.clone();
        let _ = std::thread::Builder::new().name("wayfare-lost".into()).spawn(move || stop(&handle));
    }
}

/// Asks a lost task to stop until it has. One request might be cleared by a resume that is just ending.
fn stop(handle: &Handle) {
    /// It may take long, if it is in the middle of a call.
    const RARELY: Duration = Duration::from_millis(100);
    let mut pause = Duration::from_micros(500);
    // A task that does not run now will not do so any more: it looks at what has become of it first.
    while handle.shared.running_since.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
        handle.trigger.fire();
        handle.canceller.cancel();
        std::thread::sleep(pause);
        pause = (pause * 2).min(RARELY);
    }
}

impl Shared {
    /// Whether the task has all of its pages, so that it has a state.
    ///
    /// # Errors
    /// [`Error::Incomplete`], [`Error::Lost`].
    pub fn has_all(&self) -> Result<(), Error> {
        match self.absent.get().map(|absent| absent.lock().fate) {
            None | Some(Fate::Complete) => Ok(()),
            Some(Fate::Coming) => Err(Error::Incomplete),
            Some(Fate::Lost) => Err(Error::Lost),
        }
    }

    pub fn is_lost(&self) -> bool {
        matches!(self.has_all(), Err(Error::Lost))
    }

    /// What is missing, if anything is or has been lost.
    pub fn absent(&self) -> Option<Arc<Absent>> {
        self.absent.get().filter(|absent| !absent.complete.load(Ordering::Acquire)).cloned()
    }
}

impl Absent {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be called before a call of the host: waits until the pages are there that it will touch.
    ///
    /// # Errors
    /// [`Error::Lost`]: the call must not be made.
    pub fn enter(&self, function: Function, args: &[u64], strings: (u32, u32), memory: &[u8]) -> Result<(), Error> {
        let base = memory.as_ptr().addr();
        foresight::foresee(function, args, strings, memory, |ranges| self.wait(base, ranges))?;
        let mut inner = self.lock();
        if inner.fate == Fate::Lost {
            return Err(Error::Lost);
        }
        inner.hosted = true;
        Ok(())
    }

    /// To be called after it.
    ///
    /// # Errors
    /// [`Error::Lost`]: the guest must not go on.
    pub fn leave(&self) -> Result<(), Error> {
        let mut inner = self.lock();
        inner.hosted = false;
        if inner.fate == Fate::Lost {
            inner.unregister();
            return Err(Error::Lost);
        }
        Ok(())
    }

    /// Waits for all pages of some ranges of bytes.
    fn wait(&self, base: usize, ranges: &[Range<usize>]) -> Result<(), Error> {
        let mut inner = self.lock();
        let Some(memory) = inner.memories.iter().find(|place| place.base == base).map(|place| place.index) else {
            return Ok(());
        };
        let page = |byte: usize| byte / PAGE_SIZE;
        let pages = ranges.iter().filter(|bytes| !bytes.is_empty()).map(|bytes| {
            let (first, end) = (page(bytes.start) as u64, page(bytes.end - 1) as u64 + 1);
            PageRange { memory, first, count: end - first }
        });
        let missing = |inner: &Inner| -> Vec<PageRange> {
            let part = |pages: Range<u64>| PageRange { memory, first: pages.start, count: pages.end - pages.start };
            pages.clone().flat_map(|range| overlaps(&inner.missing, range)).map(part).collect()
        };
        let wanted = missing(&inner);
        if wanted.is_empty() {
            return Ok(());
        }
        inner.wanted.extend(coalesced(wanted));
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        while inner.fate == Fate::Coming && !missing(&inner).is_empty() {
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        if inner.fate == Fate::Lost { Err(Error::Lost) } else { Ok(()) }
    }
}

impl Inner {
    /// While it is there, so are the memories; `None` when the task is gone, or has all that it needs.
    fn visit(&self) -> Option<Visit> {
        self.claim.as_ref()?.grounds().visit()
    }

    fn place(&self, memory: u32) -> Result<&Place, Error> {
        let place = self.memories.iter().find(|place| place.index == memory);
        place.ok_or_else(|| Error::Misfit(format!("there is no memory {memory}")))
    }

    fn place_of(&self, range: PageRange) -> Result<&Place, Error> {
        let place = self.place(range.memory)?;
        let pages = place.size.div_ceil(PAGE_SIZE) as u64;
        let fits = range.first.checked_add(range.count).is_some_and(|end| end <= pages);
        if fits { Ok(place) } else { Err(past(range.memory)) }
    }

    /// The missing page at an address.
    fn page_at(&self, address: usize) -> Option<PageRange> {
        let within = |place: &&Place| (place.base..place.base + place.size).contains(&address);
        let place = self.memories.iter().find(within)?;
        let page = PageRange { memory: place.index, first: ((address - place.base) / PAGE_SIZE) as u64, count: 1 };
        (!overlaps(&self.missing, page).is_empty()).then_some(page)
    }

    fn have_come(&mut self, memory: u32, pages: Range<u64>) {
        if pages.is_empty() {
            return;
        }
        // They were missing, all of them, so they are in one range.
        let Some((&(_, first), &end)) = self.missing.range(..=(memory, pages.start)).next_back() else { return };
        self.missing.remove(&(memory, first));
        if first < pages.start {
            self.missing.insert((memory, first), pages.start);
        }
        if pages.end < end {
            self.missing.insert((memory, pages.end), end);
        }
        self.count -= pages.end - pages.start;
    }

    /// Drops what is at the missing pages, so that whoever touches one is caught. The task does not run, nobody has
    /// seen its memories yet.
    fn take_away(&self, uffd: &Uffd) -> rustix::io::Result<()> {
        let mut places = Vec::with_capacity(self.missing.len());
        for ((memory, first), end) in &self.missing {
            let Some(place) = self.memories.iter().find(|place| place.index == *memory) else { continue };
            let at = |page: u64| place.base + page as usize * PAGE_SIZE;
            let start = core::ptr::with_exposed_provenance_mut(at(*first));
            // From the module's file a page would come back. The engine asks nothing of the mapping there but that it
            // is private and accessible: it changes protections, and unmaps all of it together.
            let data = at((place.initial.div_ceil(PAGE_SIZE) as u64).clamp(*first, *end)) - at(*first);
            let len = at(*end) - at(*first);
            if data > 0 {
                let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
                // SAFETY: whole pages in the accessible part of a memory, to which no reference is held: the task is
                // borrowed mutably by our caller. What was there is replaced by the same amount of the same sort, whose
                // content, zero, nobody sees: what is missing is registered before anything runs.
                unsafe { rustix::mm::mmap_anonymous(start, data, ProtFlags::READ | ProtFlags::WRITE, flags) }?;
            }
            // First: else the kernel might fill up what is empty with a huge page.
            uffd.register_missing(at(*first), len)?;
            places.push((at(*first), len));
        }
        // SAFETY: as above.
        unsafe { empty(&places) }
    }

    /// Makes the memories ordinary ones: what is missing is zero from now on.
    fn unregister(&mut self) {
        // Explicitly, as the descriptor may have a copy, for a moment, in a process that is being started.
        if let Some(uffd) = self.uffd.take()
            && let Some(_visit) = self.visit()
        {
            let late = |place: &&Place| place.size > 0;
            self.memories.iter().filter(late).for_each(|p| uffd.unregister(p.base, p.size.next_multiple_of(PAGE_SIZE)));
        }
    }
}

/// Drops what is at some places, given by address and length: in one step where Linux can (6.13), since each by itself
/// makes every processor wait on which this process runs.
///
/// # Safety
/// They begin and end with pages of private mappings, and nobody relies on what they hold.
pub unsafe fn empty(places: &[(usize, usize)]) -> rustix::io::Result<()> {
    /// As many as the kernel takes at once.
    const MOST: usize = 1024;
    let place = |(start, len): &(usize, usize)| (core::ptr::with_exposed_provenance_mut(*start), *len);
    let this = rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty());
    for some in places.chunks(MOST) {
        let vectors = some.iter().map(place).map(|(iov_base, iov_len)| libc::iovec { iov_base, iov_len });
        let vectors: Vec<libc::iovec> = vectors.collect();
        let all: usize = some.iter().map(|(_, len)| len).sum();
        let done = this.as_ref().ok().map(|this| {
            // SAFETY: the descriptor and the vectors are alive; as for the rest, our caller knows.
            unsafe {
                let (count, flags) = (vectors.len(), 0);
                let this = this.as_raw_fd();
                libc::syscall(libc::SYS_process_madvise, this, vectors.as_ptr(), count, libc::MADV_DONTNEED, flags)
            }
        });
        if done.is_some_and(|done| usize::try_from(done) == Ok(all)) {
            continue;
        }
        for (start, len) in some.iter().map(place) {
            // SAFETY: our caller knows.
            unsafe { rustix::mm::madvise(start, len, Advice::LinuxDontNeed) }?;
        }
    }
    Ok(())
}

/// The parts of a range that are missing.
fn overlaps(missing: &BTreeMap<(u32, u64), u64>, range: PageRange) -> Vec<Range<u64>> {
    let PageRange { memory, first, count } = range;
    let end = first.saturating_add(count);
    let before = missing.range(..(memory, first)).next_back().filter(|((m, _), _)| *m == memory);
    let parts = before.into_iter().chain(missing.range((memory, first)..(memory, end)));
    let parts = parts.map(|((_, from), to)| first.max(*from)..end.min(*to));
    parts.filter(|part| !part.is_empty()).collect()
}

/// The same pages, each in one range only.
fn coalesced(mut ranges: Vec<PageRange>) -> Vec<PageRange> {
    ranges.sort_unstable_by_key(|range| (range.memory, range.first));
    let mut out: Vec<PageRange> = Vec::new();
    for range in ranges {
        match out.last_mut() {
            Some(last) if last.memory == range.memory && range.first <= last.first + last.count => {
                last.count = last.count.max(range.first + range.count - last.first);
            }
            _ => out.push(range),
        }
    }
    out
}

/// Ranges that must be within their memories, as a map.
fn merged(late: &[PageRange], memories: &[Place]) -> Result<BTreeMap<(u32, u64), u64>, Error> {
    let exists = |range: &PageRange| {
        let place = memories.iter().find(|place| place.index == range.memory);
        let pages = place.map_or(0, |place| place.size.div_ceil(PAGE_SIZE) as u64);
        range.count > 0 && range.first.checked_add(range.count).is_some_and(|end| end <= pages)
    };
    if let Some(none) = late.iter().find(|range| !exists(range)) {
        return Err(Error::Misfit(format!("memory {} has not all of the pages that come late", none.memory)));
    }
    let all = coalesced(late.to_vec());
    Ok(all.into_iter().map(|range| ((range.memory, range.first), range.first + range.count)).collect())
}

fn past(memory: u32) -> Error {
    Error::Misfit(format!("memory {memory} has pages past its end"))
}

fn system(errno: rustix::io::Errno) -> Error {
    Error::System(format!("missing pages cannot be caught: {errno}"))
}

#[cfg(test)]
#[path = "late/tests.rs"]
mod tests;
