//! Tasks that have several standbys: the nearest goes on that is there, the others wait for it, and in the end one node has the
//! task.

use crate::support::client::talk;
use crate::support::cluster::{Node, PATIENCE, found, free_port, join, until};
use crate::support::steady::{goes_on, lines, start};
use rustix::process::Signal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const TASK: &str = "t";

/// Three nodes of one cluster, at work.
fn three() -> [Node; 3] {
    let mut nodes = [Node::new("a"), Node::new("b"), Node::new("c")];
    let [a, b, c] = &mut nodes;
    found(a);
    for node in [b, c] {
        join(a, node);
        node.serve();
    }
    nodes
}

/// It is the standby of that node.
fn stands_by(node: &Node, task: &str, of: &str) -> bool {
    node.pair(task).is_some_and(|pair| pair["role"] == "standby" && pair["sync"] != 0 && pair["peer"] == of)
}

/// Stopped for so long that it is missed by all.
fn asleep(node: &Node, of: &Node) {
    node.signal(Signal::STOP);
    of.wait(TASK, "running");
}

#[test]
fn the_nearest_goes_on_and_the_next_when_that_is_gone_too() {
    let [mut a, mut b, c] = three();
    start(&a, TASK, "100000");
    a.run(&["protect", TASK, "--standby", "b,c", "--policy", "fixed:500ms"]).ok();
    let pairs = a.pairs(TASK);
    assert_eq!(pairs.iter().map(|pair| pair["peer"].as_str().unwrap()).collect::<Vec<_>>(), ["b", "c"]);
    until("both are kept up to date", PATIENCE, || {
        a.pairs(TASK).iter().all(|pair| pair["sync"].as_u64().unwrap() >= 3)
    });
    a.run(&["migrate", TASK, "--to", "b"]).fails("has a standby on b");
    a.kill();
    goes_on(&b, TASK);
    assert_eq!(c.state(TASK), "none");
    until("the other one stands by for it", PATIENCE, || stands_by(&c, TASK, "b"));
    let known = lines(&b, TASK);
    b.kill();
    goes_on(&c, TASK);
    assert!(lines(&c, TASK) + 200 > known, "it did not begin anew");
    // They are back, and it goes home with all that it has done.
    b.serve();
    a.serve();
    a.wait(TASK, "running");
    let known = lines(&c, TASK);
    goes_on(&a, TASK);
    assert!(lines(&a, TASK) >= known);
    until("all is as it was", 2 * PATIENCE, || stands_by(&b, TASK, "a") && stands_by(&c, TASK, "a"));
    assert_eq!([b.state(TASK), c.state(TASK)], ["left", "left"]);
    a.run(&["unprotect", TASK]).ok();
    until("nobody stands by", PATIENCE, || b.pair(TASK).is_none() && c.pair(TASK).is_none());
    goes_on(&a, TASK);
}

/// The task's node and the nearest standby are lost in the same moment.
#[test]
fn the_next_one_goes_on_when_two_die_at_once() {
    let [mut a, mut b, c] = three();
    start(&a, TASK, "100000");
    a.run(&["protect", TASK, "--standby", "b", "--standby", "c", "--policy", "fixed:500ms", "--stay"]).ok();
    until("both are kept up to date", PATIENCE, || stands_by(&b, TASK, "a") && stands_by(&c, TASK, "a"));
    a.kill();
    b.kill();
    goes_on(&c, TASK);
    b.serve();
    until("the nearer one stands by for it", PATIENCE, || stands_by(&b, TASK, "c"));
    assert_eq!(c.state(TASK), "running");
    a.serve();
    a.wait(TASK, "left");
    until("so does its home", PATIENCE, || stands_by(&a, TASK, "c"));
    c.run(&["failback", TASK]).ok();
    goes_on(&a, TASK);
    until("the others stand by", PATIENCE, || stands_by(&b, TASK, "a") && stands_by(&c, TASK, "a"));
}

/// Who was asleep asks the others before it goes on; and the task's node hears where it is.
#[test]
fn those_who_come_too_late_find_one_that_goes_on() {
    let [a, b, c] = three();
    start(&a, TASK, "100000");
    a.run(&["protect", TASK, "--standby", "b,c", "--policy", "fixed:500ms", "--stay"]).ok();
    until("both are kept up to date", PATIENCE, || stands_by(&b, TASK, "a") && stands_by(&c, TASK, "a"));
    b.signal(Signal::STOP);
    asleep(&a, &c);
    let known = lines(&c, TASK) + 20;
    until("it is ahead", PATIENCE, || lines(&c, TASK) > known);
    b.signal(Signal::CONT);
    until("it stands by for the one that goes on", PATIENCE, || stands_by(&b, TASK, "c"));
    assert_eq!((b.state(TASK), c.state(TASK)), ("none".into(), "running".into()));
    a.signal(Signal::CONT);
    a.wait(TASK, "left");
    until("the task's node stands by", PATIENCE, || stands_by(&a, TASK, "c"));
    goes_on(&c, TASK);
    assert!(lines(&c, TASK) > known && b.state(TASK) == "none");
}

/// Clients hear one story, whoever tells it.
#[test]
fn clients_lose_nothing_from_one_to_the_next() {
    let [mut a, mut b, c] = three();
    let port = free_port();
    c.start("echo", &["--publish", &port.to_string()], "echo", &[]);
    c.run(&["migrate", "echo", "--to", "a"]).ok();
    a.run(&["protect", "echo", "--standby", "b,c", "--policy", "fixed:500ms", "--stay"]).ok();
    until("both are kept up to date", PATIENCE, || stands_by(&b, "echo", "a") && stands_by(&c, "echo", "a"));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let client = scope.spawn(|| talk(port, &stop));
        let over = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            std::thread::sleep(Duration::from_secs(1));
            a.kill();
            b.wait("echo", "running");
            until("it has a standby again", PATIENCE, || stands_by(&c, "echo", "b"));
            std::thread::sleep(Duration::from_millis(500));
            b.run(&["failover", "echo"]).ok();
            c.wait("echo", "running");
            until("it has one again", PATIENCE, || stands_by(&b, "echo", "c"));
            b.kill();
            std::thread::sleep(Duration::from_millis(500));
        }));
        stop.store(true, Ordering::SeqCst);
        over.unwrap();
        assert!(client.join().unwrap() > 100_000);
    });
    assert_eq!(c.state("echo"), "running");
}

#[test]
fn all_of_them_or_none() {
    let [a, b, _c] = three();
    start(&a, TASK, "100000");
    a.run(&["protect", TASK, "--standby", "b,nobody"]).fails("no node named nobody");
    until("nothing is left", PATIENCE, || a.pairs(TASK).is_empty() && b.pair(TASK).is_none());
    a.run(&["protect", TASK, "--standby", "b,a"]).fails("must be another node");
    a.run(&["protect", TASK, "--standby", "b,b"]).fails("b is named twice");
    a.run(&["protect", TASK, "--standby", "b,c,d,e,f,g,h,i,j"]).fails("8 standbys at most");
    a.run(&["protect", TASK]).is(2);
    goes_on(&a, TASK);
}
