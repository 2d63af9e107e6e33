//! Tasks that have a standby: it goes on with them when the node, or the way to it, is gone, from the last state that came
//! whole; and in the end one node has the task.

mod support;

use serde_json::Value;
use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::client::talk;
use support::cluster::{Node, PATIENCE, found, free_port, join, pair, until};
use support::link::slow;
use support::steady::{is_unbroken, start};
use wayfare_sim::proxy::Proxy;

const TASK: &str = "t";

/// The pair, as a node sees it.
fn seen(node: &Node) -> Option<Value> {
    seen_of(node, TASK)
}

fn seen_of(node: &Node, task: &str) -> Option<Value> {
    let all: Value = serde_json::from_str(&node.run(&["protected", "-o", "json"]).ok().stdout).unwrap();
    all.as_array().unwrap().iter().find(|pair| pair["name"] == task).cloned()
}

fn syncs(node: &Node) -> u64 {
    seen(node).map_or(0, |pair| pair["sync"].as_u64().unwrap())
}

fn lines(node: &Node) -> usize {
    node.output(TASK).lines().count()
}

/// It goes on there, from a state that was whole: nothing that it prints is wrong, and nothing is missing.
fn goes_on(at: &Node) {
    at.wait(TASK, "running");
    let before = lines(at);
    until("it prints", PATIENCE, || lines(at) > before + 5);
    is_unbroken(&at.output(TASK));
}

#[test]
fn a_standby_goes_on_when_the_node_dies() {
    let (mut a, b) = pair();
    start(&a, TASK, "100000");
    a.run(&["protect", TASK, "--standby", "b", "--policy", "fixed:1s"]).ok();
    let here = seen(&a).unwrap();
    assert_eq!((&here["role"], &here["peer"], &here["connected"]), (&"primary".into(), &"b".into(), &true.into()));
    assert_eq!(seen(&b).unwrap()["role"], "standby");
    until("it syncs again and again", PATIENCE, || syncs(&a) >= 3 && syncs(&b) >= 3);
    let known = lines(&a);
    a.kill();
    goes_on(&b);
    assert!(lines(&b) + 200 > known, "it did not begin anew");
    assert!(seen(&b).is_none());
    // Back again, it hears that it was replaced.
    a.serve();
    a.wait(TASK, "left");
    goes_on(&b);
    assert_eq!(a.state(TASK), "left");
}

#[test]
fn a_link_that_breaks_and_comes_back_leaves_one() {
    let (mut a, mut b) = (Node::new("a"), Node::new("b"));
    found(&mut a);
    join(&a, &mut b);
    let to_b = Proxy::start("127.0.0.1:0".parse().unwrap(), b.address.parse().unwrap(), slow(Duration::ZERO)).unwrap();
    b.advertised = Some(to_b.address().to_string());
    b.serve();
    until("they know each other", PATIENCE, || a.run(&["nodes"]).stdout.contains(&to_b.address().to_string()));
    start(&a, TASK, "100000");
    a.run(&["protect", TASK, "--standby", "b", "--policy", "fixed:1s"]).ok();
    until("it syncs", PATIENCE, || syncs(&b) >= 2);
    to_b.cut();
    goes_on(&b);
    // Cut off, it runs on here as well: nobody hears of it.
    assert_eq!(a.state(TASK), "running");
    assert_eq!(seen(&a).unwrap()["connected"], false);
    to_b.restore();
    a.wait(TASK, "left");
    goes_on(&b);
    assert!(seen(&a).is_none());
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
    goes_on(&b);
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
    a.run(&["failover", TASK]).fails("no standby of t");
    protect(&["b"]).ok();
    protect(&["b"]).fails("has a standby on b");
    a.run(&["migrate", TASK, "--to", "b"]).fails("has a standby on b");
    a.run(&["unprotect", TASK]).ok();
    until("nothing is left there", PATIENCE, || seen(&b).is_none());
    a.run(&["migrate", TASK, "--to", "b"]).ok();
    goes_on(&b);
    // One that ends needs none.
    a.start("short", &[], "steady", &["4", "100", "10"]);
    a.run(&["protect", "short", "--standby", "b"]).ok();
    a.wait("short", "exited");
    until("nothing is left there", PATIENCE, || !b.run(&["protected"]).stdout.contains("short"));
    assert_eq!(b.state("short"), "none");
    a.end();
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
    let before = seen_of(&a, "echo").unwrap()["sync"].as_u64().unwrap();
    echo(LONG);
    assert!(seen_of(&a, "echo").unwrap()["sync"].as_u64().unwrap() > before, "it was brought up to date");
    b.kill();
    until("that is seen", PATIENCE, || seen_of(&a, "echo").unwrap()["connected"] == false);
    echo(LONG);
    b.serve();
    until("it is there again", PATIENCE, || seen_of(&a, "echo").unwrap()["connected"] == true);
    echo(LONG);
}
