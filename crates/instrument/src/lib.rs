//! Teaches a WebAssembly module to write its own call stack out, mid-computation, and to take it back.
//!
//! The transformation is from Wasm to Wasm: every engine and every ISA then agrees on the state of a
//! captured task, and any stock engine makes the machine code. See ARCHITECTURE.md ("instrument") for
//! the shape of the generated code; [`abi`] and [`meta`] are the contract with whoever runs it.
//!
//! ```no_run
//! # fn main() -> Result<(), wayfare_instrument::Error> {
//! # let wasm = vec![];
//! let out = wayfare_instrument::instrument(&wasm, &wayfare_instrument::Options::default())?;
//! # Ok(()) }
//! ```
#![cfg_attr(not(feature = "transform"), no_std)]
extern crate alloc;

pub mod abi;
pub mod meta;

#[cfg(feature = "transform")]
mod assemble;
#[cfg(feature = "transform")]
mod callgraph;
#[cfg(feature = "transform")]
mod context;
#[cfg(feature = "transform")]
mod cover;
#[cfg(feature = "transform")]
mod emit;
#[cfg(feature = "transform")]
mod helpers;
#[cfg(feature = "transform")]
mod liveness;
#[cfg(feature = "transform")]
mod parse;
#[cfg(feature = "transform")]
mod plan;
#[cfg(feature = "transform")]
mod scan;
#[cfg(feature = "transform")]
mod strip;
#[cfg(feature = "transform")]
mod transform;
#[cfg(feature = "transform")]
mod weigh;
#[cfg(feature = "transform")]
mod wrap;

#[cfg(feature = "transform")]
pub use transform::{Error, Instrumented, Options, Refusal, features, instrument, is_instrumented};
