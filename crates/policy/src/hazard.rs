//! How likely the link is to break: outages per second, from the link's signs, its past and its silence.
//!
//! Two experts foretell outages. One reads the signs of trouble: a logistic gives the chance p of an outage within the
//! next minute, and the hazard is -ln(1 - p) per minute. Its weights were fitted on made-up networks, and another network
//! need not be like them. The other one knows the past and whether the link is steady, nothing else: (a + k) / (b + uptime)
//! after k outages. Both are held to what happens:
//!
//! 1. Levels. If R outages were foretold by now and k have come, what is foretold is multiplied by (a + k) / (a + R): the
//!    mean of a gamma distribution, the conjugate one for a Poisson process, whose prior says 1 with the weight of a
//!    outages. It is kept for the calm link and for the stressed one apart, an outage counting for either by its share.
//! 2. Trust. An expert counts as much as it has foretold well: by the likelihood of all that has come and not come, the
//!    product of its hazard at each outage and exp(-the integral of its hazard). Where outages come without signs, or signs
//!    without outages, the signs are soon disregarded.
//! 3. Lasting. Stress that is over before a sync could be complete asks for none: only that part of it counts that, on this
//!    link, was still there [`LEAD`] seconds later. It takes no outage to learn that, as it does to learn the levels: on a
//!    road where cells change every few minutes, the dips are known as such before the first one does harm.
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
/// The defaults were fitted by an evolution strategy over good, fair and poor networks and over networks of random
/// parameters, c = 0.5, 1 and 2 min, on seeds that no figure is taken from: `crates/sim/examples/fit_hazard.rs` says on what
/// and how. Fitted too, found to be worth nothing, and gone: weights for the trend of either indicator, for an outage that
/// has just ended, for outages at regular distances, and a rate for each age of the link since its return.
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
    /// How much of the stress is taken to be there [`LEAD`] seconds later, before any was seen, 0 to 1.
    pub lasting: f64,
    /// Seconds of stress that this is worth.
    pub lasting_strength: f64,
    /// What the expert that knows only the past counts at first, 0 to 1; the other one counts the rest.
    pub past: f64,
    /// a of the past: outages that it begins with.
    pub past_outages: f64,
    /// b of the past: seconds of uptime that it begins with, if the link is not steady.
    pub past_uptime: f64,
    /// By how much b is longer for a steady link: the exponent per unit of [`Signs::swing`] below `usual`.
    pub past_steady: f64,
    /// Share of the rate so far below which no hazard is believed.
    pub floor: f64,
}

impl Weights {
    /// The same with what makes no sense replaced, so that nothing is divided by 0 and worse signs are never better ones.
    fn checked(self) -> Self {
        Self {
            stressed: self.stressed.max(self.calm),
            drop: self.drop.max(0.0),
            rise: self.rise.max(0.0),
            steady: self.steady.max(0.0),
            silence: self.silence.max(0.0),
            calm_strength: within(self.calm_strength, 0.05, 100.0),
            stressed_strength: within(self.stressed_strength, 0.05, 100.0),
            lasting: within(self.lasting, 0.0, 1.0),
            lasting_strength: within(self.lasting_strength, 1.0, 1e9),
            past: within(self.past, 1e-6, 1.0 - 1e-6),
            past_outages: within(self.past_outages, 1e-3, 1e6),
            past_uptime: within(self.past_uptime, 1.0, 1e9),
            past_steady: self.past_steady.max(0.0),
            floor: within(self.floor, 0.0, 1.0),
            ..self
        }
    }
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            calm: -4.7,
            stressed: -2.3,
            onset: 8.5,
            drop: 4.75,
            rise: 2.9,
            steady: 60.0,
            usual: 0.55,
            silence: 1.0,
            calm_strength: 1.7,
            stressed_strength: 5.0,
            lasting: 0.9,
            lasting_strength: 75.0,
            past: 0.14,
            past_outages: 0.65,
            past_uptime: 600.0,
            past_steady: 0.35,
            floor: 0.23,
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
    /// b of the past.
    past_uptime: f64,
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
    /// Seconds of stress, and how many of them were stressed [`LEAD`] later.
    stressed: f64,
    lasted: f64,
    outages: u32,
    uptime: f64,
    at: Nanos,
    up: bool,
    /// A ring of what was read in the last seconds.
    readings: [Reading; HELD],
    first: usize,
    held: usize,
}

