//! What virtio drivers need of the machine: memory that devices can reach. Buffers that lie elsewhere go by way of pages
//! that they can.

use crate::sync::Mutex;
use crate::sys;
use alloc::vec::Vec;
use core::ptr::NonNull;
use virtio_drivers::transport::mmio::{MmioTransport, VirtIOHeader};
use virtio_drivers::transport::{DeviceType, Transport};
use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};
use wayfare_unikernel_abi::{Boot, Dma};

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

/// The first device of a kind, and its interrupt's line.
pub fn find(boot: &Boot, kind: DeviceType) -> Option<(MmioTransport<'static>, usize)> {
    boot.devices[..boot.devices_len as usize].iter().find_map(|device| {
        let header = NonNull::new(device.address as *mut VirtIOHeader)?;
        // SAFETY: the kernel has mapped a device's registers there, for good.
        let transport = unsafe { MmioTransport::new(header, REGISTERS) }.ok()?;
        (transport.device_type() == kind).then_some((transport, device.line as usize))
    })
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

    unsafe fn mmio_phys_to_virt(_paddr: PhysAddr, _size: usize) -> NonNull<u8> {
        unreachable!("for devices on PCI")
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
