//! Page tables: the kernel's own parts as they lie, each with the rights it needs, and the node's pages. The tables are
//! reached through themselves (the last entry of the highest one is that table), by the kernel alone: what makes an entry a
//! table also makes it a page of the lowest level.
//!
//! Which pages were written is found out by the first write to each, which faults: older processors do not note it. A page
//! that is new counts as written, so that nothing faults before somebody has asked.

use crate::tables::{self, ENTRIES, LOWEST, Part};
use aarch64_cpu::registers::{SCTLR_EL1, TTBR0_EL1, Writeable};
use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};
use wayfare_unikernel_abi::{PAGE, Rights};

/// A page, or a table.
pub const PRESENT: u64 = 0b11;
const DEVICE: u64 = 1 << 2;
pub const USER: u64 = 1 << 6;
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
pub const BORROWED: u64 = 1 << 56;
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;
pub const TABLE: u64 = PRESENT | SHARED | ACCESSED | NO_EXECUTE_KERNEL | NO_EXECUTE_USER;
const RIGHTS: u64 = READ_ONLY | NO_EXECUTE_KERNEL | NO_EXECUTE_USER | WRITABLE;

/// The kinds of memory that entries name by number: 0, all caches; 1, registers (what `DEVICE` is).
pub const MAIR: u64 = 0x04ff;
/// 48 bits of addresses, all of them in one set of tables, of 4 KiB each, which are cached.
pub const TCR: u64 = 16 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 23 | 2 << 30;
/// Paging, caches, stacks that are aligned; the other bits are as on processors that have nothing else.
pub const SCTLR: u64 = 0x30d0_0800 | 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 12;

/// The same on the kernel's own tables: what can be written to is code for nobody, whatever its entry says.
pub const SCTLR_STRICT: u64 = SCTLR | 1 << 19;

/// From the highest table to the lowest: how far an address is shifted to be an index.
pub const SHIFTS: [u32; 4] = [39, 30, 21, 12];
const ADDRESS_BITS: u32 = 48;

/// Of a page that the kernel has, and the node if it is shared.
pub fn flags(rights: Rights, is_shared: bool, is_device: bool) -> u64 {
    let not_executable = NO_EXECUTE_KERNEL | NO_EXECUTE_USER;
    let shared = if is_shared { USER } else { 0 };
    let device = if is_device { DEVICE } else { 0 };
    let rights = match rights {
        Rights::Read => not_executable | READ_ONLY,
        Rights::Write => not_executable | WRITABLE,
        Rights::Execute if is_shared => NO_EXECUTE_KERNEL | READ_ONLY,
        Rights::Execute => NO_EXECUTE_USER | READ_ONLY,
    };
    PRESENT | SHARED | ACCESSED | shared | device | rights
}

/// An entry for what is at a physical address, and back.
pub fn of_frame(physical: u64, flags: u64) -> u64 {
    physical | flags
}

/// See [`of_frame`].
pub fn frame(entry: u64) -> u64 {
    entry & ADDRESS
}

/// Whether an entry that is no page's leads to a table.
pub fn is_table(entry: u64) -> bool {
    entry & PRESENT != 0
}

/// Makes the tables and goes over to them.
///
/// Runs on the boot tables, where memory is as it lies.
pub fn init(parts: &[Part]) {
    let top = tables::table();
    tables::lay(top, parts);
    // SAFETY: the last entry, which no part uses; what runs and what it works with, this stack too, are among the parts.
    unsafe { *((top as *mut u64).add(ENTRIES - 1)) = of_frame(top, TABLE) };
    settle();
    TTBR0_EL1.set(top);
    settle();
    flush();
    SCTLR_EL1.set(SCTLR_STRICT);
    settle();
    flush();
    show(None);
}

/// Where a frame is looked at that is nowhere else yet.
static mut WINDOW: Window = Window([0; PAGE as usize]);
#[repr(C, align(4096))]
struct Window([u8; PAGE as usize]);

/// Shows a frame in the window, or none.
fn show(frame: Option<u64>) {
    let window = (&raw const WINDOW) as u64;
    let Ok(entry) = walk(window, LOWEST) else { return };
    let value = frame.map_or(0, |frame| of_frame(frame, flags(Rights::Write, false, false)));
    // SAFETY: the window's entry; what it shows is nobody's.
    unsafe { entry.write_volatile(value) };
    match frame {
        Some(_) => settle(),
        // All processors: one that was on its way here may have kept it, unasked.
        None => {
            let page = (window & ((1 << ADDRESS_BITS) - 1)) >> 12;
            // SAFETY: all forget what they know of one page.
            unsafe {
                asm!("dsb ishst", "tlbi vaae1is, {}", "dsb ish", "isb", in(reg) page, options(nostack, preserves_flags));
            }
        }
    }
}

