//! What an instrumented module says about itself: functions, migration points and where each live
//! value lies in a frame. `inspect` prints a captured stack with it, and a host checks a snapshot's
//! frames against it *before* running them, since frames may come from a peer.

use alloc::string::String;
use alloc::vec::Vec;

/// Version of the encoding of [`Metadata`] and of the frames it describes.
pub const VERSION: u32 = 3;

/// A value's type, as a frame stores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SlotType {
    /// 4 bytes, little endian.
    I32,
    /// 8 bytes, little endian.
    I64,
    /// 4 bytes, bits.
    F32,
    /// 8 bytes, bits.
    F64,
    /// 16 bytes, little endian.
    V128,
    /// 4 bytes: 0 for null, else 1 + index in the table of saved references.
    Func,
    /// This many bytes: 4 for 0 (null) or 1 + the exception's tag, then its values as [`Metadata::tags`] has
    /// them, each right after the other, then nothing of meaning.
    Exn(u32),
}

impl SlotType {
    /// Bytes in a frame.
    pub const fn size(self) -> u32 {
        match self {
            SlotType::I32 | SlotType::F32 | SlotType::Func => 4,
            SlotType::I64 | SlotType::F64 => 8,
            SlotType::V128 => 16,
            SlotType::Exn(size) => size,
        }
    }

    /// Whether it is a reference, which must be what a program saved: any other bytes name nothing.
    pub const fn is_reference(self) -> bool {
        matches!(self, SlotType::Func | SlotType::Exn(_))
    }

    fn encode(self, w: &mut Vec<u8>) {
        w.push(match self {
            SlotType::I32 => 0,
            SlotType::I64 => 1,
            SlotType::F32 => 2,
            SlotType::F64 => 3,
            SlotType::V128 => 4,
            SlotType::Func => 5,
            SlotType::Exn(_) => 6,
        });
        if let SlotType::Exn(size) = self {
            put(w, size);
        }
    }
}

/// What a migration point is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PointKind {
    /// A loop header, polled.
    Loop,
    /// A function entry, polled.
    Entry,
    /// The return of a direct call to this function.
    Call(u32),
    /// The return of an indirect call.
    CallIndirect,
    /// After a call in a call cycle, polled; its results are in the frame. Follows the call's own point.
    Return,
    /// Before a host call that may block; issued again on resume. Holds the import's function index.
    HostCall(u32),
}

impl PointKind {
    /// Whether a frame at this point can only be the innermost one.
    pub fn is_innermost(self) -> bool {
        !matches!(self, PointKind::Call(_) | PointKind::CallIndirect)
    }
}

/// One migration point of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// What it is.
    pub kind: PointKind,
    /// Offset of the instruction in the original module, bytes.
    pub offset: u32,
    /// Indices into [`Function::slots`] of the values that are live here.
    pub live: Vec<u32>,
}

/// A place in a function's frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The local's index in the original function, or past its locals for a spilled operand.
    pub local: u32,
    /// Type of the value.
    pub ty: SlotType,
    /// Byte offset in the frame.
    pub offset: u32,
}

/// A function that may capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Index in the original module; its position in [`Metadata::functions`] is its resume slot.
    pub index: u32,
    /// Class of its result types: only functions of one class can stand in for each other in a call.
    pub result_class: u32,
    /// Parameters and declared locals.
    pub locals: u32,
    /// Bytes of a frame, header included.
    pub frame_size: u32,
    /// The frame's places.
    pub slots: Vec<Slot>,
    /// Its migration points, in code order.
    pub points: Vec<Point>,
    /// Per point, the class of results expected from the next frame (0 where the point is innermost).
    pub callee_classes: Vec<u32>,
}

