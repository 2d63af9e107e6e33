//! Snapshots that a controller keeps: a task whose node is lost goes on from one, and people take, fetch, resume and remove them.
//! And what a running task's place is worth: where it could move, and when it does by itself.

use crate::support::cluster::{PATIENCE, free_port, until};
use crate::support::up::{Up, printed, set};
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};
use std::process::Stdio;

/// Memory, steps and milliseconds between them.
const STEADY: [&str; 3] = ["8", "400", "20"];

fn task(up: &Up, name: &str) -> Value {
    up.ask("GET", &format!("/v1/tasks/{name}"), b"").1
}

fn kept(up: &Up, name: &str) -> Vec<Value> {
    let (status, all) = up.ask("GET", &format!("/v1/tasks/{name}/snapshots"), b"");
    assert_eq!(status, 200, "{all}");
    all.as_array().unwrap().clone()
}

fn history(up: &Up, name: &str) -> String {
    up.ask("GET", &format!("/v1/tasks/{name}/history"), b"").1.to_string()
}

fn files(up: &Up) -> usize {
    std::fs::read_dir(up.home.path("state/controller/snapshots")).unwrap().count()
}

/// A set of one steady task on a node with the label `there`, of which a snapshot is made each second.
fn pictured(up: &Up, node: &str) {
    up.run(&["node", "label", node, "there"]).ok();
    let mut one = set("one", "steady", &STEADY, 1);
    one["tasks"][0]["labels"] = json!(["there"]);
    one["tasks"][0]["snapshot_every"] = 1.into();
    up.submit(&one).ok();
    until("it runs there", PATIENCE, || task(up, "one-steady")["node"] == node);
}

#[test]
fn a_task_whose_node_is_lost_goes_on_from_its_last_snapshot() {
    let mut up = Up::new(3);
    pictured(&up, "node2");
    until("old ones are gone", PATIENCE, || kept(&up, "one-steady").first().is_some_and(|s| s["id"] != 1));
    assert!(kept(&up, "one-steady").len() <= 3);
    up.run(&["node", "label", "node3", "there"]).ok();
    let log = up.run(&["logs", "one-steady"]).ok().stdout.lines().count();
    kill_process(up.pid_of(2), Signal::KILL).unwrap();
    until("it goes on", PATIENCE, || task(&up, "one-steady")["node"] == "node3");
    let last = task(&up, "one-steady")["snapshot"].as_u64().unwrap();
    assert!(last > 1, "{last}");
    // The controller as well, and what it goes on from is not forgotten.
    up.kill();
    up.start();
    assert_eq!(task(&up, "one-steady")["snapshot"], last);
    up.run(&["wait", "one"]).ok();
    up.check("one", &printed("steady", &STEADY));
    assert_eq!(task(&up, "one-steady")["attempt"], 2);
    assert!(history(&up, "one-steady").contains("node2 was lost: it goes on from its snapshot of"), "{log}");
    up.run(&["rm", "one-steady"]).ok();
    until("its snapshots are forgotten", PATIENCE, || files(&up) == 0);
}

#[test]
fn a_node_that_was_gone_for_a_moment_does_not_write_anything_twice() {
    let up = Up::new(2);
    pictured(&up, "node2");
    until("it has said something", PATIENCE, || up.run(&["logs", "one-steady"]).stdout.lines().count() > 30);
    let pid = up.pid_of(2);
    let words = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap();
    let words: Vec<String> = words.split(|b| *b == 0).skip(1).map(|w| String::from_utf8(w.into()).unwrap()).collect();
    kill_process(pid, Signal::KILL).unwrap();
    // At once, and where it was: sooner than the controller misses it.
    let address = up.ask("GET", "/v1/nodes/node2", b"").1["address"].as_str().unwrap().to_string();
    let at = words.iter().position(|word| word == "--listen").unwrap() + 1;
    let words: Vec<&str> = (0..words.len() - 1).map(|i| if i == at { &address } else { words[i].as_str() }).collect();
    let mut again = up.home.wayfare(&words);
    again.env("WAYFARE_STATE", up.home.path("state/nodes/2")).stdout(Stdio::null()).stderr(Stdio::null());
    let mut again = again.spawn().unwrap();
    let done = up.run(&["wait", "one"]);
    let steps = printed("steady", &STEADY);
    let log = up.run(&["logs", "one-steady"]).ok().stdout;
    kill_process(rustix::process::Pid::from_raw(again.id() as i32).unwrap(), Signal::TERM).unwrap();
    again.wait().unwrap();
    done.ok();
    assert_eq!(log.trim(), steps);
}

