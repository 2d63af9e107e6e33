//! Prints what encoding and decoding cost against a plain copy, for contents that compressors love and hate.
//!
//! `cargo run --release -p wayfare-snapshot --example throughput [MiB]`

use std::hint::black_box;
use std::time::Instant;
use wayfare_snapshot::{
    Compression, Limits, MemoryState, Meta, PageRun, Snapshot, decode, encode, encode_into, encode_parts,
};

fn main() {
    let mib: usize = std::env::args().nth(1).and_then(|arg| arg.parse().ok()).unwrap_or(256);
    let len = mib << 20;
    println!("{mib} MiB of memory; GB/s of it, best of 5; ratio of time to a copy into a new vector\n");
    println!("{:<12}{:<26}{:>8}{:>8}{:>12}", "contents", "operation", "GB/s", "x copy", "bytes");
    for (name, bytes) in
        [("half zero", half_zero(len)), ("text", text(len)), ("floats", floats(len)), ("random", random(len))]
    {
        contents(name, &bytes);
    }
    scattered(&text(len));
}

fn contents(name: &str, bytes: &[u8]) {
    let snapshot = snapshot(vec![PageRun::bytes(0, bytes)], bytes.len());
    let copy = best(|| bytes.to_vec());
    report(name, "copy", bytes.len(), copy, copy, bytes.len());
    measure(name, &snapshot, bytes.len(), copy);
}

/// Every other page is dirty, as after a pre-copy round.
fn scattered(bytes: &[u8]) {
    let pages: Vec<_> = bytes.chunks(4096).enumerate().filter(|(number, _)| number % 2 == 0).collect();
    let copy = best(|| pages.iter().map(|(_, page)| *page).collect::<Vec<_>>().concat());
    let dirty = pages.len() * 4096;
    report("alternate", "copy", dirty, copy, copy, dirty);
    let runs = pages.iter().map(|(number, page)| PageRun::bytes(*number as u64, *page)).collect();
    measure("alternate", &snapshot(runs, bytes.len()), dirty, copy);
}

fn measure(name: &str, snapshot: &Snapshot<'_>, len: usize, copy: f64) {
    for (label, compression) in
        [("none", Compression::None), ("lz4", Compression::Lz4), ("zstd 3", Compression::Zstd(3))]
    {
        let mut bytes = Vec::new();
        let time = best(|| {
            bytes = Vec::new();
            bytes = encode(snapshot, compression).expect("a valid snapshot");
        });
        report(name, &format!("encode {label}"), len, time, copy, bytes.len());
        if compression == Compression::None {
            let time = best(|| encode_parts(snapshot, compression).expect("a valid snapshot"));
            report(name, "encode_parts none", len, time, copy, bytes.len());
            // A node that captures again and again keeps its buffer.
            let mut sink = Vec::with_capacity(bytes.len());
            let time = best(|| {
                sink.clear();
                encode_into(snapshot, compression, &mut sink).expect("a valid snapshot")
            });
            report(name, "encode_into, kept buffer", len, time, copy, bytes.len());
        }
        let time = best(|| decode(&bytes, &Limits::default()).expect("a valid snapshot"));
        report(name, &format!("decode {label}"), len, time, copy, bytes.len());
    }
    println!();
}

fn snapshot(runs: Vec<PageRun<'_>>, size: usize) -> Snapshot<'_> {
    let memories = vec![MemoryState { index: 0, size: size as u64, runs }];
    Snapshot { meta: Meta::default(), memories, ..Snapshot::default() }
}

/// Seconds of the fastest of five runs.
fn best<R>(mut work: impl FnMut() -> R) -> f64 {
    (0..5)
        .map(|_| {
            let start = Instant::now();
            let result = black_box(work());
            let time = start.elapsed().as_secs_f64();
            drop(result);
            time
        })
        .fold(f64::INFINITY, f64::min)
}

fn report(name: &str, operation: &str, len: usize, time: f64, copy: f64, bytes: usize) {
    println!("{name:<12}{operation:<26}{:>8.2}{:>8.2}{bytes:>12}", len as f64 / time / 1e9, time / copy);
}

fn random(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..len / 8).flat_map(|_| next().to_le_bytes()).collect()
}

fn half_zero(len: usize) -> Vec<u8> {
    let mut out = text(len);
    for (number, block) in out.chunks_mut(64 * 4096).enumerate() {
        if number % 2 == 0 {
            block.fill(0);
        }
    }
    out
}

fn text(len: usize) -> Vec<u8> {
    let words =
        "the of and task page moved while memory resume frame it was a in node link that delay with for".split(' ');
    let words: Vec<_> = words.collect();
    let mut out = Vec::with_capacity(len + 16);
    for number in random(len).chunks(2) {
        let number = usize::from(number[0]) * 256 + usize::from(number[1]);
        out.extend_from_slice(words[number % words.len()].as_bytes());
        out.extend_from_slice(if number % 97 == 0 { b".\n" } else { b" " });
        if out.len() >= len {
            break;
        }
    }
    out.resize(len, b' ');
    out
}

/// Doubles as a numeric program holds them: sign and exponent repeat, mantissas do not.
fn floats(len: usize) -> Vec<u8> {
    (0..len / 8).flat_map(|i| (1.0 + (i as f64 * 0.37).sin()).to_le_bytes()).collect()
}
