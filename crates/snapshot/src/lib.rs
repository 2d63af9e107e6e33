//! The portable state of a WebAssembly task: every outside byte of a captured task is defined here.
//!
//! A snapshot is **base + delta**. A *full* snapshot stands on the module's own initial image and holds the pages that
//! differ from it; a *delta* stands on an earlier snapshot. Live migration, standby synchronisation, suspend to disk
//! and overlays all use the same few operations: [`diff`], [`apply`], [`squash`], [`verify`].
//!
//! ```text
//! +--------------------------+ 0
//! | Header, 176 bytes        |   readable alone: see [`Header`]
//! +--------------------------+ 176
//! | kind u16 | version u16 | len u64 | payload |   options, frames, globals, tables, dropped, refs, wasi, memories:
//! | ...                                        |   each exactly once and in this order
//! +--------------------------+ total_len
//! ```
//!
//! All integers are little endian; *varint* is unsigned LEB128 in its shortest form. Bulk bytes (frames, WASI state,
//! memory) are cut into chunks of 128 KiB which are packed and unpacked independently, so that all cores can work:
//! a directory of one `u32` per chunk (codec in the top byte, packed length below), then the payloads.
//! Memory is a map of runs of pages first, then the bytes of all its non-zero pages as one such stream: scattered dirty
//! pages share chunks, and a zero page costs nothing but its place in the map.
//!
//! Bytes from outside are refused before they can cost anything: the length is capped, then the checksum verified, then
//! the sections are decoded with every count checked against what is left before memory is set aside for it.
//! The checksum finds damage, it is no signature: who may send a snapshot is the channel's business.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

mod algebra;
mod chunk;
mod decode;
mod digest;
mod encode;
mod error;
mod header;
mod pages;
mod sections;
mod state;
mod wire;

#[cfg_attr(feature = "std", path = "par_std.rs")]
#[cfg_attr(not(feature = "std"), path = "par_core.rs")]
mod par;

#[cfg_attr(feature = "std", path = "zstd_std.rs")]
#[cfg_attr(not(feature = "std"), path = "zstd_core.rs")]
mod zstd_codec;

#[cfg_attr(feature = "std", path = "io.rs")]
#[cfg_attr(not(feature = "std"), path = "io_core.rs")]
mod io;

pub use algebra::{apply, diff, squash};
pub use chunk::{CHUNK_SIZE, Compression};
pub use decode::{Limits, Packed, decode, id, open, verify};
pub use digest::{Digest, ParseDigestError};
#[doc(hidden)]
pub use encode::reseal;
pub use encode::{EncodeIntoError, Encoded, Sink, encode, encode_into, encode_parts};
pub use error::Error;
pub use header::{FORMAT, Header, Kind, MAGIC};
pub use pages::{MapRun, Memories, MemoryMap, MemoryState, PageRun, Pages, is_zero};
pub use state::{GlobalValue, Meta, Snapshot, TableState, TaskOptions};

/// Bytes in a page, the unit in which snapshots compare and store linear memory (not the 64 KiB page of WebAssembly).
pub const PAGE_SIZE: usize = 4096;
