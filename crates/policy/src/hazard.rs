//! How likely the link is to break: outages per second, from the link's signs, its past and its silence.
//!
//! Two experts foretell outages. One reads the signs of trouble: a logistic gives the chance p of an outage within the
//! next minute, and the hazard is -ln(1 - p) per minute. Its weights were fitted on made-up networks, and another network
//! need not be like them. The other one knows nothing but the past: (0.5 + k) / (30 min + uptime) after k outages. Both are
//! held to what happens:
//!
//! 1. Levels. If R outages were foretold by now and k have come, what is foretold is multiplied by (a + k) / (a + R): the
//!    mean of a gamma distribution, the conjugate one for a Poisson process, whose prior says 1 with the weight of a
//!    outages. It is kept for the calm link and for the stressed one apart, an outage counting for either by its share.
//! 2. Trust. An expert counts as much as it has foretold well: by the likelihood of all that has come and not come, the
//!    product of its hazard at each outage and exp(-the integral of its hazard). Where outages come without signs, or signs
//!    without outages, the signs are soon disregarded.
//!
//! A sign counts only if it comes early enough for a sync: what an expert is credited with at an outage is what it
//! foretold [`LEAD`] seconds before. A tunnel whose mouth is seen three seconds ahead is not foretold.
//!
//! A hazard is never 0: of what has not happened in an hour one cannot say that it will not.

use crate::Nanos;
use crate::link::Signs;
use crate::units::{seconds, softplus, within};

/// How the signs are weighed. Signs are natural logarithms of ratios, see [`Signs`].
///
/// Stress, 0 to 1, is a logistic of the signs of the present: 1 / (1 + exp(onset - sum of weight x sign)). With it
/// z = calm + (stressed - calm) stress + steady (volatility - usual), the last at most 0, is the log of the odds of an
/// outage within a minute.
///
/// The defaults were fitted by an evolution strategy on J (see `wayfare_sim::naps`) over good, fair and poor networks and
/// over networks of random parameters, c = 0.5, 1 and 2 min, on seeds that no figure is taken from. Weights for the trend
/// of either indicator and for an outage that has just ended were fitted too, came out as nothing, and are gone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights {
    /// z where there is no stress.
    pub calm: f64,
    /// z at full stress.
    pub stressed: f64,
    /// The sum of weighted signs at which stress is one half.
    pub onset: f64,
    /// Per factor e of the bandwidth below its best.
    pub drop: f64,
    /// Per factor e of the delay above its least.
    pub rise: f64,
    /// How much less likely an outage of a steady link is, per unit of [`Signs::swing`] below `usual`.
    pub steady: f64,
    /// The volatility beyond which no more is inferred from it.
    pub usual: f64,
    /// Per ln of the number of heartbeats overdue. Set by hand: the made-up networks lose no heartbeats but in outages.
    pub silence: f64,
    /// a of the calm link: how many outages the fitted level is worth.
    pub calm_strength: f64,
    /// a of the stressed link.
    pub stressed_strength: f64,
    /// What the expert that knows only the past counts at first, 0 to 1; the other one counts the rest.
    pub past: f64,
    /// Share of the rate so far below which no hazard is believed.
    pub floor: f64,
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            calm: -4.8,
            stressed: -2.3,
            onset: 6.3,
            drop: 3.0,
            rise: 2.55,
            steady: 13.3,
            usual: 0.61,
            silence: 1.0,
            calm_strength: 0.31,
            stressed_strength: 2.0,
            past: 0.08,
            floor: 0.17,
        }
    }
}

/// Seconds by which a sign has to come before an outage to be of use: about what a sync takes over a weak link.
pub const LEAD: f64 = 20.0;
/// No expert is ever disregarded altogether: a network may change. ln of how many times more one may count than the other.
const MOST_TRUST: f64 = 4.0;
/// Readings that are held until they are [`LEAD`] old.
const HELD: usize = 32;
/// Seconds that the chance of the logistic is about.
const HORIZON: f64 = 60.0;

/// What the signs say at a moment.
#[derive(Clone, Copy, Debug, Default)]
struct Reading {
    at: Nanos,
    /// How stressed the link is, 0 to 1.
    stress: f64,
    /// Outages per second as fitted, of the calm and of the stressed link.
    fitted: [f64; 2],
}

/// What was foretold for the calm or the stressed link, and what came.
#[derive(Clone, Copy, Debug, Default)]
struct Level {
    foretold: f64,
    came: f64,
}

/// The hazard of one link.
#[derive(Clone, Copy, Debug)]
pub struct Hazard {
    weights: Weights,
    levels: [Level; 2],
    now: Reading,
    /// What was read [`LEAD`] ago.
    early: Reading,
    /// ln of what the expert of the signs counts, less that of the other.
    trust: f64,
    outages: u32,
    uptime: f64,
    at: Nanos,
    up: bool,
    /// Outages per second when the signs were last read, without silence.
    base: f64,
    /// A ring of what was read in the last seconds.
    readings: [Reading; HELD],
    first: usize,
    held: usize,
}

