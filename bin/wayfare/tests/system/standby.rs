//! Tasks that have a standby: it goes on with them when the node, or the way to it, is gone, from the last state that came
//! whole; and in the end one node has the task.

use crate::support::client::talk;
use crate::support::cluster::{Node, PATIENCE, free_port, pair, until};
use crate::support::link::{Linked, slow};
use crate::support::steady::{goes_on, lines, start};
use rustix::process::Signal;
use serde_json::Value;
use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const TASK: &str = "t";

/// The pair, as a node sees it.
fn seen(node: &Node) -> Option<Value> {
    node.pair(TASK)
}

fn syncs(node: &Node) -> u64 {
    seen(node).map_or(0, |pair| pair["sync"].as_u64().unwrap())
}

#[test]
fn a_standby_goes_on_when_the_node_dies() {
    let (mut a, b) = pair();
    start(&a, TASK, "100000");
    a.run(&["protect", TASK, "--standby", "b", "--policy", "fixed:1s", "--stay"]).ok();
    let here = seen(&a).unwrap();
    assert_eq!((&here["role"], &here["peer"], &here["connected"]), (&"primary".into(), &"b".into(), &true.into()));
    assert_eq!(seen(&b).unwrap()["role"], "standby");
    until("it syncs again and again", PATIENCE, || syncs(&a) >= 3 && syncs(&b) >= 3);
    let known = lines(&a, TASK);
    a.kill();
    goes_on(&b, TASK);
    assert!(lines(&b, TASK) + 200 > known, "it did not begin anew");
    // It is to have a standby itself, as soon as there is one.
    let there = seen(&b).unwrap();
    assert_eq!((&there["role"], &there["connected"]), (&"primary".into(), &false.into()));
    // Back again, it hears that it was replaced, and becomes the standby.
    a.serve();
    a.wait(TASK, "left");
    until("the roles are exchanged", PATIENCE, || syncs(&a) >= 2);
    assert_eq!(seen(&a).unwrap()["role"], "standby");
    goes_on(&b, TASK);
    assert_eq!(a.state(TASK), "left");
    // And may take over in turn.
    let known = lines(&b, TASK);
    b.run(&["failback", TASK]).ok();
    b.wait(TASK, "left");
    goes_on(&a, TASK);
    assert!(lines(&a, TASK) >= known, "it was handed over with all that it had done");
}

#[test]
fn a_task_goes_home_by_itself() {
    let (mut a, b) = pair();
    start(&a, TASK, "100000");
    a.run(&["protect", TASK, "--standby", "b", "--policy", "fixed:1s"]).ok();
    until("it syncs", PATIENCE, || syncs(&b) >= 2);
    a.kill();
    goes_on(&b, TASK);
    a.serve();
    a.wait(TASK, "left");
    a.wait(TASK, "running");
    let known = lines(&b, TASK);
    goes_on(&a, TASK);
    assert!(lines(&a, TASK) >= known);
    assert_eq!(b.state(TASK), "left");
    until("it has its standby again", PATIENCE, || seen(&b).is_some_and(|pair| pair["role"] == "standby"));
    // An agent that ends in peace hands it over.
    let known = lines(&a, TASK);
    a.end();
    goes_on(&b, TASK);
    assert!(lines(&b, TASK) >= known, "{} of {known}", lines(&b, TASK));
}

/// Both nodes are there: nothing is lost, and it stays where a person wants it.
#[test]
fn a_task_is_handed_over_and_back_by_hand() {
    let (a, b) = pair();
    start(&a, TASK, "100000");
    a.run(&["failback", TASK]).fails("no standby");
    a.run(&["protect", TASK, "--standby", "b", "--policy", "fixed:1h"]).ok();
    a.run(&["failback", TASK]).fails("at home here, on a");
    b.run(&["failback", TASK]).fails("at home where it is, on a");
    for (from, to, order) in [(&a, &b, "failover"), (&b, &a, "failback"), (&a, &b, "failover"), (&b, &a, "failover")] {
        until("it has its standby", PATIENCE, || seen(from).is_some_and(|p| p["role"] == "primary" && p["sync"] != 0));
        let known = lines(from, TASK);
        // Asked by turns at the node where it is, and at the standby.
        let at = if order == "failback" { to } else { from };
        at.run(&[order, TASK]).ok();
        assert_eq!(to.state(TASK), "running");
        // The word of it may be on its way there still.
        from.wait(TASK, "left");
        goes_on(to, TASK);
        assert!(lines(to, TASK) >= known, "{} of {known} after {order}", lines(to, TASK));
    }
}

