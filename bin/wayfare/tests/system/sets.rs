//! Sets of tasks, which a controller has nodes run: each task ends once, with the right output, whatever happens to nodes and to the
//! controller.

use crate::support::cluster::{PATIENCE, until};
use crate::support::guest;
use crate::support::up::{Up, printed, set};
use rustix::process::{Signal, kill_process};
use std::time::Duration;

#[test]
fn a_set_is_run_by_all_nodes() {
    let up = Up::new(3);
    let line = printed("queens", &["8"]);
    up.submit(&set("night", "queens", &["8"], 30)).ok();
    let done = up.run(&["wait", "night"]).ok().stdout;
    assert!(done.starts_with("night: 30 of 30 succeeded in "), "{done}");
    up.check("night", &line);
    let nodes: std::collections::BTreeSet<String> =
        up.tasks("night").iter().map(|task| task["node"].as_str().unwrap().into()).collect();
    assert_eq!(nodes.into_iter().collect::<Vec<_>>(), ["node1", "node2", "node3"]);
    // One that fails says why.
    up.submit(&set("wrong", "queens", &["no number"], 1)).ok();
    let failed = up.run(&["wait", "wrong"]);
    assert_eq!(failed.status, Some(1));
    assert!(failed.stderr.contains("wrong-queens: it ended with status 2"), "{}", failed.stderr);
    up.run(&["rm", "wrong-queens"]).ok();
    assert_eq!(up.ask("GET", "/v1/sets/wrong", b"").0, 404);
    // One task, by flags.
    let queens = guest("queens");
    let one = ["submit", "--name", "one", "--image", queens.to_str().unwrap(), "--cores", "0.5", "--wait", "--", "8"];
    assert!(up.run(&one).ok().stdout.starts_with("one: 1 of 1 succeeded"));
    assert_eq!(up.run(&["logs", "one"]).ok().stdout.trim(), line);
    // One that nobody wants any more.
    up.submit(&set("long", "steady", &["4", "100000", "10"], 1)).ok();
    until("it runs", PATIENCE, || up.tasks("long")[0]["state"] == "running");
    up.run(&["cancel", "long-steady"]).ok();
    until("it is cancelled", PATIENCE, || up.tasks("long")[0]["state"] == "cancelled");
    up.run(&["cancel", "long-steady"]).fails("is over");
}

#[test]
fn a_set_of_200_ends_once_whatever_happens_to_nodes_and_the_controller() {
    let mut up = Up::new(4);
    // It prints when it is done: one that begins anew has not said anything before.
    let args = ["12000"];
    let line = printed("pi", &args);
    up.submit(&set("night", "pi", &args, 200)).ok();
    let over = |up: &Up| up.tasks("night").iter().filter(|task| task["state"] == "succeeded").count();
    let until_over = |up: &Up, n: usize| until("some are over", 2 * PATIENCE, || over(up) >= n);
    let is_lost = |up: &Up, node: &str| up.ask("GET", &format!("/v1/nodes/{node}"), b"").1["state"] == "lost";
    until_over(&up, 3);
    // Cut off: it works on, and nobody hears of it. What it had is run elsewhere meanwhile.
    kill_process(up.pid_of(3), Signal::STOP).unwrap();
    until("it is missed", PATIENCE, || is_lost(&up, "node3"));
    kill_process(up.pid_of(3), Signal::CONT).unwrap();
    until("it is there again", PATIENCE, || !is_lost(&up, "node3"));
    kill_process(up.pid_of(2), Signal::KILL).unwrap();
    until_over(&up, over(&up) + 5);
    up.run(&["node", "drain", "node4"]).ok();
    up.run(&["node", "cordon", "node4", "--undo"]).ok();
    until_over(&up, over(&up) + 5);
    up.kill();
    std::thread::sleep(Duration::from_millis(500));
    up.start();
    until("all are over", 4 * PATIENCE, || up.tasks("night").iter().all(|task| task["ended"].is_u64()));
    up.check("night", &line);
    assert!(up.tasks("night").iter().any(|task| task["attempt"].as_u64() > Some(1)), "some were started anew");
    // Nobody has any of it, or of what was given up, any more.
    for node in ["node1", "node2", "node3", "node4"] {
        let nothing = || !up.run(&["ps", "-a", "--node", node]).ok().stdout.contains("night-");
        until("it is forgotten there", PATIENCE, nothing);
    }
}

