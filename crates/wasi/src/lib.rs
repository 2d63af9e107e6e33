//! WASI preview 1 over a value: the state of a task can be written out in the middle of any call and go on elsewhere.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

mod attach;
mod builder;
mod calls;
mod clock;
mod codec;
mod ctx;
mod descriptor;
mod encode;
mod errno;
mod function;
mod host;
mod memory;
mod paths;
#[cfg(feature = "std")]
pub mod std_host;
pub mod types;
mod volume;

pub use attach::{DescriptorInfo, DescriptorKind, Obstacle, ReattachError, Unattached};
pub use builder::Builder;
pub use codec::DecodeError;
pub use ctx::{Control, Ctx};
pub use errno::Errno;
pub use function::{Function, MODULE, ValType};
pub use host::{
    Advice, DirEntry, FileStat, Handle, Host, Interest, NewTime, OpenOptions, Shutdown, Source, Stream, Wait, Woken,
};
pub use types::Filetype;
#[cfg(feature = "std")]
pub use volume::StoreError;
pub use volume::{PAGE_SIZE, Volume};
