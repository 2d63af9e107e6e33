//! When to bring a standby up to date: what a link and a task have shown so far, turned into the moment of the next sync.
//!
//! Nothing here has a socket, a clock, a thread or a source of randomness. A node tells a [`Synchroniser`] what it has
//! seen by `handle_*`, with the time, an integer of nanoseconds of its own clock that never goes back, and asks
//! [`Synchroniser::decide`]. No two clocks are ever compared, so that a skew between nodes does not matter. The simulator
//! drives the same code.
//!
//! ```text
//! transfers, heartbeats --> Link    bandwidth, delay, signs of trouble --+
//! breaks                --> Hazard  outages per second <-----------------+--> interval --> Bounds --> Decision
//! sizes of past syncs   --> Delta   bytes of a sync after S of work -----+                max loss,   sync or wait,
//! heartbeats            --> Detector    is the other side gone?                           link share  and why
//! ```
//! # The order of calls
//! `handle_sync_started` follows a decision to sync; either `handle_sync_finished` or `handle_sync_cut` follows that.
//! Between `handle_outage_began` and `handle_outage_ended` every decision is to wait. A time before one that was told
//! earlier counts as that one.
//!
//! Source: seed 002 (the thesis), section 3.3, equations 3-1 to 3-4, and what is wrong with them: see [`naps`].
#![no_std]
#![forbid(unsafe_code)]

mod bounds;
pub mod delta;
mod detector;
pub mod hazard;
pub mod interval;
pub mod link;
mod mean;
pub mod naps;
mod policy;
mod reason;
mod synchroniser;
pub mod units;

pub use bounds::Bounds;
pub use detector::Detector;
pub use hazard::{Hazard, Weights};
pub use interval::Costs;
pub use policy::{ParsePolicyError, Policy};
pub use reason::{Hold, Reason};
pub use synchroniser::{Action, Decision, Settings, Synchroniser, View};

/// Nanoseconds of any clock that does not go back.
pub type Nanos = u64;

/// A moment that does not come: nothing is to be done until something else happens.
pub const NEVER: Nanos = Nanos::MAX;

/// What a transfer or a heartbeat has measured of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkSample {
    /// Bytes per second.
    pub bandwidth: Option<u64>,
    /// One way; half of a round trip.
    pub delay: Option<Nanos>,
}
