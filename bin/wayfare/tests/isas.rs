//! Real programs that go from back end to back end at random moments, and end as if they had stayed: native
//! code here, the interpreter, and AArch64 under QEMU, where `WAYFARE_AARCH64` says how to run Wayfare there
//! (`./x test` builds it).

mod support;

use std::fs::File;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use support::{Home, guest};

/// Where a task is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Native,
    Pulley,
    Aarch64,
}

/// Moves of each program, at most: one that ends before is started again.
const MOVES: usize = 6;

#[test]
fn sqlite() {
    roams("sqlite", &["60000"], "");
}

#[test]
fn sqlite_after_asyncify() {
    roams("sqlite-asyncify", &["30000"], "");
}

#[test]
fn lua() {
    roams("lua", &["bench", "4"], "");
    roams("lua", &["nqueens", "11"], "");
}

#[test]
fn quickjs() {
    roams("quickjs", &["bench", "4"], "");
}

#[test]
fn nas_kernels() {
    roams("npb_ep", &["S"], "");
    roams("npb_is", &["A"], "");
    roams("npb_cg", &["W"], "");
}

#[test]
fn sorting_hashing_and_compression_in_c_and_rust() {
    roams("sort", &["1000000"], "");
    roams("sha256", &["16"], "");
    roams("lz", &["16384", "1"], "");
    roams("rust-sort", &["1000000"], "");
    roams("rust-hash", &["400000"], "");
    roams("rust-compress", &["512", "2"], "");
}

#[test]
fn vectors_tail_calls_exceptions_and_function_pointers() {
    roams("simd", &["1200"], "");
    roams("tailcall", &["30000000"], "");
    roams("setjmp", &["500000"], "");
    roams("funcptr", &["6"], "");
}

#[test]
fn a_program_that_copies_its_input() {
    let lines: String = (0..30_000).map(|i| format!("{i} bottles of something\n")).collect();
    roams("cat", &["64"], &lines);
}

#[test]
fn a_program_that_writes_files_and_one_that_keeps_time() {
    let lines: String = (0..4000).map(|i| format!("line {i} of the input\n")).collect();
    roams("readwrite", &["/data", "8", "30"], &lines);
    roams("sleeper", &["12", "20"], "");
}

/// Runs a program here from beginning to end, then moves it about until it ends.
fn roams(name: &str, args: &[&str], input: &str) {
    let home = Home::new();
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let mut random = Random(std::env::var("WAYFARE_SEED").map_or(seed, |s| s.parse().unwrap()));
    let aarch64 = std::env::var_os("WAYFARE_AARCH64").is_some();
    let wasm = guest(name).display().to_string();
    home.output(["compile", &wasm, "-o", "native.img"]).ok();
    home.output(["compile", &wasm, "--target", "pulley64", "-o", "pulley.img"]).ok();
    if aarch64 {
        home.output(["compile", &wasm, "--target", "aarch64", "-o", "aarch64.img"]).ok();
    }
    let (volume, stdin) = (home.path("volume"), home.path("input"));
    std::fs::write(&stdin, input).unwrap();
    let command = |place: Place, words: &[&str]| {
        let image = match place {
            Place::Native => "native.img",
            Place::Pulley => "pulley.img",
            Place::Aarch64 => "aarch64.img",
        };
        let words = words.iter().map(|w| if *w == "IMAGE" { image } else { w });
        if place == Place::Aarch64 { home.elsewhere(words) } else { home.wayfare(words) }
    };
    let mounted = format!("{}::/data", volume.display());
    let start = [&["run", "--volume", &mounted, "IMAGE", "--"], args].concat();
    std::fs::create_dir(&volume).unwrap();
    let mut whole = command(Place::Native, &start);
    let expect = home.ended(whole.stdin(File::open(&stdin).unwrap())).ok().stdout;
    std::fs::remove_dir_all(&volume).unwrap();

    let mut moved = 0;
    for attempt in 0..5 {
        std::fs::create_dir(&volume).unwrap();
        // All processes read one open file: each goes on where the one before stopped.
        let input = File::open(&stdin).unwrap();
        let (mut place, mut got, mut way) = (Place::Native, String::new(), vec![Place::Native]);
        let mut task = home.begin(command(place, &start).stdin(input.try_clone().unwrap()));
        loop {
            let longest = if place == Place::Native { 60 } else { 400 };
            std::thread::sleep(Duration::from_millis(random.below(longest) / (attempt + 1)));
            let file = format!("{attempt}-{}.snap", way.len());
            if way.len() > MOVES || home.output(["capture", &task.name, "-o", &file]).status != Some(0) {
                break;
            }
            got += &task.end().is(75).stdout;
            place = match (place, random.below(2)) {
                (Place::Native | Place::Pulley, 0) if aarch64 => Place::Aarch64,
                (Place::Native, _) => Place::Pulley,
                _ => Place::Native,
            };
            way.push(place);
            let mut next = command(place, &["resume", &file, "--program", "IMAGE"]);
            task = home.begin(next.stdin(input.try_clone().unwrap()));
        }
        got += &task.end().ok().stdout;
        assert_eq!(got, expect, "{name}, seed {seed}, by way of {way:?}");
        std::fs::remove_dir_all(&volume).unwrap();
        moved = moved.max(way.len() - 1);
        if moved >= 2 {
            break;
        }
    }
    assert!(moved > 0, "{name} was never moved");
}

/// A linear congruential generator (Knuth's MMIX constants).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}
