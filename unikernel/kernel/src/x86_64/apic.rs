//! Interrupts: the processor's own controller (local APIC), with its timer, and the devices' (I/O APIC).

use x86_64::instructions::port::Port;
use x86_64::registers::model_specific::Msr;

/// Physical addresses, where they are also mapped.
pub const LOCAL: u64 = 0xfee0_0000;
/// See [`LOCAL`].
pub const IO: u64 = 0xfec0_0000;
/// Bytes of registers of each.
pub const LEN: u64 = 0x1000;

/// The timer's vector.
pub const TIMER: u64 = 0x40;
/// That of a processor's being told to come into the kernel.
pub const CALLED_IN: u64 = 0x41;
/// That of an interrupt that was none.
pub const SPURIOUS: u64 = 0x4f;
/// That of device line 0.
pub const LINES: u64 = 0x20;
/// Lines that the I/O APIC has.
pub const LINES_MOST: usize = 24;

/// Lines behind these, for messages of devices on PCI: up to the timer's vector.
pub const MESSAGES: usize = (TIMER - LINES) as usize - LINES_MOST;

/// Of the processor's own state: where the local APIC is, and how it is reached.
const BASE: u32 = 0x1b;
const BY_REGISTERS: u64 = 1 << 10;
const ON: u64 = 1 << 11;

const NUMBER: u64 = 0x20;
const END: u64 = 0xb0;
const ENABLE: u64 = 0xf0;
const COMMAND: u64 = 0x300;
const COMMAND_TO: u64 = 0x310;
const TIMER_MODE: u64 = 0x320;
const TIMER_COUNT: u64 = 0x380;
const TIMER_LEFT: u64 = 0x390;
const TIMER_DIVIDE: u64 = 0x3e0;
const BY_16: u32 = 3;

/// In a command: it was not delivered yet.
const IS_PENDING: u32 = 1 << 12;
const ASSERT: u32 = 1 << 14;
/// To all processors but this one.
const TO_OTHERS: u32 = 3 << 18;
const RESET: u32 = 5 << 8;
const START: u32 = 6 << 8;

const LEVEL: u32 = 1 << 15;
const MASKED: u32 = 1 << 16;

fn local(register: u64) -> *mut u32 {
    (LOCAL + register) as *mut u32
}

fn io(register: u32, value: u32) {
    // SAFETY: the I/O APIC's select and data registers, mapped for the kernel alone.
    unsafe {
        (IO as *mut u32).write_volatile(register);
        ((IO + 0x10) as *mut u32).write_volatile(value);
    }
}

/// Sets them up: no device interrupts yet.
pub fn init() {
    // SAFETY: the old controllers, of which nothing is to come.
    unsafe {
        Port::<u8>::new(0x21).write(0xff);
        Port::<u8>::new(0xa1).write(0xff);
    }
    init_own();
    (0..LINES_MOST).for_each(mask);
}

/// Sets up this processor's own.
pub fn init_own() {
    // SAFETY: the local APIC, which some firmware leaves so that it is reached by other means (from there the way back leads
    // over "off"); then its registers, which each processor has at the same place.
    unsafe {
        let (mut base, state) = (Msr::new(BASE), Msr::new(BASE).read());
        if state & BY_REGISTERS != 0 {
            base.write(state & !(BY_REGISTERS | ON));
            base.write(state & !BY_REGISTERS | ON);
        }
        local(ENABLE).write_volatile(0x100 | SPURIOUS as u32);
        local(TIMER_DIVIDE).write_volatile(BY_16);
        local(TIMER_MODE).write_volatile(TIMER as u32);
    }
}

/// The number by which others' commands reach this processor.
pub fn number() -> u32 {
    // SAFETY: as above.
    unsafe { local(NUMBER).read_volatile() >> 24 }
}

fn command(to: u32, what: u32) {
    // SAFETY: as above.
    unsafe {
        while local(COMMAND).read_volatile() & IS_PENDING != 0 {}
        local(COMMAND_TO).write_volatile(to << 24);
        local(COMMAND).write_volatile(what);
    }
}

/// Interrupts the processor with this number.
pub fn call_in(number: u32) {
    command(number, ASSERT | CALLED_IN as u32);
}

/// Has all other processors wait for [`start_others`].
pub fn reset_others() {
    command(0, TO_OTHERS | ASSERT | RESET);
}

/// Has all other processors that wait begin at a page below 1 MiB, in real mode.
pub fn start_others(page: u64) {
    command(0, TO_OTHERS | ASSERT | START | (page >> 12) as u32);
}

/// Lets the timer interrupt after so many ticks; never with 0.
pub fn start_timer(ticks: u32) {
    // SAFETY: as above.
    unsafe { local(TIMER_COUNT).write_volatile(ticks) };
}

/// Ticks until it does.
pub fn timer() -> u32 {
    // SAFETY: as above.
    unsafe { local(TIMER_LEFT).read_volatile() }
}

/// What a device has to write where so that it interrupts this processor on a line.
pub fn message(line: usize) -> (u32, u32) {
    // SAFETY: as above.
    let number = unsafe { local(NUMBER).read_volatile() } >> 24;
    (LOCAL as u32 | number << 12, LINES as u32 + line as u32)
}

/// An interrupt was taken.
pub fn end() {
    // SAFETY: as above.
    unsafe { local(END).write_volatile(0) };
}

fn set(line: usize, flags: u32) {
    if line < LINES_MOST {
        let (low, vector) = (0x10 + 2 * line as u32, LINES as u32 + line as u32);
        io(low + 1, 0);
        io(low, vector | LEVEL | flags);
    }
}

/// No interrupts of a line.
pub fn mask(line: usize) {
    set(line, MASKED);
}

/// Interrupts of a line: as long as the device asks for them.
pub fn unmask(line: usize) {
    set(line, 0);
}
