//! What a task notices of its standby, and its clients of a takeover: agents as users have them, with a link between.

use super::cluster::{Cluster, free_port, migrate, order, until};
use super::{Bench, Row, guest, median};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use wayfare_sim::proxy::Shape;

/// Of a good network, bytes per second: 1 Gbit/s.
const RATE: u64 = 125_000_000;
/// Memory of the task that is paused, MiB.
const SIZE: usize = 256;
/// Syncs of it that count.
const SYNCS: usize = 50;
/// Longest wait for an answer.
const SILENCE: Duration = Duration::from_secs(20);

fn cluster(args: &Bench) -> Result<Cluster> {
    Cluster::start(&Shape::new(RATE, args.rtt / 2), &[])
}

fn row(name: &str, value: f64, unit: &'static str, target: f64, note: String) -> Row {
    Row { name: name.into(), value, unit, target: Some(target), at_least: false, ratio: None, note }
}

/// How long a task of 256 MiB stands still for a sync of what it wrote since the last one, about a hundredth of its pages;
/// against what the whole of it takes to be copied, which is the least that it would stand still for a whole state.
pub fn pause(args: &Bench) -> Result<Vec<Row>> {
    let cluster = cluster(args)?;
    // Eight pages each 5 ms: some 655, a hundredth, in 0.4 s.
    let size = SIZE.to_string();
    cluster.a.run("steady", &guest(args, "steady")?, None, &[&size, "100000000", "5"])?;
    cluster.a.ran("steady", Duration::from_secs(2))?;
    cluster.a.cli(&["protect", "steady", "--standby", "b", "--policy", "fixed:400ms"])?;
    let mut pauses = BTreeMap::new();
    let mut bytes = Vec::new();
    let first = cluster.a.pair("steady")?.context("it has no standby")?.sync;
    until("it syncs", || {
        let pair = cluster.a.pair("steady")?.context("it has no standby any more")?;
        // The first one has all there is.
        if let (Some(pause), true) = (pair.pause, pair.sync > first)
            && pauses.insert(pair.sync, pause as f64 / 1e6).is_none()
        {
            bytes.push(pair.bytes as f64 / 1e6);
        }
        std::thread::sleep(Duration::from_millis(20));
        Ok(pauses.len() >= SYNCS)
    })?;
    let mut pauses: Vec<f64> = pauses.into_values().collect();
    let middle = median(&mut pauses);
    let whole = copy_ms();
    let note = format!(
        "p90 {:.2}, at most {:.2} ms over {} syncs of {:.1} MB; to copy the whole takes {whole:.0} ms, {:.0} times as long",
        pauses[pauses.len() * 9 / 10],
        pauses[pauses.len() - 1],
        pauses.len(),
        median(&mut bytes),
        whole / middle,
    );
    Ok(vec![row("pause per sync, 256 MiB, 1 % dirty", middle, "ms", 2.0, note)])
}

/// Milliseconds that it takes to copy as much memory as the task has.
fn copy_ms() -> f64 {
    let from = vec![1_u8; SIZE << 20];
    let mut to = vec![0_u8; SIZE << 20];
    let mut times: Vec<f64> = (0..5)
        .map(|_| {
            let began = Instant::now();
            to.copy_from_slice(&from);
            std::hint::black_box(&mut to);
            began.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    median(&mut times)
}

/// How long after the link broke a client beside the standby hears the first answer from there.
pub fn takeover(args: &Bench) -> Result<Vec<Row>> {
    let mut waits = Vec::new();
    for _ in 0..args.runs.max(1) {
        waits.push(one_takeover(args)?);
    }
    let middle = median(&mut waits);
    let note = format!("{:.0} to {:.0} ms; the detector is at 500", waits[0], waits[waits.len() - 1]);
    Ok(vec![row("link breaks to first answer", middle, "ms", 600.0, note)])
}

fn one_takeover(args: &Bench) -> Result<f64> {
    let (cluster, port) = (cluster(args)?, free_port()?);
    // Its clients are at b, which is to be the standby.
    cluster.b.run("echo", &guest(args, "echo")?, Some(port), &[])?;
    migrate(&cluster.b, order("echo", &cluster.a))?;
    cluster.b.left("echo")?;
    cluster.a.cli(&["protect", "echo", "--standby", "b"])?;
    let client = TcpStream::connect(("127.0.0.1", port))?;
    client.set_nodelay(true)?;
    client.set_read_timeout(Some(SILENCE))?;
    let over = AtomicBool::new(false);
    let (cut, answers) = std::thread::scope(|scope| {
        let pings = scope.spawn(|| -> Result<Vec<Instant>> {
            let (mut read, mut write) = (BufReader::new(client.try_clone()?), &client);
            let (mut answers, mut line) = (Vec::new(), String::new());
            while !over.load(Ordering::Relaxed) {
                write.write_all(b"are you there\n")?;
                line.clear();
                read.read_line(&mut line)?;
                if line != "are you there\n" {
                    bail!("another answer: {line:?}");
                }
                answers.push(Instant::now());
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(answers)
        });
        std::thread::sleep(Duration::from_secs(3));
        let cut = Instant::now();
        cluster.cut();
        let runs = until("the standby takes over", || Ok(cluster.b.task("echo")?.is_some_and(|t| t.state.is_alive())));
        std::thread::sleep(Duration::from_millis(500));
        over.store(true, Ordering::Relaxed);
        (runs.map(|()| cut), pings.join())
    });
    let (cut, answers) = (cut?, answers.ok().context("the client panicked")??);
    // An answer that was on its way when the link broke is not from there; one that ended the longest silence is.
    let after: Vec<&Instant> = answers.iter().filter(|at| **at > cut).collect();
    let gap = after.windows(2).map(|pair| (*pair[1] - *pair[0], *pair[1])).max();
    let first = after.first().context("no answer after the takeover")?;
    let at = match gap {
        Some((silence, at)) if silence > **first - cut => at,
        _ => **first,
    };
    Ok((at - cut).as_secs_f64() * 1e3)
}

/// How much longer a busy task takes that has a standby, on a good network.
pub fn overhead(args: &Bench) -> Result<Vec<Row>> {
    let (cluster, program) = (cluster(args)?, guest(args, "sqlite")?);
    cluster.apart()?;
    let run = |protected: bool| -> Result<f64> {
        let began = Instant::now();
        cluster.a.run("busy", &program, None, &["150000", "5"])?;
        if protected {
            cluster.a.cli(&["protect", "busy", "--standby", "b"])?;
        }
        cluster.a.ends("busy")?;
        let took = began.elapsed().as_secs_f64();
        cluster.a.forget("busy")?;
        Ok(took)
    };
    // Both have it compiled.
    cluster.b.run("first", &program, None, &["1000", "1"])?;
    cluster.b.ends("first")?;
    run(false)?;
    let (mut ratios, mut plain) = (Vec::new(), Vec::new());
    for i in 0..args.runs.max(1) {
        // By turns first and second, so that a machine that gets slower favours neither.
        let first = run(i % 2 == 0)?;
        let second = run(i % 2 != 0)?;
        let (with, without) = if i % 2 == 0 { (first, second) } else { (second, first) };
        ratios.push((with / without - 1.0) * 100.0);
        plain.push(without);
    }
    cluster.together()?;
    let middle = median(&mut ratios);
    let note = format!(
        "{:.1} to {:.1} %; SQLite, {:.1} s, policy auto, the first sync included",
        ratios[0],
        ratios[ratios.len() - 1],
        median(&mut plain)
    );
    Ok(vec![row("overhead of a standby, busy task", middle, "%", 3.0, note)])
}
