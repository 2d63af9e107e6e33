//! Everything that cannot be done is refused with one line and the right status, and nothing is lost by it.

use crate::support::{Home, guest};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

fn hello() -> String {
    guest("hello").display().to_string()
}

/// A module from its sections' bytes: `_start` of `body`, and imports.
fn module(imports: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let section = |id: u8, content: Vec<u8>| [vec![id, content.len() as u8], content].concat();
    let name = |n: &str| [vec![n.len() as u8], n.as_bytes().to_vec()].concat();
    let mut all = vec![imports.len() as u8];
    for (module, field) in imports {
        all.extend([name(module), name(field), vec![0, 0]].concat());
    }
    let code = [&[body.len() as u8 + 2, 0][..], body, &[0x0b]].concat();
    let export = [vec![1], name("_start"), vec![0, imports.len() as u8]].concat();
    [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, vec![1, 0x60, 0, 0]),
        section(2, all),
        section(3, vec![1, 0]),
        section(7, export),
        section(10, [vec![1], code].concat()),
    ]
    .concat()
}

/// A snapshot of a waiting task.
fn snapshot(home: &Home, file: &str) -> Vec<u8> {
    let mut task = home.start(&[], "blocked", &["read"]);
    task.hear("waiting\n");
    task.capture(file).is(75);
    std::fs::read(home.path(file)).unwrap()
}

#[test]
fn the_status_of_the_program_is_passed_on() {
    let home = Home::new();
    assert_eq!(home.output(["run", &hello(), "a b"]).ok().stdout, "hello from wayfare\nargument 1: a b\n");
    let greeting = home.output(["run", &hello(), "--env", "GREETING=hi"]).ok().stdout;
    assert_eq!(greeting, "hello from wayfare\ngreeting: hi\n");
    home.output(["run", guest("blocked").to_str().unwrap(), "--", "poll", "0"]).ok();
    home.output(["run", guest("fib").to_str().unwrap(), "--", "nonsense"]).is(2);
    // A time-out ends this one with 3.
    let mut waiting = home.wayfare(["run", guest("blocked").to_str().unwrap(), "poll", "10"]);
    let mut waiting = waiting.stdin(std::process::Stdio::piped()).spawn().unwrap();
    // Open but silent: `wait` would close it.
    let _silent = waiting.stdin.take();
    assert_eq!(waiting.wait().unwrap().code(), Some(3));
}

#[test]
fn a_trap_says_what_and_where() {
    let home = Home::new();
    std::fs::write(home.path("trap.wasm"), module(&[], &[0x00])).unwrap();
    let done = home.output(["run", "trap.wasm"]).is(134);
    assert!(done.stderr.starts_with("wayfare: trap trapped: "), "{done:?}");
    assert!(done.stderr.contains("unreachable") && done.stderr.lines().count() >= 2, "{done:?}");
}

#[test]
fn wrong_usage_is_2() {
    let home = Home::new();
    for args in [&["run"][..], &["frobnicate"], &[], &["run", "--nonsense", "x"], &["capture", "x"], &["bench", "x"]] {
        home.output(args).is(2);
    }
    for args in [&["--help"][..], &["--version"], &["run", "--help"], &["completions", "bash"]] {
        assert!(!home.output(args).ok().stdout.is_empty());
    }
    for command in ["run", "resume", "capture", "ps", "compile", "inspect", "bench", "completions"] {
        assert!(home.output([command, "--help"]).ok().stdout.contains("Examples:"), "{command}");
    }
}

