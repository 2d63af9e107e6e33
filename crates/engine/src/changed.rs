//! Which pages of a linear memory differ from the module's initial image.
//!
//! On Linux one scan of the page tables finds those without touching any. Where the kernel lacks it, every page is
//! reported, which is correct and slower.

use alloc::vec::Vec;
use wayfare_snapshot::PAGE_SIZE;

/// Ranges of pages (first, count) that may differ from the initial image, ascending.
pub fn changed_pages(memory: &[u8]) -> Vec<(u64, u64)> {
    let pages = memory.len().div_ceil(PAGE_SIZE) as u64;
    if pages == 0 {
        return Vec::new();
    }
    #[cfg(all(feature = "std", target_os = "linux"))]
    if let Some(ranges) =
        crate::pagemap::scan(crate::pagemap::Question::Changed, memory.as_ptr() as usize, memory.len())
    {
        return ranges;
    }
    alloc::vec![(0, pages)]
}

/// Makes pages that are about to be written real. Most of the time of filling fresh memory goes to that, and the
/// kernel in one go does it quicker than one fault after the other.
pub fn populate(pages: &mut [u8]) {
    #[cfg(all(feature = "std", target_os = "linux"))]
    {
        /// Below this many bytes the call costs more than it spares.
        const FROM: usize = 16 * PAGE_SIZE;
        let skew = pages.as_ptr().align_offset(PAGE_SIZE);
        let Some(whole) = pages.get_mut(skew..).filter(|p| p.len() >= FROM) else { return };
        let len = whole.len() & !(PAGE_SIZE - 1);
        let advice = rustix::mm::Advice::LinuxPopulateWrite;
        // SAFETY: the range is page-aligned and within a slice that we hold exclusively; populating it does
        // what a write fault does, and changes no byte. An error (an old kernel) leaves all as it was.
        let _ = unsafe { rustix::mm::madvise(whole.as_mut_ptr().cast(), len, advice) };
    }
    #[cfg(not(all(feature = "std", target_os = "linux")))]
    let _ = pages;
}

/// Makes pages zero. Those that are zero already stay as they are: writing to them would make them real.
/// From `grown` on the initial image gives nothing but zeros, so that pages nobody wrote to need not be looked at.
pub fn clear(memory: &mut [u8], grown: usize) {
    let (image, rest) = memory.split_at_mut(grown.div_ceil(PAGE_SIZE).saturating_mul(PAGE_SIZE).min(memory.len()));
    let clear = |pages: &mut [u8]| {
        for page in pages.chunks_mut(PAGE_SIZE).filter(|page| page.iter().any(|b| *b != 0)) {
            page.fill(0);
        }
    };
    clear(image);
    for (first, count) in changed_pages(rest) {
        let from = first as usize * PAGE_SIZE;
        let to = (from + count as usize * PAGE_SIZE).min(rest.len());
        clear(&mut rest[from..to]);
    }
}
