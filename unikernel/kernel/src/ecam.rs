//! PCI on boards with a device tree: configuration space lies in memory ("ECAM"), nobody need have given the devices
//! addresses, and the tree says which line each pin leads to.

use crate::Found;
use crate::pci::{self, Bridge, Interrupt};
use crate::tree::{Node, Tree};
use core::ops::RangeInclusive;
use virtio_drivers::transport::pci::bus::{ConfigurationAccess, DeviceFunction};
use wayfare_board::{Parent, interrupt};

/// Bits of an address of configuration space below the bus's number.
const BUS: u32 = 20;

#[derive(Clone, Copy)]
struct Ecam {
    /// Where the first bus's is.
    base: u64,
    first: u8,
}

impl Ecam {
    fn place(self, function: DeviceFunction, at: u8) -> *mut u32 {
        let DeviceFunction { bus, device, function } = function;
        let bus = u64::from(bus - self.first) << BUS;
        (self.base + bus + (u64::from(device) << 15) + (u64::from(function) << 12) + u64::from(at & !3)) as *mut u32
    }
}

impl ConfigurationAccess for Ecam {
    fn read_word(&self, function: DeviceFunction, at: u8) -> u32 {
        // SAFETY: configuration space of a bus that there is; registers are as they lie when this runs.
        unsafe { self.place(function, at).read_volatile() }
    }

    fn write_word(&mut self, function: DeviceFunction, at: u8, data: u32) {
        // SAFETY: as above; what it means for the device is the caller's business.
        unsafe { self.place(function, at).write_volatile(data) };
    }

    unsafe fn unsafe_clone(&self) -> Ecam {
        *self
    }
}

struct Host<'t> {
    tree: &'t Tree,
    node: Node,
    buses: RangeInclusive<u8>,
    window: Window,
    line: fn([u32; 3]) -> Option<usize>,
}

/// Room for registers.
struct Window {
    /// Addresses of the bus: all of it, and what nobody has yet.
    begin: u64,
    next: u64,
    end: u64,
    /// What makes them ones of the processor's.
    offset: u64,
}

impl Window {
    /// The first one for addresses of 32 bits. A row is the kind of space and an address of the bus (3 cells), one of the
    /// processor's (2), and a length (2).
    fn of(node: Node) -> Option<Window> {
        const ROW: usize = 7;
        const KIND: u32 = 3 << 24;
        const MEMORY: u32 = 2 << 24;
        let cell = |at: usize| node.number("ranges", at);
        let long = |at: usize| Some(u64::from(cell(at)?) << 32 | u64::from(cell(at + 1)?));
        let mut rows = (0..).step_by(ROW).map_while(|row| Some((cell(row)?, row)));
        let (_, row) = rows.find(|(kind, _)| kind & KIND == MEMORY)?;
        let (bus, processor, len) = (long(row + 1)?, long(row + 3)?, long(row + 5)?);
        // Who has address 0 is taken for one without.
        let (next, end) = (bus.max(1), bus.checked_add(len)?);
        Some(Window { begin: bus, next, end, offset: processor.wrapping_sub(bus) })
    }
}

impl Bridge for Host<'_> {
    fn buses(&self) -> RangeInclusive<u8> {
        self.buses.clone()
    }

    fn offset(&self) -> u64 {
        self.window.offset
    }

    fn takes(&mut self, at: u64, len: u64) -> bool {
        let Some(end) = at.checked_add(len).filter(|end| at >= self.window.begin && *end <= self.window.end) else {
            return false;
        };
        self.window.next = self.window.next.max(end);
        true
    }

    fn room(&mut self, len: u64) -> Option<u64> {
        let at = self.window.next.checked_next_multiple_of(len)?;
        self.window.next = at.checked_add(len).filter(|end| *end <= self.window.end)?;
        Some(at)
    }

    fn interrupt(&mut self, function: DeviceFunction, pin: u8, _table: Option<u64>) -> Option<Interrupt> {
        // Behind a bridge pins change places, and boards have nothing there.
        if function.bus != *self.buses.start() {
            return None;
        }
        let place =
            u32::from(function.bus) << 16 | u32::from(function.device) << 11 | u32::from(function.function) << 8;
        let parent = |handle| {
            let node = self.tree.by_handle(handle)?;
            let cells = |name| node.number(name, 0).map(|cells| cells as usize);
            Some(Parent {
                address_cells: cells("#address-cells").unwrap_or(0),
                interrupt_cells: cells("#interrupt-cells")?,
            })
        };
        let (map, mask) = (self.node.bytes("interrupt-map"), self.node.bytes("interrupt-map-mask"));
        let line = (self.line)(interrupt(map, mask, place, pin.into(), parent)?)?;
        Some(Interrupt { line, table: None })
    }
}

/// Finds the devices. `line` is the number of an interrupt's line, of what the controller's cells say. Runs where registers
/// are as they lie: below `reach`.
pub fn find(tree: &Tree, reach: u64, line: fn([u32; 3]) -> Option<usize>, found: &mut Found) {
    // Else the bridge's windows are told in another way.
    const CELLS: u32 = 2;
    if tree.find("/").and_then(|root| root.number("#address-cells", 0)) != Some(CELLS) {
        return;
    }
    tree.each("pci-host-ecam-generic", &mut |node| {
        let (Some(registers), Some(window)) = (node.registers(0), Window::of(node)) else { return };
        let first = node.number("bus-range", 0).unwrap_or(0) as u8;
        let last = node.number("bus-range", 1).unwrap_or(u8::MAX.into()) as u8;
        let most = (registers.end - registers.start) >> BUS;
        if most == 0 || last < first || registers.end > reach {
            return;
        }
        let last = last.min(first.saturating_add((most - 1).min(u8::MAX.into()) as u8));
        let mut host = Host { tree, node, buses: first..=last, window, line };
        pci::find(Ecam { base: registers.start, first }, &mut host, found);
    });
}
