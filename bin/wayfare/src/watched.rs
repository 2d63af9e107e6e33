//! `wayfare protected NAME --plot`: watches a task and its standby, and draws what happened: the link, syncs, outages, and
//! work that was done again.

use crate::cli::Asked;
use crate::{output, protect, simulate};
use anyhow::{Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use wayfare_node::protection::{Pair, Role};
use wayfare_sim::naps::plot::{Lane, watched};
use wayfare_sim::naps::{Course, Event, Outcome, Point};

/// Between two looks: a point of the chart.
const LOOK: Duration = Duration::from_millis(100);
/// Nothing heard for so long is an outage, until something is: three signs of life that should have come.
const SILENCE: u64 = 300_000_000;
/// So many points in a row of one kind, and it is not a moment in which a task goes over, or a link that is being dialled.
const STEADY: usize = 3;
/// What the other node said so long ago says nothing of now.
const STALE: Duration = Duration::from_secs(1);
/// Most points: a day.
const MOST: usize = 864_000;

/// Watches, and writes the chart.
///
/// # Errors
/// When there is no such pair here, or the chart cannot be written.
pub fn watch(asked: &Asked, name: &str, plot: &Path, long: Option<Duration>) -> Result<ExitCode> {
    ensure!(find(asked, name)?.is_some(), "{name} has no standby, and is none here");
    let far = Mutex::new(None);
    let over = AtomicBool::new(false);
    let record = std::thread::scope(|scope| {
        scope.spawn(|| look_there(asked, name, &far, &over));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let record =
            runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(look(asked, name, long, &far)));
        over.store(true, Ordering::SeqCst);
        record
    })?;
    ensure!(!record.points.is_empty(), "nothing was seen");
    let (outcome, sum) = (&record.outcome, record.sum());
    let course = Course { name: format!("{name} and its standby"), points: record.points.clone() };
    let lane = Lane { name: "work that the standby lacks", outcome };
    simulate::write(plot, &watched(&course, lane, sum.clone(), LOOK.as_secs_f64()))?;
    output::print(&format!("{sum}: {}\n", plot.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn find(asked: &Asked, name: &str) -> Result<Option<Pair>> {
    Ok(protect::pairs(asked)?.into_iter().find(|pair| pair.name == name))
}

/// What the node says where the task is, while it can be asked: it alone knows what it has measured of the link.
fn look_there(asked: &Asked, name: &str, far: &Mutex<Option<(Instant, Pair)>>, over: &AtomicBool) {
    while !over.load(Ordering::SeqCst) {
        let near = find(asked, name).ok().flatten().filter(|pair| pair.role == Role::Standby && pair.connected);
        let there = near.map(|pair| Asked { node: Some(pair.peer), at: asked.at.clone() });
        if let Some(pair) = there.and_then(|there| find(&there, name).ok().flatten()) {
            *far.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), pair));
        }
        std::thread::sleep(LOOK * 2);
    }
}

async fn look(
    asked: &Asked,
    name: &str,
    long: Option<Duration>,
    far: &Mutex<Option<(Instant, Pair)>>,
) -> Result<Record> {
    let bar = bar(long);
    let (mut record, began) = (Record::default(), Instant::now());
    let mut ticks = tokio::time::interval(LOOK);
    while record.points.len() < MOST && long.is_none_or(|long| began.elapsed() < long) {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = tokio::signal::ctrl_c() => break,
        }
        let far = far.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let far = far.filter(|(at, _)| at.elapsed() < STALE).map(|(_, pair)| pair);
        // An agent that ends is as good as a link that breaks.
        record.take(find(asked, name).ok().flatten(), far);
        bar.set_position(began.elapsed().as_secs());
        bar.set_message(record.sum());
    }
    bar.finish_and_clear();
    Ok(record)
}

fn bar(long: Option<Duration>) -> ProgressBar {
    let (bar, style) = match long {
        Some(long) => (ProgressBar::new(long.as_secs()), "{bar:30} {pos}/{len} s  {msg}"),
        None => (ProgressBar::new_spinner(), "{spinner} {elapsed}  {msg}"),
    };
    ProgressStyle::with_template(style).map_or(bar.clone(), |style| bar.with_style(style))
}

/// What was seen, by points.
#[derive(Default)]
struct Record {
    points: Vec<Point>,
    outcome: Outcome,
    /// As it was last.
    last: Option<Pair>,
    /// Points in a row in which nothing was heard, and in which something was.
    silent: usize,
    heard: usize,
    /// The outage that goes on: when it began, how old the standby's state was then in points, and which role was this node's.
    outage: Option<(usize, f64, Role)>,
    /// Work done again, seconds.
    recomputed: f64,
}

