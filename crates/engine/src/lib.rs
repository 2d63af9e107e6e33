//! Runs instrumented modules and takes their state out and in: the only crate that names wasmtime.
//!
//! [`Machine`] is one instance with its captured state, without any host interface; [`Task`] adds WASI,
//! a handle that other threads ask for captures, and images. Entry points: [`Image::compile`],
//! [`Image::load`], [`Task::start`], [`Task::resume`].
#![cfg_attr(not(feature = "std"), no_std)]
extern crate alloc;

mod changed;
mod config;
mod error;
mod image;
mod key;
mod machine;
#[cfg(feature = "std")]
mod task;
mod trigger;

pub use config::{Options, Target, VERSION, configure};
pub use error::Error;
pub use image::{Form, Image, ImageInfo, is_image};
pub use key::Key;
pub use machine::{Machine, Run, State};
#[cfg(feature = "std")]
pub use task::{ENTRY, Handle, Outcome, Stopped, THREAD_STACK, Task};
pub use trigger::Trigger;
pub use wasmtime;
