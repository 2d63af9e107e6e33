//! Which locals are live at each migration point: a backward data-flow over the function's basic blocks.
//!
//! Precision matters here for speed, not only for size: a dead local that is saved anyway stays in a
//! register or a stack slot along the hot path up to the point.

use crate::scan::{Kind, NONE, Scan};
use wasmparser::{Catch, Operator};

/// A set of small integers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BitSet(Vec<u64>);

impl BitSet {
    pub fn new(bits: usize) -> Self {
        BitSet(vec![0; bits.div_ceil(64)])
    }
    pub fn insert(&mut self, i: u32) {
        self.0[i as usize / 64] |= 1 << (i % 64);
    }
    pub fn remove(&mut self, i: u32) {
        self.0[i as usize / 64] &= !(1 << (i % 64));
    }
    pub fn contains(&self, i: u32) -> bool {
        self.0[i as usize / 64] >> (i % 64) & 1 != 0
    }
    pub fn union(&mut self, other: &BitSet) {
        for (a, b) in self.0.iter_mut().zip(&other.0) {
            *a |= b;
        }
    }
    /// Adds `(out - kill)`; tells whether anything was new.
    fn union_minus(&mut self, out: &BitSet, kill: &BitSet) -> bool {
        let mut grew = false;
        for ((a, o), k) in self.0.iter_mut().zip(&out.0).zip(&kill.0) {
            let next = *a | (o & !k);
            grew |= next != *a;
            *a = next;
        }
        grew
    }
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().enumerate().flat_map(|(i, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                (rest != 0).then(|| {
                    let bit = rest.trailing_zeros();
                    rest &= rest - 1;
                    i as u32 * 64 + bit
                })
            })
        })
    }
}

/// A basic block; blocks are in code order.
#[derive(Default)]
pub struct Block {
    /// Operator range.
    pub ops: std::ops::Range<u32>,
    pub successors: Vec<u32>,
}

/// Live locals (of the original function) at each point of the scan, in order.
pub fn live_at_points(s: &Scan<'_>) -> Vec<BitSet> {
    let blocks = blocks(s);
    let n = s.locals.len();
    let mut live_in: Vec<BitSet> = Vec::with_capacity(blocks.len());
    let mut kill: Vec<BitSet> = Vec::with_capacity(blocks.len());
    for b in &blocks {
        let (mut gens, mut kills) = (BitSet::new(n), BitSet::new(n));
        for op in &s.ops[b.ops.start as usize..b.ops.end as usize] {
            match op.operator {
                Operator::LocalGet { local_index } if !kills.contains(local_index) => gens.insert(local_index),
                Operator::LocalSet { local_index } | Operator::LocalTee { local_index } => kills.insert(local_index),
                _ => {}
            }
        }
        live_in.push(gens);
        kill.push(kills);
    }
    let live_out = |b: &Block, live_in: &[BitSet]| {
        let mut out = BitSet::new(n);
        for s in &b.successors {
            out.union(&live_in[*s as usize]);
        }
        out
    };
    // Blocks are in code order: walking them backwards settles all but the loops at once.
    loop {
        let mut changed = false;
        for i in (0..blocks.len()).rev() {
            let out = live_out(&blocks[i], &live_in);
            changed |= live_in[i].union_minus(&out, &kill[i]);
        }
        if !changed {
            break;
        }
    }
    let mut by_op: Vec<(u32, usize)> = s.points.iter().enumerate().map(|(i, p)| (p.op, i)).collect();
    by_op.sort_unstable();
    let mut result = vec![BitSet::default(); s.points.len()];
    for b in &blocks {
        let from = by_op.partition_point(|(op, _)| *op < b.ops.start);
        let to = by_op.partition_point(|(op, _)| *op < b.ops.end);
        if from == to {
            continue;
        }
        let mut live = live_out(b, &live_in);
        let mut next = to;
        for i in b.ops.clone().rev() {
            // Neither calls nor loop headers touch locals, so "before" and "after" the operator agree.
            while next > from && by_op[next - 1].0 == i {
                // An entry point shares operator 0 with whatever stands there: it comes before.
                let point = by_op[next - 1].1;
                result[point] = live.clone();
                next -= 1;
            }
            match s.ops[i as usize].operator {
                Operator::LocalGet { local_index } => live.insert(local_index),
                Operator::LocalSet { local_index } | Operator::LocalTee { local_index } => live.remove(local_index),
                _ => {}
            }
        }
        if b.ops.start == 0 {
            for (i, p) in s.points.iter().enumerate() {
                if p.kind == crate::meta::PointKind::Entry {
                    result[i] = live.clone();
                }
            }
        }
    }
    result
}

