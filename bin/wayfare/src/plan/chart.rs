//! A plan as a chart (Gantt): a band for each node, as high as it has cores; a box for each task, as high as its cores and as
//! long as it runs, in the colour of its program. What runs already is grey.

use super::span;
use crate::output::count;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use wayfare_api::{Objective, PlanView, PlannedTask};
use wayfare_sim::svg::{Chart, GRID, INK, KINDS, PALE, WRONG, escape, step};

/// Most nodes that are drawn.
pub const NODES_MAX: usize = 400;

const WIDTH: f64 = 1120.0;
const RIGHT: f64 = 36.0;
const FOOT: f64 = 50.0;
const GAP: f64 = 9.0;
/// Of the bands together, if they need not be higher to be seen.
const HIGH: f64 = 900.0;
const TAKEN: &str = "#d1d5db";
const BAND: &str = "#f6f7f9";
/// Of programs that have no colour of their own.
const OTHER: &str = "#b9c0c9";

/// The chart as SVG. `programs` says what to call programs, by digest.
pub fn svg(view: &PlanView, programs: &BTreeMap<String, String>) -> String {
    let colours = colours(view);
    let longest = view.nodes.iter().map(|node| node.name.chars().count()).max().unwrap_or(0).min(22);
    let left = 30.0 + 7.4 * longest.max(4) as f64;
    let legend = legend(view, programs, &colours, left);
    let head = 58.0 + 18.0 * legend.lines as f64;
    let all: f64 = view.nodes.iter().map(|node| node.cores).sum();
    let core = (HIGH / all.max(1e-9)).min(26.0);
    let heights: Vec<f64> = view.nodes.iter().map(|node| (node.cores * core).max(5.0)).collect();
    let gap = if view.nodes.len() > 60 { 2.0 } else { GAP };
    let bottom = head + heights.iter().map(|h| h + gap).sum::<f64>();
    let (main, detail) = title(view);
    let mut out = Chart::new(WIDTH, bottom + FOOT, &format!("{main}. {detail}"));
    out.text((left, 26.0), "start", INK, 16.0, &main);
    out.text((left, 44.0), "start", PALE, 12.0, &detail);
    let _ = writeln!(out, "{}", legend.drawn);
    let ends = view.nodes.iter().flat_map(|node| node.taken.iter().map(|taken| taken.end_s));
    let span_s = ends.fold(view.makespan_s.max(bound(view)), f64::max).max(1e-3);
    let x = |t: f64| left + t / span_s * (WIDTH - left - RIGHT);
    let mut top = head;
    for height in &heights {
        out.rect((left, top), (WIDTH - left - RIGHT, *height), BAND);
        top += height + gap;
    }
    axis(&mut out, span_s, &x, (head, bottom));
    let mut of_node: BTreeMap<&str, Vec<&PlannedTask>> = BTreeMap::new();
    view.tasks.iter().for_each(|task| of_node.entry(&task.node).or_default().push(task));
    let mut top = head;
    for (node, height) in view.nodes.iter().zip(&heights) {
        if *height >= 9.0 || view.nodes.len() <= 60 {
            let name: String = node.name.chars().take(22).collect();
            out.text((left - 10.0, top + height / 2.0 + 1.0), "end", INK, 12.0, &name);
            if *height >= 30.0 {
                let cores = if node.cores == 1.0 { "core" } else { "cores" };
                out.text(
                    (left - 10.0, top + height / 2.0 + 15.0),
                    "end",
                    PALE,
                    10.5,
                    &format!("{} {cores}", node.cores),
                );
            }
        }
        let mut lanes = Lanes::new(node.cores);
        for taken in &node.taken {
            let pieces = lanes.take(0.0, taken.end_s, taken.cores);
            let title =
                format!("{}, which runs already: until {}, {} cores", taken.name, span(taken.end_s), taken.cores);
            let place = Place { x: (x(0.0), x(taken.end_s)), top, per_core: height / node.cores };
            boxed(&mut out, &pieces, &place, (TAKEN, &taken.name, false), &title);
        }
        for task in of_node.get(node.name.as_str()).into_iter().flatten() {
            let pieces = lanes.take(task.start_s, task.end_s, task.cores);
            let program = programs.get(&task.image).map_or(&task.image[..8.min(task.image.len())], String::as_str);
            let title = format!(
                "{} ({program}) on {}: {} to {}, {} cores{}\n{}",
                task.name,
                task.node,
                span(task.start_s),
                span(task.end_s),
                task.cores,
                if task.late { "; too late for its deadline" } else { "" },
                task.why
            );
            let place = Place { x: (x(task.start_s), x(task.end_s)), top, per_core: height / node.cores };
            let colour = colours.get(task.image.as_str()).copied().unwrap_or(OTHER);
            boxed(&mut out, &pieces, &place, (colour, &task.name, task.late), &title);
        }
        top += height + gap;
    }
    if bound(view) > 0.0 {
        let at = x(bound(view));
        out.line((at, head - 4.0), (at, bottom), INK, 1.2, "5 3");
    }
    out.end()
}

