//! A machine without an operating system, in QEMU: programs end there as here, what a program does wrong ends that
//! program and not the machine, and bad input is refused.
//!
//! `./x test` builds the kernel, and puts it beside the program.

use crate::support::board::TARGETS;
use crate::support::module::{EXIT, START, at, module};
use crate::support::{Done, Home, guest};
use std::path::Path;
use wasm_encoder::{BlockType, Instruction};

/// What `wayfare run` and `wayfare unikernel run` say of a task that trapped.
const TRAPPED: i32 = 134;

fn build(home: &Home, target: &str, wasm: &Path, args: &[&str]) -> Done {
    let mut all = vec!["unikernel".as_ref(), "build".as_ref(), "--target".as_ref(), target.as_ref(), "--task".as_ref()];
    all.extend([wasm.as_os_str(), "-o".as_ref(), "node.img".as_ref(), "--".as_ref()]);
    all.extend(args.iter().map(std::ffi::OsStr::new));
    home.output(all)
}

/// Every one of these on every target.
fn everywhere<T>(all: impl IntoIterator<Item = T, IntoIter: Clone>) -> impl Iterator<Item = (&'static str, T)> {
    let all = all.into_iter();
    TARGETS.into_iter().flat_map(move |target| all.clone().map(move |one| (target, one)))
}

fn boot(home: &Home, memory: &str) -> Done {
    home.output(["unikernel", "run", "node.img", "--memory", memory])
}

#[test]
fn programs_end_as_here() {
    let programs: [(&str, &[&str]); 10] = [
        ("hello", &[]),
        ("fib", &["24"]),
        ("sha256", &["2"]),
        ("npb_cg", &["S"]),
        ("sqlite", &["1000", "1"]),
        ("binary-trees", &["9"]),
        ("setjmp", &["200000"]),
        ("funcptr", &["6"]),
        ("rust-hash", &[]),
        ("lua", &["nqueens", "6"]),
    ];
    let home = Home::new();
    for (target, (name, args)) in everywhere(programs) {
        build(&home, target, &guest(name), args).ok();
        let there = boot(&home, "128M");
        let done = (there.status, &there.stdout);
        assert_eq!(done, (Some(0), &home.plain(name, args)), "{target}: {name}: {}", there.stderr);
    }
}

#[test]
fn captured_programs_go_on() {
    let home = Home::new();
    for (target, (name, args)) in everywhere([("sha256", &["200"]), ("npb_cg", &["A"]), ("sqlite", &["60000"])]) {
        let whole = home.plain(name, args);
        let task = home.start(&[], name, args);
        std::thread::sleep(std::time::Duration::from_millis(100));
        let before = task.capture("task.snap").stdout;
        let path = guest(name);
        let from = ["--snapshot".as_ref(), "task.snap".as_ref(), "-o".as_ref(), "node.img".as_ref()];
        let build = ["unikernel".as_ref(), "build".as_ref(), "--target".as_ref(), target.as_ref(), "--task".as_ref()];
        home.output(build.into_iter().chain([path.as_os_str()]).chain(from)).ok();
        let after = boot(&home, "256M");
        assert_eq!((after.status, before + &after.stdout), (Some(0), whole), "{target}: {name}: {}", after.stderr);
    }
}

