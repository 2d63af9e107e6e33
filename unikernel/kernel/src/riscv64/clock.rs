//! The processor's counter, and its timer, which is the firmware's.

use crate::clock::Measured;
use crate::tree::{Node, Tree};
use riscv::register::{scounteren, sie, time};
use wayfare_unikernel_abi::NEVER;

/// Lets the node read the counter too.
pub fn init(tree: &Tree) -> Measured {
    let told = tree.find("/cpus").and_then(|all| {
        let of = |node: Node| node.number("timebase-frequency", 0);
        of(all).or_else(|| all.children().find_map(of))
    });
    let Some(frequency) = told.filter(|frequency| *frequency != 0) else {
        panic!("the device tree does not say how fast the counter is")
    };
    init_own();
    let frequency = frequency.into();
    Measured { counter: counter(), frequency, timer: frequency }
}

/// Sets up this processor's own.
pub fn init_own() {
    start_timer(None);
    // SAFETY: the counter tells nothing that nobody may know; interrupts come only when a thread runs.
    unsafe {
        scounteren::set_tm();
        sie::set_stimer();
    }
}

/// The processor's counter.
pub fn counter() -> u64 {
    time::read64()
}

/// Has the timer interrupt after so many ticks; never, if there are none.
pub fn start_timer(ticks: Option<u64>) {
    sbi_rt::set_timer(ticks.map_or(NEVER, |ticks| counter().saturating_add(ticks)));
}
