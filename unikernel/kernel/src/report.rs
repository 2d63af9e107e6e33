//! What becomes of a machine that has failed. One that runs a single task ends. A node is reset, so that it is there again
//! without anybody's help; why it was lies in a page behind the payload, which a reset leaves as it is and no boot loader
//! writes to, for the node to tell when it has begun again.

use crate::{arch, clock, smp, tables};
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use wayfare_board::report::{Part, REPORT_MAX, Report, Text};
use wayfare_unikernel_abi::SECOND;

/// What the machine's exit code is when it has failed, and is not reset.
const FAILED: u8 = 127;
/// It is reset after so long, nanoseconds; after twice that if it fails again, and so on: what fails at once shall not
/// keep others busy.
const PAUSE: u64 = SECOND;
/// But not after more than this.
const PAUSE_MOST: u64 = 60 * SECOND;
/// Whatever was well for so long has not failed again.
const WELL: u64 = 600 * SECOND;

/// There is memory for a report that is nobody else's.
static HAS_PAGE: AtomicBool = AtomicBool::new(false);
/// This is a node.
static IS_NODE: AtomicBool = AtomicBool::new(false);
/// How many times in a row the machine had failed before it began.
static BEFORE: AtomicU32 = AtomicU32::new(0);
/// How often it has failed since.
static FAILURES: AtomicU32 = AtomicU32::new(0);

/// The page that reports lie in.
fn page() -> &'static mut [u8; REPORT_MAX] {
    let [.., page] = tables::own_parts();
    // SAFETY: the page is mapped for this, and nobody else has it; whoever calls this does so once, at the beginning or at
    // the end of all.
    unsafe { &mut *(page.from as *mut [u8; REPORT_MAX]) }
}

/// The page is memory, and no firmware's.
pub fn has_page() {
    HAS_PAGE.store(true, Ordering::Relaxed);
}

/// Takes what was left behind; gives its length, or 0.
pub fn take(into: &mut [u8; REPORT_MAX]) -> usize {
    if !HAS_PAGE.load(Ordering::Relaxed) {
        return 0;
    }
    let page = page();
    *into = *page;
    let Some(report) = Report::read(into) else { return 0 };
    BEFORE.store(report.times, Ordering::Relaxed);
    // Once is enough.
    page.fill(0);
    arch::write_back(page);
    REPORT_MAX
}

/// From now on a failure resets the machine.
pub fn is_node() {
    IS_NODE.store(true, Ordering::Relaxed);
}

/// The machine has failed. The only way from here is the end of it.
pub fn fail(part: Part, how: fmt::Arguments<'_>) -> ! {
    // The kernel is not interrupted, and nothing else happens from here on.
    smp::stop_others();
    let is_node = IS_NODE.load(Ordering::Relaxed);
    match (FAILURES.fetch_add(1, Ordering::Relaxed), is_node) {
        (0, _) => {}
        // It failed in here: without another word.
        (1, true) => reset_in(PAUSE),
        _ => arch::exit(FAILED),
    }
    let before = if clock::nanos() > WELL { 0 } else { BEFORE.load(Ordering::Relaxed) };
    let times = before.saturating_add(1);
    if is_node && HAS_PAGE.load(Ordering::Relaxed) {
        let mut text = Text::EMPTY;
        // What there is no room for is left out.
        let _ = text.write_fmt(how);
        let page = page();
        Report { part, times, text: text.as_str() }.write(page);
        arch::write_back(page);
    }
    arch::unlock_console();
    let what = match part {
        Part::Agent => "the node failed",
        Part::Kernel => "the kernel failed",
        Part::Watchdog => "the watchdog fired",
    };
    let _ = writeln!(arch::Console, "\nwayfare: {what}: {how}");
    if !is_node {
        arch::exit(FAILED)
    }
    let pause = PAUSE.saturating_mul(1 << (times - 1).min(31)).min(PAUSE_MOST);
    let _ = writeln!(arch::Console, "wayfare: the machine is reset in {} s", pause / SECOND);
    reset_in(pause)
}

fn reset_in(nanos: u64) -> ! {
    let until = clock::nanos().saturating_add(nanos);
    while clock::nanos() < until {
        core::hint::spin_loop();
    }
    arch::reset()
}
