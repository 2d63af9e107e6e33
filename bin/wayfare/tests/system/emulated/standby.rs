//! Boards as standbys: a task goes on there when its node, or the way to it, is gone, and goes home by itself; in the end one
//! node has it, and a task that is kept up to date on another node again.

use crate::support::board::{Board, alone};
use crate::support::client::talk;
use crate::support::cluster::{Node, PATIENCE, found, free_port, join, until};
use crate::support::link::slow;
use crate::support::steady::{goes_on, is_unbroken, start};
use serde_json::Value;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use wayfare_sim::proxy::Proxy;

const TASK: &str = "t";

/// A node that is there all the time, and one that may fail.
fn nodes() -> (Node, Node) {
    let (mut c, mut a) = (Node::new("c"), Node::new("a"));
    found(&mut c);
    join(&c, &mut a);
    a.serve();
    (c, a)
}

fn board(by: &Node) -> Board<'_> {
    Board::new(by, "x86_64", "board", "64M")
}

/// A task and its standby, as a board sees them.
fn pair(board: &Board<'_>, task: &str) -> Option<Value> {
    let listed = board.by.run(&["protected", "--node", &board.name, "-o", "json"]).ok().stdout;
    let all: Vec<Value> = serde_json::from_str(&listed).unwrap();
    all.into_iter().find(|pair| pair["name"] == task)
}

fn syncs(node: &Node, task: &str) -> u64 {
    let pair = node.pair(task).filter(|pair| pair["role"] == "primary");
    pair.map_or(0, |pair| pair["sync"].as_u64().unwrap())
}

fn output(board: &Board<'_>) -> String {
    board.by.run(&["logs", TASK, "--node", &board.name]).ok().stdout
}

fn lines(text: &str) -> usize {
    text.lines().count()
}

/// It goes on there, from a state that was whole: nothing that it prints is wrong, and nothing is missing.
fn goes_on_at(board: &Board<'_>) {
    board.wait(TASK, "running");
    let before = lines(&output(board));
    until("it prints", PATIENCE, || lines(&output(board)) > before + 5);
    is_unbroken(&output(board));
}

#[test]
fn a_board_goes_on_when_the_node_dies_and_gives_the_task_back() {
    let _alone = alone();
    let (c, mut a) = nodes();
    let board = board(&c);
    start(&a, TASK, "100000");
    a.run(&["protect", TASK, "--standby", "board", "--policy", "fixed:1s"]).ok();
    until("it syncs again and again", PATIENCE, || syncs(&a, TASK) >= 3);
    let there = pair(&board, TASK).unwrap();
    assert_eq!((&there["role"], &there["peer"], &there["connected"]), (&"standby".into(), &"a".into(), &true.into()));
    assert!(there["sync"].as_u64().unwrap() >= 3);
    let known = lines(&a.output(TASK));
    a.kill();
    goes_on_at(&board);
    assert!(lines(&output(&board)) + 300 > known, "it did not begin anew");
    let there = pair(&board, TASK).unwrap();
    assert_eq!((&there["role"], &there["peer"]), (&"primary".into(), &"a".into()));
    assert!(there["reason"].as_str().unwrap().contains("goes home once a is there"), "{there}");
    a.serve();
    a.wait(TASK, "left");
    let known = lines(&output(&board));
    goes_on(&a, TASK);
    assert!(lines(&a.output(TASK)) >= known, "with all that it had done");
    board.wait(TASK, "left");
    assert!(board.log().contains("t goes back to a"), "by a move: {}", board.log());
    until("it has its standby again", PATIENCE, || syncs(&a, TASK) >= 2);
    // An agent that ends in peace hands it over; when it is back, it has no copy that it could have kept.
    let known = lines(&a.output(TASK));
    a.end();
    goes_on_at(&board);
    assert!(lines(&output(&board)) >= known);
    a.serve();
    a.run(&["failback", TASK]).ok();
    goes_on(&a, TASK);
    until("it has its standby again", PATIENCE, || syncs(&a, TASK) >= 2);
}

