//! Huffman coding and back, block by block, each with a canonical code of its own: a heap, tables, streams of bits.
//! `huffman [mebibytes = 40] [seed = 1]`
//!
//! Prints how many bytes the coded blocks have together, and a checksum of the lengths of the codes and of those bytes.
use guests::{CHECKSUM_START, Random, argument, extend_checksum, no_more_arguments, seed_argument};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

const BLOCK: usize = 1 << 16;
/// A code's length is at most the rank of a Fibonacci number that a block has room for; 32 is more than that.
const LONGEST: usize = 32;

/// The length of each byte's code; 0 for a byte that is not there.
fn lengths(block: &[u8]) -> [u8; 256] {
    let mut counts = [0u32; 256];
    block.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    // Nodes by number: 0 to 255 are bytes, later ones join two. Of equal counts the older node comes first.
    let mut heap: BinaryHeap<Reverse<(u32, usize)>> =
        (0..256).filter(|b| counts[*b] > 0).map(|b| Reverse((counts[b], b))).collect();
    let mut parent = [0; 511];
    let mut nodes = 256;
    loop {
        let Reverse((a, first)) = heap.pop().expect("a block is not empty");
        let Some(Reverse((b, second))) = heap.pop() else { break };
        (parent[first], parent[second]) = (nodes, nodes);
        heap.push(Reverse((a + b, nodes)));
        nodes += 1;
    }
    // The root is the last node, and a parent comes after its children.
    let mut depth = [0u8; 511];
    (0..nodes - 1).rev().filter(|n| parent[*n] > 0).for_each(|n| depth[n] = depth[parent[n]] + 1);
    std::array::from_fn(|byte| depth[byte])
}

/// Codes in the order of their lengths, then of the bytes.
struct Canonical {
    codes: [u32; 256],
    /// For each length: how many codes are of it, the first one, and where its byte is in `bytes`.
    count: [u32; LONGEST + 1],
    first: [u32; LONGEST + 1],
    start: [usize; LONGEST + 1],
    bytes: Vec<u8>,
}

impl Canonical {
    fn of(lengths: &[u8; 256]) -> Canonical {
        let mut code = Canonical {
            codes: [0; 256],
            count: [0; LONGEST + 1],
            first: [0; LONGEST + 1],
            start: [0; LONGEST + 1],
            bytes: Vec::new(),
        };
        let mut next = 0;
        for length in 1..=LONGEST {
            next <<= 1;
            (code.first[length], code.start[length]) = (next, code.bytes.len());
            for byte in (0..=255u8).filter(|byte| usize::from(lengths[usize::from(*byte)]) == length) {
                code.codes[usize::from(byte)] = next;
                code.bytes.push(byte);
                next += 1;
            }
            code.count[length] = next - code.first[length];
        }
        code
    }

    /// The bits of the codes, the highest first.
    fn encode(&self, lengths: &[u8; 256], block: &[u8], out: &mut Vec<u8>) {
        let (mut held, mut bits) = (0u64, 0);
        for byte in block {
            let length = u32::from(lengths[usize::from(*byte)]);
            held = held << length | u64::from(self.codes[usize::from(*byte)]);
            bits += length;
            while bits >= 8 {
                bits -= 8;
                out.push((held >> bits) as u8);
            }
        }
        if bits > 0 {
            out.push((held << (8 - bits)) as u8);
        }
    }

    fn decode(&self, coded: &[u8], count: usize, out: &mut Vec<u8>) {
        let mut bits = coded.iter().flat_map(|byte| (0..8).rev().map(move |i| u32::from(byte >> i & 1)));
        for _ in 0..count {
            let (mut code, mut length) = (0, 0);
            let byte = loop {
                code = code << 1 | bits.next().expect("the stream is long enough");
                length += 1;
                if code.wrapping_sub(self.first[length]) < self.count[length] {
                    break self.bytes[self.start[length] + (code - self.first[length]) as usize];
                }
            };
            out.push(byte);
        }
    }
}

/// Bytes of which some are much more frequent: each bit is set in one of eight.
fn fill(block: &mut Vec<u8>, random: &mut Random) {
    block.clear();
    block.extend(random.take(BLOCK).map(|r| (r & r >> 8 & r >> 16) as u8));
}

fn main() {
    let mebibytes = argument(1, 40, 0..=1 << 20);
    let seed = seed_argument(2, 1);
    no_more_arguments(2);
    let mut random = Random(seed);
    let (mut block, mut coded, mut decoded) = (Vec::new(), Vec::new(), Vec::new());
    let (mut bytes, mut sum) = (0u64, CHECKSUM_START);
    for number in 0..mebibytes * ((1 << 20) / BLOCK) {
        fill(&mut block, &mut random);
        let lengths = lengths(&block);
        let code = Canonical::of(&lengths);
        coded.clear();
        decoded.clear();
        code.encode(&lengths, &block, &mut coded);
        code.decode(&coded, block.len(), &mut decoded);
        assert!(block == decoded, "block {number}: what came back is not what went in");
        bytes += coded.len() as u64;
        sum = extend_checksum(extend_checksum(sum, lengths), coded.iter().copied());
    }
    println!("huffman {mebibytes} {seed}: {bytes} {sum:016x}");
}
