//! A Huffman coder after a Burrows-Wheeler transform and move-to-front, and back again: suffix sorting by doubling, bit
//! streams, trees in boxes. `rust-compress [kilobytes = 1024] [rounds = 3]`
use guests::{Random, checksum, size_argument};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Rotations of `text` in order (prefix doubling), as the last column and the row of the text itself.
fn burrows_wheeler(text: &[u8]) -> (Vec<u8>, usize) {
    let n = text.len();
    let mut order: Vec<u32> = (0..n as u32).collect();
    let mut rank: Vec<u32> = text.iter().map(|byte| u32::from(*byte)).collect();
    let mut width = 0;
    loop {
        let key = |i: u32| (rank[i as usize], if width == 0 { 0 } else { rank[(i as usize + width) % n] });
        order.sort_unstable_by_key(|i| key(*i));
        let mut next = vec![0; n];
        for pair in order.windows(2) {
            next[pair[1] as usize] = next[pair[0] as usize] + u32::from(key(pair[0]) != key(pair[1]));
        }
        let classes = next[order[n - 1] as usize] as usize + 1;
        rank = next;
        width = if width == 0 { 1 } else { 2 * width };
        if classes == n || width >= n {
            break;
        }
    }
    // Rotations that are equal may stand in any order, but the inverse wants the text's own row: the first of its class will do.
    let row = order.iter().position(|i| rank[*i as usize] == rank[0]).expect("rotation 0 is one of the rotations");
    (order.iter().map(|i| text[(*i as usize + n - 1) % n]).collect(), row)
}

fn inverse_burrows_wheeler(last: &[u8], row: usize) -> Vec<u8> {
    let mut start = [0usize; 257];
    last.iter().for_each(|byte| start[*byte as usize + 1] += 1);
    (0..256).for_each(|i| start[i + 1] += start[i]);
    let mut follow = vec![0u32; last.len()];
    for (i, byte) in last.iter().enumerate() {
        follow[start[*byte as usize]] = i as u32;
        start[*byte as usize] += 1;
    }
    let mut at = row;
    (0..last.len())
        .map(|_| {
            at = follow[at] as usize;
            last[at]
        })
        .collect()
}

fn move_to_front(bytes: &[u8]) -> Vec<u8> {
    let mut recent: Vec<u8> = (0..=255).collect();
    bytes
        .iter()
        .map(|byte| {
            let place = recent.iter().position(|r| r == byte).expect("all bytes are in the list");
            recent[..=place].rotate_right(1);
            place as u8
        })
        .collect()
}

fn inverse_move_to_front(places: &[u8]) -> Vec<u8> {
    let mut recent: Vec<u8> = (0..=255).collect();
    places
        .iter()
        .map(|place| {
            recent[..=*place as usize].rotate_right(1);
            recent[0]
        })
        .collect()
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Tree {
    Leaf(u8),
    Node(Box<Tree>, Box<Tree>),
}

impl Tree {
    fn of(bytes: &[u8]) -> Tree {
        let mut counts = [0u64; 256];
        bytes.iter().for_each(|byte| counts[*byte as usize] += 1);
        let mut heap: BinaryHeap<Reverse<(u64, Tree)>> = (0..=255u8)
            .filter(|b| counts[*b as usize] > 0)
            .map(|b| Reverse((counts[b as usize], Tree::Leaf(b))))
            .collect();
        loop {
            let Reverse((count, tree)) = heap.pop().expect("there is at least one byte");
            let Some(Reverse((other_count, other))) = heap.pop() else { return tree };
            heap.push(Reverse((count + other_count, Tree::Node(Box::new(tree), Box::new(other)))));
        }
    }

    fn codes(&self, prefix: Vec<bool>, out: &mut [Vec<bool>; 256]) {
        match self {
            Tree::Leaf(byte) => out[*byte as usize] = prefix,
            Tree::Node(left, right) => {
                left.codes([prefix.as_slice(), &[false]].concat(), out);
                right.codes([prefix.as_slice(), &[true]].concat(), out);
            }
        }
    }
}

fn encode(tree: &Tree, bytes: &[u8]) -> Vec<u8> {
    let mut codes = [const { Vec::new() }; 256];
    tree.codes(Vec::new(), &mut codes);
    let (mut out, mut used) = (Vec::new(), 8);
    for bit in bytes.iter().flat_map(|byte| &codes[*byte as usize]) {
        if used == 8 {
            out.push(0);
            used = 0;
        }
        *out.last_mut().expect("just pushed") |= u8::from(*bit) << used;
        used += 1;
    }
    out
}

fn decode(tree: &Tree, coded: &[u8], count: usize) -> Vec<u8> {
    let mut bits = coded.iter().flat_map(|byte| (0..8).map(move |i| byte >> i & 1 == 1));
    (0..count)
        .map(|_| {
            let mut at = tree;
            loop {
                match at {
                    Tree::Leaf(byte) => return *byte,
                    Tree::Node(left, right) => {
                        at = if bits.next().expect("the stream is long enough") { right } else { left }
                    }
                }
            }
        })
        .collect()
}

fn text(size: usize, seed: u64) -> Vec<u8> {
    let mut state = 0u64;
    Random(seed)
        .map(|r| {
            // A chain of order one: the next letter depends on the last, most of the time.
            state = if r % 8 == 0 { r >> 8 } else { state.wrapping_mul(21).wrapping_add(r >> 8 & 3) } % 27;
            if state == 26 { b' ' } else { b'a' + state as u8 }
        })
        .take(size)
        .collect()
}

fn main() {
    let size = size_argument(1, 1024).max(1) * 1024;
    for round in 0..size_argument(2, 3) {
        let input = text(size, round as u64 + 1);
        let (last, row) = burrows_wheeler(&input);
        let places = move_to_front(&last);
        let tree = Tree::of(&places);
        let coded = encode(&tree, &places);
        let output = inverse_burrows_wheeler(&inverse_move_to_front(&decode(&tree, &coded, places.len())), row);
        assert!(input == output, "round {round}: what came back is not what went in");
        println!("round {round}: {} -> {} bytes, checksum {:016x}", size, coded.len(), checksum(coded));
    }
}
