//! What the kernel does for the node, and how it is asked: the kernel runs privileged and knows pages, threads and
//! interrupts; the node (engine, tasks, drivers, protocols) runs unprivileged and knows everything else.
//!
//! A call has a number and up to four arguments, in registers; its result is one value, negative for an error
//! ([`Error`]). There is one address space. What the node may touch of it lies in areas ([`Area`]), each a row of slots
//! of the same size; a slot has so many bytes as the node has said ([`Call::Resize`]), and gets its pages when they are
//! first touched, zeroed. Whatever lies outside faults, and a fault is told to the node ([`Call::Catch`]).
#![no_std]
#![forbid(unsafe_code)]

mod layout;

pub use layout::{Area, DMA, NODE, WINDOWS_MOST};

/// Size of a page, bytes.
pub const PAGE: u64 = 4096;
/// Most threads at once.
pub const THREADS_MOST: usize = 64;
/// Bytes of a thread's stack: what the engine lets a task use, and some for the host functions. Below it is nothing.
pub const STACK: u64 = (256 << 20) + (2 << 20);
/// Most devices.
pub const DEVICES_MOST: usize = 32;
/// Most virtio devices on PCI.
pub const PCI_MOST: usize = 4;
/// Words of a device's configuration space that are looked at.
pub const CONFIGURATION: usize = 64;
/// Regions of memory that a device on PCI has at most.
pub const BARS: usize = 6;
/// Of [`Boot::features`]: the processor has an instruction for random numbers.
pub const RANDOM: u64 = 1;
/// Never: a deadline that does not come.
pub const NEVER: u64 = u64::MAX;

/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000_000_000;

/// What [`scale`] multiplies by: so many of one thing for so many of another.
pub const fn ratio(of: u64, by: u64) -> u64 {
    (((of as u128) << 32) / (if by == 0 { 1 } else { by }) as u128) as u64
}

/// A number times a [`ratio`].
pub fn scale(value: u64, ratio: u64) -> u64 {
    ((u128::from(value) * u128::from(ratio)) >> 32) as u64
}

/// What the processor's counter means.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Clock {
    /// What it was at the start.
    pub start: u64,
    /// Nanoseconds of a tick ([`ratio`]).
    pub nanos: u64,
}

impl Clock {
    /// Of a counter that goes up by so much in a second.
    pub const fn new(start: u64, frequency: u64) -> Clock {
        Clock { start, nanos: ratio(SECOND, frequency) }
    }

    /// Nanoseconds since the start, when it is this.
    pub fn at(&self, counter: u64) -> u64 {
        scale(counter.saturating_sub(self.start), self.nanos)
    }
}

/// What the kernel does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Call {
    /// Ends the machine, with this code for whoever started it in an emulator.
    Exit,
    /// Writes bytes to the console: address, length.
    Write,
    /// Makes a slot so large: area, slot, bytes. What it had beyond is given back.
    Resize,
    /// Gives pages of the heap other rights: address, length, [`Rights`].
    Protect,
    /// Makes sure that pages are there: address, length.
    Populate,
    /// Begins a thread on the stack with its number: entry, argument, whether it is urgent. Gives the number.
    Spawn,
    /// Ends the thread, and gives its stack back.
    End,
    /// Waits while there is this value at the address: address, value, deadline (nanoseconds since the start).
    Wait,
    /// Wakes those who wait at an address: address, how many at most.
    Wake,
    /// Which pages of a linear memory were written since the last time: window, first page, their number, address of one
    /// bit for each.
    Written,
    /// Which pages of a linear memory are there, written or not; arguments as for [`Call::Written`].
    Present,
    /// Gives memory for devices: pages, address of a [`Dma`] to fill in.
    Dma,
    /// Lets a device interrupt: its line, address of a number that goes up by one then. Once: call it again after the
    /// device was served.
    Listen,
    /// Who is to be told of faults: an entry that gets where, the frame pointer, the address if there is one, and which
    /// [`Fault`].
    Catch,
    /// Bytes of memory that linear memories may still get.
    Free,
    /// The agent is at work: seconds. From now on a failure resets the machine instead of ending it; and it is one if this
    /// call does not come again within so many seconds. With 0, it need not.
    Guard,
    /// Fails: address and length of why, in text; whether it is the kernel that is to fail, to try that out.
    Fail,
    /// Processors that run threads.
    Processors,
    /// Nanoseconds that a thread has run, on whichever processors: its number.
    Ran,
}

