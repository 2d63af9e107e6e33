//! An image as it lies in memory, for boot loaders that know no ELF: U-Boot's `booti`, the Raspberry Pi's firmware, QEMU.
//! The kernels for AArch64 and RISC-V begin with the header that Linux's images have ("Booting AArch64 Linux", 4; "Boot
//! image header in RISC-V Linux"); what is not known when they are linked is filled in here. Memory that the kernel wants
//! zeroed is in the file: these loaders zero nothing, and the payload follows it.

use crate::Error;
use crate::elf::{Header, PAGE, PT_LOAD, headers};
use alloc::vec::Vec;

/// Of ELF's machines: where the header has its magic, and what that is.
const MACHINES: [(u16, &[u8; 4]); 2] = [(183, b"ARM\x64"), (243, b"RSC\x05")];
const MACHINE: usize = 18;
const HEADER_SIZE: usize = 16;
const HEADER_MAGIC: usize = 56;
/// Largest image, bytes.
const MOST: u64 = 1 << 32;

/// The flat file of an image.
///
/// # Errors
/// [`Error::NotAKernel`], [`Error::NotFlat`], [`Error::Damaged`].
pub fn flat(image: &[u8]) -> Result<Vec<u8>, Error> {
    let headers = headers(image)?;
    let number = image.get(MACHINE..).and_then(|bytes| bytes.first_chunk()).map(|bytes| u16::from_le_bytes(*bytes));
    let (_, magic) = MACHINES.iter().find(|(of, _)| Some(*of) == number).ok_or(Error::NotFlat)?;
    let loaded = || headers.iter().filter(|h| h.kind == PT_LOAD);
    let from = loaded().map(|h| h.physical).min().ok_or(Error::NotAKernel("it loads nothing"))?;
    let end = loaded().map(|h| h.physical.checked_add(h.memory)).max().flatten().ok_or(Error::Damaged)?;
    let size = (end - from).checked_next_multiple_of(PAGE).filter(|size| *size < MOST).ok_or(Error::Damaged)?;
    let mut file = alloc::vec![0; usize::try_from(size).map_err(|_| Error::Damaged)?];
    for Header { offset, file: len, memory, physical, .. } in loaded() {
        let bytes = offset.checked_add(*len).filter(|_| len <= memory).and_then(|end| {
            let (from, to) = (usize::try_from(*offset).ok()?, usize::try_from(end).ok()?);
            image.get(from..to)
        });
        let (bytes, at) = (bytes.ok_or(Error::Damaged)?, (physical - from) as usize);
        file[at..at + bytes.len()].copy_from_slice(bytes);
    }
    if file.get(HEADER_MAGIC..HEADER_MAGIC + 4) != Some(&magic[..]) {
        return Err(Error::NotAKernel("it does not begin with the header of an image"));
    }
    // The page behind it is the kernel's, too, for what it leaves behind when it fails.
    file[HEADER_SIZE..HEADER_SIZE + 8].copy_from_slice(&(size + PAGE).to_le_bytes());
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::tests::kernel;
    use crate::{append, attach};

    const AT: usize = 800;

    /// The kernel of the other tests, made one for AArch64 that begins as such do.
    fn image() -> Vec<u8> {
        let mut bytes = kernel();
        bytes[MACHINE] = 183;
        // The segment's offset.
        bytes[72..74].copy_from_slice(&(AT as u16).to_le_bytes());
        bytes.resize(AT + 200, 0);
        bytes[AT + HEADER_MAGIC..AT + HEADER_MAGIC + 4].copy_from_slice(b"ARM\x64");
        bytes
    }

    #[test]
    fn a_flat_file_is_what_is_in_memory() {
        let image = attach(&append(&image(), "a=1").unwrap(), b"payload").unwrap();
        let file = flat(&image).unwrap();
        assert_eq!(file.len() as u64, 3 * PAGE);
        assert_eq!(file[HEADER_SIZE..HEADER_SIZE + 8], (4 * PAGE).to_le_bytes());
        assert_eq!(file[..HEADER_SIZE], image[AT..AT + HEADER_SIZE]);
        assert_eq!(&file[0x2000..0x2007], b"payload");
        assert!(file[200..0x2000].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn what_cannot_be_flat_is_refused() {
        let mut other = image();
        other[MACHINE] = 62;
        assert_eq!(flat(&other), Err(Error::NotFlat));
        let mut headless = image();
        headless[AT + HEADER_MAGIC] = 0;
        assert!(matches!(flat(&headless), Err(Error::NotAKernel(_))));
        let image = image();
        for len in 0..AT + 200 {
            assert!(flat(&image[..len]).is_err(), "{len}");
        }
        for at in 64..64 + 56 {
            let mut changed = image.clone();
            changed[at] ^= 0x80;
            let _ = flat(&changed);
        }
    }
}
