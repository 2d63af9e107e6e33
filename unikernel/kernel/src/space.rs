//! The node's address space: how large its slots are, and the pages that they get when they are touched.

use crate::arch::paging;
use crate::{frames, smp, tables};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use wayfare_unikernel_abi::{Area, DMA, Dma, Error, NODE, PAGE, Rights, THREADS_MOST, WINDOWS_MOST};

/// With so much memory left, pages are given out in blocks of so many bytes.
const PLENTY: u64 = 4 << 20;
const AROUND: u64 = 64 << 10;

static HEAP: [AtomicU64; 1] = [const { AtomicU64::new(0) }; 1];
static STACKS: [AtomicU64; THREADS_MOST] = [const { AtomicU64::new(0) }; THREADS_MOST];
static WINDOWS: [AtomicU64; WINDOWS_MOST] = [const { AtomicU64::new(0) }; WINDOWS_MOST];

/// Where the next memory for devices goes.
static NEXT_DMA: AtomicU64 = AtomicU64::new(DMA.start);

fn sizes(area: Area) -> &'static [AtomicU64] {
    match area {
        Area::Heap => &HEAP,
        Area::Stacks => &STACKS,
        Area::Windows => &WINDOWS,
    }
}

/// What came of a touch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Touch {
    /// There is a page now.
    Mapped,
    /// Nothing is to be there.
    NotThere,
    /// Something is, but there is no memory left.
    Full,
}

/// Somebody touched an address where no page is.
pub fn touch(address: u64) -> Touch {
    let Some((area, slot)) = Area::of(address) else { return Touch::NotThere };
    let size = sizes(area)[slot].load(Ordering::Relaxed);
    if !area.place(slot, size).contains(&address) {
        return Touch::NotThere;
    }
    let left = area != Area::Windows || frames::free() > frames::reserve();
    if !left || !tables::map(address) {
        return Touch::Full;
    }
    // Who touches one page of a linear memory mostly touches the next ones, and coming here costs more than a page does.
    if area == Area::Windows && frames::free() > PLENTY {
        let end = area.place(slot, size).end.min((address | (AROUND - 1)) + 1);
        for next in ((address & !(PAGE - 1)) + PAGE..end).step_by(PAGE as usize) {
            if tables::is_there(next) || !tables::map(next) {
                break;
            }
        }
    }
    Touch::Mapped
}

/// Makes a slot so large, and gives back what it has beyond.
pub fn resize(area: Area, slot: usize, size: u64) -> Result<(), Error> {
    let known = sizes(area).get(slot).ok_or(Error::Invalid)?;
    if size > area.slot() || !size.is_multiple_of(PAGE) {
        return Err(Error::Invalid);
    }
    let before = known.swap(size, Ordering::Relaxed);
    if size < before {
        let (old, new) = (area.place(slot, before), area.place(slot, size));
        let gone = if area == Area::Stacks { old.start..new.start } else { new.end..old.end };
        tables::unmap(gone.start, gone.end);
    }
    Ok(())
}

/// Makes sure that the pages of a range are there.
pub fn populate(from: u64, len: u64) -> Result<(), Error> {
    let to = from.checked_add(len).ok_or(Error::Invalid)?;
    for at in (from & !(PAGE - 1)..to).step_by(PAGE as usize) {
        if tables::is_there(at) {
            if !smp::is_alone() {
                // Another processor may have put it there.
                paging::arrived(at);
            }
            continue;
        }
        match touch(at) {
            Touch::Mapped => {}
            Touch::NotThere => return Err(Error::Invalid),
            Touch::Full => return Err(Error::Full),
        }
    }
    Ok(())
}

/// Bytes of the node's that the kernel is to look at: they are all there.
pub fn read(from: u64, len: u64) -> Result<&'static [u8], Error> {
    check(from, len)?;
    // SAFETY: it is the node's, and the pages are there as long as we are in the kernel. Of its threads on other processors
    // the node has promised, by the call, that none writes there.
    Ok(unsafe { core::slice::from_raw_parts(from as *const u8, len as usize) })
}

