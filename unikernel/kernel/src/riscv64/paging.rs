//! Page tables, of three levels, which every processor has that has any: the kernel's own parts as they lie, each with the
//! rights it needs, the node's pages, and memory that is given out, for the kernel alone (the tables are reached there).
//!
//! Which pages were written is noted by some processors; others fault at the first write. A page that is new counts as
//! written, so that nothing faults before somebody has asked.

use crate::frames;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use riscv::asm::{fence_i, sfence_vma, sfence_vma_all};
use riscv::register::satp;
use wayfare_unikernel_abi::{NODE, PAGE, Rights};

const PRESENT: u64 = 1;
const READABLE: u64 = 1 << 1;
const WRITABLE: u64 = 1 << 2;
const EXECUTABLE: u64 = 1 << 3;
const USER: u64 = 1 << 4;
const ACCESSED: u64 = 1 << 6;
const DIRTY: u64 = 1 << 7;
/// The node's frame, which is not one to give back.
const BORROWED: u64 = 1 << 8;
const RIGHTS: u64 = READABLE | WRITABLE | EXECUTABLE;

const ENTRIES: u64 = 512;
/// From the highest table to the lowest: how far an address is shifted to be an index.
const SHIFTS: [u32; 3] = [30, 21, 12];
const LOWEST: usize = 2;
/// Above are the kernel's own addresses.
const USER_END: u64 = 1 << 38;
/// Where the kernel reaches memory that is given out: at its physical address, from here on.
const REACH: u64 = !0 << 38;

/// Physical address of the highest table.
static TOP: AtomicU64 = AtomicU64::new(0);

fn flags(rights: Rights) -> u64 {
    PRESENT
        | ACCESSED
        | match rights {
            Rights::Read => READABLE,
            Rights::Write => READABLE | WRITABLE | DIRTY,
            Rights::Execute => READABLE | EXECUTABLE,
        }
}

/// An entry for what is at a physical address, and back.
fn of_frame(physical: u64, flags: u64) -> u64 {
    physical >> 2 | flags
}

fn frame(entry: u64) -> u64 {
    entry << 2 & 0x00ff_ffff_ffff_f000
}

fn is_table(entry: u64) -> bool {
    entry & (PRESENT | RIGHTS) == PRESENT
}

/// A part of the address space that stays where it is.
pub struct Part {
    pub from: u64,
    pub to: u64,
    pub rights: Rights,
    /// The node may use it too.
    pub is_shared: bool,
}

/// Makes the tables and goes over to them. `memory` is what is given out.
///
/// Runs without paging.
pub fn init(parts: &[Part], memory: &[Range<u64>]) {
    let top = table();
    for part in parts {
        assert!(part.to <= NODE.start, "the kernel has parts where the node is to be");
        let shared = if part.is_shared { USER } else { 0 };
        for at in (part.from & !(PAGE - 1)..part.to).step_by(PAGE as usize) {
            place(top, at, LOWEST, of_frame(at, flags(part.rights) | shared | BORROWED));
        }
    }
    for range in memory {
        let (mut at, end) = (range.start.next_multiple_of(PAGE), (range.end & !(PAGE - 1)).min(USER_END));
        while at < end {
            let fits = |shift: &u32| at.is_multiple_of(1 << shift) && end - at >= 1 << shift;
            let level = SHIFTS.iter().position(fits).unwrap_or(LOWEST);
            place(top, REACH + at, level, of_frame(at, flags(Rights::Write)));
            at += 1 << SHIFTS[level];
        }
    }
    TOP.store(top, Ordering::Relaxed);
    // SAFETY: what runs and what it works with, this stack too, are among the parts.
    unsafe { satp::set(satp::Mode::Sv39, 0, (top / PAGE) as usize) };
    sfence_vma_all();
    assert!(satp::read().mode() == satp::Mode::Sv39, "the processor has no paging");
}

fn table() -> u64 {
    let at = frames::take().expect("memory for page tables");
    // SAFETY: without paging a frame is at its own address, and it was just taken.
    unsafe { core::ptr::write_bytes(at as *mut u8, 0, PAGE as usize) };
    at
}

fn place(top: u64, address: u64, level: usize, value: u64) {
    let entry = |table: u64, shift: u32| (table + (address >> shift) % ENTRIES * 8) as *mut u64;
    let mut at = top;
    // SAFETY: entries of tables that were made here.
    unsafe {
        for shift in &SHIFTS[..level] {
            let entry = entry(at, *shift);
            if *entry == 0 {
                *entry = of_frame(table(), PRESENT);
            }
            at = frame(*entry);
        }
        *entry(at, SHIFTS[level]) = value;
    }
}

