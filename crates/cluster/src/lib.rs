//! What the nodes of a cluster say to each other besides moves, and users to them: data alone, the same for agents on Linux
//! and for boards without an operating system.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod control;
pub mod envelope;
pub mod identity;
pub mod peers;
pub mod protection;
pub mod restart;
pub mod spec;
pub mod token;
