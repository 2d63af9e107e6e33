//! Clusters of real agents, each a process with directories of its own: tasks move between them, and what must not
//! happen does not.

use crate::support::client::talk;
use crate::support::cluster::{Node, found, free_port, join, migrate, migrate_by, pair};
use crate::support::guest;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[test]
fn a_moved_task_ends_as_an_unmoved_one_with_all_of_its_output() {
    let (a, b) = pair();
    let whole = a.home.plain("npb_cg", &["A"]);
    a.start("cg", &[], "npb_cg", &["A"]);
    a.wait("cg", "running");
    std::thread::sleep(Duration::from_millis(200));
    let there = migrate(&a, &b, "cg");
    assert!(there["last"]["pages"].as_u64().unwrap() > 0 && there["downtime"].as_u64().unwrap() > 0);
    assert_eq!((a.state("cg").as_str(), b.state("cg").as_str()), ("left", "running"));
    let back = migrate(&b, &a, "cg");
    // What the first move brought is still known there.
    assert!(back["last"]["spared"].as_u64().unwrap() > 1000, "{back}");
    assert_eq!((a.state("cg").as_str(), b.state("cg").as_str()), ("running", "left"));
    a.wait("cg", "exited");
    assert_eq!(a.run(&["logs", "cg"]).ok().stdout, whole);
    // Nothing of it is left.
    a.run(&["rm", "cg"]).ok();
    a.run(&["logs", "cg"]).fails("no task named cg");
}

#[test]
fn a_task_moved_in_any_mode_ends_as_an_unmoved_one() {
    let (a, b) = pair();
    // Some seconds, of which a busy machine makes many: it is to be there for the way back.
    let args = ["150000", "8"];
    let whole = a.home.plain("sqlite", &args);
    for (mode, streams) in [("post-copy", "1"), ("hybrid", "3"), ("stop", "4"), ("pre-copy", "8")] {
        let options = ["--mode", mode, "--streams", streams];
        a.start(mode, &[], "sqlite", &args);
        std::thread::sleep(Duration::from_millis(500));
        let there = migrate_by(&a, &b, mode, &options);
        assert!(there["last"]["pages"].as_u64().unwrap() > 1000, "{there}");
        migrate_by(&b, &a, mode, &options);
        a.wait(mode, "exited");
        assert_eq!(a.run(&["logs", mode]).ok().stdout, whole, "{mode}");
    }
}