/// What no plan could beat, where the axis can show it.
fn bound(view: &PlanView) -> f64 {
    if view.objective == Objective::Makespan { view.lower_bound_s } else { 0.0 }
}

fn title(view: &PlanView) -> (String, String) {
    let tasks = count(view.tasks.len() as u64, "task");
    let main =
        format!("{}: {tasks} on {} in {}", view.set, count(view.nodes.len() as u64, "node"), span(view.makespan_s));
    let mut detail = match view.objective {
        Objective::Makespan => {
            format!("{}, for the makespan; no plan could do it in less than {}", view.policy, span(view.lower_bound_s))
        }
        Objective::MeanResponse => format!(
            "{}, for the mean response: {}; no plan could have less than {}",
            view.policy,
            span(view.mean_response_s),
            span(view.lower_bound_s)
        ),
    };
    for (n, what) in
        [(view.late, "late"), (view.refused.len() as u64, "refused"), (view.waiting, "of others planned too")]
    {
        if n > 0 {
            let _ = write!(detail, "; {n} {what}");
        }
    }
    (main, detail)
}

/// Programs with most core seconds have a colour of their own.
fn colours(view: &PlanView) -> BTreeMap<&str, &'static str> {
    let mut work: BTreeMap<&str, f64> = BTreeMap::new();
    for task in &view.tasks {
        *work.entry(&task.image).or_default() += (task.end_s - task.start_s) * task.cores;
    }
    let mut order: Vec<(&str, f64)> = work.into_iter().collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1));
    order.into_iter().zip(KINDS).map(|((image, _), colour)| (image, colour)).collect()
}

struct Legend {
    drawn: String,
    lines: usize,
}

fn legend(
    view: &PlanView,
    programs: &BTreeMap<String, String>,
    colours: &BTreeMap<&str, &'static str>,
    left: f64,
) -> Legend {
    let mut entries: Vec<(&str, String)> = KINDS
        .iter()
        .filter_map(|kind| colours.iter().find(|(_, colour)| *colour == kind))
        .map(|(image, colour)| {
            let name = programs.get(*image).cloned().unwrap_or_else(|| image.chars().take(8).collect());
            (*colour, name.chars().take(24).collect())
        })
        .collect();
    if view.tasks.iter().any(|task| !colours.contains_key(task.image.as_str())) {
        entries.push((OTHER, "others".into()));
    }
    if view.running > 0 {
        entries.push((TAKEN, "runs already".into()));
    }
    let (mut drawn, mut at, mut lines) = (String::new(), left, 1);
    let mut put = |label: &str, sign: &dyn Fn(f64, f64) -> String| {
        let wide = 40.0 + 7.0 * label.chars().count() as f64;
        if at + wide > WIDTH - RIGHT && at > left {
            (at, lines) = (left, lines + 1);
        }
        let y = 44.0 + 18.0 * lines as f64;
        let _ = writeln!(
            drawn,
            "{}<text x=\"{:.1}\" y=\"{y:.1}\" fill=\"{INK}\">{}</text>",
            sign(at, y),
            at + 18.0,
            escape(label)
        );
        at += wide;
    };
    for (colour, label) in &entries {
        put(label, &|x, y| {
            format!("<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"12\" height=\"12\" rx=\"2\" fill=\"{colour}\"/>", y - 10.0)
        });
    }
    if bound(view) > 0.0 {
        put("lower bound", &|x, y| {
            format!(
                "<line x1=\"{0:.1}\" y1=\"{1:.1}\" x2=\"{0:.1}\" y2=\"{2:.1}\" stroke=\"{INK}\" stroke-width=\"1.2\" \
                 stroke-dasharray=\"5 3\"/>",
                x + 8.0,
                y - 11.0,
                y + 3.0
            )
        });
    }
    Legend { drawn: drawn.trim_end().to_string(), lines }
}

