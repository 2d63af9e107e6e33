//! Which polls after calls count as work done ([`crate::abi::WORK`]): so many that no computation goes on for long
//! without being counted, and no more, since each costs an addition in memory.
//!
//! Loops count each of their turns, so what is left are calls that lead back to their caller. Of each invocation that makes
//! such calls one counts: the first, or, where a function calls only itself, the second. (As long as no invocation makes a
//! second one, they are a chain, and end where the stack does. With others in the cycle, the tree may branch in them.)
//!
//! Any choice makes a number that is the same on every machine, since it is made here, once for all of them, and what
//! counts is passed once, whether or not a capture comes between.

use crate::liveness;
use crate::meta::PointKind;
use crate::scan::{Kind, NONE, Scan};

/// What the ways to a place have in common.
#[derive(Clone, Copy)]
struct Way {
    /// Each of them has counted.
    counted: bool,
    /// One of them may have passed a poll after a call, or the first of these counts, too.
    passed: bool,
}

/// Chooses among the polls after calls; all others count. `alone` says that no other function is in a cycle of calls with
/// this one.
pub fn weigh(s: &mut Scan<'_>, alone: bool) {
    if !s.points.iter().any(|p| p.kind == PointKind::Return) {
        return;
    }
    let blocks = liveness::blocks(s);
    // Headers with polls: in such a loop each turn has counted.
    let mut counts = vec![false; blocks.len()];
    for c in s.constructs.iter().filter(|c| c.kind == Kind::Loop && c.header != NONE && c.landing) {
        counts[blocks.partition_point(|b| b.ops.start <= c.start) - 1] = true;
    }
    // Blocks are in code order, and only loops branch backwards, which count then: one pass settles it.
    let mut ways = vec![Way { counted: true, passed: false }; blocks.len()];
    ways[0].passed = !alone;
    ways[0].counted = s.points.first().is_some_and(|p| p.kind == PointKind::Entry);
    let mut next = 0;
    for (b, block) in blocks.iter().enumerate() {
        let mut way = ways[b];
        way.counted |= counts[b];
        while let Some(p) = s.points.get(next).filter(|p| p.op < block.ops.end) {
            if p.kind == PointKind::Return {
                let counts = way.passed && !way.counted;
                // In a try, there is a way on that does not pass the poll.
                way.counted |= counts && !s.in_try(p.construct);
                way.passed = true;
                s.points[next].counts = counts;
            }
            next += 1;
        }
        for to in &block.successors {
            let to = &mut ways[*to as usize];
            to.counted &= way.counted;
            to.passed |= way.passed;
        }
    }
}