/// What has come further counts, whichever side that is; the other copy is dropped when its successor is safe there.
#[test]
fn of_two_copies_the_one_that_has_come_further_counts() {
    let linked = Linked::local(slow(Duration::ZERO));
    let (a, b) = (&linked.a, &linked.b);
    start(a, TASK, "100000");
    let protect = ["protect", TASK, "--standby", "b", "--policy", "fixed:1h", "--on-return", "furthest", "--stay"];
    a.run(&protect).ok();
    std::thread::sleep(Duration::from_secs(1));
    linked.down();
    goes_on(b, TASK);
    // It has done the last second again, so the other one is ahead.
    let known = lines(a, TASK);
    assert!(lines(b, TASK) < known);
    linked.up();
    b.wait(TASK, "left");
    goes_on(a, TASK);
    assert!(lines(a, TASK) > known);
    until("the roles are as they were", PATIENCE, || b.stands_by(TASK));
    // The other way round: one side stands still for a while.
    linked.down();
    a.signal(Signal::STOP);
    goes_on(b, TASK);
    let ahead = lines(b, TASK) + 100;
    until("it is far ahead", PATIENCE, || lines(b, TASK) > ahead);
    a.signal(Signal::CONT);
    linked.up();
    a.wait(TASK, "left");
    goes_on(b, TASK);
    until("the roles are exchanged", PATIENCE, || a.stands_by(TASK));
}

/// Clients that could not hear the standby have heard the other one all the time.
#[test]
fn of_two_copies_the_one_that_has_served_counts() {
    let linked = Linked::both_ways(slow(Duration::ZERO));
    let (a, b) = (&linked.a, &linked.b);
    let port = free_port();
    a.start("echo", &["--publish", &port.to_string()], "echo", &[]);
    a.run(&["protect", "echo", "--standby", "b", "--policy", "fixed:1s"]).ok();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let client = scope.spawn(|| talk(port, &stop));
        std::thread::sleep(Duration::from_secs(2));
        let over = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            // Both ways: the standby does not reach the clients.
            linked.down();
            b.wait("echo", "running");
            std::thread::sleep(Duration::from_secs(1));
            linked.up();
            until("it stands by again", PATIENCE, || b.stands_by("echo"));
            assert_eq!((a.state("echo"), b.state("echo")), ("running".into(), "left".into()));
        }));
        stop.store(true, Ordering::SeqCst);
        over.unwrap();
        assert!(client.join().unwrap() > 100_000);
    });
}

#[test]
fn a_link_that_breaks_and_comes_back_leaves_one() {
    let linked = Linked::both_ways(slow(Duration::ZERO));
    let (a, b) = (&linked.a, &linked.b);
    start(a, TASK, "100000");
    a.run(&["protect", TASK, "--standby", "b", "--policy", "fixed:1s", "--stay"]).ok();
    until("it syncs", PATIENCE, || syncs(b) >= 2);
    linked.down();
    goes_on(b, TASK);
    // Cut off, it runs on here as well: nobody hears of it.
    assert_eq!(a.state(TASK), "running");
    assert_eq!(seen(a).unwrap()["connected"], false);
    linked.up();
    a.wait(TASK, "left");
    goes_on(b, TASK);
    until("the roles are exchanged", PATIENCE, || a.stands_by(TASK));
}

/// The copy that is to be dropped is not before the other one is safe there; when that is lost, it goes on.
#[test]
fn a_copy_is_kept_until_the_other_one_is_safe() {
    let mut linked = Linked::both_ways(slow(Duration::ZERO));
    start(&linked.a, TASK, "100000");
    linked.a.run(&["protect", TASK, "--standby", "b", "--policy", "fixed:1s", "--stay"]).ok();
    until("it syncs", PATIENCE, || syncs(&linked.b) >= 2);
    linked.down();
    goes_on(&linked.b, TASK);
    let known = lines(&linked.a, TASK);
    // They hear of each other by one way only: the other one's state cannot come.
    linked.proxy.restore();
    linked.a.wait(TASK, "left");
    std::thread::sleep(Duration::from_secs(2));
    linked.b.kill();
    linked.a.wait(TASK, "running");
    goes_on(&linked.a, TASK);
    assert!(lines(&linked.a, TASK) >= known);
}

#[test]
fn a_standby_that_was_away_is_brought_up_to_date() {
    let (a, mut b) = pair();
    start(&a, TASK, "100000");
    a.run(&["protect", TASK, "--standby", "b", "--policy", "fixed:1s"]).ok();
    until("it syncs", PATIENCE, || syncs(&b) >= 2);
    b.kill();
    until("that is seen", PATIENCE, || seen(&a).unwrap()["connected"] == false);
    b.serve();
    until("it syncs again", PATIENCE, || syncs(&b) >= 2);
    assert_eq!(a.state(TASK), "running");
    // By hand, as its node is well.
    a.run(&["failover", TASK]).ok();
    a.wait(TASK, "left");
    goes_on(&b, TASK);
}