#[test]
fn a_node_is_drained_and_nothing_is_started_anew() {
    let up = Up::new(3);
    let args = ["4", "300", "10"];
    let line = printed("steady", &args);
    up.submit(&set("night", "steady", &args, 4)).ok();
    until("all run", PATIENCE, || up.tasks("night").iter().all(|task| task["state"] == "running"));
    let moved = up.run(&["node", "drain", "node2"]).ok().stdout;
    until("nothing runs there", PATIENCE, || up.tasks("night").iter().all(|task| task["node"] != "node2"));
    assert!(moved.is_empty() || moved.contains("moved night-steady"), "{moved}");
    up.run(&["wait", "night"]).ok();
    up.check("night", &line);
    assert!(up.tasks("night").iter().all(|task| task["attempt"] == 1));
    // It gets nothing until that is undone; then what asks for it by a label comes there.
    up.run(&["node", "label", "node2", "zone=a"]).ok();
    let mut there = set("there", "queens", &["6"], 2);
    there["tasks"][0]["labels"] = serde_json::json!(["zone=a"]);
    up.submit(&there).fails("no node that would do has the label zone=a");
    up.run(&["node", "cordon", "node2", "--undo"]).ok();
    up.submit(&there).ok();
    up.run(&["wait", "there"]).ok();
    assert!(up.tasks("there").iter().all(|task| task["node"] == "node2"));
}

#[test]
fn what_cannot_be_taken_is_refused_as_a_whole() {
    let up = Up::new(1);
    let refused = |body: &str, status: u16, text: &str| {
        let (got, answer) = up.ask("POST", "/v1/sets", body.as_bytes());
        assert!(got == status && answer.to_string().contains(text), "{got} {answer} for {body}");
    };
    let image = "ab".repeat(32);
    let task = |more: &str| format!("{{\"name\": \"t\", \"image\": \"{image}\"{more}}}");
    let in_set = |tasks: &str| format!("{{\"name\": \"s\", \"tasks\": [\n{tasks}\n]}}");
    refused("{", 400, "line 1");
    refused(&in_set(&format!("{},\n{{\"name\": 7}}", task(""))), 400, "tasks[1].name");
    refused(&in_set(&task(", \"colour\": 1")), 400, "unknown field");
    refused(&in_set(&task("")), 422, "PUT /v1/images");
    let mut good = set("s", "queens", &["6"], 1);
    good["tasks"][0]["cores"] = 64.into();
    up.submit(&good).fails("it asks for 64 cores");
    good["tasks"][0]["cores"] = 0.into();
    up.submit(&good).fails("tasks[0].cores");
    good["tasks"][0]["cores"] = 1.into();
    up.submit(&good).ok();
    up.submit(&good).fails("there is a set named s already");
    assert_eq!(up.tasks("s").len(), 1);
    // Who may not, and what is not there.
    assert_eq!(up.ask_as("wrong", "GET", "/v1/tasks", b"").unwrap().0, 401);
    assert_eq!(up.ask("GET", "/v1/tasks/nobody", b"").0, 404);
    assert_eq!(up.ask("GET", "/v1/nothing", b"").0, 404);
    assert_eq!(up.ask("PUT", "/v1/tasks", b"").0, 405);
    assert_eq!(up.ask("GET", "/v1/tasks?colour=1", b"").0, 400);
    assert_eq!(up.ask("PUT", &format!("/v1/images/{image}"), b"no module").0, 422);
    assert_eq!(up.ask("POST", "/v1/sets", &vec![b' '; 17 << 20]).0, 413);
    assert_eq!(up.ask("GET", "/healthz", b"").0, 200);
    up.run(&["wait", "s"]).ok();
    up.run(&["wait", "nobody"]).fails("no set named nobody");
    up.run(&["submit"]).is(2);
}