impl Call {
    const ALL: [Call; 19] = [
        Call::Exit,
        Call::Write,
        Call::Resize,
        Call::Protect,
        Call::Populate,
        Call::Spawn,
        Call::End,
        Call::Wait,
        Call::Wake,
        Call::Written,
        Call::Present,
        Call::Dma,
        Call::Listen,
        Call::Catch,
        Call::Free,
        Call::Guard,
        Call::Fail,
        Call::Processors,
        Call::Ran,
    ];

    /// By its number.
    pub fn from_number(number: usize) -> Option<Call> {
        Call::ALL.get(number).copied()
    }
}

/// Why a call was of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(isize)]
pub enum Error {
    /// No such call, or arguments that cannot be.
    Invalid = -1,
    /// There is no memory left, or no thread.
    Full = -2,
    /// The deadline came.
    TimedOut = -3,
    /// There is another value.
    Changed = -4,
}

impl Error {
    /// Of a call's result.
    ///
    /// # Errors
    /// The error that it is.
    pub fn check(result: isize) -> Result<usize, Error> {
        match result {
            -2 => Err(Error::Full),
            -3 => Err(Error::TimedOut),
            -4 => Err(Error::Changed),
            ok if ok >= 0 => Ok(ok as usize),
            _ => Err(Error::Invalid),
        }
    }
}

/// What may be done with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Rights {
    /// Read only.
    Read,
    /// Read and write.
    Write,
    /// Read and execute.
    Execute,
}

impl Rights {
    /// By its number.
    pub fn from_number(number: usize) -> Option<Rights> {
        [Rights::Read, Rights::Write, Rights::Execute].get(number).copied()
    }
}

/// What a thread did that it cannot do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Fault {
    /// It touched what is not there, or not for it.
    Access,
    /// It touched what is there, and there was no memory left for it.
    Full,
    /// It divided by zero, or came to an instruction that is none.
    Instruction,
}

impl Fault {
    /// By its number.
    pub fn from_number(number: usize) -> Fault {
        match number {
            0 => Fault::Access,
            1 => Fault::Full,
            _ => Fault::Instruction,
        }
    }
}

/// Memory for devices: it lies in one piece.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Dma {
    /// Where the node has it.
    pub address: u64,
    /// Where devices have it.
    pub physical: u64,
}

/// A device's registers, by virtio over memory.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Device {
    /// Where the node has them.
    pub address: u64,
    /// Its interrupt's line.
    pub line: u64,
}

/// A region of memory of a device on PCI.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Bar {
    /// By which address the device's configuration knows it.
    pub bus: u64,
    /// Bytes; 0 where there is none.
    pub len: u64,
    /// Where the node has it; 0 if it does not.
    pub address: u64,
}

/// A virtio device on PCI. The bus is the kernel's, the node has a copy of what it says.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct PciDevice {
    /// Its configuration space.
    pub configuration: [u32; CONFIGURATION],
    /// Its registers are in these, by number.
    pub bars: [Bar; BARS],
    /// Its interrupt's line; [`NEVER`] if it has none.
    pub line: u64,
    /// Whether it interrupts by messages, the first of its table.
    pub by_message: u64,
}

impl Default for PciDevice {
    fn default() -> PciDevice {
        PciDevice { configuration: [0; CONFIGURATION], bars: [Bar::default(); BARS], line: NEVER, by_message: 0 }
    }
}

/// What the node is told when it begins: the address of this is its first thread's argument.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Boot {
    /// The payload's address, or 0.
    pub payload: u64,
    /// Its length.
    pub payload_len: u64,
    /// The command line's address.
    pub command_line: u64,
    /// Its length.
    pub command_line_len: u64,
    /// The address of what the machine has left behind that failed and was reset (`wayfare_board::report`).
    pub report: u64,
    /// Its length; 0 if there is none.
    pub report_len: u64,
    /// What the processor's counter means.
    pub clock: Clock,
    /// Bytes of memory in all.
    pub memory: u64,
    /// What the processor has that not all have: [`RANDOM`].
    pub features: u64,
    /// Devices, so many as there are.
    pub devices: [Device; DEVICES_MOST],
    /// How many.
    pub devices_len: u64,
    /// Devices on PCI, so many as there are.
    pub pci: [PciDevice; PCI_MOST],
    /// How many.
    pub pci_len: u64,
}
