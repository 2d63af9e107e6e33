//! Boards with several processors: tasks compute on them at the same time, and what one does to the memory that all have, to
//! page tables and to threads is never seen by another as anything but what it is on one processor.

use crate::support::Home;
use crate::support::board::{Board, TARGETS, alone, send, try_to_send};
use crate::support::cluster::{Node, PATIENCE, found, until, until_or};
use crate::support::module::{at, later};
use crate::support::steady::{PAUSE, SIZE, is_unbroken};
use std::time::{Duration, Instant};
use wasm_encoder::Instruction;

fn founder() -> Node {
    let mut a = Node::new("a");
    found(&mut a);
    a
}

/// A board with so many processors, all of which have come.
fn board<'n>(by: &'n Node, target: &str, processors: u8) -> Board<'n> {
    let mut board = Board::made(by, target, "board", "256M");
    board.processors = processors;
    board.switch_on();
    let told = || board.about()["processors"] == processors;
    until_or(&format!("{target}: {processors} processors"), PATIENCE, told, || board.about().to_string());
    board
}

/// Nanoseconds that a task has run on the board's processors.
fn ran(board: &Board<'_>, task: &str) -> u64 {
    let listed = board.by.run(&["stats", "--node", &board.name, "-o", "json"]).ok().stdout;
    let listed: Vec<serde_json::Value> = serde_json::from_str(&listed).unwrap();
    listed.iter().find(|t| t["name"] == task).map_or(0, |t| t["ran"].as_u64().unwrap())
}

/// A task that writes again and again.
fn start(node: &Node, name: &str, steps: &str) {
    node.start(name, &["--cpus", "0.1"], "steady", &[SIZE, steps, PAUSE]);
}

#[test]
fn tasks_run_at_the_same_time() {
    let _alone = alone();
    let programs: [(&str, &[&str]); 2] = [("sha256", &["300"]), ("npb_cg", &["A"])];
    for target in TARGETS {
        let a = founder();
        let board = board(&a, target, 2);
        for (name, args) in programs {
            a.start(name, &[], name, args);
            send(&a, name, "board", &["--mode", "stop"]);
        }
        let both = || programs.map(|(name, _)| ran(&board, name));
        let (began, before) = (Instant::now(), both());
        // One processor has no more of its time to give than passes.
        until(&format!("{target}: both run more than half of the time"), PATIENCE, || {
            let now = both();
            let passed = began.elapsed();
            let ran = [0, 1].map(|task| Duration::from_nanos(now[task] - before[task]));
            passed > Duration::from_secs(1) && ran.iter().all(|ran| *ran > passed.mul_f64(0.6))
        });
        for (name, args) in programs {
            send(&a, name, "a", &[]);
            a.wait(name, "exited");
            assert_eq!(a.output(name), a.home.plain(name, args), "{target}: {name}");
        }
    }
}

#[test]
fn moves_lose_nothing_that_is_written_meanwhile() {
    let _alone = alone();
    for target in TARGETS {
        let a = founder();
        let board = board(&a, target, 2);
        let names = ["one", "two"];
        names.iter().for_each(|name| start(&a, name, "100000"));
        for _ in 0..3 {
            for to in ["board", "a"] {
                for name in names {
                    let moved = || try_to_send(&a, name, to, &["--mode", "pre-copy"]).status == Some(0);
                    until(&format!("{target}: {name} comes to {to}"), PATIENCE, moved);
                }
                names.iter().for_each(|name| is_unbroken(&a.run(&["logs", name]).ok().stdout));
            }
        }
        names.iter().for_each(|name| is_unbroken(&a.output(name)));
        drop(board);
    }
}

#[test]
fn what_one_does_wrong_others_do_not_feel() {
    let _alone = alone();
    use Instruction as I;
    let read = [I::I32Const(-8), I::I32Load(at(0xffff_0000)), I::Drop];
    let divide = [I::I32Const(1), I::I32Const(0), I::I32DivS, I::Drop];
    let programs: [(&str, &[I<'_>]); 3] =
        [("unreachable", &[I::Unreachable]), ("out of bounds memory access", &read), ("divide by zero", &divide)];
    for target in TARGETS {
        let a = founder();
        let board = board(&a, target, 2);
        start(&a, "steady", "100000");
        send(&a, "steady", "board", &[]);
        for (number, (_, body)) in programs.iter().enumerate() {
            std::fs::write(a.home.path("it.wasm"), later(16, 3 << 29, body)).unwrap();
            a.run(&["run", "-d", "--name", &format!("wrong{number}"), "it.wasm"]).ok();
            send(&a, &format!("wrong{number}"), "board", &["--mode", "stop"]);
        }
        for (number, (what, _)) in programs.iter().enumerate() {
            let name = format!("wrong{number}");
            board.wait(&name, "trapped");
            let ended = board.tasks().into_iter().find(|t| t["name"] == *name).unwrap();
            assert!(ended["why"].as_str().unwrap().contains(what), "{target}: {what}: {ended}");
        }
        assert_eq!(board.state("steady"), "running");
        send(&a, "steady", "a", &[]);
        is_unbroken(&a.output("steady"));
    }
}

#[test]
fn tasks_that_come_and_end_at_the_same_time_leave_nothing() {
    let _alone = alone();
    const STEPS: &str = "150";
    let whole = Home::new().plain("steady", &[SIZE, STEPS, "0"]);
    for target in TARGETS {
        let a = founder();
        // An emulator of more than there are here takes long.
        let board = board(&a, target, if target == "x86_64" { 4 } else { 2 });
        let mut free = Vec::new();
        for round in 0..2 {
            let names: Vec<String> = (0..3).map(|number| format!("t{round}{number}")).collect();
            for name in &names {
                start(&a, name, STEPS);
            }
            std::thread::scope(|scope| {
                for name in &names {
                    let (a, target) = (&a, target);
                    scope.spawn(move || {
                        let sent = || try_to_send(a, name, "board", &["--mode", "stop"]).status == Some(0);
                        until(&format!("{target}: {name} comes"), PATIENCE, sent);
                    });
                }
            });
            for name in &names {
                board.wait(name, "exited");
                assert_eq!(a.output(name), whole, "{target}: {name}");
                a.run(&["rm", name, "--node", "board"]).ok();
            }
            free.push(board.free());
        }
        // What is kept for the next time is there after the first round.
        let (early, last) = (free[0], free[1]);
        assert!(last + (256 << 10) > early, "{target}: {free:?}");
    }
}
