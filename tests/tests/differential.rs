//! Random programs end as they would have without Wayfare, moved or not. `cargo run -p wayfare-tests --bin
//! soak` does the same without an end.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use wayfare_engine::THREAD_STACK;
use wayfare_tests::generate::{self, Flavour};
use wayfare_tests::oracle::{Verdict, check};

/// Programs to try, and how long at most: a slow machine tries fewer.
const SEEDS: u64 = 800;
const BUDGET: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Seen {
    same: u64,
    moved: u64,
    moves: u64,
    refused: BTreeMap<String, u64>,
    differ: Vec<String>,
}

#[test]
fn random_programs_do_not_notice_moves() {
    let (next, seen, began) = (AtomicU64::new(0), Mutex::new(Seen::default()), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            let worker = || {
                while began.elapsed() < BUDGET {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= SEEDS {
                        break;
                    }
                    let Some(wasm) = generate::module(seed, Flavour::of(seed)) else { continue };
                    let verdict = check(&wasm, seed);
                    let mut seen = seen.lock().expect("not poisoned");
                    match verdict {
                        Ok(Verdict::Same { moves, .. }) => {
                            seen.same += 1;
                            seen.moved += u64::from(moves > 0);
                            seen.moves += moves;
                        }
                        Ok(Verdict::Refused(reason)) => *seen.refused.entry(reason).or_default() += 1,
                        Err(e) => seen.differ.push(format!("seed {seed} ({:?}): {e}", Flavour::of(seed))),
                    }
                }
            };
            std::thread::Builder::new().stack_size(THREAD_STACK).spawn_scoped(scope, worker).expect("a thread");
        }
    });
    let seen = seen.into_inner().expect("not poisoned");
    println!("{} programs agree, {} of them moved, {} moves", seen.same, seen.moved, seen.moves);
    for (reason, n) in &seen.refused {
        println!("{n:>6} refused: {reason}");
    }
    assert!(seen.differ.is_empty(), "{} programs differ:\n{}", seen.differ.len(), seen.differ.join("\n"));
    assert!(seen.moved >= 30, "hardly any program was moved");
}
