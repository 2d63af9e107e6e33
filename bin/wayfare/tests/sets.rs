//! Sets of tasks, which a controller has nodes run: each task ends once, with the right output, whatever happens to nodes and to the
//! controller.

mod support;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::Duration;
use support::cluster::{PATIENCE, free_port, until};
use support::{Done, Home, guest};

/// A cluster as `wayfare up` makes it.
struct Up {
    home: Home,
    nodes: &'static str,
    listen: String,
    api: String,
    process: Option<Child>,
}

impl Up {
    fn new(nodes: &'static str) -> Up {
        let at = || format!("127.0.0.1:{}", free_port());
        let mut up = Up { home: Home::new(), nodes, listen: at(), api: at(), process: None };
        up.start();
        up
    }

    fn start(&mut self) {
        let args = ["up", "--nodes", self.nodes, "--listen", &self.listen, "--api", &self.api, "--cpus", "1"];
        let log = std::fs::OpenOptions::new().append(true).create(true).open(self.home.path("up.log")).unwrap();
        let mut command = self.home.wayfare(args);
        self.process = Some(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
        let all: usize = self.nodes.parse().unwrap();
        until("all nodes are there", PATIENCE, || {
            self.try_ask("GET", "/v1/nodes", b"").is_some_and(|(status, nodes)| {
                status == 200 && nodes.as_array().unwrap().iter().filter(|node| node["state"] == "ready").count() == all
            })
        });
    }

    /// As a power cut of the machine that it is on; nodes in processes of their own go on.
    fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    fn pid_of(&self, node: u32) -> Pid {
        let text = std::fs::read_to_string(self.home.path(&format!("state/nodes/{node}/agent.pid"))).unwrap();
        Pid::from_raw(text.trim().parse().unwrap()).unwrap()
    }

    fn run(&self, args: &[&str]) -> Done {
        self.home.ended(&mut self.home.wayfare(args))
    }

    fn token(&self) -> Option<String> {
        let text = std::fs::read(self.home.path("state/controller/access.json")).ok()?;
        Some(serde_json::from_slice::<Value>(&text).ok()?["token"].as_str()?.to_string())
    }

    fn try_ask(&self, method: &str, path: &str, body: &[u8]) -> Option<(u16, Value)> {
        self.ask_as(&self.token()?, method, path, body)
    }

    fn ask(&self, method: &str, path: &str, body: &[u8]) -> (u16, Value) {
        self.try_ask(method, path, body).unwrap()
    }

    fn ask_as(&self, token: &str, method: &str, path: &str, body: &[u8]) -> Option<(u16, Value)> {
        let mut stream = TcpStream::connect(&self.api).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {token}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).ok()?;
        // A body that is too long is refused before all of it is said.
        let _ = stream.write_all(body);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        let text = answer.split_once("\r\n\r\n").map_or("", |(_, text)| text);
        Some((status, serde_json::from_str(text).unwrap_or(Value::Null)))
    }

    fn submit(&self, set: &Value) -> Done {
        let path = self.home.path("set.json");
        std::fs::write(&path, set.to_string()).unwrap();
        self.run(&["submit", path.to_str().unwrap()])
    }

    fn tasks(&self, set: &str) -> Vec<Value> {
        let (_, tasks) = self.ask("GET", &format!("/v1/tasks?set={set}"), b"");
        tasks.as_array().unwrap().clone()
    }

    /// Every task of the set has succeeded once, and has printed what it should.
    fn check(&self, set: &str, line: &str) {
        for task in self.tasks(set) {
            assert_eq!(task["state"], "succeeded", "{task}");
            let name = task["name"].as_str().unwrap();
            assert_eq!(self.run(&["logs", name]).ok().stdout.trim(), line, "{task}");
        }
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if self.process.is_none() {
            return;
        }
        let mut process = self.process.take().unwrap();
        let _ = kill_process(Pid::from_raw(process.id() as i32).unwrap(), Signal::TERM);
        let _ = process.wait();
    }
}

fn set(name: &str, program: &str, args: &[&str], count: u32) -> Value {
    serde_json::json!({"name": name, "tasks": [
        {"name": format!("{name}-{program}"), "image": guest(program), "args": args, "count": count, "cores": 0.5}]})
}

/// What the set's tasks print.
fn printed(program: &str, args: &[&str]) -> String {
    Home::new().plain(program, args).trim().to_string()
}

#[test]
fn a_set_is_run_by_all_nodes() {
    let up = Up::new("3");
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
    // One that nobody wants any more.
    up.submit(&set("long", "steady", &["4", "100000", "10"], 1)).ok();
    until("it runs", PATIENCE, || up.tasks("long")[0]["state"] == "running");
    up.run(&["cancel", "long-steady"]).ok();
    until("it is cancelled", PATIENCE, || up.tasks("long")[0]["state"] == "cancelled");
    up.run(&["cancel", "long-steady"]).fails("is over");
}

#[test]
fn nodes_and_the_controller_may_be_killed() {
    let mut up = Up::new("3");
    // It prints when it is done: one that begins anew has not said anything before.
    let args = ["20000"];
    let line = printed("pi", &args);
    up.submit(&set("night", "pi", &args, 60)).ok();
    let some_are_over = |up: &Up, n: usize| {
        until("some are over", PATIENCE, || {
            up.tasks("night").iter().filter(|task| task["state"] == "succeeded").count() >= n
        })
    };
    some_are_over(&up, 3);
    kill_process(up.pid_of(2), Signal::KILL).unwrap();
    until("it is missed", PATIENCE, || up.ask("GET", "/v1/nodes", b"").1.as_array().unwrap()[1]["state"] == "lost");
    up.kill();
    std::thread::sleep(Duration::from_millis(500));
    up.start();
    until("all are over", 2 * PATIENCE, || up.tasks("night").iter().all(|task| task["ended"].is_u64()));
    up.check("night", &line);
    assert!(up.tasks("night").iter().any(|task| task["attempt"].as_u64() > Some(1)), "some were started anew");
    // Nobody has any of it, or of what was given up, any more.
    for node in ["node1", "node2", "node3"] {
        let nothing = || !up.run(&["ps", "-a", "--node", node]).ok().stdout.contains("night-");
        until("it is forgotten there", PATIENCE, nothing);
    }
}

#[test]
fn a_node_is_drained_and_nothing_is_started_anew() {
    let up = Up::new("3");
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
    let up = Up::new("1");
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
