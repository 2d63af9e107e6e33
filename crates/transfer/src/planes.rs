//! Pages of numbers, made easier to pack: all first bytes of the words of eight together, then all second ones, and so on.
//!
//! ```text
//! a0 a1 .. a7  b0 b1 .. b7  ...   ─►   a0 b0 ..  a1 b1 ..  ...  a7 b7 ..
//! ```
//! Small integers have high bytes that are all zero, and floating-point numbers of one size have the same exponents; where
//! they lie between noise, no match is long enough for LZ4. Two integers of four bytes make a word as well.

use wayfare_snapshot::PAGE_SIZE;

const WORDS: usize = 8;
/// Bytes of a plane of a page.
const PLANE: usize = PAGE_SIZE / WORDS;

/// Eight words by eight bytes, rows for columns (Hacker's Delight, 7-3, with bytes for bits). Its own inverse.
fn transpose(words: &mut [u64; WORDS]) {
    for (step, mask) in [(4, 0x0000_0000_ffff_ffff), (2, 0x0000_ffff_0000_ffff), (1, 0x00ff_00ff_00ff_00ff)] {
        for i in (0..WORDS).filter(|i| i & step == 0) {
            let swapped = ((words[i] >> (8 * step)) ^ words[i + step]) & mask;
            words[i] ^= swapped << (8 * step);
            words[i + step] ^= swapped;
        }
    }
}

/// A page as words of eight bytes, eight at a time.
fn groups(page: &[u8; PAGE_SIZE]) -> &[[u8; 64]] {
    page.as_chunks().0
}

/// Sorts the bytes of each whole page; `from` and `to` are of one length, and a short last page is copied.
pub fn split(from: &[u8], to: &mut [u8]) {
    let (pages, rest) = from.as_chunks::<PAGE_SIZE>();
    let (sorted, short) = to.as_chunks_mut::<PAGE_SIZE>();
    for (page, sorted) in pages.iter().zip(sorted) {
        for (i, group) in groups(page).iter().enumerate() {
            let mut words = words(group);
            transpose(&mut words);
            for (plane, word) in words.iter().enumerate() {
                let at = plane * PLANE + i * WORDS;
                sorted[at..at + WORDS].copy_from_slice(&word.to_le_bytes());
            }
        }
    }
    short.copy_from_slice(rest);
}

/// Undoes [`split`].
pub fn join(from: &[u8], to: &mut [u8]) {
    let (sorted, rest) = from.as_chunks::<PAGE_SIZE>();
    let (pages, short) = to.as_chunks_mut::<PAGE_SIZE>();
    for (sorted, page) in sorted.iter().zip(pages) {
        for (i, group) in page.as_chunks_mut::<64>().0.iter_mut().enumerate() {
            let mut words = [0; WORDS];
            for (plane, word) in words.iter_mut().enumerate() {
                let at = plane * PLANE + i * WORDS;
                *word = sorted[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
            }
            transpose(&mut words);
            for (word, to) in words.iter().zip(group.as_chunks_mut().0) {
                *to = word.to_le_bytes();
            }
        }
    }
    short.copy_from_slice(rest);
}

fn words(group: &[u8; 64]) -> [u64; WORDS] {
    let mut words = [0; WORDS];
    for (word, bytes) in words.iter_mut().zip(group.as_chunks().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    #[test]
    fn bytes_are_sorted_by_their_places_and_come_back() {
        let bytes: Vec<u8> = (0..2 * PAGE_SIZE + 100).map(|i| ((i * 31) >> 3) as u8 ^ i as u8).collect();
        let (mut split_up, mut back) = (vec![0; bytes.len()], vec![0; bytes.len()]);
        split(&bytes, &mut split_up);
        for (i, byte) in bytes.iter().enumerate().take(2 * PAGE_SIZE) {
            let (page, at) = (i / PAGE_SIZE * PAGE_SIZE, i % PAGE_SIZE);
            assert_eq!(split_up[page + at % 8 * PLANE + at / 8], *byte);
        }
        assert_eq!(split_up[2 * PAGE_SIZE..], bytes[2 * PAGE_SIZE..]);
        join(&split_up, &mut back);
        assert_eq!(back, bytes);
    }
}
