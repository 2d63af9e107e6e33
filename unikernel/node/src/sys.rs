//! Calls of the kernel.

use core::arch::asm;
use core::sync::atomic::AtomicU32;
use wayfare_unikernel_abi::{Area, Call, Dma, Error, Rights};

fn call(call: Call, [a, b, c, d]: [usize; 4]) -> Result<usize, Error> {
    let result: isize;
    // SAFETY: the kernel changes no register but the result's, and of memory only what the call says. Whoever makes it
    // sees to it that that is right.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!("ud1 eax, eax", inlateout("rax") call as usize => result, in("rdi") a, in("rsi") b, in("rdx") c,
             in("r10") d, options(nostack));
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!("svc 0", inlateout("x0") a => result, in("x1") b, in("x2") c, in("x3") d, in("x8") call as usize,
             options(nostack));
    }
    // SAFETY: as above.
    #[cfg(target_arch = "riscv64")]
    unsafe {
        asm!("ecall", inlateout("a0") a => result, in("a1") b, in("a2") c, in("a3") d, in("a7") call as usize,
             options(nostack));
    }
    Error::check(result)
}

/// Ends the machine.
pub fn exit(code: u8) -> ! {
    let _ = call(Call::Exit, [code.into(), 0, 0, 0]);
    loop {
        core::hint::spin_loop();
    }
}

/// This node is at work, and says so again within so many seconds; with 0, it need not.
pub fn guard(seconds: u64) {
    let _ = call(Call::Guard, [seconds as usize, 0, 0, 0]);
}

/// The machine has failed; or the kernel is to, to try that out.
pub fn fail(why: &str, is_kernel: bool) -> ! {
    let _ = call(Call::Fail, [why.as_ptr().addr(), why.len(), is_kernel.into(), 0]);
    unreachable!("a machine that has failed")
}

/// Writes to the console.
pub fn write(bytes: &[u8]) {
    // What the kernel cannot read is lost; there is nobody to tell.
    let _ = call(Call::Write, [bytes.as_ptr().addr(), bytes.len(), 0, 0]);
}

/// Makes a slot so large.
pub fn resize(area: Area, slot: usize, size: u64) -> Result<(), Error> {
    call(Call::Resize, [area as usize, slot, size as usize, 0]).map(drop)
}

/// Gives pages of the heap other rights.
pub fn protect(from: *const u8, len: usize, rights: Rights) -> Result<(), Error> {
    call(Call::Protect, [from.addr(), len, rights as usize, 0]).map(drop)
}

/// Makes sure that there is memory for these bytes, so that a touch cannot fail for want of it.
pub fn populate(from: *const u8, len: usize) -> Result<(), Error> {
    call(Call::Populate, [from.addr(), len, 0, 0]).map(drop)
}

/// Begins a thread.
pub fn spawn(entry: extern "C" fn(usize) -> !, argument: usize, urgent: bool) -> Result<usize, Error> {
    call(Call::Spawn, [entry as *const () as usize, argument, urgent.into(), 0])
}

/// Ends this thread.
pub fn end() -> ! {
    let _ = call(Call::End, [0; 4]);
    unreachable!("a thread that has ended")
}

/// Waits while a word has this value.
pub fn wait(word: &AtomicU32, value: u32, deadline: u64) -> Result<(), Error> {
    call(Call::Wait, [word.as_ptr().addr(), value as usize, deadline as usize, 0]).map(drop)
}

/// Wakes those who wait for a word.
pub fn wake(word: &AtomicU32, most: usize) {
    let _ = call(Call::Wake, [word.as_ptr().addr(), most, 0, 0]);
}

/// Which pages of a linear memory were written since the last time, a bit for each; with `all`, those that are there.
pub fn written(window: usize, first: u64, count: u64, bits: &mut [u8], all: bool) -> Result<(), Error> {
    assert!(bits.len() as u64 >= count.div_ceil(8), "a bit for each page");
    call(
        if all { Call::Present } else { Call::Written },
        [window, first as usize, count as usize, bits.as_mut_ptr().addr()],
    )
    .map(drop)
}

/// Memory for devices.
pub fn dma(pages: usize) -> Result<Dma, Error> {
    let mut dma = Dma::default();
    call(Call::Dma, [pages, (&raw mut dma).addr(), 0, 0])?;
    // SAFETY: the kernel has written it, which the compiler does not know.
    Ok(unsafe { core::ptr::read_volatile(&raw const dma) })
}

/// Lets a device interrupt once: the word goes up then.
pub fn listen(line: usize, word: &'static AtomicU32) -> Result<(), Error> {
    call(Call::Listen, [line, word.as_ptr().addr(), 0, 0]).map(drop)
}

/// Who is to be told of faults.
pub fn catch(entry: extern "C" fn(usize, usize, usize, usize) -> !) -> Result<(), Error> {
    call(Call::Catch, [entry as *const () as usize, 0, 0, 0]).map(drop)
}

/// Processors that run threads.
pub fn processors() -> u32 {
    call(Call::Processors, [0; 4]).map_or(1, |count| count as u32)
}

/// Nanoseconds that a thread has run; 0 if there is none with this number.
pub fn ran(thread: usize) -> u64 {
    call(Call::Ran, [thread, 0, 0, 0]).map_or(0, |ran| ran as u64)
}

/// Bytes of memory that are free.
pub fn free() -> u64 {
    call(Call::Free, [0; 4]).unwrap_or(0) as u64
}