#[test]
fn snapshots_are_taken_fetched_resumed_and_removed_by_hand() {
    let up = Up::new(2);
    up.submit(&set("one", "steady", &STEADY, 1)).ok();
    until("it has said something", PATIENCE, || up.run(&["logs", "one-steady"]).stdout.lines().count() > 30);
    let told = up.run(&["snapshot", "take", "one-steady"]).ok().stdout;
    assert!(told.contains("snapshot 1 of one-steady"), "{told}");
    let file = up.home.path("one.snap");
    up.run(&["snapshot", "get", "1", "-o", file.to_str().unwrap()]).ok();
    up.run(&["snapshot", "verify", file.to_str().unwrap()]).ok();
    let other = up.home.path("other.snap");
    up.run(&["capture", "one-steady", "-o", other.to_str().unwrap()]).fails("--keep-running");
    up.run(&["capture", "one-steady", "--keep-running", "-o", other.to_str().unwrap()]).ok();
    // Outside of everything: what it prints is the rest of what it would have.
    let (whole, rest) = (printed("steady", &STEADY), up.run(&["resume", file.to_str().unwrap()]).ok().stdout);
    assert!(whole.ends_with(rest.trim()) && !rest.trim().is_empty());
    // As a task of the controller it has printed the first part, too.
    up.run(&["snapshot", "resume", "1", "--name", "again"]).ok();
    up.run(&["wait", "again"]).ok();
    assert_eq!(up.run(&["logs", "again"]).ok().stdout.trim(), whole);
    assert!(task(&up, "again")["snapshot"].is_u64());
    up.run(&["wait", "one"]).ok();
    up.check("one", &whole);
    let listed = up.run(&["snapshot", "ls", "one-steady"]).ok().stdout;
    assert!(listed.contains("by hand") && listed.lines().count() == 2, "{listed}");
    up.run(&["snapshot", "take", "one-steady"]).fails("it is succeeded");
    up.run(&["snapshot", "take", "nobody"]).fails("no task named nobody");
    up.run(&["snapshot", "get", "99", "-o", "x"]).fails("no snapshot 99");
    up.run(&["snapshot", "resume", "1", "--name", "again"]).fails("there is a task named again already");
    up.run(&["snapshot", "resume", "1", "--name", "a b"]).fails("cannot be a name");
    assert_eq!(up.ask("GET", "/v1/snapshots/x", b"").0, 400);
    assert_eq!(up.ask("GET", "/v1/tasks/one-steady/usage", b"").0, 409);
    up.run(&["snapshot", "rm", "1"]).ok();
    up.run(&["snapshot", "rm", "1"]).fails("no snapshot 1");
    up.run(&["rm", "again"]).ok();
    until("nothing is left", PATIENCE, || files(&up) == 0);
    // Who may only look does not get a task's memory.
    let text = up.run(&["token", "add", "wall", "--role", "view"]).ok().stdout;
    let token = serde_json::from_str::<Value>(&text).unwrap()["token"].as_str().unwrap().to_string();
    for (method, path) in [("GET", "/v1/snapshots/1"), ("POST", "/v1/tasks/one-steady/snapshots")] {
        assert_eq!(up.ask_as(&token, method, path, b"").unwrap().0, 403);
    }
}

