//! PCI as PCs have it: reached by two ports, its devices with the addresses that the firmware gave them. They interrupt by
//! messages to the processor: which of its own lines a pin leads to only ACPI's programs know.

use super::apic;
use crate::Found;
use crate::pci::{self, Bridge, Interrupt};
use crate::tables::Part;
use core::ops::RangeInclusive;
use virtio_drivers::transport::pci::bus::{ConfigurationAccess, DeviceFunction};
use wayfare_unikernel_abi::{DMA, NODE, PCI_MOST};
use x86_64::instructions::port::Port;

const ADDRESS: u16 = 0xcf8;
const DATA: u16 = 0xcfc;
/// Of what is written to the first one: it means configuration space.
const ENABLE: u32 = 1 << 31;
/// Bytes of an entry of a table of messages, of which one is used.
const ENTRY: u64 = 16;

#[derive(Clone, Copy)]
struct Ports;

impl Ports {
    fn choose(function: DeviceFunction, at: u8) {
        let DeviceFunction { bus, device, function } = function;
        let place = u32::from(bus) << 16 | u32::from(device) << 11 | u32::from(function) << 8 | u32::from(at & !3);
        // SAFETY: ports that are for this alone.
        unsafe { Port::new(ADDRESS).write(ENABLE | place) };
    }
}

impl ConfigurationAccess for Ports {
    fn read_word(&self, function: DeviceFunction, at: u8) -> u32 {
        Ports::choose(function, at);
        // SAFETY: as above. Where no device is, or no PCI, all bits are set.
        unsafe { Port::new(DATA).read() }
    }

    fn write_word(&mut self, function: DeviceFunction, at: u8, data: u32) {
        Ports::choose(function, at);
        // SAFETY: as above; what it means for the device is the caller's business.
        unsafe { Port::new(DATA).write(data) };
    }

    unsafe fn unsafe_clone(&self) -> Ports {
        Ports
    }
}

/// The bus, and how many lines for messages are taken.
struct Pc {
    taken: usize,
}

impl Bridge for Pc {
    fn buses(&self) -> RangeInclusive<u8> {
        0..=u8::MAX
    }

    fn offset(&self) -> u64 {
        0
    }

    fn takes(&mut self, at: u64, len: u64) -> bool {
        at.checked_add(len).is_some()
    }

    fn room(&mut self, _len: u64) -> Option<u64> {
        None
    }

    fn interrupt(&mut self, _function: DeviceFunction, _pin: u8, table: Option<u64>) -> Option<Interrupt> {
        // The kernel reaches it where it lies.
        let is_free = |at: &u64| *at >= NODE.end && *at + ENTRY <= DMA.start;
        let table = table.filter(is_free).filter(|_| self.taken < apic::MESSAGES)?;
        self.taken += 1;
        Some(Interrupt { line: apic::LINES_MOST + self.taken - 1, table: Some(table) })
    }
}

/// Finds the devices.
pub fn find(found: &mut Found) {
    pci::find(Ports, &mut Pc { taken: 0 }, found);
}

/// The tables of messages, as parts of the kernel.
pub fn parts(found: &Found) -> [Part; PCI_MOST] {
    found.pci.map(|device| device.message().map_or(0..0, |(table, _)| table..table + ENTRY)).map(Part::registers)
}

/// Says what messages are to be sent. The tables are mapped, and the processor's controller is set up.
pub fn route(found: &Found) {
    for (table, line) in found.pci.iter().filter_map(|device| device.message()) {
        let (address, data) = apic::message(line);
        // Address, its upper half, what is sent there, and that it is not held back.
        for (at, word) in [address, 0, data, 0].into_iter().enumerate() {
            // SAFETY: an entry of the device's table, mapped for the kernel alone.
            unsafe { (table as *mut u32).add(at).write_volatile(word) };
        }
    }
}