/// State that a module holds outside of its frames.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Functions that may capture, by resume slot.
    pub functions: Vec<Function>,
    /// Imported functions in the original module.
    pub imported_functions: u32,
    /// All functions in the original module.
    pub total_functions: u32,
    /// Mutable globals, by index.
    pub globals: Vec<u32>,
    /// Types of the values that exceptions of each tag carry; empty where no exception can be in a frame.
    pub tags: Vec<Vec<SlotType>>,
    /// Memories of the original module (all exported under [`crate::abi::MEMORY_PREFIX`]).
    pub memories: u32,
    /// Tables that the module can change, by index.
    pub tables: Vec<u32>,
    /// Data segments.
    pub data_segments: u32,
    /// Element segments.
    pub element_segments: u32,
    /// First byte of the save area in the control memory.
    pub area: u32,
    /// Room that must stay free above the save area's top: the largest frame.
    pub headroom: u32,
    /// Function indices (instrumented module) in the table of referable functions, in order.
    pub referable: Vec<u32>,
    /// Whether there is a start function to run first.
    pub has_start: bool,
    /// Built with a poll countdown (tests).
    pub countdown: bool,
    /// Why a task of this module cannot be captured; empty when it can.
    pub unmovable: Vec<String>,
}

/// A reference in a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference<'a> {
    /// 0 for null, else 1 + an index in the table of saved references.
    Func(u32),
    /// A caught exception: its tag, and its values as bytes of a frame.
    Exn(u32, Vec<(SlotType, &'a [u8])>),
    /// No exception.
    NullExn,
}

/// Why metadata could not be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum MetaError {
    /// The bytes end early or hold an impossible value.
    #[error("the module's migration metadata is damaged at byte {0}: compile the program again")]
    Damaged(usize),
    /// Written by another version.
    #[error("the module's migration metadata has version {0}, this Wayfare reads {VERSION}: compile the program again")]
    Version(u32),
}

/// Why a save area does not fit a module.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FrameError {
    /// Bytes left over below the lowest frame, or a frame that reaches below the area.
    #[error("frame {0} of the snapshot does not fit its save area: the snapshot is damaged or of another module")]
    Bounds(usize),
    /// A slot or point that the module does not have.
    #[error(
        "frame {0} of the snapshot names a migration point the module does not have: the snapshot is of another module"
    )]
    Unknown(usize),
    /// A frame that cannot follow the one above it.
    #[error("frame {0} of the snapshot cannot have been called by the frame above it: the snapshot is damaged")]
    Order(usize),
}

/// One captured frame, as found in a save area.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// The function.
    pub function: &'a Function,
    /// Index of the point in [`Function::points`].
    pub point: usize,
    /// The frame's bytes, header included.
    pub bytes: &'a [u8],
}

