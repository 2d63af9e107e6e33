//! Where a kernel finds its payload, and what it is told beside what its boot loader says.

/// Where the kernel's own data says where the payload is. The magic is found in the file; the rest is filled in.
#[repr(C, align(8))]
pub struct Place {
    magic: [u8; 16],
    /// From the kernel's first byte on: it may be loaded elsewhere than it was linked for.
    offset: u64,
    len: u64,
    line_len: u64,
    line: [u8; LINE_MAX],
}

pub(crate) const MAGIC: [u8; 16] = *b"wayfare payload:";
/// Longest command line that an image has itself, bytes.
pub const LINE_MAX: usize = 512;

impl Place {
    /// Of a kernel without a payload.
    pub const EMPTY: Place = Place { magic: MAGIC, offset: 0, len: 0, line_len: 0, line: [0; LINE_MAX] };

    /// Where the payload is, bytes from the kernel's first one on, and its length, if there is one. Read from where the
    /// kernel has it in memory, with a volatile access: to the compiler it is what it was when the kernel was built.
    pub fn filled(&self) -> Option<(u64, u64)> {
        (self.len != 0).then_some((self.offset, self.len))
    }

    /// The command line that the image has itself.
    pub fn line(&self) -> &[u8] {
        self.line.get(..self.line_len as usize).unwrap_or_default()
    }
}
