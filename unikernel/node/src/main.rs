//! Wayfare on a machine without an operating system, the unprivileged part: the agent of a node, or one task and nothing
//! else. What is below it is the kernel (`kernel/`).
#![no_std]
#![no_main]
extern crate alloc;

mod agent;
mod clock;
mod console;
#[cfg(target_arch = "x86_64")]
mod copy;
mod entropy;
mod executor;
mod failure;
mod host;
mod link;
mod memory;
mod net;
mod sync;
mod sys;
mod thread;
mod virtio;

use agent::Agent;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;
use core::panic::PanicInfo;
use executor::Executor;
use failure::Failures;
use host::{Board, Seat};
use net::Net;
use wayfare_board::report::Text;
use wayfare_board::{Payload, Role, Start};
use wayfare_cluster::identity::Identity;
use wayfare_cluster::peers::Peer;
use wayfare_engine::{Image, Key, Limits, Outcome, bare};
use wayfare_unikernel_abi::Boot;
use wayfare_wasi::Ctx;

/// What the machine's exit codes mean, for whoever started it in an emulator: an exit status of the task follows this.
const EXITED: u8 = 1;
/// The task trapped, or could not be started.
const TRAPPED: u8 = 126;

/// A node of which nothing is heard for so many seconds has failed, unless the command line says something else.
const WATCHDOG: u64 = 30;
/// It is not given less.
const WATCHDOG_LEAST: u64 = 5;

/// Where the kernel begins the first thread.
#[unsafe(no_mangle)]
extern "C" fn _start(boot: &'static Boot) -> ! {
    memory::init();
    #[cfg(target_arch = "x86_64")]
    if !has_level_v2() {
        fail("this processor lacks instructions: SSE4.2 and POPCNT are needed (x86-64-v2)");
    }
    clock::init(boot);
    entropy::init(boot);
    // SAFETY: the kernel has it there, for reading, as long as the machine runs.
    let text = |at: u64, len: u64| unsafe { core::slice::from_raw_parts(at as *const u8, len as usize) };
    if boot.payload_len == 0 {
        fail("this kernel is nobody: `wayfare unikernel build` makes a task's image of it, or a node's");
    }
    let payload = match Payload::decode(text(boot.payload, boot.payload_len)) {
        Ok(payload) => payload,
        Err(e) => fail(&e.to_string()),
    };
    let command_line = core::str::from_utf8(text(boot.command_line, boot.command_line_len)).unwrap_or_default();
    let failures = Failures::new(text(boot.report, boot.report_len), |name| setting(command_line, name));
    match payload.role {
        Role::Task(start) => {
            failures.on_purpose();
            sys::exit(only_task(start, payload.image, payload.snapshot))
        }
        Role::Node { identity, peers } => node(boot, identity, peers, command_line, failures),
    }
}

/// Whether the processor has what this program and images are compiled for.
#[cfg(target_arch = "x86_64")]
fn has_level_v2() -> bool {
    // SSE3, SSSE3, CMPXCHG16B, SSE4.1, SSE4.2, POPCNT
    const NEEDED: u32 = 1 | 1 << 9 | 1 << 13 | 1 << 19 | 1 << 20 | 1 << 23;
    core::arch::x86_64::__cpuid(1).ecx & NEEDED == NEEDED
}

fn fail(why: &str) -> ! {
    console::line(why);
    sys::exit(TRAPPED)
}

/// A setting on the command line.
fn setting<'t>(command_line: &'t str, name: &str) -> Option<&'t str> {
    command_line.split_ascii_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

/// Is a node of a cluster, for ever.
fn node(boot: &Boot, identity: Identity, peers: Vec<Peer>, command_line: &str, failures: Failures) -> ! {
    let setting = |name: &str| setting(command_line, name);
    let watchdog = match setting("wayfare.watchdog").and_then(|text| text.parse().ok()) {
        Some(0) => 0,
        seconds => seconds.unwrap_or(WATCHDOG).max(WATCHDOG_LEAST),
    };
    sys::guard(watchdog);
    let mut seed = [0; 8];
    if !entropy::fill(&mut seed) {
        fail("this machine has no source of randomness, without which it cannot speak to others in secret");
    }
    let loopback = setting("wayfare.loopback").and_then(|text| text.parse().ok());
    let net = match Net::find(boot, u64::from_le_bytes(seed), loopback) {
        Ok(net) => net,
        Err(e) => fail(&e.to_string()),
    };
    let executor = Executor::default();
    let address = setting("wayfare.address").map(String::from);
    if let Some(port) = setting("wayfare.echo").and_then(|text| text.parse().ok()) {
        executor.spawn(echo(executor.clone(), net.clone(), port));
    }
    let agent = Agent::new(&executor, &net, identity, peers, address, failures);
    executor.spawn(agent.serve());
    executor.run(watchdog, || net.serve())
}

/// Sends whatever comes back to where it came from: what `wayfare bench unikernel` measures transfers against.
async fn echo(executor: Executor, net: Net, port: u16) {
    net.address().await;
    let mut listener = net.listen(port);
    loop {
        let stream = listener.accept().await;
        executor.spawn(async move {
            let mut buffer = alloc::vec![0; 64 << 10];
            while let Ok(len @ 1..) = stream.read(&mut buffer).await {
                let mut sent = 0;
                while sent < len {
                    match stream.write(&buffer[sent..len]).await {
                        Ok(more) => sent += more,
                        Err(_) => return,
                    }
                }
            }
        });
    }
}

/// Runs the one task that there is, and gives the machine's exit code.
fn only_task(start: Start, image: &[u8], snapshot: &[u8]) -> u8 {
    thread::if_given_up(|| {
        console::line("out of memory");
        sys::exit(TRAPPED)
    });
    match run(start, image, snapshot) {
        Ok(Outcome::Exited(status)) => return EXITED.saturating_add(status.min(124) as u8),
        Ok(Outcome::Trapped(e)) if thread::was_exhausted() => console::line(&alloc::format!("out of memory: {e}")),
        Ok(Outcome::Trapped(e)) => console::line(&e.to_string()),
        Ok(Outcome::Captured) => console::line("captured, and nobody asked for it"),
        Err(e) => console::line(&e),
    }
    TRAPPED
}

fn run(start: Start, image: &[u8], snapshot: &[u8]) -> Result<Outcome, String> {
    let image = Image::load_on(image, &Key(start.key), memory::tell).map_err(|e| e.to_string())?;
    let board = Board(Arc::new(Seat::loud()));
    let task = if snapshot.is_empty() {
        let mut ctx = Ctx::builder().args(start.args);
        for (name, value) in start.env {
            ctx = ctx.env(name, value);
        }
        bare::Task::start(&image, "task", ctx.build(), board, Limits::default())
    } else {
        let limits = wayfare_snapshot::Limits::default();
        let packed = wayfare_snapshot::open(snapshot, &limits).map_err(|e| e.to_string())?;
        bare::Task::resume(&image, &packed, board, Limits::default())
    };
    Ok(task.map_err(|e| e.to_string())?.run())
}

#[panic_handler]
fn panicked(info: &PanicInfo<'_>) -> ! {
    let mut text = Text::EMPTY;
    // What there is no room for is left out.
    let _ = write!(text, "{info}");
    sys::fail(text.as_str(), false)
}
