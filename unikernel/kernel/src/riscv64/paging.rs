//! Page tables, of three levels, which every processor has that has any: the kernel's own parts as they lie, each with the
//! rights it needs, the node's pages, and memory that is given out, for the kernel alone (the tables are reached there).
//!
//! Which pages were written is noted by some processors; others fault at the first write. A page that is new counts as
//! written, so that nothing faults before somebody has asked.

use super::others;
use crate::tables::{self, ENTRIES, LOWEST, Part};
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use riscv::asm::{fence_i, sfence_vma, sfence_vma_all};
use riscv::register::satp;
use wayfare_unikernel_abi::{NODE, PAGE, Rights};

pub const PRESENT: u64 = 1;
const READABLE: u64 = 1 << 1;
const WRITABLE: u64 = 1 << 2;
const EXECUTABLE: u64 = 1 << 3;
pub const USER: u64 = 1 << 4;
const ACCESSED: u64 = 1 << 6;
const DIRTY: u64 = 1 << 7;
/// The node's frame, which is not one to give back.
pub const BORROWED: u64 = 1 << 8;
const RIGHTS: u64 = READABLE | WRITABLE | EXECUTABLE;

/// Only what leads to a table has no rights of its own.
pub const TABLE: u64 = PRESENT;
/// From the highest table to the lowest: how far an address is shifted to be an index.
pub const SHIFTS: [u32; 3] = [30, 21, 12];
/// Above are the kernel's own addresses.
const USER_END: u64 = 1 << 38;
/// Where the kernel reaches memory that is given out: at its physical address, from here on.
const REACH: u64 = !0 << 38;

/// Physical address of the highest table.
static TOP: AtomicU64 = AtomicU64::new(0);

/// Of a page that the kernel has, and the node if it is shared. That something is a device, the processor knows by where it
/// lies.
pub fn flags(rights: Rights, is_shared: bool, _is_device: bool) -> u64 {
    let shared = if is_shared { USER } else { 0 };
    let rights = match rights {
        Rights::Read => READABLE,
        Rights::Write => READABLE | WRITABLE | DIRTY,
        Rights::Execute => READABLE | EXECUTABLE,
    };
    PRESENT | ACCESSED | shared | rights
}

/// An entry for what is at a physical address, and back.
pub fn of_frame(physical: u64, flags: u64) -> u64 {
    physical >> 2 | flags
}

/// See [`of_frame`].
pub fn frame(entry: u64) -> u64 {
    entry << 2 & 0x00ff_ffff_ffff_f000
}

/// Whether an entry leads to a table.
pub fn is_table(entry: u64) -> bool {
    entry & (PRESENT | RIGHTS) == PRESENT
}

/// Makes the tables and goes over to them. `memory` is what is given out.
///
/// Runs without paging.
pub fn init(parts: &[Part], memory: &[Range<u64>]) {
    let kernel = parts.iter().all(|part| part.to <= NODE.start);
    assert!(kernel, "the kernel has parts where the node is to be");
    let top = tables::table();
    tables::lay(top, parts);
    for range in memory {
        let (mut at, end) = (range.start.next_multiple_of(PAGE), (range.end & !(PAGE - 1)).min(USER_END));
        while at < end {
            let fits = |shift: &u32| at.is_multiple_of(1 << shift) && end - at >= 1 << shift;
            let level = SHIFTS.iter().position(fits).unwrap_or(LOWEST);
            tables::place(top, REACH + at, level, of_frame(at, flags(Rights::Write, false, false)));
            at += 1 << SHIFTS[level];
        }
    }
    TOP.store(top, Ordering::Relaxed);
    // SAFETY: what runs and what it works with, this stack too, are among the parts.
    unsafe { satp::set(satp::Mode::Sv39, 0, (top / PAGE) as usize) };
    sfence_vma_all();
    assert!(satp::read().mode() == satp::Mode::Sv39, "the processor has no paging");
}

