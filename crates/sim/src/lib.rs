//! Hosts, links and tasks that exist in memory only, on a clock that is an integer.
//!
//! What is proved here is `wayfare-transfer`: its machines run unchanged, driven as an agent drives them, while links
//! break, hosts die and records are tampered with at every moment there is. A run is a function of its seed, so
//! whatever fails once fails again.
//!
//! ```text
//! World ── Host ── Source, Destination, Channel      (wayfare-transfer)
//!   │        ├──── Disk      survives a kill
//!   │        └──── SimGuest  a task whose state at any step is known beforehand
//!   └───── Net ─── Pipe, Meddler
//! ```
//! With the feature `proxy` there is also a link between real processes, shaped and broken the same way.
#![forbid(unsafe_code)]

pub mod clock;
pub mod disk;
pub mod forger;
pub mod guest;
pub mod host;
pub mod hostile;
pub mod link;
pub mod naps;
pub mod net;
#[cfg(feature = "proxy")]
pub mod proxy;
pub mod svg;
pub mod trace;
pub mod world;

pub use clock::{MICRO, MILLI, Nanos, Rng, SECOND};
pub use guest::{Program, SimGuest};
pub use host::{Condition, Host, HostId, Settings};
pub use link::Shape;
pub use trace::Trace;
pub use world::{Fault, World};
