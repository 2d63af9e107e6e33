//! What can go wrong between an image, a snapshot and a running task, each with what to do about it.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No code generator.
    #[error("unknown target {0:?}: use x86_64, aarch64, riscv64 or pulley64")]
    Target(String),
    /// The program is not valid, or cannot be moved.
    #[cfg(feature = "compile")]
    #[error(transparent)]
    Instrument(#[from] wayfare_instrument::Error),
    /// The compiler refused the module.
    #[error("the module could not be compiled: {0}")]
    Compile(String),
    /// Not an image.
    #[error("this is not a Wayfare image: {0}")]
    NotAnImage(&'static str),
    /// For another ISA.
    #[error("the image is for {0}, this machine needs {1}: compile it with --target {1}")]
    ForeignImage(String, String),
    /// By another version of the engine.
    #[error("the image was compiled by {0}, this is {1}: compile it again")]
    StaleImage(String, String),
    /// An image of [`crate::Form::Start`] where one that resumes is needed.
    #[error("the image only starts tasks: give one that also resumes them (wayfare compile makes such)")]
    StartsOnly,
    /// Changed since it was signed, or signed elsewhere.
    #[error("the image's signature does not match this user's key: compile it again here")]
    Untrusted,
    /// Needs functions that Wayfare does not provide.
    #[error("the program imports what Wayfare does not provide: {}", .0.join(", "))]
    UnknownImports(Vec<String>),
    /// No `_start`.
    #[error("the program has no function {0:?} to run: build it as a WASI command")]
    NoEntry(String),
    /// The module cannot be captured.
    #[error("the task cannot be captured: {}", .0.join("; "))]
    Unmovable(Vec<String>),
    /// The snapshot belongs to another program.
    #[error("the snapshot is of another module ({snapshot}, this is {module}): give the program it was taken from")]
    OtherModule {
        /// Digest in the snapshot.
        snapshot: String,
        /// Digest of the module at hand.
        module: String,
    },
    /// A delta without its base.
    #[error("the snapshot is a delta: give the snapshot it stands on, or squash the two first")]
    DeltaOnly,
    /// Snapshot and image disagree on an option that changes results.
    #[error("the snapshot was taken with {0}: resume with the same")]
    OptionMismatch(&'static str),
    /// A frame that cannot be.
    #[error(transparent)]
    Frames(#[from] wayfare_instrument::meta::FrameError),
    /// Metadata that cannot be.
    #[error(transparent)]
    Metadata(#[from] wayfare_instrument::meta::MetaError),
    /// A snapshot that decodes, but does not fit the module.
    #[error("the snapshot does not fit the module: {0}")]
    Misfit(String),
    /// More than its limits allow.
    #[error("the task has {has} {what}, and is allowed {limit}")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// What there is already.
        has: u64,
        /// The limit.
        limit: u64,
    },
    /// Pages are protected for one at a time.
    #[error("the task's memory is being watched already")]
    Watched,
    /// Pages are still to come.
    #[error("pages of the task's memory are still on their way here: wait until they have come")]
    Incomplete,
    /// Pages will never come.
    #[error("the task is lost: pages of its memory have not come")]
    Lost,
    /// The snapshot could not be decoded or encoded.
    #[error(transparent)]
    Snapshot(#[from] wayfare_snapshot::Error),
    /// The engine's own error: a trap, or memory that could not be had.
    #[error("{0:#}")]
    Wasm(wasmtime::Error),
    /// The operating system refused something.
    #[error("{0}")]
    System(String),
}

impl From<wasmtime::Error> for Error {
    fn from(e: wasmtime::Error) -> Self {
        Error::Wasm(e)
    }
}

/// Functions of the program's that are named where it trapped.
const FRAMES: usize = 8;

impl Error {
    /// Why a task was ended by this, in one line: the trap, and in which functions of the program's, innermost first.
    pub fn trap(&self) -> String {
        let Error::Wasm(e) = self else { return self.to_string() };
        let why = match e.downcast_ref::<wasmtime::Trap>() {
            Some(trap) => trap.to_string(),
            None => e.root_cause().to_string(),
        };
        let mut text = String::from(why.trim_start_matches("wasm trap: "));
        let frames = e.downcast_ref::<wasmtime::WasmBacktrace>().into_iter().flat_map(|b| b.frames());
        for frame in frames.take(FRAMES) {
            let function = frame.func_name().map_or_else(|| format!("function {}", frame.func_index()), Into::into);
            text.push_str("; in ");
            text.push_str(&function);
        }
        text
    }
}
