//! Which pages of a linear memory differ from the module's initial image.
//!
//! wasmtime maps a module's data copy-on-write from a file and everything else as anonymous memory, so
//! on Linux a page is private and present exactly when the guest (or a resume) wrote to it: one
//! `PAGEMAP_SCAN` finds those without touching any. Where the kernel lacks it, every page is reported,
//! which is correct and slower.

use alloc::vec::Vec;
use wayfare_snapshot::PAGE_SIZE;

/// Ranges of pages (first, count) that may differ from the initial image, ascending.
pub fn changed_pages(memory: &[u8]) -> Vec<(u64, u64)> {
    let pages = memory.len().div_ceil(PAGE_SIZE) as u64;
    if pages == 0 {
        return Vec::new();
    }
    #[cfg(all(feature = "std", target_os = "linux"))]
    if let Some(ranges) = linux::scan(memory) {
        return ranges;
    }
    alloc::vec![(0, pages)]
}

/// Makes pages that are about to be written real. Most of the time of filling fresh memory goes to that, and the
/// kernel in one go does it quicker than one fault after the other.
pub fn populate(pages: &mut [u8]) {
    #[cfg(all(feature = "std", target_os = "linux"))]
    linux::populate(pages);
    #[cfg(not(all(feature = "std", target_os = "linux")))]
    let _ = pages;
}

#[cfg(all(feature = "std", target_os = "linux"))]
mod linux {
    use super::{PAGE_SIZE, Vec};
    use rustix::fd::{AsFd, OwnedFd};
    use std::sync::OnceLock;

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

    const PAGE_IS_FILE: u64 = 1 << 2;
    const PAGE_IS_PRESENT: u64 = 1 << 3;
    const PAGE_IS_SWAPPED: u64 = 1 << 4;
    const PAGE_IS_PFNZERO: u64 = 1 << 5;

    /// The kernel's answer, or `None` where it has none that can be trusted.
    pub fn scan(memory: &[u8]) -> Option<Vec<(u64, u64)>> {
        static PAGEMAP: OnceLock<Option<OwnedFd>> = OnceLock::new();
        let fd = PAGEMAP.get_or_init(open).as_ref()?;
        scan_with(fd, memory)
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
        let hit = scan_with(&fd, page)?;
        let inside = |p: u64| hit.iter().any(|(first, n)| (*first..first + n).contains(&p));
        inside(3).then_some(fd)
    }

    fn scan_with(fd: &OwnedFd, memory: &[u8]) -> Option<Vec<(u64, u64)>> {
        let start = memory.as_ptr() as u64;
        let end = start + (memory.len().div_ceil(PAGE_SIZE) * PAGE_SIZE) as u64;
        let mut out: Vec<(u64, u64)> = Vec::new();
        let mut regions = vec![PageRegion::default(); 4096];
        let mut at = start;
        while at < end {
            let mut arg = ScanArg {
                size: size_of::<ScanArg>() as u64,
                flags: 0,
                start: at,
                end,
                walk_end: 0,
                vec: regions.as_mut_ptr() as u64,
                vec_len: regions.len() as u64,
                max_pages: 0,
                // Written by us: not of the file, not the shared zero page, and there (or swapped out).
                category_inverted: PAGE_IS_FILE | PAGE_IS_PFNZERO,
                category_mask: PAGE_IS_FILE | PAGE_IS_PFNZERO,
                category_anyof_mask: PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
                return_mask: PAGE_IS_PRESENT,
            };
            // SAFETY: `PAGEMAP_SCAN` reads `arg` and writes at most `vec_len` regions at `vec`, which is
            // a live vector of that many.
            let found = unsafe { rustix::ioctl::ioctl(fd.as_fd(), Scan(&mut arg)) }.ok()?;
            for r in &regions[..found] {
                // A scan that goes on behind a full vector may begin inside of a huge page, and then reports
                // pages before it once more.
                let page = |address: u64| address.clamp(start, end).saturating_sub(start) / PAGE_SIZE as u64;
                let (first, behind) = (page(r.start), page(r.end));
                match out.last_mut() {
                    Some((f, n)) if *f + *n >= first => *n = (*n).max(behind.saturating_sub(*f)),
                    _ if behind > first => out.push((first, behind - first)),
                    _ => {}
                }
            }
            if arg.walk_end <= at {
                return None;
            }
            at = arg.walk_end;
        }
        Some(out)
    }

    /// Below this many bytes the call costs more than it spares.
    const POPULATE_FROM: usize = 16 * PAGE_SIZE;

    pub fn populate(pages: &mut [u8]) {
        let skew = pages.as_ptr().align_offset(PAGE_SIZE);
        let Some(whole) = pages.get_mut(skew..).filter(|p| p.len() >= POPULATE_FROM) else { return };
        let len = whole.len() & !(PAGE_SIZE - 1);
        let advice = rustix::mm::Advice::LinuxPopulateWrite;
        // SAFETY: the range is page-aligned and within a slice that we hold exclusively; populating it does
        // what a write fault does, and changes no byte. An error (an old kernel) leaves all as it was.
        let _ = unsafe { rustix::mm::madvise(whole.as_mut_ptr().cast(), len, advice) };
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

        unsafe fn output_from_ptr(
            out: rustix::ioctl::IoctlOutput,
            _: *mut core::ffi::c_void,
        ) -> rustix::io::Result<usize> {
            usize::try_from(out).map_err(|_| rustix::io::Errno::INVAL)
        }
    }
}
