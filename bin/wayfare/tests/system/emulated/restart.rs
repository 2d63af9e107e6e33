//! Boards that fail: they are reset, join again without anybody's help, and the cluster knows why. Each fails for real, in
//! QEMU, because its command line says so.

use crate::support::board::{Board, TARGETS, alone, send};
use crate::support::cluster::{Node, PATIENCE, found, until, until_or};
use crate::support::steady::{is_unbroken, start, unmoved};
use crate::support::{Done, Home, guest};
use serde_json::Value;
use std::time::Duration;

fn founder() -> Node {
    let mut a = Node::new("a");
    found(&mut a);
    a
}

/// Why a node was reset, as one that is asked tells it.
fn restarted(asked: &Node, options: &[&str], node: &str) -> Option<Value> {
    let listed = asked.run(&[&["nodes", "-o", "json"], options].concat()).ok().stdout;
    let listed: Vec<Value> = serde_json::from_str(&listed).unwrap();
    let found = listed.into_iter().find(|listed| listed["name"] == node);
    found.and_then(|node| node.get("restarted").cloned())
}

/// One board of each kind fails so often as soon as it has joined.
fn fails(how: &str, more: &[&str], times: usize, part: &str, said: &str) {
    let _alone = alone();
    unmoved();
    let check = |target: &str| {
        let a = founder();
        let mut board = Board::made(&a, target, "board", "64M");
        let (how, times_text) = (format!("wayfare.fail={how}"), format!("wayfare.fail-times={times}"));
        [how.as_str(), times_text.as_str()].iter().chain(more).for_each(|word| board.append(word));
        board.switch_on();
        board.wait_joined(times + 1);
        let known = || restarted(&a, &[], "board").is_some_and(|why| why["times"] == times);
        until_or(&format!("{target}: the cluster knows"), PATIENCE, known, || board.log());
        let why = restarted(&a, &[], "board").unwrap();
        assert_eq!(why["part"], part, "{target}: {why}");
        assert!(why["text"].as_str().unwrap().contains(said), "{target}: {why}");
        let listed = a.run(&["nodes"]).ok().stdout;
        assert!(listed.contains("board restarted ") && listed.contains(said), "{target}: {listed}");
        // Whoever fails again waits for longer.
        let pauses: Vec<_> = (0..times).map(|time| format!("the machine is reset in {} s", 1 << time)).collect();
        let log = board.log();
        assert!(pauses.iter().all(|pause| log.matches(pause).count() == 1), "{target}: {log}");
        assert!(a.log().contains("restarted: "), "{target}: {}", a.log());
        // It is a board like any other.
        start(&a, "t", "100000");
        send(&a, "t", "board", &[]);
        send(&a, "t", "a", &[]);
        is_unbroken(&a.output("t"));
        // What it was reset for it tells once: the next time nothing had failed.
        assert!(restarted(&a, &["--node", "board"], "board").is_some());
        assert_eq!(board.log().matches("it was reset").count(), times);
    };
    std::thread::scope(|scope| TARGETS.iter().for_each(|target| _ = scope.spawn(|| check(target))));
}

#[test]
fn a_board_whose_agent_fails_comes_back_and_says_why() {
    fails("agent", &[], 1, "agent", "wayfare.fail says so");
}

#[test]
fn a_board_whose_kernel_fails_comes_back_and_says_why() {
    fails("kernel", &[], 2, "kernel", "wayfare.fail says so");
}

#[test]
fn a_board_that_hangs_comes_back_and_says_so() {
    fails("hang", &["wayfare.watchdog=5"], 1, "watchdog", "nothing was heard of the agent for 5 s");
}

#[test]
fn a_reset_without_a_failure_is_none() {
    let _alone = alone();
    let check = |target: &str| {
        let a = founder();
        let mut board = Board::made(&a, target, "board", "64M");
        ["wayfare.fail=agent", "wayfare.fail-times=1"].iter().for_each(|word| board.append(word));
        board.switch_on();
        board.wait_joined(2);
        until("the cluster knows", PATIENCE, || restarted(&a, &[], "board").is_some());
        // As somebody presses a button. It fails again, and for the first time in a row.
        board.monitor("system_reset");
        board.wait_joined(4);
        let known = || restarted(&a, &["--node", "board"], "board").is_some();
        until_or(&format!("{target}: the board knows"), PATIENCE, known, || board.log());
        let why = restarted(&a, &["--node", "board"], "board").unwrap();
        assert_eq!(why["times"], 1, "{target}: {}", board.log());
        assert_eq!(board.log().matches("it was reset").count(), 2, "{target}: {}", board.log());
    };
    std::thread::scope(|scope| TARGETS.iter().for_each(|target| _ = scope.spawn(|| check(target))));
}

#[test]
fn a_machine_that_is_not_run_for_a_while_has_not_failed() {
    let _alone = alone();
    unmoved();
    let check = |target: &str| {
        let a = founder();
        let mut board = Board::made(&a, target, "board", "64M");
        board.append("wayfare.watchdog=5");
        board.switch_on();
        start(&a, "t", "100000");
        send(&a, "t", "board", &[]);
        board.hold(Duration::from_secs(12));
        board.wait("t", "running");
        send(&a, "t", "a", &[]);
        is_unbroken(&a.output("t"));
        assert!(!board.log().contains("watchdog"), "{target}: {}", board.log());
    };
    std::thread::scope(|scope| TARGETS.iter().for_each(|target| _ = scope.spawn(|| check(target))));
}

#[test]
fn a_machine_with_one_task_ends_when_it_fails() {
    let _alone = alone();
    let home = Home::new();
    let wasm = guest("hello");
    for target in TARGETS {
        let build = ["unikernel", "build", "--target", target, "-o", "it.img", "--task", wasm.to_str().unwrap()];
        home.output(build).ok();
        let run = |how: &str| -> Done {
            home.output(["unikernel", "run", "it.img", "--memory", "32M", "--append", &format!("wayfare.fail={how}")])
        };
        for how in ["agent", "kernel"] {
            let done = run(how).fails("the machine failed");
            assert!(done.stdout.contains("wayfare.fail says so"), "{target}, {how}: {done:?}");
            assert!(!done.stdout.contains("reset"), "{target}, {how}: {done:?}");
        }
        assert_eq!(run("otherwise").ok().stdout, home.plain("hello", &[]), "{target}");
    }
}
