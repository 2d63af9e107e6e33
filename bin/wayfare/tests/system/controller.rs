//! What users may ask of a controller besides sets: who may ask at all, and by which way; moves, standbys, histories, nodes.

use crate::support::cluster::{Node, PATIENCE, until};
use crate::support::up::{Up, printed, set};
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// What an access file of another user's is called for.
fn token_of(up: &Up, name: &str, role: &str) -> (String, String) {
    let text = up.run(&["token", "add", name, "--role", role]).ok().stdout;
    let path = up.home.path(&format!("{name}.json"));
    std::fs::write(&path, &text).unwrap();
    let access: Value = serde_json::from_str(&text).unwrap();
    (path.to_str().unwrap().into(), access["token"].as_str().unwrap().into())
}

#[test]
fn tokens_have_roles_and_end() {
    let up = Up::new(1);
    let (file, view) = token_of(&up, "wall", "view");
    let (_, operate) = token_of(&up, "alice", "operate");
    // Somebody who has nothing but the file.
    let mut elsewhere = up.home.wayfare(["tasks"]);
    elsewhere.env_remove("WAYFARE_STATE").env("WAYFARE_ACCESS", &file);
    assert!(up.home.ended(&mut elsewhere).ok().stdout.contains("NAME"));
    let status =
        |token: &str, method: &str, path: &str, body: &str| up.ask_as(token, method, path, body.as_bytes()).unwrap().0;
    let task = json!({"name": "t", "image": "ab".repeat(32)}).to_string();
    assert_eq!(status(&view, "GET", "/v1/tasks", ""), 200);
    assert_eq!(status(&view, "GET", "/metrics", ""), 200);
    assert_eq!(status(&view, "POST", "/v1/tasks", &task), 403);
    assert_eq!(status(&operate, "POST", "/v1/tasks", &task), 422);
    for (method, path) in [("POST", "/v1/nodes/node1/cordon"), ("GET", "/v1/tokens"), ("POST", "/v1/invitations")] {
        assert_eq!(status(&operate, method, path, ""), 403, "{path}");
    }
    up.run(&["token", "add", "alice", "--role", "view"]).fails("there is a token named alice already");
    up.run(&["token", "rm", "admin"]).fails("the token that you ask with");
    up.run(&["token", "rm", "wall"]).ok();
    assert_eq!(status(&view, "GET", "/v1/tasks", ""), 401);
    let brief: Value =
        serde_json::from_str(&up.run(&["token", "add", "brief", "--role", "view", "--ttl", "1s"]).ok().stdout).unwrap();
    until("it is over", PATIENCE, || status(brief["token"].as_str().unwrap(), "GET", "/v1/tasks", "") == 401);
    let listed = up.run(&["token", "ls"]).ok().stdout;
    assert!(listed.contains("alice") && listed.contains("over") && !listed.contains("wall"), "{listed}");
}

