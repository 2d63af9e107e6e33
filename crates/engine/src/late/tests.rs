//! What the kernel does with missing pages, as far as a task cannot bring it about.

use super::*;
use crate::pagemap::{self, Question};

/// Memory of our own that the kernel may fill with huge pages.
fn huge(len: usize) -> usize {
    const HUGE: usize = 2 << 20;
    let null = core::ptr::null_mut();
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping at a place of the kernel's choice, of which nobody else knows and which is never
    // unmapped.
    unsafe {
        let start = rustix::mm::mmap_anonymous(null, len + HUGE, protection, MapFlags::PRIVATE).unwrap();
        let start = start.expose_provenance().next_multiple_of(HUGE);
        let all = core::ptr::with_exposed_provenance_mut(start);
        let _ = rustix::mm::madvise(all, len, Advice::LinuxHugepage);
        start
    }
}

fn read(address: usize) -> u8 {
    // SAFETY: only called for what `huge` has mapped.
    unsafe { core::ptr::with_exposed_provenance::<u8>(address).read_volatile() }
}

#[test]
fn huge_pages_neither_hide_what_is_missing_nor_lose_what_is_not() {
    if !Late::works() {
        return;
    }
    const LEN: usize = 16 << 20;
    // Written to all over, or only here and there; a part of it is taken for the module's data.
    for step in [PAGE_SIZE, 5 << 20] {
        let base = huge(LEN);
        for at in (0..LEN).step_by(step) {
            // SAFETY: within what was just mapped.
            unsafe { core::ptr::with_exposed_provenance_mut::<u8>(base + at).write_volatile(1) };
        }
        let memories = vec![Place { index: 0, base, size: LEN, initial: 3 << 20 }];
        let missing = [(3, 4), (600, 900), (1024, 1025), (1027, 1028), (2047, 2049), (4095, 4096)];
        let inner = Inner {
            fate: Fate::Coming,
            claim: None,
            uffd: None,
            memories,
            count: 0,
            missing: missing.into_iter().map(|(first, end)| ((0, first), end)).collect(),
            wanted: Vec::new(),
            hosted: false,
            unforeseen: 0,
        };
        let Some(Ok(uffd) | Err(uffd)) = Uffd::catching() else { return };
        inner.take_away(&uffd).unwrap();
        // What is next to them may be written and read, and fills nothing but itself.
        let is_missing = |page: u64| missing.iter().any(|(first, end)| (*first..*end).contains(&page));
        for page in (0..LEN / PAGE_SIZE).filter(|page| !is_missing(*page as u64)) {
            assert!(read(base + page * PAGE_SIZE) <= 1 && uffd.held().is_none());
            if step == PAGE_SIZE {
                assert_eq!(read(base + page * PAGE_SIZE), 1, "page {page}");
            }
            // SAFETY: as above.
            unsafe { core::ptr::with_exposed_provenance_mut::<u8>(base + page * PAGE_SIZE + 9).write_volatile(2) };
        }
        let there = pagemap::scan(Question::Changed, base, LEN).unwrap_or_default();
        let there: Vec<u64> = there.iter().flat_map(|(first, count)| *first..first + count).collect();
        assert!(there.is_empty() || (0..4096).all(|page| there.contains(&page) != is_missing(page)));
        for (first, end) in missing {
            let bytes = vec![7; (end - first) as usize * PAGE_SIZE];
            // SAFETY: registered by `take_away`, and nobody has looked there.
            unsafe { uffd.fill(base + first as usize * PAGE_SIZE, &bytes) }.unwrap();
            assert_eq!(read(base + first as usize * PAGE_SIZE + 1), 7);
            // SAFETY: as above.
            let twice = unsafe { uffd.fill(base + first as usize * PAGE_SIZE, &bytes) };
            assert_eq!(twice, Err((0, rustix::io::Errno::EXIST)));
        }
    }
}

#[test]
fn the_kernel_waits_for_a_missing_page_or_says_that_it_cannot() {
    let best = Uffd::catching();
    for (waits, uffd) in [best, Uffd::catching_user().map(Err)].into_iter().flatten().map(|u| (u.is_ok(), u)) {
        let (Ok(uffd) | Err(uffd)) = uffd;
        let base = huge(1 << 20);
        uffd.register_missing(base, PAGE_SIZE).unwrap();
        let (output, input) = rustix::pipe::pipe().unwrap();
        let thread = std::thread::spawn(move || {
            // SAFETY: mapped above, for ever, and filled before anything is read.
            let page = unsafe { core::slice::from_raw_parts(core::ptr::with_exposed_provenance(base), PAGE_SIZE) };
            rustix::io::write(input, page)
        });
        if waits {
            while uffd.held().is_none() {
                std::thread::sleep(Duration::from_millis(1));
            }
            assert!(!thread.is_finished());
            // SAFETY: registered above, and only the thread looks there, for this.
            unsafe { uffd.fill(base, &[7; PAGE_SIZE]) }.unwrap();
            assert_eq!(thread.join().unwrap(), Ok(PAGE_SIZE));
            let mut read = [0; PAGE_SIZE];
            assert_eq!(rustix::io::read(output, &mut read), Ok(PAGE_SIZE));
            assert_eq!(read, [7; PAGE_SIZE]);
        } else {
            assert_eq!(thread.join().unwrap(), Err(rustix::io::Errno::FAULT));
        }
    }
}