#[test]
fn what_is_no_program_is_not_run() {
    let home = Home::new();
    let cases: &[(&str, &[u8], &str)] = &[
        ("empty", b"", "neither a WebAssembly module nor"),
        ("text.wat", b"(module)", "wat2wasm"),
        ("cut.wasm", b"\0asm\x01\0\0", "not a valid WebAssembly module"),
        ("damaged.wasm", b"\0asm\x01\0\0\0\x01\xff\x01\x01", "not a valid WebAssembly module"),
        ("component.wasm", b"\0asm\x0d\0\x01\0", "component"),
        ("no-start.wasm", b"\0asm\x01\0\0\0", "_start"),
        ("cut.img", b"WAYFIMG\n", "not a Wayfare image"),
        ("x.snap", b"WAYFSNAP", "wayfare resume"),
    ];
    for (name, bytes, expect) in cases {
        std::fs::write(home.path(name), bytes).unwrap();
        home.output(["run", name]).fails(expect);
    }
    home.output(["run", "missing.wasm"]).fails("missing.wasm: No such file");
    home.output(["run", "."]).fails("directory");
    home.output(["run", &hello(), "--dir", "missing::/x"]).fails("--dir missing: No such file");
    home.output(["run", &hello(), "--dir", "cut.img::/x"]).fails("not a directory");
    home.output(["run", &hello(), "--volume", "missing::/x"]).fails("--volume missing");
    let wrong = home.output(["run", &hello(), "--env", "X"]).is(2);
    assert!(wrong.stderr.contains("not NAME=VALUE"), "{}", wrong.stderr);
    home.output(["run", &hello(), "--name", "../x"]).fails("cannot be a task's name");
    home.output(["run", &hello(), "--target", "vax"]).fails("unknown target");
    home.output(["compile", &hello(), "-o", "missing/x.img"]).fails("cannot write missing/x.img");
    home.output(["compile", "cut.img"]).fails("not a WebAssembly module");
    assert_eq!(std::fs::read_dir(home.tasks()).map_or(0, Iterator::count), 0);
}

#[test]
fn all_unknown_imports_are_listed() {
    let home = Home::new();
    let imports = [("env", "first"), ("wasi_snapshot_preview1", "second"), ("other", "third")];
    std::fs::write(home.path("imports.wasm"), module(&imports, &[])).unwrap();
    home.output(["run", "imports.wasm"]).fails("env.first, wasi_snapshot_preview1.second, other.third");
    let shown = home.output(["inspect", "imports.wasm"]).ok().stdout;
    assert_eq!(shown.matches("not provided").count(), 3, "{shown}");
}

#[test]
fn a_damaged_snapshot_is_refused() {
    let home = Home::new();
    let good = snapshot(&home, "good.snap");
    let check = |bytes: &[u8], expect: &str| {
        std::fs::write(home.path("bad.snap"), bytes).unwrap();
        for command in [&["resume", "bad.snap"][..], &["snapshot", "verify", "bad.snap"]] {
            home.output(command).fails(expect);
        }
    };
    check(&good[..100], "too few for a snapshot");
    check(&good[..good.len() - 1], "copy is incomplete");
    check(&[&good[..], b"x"].concat(), "or has a tail");
    check(b"something else", "too few for a snapshot");
    check(&[b'x'; 500], "no Wayfare snapshot");
    for at in [20, good.len() / 2, good.len() - 1] {
        let mut bytes = good.clone();
        bytes[at] ^= 4;
        check(&bytes, "checksum");
    }
    let mut newer = good.clone();
    newer[8] = 9;
    check(&newer, "upgrade Wayfare here");
    home.output(["resume", "missing.snap"]).fails("missing.snap: No such file");
    home.output(["resume", &hello()]).fails("hello.wasm");
    // And the good one still is.
    home.output(["resume", "good.snap"]).ok();
}

#[test]
fn a_snapshot_is_resumed_with_its_own_program_only() {
    let home = Home::new();
    snapshot(&home, "a.snap");
    home.output(["resume", "a.snap", "--program", &hello()]).fails("another module");
    home.output(["resume", "a.snap", "--program", "missing.wasm"]).fails("missing.wasm");
    let blocked = guest("blocked").display().to_string();
    home.output(["resume", "a.snap", "--program", &blocked]).ok();

    // On a machine that has never seen it, and where it is not where it was.
    let elsewhere = Home::new();
    std::fs::copy(&blocked, home.path("gone.wasm")).unwrap();
    let mut task = home.spawn(["run", "gone.wasm", "read"]);
    task.hear("waiting\n");
    task.capture("b.snap").is(75);
    std::fs::remove_file(home.path("gone.wasm")).unwrap();
    std::fs::copy(home.path("b.snap"), elsewhere.path("b.snap")).unwrap();
    elsewhere.output(["resume", "b.snap"]).fails("give it with --program");
    elsewhere.output(["resume", "b.snap", "--program", &blocked]).ok();
    elsewhere.output(["resume", "b.snap"]).ok();
}

