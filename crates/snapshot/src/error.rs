//! Every reason to refuse a snapshot, each with what is wrong and what to do about it.

use crate::Digest;

/// Why a snapshot was refused, or could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // The header.
    /// Fewer bytes than a header has.
    #[error("{len} bytes are too few for a snapshot (its header has {need}): the file is cut short, fetch it again", need = crate::Header::LEN)]
    TooShort {
        /// Bytes given.
        len: usize,
    },
    /// The first bytes are not the magic.
    #[error("this is no Wayfare snapshot (it does not start with WAYFSNAP): check the file name")]
    BadMagic,
    /// A format from the future.
    #[error("snapshot format {found} is newer than this Wayfare understands ({known}): upgrade Wayfare here")]
    FormatTooNew {
        /// Format of the snapshot.
        found: u16,
        /// Newest format known here.
        known: u16,
    },
    /// A format number that was never released.
    #[error("snapshot format {found} never existed: the header is damaged, capture the task again")]
    FormatUnknown {
        /// Format of the snapshot.
        found: u16,
    },
    /// A kind other than full and delta.
    #[error("snapshot kind {found} is unknown (0 is full, 1 is delta): the header is damaged, capture the task again")]
    UnknownKind {
        /// Kind of the snapshot.
        found: u16,
    },
    /// Reserved header bytes are in use.
    #[error("reserved header bytes are {found:#x} instead of 0: the header is damaged, capture the task again")]
    ReservedSet {
        /// The reserved field.
        found: u32,
    },
    /// A full snapshot names a base.
    #[error("a full snapshot must not name a base, this one names {base}: capture the task again")]
    FullWithBase {
        /// The base that is named.
        base: Digest,
    },
    /// A delta names no base.
    #[error("a delta must name the snapshot it stands on, this one does not: send a full snapshot")]
    DeltaWithoutBase,
    /// Longer than the limits allow.
    #[error(
        "the snapshot has {len} bytes, more than the {cap} allowed here: raise the limit or free memory in the task"
    )]
    TooLong {
        /// Length of the snapshot.
        len: u64,
        /// The cap in force.
        cap: u64,
    },
    /// The header's length is not the length of the bytes.
    #[error(
        "the snapshot should have {claimed} bytes but has {actual}: the copy is incomplete or has a tail, fetch it again"
    )]
    LengthMismatch {
        /// Length that the header gives.
        claimed: u64,
        /// Bytes given.
        actual: u64,
    },
    /// The contents are not those that were sealed.
    #[error(
        "the snapshot's checksum is {actual}, its header says {claimed}: it was damaged on the way, fetch it again"
    )]
    ChecksumMismatch {
        /// Checksum in the header.
        claimed: Digest,
        /// Checksum of the contents.
        actual: Digest,
    },

    // Sections.
    /// A section that this version has never heard of.
    #[error("snapshot section {kind} is unknown to this Wayfare: upgrade Wayfare here")]
    UnknownSection {
        /// Its kind.
        kind: u16,
    },
    /// A section in a version that is not understood.
    #[error(
        "snapshot section {name} has version {found}, this Wayfare understands {known}: use the same Wayfare on both sides"
    )]
    SectionVersion {
        /// Which section.
        name: &'static str,
        /// Its version.
        found: u16,
        /// The version known here.
        known: u16,
    },
    /// A section stands twice, or after its place.
    #[error("snapshot section {name} stands twice or out of its place: capture the task again")]
    DuplicateSection {
        /// Which section.
        name: &'static str,
    },
    /// A section is not there.
    #[error("snapshot section {name} is missing: capture the task again")]
    MissingSection {
        /// Which section.
        name: &'static str,
    },
    /// A section is longer than what is left of the snapshot.
    #[error("snapshot section {name} claims {claimed} bytes where {left} are left: capture the task again")]
    SectionTooLong {
        /// Which section.
        name: &'static str,
        /// Its length field.
        claimed: u64,
        /// Bytes left.
        left: u64,
    },
    /// A section ends in the middle of a value.
    #[error("snapshot section {name} ends in the middle of a value: capture the task again")]
    Truncated {
        /// Which section.
        name: &'static str,
    },
    /// Bytes that belong to nothing.
    #[error("snapshot section {name} has {bytes} bytes left over: capture the task again")]
    Leftover {
        /// Which section.
        name: &'static str,
        /// How many bytes.
        bytes: u64,
    },
    /// A count that the bytes left cannot hold.
    #[error("snapshot section {name} claims {count} entries, more than its bytes can hold: capture the task again")]
    CountTooLarge {
        /// Which section.
        name: &'static str,
        /// The claimed count.
        count: u64,
    },
    /// A varint that is too long, or not in its shortest form.
    #[error("snapshot section {name} holds a number that is not in its shortest form: capture the task again")]
    BadNumber {
        /// Which section.
        name: &'static str,
    },
    /// A value outside its range.
    #[error("snapshot section {name} holds {value}, which is no {what}: capture the task again")]
    BadValue {
        /// Which section.
        name: &'static str,
        /// What the value should be.
        what: &'static str,
        /// The value.
        value: u64,
    },
    /// A text that is not UTF-8.
    #[error("snapshot section {name} holds a text that is not UTF-8: capture the task again")]
    BadText {
        /// Which section.
        name: &'static str,
    },
    /// Entries that are not in strictly ascending order.
    #[error("snapshot section {name} has entry {index} twice or out of order: sort entries by index before encoding")]
    Unsorted {
        /// Which section.
        name: &'static str,
        /// The index at fault.
        index: u64,
    },

    // Memory and tables.
    /// More memory than the limits allow.
    #[error(
        "the snapshot's memory needs {size} bytes, more than the {cap} allowed here: raise the limit or choose another node"
    )]
    MemoryTooLarge {
        /// Bytes needed, all memories together.
        size: u64,
        /// The cap in force.
        cap: u64,
    },
    /// More table slots than the limits allow.
    #[error(
        "the snapshot's tables need {len} slots, more than the {cap} allowed here: raise the limit or choose another node"
    )]
    TableTooLarge {
        /// Slots needed, all tables together.
        len: u64,
        /// The cap in force.
        cap: u64,
    },
    /// A run without pages.
    #[error("memory {memory} has an empty run at page {page}: leave empty runs out")]
    EmptyRun {
        /// The memory's index.
        memory: u32,
        /// First page of the run.
        page: u64,
    },
    /// A run that starts before the one before it ends.
    #[error("memory {memory} has runs that overlap or are out of order at page {page}: capture the task again")]
    RunOverlap {
        /// The memory's index.
        memory: u32,
        /// First page of the run.
        page: u64,
    },
    /// A run past the end of its memory.
    #[error("memory {memory} has {size} bytes but a run at page {page} ends past them: capture the task again")]
    RunOutOfBounds {
        /// The memory's index.
        memory: u32,
        /// First page of the run.
        page: u64,
        /// Size of the memory in bytes.
        size: u64,
    },
    /// A run of bytes that ends inside a page which is not the last of the memory.
    #[error("memory {memory} has a run at page {page} that ends inside a page: give whole pages of 4096 bytes")]
    PartialPage {
        /// The memory's index.
        memory: u32,
        /// First page of the run.
        page: u64,
    },
    /// Table entries that overlap, are out of order, or lie outside the table.
    #[error("table {table} has entries at {start} that overlap or lie outside its {len} slots: capture the task again")]
    TableEntries {
        /// The table's index.
        table: u32,
        /// First slot of the entries.
        start: u64,
        /// Slots of the table.
        len: u64,
    },

    // Chunks.
    /// A codec number that is not assigned.
    #[error("codec {codec} is unknown to this Wayfare: upgrade Wayfare here")]
    UnknownCodec {
        /// The codec.
        codec: u8,
    },
    /// A codec that this build leaves out.
    #[error("the snapshot is packed with {codec}, which this build leaves out: send it packed with LZ4")]
    CodecMissing {
        /// The codec.
        codec: &'static str,
    },
    /// A packed length that cannot be right.
    #[error("a chunk of {raw} bytes claims to be packed into {packed}: capture the task again")]
    ChunkLength {
        /// Bytes of the chunk.
        raw: u64,
        /// Its packed length.
        packed: u64,
    },
    /// A chunk that does not unpack to its length.
    #[error("a chunk does not unpack to its {raw} bytes: capture the task again")]
    ChunkDamaged {
        /// Bytes of the chunk.
        raw: u64,
    },
    /// The compressor gave up.
    #[error("compression failed: try another compression level")]
    CompressionFailed,

    // Algebra.
    /// An operation that needs full snapshots got a delta.
    #[error("a full snapshot is needed here, this is a delta: apply it to its base first")]
    NotFull,
    /// An operation that needs a delta got a full snapshot.
    #[error("a delta is needed here, this is a full snapshot: use it as it is")]
    NotDelta,
    /// Two snapshots of different modules.
    #[error("the snapshots are of different modules ({left} and {right}): check the task's image")]
    ModuleMismatch {
        /// Module of the base.
        left: Digest,
        /// Module of the other.
        right: Digest,
    },
    /// The base has no id yet.
    #[error("the base has no id yet: encode or decode it first")]
    BaseUnnamed,
    /// The delta stands on another snapshot.
    #[error("the delta stands on snapshot {wanted} but was given {given}: fetch that base or ask for a full snapshot")]
    WrongBase {
        /// Id that the delta names.
        wanted: Digest,
        /// Id of the snapshot given.
        given: Digest,
    },
    /// A memory that became smaller.
    #[error(
        "memory {memory} shrank from {before} to {after} bytes, which WebAssembly memory cannot: capture the task again"
    )]
    MemoryShrank {
        /// The memory's index.
        memory: u32,
        /// Bytes in the base.
        before: u64,
        /// Bytes in the newer snapshot.
        after: u64,
    },
    /// A page of the base that the newer full snapshot lacks.
    #[error(
        "page {page} of memory {memory} is in the base but not in the newer snapshot: capture the task again in full"
    )]
    PageVanished {
        /// The memory's index.
        memory: u32,
        /// The page.
        page: u64,
    },
    /// Two snapshots whose memories are not the same ones.
    #[error("the snapshots disagree about which memories the module has: check the task's image")]
    MemoriesDiffer,
}
