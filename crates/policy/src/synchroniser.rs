//! One task and its standby: observations in, decisions out.

use crate::bounds::{Bounds, Budget};
use crate::delta::Delta;
use crate::hazard::{Hazard, Weights};
use crate::interval::{self, Costs};
use crate::link::Link;
use crate::naps::{self, Signs, Window};
use crate::reason::{Hold, Reason};
use crate::units::{MINUTE, SECOND, nanos, seconds, within};
use crate::{LinkSample, NEVER, Nanos, Policy};

/// The chance of the link's staying up below which a sync is not begun.
const LIKELY: f64 = 0.5;
/// Heartbeats overdue from which the other side counts as silent.
const SILENT: f64 = 3.0;
/// The longest that a decision to wait is good for without being asked again, while the task runs: signs change.
const LOOK_AGAIN: Nanos = 30 * SECOND;

/// How a task is protected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// What syncs and losses are worth.
    pub costs: Costs,
    /// What no policy may do. `fixed`, `naps` and `naps-printed` are held to the share only if [`Settings::bound_all`].
    pub bounds: Bounds,
    /// Whether the bounds hold for the policies that know none, too. A node says yes; a comparison with the thesis, no.
    pub bound_all: bool,
    /// Of the hazard.
    pub weights: Weights,
    /// NAPS: the sampling interval I.
    pub sampling: Nanos,
    /// NAPS: how many samples it looks back on. The thesis does not say.
    pub samples: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            costs: Costs::default(),
            bounds: Bounds::default(),
            bound_all: true,
            weights: Weights::default(),
            sampling: 4 * MINUTE,
            samples: 8,
        }
    }
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Begin a sync.
    Sync,
    /// Nothing before this moment; [`NEVER`] where only an observation can change that.
    WaitUntil(Nanos),
}

/// What to do and why.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    /// What.
    pub action: Action,
    /// Why; prints as one line.
    pub reason: Reason,
}

/// What a user may want to know of a pair.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    /// Progress that the standby does not have, and so what an outage now would lose.
    pub risk: Nanos,
    /// The interval that the policy goes by at present; none where it wants no sync.
    pub interval: Option<Nanos>,
    /// Outages per second that are expected.
    pub hazard: f64,
    /// Bytes of a sync now.
    pub size: u64,
    /// How long it would take; none where the bandwidth is not known.
    pub takes: Option<Nanos>,
    /// Seconds that the standby would take to recompute what is at risk.
    pub recompute: f64,
    /// Bytes per second.
    pub bandwidth: Option<f64>,
    /// Seconds, one way.
    pub delay: Option<f64>,
    /// Outages so far.
    pub outages: u32,
}

/// A sync under way.
#[derive(Clone, Copy, Debug)]
struct Flight {
    began: Nanos,
    /// Progress that it carries.
    carries: Nanos,
    dirty: Option<u64>,
}

/// NAPS between two samples.
#[derive(Clone, Copy, Debug)]
struct Sampling {
    window: Window,
    next: Nanos,
    /// Sums over the present sampling interval, and how many samples they are of.
    bandwidth: (f64, f64),
    delay: (f64, f64),
    /// The last score.
    score: f64,
    /// Whether the present moment is the end of a sampling interval.
    due: bool,
}

/// See the crate's head for the order of calls.
#[derive(Clone, Copy, Debug)]
pub struct Synchroniser {
    policy: Policy,
    settings: Settings,
    link: Link,
    hazard: Hazard,
    delta: Delta,
    budget: Budget,
    sampling: Sampling,
    now: Nanos,
    up: bool,
    /// Since when the task has done nothing.
    idle: Option<Nanos>,
    /// Progress of the task, and that of the standby.
    work: Nanos,
    safe: Nanos,
    /// When the last sync began, or both sides were last alike for another reason.
    since: Nanos,
    flight: Option<Flight>,
    cuts: u32,
    cut_at: Nanos,
}

