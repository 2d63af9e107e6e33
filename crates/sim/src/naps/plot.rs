//! A chart of one course: the link above, and what each policy did with it below, on one axis of time.

use super::course::Course;
use super::run::{Event, Outcome};
use crate::svg::{Chart, GRID, INK, PALE, escape};
use std::fmt::Write as _;

const WIDTH: f64 = 1120.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 76.0;
const HEAD: f64 = 64.0;
const LINK: f64 = 190.0;
const PANEL: f64 = 92.0;
const GAP: f64 = 34.0;
const FOOT: f64 = 48.0;
/// Most points of a line: two for each pixel.
const POINTS: usize = 1000;

const BANDWIDTH: &str = "#2563eb";
const DELAY: &str = "#d97706";
const OUTAGE: &str = "#fde0e0";
const RISK: &str = "#7c93b8";
const SYNC: &str = "#15803d";
const LOSS: &str = "#b91c1c";

/// What a policy did.
#[derive(Clone, Copy, Debug)]
pub struct Lane<'a> {
    /// What it is called.
    pub name: &'a str,
    /// What came of it.
    pub outcome: &'a Outcome,
}

/// The chart as SVG, with J for a sync that costs `c` minutes.
pub fn svg(course: &Course, lanes: &[Lane<'_>], c: f64) -> String {
    let sums: Vec<String> = lanes.iter().map(|lane| sum(lane.outcome, c)).collect();
    chart(course, lanes, &sums, 1.0)
}

/// The same of a run that was watched, with a point each `point` seconds, and times of events in points; `sum` is what came of it.
pub fn watched(course: &Course, lane: Lane<'_>, sum: String, point: f64) -> String {
    chart(course, &[lane], &[sum], point)
}

fn sum(outcome: &Outcome, c: f64) -> String {
    let cut = if outcome.cut > 0 { format!(" ({} cut)", outcome.cut) } else { String::new() };
    format!(
        "{} syncs{cut}, {:.1} min recomputed, J {:.1} at {c} min a sync",
        outcome.syncs,
        outcome.lost,
        outcome.cost(c)
    )
}

/// A time in the unit that suits the length of the chart, with that unit.
fn unit(span: f64) -> (f64, &'static str, &'static str) {
    if span > 600.0 { (60.0, "minutes", "min") } else { (1.0, "seconds", "s") }
}

fn chart(course: &Course, lanes: &[Lane<'_>], sums: &[String], point: f64) -> String {
    let height = HEAD + LINK + lanes.len() as f64 * (PANEL + GAP) + FOOT;
    let span = course.points.len() as f64;
    let x = |t: f64| LEFT + t / span * (WIDTH - LEFT - RIGHT);
    let (unit, _, short) = unit(span * point);
    let outages = course.outages().len();
    let title = format!(
        "{}: {outages} outage{}, {:.0} of {:.0} {short} connected",
        course.name,
        if outages == 1 { "" } else { "s" },
        course.up_minutes() * 60.0 * point / unit,
        span * point / unit
    );
    let mut out = Chart::new(WIDTH, height, &title);
    out.text((LEFT, 26.0), "start", INK, 16.0, &title);
    legend(&mut out);
    let bottom = height - FOOT;
    for (from, to) in course.outages() {
        let (a, b) = (x(from as f64), x(to as f64));
        out.rect((a, HEAD), ((b - a).max(0.8), bottom - HEAD), OUTAGE);
    }
    time_axis(&mut out, span, point, &x, bottom);
    link(&mut out, course, &x);
    // The same scale in all lanes.
    let most =
        lanes.iter().flat_map(|lane| risk(course, lane.outcome)).map(|(_, y)| y).fold(unit.max(4.0) / point, f64::max);
    for (i, (lane, sum)) in lanes.iter().zip(sums).enumerate() {
        let top = HEAD + LINK + GAP + i as f64 * (PANEL + GAP);
        let scale = Scale { top, most, span, point };
        self::lane(&mut out, course, lane, sum, &scale, &x);
    }
    out.end()
}

fn legend(out: &mut Chart) {
    let mut at = LEFT;
    let y = 46.0;
    for (colour, label, dash) in
        [(BANDWIDTH, "bandwidth", ""), (DELAY, "delay", "5 3"), (RISK, "progress at risk", ""), (SYNC, "sync", "")]
    {
        let _ = writeln!(
            out,
            "<line x1=\"{at}\" y1=\"{y}\" x2=\"{}\" y2=\"{y}\" stroke=\"{colour}\" stroke-width=\"2.5\" stroke-dasharray=\"{dash}\"/>",
            at + 22.0
        );
        out.text((at + 28.0, y + 4.0), "start", INK, 12.0, label);
        at += 46.0 + 7.2 * label.len() as f64;
    }
    out.rect((at, y - 6.0), (22.0, 12.0), OUTAGE);
    out.text((at + 28.0, y + 4.0), "start", INK, 12.0, "outage");
    at += 94.0;
    let _ = writeln!(out, "<circle cx=\"{}\" cy=\"{y}\" r=\"4\" fill=\"{LOSS}\"/>", at + 6.0);
    out.text((at + 16.0, y + 4.0), "start", INK, 12.0, "recomputed by the standby");
}

fn time_axis(out: &mut Chart, span: f64, point: f64, x: &impl Fn(f64) -> f64, bottom: f64) {
    let (unit, name, _) = unit(span * point);
    let long = span * point / unit;
    let step = [1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 240.0, 720.0, 1440.0]
        .into_iter()
        .find(|step| long / step <= 14.0)
        .unwrap_or(2880.0);
    let mut at = 0.0;
    while at <= long + 1e-9 {
        let here = x(at * unit / point);
        out.line((here, HEAD), (here, bottom), GRID, 0.8, "");
        out.text((here, bottom + 18.0), "middle", PALE, 11.0, &format!("{at:.0}"));
        at += step;
    }
    out.text((x(span / 2.0), bottom + 36.0), "middle", PALE, 12.0, name);
}

/// Means of at most [`POINTS`] stretches of seconds; none where nothing was measured.
fn thinned(course: &Course, of: impl Fn(&super::Point) -> Option<f64>) -> Vec<(f64, Option<f64>)> {
    let each = course.points.len().div_ceil(POINTS).max(1);
    let stretch = |(i, points): (usize, &[super::Point])| {
        let values: Vec<f64> = points.iter().filter(|p| p.up).filter_map(&of).collect();
        let mean = (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64);
        ((i * each) as f64 + each as f64 / 2.0, mean)
    };
    course.points.chunks(each).enumerate().map(stretch).collect()
}

/// A logarithmic axis that holds all values: decades, the lowest and the highest.
fn decades(values: &[(f64, Option<f64>)]) -> (i32, i32) {
    let logs = values.iter().filter_map(|(_, v)| *v).filter(|v| *v > 0.0).map(f64::log10);
    let (low, high) = logs.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    if low > high {
        return (0, 1);
    }
    // No more than four decades: below that, a mobile link is as good as stalled.
    let high = high.ceil() as i32;
    ((low.floor() as i32).max(high - 4).min(high - 1), high)
}

fn link(out: &mut Chart, course: &Course, x: &impl Fn(f64) -> f64) {
    let bottom = HEAD + LINK;
    let lines = [
        (thinned(course, |p| Some(p.bandwidth * 8.0 / 1e6)), BANDWIDTH, "", "Mbit/s", LEFT - 8.0, "end"),
        (thinned(course, |p| p.delay.map(|d| d * 1e3)), DELAY, "5 3", "ms", WIDTH - RIGHT + 8.0, "start"),
    ];
    for (values, colour, dash, unit, at, anchor) in lines {
        let (low, high) = decades(&values);
        let y = |v: f64| {
            let part = (v.max(1e-9).log10() - f64::from(low)) / f64::from(high - low);
            bottom - part.clamp(0.0, 1.0) * (LINK - 12.0)
        };
        for decade in low..=high {
            let value = 10f64.powi(decade);
            let label = if decade >= 0 { format!("{value:.0}") } else { format!("{value}") };
            if colour == BANDWIDTH {
                out.line((LEFT, y(value)), (WIDTH - RIGHT, y(value)), GRID, 0.8, "");
            }
            out.text((at, y(value) + 4.0), anchor, colour, 11.0, &label);
        }
        out.text((at, HEAD - 4.0), anchor, colour, 11.0, unit);
        // A delay is measured now and then in recordings: then the line goes on over the gap, but not over an outage.
        let (mut path, mut broken) = (String::new(), true);
        for &(t, value) in &values {
            let up = course.points.get(t as usize).is_some_and(|p| p.up);
            match value {
                Some(value) => {
                    let _ = write!(path, "{}{:.1} {:.1}", if broken { "M" } else { "L" }, x(t), y(value));
                    broken = false;
                }
                None => broken |= !up,
            }
        }
        let _ = writeln!(
            out,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.3\" stroke-dasharray=\"{dash}\" stroke-linejoin=\"round\"/>"
        );
    }
    out.line((LEFT, bottom), (WIDTH - RIGHT, bottom), PALE, 1.0, "");
}

/// Progress at risk over time, seconds: corners of a line.
fn risk(course: &Course, outcome: &Outcome) -> Vec<(f64, f64)> {
    let mut corners = vec![(0.0, 0.0)];
    // When the progress that the standby has was made.
    let mut safe = 0.0;
    let outages = course.outages();
    for event in &outcome.events {
        match *event {
            Event::Synced { began, ended } => {
                corners.push((ended, ended - safe));
                safe = began;
                corners.push((ended, ended - safe));
            }
            Event::Lost { at, seconds } => {
                corners.push((at, seconds));
                corners.push((at, 0.0));
                let back = outages.iter().find(|(from, _)| *from as f64 == at).map_or(at, |(_, to)| *to as f64);
                corners.push((back, 0.0));
                safe = back;
            }
            Event::Cut { .. } => {}
        }
    }
    let end = course.points.len() as f64;
    if end > safe {
        corners.push((end, end - safe));
    }
    corners
}

/// Where a lane is, and what its axes show.
struct Scale {
    top: f64,
    /// Of progress at risk, points.
    most: f64,
    /// Points of the course.
    span: f64,
    /// Seconds.
    point: f64,
}

fn lane(out: &mut Chart, course: &Course, lane: &Lane<'_>, sum: &str, scale: &Scale, x: &impl Fn(f64) -> f64) {
    let Scale { top, most, span, point } = *scale;
    let (unit, _, short) = unit(span * point);
    let (bottom, outcome) = (top + PANEL, lane.outcome);
    let y = |seconds: f64| bottom - seconds / most * (PANEL - 8.0);
    let _ = writeln!(
        out,
        "<text x=\"{LEFT:.1}\" y=\"{:.1}\" fill=\"{INK}\" font-size=\"13\" font-weight=\"bold\">{}</text>",
        top - 6.0,
        escape(lane.name)
    );
    out.text((WIDTH - RIGHT, top - 6.0), "end", PALE, 12.0, sum);
    out.text((LEFT - 8.0, y(most) + 8.0), "end", PALE, 11.0, &format!("{:.0} {short}", most * point / unit));
    out.text((LEFT - 8.0, bottom), "end", PALE, 11.0, "0");
    let mut path = format!("M{:.1} {bottom:.1}", x(0.0));
    for (t, seconds) in risk(course, outcome) {
        let _ = write!(path, "L{:.1} {:.1}", x(t), y(seconds));
    }
    let _ = write!(path, "L{:.1} {bottom:.1}Z", x(course.points.len() as f64));
    let _ = writeln!(
        out,
        "<path d=\"{path}\" fill=\"{RISK}\" fill-opacity=\"0.45\" stroke=\"{RISK}\" stroke-width=\"1\"/>"
    );
    for event in &outcome.events {
        match *event {
            Event::Synced { began, ended } => {
                out.rect((x(began), bottom), ((x(ended) - x(began)).max(1.0), 8.0), SYNC);
                out.line((x(ended), bottom), (x(ended), top + 4.0), SYNC, 0.9, "");
            }
            Event::Cut { began, ended } => out.rect((x(began), bottom), ((x(ended) - x(began)).max(1.0), 8.0), LOSS),
            Event::Lost { at, seconds } => {
                let _ =
                    writeln!(out, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\" fill=\"{LOSS}\"/>", x(at), y(seconds));
                if seconds * point >= unit / 2.0 {
                    let label = format!("{:.1}", seconds * point / unit);
                    out.text((x(at) + 6.0, (y(seconds) + 3.0).max(top + 8.0)), "start", LOSS, 10.5, &label);
                }
            }
        }
    }
    out.line((LEFT, bottom), (WIDTH - RIGHT, bottom), PALE, 1.0, "");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naps::judge::settings;
    use crate::naps::run::{Driven, run};
    use crate::naps::{Condition, TUNING};
    use wayfare_policy::Policy;

    #[test]
    fn a_chart_has_a_mark_for_each_sync_and_outage_and_is_well_formed() {
        let mut course = Condition::Poor.course(TUNING.start);
        course.name = "a < b & c".into();
        let outcome = run(&course, &mut Driven::new(Policy::Auto, settings(1.0)));
        let chart = svg(&course, &[Lane { name: "auto", outcome: &outcome }], 1.0);
        let count = |what: &str| chart.matches(what).count();
        assert_eq!(count("<circle"), outcome.outages as usize + 1);
        // One more of each in the legend.
        let syncs = format!("height=\"8.00\" fill=\"{SYNC}\"");
        assert_eq!(count(&syncs), (outcome.syncs - outcome.cut) as usize);
        assert!(chart.contains("a &lt; b &amp; c") && !chart.contains("NaN") && !chart.contains("inf"));
        assert!(chart.starts_with("<svg") && chart.ends_with("</svg>\n"));
    }

    #[test]
    fn a_course_of_one_second_can_be_drawn() {
        let course = Course::parse("x", "0,0,").unwrap();
        let outcome = run(&course, &mut Driven::new(Policy::Young, settings(1.0)));
        assert!(!svg(&course, &[Lane { name: "young", outcome: &outcome }], 1.0).contains("NaN"));
    }
}