#[test]
fn where_a_task_could_move_and_what_it_takes_is_told() {
    let up = Up::new(3);
    let mut one = set("one", "steady", &["16", "100000", "20"], 1);
    one["tasks"][0]["memory"] = (64 << 20).into();
    up.submit(&one).ok();
    // Before it says something it writes to all of its memory.
    until("it is at work", PATIENCE, || up.run(&["logs", "one-steady"]).stdout.lines().count() > 3);
    until("nodes have been measured", PATIENCE, || {
        let (_, nodes) = up.ask("GET", "/v1/nodes", b"");
        nodes.as_array().unwrap().iter().all(|node| {
            let measured = node["speed"].as_f64().is_some_and(|speed| speed > 1e-3);
            measured && (node["controller"] == true || node["bandwidth"].as_u64().is_some_and(|b| b > 1000))
        })
    });
    let (status, usage) = up.ask("GET", "/v1/tasks/one-steady/usage", b"");
    assert_eq!(status, 200, "{usage}");
    // Eight pages each 20 ms, and what the C library touches.
    let dirty = usage["dirty"].as_f64().unwrap();
    assert!(usage["memory"].as_u64().unwrap() >= 16 << 20 && (1e5..2e7).contains(&dirty), "{usage}");
    let here = task(&up, "one-steady")["node"].as_str().unwrap().to_string();
    let other = if here == "node1" { "node2" } else { "node1" };
    up.run(&["node", "cordon", other]).ok();
    let (_, told) = up.ask("GET", "/v1/tasks/one-steady/destinations", b"");
    let told = told.as_array().unwrap();
    assert_eq!(told.len(), 2, "{told:?}");
    let of = |node: &str| told.iter().find(|d| d["node"] == node).unwrap();
    assert!(of(other)["refused"].as_str().unwrap().contains("cordoned"), "{told:?}");
    let free = told.iter().find(|d| d["node"] != other).unwrap();
    let (downtime, took) = (free["downtime"].as_f64().unwrap(), free["took"].as_f64().unwrap());
    assert!(free["refused"].is_null() && downtime > 0.0 && downtime <= took, "{free}");
    up.run(&["cancel", "one-steady"]).ok();
}

/// A slow node joins: AArch64 code, emulated.
fn slow_node(up: &Up) -> std::process::Child {
    let invited = up.run(&["node", "invite"]).ok().stdout;
    let word = invited.split_whitespace().find(|word| word.len() > 30).unwrap().to_string();
    let elsewhere = |args: &[&str]| {
        let mut command = up.home.elsewhere(args);
        command.env("WAYFARE_STATE", up.home.path("slow"));
        command
    };
    let word = if word.contains('@') { word } else { format!("{word}@{}", up.listen()) };
    up.home.ended(&mut elsewhere(&["node", "join", &word, "--name", "slow"])).ok();
    let listen = format!("127.0.0.1:{}", free_port());
    let mut serve = elsewhere(&["node", "serve", "--listen", &listen, "--cpus", "1"]);
    let child = serve.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("it is measured", 2 * PATIENCE, || {
        up.ask("GET", "/v1/nodes/slow", b"").1["speed"].as_f64().is_some_and(|speed| speed < 0.5)
    });
    child
}

#[test]
fn a_task_on_a_slow_node_moves_to_a_faster_one_when_that_is_free() {
    if std::env::var_os("WAYFARE_AARCH64").is_none() {
        eprintln!("no second instruction set here: left out");
        return;
    }
    for stays in [false, true] {
        let up = if stays { Up::with(1, &["--cpus", "1", "--stay"]) } else { Up::new(1) };
        let mut slow = slow_node(&up);
        // Where the fast node takes nothing it begins on the slow one; it would wait for a fast one that is only busy.
        up.run(&["node", "cordon", "node1"]).ok();
        let mut one = set("one", "queens", &["14"], 1);
        one["tasks"][0]["cores"] = 1.into();
        one["tasks"][0]["estimate"] = 60.into();
        up.submit(&one).ok();
        until("it runs", 2 * PATIENCE, || task(&up, "one-queens")["state"] == "running");
        assert_eq!(task(&up, "one-queens")["node"], "slow");
        up.run(&["node", "cordon", "node1", "--undo"]).ok();
        if stays {
            std::thread::sleep(std::time::Duration::from_secs(4));
            assert_eq!(task(&up, "one-queens")["node"], "slow");
            up.run(&["cancel", "one-queens"]).ok();
        } else {
            until("it has moved", PATIENCE, || task(&up, "one-queens")["node"] == "node1");
            up.run(&["wait", "one"]).ok();
            up.check("one", &printed("queens", &["14"]));
            let (told, one) = (history(&up, "one-queens"), task(&up, "one-queens"));
            assert!(told.contains("is free and faster: move: gains") && one["attempt"] == 1, "{told}");
            assert!(told.contains("it ends sooner here: it came from slow"), "{told}");
        }
        kill_process(rustix::process::Pid::from_raw(slow.id() as i32).unwrap(), Signal::TERM).unwrap();
        slow.wait().unwrap();
    }
}