/// The entry for an address of the node's in the table of a level, 0 for the highest; or the level at which there is no
/// next table.
fn walk(address: u64, to: usize) -> Result<*mut u64, usize> {
    let mut table = TOP.load(Ordering::Relaxed);
    if address >= USER_END {
        return Err(0);
    }
    for (level, shift) in SHIFTS.iter().enumerate() {
        let entry = (REACH + table + (address >> shift) % ENTRIES * 8) as *mut u64;
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

/// The entry of the page at an address, if the tables above it are there; else the level at which one is not.
fn find(address: u64) -> Result<*mut u64, usize> {
    walk(address, LOWEST)
}

/// Fills a frame that the kernel reaches with zeros.
fn clear(frame: u64) {
    // SAFETY: it was just taken.
    unsafe { core::ptr::write_bytes((REACH + frame) as *mut u8, 0, PAGE as usize) };
}

fn flush_page(address: u64) {
    sfence_vma(0, address as usize);
}

fn put(address: u64, value: u64) -> bool {
    loop {
        let missing = match find(address) {
            Ok(entry) => {
                // SAFETY: the tables are there.
                unsafe { *entry = value };
                flush_page(address);
                return true;
            }
            Err(level) => level,
        };
        let (Ok(entry), Some(frame)) = (walk(address, missing), frames::take()) else { return false };
        clear(frame);
        // SAFETY: the entry is in a table that is there, and of no page.
        unsafe { *entry = of_frame(frame, PRESENT) };
    }
}

/// Puts a zeroed page of memory at an address. `false` when there is no memory left.
pub fn map(address: u64) -> bool {
    let Some(frame) = frames::take() else { return false };
    clear(frame);
    let is_mapped = put(address, of_frame(frame, flags(Rights::Write) | USER));
    if !is_mapped {
        frames::give(frame);
    }
    is_mapped
}

/// Shows the node a frame at an address.
pub fn map_frame(address: u64, frame: u64, rights: Rights) -> bool {
    put(address, of_frame(frame, flags(rights) | USER | BORROWED))
}

/// Shows the node registers of a device: that they are, the processor knows by where they lie.
pub fn map_registers(address: u64, physical: u64) -> bool {
    map_frame(address, physical, Rights::Write)
}

fn at(address: u64) -> u64 {
    // SAFETY: the tables are there.
    find(address).map_or(0, |entry| unsafe { *entry })
}

/// Whether the node has a page there.
pub fn is_there(address: u64) -> bool {
    at(address) & (PRESENT | USER) == PRESENT | USER
}

/// Whether the node may write to all of a range. Whoever asks is about to do it: the pages count as written.
pub fn is_writable(from: u64, to: u64) -> bool {
    let is_written = |address: u64| at(address) & (WRITABLE | DIRTY) == WRITABLE | DIRTY;
    (from & !(PAGE - 1)..to).step_by(PAGE as usize).all(|address| is_written(address) || write_first(address))
}

/// The first write to a page since somebody asked which ones were written. `false` if it is none, or the node may not write
/// there.
pub fn write_first(address: u64) -> bool {
    let Ok(entry) = find(address) else { return false };
    // SAFETY: the tables are there, and nobody else has them.
    let entry = unsafe { &mut *entry };
    let is_first = *entry & (PRESENT | USER | WRITABLE | DIRTY) == PRESENT | USER | WRITABLE;
    if is_first {
        *entry |= DIRTY;
        flush_page(address);
    }
    is_first
}

/// Calls for the entry of each page of a range that is there.
fn each(from: u64, to: u64, mut found: impl FnMut(u64, &mut u64)) {
    let mut address = from;
    while address < to {
        match find(address) {
            Ok(entry) => {
                // SAFETY: the tables are there, and nobody else has them.
                let entry = unsafe { &mut *entry };
                if *entry & PRESENT != 0 {
                    found(address, entry);
                }
                address += PAGE;
            }
            // Nothing is there as far as that table reaches.
            Err(level) => address = ((address >> SHIFTS[level]) + 1) << SHIFTS[level],
        }
    }
}

/// Takes back the pages of a range, and the tables that are empty then.
pub fn unmap(from: u64, to: u64) {
    each(from, to, |_, entry| {
        if *entry & BORROWED == 0 {
            frames::give(frame(*entry));
        }
        *entry = 0;
    });
    for level in [1, 0] {
        let reach = 1u64 << SHIFTS[level];
        for address in (from & !(reach - 1)..to).step_by(reach as usize) {
            let Ok(slot) = walk(address, level) else { continue };
            // SAFETY: the table is there if its entry says so.
            unsafe {
                let table = (REACH + frame(*slot)) as *const [u64; ENTRIES as usize];
                if is_table(*slot) && (*table).iter().all(|entry| *entry == 0) {
                    frames::give(frame(*slot));
                    *slot = 0;
                }
            }
        }
    }
    sfence_vma_all();
}

/// Gives the pages of a range other rights.
pub fn protect(from: u64, to: u64, rights: Rights) {
    each(from, to, |_, entry| *entry = *entry & !(RIGHTS | DIRTY) | flags(rights));
    sfence_vma_all();
    if rights == Rights::Execute {
        fence_i();
    }
}

/// Calls for each page of a range that was written since the last time; with `all`, that is there.
pub fn written(from: u64, to: u64, all: bool, mut found: impl FnMut(u64)) {
    let mut any = false;
    each(from, to, |address, entry| {
        if all || *entry & DIRTY != 0 {
            *entry &= !DIRTY;
            any = true;
            found(address);
        }
    });
    // The processor would not note the next write to a page of which it thinks that the bit is set.
    if any {
        sfence_vma_all();
    }
}
