//! Writing the state as bytes and reading it back. Bytes are not trusted: every count is checked against what is left
//! before anything is allocated for it, every reference against what it names, and a value has one encoding only.
//!
//! ```text
//! "WFWASI"  version u16  body
//! ```
//! Numbers are little-endian; `bytes` and `str` are a `u32` length and that many bytes; a list is a `u32` count and
//! its elements; `bool` is a byte 0 or 1. The body is laid out by [`encode`](crate::Ctx::encode)'s module.

use alloc::string::String;
use alloc::vec::Vec;

/// Why bytes are not a state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DecodeError {
    /// They do not begin with the magic number.
    Magic,
    /// They are of a format this build does not read.
    Version(u16),
    /// They end too early.
    Truncated,
    /// They go on after the end.
    Leftover,
    /// A field has a value it cannot have, or names something that is not there. Says which.
    Invalid(&'static str),
}

impl core::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Magic => write!(f, "not a WASI state"),
            Self::Version(version) => {
                write!(f, "WASI state of format {version}, which is unknown here")
            }
            Self::Truncated => write!(f, "WASI state ends too early"),
            Self::Leftover => write!(f, "WASI state has bytes after its end"),
            Self::Invalid(what) => write!(f, "WASI state is invalid: {what}"),
        }
    }
}

impl core::error::Error for DecodeError {}

type Result<T> = core::result::Result<T, DecodeError>;

#[derive(Default)]
pub(crate) struct Writer(pub Vec<u8>);

impl Writer {
    pub fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub fn bool(&mut self, value: bool) {
        self.u8(value.into());
    }

    pub fn u16(&mut self, value: u16) {
        self.0.extend(value.to_le_bytes());
    }

    pub fn u32(&mut self, value: u32) {
        self.0.extend(value.to_le_bytes());
    }

    pub fn u64(&mut self, value: u64) {
        self.0.extend(value.to_le_bytes());
    }

    /// The length of a list or string. Nothing in a state has 2³² elements: the guest's own memory is smaller.
    pub fn len(&mut self, len: usize) {
        self.u32(u32::try_from(len).expect("fewer than 2^32 elements"));
    }

    pub fn str(&mut self, value: &str) {
        self.len(value.len());
        self.0.extend(value.as_bytes());
    }
}

pub(crate) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(head)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    pub fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    pub fn bool(&mut self) -> Result<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Invalid("a truth value")),
        }
    }

    pub fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A count of elements that take at least `each` bytes, so at most as many as can follow.
    pub fn len(&mut self, each: usize) -> Result<usize> {
        let len = self.u32()? as usize;
        if len > self.0.len() / each {
            return Err(DecodeError::Truncated);
        }
        Ok(len)
    }

    pub fn list<T>(&mut self, each: usize, mut element: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let len = self.len(each)?;
        (0..len).map(|_| element(self)).collect()
    }

    pub fn str(&mut self) -> Result<String> {
        let len = self.len(1)?;
        let bytes = self.take(len)?;
        core::str::from_utf8(bytes).map(String::from).map_err(|_| DecodeError::Invalid("a string that is not UTF-8"))
    }

    pub fn option<T>(&mut self, value: impl FnOnce(&mut Self) -> Result<T>) -> Result<Option<T>> {
        if self.bool()? { value(self).map(Some) } else { Ok(None) }
    }

    pub fn finish(self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(DecodeError::Leftover) }
    }
}
