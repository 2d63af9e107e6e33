//! What a node may lack when a task is to move: room on its disk, memory, a directory, the other side's version. Then the
//! task stays where it is, somebody is told in one line what to do, and once that is done the same move succeeds.

use crate::support::cluster::{Node, PATIENCE, found, join, migrate, owner, pair, until};
use crate::support::space::{Disk, inside};
use crate::support::steady::is_unbroken;
use crate::support::wire::{connect, credentials};
use std::net::TcpListener;
use std::time::Duration;
use wayfare_sim::forger::Forger;

/// A move that is refused: the task stays and runs on.
#[track_caller]
fn stays(from: &Node, name: &str, why: &str) {
    let done = from.run(&["migrate", name, "--to", "b"]).fails(why);
    assert!(done.stderr.contains("stays where it is"), "{done:?}");
    assert_eq!(from.state(name), "running");
    let before = from.output(name).len();
    until("it runs on", PATIENCE, || from.output(name).len() > before);
}

#[test]
fn a_destination_with_a_full_disk_gives_the_task_back() {
    inside("shortages::a_destination_with_a_full_disk_gives_the_task_back", |apart| {
        if !apart {
            return eprintln!("and without file systems of its own, it cannot run at all");
        }
        let (mut a, mut b) = (Node::new("a"), Node::new("b"));
        let disk = Disk::mount(b.state_dir(), "32m");
        found(&mut a);
        join(&a, &mut b);
        b.serve();
        a.start("t", &[], "steady", &["4", "100000", "10"]);
        disk.fill(0);
        // Before anything is sent.
        stays(&a, "t", "the move cannot be written down there: database or disk is full");
        disk.empty();
        // With a little room it is the journal that may find no place, or it may just fit.
        for left in [0, 4096, 8192, 16384] {
            let name = format!("t{left}");
            a.start(&name, &["--cpus", "0.1"], "steady", &["4", "100000", "10"]);
            disk.fill(left);
            let done = a.run(&["migrate", &name, "--to", "b"]);
            let at = owner(&name, [&a, &b]);
            if done.status == Some(0) {
                // What it prints there has no place either, but that is as it would be without a move.
                assert_eq!(at.name, "b");
            } else {
                let done = done.fails("stays where it is");
                assert_eq!(at.name, "a", "{done:?}");
                is_unbroken(&a.output(&name));
            }
            disk.empty();
        }
        migrate(&a, &b, "t");
        assert_eq!(owner("t", [&a, &b]).name, "b");
        is_unbroken(&b.output("t"));
        migrate(&b, &a, "t");
        is_unbroken(&a.output("t"));
        // Room for the task, but not for the snapshot by which it outlives a crash there: so it outlives it here.
        // What it had of the task before is deleted once that is on the other disk, and would make room.
        until("it is on a's disk", PATIENCE, || b.task("t").is_some_and(|t| t["saved"] == true));
        let complaints = || b.log().matches("cannot be saved here").count();
        let before = complaints();
        disk.fill(1 << 20);
        migrate(&a, &b, "t");
        until("the snapshot has no place", PATIENCE, || complaints() > before);
        b.kill();
        disk.empty();
        b.serve();
        assert_eq!(owner("t", [&a, &b]).name, "a");
        migrate(&a, &b, "t");
        is_unbroken(&b.output("t"));
        drop((a, b));
    });
}

#[test]
fn a_source_with_a_full_disk_keeps_the_task() {
    inside("shortages::a_source_with_a_full_disk_keeps_the_task", |apart| {
        if !apart {
            return eprintln!("and without file systems of its own, it cannot run at all");
        }
        let (mut a, mut b) = (Node::new("a"), Node::new("b"));
        let disk = Disk::mount(a.state_dir(), "32m");
        found(&mut a);
        join(&a, &mut b);
        b.serve();
        // It prints nothing until it has done all.
        let whole = a.home.plain("sha256", &["400"]);
        a.start("t", &[], "sha256", &["400"]);
        disk.fill(0);
        let done = a.run(&["migrate", "t", "--to", "b"]);
        let at = owner("t", [&a, &b]);
        if done.status == Some(0) {
            eprintln!("the database had room left in its files, so the task moved");
            assert_eq!(at.name, "b");
        } else {
            let done = done.fails("disk is full");
            assert!(done.stderr.contains("stays where it is"), "{done:?}");
            assert_eq!(at.name, "a");
            disk.empty();
            migrate(&a, &b, "t");
        }
        b.wait("t", "exited");
        assert_eq!(b.output("t"), whole);
        drop((a, b));
    });
}

#[test]
fn a_destination_without_memory_is_given_some() {
    let (mut a, mut b) = (Node::new("a"), Node::new("b"));
    found(&mut a);
    join(&a, &mut b);
    b.serve_with(&["--memory", "16MiB"]);
    a.start("t", &[], "steady", &["4", "100000", "10"]);
    until("it has its memory", PATIENCE, || a.output("t").lines().count() > 2);
    stays(&a, "t", "MiB of memory");
    b.end();
    b.serve_with(&["--memory", "64MiB"]);
    migrate(&a, &b, "t");
    is_unbroken(&b.output("t"));
}

#[test]
fn a_missing_directory_is_named_and_can_be_shared() {
    let (a, mut b) = pair();
    let data = a.home.path("data");
    std::fs::create_dir(&data).unwrap();
    let dir = data.to_str().unwrap();
    a.start("t", &["--dir", &format!("{dir}::/data")], "steady", &["4", "100000", "10"]);
    stays(&a, "t", &format!("start that agent with --share {dir}"));
    // Shared, and then gone.
    b.end();
    b.serve_with(&["--share", dir]);
    std::fs::remove_dir(&data).unwrap();
    stays(&a, "t", "no such directory there");
    std::fs::create_dir(&data).unwrap();
    migrate(&a, &b, "t");
    is_unbroken(&b.output("t"));
}

#[test]
fn a_node_of_another_version_is_told_apart_and_the_older_one_is_to_be_updated() {
    let (a, mut b) = pair();
    a.start("t", &[], "steady", &["4", "100000", "10"]);
    let theirs = credentials(&b);
    b.end();
    // In b's place, and with its key, somebody from the future.
    let place = TcpListener::bind(&b.address).unwrap();
    let (met, future) = (
        theirs.clone(),
        std::thread::spawn({
            let theirs = theirs.clone();
            move || {
                let (stream, _) = place.accept().unwrap();
                let shaken = Forger::shake(stream, false, &theirs, (7, 9), [5; 32]);
                assert!(shaken.is_err(), "it went along");
            }
        }),
    );
    stays(&a, "t", "speaks versions 7 to 9 of the protocol, this one 1 to 1: update the older one");
    future.join().unwrap();
    // And it may not dial either.
    let stream = connect(&a.address);
    let mut forger = Forger::shake(&stream, true, &met, (7, 9), [6; 32]).unwrap();
    assert!(!forger.hears());
    until("it is in the log", Duration::from_secs(5), || a.log().contains("update the older one"));
    b.serve();
    migrate(&a, &b, "t");
    is_unbroken(&b.output("t"));
}
