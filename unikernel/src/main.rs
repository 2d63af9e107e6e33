//! Wayfare on a machine without an operating system: boots, and runs the task that is in its payload.
//!
//! `x86_64/` is what the processor and its board ask for; everything else is the same on every machine. All of it runs
//! privileged, on one core and with interrupts off.
#![no_std]
#![no_main]
extern crate alloc;

#[cfg(target_arch = "x86_64")]
#[path = "x86_64/mod.rs"]
mod arch;
mod frames;
mod host;
mod memory;

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt::Write;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicPtr, Ordering};
use wayfare_board::{Payload, Place};
use wayfare_engine::{Image, Key, Outcome, bare};
use wayfare_snapshot::Limits;
use wayfare_wasi::Ctx;

/// What the machine's exit codes mean, for whoever started it in an emulator: an exit status of the task follows this.
const EXITED: u8 = 1;
/// The task trapped, or could not be started.
const TRAPPED: u8 = 126;
/// The machine itself failed.
const PANICKED: u8 = 127;

#[used]
#[unsafe(link_section = ".payload_place")]
static PLACE: Place = Place::EMPTY;

/// Physical address and length of the payload.
fn payload_place() -> Option<(u64, u64)> {
    // SAFETY: it is there, and never written to once the kernel runs. It is not what the compiler saw.
    let place = unsafe { core::ptr::read_volatile(&raw const PLACE) };
    place.filled()
}

fn start() -> ! {
    let Some((at, len)) = payload_place() else {
        end("this kernel has no task: give it one with `wayfare unikernel build --task`");
    };
    // SAFETY: the boot loader has put it there, and it is mapped, for reading, as long as the machine runs.
    let bytes = unsafe { core::slice::from_raw_parts(at as *const u8, len as usize) };
    match run(bytes) {
        Ok(Outcome::Exited(status)) => arch::exit(EXITED.saturating_add(status.min(124) as u8)),
        Ok(Outcome::Trapped(e)) if frames::is_exhausted() => end(&format!("out of memory: {e}")),
        Ok(Outcome::Trapped(e)) => end(&e.to_string()),
        Ok(Outcome::Captured) => end("captured, and nobody asked for it"),
        Err(e) => end(&e),
    }
}

fn run(bytes: &[u8]) -> Result<Outcome, String> {
    let payload = Payload::decode(bytes).map_err(|e| e.to_string())?;
    let key = Key(payload.start.key);
    let image = Image::load_on(payload.image, &key, memory::tell).map_err(|e| e.to_string())?;
    let task = if payload.snapshot.is_empty() {
        let mut ctx = Ctx::builder().args(payload.start.args);
        for (name, value) in payload.start.env {
            ctx = ctx.env(name, value);
        }
        bare::Task::start(&image, ctx.build(), host::Board)
    } else {
        let packed = wayfare_snapshot::open(payload.snapshot, &Limits::default()).map_err(|e| e.to_string())?;
        bare::Task::resume(&image, &packed, host::Board)
    };
    Ok(task.map_err(|e| e.to_string())?.run())
}

/// The task cannot go on, for this reason; the machine has no other.
fn end(why: &str) -> ! {
    let _ = writeln!(arch::Console, "wayfare: {why}");
    arch::exit(TRAPPED)
}

#[panic_handler]
fn panicked(info: &PanicInfo<'_>) -> ! {
    arch::unlock_console();
    let _ = writeln!(arch::Console, "\nwayfare: {info}");
    arch::exit(PANICKED)
}

static THREAD: [AtomicPtr<u8>; 2] = [const { AtomicPtr::new(core::ptr::null_mut()) }; 2];

/// wasmtime keeps what belongs to a thread here; there is one.
#[unsafe(no_mangle)]
extern "C" fn wasmtime_tls_get(slot: usize) -> *mut u8 {
    THREAD[slot].load(Ordering::Relaxed)
}

/// See [`wasmtime_tls_get`].
#[unsafe(no_mangle)]
extern "C" fn wasmtime_tls_set(slot: usize, value: *mut u8) {
    THREAD[slot].store(value, Ordering::Relaxed);
}