impl Metadata {
    /// What a reference slot of a frame holds; `None` if no program can have saved that.
    pub fn reference<'a>(&self, ty: SlotType, bytes: &'a [u8]) -> Option<Reference<'a>> {
        let (word, mut rest) = bytes.split_first_chunk()?;
        let word = u32::from_le_bytes(*word);
        let Some(tag) = word.checked_sub(1).filter(|_| ty != SlotType::Func) else {
            return Some(if ty == SlotType::Func { Reference::Func(word) } else { Reference::NullExn });
        };
        let mut values = Vec::new();
        for ty in self.tags.get(tag as usize)? {
            let (value, behind) = rest.split_at_checked(ty.size() as usize)?;
            values.push((*ty, value));
            rest = behind;
        }
        Some(Reference::Exn(tag, values))
    }

    /// Splits a save area in its frames, outermost first, and checks that each may follow the other.
    ///
    /// # Errors
    /// [`FrameError`] when the bytes cannot be a stack of this module.
    pub fn frames<'a>(&'a self, mut area: &'a [u8]) -> Result<Vec<Frame<'a>>, FrameError> {
        let mut frames: Vec<Frame<'a>> = Vec::new();
        while !area.is_empty() {
            let n = frames.len();
            let header = area.len().checked_sub(8).ok_or(FrameError::Bounds(n))?;
            let word = |at: usize| u32::from_le_bytes([area[at], area[at + 1], area[at + 2], area[at + 3]]);
            let (slot, point) = (word(header) as usize, word(header + 4) as usize);
            let function = self.functions.get(slot).ok_or(FrameError::Unknown(n))?;
            if point >= function.points.len() {
                return Err(FrameError::Unknown(n));
            }
            if let Some(above) = frames.last() {
                let kind = above.function.points[above.point].kind;
                let class = above.function.callee_classes[above.point];
                if kind.is_innermost() || class != function.result_class {
                    return Err(FrameError::Order(n));
                }
            }
            let start = area.len().checked_sub(function.frame_size as usize).ok_or(FrameError::Bounds(n))?;
            frames.push(Frame { function, point, bytes: &area[start..] });
            area = &area[..start];
        }
        match frames.last() {
            Some(f) if !f.function.points[f.point].kind.is_innermost() => Err(FrameError::Order(frames.len())),
            _ => Ok(frames),
        }
    }

    /// Encodes the metadata (LEB128 numbers, in field order).
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Vec::new();
        put(&mut w, VERSION);
        for v in [
            self.imported_functions,
            self.total_functions,
            self.memories,
            self.data_segments,
            self.element_segments,
            self.area,
            self.headroom,
            u32::from(self.has_start) | u32::from(self.countdown) << 1,
        ] {
            put(&mut w, v);
        }
        put_all(&mut w, &self.globals);
        put_all(&mut w, &self.tables);
        put_all(&mut w, &self.referable);
        put(&mut w, self.tags.len() as u32);
        for tag in &self.tags {
            put(&mut w, tag.len() as u32);
            tag.iter().for_each(|ty| ty.encode(&mut w));
        }
        put(&mut w, self.unmovable.len() as u32);
        for reason in &self.unmovable {
            put(&mut w, reason.len() as u32);
            w.extend_from_slice(reason.as_bytes());
        }
        put(&mut w, self.functions.len() as u32);
        for f in &self.functions {
            for v in [f.index, f.result_class, f.locals, f.frame_size] {
                put(&mut w, v);
            }
            put(&mut w, f.slots.len() as u32);
            for s in &f.slots {
                put(&mut w, s.local);
                s.ty.encode(&mut w);
                put(&mut w, s.offset);
            }
            put(&mut w, f.points.len() as u32);
            for (p, class) in f.points.iter().zip(&f.callee_classes) {
                let (kind, arg) = match p.kind {
                    PointKind::Loop => (0, 0),
                    PointKind::Entry => (1, 0),
                    PointKind::Call(f) => (2, f),
                    PointKind::CallIndirect => (3, 0),
                    PointKind::HostCall(f) => (4, f),
                    PointKind::Return => (5, 0),
                };
                w.push(kind);
                put(&mut w, arg);
                put(&mut w, p.offset);
                put(&mut w, *class);
                put_all(&mut w, &p.live);
            }
        }
        w
    }

    /// Decodes what [`Metadata::encode`] wrote.
    ///
    /// # Errors
    /// [`MetaError`] on any byte that cannot have been written by it.
    pub fn decode(bytes: &[u8]) -> Result<Self, MetaError> {
        let mut r = Reader { bytes, at: 0 };
        let version = r.u32()?;
        if version != VERSION {
            return Err(MetaError::Version(version));
        }
        let mut m = Metadata {
            imported_functions: r.u32()?,
            total_functions: r.u32()?,
            memories: r.u32()?,
            data_segments: r.u32()?,
            element_segments: r.u32()?,
            area: r.u32()?,
            headroom: r.u32()?,
            ..Metadata::default()
        };
        let flags = r.u32()?;
        m.has_start = flags & 1 != 0;
        m.countdown = flags & 2 != 0;
        m.globals = r.list()?;
        m.tables = r.list()?;
        m.referable = r.list()?;
        for _ in 0..r.count()? {
            let values = r.count()?;
            m.tags.push((0..values).map(|_| r.slot_type()).collect::<Result<_, _>>()?);
        }
        for _ in 0..r.count()? {
            let len = r.count()?;
            let text = r.take(len)?;
            m.unmovable.push(String::from_utf8_lossy(text).into_owned());
        }
        for _ in 0..r.count()? {
            m.functions.push(r.function()?);
        }
        if r.at != bytes.len() {
            return Err(MetaError::Damaged(r.at));
        }
        Ok(m)
    }
}

