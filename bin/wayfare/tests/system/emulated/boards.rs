//! Machines without an operating system as nodes of a cluster, in QEMU: tasks move to them, between them and away, and end as
//! if they had never moved; whatever happens to a board happens to its tasks and to nobody else's.

use crate::support::board::{Board, KVM, TARGETS, alone, send, try_to_send};
use crate::support::client::talk;
use crate::support::cluster::{Node, PATIENCE, found, free_port, until, until_or};
use crate::support::guest;
use crate::support::module::{at, later};
use crate::support::steady::{SIZE, is_unbroken, start};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use wasm_encoder::Instruction;

fn founder() -> Node {
    let mut a = Node::new("a");
    found(&mut a);
    a
}

/// One board of each kind.
fn boards(by: &Node) -> Vec<Board<'_>> {
    TARGETS.iter().map(|target| Board::new(by, target, &target.replace('_', "-"), "256M")).collect()
}

#[test]
fn real_programs_pass_through_all_kinds_of_boards() {
    let _alone = alone();
    let a = founder();
    let boards = boards(&a);
    let listed: Vec<serde_json::Value> = serde_json::from_str(&a.run(&["nodes", "-o", "json"]).ok().stdout).unwrap();
    for (board, isa) in boards.iter().zip(["x86_64", "aarch64", "riscv64gc"]) {
        let node = listed.iter().find(|n| n["name"] == board.name).unwrap();
        assert_eq!((&node["isa"], &node["system"]), (&isa.into(), &"bare metal".into()));
    }
    // A program, what makes it run for long if compiling it takes long, what makes it run for some seconds, and how it
    // moves between boards: one that would be over before its pages are there stands still meanwhile.
    let programs: [(&str, &[&str], &[&str], &str); 6] = [
        ("npb_cg", &[], &["A"], "pre-copy"),
        ("npb_is", &[], &["A"], "stop"),
        ("npb_ep", &[], &["A"], "pre-copy"),
        ("sqlite", &["2000", "1000000"], &["20000", "20"], "pre-copy"),
        ("lua", &["nqueens", "18"], &["nqueens", "12"], "pre-copy"),
        ("sha256", &[], &["300"], "pre-copy"),
    ];
    for (name, long, args, mode) in programs {
        if !long.is_empty() {
            a.start("first", &[], name, long);
            for board in &boards {
                send(&a, "first", &board.name, &["--mode", "stop"]);
            }
            a.run(&["stop", "first"]).ok();
            a.run(&["rm", "first"]).ok();
        }
        let whole = a.home.plain(name, args);
        a.start(name, &[], name, args);
        send(&a, name, &boards[0].name, &["--mode", "stop"]);
        for board in &boards[1..] {
            send(&a, name, &board.name, &["--mode", mode]);
            assert_eq!(board.state(name), "running", "{name}");
        }
        send(&a, name, "a", &[]);
        a.wait(name, "exited");
        assert_eq!(a.output(name), whole, "{name}");
        a.run(&["rm", name]).ok();
    }
}

/// On each kind of board, at the same time.
fn everywhere(test: impl Fn(&str) + Sync) {
    std::thread::scope(|scope| TARGETS.iter().for_each(|target| _ = scope.spawn(|| test(target))));
}