#[test]
fn a_destination_that_dies_before_it_has_saved_a_task_loses_nothing() {
    let (mut a, mut b) = pair();
    let whole = a.home.plain("npb_cg", &["A"]);
    for (round, mode) in ["pre-copy", "post-copy", "hybrid", "stop"].into_iter().enumerate() {
        a.start(mode, &[], "npb_cg", &["A"]);
        std::thread::sleep(Duration::from_millis(200));
        // It runs there as soon as this ends; the snapshot takes a while longer.
        migrate_by(&a, &b, mode, &["--mode", mode]);
        b.kill();
        // The source need not have stayed up either.
        if round % 2 == 1 {
            a.kill();
            a.serve();
        }
        b.serve();
        let began = Instant::now();
        while a.state(mode) != "exited" && b.state(mode) != "exited" {
            assert!(began.elapsed() < Duration::from_secs(60), "{}\n{}", a.log(), b.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        let owner = if a.state(mode) == "exited" { &a } else { &b };
        let log = owner.run(&["logs", mode]).ok().stdout;
        assert_eq!(log.lines().last(), whole.lines().last(), "{mode}");
    }
}

#[test]
fn a_task_moves_between_instruction_sets() {
    let (mut a, mut b) = (Node::new("a"), Node::new("b"));
    b.foreign = true;
    found(&mut a);
    // Compiling is work for this machine: the emulated one finds the image, and the key that signed it.
    let wasm = guest("sha256");
    a.run(&["compile", wasm.to_str().unwrap(), "--target", "aarch64", "-o", "sha256.img"]).ok();
    for (from, to) in [(a.home.cache(), b.home.cache()), (a.home.data(), b.home.data())] {
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        assert!(Command::new("cp").arg("-r").args([from, to]).status().unwrap().success());
    }
    join(&a, &mut b);
    b.serve();
    let whole = a.home.plain("sha256", &["800"]);
    a.start("hash", &[], "sha256", &["800"]);
    migrate(&a, &b, "hash");
    std::thread::sleep(Duration::from_millis(300));
    migrate(&b, &a, "hash");
    a.wait("hash", "exited");
    assert_eq!(a.run(&["logs", "hash"]).ok().stdout, whole);
}

#[test]
fn clients_see_no_byte_lost_or_doubled_and_no_reset_in_fifty_moves() {
    let (a, b) = pair();
    let port = free_port();
    a.start("echo", &["--publish", &port.to_string()], "echo", &[]);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..3).map(|_| scope.spawn(|| talk(port, &stop))).collect();
        let moves = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..25 {
                migrate(&a, &b, "echo");
                migrate(&b, &a, "echo");
            }
        }));
        stop.store(true, Ordering::SeqCst);
        moves.unwrap();
        for client in clients {
            assert!(client.join().unwrap() > 100_000);
        }
    });
    a.run(&["stop", "echo"]).ok();
    a.wait("echo", "stopped");
    let began = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_ok() {
        assert!(began.elapsed() < Duration::from_secs(10), "the port is still open");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_clean_end_loses_nothing_and_a_crash_no_more_than_a_snapshot() {
    let (mut a, _b) = pair();
    let whole = a.home.plain("npb_cg", &["A"]);
    a.start("cg", &["--checkpoint-every", "1s"], "npb_cg", &["A"]);
    std::thread::sleep(Duration::from_millis(300));
    a.end();
    a.serve();
    a.wait("cg", "running");
    std::thread::sleep(Duration::from_millis(1300));
    a.kill();
    a.serve();
    a.wait("cg", "exited");
    // The log has what was printed between the snapshot and the crash twice, and nothing else is odd about it.
    let log = a.run(&["logs", "cg"]).ok().stdout;
    let ends = |text: &str| text.lines().rev().take(2).map(String::from).collect::<Vec<_>>();
    assert_eq!(ends(&log), ends(&whole));
    assert!(whole.lines().all(|line| log.lines().any(|l| l == line)), "{log}");
}

#[test]
fn a_destination_that_cannot_take_a_task_says_why_and_the_task_runs_on() {
    let (mut a, mut b) = (Node::new("a"), Node::new("b"));
    found(&mut a);
    join(&a, &mut b);
    b.serve_with(&["--memory", "24MiB", "--cpus", "1"]);
    let dir = a.home.path("data");
    std::fs::create_dir(&dir).unwrap();
    let dir = format!("{}::/data", dir.display());
    a.start("big", &[], "binary-trees", &["21"]);
    a.start("dir", &["--dir", &dir], "sleeper", &["600"]);
    a.start("wide", &["--cpus", "2"], "sleeper", &["600"]);
    a.start("small", &[], "sleeper", &["600"]);
    b.start("small", &["--cpus", "0.1"], "sleeper", &["600"]);
    for (name, why) in [("dir", "--share"), ("wide", "processors"), ("small", "a task named small"), ("big", "memory")]
    {
        let done = a.run(&["migrate", name, "--to", "b"]).fails(why);
        assert!(done.stderr.contains("stays where it is"), "{done:?}");
        assert_eq!(a.state(name), "running");
    }
    a.run(&["migrate", "small", "--to", "nowhere"]).fails("no node named nowhere");
    a.run(&["migrate", "small", "--to", "a"]).fails("is on a already");
    a.run(&["migrate", "nothing", "--to", "b"]).fails("no task named nothing");
    b.run(&["stop", "small"]).ok();
    migrate(&a, &b, "small");
}

#[test]
fn killed_agents_leave_one_owner() {
    let (mut a, mut b) = pair();
    let whole = a.home.plain("npb_cg", &["A"]);
    for round in 0..6u64 {
        let name = format!("cg{round}");
        a.start(&name, &["--checkpoint-every", "1s"], "npb_cg", &["A"]);
        std::thread::sleep(Duration::from_millis(150));
        let mut moving = a.command(&["migrate", &name, "--to", "b"]).spawn().unwrap();
        // At another moment of the move each time.
        std::thread::sleep(Duration::from_millis(8 + round * 23));
        let victim = if round % 2 == 0 { &mut b } else { &mut a };
        victim.kill();
        let _ = moving.wait();
        victim.serve();
        let began = Instant::now();
        let owner = loop {
            let states = [a.state(&name), b.state(&name)];
            let ended: Vec<_> = states.iter().filter(|s| *s == "exited").collect();
            assert!(ended.len() < 2, "it ran twice: {states:?}");
            assert!(!states.iter().any(|s| s == "failed" || s == "trapped"), "{states:?}\n{}\n{}", a.log(), b.log());
            if ended.len() == 1 {
                break if states[0] == "exited" { &a } else { &b };
            }
            assert!(began.elapsed() < Duration::from_secs(60), "{states:?}\n{}\n{}", a.log(), b.log());
            std::thread::sleep(Duration::from_millis(50));
        };
        let log = owner.run(&["logs", &name]).ok().stdout;
        assert_eq!(log.lines().last(), whole.lines().last());
    }
}

#[test]
fn strangers_old_tokens_and_revoked_nodes_get_nothing() {
    let (a, mut b) = pair();
    let c = Node::new("c");
    let token = a.run(&["node", "invite", "--valid", "60s"]).ok().stdout;
    let token = format!("{}@{}", token.trim(), a.address);
    // Of another cluster.
    c.run(&["node", "init", "--cluster", "other", "--name", "c"]).ok();
    c.run(&["node", "join", &token]).fails("already");
    let fresh = Node::new("d");
    let broken = token.replace("wf1-", "wf1-a");
    fresh.run(&["node", "join", &broken]).fails("no token");
    fresh.run(&["node", "join", &token, "--name", "b"]).fails("there is a node named b");
    let expired = a.run(&["node", "invite", "--valid", "0s"]).ok().stdout;
    fresh.run(&["node", "join", &format!("{}@{}", expired.trim(), a.address), "--name", "d"]).fails("too old");
    fresh.run(&["node", "join", &token, "--name", "d"]).ok();
    let again = Node::new("e");
    again.run(&["node", "join", &token, "--name", "e"]).fails("used");
    // b was a member; now it is not, and what it offers is refused.
    b.start("t", &[], "sleeper", &["600"]);
    a.run(&["node", "revoke", "b"]).ok();
    b.run(&["migrate", "t", "--to", "a"]).fails("stays where it is");
    assert_eq!(b.state("t"), "running");
    assert!(a.log().contains("revoked"), "{}", a.log());
    // A new key is good, the old one is not any more.
    a.run(&["node", "rotate"]).ok();
    b.end();
    // Bytes that are no handshake cost the agent nothing.
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096], &[0, 32, 1, 2, 3]] {
        let mut stream = TcpStream::connect(&a.address).unwrap();
        let _ = stream.write_all(bytes);
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
    }
    assert!(a.run(&["nodes"]).ok().stdout.contains('a'));
}

