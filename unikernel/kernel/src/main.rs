//! The privileged part of Wayfare on a machine without an operating system: boots, gives out pages, switches threads,
//! passes interrupts on. What it runs is the node (`node/`), unprivileged, which does everything else.
//!
//! `aarch64/`, `riscv64/`, `x86_64/` are what the processor and its board ask for; everything else is the same on every
//! machine. In the kernel is one processor at a time (`smp`), and it is never interrupted there.
#![no_std]
#![no_main]

#[cfg(target_arch = "aarch64")]
#[path = "aarch64/mod.rs"]
mod arch;
#[cfg(target_arch = "riscv64")]
#[path = "riscv64/mod.rs"]
mod arch;
#[cfg(target_arch = "x86_64")]
#[path = "x86_64/mod.rs"]
mod arch;
mod calls;
mod clock;
#[cfg(not(target_arch = "x86_64"))]
mod ecam;
mod frames;
mod guard;
mod pci;
mod program;
mod report;
mod smp;
mod space;
mod tables;
mod threads;
#[cfg(not(target_arch = "x86_64"))]
mod tree;

use core::panic::PanicInfo;
use wayfare_board::Place;
use wayfare_board::report::{Part, REPORT_MAX};
use wayfare_unikernel_abi::{Area, Boot, DEVICES_MOST, Device, PAGE, PCI_MOST, PciDevice, Rights};

#[used]
#[unsafe(link_section = ".payload_place")]
static PLACE: Place = Place::EMPTY;

/// What the image's maker has filled in.
fn place() -> Place {
    // SAFETY: it is there, and never written to once the kernel runs. It is not what the compiler saw.
    unsafe { core::ptr::read_volatile(&raw const PLACE) }
}

/// Physical address and length of the payload.
fn payload_place() -> Option<(u64, u64)> {
    place().filled().map(|(offset, len)| (tables::start() + offset, len))
}

/// Longest command line.
const COMMAND_LINE_MAX: usize = 2048;

/// What `arch` has found out about the machine.
pub struct Found {
    /// The command line: beyond its length is nothing.
    pub command_line: [u8; COMMAND_LINE_MAX],
    /// Its length.
    pub command_line_len: usize,
    /// Devices: physical address and length of their registers, and their line.
    pub devices: [(u64, u64, usize); DEVICES_MOST],
    /// How many.
    pub devices_len: usize,
    /// Devices on PCI.
    pub pci: [pci::Device; PCI_MOST],
    /// How many.
    pub pci_len: usize,
    /// What the processor has that not all have, as the node is told.
    pub features: u64,
}

impl Found {
    /// Nothing but the image's own command line.
    pub(crate) fn new() -> Found {
        let mut found = Found {
            command_line: [0; COMMAND_LINE_MAX],
            command_line_len: 0,
            devices: [(0, 0, 0); DEVICES_MOST],
            devices_len: 0,
            pci: [const { pci::Device::NONE }; PCI_MOST],
            pci_len: 0,
            features: 0,
        };
        found.set_command_line(&[]);
        found
    }

    /// One more device. Those for which there is no place are left out.
    pub fn add_device(&mut self, physical: u64, len: u64, line: usize) {
        if let Some(place) = self.devices.get_mut(self.devices_len) {
            *place = (physical, len, line);
            self.devices_len += 1;
        }
    }

    /// The command line, as the boot loader gives it. The image's own follows: of two settings, the first counts.
    pub fn set_command_line(&mut self, text: &[u8]) {
        self.command_line_len = 0;
        for part in [text, b" ", place().line()] {
            let rest = &mut self.command_line[self.command_line_len..];
            let len = part.len().min(rest.len());
            rest[..len].copy_from_slice(&part[..len]);
            self.command_line_len += len;
        }
    }
}

/// The node's first thread, in a machine whose pages, clock and interrupts are set up.
fn begin(found: &Found, measured: &clock::Measured) {
    let entry = program::load();
    // What it is told lies at the end of what the node's program may have, and is only read.
    let (at, text) = (wayfare_unikernel_abi::NODE.end - 2 * PAGE, wayfare_unikernel_abi::NODE.end - PAGE);
    for page in [at, text] {
        let frame = frames::take().expect("memory");
        assert!(tables::map_frame(page, frame, Rights::Write), "there is no memory for the node");
    }
    let report = text + COMMAND_LINE_MAX as u64;
    const { assert!(size_of::<Boot>() <= PAGE as usize && COMMAND_LINE_MAX + REPORT_MAX <= PAGE as usize) };
    // SAFETY: the page was mapped for this, and it fits into it.
    let report_len = report::take(unsafe { &mut *(report as *mut [u8; REPORT_MAX]) });
    let (payload, payload_len) = payload_place().unwrap_or((0, 0));
    let mut boot = Boot {
        payload,
        payload_len,
        command_line: text,
        command_line_len: found.command_line_len as u64,
        report,
        report_len: report_len as u64,
        clock: clock::init(measured),
        memory: frames::free(),
        features: found.features,
        devices: [Device::default(); DEVICES_MOST],
        devices_len: found.devices_len as u64,
        pci: [PciDevice::default(); PCI_MOST],
        pci_len: found.pci_len as u64,
    };
    for (device, (physical, len, line)) in boot.devices.iter_mut().zip(&found.devices[..found.devices_len]) {
        let address = space::registers(*physical, *len).expect("memory for page tables");
        *device = Device { address, line: *line as u64 };
    }
    for (device, known) in boot.pci.iter_mut().zip(&found.pci[..found.pci_len]) {
        *device = known.show().expect("memory for page tables");
    }
    // SAFETY: the pages were mapped for this.
    unsafe {
        core::ptr::write(at as *mut Boot, boot);
        core::ptr::copy_nonoverlapping(found.command_line.as_ptr(), text as *mut u8, found.command_line_len);
    }
    tables::protect(at, text + PAGE, Rights::Read);
    space::resize(Area::Heap, 0, Area::Heap.slot()).expect("a heap");
    // SAFETY: nothing runs yet.
    let threads = unsafe { threads::threads() };
    threads.spawn(entry, at, true).expect("a first thread");
}

#[panic_handler]
fn panicked(info: &PanicInfo<'_>) -> ! {
    report::fail(Part::Kernel, format_args!("{info}"))
}
