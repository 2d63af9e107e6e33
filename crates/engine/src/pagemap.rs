//! What the kernel knows about pages without anybody touching them: `PAGEMAP_SCAN` (Linux 6.7).
//!
//! wasmtime maps a module's data copy-on-write from a file and everything else as anonymous memory, so a page is
//! private and present (or swapped out) exactly when somebody wrote to it.

use rustix::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;
use wayfare_snapshot::PAGE_SIZE;

/// Ranges of pages (first, count) from the start of what was asked about; ascending, none next to another.
pub type Ranges = Vec<(u64, u64)>;

/// What to ask about pages.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// Which were written since they were mapped?
    Changed,
    /// Which are there, written or not, and are not write-protected by a userfaultfd? Quicker to be answered
    /// than those below [`Question::Open`]: they need a look at what is behind each entry of the page table.
    Unprotected,
    /// Which are not write-protected, there or not? The kernel has a way of its own for exactly this question, some ten
    /// times as quick as the others.
    Open,
    /// Which were written and are not write-protected?
    Written,
    /// [`Question::Written`], and protect them in the same step: no write gets between answer and protection. Only for
    /// ranges that are registered with a userfaultfd whose faults the kernel settles itself.
    Take,
}

/// `struct page_region` of `linux/fs.h`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct PageRegion {
    start: u64,
    end: u64,
    categories: u64,
}

/// `struct pm_scan_arg` of `linux/fs.h`.
#[repr(C)]
struct ScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

const PAGE_IS_WRITTEN: u64 = 1 << 1;
const PAGE_IS_FILE: u64 = 1 << 2;
const PAGE_IS_PRESENT: u64 = 1 << 3;
const PAGE_IS_SWAPPED: u64 = 1 << 4;
const PAGE_IS_PFNZERO: u64 = 1 << 5;

const PM_SCAN_WP_MATCHING: u64 = 1 << 0;
const PM_SCAN_CHECK_WPASYNC: u64 = 1 << 1;

/// Most regions that the kernel gives in one go: 96 KiB, and hardly ever filled.
const ROOM: usize = 4096;

/// The kernel's answer for the pages of a mapped range, or `None` where it has none that can be trusted. After a
/// failed [`Question::Take`] some pages may be protected without having been told: treat all as written.
pub fn scan(question: Question, start: usize, bytes: usize) -> Option<Ranges> {
    static PAGEMAP: OnceLock<Option<OwnedFd>> = OnceLock::new();
    let fd = PAGEMAP.get_or_init(open).as_ref()?;
    scan_with(fd, question, start, bytes, ROOM.min(bytes / PAGE_SIZE + 2))
}

fn open() -> Option<OwnedFd> {
    if rustix::param::page_size() != PAGE_SIZE {
        return None;
    }
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    let fd = rustix::fs::open("/proc/self/pagemap", flags, rustix::fs::Mode::empty()).ok()?;
    // Under a user-mode emulator the kernel speaks of the emulator's addresses, not ours: trust the
    // answer only after it was right about a page we have just written and one we have not.
    let mut probe = vec![0u8; 16 * PAGE_SIZE];
    let skew = probe.as_ptr().align_offset(PAGE_SIZE);
    let page = &mut probe[skew..skew + 8 * PAGE_SIZE];
    page[3 * PAGE_SIZE] = 1;
    let hit = scan_with(&fd, Question::Changed, page.as_ptr() as usize, page.len(), ROOM)?;
    let inside = |p: u64| hit.iter().any(|(first, n)| (*first..first + n).contains(&p));
    inside(3).then_some(fd)
}