impl Synchroniser {
    /// A task that runs and whose standby has all of it, over a link that is up.
    pub fn new(policy: Policy, settings: Settings, now: Nanos) -> Self {
        let settings = Settings {
            costs: settings.costs.checked(),
            bounds: settings.bounds.checked(),
            sampling: settings.sampling.max(SECOND),
            ..settings
        };
        let signs = if policy == Policy::NapsPrinted { Signs::Printed } else { Signs::Right };
        Self {
            policy,
            link: Link::new(),
            hazard: Hazard::new(settings.weights, now),
            delta: Delta::new(),
            budget: Budget::new(&settings.bounds, now),
            sampling: Sampling {
                window: Window::new(signs, settings.samples),
                next: now.saturating_add(settings.sampling),
                bandwidth: (0.0, 0.0),
                delay: (0.0, 0.0),
                score: 0.0,
                due: false,
            },
            settings,
            now,
            up: true,
            idle: None,
            work: 0,
            safe: 0,
            since: now,
            flight: None,
            cuts: 0,
            cut_at: now,
        }
    }

    /// The policy.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    fn advance(&mut self, now: Nanos) {
        self.now = now.max(self.now);
        self.budget.advance(self.now, self.up);
        self.hazard.advance(self.now);
    }

    /// Something has been measured of the link.
    pub fn handle_link_sample(&mut self, now: Nanos, sample: LinkSample) {
        self.advance(now);
        self.link.sample(self.now, sample);
        self.hazard.read(self.now, &self.link.signs());
        for (sum, x) in [
            (&mut self.sampling.bandwidth, sample.bandwidth.map(|b| b as f64)),
            (&mut self.sampling.delay, sample.delay.map(seconds)),
        ] {
            if let Some(x) = x {
                (sum.0, sum.1) = (sum.0 + x, sum.1 + 1.0);
            }
        }
    }

    /// A heartbeat has come from the standby.
    pub fn handle_heartbeat(&mut self, now: Nanos) {
        self.advance(now);
        self.link.heartbeat(self.now);
    }

    /// The task has done so much in all, in nanoseconds of the server's usual speed. It never does less.
    pub fn handle_progress(&mut self, now: Nanos, work: Nanos) {
        self.advance(now);
        self.work = work.max(self.work);
    }

    /// So many bytes of the task differ from what the last complete sync carried.
    pub fn handle_dirty(&mut self, now: Nanos, bytes: u64) {
        self.advance(now);
        self.delta.dirty(bytes);
    }

    /// The task does nothing, or goes on.
    pub fn handle_idle(&mut self, now: Nanos, idle: bool) {
        self.advance(now);
        self.idle = idle.then(|| self.idle.unwrap_or(self.now));
    }

    /// A sync has begun: it carries all progress that was told.
    pub fn handle_sync_started(&mut self, now: Nanos) {
        self.advance(now);
        self.flight = Some(Flight { began: self.now, carries: self.work, dirty: self.delta.dirty_bytes() });
        self.since = self.now;
    }

    /// It is complete on the standby, which took so many bytes.
    pub fn handle_sync_finished(&mut self, now: Nanos, bytes: u64) {
        self.advance(now);
        let Some(flight) = self.flight.take() else { return };
        self.budget.take(seconds(self.now - flight.began));
        self.delta.synced(flight.carries.saturating_sub(self.safe), bytes, flight.dirty);
        self.safe = flight.carries.max(self.safe);
        self.cuts = 0;
    }

    /// It was cut off after so many bytes, or given up.
    pub fn handle_sync_cut(&mut self, now: Nanos, _bytes: u64) {
        self.advance(now);
        let Some(flight) = self.flight.take() else { return };
        self.budget.take(seconds(self.now - flight.began));
        self.cuts = self.cuts.saturating_add(1);
        self.cut_at = self.now;
    }

    /// The link has broken. A sync under way is cut.
    pub fn handle_outage_began(&mut self, now: Nanos) {
        self.advance(now);
        self.handle_sync_cut(now, 0);
        self.hazard.outage_began(self.now);
        self.up = false;
    }

    /// The link is back.
    pub fn handle_outage_ended(&mut self, now: Nanos) {
        self.advance(now);
        self.hazard.outage_ended(self.now);
        self.link.restored(self.now);
        self.up = true;
        self.since = self.now;
    }

    /// Both sides have the same state again, with so much progress, not by a sync: after a hand-over, in either direction.
    pub fn handle_alike(&mut self, now: Nanos, work: Nanos) {
        self.advance(now);
        (self.work, self.safe, self.since) = (work, work, self.now);
        self.flight = None;
    }

    fn risk(&self) -> Nanos {
        self.work.saturating_sub(self.safe)
    }

    /// Seconds that a sync of all that is at risk takes at present; none where the bandwidth is not known.
    fn takes(&self) -> Option<f64> {
        let bandwidth = self.link.bandwidth()?;
        let size = self.delta.now(self.risk());
        Some(within(size / bandwidth + 2.0 * self.link.delay().unwrap_or(0.0), 0.0, 1e9))
    }

    /// Outages per second that the policy reckons with.
    fn lambda(&self) -> f64 {
        match self.policy {
            Policy::Auto => self.hazard.rate(self.link.silence(self.now).0),
            _ => interval::rate(self.hazard.outages(), self.hazard.uptime()),
        }
    }

    /// The interval that `auto` and `young` go by, seconds.
    fn interval(&self) -> f64 {
        let bounds = &self.settings.bounds;
        let (least, most) = (seconds(bounds.least), seconds(bounds.most));
        let best = interval::best(self.settings.costs, &self.delta, self.lambda(), most);
        within(best, least, most)
    }

    /// What to do now, and why. Ask again when the moment it gives has come, or anything has been told.
    pub fn decide(&mut self, now: Nanos) -> Decision {
        self.advance(now);
        self.sample();
        let hold = if !self.up {
            Some(Hold::Down)
        } else if self.flight.is_some() {
            Some(Hold::InFlight)
        } else if self.risk() == 0 || self.delta.dirty_bytes() == Some(0) {
            Some(if self.idle.is_some() { Hold::Idle } else { Hold::Clean })
        } else {
            None
        };
        if let Some(hold) = hold {
            // A task that runs makes progress that is not told by itself.
            let running = hold == Hold::Clean;
            let until = if running { self.now.saturating_add(self.settings.bounds.least) } else { NEVER };
            return Decision { action: Action::WaitUntil(until), reason: Reason::Hold(hold) };
        }
        let wanted = match self.policy {
            Policy::Auto | Policy::Young => self.want_by_risk(),
            Policy::Fixed(interval) => self.want_fixed(interval),
            Policy::Naps | Policy::NapsPrinted => self.want_naps(),
        };
        let bounded = self.settings.bound_all || matches!(self.policy, Policy::Auto | Policy::Young);
        if bounded { self.bound(wanted) } else { wanted }
    }

    fn want_by_risk(&self) -> Decision {
        let (risk, mut interval) = (seconds(self.risk()), self.interval());
        if let Some(idle) = self.idle {
            // What a task at rest has at risk does not grow, and so might stay below the interval for ever. It is synced
            // once as much has been wagered on no outage's coming as the sync costs.
            let Costs { per_sync, per_byte, slowdown } = self.settings.costs;
            let cost = per_sync + per_byte * self.delta.now(self.risk());
            let wagered = slowdown * self.lambda() * seconds(self.now - idle);
            interval = interval.min(within(cost / wagered.max(1e-12), 0.0, 1e9));
        }
        let action = if risk >= interval { Action::Sync } else { self.look_again(interval - risk) };
        let (bandwidth, delay) = (self.link.bandwidth(), self.link.delay());
        Decision { action, reason: Reason::Risk { risk, interval, hazard: self.lambda(), bandwidth, delay } }
    }

    fn want_fixed(&self, interval: Nanos) -> Decision {
        let at = self.since.saturating_add(interval);
        let action = if self.now >= at { Action::Sync } else { Action::WaitUntil(at) };
        let (since, interval) = (seconds(self.now - self.since), seconds(interval));
        Decision { action, reason: Reason::Fixed { since, interval } }
    }

    /// At the end of a sampling interval its mean becomes a sample.
    fn sample(&mut self) {
        self.sampling.due = false;
        if self.now < self.sampling.next || !matches!(self.policy, Policy::Naps | Policy::NapsPrinted) {
            return;
        }
        let every = self.settings.sampling;
        let missed = (self.now - self.sampling.next) / every;
        self.sampling.next = self.sampling.next.saturating_add(every.saturating_mul(missed + 1));
        self.sampling.due = true;
        let (b, l) = (self.sampling.bandwidth, self.sampling.delay);
        (self.sampling.bandwidth, self.sampling.delay) = ((0.0, 0.0), (0.0, 0.0));
        if b.1 > 0.0 && l.1 > 0.0 {
            self.sampling.score = self.sampling.window.add(b.0 / b.1, l.0 / l.1);
        }
    }

    fn want_naps(&self) -> Decision {
        let size = self.delta.now(self.risk());
        let interval = naps::interval(size / 1e6, self.sampling.score).map(|minutes| minutes * 60.0);
        let since = seconds(self.now - self.since);
        let due = self.sampling.due && interval.is_some_and(|interval| since >= interval);
        let action = if due { Action::Sync } else { Action::WaitUntil(self.sampling.next) };
        Decision { action, reason: Reason::Naps { since, interval, score: self.sampling.score, size } }
    }

    /// After so many seconds, or sooner to see what the link does meanwhile.
    fn look_again(&self, seconds: f64) -> Action {
        Action::WaitUntil(self.now.saturating_add(nanos(seconds).clamp(1, LOOK_AGAIN)))
    }

    /// Holds a wish to the bounds.
    fn bound(&self, wanted: Decision) -> Decision {
        let bounds = &self.settings.bounds;
        let risk = seconds(self.risk());
        let takes = self.takes();
        let wait = |seconds: f64, reason| Decision { action: self.look_again(seconds), reason };
        let mut wanted = wanted;
        if let Some(most) = bounds.max_loss.map(seconds) {
            // What the task does while a sync is under way is at risk too, until it is complete.
            let left = most - risk - takes.unwrap_or(0.0);
            let margin = seconds(bounds.least).min(0.1 * most);
            if left <= margin {
                let reason = Reason::MaxLoss { risk, most, takes: takes.unwrap_or(0.0) };
                wanted = Decision { action: Action::Sync, reason };
            } else if let Action::WaitUntil(until) = wanted.action {
                // At half of what is left: the sync gets longer meanwhile.
                let by = self.now.saturating_add(nanos(left * 0.5).max(1));
                wanted.action = Action::WaitUntil(until.min(by));
            }
        }
        if wanted.action != Action::Sync {
            return wanted;
        }
        let (overdue, silence) = self.link.silence(self.now);
        if overdue >= SILENT {
            return wait(1.0, Reason::Silent { silence });
        }
        let early = seconds((self.since.saturating_add(bounds.least)).saturating_sub(self.now));
        let takes = takes.unwrap_or(0.0);
        if self.cuts > 0 {
            // Twice as long after each cut, and never less than the sync takes, so that a link that breaks all the time
            // is not kept busy by syncs that never end.
            let back_off = takes.max(1.0) * libm::exp2(f64::from(self.cuts.min(10)) - 1.0);
            let left = back_off.min(600.0) - seconds(self.now.saturating_sub(self.cut_at));
            if left > 0.0 {
                return wait(left, Reason::Cut { cuts: self.cuts, wait: left });
            }
        }
        if early > 0.0 {
            return wait(early, Reason::Soon { since: seconds(self.now - self.since) });
        }
        let share = self.budget.wait(takes);
        if share > 0.0 {
            return wait(share, Reason::Share { risk, share: bounds.share, takes });
        }
        let chance = libm::exp(-self.lambda() * takes);
        if chance < LIKELY {
            return wait(takes.max(1.0), Reason::Unlikely { takes, chance });
        }
        wanted
    }

    /// What a user may want to know.
    pub fn view(&self) -> View {
        let interval = match self.policy {
            Policy::Auto | Policy::Young => Some(self.interval()),
            Policy::Fixed(interval) => Some(seconds(interval)),
            Policy::Naps | Policy::NapsPrinted => {
                naps::interval(self.delta.now(self.risk()) / 1e6, self.sampling.score).map(|minutes| minutes * 60.0)
            }
        };
        View {
            risk: self.risk(),
            interval: interval.map(nanos),
            hazard: self.lambda(),
            size: self.delta.now(self.risk()) as u64,
            takes: self.takes().map(nanos),
            recompute: self.settings.costs.slowdown * seconds(self.risk()),
            bandwidth: self.link.bandwidth(),
            delay: self.link.delay(),
            outages: self.hazard.outages(),
        }
    }
}
