//! What the Rust guests share: sizes from the command line, a seedable generator, a checksum.
//!
//! A guest prints the same bytes for the same arguments on every ISA, moved or not.

use std::ops::RangeInclusive;

/// The argument at `index` as a number, or `fallback` if there is none; ends the program if it is not a number.
pub fn size_argument(index: usize, fallback: usize) -> usize {
    argument(index, fallback, 0..=usize::MAX)
}

/// The same for numbers of which not all will do.
pub fn argument(index: usize, fallback: usize, allowed: RangeInclusive<usize>) -> usize {
    let Some(text) = std::env::args_os().nth(index) else { return fallback };
    let number = text.to_str().and_then(|text| text.parse().ok()).filter(|number| allowed.contains(number));
    number.unwrap_or_else(|| {
        let (least, most) = (allowed.start(), allowed.end());
        wrong_usage(&format!("argument {index} must be a number from {least} to {most}, not {text:?}"))
    })
}

/// Seeds, as the guests in C take them.
pub fn seed_argument(index: usize, fallback: u64) -> u64 {
    argument(index, fallback as usize, 0..=i32::MAX as usize) as u64
}

pub fn no_more_arguments(most: usize) {
    let given = std::env::args_os().count() - 1;
    if given > most {
        wrong_usage(&format!("{given} arguments, but there are at most {most}"));
    }
}

fn wrong_usage(problem: &str) -> ! {
    eprintln!("{}: {problem}", std::env::args().next().unwrap_or_default());
    std::process::exit(2)
}

/// splitmix64 (Steele, Lea, Flood 2014).
pub struct Random(pub u64);

impl Iterator for Random {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Some(z ^ (z >> 31))
    }
}

/// FNV-1a, 64 bits.
pub fn checksum(bytes: impl IntoIterator<Item = u8>) -> u64 {
    extend_checksum(CHECKSUM_START, bytes)
}

pub const CHECKSUM_START: u64 = 0xcbf2_9ce4_8422_2325;

/// The checksum of what came before, which had `sum`, and of these bytes.
pub fn extend_checksum(sum: u64, bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().fold(sum, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
