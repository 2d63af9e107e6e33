//! Plans of sets: with a controller they say where tasks would go beside what runs; without one, on a cluster that is described.

use crate::support::cluster::{PATIENCE, until};
use crate::support::up::Up;
use crate::support::{Done, Home, guest};
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn run(home: &Home, args: &[&str]) -> Done {
    home.ended(&mut home.wayfare(args))
}

fn write(home: &Home, name: &str, value: &Value) -> String {
    let path = home.path(name);
    std::fs::write(&path, value.to_string()).unwrap();
    path.to_str().unwrap().into()
}

/// Tasks that run until they are cancelled, or for some tenths of a second.
fn set(name: &str, count: u32, more: Value) -> Value {
    let mut task = json!({"name": name, "image": guest("queens"), "args": ["8"], "count": count, "estimate": 5});
    task.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"name": name, "tasks": [task]})
}

fn planned(home: &Home, args: &[&str]) -> Value {
    let all: Vec<&str> = ["plan"].iter().chain(args).copied().chain(["-o", "json"]).collect();
    serde_json::from_str(&run(home, &all).ok().stdout).unwrap()
}

#[test]
fn a_plan_is_what_then_happens_and_nothing_is_done_by_it() {
    let up = Up::new(2);
    let mut speeds = BTreeMap::new();
    until("the nodes are measured", PATIENCE, || {
        let (_, nodes) = up.ask("GET", "/v1/nodes", b"");
        let measured = |node: &Value| Some((node["name"].as_str()?.to_string(), node["speed"].as_f64()?));
        speeds = nodes.as_array().unwrap().iter().filter_map(measured).collect();
        speeds.len() == 2
    });
    let file = write(&up.home, "night.json", &set("night", 6, json!({})));
    let plan = planned(&up.home, &[&file]);
    let tasks = plan["tasks"].as_array().unwrap();
    assert_eq!(tasks.len(), 6);
    let mut last = 0.0;
    for task in tasks {
        // Speeds are in steps of five per cent.
        let (start, end) = (task["start_s"].as_f64().unwrap(), task["end_s"].as_f64().unwrap());
        let of_five = (end - start) * speeds[task["node"].as_str().unwrap()] / 5.0;
        assert!((0.97..1.03).contains(&of_five), "{task} {speeds:?}");
        last = f64::max(last, end);
    }
    let (makespan, bound) = (plan["makespan_s"].as_f64().unwrap(), plan["lower_bound_s"].as_f64().unwrap());
    assert!(makespan == last && bound <= makespan && makespan < 1.4 * bound, "{plan}");
    let nodes = |tasks: &[Value]| {
        let mut names: Vec<String> = tasks.iter().map(|task| task["node"].as_str().unwrap().into()).collect();
        names.sort();
        names.dedup();
        names
    };
    assert_eq!(nodes(tasks), ["node1", "node2"]);
    assert_eq!(plan, planned(&up.home, &[&file]), "the same twice");
    // Nothing was sent, and no program had to be there.
    assert_eq!(run(&up.home, &["tasks", "-o", "json"]).ok().stdout.trim(), "[]");
    run(&up.home, &["submit", &file, "--wait"]).ok();
    let ran: Vec<Value> = serde_json::from_str(&run(&up.home, &["tasks", "night", "-o", "json"]).ok().stdout).unwrap();
    assert_eq!(nodes(&ran), nodes(tasks));
    // Now it is known how long they run.
    let again = planned(&up.home, &[&file]);
    assert!(again["makespan_s"].as_f64() < Some(5.0), "{again}");

    // What runs keeps its room.
    let mut long = set("long", 1, json!({"args": ["4", "100000", "10"], "estimate": 100}));
    long["tasks"][0]["image"] = guest("steady").to_str().into();
    run(&up.home, &["submit", &write(&up.home, "long.json", &long)]).ok();
    let runs = || run(&up.home, &["tasks", "long"]).ok().stdout.contains("running");
    until("it runs", PATIENCE, runs);
    let beside = planned(&up.home, &[&file]);
    assert_eq!(nodes(beside["tasks"].as_array().unwrap()).len(), 1, "{beside}");
    assert_eq!(beside["running"], 1);
    run(&up.home, &["cancel", "long"]).ok();

    // Refusals by the controller.
    let wide = write(&up.home, "wide.json", &set("wide", 1, json!({"cores": 64})));
    run(&up.home, &["plan", &wide]).is(1).fails("wide: refused: it asks for 64 cores");
    let wrong = write(&up.home, "wrong.json", &set("wrong", 1, json!({"cores": 0})));
    run(&up.home, &["plan", &wrong]).fails("set.tasks[0].cores: 0 is not 0.01 to 1024");
    let many = write(&up.home, "many.json", &set("many", 100_000, json!({})));
    run(&up.home, &["plan", &many, "--policy", "mbct-ga"]).fails("would take too long for 100000 tasks on 2 nodes");
}

