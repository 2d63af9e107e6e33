//! Counts words in generated text with the standard library's hash map and with trait objects.
//! `rust-hash [words = 3000000]`
//!
//! The map's keys are seeded from the host's randomness, so nothing printed depends on the map's order.
use guests::{Random, checksum, size_argument};
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

trait Digest {
    fn name(&self) -> &'static str;
    fn add(&mut self, word: &str);
    fn finish(&self) -> u64;
}

#[derive(Default)]
struct Sip(DefaultHasher);

impl Digest for Sip {
    fn name(&self) -> &'static str {
        "sip"
    }
    fn add(&mut self, word: &str) {
        word.hash(&mut self.0);
    }
    fn finish(&self) -> u64 {
        self.0.finish()
    }
}

/// Adler-32 of all the words.
struct Adler(u32, u32);

impl Digest for Adler {
    fn name(&self) -> &'static str {
        "adler"
    }
    fn add(&mut self, word: &str) {
        for byte in word.bytes() {
            self.0 = (self.0 + u32::from(byte)) % 65521;
            self.1 = (self.1 + self.0) % 65521;
        }
    }
    fn finish(&self) -> u64 {
        u64::from(self.1) << 16 | u64::from(self.0)
    }
}

fn word(random: u64) -> String {
    const SYLLABLES: [&str; 16] =
        ["ba", "ke", "li", "mo", "nu", "pa", "re", "si", "to", "vu", "za", "che", "dri", "flo", "gru", "sta"];
    let rank = (random % 4096) * (random >> 32 & 0xfff) / 64;
    (0..6).map_while(|i| (i == 0 || rank >> (4 * i) != 0).then(|| SYLLABLES[(rank >> (4 * i)) as usize % 16])).collect()
}

fn main() {
    let words = size_argument(1, 3_000_000);
    let mut counts: HashMap<String, usize> = HashMap::new();
    let mut digests: Vec<Box<dyn Digest>> = vec![Box::new(Sip::default()), Box::new(Adler(1, 0))];
    for random in Random(11).take(words) {
        let word = word(random);
        digests.iter_mut().for_each(|digest| digest.add(&word));
        *counts.entry(word).or_default() += 1;
    }
    for digest in &digests {
        println!("{}: {:016x}", digest.name(), digest.finish());
    }
    let mut order: Vec<(&str, usize)> = counts.iter().map(|(word, count)| (word.as_str(), *count)).collect();
    order.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    println!("{} words, {} different", words, order.len());
    for (word, count) in order.iter().take(5) {
        println!("{count:8} {word}");
    }
    let endings: HashSet<&str> = order.iter().map(|(word, _)| &word[word.len() - 2..]).collect();
    println!("{} endings, checksum {:016x}", endings.len(), checksum(order.iter().flat_map(|(word, _)| word.bytes())));
}
