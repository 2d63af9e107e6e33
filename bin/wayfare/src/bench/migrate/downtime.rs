//! How long a task stands still, and how long its move takes in all.
//!
//! The agents say how long: from the moment at which the task has stopped to the word that it runs there, which is half
//! a round trip later than it does. A client of the service looks at the same from outside.

use super::super::cluster::{self, migrate, order};
use super::super::median;
use super::{Downtime, Setting, link, ms, row, spread};
use crate::bench::Row;
use anyhow::{Context, Result};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use wayfare_node::control::Report;
use wayfare_transfer::message::Mode;

/// What is moved.
struct Case {
    program: &'static str,
    args: &'static [&'static str],
    /// How long it has run by then; in each further run, so much longer, where it does one thing after another.
    after: Duration,
    step: Duration,
    /// The bound that is asked for.
    bound: Duration,
}

/// One move of a task that has just been started: nothing of it is known there but its code.
fn once(setting: &Setting<'_>, case: &Case, run: u32, mode: Mode, port: Option<u16>) -> Result<Report> {
    let cluster = &setting.cluster;
    let name = format!("{}-{mode:?}", case.program).to_lowercase();
    cluster.a.run(&name, &setting.program(case.program)?, port, case.args)?;
    cluster.a.ran(&name, case.after + case.step * run)?;
    let mut order = order(&name, &cluster.b);
    order.mode = mode;
    order.max_downtime = case.bound.as_nanos() as u64;
    let report = migrate(&cluster.a, order).with_context(|| format!("{} does not move", case.program))?;
    cluster.a.left(&name)?;
    cluster.b.forget(&name)?;
    cluster.a.forget(&name)?;
    Ok(report)
}

struct Figures {
    reports: Vec<Report>,
    downtimes: Vec<f64>,
    /// Of the same task at the same moment, moved all at once: milliseconds that it stood still, and packed bytes of all
    /// pages that it had touched.
    stopped: Vec<f64>,
    packed: Vec<f64>,
}

fn figures(setting: &Setting<'_>, case: &Case, mode: Mode) -> Result<Figures> {
    // The first one compiles the program there.
    once(setting, case, 0, mode, None)?;
    let (mut reports, mut stopped, mut packed) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..setting.args.runs.max(1) {
        reports.push(once(setting, case, run, mode, None)?);
        let stop = once(setting, case, run, Mode::Stop, None)?;
        stopped.push(ms(stop.downtime));
        packed.push(stop.last.progress.bytes as f64);
    }
    let downtimes = reports.iter().map(|r| ms(r.downtime)).collect();
    Ok(Figures { reports, downtimes, stopped, packed })
}

impl Figures {
    fn each(&self, of: impl Fn(&Report) -> f64) -> Vec<f64> {
        self.reports.iter().map(of).collect()
    }

    fn once_ms(&self, setting: &Setting<'_>) -> f64 {
        setting.once(median(&mut self.packed.clone()) as u64) * 1e3
    }

    /// The rows that every program has.
    fn rows(&mut self, setting: &Setting<'_>, what: &str, target: f64) -> Vec<Row> {
        let middle = |mut values: Vec<f64>| median(&mut values);
        let rounds = middle(self.each(|r| f64::from(r.last.progress.round)));
        let last = middle(self.each(|r| r.last_bytes as f64));
        let state = middle(self.each(|r| r.state_bytes as f64));
        let note = format!(
            "{}; {rounds} rounds, last pages {:.0} KB, other state {:.0} KB; all at once, it would stand still for {:.0} ms",
            spread(&self.downtimes),
            last / 1e3,
            state / 1e3,
            middle(self.stopped.clone()),
        );
        let downtime = row(format!("downtime, {what}"), median(&mut self.downtimes), "ms", Some(target), note);
        let totals = self.each(|r| ms(r.total));
        let once: Vec<f64> = self.packed.iter().map(|bytes| setting.once(*bytes as u64) * 1e3).collect();
        let mut ratios: Vec<f64> = totals.iter().zip(&once).map(|(total, once)| total / once).collect();
        let note = format!(
            "{}; {:.1} ms against {:.1} for {:.2} MB",
            spread(&ratios),
            middle(totals),
            middle(once),
            middle(self.packed.clone()) / 1e6,
        );
        let total = row(format!("total time / pages once, {what}"), median(&mut ratios), "ratio", Some(1.3), note);
        vec![downtime, total]
    }
}

/// A task that writes to its memory at full speed.
pub fn cg(setting: &Setting<'_>, ours: &mut Vec<Downtime>) -> Result<Vec<Row>> {
    let case = Case {
        program: "npb_cg",
        args: &["A"],
        after: Duration::from_millis(400),
        step: Duration::from_millis(40),
        bound: Duration::from_millis(10),
    };
    let mut figures = figures(setting, &case, Mode::PreCopy)?;
    let mut rows = figures.rows(setting, "CG class A", 10.0);
    let bound = |r: &Report| 2.0 * setting.once(r.last_bytes) * 1e9;
    let mut ratios = figures.each(|r| r.downtime as f64 / bound(r));
    let note = format!("bound {:.2} ms; {}", median(&mut figures.each(|r| bound(r) / 1e6)), spread(&ratios));
    let name = "the same / 2 x (last pages / rate + RTT)";
    rows.insert(1, row(name, median(&mut ratios), "ratio", Some(1.0), note));
    ours.push(Downtime { program: "npb_cg", ms: rows[0].value, once_ms: figures.once_ms(setting) });
    Ok(rows)
}

