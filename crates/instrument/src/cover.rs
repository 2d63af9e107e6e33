//! Loops whose every turn passes another poll, an inner loop's or one after a call that may capture (then the
//! check that is there anyway becomes the poll): their headers need none.

use crate::liveness::{self, Block};
use crate::meta::PointKind;
use crate::parse::Module;
use crate::plan;
use crate::scan::{Kind, NONE, Point, Scan};
use crate::strip;

/// Calls tried for one loop.
const CANDIDATES: usize = 8;

/// Takes the polls off headers that do not need them, and adds polls after calls in exchange.
pub fn cover_loops(m: &Module<'_>, s: &mut Scan<'_>, chunk: u32) {
    if s.points.len() < 2 || !s.points.iter().any(|p| p.kind == PointKind::Loop) {
        return;
    }
    let blocks = liveness::blocks(s);
    let block_of = |op: u32| blocks.partition_point(|b| b.ops.start <= op) - 1;
    // An exception leaves a call without passing the check after it.
    let usable = |p: &Point| !s.in_try(p.construct);
    let mut polled = vec![false; blocks.len()];
    for p in s.points.iter().filter(|p| p.kind == PointKind::Return && usable(p)) {
        polled[block_of(p.op)] = true;
    }
    let mut polls_after = vec![false; s.points.len()];
    let mut covered = vec![false; s.constructs.len()];
    // Headers that count each of their loop's turns as work, and loops that none of these counts for.
    let mut counted = vec![false; blocks.len()];
    let mut uncounted = Vec::new();
    let mut walk = Walk { blocks: &blocks, seen: vec![0; blocks.len()], round: 0, work: Vec::new() };
    for (i, c) in s.constructs.iter().enumerate().rev().filter(|(_, c)| c.header != NONE) {
        let (header, end) = (block_of(c.start), block_of(c.end));
        if !walk.turns(header, end, |b| polled[b]) {
            covered[i] = true;
            if walk.turns(header, end, |b| counted[b]) {
                uncounted.push(i);
            }
            continue;
        }
        let first = s.points.partition_point(|p| p.op <= c.start);
        let last = s.points.partition_point(|p| p.op < c.end);
        let candidates = (first..last).filter(|q| {
            let p = &s.points[*q];
            matches!(p.kind, PointKind::Call(_) | PointKind::CallIndirect)
                && s.loop_around(p.construct) == i as u32
                && usable(p)
                && p.results.iter().all(|t| plan::slot_type(m, *t).is_some())
        });
        let mut candidates = candidates.take(CANDIDATES).map(|q| (q, block_of(s.points[q].op)));
        if let Some((q, at)) = candidates.find(|(_, at)| !walk.turns(header, end, |b| polled[b] || b == *at)) {
            polls_after[q] = true;
            polled[at] = true;
            covered[i] = true;
            uncounted.push(i);
        } else if strip::recognise(m, s, i as u32, chunk).is_none() {
            polled[header] = true;
            counted[header] = true;
        }
    }
    for i in uncounted {
        s.constructs[i].counts = true;
    }
    let mut headers: Vec<(u32, usize)> =
        s.constructs.iter().enumerate().filter_map(|(i, c)| (c.header != NONE).then_some((c.header, i))).collect();
    headers.sort_unstable();
    let mut headers = headers.into_iter().peekable();
    let old = std::mem::take(&mut s.points);
    for (q, point) in (0u32..).zip(old) {
        if let Some((_, construct)) = headers.next_if(|(header, _)| *header == q) {
            if covered[construct] {
                s.constructs[construct].header = NONE;
                continue;
            }
            s.constructs[construct].header = s.points.len() as u32;
        }
        let poll = polls_after[q as usize].then(|| point.poll_after());
        s.points.push(point);
        s.points.extend(poll);
    }
    // A loop that cannot turn at all may have been the only thing to land at.
    s.mark_landings();
}

/// Walks over a function's blocks.
struct Walk<'b> {
    blocks: &'b [Block],
    seen: Vec<u32>,
    round: u32,
    work: Vec<usize>,
}

impl Walk<'_> {
    /// Whether a loop, from its header's block to that of its end, can turn without entering closed blocks.
    fn turns(&mut self, header: usize, end: usize, closed: impl Fn(usize) -> bool) -> bool {
        if closed(header) {
            return false;
        }
        self.round += 1;
        self.work.clear();
        self.work.push(header);
        while let Some(b) = self.work.pop() {
            for next in &self.blocks[b].successors {
                let next = *next as usize;
                if next == header {
                    return true;
                }
                // Control that has left the loop comes back, if at all, by another entry.
                if (header..=end).contains(&next) && !closed(next) && self.seen[next] != self.round {
                    self.seen[next] = self.round;
                    self.work.push(next);
                }
            }
        }
        false
    }
}

impl Scan<'_> {
    /// The innermost loop around a construct, itself included.
    fn loop_around(&self, mut construct: u32) -> u32 {
        while construct != NONE && self.constructs[construct as usize].kind != Kind::Loop {
            construct = self.constructs[construct as usize].parent;
        }
        construct
    }
}
