//! How likely the link is to break: outages per second, from the link's signs, its past and its silence.
//!
//! What kind of link it is, nobody says; it has to be found out from what happens, and soon: until it is known, either too
//! much is at risk or too much is sent. So the hazard is Bayesian. The link is stressed to a degree s that the signs of the
//! present tell, and breaks at a rate of (1 - s) x calm + s x stressed. Either rate is one of a grid of them, and
//! each of these has a chance: its prior times the likelihood of all that has come and not come, which is its product over
//! the outages times exp(-it x time). An outage counts for the calm link and for the stressed one by their shares of what was
//! foretold.
//!
//! The prior is a mixture of kinds of links. How unsteady the link is tells within a minute or two which of them to think
//! of: one that is steady, and hardly ever breaks, or another one; of those, some break hardly ever while they are calm, and
//! some all of a sudden. One outage tells these apart. A link that is taken for steady and breaks is not: the mixture,
//! unlike a single rate that is learnt little by little, then becomes the other kind at once.
//!
//! What is credited with an outage is what was read [`LEAD`] seconds before: a sign counts only if it comes early enough for a
//! sync. A tunnel whose mouth is seen three seconds ahead is not foretold. And stress that is over before a sync could be
//! complete asks for none: only that part of it counts that, on this link, was still there so much later. It takes no outage
//! to learn that: on a road where cells change every few minutes, the dips are known as such before the first one does harm.
//!
//! A hazard is never 0: of what has not happened in an hour one cannot say that it will not. And no kind is ever ruled out
//! for good: a network may change.
//!
//! Worse signs never make the hazard less. For stress that is plain. For volatility it is so because kinds of a higher
//! rate differ from those of a lower one by a likelihood ratio that grows with the rate (normals of one deviation), and
//! volatility gives the former more weight: then so do the mixtures, and the posteriors, and their means.

use crate::Nanos;
use crate::link::Signs;
use crate::units::{seconds, within};

/// How the signs are weighed, and what kinds of links there are. Signs are natural logarithms of ratios, see [`Signs`].
///
/// Stress, 0 to 1, is a logistic of the signs of the present: 1 / (1 + exp(onset - sum of weight x sign)). The chance of the
/// link's being steady is `steady` / (1 + exp(slope x (volatility - usual))). A kind of link is a normal distribution of the
/// natural logarithm of the seconds between two outages: a mean each, and a deviation, one for the calm link and one for
/// the stressed one.
///
/// The defaults come from an evolution strategy over good, fair and poor networks and over networks of random
/// parameters, c = 0.5, 1 and 2 min, on seeds that no figure is taken from, and from choices by hand:
/// `crates/sim/examples/fit_hazard.rs` says which. Tried with an earlier form of the hazard, found to be worth nothing there, and
/// gone: weights for the trend of either indicator, for an outage that has just ended, for outages at regular distances, and
/// a rate for each age of the link since its return.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights {
    /// The sum of weighted signs at which stress is one half.
    pub onset: f64,
    /// Per factor e of the bandwidth below its best.
    pub drop: f64,
    /// Per factor e of the delay above its least.
    pub rise: f64,
    /// Per ln of the number of heartbeats overdue. Set by hand: the made-up networks lose no heartbeats but in outages.
    pub silence: f64,
    /// The most that a link is believed to be steady, 0 to 1.
    pub steady: f64,
    /// The volatility at which that is half as much.
    pub usual: f64,
    /// How sharply volatility tells.
    pub slope: f64,
    /// Of links that are not steady, how many break without signs, 0 to 1.
    pub sudden: f64,
    /// ln of the seconds between two outages of a calm link: a steady one, ...
    pub calm_steady: f64,
    /// ... one that breaks with signs, ...
    pub calm_foretold: f64,
    /// ... and one that breaks without.
    pub calm_sudden: f64,
    /// The deviation of these.
    pub calm_spread: f64,
    /// The same for stressed links: a steady one, ...
    pub stressed_steady: f64,
    /// ... and another one.
    pub stressed_other: f64,
    /// Their deviation.
    pub stressed_spread: f64,
    /// How much of the stress is taken to be there [`LEAD`] seconds later, before any was seen, 0 to 1.
    pub lasting: f64,
    /// Seconds of stress that this is worth.
    pub lasting_strength: f64,
}

