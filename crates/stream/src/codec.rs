//! Reading bytes that come from elsewhere: each length is checked against what is left before anything is set aside.
//! Numbers are little-endian.

/// Why bytes are not what they should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DecodeError {
    /// They end too early.
    Truncated,
    /// They go on after the end.
    Leftover,
    /// They are of a format this build does not read.
    Version(u16),
    /// More streams than this end may have.
    Streams(usize),
    /// A field has a value it cannot have. Says which.
    Invalid(&'static str),
}

impl core::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Truncated => write!(f, "stream data ends too early"),
            Self::Leftover => write!(f, "stream data has bytes after its end"),
            Self::Version(version) => write!(f, "streams of format {version}, which is unknown here"),
            Self::Streams(count) => write!(f, "{count} streams, more than this node allows"),
            Self::Invalid(what) => write!(f, "stream data is invalid: {what}"),
        }
    }
}

impl core::error::Error for DecodeError {}

type Result<T> = core::result::Result<T, DecodeError>;

pub(crate) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    pub fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
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

    pub fn offset(&mut self) -> Result<u64> {
        match self.u64()? {
            offset if offset > crate::OFFSET_MAX => Err(DecodeError::Invalid("an offset")),
            offset => Ok(offset),
        }
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.0)
    }

    pub fn finish(self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(DecodeError::Leftover) }
    }
}

/// The text of a client's address.
pub(crate) fn peer(bytes: &[u8]) -> Result<&str> {
    if bytes.len() > crate::PEER_MAX {
        return Err(DecodeError::Invalid("the length of an address"));
    }
    core::str::from_utf8(bytes).map_err(|_| DecodeError::Invalid("the text of an address"))
}
