//! Access to guest memory. Every pointer comes from the guest and is checked here; alignment is not, since byte
//! accesses need none.

use alloc::string::String;

use crate::Errno;

/// The linear memory of the calling instance.
pub(crate) struct Memory<'a>(pub &'a mut [u8]);

/// Most elements in an array of buffers; the oracle runs out of its per-call budget at the same number.
pub(crate) const IOVECS_MAX: u32 = 1 << 24;

impl Memory<'_> {
    /// Fails unless `len` bytes at `ptr` exist. Used on result pointers *before* a call has its effect.
    pub fn check(&self, ptr: u32, len: u32) -> Result<(), Errno> {
        self.bytes(ptr, len).map(|_| ())
    }

    pub fn bytes(&self, ptr: u32, len: u32) -> Result<&[u8], Errno> {
        let start = ptr as usize;
        self.0.get(start..).and_then(|rest| rest.get(..len as usize)).ok_or(Errno::Fault)
    }

    pub fn bytes_mut(&mut self, ptr: u32, len: u32) -> Result<&mut [u8], Errno> {
        let start = ptr as usize;
        self.0.get_mut(start..).and_then(|rest| rest.get_mut(..len as usize)).ok_or(Errno::Fault)
    }

    fn array<const N: usize>(&self, ptr: u32) -> Result<[u8; N], Errno> {
        let mut out = [0; N];
        out.copy_from_slice(self.bytes(ptr, N as u32)?);
        Ok(out)
    }

    pub fn u8(&self, ptr: u32) -> Result<u8, Errno> {
        Ok(self.array::<1>(ptr)?[0])
    }

    pub fn u16(&self, ptr: u32) -> Result<u16, Errno> {
        Ok(u16::from_le_bytes(self.array(ptr)?))
    }

    pub fn u32(&self, ptr: u32) -> Result<u32, Errno> {
        Ok(u32::from_le_bytes(self.array(ptr)?))
    }

    pub fn u64(&self, ptr: u32) -> Result<u64, Errno> {
        Ok(u64::from_le_bytes(self.array(ptr)?))
    }

    pub fn write(&mut self, ptr: u32, bytes: &[u8]) -> Result<(), Errno> {
        let len = u32::try_from(bytes.len()).map_err(|_| Errno::Overflow)?;
        self.bytes_mut(ptr, len)?.copy_from_slice(bytes);
        Ok(())
    }

    pub fn write_u32(&mut self, ptr: u32, value: u32) -> Result<(), Errno> {
        self.write(ptr, &value.to_le_bytes())
    }

    pub fn write_u64(&mut self, ptr: u32, value: u64) -> Result<(), Errno> {
        self.write(ptr, &value.to_le_bytes())
    }

    pub fn string(&self, ptr: u32, len: u32) -> Result<String, Errno> {
        let bytes = self.bytes(ptr, len)?;
        core::str::from_utf8(bytes).map(String::from).map_err(|_| Errno::Ilseq)
    }

    /// The first buffer of an array of buffers that is not empty, or an empty one. Like the oracle, a call moves
    /// the bytes of one buffer only and reports a short count; every libc loops.
    pub fn first_buffer(&self, iovs: u32, count: u32) -> Result<(u32, u32), Errno> {
        if count > IOVECS_MAX {
            return Err(Errno::Nomem);
        }
        for i in 0..count {
            let at = iovs.checked_add(i * 8).ok_or(Errno::Fault)?;
            let (ptr, len) = (self.u32(at)?, self.u32(at.checked_add(4).ok_or(Errno::Fault)?)?);
            if len != 0 {
                self.check(ptr, len)?;
                return Ok((ptr, len));
            }
        }
        Ok((0, 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_past_the_end_is_a_fault_even_where_the_sum_wraps() {
        let mut bytes = [0u8; 16];
        let mem = Memory(&mut bytes);
        assert_eq!(mem.u64(8), Ok(0));
        assert_eq!(mem.u64(9), Err(Errno::Fault));
        assert_eq!(mem.bytes(u32::MAX, u32::MAX), Err(Errno::Fault));
        assert_eq!(mem.bytes(16, 0), Ok(&[][..]));
        assert_eq!(mem.bytes(17, 0), Err(Errno::Fault));
    }

    #[test]
    fn the_first_buffer_with_room_is_the_one_used() {
        let mut bytes = [0u8; 64];
        bytes[8..16].copy_from_slice(&[40, 0, 0, 0, 3, 0, 0, 0]);
        bytes[16..24].copy_from_slice(&[0, 0, 0, 0, 255, 255, 255, 255]);
        let mem = Memory(&mut bytes);
        assert_eq!(mem.first_buffer(0, 2), Ok((40, 3)));
        assert_eq!(mem.first_buffer(0, 1), Ok((0, 0)));
        assert_eq!(mem.first_buffer(16, 1), Err(Errno::Fault));
        assert_eq!(mem.first_buffer(0, IOVECS_MAX + 1), Err(Errno::Nomem));
    }
}