fn axis(out: &mut Chart, span_s: f64, x: &impl Fn(f64) -> f64, (top, bottom): (f64, f64)) {
    let (unit, name) = match span_s {
        s if s > 3.0 * 3600.0 => (3600.0, "hours"),
        s if s > 180.0 => (60.0, "minutes"),
        _ => (1.0, "seconds"),
    };
    let step = step(span_s / unit, 14.0);
    let digits = if step < 0.01 {
        3
    } else if step < 0.1 {
        2
    } else if step < 1.0 {
        1
    } else {
        0
    };
    for i in 0..=(span_s / unit / step + 1e-9) as u32 {
        let at = f64::from(i) * step;
        out.line((x(at * unit), top), (x(at * unit), bottom), GRID, 0.8, "");
        out.text((x(at * unit), bottom + 14.0), "middle", PALE, 11.0, &format!("{at:.digits$}"));
    }
    out.text((x(span_s / 2.0), bottom + 34.0), "middle", PALE, 12.0, name);
}

struct Place {
    /// From, to.
    x: (f64, f64),
    /// Of the node's band.
    top: f64,
    per_core: f64,
}

/// A task's box, or several where no place is high enough for one.
fn boxed(out: &mut Chart, pieces: &[(f64, f64)], place: &Place, (colour, name, late): (&str, &str, bool), title: &str) {
    let Place { x: (from, to), top, per_core } = *place;
    let wide = (to - from).max(0.6);
    let mut group = format!("<g><title>{}</title>", escape(title));
    let edge = if late { WRONG } else { "white" };
    let thick = if late {
        1.6
    } else if wide > 4.0 {
        0.8
    } else {
        0.3
    };
    for (at, cores) in pieces {
        let _ = write!(
            group,
            "<rect x=\"{from:.2}\" y=\"{:.2}\" width=\"{wide:.2}\" height=\"{:.2}\" fill=\"{colour}\" stroke=\"{edge}\" stroke-width=\"{thick}\"/>",
            top + at * per_core,
            cores * per_core
        );
    }
    let highest = pieces.iter().copied().fold((0.0, 0.0), |best: (f64, f64), p| if p.1 > best.1 { p } else { best });
    let (high, chars) = (highest.1 * per_core, name.chars().count() as f64);
    if high >= 10.0 && wide >= 6.0 * chars + 8.0 {
        let ink = if colour == TAKEN { INK } else { "white" };
        let _ = write!(
            group,
            "<text x=\"{:.1}\" y=\"{:.1}\" font-size=\"10\" fill=\"{ink}\" pointer-events=\"none\">{}</text>",
            from + 4.0,
            top + (highest.0 + highest.1 / 2.0) * per_core + 3.6,
            escape(name)
        );
    }
    let _ = writeln!(out, "{group}</g>");
}

/// A node's cores over time, for tasks in the order in which they start.
struct Lanes {
    cores: f64,
    /// What is taken: from, how many, until.
    taken: Vec<(f64, f64, f64)>,
}

impl Lanes {
    fn new(cores: f64) -> Lanes {
        Lanes { cores, taken: Vec::new() }
    }