impl Record {
    fn take(&mut self, pair: Option<Pair>, far: Option<Pair>) {
        let now = self.points.len();
        let points = |nanos: u64| nanos as f64 / LOOK.as_nanos() as f64;
        let known = pair.clone().or_else(|| self.last.clone());
        let silent = pair.as_ref().is_none_or(|pair| !pair.connected || pair.heard.is_none_or(|heard| heard > SILENCE));
        let link =
            far.filter(|_| pair.as_ref().is_some_and(|pair| pair.role == Role::Standby)).or_else(|| known.clone());
        let was = self.points.last().map_or(0.0, |point| point.bandwidth);
        self.points.push(Point {
            bandwidth: link.as_ref().and_then(|pair| pair.bandwidth).map_or(was, |bandwidth| bandwidth as f64),
            delay: link.and_then(|pair| pair.delay).map(|delay| delay as f64 / 1e9),
            up: !silent && self.outage.is_none(),
            ..self.points.last().copied().unwrap_or(NOTHING)
        });
        (self.silent, self.heard) = if silent { (self.silent + 1, 0) } else { (0, self.heard + 1) };
        let told = pair.as_ref().and_then(|pair| pair.heard).map_or(0, |heard| points(heard) as usize);
        if silent
            && self.silent.max(told) >= STEADY
            && self.outage.is_none()
            && let Some(before) = self.last.clone()
        {
            // It began when something was heard last; what the standby lacked then is what the last look said, less what came since.
            let from = now.saturating_sub(told.max(self.silent - 1));
            self.points[from..].iter_mut().for_each(|point| point.up = false);
            let since = now.saturating_sub(1 + from) as f64;
            self.outage = Some((from, (before.age.map_or(0.0, points) - since).max(0.0), before.role));
            self.outcome.outages += 1;
        }
        let Some(pair) = pair else { return };
        if let Some((from, age, role)) = self.outage
            && pair.role != role
        {
            // The standby went on from what it had.
            self.outcome.events.push(Event::Lost { at: from as f64, seconds: age });
            self.recomputed += age * LOOK.as_secs_f64();
            self.outage = Some((from, age, pair.role));
        }
        if self.heard >= STEADY && self.outage.is_some() {
            self.outage = None;
            self.points[now + 1 - self.heard..].iter_mut().for_each(|point| point.up = true);
        }
        let same = self.last.as_ref().is_some_and(|last| (last.role, &last.peer) == (pair.role, &pair.peer));
        let before = self.last.as_ref().filter(|_| same).map_or(0, |last| last.sync);
        if pair.sync > before && self.last.is_some() {
            let ended = now as f64;
            let began = ended - pair.took.map_or(0.0, points);
            self.outcome.events.push(Event::Synced { began, ended });
            self.outcome.syncs += (pair.sync - before) as u32;
        }
        self.last = Some(pair);
    }

    fn sum(&self) -> String {
        let (syncs, outages) = (u64::from(self.outcome.syncs), u64::from(self.outcome.outages));
        let (syncs, outages) = (output::count(syncs, "sync"), output::count(outages, "outage"));
        format!("{syncs}, {outages}, {:.1} s of work done again", self.recomputed)
    }
}

/// Before anything was seen.
const NOTHING: Point = Point { bandwidth: 0.0, delay: None, up: false, hidden: wayfare_sim::naps::Hidden::Good };

#[cfg(test)]
mod tests {
    use super::*;
    use wayfare_node::protection::Terms;

    fn pair(role: Role, connected: bool, sync: u64, age_ms: u64) -> Pair {
        let terms = Terms::decode(
            br#"{"name": "sim", "standbys": [], "standby": "gateway", "policy": "auto", "home": "server"}"#,
        )
        .unwrap();
        let age = Some(age_ms * 1_000_000);
        Pair { connected, sync, age, heard: connected.then_some(0), ..Pair::new(&terms, role, "server") }
    }

    #[test]
    fn an_outage_costs_what_the_standby_lacked_when_it_began() {
        let mut record = Record::default();
        for i in 0..20 {
            record.take(Some(pair(Role::Standby, true, 1 + i / 10, i % 10 * 100)), None);
        }
        // The link is silent for 0.4 s before that is seen, and then this node takes over.
        record.take(Some(Pair { heard: Some(400_000_000), ..pair(Role::Standby, true, 2, 1300) }), None);
        for _ in 0..10 {
            record.take(Some(pair(Role::Primary, false, 0, 0)), None);
        }
        (0..3).for_each(|_| record.take(Some(pair(Role::Primary, true, 1, 0)), None));
        let outcome = &record.outcome;
        assert_eq!((outcome.outages, outcome.syncs), (1, 2));
        assert!((record.recomputed - 0.6).abs() < 1e-9, "{}", record.recomputed);
        assert!(outcome.events.contains(&Event::Lost { at: 16.0, seconds: 6.0 }), "{:?}", outcome.events);
        assert_eq!(record.points.iter().filter(|point| !point.up).count(), 15);
    }

    #[test]
    fn a_task_that_is_handed_over_loses_nothing() {
        let mut record = Record::default();
        record.take(Some(pair(Role::Standby, true, 5, 100)), None);
        record.take(Some(pair(Role::Primary, true, 1, 0)), None);
        assert_eq!((record.outcome.outages, record.recomputed), (0, 0.0));
    }
}