#[test]
fn a_cluster_in_a_file_needs_no_controller() {
    let home = Home::new();
    let cluster = json!([{"name": "desk", "cores": 2, "memory": 1 << 30},
                         {"name": "server", "cores": 2, "memory": 1 << 30, "speed": 2, "labels": ["zone=a"]}]);
    let cluster = write(&home, "lab.json", &cluster);
    let mut tasks = set("night", 12, json!({}));
    // Nobody has this program; a plan does not need it.
    tasks["tasks"][0]["image"] = "queens.wasm".into();
    let file = write(&home, "night.json", &tasks);
    let plan = planned(&home, &[&file, "--cluster", &cluster]);
    assert_eq!(plan["tasks"].as_array().unwrap().len(), 12);
    assert_eq!((plan["makespan_s"].as_f64(), plan["lower_bound_s"].as_f64()), (Some(10.0), Some(10.0)));
    for policy in ["local", "memory-first", "mbct-ga", "earliest-finish", "local-search"] {
        let other = planned(&home, &[&file, "--cluster", &cluster, "--policy", policy]);
        assert!(other["makespan_s"].as_f64() >= plan["makespan_s"].as_f64(), "{other}");
    }
    let text = run(&home, &["plan", &file, "--cluster", &cluster, "--objective", "mean-response"]).ok().stdout;
    assert!(text.contains("the smallest task") && text.contains("12 tasks on 2 nodes by list"), "{text}");
    let chart = run(&home, &["plan", &file, "--cluster", &cluster, "-o", "svg"]).ok().stdout;
    assert!(chart.starts_with("<svg") && chart.matches("<g><title>").count() == 12 && chart.contains(">queens<"));

    let labelled = |label: &str| write(&home, "there.json", &set("there", 2, json!({"labels": [label]})));
    let plan = planned(&home, &[&labelled("zone=a"), "--cluster", &cluster]);
    assert!(plan["tasks"].as_array().unwrap().iter().all(|task| task["node"] == "server"));
    let refused = run(&home, &["plan", &labelled("zone=b"), "--cluster", &cluster]).is(1);
    assert!(refused.stderr.contains("there-1: refused: no node that would do has the label zone=b"));
}

#[test]
fn what_cannot_be_planned_is_told() {
    let home = Home::new();
    let file = write(&home, "night.json", &set("night", 1, json!({})));
    let fails = |cluster: &str, text: &str| {
        std::fs::write(home.path("lab.json"), cluster).unwrap();
        run(&home, &["plan", &file, "--cluster", home.path("lab.json").to_str().unwrap()]).is(1).fails(text);
    };
    fails(
        "[{\"name\": \"a\", \"memory\": 1000000,\n \"cores\": \"four\"}]",
        "[0].cores: invalid type: string \"four\"",
    );
    fails("[{\"name\": \"a\", \"memory\": 1000000,\n \"cores\": \"four\"}]", "line 2");
    fails("{}", "lab.json cannot be read");
    fails("[]", "0 nodes are not 1 to");
    fails("[{\"name\": \"a\", \"cores\": 0, \"memory\": 1000000}]", "[0].cores: 0 is not 0.01 to 4096");
    run(&home, &["plan", "none.json", "--cluster", "lab.json"]).fails("none.json");
    run(&home, &["plan", &file, "--cluster", "none.json"]).fails("none.json");
    let wrong = run(&home, &["plan", &file, "--policy", "best"]).is(2);
    assert!(wrong.stderr.contains("a policy is one of list, local, memory-first"), "{}", wrong.stderr);
    run(&home, &["plan", &file]).fails("start one with `wayfare up`");
    let mut missing = set("night", 1, json!({}));
    missing["tasks"][0]["image"] = "none.wasm".into();
    run(&home, &["plan", &write(&home, "missing.json", &missing)]).fails("none.wasm");
}

#[test]
fn experiments_run_in_simulated_time_and_are_the_same_twice() {
    let home = Home::new();
    let table = ["simulate", "table-5-3", "--sets", "1", "--policy", "list,memory-first", "-o", "json"];
    let one: Value = serde_json::from_str(&run(&home, &table).ok().stdout).unwrap();
    let sets = one["sets"].as_array().unwrap();
    assert_eq!((sets.len(), sets[0]["printed_percent"].as_f64()), (3, Some(78.08)));
    assert!(sets.iter().all(|set| set["policies"][0]["acceleration_percent"].as_f64() > Some(80.0)), "{one}");
    assert_eq!(one, serde_json::from_str::<Value>(&run(&home, &table).ok().stdout).unwrap());
    run(&home, &["simulate", "--nodes", "20", "--tasks", "500", "--policy", "list,mbct-ga"]).ok();
    run(&home, &["simulate", "sched", "--nodes", "10000", "--tasks", "100000", "--policy", "mbct-ga"])
        .fails("too long");
    run(&home, &["simulate", "sched", "--policy", "best"]).is(2);
    std::fs::write(home.path("times.json"), "{\"maze\": 1}").unwrap();
    let times = home.path("times.json");
    run(&home, &["simulate", "table-5-3", "--times", times.to_str().unwrap()]).fails("sha256 is missing");
    run(&home, &["simulate", "table-5-3", "--plot", home.path("t.svg").to_str().unwrap(), "--sets", "1"]).ok();
    assert!(std::fs::read_to_string(home.path("t.svg")).unwrap().contains("printed in the thesis"));
}
