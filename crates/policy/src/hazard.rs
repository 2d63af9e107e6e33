//! How likely the link is to break: outages per second, from the link's signs, its past and its silence.
//!
//! A logistic gives the chance p of an outage within the next minute from the signs of trouble; the hazard is
//! -ln(1 - p) per minute. Its weights were fitted on made-up networks, and another network need not be like them. So it is
//! corrected by what happens, in two ways:
//!
//! 1. Its level. If it has foretold R outages by now and k have come, it is multiplied by (a + k) / (a + R): the mean of
//!    a gamma distribution, the conjugate one for a Poisson process, whose prior says 1 with the weight of a outages.
//! 2. Its slope. Several experts read the signs, one of them not at all, which is then the rate of outages so far,
//!    (0.5 + k) / (30 min + uptime); each counts as much as it has foretold the outages well (its marginal likelihood).
//!    Where outages come without signs, or signs without outages, the signs are soon disregarded.
//!
//! A hazard is never 0: of what has not happened in an hour one cannot say that it will not.

use crate::Nanos;
use crate::link::Signs;
use crate::units::{seconds, softplus, within};

/// How the signs are weighed. Signs are natural logarithms of ratios, see [`Signs`]; weights are in units of z, the log
/// of the odds of an outage within a minute.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights {
    /// z where there is no sign of trouble.
    pub bias: f64,
    /// Per factor e of the bandwidth below its best.
    pub drop: f64,
    /// Per factor e of the delay above its least.
    pub rise: f64,
    /// Per factor e of the bandwidth below what is usual.
    pub fall: f64,
    /// Per factor e of the delay above what is usual.
    pub climb: f64,
    /// Per factor e by which samples lie below their mean.
    pub swing: f64,
    /// Right after an outage, fading over [`RECENT`].
    pub recent: f64,
    /// Most that all signs together may add.
    pub most: f64,
    /// Per ln of the number of heartbeats overdue. Set by hand: the made-up networks lose no heartbeats but in outages.
    pub silence: f64,
    /// a: how many outages the fitted level is worth.
    pub strength: f64,
    /// What the experts count at first: the one without signs, with half the slope, with the whole.
    pub experts: [f64; EXPERTS],
    /// Share of the rate so far below which no hazard is believed.
    pub floor: f64,
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            bias: -5.0,
            drop: 0.8,
            rise: 0.5,
            fall: 0.3,
            climb: 0.2,
            swing: 0.3,
            recent: 0.3,
            most: 4.5,
            silence: 1.0,
            strength: 1.5,
            experts: [0.2, 0.3, 0.5],
            floor: 0.2,
        }
    }
}

/// How many experts there are.
pub const EXPERTS: usize = 3;
/// How much of the signs each believes.
const SLOPES: [f64; EXPERTS] = [0.0, 0.5, 1.0];
/// Seconds over which an outage that is over stops being a sign.
pub const RECENT: f64 = 180.0;
/// Seconds that the chance of the logistic is about.
const HORIZON: f64 = 60.0;
/// The expert without signs: half an outage in half an hour.
const NO_SIGNS: (f64, f64) = (0.5, 1.0 / 3600.0);

/// One expert's record.
#[derive(Clone, Copy, Debug, Default)]
struct Expert {
    /// Outages per second that it foretells at present, before the correction of its level.
    raw: f64,
    /// Outages that it has foretold so far: the integral of `raw` over the time that the link was up.
    foretold: f64,
    /// Sum of ln(raw) at the outages that came.
    hits: f64,
}

/// The hazard of one link.
#[derive(Clone, Copy, Debug)]
pub struct Hazard {
    weights: Weights,
    experts: [Expert; EXPERTS],
    outages: u32,
    uptime: f64,
    at: Nanos,
    restored: Option<Nanos>,
    up: bool,
}

impl Hazard {
    /// Of a link that nothing is known of and that is up.
    pub fn new(weights: Weights, now: Nanos) -> Self {
        let mut hazard = Self {
            weights,
            experts: [Expert::default(); EXPERTS],
            outages: 0,
            uptime: 0.0,
            at: now,
            restored: None,
            up: true,
        };
        hazard.read(now, &Signs::default());
        hazard
    }

    /// Time passes.
    pub fn advance(&mut self, now: Nanos) {
        let dt = seconds(now.saturating_sub(self.at));
        self.at = now.max(self.at);
        if self.up {
            self.uptime += dt;
            for expert in &mut self.experts {
                expert.foretold += dt * expert.raw;
            }
        }
    }

    /// The signs are these from now on.
    pub fn read(&mut self, now: Nanos, signs: &Signs) {
        self.advance(now);
        let w = &self.weights;
        let recent = self.restored.map_or(0.0, |at| libm::exp(-seconds(now.saturating_sub(at)) / RECENT));
        let sum = w.drop * signs.drop
            + w.rise * signs.rise
            + w.fall * signs.fall
            + w.climb * signs.climb
            + w.swing * signs.swing
            + w.recent * recent;
        let sum = within(sum, -w.most, w.most);
        for (expert, slope) in self.experts.iter_mut().zip(SLOPES) {
            expert.raw = if slope == 0.0 { NO_SIGNS.1 } else { softplus(w.bias + slope * sum) / HORIZON };
        }
    }

    /// The link has broken.
    pub fn outage_began(&mut self, now: Nanos) {
        self.advance(now);
        if self.up {
            self.up = false;
            self.outages = self.outages.saturating_add(1);
            for expert in &mut self.experts {
                expert.hits += libm::log(expert.raw.max(1e-300));
            }
        }
    }

    /// It is back.
    pub fn outage_ended(&mut self, now: Nanos) {
        self.advance(now);
        self.up = true;
        self.restored = Some(now);
    }

    /// Outages so far.
    pub fn outages(&self) -> u32 {
        self.outages
    }

    /// Seconds that the link was up so far.
    pub fn uptime(&self) -> f64 {
        self.uptime
    }

    /// Outages per second after `overdue` heartbeats have not come; more than 0, at most 10.
    pub fn rate(&self, overdue: f64) -> f64 {
        let k = f64::from(self.outages);
        let prior = |i: usize| if i == 0 { NO_SIGNS.0 } else { self.weights.strength };
        // ln of what an expert counts: its marginal likelihood of the outages so far.
        let mut logs = [0.0; EXPERTS];
        for (i, (log, expert)) in logs.iter_mut().zip(&self.experts).enumerate() {
            let a = prior(i);
            *log = libm::log(self.weights.experts[i].max(1e-9)) + expert.hits + libm::lgamma(a + k) - libm::lgamma(a)
                + a * libm::log(a)
                - (a + k) * libm::log(a + expert.foretold);
        }
        let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (mut sum, mut weight) = (0.0, 0.0);
        for (i, (log, expert)) in logs.iter().zip(&self.experts).enumerate() {
            let a = prior(i);
            let counts = libm::exp(within(log - most, -700.0, 0.0));
            sum += counts * expert.raw * (a + k) / (a + expert.foretold);
            weight += counts;
        }
        let floor = self.weights.floor * crate::interval::rate(self.outages, self.uptime);
        let silence = libm::exp(self.weights.silence * libm::log1p(within(overdue, 0.0, 1e6)));
        within((sum / weight).max(floor) * silence, 1e-12, 10.0)
    }
}
