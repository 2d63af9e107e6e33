//! The contract between instrumented code and whoever runs it: names of the added exports and the
//! layout of the private control memory. Kept apart from the transformation so that an engine on a
//! device can know it without carrying a Wasm parser.
//!
//! ```text
//! control memory (byte offsets)
//!      0  unwinding   i32   set by the guest when it writes its first frame; cleared by the host
//!      4  sp          i32   top of the save area
//!      8  limit       i32   first byte past the save area's room
//!     12  countdown   i32   polls to let pass before one captures (only in `countdown` builds)
//!     16  rewinding   i32   set by the host before a resume    \
//!     20  entry       i32   poll word of function entries      |  cleared together by the
//!     24  refs        i32   saved references in use            |  frame that ends a resume
//!     32  polls       16 x i32, one per loop (modulo 16)       /
//!     96  fence       i32   written, never read
//!    128  dropped     one byte per data segment, then one per element segment
//!    ...  save area   frames, innermost first, growing upwards
//! ```
//! Loops have poll words of their own because an optimiser may prove two loads of *one* word, with no
//! store between them, to be equal, and a loop would then never see the host's request.

/// Byte offset of the flag that says frames are being written.
pub const UNWINDING: u32 = 0;
/// Byte offset of the save area's top.
pub const SP: u32 = 4;
/// Byte offset of the save area's end.
pub const LIMIT: u32 = 8;
/// Byte offset of the poll countdown.
pub const COUNTDOWN: u32 = 12;
/// Byte offset of the flag that says frames are being read back.
pub const REWINDING: u32 = 16;
/// Byte offset of the poll word of function entries.
pub const ENTRY: u32 = 20;
/// Byte offset of the number of entries used in the table of saved references.
pub const REFS: u32 = 24;
/// Byte offset of the loop poll words.
pub const POLLS: u32 = 32;
/// Number of loop poll words.
pub const POLL_WORDS: u32 = 16;
/// Byte offset of a word that is written to keep loads of a poll word apart, and never read.
pub const FENCE: u32 = 96;
/// Byte offset of the dropped-segment flags.
pub const DROPPED: u32 = 128;
/// Bytes at the end of every frame: resume slot (u32) and point (u32), little endian.
pub const FRAME_HEADER: u32 = 8;

/// Export of the control memory.
pub const MEMORY: &str = "wayfare:control";
/// Export of the table of resume entries: one `[] -> results` function per function that may capture.
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
