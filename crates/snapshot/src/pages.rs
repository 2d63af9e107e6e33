//! Linear memory as runs of pages: what is stored, what is zero, and what is left to the base.

use crate::{Error, PAGE_SIZE};
use alloc::borrow::Cow;
use alloc::vec::Vec;

const PAGE: u64 = PAGE_SIZE as u64;

/// One linear memory.
///
/// Pages in no run are those of the base. Two states are equal when they hold the same pages with the same contents,
/// however these are cut into runs, and whether a page of zeros is given as bytes or as zero.
#[derive(Clone, Debug, Default)]
pub struct MemoryState<'a> {
    /// Index of the memory in the module.
    pub index: u32,
    /// Size in bytes.
    pub size: u64,
    /// Runs in ascending order, without overlap, inside `size`.
    pub runs: Vec<PageRun<'a>>,
}

/// Pages that follow each other.
#[derive(Clone, Debug)]
pub struct PageRun<'a> {
    /// Number of the first page, in units of [`PAGE_SIZE`].
    pub first_page: u64,
    /// The pages.
    pub pages: Pages<'a>,
}

/// The contents of a run.
#[derive(Clone, Debug)]
pub enum Pages<'a> {
    /// So many pages of zeros; they take no space.
    Zero(u64),
    /// Whole pages; only the last page of a memory whose size is no multiple of a page may be short. Pages of zeros
    /// among them are found when encoding, and take no space then.
    Bytes(Cow<'a, [u8]>),
}

/// Memories from which others can be filled.
pub trait Memories {
    /// Which runs there are: ascending and without overlap, in memories of ascending indices.
    fn map(&self) -> Vec<MemoryMap>;

    /// Writes the runs of bytes, in the map's order, to `targets`, which have their lengths. `prepare` sees each
    /// part of them right before it is written, on the thread that writes it.
    ///
    /// # Errors
    /// When packed bytes are damaged; any of them may be written by then.
    fn fill(&self, targets: Vec<&mut [u8]>, prepare: &(dyn Fn(&mut [u8]) + Sync)) -> Result<(), Error>;
}

/// A [`MemoryState`] without its bytes.
#[derive(Clone, Debug)]
pub struct MemoryMap {
    /// Index of the memory in the module.
    pub index: u32,
    /// Size in bytes.
    pub size: u64,
    /// Runs of pages.
    pub runs: Vec<MapRun>,
}

/// A [`PageRun`] without its bytes.
#[derive(Clone, Copy, Debug)]
pub struct MapRun {
    /// Number of the first page, in units of [`PAGE_SIZE`].
    pub first_page: u64,
    /// Number of pages, a short last one included.
    pub pages: u64,
    /// Whether it is a run of zeros.
    pub zero: bool,
}

impl MemoryMap {
    /// Bytes of a run of this memory; the last page may be a short one.
    pub(crate) fn bytes_of(&self, run: &MapRun) -> u64 {
        run_bytes(run.first_page, run.pages, self.size)
    }
}

impl Memories for [MemoryState<'_>] {
    fn map(&self) -> Vec<MemoryMap> {
        let zero = |run: &PageRun<'_>| matches!(run.pages, Pages::Zero(_));
        let run = |run: &PageRun<'_>| MapRun { first_page: run.first_page, pages: run.page_count(), zero: zero(run) };
        let memory =
            |m: &MemoryState<'_>| MemoryMap { index: m.index, size: m.size, runs: m.runs.iter().map(run).collect() };
        self.iter().map(memory).collect()
    }

    fn fill(&self, targets: Vec<&mut [u8]>, prepare: &(dyn Fn(&mut [u8]) + Sync)) -> Result<(), Error> {
        /// Bytes that are worth another thread.
        const PIECE: usize = 1 << 20;
        let runs = self.iter().flat_map(|memory| memory.runs.iter().map(move |run| (memory.index, run)));
        let runs = runs.filter_map(|(memory, run)| match &run.pages {
            Pages::Zero(_) => None,
            Pages::Bytes(bytes) => Some((memory, run.first_page, &bytes[..])),
        });
        let fitting = |(to, (memory, page, from)): (_, (u32, u64, _))| {
            let (to, from): (&mut [u8], &[u8]) = (to, from);
            if to.len() == from.len() { Ok((to, from)) } else { Err(Error::PartialPage { memory, page }) }
        };
        let targets = targets.into_iter().zip(runs).map(fitting).collect::<Result<Vec<_>, Error>>()?;
        let pieces = targets.into_iter().flat_map(|(to, from)| to.chunks_mut(PIECE).zip(from.chunks(PIECE)));
        crate::par::map(
            pieces.collect(),
            || (),
            |(), (to, from): (&mut [u8], &[u8])| {
                prepare(to);
                to.copy_from_slice(from);
            },
        );
        Ok(())
    }
}