#[test]
fn what_a_task_does_wrong_ends_it_alone() {
    let _alone = alone();
    use Instruction as I;
    // Of 80 MiB, which it says it has, it touches all: alone on a board it may try.
    let fill = [I::I32Const(0), I::I32Const(1), I::I32Const(80 << 20), I::MemoryFill(0)];
    let read = [I::I32Const(-8), I::I32Load(at(0xffff_0000)), I::Drop];
    let programs: [(&str, &[I<'_>], bool); 3] = [
        ("unreachable", &[I::Unreachable], false),
        ("out of bounds memory access", &read, false),
        ("out of memory", &fill, true),
    ];
    everywhere(|target| {
        let a = founder();
        let board = Board::new(&a, target, "board", "64M");
        let mut free = 0;
        start(&a, "steady", "100000");
        for (what, body, alone) in programs {
            if !alone {
                send(&a, "steady", "board", &[]);
            }
            let pages = if alone { 80 * 16 } else { 16 };
            std::fs::write(a.home.path("it.wasm"), later(pages, 1 << 30, body)).unwrap();
            a.run(&["run", "-d", "--name", "wrong", "it.wasm"]).ok();
            // What has left is held until it is known to have arrived.
            let sent = || try_to_send(&a, "wrong", "board", &["--mode", "stop"]).status == Some(0);
            until(&format!("{target}: there is room"), PATIENCE, sent);
            until(&format!("{target}: it ends"), PATIENCE, || board.state("wrong") != "running");
            let ended = board.tasks().into_iter().find(|t| t["name"] == "wrong").unwrap();
            assert!(ended["why"].as_str().unwrap().contains(what), "{target}: {what}: {ended}");
            for node in ["board", "a"] {
                a.run(&["rm", "wrong", "--node", node]).ok();
            }
            if !alone {
                send(&a, "steady", "a", &[]);
            }
            is_unbroken(&a.output("steady"));
            // A board's heap keeps what it once had: what the first one took, the others find there.
            free = free.max(board.free());
        }
        send(&a, "steady", "board", &[]);
        send(&a, "steady", "a", &[]);
        is_unbroken(&a.output("steady"));
        // Programs are kept for the next time.
        let back = || board.free() + (4 << 20) > free;
        let tells = || format!("{} of {free} bytes are free", board.free());
        until_or(&format!("{target}: memory is given back"), PATIENCE, back, tells);
    });
}

#[test]
fn a_cable_may_be_pulled() {
    let _alone = alone();
    everywhere(|target| {
        let a = founder();
        let board = Board::new(&a, target, "board", "64M");
        start(&a, "t", "100000");
        send(&a, "t", "board", &[]);
        for _ in 0..2 {
            board.plug(false);
            a.run(&["ps", "--node", "board"]).fails("board was asked");
            let before = a.run(&["migrate", "t", "--to", "a"]);
            assert_eq!(before.status, Some(1), "{before:?}");
            board.plug(true);
            board.wait("t", "running");
            is_unbroken(&a.run(&["logs", "t"]).ok().stdout);
        }
        send(&a, "t", "a", &[]);
        is_unbroken(&a.output("t"));
        board.plug(false);
        try_to_send(&a, "t", "board", &[]).fails("stays where it is");
        board.plug(true);
        // It may still hold what it has not been told to have arrived.
        until("it takes it again", PATIENCE, || try_to_send(&a, "t", "board", &[]).status == Some(0));
        send(&a, "t", "a", &[]);
        is_unbroken(&a.output("t"));
    });
}

#[test]
fn a_hundred_moves_leave_nothing_behind() {
    let _alone = alone();
    everywhere(|target| {
        let a = founder();
        let board = Board::new(&a, target, "board", "64M");
        // It says little, as what it says is kept.
        a.start("t", &["--cpus", "0.1"], "steady", &[SIZE, "100000", "200"]);
        let mut free = Vec::new();
        for _ in 0..50 {
            send(&a, "t", "board", &[]);
            send(&a, "t", "a", &[]);
            free.push(board.free());
        }
        // What it keeps for the next time is there after a few.
        let (early, last) = (*free[5..15].iter().min().unwrap(), *free[40..].iter().max().unwrap());
        assert!(last + (128 << 10) > early, "{target}: {free:?}");
        is_unbroken(&a.output("t"));
    });
}

/// Where privileged code is interpreted, as some clouds' KVM does, each packet costs the agent more than a moment: nothing may
/// depend on its being faster than its own timers.
#[test]
fn a_task_comes_and_goes_by_kvm() {
    let _alone = alone();
    let a = founder();
    let hello = guest("hello");
    a.run(&["unikernel", "build", "--target", "x86_64", "--task", hello.to_str().unwrap(), "-o", "t.img"]).ok();
    let tried = a.run(&[&["unikernel", "run", "t.img", "--accel", "kvm", "--"][..], &KVM].concat());
    if tried.status != Some(0) {
        eprintln!("not tried: no KVM here runs a board: {}", tried.stderr);
        return;
    }
    let mut board = Board::made(&a, "x86_64", "board", "64M");
    board.use_kvm();
    board.switch_on();
    start(&a, "t", "100000");
    for options in [&[][..], &["--mode", "stop"]] {
        send(&a, "t", "board", options);
        send(&a, "t", "a", options);
    }
    is_unbroken(&a.output("t"));
}

#[test]
fn clients_of_a_service_do_not_notice_that_it_is_on_boards() {
    let _alone = alone();
    let a = founder();
    let boards = boards(&a);
    let port = free_port();
    a.start("echo", &["--publish", &port.to_string()], "echo", &[]);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..2).map(|_| scope.spawn(|| talk(port, &stop))).collect();
        let moves = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..2 {
                boards.iter().for_each(|board| _ = send(&a, "echo", &board.name, &[]));
                send(&a, "echo", "a", &[]);
            }
            send(&a, "echo", &boards[1].name, &[]);
        }));
        // Somebody who comes while it is there, and goes again.
        let (late, over) = (scope.spawn(|| talk(port, &stop)), AtomicBool::new(true));
        talk(port, &over);
        std::thread::sleep(Duration::from_millis(500));
        stop.store(true, Ordering::SeqCst);
        moves.unwrap();
        for client in clients {
            assert!(client.join().unwrap() > 100_000);
        }
        assert!(late.join().unwrap() > 0);
    });
    // When it ends there, its clients see the end, and the port is free.
    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    client.write_all(b"hello").unwrap();
    client.read_exact(&mut [0; 5]).unwrap();
    a.run(&["stop", "echo", "--node", &boards[1].name]).ok();
    let ended = client.read(&mut [0]);
    assert!(matches!(ended, Ok(0)) || ended.is_err_and(|e| e.kind() == ErrorKind::ConnectionReset));
    until("the port is free", PATIENCE, || TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[test]
fn what_a_board_cannot_do_is_refused_and_the_task_stays() {
    let _alone = alone();
    let a = founder();
    let board = Board::new(&a, "aarch64", "board", "16M");
    let refused = |options: &[&str], moved: &[&str], why: &str| {
        a.start("t", options, "steady", &["4", "100000", "10"]);
        let refused = try_to_send(&a, "t", "board", moved).fails("stays where it is");
        assert!(refused.stderr.contains(why), "{refused:?}");
        assert_eq!(a.state("t"), "running");
        a.run(&["stop", "t"]).ok();
        a.run(&["rm", "t"]).ok();
    };
    let shared = format!("{}::/data", a.home.path("").display());
    refused(&["--dir", &shared], &[], "a board has no directories");
    refused(&[], &["--mode", "post-copy"], "use --mode hybrid or pre-copy");
    start(&a, "t", "100000");
    send(&a, "t", "board", &[]);
    // Beside one that is there, what a task declares counts.
    a.start("large", &[], "steady", &["32", "100000", "10"]);
    let large = try_to_send(&a, "large", "board", &[]).fails("stays where it is");
    assert!(large.stderr.contains("KiB more there"), "{large:?}");
    assert_eq!(a.state("large"), "running");
    send(&a, "t", "a", &[]);
    a.run(&["node", "revoke", "board"]).ok();
    until("it is no member any more", PATIENCE, || try_to_send(&a, "t", "board", &[]).status != Some(0));
    is_unbroken(&a.output("t"));
    drop(board);
}
