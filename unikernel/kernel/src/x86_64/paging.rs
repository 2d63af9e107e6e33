//! Page tables: the kernel's own parts as they lie, each with the rights it needs, and the node's pages. The tables are
//! reached through themselves (the last entry of the highest one is that table), by the kernel alone.

use crate::frames;
use wayfare_unikernel_abi::{PAGE, Rights};
use x86_64::PhysAddr;
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::paging::PhysFrame;

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const UNCACHED: u64 = 1 << 3 | 1 << 4;
const DIRTY: u64 = 1 << 6;
/// The node's frame, which is not one to give back.
const BORROWED: u64 = 1 << 9;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

const ENTRIES: u64 = 512;
/// From the highest table to the lowest: how far an address is shifted to be an index.
const SHIFTS: [u32; 4] = [39, 30, 21, 12];

fn flags(rights: Rights) -> u64 {
    PRESENT
        | match rights {
            Rights::Read => NO_EXECUTE,
            Rights::Write => NO_EXECUTE | WRITABLE,
            Rights::Execute => 0,
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
/// Runs on the boot loader's tables, where the first GiB is as it lies: frames come from there first.
pub fn init(parts: &[Part]) {
    let table = || {
        let at = frames::take().expect("memory for page tables");
        // SAFETY: on the boot tables a frame of the first GiB is at its own address, and it was just taken.
        unsafe { core::ptr::write_bytes(at as *mut u8, 0, PAGE as usize) };
        at
    };
    let place = |table: u64, index: u64| (table + index % ENTRIES * 8) as *mut u64;
    let top = table();
    for part in parts {
        let shared = if part.is_shared { USER } else { 0 };
        let device = if part.is_device { UNCACHED } else { 0 };
        for at in (part.from..part.to).step_by(PAGE as usize) {
            let mut level = top;
            // SAFETY: entries of tables that were made here.
            unsafe {
                for shift in &SHIFTS[..3] {
                    let entry = place(level, at >> shift);
                    if *entry == 0 {
                        *entry = table();
                    }
                    *entry |= PRESENT | WRITABLE | shared;
                    level = *entry & ADDRESS;
                }
                *place(level, at >> 12) = at | flags(part.rights) | shared | device | BORROWED;
            }
        }
    }
    // SAFETY: the last entry, which no part uses; what runs and what it works with, this stack too, are among the parts.
    unsafe {
        *place(top, ENTRIES - 1) = top | PRESENT | WRITABLE | NO_EXECUTE;
        Cr3::write(PhysFrame::containing_address(PhysAddr::new(top)), Cr3Flags::empty());
    }
}

/// The entry for an address in the table of a level, 0 for the highest. It is there if those above it say so.
fn entry(level: usize, address: u64) -> *mut u64 {
    let bits = 9 * (level as u32 + 1);
    // With the highest table's last index in front, once for each level that is left out.
    let index = address >> SHIFTS[level] & ((1 << bits) - 1);
    let place = !0 << (bits + 3) | index << 3;
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

fn put(address: u64, value: u64) -> bool {
    while let Err(level) = find(address) {
        let Some(frame) = frames::take() else { return false };
        let table = entry(level + 1, address) as u64 & !(PAGE - 1);
        // SAFETY: the entry is in a table that is there; with it the new one is where it is cleared.
        unsafe {
            *entry(level, address) = frame | PRESENT | WRITABLE | USER;
            core::ptr::write_bytes(table as *mut u8, 0, PAGE as usize);
        }
    }
    // SAFETY: the tables are there now.
    unsafe { *entry(3, address) = value };
    x86_64::instructions::tlb::flush(x86_64::VirtAddr::new_truncate(address));
    true
}

/// Puts a zeroed page of memory at an address. `false` when there is no memory left.
pub fn map(address: u64) -> bool {
    let Some(frame) = frames::take() else { return false };
    let page = address & !(PAGE - 1);
    if !put(page, frame | flags(Rights::Write) | USER) {
        frames::give(frame);
        return false;
    }
    // SAFETY: it was mapped for us this moment, to be written to.
    unsafe {
        core::ptr::write_bytes(page as *mut u8, 0, PAGE as usize);
        *entry(3, page) &= !DIRTY;
    }
    x86_64::instructions::tlb::flush(x86_64::VirtAddr::new_truncate(page));
    true
}

/// Shows the node a frame at an address.
pub fn map_frame(address: u64, frame: u64, rights: Rights) -> bool {
    put(address, frame | flags(rights) | USER | BORROWED)
}

/// Shows the node registers of a device.
pub fn map_registers(address: u64, physical: u64) -> bool {
    put(address, physical | flags(Rights::Write) | USER | UNCACHED | BORROWED)
}

fn at(address: u64) -> u64 {
    // SAFETY: the tables are there.
    find(address).map_or(0, |entry| unsafe { *entry })
}

/// Whether the node has a page there.
pub fn is_there(address: u64) -> bool {
    at(address) & (PRESENT | USER) == PRESENT | USER
}

/// Whether the node may write to all of a range.
pub fn is_writable(from: u64, to: u64) -> bool {
    (from & !(PAGE - 1)..to).step_by(PAGE as usize).all(|address| at(address) & WRITABLE != 0)
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

fn flush() {
    x86_64::instructions::tlb::flush_all();
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
    each(from, to, |_, entry| *entry = *entry & !(WRITABLE | NO_EXECUTE) | flags(rights));
    flush();
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
        flush();
    }
}
