//! Machines without an operating system as nodes of a cluster, in QEMU: tasks move to them, between them and away, and end as
//! if they had never moved; whatever happens to a board happens to its tasks and to nobody else's.

mod support;

use support::board::{Board, TARGETS, breathe, send, try_to_send};
use support::cluster::{Node, found};

fn founder() -> Node {
    let mut a = Node::new("a");
    found(&mut a);
    a
}

/// One board of each kind.
fn boards(by: &Node) -> Vec<Board<'_>> {
    TARGETS.iter().map(|target| Board::new(by, target, &target.replace('_', "-"))).collect()
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
    let programs: [(&str, &[&str]); 6] = [
        ("npb_cg", &["A"]),
        ("npb_is", &["A"]),
        ("npb_ep", &["A"]),
        ("sqlite", &["400000", "1"]),
        ("lua", &["nqueens", "10"]),
        ("sha256", &["300"]),
    ];
    for (name, args) in programs {
        let whole = a.home.plain(name, args);
        // Slowed down, so that it is not over before its pages are there.
        a.start(name, &["--cpus", "0.1"], name, args);
        for board in &boards {
            send(&a, name, &board.name);
            assert_eq!(board.state(name), "running");
        }
        send(&a, name, "a");
        a.wait(name, "exited");
        assert_eq!(a.output(name), whole, "{name}");
        a.run(&["rm", name]).ok();
    }
}
