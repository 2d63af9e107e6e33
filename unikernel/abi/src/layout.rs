//! Where the node's things lie. The same on every machine that has 48 bits of addresses.

use crate::{STACK, THREADS_MOST};

/// Where the node's program lies.
#[cfg(target_arch = "x86_64")]
pub const NODE: core::ops::Range<u64> = 0x4000_0000..0x8000_0000;
/// Where the node's program lies.
#[cfg(not(target_arch = "x86_64"))]
pub const NODE: core::ops::Range<u64> = 0x20_0000_0000..0x20_4000_0000;
/// Memory for devices, and their registers.
pub const DMA: core::ops::Range<u64> = 0x0800_0000_0000..0x0900_0000_0000;
/// Linear memories at once.
pub const WINDOWS_MOST: usize = 64;

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
        match self {
            Area::Heap => 0x1000_0000_0000,
            Area::Stacks => 0x2000_0000_0000,
            Area::Windows => 0x3000_0000_0000,
        }
    }

    /// Bytes of a slot.
    pub const fn slot(self) -> u64 {
        match self {
            Area::Heap => 4 << 30,
            Area::Stacks => 1 << 30,
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

const _: () = assert!(STACK < Area::Stacks.slot());
