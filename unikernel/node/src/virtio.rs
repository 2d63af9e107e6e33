//! What virtio drivers need of the machine: memory that devices can reach. Buffers that lie elsewhere go by way of pages
//! that they can. Devices are reached by memory alone, or on PCI, whose bus is the kernel's: the driver looks at a copy.

use crate::sync::Mutex;
use crate::sys;
use alloc::vec::Vec;
use core::ptr::NonNull;
use virtio_drivers::transport::mmio::{MmioTransport, VirtIOHeader};
use virtio_drivers::transport::pci::bus::{ConfigurationAccess, DeviceFunction, PCI_CAP_ID_VNDR, PciRoot};
use virtio_drivers::transport::pci::{PciTransport, VIRTIO_PCI_CAP_COMMON_CFG, virtio_device_type};
use virtio_drivers::transport::{DeviceType, SomeTransport, Transport};
use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};
use wayfare_unikernel_abi::{BARS, Bar, Boot, CONFIGURATION, Dma, NEVER, PciDevice};

/// Of a device's registers, bytes.
const REGISTERS: usize = 0x200;

/// Memory that was given out, by where it begins, and its pages.
static GIVEN: Mutex<Vec<(Dma, usize)>> = Mutex::new(Vec::new());
/// Pages for buffers that lie elsewhere, and are not in use.
static SPARE: Mutex<Vec<Dma>> = Mutex::new(Vec::new());

/// Memory for devices, in one piece and zeroed. It is never given back.
pub fn memory(pages: usize) -> Option<Dma> {
    let dma = sys::dma(pages).ok()?;
    GIVEN.lock().push((dma, pages));
    Some(dma)
}

/// A device, and how it interrupts.
pub struct Found {
    pub transport: SomeTransport<'static>,
    pub interrupts: Interrupts,
}

/// How a device interrupts.
pub struct Interrupts {
    /// The line, if there is one.
    pub line: Option<usize>,
    /// The registers that tell which message a queue sends, of a device that sends messages.
    messages: Option<NonNull<u8>>,
}

/// Where the registers are that all devices on PCI have (virtio, 4.1.4.3): which queue is meant, and its message.
const QUEUE: usize = 0x16;
const MESSAGE: usize = 0x1a;

impl Interrupts {
    /// Has a queue interrupt. To be called after the device was reset, which makes it forget that.
    pub fn route(&self, queue: u16) {
        if let Some(registers) = self.messages {
            // SAFETY: registers of the device, which the kernel has mapped for good.
            unsafe {
                registers.add(QUEUE).cast::<u16>().write_volatile(queue);
                registers.add(MESSAGE).cast::<u16>().write_volatile(0);
            }
        }
    }
}

/// The first device of a kind.
pub fn find(boot: &Boot, kind: DeviceType) -> Option<Found> {
    by_memory(boot, kind).or_else(|| on_pci(boot, kind))
}

fn by_memory(boot: &Boot, kind: DeviceType) -> Option<Found> {
    boot.devices[..boot.devices_len as usize].iter().find_map(|device| {
        let header = NonNull::new(device.address as *mut VirtIOHeader)?;
        // SAFETY: the kernel has mapped a device's registers there, for good.
        let transport = unsafe { MmioTransport::new(header, REGISTERS) }.ok()?;
        if transport.device_type() != kind {
            // Dropped, it would reset the device, which may be at work.
            core::mem::forget(transport);
            return None;
        }
        let interrupts = Interrupts { line: Some(device.line as usize), messages: None };
        Some(Found { transport: transport.into(), interrupts })
    })
}

fn on_pci(boot: &Boot, kind: DeviceType) -> Option<Found> {
    boot.pci[..boot.pci_len as usize].iter().find_map(|device| {
        let mut root = PciRoot::new(Copied { device, sized: 0 });
        let (_, info) = root.enumerate_bus(0).next()?;
        // The driver walks the list of capabilities to its end.
        let has_end = root.capabilities(WHOLE).take(CONFIGURATION + 1).count() <= CONFIGURATION;
        if virtio_device_type(&info)? != kind || !has_end {
            return None;
        }
        REGIONS.lock().extend(device.bars);
        let transport = PciTransport::new::<Machine, _>(&mut root, WHOLE).ok()?.into();
        let line = (device.line != NEVER).then_some(device.line as usize);
        let messages = if device.by_message != 0 { Some(common(device, &root)?) } else { None };
        Some(Found { transport, interrupts: Interrupts { line, messages } })
    })
}

/// Where the registers of devices on PCI are.
static REGIONS: Mutex<Vec<Bar>> = Mutex::new(Vec::new());

fn region(at: PhysAddr, len: usize) -> Option<NonNull<u8>> {
    let regions = REGIONS.lock();
    let inside = |bar: &&Bar| at >= bar.bus && at - bar.bus + len as u64 <= bar.len && bar.address != 0;
    let bar = regions.iter().find(inside)?;
    NonNull::new((bar.address + (at - bar.bus)) as *mut u8)
}