impl Hazard {
    /// Of a link that nothing is known of and that is up.
    pub fn new(weights: Weights, now: Nanos) -> Self {
        let past = within(weights.past, 1e-6, 1.0 - 1e-6);
        let mut hazard = Self {
            weights,
            levels: [Level::default(); 2],
            now: Reading::default(),
            early: Reading::default(),
            trust: libm::log((1.0 - past) / past),
            outages: 0,
            uptime: 0.0,
            at: now,
            up: true,
            base: 0.0,
            readings: [Reading::default(); HELD],
            first: 0,
            held: 0,
        };
        hazard.read(now, &Signs { swing: crate::link::MOST_SWING, ..Signs::default() });
        hazard.forget_signs();
        hazard
    }

    /// Time passes.
    pub fn advance(&mut self, now: Nanos) {
        let dt = seconds(now.saturating_sub(self.at));
        self.at = now.max(self.at);
        if self.up && dt > 0.0 {
            let hazard = self.by_signs(&self.early);
            self.trust = within(self.trust + dt * (self.by_past() - hazard.0 - hazard.1), -MOST_TRUST, MOST_TRUST);
            let Reading { stress, fitted, .. } = self.early;
            for (level, foretold) in self.levels.iter_mut().zip([(1.0 - stress) * fitted[0], stress * fitted[1]]) {
                level.foretold += dt * foretold;
            }
            self.uptime += dt;
        }
        while self.held > 0 && seconds(self.at.saturating_sub(self.readings[self.first].at)) >= LEAD {
            self.mature();
        }
    }

    /// The oldest reading that is held becomes the early one.
    fn mature(&mut self) {
        self.early = self.readings[self.first];
        self.first = (self.first + 1) % HELD;
        self.held -= 1;
    }

    /// The signs are these from now on.
    pub fn read(&mut self, now: Nanos, signs: &Signs) {
        self.advance(now);
        let w = &self.weights;
        let sum = w.drop * signs.drop + w.rise * signs.rise;
        let stress = 1.0 / (1.0 + libm::exp(within(w.onset - sum, -700.0, 700.0)));
        let z = w.steady * (signs.swing - w.usual).min(0.0);
        let fitted = [w.calm, w.stressed].map(|level| softplus(level + z) / HORIZON);
        self.now = Reading { at: self.at, stress, fitted };
        if self.held == HELD {
            self.mature();
        }
        self.readings[(self.first + self.held) % HELD] = self.now;
        self.held += 1;
        self.base = self.together();
    }

    /// The link has broken.
    pub fn outage_began(&mut self, now: Nanos) {
        self.advance(now);
        if self.up {
            let (calm, stressed) = self.by_signs(&self.early);
            let sum = (calm + stressed).max(1e-300);
            let grows = libm::log(sum) - libm::log(self.by_past());
            self.trust = within(self.trust + grows, -MOST_TRUST, MOST_TRUST);
            self.levels[0].came += calm / sum;
            self.levels[1].came += stressed / sum;
            self.up = false;
            self.outages = self.outages.saturating_add(1);
        }
    }

    /// It is back.
    pub fn outage_ended(&mut self, now: Nanos) {
        self.advance(now);
        self.up = true;
        self.forget_signs();
    }

    /// What was read before an outage says nothing of the time after it.
    fn forget_signs(&mut self) {
        self.held = 0;
        self.early = self.now;
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
        let silence = libm::exp(self.weights.silence * libm::log1p(within(overdue, 0.0, 1e6)));
        within(self.base * silence, 1e-12, 10.0)
    }

    /// What the expert that knows only the past foretells.
    fn by_past(&self) -> f64 {
        crate::interval::rate(self.outages, self.uptime)
    }

    /// What the expert of the signs foretells, for the calm part of the link and for the stressed one.
    fn by_signs(&self, reading: &Reading) -> (f64, f64) {
        let strengths = [self.weights.calm_strength, self.weights.stressed_strength];
        let mut hazards = [0.0; 2];
        for (i, hazard) in hazards.iter_mut().enumerate() {
            let a = within(strengths[i], 0.05, 100.0);
            *hazard = reading.fitted[i] * (a + self.levels[i].came) / (a + self.levels[i].foretold);
        }
        // A stressed link is no safer than a calm one, whatever few outages may suggest.
        ((1.0 - reading.stress) * hazards[0], reading.stress * hazards[1].max(hazards[0]))
    }

    /// What both foretell together.
    fn together(&self) -> f64 {
        let (calm, stressed) = self.by_signs(&self.now);
        let trust = 1.0 / (1.0 + libm::exp(within(-self.trust, -700.0, 700.0)));
        let past = self.by_past();
        (trust * (calm + stressed) + (1.0 - trust) * past).max(self.weights.floor * past)
    }
}