fn scan_with(fd: &OwnedFd, question: Question, start: usize, bytes: usize, room: usize) -> Option<Ranges> {
    let start = start as u64;
    let end = start + (bytes.div_ceil(PAGE_SIZE) * PAGE_SIZE) as u64;
    // Else, written by us: not of the file, not the shared zero page, and there (or swapped out).
    let (not, unprotected, flags) = match question {
        Question::Changed => (PAGE_IS_FILE | PAGE_IS_PFNZERO, 0, 0),
        Question::Open => (0, PAGE_IS_WRITTEN, 0),
        Question::Unprotected => (PAGE_IS_PFNZERO, PAGE_IS_WRITTEN, 0),
        Question::Written => (PAGE_IS_FILE | PAGE_IS_PFNZERO, PAGE_IS_WRITTEN, 0),
        Question::Take => {
            (PAGE_IS_FILE | PAGE_IS_PFNZERO, PAGE_IS_WRITTEN, PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC)
        }
    };
    let mut out: Vec<(u64, u64)> = Vec::new();
    let mut regions = vec![PageRegion::default(); room];
    let mut at = start;
    while at < end {
        let mut arg = ScanArg {
            size: size_of::<ScanArg>() as u64,
            flags,
            start: at,
            end,
            walk_end: 0,
            vec: regions.as_mut_ptr() as u64,
            vec_len: regions.len() as u64,
            max_pages: 0,
            category_inverted: not,
            category_mask: not | unprotected,
            category_anyof_mask: if question == Question::Open { 0 } else { PAGE_IS_PRESENT | PAGE_IS_SWAPPED },
            return_mask: if question == Question::Open { PAGE_IS_WRITTEN } else { PAGE_IS_PRESENT },
        };
        // SAFETY: `PAGEMAP_SCAN` reads `arg` and writes at most `vec_len` regions at `vec`, which is
        // a live vector of that many. Protecting pages changes no byte of them, and a write to one goes on as
        // before, since `PM_SCAN_CHECK_WPASYNC` refuses ranges where somebody would have to settle it.
        let found = unsafe { rustix::ioctl::ioctl(fd.as_fd(), Scan(&mut arg)) }.ok()?;
        let page = |address: u64| address.clamp(start, end).saturating_sub(start) / PAGE_SIZE as u64;
        out.extend(regions.get(..found)?.iter().map(|r| (page(r.start), page(r.end))));
        // A walk that did not fill the vector has come to the end, whatever `walk_end` says: it is the place of the
        // last of the kernel's own stops (at 512 regions), and never moved on from there.
        if found < regions.len() {
            break;
        }
        if arg.walk_end <= at {
            return None;
        }
        at = arg.walk_end;
    }
    // A scan that goes on may repeat pages: behind such a stop (and what was written there since is protected now, so
    // that it must not be lost), or inside of a huge page.
    Some(union(out.into_iter().map(|(from, to)| (from, to - from))))
}

/// Puts ranges in order, and overlapping and touching ones together.
pub fn union(ranges: impl IntoIterator<Item = (u64, u64)>) -> Ranges {
    let mut out: Ranges = ranges.into_iter().filter(|(_, count)| *count > 0).collect();
    out.sort_unstable();
    out.dedup_by(|(from, count), (first, n)| {
        let touches = *from <= *first + *n;
        if touches {
            *n = (*n).max(*from + *count - *first);
        }
        touches
    });
    out
}

struct Scan<'a>(&'a mut ScanArg);

// SAFETY: the opcode is `_IOWR('f', 16, struct pm_scan_arg)`, whose argument is a pointer to a
// structure of that layout; its result is the number of regions written.
unsafe impl rustix::ioctl::Ioctl for Scan<'_> {
    type Output = usize;
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> rustix::ioctl::Opcode {
        rustix::ioctl::opcode::read_write::<ScanArg>(b'f', 16)
    }

    fn as_ptr(&mut self) -> *mut core::ffi::c_void {
        core::ptr::from_mut(self.0).cast()
    }

    unsafe fn output_from_ptr(out: rustix::ioctl::IoctlOutput, _: *mut core::ffi::c_void) -> rustix::io::Result<usize> {
        usize::try_from(out).map_err(|_| rustix::io::Errno::INVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_vector_loses_no_page() {
        let Some(fd) = open() else { return };
        // More regions than the kernel has room for itself, too.
        let pages = 2048;
        let mut memory = vec![0u8; (pages + 1) * PAGE_SIZE];
        let skew = memory.as_ptr().align_offset(PAGE_SIZE);
        let memory = &mut memory[skew..skew + pages * PAGE_SIZE];
        memory.chunks_mut(PAGE_SIZE).step_by(2).for_each(|page| page[0] = 1);
        let start = memory.as_ptr() as usize;
        for room in [1, 2, 7, 512, 513, 1024, ROOM] {
            let found = scan_with(&fd, Question::Changed, start, memory.len(), room).unwrap();
            assert_eq!(found, (0..1024).map(|i| (2 * i, 1)).collect::<Ranges>(), "room for {room}");
        }
    }
}
