//! Page tables: the kernel's own parts as they lie, each with the rights it needs, and the node's pages. The tables are
//! reached through themselves (the last entry of the highest one is that table), by the kernel alone: what makes an entry a
//! table also makes it a page of the lowest level.
//!
//! Which pages were written is found out by the first write to each, which faults: older processors do not note it. A page
//! that is new counts as written, so that nothing faults before somebody has asked.

use crate::frames;
use aarch64_cpu::registers::{SCTLR_EL1, TTBR0_EL1, Writeable};
use core::arch::asm;
use wayfare_unikernel_abi::{PAGE, Rights};

/// A page, or a table.
const PRESENT: u64 = 0b11;
const DEVICE: u64 = 1 << 2;
const USER: u64 = 1 << 6;
const READ_ONLY: u64 = 1 << 7;
/// As all processors see it.
const SHARED: u64 = 3 << 8;
/// Nobody is to be told of the first access.
const ACCESSED: u64 = 1 << 10;
const NO_EXECUTE_KERNEL: u64 = 1 << 53;
const NO_EXECUTE_USER: u64 = 1 << 54;
/// The node may write there. If it is read-only all the same, it was not written since somebody asked.
const WRITABLE: u64 = 1 << 55;
/// The node's frame, which is not one to give back.
const BORROWED: u64 = 1 << 56;
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;
const TABLE: u64 = PRESENT | SHARED | ACCESSED | NO_EXECUTE_KERNEL | NO_EXECUTE_USER;
const RIGHTS: u64 = READ_ONLY | NO_EXECUTE_KERNEL | NO_EXECUTE_USER | WRITABLE;

/// The kinds of memory that entries name by number: 0, all caches; 1, registers (what `DEVICE` is).
pub const MAIR: u64 = 0x04ff;
/// 48 bits of addresses, all of them in one set of tables, of 4 KiB each, which are cached.
pub const TCR: u64 = 16 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 23 | 2 << 30;
/// Paging, caches, stacks that are aligned; the other bits are as on processors that have nothing else.
pub const SCTLR: u64 = 0x30d0_0800 | 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 12;

const ENTRIES: u64 = 512;
/// From the highest table to the lowest: how far an address is shifted to be an index.
const SHIFTS: [u32; 4] = [39, 30, 21, 12];
const ADDRESS_BITS: u32 = 48;

fn flags(rights: Rights, user: u64) -> u64 {
    let not_executable = NO_EXECUTE_KERNEL | NO_EXECUTE_USER;
    let (is_user, rest) = (user != 0, PRESENT | SHARED | ACCESSED | user);
    rest | match rights {
        Rights::Read => not_executable | READ_ONLY,
        Rights::Write => not_executable | WRITABLE,
        Rights::Execute if is_user => NO_EXECUTE_KERNEL | READ_ONLY,
        Rights::Execute => NO_EXECUTE_USER | READ_ONLY,
    }
}

/// A part of the address space that stays where it is.
pub struct Part {
    pub from: u64,
    pub to: u64,
    pub rights: Rights,
    /// The node may use it too.
    pub is_shared: bool,
    /// Registers.
    pub is_device: bool,
}

/// Makes the tables and goes over to them.
///
/// Runs on the boot tables, where memory is as it lies.
pub fn init(parts: &[Part]) {
    let table = || {
        let at = frames::take().expect("memory for page tables");
        // SAFETY: on the boot tables a frame is at its own address, and it was just taken.
        unsafe { core::ptr::write_bytes(at as *mut u8, 0, PAGE as usize) };
        at
    };
    let place = |table: u64, index: u64| (table + index % ENTRIES * 8) as *mut u64;
    let top = table();
    for part in parts {
        let user = if part.is_shared { USER } else { 0 };
        let device = if part.is_device { DEVICE } else { 0 };
        for at in (part.from & !(PAGE - 1)..part.to).step_by(PAGE as usize) {
            let mut level = top;
            // SAFETY: entries of tables that were made here.
            unsafe {
                for shift in &SHIFTS[..3] {
                    let entry = place(level, at >> shift);
                    if *entry == 0 {
                        *entry = table() | TABLE;
                    }
                    level = *entry & ADDRESS;
                }
                *place(level, at >> 12) = at | flags(part.rights, user) | device | BORROWED;
            }
        }
    }
    // SAFETY: the last entry, which no part uses; what runs and what it works with, this stack too, are among the parts.
    unsafe { *place(top, ENTRIES - 1) = top | TABLE };
    settle();
    TTBR0_EL1.set(top);
    settle();
    flush();
    // What can be written to is code for nobody, whatever its entry says.
    SCTLR_EL1.set(SCTLR | 1 << 19);
    settle();
    flush();
}

/// Lets the processor see what was written to tables, or what was said to it.
fn settle() {
    // SAFETY: barriers.
    unsafe { asm!("dsb ishst", "isb", options(nostack, preserves_flags)) };
}

fn flush() {
    // SAFETY: what was known of all addresses is forgotten.
    unsafe { asm!("dsb ishst", "tlbi vmalle1is", "dsb ish", "isb", options(nostack, preserves_flags)) };
}

fn flush_page(address: u64) {
    let page = (address & ((1 << ADDRESS_BITS) - 1)) >> 12;
    // SAFETY: likewise, of one page.
    unsafe {
        asm!("dsb ishst", "tlbi vaae1is, {}", "dsb ish", "isb", in(reg) page, options(nostack, preserves_flags));
    }
}