impl Hazard {
    /// Of a link that nothing is known of and that is up.
    pub fn new(weights: Weights, now: Nanos) -> Self {
        let weights = weights.checked();
        let mut hazard = Self {
            weights,
            levels: [Level::default(); 2],
            now: Reading::default(),
            early: Reading::default(),
            trust: libm::log((1.0 - weights.past) / weights.past),
            stressed: 0.0,
            lasted: 0.0,
            outages: 0,
            uptime: 0.0,
            at: now,
            up: true,
            readings: [Reading::default(); HELD],
            first: 0,
            held: 0,
        };
        let signs = Signs { swing: crate::link::MOST_SWING, ..Signs::default() };
        hazard.now = hazard.reading(&signs);
        hazard.forget_signs();
        hazard
    }

    /// Time passes.
    pub fn advance(&mut self, now: Nanos) {
        let dt = seconds(now.saturating_sub(self.at));
        self.at = now.max(self.at);
        if self.up && dt > 0.0 {
            let (calm, stressed) = self.by_signs(&self.early);
            let gain = dt * (self.by_past(&self.early) - calm - stressed);
            self.trust = within(self.trust + gain, -MOST_TRUST, MOST_TRUST);
            let stress = self.lasting() * self.early.stress;
            for (i, share) in [1.0 - stress, stress].into_iter().enumerate() {
                self.levels[i].foretold += dt * share * self.early.fitted[i];
            }
            self.stressed += dt * self.early.stress;
            self.lasted += dt * self.early.stress * self.now.stress;
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
        self.now = self.reading(signs);
        if self.held == HELD {
            self.mature();
        }
        self.readings[(self.first + self.held) % HELD] = self.now;
        self.held += 1;
    }

    /// What the signs say by the weights.
    fn reading(&self, signs: &Signs) -> Reading {
        let w = &self.weights;
        let sum = w.drop * signs.drop + w.rise * signs.rise;
        let steadier = (w.usual - signs.swing).max(0.0);
        Reading {
            at: self.at,
            stress: 1.0 / (1.0 + libm::exp(within(w.onset - sum, -700.0, 700.0))),
            fitted: [w.calm, w.stressed].map(|level| softplus(level - w.steady * steadier) / HORIZON),
            past_uptime: w.past_uptime * libm::exp(within(w.past_steady * steadier, 0.0, 20.0)),
        }
    }

    /// The link has broken.
    pub fn outage_began(&mut self, now: Nanos) {
        self.advance(now);
        if self.up {
            let (calm, stressed) = self.by_signs(&self.early);
            let sum = (calm + stressed).max(1e-300);
            let grows = libm::log(sum) - libm::log(self.by_past(&self.early));
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
        within(self.together() * silence, 1e-12, 10.0)
    }

    /// What both foretell together.
    fn together(&self) -> f64 {
        let (calm, stressed) = self.by_signs(&self.now);
        let trust = 1.0 / (1.0 + libm::exp(-self.trust));
        let past = self.by_past(&self.now);
        (trust * (calm + stressed) + (1.0 - trust) * past).max(self.weights.floor * past)
    }

    /// What the expert that knows only the past foretells.
    fn by_past(&self, reading: &Reading) -> f64 {
        (self.weights.past_outages + f64::from(self.outages)) / (reading.past_uptime + self.uptime)
    }

    /// What the expert of the signs foretells, for the calm part of the link and for the stressed one.
    fn by_signs(&self, reading: &Reading) -> (f64, f64) {
        let strengths = [self.weights.calm_strength, self.weights.stressed_strength];
        let mut hazards = [0.0; 2];
        for (i, hazard) in hazards.iter_mut().enumerate() {
            *hazard =
                reading.fitted[i] * (strengths[i] + self.levels[i].came) / (strengths[i] + self.levels[i].foretold);
        }
        let stress = self.lasting() * reading.stress;
        // A stressed link is no safer than a calm one, whatever few outages may suggest.
        ((1.0 - stress) * hazards[0], stress * hazards[1].max(hazards[0]))
    }

    /// How much of the stress is still there on average when a sync that begins in it is complete, 0 to 1.
    fn lasting(&self) -> f64 {
        let (share, worth) = (self.weights.lasting, self.weights.lasting_strength);
        (worth * share + self.lasted) / (worth + self.stressed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{MINUTE, SECOND};

    const CALM: Signs = Signs { drop: 0.0, rise: 0.0, swing: crate::link::MOST_SWING };
    const WEAK: Signs = Signs { drop: 3.0, rise: 2.0, ..CALM };

    /// Reads the same signs every five seconds for so long.
    fn read(hazard: &mut Hazard, now: &mut Nanos, span: Nanos, signs: &Signs) {
        for _ in 0..span / (5 * SECOND) {
            *now += 5 * SECOND;
            hazard.read(*now, signs);
        }
    }

    fn outage(hazard: &mut Hazard, now: &mut Nanos) {
        hazard.outage_began(*now);
        *now += MINUTE;
        hazard.outage_ended(*now);
    }

    /// A link that was weak that many times for so long, and is weak again, and its hazard before.
    fn weak_after(times: u32, spell: Nanos) -> (Hazard, f64) {
        let (mut hazard, mut now) = (Hazard::new(Weights::default(), 0), 0);
        for _ in 0..times {
            read(&mut hazard, &mut now, 3 * MINUTE, &CALM);
            read(&mut hazard, &mut now, spell, &WEAK);
        }
        read(&mut hazard, &mut now, 3 * MINUTE, &CALM);
        let calm = hazard.rate(0.0);
        hazard.read(now, &WEAK);
        (hazard, calm)
    }

    #[test]
    fn weakness_that_is_over_before_a_sync_could_be_complete_is_hardly_a_sign() {
        let (dips, calm) = weak_after(30, 15 * SECOND);
        let (first, _) = weak_after(0, 0);
        // 75 s at 0.9 to begin with, and 30 dips of 15 s of which nothing was left 20 s later.
        assert!((dips.lasting() - 67.5 / 525.0).abs() < 0.01, "{}", dips.lasting());
        assert!((calm..0.4 * first.rate(0.0)).contains(&dips.rate(0.0)), "{calm} {}", dips.rate(0.0));
        // 3 min, of which 20 s were not followed by 20 s more.
        let (spells, _) = weak_after(10, 3 * MINUTE);
        assert!((spells.lasting() - (67.5 + 1600.0) / 1875.0).abs() < 0.02, "{}", spells.lasting());
    }

    #[test]
    fn a_link_that_breaks_without_signs_is_known_to_after_an_outage() {
        let (mut hazard, mut now) = (Hazard::new(Weights::default(), 0), 0);
        read(&mut hazard, &mut now, 8 * MINUTE, &CALM);
        let before = hazard.rate(0.0);
        outage(&mut hazard, &mut now);
        read(&mut hazard, &mut now, MINUTE, &CALM);
        // An outage in 9 minutes; what comes of it lies between one in 5 minutes and one in half an hour.
        let after = hazard.rate(0.0);
        assert!(after > 1.5 * before && (1.0 / 1800.0..1.0 / 300.0).contains(&after), "{before} {after}");
        for _ in 0..8 {
            read(&mut hazard, &mut now, 8 * MINUTE, &CALM);
            outage(&mut hazard, &mut now);
        }
        let rate = hazard.rate(0.0) * 8.0 * 60.0;
        assert!((0.5..2.0).contains(&rate), "{rate} of the rate that it has");
    }

    #[test]
    fn outages_that_signs_foretell_leave_the_calm_link_calm() {
        let foretold = |signs: &Signs| {
            let (mut hazard, mut now) = (Hazard::new(Weights::default(), 0), 0);
            for _ in 0..5 {
                read(&mut hazard, &mut now, 10 * MINUTE, &CALM);
                read(&mut hazard, &mut now, 3 * MINUTE, signs);
                outage(&mut hazard, &mut now);
            }
            read(&mut hazard, &mut now, MINUTE, &CALM);
            hazard.rate(0.0)
        };
        assert!(foretold(&WEAK) < 0.5 * foretold(&CALM));
    }

    #[test]
    fn a_steady_link_is_safer_and_never_safe() {
        let rate = |swing: f64| {
            let (mut hazard, mut now) = (Hazard::new(Weights::default(), 0), 0);
            read(&mut hazard, &mut now, 60 * MINUTE, &Signs { swing, ..CALM });
            hazard.rate(0.0)
        };
        assert!(rate(0.2) < 0.5 * rate(0.6));
        assert!(rate(0.0) > 1e-6);
    }

    #[test]
    fn weights_that_make_no_sense_make_no_infinity() {
        for x in [0.0, -1.0, f64::INFINITY, f64::NAN] {
            let weights = Weights {
                calm_strength: x,
                stressed_strength: x,
                lasting: x,
                lasting_strength: x,
                past: x,
                past_outages: x,
                past_uptime: x,
                past_steady: x,
                floor: x,
                ..Weights::default()
            };
            let (mut hazard, mut now) = (Hazard::new(weights, 0), 0);
            for signs in [CALM, WEAK, Signs::default()] {
                read(&mut hazard, &mut now, MINUTE, &signs);
                outage(&mut hazard, &mut now);
                assert!(hazard.rate(1.0).is_finite() && hazard.rate(1.0) > 0.0, "{x}");
            }
        }
    }
}
