//! Where the node's things lie. The same on every machine that has 48 bits of addresses; RISC-V processors need have no more
//! than 39, of which the node has the lower half.

use crate::{STACK, THREADS_MOST};

/// Where the node's program lies.
#[cfg(target_arch = "x86_64")]
pub const NODE: core::ops::Range<u64> = 0x4000_0000..0x8000_0000;
/// Where the node's program lies.
#[cfg(target_arch = "aarch64")]
pub const NODE: core::ops::Range<u64> = 0x20_0000_0000..0x20_4000_0000;
/// Where the node's program lies.
#[cfg(target_arch = "riscv64")]
pub const NODE: core::ops::Range<u64> = 0x2_0000_0000..0x2_4000_0000;

#[cfg(not(target_arch = "riscv64"))]
mod sizes {
    /// Memory for devices, and their registers.
    pub const DMA: core::ops::Range<u64> = 0x0800_0000_0000..0x0900_0000_0000;
    /// Linear memories at once.
    pub const WINDOWS_MOST: usize = 64;
    /// Where the areas begin.
    pub const BASES: [u64; 3] = [0x1000_0000_0000, 0x2000_0000_0000, 0x3000_0000_0000];
    /// Bytes of a stack's slot.
    pub const STACK_SLOT: u64 = 1 << 30;
    /// The node has nothing from here on.
    pub const END: u64 = 1 << 47;
}
#[cfg(target_arch = "riscv64")]
mod sizes {
    /// Memory for devices, and their registers.
    pub const DMA: core::ops::Range<u64> = 0x2_4000_0000..0x4_0000_0000;
    /// Linear memories at once.
    pub const WINDOWS_MOST: usize = 24;
    /// Where the areas begin.
    pub const BASES: [u64; 3] = [0x4_0000_0000, 0x8_0000_0000, 0x10_0000_0000];
    /// Bytes of a stack's slot.
    pub const STACK_SLOT: u64 = 512 << 20;
    /// The node has nothing from here on.
    pub const END: u64 = 1 << 38;
}
use sizes::{BASES, END, STACK_SLOT};
pub use sizes::{DMA, WINDOWS_MOST};

/// Address space for one purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Area {
    /// What is allocated: one slot.
    Heap,
    /// Stacks of threads, by their numbers. Only a slot's upper end is used.
    Stacks,
    /// Linear memories.
    Windows,
}

impl Area {
    /// All of them.
    pub const ALL: [Area; 3] = [Area::Heap, Area::Stacks, Area::Windows];

    /// By its number.
    pub fn from_number(number: usize) -> Option<Area> {
        Area::ALL.get(number).copied()
    }

    /// Where it begins.
    pub const fn base(self) -> u64 {
        BASES[self as usize]
    }

    /// Bytes of a slot.
    pub const fn slot(self) -> u64 {
        match self {
            Area::Heap => 4 << 30,
            Area::Stacks => STACK_SLOT,
            Area::Windows => 8 << 30,
        }
    }

    /// How many there are.
    pub const fn slots(self) -> usize {
        match self {
            Area::Heap => 1,
            Area::Stacks => THREADS_MOST,
            Area::Windows => WINDOWS_MOST,
        }
    }

    /// The area and the slot that an address is in.
    pub fn of(address: u64) -> Option<(Area, usize)> {
        Area::ALL.into_iter().find_map(|area| {
            let slot = (address.checked_sub(area.base())? / area.slot()) as usize;
            (slot < area.slots()).then_some((area, slot))
        })
    }

    /// The addresses of a slot of so many bytes: at its beginning, or of a stack at its end.
    pub fn place(self, slot: usize, size: u64) -> core::ops::Range<u64> {
        let base = self.base() + slot as u64 * self.slot();
        match self {
            Area::Stacks => base + self.slot() - size..base + self.slot(),
            _ => base..base + size,
        }
    }
}

const fn end(area: Area) -> u64 {
    area.base() + area.slots() as u64 * area.slot()
}

const _: () = assert!(STACK < Area::Stacks.slot());
const _: () = assert!(NODE.end <= DMA.start && DMA.end <= Area::Heap.base() && end(Area::Heap) <= Area::Stacks.base());
const _: () = assert!(end(Area::Stacks) <= Area::Windows.base() && end(Area::Windows) <= END);