/// A large program that fills, indexes, reads, changes and checks a database, moved at some moment of each.
pub fn sqlite(setting: &Setting<'_>, ours: &mut Vec<Downtime>) -> Result<Vec<Row>> {
    let case = Case {
        program: "sqlite",
        args: &["150000", "50"],
        after: Duration::from_millis(500),
        step: Duration::from_millis(370),
        bound: Duration::from_millis(5),
    };
    let mut copied = figures(setting, &case, Mode::PreCopy)?;
    let mut rows = copied.rows(setting, "SQLite, pre-copy", 5.0);
    ours.push(Downtime { program: "sqlite", ms: rows[0].value, once_ms: copied.once_ms(setting) });
    // It writes about as fast as the link carries: what it writes again may as well come after it.
    for (mode, name) in [(Mode::Hybrid, "SQLite, hybrid"), (Mode::PostCopy, "SQLite, post-copy")] {
        rows.extend(figures(setting, &case, mode)?.rows(setting, name, 5.0));
    }
    Ok(rows)
}

/// A service that waits for its clients, and one that has one.
pub fn idle(setting: &Setting<'_>, ours: &mut Vec<Downtime>) -> Result<Vec<Row>> {
    let after = Duration::from_millis(1);
    let case = Case { program: "echo", args: &[], after, step: Duration::ZERO, bound: Duration::from_millis(5) };
    once(setting, &case, 0, Mode::PreCopy, Some(cluster::free_port()?))?;
    let mut reports = Vec::new();
    for _ in 0..setting.args.runs.max(1) {
        reports.push(once(setting, &case, 0, Mode::PreCopy, Some(cluster::free_port()?))?);
    }
    let mut downtimes: Vec<f64> = reports.iter().map(|r| ms(r.downtime)).collect();
    let mut totals: Vec<f64> = reports.iter().map(|r| ms(r.total)).collect();
    let rtts = link::round_trips(setting)?;
    let note = format!(
        "{}; the whole move {:.1} ms; a byte goes there and back in {}",
        spread(&downtimes),
        median(&mut totals),
        rtts
    );
    let idle = row("downtime, idle service", median(&mut downtimes), "ms", Some(5.0), note);
    let sent: u64 = reports.iter().map(|r| r.last.progress.bytes).max().unwrap_or(0);
    ours.push(Downtime { program: "echo", ms: idle.value, once_ms: setting.once(sent) * 1e3 });
    let (mut gaps, mut said, mut usual) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..setting.args.runs.max(1) {
        let (gap, told, plain) = watched(setting, &case)?;
        gaps.push(gap);
        said.push(told);
        usual.push(plain);
    }
    let note = format!(
        "{}; without a move an answer takes {:.2} ms here; the agents say {:.2}",
        spread(&gaps),
        median(&mut usual),
        median(&mut said)
    );
    Ok(vec![idle, row("longest wait of a busy client", median(&mut gaps), "ms", None, note)])
}

/// The longest that a client waits for an answer while the service moves, what the agents say of that move, and the
/// longest that nine in ten answers took before it; milliseconds.
fn watched(setting: &Setting<'_>, case: &Case) -> Result<(f64, f64, f64)> {
    let (port, cluster) = (cluster::free_port()?, &setting.cluster);
    cluster.a.run("watched", &setting.program(case.program)?, Some(port), case.args)?;
    let mut client = None;
    cluster::until("the service answers", || {
        client = TcpStream::connect(("127.0.0.1", port)).ok();
        Ok(client.is_some())
    })?;
    let client = client.context("no connection")?;
    client.set_nodelay(true)?;
    client.set_read_timeout(Some(Duration::from_secs(20)))?;
    let (moving, over) = (AtomicBool::new(false), AtomicBool::new(false));
    let (report, waits) = std::thread::scope(|scope| {
        let pings = scope.spawn(|| -> Result<(Vec<f64>, Vec<f64>)> {
            let (mut read, mut write) = (BufReader::new(client.try_clone()?), &client);
            let (mut before, mut during, mut line) = (Vec::new(), Vec::new(), String::new());
            while !over.load(Ordering::Relaxed) {
                let began = Instant::now();
                write.write_all(b"are you there\n")?;
                line.clear();
                read.read_line(&mut line)?;
                let waited = began.elapsed().as_secs_f64() * 1e3;
                if moving.load(Ordering::Relaxed) { during.push(waited) } else { before.push(waited) }
            }
            Ok((before, during))
        });
        std::thread::sleep(Duration::from_millis(300));
        moving.store(true, Ordering::Relaxed);
        let mut order = order("watched", &cluster.b);
        order.max_downtime = case.bound.as_nanos() as u64;
        let report = migrate(&cluster.a, order);
        std::thread::sleep(Duration::from_millis(100));
        over.store(true, Ordering::Relaxed);
        (report, pings.join())
    });
    let report = report.context("the service does not move")?;
    let (mut before, during) = waits.ok().context("the client panicked")??;
    cluster.a.left("watched")?;
    cluster.b.forget("watched")?;
    cluster.a.forget("watched")?;
    before.sort_by(f64::total_cmp);
    let usual = before.get(before.len() * 9 / 10).copied().unwrap_or(f64::NAN);
    Ok((during.iter().copied().fold(0.0, f64::max), ms(report.downtime), usual))
}
