//! Real programs that go from back end to back end at random moments, and end as if they had stayed: native
//! code here, the interpreter, and AArch64 under QEMU, where `WAYFARE_AARCH64` says how to run Wayfare there
//! (`./x test` builds it).

use crate::support::{Home, guest};
use std::fs::File;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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
fn programs_of_the_thesis() {
    roams("queens", &["12"], "");
    roams("dynprog", &["6000"], "");
    roams("huffman", &["4"], "");
    roams("matrix", &["400"], "");
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

/// Recursion, tables, strings, errors that are caught, coroutines; then waits for a script from its input.
const SCRIPT: &str = r#"
local function place(n, row, taken)
  if row > n then return 1 end
  local ways = 0
  for c = 1, n do
    if not (taken[c] or taken[row + c + 100] or taken[row - c + 200]) then
      taken[c], taken[row + c + 100], taken[row - c + 200] = true, true, true
      ways = ways + place(n, row + 1, taken)
      taken[c], taken[row + c + 100], taken[row - c + 200] = nil, nil, nil
    end
  end
  return ways
end
local caught, words = 0, {}
for i = 1, 3000 do
  if not pcall(function(x) if x % 3 == 0 then error({ x }) end return x end, i) then caught = caught + 1 end
  words[#words + 1] = ("%05d"):format(i * 7919 % 3001):rep(i % 5)
end
table.sort(words)
local numbers = coroutine.wrap(function() for i = 1, 20000 do coroutine.yield(i) end end)
local sum = 0
for i = 1, 20000 do sum = sum + numbers() end
print(place(8, 1, {}), caught, #table.concat(words), sum)
loadfile()
"#;

#[test]
fn work_done_is_the_same_number_on_every_machine_and_by_every_way() {
    use Place::{Aarch64, Native, Pulley};
    let home = Home::new();
    images(&home, "lua");
    let volume = home.path("volume");
    std::fs::create_dir(&volume).unwrap();
    std::fs::write(volume.join("script.lua"), SCRIPT).unwrap();
    let mounted = format!("{}::/data", volume.display());
    let mut ways = vec![vec![Native], vec![Pulley], vec![Native, Pulley, Native, Native, Pulley]];
    if std::env::var_os("WAYFARE_AARCH64").is_some() {
        ways.extend([vec![Aarch64], vec![Native, Aarch64, Native, Aarch64, Pulley]]);
    }
    let mut works = Vec::new();
    for (i, way) in ways.iter().enumerate() {
        let start = ["run", "--volume", &mounted, "IMAGE", "--", "/data/script.lua"];
        let mut task = home.begin(on(&home, way[0], &start).stdin(Stdio::piped()));
        let mut captures = 0;
        let work = loop {
            // Until the end of its way it is captured as soon as it may be, then once it has come to where it waits.
            let left = way.len() > captures + 1;
            std::thread::sleep(Duration::from_millis(if left { 20 } else { 1000 }));
            let file = format!("{i}-{captures}.snap");
            task.capture(&file).is(75);
            let view = home.output(["inspect", &file, "--program", guest("lua").to_str().unwrap(), "-o", "json"]).ok();
            let view: serde_json::Value = serde_json::from_str(&view.stdout).unwrap();
            let innermost = view["frames"].as_array().unwrap().last().unwrap();
            let work = view["header"]["work"].as_u64().unwrap();
            if innermost["point"] == "host_call" {
                break work;
            }
            captures += 1;
            let place = *way.get(captures).unwrap_or(way.last().unwrap());
            task = home.begin(on(&home, place, &["resume", &file, "--program", "IMAGE"]).stdin(Stdio::piped()));
        };
        works.push((way, captures, work));
    }
    assert!(works.iter().all(|(_, captures, _)| *captures < 100), "{works:?}");
    assert!(works.iter().all(|(_, _, work)| *work == works[0].2 && *work > 100_000), "{works:?}");
}

/// Compiles a guest for each place where it can be.
fn images(home: &Home, name: &str) {
    let wasm = guest(name).display().to_string();
    home.output(["compile", &wasm, "-o", "native.img"]).ok();
    home.output(["compile", &wasm, "--target", "pulley64", "-o", "pulley.img"]).ok();
    if std::env::var_os("WAYFARE_AARCH64").is_some() {
        home.output(["compile", &wasm, "--target", "aarch64", "-o", "aarch64.img"]).ok();
    }
}

/// A command of a place's own Wayfare, in which `IMAGE` is the image for there.
fn on(home: &Home, place: Place, words: &[&str]) -> Command {
    let image = match place {
        Place::Native => "native.img",
        Place::Pulley => "pulley.img",
        Place::Aarch64 => "aarch64.img",
    };
    let words = words.iter().map(|w| if *w == "IMAGE" { image } else { w });
    if place == Place::Aarch64 { home.elsewhere(words) } else { home.wayfare(words) }
}

/// Runs a program here from beginning to end, then moves it about until it ends.
fn roams(name: &str, args: &[&str], input: &str) {
    let home = Home::new();
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let mut random = Random(std::env::var("WAYFARE_SEED").map_or(seed, |s| s.parse().unwrap()));
    let aarch64 = std::env::var_os("WAYFARE_AARCH64").is_some();
    images(&home, name);
    let (volume, stdin) = (home.path("volume"), home.path("input"));
    std::fs::write(&stdin, input).unwrap();
    let command = |place: Place, words: &[&str]| on(&home, place, words);
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
        let mut task = home.try_begin(command(place, &start).stdin(input.try_clone().unwrap()));
        let last = loop {
            // On a busy machine the rest of it may be over before it is seen.
            let running = match task {
                Ok(running) => running,
                Err(done) => break done,
            };
            let longest = if place == Place::Native { 60 } else { 400 };
            std::thread::sleep(Duration::from_millis(random.below(longest) / (attempt + 1)));
            let file = format!("{attempt}-{}.snap", way.len());
            if way.len() > MOVES || home.output(["capture", &running.name, "-o", &file]).status != Some(0) {
                break running.end();
            }
            got += &running.end().is(75).stdout;
            place = match (place, random.below(2)) {
                (Place::Native | Place::Pulley, 0) if aarch64 => Place::Aarch64,
                (Place::Native, _) => Place::Pulley,
                _ => Place::Native,
            };
            way.push(place);
            let mut next = command(place, &["resume", &file, "--program", "IMAGE"]);
            task = home.try_begin(next.stdin(input.try_clone().unwrap()));
        };
        got += &last.ok().stdout;
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
