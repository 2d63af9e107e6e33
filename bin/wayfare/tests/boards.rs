//! Machines without an operating system as nodes of a cluster, in QEMU: tasks move to them, between them and away, and end as
//! if they had never moved; whatever happens to a board happens to its tasks and to nobody else's.

mod support;

use support::board::{Board, TARGETS, send};
use support::cluster::{Node, found};

fn founder() -> Node {
    let mut a = Node::new("a");
    found(&mut a);
    a
}

/// One board of each kind.
fn boards(by: &Node) -> Vec<Board<'_>> {
    TARGETS.iter().map(|target| Board::with(by, target, &target.replace("_", "-"), "256M")).collect()
}

#[test]
fn real_programs_pass_through_all_kinds_of_boards() {
    let a = founder();
    let boards = boards(&a);
    let listed: Vec<serde_json::Value> = serde_json::from_str(&a.run(&["nodes", "-o", "json"]).ok().stdout).unwrap();
    for (board, isa) in boards.iter().zip(["x86_64", "aarch64", "riscv64gc"]) {
        let node = listed.iter().find(|n| n["name"] == board.name).unwrap();
        assert_eq!((&node["isa"], &node["system"]), (&isa.into(), &"bare metal".into()));
    }
    // A program, what makes it run for long, and what makes it run for some seconds here.
    let programs: [(&str, &[&str], &[&str]); 6] = [
        ("npb_cg", &["A"], &["A"]),
        ("npb_is", &["A"], &["A"]),
        ("npb_ep", &["A"], &["A"]),
        ("sqlite", &["4000000", "1"], &["400000", "1"]),
        ("lua", &["nqueens", "12"], &["nqueens", "10"]),
        ("sha256", &["30000"], &["300"]),
    ];
    for (name, long, args) in programs {
        // The boards have it compiled for themselves when it comes for the first time, and it must not end before.
        a.start("first", &[], name, long);
        for board in &boards {
            send(&a, "first", &board.name, &["--mode", "stop"]);
        }
        a.run(&["stop", "first"]).ok();
        let whole = a.home.plain(name, args);
        a.start(name, &[], name, args);
        // Here it would be over before its pages are there.
        send(&a, name, &boards[0].name, &["--mode", "stop"]);
        for board in &boards[1..] {
            send(&a, name, &board.name, &[]);
            assert_eq!(board.state(name), "running", "{name}");
        }
        send(&a, name, "a", &[]);
        a.wait(name, "exited");
        assert_eq!(a.output(name), whole, "{name}");
        for name in ["first", name] {
            a.run(&["rm", name]).ok();
        }
    }
}
