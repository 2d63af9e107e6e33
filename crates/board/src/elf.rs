//! Puts a payload into a kernel's ELF file. Only what these kernels are is understood: 64-bit, little-endian, program
//! headers of the usual size.

use crate::Error;
use crate::place::{LINE_MAX, MAGIC, Place};
use alloc::vec::Vec;

pub(crate) const PAGE: u64 = 4096;
const PT_NULL: u32 = 0;
pub(crate) const PT_LOAD: u32 = 1;
const HEADER: usize = 56;

/// A program header's fields that matter here.
pub(crate) struct Header {
    at: usize,
    pub(crate) kind: u32,
    pub(crate) offset: u64,
    pub(crate) physical: u64,
    pub(crate) file: u64,
    pub(crate) memory: u64,
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, Error> {
    let end = at.checked_add(8).ok_or(Error::NotAKernel("it ends early"))?;
    let bytes = bytes.get(at..end).and_then(|b| b.try_into().ok()).ok_or(Error::NotAKernel("it ends early"))?;
    Ok(u64::from_le_bytes(bytes))
}

pub(crate) fn headers(kernel: &[u8]) -> Result<Vec<Header>, Error> {
    if !kernel.starts_with(b"\x7fELF\x02\x01") {
        return Err(Error::NotAKernel("it is no 64-bit ELF file"));
    }
    // e_phoff; then e_phentsize and e_phnum.
    let first = usize::try_from(u64_at(kernel, 32)?).map_err(|_| Error::NotAKernel("it ends early"))?;
    let sizes = u64_at(kernel, 54)?;
    if sizes as u16 as usize != HEADER {
        return Err(Error::NotAKernel("its program headers are of an unknown kind"));
    }
    (0..(sizes >> 16) as u16 as usize)
        .map(|i| {
            let at = first.checked_add(i * HEADER).ok_or(Error::NotAKernel("it ends early"))?;
            let field = |offset| u64_at(kernel, at + offset);
            let (kind, offset, physical) = (field(0)? as u32, field(8)?, field(24)?);
            Ok(Header { at, kind, offset, physical, file: field(32)?, memory: field(40)? })
        })
        .collect()
}

/// Where in a kernel's file it says where its payload is. What comes behind the kernel does not count.
fn place(kernel: &[u8]) -> Result<usize, Error> {
    let mut places = kernel.windows(MAGIC.len()).enumerate().filter(|(_, bytes)| *bytes == MAGIC);
    match (places.next(), places.next()) {
        (Some((at, _)), None) if kernel.len() - at < size_of::<Place>() => Err(Error::NotAKernel("it ends early")),
        (Some((at, _)), None) => Ok(at + MAGIC.len()),
        (None, _) => Err(Error::NotAKernel("it has no place for a payload")),
        _ => Err(Error::NotAKernel("it has several places for a payload")),
    }
}

/// The payload of an image; `None` for a kernel that has none.
///
/// # Errors
/// [`Error::NotAKernel`], [`Error::Damaged`].
pub fn payload_of(image: &[u8]) -> Result<Option<&[u8]>, Error> {
    // The last one that is loaded: a payload may say anything, the magic of places too.
    let headers = headers(image)?;
    let loaded = || headers.iter().filter(|h| h.kind == PT_LOAD);
    let Some(last) = loaded().max_by_key(|h| h.physical) else { return Err(Error::NotAKernel("it loads nothing")) };
    let first = loaded().map(|h| h.physical).min().unwrap_or(0);
    let from = usize::try_from(last.offset).map_err(|_| Error::Damaged)?;
    let before = place(image.get(..from).ok_or(Error::Damaged)?);
    let at = match before {
        Ok(at) if u64_at(image, at)? == last.physical - first => at,
        // That was a part of the kernel.
        _ => return place(image).map(|_| None),
    };
    let len = usize::try_from(u64_at(image, at + 8)?).map_err(|_| Error::Damaged)?;
    from.checked_add(len).and_then(|end| image.get(from..end)).map(Some).ok_or(Error::Damaged)
}

/// A node's image: the kernel with a payload.
///
/// # Errors
/// [`Error::NotAKernel`], [`Error::Full`].
pub fn attach(kernel: &[u8], payload: &[u8]) -> Result<Vec<u8>, Error> {
    let headers = headers(kernel)?;
    let place = place(kernel)?;
    if u64_at(kernel, place + 8)? != 0 {
        return Err(Error::Full);
    }
    let spare =
        headers.iter().find(|h| h.kind == PT_NULL).ok_or(Error::NotAKernel("it has no program header to spare"))?;
    let loaded = || headers.iter().filter(|h| h.kind == PT_LOAD);
    let first = loaded().map(|h| h.physical).min().unwrap_or(0);
    let end = loaded()
        .map(|h| h.physical.checked_add(h.memory))
        .max()
        .flatten()
        .and_then(|end| end.checked_next_multiple_of(PAGE));
    let address = end.ok_or(Error::NotAKernel("it loads nothing"))?;
    let len = payload.len() as u64;
    let mut image = kernel.to_vec();
    image.resize(kernel.len().next_multiple_of(PAGE as usize), 0);
    let offset = image.len() as u64;
    image.extend_from_slice(payload);
    let mut put = |at: usize, value: u64| image[at..at + 8].copy_from_slice(&value.to_le_bytes());
    // Type and flags (readable), offset, virtual and physical address, size in the file and in memory, alignment.
    let header = [u64::from(PT_LOAD) | 4 << 32, offset, address, address, len, len, PAGE];
    for (i, value) in header.into_iter().enumerate() {
        put(spare.at + 8 * i, value);
    }
    put(place, address - first);
    put(place + 8, len);
    Ok(image)
}

/// A kernel that has a command line itself, which counts where the boot loader's says nothing. It has no payload yet.
///
/// # Errors
/// [`Error::NotAKernel`], [`Error::Full`], [`Error::LongLine`].
pub fn append(kernel: &[u8], line: &str) -> Result<Vec<u8>, Error> {
    let place = place(kernel)?;
    if u64_at(kernel, place + 8)? != 0 {
        return Err(Error::Full);
    }
    if line.len() > LINE_MAX {
        return Err(Error::LongLine(line.len()));
    }
    let mut image = kernel.to_vec();
    image[place + 16..place + 24].copy_from_slice(&(line.len() as u64).to_le_bytes());
    image[place + 24..place + 24 + LINE_MAX].fill(0);
    image[place + 24..place + 24 + line.len()].copy_from_slice(line.as_bytes());
    Ok(image)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A kernel with one segment, and one header to spare.
    pub(crate) fn kernel() -> Vec<u8> {
        let mut bytes = alloc::vec![0; 64 + 2 * HEADER];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[32] = 64;
        bytes[54] = HEADER as u8;
        bytes[56] = 2;
        let load = [u64::from(PT_LOAD) | 6 << 32, 0, 0x10_0000, 0x10_0000, 200, 5000, PAGE];
        for (i, value) in load.into_iter().enumerate() {
            bytes[64 + 8 * i..72 + 8 * i].copy_from_slice(&value.to_le_bytes());
        }
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&[0; 24 + LINE_MAX]);
        bytes
    }