#[test]
fn what_a_program_does_wrong_ends_it_alone() {
    use Instruction as I;
    let unbounded = [I::Call(START)];
    let load = |address: i32, offset| [I::I32Const(address), I::I32Load(at(offset)), I::Drop];
    let store = |address: i32, offset| [I::I32Const(address), I::I32Const(1), I::I32Store(at(offset))];
    let programs: [(&str, &str, &[I<'_>]); 9] = [
        ("unreachable", "unreachable", &[I::Unreachable]),
        ("a read past its memory", "out of bounds memory access", &load(65536, 0)),
        ("a read far past it", "out of bounds memory access", &load(-8, 0xffff_ff00)),
        ("a write past its memory", "out of bounds memory access", &store(65533, 0)),
        ("a write far past it", "out of bounds memory access", &store(-1, 0x7fff_ffff)),
        ("a division by zero", "integer divide by zero", &[I::I32Const(1), I::LocalGet(0), I::I32DivS, I::Drop]),
        (
            "a call of nothing",
            "uninitialized element",
            &[I::I32Const(1), I::CallIndirect { type_index: 0, table_index: 0 }],
        ),
        (
            "a call of another type",
            "indirect call type mismatch",
            &[I::I32Const(0), I::CallIndirect { type_index: 0, table_index: 0 }],
        ),
        ("calls without end", "call stack exhausted", &unbounded),
    ];
    let home = Home::new();
    for (target, (what, reason, body)) in everywhere(programs) {
        let path = home.path("wrong.wasm");
        std::fs::write(&path, module(1, body)).unwrap();
        build(&home, target, &path, &[]).ok();
        let ended = boot(&home, "512M");
        assert_eq!(ended.status, Some(TRAPPED), "{target}: {what}: {}{}", ended.stdout, ended.stderr);
        assert!(ended.stdout.contains(reason), "{target}: {what}: {}", ended.stdout);
    }
}

#[test]
fn a_program_s_own_status_is_given() {
    use Instruction as I;
    let home = Home::new();
    for (target, (status, given)) in everywhere([(0, 0), (1, 1), (42, 42), (124, 124), (125, 124), (255, 124)]) {
        let path = home.path("exit.wasm");
        std::fs::write(&path, module(1, &[I::I32Const(status), I::Call(EXIT)])).unwrap();
        build(&home, target, &path, &[]).ok();
        assert_eq!(boot(&home, "16M").status, Some(given));
    }
}

#[test]
fn memory_that_is_not_there() {
    use Instruction as I;
    let home = Home::new();
    let path = home.path("memory.wasm");
    // Asks for 1 MiB after another until there is no more: its status is how often it got it.
    let grow = [
        I::Loop(BlockType::Empty),
        I::I32Const(16),
        I::MemoryGrow(0),
        I::I32Const(-1),
        I::I32Ne,
        I::If(BlockType::Empty),
        // Takes it, too.
        I::MemorySize(0),
        I::I32Const(16),
        I::I32Sub,
        I::I32Const(16),
        I::I32Shl,
        I::I32Const(1),
        I::I32Const(1 << 20),
        I::MemoryFill(0),
        I::LocalGet(0),
        I::I32Const(1),
        I::I32Add,
        I::LocalSet(0),
        I::Br(1),
        I::End,
        I::End,
        I::LocalGet(0),
        I::Call(EXIT),
    ];
    // Of what it begins with more than there is: it ends at the first page that is not there.
    let fill = [I::I32Const(0), I::I32Const(1), I::I32Const(48 << 20), I::MemoryFill(0)];
    for target in TARGETS {
        std::fs::write(&path, module(1, &grow)).unwrap();
        build(&home, target, &path, &[]).ok();
        let grown = boot(&home, "32M");
        let times = grown.status;
        assert!(times.is_some_and(|times| (20..32).contains(&times)), "{target}: {times:?}: {}", grown.stdout);
        std::fs::write(&path, module(1024, &fill)).unwrap();
        build(&home, target, &path, &[]).ok();
        let filled = boot(&home, "32M");
        assert_eq!(filled.status, Some(TRAPPED), "{target}: {}{}", filled.stdout, filled.stderr);
        assert!(filled.stdout.contains("out of memory"), "{target}: {}", filled.stdout);
        assert_eq!(boot(&home, "128M").status, Some(0), "{target}");
    }
}

#[test]
fn bad_input_is_refused() {
    let home = Home::new();
    let refused = |done: Done, status: i32, words: &str| {
        assert_eq!(done.status, Some(status), "{}", done.stderr);
        assert!(done.stderr.contains(words), "{}", done.stderr);
    };
    let target = |target| ["unikernel", "build", "--target", target, "--task", "a.wasm", "-o", "a.img"];
    refused(home.output(target("vax")), 1, "vax: there is no kernel for this target");
    refused(home.output(target("x86_64")), 1, "a.wasm");
    std::fs::write(home.path("a.wasm"), "text").unwrap();
    refused(home.output(target("x86_64")), 1, "neither a WebAssembly module nor");
    std::fs::write(home.path("a.wasm"), module(1, &[])).unwrap();
    let kernel = |kernel| home.output(target("x86_64").into_iter().chain(["--kernel", kernel]));
    refused(kernel("none.elf"), 1, "cannot read none.elf");
    refused(kernel("a.wasm"), 1, "not a Wayfare kernel");
    home.output(target("x86_64")).ok();
    refused(kernel("a.img"), 1, "has a payload already");
    let node = ["unikernel", "build", "--target", "x86_64", "-o", "node.img"];
    let with = |more: &[&'static str]| home.output(node.iter().chain(more));
    refused(with(&["--join", "nonsense"]), 1, "TOKEN@ADDRESS");
    refused(with(&["--join", "nonsense@127.0.0.1:1"]), 1, "token");
    refused(with(&["--join", "nonsense@127.0.0.1:1", "--task", "a.wasm"]), 2, "cannot be used with");
    refused(with(&["--name", "board"]), 2, "--join");
    refused(with(&["--env", "A=B"]), 2, "--task");
    with(&[]).ok();
    refused(home.output(["unikernel", "run", "node.img"]), 1, "belongs to no cluster");
    refused(home.output(["unikernel", "run", "node.img", "--join", "nonsense"]), 1, "TOKEN@ADDRESS");
    refused(home.output(["unikernel", "run", "a.img", "--join", "x@y"]), 1, "has a payload already");
    refused(home.output(["unikernel", "run", "a.img", "--cpus", "9"]), 2, "--cpus");
    // There are no vector registers.
    refused(build(&home, "riscv64", &guest("simd"), &[]), 1, "SIMD support is not enabled");
    std::fs::write(home.path("a.snap"), "text").unwrap();
    let from = |file: &'static str| home.output(target("x86_64").into_iter().chain(["--snapshot", file]));
    refused(from("none.snap"), 1, "none.snap");
    refused(from("a.snap"), 1, "a.snap");
    refused(home.output(["unikernel", "run", "none.img"]), 1, "cannot read none.img");
    refused(home.output(["unikernel", "run", "a.wasm"]), 1, "not an image");
    refused(home.output(["unikernel", "run", "a.img", "--memory", "1M"]), 2, "at least 4 MiB");
    refused(home.output(["unikernel", "run", "a.img", "--memory", "much"]), 2, "much");
}

#[test]
fn a_damaged_image_starts_nothing() {
    let home = Home::new();
    for target in TARGETS {
        build(&home, target, &guest("hello"), &[]).ok();
        let mut image = std::fs::read(home.path("node.img")).unwrap();
        let last = image.len() - 1;
        image[last] ^= 1;
        std::fs::write(home.path("node.img"), image).unwrap();
        let done = boot(&home, "32M");
        assert_eq!(done.status, Some(TRAPPED), "{target}: {}", done.stdout);
        assert!(done.stdout.contains("the payload is damaged"), "{target}: {}", done.stdout);
    }
}