#[test]
fn an_image_that_cannot_be_trusted_is_made_again() {
    let home = Home::new();
    home.output(["run", &hello()]).ok();
    let images = home.cache().join("images");
    let image = std::fs::read_dir(&images).unwrap().next().unwrap().unwrap().path();
    let good = std::fs::read(&image).unwrap();
    let mut bent = good.clone();
    let middle = bent.len() / 2;
    bent[middle] ^= 1;
    for bad in [bent, good[..50].to_vec(), b"nonsense".to_vec(), Vec::new()] {
        std::fs::write(&image, &bad).unwrap();
        let done = home.output(["run", &hello()]).ok();
        assert_eq!(done.stdout, "hello from wayfare\n");
        assert!(done.stderr.contains("compiling it again") && done.stderr.lines().count() == 1, "{done:?}");
        assert_eq!(home.output(["run", &hello()]).ok().stderr, "");
    }
    // Another program's image under this one's name.
    home.output(["run", guest("fib").to_str().unwrap(), "--", "5"]).ok();
    let other = std::fs::read_dir(&images).unwrap().map(|e| e.unwrap().path()).find(|p| *p != image).unwrap();
    std::fs::copy(other, &image).unwrap();
    let done = home.output(["run", &hello()]).ok();
    assert!(done.stdout.starts_with("hello") && done.stderr.contains("another program"), "{done:?}");
    // Another key.
    std::fs::remove_file(home.data().join("image.key")).unwrap();
    let done = home.output(["run", &hello()]).ok();
    assert!(done.stderr.contains("compiling it again"), "{done:?}");
}

#[test]
fn an_image_as_the_program_is_run_if_it_is_ours() {
    let home = Home::new();
    home.output(["compile", &hello(), "-o", "hello.img"]).ok();
    assert_eq!(home.output(["run", "hello.img"]).ok().stdout, "hello from wayfare\n");
    home.output(["compile", &hello(), "--target", "aarch64"]).ok();
    home.output(["compile", &hello(), "--target", "pulley64"]).ok();
    // The module is kept, so that a foreign image is no obstacle here...
    let done = home.output(["run", "hello-aarch64.img"]).ok();
    assert!(done.stderr.contains("the image is for aarch64"), "{done:?}");
    // ...but elsewhere it is.
    let elsewhere = Home::new();
    for name in ["hello-aarch64.img", "hello.img"] {
        std::fs::copy(home.path(name), elsewhere.path(name)).unwrap();
        elsewhere.output(["run", name]).fails("signature");
    }
}

#[test]
fn a_capture_that_cannot_be_written_loses_nothing() {
    let home = Home::new();
    let mut task = home.start(&[], "blocked", &["read"]);
    task.hear("waiting\n");
    let capture = |options: &[&str]| home.output([&["capture", "blocked"][..], options].concat());
    capture(&["-o", "missing/x.snap"]).fails("cannot write");
    capture(&["-o", "/dev/full"]).fails("not a regular file");
    capture(&["-o", "x.snap", "--since", "missing.snap"]).fails("missing.snap");
    capture(&["-o", "x.snap", "--since", &hello()]).fails("hello.wasm");
    home.output(["capture", "nobody", "-o", "x.snap"]).fails("no task named nobody");
    // Of another program.
    let mut other = home.start(&[], "cat", &[]);
    other.say("x");
    other.hear("x");
    other.capture("cat.snap").is(75);
    capture(&["-o", "x.snap", "--since", "cat.snap"]).fails("module");
    let small = home.path("small");
    std::fs::create_dir(&small).unwrap();
    if let Some(mounted) = Tmpfs::new(&small) {
        for more in [&[][..], &["--keep-running"]] {
            capture(&[&["-o", "small/x.snap", "--compress", "none"], more].concat()).fails("No space left");
        }
        assert_eq!(std::fs::read_dir(&small).unwrap().count(), 0);
        drop(mounted);
    }
    assert!(!home.path("x.snap").exists());
    task.say("line\n");
    task.hear("1: line\n");
    assert_eq!(task.end().ok().stdout, "1 lines\n");
}

/// A file system of one page, where this is allowed.
struct Tmpfs<'a>(&'a Path);

impl<'a> Tmpfs<'a> {
    fn new(at: &'a Path) -> Option<Self> {
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=4k", "none"]).arg(at).output();
        mount.ok()?.status.success().then_some(Tmpfs(at))
    }
}

impl Drop for Tmpfs<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).output();
    }
}