/// The same, to be written to.
pub fn write(from: u64, len: u64) -> Result<&'static mut [u8], Error> {
    check(from, len)?;
    if !paging::is_writable(from, from + len) {
        return Err(Error::Invalid);
    }
    // SAFETY: as above; none reads there either, and the node may write there itself.
    Ok(unsafe { core::slice::from_raw_parts_mut(from as *mut u8, len as usize) })
}

/// A word of the node's, which threads on other processors may change at any time. It can be written to.
pub fn word(at: u64) -> Result<&'static AtomicU32, Error> {
    if !at.is_multiple_of(4) {
        return Err(Error::Invalid);
    }
    let word = write(at, 4)?.as_mut_ptr();
    // SAFETY: it is there, as above, and aligned.
    Ok(unsafe { AtomicU32::from_ptr(word.cast()) })
}

fn check(from: u64, len: u64) -> Result<(), Error> {
    let to = from.checked_add(len).ok_or(Error::Invalid)?;
    let inside = NODE.contains(&from) && to <= NODE.end;
    if !inside && Area::of(from).is_none_or(|of| len > 0 && Area::of(to - 1) != Some(of)) {
        return Err(Error::Invalid);
    }
    populate(from, len)
}

/// Other rights for pages of the heap.
pub fn protect(from: u64, len: u64, rights: Rights) -> Result<(), Error> {
    let to = from.checked_add(len).ok_or(Error::Invalid)?;
    let heap = Area::Heap.place(0, HEAP[0].load(Ordering::Relaxed));
    if !from.is_multiple_of(PAGE) || from < heap.start || to > heap.end {
        return Err(Error::Invalid);
    }
    populate(from, len)?;
    tables::protect(from, to.next_multiple_of(PAGE), rights);
    Ok(())
}

/// Sets a bit for each page of a linear memory that was written since the last time; with `all`, that is there.
pub fn written(window: usize, first: u64, count: u64, bits: u64, all: bool) -> Result<(), Error> {
    let size = WINDOWS.get(window).ok_or(Error::Invalid)?.load(Ordering::Relaxed);
    // The bits are not in a linear memory: writing them would be among what is told, or not, as it comes.
    if first.checked_add(count).is_none_or(|end| end > size / PAGE)
        || Area::of(bits).is_some_and(|of| of.0 == Area::Windows)
    {
        return Err(Error::Invalid);
    }
    let bits = write(bits, count.div_ceil(8))?;
    bits.fill(0);
    let base = Area::Windows.place(window, size).start + first * PAGE;
    tables::written(base, base + count * PAGE, all, |at| {
        let page = ((at - base) / PAGE) as usize;
        bits[page / 8] |= 1 << (page % 8);
    });
    Ok(())
}

/// Memory for devices, zeroed.
pub fn dma(pages: u64) -> Result<Dma, Error> {
    if pages == 0 || pages > 4096 {
        return Err(Error::Invalid);
    }
    let physical = frames::take_row(pages).ok_or(Error::Full)?;
    let address = NEXT_DMA.fetch_add((pages + 1) * PAGE, Ordering::Relaxed);
    for page in 0..pages {
        if !tables::map_frame(address + page * PAGE, physical + page * PAGE, Rights::Write) {
            return Err(Error::Full);
        }
    }
    // SAFETY: it was mapped this moment.
    unsafe { core::ptr::write_bytes(address as *mut u8, 0, (pages * PAGE) as usize) };
    Ok(Dma { address, physical })
}

/// A stack for the kernel on one more processor: its end. Below it is nothing.
pub fn stack(bytes: u64) -> Option<u64> {
    let address = NEXT_DMA.fetch_add(bytes + PAGE, Ordering::Relaxed);
    let taken = (address..address + bytes).step_by(PAGE as usize).all(tables::map_own);
    taken.then_some(address + bytes)
}

/// A device's registers: so many bytes, which may begin inside a page.
pub fn registers(physical: u64, len: u64) -> Option<u64> {
    let (from, to) = (physical & !(PAGE - 1), (physical + len).next_multiple_of(PAGE));
    let address = NEXT_DMA.fetch_add(to - from + PAGE, Ordering::Relaxed);
    for offset in (0..to - from).step_by(PAGE as usize) {
        if !tables::map_registers(address + offset, from + offset) {
            return None;
        }
    }
    Some(address + (physical - from))
}