/// The entry for an address of the node's in the table of a level, 0 for the highest; or the level at which there is no
/// next table.
pub fn walk(address: u64, to: usize) -> Result<*mut u64, usize> {
    let mut table = TOP.load(Ordering::Relaxed);
    if address >= USER_END {
        return Err(0);
    }
    for (level, shift) in SHIFTS.iter().enumerate() {
        let entry = (REACH + table + (address >> shift) % ENTRIES as u64 * 8) as *mut u64;
        if level == to {
            return Ok(entry);
        }
        // SAFETY: the table is there: the highest is, and of the others it was looked at. They come from memory that is
        // given out, which the kernel reaches.
        let value = unsafe { *entry };
        if !is_table(value) {
            return Err(level);
        }
        table = frame(value);
    }
    Err(LOWEST)
}

/// The table that an entry leads to.
pub fn below(level: usize, address: u64) -> *mut [u64; ENTRIES] {
    // SAFETY: the tables were looked at.
    let entry = walk(address, level).map_or(0, |entry| unsafe { *entry });
    (REACH + frame(entry)) as *mut _
}

/// Makes a frame the table that is missing below a level. `false` for an address that no table is for.
pub fn link(level: usize, address: u64, frame: u64) -> bool {
    let Ok(entry) = walk(address, level) else { return false };
    // Other processors look into it as soon as it is there.
    clear(frame);
    // SAFETY: the entry is in a table that is there, and of no page.
    unsafe { AtomicU64::from_ptr(entry) }.store(of_frame(frame, TABLE), Ordering::Release);
    true
}

/// Makes a frame zero that is nowhere yet.
pub fn clear(frame: u64) {
    // SAFETY: it was just taken, and the kernel reaches it.
    unsafe { core::ptr::write_bytes((REACH + frame) as *mut u8, 0, PAGE as usize) };
}

/// A page is there now where there was none. Other processors, which may have kept that there was none, come in when they
/// touch it, and are told so then.
pub fn arrived(address: u64) {
    sfence_vma(0, address as usize);
}

/// This processor has refused what is allowed by now.
pub fn look_again(address: u64) {
    sfence_vma(0, address as usize);
}

/// All processors are to forget what they know of the tables.
pub fn flush() {
    sfence_vma_all();
    others::forget();
}

/// Whether the node may write to all of a range. Whoever asks is about to do it: the pages count as written.
pub fn is_writable(from: u64, to: u64) -> bool {
    let is_written = |address: u64| tables::at(address) & (WRITABLE | DIRTY) == WRITABLE | DIRTY;
    (from & !(PAGE - 1)..to).step_by(PAGE as usize).all(|address| is_written(address) || write_first(address))
}

/// The first write to a page since somebody asked which ones were written. `false` if it is none, or the node may not write
/// there.
pub fn write_first(address: u64) -> bool {
    let Ok(entry) = walk(address, LOWEST) else { return false };
    // SAFETY: the tables are there, and in the kernel is nobody else; processors note writes.
    let entry = unsafe { AtomicU64::from_ptr(entry) };
    let is_first = entry.load(Ordering::Relaxed) & (PRESENT | USER | WRITABLE | DIRTY) == PRESENT | USER | WRITABLE;
    if is_first {
        entry.fetch_or(DIRTY, Ordering::SeqCst);
        arrived(address);
    }
    is_first
}

/// Whether the node may do this with its page.
pub fn allows(entry: u64, how: Rights) -> bool {
    entry
        & match how {
            Rights::Read => READABLE,
            Rights::Write => WRITABLE,
            Rights::Execute => EXECUTABLE,
        }
        != 0
}

/// Gives a page other rights.
pub fn set_rights(entry: &mut u64, rights: Rights) {
    *entry = *entry & !(RIGHTS | DIRTY) | flags(rights, false, false);
}

/// What was written is seen when it is executed.
pub fn show_code(_from: u64, _to: u64) {
    fence_i();
    others::see_code();
}

/// Whether a page was written since the last time.
pub fn take_written(entry: &mut u64) -> bool {
    // SAFETY: it is ours, and aligned. A processor may note a write at any time: that note must not be lost.
    unsafe { AtomicU64::from_ptr(entry) }.fetch_and(!DIRTY, Ordering::SeqCst) & DIRTY != 0
}
