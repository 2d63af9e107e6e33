//! Runs instrumented modules and takes their state out and in: the only crate that names wasmtime.
//!
//! [`Machine`] is one instance with its captured state, without any host interface; [`Task`] adds WASI,
//! a handle that other threads ask for captures, and images. Entry points: [`Image::compile`],
//! [`Image::load`], [`Task::start`], [`Task::resume`].
#![cfg_attr(not(feature = "std"), no_std)]
extern crate alloc;

#[cfg(feature = "std")]
mod arrival;
pub mod bare;
#[cfg(feature = "std")]
mod body;
mod calls;
mod changed;
mod config;
mod error;
mod foresight;
#[cfg(feature = "std")]
mod freeze;
#[cfg(feature = "std")]
mod grounds;
#[cfg(feature = "std")]
mod handle;
#[cfg(feature = "std")]
pub mod heaps;
mod image;
mod key;
#[cfg(feature = "std")]
mod late;
#[cfg(feature = "compile")]
mod lengths;
mod limits;
mod machine;
#[cfg(all(feature = "std", target_os = "linux"))]
mod pagemap;
#[cfg(feature = "std")]
mod task;
mod trigger;
#[cfg(feature = "std")]
mod uffd;
#[cfg(feature = "std")]
mod watch;

#[cfg(feature = "std")]
pub use arrival::Arrival;
pub use calls::{ENTRY, Outcome};
pub use config::{Options, Target, VERSION, configure};
pub use error::Error;
#[cfg(feature = "std")]
pub use freeze::{Freezer, Frozen};
#[cfg(feature = "std")]
pub use handle::{Handle, Stopped};
pub use image::{Form, Image, ImageInfo, is_image, sign_again};
pub use key::Key;
#[cfg(feature = "std")]
pub use late::Late;
pub use limits::Limits;
pub use machine::{Machine, Run, State};
#[cfg(feature = "std")]
pub use task::{THREAD_STACK, Task};
pub use trigger::Trigger;
pub use wasmtime;
#[cfg(feature = "std")]
pub use watch::{Method, PageRange, Watch};
