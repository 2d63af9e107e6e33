//! Moves without end: what an agent keeps of each of them adds up.

use super::super::cluster::{self, Cluster, Node, migrate, order};
use super::{RATE, Setting, row};
use crate::bench::Row;
use anyhow::{Context, Result};
use wayfare_sim::proxy::Shape;

/// Moves after which the agents hold what they need.
const WARM: u32 = 100;
/// What may come and go by chance, in MB: less than 1 KB for each of a thousand moves.
const NOISE: f64 = 1.0;

/// What an agent has held: the least of a while, since buffers come and go.
#[derive(Clone, Copy)]
struct Held {
    resident: u64,
    descriptors: usize,
}

impl Held {
    fn least(self, (resident, descriptors): (u64, usize)) -> Held {
        Held { resident: self.resident.min(resident), descriptors: self.descriptors.min(descriptors) }
    }
}

const NOTHING_YET: Held = Held { resident: u64::MAX, descriptors: usize::MAX };

/// The rows.
pub fn measure(setting: &Setting<'_>) -> Result<Vec<Row>> {
    // Agents of its own: what the others hold of tasks that were there comes and goes.
    let cluster = Cluster::start(&Shape::new(RATE, setting.rtt / 2), &[])?;
    let moves = setting.args.moves.max(2 * WARM);
    let (name, port) = ("to-and-fro", cluster::free_port()?);
    cluster.a.run(name, &setting.program("echo")?, Some(port), &[])?;
    let nodes = [&cluster.a, &cluster.b];
    let (mut early, mut late) = ([NOTHING_YET; 2], [NOTHING_YET; 2]);
    let (mut downtimes, mut longest) = (Vec::new(), 0.0f64);
    for n in 0..moves {
        let (from, to): (&Node, &Node) = if n % 2 == 0 { (nodes[0], nodes[1]) } else { (nodes[1], nodes[0]) };
        let report = migrate(from, order(name, to)).with_context(|| format!("move {}", n + 1))?;
        downtimes.push(super::ms(report.downtime));
        longest = longest.max(super::ms(report.downtime));
        // As many looks at the beginning as at the end: descriptors of the move before may still be open.
        for (i, node) in nodes.iter().enumerate() {
            if (WARM..2 * WARM).contains(&n) {
                early[i] = early[i].least(node.holds()?);
            }
            if n + WARM >= moves {
                late[i] = late[i].least(node.holds()?);
            }
        }
    }
    let last = nodes[moves as usize % 2];
    last.forget(name)?;
    let mut rows = Vec::new();
    for (i, node) in nodes.iter().enumerate() {
        let mb = |bytes: u64| bytes as f64 / 1e6;
        let note = format!("{:.1} MB after {WARM}, {:.1} at the end", mb(early[i].resident), mb(late[i].resident));
        let growth = mb(late[i].resident) - mb(early[i].resident);
        rows.push(row(format!("{moves} moves, memory grown, {}", node.name), growth, "MB", Some(NOISE), note));
        let note = format!("{} after {WARM}, {} at the end", early[i].descriptors, late[i].descriptors);
        let growth = late[i].descriptors as f64 - early[i].descriptors as f64;
        rows.push(row(format!("{moves} moves, descriptors grown, {}", node.name), growth, "", Some(0.0), note));
    }
    let note = format!("longest {longest:.1} ms");
    rows.push(row(format!("{moves} moves, downtime"), super::super::median(&mut downtimes), "ms", None, note));
    Ok(rows)
}
