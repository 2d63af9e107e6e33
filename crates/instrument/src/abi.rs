//! The contract between instrumented code and whoever runs it: names of the added exports and the
//! layout of the private control memory. Kept apart from the transformation so that an engine on a
//! device can know it without carrying a Wasm parser.
//!
//! ```text
//! poll memory (byte offsets)             written by the host, from any thread
//!      0  loops       62 x i32, one per loop of a function (modulo 62)
//!    248  entry       i32, of function entries and of calls that are polled after
//!    256  fence       i32, written by the guest, never read
//!
//! stack memory (byte offsets)
//!      0  dropped     one byte per data segment, then one per element segment
//!    ...  save area   frames, innermost first, growing upwards
//!
//! rewind memory
//!      0  frames      put here by the host for a resume; read only, and intact until the next one, since
//!                     a frame is read after its callee has come back
//!
//! globals, i32
//!     unwinding   set by the guest when it writes its first frame (by the host, for a host call that
//!                 is to be issued again); cleared by the host
//!     rewinding   set by the host before a resume; cleared by the guest in its last frame
//!     sp          top of the save area
//!     limit       first byte past the save area's room
//!     refs        saved references in use
//!     rewind_sp   top of the frames that have not been entered yet, in the rewind memory
//!     countdown   polls to let pass before one captures (only in `countdown` builds)
//!
//! global, i64
//!     work        migration points passed since the task began, weighted; set by the host before a resume
//! ```
//! What only the task's own thread touches is a global: a check is then one load off a register that is
//! there anyway. The poll words are memory, because a host can reach memory while the task runs; they are
//! a memory apart, so that its base is not kept in a register across calls for the sake of cold paths
//! (measured on fib: 1.26 with one memory for all).
//!
//! Loops have poll words of their own because an optimiser may prove two loads of *one* word, with no
//! store between them, to be equal, and a loop would then never see the host's request.

/// Byte offset of the loop poll words.
pub const POLLS: u32 = 0;
/// Number of loop poll words.
pub const POLL_WORDS: u32 = 62;
/// Byte offset of the poll word of function entries, and of calls that are polled after. Whoever sets
/// [`UNWINDING`] sets this one too, on the task's own thread: after such a call it is the only word looked at.
pub const ENTRY: u32 = 248;
/// Byte offset of a word that is written to keep loads of a poll word apart, and never read.
pub const FENCE: u32 = 256;
/// Byte offset of the dropped-segment flags, in the stack memory.
pub const DROPPED: u32 = 0;
/// Bytes at the end of every frame: resume slot (u32) and point (u32), little endian.
pub const FRAME_HEADER: u32 = 8;

/// Export of the memory with the poll words.
pub const POLL_MEMORY: &str = "wayfare:polls";
/// Export of the memory with the save area.
pub const STACK_MEMORY: &str = "wayfare:stack";
/// Export of the memory with the frames of a resume.
pub const REWIND_MEMORY: &str = "wayfare:rewind";
/// Export of the top of the frames of a resume.
pub const REWIND_SP: &str = "wayfare:rewind-sp";
/// Export of the flag that says frames are being written.
pub const UNWINDING: &str = "wayfare:unwinding";
/// Export of the flag that says frames are being read back.
pub const REWINDING: &str = "wayfare:rewinding";
/// Export of the save area's top.
pub const SP: &str = "wayfare:sp";
/// Export of the save area's end.
pub const LIMIT: &str = "wayfare:limit";
/// Export of the number of entries used in the table of saved references.
pub const REFS: &str = "wayfare:refs-used";
/// Export of the work done, an `i64`: the migration points that the task has passed, weighted. A turn of a loop counts
/// one, whether it polls itself, is covered by what it does, or runs in chunks of turns; so do function entries that
/// poll, and enough of the polls after calls. A point is passed when the program goes on from it: one that captures is
/// counted after the resume. So the number depends on the program and its input alone: not on the machine, nor on
/// where, how often or whether the task was captured, moved or copied.
pub const WORK: &str = "wayfare:work";
/// Export of the poll countdown.
pub const COUNTDOWN: &str = "wayfare:countdown";
/// Export of the table of resume clones: one `[] -> results` function per function that may capture; empty
/// in a module that only starts tasks.
pub const RESUME_TABLE: &str = "wayfare:resume";
/// Export of the table of every function that may exist as a reference.
pub const FUNCTIONS_TABLE: &str = "wayfare:functions";
/// Export of the table of references saved by frames.
pub const REFS_TABLE: &str = "wayfare:refs";
/// Export of the former start function.
pub const START: &str = "wayfare:start";
/// Export of the function that drops again the segments that the control memory says were dropped.
pub const DROP_SEGMENTS: &str = "wayfare:drop-segments";
/// Prefix of the exports of mutable globals; the index follows.
pub const GLOBAL_PREFIX: &str = "wayfare:global:";
/// Prefix of the exports of memories; the index follows.
pub const MEMORY_PREFIX: &str = "wayfare:memory:";
/// Prefix of the exports of tables; the index follows.
pub const TABLE_PREFIX: &str = "wayfare:table:";
/// Prefix of every name added here.
pub const PREFIX: &str = "wayfare:";
/// Name of the custom section that holds [`crate::meta::Metadata`].
pub const SECTION: &str = "wayfare";
