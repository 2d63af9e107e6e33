//! What a machine without an operating system is given to begin with, and how that lies in the file that it boots: made
//! by `wayfare unikernel build` and by the controller (`image`), read by the kernel in `unikernel/`.
//!
//! A kernel is an ELF file with one program header to spare and, in its data, a [`Place`]. A node's image is that file
//! with a [`Payload`] at its end, which the spare header has the boot loader put after the kernel; or the same as it lies in
//! memory, for loaders that know no ELF ([`flat`]). Behind it, in memory, a machine that has failed leaves a
//! [`report::Report`] for the one that boots next.
//!
//! What boot loaders and firmware tell a kernel is read here too, as far as it is not the machine's own business.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "payload")]
extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

#[cfg(feature = "payload")]
mod elf;
#[cfg(feature = "payload")]
mod flat;
#[cfg(feature = "std")]
pub mod image;
mod interrupts;
#[cfg(feature = "std")]
mod iso;
pub mod multiboot;
#[cfg(feature = "payload")]
mod payload;
mod place;
pub mod report;

#[cfg(feature = "payload")]
pub use elf::{append, attach, payload_of};
#[cfg(feature = "payload")]
pub use flat::flat;
pub use interrupts::{Parent, interrupt};
#[cfg(feature = "payload")]
pub use payload::{Payload, Role, Start};
pub use place::Place;

#[cfg(feature = "payload")]
/// Why an image cannot be made, or a payload not be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a kernel of this project.
    #[error("this is not a Wayfare kernel: {0}")]
    NotAKernel(&'static str),
    /// The machines that it is for boot no flat files.
    #[error("there is no flat file for this kernel's machines, which boot ELF files")]
    NotFlat,
    /// A command line of so many bytes.
    #[error("a command line of {0} bytes: there is room for {max}", max = place::LINE_MAX)]
    LongLine(usize),
    /// It is one that has a payload.
    #[error("this kernel has a payload already")]
    Full,
    /// Bytes that were changed, or cut off.
    #[error("the payload is damaged")]
    Damaged,
    /// Of another version.
    #[error("the payload is of another version of Wayfare: build the image again")]
    Version,
}