#[test]
fn ps_lists_what_runs_and_forgets_what_died() {
    let home = Home::new();
    let list = || -> Vec<serde_json::Value> {
        let json = home.output(["ps", "-o", "json"]).ok().stdout;
        serde_json::from_str(&json).unwrap()
    };
    assert!(list().is_empty());
    let mut tasks: Vec<_> = (0..3).map(|_| home.start(&[], "blocked", &["read"])).collect();
    let names = || list().iter().map(|e| e["name"].as_str().unwrap().to_string()).collect::<Vec<_>>();
    assert_eq!(names(), ["blocked", "blocked-2", "blocked-3"]);
    assert_eq!(list()[0]["state"], "running");
    let text = home.output(["ps"]).ok().stdout;
    assert!(text.starts_with("NAME") && text.lines().count() == 4 && !text.contains('\x1b'), "{text}");
    home.output(["run", &hello(), "--name", "blocked-2"]).fails("already running");

    // Killed: it could not clean up after itself.
    tasks[1].child.kill().unwrap();
    tasks[1].child.wait().unwrap();
    assert!(home.tasks().join("blocked-2.sock").exists());
    assert_eq!(names(), ["blocked", "blocked-3"]);
    assert!(!home.tasks().join("blocked-2.sock").exists());
    home.output(["run", &hello(), "--name", "blocked-2"]).ok();
    for task in tasks.into_iter().step_by(2) {
        task.end().ok();
    }
    assert_eq!(std::fs::read_dir(home.tasks()).unwrap().count(), 0);
}

#[test]
fn a_program_that_cannot_be_moved_runs_if_that_is_wanted() {
    let home = Home::new();
    let mut wasm = module(&[], &[]);
    // A table of external references, which exist on their host only, after the function section.
    let at = wasm.windows(4).position(|w| w == [3, 2, 1, 0]).unwrap() + 4;
    wasm.splice(at..at, [4, 4, 1, 0x6f, 0, 0]);
    std::fs::write(home.path("fixed.wasm"), wasm).unwrap();
    home.output(["run", "fixed.wasm"]).fails("table 0: holds references other than functions");
    home.output(["run", "fixed.wasm", "--allow-unmovable"]).ok();
    // Now that the image is kept, too.
    home.output(["run", "fixed.wasm"]).fails("--allow-unmovable");
    assert!(home.output(["inspect", "fixed.wasm"]).ok().stdout.contains("movable  no"));
}

#[test]
fn inspect_shows_the_stack_and_its_values() {
    let home = Home::new();
    let task = home.start(&[], "fib", &["46"]);
    std::thread::sleep(Duration::from_millis(20));
    task.capture("fib.snap").is(75);
    let view: serde_json::Value =
        serde_json::from_str(&home.output(["inspect", "fib.snap", "-o", "json"]).ok().stdout).unwrap();
    let frames = view["frames"].as_array().unwrap();
    assert!(frames.len() > 5 && frames[0]["name"] == "_start", "{view:#}");
    assert_eq!(view["header"]["kind"], "full");
    assert!(view["header"]["work"].as_u64() > Some(0) && view["ran_ns"].as_u64() > Some(0), "{view:#}");
    let text = home.output(["inspect", "fib.snap"]).ok().stdout;
    for expect in [
        "call stack, innermost last",
        "_start  calling ",
        "fib  calling fib,",
        "memory 0",
        "stdout",
        "globals",
        "work",
        "ran for",
    ] {
        assert!(text.contains(expect), "{expect} is not in {text}");
    }
    assert!(!text.contains('\x1b'));
    let module = home.output(["inspect", guest("fib").to_str().unwrap()]).ok().stdout;
    for expect in ["movable    yes", "may be captured", "wasi_snapshot_preview1.fd_write"] {
        assert!(module.contains(expect), "{expect} is not in {module}");
    }
    home.output(["compile", guest("fib").to_str().unwrap(), "-o", "fib.img"]).ok();
    assert!(home.output(["inspect", "fib.img"]).ok().stdout.contains("by this user"));
    // Without the program there are no names, and that is said.
    let elsewhere = Home::new();
    std::fs::copy(home.path("fib.snap"), elsewhere.path("fib.snap")).unwrap();
    assert!(elsewhere.output(["inspect", "fib.snap"]).ok().stdout.contains("give it with --program"));
    let named = elsewhere.output(["inspect", "fib.snap", "--program", guest("fib").to_str().unwrap()]).ok();
    assert!(named.stdout.contains("_start  calling "));
    elsewhere.output(["inspect", "fib.snap", "--program", &hello()]).fails("another module");
}