/// The registers that all devices on PCI have.
fn common(device: &PciDevice, root: &PciRoot<Copied<'_>>) -> Option<NonNull<u8>> {
    let is_common = |private: u16| private >> 8 == u16::from(VIRTIO_PCI_CAP_COMMON_CFG);
    // The list may lead back to itself.
    let mut capabilities = root.capabilities(WHOLE).take(CONFIGURATION);
    let found = capabilities.find(|of| of.id == PCI_CAP_ID_VNDR && is_common(of.private_header))?;
    let word = |at: u8| Copied { device, sized: 0 }.read_word(WHOLE, found.offset.wrapping_add(at));
    let bar = device.bars.get(word(4) as u8 as usize)?;
    region(bar.bus + u64::from(word(8)), MESSAGE + 2)
}

/// A device's configuration space, as the kernel has found it: the driver only wants to know where the registers are. Of a
/// region that it asks for the size of (by writing ones, and looking which of them stay), it sees that.
#[derive(Clone, Copy)]
struct Copied<'d> {
    device: &'d PciDevice,
    /// A bit for each word of the regions' addresses that ones were written to.
    sized: u8,
}

/// The device is alone on its bus.
const WHOLE: DeviceFunction = DeviceFunction { bus: 0, device: 0, function: 0 };
/// The first word of the regions' addresses.
const ADDRESSES: usize = 4;

impl Copied<'_> {
    /// Of the region in whose address a word is: its size's bits of that word.
    fn size(&self, word: usize) -> u32 {
        let bars = &self.device.bars;
        match bars[word].len {
            // The upper half of the one before, or of none.
            0 if word > 0 && bars[word - 1].len != 0 => (!(bars[word - 1].len - 1) >> 32) as u32,
            0 => 0,
            len => !(len - 1) as u32,
        }
    }
}

impl ConfigurationAccess for Copied<'_> {
    fn read_word(&self, function: DeviceFunction, at: u8) -> u32 {
        if function != WHOLE {
            return !0;
        }
        let number = usize::from(at / 4);
        let word = self.device.configuration[number];
        match number.checked_sub(ADDRESSES) {
            // What kind of region it is stays, too.
            Some(bar) if bar < BARS && self.sized & 1 << bar != 0 => self.size(bar) | word & 0xf,
            _ => word,
        }
    }

    fn write_word(&mut self, _function: DeviceFunction, at: u8, data: u32) {
        if let Some(bar) = usize::from(at / 4).checked_sub(ADDRESSES).filter(|bar| *bar < BARS) {
            self.sized = self.sized & !(1 << bar) | u8::from(data == !0) << bar;
        }
    }

    unsafe fn unsafe_clone(&self) -> Self {
        *self
    }
}

/// The machine, as the drivers see it.
pub struct Machine;

fn place(buffer: NonNull<[u8]>) -> Option<PhysAddr> {
    let address = buffer.cast::<u8>().addr().get() as u64;
    let given = GIVEN.lock();
    let inside =
        |(dma, pages): &&(Dma, usize)| (dma.address..dma.address + (pages * PAGE_SIZE) as u64).contains(&address);
    given.iter().find(inside).map(|(dma, _)| dma.physical + (address - dma.address))
}

// SAFETY: `sys::dma` gives memory out once, zeroed, in whole pages.
unsafe impl Hal for Machine {
    fn dma_alloc(pages: usize, _direction: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        // The driver takes 0 for a refusal.
        match memory(pages) {
            Some(dma) => (dma.physical, NonNull::new(dma.address as *mut u8).unwrap_or(NonNull::dangling())),
            None => (0, NonNull::dangling()),
        }
    }

    unsafe fn dma_dealloc(_paddr: PhysAddr, _vaddr: NonNull<u8>, _pages: usize) -> i32 {
        0
    }

    unsafe fn mmio_phys_to_virt(paddr: PhysAddr, size: usize) -> NonNull<u8> {
        region(paddr, size).expect("a device's registers where it says that they are")
    }

    unsafe fn share(buffer: NonNull<[u8]>, direction: BufferDirection) -> PhysAddr {
        if let Some(physical) = place(buffer) {
            return physical;
        }
        let spare = SPARE.lock().pop().or_else(|| memory(1));
        let spare = spare.expect("a page that devices can reach");
        assert!(buffer.len() <= PAGE_SIZE, "a buffer of more than a page that devices cannot reach");
        if direction != BufferDirection::DeviceToDriver {
            // SAFETY: the caller's buffer, and a page that nobody else has.
            unsafe { core::ptr::copy_nonoverlapping(buffer.as_ptr().cast(), spare.address as *mut u8, buffer.len()) };
        }
        spare.physical
    }

    unsafe fn unshare(paddr: PhysAddr, buffer: NonNull<[u8]>, direction: BufferDirection) {
        if place(buffer).is_some() {
            return;
        }
        let given = GIVEN.lock().iter().find(|(dma, _)| dma.physical == paddr).map(|(dma, _)| *dma);
        let Some(spare) = given else { return };
        if direction != BufferDirection::DriverToDevice {
            // SAFETY: as above; the device has done with it.
            unsafe { core::ptr::copy_nonoverlapping(spare.address as *const u8, buffer.as_ptr().cast(), buffer.len()) };
        }
        SPARE.lock().push(spare);
    }
}
