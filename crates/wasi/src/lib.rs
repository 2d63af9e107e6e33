//! WASI preview 1 over a value: the state of a task can be written out in the middle of any call and go on elsewhere,
//! on a machine of another instruction set, and the task does not notice.
//!
//! [`Ctx`] is that value: arguments, environment, descriptors with their offsets, in-memory file systems ([`Volume`]),
//! the task's clock, a sleep in progress. It knows no WebAssembly engine, since guest memory is a `&mut [u8]`, and no
//! operating system: [`Host`] is all it asks of one. `std_host` (feature `std`) is Linux.
//!
//! # How an engine drives it
//! ```no_run
//! # #[cfg(feature = "std")] fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use wayfare_wasi::{Control, Ctx, Function, Host, Stream, Volume, Woken, std_host::StdHost};
//!
//! // A new task; or `Ctx::decode(&bytes)?` for one that was captured.
//! let mut ctx = Ctx::builder().arg("prog").dir("/shared", false).volume("/work", Volume::new(), false).build();
//! let mut host = StdHost::new()?.dir("/shared", "some/directory", false);
//! let canceller = host.canceller(); // goes to whoever asks for captures
//! ctx.reattach(&mut host)?; // before anything runs: lists all that is missing here
//! ctx.resumed(&mut host);
//!
//! // For each import of `wayfare_wasi::MODULE`: `Function::from_name`, `params`, and in the call itself:
//! # let (function, args, mut memory) = (Function::SchedYield, [], vec![0_u8; 65536]);
//! let errno = loop {
//!     match ctx.call(&mut host, function, &args, &mut memory) {
//!         Control::Return(errno) => break errno,
//!         Control::Exit(_status) => return Ok(()), // unwind the guest
//!         Control::Block(wait) => {
//!             if host.wait(&wait) == Woken::Cancelled {
//!                 // Capture now: the guest's frames say that it is at this call, and after the resume the engine
//!                 // issues it again with the same arguments.
//!             }
//!         }
//!     }
//! };
//!
//! // A capture, with the guest stopped:
//! ctx.pausing(&mut host);
//! if ctx.obstacles().is_empty() {
//!     let _bytes = ctx.encode(); // to the other machine, or...
//! }
//! ctx.resumed(&mut host); // ...it goes on here
//! # let _ = (errno, canceller, Stream::Stdin); Ok(()) }
//! # #[cfg(not(feature = "std"))] fn main() {}
//! ```
//! A call that answers [`Control::Block`] has had no effect on the guest, its memory or its streams. Only the functions
//! of which [`Function::may_block`] is true do so.
//!
//! # What it does as wasmtime-wasi 48, the oracle, does it
//! Error numbers and the order of checks, rights as reported, numbers of descriptors, one buffer of a vector per call,
//! birth time in the place of the status change, device 1 for every file, `fd_readdir` cookies that count entries.
//!
//! # What is not supported
//! | call | answer |
//! |---|---|
//! | `clock_*_get` of processor or thread time | `badf`; in `poll_oneoff` `inval` |
//! | `fd_allocate` | `notsup` (`badf` on what is no file) |
//! | `fd_fdstat_set_rights` | `notsup` (`badf` on streams) |
//! | `fd_fdstat_set_flags` with `dsync`, `rsync`, `sync` | `inval`; on streams and directories always `badf` |
//! | `path_open` with `dsync`, `rsync`, `sync` | `notsup` |
//! | `path_link` that follows links | `inval` |
//! | `path_symlink` to, `path_readlink` of an absolute path | `perm` |
//! | `poll_oneoff` of nothing | `inval` |
//! | `proc_raise` | `notsup` |
//! | `sock_*` on what is no socket | `notsock` |
//! | `sock_recv` with `recv_waitall` | `notsup` |
//! | `path_link`, `path_rename` from one volume or kind of directory to another | `xdev` |
//!
//! # Where it differs from the oracle, on purpose
//! - A guest pointer out of bounds is `fault`; there it traps. One that is not aligned is no error; there it traps.
//! - An exit status above 125 is passed on; there it traps.
//! - A write to a stream may be short, and waits only while nothing at all can be written; there it waits for all.
//!   A read of no bytes gives none at once; there it waits and says `intr`. `poll_oneoff` knows whether an output takes
//!   bytes; there it always does.
//! - `fd_readdir` gives names in sorted order and, until the end has been seen, those that were there at the first
//!   call, so that cookies hold while files come and go and when the task moves to a host that lists in another order.
//! - Errors of the host that the oracle calls `io` keep their names (`xdev`, `rofs`, `mfile`, ...).
//! - No limit on the bytes of one call other than guest memory; more than 2²⁴ buffers or 2²⁰ subscriptions are `nomem`.
//! - Inode numbers of host directories are mixed in another way, and are another host's after a move.
//! - Sockets exist: listeners that the host has published, and connections accepted from them. They report the rights
//!   that wasmtime's `--tcplisten` reported. A connection that the host can hand out again elsewhere
//!   ([`Host::stream_of`]) moves with the task.
//! - There is a limit on open descriptors ([`Ctx::limit_descriptors`]); beyond it a call is `mfile`.
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