impl<'a> PageRun<'a> {
    /// A run of bytes, borrowed or owned.
    pub fn bytes(first_page: u64, bytes: impl Into<Cow<'a, [u8]>>) -> Self {
        Self { first_page, pages: Pages::Bytes(bytes.into()) }
    }

    /// A run of `count` pages of zeros.
    pub fn zero(first_page: u64, count: u64) -> Self {
        Self { first_page, pages: Pages::Zero(count) }
    }

    /// Number of pages, a short last one included.
    pub fn page_count(&self) -> u64 {
        match &self.pages {
            Pages::Zero(count) => *count,
            Pages::Bytes(bytes) => (bytes.len() as u64).div_ceil(PAGE),
        }
    }

    /// The page after the last. Saturates, so that it can be asked of a run that was not checked yet.
    pub(crate) fn end_page(&self) -> u64 {
        self.first_page.saturating_add(self.page_count())
    }

    /// The same run without borrowed bytes.
    pub fn into_owned(self) -> PageRun<'static> {
        let pages = match self.pages {
            Pages::Zero(count) => Pages::Zero(count),
            Pages::Bytes(bytes) => Pages::Bytes(Cow::Owned(bytes.into_owned())),
        };
        PageRun { first_page: self.first_page, pages }
    }

    /// The pages `from..to`, which must be in the run.
    pub(crate) fn slice(&self, from: u64, to: u64) -> PageRun<'_> {
        let pages = match &self.pages {
            Pages::Zero(_) => Pages::Zero(to - from),
            Pages::Bytes(bytes) => {
                let start = (from - self.first_page) as usize * PAGE_SIZE;
                let end = ((to - self.first_page) as usize * PAGE_SIZE).min(bytes.len());
                Pages::Bytes(Cow::Borrowed(&bytes[start..end]))
            }
        };
        PageRun { first_page: from, pages }
    }

    /// The contents of one page of the run.
    pub(crate) fn page(&self, page: u64) -> Page<'_> {
        match &self.pages {
            Pages::Zero(_) => Page(&[]),
            Pages::Bytes(bytes) => {
                let start = (page - self.first_page) as usize * PAGE_SIZE;
                Page(&bytes[start..bytes.len().min(start + PAGE_SIZE)])
            }
        }
    }
}

/// One page; bytes that it lacks are zero, as those of a grown memory are.
#[derive(Clone, Copy)]
pub(crate) struct Page<'a>(&'a [u8]);

impl PartialEq for Page<'_> {
    fn eq(&self, other: &Self) -> bool {
        let common = self.0.len().min(other.0.len());
        self.0[..common] == other.0[..common] && is_zero(&self.0[common..]) && is_zero(&other.0[common..])
    }
}

/// Whether all bytes are zero; stops early, as most pages that are not zero show it in their first bytes.
pub fn is_zero(bytes: &[u8]) -> bool {
    let (blocks, rest) = bytes.as_chunks::<128>();
    // A fixed-length OR over a block becomes vector code; a test per byte would not.
    blocks.iter().all(|block| block.iter().fold(0, |all, byte| all | byte) == 0) && rest.iter().all(|&byte| byte == 0)
}

