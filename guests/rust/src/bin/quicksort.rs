//! Quicksort in three parts (Bentley and McIlroy 1993) of numbers in four orders, good and bad ones: recursion over slices.
//! `quicksort [numbers = 4000000] [seed = 1]`
//!
//! Prints a checksum of the sorted numbers, of all orders.
use guests::{CHECKSUM_START, Random, argument, extend_checksum, no_more_arguments, seed_argument};

fn quicksort(mut a: &mut [u64]) {
    // The smaller side by recursion, the other in the loop: no deeper than the logarithm.
    while a.len() > 16 {
        let (less, greater) = partition(a);
        let (left, rest) = a.split_at_mut(less);
        let right = &mut rest[greater - less..];
        let (small, large) = if left.len() < right.len() { (left, right) } else { (right, left) };
        quicksort(small);
        a = large;
    }
    for i in 1..a.len() {
        let moving = a[i];
        let place = a[..i].iter().rposition(|n| *n <= moving).map_or(0, |before| before + 1);
        a.copy_within(place..i, place + 1);
        a[place] = moving;
    }
}

/// Numbers below the pivot come first, then those equal to it, from the first result up to the second.
fn partition(a: &mut [u64]) -> (usize, usize) {
    let pivot = ninther(a);
    let (mut less, mut at, mut greater) = (0, 0, a.len());
    while at < greater {
        if a[at] < pivot {
            a.swap(less, at);
            less += 1;
            at += 1;
        } else if a[at] > pivot {
            greater -= 1;
            a.swap(at, greater);
        } else {
            at += 1;
        }
    }
    (less, greater)
}

/// The median of three medians of three.
fn ninther(a: &[u64]) -> u64 {
    let step = a.len() / 9;
    let three = |i: usize| median(a[i * step], a[(i + 1) * step], a[(i + 2) * step]);
    median(three(0), three(3), three(6))
}

fn median(a: u64, b: u64, c: u64) -> u64 {
    a.min(b).max(a.max(b).min(c))
}

fn main() {
    let count = argument(1, 4_000_000, 0..=100_000_000);
    let seed = seed_argument(2, 1);
    no_more_arguments(2);
    let mut numbers = Vec::with_capacity(count);
    numbers.extend(Random(seed).take(count));
    let mut sum = CHECKSUM_START;
    for order in ["random", "sorted", "reversed", "few different"] {
        match order {
            "reversed" => numbers.reverse(),
            "few different" => numbers.iter_mut().zip(Random(seed)).for_each(|(n, r)| *n = r % 1000),
            _ => {}
        }
        quicksort(&mut numbers);
        assert!(numbers.is_sorted(), "{order}: they are out of order");
        sum = extend_checksum(sum, numbers.iter().flat_map(|n| n.to_le_bytes()));
    }
    println!("quicksort {count} {seed}: {sum:016x}");
}
