//! What the boot loader has left: the command line, and which memory there is. By PVH (QEMU's and others' `-kernel`), or by
//! Multiboot2 (GRUB, on BIOS and UEFI).

use crate::Found;
use core::ops::Range;
use wayfare_board::multiboot::{self, Information};

/// Below this address the boot tables have everything where it lies.
const REACH: u64 = 4 << 30;
/// Longest command line that is looked at, bytes.
const LINE_MAX: u64 = 4096;

/// `struct hvm_start_info` of the PVH boot protocol, version 1.
#[repr(C)]
struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    modules: u32,
    modules_at: u64,
    command_line: u64,
    rsdp: u64,
    map_at: u64,
    map_entries: u32,
    reserved: u32,
}

/// `struct hvm_memmap_table_entry`.
#[repr(C)]
#[derive(Clone, Copy)]
struct MapEntry {
    at: u64,
    size: u64,
    kind: u32,
    reserved: u32,
}

/// Most entries that are looked at.
const ENTRIES_MOST: u32 = 128;
const MAGIC: u32 = 0x336e_c578;
const RAM: u32 = 1;

/// Reads what lies at an address, as `eax` said it would; calls for each range of memory. Runs on the boot tables.
pub fn read(at: u64, magic: u32, found: &mut Found, memory: &mut dyn FnMut(Range<u64>)) {
    if magic == multiboot::MAGIC {
        let head = bytes(at, 4).first_chunk().copied().unwrap_or_default();
        let information = Information::new(bytes(at, multiboot::len(head) as u64));
        found.set_command_line(information.command_line());
        information.memory().for_each(memory);
    } else {
        pvh(at, found, memory);
    }
    devices(found);
}

/// Bytes that the boot loader has left, as many of them as can be reached.
fn bytes(at: u64, len: u64) -> &'static [u8] {
    let len = len.min(REACH.saturating_sub(at)) as usize;
    // SAFETY: the boot loader says that they are there, where the boot tables have everything; nobody writes to them before
    // memory is given out.
    unsafe { core::slice::from_raw_parts(at as *const u8, len) }
}

fn pvh(at: u64, found: &mut Found, memory: &mut dyn FnMut(Range<u64>)) {
    let start = bytes(at, size_of::<StartInfo>() as u64);
    assert!(start.len() == size_of::<StartInfo>(), "the boot loader's information is out of reach");
    // SAFETY: so many bytes are there, and any are good.
    let info = unsafe { start.as_ptr().cast::<StartInfo>().read_unaligned() };
    if info.magic != MAGIC || info.version < 1 {
        panic!("this was booted neither by PVH, version 1, nor by Multiboot2");
    }
    if info.command_line != 0 {
        let text = bytes(info.command_line, LINE_MAX);
        found.set_command_line(text.split(|byte| *byte == 0).next().unwrap_or_default());
    }
    let entries = bytes(info.map_at, u64::from(info.map_entries.min(ENTRIES_MOST)) * size_of::<MapEntry>() as u64);
    for entry in entries.chunks_exact(size_of::<MapEntry>()) {
        // SAFETY: as above.
        let entry = unsafe { entry.as_ptr().cast::<MapEntry>().read_unaligned() };
        if entry.kind == RAM {
            memory(entry.at..entry.at.saturating_add(entry.size));
        }
    }
}

/// The devices that the command line says there are: `virtio_mmio.device=SIZE@ADDRESS:LINE`, as for Linux.
fn devices(found: &mut Found) {
    let text = found.command_line;
    for word in text[..found.command_line_len].split(|byte| *byte == b' ') {
        let Some((physical, len, line)) = core::str::from_utf8(word).ok().and_then(device) else { continue };
        found.add_device(physical, len, line);
    }
}

fn device(word: &str) -> Option<(u64, u64, usize)> {
    let (size, rest) = word.strip_prefix("virtio_mmio.device=")?.split_once('@')?;
    let mut rest = rest.split(':');
    let address = rest.next()?.strip_prefix("0x")?;
    let (number, unit) = match size.strip_suffix('K') {
        Some(number) => (number, 1024),
        None => (size, 1),
    };
    let size = number.parse::<u64>().ok()?.checked_mul(unit)?;
    Some((u64::from_str_radix(address, 16).ok()?, size, rest.next()?.parse().ok()?))
}
