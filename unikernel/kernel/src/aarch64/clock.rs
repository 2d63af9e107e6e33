//! The processor's virtual counter, and its timer.

use crate::clock::Measured;
use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{CNTFRQ_EL0, CNTKCTL_EL1, CNTV_CTL_EL0, CNTV_CVAL_EL0, CNTVCT_EL0, Readable, Writeable};

/// Lets the node read the counter too.
pub fn init() -> Measured {
    let frequency = CNTFRQ_EL0.get();
    assert!(frequency != 0, "the firmware has not said how fast the counter is");
    init_own();
    Measured { counter: counter(), frequency, timer: frequency }
}

/// Sets up this processor's own.
pub fn init_own() {
    start_timer(None);
    CNTKCTL_EL1.write(CNTKCTL_EL1::EL0VCTEN::SET);
}

/// The processor's counter.
pub fn counter() -> u64 {
    barrier::isb(barrier::SY);
    CNTVCT_EL0.get()
}

/// Has the timer interrupt after so many ticks; never, if there are none.
pub fn start_timer(ticks: Option<u64>) {
    match ticks {
        Some(ticks) => {
            CNTV_CVAL_EL0.set(counter().saturating_add(ticks));
            CNTV_CTL_EL0.write(CNTV_CTL_EL0::ENABLE::SET);
        }
        None => CNTV_CTL_EL0.set(0),
    }
    barrier::isb(barrier::SY);
}
