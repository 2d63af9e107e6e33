//! Page tables, as far as they are the same on every machine: 512 entries each, in three levels or four. What an entry
//! looks like, and how a table is reached, `arch` knows.

use crate::arch::paging as arch;
use crate::{frames, smp};
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use wayfare_unikernel_abi::{PAGE, Rights};

/// Of a table.
pub const ENTRIES: usize = 512;
/// The level of the tables whose entries are pages; the highest one's is 0.
pub const LOWEST: usize = arch::SHIFTS.len() - 1;

unsafe extern "C" {
    static __text_start: u8;
    static __text_end: u8;
    static __rodata_end: u8;
    static __end: u8;
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

impl Part {
    /// Registers of a device, for the kernel alone.
    pub fn registers(of: Range<u64>) -> Part {
        Part { from: of.start, to: of.end, rights: Rights::Write, is_shared: false, is_device: true }
    }
}

/// The physical address of something of the kernel's, code or data: the kernel runs where it was loaded, which need not be
/// where it was linked for.
pub fn physical<T>(of: *const T) -> u64 {
    of as u64
}

/// The physical address of the kernel's first byte.
pub fn start() -> u64 {
    physical(&raw const __text_start)
}

/// The kernel's own parts; the payload, which follows it and which the node reads too; and a page behind all that a boot
/// loader writes to, for what is to survive a reset.
pub fn own_parts() -> [Part; 5] {
    let (text, text_end) = (start(), physical(&raw const __text_end));
    let (rodata_end, end) = (physical(&raw const __rodata_end), physical(&raw const __end));
    let (from, to) = crate::payload_place().map_or((end, end), |(at, len)| (at, (at + len).next_multiple_of(PAGE)));
    let part = |from, to, rights| Part { from, to, rights, is_shared: false, is_device: false };
    [
        part(text, text_end, Rights::Execute),
        part(text_end, rodata_end, Rights::Read),
        part(rodata_end, end, Rights::Write),
        Part { is_shared: true, ..part(from, to, Rights::Read) },
        part(to, to + PAGE, Rights::Write),
    ]
}

/// A table in which nothing is, before there is paging: a frame is at its own address.
pub fn table() -> u64 {
    let at = frames::take().expect("memory for page tables");
    // SAFETY: it was just taken.
    unsafe { core::ptr::write_bytes(at as *mut u8, 0, PAGE as usize) };
    at
}

/// Puts an entry into the table of a level, likewise.
pub fn place(top: u64, address: u64, level: usize, value: u64) {
    let entry = |table: u64, shift: u32| (table + (address >> shift) % ENTRIES as u64 * 8) as *mut u64;
    let mut at = top;
    // SAFETY: entries of tables that were made by `table`.
    unsafe {
        for shift in &arch::SHIFTS[..level] {
            let entry = entry(at, *shift);
            if *entry == 0 {
                *entry = arch::of_frame(table(), arch::TABLE);
            }
            at = arch::frame(*entry);
        }
        *entry(at, arch::SHIFTS[level]) = value;
    }
}

/// Puts the pages of parts into the tables below one, likewise.
pub fn lay(top: u64, parts: &[Part]) {
    for part in parts {
        for at in (part.from & !(PAGE - 1)..part.to).step_by(PAGE as usize) {
            let flags = arch::flags(part.rights, part.is_shared, part.is_device) | arch::BORROWED;
            place(top, at, LOWEST, arch::of_frame(at, flags));
        }
    }
}

fn put(address: u64, value: u64) -> bool {
    loop {
        let missing = match arch::walk(address, LOWEST) {
            Ok(entry) => {
                // SAFETY: the tables are there.
                unsafe { AtomicU64::from_ptr(entry) }.store(value, Ordering::Release);
                arch::arrived(address);
                return true;
            }
            Err(level) => level,
        };
        let Some(frame) = frames::take() else { return false };
        if !arch::link(missing, address, frame) {
            frames::give(frame);
            return false;
        }
    }
}

/// Puts a zeroed page of memory at an address. It may count as written. `false` when there is no memory left.
pub fn map(address: u64) -> bool {
    let Some(frame) = frames::take() else { return false };
    let page = address & !(PAGE - 1);
    // Threads on other processors find it as soon as it is there.
    if !smp::is_alone() {
        arch::clear(frame);
    }
    if !put(page, arch::of_frame(frame, arch::flags(Rights::Write, true, false))) {
        frames::give(frame);
        return false;
    }
    if smp::is_alone() {
        // SAFETY: it was mapped for us this moment, to be written to.
        unsafe { core::ptr::write_bytes(page as *mut u8, 0, PAGE as usize) };
    }
    true
}

/// Puts a page of memory at an address, for the kernel alone. `false` when there is no memory left.
pub fn map_own(address: u64) -> bool {
    let Some(frame) = frames::take() else { return false };
    let is_there = put(address, arch::of_frame(frame, arch::flags(Rights::Write, false, false)));
    if !is_there {
        frames::give(frame);
    }
    is_there
}

/// Shows the node a frame at an address.
pub fn map_frame(address: u64, frame: u64, rights: Rights) -> bool {
    put(address, arch::of_frame(frame, arch::flags(rights, true, false) | arch::BORROWED))
}

/// Shows the node registers of a device.
pub fn map_registers(address: u64, physical: u64) -> bool {
    put(address, arch::of_frame(physical, arch::flags(Rights::Write, true, true) | arch::BORROWED))
}

/// The entry of the page at an address; 0 if there is none.
pub fn at(address: u64) -> u64 {
    // SAFETY: the tables are there.
    arch::walk(address, LOWEST).map_or(0, |entry| unsafe { *entry })
}

/// Whether the node has a page there.
pub fn is_there(address: u64) -> bool {
    const BOTH: u64 = arch::PRESENT | arch::USER;
    at(address) & BOTH == BOTH
}

/// Whether the node may use the page at an address so.
pub fn allows(address: u64, how: Rights) -> bool {
    is_there(address) && arch::allows(at(address), how)
}

/// Calls for the entry of each page of a range that is there.
fn each(from: u64, to: u64, mut found: impl FnMut(u64, &mut u64)) {
    let mut address = from;
    while address < to {
        match arch::walk(address, LOWEST) {
            Ok(entry) => {
                // SAFETY: the tables are there, and in the kernel is nobody else; for what processors note in them meanwhile,
                // `take_written` is careful.
                let entry = unsafe { &mut *entry };
                if *entry & arch::PRESENT != 0 {
                    found(address, entry);
                }
                address += PAGE;
            }
            // Nothing is there as far as that table reaches.
            Err(level) => address = ((address >> arch::SHIFTS[level]) + 1) << arch::SHIFTS[level],
        }
    }
}

/// Takes back the pages of a range, and the tables that are empty then.
pub fn unmap(from: u64, to: u64) {
    each(from, to, |_, entry| {
        if *entry & arch::BORROWED == 0 {
            frames::give(arch::frame(*entry));
        }
        *entry = 0;
    });
    for level in (0..LOWEST).rev() {
        let reach = 1u64 << arch::SHIFTS[level];
        for address in (from & !(reach - 1)..to).step_by(reach as usize) {
            let Ok(slot) = arch::walk(address, level) else { continue };
            // SAFETY: the table is there if its entry says so.
            unsafe {
                if arch::is_table(*slot) && (*arch::below(level, address)).iter().all(|entry| *entry == 0) {
                    frames::give(arch::frame(*slot));
                    *slot = 0;
                    // What is reached through it now is another table.
                    arch::flush();
                }
            }
        }
    }
    arch::flush();
}

/// Gives the pages of a range other rights.
pub fn protect(from: u64, to: u64, rights: Rights) {
    each(from, to, |_, entry| arch::set_rights(entry, rights));
    arch::flush();
    if rights == Rights::Execute {
        arch::show_code(from, to);
    }
}

/// Calls for each page of a range that was written since the last time; with `all`, that is there.
pub fn written(from: u64, to: u64, all: bool, mut found: impl FnMut(u64)) {
    let mut any = false;
    each(from, to, |address, entry| {
        let is_written = !all && arch::take_written(entry);
        any |= is_written;
        if all || is_written {
            found(address);
        }
    });
    // A processor would not note the next write to a page of which it thinks that it was written. When this is over, what was
    // written without a note is in memory, before anybody copies the page; and what comes is noted.
    if any {
        arch::flush();
    }
}
