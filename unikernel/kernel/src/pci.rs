//! Devices on PCI: finds those that speak virtio, gives them addresses where no firmware has, and says where their registers
//! are. The bus stays the kernel's: whoever can write to configuration space can lay a device's registers over anything.
//!
//! How configuration space is reached, where there is room for registers, and how a device interrupts, `arch` knows.

use crate::{Found, space};
use core::ops::RangeInclusive;
use virtio_drivers::transport::pci::bus::{
    BarInfo, Command, ConfigurationAccess, DeviceFunction, HeaderType, MemoryBarType, PCI_CAP_ID_VNDR, PciRoot,
};
use virtio_drivers::transport::pci::virtio_device_type;
use wayfare_unikernel_abi::{BARS, Bar, CONFIGURATION, NEVER, PciDevice};

/// Of a device that interrupts by messages ("MSI-X").
const MESSAGES: u8 = 0x11;
/// In the head of that capability: the device uses it; all its messages are held back.
const USED: u32 = 1 << 31;
const HELD_BACK: u32 = 1 << 30;
/// Words of configuration space: of a bridge, the buses on both sides; of a device, its line and pin.
const BUSES: u8 = 0x18;
const PIN: u8 = 0x3c;
/// Bridges that lead to bridges, so many.
const DEPTH: usize = 8;
/// Largest region of registers, bytes: none of virtio's is that large.
const BAR_MOST: u64 = 16 << 20;

/// How a device interrupts.
#[derive(Clone, Copy)]
pub struct Interrupt {
    /// The line that its interrupts come on.
    pub line: usize,
    /// Where its table of messages is, if it sends messages.
    pub table: Option<u64>,
}

/// A virtio device.
#[derive(Clone, Copy)]
pub struct Device {
    configuration: [u32; CONFIGURATION],
    bars: [Bar; BARS],
    /// What is added to an address of the bus to make it one of the processor's.
    offset: u64,
    /// The one that its table of messages is in.
    kept: Option<usize>,
    interrupt: Option<Interrupt>,
}

impl Device {
    /// None.
    pub const NONE: Device = Device {
        configuration: [0; CONFIGURATION],
        bars: [const { Bar { bus: 0, len: 0, address: 0 } }; BARS],
        offset: 0,
        kept: None,
        interrupt: None,
    };

    /// Maps its registers for the node, but not what it sends messages by. `None` if there is no memory for page tables.
    pub fn show(&self) -> Option<PciDevice> {
        let mut bars = self.bars;
        for (number, bar) in bars.iter_mut().enumerate() {
            if bar.len != 0 && self.kept != Some(number) {
                bar.address = space::registers(bar.bus.wrapping_add(self.offset), bar.len)?;
            }
        }
        Some(PciDevice {
            configuration: self.configuration,
            bars,
            line: self.interrupt.map_or(NEVER, |interrupt| interrupt.line as u64),
            by_message: self.interrupt.is_some_and(|interrupt| interrupt.table.is_some()).into(),
        })
    }

    /// Where its table of messages is, and the line that they are to come on.
    #[cfg(target_arch = "x86_64")]
    pub fn message(&self) -> Option<(u64, usize)> {
        let interrupt = self.interrupt?;
        Some((interrupt.table?, interrupt.line))
    }
}

/// What `arch` knows of the bus.
pub trait Bridge {
    /// Numbers of the buses below it.
    fn buses(&self) -> RangeInclusive<u8>;
    /// What is added to an address of the bus to make it one of the processor's.
    fn offset(&self) -> u64;
    /// Firmware has given a device so many bytes of addresses of the bus. `false` if they are out of reach.
    fn takes(&mut self, at: u64, len: u64) -> bool;
    /// Room for registers: so many bytes, at a multiple of that; an address of the bus.
    fn room(&mut self, len: u64) -> Option<u64>;
    /// How a device is to interrupt that has this pin, and could have its table of messages at an address of the processor's.
    fn interrupt(&mut self, function: DeviceFunction, pin: u8, table: Option<u64>) -> Option<Interrupt>;
}

/// Finds the virtio devices, and makes them ready to be used.
pub fn find(access: impl ConfigurationAccess + Copy, bridge: &mut dyn Bridge, found: &mut Found) {
    scan(access, *bridge.buses().start(), DEPTH, bridge, found);
}

fn scan<C: ConfigurationAccess + Copy>(access: C, bus: u8, depth: usize, bridge: &mut dyn Bridge, found: &mut Found) {
    for (function, info) in PciRoot::new(access).enumerate_bus(bus) {
        if info.header_type == HeaderType::PciPciBridge {
            let below = (access.read_word(function, BUSES) >> 8) as u8;
            // One without a number was not set up.
            if depth > 0 && below > bus && bridge.buses().contains(&below) {
                scan(access, below, depth - 1, bridge, found);
            }
        } else if virtio_device_type(&info).is_some()
            && let Some(place) = found.pci.get_mut(found.pci_len)
            && let Some(device) = ready(access, function, bridge)
        {
            *place = device;
            found.pci_len += 1;
        }
    }
}

/// Makes a device ready: it has addresses, and may reach memory. `None` if there is no room for it.
fn ready<C: ConfigurationAccess + Copy>(
    mut access: C,
    function: DeviceFunction,
    bridge: &mut dyn Bridge,
) -> Option<Device> {
    let mut root = PciRoot::new(access);
    let mut device = Device { offset: bridge.offset(), ..Device::NONE };
    for (number, bar) in root.bars(function).ok()?.into_iter().enumerate() {
        let Some(BarInfo::Memory { address, size, address_type, .. }) = bar else { continue };
        if size > BAR_MOST {
            continue;
        }
        let bus = if address == 0 { bridge.room(size)? } else { address };
        if address != 0 && !bridge.takes(address, size) {
            return None;
        }
        match address_type {
            _ if address != 0 => {}
            MemoryBarType::Width64 => root.set_bar_64(function, number as u8, bus),
            _ => root.set_bar_32(function, number as u8, u32::try_from(bus).ok()?),
        }
        device.bars[number] = Bar { bus, len: size, address: 0 };
    }
    // The list may lead back to itself.
    let capabilities = || root.capabilities(function).take(CONFIGURATION);
    // Where in a region of which number something is.
    let place = |at: u8| access.read_word(function, at.wrapping_add(4));
    let messages = capabilities().find(|capability| capability.id == MESSAGES).map(|capability| capability.offset);
    let table = messages.and_then(|at| {
        let (number, offset) = ((place(at) & 7) as usize, u64::from(place(at) & !7));
        let bar = device.bars.get(number).filter(|bar| offset < bar.len)?;
        let is_shared = capabilities().any(|of| of.id == PCI_CAP_ID_VNDR && place(of.offset) as u8 == number as u8);
        // A region that has other registers too is the node's all the same.
        device.kept = (!is_shared).then_some(number);
        Some(bar.bus.wrapping_add(device.offset).wrapping_add(offset))
    });
    device.interrupt = bridge.interrupt(function, (access.read_word(function, PIN) >> 8) as u8, table);
    let by_message = device.interrupt.is_some_and(|interrupt| interrupt.table.is_some());
    if let Some(at) = messages.filter(|_| by_message) {
        let head = access.read_word(function, at);
        access.write_word(function, at, head & !HELD_BACK | USED);
    }
    let pin = if by_message { Command::INTERRUPT_DISABLE } else { Command::empty() };
    root.set_command(function, Command::MEMORY_SPACE | Command::BUS_MASTER | pin);
    for (at, word) in device.configuration.iter_mut().enumerate() {
        *word = access.read_word(function, 4 * at as u8);
    }
    Some(device)
}
