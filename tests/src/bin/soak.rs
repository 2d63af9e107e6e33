//! Tries random programs until it is stopped: `soak [--seed N] [--seconds N]`. Prints each seed that fails.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use wayfare_engine::THREAD_STACK;
use wayfare_tests::generate::{self, Flavour};
use wayfare_tests::oracle::{Verdict, check};

#[derive(Default)]
struct Counts {
    same: AtomicU64,
    refused: AtomicU64,
    moves: AtomicU64,
    failed: AtomicU64,
}

fn main() -> ExitCode {
    let (mut first, mut limit) = (0u64, None);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let number = args.next().and_then(|n| n.parse::<u64>().ok());
        match (arg.as_str(), number) {
            ("--seed", Some(n)) => first = n,
            ("--seconds", Some(n)) => limit = Some(Duration::from_secs(n)),
            _ => {
                eprintln!("usage: soak [--seed N] [--seconds N]");
                return ExitCode::from(2);
            }
        }
    }
    let (next, counts, began) = (AtomicU64::new(first), Counts::default(), Instant::now());
    let worker = || {
        while limit.is_none_or(|l| began.elapsed() < l) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let Some(wasm) = generate::module(seed, Flavour::of(seed)) else { continue };
            match check(&wasm, seed) {
                Ok(Verdict::Same { moves, .. }) => {
                    counts.same.fetch_add(1, Ordering::Relaxed);
                    counts.moves.fetch_add(moves, Ordering::Relaxed);
                }
                Ok(Verdict::Refused(_)) => {
                    counts.refused.fetch_add(1, Ordering::Relaxed);
                }
                Err(e) => {
                    counts.failed.fetch_add(1, Ordering::Relaxed);
                    println!("seed {seed} ({:?}): {e}", Flavour::of(seed));
                }
            }
            if seed % 1000 == 999 {
                report(seed, &counts);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            std::thread::Builder::new().stack_size(THREAD_STACK).spawn_scoped(scope, worker).expect("a thread");
        }
    });
    report(next.load(Ordering::Relaxed), &counts);
    if counts.failed.load(Ordering::Relaxed) == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn report(seed: u64, c: &Counts) {
    let n = |a: &AtomicU64| a.load(Ordering::Relaxed);
    println!(
        "up to seed {seed}: {} agree, {} moves, {} refused, {} differ",
        n(&c.same),
        n(&c.moves),
        n(&c.refused),
        n(&c.failed)
    );
}