impl Weights {
    /// The same with what makes no sense replaced, so that nothing is divided by 0 and worse signs are never better ones.
    fn checked(self) -> Self {
        // Far enough from the ends of what a float holds that no chance becomes 0.
        let place = |mean: f64| within(mean, 2.0, 14.0);
        let spread = |deviation: f64| within(deviation, 0.33, 100.0);
        let calm_sudden = place(self.calm_sudden);
        let calm_foretold = place(self.calm_foretold).max(calm_sudden);
        let stressed_other = place(self.stressed_other);
        Self {
            onset: within(self.onset, -700.0, 700.0),
            drop: self.drop.max(0.0),
            rise: self.rise.max(0.0),
            silence: self.silence.max(0.0),
            steady: within(self.steady, 0.0, 1.0 - 1e-6),
            usual: within(self.usual, 0.0, 100.0),
            slope: within(self.slope, 0.0, 1e3),
            sudden: within(self.sudden, 0.0, 1.0),
            calm_steady: place(self.calm_steady).max(calm_foretold),
            calm_foretold,
            calm_sudden,
            calm_spread: spread(self.calm_spread),
            stressed_steady: place(self.stressed_steady).max(stressed_other),
            stressed_other,
            stressed_spread: spread(self.stressed_spread),
            lasting: within(self.lasting, 0.0, 1.0),
            lasting_strength: within(self.lasting_strength, 1.0, 1e9),
        }
    }
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            onset: 9.2,
            drop: 4.7,
            rise: 2.8,
            silence: 1.0,
            steady: 0.95,
            usual: 1.28,
            slope: 40.0,
            sudden: 0.5,
            calm_steady: 12.8,
            calm_foretold: 9.4,
            calm_sudden: 7.0,
            calm_spread: 0.8,
            stressed_steady: 11.8,
            stressed_other: 6.7,
            stressed_spread: 0.35,
            lasting: 0.95,
            lasting_strength: 12.0,
        }
    }
}

/// Seconds by which a sign has to come before an outage to be of use: about what a sync takes over a weak link.
pub const LEAD: f64 = 20.0;
/// ln of how many times less likely than the likeliest a rate may become by what happens: a few outages suffice to think
/// of the worst, however long there was none. Well beyond what the tails of the kinds are apart.
const EVIDENCE: f64 = 24.0;
/// Rates that are thought of.
const RATES: usize = 14;
/// Outages per second, each half of the one before it, from one in half a minute to one in three days.
const RATE: [f64; RATES] = {
    let mut rates = [1.0 / 30.0; RATES];
    let mut i = 1;
    while i < RATES {
        rates[i] = rates[i - 1] / 2.0;
        i += 1;
    }
    rates
};
/// Their natural logarithms.
const LN_RATE: [f64; RATES] = {
    // Of 1 / 30.
    let mut logarithms = [-3.401_197_381_662_155_4; RATES];
    let mut i = 1;
    while i < RATES {
        logarithms[i] = logarithms[i - 1] - core::f64::consts::LN_2;
        i += 1;
    }
    logarithms
};
/// Readings that are held until they are [`LEAD`] old.
const HELD: usize = 32;

/// What the signs say at a moment.
#[derive(Clone, Copy, Debug, Default)]
struct Reading {
    at: Nanos,
    /// How stressed the link is, 0 to 1.
    stress: f64,
    /// The chance of its being steady, 0 to 1.
    steady: f64,
}

/// A distribution of rates of which each has a weight.
type Weighed = [f64; RATES];

/// What is known of a rate: of the calm link's, or of the stressed one's.
#[derive(Clone, Copy, Debug)]
struct Belief {
    /// Its distribution before anything has happened, where the link is steady and where it is not.
    steady: Weighed,
    other: Weighed,
    /// ln of the likelihood of what has happened; 0 for the likeliest.
    likelihood: Weighed,
}