#[test]
fn what_has_a_standby_is_not_moved_and_what_cannot_have_one_is_refused() {
    let (mut a, b) = pair();
    start(&a, TASK, "100000");
    let protect = |more: &[&str]| a.run(&[&["protect", TASK, "--standby"][..], more].concat());
    protect(&["a"]).fails("must be another node");
    protect(&["nobody"]).fails("no node named nobody");
    protect(&["b", "--policy", "sometimes"]).is(2);
    a.run(&["protect", "other", "--standby", "b"]).fails("no task named other");
    a.run(&["unprotect", TASK]).fails("has no standby");
    a.run(&["failover", TASK]).fails("t has no standby");
    protect(&["b"]).ok();
    protect(&["b"]).fails("has a standby on b");
    a.run(&["migrate", TASK, "--to", "b"]).fails("has a standby on b");
    a.run(&["unprotect", TASK]).ok();
    until("nothing is left there", PATIENCE, || seen(&b).is_none());
    a.run(&["migrate", TASK, "--to", "b"]).ok();
    goes_on(&b, TASK);
    // One that ends needs none.
    a.start("short", &[], "steady", &["4", "100", "10"]);
    a.run(&["protect", "short", "--standby", "b"]).ok();
    a.wait("short", "exited");
    until("nothing is left there", PATIENCE, || !b.run(&["protected"]).stdout.contains("short"));
    assert_eq!(b.state("short"), "none");
    a.end();
}

/// A task that waits is synced once, and not again before it works; a bound on what may be lost is kept to.
#[test]
fn syncs_follow_the_task() {
    let (a, b) = pair();
    let port = free_port();
    a.start("echo", &["--publish", &port.to_string()], "echo", &[]);
    start(&a, TASK, "100000");
    a.run(&["protect", "echo", "--standby", "b", "--policy", "fixed:300ms"]).ok();
    a.run(&["protect", TASK, "--standby", "b", "--max-loss", "500ms"]).ok();
    let why = |task| a.pair(task).unwrap()["reason"].as_str().unwrap().to_string();
    until("it is known to wait", PATIENCE, || why("echo").contains("the task does nothing"));
    let before = a.pair("echo").unwrap()["sync"].as_u64().unwrap();
    // By itself the policy would take minutes for as many.
    until("the other one is synced for what may be lost", PATIENCE, || syncs(&b) > 10);
    assert_eq!(a.pair("echo").unwrap()["sync"].as_u64().unwrap(), before);
    let over = AtomicBool::new(true);
    talk(port, &over);
    until("it has worked, and is synced", PATIENCE, || a.pair("echo").unwrap()["sync"].as_u64().unwrap() > before);
}

/// A service whose clients are at its standby's node, as a gateway's are: the node beside them goes on with it, and they hear
/// every answer, once.
#[test]
fn clients_beside_the_standby_lose_no_answer() {
    let (mut server, gateway) = pair();
    let port = free_port();
    gateway.start("echo", &["--publish", &port.to_string()], "echo", &[]);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..2).map(|_| scope.spawn(|| talk(port, &stop))).collect();
        let rounds = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..3 {
                gateway.run(&["migrate", "echo", "--to", "a"]).ok();
                server.run(&["protect", "echo", "--standby", "b", "--policy", "fixed:1s"]).ok();
                // Some come and go meanwhile.
                let over = AtomicBool::new(true);
                talk(port, &over);
                std::thread::sleep(Duration::from_millis(1700));
                talk(port, &over);
                server.kill();
                gateway.wait("echo", "running");
                std::thread::sleep(Duration::from_millis(300));
                server.serve();
                server.wait("echo", "left");
                eprintln!("round {round} is over");
            }
        }));
        stop.store(true, Ordering::SeqCst);
        rounds.unwrap();
        for client in clients {
            assert!(client.join().unwrap() > 100_000);
        }
    });
}

/// What clients say is kept for the standby, within a bound: beyond it they wait for it to be brought up to date, but not for
/// one that is away.
#[test]
fn clients_do_not_wait_for_a_standby_that_is_away() {
    const LONG: usize = 100 << 20;
    let (a, mut b) = pair();
    let port = free_port();
    a.start("echo", &["--publish", &port.to_string()], "echo", &[]);
    let echo = |len: usize| {
        let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut write = client.try_clone().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let chunk = vec![7; 1 << 20];
                (0..len / chunk.len()).for_each(|_| write.write_all(&chunk).unwrap());
                write.shutdown(Shutdown::Write).unwrap();
            });
            assert_eq!(std::io::copy(&mut client, &mut std::io::sink()).unwrap(), len as u64);
        });
    };
    a.run(&["protect", "echo", "--standby", "b", "--policy", "fixed:1h"]).ok();
    let before = a.pair("echo").unwrap()["sync"].as_u64().unwrap();
    echo(LONG);
    assert!(a.pair("echo").unwrap()["sync"].as_u64().unwrap() > before, "it was brought up to date");
    b.kill();
    until("that is seen", PATIENCE, || a.pair("echo").unwrap()["connected"] == false);
    echo(LONG);
    b.serve();
    until("it is there again", PATIENCE, || a.pair("echo").unwrap()["connected"] == true);
    echo(LONG);
}