fn put(w: &mut Vec<u8>, mut v: u32) {
    while v >= 0x80 {
        w.push(v as u8 | 0x80);
        v >>= 7;
    }
    w.push(v as u8);
}

fn put_all(w: &mut Vec<u8>, all: &[u32]) {
    put(w, all.len() as u32);
    for v in all {
        put(w, *v);
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], MetaError> {
        let end = self.at.checked_add(n).filter(|e| *e <= self.bytes.len()).ok_or(MetaError::Damaged(self.at))?;
        let out = &self.bytes[self.at..end];
        self.at = end;
        Ok(out)
    }

    fn u8(&mut self) -> Result<u8, MetaError> {
        Ok(self.take(1)?[0])
    }

    fn u32(&mut self) -> Result<u32, MetaError> {
        let mut v = 0u64;
        for shift in (0..35).step_by(7) {
            let b = self.u8()?;
            v |= u64::from(b & 0x7f) << shift;
            if b & 0x80 == 0 {
                return u32::try_from(v).map_err(|_| MetaError::Damaged(self.at));
            }
        }
        Err(MetaError::Damaged(self.at))
    }

    /// A number of things of at least one byte each: bounded by what is left.
    fn count(&mut self) -> Result<usize, MetaError> {
        let n = self.u32()? as usize;
        if n > self.bytes.len() - self.at { Err(MetaError::Damaged(self.at)) } else { Ok(n) }
    }

    fn list(&mut self) -> Result<Vec<u32>, MetaError> {
        let n = self.count()?;
        (0..n).map(|_| self.u32()).collect()
    }

    fn slot_type(&mut self) -> Result<SlotType, MetaError> {
        Ok(match self.u8()? {
            0 => SlotType::I32,
            1 => SlotType::I64,
            2 => SlotType::F32,
            3 => SlotType::F64,
            4 => SlotType::V128,
            5 => SlotType::Func,
            6 => SlotType::Exn(self.u32()?),
            _ => return Err(MetaError::Damaged(self.at)),
        })
    }

    fn function(&mut self) -> Result<Function, MetaError> {
        let (index, result_class, locals, frame_size) = (self.u32()?, self.u32()?, self.u32()?, self.u32()?);
        let mut slots = Vec::new();
        for _ in 0..self.count()? {
            let local = self.u32()?;
            let ty = self.slot_type()?;
            let offset = self.u32()?;
            // A slot that reaches past its frame would make every later reader index out of bounds.
            if u64::from(offset) + u64::from(ty.size()) + 8 > u64::from(frame_size) {
                return Err(MetaError::Damaged(self.at));
            }
            slots.push(Slot { local, ty, offset });
        }
        if frame_size < 8 {
            return Err(MetaError::Damaged(self.at));
        }
        let (mut points, mut callee_classes) = (Vec::new(), Vec::new());
        for _ in 0..self.count()? {
            let (kind, arg) = (self.u8()?, self.u32()?);
            let kind = match kind {
                0 => PointKind::Loop,
                1 => PointKind::Entry,
                2 => PointKind::Call(arg),
                3 => PointKind::CallIndirect,
                4 => PointKind::HostCall(arg),
                5 => PointKind::Return,
                _ => return Err(MetaError::Damaged(self.at)),
            };
            let offset = self.u32()?;
            callee_classes.push(self.u32()?);
            let live = self.list()?;
            if live.iter().any(|s| *s as usize >= slots.len()) {
                return Err(MetaError::Damaged(self.at));
            }
            points.push(Point { kind, offset, live });
        }
        Ok(Function { index, result_class, locals, frame_size, slots, points, callee_classes })
    }
}
