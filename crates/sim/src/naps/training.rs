//! Networks of random parameters, which the weights of `auto` are fitted on beside good, fair and poor.
//!
//! Who fits on three networks learns these three. Half of what is here are chains like theirs; the other half are links on
//! which outages follow each other at random or regular distances, foretold, foretold now and then, or not at all, and
//! on which signs come that mean nothing. Those that hardly break are mostly steady. The conditions that figures are taken
//! from beside good, fair and poor are not among them.

use super::condition::{Chain, Chance, LENGTH, LEVELS, Radio, chain, point};
use super::course::{Course, Hidden, Point};
use crate::clock::mix;

/// A network with the parameters that a seed gives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Network {
    /// A hidden process as that of good, fair and poor.
    Chain(Chain),
    /// Stretches with connection and without.
    Renewal(Renewal),
}

/// Times in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Renewal {
    /// Mean time of connection.
    pub connected: f64,
    /// The part of it that is always the same, 0 to 1; the rest is exponential, or uniform where `even`.
    pub regular: f64,
    /// See `regular`.
    pub even: bool,
    /// How many stretches of connection are short ones, 0 to 1, and how long those last on average.
    pub bursts: (f64, f64),
    /// Mean time without.
    pub broken: f64,
    /// Deviation of the fluctuation, a natural logarithm.
    pub sigma: f64,
    /// Bytes per second and delay as they are most of the time.
    pub level: (f64, f64),
    /// Factors by which a sign of trouble makes them worse.
    pub sign: (f64, f64),
    /// How long a sign lasts.
    pub lead: f64,
    /// How many outages are foretold by one, 0 to 1.
    pub foretold: f64,
    /// Mean time between signs that mean nothing; infinite where there are none.
    pub false_signs: f64,
    /// Mean time between spells of three minutes during which the link is weak, which means nothing; infinite for none.
    pub weak: f64,
}

impl Network {
    /// Even seeds give chains, odd ones the others.
    pub fn random(seed: u64) -> Self {
        let mut chance = Chance::new(mix(seed) ^ 0x7a6e_646f_6d00);
        let mut spread = |low: f64, high: f64| low * (high / low).powf(chance.unit());
        if seed.is_multiple_of(2) {
            // As in good, fair and poor, what breaks more often fluctuates more; and good ends in an outage without signs
            // at most every other time.
            let marginal_breaks = spread(0.03, 1.0);
            return Network::Chain(Chain {
                good: spread(180.0, 1800.0),
                good_breaks: spread(0.01, 0.5),
                marginal: spread(60.0, 600.0),
                marginal_breaks,
                outage: spread(30.0, 360.0),
                to_marginal: 0.7,
                sigma: (0.15 + 0.3 * marginal_breaks) * spread(0.7, 1.5),
            });
        }
        let (connected, broken) = (spread(150.0, 3600.0), spread(12.0, 360.0));
        // Of links that hardly break most are steady, of others few; how unsteady these are does not tell how often they break.
        let seldom = (connected / 150.0f64).ln() / 24.0f64.ln();
        let (steady, unsteady) = (spread(0.1, 0.19), spread(0.2, 0.6));
        let level = (spread(10e6, 120e6) / 8.0, spread(0.005, 0.05));
        let (sign, lead) = ((spread(0.125, 0.7), spread(1.0, 4.0)), spread(3.0, 90.0));
        let short = spread(10.0, 60.0);
        let (false_signs, weak) = (spread(120.0, 1800.0), spread(300.0, 1800.0));
        Network::Renewal(Renewal {
            connected,
            regular: if chance.unit() < 0.4 { 0.0 } else { chance.between(0.0, 0.8) },
            even: chance.unit() < 0.5,
            bursts: (if chance.unit() < 0.6 { 0.0 } else { chance.between(0.3, 0.8) }, short),
            broken,
            sigma: if chance.unit() < 0.9 * seldom.powi(3) { steady } else { unsteady },
            level,
            sign,
            lead,
            foretold: (1.5 * chance.unit() - 0.5).max(0.0),
            false_signs: if chance.unit() < 0.5 { f64::INFINITY } else { false_signs },
            weak: if chance.unit() < 0.5 { f64::INFINITY } else { weak },
        })
    }

