//! What a boot loader that speaks Multiboot2, GRUB mostly, tells of the machine: a length, then tags, each of a kind, with
//! a length, at a multiple of 8 bytes (Multiboot2 specification 2.0, 3.6). Nothing of it is trusted to be sound.

use core::ops::Range;

/// What is in `eax` when such a loader has loaded the kernel; `ebx` is the information's address.
pub const MAGIC: u32 = 0x36d7_6289;
/// Bytes of the information that are read at most.
pub const INFORMATION_MAX: usize = 1 << 20;

/// Bytes before the first tag, and of a tag before what it says.
const HEAD: usize = 8;
const END: u32 = 0;
const COMMAND_LINE: u32 = 1;
const MEMORY_MAP: u32 = 6;
/// Memory that anybody may use.
const AVAILABLE: u32 = 1;

/// The loader's information.
#[derive(Clone, Copy)]
pub struct Information<'a>(&'a [u8]);

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

/// Bytes of the information, of its first four.
pub fn len(head: [u8; 4]) -> usize {
    (u32::from_le_bytes(head) as usize).clamp(HEAD, INFORMATION_MAX)
}

impl<'a> Information<'a> {
    /// Of so many bytes as [`len`] has said.
    pub fn new(bytes: &'a [u8]) -> Information<'a> {
        Information(bytes)
    }

    /// What the tags of a kind say. One that ends early is the last.
    fn tags(self, wanted: u32) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = self.0.get(HEAD..).unwrap_or_default();
        let each = move || {
            let (kind, len) = (u32_at(rest, 0)?, u32_at(rest, 4)? as usize);
            let body = rest.get(HEAD..len).filter(|_| kind != END)?;
            rest = rest.get(len.next_multiple_of(8)..).unwrap_or_default();
            Some((kind, body))
        };
        core::iter::from_fn(each).filter(move |(kind, _)| *kind == wanted).map(|(_, body)| body)
    }

    /// The command line; of none if there is none.
    pub fn command_line(self) -> &'a [u8] {
        let text = self.tags(COMMAND_LINE).next().unwrap_or_default();
        text.split(|byte| *byte == 0).next().unwrap_or_default()
    }

    /// The memory that may be used, byte addresses.
    pub fn memory(self) -> impl Iterator<Item = Range<u64>> {
        self.tags(MEMORY_MAP).flat_map(|map| {
            // Entries may be longer than what is known of them.
            let size = u32_at(map, 0).unwrap_or(0).max(24) as usize;
            let entries = map.get(8..).unwrap_or_default().chunks_exact(size);
            entries.filter_map(|entry| {
                let (from, len, kind) = (u64_at(entry, 0)?, u64_at(entry, 8)?, u32_at(entry, 16)?);
                (kind == AVAILABLE).then_some(from..from.saturating_add(len))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::vec::Vec;

    fn tag(kind: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = [kind.to_le_bytes(), (HEAD as u32 + body.len() as u32).to_le_bytes()].concat();
        bytes.extend_from_slice(body);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    fn entry(from: u64, len: u64, kind: u32) -> Vec<u8> {
        let mut bytes = [from.to_le_bytes(), len.to_le_bytes()].concat();
        bytes.extend_from_slice(&kind.to_le_bytes());
        bytes.resize(24, 0);
        bytes
    }

    fn information() -> Vec<u8> {
        let map = [24u32.to_le_bytes(), 0u32.to_le_bytes()].concat();
        let entries = [entry(0, 0x9_f000, 1), entry(0xf_0000, 0x1_0000, 2), entry(1 << 20, u64::MAX, 1)].concat();
        let tags = [
            tag(2, b"GRUB 2.06\0"),
            tag(COMMAND_LINE, b"a=1 b\0"),
            tag(MEMORY_MAP, &[map, entries].concat()),
            tag(END, &[]),
            tag(COMMAND_LINE, b"after the end\0"),
        ]
        .concat();
        let len = HEAD as u32 + tags.len() as u32;
        [&len.to_le_bytes()[..], &[0; 4], &tags].concat()
    }

    #[test]
    fn what_the_loader_says_is_read() {
        let bytes = information();
        assert_eq!(len(*bytes.first_chunk().unwrap()), bytes.len());
        let information = Information::new(&bytes);
        assert_eq!(information.command_line(), b"a=1 b");
        let memory: Vec<_> = information.memory().collect();
        assert_eq!(memory, [0..0x9_f000, 1 << 20..u64::MAX]);
    }

    #[test]
    fn what_ends_early_says_less() {
        let bytes = information();
        for end in 0..bytes.len() {
            let information = Information::new(&bytes[..end]);
            let line = information.command_line();
            assert!(line.is_empty() || line == b"a=1 b", "{end}");
            assert!(information.memory().count() <= 2, "{end}");
        }
    }

    #[test]
    fn garbage_does_no_harm() {
        assert_eq!((len([0; 4]), len([0xff; 4])), (HEAD, INFORMATION_MAX));
        let bytes = information();
        for at in 0..bytes.len() {
            for value in [0, 1, 7, 0x7f, 0xff] {
                let mut changed = bytes.clone();
                changed[at] = value;
                let information = Information::new(&changed);
                assert!(information.memory().count() + information.command_line().len() < bytes.len(), "{at}");
            }
        }
    }
}
