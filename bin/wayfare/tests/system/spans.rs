//! Spans for a collector: what `wayfare up` says of what it does, and that a collector which says nothing changes nothing.

use crate::support::cluster::{PATIENCE, until};
use crate::support::collector::{Collector, Span};
use crate::support::up::{Up, set};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// A client's.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn up(nodes: usize, collector: &Collector, more: &[(&'static str, &str)]) -> Up {
    let mut env = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.as_str()), ("OTEL_BSP_SCHEDULE_DELAY", "100")];
    env.extend(more);
    Up::with_env(nodes, &["--cpus", "1"], &env)
}

/// Brings the program, and submits the set as a client that has a trace of its own.
fn submit_traced(up: &Up, wish: &Value) -> u16 {
    let program = std::fs::read(wish["tasks"][0]["image"].as_str().unwrap()).unwrap();
    let digest = bring(up, &program);
    let mut wish = wish.clone();
    wish["tasks"][0]["image"] = digest.into();
    let more = format!("traceparent: 00-{TRACE}-{PARENT}-01\r\n");
    up.ask_with(&up.token().unwrap(), "POST", "/v1/sets", &more, wish.to_string().as_bytes()).unwrap().0
}

/// Brings a program: its digest.
fn bring(up: &Up, program: &[u8]) -> String {
    let digest = wayfare_snapshot::Digest::of(program).to_string();
    assert_eq!(up.ask("PUT", &format!("/v1/images/{digest}"), program).0, 204);
    digest
}

#[test]
fn a_clients_trace_goes_on_from_the_request_to_the_nodes() {
    let collector = Collector::new(true);
    let more = [
        ("OTEL_SERVICE_NAME", "edge"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=secret"),
    ];
    let mut up = up(2, &collector, &more);
    assert_eq!(submit_traced(&up, &set("night", "steady", &["4", "200", "10"], 1)), 201);
    let task = || up.ask("GET", "/v1/tasks/night-steady", b"").1;
    until("it runs", PATIENCE, || task()["state"] == "running");
    let from = task()["node"].as_str().unwrap().to_string();
    let to = if from == "node1" { "node2" } else { "node1" };
    let asked = json!({"to": to}).to_string();
    assert_eq!(up.ask("POST", "/v1/tasks/night-steady/move", asked.as_bytes()).0, 200);
    up.run(&["wait", "night"]).ok();
    assert_eq!(up.ask("GET", "/v1/tasks/nobody", b"").0, 404);
    // What is left is sent at the end.
    let began = Instant::now();
    up.stop();
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());

    let all = collector.spans();
    let find = |name: &str, so: &dyn Fn(&&Span) -> bool| -> Span {
        let found = all.iter().find(|span| span.name == name && so(span));
        let names: Vec<_> = all.iter().map(|span| &span.name).collect();
        found.unwrap_or_else(|| panic!("no {name} among {names:?}")).clone()
    };
    let request = find("POST /v1/sets", &|_| true);
    assert_eq!((request.trace.as_str(), request.parent.as_str()), (TRACE, PARENT));
    for (key, value) in [
        ("http.request.method", "POST"),
        ("http.route", "/v1/sets"),
        ("url.path", "/v1/sets"),
        ("http.response.status_code", "201"),
        ("service.name", "edge"),
        ("service.instance.id", "node1"),
        ("deployment.environment.name", "test"),
    ] {
        assert_eq!(request.get(key), Some(value), "{request:?}");
    }
    let submit = find("submit", &|_| true);
    assert_eq!((submit.trace.as_str(), &submit.parent), (TRACE, &request.id));
    assert_eq!(submit.get("wayfare.tasks"), Some("1"));
    let launch = find("launch", &|span| span.parent == submit.id);
    assert_eq!((launch.trace.as_str(), launch.is_error), (TRACE, false));
    assert_eq!(launch.get("wayfare.node"), Some(from.as_str()));
    assert_eq!(launch.get("wayfare.task.attempt"), Some("1"));
    assert!(launch.get("wayfare.reason").is_some(), "{launch:?}");
    let id = launch.get("wayfare.task.id").unwrap();
    // What nodes say of it: those in processes of their own are told apart by their names.
    let of = |node: &str| {
        let (node, id) = (node.to_string(), id.to_string());
        move |span: &&Span| {
            span.get("service.instance.id") == Some(node.as_str()) && span.get("wayfare.task.id") == Some(id.as_str())
        }
    };
    find("launch", &of(&from));
    let migrate = find("migrate", &of(&from));
    assert_eq!(migrate.get("wayfare.to"), Some(to));
    assert!(migrate.get("wayfare.move.bytes").unwrap().parse::<u64>().unwrap() > 0, "{migrate:?}");
    assert!(migrate.get("wayfare.move.downtime_ms").unwrap().parse::<f64>().unwrap() > 0.0, "{migrate:?}");
    let arrive = find("arrive", &of(to));
    assert_eq!(arrive.get("wayfare.from"), Some(from.as_str()));
    let asked = find("POST /v1/tasks/{name}/move", &|_| true);
    find("move", &|span| span.parent == asked.id && span.get("wayfare.move.bytes").is_some());
    find("collect", &|span| span.trace == TRACE);
    find("node joined", &|span| span.get("wayfare.node") == Some("node2"));
    let missed = find("GET /v1/tasks/{name}", &|span| span.get("http.response.status_code") == Some("404"));
    assert!(!missed.is_error && missed.parent.is_empty(), "{missed:?}");
    let heads = collector.heads();
    let proper = |head: &String| {
        let head = head.to_ascii_lowercase();
        head.starts_with("post /v1/traces ")
            && head.contains("content-type: application/x-protobuf")
            && head.contains("x-key: secret")
    };
    assert!(heads.iter().all(proper), "{heads:?}");
    // The lines are what they are without.
    let log = std::fs::read_to_string(up.home.path("up.log")).unwrap();
    assert!(!log.contains("launch{") && !log.contains("spans"), "{log}");
}

#[test]
fn a_collector_that_does_not_answer_stops_nothing_and_is_told_of_once() {
    let collector = Collector::new(false);
    let mut up = up(2, &collector, &[("OTEL_EXPORTER_OTLP_TIMEOUT", "300")]);
    let began = Instant::now();
    up.submit(&set("night", "steady", &["4", "3", "10"], 2)).ok();
    up.run(&["wait", "night"]).ok();
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    let log = || std::fs::read_to_string(up.home.path("up.log")).unwrap();
    until("it is told", PATIENCE, || log().contains("spans do not reach"));
    until("it was tried again", PATIENCE, || {
        assert_eq!(up.ask("GET", "/v1/tasks", b"").0, 200);
        collector.heads().len() > 6
    });
    // By each node, which are processes of their own, if it has done something.
    assert!(log().matches("spans do not reach").count() <= 2, "{}", log());
    let began = Instant::now();
    up.stop();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn what_is_not_spoken_is_said_and_everything_else_works() {
    let collector = Collector::new(true);
    let up = up(1, &collector, &[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]);
    let log = std::fs::read_to_string(up.home.path("up.log")).unwrap();
    assert!(log.contains("OTEL_EXPORTER_OTLP_PROTOCOL is grpc: only http/protobuf is spoken"), "{log}");
    let off = self::up(1, &collector, &[("OTEL_SDK_DISABLED", "true")]);
    let log = std::fs::read_to_string(off.home.path("up.log")).unwrap();
    assert!(!log.contains("spans"), "{log}");
    drop((up, off));
    assert!(collector.heads().is_empty(), "{:?}", collector.heads());
}
