//! The kernel's page tables: its own parts as they lie, each with the rights it needs; everything else is in pages that
//! are given out one by one and are nowhere else to be seen. The tables are reached through themselves (the last entry
//! of the highest one is that table).

use crate::frames;
use x86_64::registers::control::Cr3;
use x86_64::structures::paging::mapper::{CleanUp, Mapper};
use x86_64::structures::paging::page_table::PageTableEntry;
use x86_64::structures::paging::{
    FrameAllocator, FrameDeallocator, Page, PageTable, PageTableFlags, PhysFrame, RecursivePageTable, Size4KiB,
};
use x86_64::{PhysAddr, VirtAddr};

const SIZE: u64 = 4096;
const TOP: *mut PageTable = 0xFFFF_FFFF_FFFF_F000 as *mut PageTable;

/// What may be done with a page.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// Read only.
    Read,
    /// Read and write.
    Write,
    /// Read and execute.
    Execute,
}

impl Rights {
    fn flags(self) -> PageTableFlags {
        PageTableFlags::PRESENT
            | match self {
                Rights::Read => PageTableFlags::NO_EXECUTE,
                Rights::Write => PageTableFlags::NO_EXECUTE | PageTableFlags::WRITABLE,
                Rights::Execute => PageTableFlags::empty(),
            }
    }
}

struct Frames;

// SAFETY: `frames` gives out each frame once.
unsafe impl FrameAllocator<Size4KiB> for Frames {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        frames::take().map(|at| PhysFrame::containing_address(PhysAddr::new(at)))
    }
}

impl FrameDeallocator<Size4KiB> for Frames {
    unsafe fn deallocate_frame(&mut self, frame: PhysFrame) {
        frames::give(frame.start_address().as_u64());
    }
}

/// Makes the kernel's tables and goes over to them. `parts` are address ranges that stay where they are.
///
/// Runs on the boot loader's tables, where the first GiB is as it lies: frames come from there first.
pub fn init(parts: &[(u64, u64, Rights)]) {
    // SAFETY: on the boot tables a frame of the first GiB is at its own address, and it was just taken.
    let table = || unsafe { &mut *(crate::frames::take().expect("memory for page tables") as *mut PageTable) };
    let fresh = |table: &mut PageTable| {
        table.zero();
        core::ptr::from_mut(table) as u64
    };
    let top = table();
    fresh(top);
    let inner = PageTableFlags::PRESENT | PageTableFlags::WRITABLE;
    for (from, to, rights) in parts {
        for at in (*from..*to).step_by(SIZE as usize) {
            let mut level = &mut *top;
            for shift in [39, 30, 21] {
                let entry: &mut PageTableEntry = &mut level[(at >> shift) as usize & 511];
                if entry.is_unused() {
                    entry.set_addr(PhysAddr::new(fresh(table())), inner);
                }
                // SAFETY: as above; the entry was made here.
                level = unsafe { &mut *(entry.addr().as_u64() as *mut PageTable) };
            }
            level[(at >> 12) as usize & 511].set_addr(PhysAddr::new(at), rights.flags());
        }
    }
    let at = PhysFrame::containing_address(PhysAddr::new(core::ptr::from_mut(top) as u64));
    top[511].set_addr(at.start_address(), inner | PageTableFlags::NO_EXECUTE);
    // SAFETY: what runs and what it works with, this stack too, are among the parts.
    unsafe { Cr3::write(at, x86_64::registers::control::Cr3Flags::empty()) };
}

fn with<R>(work: impl FnOnce(&mut RecursivePageTable<'_>) -> R) -> R {
    // SAFETY: there is one thread, and no exception handler is at work on the tables while somebody else is: neither
    // `map` nor what it calls touches a page that is not there.
    let top = unsafe { &mut *TOP };
    work(&mut RecursivePageTable::new(top).expect("the tables are reached through themselves"))
}

/// Puts a zeroed page of memory at an address. `false` when there is no memory left.
pub fn map(address: u64) -> bool {
    let Some(frame) = Frames.allocate_frame() else { return false };
    let page = Page::<Size4KiB>::containing_address(VirtAddr::new_truncate(address));
    // SAFETY: the frame is seen nowhere else.
    let mapped = with(|tables| unsafe { tables.map_to(page, frame, Rights::Write.flags(), &mut Frames) }.is_ok());
    if !mapped {
        frames::give(frame.start_address().as_u64());
        return false;
    }
    // SAFETY: it was mapped for us this moment, to be written to.
    unsafe { core::ptr::write_bytes(page.start_address().as_mut_ptr::<u8>(), 0, SIZE as usize) };
    true
}

/// Takes back the page at an address, if there is one.
pub fn unmap(address: u64) {
    let page = Page::<Size4KiB>::containing_address(VirtAddr::new_truncate(address));
    if let Ok((frame, flush)) = with(|tables| tables.unmap(page)) {
        flush.flush();
        frames::give(frame.start_address().as_u64());
    }
}

/// Takes back the tables of a range in which there are no pages any more.
pub fn clean_up(from: u64, to: u64) {
    let page = |at| Page::<Size4KiB>::containing_address(VirtAddr::new_truncate(at));
    // SAFETY: tables that are empty are used by nobody.
    with(|tables| unsafe { tables.clean_up_addr_range(Page::range_inclusive(page(from), page(to - 1)), &mut Frames) });
    x86_64::instructions::tlb::flush_all();
}

/// Gives the pages of a range other rights. `false` when one is not there.
pub fn protect(from: u64, to: u64, rights: Rights) -> bool {
    (from..to).step_by(SIZE as usize).all(|at| {
        let page = Page::<Size4KiB>::containing_address(VirtAddr::new_truncate(at));
        // SAFETY: whoever asks knows what is in them: code that nobody writes to any more, or memory that nobody runs.
        let changed = with(|tables| unsafe { tables.update_flags(page, rights.flags()) }.map(|flush| flush.flush()));
        changed.is_ok()
    })
}