    #[test]
    fn the_payload_comes_after_the_kernel() {
        let image = attach(&kernel(), b"payload").unwrap();
        let headers = headers(&image).unwrap();
        assert_eq!((headers[1].kind, headers[1].physical, headers[1].memory), (PT_LOAD, 0x10_2000, 7));
        let offset = u64_at(&image, headers[1].at + 8).unwrap() as usize;
        assert_eq!((offset % PAGE as usize, &image[offset..]), (0, &b"payload"[..]));
        let place = kernel().len() - 24 - LINE_MAX;
        assert_eq!((payload_of(&kernel()), payload_of(&image)), (Ok(None), Ok(Some(&b"payload"[..]))));
        let misleading = attach(&kernel(), &MAGIC).unwrap();
        assert_eq!(payload_of(&misleading), Ok(Some(&MAGIC[..])));
        assert_eq!(payload_of(&image[..image.len() - 1]), Err(Error::Damaged));
        assert_eq!((u64_at(&image, place), u64_at(&image, place + 8)), (Ok(0x2000), Ok(7)));
        assert_eq!(attach(&image, b"another"), Err(Error::Full));
    }

    #[test]
    fn a_command_line_stays_with_the_kernel() {
        let kernel = append(&append(&kernel(), "a=1 b=2").unwrap(), "c=3").unwrap();
        let image = attach(&kernel, b"payload").unwrap();
        let at = place(&kernel).unwrap() + 16;
        assert_eq!((u64_at(&image, at), &image[at + 8..at + 12]), (Ok(3), &b"c=3\0"[..]));
        assert_eq!(append(&image, "late"), Err(Error::Full));
        assert!(append(&kernel, &"x".repeat(LINE_MAX)).is_ok());
        assert_eq!(append(&kernel, &"x".repeat(LINE_MAX + 1)), Err(Error::LongLine(LINE_MAX + 1)));
    }

    #[test]
    fn what_is_no_kernel_is_refused() {
        let kernel = kernel();
        for len in 0..kernel.len() {
            assert!(attach(&kernel[..len], b"payload").is_err(), "{len}");
        }
        let twice = [&kernel[..], &kernel].concat();
        assert!(matches!(attach(&twice, b"payload"), Err(Error::NotAKernel(_))));
    }
}
