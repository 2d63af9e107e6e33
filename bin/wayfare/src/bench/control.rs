//! What the controller costs: how long a task waits on a node that has nothing else to do, how many are taken in a second, and
//! what an agent needs that does nothing. Real processes, by HTTP, on this machine.

use super::{Bench, Row, guest};
use crate::api::Api;
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use wayfare_snapshot::Digest;

/// Longest time that anything may take which is not measured.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long an agent that has nothing to do is watched.
const IDLE: Duration = Duration::from_secs(20);

/// A cluster as `wayfare up` makes it, in a temporary directory.
struct Up {
    dir: TempDir,
    process: Child,
}

impl Up {
    fn new(nodes: u32, cpus: &str) -> Result<Up> {
        let dir = TempDir::new()?;
        let at = || -> Result<String> { Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string()) };
        let nodes = nodes.to_string();
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["up", "--nodes", &nodes, "--listen", &at()?, "--api", &at()?, "--cpus", cpus]);
        for (variable, below) in [("WAYFARE_STATE", "state"), ("XDG_CACHE_HOME", "cache"), ("XDG_RUNTIME_DIR", "run")] {
            command.env(variable, dir.path().join(below));
        }
        std::fs::create_dir(dir.path().join("run"))?;
        let log = std::fs::File::create(dir.path().join("up.log"))?;
        let process = command.env("HOME", dir.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?;
        let up = Up { dir, process };
        let wanted = nodes.parse::<usize>()?;
        let by = Instant::now() + PATIENCE;
        while up.api().and_then(|api| api.get::<Vec<Value>>("/v1/nodes")).map_or(0, |nodes| nodes.len()) < wanted {
            if Instant::now() > by {
                bail!("the nodes do not come: {}", std::fs::read_to_string(up.dir.path().join("up.log"))?);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(up)
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn api(&self) -> Result<Api> {
        Api::of(Some(&self.state()))
    }

    /// Has the controller know a program.
    fn upload(&self, path: &Path) -> Result<String> {
        let wasm = std::fs::read(path)?;
        let digest = Digest::of(&wasm).to_string();
        self.api()?.put(&format!("/v1/images/{digest}"), &wasm)?;
        Ok(digest)
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.process.id() as i32) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.process.wait();
    }
}

/// The thesis's experiment, for real, at the size that a small machine bears: the nine programs of Table 5-1 in about its parts, on two
/// nodes of one processor each; everything on the first node, then on both.
///
/// # Errors
/// When something does not work.
pub fn real(args: &Bench) -> Result<Vec<Row>> {
    /// Program, arguments, how many; some tenths of a second of work each.
    const MIX: [(&str, &[&str], u32); 9] = [
        ("maze", &["400"], 1),
        ("sha256", &["16"], 12),
        ("queens", &["11"], 4),
        ("quicksort", &["500000"], 6),
        ("hashzip", &["4"], 12),
        ("dynprog", &["6000"], 2),
        ("huffman", &["4"], 3),
        ("pi", &["8000"], 1),
        ("matrix", &["400"], 1),
    ];
    let up = Up::new(2, "1")?;
    let api = up.api()?;
    let mut images = Vec::new();
    for (program, ..) in MIX {
        images.push(up.upload(&guest(args, program)?)?);
    }
    let run = |name: &str, local_only: bool| -> Result<f64> {
        let tasks: Vec<Value> = MIX
            .iter()
            .zip(&images)
            .map(|((program, args, count), image)| {
                json!({ "name": format!("{name}-{program}"), "image": image, "args": args, "count": count,
                    "memory": 64 << 20, "local_only": local_only })
            })
            .collect();
        api.post("/v1/sets", json!({ "name": name, "tasks": tasks }).to_string().as_bytes())?;
        let by = Instant::now() + 5 * PATIENCE;
        loop {
            let set: Value = api.get(&format!("/v1/sets/{name}"))?;
            if let Some(ended) = set["ended"].as_u64() {
                if set["succeeded"] != set["total"] {
                    bail!("not all of {name} has succeeded: {set}");
                }
                return Ok(ended.saturating_sub(set["submitted"].as_u64().unwrap_or(0)) as f64 / 1e3);
            }
            if Instant::now() > by {
                bail!("{name} does not end: {set}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    // How long each takes is learnt, and compiled what is compiled once on each node.
    run("before", false)?;
    let (local, off) = (run("local", true)?, run("all", false)?);
    let note = format!(
        "{} tasks: {local:.1} s on one node, {off:.1} s on two alike; ideal 50.00",
        MIX.map(|m| m.2).iter().sum::<u32>()
    );
    let mut row = row("A, real programs on real nodes", 100.0 * (1.0 - off / local), "%", 0.0, true, note);
    row.target = None;
    Ok(vec![row])
}

fn row(name: &str, value: f64, unit: &'static str, target: f64, at_least: bool, note: String) -> Row {
    Row { name: name.into(), value, unit, target: Some(target), at_least, ratio: None, note }
}

/// From the request to the word that the task runs, on a node that has nothing else to do and has run the program before.
///
/// # Errors
/// When something does not work.
pub fn latency(args: &Bench) -> Result<Vec<Row>> {
    let up = Up::new(1, "1")?;
    let image = up.upload(&guest(args, "hello")?)?;
    let api = up.api()?;
    let events = BufReader::new(api.stream("/v1/events")?);
    let (told, states) = mpsc::channel();
    std::thread::spawn(move || {
        for line in events.lines().map_while(Result::ok) {
            let event = line.strip_prefix("data:").and_then(|json| serde_json::from_str::<Value>(json).ok());
            let Some(event) = event.filter(|event| event["kind"] == "task") else { continue };
            let word = |key: &str| event["task"][key].as_str().unwrap_or_default().to_string();
            if told.send((Instant::now(), word("name"), word("state"), word("why"))).is_err() {
                return;
            }
        }
    });
    let mut took = Vec::new();
    for i in 0..200 + args.runs {
        let name = format!("quick-{i}");
        let task = json!({ "name": name, "image": image, "cores": 1.0, "memory": 32 << 20 });
        let body = task.to_string();
        let began = Instant::now();
        api.post("/v1/tasks", body.as_bytes())?;
        loop {
            let (at, of, state, why) = states.recv_timeout(PATIENCE).context("nothing is heard of the task")?;
            if of != name {
                continue;
            }
            match state.as_str() {
                "running" => took.push((at - began).as_secs_f64() * 1e3),
                "succeeded" => break,
                "failed" | "cancelled" => bail!("{name} has {state}: {why}"),
                _ => {}
            }
        }
    }
    // The first ones compile the program, and open what is open from then on.
    let mut took = took.split_off(args.runs as usize);
    took.sort_by(f64::total_cmp);
    let at = |part: f64| took.get(((took.len() - 1) as f64 * part) as usize).copied().unwrap_or(f64::NAN);
    let note = format!("of {}; median {:.1}, largest {:.1}", took.len(), at(0.5), at(1.0));
    Ok(vec![row("submit to running, p99", at(0.99), "ms", 20.0, false, note)])
}

/// Tasks that are taken in a second: on the disk when the answer comes.
///
/// # Errors
/// When something does not work.
pub fn rate(args: &Bench) -> Result<Vec<Row>> {
    let up = Up::new(1, "1")?;
    let image = up.upload(&guest(args, "sleeper")?)?;
    let api = up.api()?;
    // It has the node to itself: the others wait.
    let post = |path: &str, body: Value| api.post(path, body.to_string().as_bytes());
    post("/v1/tasks", json!({ "name": "first", "image": image, "args": ["3600"] }))?;
    let task = |name: String, count: u32| json!({ "name": name, "image": image, "args": ["1"], "count": count });
    const SETS: u32 = 20;
    const OF: u32 = 1000;
    let began = Instant::now();
    for i in 0..SETS {
        post("/v1/sets", json!({ "name": format!("set{i}"), "tasks": [task(format!("t{i}"), OF)] }))?;
    }
    let batches = f64::from(SETS * OF) / began.elapsed().as_secs_f64();
    // Each task a line of its own.
    let many: Vec<Value> = (0..OF).map(|i| task(format!("line-{i}"), 1)).collect();
    let began = Instant::now();
    post("/v1/sets", json!({ "name": "lines", "tasks": many }))?;
    let lines = f64::from(OF) / began.elapsed().as_secs_f64();
    const SINGLE: u32 = 500;
    let began = Instant::now();
    for i in 0..SINGLE {
        post("/v1/tasks", task(format!("single-{i}"), 1))?;
    }
    let one = f64::from(SINGLE) / began.elapsed().as_secs_f64();
    const CLIENTS: u32 = 8;
    let began = Instant::now();
    std::thread::scope(|scope| -> Result<()> {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (api, image) = (up.api(), image.clone());
                scope.spawn(move || -> Result<()> {
                    let api = api?;
                    for i in 0..SINGLE {
                        let name = format!("of-{client}-{i}");
                        let task = json!({ "name": name, "image": image, "args": ["1"] });
                        api.post("/v1/tasks", task.to_string().as_bytes())?;
                    }
                    Ok(())
                })
            })
            .collect();
        clients.into_iter().try_for_each(|client| client.join().unwrap_or_else(|_| bail!("a client panicked")))
    })?;
    let several = f64::from(CLIENTS * SINGLE) / began.elapsed().as_secs_f64();
    let note = format!("sets of {OF} by count; by a line each {lines:.0}");
    Ok(vec![
        row("tasks taken, in sets", batches, "1/s", 5000.0, true, note),
        row("tasks taken, singly", one, "1/s", 500.0, true, format!("one client; {CLIENTS} clients {several:.0}")),
    ])
}

/// What the agent of a node needs that has nothing to do, while a controller follows it.
///
/// # Errors
/// When something does not work.
pub fn idle(_: &Bench) -> Result<Vec<Row>> {
    let up = Up::new(2, "1")?;
    let pid = std::fs::read_to_string(up.state().join("nodes/2/agent.pid"))?;
    let pid = pid.trim();
    // What is done once when it joins is over.
    std::thread::sleep(Duration::from_secs(3));
    // Nanoseconds on a processor, of all its threads.
    let ran = || -> Result<f64> {
        let mut all = 0.0;
        for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            let stat = std::fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
            all += stat.split(' ').next().and_then(|ran| ran.parse::<f64>().ok()).unwrap_or(0.0);
        }
        Ok(all)
    };
    let (before, began) = (ran()?, Instant::now());
    std::thread::sleep(IDLE);
    let busy = (ran()? - before) / 1e9;
    let share = 100.0 * busy / began.elapsed().as_secs_f64();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let of = |key: &str| -> Result<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).with_context(|| format!("no {key}"))?;
        Ok(line.split_whitespace().next().context("no figure")?.parse::<f64>()? / 1024.0)
    };
    let (rss, anonymous) = (of("VmRSS:")?, of("RssAnon:")?);
    let note = format!("{anonymous:.1} of it its own, the rest is the program's file; KubeEdge 57-74, K3s 275");
    Ok(vec![
        row("agent with nothing to do, memory", rss, "MB", 25.0, false, note),
        row("agent with nothing to do, processor", share, "%", 0.1, false, format!("over {} s", IDLE.as_secs())),
    ])
}
