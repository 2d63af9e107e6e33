//! What the Rust guests share: sizes from the command line, a seedable generator, a checksum.
//!
//! A guest prints the same bytes for the same arguments on every ISA, moved or not.

/// The argument at `index` as a number, or `fallback` if there is none; ends the program if it is not a number.
pub fn size_argument(index: usize, fallback: usize) -> usize {
    match std::env::args().nth(index) {
        None => fallback,
        Some(text) => text.parse().unwrap_or_else(|problem| {
            eprintln!("argument {index}, {text:?}: {problem}");
            std::process::exit(2)
        }),
    }
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
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
