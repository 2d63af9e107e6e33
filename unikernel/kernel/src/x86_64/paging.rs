//! What entries of page tables look like, and how the tables are reached: through themselves (the last entry of the highest
//! one is that table), by the kernel alone. Which pages were written, the processor notes.

use super::others;
use crate::tables::{self, ENTRIES, LOWEST, Part};
use core::sync::atomic::{AtomicU64, Ordering};
use wayfare_unikernel_abi::{NODE, PAGE, Rights};
use x86_64::instructions::tlb;
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::paging::PhysFrame;
use x86_64::{PhysAddr, VirtAddr};

pub const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
pub const USER: u64 = 1 << 2;
const UNCACHED: u64 = 1 << 3 | 1 << 4;
const DIRTY: u64 = 1 << 6;
/// The node's frame, which is not one to give back.
pub const BORROWED: u64 = 1 << 9;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// The pages say what may be done with them.
pub const TABLE: u64 = PRESENT | WRITABLE | USER;
/// From the highest table to the lowest: how far an address is shifted to be an index.
pub const SHIFTS: [u32; 4] = [39, 30, 21, 12];

/// Of a page that the kernel has, and the node if it is shared.
pub fn flags(rights: Rights, is_shared: bool, is_device: bool) -> u64 {
    let shared = if is_shared { USER } else { 0 };
    let device = if is_device { UNCACHED } else { 0 };
    let rights = match rights {
        Rights::Read => NO_EXECUTE,
        Rights::Write => NO_EXECUTE | WRITABLE,
        Rights::Execute => 0,
    };
    PRESENT | shared | device | rights
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
/// Runs on the boot loader's tables, where 4 GiB are as they lie: frames come from there first.
pub fn init(parts: &[Part]) {
    let is_clear = |part: &Part| part.to <= NODE.start || part.from >= NODE.end;
    assert!(parts.iter().all(is_clear), "the image is so large that it lies where the node is to be");
    let top = tables::table();
    tables::lay(top, parts);
    // SAFETY: the last entry, which no part uses; what runs and what it works with, this stack too, are among the parts.
    unsafe {
        *((top as *mut u64).add(ENTRIES - 1)) = top | PRESENT | WRITABLE | NO_EXECUTE;
        Cr3::write(PhysFrame::containing_address(PhysAddr::new(top)), Cr3Flags::empty());
    }
}

/// Where a frame is looked at that is nowhere else yet.
static mut WINDOW: Window = Window([0; PAGE as usize]);
#[repr(C, align(4096))]
struct Window([u8; PAGE as usize]);

/// Makes a frame zero that is nowhere yet.
pub fn clear(frame: u64) {
    let window = &raw mut WINDOW;
    let Ok(entry) = walk(window as u64, LOWEST) else { return };
    // SAFETY: the window is used for nothing else, and what it shows is nobody's. Each processor forgets what it showed
    // before it shows something else there.
    unsafe {
        entry.write_volatile(of_frame(frame, flags(Rights::Write, false, false)));
        tlb::flush(VirtAddr::from_ptr(window));
        window.cast::<u8>().write_bytes(0, PAGE as usize);
    }
}

/// The entry for an address in the table of a level. It is there if those above it say so.
fn entry(level: usize, address: u64) -> *mut u64 {
    let bits = 9 * (level as u32 + 1);
    // With the highest table's last index in front, once for each level that is left out.
    let index = address >> SHIFTS[level] & ((1 << bits) - 1);
    let place = !0 << (bits + 3) | index << 3;
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
    true
}

/// A page is there now where there was none: that there is none, the processor has not kept.
pub fn arrived(_address: u64) {}

/// This processor has refused what is allowed by now. It knows it from the fault.
pub fn look_again(_address: u64) {}

/// All processors are to forget what they know of the tables.
pub fn flush() {
    tlb::flush_all();
    others::forget();
}

/// Gives a page other rights.
pub fn set_rights(entry: &mut u64, rights: Rights) {
    *entry = *entry & !(WRITABLE | NO_EXECUTE) | flags(rights, false, false);
}

/// What was written is seen when it is executed.
pub fn show_code(_from: u64, _to: u64) {}

/// Whether a page was written since the last time.
pub fn take_written(entry: &mut u64) -> bool {
    // SAFETY: it is ours, and aligned. A processor may note a write at any time: that note must not be lost.
    unsafe { AtomicU64::from_ptr(entry) }.fetch_and(!DIRTY, Ordering::SeqCst) & DIRTY != 0
}

/// Whether the node may do this with its page.
pub fn allows(entry: u64, how: Rights) -> bool {
    match how {
        Rights::Read => true,
        Rights::Write => entry & WRITABLE != 0,
        Rights::Execute => entry & NO_EXECUTE == 0,
    }
}

/// Whether the node may write to all of a range.
pub fn is_writable(from: u64, to: u64) -> bool {
    (from & !(PAGE - 1)..to).step_by(PAGE as usize).all(|address| tables::at(address) & WRITABLE != 0)
}
