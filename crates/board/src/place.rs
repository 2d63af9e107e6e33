//! Where a kernel finds its payload.

/// Where the kernel's own data says where the payload is. The magic is found in the file; the two numbers are filled in.
#[repr(C, align(8))]
pub struct Place {
    magic: [u8; 16],
    address: u64,
    len: u64,
}

pub(crate) const MAGIC: [u8; 16] = *b"wayfare payload:";

impl Place {
    /// Of a kernel without a payload.
    pub const EMPTY: Place = Place { magic: MAGIC, address: 0, len: 0 };

    /// Physical address and length of the payload, if there is one. Read from where the kernel has it in memory, with a
    /// volatile access: to the compiler it is what it was when the kernel was built.
    pub fn filled(&self) -> Option<(u64, u64)> {
        (self.len != 0).then_some((self.address, self.len))
    }
}