impl Belief {
    /// Of kinds of links, each a mean; those that are not steady with their shares.
    fn new(steady: f64, others: &[(f64, f64)], spread: f64) -> Self {
        let kind = |mean: f64| {
            LN_RATE.map(|ln| {
                let z = (-ln - mean) / spread;
                libm::exp(-0.5 * z * z)
            })
        };
        let mut other = [0.0; RATES];
        for &(share, mean) in others {
            other.iter_mut().zip(kind(mean)).for_each(|(sum, weight)| *sum += share * weight);
        }
        Self { steady: kind(steady), other, likelihood: [0.0; RATES] }
    }

    /// So many seconds without an outage, and so many outages; parts of them where they are another rate's, too.
    fn learn(&mut self, seconds: f64, outages: f64) {
        let mut most = f64::NEG_INFINITY;
        for (i, likelihood) in self.likelihood.iter_mut().enumerate() {
            *likelihood += outages * LN_RATE[i] - seconds * RATE[i];
            most = most.max(*likelihood);
        }
        for likelihood in &mut self.likelihood {
            *likelihood = (*likelihood - most).max(-EVIDENCE);
        }
    }

    /// The rate that is to be expected of a link that is steady with that chance, outages per second.
    fn mean(&self, steady: f64) -> f64 {
        let (mut sum, mut mean) = (0.0, 0.0);
        for (i, rate) in RATE.into_iter().enumerate() {
            let prior = steady * self.steady[i] + (1.0 - steady) * self.other[i];
            let weight = prior * libm::exp(self.likelihood[i]);
            sum += weight;
            mean += weight * rate;
        }
        mean / sum.max(f64::MIN_POSITIVE)
    }
}

/// The hazard of one link.
#[derive(Clone, Copy, Debug)]
pub struct Hazard {
    weights: Weights,
    calm: Belief,
    stressed: Belief,
    now: Reading,
    /// What was read [`LEAD`] ago.
    early: Reading,
    /// Seconds of stress, and how many of them were stressed [`LEAD`] later.
    stress: f64,
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
        let w = weights.checked();
        let others = [(1.0 - w.sudden, w.calm_foretold), (w.sudden, w.calm_sudden)];
        let mut hazard = Self {
            weights: w,
            calm: Belief::new(w.calm_steady, &others, w.calm_spread),
            stressed: Belief::new(w.stressed_steady, &[(1.0, w.stressed_other)], w.stressed_spread),
            now: Reading::default(),
            early: Reading::default(),
            stress: 0.0,
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
            let stress = self.lasting() * self.early.stress;
            self.calm.learn(dt * (1.0 - stress), 0.0);
            self.stressed.learn(dt * stress, 0.0);
            self.stress += dt * self.early.stress;
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
        let logistic = |z: f64| 1.0 / (1.0 + libm::exp(within(-z, -700.0, 700.0)));
        Reading {
            at: self.at,
            stress: logistic(sum - w.onset),
            steady: w.steady * logistic(w.slope * (w.usual - signs.swing)),
        }
    }

