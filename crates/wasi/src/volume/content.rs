//! The bytes of a volume's file: pages that exist only where something other than zeros was written.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;

use crate::Errno;

/// The unit in which a volume stores content, and in which differences of it can be taken.
pub const PAGE_SIZE: usize = 4096;

/// Longest file, as on ext4 with pages of this size.
pub(crate) const SIZE_MAX: u64 = 1 << 44;

pub(crate) type Page = Box<[u8; PAGE_SIZE]>;

/// Sparse content. Invariants: no page lies beyond `size`, and the last page is zero beyond it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Content {
    size: u64,
    pages: BTreeMap<u64, Page>,
}

impl Content {
    pub fn size(&self) -> u64 {
        self.size
    }

    pub fn pages(&self) -> &BTreeMap<u64, Page> {
        &self.pages
    }

    /// The content with these pages; `None` unless they keep the invariants.
    pub fn from_pages(size: u64, pages: BTreeMap<u64, Page>) -> Option<Self> {
        if size > SIZE_MAX {
            return None;
        }
        if let Some((&last, page)) = pages.last_key_value() {
            let end = last.checked_mul(PAGE_SIZE as u64)?;
            if end >= size || page.iter().skip(usize::try_from(size - end).ok()?).any(|&b| b != 0) {
                return None;
            }
        }
        Some(Self { size, pages })
    }

    pub fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let len = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX).min(buf.len());
        let mut done = 0;
        while done < len {
            let at = offset + done as u64;
            let within = (at % PAGE_SIZE as u64) as usize;
            let part = (PAGE_SIZE - within).min(len - done);
            match self.pages.get(&(at / PAGE_SIZE as u64)) {
                Some(page) => buf[done..done + part].copy_from_slice(&page[within..within + part]),
                None => buf[done..done + part].fill(0),
            }
            done += part;
        }
        len
    }

    /// Writes what fits in `room` new pages; says how many bytes that was and takes the pages from `room`.
    pub fn write(&mut self, bytes: &[u8], offset: u64, room: &mut u64) -> Result<usize, Errno> {
        if bytes.is_empty() {
            return Ok(0);
        }
        if offset >= SIZE_MAX {
            return Err(Errno::Fbig);
        }
        let len = usize::try_from(SIZE_MAX - offset).unwrap_or(usize::MAX).min(bytes.len());
        let mut done = 0;
        while done < len {
            let at = offset + done as u64;
            let within = (at % PAGE_SIZE as u64) as usize;
            let part = (PAGE_SIZE - within).min(len - done);
            let source = &bytes[done..done + part];
            match self.pages.get_mut(&(at / PAGE_SIZE as u64)) {
                Some(page) => page[within..within + part].copy_from_slice(source),
                // Zeros in a hole leave the hole.
                None if source.iter().all(|&b| b == 0) => {}
                None if *room == 0 => break,
                None => {
                    let mut page = Box::new([0; PAGE_SIZE]);
                    page[within..within + part].copy_from_slice(source);
                    self.pages.insert(at / PAGE_SIZE as u64, page);
                    *room -= 1;
                }
            }
            done += part;
        }
        if done == 0 {
            return Err(Errno::Nospc);
        }
        self.size = self.size.max(offset + done as u64);
        Ok(done)
    }

    /// Cuts or extends; says how many pages that set free.
    pub fn set_size(&mut self, size: u64) -> Result<u64, Errno> {
        if size > i64::MAX as u64 {
            return Err(Errno::Inval);
        }
        if size > SIZE_MAX {
            return Err(Errno::Fbig);
        }
        let mut freed = 0;
        if size < self.size {
            freed = self.pages.split_off(&size.div_ceil(PAGE_SIZE as u64)).len() as u64;
            let within = (size % PAGE_SIZE as u64) as usize;
            if let Some(page) = self.pages.get_mut(&(size / PAGE_SIZE as u64)) {
                page[within..].fill(0);
            }
        }
        self.size = size;
        Ok(freed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn a_hole_reads_as_zeros_and_stores_nothing() {
        let mut content = Content::default();
        content.write(b"end", 1 << 30, &mut 10).unwrap();
        assert_eq!((content.size(), content.pages().len()), ((1 << 30) + 3, 1));
        content.write(&vec![0; 3 * PAGE_SIZE], 100, &mut 10).unwrap();
        assert_eq!(content.pages().len(), 1);
        let mut buf = [1; 8];
        assert_eq!(content.read(&mut buf, (1 << 30) - 2), 5);
        assert_eq!(&buf[..5], b"\0\0end");
    }

    #[test]
    fn what_was_cut_off_does_not_come_back() {
        let mut content = Content::default();
        content.write(&vec![7; 2 * PAGE_SIZE], 0, &mut 10).unwrap();
        assert_eq!(content.set_size(10), Ok(1));
        content.set_size(100).unwrap();
        let mut buf = [1; 100];
        assert_eq!(content.read(&mut buf, 0), 100);
        assert_eq!((buf[9], buf[10], buf[99]), (7, 0, 0));
    }

    #[test]
    fn a_full_volume_writes_what_fits_and_then_nothing() {
        let mut content = Content::default();
        let mut room = 1;
        assert_eq!(content.write(&vec![7; 2 * PAGE_SIZE], 0, &mut room), Ok(PAGE_SIZE));
        assert_eq!(content.write(b"x", PAGE_SIZE as u64, &mut room), Err(Errno::Nospc));
        assert_eq!(content.write(b"x", 5, &mut room), Ok(1));
    }

    #[test]
    fn offsets_at_the_end_of_the_number_range_are_refused() {
        let mut content = Content::default();
        assert_eq!(content.write(b"x", u64::MAX, &mut 1), Err(Errno::Fbig));
        assert_eq!(content.set_size(u64::MAX), Err(Errno::Inval));
        assert_eq!(content.set_size(SIZE_MAX + 1), Err(Errno::Fbig));
        assert_eq!(content.read(&mut [0], u64::MAX), 0);
    }
}