/// Splits a function in basic blocks.
pub fn blocks(s: &Scan<'_>) -> Vec<Block> {
    // First find where blocks begin, then wire them.
    let mut starts: Vec<u32> = vec![0];
    let in_try = |open: &[u32]| open.iter().any(|c| s.constructs[*c as usize].kind == Kind::Try);
    let mut open: Vec<u32> = vec![0];
    for (i, op) in s.ops.iter().enumerate() {
        let i = i as u32;
        match &op.operator {
            Operator::Loop { .. } => {
                starts.push(i);
                open.push(op.construct);
            }
            Operator::Block { .. } => open.push(op.construct),
            Operator::If { .. } => {
                starts.push(i + 1);
                open.push(op.construct);
            }
            Operator::TryTable { .. } => open.push(op.construct),
            Operator::Else => starts.extend([i, i + 1]),
            Operator::End => {
                starts.push(i);
                open.pop();
            }
            o if ends_block(o) || (may_throw(o) && in_try(&open)) => starts.push(i + 1),
            _ => {}
        }
    }
    starts.sort_unstable();
    starts.dedup();
    let total = s.ops.len() as u32;
    starts.retain(|s| *s < total);
    let block_at = |op: u32| starts.partition_point(|s| *s <= op) as u32 - 1;
    let mut blocks: Vec<Block> = starts
        .iter()
        .enumerate()
        .map(|(i, start)| Block { ops: *start..starts.get(i + 1).copied().unwrap_or(total), successors: Vec::new() })
        .collect();
    let mut open: Vec<u32> = vec![0];
    for b in 0..blocks.len() {
        let mut successors = Vec::new();
        let mut falls = true;
        for i in blocks[b].ops.clone() {
            let op = &s.ops[i as usize];
            let target = |depth: u32, open: &[u32]| -> Option<u32> {
                let c = &s.constructs[open[open.len() - 1 - depth as usize] as usize];
                match c.kind {
                    Kind::Function => None,
                    Kind::Loop => Some(block_at(c.start)),
                    _ => Some(block_at(c.end)),
                }
            };
            match &op.operator {
                Operator::Block { .. } | Operator::Loop { .. } | Operator::TryTable { .. } => open.push(op.construct),
                Operator::If { .. } => {
                    open.push(op.construct);
                    let c = &s.constructs[op.construct as usize];
                    successors.push(if c.else_op == NONE { block_at(c.end) } else { block_at(c.else_op + 1) });
                }
                Operator::Else => {
                    // Control that falls into `else` leaves the construct.
                    falls = false;
                    successors.push(block_at(s.constructs[op.construct as usize].end));
                }
                Operator::End => {
                    open.pop();
                }
                Operator::Br { relative_depth } => {
                    falls = false;
                    successors.extend(target(*relative_depth, &open));
                }
                Operator::BrIf { relative_depth }
                | Operator::BrOnNull { relative_depth }
                | Operator::BrOnNonNull { relative_depth }
                | Operator::BrOnCast { relative_depth, .. }
                | Operator::BrOnCastFail { relative_depth, .. } => successors.extend(target(*relative_depth, &open)),
                Operator::BrTable { targets } => {
                    falls = false;
                    for t in targets.targets().chain([Ok(targets.default())]).flatten() {
                        successors.extend(target(t, &open));
                    }
                }
                o if never_returns(o) => falls = false,
                _ => {}
            }
            if may_throw(&op.operator) {
                for (depth, c) in open.iter().rev().enumerate() {
                    let c = &s.constructs[*c as usize];
                    if c.kind != Kind::Try {
                        continue;
                    }
                    let Operator::TryTable { try_table } = &s.ops[c.start as usize].operator else { continue };
                    for catch in &try_table.catches {
                        let (Catch::One { label, .. }
                        | Catch::OneRef { label, .. }
                        | Catch::All { label }
                        | Catch::AllRef { label }) = catch;
                        // Labels count from outside of the try.
                        successors.extend(target(label + depth as u32 + 1, &open));
                    }
                }
            }
        }
        if falls && b + 1 < blocks.len() {
            successors.push(b as u32 + 1);
        }
        successors.sort_unstable();
        successors.dedup();
        blocks[b].successors = successors;
    }
    blocks
}

fn never_returns(o: &Operator<'_>) -> bool {
    matches!(
        o,
        Operator::Return
            | Operator::Unreachable
            | Operator::Throw { .. }
            | Operator::ThrowRef
            | Operator::ReturnCall { .. }
            | Operator::ReturnCallIndirect { .. }
            | Operator::ReturnCallRef { .. }
    )
}

fn ends_block(o: &Operator<'_>) -> bool {
    never_returns(o)
        || matches!(
            o,
            Operator::Br { .. }
                | Operator::BrIf { .. }
                | Operator::BrTable { .. }
                | Operator::BrOnNull { .. }
                | Operator::BrOnNonNull { .. }
                | Operator::BrOnCast { .. }
                | Operator::BrOnCastFail { .. }
        )
}

fn may_throw(o: &Operator<'_>) -> bool {
    matches!(
        o,
        Operator::Call { .. }
            | Operator::CallIndirect { .. }
            | Operator::CallRef { .. }
            | Operator::Throw { .. }
            | Operator::ThrowRef
    )
}