/// The entry for an address in the table of a level, 0 for the highest. It is there if those above it say so.
fn entry(level: usize, address: u64) -> *mut u64 {
    let bits = 9 * (level as u32 + 1);
    // With the highest table's last index in front, once for each level that is left out.
    let index = address >> SHIFTS[level] & ((1 << bits) - 1);
    let place = (!0 << (bits + 3) | index << 3) & ((1 << ADDRESS_BITS) - 1);
    place as *mut u64
}

/// The entry of the page at an address, if the tables above it are there; else the level at which one is not.
fn find(address: u64) -> Result<*mut u64, usize> {
    for level in 0..3 {
        // SAFETY: the tables above were looked at.
        if unsafe { *entry(level, address) } & PRESENT == 0 {
            return Err(level);
        }
    }
    Ok(entry(3, address))
}

/// Nothing is at that address so far.
fn put(address: u64, value: u64) -> bool {
    while let Err(level) = find(address) {
        let Some(frame) = frames::take() else { return false };
        let table = entry(level + 1, address) as u64 & !(PAGE - 1);
        // SAFETY: the entry is in a table that is there; with it the new one is where it is cleared.
        unsafe {
            *entry(level, address) = frame | TABLE;
            settle();
            core::ptr::write_bytes(table as *mut u8, 0, PAGE as usize);
        }
    }
    // SAFETY: the tables are there now.
    unsafe { *entry(3, address) = value };
    settle();
    true
}

/// Puts a zeroed page of memory at an address. `false` when there is no memory left.
pub fn map(address: u64) -> bool {
    let Some(frame) = frames::take() else { return false };
    let page = address & !(PAGE - 1);
    if !put(page, frame | flags(Rights::Write, USER)) {
        frames::give(frame);
        return false;
    }
    // SAFETY: it was mapped for us this moment, to be written to.
    unsafe { core::ptr::write_bytes(page as *mut u8, 0, PAGE as usize) };
    true
}

/// Shows the node a frame at an address.
pub fn map_frame(address: u64, frame: u64, rights: Rights) -> bool {
    put(address, frame | flags(rights, USER) | BORROWED)
}

/// Shows the node registers of a device.
pub fn map_registers(address: u64, physical: u64) -> bool {
    put(address, physical | flags(Rights::Write, USER) | DEVICE | BORROWED)
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
    (from & !(PAGE - 1)..to).step_by(PAGE as usize).all(|address| at(address) & READ_ONLY == 0 || write_first(address))
}

/// The first write to a page since somebody asked which ones were written. `false` if the node may not write there.
pub fn write_first(address: u64) -> bool {
    let Ok(entry) = find(address) else { return false };
    // SAFETY: the tables are there, and nobody else has them.
    let entry = unsafe { &mut *entry };
    let is_first = *entry & (PRESENT | READ_ONLY | WRITABLE) == PRESENT | READ_ONLY | WRITABLE;
    if is_first {
        *entry &= !READ_ONLY;
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
            frames::give(*entry & ADDRESS);
        }
        *entry = 0;
    });
    for level in [2, 1, 0] {
        let reach = 1u64 << SHIFTS[level];
        let mut address = from & !(reach - 1);
        while address < to {
            let is_there = (0..level).all(|above| {
                // SAFETY: from the highest on, each only if the one before is there.
                unsafe { *entry(above, address) & PRESENT != 0 }
            });
            if !is_there {
                address += reach;
                continue;
            }
            let slot = entry(level, address);
            let table = (entry(level + 1, address) as u64 & !(PAGE - 1)) as *const [u64; ENTRIES as usize];
            // SAFETY: the table is there if its entry says so.
            unsafe {
                if *slot & PRESENT != 0 && (*table).iter().all(|entry| *entry == 0) {
                    frames::give(*slot & ADDRESS);
                    *slot = 0;
                    // What is reached through it now is another table.
                    flush();
                }
            }
            address += reach;
        }
    }
    flush();
}

/// Gives the pages of a range other rights.
pub fn protect(from: u64, to: u64, rights: Rights) {
    each(from, to, |_, entry| *entry = *entry & !RIGHTS | flags(rights, *entry & USER));
    flush();
    if rights == Rights::Execute {
        show_code(from, to);
    }
}

/// What was written to these pages, which are there, is seen when it is executed.
fn show_code(from: u64, to: u64) {
    let caches: u64;
    // SAFETY: asks the processor what its caches are like.
    unsafe { asm!("mrs {}, ctr_el0", out(reg) caches, options(nomem, nostack, preserves_flags)) };
    for at in (from..to).step_by(4 << (caches >> 16 & 15)) {
        // SAFETY: writes back what the data cache has of a page that is there.
        unsafe { asm!("dc cvau, {}", in(reg) at, options(nostack, preserves_flags)) };
    }
    // SAFETY: forgets what the instruction caches have.
    unsafe { asm!("dsb ish", "ic ialluis", "dsb ish", "isb", options(nostack, preserves_flags)) };
}

/// Calls for each page of a range that was written since the last time; with `all`, that is there.
pub fn written(from: u64, to: u64, all: bool, mut found: impl FnMut(u64)) {
    let mut any = false;
    each(from, to, |address, entry| {
        let is_written = *entry & (WRITABLE | READ_ONLY) == WRITABLE;
        if is_written {
            *entry |= READ_ONLY;
            any = true;
        }
        if all || is_written {
            found(address);
        }
    });
    if any {
        flush();
    }
}