    /// Two hours of it.
    pub fn course(&self, seed: u64) -> Course {
        let mut chance = Chance::new(mix(seed) ^ 0x636f_7572_7365);
        let points = match self {
            Network::Chain(drawn) => chain(&mut chance, drawn),
            Network::Renewal(drawn) => renewal(&mut chance, drawn),
        };
        Course { name: format!("training {seed}"), points }
    }
}

fn renewal(chance: &mut Chance, drawn: &Renewal) -> Vec<Point> {
    let mut radio = Radio::new(chance, drawn.sigma, drawn.level);
    let mut points = Vec::with_capacity(LENGTH);
    // Not in step with its start: a task begins at any time.
    let mut passed = chance.unit();
    let next = |chance: &mut Chance, mean: f64| if mean.is_finite() { chance.exponential(mean) } else { f64::INFINITY };
    let (mut false_sign, mut weak) = (next(chance, drawn.false_signs), next(chance, drawn.weak));
    let (mut sign_left, mut weak_left) = (0.0, 0.0);
    while points.len() < LENGTH {
        let rest = if drawn.even { chance.between(0.0, 2.0) } else { chance.exponential(1.0) };
        let connected = if chance.unit() < drawn.bursts.0 {
            drawn.bursts.1 * chance.exponential(1.0)
        } else {
            drawn.connected * (drawn.regular + (1.0 - drawn.regular) * rest)
        };
        let mut left = (connected * (1.0 - passed)).max(5.0);
        passed = 0.0;
        let foretold = chance.unit() < drawn.foretold;
        while left > 0.0 {
            (false_sign, weak) = (false_sign - 1.0, weak - 1.0);
            (sign_left, weak_left) = (sign_left - 1.0, weak_left - 1.0);
            if false_sign <= 0.0 {
                (sign_left, false_sign) = (drawn.lead, drawn.lead + next(chance, drawn.false_signs));
            }
            if weak <= 0.0 {
                (weak_left, weak) = (180.0, 180.0 + next(chance, drawn.weak));
            }
            let signed = sign_left > 0.0 || (foretold && left < drawn.lead);
            let usual = if weak_left > 0.0 { LEVELS[1] } else { drawn.level };
            let level = if signed { (usual.0 * drawn.sign.0, usual.1 * drawn.sign.1) } else { usual };
            points.push(point(radio.second(chance, level, 3.0), true, Hidden::Good));
            left -= 1.0;
        }
        let mut left = drawn.broken * chance.between(0.3, 1.7);
        while left > 0.0 {
            points.push(point((0.0, 0.0), false, Hidden::Good));
            left -= 1.0;
        }
    }
    points.truncate(LENGTH);
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_a_function_of_its_seed_and_a_course_of_both() {
        for seed in 0..20 {
            let network = Network::random(seed);
            assert_eq!(network, Network::random(seed));
            assert_ne!(network, Network::random(seed + 2));
            assert_eq!(matches!(network, Network::Chain(_)), seed % 2 == 0);
            assert_eq!(network.course(7), network.course(7));
            assert_ne!(network.course(7).points, network.course(8).points);
            assert_eq!(network.course(7).points.len(), LENGTH);
        }
    }

    #[test]
    fn outages_are_rare_on_some_and_frequent_on_others() {
        let outages: Vec<usize> = (0..60).map(|seed| Network::random(seed).course(seed).outages().len()).collect();
        let count = |of: std::ops::Range<usize>| outages.iter().filter(|n| of.contains(n)).count();
        assert!(count(0..3) >= 6 && count(3..10) >= 12 && count(10..200) >= 6, "{outages:?}");
    }

    #[test]
    fn a_link_that_is_up_has_a_bandwidth_and_one_that_is_down_has_none() {
        for seed in 0..20 {
            let course = Network::random(seed).course(1);
            assert!(course.points.iter().all(|p| p.up == (p.bandwidth > 0.0) && p.up == p.delay.is_some()));
        }
    }
}