impl<'a> MemoryState<'a> {
    /// The same memory without borrowed bytes.
    pub fn into_owned(self) -> MemoryState<'static> {
        MemoryState {
            index: self.index,
            size: self.size,
            runs: self.runs.into_iter().map(PageRun::into_owned).collect(),
        }
    }

    /// Refuses runs that are empty, out of order, overlap, end inside a page, or lie outside the memory.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let (memory, size) = (self.index, self.size);
        let mut at = 0;
        for run in &self.runs {
            let page = run.first_page;
            if run.page_count() == 0 {
                return Err(Error::EmptyRun { memory, page });
            }
            if page < at {
                return Err(Error::RunOverlap { memory, page });
            }
            at = run.end_page();
            if at > size.div_ceil(PAGE) {
                return Err(Error::RunOutOfBounds { memory, page, size });
            }
            if let Pages::Bytes(bytes) = &run.pages
                && bytes.len() as u64 != run_bytes(page, run.page_count(), size)
            {
                return Err(Error::PartialPage { memory, page });
            }
        }
        Ok(())
    }

    /// All pages in order, each with its number.
    fn pages(&self) -> impl Iterator<Item = (u64, Page<'_>)> {
        self.runs.iter().flat_map(|run| (run.first_page..run.end_page()).map(|page| (page, run.page(page))))
    }

    /// The pages of `self` that are in no run of `above`, as runs.
    pub(crate) fn uncovered<'s>(&'s self, above: &MemoryState<'_>) -> Vec<PageRun<'s>> {
        let mut out = Vec::new();
        let mut over = above.runs.iter().peekable();
        for run in &self.runs {
            let (mut at, end) = (run.first_page, run.end_page());
            while at < end {
                let Some(top) = over.peek() else {
                    out.push(run.slice(at, end));
                    break;
                };
                if top.end_page() <= at {
                    over.next();
                    continue;
                }
                if top.first_page > at {
                    out.push(run.slice(at, end.min(top.first_page)));
                }
                at = top.end_page();
            }
        }
        out
    }

    /// `self` with the pages of `above` laid over it.
    ///
    /// # Errors
    /// [`Error::MemoryShrank`].
    pub(crate) fn overlay<'s>(&'s self, above: &'s MemoryState<'_>) -> Result<MemoryState<'s>, Error> {
        self.check_growth(above)?;
        let mut runs = self.uncovered(above);
        if above.size > self.size
            && let Some(last) = runs.last_mut()
        {
            pad(last, above.size);
        }
        runs.extend(above.runs.iter().map(|run| run.slice(run.first_page, run.end_page())));
        // Two ascending sequences: the sort sees that and merges them.
        runs.sort_by_key(|run| run.first_page);
        Ok(MemoryState { index: self.index, size: above.size, runs })
    }

    /// The pages of `new` that differ from what `self` holds.
    ///
    /// # Errors
    /// [`Error::MemoryShrank`], [`Error::PageVanished`].
    pub(crate) fn changed<'s>(&self, new: &'s MemoryState<'_>) -> Result<MemoryState<'s>, Error> {
        self.check_growth(new)?;
        if let Some(lost) = self.uncovered(new).first() {
            return Err(Error::PageVanished { memory: self.index, page: lost.first_page });
        }
        let mut runs = Vec::new();
        let mut old = self.pages().peekable();
        for run in &new.runs {
            let mut start = None;
            for page in run.first_page..run.end_page() {
                while old.next_if(|(number, _)| *number < page).is_some() {}
                let same =
                    old.next_if(|(number, _)| *number == page).is_some_and(|(_, before)| before == run.page(page));
                match (same, start) {
                    (false, None) => start = Some(page),
                    (true, Some(from)) => {
                        runs.push(run.slice(from, page));
                        start = None;
                    }
                    _ => {}
                }
            }
            if let Some(from) = start {
                runs.push(run.slice(from, run.end_page()));
            }
        }
        Ok(MemoryState { index: new.index, size: new.size, runs })
    }

    fn check_growth(&self, new: &MemoryState<'_>) -> Result<(), Error> {
        if new.size < self.size {
            return Err(Error::MemoryShrank { memory: self.index, before: self.size, after: new.size });
        }
        Ok(())
    }
}

impl PartialEq for MemoryState<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.index == other.index && self.size == other.size && self.pages().eq(other.pages())
    }
}

/// Bytes of `count` pages from `first` on in a memory of `size` bytes; both must be inside the memory.
pub(crate) fn run_bytes(first: u64, count: u64, size: u64) -> u64 {
    // The end of the last page may be 2^64 exactly; saturating gives the right minimum all the same.
    (first + count).saturating_mul(PAGE).min(size).saturating_sub(first.saturating_mul(PAGE))
}

/// Fills a short last page up with the zeros that growing the memory to `size` put there.
fn pad(run: &mut PageRun<'_>, size: u64) {
    let len = run_bytes(run.first_page, run.page_count(), size);
    if let Pages::Bytes(bytes) = &mut run.pages
        && (bytes.len() as u64) < len
    {
        bytes.to_mut().resize(len as usize, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn one_set_byte_anywhere_makes_a_page_non_zero() {
        let mut page = vec![0; PAGE_SIZE + 5];
        assert!(is_zero(&page) && is_zero(&[]));
        for at in 0..page.len() {
            page[at] = 0x80;
            assert!(!is_zero(&page));
            page[at] = 0;
        }
    }

    #[test]
    fn equality_sees_pages_and_not_runs() {
        let memory = |runs| MemoryState { index: 0, size: 5 * PAGE, runs };
        let zeros = vec![0; 2 * PAGE_SIZE];
        let whole = memory(vec![PageRun::bytes(1, &zeros[..])]);
        assert_eq!(whole, memory(vec![PageRun::zero(1, 1), PageRun::bytes(2, &zeros[PAGE_SIZE..])]));
        assert_ne!(whole, memory(vec![PageRun::zero(1, 1)]));
        assert_ne!(whole, memory(vec![PageRun::zero(2, 2)]));
    }

    #[test]
    fn growing_pads_a_short_last_page() {
        let old = MemoryState { index: 0, size: PAGE + 3, runs: vec![PageRun::bytes(0, vec![7; PAGE_SIZE + 3])] };
        let new = MemoryState { index: 0, size: 3 * PAGE, runs: vec![] };
        let grown = old.overlay(&new).unwrap();
        assert_eq!(grown.check(), Ok(()));
        assert!(old.pages().eq(grown.pages()));
    }
}
