//! The figures that `auto` is judged by, each beside what it should be: `wayfare bench naps`.

use super::condition::Condition;
use super::course::Course;
use super::judge::{self, COSTS, Mean, best_fixed, costs, courses, grid, settings, sum};
use crate::clock::{Nanos, SECOND};
use std::ops::Range;
use wayfare_policy::Policy;

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What it is of.
    pub name: String,
    /// Its value and 95 % confidence interval.
    pub value: Mean,
    /// Its unit; nothing for a ratio.
    pub unit: &'static str,
    /// What it should be at most.
    pub target: Option<f64>,
    /// What it was taken from.
    pub note: String,
}

/// Sampling intervals that NAPS is tried with, minutes: those of Table 4-3.
const SAMPLING: [Nanos; 3] = [4, 8, 16];
/// Seconds between the starts of a task on a recorded drive, and how many starts.
const STARTS: (usize, usize) = (30, 16);

/// J over good + fair + poor, and over each condition alone.
pub fn networks(seeds: &Range<u64>) -> Vec<Figure> {
    let thesis: Vec<Vec<Course>> = Condition::THESIS.iter().map(|c| courses(*c, seeds.clone())).collect();
    let unseen: Vec<Vec<Course>> = Condition::UNSEEN.iter().map(|c| courses(*c, seeds.clone())).collect();
    COSTS.iter().flat_map(|c| together(&thesis, *c).into_iter().chain(alone(&thesis, &unseen, *c))).collect()
}

/// J of a policy per seed, summed over the three networks.
fn total(thesis: &[Vec<Course>], policy: Policy, settings: wayfare_policy::Settings) -> Vec<f64> {
    sum(&thesis.iter().map(|courses| costs(courses, policy, settings)).collect::<Vec<_>>())
}

fn ratio(name: String, a: &[f64], b: &[f64], target: f64, note: String) -> Figure {
    Figure { name, value: Mean::of_ratio(a, b), unit: "", target: Some(target), note }
}

fn together(thesis: &[Vec<Course>], c: f64) -> Vec<Figure> {
    let auto = total(thesis, Policy::Auto, settings(c));
    let mean = |values: &[f64]| Mean::of(values).value;
    let fixed = grid().into_iter().map(|interval| (interval, total(thesis, Policy::Fixed(interval), settings(c))));
    let (interval, fixed) = fixed.min_by(|a, b| mean(&a.1).total_cmp(&mean(&b.1))).unwrap_or_default();
    let young = total(thesis, Policy::Young, settings(c));
    let oracle: Vec<_> =
        Condition::THESIS.iter().zip(thesis).map(|(k, courses)| judge::oracle(*k, courses, c)).collect();
    let oracle = sum(&oracle);
    let name = |what: &str| format!("c {c}: auto to {what}");
    let mut figures = vec![
        Figure {
            name: format!("c {c}: J of auto, good + fair + poor"),
            value: Mean::of(&auto),
            unit: "min",
            target: None,
            note: format!("young {:.1}", mean(&young)),
        },
        ratio(
            name("best fixed"),
            &auto,
            &fixed,
            0.80,
            format!("{:.1}, every {} s, best of {} in hindsight", mean(&fixed), interval / SECOND, grid().len()),
        ),
    ];
    for policy in [Policy::Naps, Policy::NapsPrinted] {
        for minutes in SAMPLING {
            let settings = wayfare_policy::Settings { sampling: minutes * 60 * SECOND, ..settings(c) };
            let naps = total(thesis, policy, settings);
            let note = format!("{:.1}; to best fixed {:.3}", mean(&naps), mean(&naps) / mean(&fixed));
            figures.push(ratio(name(&format!("{policy}, I {minutes} min")), &auto, &naps, 0.77, note));
        }
    }
    let note = format!("{:.1}; it knows the network and sees its state", mean(&oracle));
    figures.push(ratio(name("hidden-state oracle"), &auto, &oracle, 1.15, note));
    figures
}