/// Makes a frame zero that is nowhere yet.
pub fn clear(frame: u64) {
    show(Some(frame));
    // SAFETY: it is shown there, to be written to, and nobody else has it.
    unsafe { (&raw mut WINDOW).cast::<u8>().write_bytes(0, PAGE as usize) };
    show(None);
}

/// Lets the processor see what was written to tables, or what was said to it.
fn settle() {
    // SAFETY: barriers.
    unsafe { asm!("dsb ishst", "isb", options(nostack, preserves_flags)) };
}

/// All processors are to forget what they know of the tables. When this is over, what they did by it is done.
pub fn flush() {
    // SAFETY: what was known of all addresses is forgotten.
    unsafe { asm!("dsb ishst", "tlbi vmalle1is", "dsb ish", "isb", options(nostack, preserves_flags)) };
}

/// This processor has refused what is allowed by now.
pub fn look_again(address: u64) {
    let page = (address & ((1 << ADDRESS_BITS) - 1)) >> 12;
    // SAFETY: likewise, of one page, and for this processor: others look again when they refuse it.
    unsafe {
        asm!("dsb ishst", "tlbi vaae1, {}", "dsb nsh", "isb", in(reg) page, options(nostack, preserves_flags));
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

/// The entry for an address in the table of a level; or the level at which there is no next table.
pub fn walk(address: u64, to: usize) -> Result<*mut u64, usize> {
    // SAFETY: each only if those above it were there.
    match (0..to).find(|level| unsafe { *entry(*level, address) } & PRESENT == 0) {
        Some(level) => Err(level),
        None => Ok(entry(to, address)),
    }
}

/// The table that an entry leads to.
pub fn below(level: usize, address: u64) -> *mut [u64; ENTRIES] {
    (entry(level + 1, address) as u64 & !(PAGE - 1)) as *mut _
}

/// Makes a frame the table that is missing below a level.
pub fn link(level: usize, address: u64, frame: u64) -> bool {
    // Other processors look into it as soon as it is there.
    clear(frame);
    // SAFETY: the entry is in a table that is there.
    unsafe { AtomicU64::from_ptr(entry(level, address)) }.store(of_frame(frame, TABLE), Ordering::Release);
    settle();
    true
}

/// A page is there now where there was none.
pub fn arrived(_address: u64) {
    settle();
}

/// Whether the node may write to all of a range. Whoever asks is about to do it: the pages count as written.
pub fn is_writable(from: u64, to: u64) -> bool {
    (from & !(PAGE - 1)..to)
        .step_by(PAGE as usize)
        .all(|address| tables::at(address) & READ_ONLY == 0 || write_first(address))
}

/// The first write to a page since somebody asked which ones were written. `false` if the node may not write there.
pub fn write_first(address: u64) -> bool {
    let Ok(entry) = walk(address, LOWEST) else { return false };
    // SAFETY: the tables are there, and in the kernel is nobody else.
    let entry = unsafe { &mut *entry };
    let is_first = *entry & (PRESENT | READ_ONLY | WRITABLE) == PRESENT | READ_ONLY | WRITABLE;
    if is_first {
        *entry &= !READ_ONLY;
        look_again(address);
    }
    is_first
}

/// Whether the node may do this with its page.
pub fn allows(entry: u64, how: Rights) -> bool {
    match how {
        Rights::Read => true,
        Rights::Write => entry & READ_ONLY == 0,
        Rights::Execute => entry & NO_EXECUTE_USER == 0,
    }
}

/// Gives a page other rights.
pub fn set_rights(entry: &mut u64, rights: Rights) {
    *entry = *entry & !RIGHTS | flags(rights, *entry & USER != 0, false);
}

/// What was written to these pages, which are there, is seen when it is executed.
pub fn show_code(from: u64, to: u64) {
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

/// Whether a page was written since the last time.
pub fn take_written(entry: &mut u64) -> bool {
    let is_written = *entry & (WRITABLE | READ_ONLY) == WRITABLE;
    if is_written {
        *entry |= READ_ONLY;
    }
    is_written
}