#[test]
fn a_task_is_held_to_its_limits() {
    let (a, _b) = pair();
    let port = free_port();
    a.start("limited", &["--memory", "20MiB"], "binary-trees", &["17"]);
    // It asks for more than it may have, is told so, and ends by itself; the node does not mind.
    let began = Instant::now();
    while a.task("limited").is_some_and(|t| t["state"] == "running") {
        assert!(began.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_ne!(a.task("limited").unwrap()["status"], 0);
    let port_of_slow = free_port();
    a.start("slow", &["--publish", &port_of_slow.to_string(), "--network", "400kbit"], "echo", &[]);
    let mut client = TcpStream::connect(("127.0.0.1", port_of_slow)).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let began = Instant::now();
    client.write_all(&[7; 50_000]).unwrap();
    client.read_exact(&mut vec![0; 50_000]).unwrap();
    // A second each way, which overlap; a little is under way at once.
    assert!(began.elapsed() > Duration::from_millis(700), "{:?}", began.elapsed());
    a.start("brief", &["--time-limit", "1s"], "sleeper", &["600"]);
    a.wait("brief", "stopped");
    a.start("one", &["--publish", &port.to_string()], "echo", &[]);
    let wasm = guest("echo");
    let second = a.run(&["run", "-d", "--name", "two", "--publish", &port.to_string(), wasm.to_str().unwrap()]);
    second.fails("cannot publish port");
    a.run(&["run", "-d", "--name", "one", wasm.to_str().unwrap()]).fails("already on this node");
}
