//! The agent: a node of a cluster that runs tasks, gives them away and takes them in.
//!
//! ```text
//! serve      connections of other nodes: handshake, then a move, a question, or a wish to join
//! local      connections of this machine's users: run, ps, logs, migrate
//!   │
//!   ▼
//! agent      the tasks by name, what is written about them (db), what is admitted (capacity)
//!   ├── task        one task on its thread: runs, stands still, goes on, ends
//!   ├── depart      drives transfer::Source: a task leaves
//!   ├── arrive      drives transfer::Destination: a task comes; ground: where its pages land
//!   │               lanes: more streams for one move
//!   ├── protect     what users ask of a task's standby; primary: keeps it up to date, by transfer::Primary
//!   ├── standby     drives transfer::Standby: would go on with a task of another node
//!   ├── reunion     of two copies of a task one counts
//!   ├── recover     what the journal asks for: after a restart, of other nodes, by them
//!   ├── service     a task's sockets, and their way to the ingress
//!   └── ingress     the clients of a published task, wherever that is
//! placed      tasks that a controller places here; snapshots: those that it keeps; survey, speed: what it asks
//! compiler    programs compiled for nodes that cannot
//! membership  the cluster's authority, this node's key, invitations, revocations
//! ```
#![forbid(unsafe_code)]

pub mod agent;
mod arrive;
mod capacity;
mod compiler;
mod copier;
mod db;
mod depart;
mod dirs;
mod ground;
mod ingress;
mod kept;
mod lanes;
pub mod link;
pub mod local;
pub mod membership;
mod placed;
mod primary;
mod protect;
mod rate;
mod recover;
mod reunion;
mod serve;
mod service;
mod shared;
pub mod snapshots;
mod spans;
pub mod speed;
mod standby;
mod survey;
mod task;
mod watched;

pub use wayfare_cluster::{control, peers, protection, restart, spec, token};

pub use dirs::Dirs;
pub use serve::{Serve, serve};

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// Nanoseconds since 1970.
pub(crate) fn unix_nanos() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64)
}

/// Random bytes of the operating system.
///
/// # Errors
/// When it has none, which does not happen on a system that has started.
pub fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut done = 0;
    while done < N {
        done += rustix::rand::getrandom(&mut bytes[done..], rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(bytes)
}
