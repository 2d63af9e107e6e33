//! Wayfare on a machine without an operating system, the unprivileged part: runs the task that is in its payload. What is
//! below it is the kernel (`kernel/`).
#![no_std]
#![no_main]
extern crate alloc;

mod clock;
mod entropy;
mod host;
mod memory;
mod sync;
mod sys;
mod thread;

use alloc::string::{String, ToString};
use core::fmt::{self, Write};
use core::panic::PanicInfo;
use wayfare_board::Payload;
use wayfare_engine::{Image, Key, Outcome, bare};
use wayfare_snapshot::Limits;
use wayfare_unikernel_abi::Boot;
use wayfare_wasi::Ctx;

/// What the machine's exit codes mean, for whoever started it in an emulator: an exit status of the task follows this.
const EXITED: u8 = 1;
/// The task trapped, or could not be started.
const TRAPPED: u8 = 126;
/// The machine itself failed.
const PANICKED: u8 = 127;

/// Where the kernel begins the first thread.
#[unsafe(no_mangle)]
extern "C" fn _start(boot: &'static Boot) -> ! {
    memory::init();
    clock::init(boot);
    entropy::init(boot);
    let code = match boot.payload_len {
        0 => {
            say("this kernel has no task: give it one with `wayfare unikernel build --task`");
            TRAPPED
        }
        // SAFETY: the kernel has it there, for reading, as long as the machine runs.
        len => only_task(unsafe { core::slice::from_raw_parts(boot.payload as *const u8, len as usize) }),
    };
    sys::exit(code)
}

/// Runs the one task that there is, and gives the machine's exit code.
fn only_task(payload: &[u8]) -> u8 {
    match run(payload) {
        Ok(Outcome::Exited(status)) => return EXITED.saturating_add(status.min(124) as u8),
        Ok(Outcome::Trapped(e)) if thread::was_exhausted() => say(&alloc::format!("out of memory: {e}")),
        Ok(Outcome::Trapped(e)) => say(&e.to_string()),
        Ok(Outcome::Captured) => say("captured, and nobody asked for it"),
        Err(e) => say(&e),
    }
    TRAPPED
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

/// Writes a line to the console.
fn say(text: &str) {
    let _ = writeln!(Console, "wayfare: {text}");
}

/// The console.
struct Console;

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        sys::write(text.as_bytes());
        Ok(())
    }
}

#[panic_handler]
fn panicked(info: &PanicInfo<'_>) -> ! {
    let _ = writeln!(Console, "\nwayfare: {info}");
    sys::exit(PANICKED)
}
