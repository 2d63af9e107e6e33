//! Plain numbers in and out of bytes, with every read checked.

use crate::Error;
use alloc::string::String;
use alloc::vec::Vec;

pub(crate) fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// A function reference: 0 is null, else the function's index plus one.
pub(crate) fn put_func(out: &mut Vec<u8>, func: Option<u32>) {
    put_varint(out, func.map_or(0, |index| u64::from(index) + 1));
}

/// Reads one section (or the header) from its front.
pub(crate) struct Reader<'b> {
    name: &'static str,
    bytes: &'b [u8],
}

impl<'b> Reader<'b> {
    pub(crate) fn new(name: &'static str, bytes: &'b [u8]) -> Self {
        Self { name, bytes }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn left(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'b [u8], Error> {
        let (head, tail) = self.bytes.split_at_checked(len).ok_or(Error::Truncated { name: self.name })?;
        self.bytes = tail;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (head, tail) = self.bytes.split_first_chunk::<N>().ok_or(Error::Truncated { name: self.name })?;
        self.bytes = tail;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Error> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Error> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Error> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn u128(&mut self) -> Result<u128, Error> {
        self.array().map(u128::from_le_bytes)
    }

    pub(crate) fn varint(&mut self) -> Result<u64, Error> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit only.
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                // One value has one encoding: a final zero byte would be padding.
                if byte == 0 && shift > 0 {
                    break;
                }
                return Ok(value);
            }
        }
        Err(Error::BadNumber { name: self.name })
    }

    /// A varint that must fit `u32`, such as an index.
    pub(crate) fn index(&mut self, what: &'static str) -> Result<u32, Error> {
        let value = self.varint()?;
        u32::try_from(value).map_err(|_| self.bad(what, value))
    }

    /// A count of entries that take at least `min_bytes` each: never more than the bytes left can hold, so that
    /// setting memory aside for it is bounded by what was received.
    pub(crate) fn count(&mut self, min_bytes: usize) -> Result<usize, Error> {
        let count = self.varint()?;
        usize::try_from(count)
            .ok()
            .filter(|&n| n <= self.left() / min_bytes)
            .ok_or(Error::CountTooLarge { name: self.name, count })
    }

    pub(crate) fn text(&mut self) -> Result<String, Error> {
        let len = self.count(1)?;
        let text = core::str::from_utf8(self.take(len)?).map_err(|_| Error::BadText { name: self.name })?;
        Ok(text.into())
    }

    pub(crate) fn func(&mut self) -> Result<Option<u32>, Error> {
        match self.varint()? {
            0 => Ok(None),
            value => u32::try_from(value - 1).map(Some).map_err(|_| self.bad("function reference", value)),
        }
    }

    /// Ends the reading: bytes that nobody read are an error.
    pub(crate) fn finish(self) -> Result<(), Error> {
        match self.left() {
            0 => Ok(()),
            left => Err(Error::Leftover { name: self.name, bytes: left as u64 }),
        }
    }

    pub(crate) fn bad(&self, what: &'static str, value: u64) -> Error {
        Error::BadValue { name: self.name, what, value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_round_trip_in_one_form_only() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            let mut r = Reader::new("test", &bytes);
            assert_eq!(r.varint(), Ok(value));
            assert_eq!(r.finish(), Ok(()));
        }
        let bad: [&[u8]; 3] = [&[0x80, 0], &[0xff; 10], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]];
        for bytes in bad {
            assert_eq!(Reader::new("test", bytes).varint(), Err(Error::BadNumber { name: "test" }), "{bytes:x?}");
        }
        assert_eq!(Reader::new("test", &[0x80]).varint(), Err(Error::Truncated { name: "test" }));
    }
}
