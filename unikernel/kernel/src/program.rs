//! The node's program: an ELF file that the kernel brings along, put where it wants to be.

use crate::{frames, tables};
use wayfare_unikernel_abi::{NODE, PAGE, Rights};

/// The file, as `./x unikernel` has built it.
static FILE: &Aligned<[u8]> = &Aligned(*include_bytes!(env!("WAYFARE_NODE")));

#[repr(C, align(4096))]
struct Aligned<T: ?Sized>(T);

const LOAD: u32 = 1;
const EXECUTE: u32 = 1;
const WRITE: u32 = 2;

fn u64_at(at: usize) -> u64 {
    FILE.0.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// Loads it. Gives its entry.
///
/// What is only read is mapped where it lies in the kernel; what is written gets memory of its own.
pub fn load() -> u64 {
    let file = &FILE.0;
    assert!(file.starts_with(b"\x7fELF\x02\x01"), "the node is no ELF file");
    let (first, sizes) = (u64_at(32) as usize, u64_at(54));
    let (size, count) = (sizes as u16 as usize, (sizes >> 16) as u16 as usize);
    for header in (0..count).map(|i| first + i * size) {
        let (kind, flags) = (u64_at(header) as u32, (u64_at(header) >> 32) as u32);
        if kind == LOAD {
            segment(flags, [8, 16, 32, 40].map(|field| u64_at(header + field)));
        }
    }
    u64_at(24)
}

fn segment(flags: u32, [offset, address, len, size]: [u64; 4]) {
    let (from, to) = (address & !(PAGE - 1), (address + size).next_multiple_of(PAGE));
    assert!(from >= NODE.start && to <= NODE.end, "the node is to lie where it must not");
    let rights = match (flags & WRITE != 0, flags & EXECUTE != 0) {
        (true, false) => Rights::Write,
        (false, true) => Rights::Execute,
        (false, false) => Rights::Read,
        (true, true) => panic!("the node has code that can be written"),
    };
    let inside = offset & (PAGE - 1);
    assert!(inside == address & (PAGE - 1), "the node lies in no pages");
    let bytes = FILE.0.as_ptr() as u64 + (offset - inside);
    for page in (0..to - from).step_by(PAGE as usize) {
        let mapped = if rights == Rights::Write {
            let frame = frames::take();
            frame.is_some_and(|frame| tables::map_frame(from + page, frame, Rights::Write))
        } else {
            tables::map_frame(from + page, bytes + page, rights)
        };
        assert!(mapped, "there is no memory for the node");
    }
    if rights == Rights::Write {
        // SAFETY: mapped this moment, and large enough; nobody else has it yet.
        unsafe {
            core::ptr::write_bytes(from as *mut u8, 0, (to - from) as usize);
            core::ptr::copy_nonoverlapping(bytes as *const u8, from as *mut u8, (inside + len) as usize);
        }
    }
}

/// Whose an address of code is, for people.
pub fn place(address: u64) -> &'static str {
    match NODE.contains(&address) {
        true => "the node's program",
        false => "compiled code",
    }
}