/// A service whose clients are at a third node: they hear every answer, once.
#[test]
fn clients_do_not_notice_that_a_board_takes_over() {
    let _alone = alone();
    let (c, mut a) = nodes();
    let board = board(&c);
    let port = free_port();
    c.start("echo", &["--publish", &port.to_string()], "echo", &[]);
    c.run(&["migrate", "echo", "--to", "a"]).ok();
    a.run(&["protect", "echo", "--standby", "board", "--policy", "fixed:1s"]).ok();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..2).map(|_| scope.spawn(|| talk(port, &stop))).collect();
        let over = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let a_while = || {
                // Somebody who comes, and goes again.
                talk(port, &AtomicBool::new(true));
                std::thread::sleep(Duration::from_millis(500));
            };
            let is_safe = |a: &Node| until("it has its standby", PATIENCE, || syncs(a, "echo") >= 2);
            is_safe(&a);
            // By hand, of the standby and of where it is.
            a.run(&["failback", "echo"]).fails("at home here, on a");
            c.run(&["failover", "echo", "--node", "board"]).ok();
            assert_eq!(board.state("echo"), "running");
            // The word of it may be on its way there still.
            a.wait("echo", "left");
            a_while();
            let there = pair(&board, "echo").unwrap();
            assert!(there["reason"].as_str().unwrap().contains("it stays until"), "{there}");
            a.run(&["failback", "echo"]).ok();
            assert_eq!(a.state("echo"), "running");
            board.wait("echo", "left");
            is_safe(&a);
            a.run(&["failover", "echo"]).ok();
            board.wait("echo", "running");
            a_while();
            c.run(&["migrate", "echo", "--to", "a", "--node", "board"]).ok();
            is_safe(&a);
            a_while();
            // And because the node is gone.
            a.kill();
            board.wait("echo", "running");
            a_while();
            a.serve();
            a.wait("echo", "left");
            a.run(&["failback", "echo"]).ok();
            is_safe(&a);
            a_while();
        }));
        stop.store(true, Ordering::SeqCst);
        over.unwrap();
        for client in clients {
            assert!(client.join().unwrap() > 100_000);
        }
    });
}

#[test]
fn a_board_that_was_reset_is_brought_up_to_date() {
    let _alone = alone();
    let mut a = Node::new("a");
    found(&mut a);
    let mut board = board(&a);
    start(&a, TASK, "100000");
    a.run(&["protect", TASK, "--standby", "board", "--policy", "fixed:1s"]).ok();
    board.switch_off();
    until("that is seen", PATIENCE, || a.pair(TASK).unwrap()["connected"] == false);
    board.switch_on();
    let has_it = || pair(&board, TASK).is_some_and(|pair| pair["sync"].as_u64() > Some(1));
    until("it syncs again", PATIENCE, has_it);
    assert_eq!(a.state(TASK), "running");
    let known = lines(&a.output(TASK));
    a.run(&["failover", TASK]).ok();
    goes_on_at(&board);
    assert!(lines(&output(&board)) >= known);
    // It is lost there before it has gone home: what home has kept goes on.
    a.wait(TASK, "left");
    board.switch_off();
    board.switch_on();
    goes_on(&a, TASK);
    until("it has its standby again", PATIENCE, || syncs(&a, TASK) >= 2);
}

/// A node and a board that reach each other by links that can be cut.
fn linked(test: impl FnOnce(&Node, &mut Board<'_>, [&Proxy; 2])) {
    let proxy = |target: &str| {
        let (listen, target) = ("127.0.0.1:0".parse().unwrap(), target.parse().unwrap());
        Proxy::start(listen, target, slow(Duration::ZERO)).unwrap()
    };
    let mut a = Node::new("a");
    let to_node = proxy(&a.address);
    a.advertised = Some(to_node.address().to_string());
    found(&mut a);
    let mut board = Board::made(&a, "x86_64", "board", "64M");
    let to_board = proxy(&board.address);
    board.advertise(to_board.address().to_string());
    board.switch_on();
    test(&a, &mut board, [&to_node, &to_board]);
}

/// They do not reach each other until the board has taken over, so that both go on.
fn cut_off(a: &Node, board: &Board<'_>, proxies: [&Proxy; 2], task: &str) {
    let taken_over = || board.log().matches("is taken over from a").count();
    until("it syncs", PATIENCE, || syncs(a, task) >= 2);
    let before = taken_over();
    proxies.iter().for_each(|proxy| proxy.cut());
    until("the board takes over", PATIENCE, || taken_over() > before);
    assert_eq!(a.state(task), "running");
}

fn stands_by(board: &Board<'_>, task: &str) {
    until("the board stands by again", PATIENCE, || pair(board, task).is_some_and(|p| p["role"] == "standby"));
}

#[test]
fn of_two_copies_one_goes_on() {
    let _alone = alone();
    linked(|a, board, proxies| {
        start(a, TASK, "100000");
        let restore = || proxies.iter().for_each(|proxy| proxy.restore());
        let protect = ["protect", TASK, "--standby", "board", "--policy", "fixed:1s"];
        // The board has done again what the node had done since the last sync: that has come further.
        a.run(&[&protect[..], &["--on-return", "furthest"]].concat()).ok();
        cut_off(a, board, proxies, TASK);
        restore();
        board.wait(TASK, "left");
        goes_on(a, TASK);
        stands_by(board, TASK);
        a.run(&["unprotect", TASK]).ok();
        until("nothing is left there", PATIENCE, || pair(board, TASK).is_none());
        // By the other order the board's counts.
        a.run(&[&protect[..], &["--stay"]].concat()).ok();
        cut_off(a, board, proxies, TASK);
        restore();
        a.wait(TASK, "left");
        goes_on_at(board);
        // The board is not to be reached any more: what was kept goes on, and the board's copy gives way to it.
        proxies.iter().for_each(|proxy| proxy.cut());
        a.wait(TASK, "running");
        restore();
        board.wait(TASK, "left");
        goes_on(a, TASK);
        stands_by(board, TASK);
        // Once for the claim, and once for that.
        assert_eq!(board.log().matches("t goes on at a, epoch").count(), 2, "{}", board.log());
        until("it has its standby again", PATIENCE, || syncs(a, TASK) >= 2);
    });
}

/// Clients that could not hear the board have heard the other one all the time.
#[test]
fn of_two_copies_the_one_that_has_served_counts() {
    let _alone = alone();
    linked(|a, board, proxies| {
        let port = free_port();
        a.start("echo", &["--publish", &port.to_string()], "echo", &[]);
        a.run(&["protect", "echo", "--standby", "board", "--policy", "fixed:1s"]).ok();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let client = scope.spawn(|| talk(port, &stop));
            let over = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                cut_off(a, board, proxies, "echo");
                std::thread::sleep(Duration::from_secs(1));
                proxies.iter().for_each(|proxy| proxy.restore());
                board.wait("echo", "left");
                stands_by(board, "echo");
                assert_eq!(a.state("echo"), "running");
            }));
            stop.store(true, Ordering::SeqCst);
            over.unwrap();
            assert!(client.join().unwrap() > 100_000);
        });
    });
}

