//! Post-copy over links that break, between nodes that die, before all pages are there: the task waits, goes on, or goes
//! back to where it was; it is never lost, and never runs twice.

use crate::support::cluster::{Move, Node, PATIENCE, owner, until};
use crate::support::guest;
use crate::support::link::{FAST, Linked};
use crate::support::steady::{is_unbroken, is_unbroken_but_for_crashes, start};
use std::time::Duration;
use wayfare_sim::proxy::Shape;
use wayfare_transfer::Mode;

/// What the agent calls the time after the commit.
const LATE: &str = "sending late pages";
const BROKEN: &str = "LINK LOST: it runs there without the pages that are still here";
/// The task's four mebibytes take some seconds.
const LIMIT: u64 = 1 << 20;

/// A task that runs at `b`, most of its pages still being at `a`.
fn half_way(mode: Mode) -> (Linked, Move) {
    half_way_by(Linked::local(near()), mode)
}

fn near() -> Shape {
    Shape::new(FAST, Duration::from_millis(1))
}

fn half_way_by(linked: Linked, mode: Mode) -> (Linked, Move) {
    start(&linked.a, "t", "100000");
    until("it has printed something", PATIENCE, || linked.a.output("t").lines().count() > 40);
    let mut moving = Move::begin_by(&linked.a, &linked.b, "t", mode, Some(LIMIT));
    assert!(moving.reaches(LATE), "{:?}\n{}", moving.phases, linked.a.log());
    assert_eq!((linked.a.state("t").as_str(), linked.b.state("t").as_str()), ("left", "running"));
    (linked, moving)
}

fn lines(node: &Node) -> usize {
    node.output("t").lines().count()
}

#[test]
fn a_link_that_breaks_before_all_pages_are_there_is_waited_for() {
    for apart in [false, true] {
        let linked = if apart { Linked::apart(near()) } else { Linked::local(near()) };
        let (mut linked, mut moving) = half_way_by(linked, Mode::PostCopy);
        linked.down();
        // Of a cable that is pulled for a moment nobody is told.
        if !apart {
            assert!(moving.reaches(BROKEN), "{:?}", moving.phases);
        }
        // It runs as far as it gets without; what it has printed is right.
        std::thread::sleep(Duration::from_secs(1));
        let so_far = lines(&linked.b);
        is_unbroken(&linked.b.output("t"));
        linked.up();
        let report = moving.end().unwrap();
        assert!(report.last.progress.pages >= 1000, "{report:?}");
        until("it goes on", PATIENCE, || lines(&linked.b) > so_far + 20);
        // As any other task.
        linked.b.run(&["migrate", "t", "--to", "a"]).ok();
        is_unbroken(&linked.a.output("t"));
        until("it is nowhere else", PATIENCE, || owner("t", linked.nodes()).name == "a");
        linked.a.end();
    }
}

#[test]
fn a_destination_that_dies_without_all_pages_gives_the_task_back_as_it_was() {
    for mode in [Mode::PostCopy, Mode::Hybrid] {
        let (mut linked, moving) = half_way(mode);
        linked.b.kill();
        drop(moving);
        std::thread::sleep(Duration::from_millis(300));
        // Nobody runs it: it might yet be on the disk there.
        assert_eq!(linked.a.task("t").unwrap()["saved"], false);
        linked.a.run(&["rm", "t"]).fails("until it is on the disk of b");
        let wasm = guest("hello");
        linked.a.run(&["run", "-d", "--name", "t", wasm.to_str().unwrap()]).fails("already on this node");
        linked.b.serve();
        until("it is back", PATIENCE, || linked.a.state("t") == "running");
        assert_eq!(owner("t", linked.nodes()).name, "a");
        let so_far = lines(&linked.a);
        until("it goes on", PATIENCE, || lines(&linked.a) > so_far + 20);
        // Its own log knows nothing of what it did there.
        is_unbroken(&linked.a.output("t"));
        linked.a.run(&["migrate", "t", "--to", "b"]).ok();
    }
}

#[test]
fn a_source_that_dies_with_pages_of_a_task_goes_on_from_its_disk() {
    let (mut linked, moving) = half_way(Mode::PostCopy);
    linked.a.kill();
    drop(moving);
    linked.a.serve();
    until("it is back", PATIENCE, || linked.a.state("t") == "running" && linked.b.state("t") == "none");
    let so_far = lines(&linked.a);
    until("it goes on", PATIENCE, || lines(&linked.a) > so_far + 20);
    is_unbroken_but_for_crashes(&linked.a.output("t"));
    linked.a.run(&["migrate", "t", "--to", "b"]).ok();
}

#[test]
fn a_person_may_decide_that_a_node_is_gone_for_good() {
    let (mut linked, moving) = half_way(Mode::PostCopy);
    linked.b.kill();
    drop(moving);
    let shown = linked.a.run(&["task", "resolve", "t"]).ok().stdout;
    assert!(shown.contains("is kept as it was when it went to b"), "{shown}");
    linked.a.run(&["task", "resolve", "t", "--here"]).ok();
    until("it is back", PATIENCE, || linked.a.state("t") == "running");
    let so_far = lines(&linked.a);
    until("it goes on", PATIENCE, || lines(&linked.a) > so_far + 20);
    is_unbroken(&linked.a.output("t"));
    linked.a.run(&["task", "resolve", "t", "--here"]).fails("it is known where t is");
}

#[test]
fn a_task_that_is_stopped_before_all_pages_are_there_is_released_where_it_came_from() {
    let (linked, mut moving) = half_way(Mode::PostCopy);
    linked.b.run(&["stop", "t"]).ok();
    linked.b.wait("t", "stopped");
    moving.end().unwrap();
    until("it is released", PATIENCE, || linked.a.task("t").unwrap()["saved"] == true);
    // The frozen copy is not to stay behind in memory.
    let threads = || std::fs::read_dir(format!("/proc/{}/task", linked.a.pid())).unwrap();
    let is_it = |thread: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(thread.unwrap().path().join("comm")).is_ok_and(|name| name.starts_with("task "))
    };
    until("its thread is gone", PATIENCE, || !threads().any(is_it));
    linked.b.run(&["rm", "t"]).ok();
    linked.a.run(&["rm", "t"]).ok();
}
