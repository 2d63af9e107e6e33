//! The standard library's sorts, an ordered map and a heap. `rust-sort [elements = 3000000]`
use guests::{Random, checksum, size_argument};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

fn main() {
    let elements = size_argument(1, 3_000_000);
    let numbers: Vec<u64> = Random(7).take(elements).collect();
    let report = |name: &str, sorted: &[u64]| {
        assert!(sorted.is_sorted(), "{name} is out of order");
        println!(
            "{name}: {} numbers, checksum {:016x}",
            sorted.len(),
            checksum(sorted.iter().flat_map(|n| n.to_le_bytes()))
        );
    };

    let mut stable = numbers.clone();
    stable.sort();
    report("stable", &stable);

    let mut unstable = numbers.clone();
    unstable.sort_unstable_by_key(|n| Reverse(!n));
    unstable.sort_unstable();
    report("unstable", &unstable);

    let map: BTreeMap<u64, usize> =
        numbers.iter().take(elements / 4).enumerate().map(|(place, n)| (*n, place)).collect();
    report("map", &map.keys().copied().collect::<Vec<_>>());
    println!("map: places {:016x}", checksum(map.values().flat_map(|place| (*place as u64).to_le_bytes())));

    let mut heap: BinaryHeap<Reverse<u64>> = numbers.iter().take(elements / 4).map(|n| Reverse(*n)).collect();
    let mut drained = Vec::with_capacity(heap.len());
    while let Some(Reverse(n)) = heap.pop() {
        drained.push(n);
    }
    report("heap", &drained);

    let mut words: Vec<String> = numbers.iter().take(elements / 8).map(|n| format!("{:x}", n >> 20)).collect();
    words.sort();
    println!("words: checksum {:016x}", checksum(words.concat().bytes()));
}