fn alone(thesis: &[Vec<Course>], unseen: &[Vec<Course>], c: f64) -> Vec<Figure> {
    let all = Condition::THESIS.iter().zip(thesis).chain(Condition::UNSEEN.iter().zip(unseen));
    all.map(|(condition, courses)| {
        let auto = costs(courses, Policy::Auto, settings(c));
        let (interval, fixed) = best_fixed(courses, c);
        if fixed.iter().sum::<f64>() == 0.0 {
            // Never is free where no outage comes, and no ratio to it says anything.
            let note = "no outage comes: never to sync is free".to_string();
            return Figure {
                name: format!("c {c}: J of auto, {condition}"),
                value: Mean::of(&auto),
                unit: "min",
                target: None,
                note,
            };
        }
        let seen = if Condition::UNSEEN.contains(condition) { "unseen; " } else { "" };
        let note = format!(
            "{seen}{:.1} to {:.1}, every {} s",
            Mean::of(&auto).value,
            Mean::of(&fixed).value,
            interval / SECOND
        );
        ratio(format!("c {c}: auto to best fixed, {condition}"), &auto, &fixed, 1.10, note)
    })
    .collect()
}

/// J over recorded drives: one task on each from its first second on, as the target has it; and over tasks that start at
/// other times of the same drives, which depends less on where in an interval the few outages happened to fall.
pub fn recorded(drives: &[Course]) -> Vec<Figure> {
    let starts: Vec<Course> = drives.iter().flat_map(later).collect();
    COSTS
        .iter()
        .flat_map(|c| {
            [("recorded drives", drives, Some(1.05)), ("recorded drives, other starts", &starts[..], None)].map(
                |(name, courses, target)| {
                    let auto = costs(courses, Policy::Auto, settings(*c));
                    let (interval, fixed) = best_fixed(courses, *c);
                    let outages: usize = courses.iter().map(|course| course.outages().len()).sum();
                    let (sum_auto, sum_fixed) = (auto.iter().sum::<f64>(), fixed.iter().sum::<f64>());
                    let naps = costs(courses, Policy::Naps, settings(*c)).iter().sum::<f64>();
                    // Tasks on one drive are not independent: they count as one.
                    let each = courses.len() / drives.len().max(1);
                    let by_drive =
                        |costs: &[f64]| costs.chunks(each.max(1)).map(|chunk| chunk.iter().sum()).collect::<Vec<f64>>();
                    let note = format!(
                        "{sum_auto:.1} to {sum_fixed:.1}, every {} s; naps {:.3}; {} courses, {outages} outages",
                        interval / SECOND,
                        naps / sum_fixed,
                        courses.len()
                    );
                    let value = Mean::of_ratio(&by_drive(&auto), &by_drive(&fixed));
                    Figure { name: format!("c {c}: auto to best fixed, {name}"), value, unit: "", target, note }
                },
            )
        })
        .collect()
}

/// The same drive for tasks that start later; a start beyond the end wraps to the beginning.
fn later(drive: &Course) -> Vec<Course> {
    (0..STARTS.1)
        .map(|i| {
            let from = i * STARTS.0 % drive.points.len();
            Course { name: drive.name.clone(), points: drive.points[from..].to_vec() }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naps::TUNING;

    #[test]
    fn figures_have_values_and_the_policies_stand_in_the_order_they_should() {
        let figures = networks(&(TUNING.start..TUNING.start + 6));
        let value = |name: &str| figures.iter().find(|f| f.name == name).unwrap().value.value;
        assert!(figures.iter().all(|f| f.value.value.is_finite() && f.value.within.is_finite()));
        assert!(value("c 1: auto to best fixed") < 1.0);
        assert!(value("c 1: auto to hidden-state oracle") > 1.0);
        assert!(value("c 1: auto to naps-printed, I 16 min") < 0.8);
    }

    #[test]
    fn a_drive_without_outages_is_judged_against_never() {
        let text: String = (0..400).map(|t| format!("{t},8000,40\n")).collect();
        let figures = recorded(&[Course::parse("drive", &text).unwrap()]);
        assert_eq!(figures.len(), 6);
        assert!(figures.iter().all(|f| !f.value.value.is_nan()));
    }
}
