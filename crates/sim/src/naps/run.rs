//! A task and its standby on a course, in simulated time.

use super::course::{Course, Point};
use crate::clock::{Nanos, SECOND};
use wayfare_policy::{Action, LinkSample, Policy, Settings, Synchroniser};

/// Seconds between two samples of the link, as the task's own traffic gives them.
const SAMPLE: usize = 5;

/// The bytes of a sync of a task that is so many seconds ahead of its standby: 1 + 64 (1 - exp(-x / 10 min)) MB.
pub fn size(ahead: f64) -> f64 {
    1e6 + 64e6 * (1.0 - (-ahead / 600.0).exp())
}

/// Who decides when to sync. Times in nanoseconds since the start.
pub trait Keeper {
    /// A second passes with this link; `sample` is what is measured, if anything.
    fn second(&mut self, now: Nanos, point: &Point, sample: Option<LinkSample>);
    /// The task has done so much, of which the standby lacks so much: to sync now?
    fn sync(&mut self, now: Nanos, work: Nanos, ahead: Nanos) -> bool;
    /// A sync is complete.
    fn finished(&mut self, now: Nanos, bytes: u64);
    /// The link has broken.
    fn broke(&mut self, now: Nanos);
    /// It is back, and both sides are alike.
    fn back(&mut self, now: Nanos, work: Nanos);
}

/// A synchroniser, driven as a node drives it.
#[derive(Clone, Debug)]
pub struct Driven {
    synchroniser: Synchroniser,
    next: Nanos,
}

impl Driven {
    /// By a policy.
    pub fn new(policy: Policy, settings: Settings) -> Self {
        Self { synchroniser: Synchroniser::new(policy, settings, 0), next: 0 }
    }
}

impl Keeper for Driven {
    fn second(&mut self, now: Nanos, point: &Point, sample: Option<LinkSample>) {
        if let (Some(sample), true) = (sample, point.up) {
            self.synchroniser.handle_heartbeat(now);
            self.synchroniser.handle_link_sample(now, sample);
            self.next = 0;
        }
    }

    fn sync(&mut self, now: Nanos, work: Nanos, ahead: Nanos) -> bool {
        if now < self.next {
            return false;
        }
        self.synchroniser.handle_progress(now, work);
        self.synchroniser.handle_dirty(now, size(ahead as f64 / SECOND as f64) as u64);
        match self.synchroniser.decide(now).action {
            Action::Sync => {
                self.synchroniser.handle_sync_started(now);
                self.next = 0;
                true
            }
            Action::WaitUntil(until) => {
                self.next = until;
                false
            }
        }
    }

    fn finished(&mut self, now: Nanos, bytes: u64) {
        self.synchroniser.handle_sync_finished(now, bytes);
        self.next = 0;
    }

    fn broke(&mut self, now: Nanos) {
        self.synchroniser.handle_outage_began(now);
    }

    fn back(&mut self, now: Nanos, work: Nanos) {
        self.synchroniser.handle_outage_ended(now);
        self.synchroniser.handle_alike(now, work);
        self.next = 0;
    }
}

/// Something worth a mark in a plot. Seconds since the start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    /// A sync that was complete, with its beginning.
    Synced {
        /// When it began.
        began: f64,
        /// When it was complete.
        ended: f64,
    },
    /// A sync that an outage has cut.
    Cut {
        /// When it began.
        began: f64,
        /// When the link broke.
        ended: f64,
    },
    /// An outage began, at which the standby lacked so many seconds of progress.
    Lost {
        /// When.
        at: f64,
        /// How much.
        seconds: f64,
    },
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Syncs begun.
    pub syncs: u32,
    /// Those that an outage has cut.
    pub cut: u32,
    /// Outages.
    pub outages: u32,
    /// Minutes of progress that the standby had to recompute.
    pub lost: f64,
    /// Bytes sent, those of cut syncs included.
    pub bytes: f64,
    /// Seconds that syncs took of the link.
    pub busy: f64,
    /// Seconds that the link was up.
    pub up: f64,
    /// What happened when.
    pub events: Vec<Event>,
}

impl Outcome {
    /// J: what a sync costs is `c`, in minutes.
    pub fn cost(&self, c: f64) -> f64 {
        f64::from(self.syncs) * c + self.lost
    }
}

/// A sync under way.
struct Flight {
    began: usize,
    bytes: f64,
    left: f64,
    work: usize,
}

/// Runs a course to its end.
pub fn run(course: &Course, keeper: &mut impl Keeper) -> Outcome {
    let mut out = Outcome::default();
    // Seconds of progress of the task, and that of the standby.
    let (mut work, mut safe) = (0, 0);
    let mut was_up = true;
    let mut flight: Option<Flight> = None;
    for (second, point) in course.points.iter().enumerate() {
        let now = second as Nanos * SECOND;
        if was_up && !point.up {
            out.outages += 1;
            let lost = (work - safe) as f64;
            out.lost += lost / 60.0;
            out.events.push(Event::Lost { at: second as f64, seconds: lost });
            if let Some(flight) = flight.take() {
                out.cut += 1;
                out.events.push(Event::Cut { began: flight.began as f64, ended: second as f64 });
            }
            keeper.broke(now);
        } else if !was_up && point.up {
            safe = work;
            keeper.back(now, work as Nanos * SECOND);
        }
        was_up = point.up;
        let sample = (second % SAMPLE == 0 && point.up).then(|| LinkSample {
            bandwidth: Some(point.bandwidth as u64),
            delay: point.delay.map(|delay| (delay * SECOND as f64) as Nanos),
        });
        keeper.second(now, point, sample);
        if !point.up {
            continue;
        }
        out.up += 1.0;
        if flight.is_none() && keeper.sync(now, work as Nanos * SECOND, (work - safe) as Nanos * SECOND) {
            out.syncs += 1;
            let bytes = size((work - safe) as f64);
            // A round trip, as bytes that are not sent meanwhile.
            let left = bytes + 2.0 * point.delay.unwrap_or(0.0) * point.bandwidth;
            flight = Some(Flight { began: second, bytes, left, work });
        }
        if let Some(running) = &mut flight {
            let sent = running.left.min(point.bandwidth);
            running.left -= sent;
            out.bytes += sent;
            out.busy += if point.bandwidth > 0.0 { sent / point.bandwidth } else { 1.0 };
            if running.left <= 0.0 {
                safe = running.work;
                let ended = (second + 1) as f64;
                out.events.push(Event::Synced { began: running.began as f64, ended });
                keeper.finished((second as Nanos + 1) * SECOND, running.bytes as u64);
                flight = None;
            }
        }
        work += 1;
    }
    out
}