/// A machine that does not run hears nothing, and is not to take that for silence.
#[test]
fn a_board_that_did_not_run_does_not_take_over() {
    let _alone = alone();
    let mut a = Node::new("a");
    found(&mut a);
    let board = board(&a);
    start(&a, TASK, "100000");
    a.run(&["protect", TASK, "--standby", "board", "--policy", "fixed:1s"]).ok();
    until("it syncs", PATIENCE, || syncs(&a, TASK) >= 2);
    // For longer than anybody waits for a word.
    board.hold(Duration::from_secs(6));
    let before = syncs(&a, TASK);
    until("it syncs again", PATIENCE, || syncs(&a, TASK) > before + 1);
    assert_eq!(a.state(TASK), "running");
}

/// It waits for the standby that is nearer, stands by for that one then, and goes on when that is gone too.
#[test]
fn a_board_behind_another_standby_waits_for_that() {
    let _alone = alone();
    let (c, mut a) = nodes();
    let mut b = Node::new("b");
    join(&c, &mut b);
    b.serve();
    let board = board(&c);
    start(&a, TASK, "100000");
    a.run(&["protect", TASK, "--standby", "b,board", "--policy", "fixed:500ms", "--stay"]).ok();
    let stands_by = |of: &str| pair(&board, TASK).is_some_and(|pair| pair["sync"] != 0 && pair["peer"] == of);
    until("both are kept up to date", PATIENCE, || stands_by("a") && b.stands_by(TASK));
    a.kill();
    goes_on(&b, TASK);
    until("the board stands by for the other one", PATIENCE, || stands_by("b"));
    b.kill();
    goes_on_at(&board);
}

#[test]
fn what_a_board_cannot_do_is_refused() {
    let _alone = alone();
    let mut a = Node::new("a");
    found(&mut a);
    let board = Board::new(&a, "x86_64", "board", "64M");
    let shared = format!("{}::/data", a.home.path("").display());
    a.start("dirs", &["--dir", &shared], "steady", &["4", "100000", "10"]);
    a.run(&["protect", "dirs", "--standby", "board"]).fails("uses directories");
    start(&a, TASK, "100000");
    a.run(&["protect", TASK, "--standby", "board"]).ok();
    // Beside what is held for one, the other has no room.
    a.start("large", &[], "steady", &["32", "100000", "10"]);
    a.run(&["protect", "large", "--standby", "board"]).fails("KiB more there");
    assert_eq!((a.state("large"), a.state(TASK)), ("running".into(), "running".into()));
    a.run(&["failover", "large", "--node", "board"]).fails("no task named large");
    a.run(&["protect", TASK, "--standby", "a", "--node", "board"]).fails("a board");
    a.run(&["unprotect", TASK]).ok();
    until("nothing is left there", PATIENCE, || pair(&board, TASK).is_none());
    // Nor if it is alone there.
    a.run(&["protect", "large", "--standby", "board"]).fails("KiB more there");
    a.run(&["protect", TASK, "--standby", "board"]).ok();
}