    /// The link has broken.
    pub fn outage_began(&mut self, now: Nanos) {
        self.advance(now);
        if self.up {
            let (calm, stressed) = self.foretold(&self.early);
            let share = calm / (calm + stressed).max(f64::MIN_POSITIVE);
            self.calm.learn(0.0, share);
            self.stressed.learn(0.0, 1.0 - share);
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
        let (calm, stressed) = self.foretold(&self.now);
        let silence = libm::exp(self.weights.silence * libm::log1p(within(overdue, 0.0, 1e6)));
        within((calm + stressed) * silence, 1e-12, 10.0)
    }

    /// What is foretold for the calm part of the link and for the stressed one, outages per second.
    fn foretold(&self, reading: &Reading) -> (f64, f64) {
        let (calm, stressed) = (self.calm.mean(reading.steady), self.stressed.mean(reading.steady));
        let stress = self.lasting() * reading.stress;
        // A stressed link is no safer than a calm one, whatever few outages may suggest.
        ((1.0 - stress) * calm, stress * stressed.max(calm))
    }

    /// How much of the stress is still there on average when a sync that begins in it is complete, 0 to 1.
    fn lasting(&self) -> f64 {
        let (share, worth) = (self.weights.lasting, self.weights.lasting_strength);
        (worth * share + self.lasted) / (worth + self.stress)
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
        let Weights { lasting, lasting_strength: worth, .. } = Weights::default();
        // 30 dips of 15 s of which nothing was left 20 s later.
        assert!((dips.lasting() - worth * lasting / (worth + 450.0)).abs() < 0.01, "{}", dips.lasting());
        assert!((calm..0.4 * first.rate(0.0)).contains(&dips.rate(0.0)), "{calm} {}", dips.rate(0.0));
        // 3 min, of which 20 s were not followed by 20 s more.
        let (spells, _) = weak_after(10, 3 * MINUTE);
        let expected = (worth * lasting + 1600.0) / (worth + 1800.0);
        assert!((spells.lasting() - expected).abs() < 0.02, "{}", spells.lasting());
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

    /// A link that was up for so long and showed this volatility.
    fn quiet(span: Nanos, swing: f64) -> (Hazard, Nanos) {
        let (mut hazard, mut now) = (Hazard::new(Weights::default(), 0), 0);
        read(&mut hazard, &mut now, span, &Signs { swing, ..CALM });
        (hazard, now)
    }

    #[test]
    fn a_steady_link_is_safer_and_never_safe() {
        let rate = |swing: f64| quiet(60 * MINUTE, swing).0.rate(0.0);
        assert!(rate(1.0) < 0.5 * rate(1.6), "{} {}", rate(1.0), rate(1.6));
        assert!(rate(0.0) > 1e-7);
    }

    #[test]
    fn a_steady_link_that_breaks_was_none() {
        let (mut hazard, mut now) = quiet(10 * MINUTE, 1.0);
        let before = hazard.rate(0.0);
        outage(&mut hazard, &mut now);
        let after = hazard.rate(0.0);
        assert!(after > 10.0 * before && after > 1.0 / 3600.0, "{before} {after}");
    }

    #[test]
    fn what_was_quiet_for_weeks_is_believed_to_break_after_a_few_outages() {
        let (mut hazard, mut now) = (Hazard::new(Weights::default(), 0), 0);
        for _ in 0..30 * 24 {
            now += 60 * MINUTE;
            hazard.read(now, &CALM);
        }
        let before = hazard.rate(0.0);
        for _ in 0..4 {
            now += 10 * MINUTE;
            hazard.read(now, &CALM);
            outage(&mut hazard, &mut now);
        }
        assert!(before < 1.0 / 36000.0 && hazard.rate(0.0) > 1.0 / 3600.0, "{before} {}", hazard.rate(0.0));
    }

    #[test]
    fn of_many_outages_the_rate_is_what_they_say() {
        for every in [2, 10, 60] {
            let (mut hazard, mut now) = (Hazard::new(Weights::default(), 0), 0);
            for _ in 0..40 {
                read(&mut hazard, &mut now, every * MINUTE, &CALM);
                outage(&mut hazard, &mut now);
            }
            read(&mut hazard, &mut now, MINUTE, &CALM);
            let ratio = hazard.rate(0.0) * (every * 60) as f64;
            assert!((0.6..1.7).contains(&ratio), "{every} min: {ratio}");
        }
    }

    #[test]
    fn weights_that_make_no_sense_make_no_infinity() {
        for x in [0.0, -1.0, f64::INFINITY, f64::NAN] {
            let weights = Weights {
                onset: x,
                steady: x,
                usual: x,
                slope: x,
                sudden: x,
                calm_steady: x,
                calm_foretold: x,
                calm_sudden: x,
                calm_spread: x,
                stressed_steady: x,
                stressed_other: x,
                stressed_spread: x,
                lasting: x,
                lasting_strength: x,
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