#[test]
fn whoever_has_twice_the_share_has_twice_the_cores_while_others_wait() {
    let mut up = Up::with(1, &["--cpus", "3"]);
    let (alice, _) = token_of(&up, "alice", "operate");
    let made = up.run(&["token", "add", "bob", "--role", "operate", "--share", "4"]).ok().stdout;
    let bob = up.home.path("bob.json").to_str().unwrap().to_string();
    std::fs::write(&bob, made).unwrap();
    up.run(&["token", "share", "alice", "2"]).ok();
    up.run(&["token", "share", "bob", "1"]).ok();
    up.run(&["token", "share", "nobody", "2"]).fails("no token named nobody");
    assert_eq!(up.run(&["token", "share", "bob", "0"]).status, Some(2));
    assert_eq!(up.ask("PUT", "/v1/tokens/bob/share", br#"{"share": 2000}"#).0, 422);
    let (_, operate) = token_of(&up, "carol", "operate");
    assert_eq!(up.ask_as(&operate, "PUT", "/v1/tokens/carol/share", br#"{"share": 9}"#).unwrap().0, 403);
    // A controller that begins anew knows it still.
    up.kill();
    up.start();
    let of = |name: &str| -> Value {
        let all: Value = serde_json::from_str(&up.run(&["token", "ls", "-o", "json"]).ok().stdout).unwrap();
        all.as_array().unwrap().iter().find(|token| token["name"] == name).unwrap().clone()
    };
    assert_eq!([of("alice")["share"].as_f64(), of("bob")["share"].as_f64()], [Some(2.0), Some(1.0)]);
    // Both wait when the node has room.
    let of_one_core = |name: &str, lines: &str, count: u32| {
        let mut wish = set(name, "steady", &["4", lines, "10"], count);
        wish["tasks"][0]["cores"] = json!(1);
        wish
    };
    up.submit(&of_one_core("before", "100000", 3)).ok();
    until("the node is full", PATIENCE, || of("admin")["cores"] == json!(3.0));
    for (file, name) in [(&bob, "of-bob"), (&alice, "of-alice")] {
        let wish = of_one_core(name, "40", 12);
        let path = up.home.path("set.json");
        std::fs::write(&path, wish.to_string()).unwrap();
        let mut submit = up.home.wayfare(["submit", path.to_str().unwrap()]);
        up.home.ended(submit.env_remove("WAYFARE_STATE").env("WAYFARE_ACCESS", file)).ok();
    }
    assert_eq!(of("bob")["cores_waiting"], json!(12.0));
    for n in 1..=3 {
        up.run(&["cancel", &format!("before-steady-{n}")]).ok();
    }
    until("three run", PATIENCE, || of("alice")["cores"] == json!(2.0) && of("bob")["cores"] == json!(1.0));
    let metrics = raw(
        &up,
        &format!(
            "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {}\r\n\r\n",
            up.token().unwrap()
        ),
    );
    assert!(metrics.contains("wayfare_owner_share{owner=\"alice\"} 2.0"), "{metrics}");
    up.run(&["wait", "of-bob"]).ok();
    up.run(&["wait", "of-alice"]).ok();
    let mut all: Vec<Value> = ["of-bob", "of-alice"].iter().flat_map(|set| up.tasks(set)).collect();
    all.sort_by_key(|task| task["started"].as_u64());
    let first = all.iter().take(12).filter(|task| task["owner"] == "alice").count();
    assert!((7..=9).contains(&first), "alice has {first} of the first twelve");
    let (a, b) = (of("alice"), of("bob"));
    assert!(a["core_seconds"].as_f64().unwrap() > 1.0 && b["cores"] == json!(0.0), "{a} {b}");
    let listed = up.run(&["token", "ls"]).ok().stdout;
    assert!(listed.contains("SHARE") && listed.contains("CORE-SECONDS"), "{listed}");
}

/// Asks with headers of one's own; status, headers and body as they come.
fn raw(up: &Up, request: &str) -> String {
    let mut stream = TcpStream::connect(&up.api).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_browser_signs_in_and_no_other_page_acts_for_it() {
    let up = Up::new(1);
    let body = json!({"token": up.token().unwrap()}).to_string();
    let sign_in = |body: &str| {
        let n = body.len();
        raw(
            &up,
            &format!("POST /v1/session HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {n}\r\n\r\n{body}"),
        )
    };
    assert!(sign_in("{\"token\": \"wrong\"}").starts_with("HTTP/1.1 401"));
    let answer = sign_in(&body);
    let cookie = answer.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap();
    let with = |method: &str, path: &str, more: &str| {
        let head =
            format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncookie: a=b; {cookie}\r\n{more}");
        raw(&up, &format!("{head}content-length: 0\r\n\r\n"))
    };
    assert!(with("GET", "/v1/session", "").contains("\"role\":\"admin\""));
    assert!(with("POST", "/v1/nodes/node1/cordon", "").starts_with("HTTP/1.1 403"));
    assert!(with("POST", "/v1/nodes/node1/cordon", "x-wayfare: 1\r\n").starts_with("HTTP/1.1 204"));
    // An image makes a member: nobody has one by looking.
    for (method, head, status) in [("GET", "", 405), ("HEAD", "x-wayfare: 1\r\n", 405), ("POST", "", 403)] {
        let answer = with(method, "/v1/unikernels/x86_64", head);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{method} {head}: {answer}");
    }
}

#[test]
fn others_than_this_machines_users_are_spoken_to_by_tls() {
    let up = Up::with(1, &["--cpus", "1", "--tls"]);
    let (file, _) = token_of(&up, "far", "view");
    let mut access: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert!(access["url"].as_str().unwrap().starts_with("https://"));
    let tasks = |file: &str| {
        let mut tasks = up.home.wayfare(["tasks"]);
        up.home.ended(tasks.env_remove("WAYFARE_STATE").env("WAYFARE_ACCESS", file))
    };
    tasks(&file).ok();
    assert!(!raw(&up, "GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").contains("200 OK"));
    // Another authority is not this one.
    let other = Up::with(1, &["--cpus", "1", "--tls"]);
    let (file, _) = token_of(&other, "far", "view");
    let others: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    access["ca"] = others["ca"].clone();
    let mixed = up.home.path("mixed.json");
    std::fs::write(&mixed, access.to_string()).unwrap();
    tasks(mixed.to_str().unwrap()).fails("does not answer");
    // The authority stays the same when the controller begins anew, but for the signature.
    std::fs::write(up.home.path("half.json"), "{").unwrap();
    tasks(up.home.path("half.json").to_str().unwrap()).fails("half.json");
}

/// What is told from now on.
fn listen(up: &Up, after: Option<&str>) -> impl Iterator<Item = String> + use<> {
    let mut stream = TcpStream::connect(&up.api).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let token = up.token().unwrap();
    let after = after.map(|id| format!("last-event-id: {id}\r\n")).unwrap_or_default();
    let head = format!("GET /v1/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n{after}\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    BufReader::new(stream).lines().map_while(Result::ok)
}

#[test]
fn a_task_moves_when_it_is_asked_to_and_whoever_listens_hears_it() {
    let up = Up::new(3);
    let args = ["4", "300", "10"];
    let line = printed("steady", &args);
    let mut told = listen(&up, None);
    up.submit(&set("night", "steady", &args, 2)).ok();
    until("both run", PATIENCE, || up.tasks("night").iter().all(|task| task["state"] == "running"));
    let from = up.ask("GET", "/v1/tasks/night-steady-1", b"").1["node"].as_str().unwrap().to_string();
    let to = ["node1", "node2", "node3"].into_iter().find(|node| *node != from).unwrap();
    up.run(&["migrate", "night-steady-1", "--to", &from]).fails("already");
    up.run(&["migrate", "night-steady-1", "--to", "nobody"]).fails("no node named nobody");
    let moved = up.run(&["migrate", "night-steady-1", "--to", to]).ok().stdout;
    assert!(moved.contains(&format!("from {from} to {to}: it stood still for")), "{moved}");
    up.run(&["wait", "night"]).ok();
    up.check("night", &line);
    let shown = up.run(&["task", "night-steady-1"]).ok().stdout;
    assert!(shown.contains(&format!("it was moved here: it came from {from}, stood still")), "{shown}");
    let shown = up.run(&["task", "night-steady-1", "-o", "json"]).ok().stdout;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let states: Vec<&str> = shown["history"].as_array().unwrap().iter().map(|m| m["state"].as_str().unwrap()).collect();
    assert!(states.starts_with(&["waiting", "starting", "running"]) && states.ends_with(&["succeeded"]), "{states:?}");
    assert_eq!(shown["task"]["attempt"], 1);
    // One who was away hears the rest, and one who was away in another life that it is too late.
    let id = told.find_map(|line| line.strip_prefix("id: ").map(str::to_string)).unwrap();
    let of = |line: &String| line.starts_with("data:") && line.contains("night-steady-1") && line.contains("succeeded");
    assert!(listen(&up, Some(&id)).any(|line| of(&line)));
    assert!(told.any(|line| of(&line)));
    assert!(listen(&up, Some("7-7")).any(|line| line == "event: missed"));
    up.run(&["migrate", "night-steady-1", "--to", to]).fails("does not run: it is succeeded");
}

#[test]
fn a_task_with_a_standby_goes_on_when_its_node_is_lost() {
    let up = Up::new(3);
    let args = ["4", "600", "10"];
    let line = printed("steady", &args);
    // Not on the controller's own node.
    for node in ["node2", "node3"] {
        up.run(&["node", "label", node, "zone=a"]).ok();
    }
    let mut wish = set("night", "steady", &args, 1);
    wish["tasks"][0]["standby"] = true.into();
    wish["tasks"][0]["labels"] = json!(["zone=a"]);
    up.submit(&wish).ok();
    let task = || up.ask("GET", "/v1/tasks/night-steady", b"").1;
    until("it has a standby", PATIENCE, || task()["standby"].is_string());
    let (node, standby) =
        (task()["node"].as_str().unwrap().to_string(), task()["standby"].as_str().unwrap().to_string());
    let pairs = up.ask("GET", "/v1/standbys", b"").1;
    assert_eq!((&pairs[0]["primary"], &pairs[0]["standby"]), (&json!(node), &json!(standby)), "{pairs}");
    let printed_so_far = || up.run(&["logs", "night-steady"]).ok().stdout.lines().count();
    until("it has come some way", PATIENCE, || printed_so_far() > 50);
    let number = node.strip_prefix("node").unwrap().parse().unwrap();
    kill_process(up.pid_of(number), Signal::KILL).unwrap();
    until("it goes on", PATIENCE, || task()["node"] == json!(standby));
    up.run(&["wait", "night"]).ok();
    up.check("night", &line);
    assert_eq!(task()["attempt"], 1, "{}", task());
    let shown = up.run(&["task", "night-steady"]).ok().stdout;
    assert!(shown.contains(&format!("its standby here took over from {node}")), "{shown}");
}

#[test]
fn a_node_is_forgotten_when_nothing_runs_there() {
    let up = Up::new(3);
    up.run(&["node", "rm", "node1"]).fails("the controller's own node");
    up.run(&["node", "rm", "nobody"]).fails("no node named nobody");
    up.submit(&set("night", "steady", &["4", "100000", "10"], 6)).ok();
    until("all run", PATIENCE, || up.tasks("night").iter().all(|task| task["state"] == "running"));
    up.run(&["node", "rm", "node2"]).fails("drain it first");
    for task in up.tasks("night") {
        up.run(&["cancel", task["name"].as_str().unwrap()]).ok();
    }
    until("nothing runs", PATIENCE, || up.tasks("night").iter().all(|task| task["state"] == "cancelled"));
    up.run(&["node", "rm", "node2"]).ok();
    let nodes = up.run(&["nodes", "-o", "wide"]).ok().stdout;
    assert!(nodes.contains("node3") && !nodes.contains("node2"), "{nodes}");
    // It may not come back with what it had.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(up.ask("GET", "/v1/nodes/node2", b"").0, 404);
}

#[test]
fn nodes_that_are_invited_by_name_have_their_labels_when_they_come() {
    let up = Up::new(1);
    let nodes = json!([{"name": "gw1", "labels": ["zone=b", "zone=a", "zone=b"]}, {"name": "gw2"}]);
    let ask = |nodes: &Value| up.ask("POST", "/v1/invitations", json!({"nodes": nodes}).to_string().as_bytes());
    // All or none, and each that is wrong is named.
    let fields = |answer: Value| {
        let wrong = answer["errors"].as_array().unwrap().clone();
        wrong.iter().map(|one| one["field"].as_str().unwrap().to_string()).collect::<Vec<_>>()
    };
    let (status, wrong) = ask(&json!([{"name": "a b"}, {"name": "x", "labels": [""]}, {"name": "x"}]));
    assert_eq!(
        (status, fields(wrong)),
        (422, ["nodes[0].name", "nodes[1].labels[0]", "nodes[2].name"].map(Into::into).into())
    );
    let (status, wrong) = ask(&json!([{"name": "gw1"}, {"name": "node1"}]));
    assert_eq!((status, fields(wrong)), (409, vec!["nodes[1].name".into()]));
    let (status, one) = up.ask("POST", "/v1/invitations", b"");
    assert!(status == 201 && one[0]["command"].as_str().unwrap().contains("--name NAME"), "{one}");
    let file = up.home.path("nodes.json");
    std::fs::write(&file, nodes.to_string()).unwrap();
    let printed = up.run(&["node", "invite", "--nodes", file.to_str().unwrap()]).ok().stdout;
    let join = |line: &str| line.split(' ').nth(3).unwrap().to_string();
    let lines: Vec<&str> = printed.lines().collect();
    assert!(lines.len() == 2 && lines[0].contains("--name gw1 &&") && lines[1].contains("--name gw2 &&"), "{printed}");
    // It begins anew meanwhile.
    let mut up = up;
    up.kill();
    up.start();
    let mut gw1 = Node::new("gw1");
    gw1.run(&["node", "join", &join(lines[0]), "--name", "gw1"]).ok();
    gw1.serve();
    until("it is there", PATIENCE, || up.ask("GET", "/v1/nodes/gw1", b"").0 == 200);
    assert_eq!(up.ask("GET", "/v1/nodes/gw1", b"").1["labels"], json!(["zone=a", "zone=b"]));
    let again = up.run(&["node", "invite", "--nodes", file.to_str().unwrap()]);
    assert!(
        again.status == Some(1) && again.stderr.contains("nodes[0].name: there is a node named gw1 already"),
        "{again:?}"
    );
    gw1.end();
}