    /// Where to draw a task: in one piece if there is a place for it, lowest first; else in several.
    fn take(&mut self, start: f64, end: f64, cores: f64) -> Vec<(f64, f64)> {
        self.taken.retain(|taken| taken.2 > start + 1e-9);
        self.taken.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut free = Vec::new();
        let mut at = 0.0;
        for &(from, many, _) in &self.taken {
            if from - at > 1e-6 {
                free.push((at, from - at));
            }
            at = f64::max(at, from + many);
        }
        if self.cores - at > 1e-6 {
            free.push((at, self.cores - at));
        }
        let mut pieces = Vec::new();
        if let Some(&(at, _)) = free.iter().find(|gap| gap.1 >= cores - 1e-6) {
            pieces.push((at, cores));
        } else {
            let mut left = cores;
            for (at, many) in free {
                if left > 1e-6 {
                    pieces.push((at, many.min(left)));
                    left -= many;
                }
            }
        }
        self.taken.extend(pieces.iter().map(|&(at, many)| (at, many, end)));
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wayfare_api::{NodeRequest, PlanRequest, Taken};
    use wayfare_control::plan::{Scene, check, make};

    fn plan(tasks: &str) -> PlanView {
        let set = wayfare_api::read(format!("{{\"name\": \"a<b\", \"tasks\": [{tasks}]}}").as_bytes());
        let mut request = PlanRequest { set: set.unwrap(), policy: None, seed: 1 };
        request.set.name = "s".into();
        let node = |name: &str, cores| format!("{{\"name\": \"{name}\", \"cores\": {cores}, \"memory\": 8000000000}}");
        let nodes = format!("[{}, {}]", node("a & b", 4), node("c", 2));
        let nodes: Vec<NodeRequest> = wayfare_api::read(nodes.as_bytes()).unwrap();
        let policy = check(&request).unwrap();
        make(&request, policy, Scene::described(&nodes, &request.set)).unwrap()
    }

    fn task(more: &str) -> String {
        format!("{{\"name\": \"t\", \"image\": \"{}\", \"estimate\": 5{more}}}", "ab".repeat(32))
    }

    #[test]
    fn every_task_has_a_box_with_a_title_and_names_are_escaped() {
        let mut view = plan(&task(", \"count\": 40, \"cores\": 0.5, \"deadline\": 10"));
        view.nodes[1].taken.push(Taken { name: "before".into(), cores: 1.0, end_s: 3.0 });
        let chart = svg(&view, &BTreeMap::new());
        assert_eq!(chart.matches("<g><title>").count(), 41);
        assert!(chart.contains("a &amp; b") && !chart.contains("NaN") && !chart.contains("inf"));
        assert!(chart.contains("which runs already: until 3.0s") && chart.contains(">seconds<"));
        assert!(view.late > 0 && chart.contains(&format!("stroke=\"{WRONG}\"")));
    }

    #[test]
    fn a_plan_of_nothing_can_be_drawn() {
        let view = plan(&task(", \"cores\": 64"));
        assert_eq!((view.tasks.len(), view.refused.len()), (0, 1));
        let chart = svg(&view, &BTreeMap::new());
        assert!(chart.contains("1 refused") && !chart.contains("NaN") && !chart.contains("inf"));
    }

    #[test]
    fn boxes_do_not_overlap_and_are_as_high_as_their_cores() {
        let mut lanes = Lanes::new(3.0);
        assert_eq!(lanes.take(0.0, 5.0, 1.0), [(0.0, 1.0)]);
        assert_eq!(lanes.take(0.0, 9.0, 1.0), [(1.0, 1.0)]);
        assert_eq!(lanes.take(0.0, 5.0, 1.0), [(2.0, 1.0)]);
        // What is free is not in one piece.
        assert_eq!(lanes.take(5.0, 6.0, 2.0), [(0.0, 1.0), (2.0, 1.0)]);
        assert_eq!(lanes.take(9.0, 10.0, 3.0), [(0.0, 3.0)]);
    }
}
