//! Strip-mining: a counted loop is run in chunks, so that its body needs no poll.
//!
//! Recognised are innermost loops without a migration point in their body, closed by one conditional
//! branch on an `i32` induction variable that changes by a constant once per iteration. The loop then
//! runs inside an outer one, which polls and sets the bound of the next chunk:
//!
//! ```text
//! loop $outer                         ;; the migration point
//!   limit = n
//!   if more than CHUNK iterations remain  poll; limit = i + CHUNK*c  end   ;; unlikely
//!   loop $inner
//!     body
//!     br_if $inner (i CMP limit)
//!   end
//!   br_if $outer (i CMP n)
//! end
//! ```
//! What takes less than a chunk needs no poll: whatever is around it polls.
//!
//! Where the number of remaining iterations cannot be told (a step that never meets the bound), every
//! chunk is bounded all the same, so that an endless loop stays capturable.

use crate::parse::Module;
use crate::scan::{Kind, NONE, Scan};
use wasmparser::{Operator, ValType};

/// A comparison that keeps the loop going.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    Ne,
    LtS,
    LtU,
    GtS,
    GtU,
}

/// What the induction variable is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    Const(i32),
    Local(u32),
}

/// A loop that can run in chunks.
#[derive(Clone, Copy, Debug)]
pub struct Strip {
    pub induction: u32,
    /// Never zero; a power of two in magnitude where `compare` is `Ne`.
    pub step: i32,
    pub bound: Bound,
    pub compare: Compare,
    /// First operator of the tail that is replaced: the bound, the comparison, the branch. The induction
    /// variable's value is on the stack there.
    pub tail: u32,
    /// Iterations per chunk.
    pub chunk: u32,
}

/// Recognises a loop construct. A chunk takes about `work` operators.
pub fn recognise(m: &Module<'_>, s: &Scan<'_>, construct: u32, work: u32) -> Option<Strip> {
    let c = &s.constructs[construct as usize];
    debug_assert_eq!(c.kind, Kind::Loop);
    if work == 0 || c.header == NONE || c.landing || !c.params.is_empty() || !c.results.is_empty() {
        return None;
    }
    let body = &s.ops[c.start as usize + 1..c.end as usize];
    if !s.ops[c.end as usize].falls_in {
        return None;
    }
    let ops: Vec<&Operator<'_>> = body.iter().map(|o| &o.operator).collect();
    let (last, rest) = ops.split_last()?;
    if !matches!(last, Operator::BrIf { relative_depth: 0 }) {
        return None;
    }
    // The tail: [value of i] [bound] compare, in either order, or [value of i] alone (until zero).
    let (compare, bound, value_at) = tail(rest)?;
    let value = rest[..=value_at].last()?;
    let (Operator::LocalTee { local_index: induction } | Operator::LocalGet { local_index: induction }) = **value
    else {
        return None;
    };
    let step = one_step(&ops, induction)?;
    if s.locals[induction as usize] != ValType::I32 {
        return None;
    }
    let mut depth = 0u32;
    let mut cost = 0u32;
    for (i, op) in ops.iter().enumerate() {
        let escapes = |d: u32| i + 1 < ops.len() && d == depth;
        match op {
            Operator::Loop { .. } => return None,
            Operator::Block { .. } | Operator::If { .. } | Operator::TryTable { .. } => depth += 1,
            Operator::End => depth -= 1,
            Operator::Br { relative_depth }
            | Operator::BrIf { relative_depth }
            | Operator::BrOnNull { relative_depth }
            | Operator::BrOnNonNull { relative_depth }
                if escapes(*relative_depth) =>
            {
                return None;
            }
            Operator::BrTable { targets }
                if targets.targets().chain([Ok(targets.default())]).flatten().any(escapes) =>
            {
                return None;
            }
            Operator::BrOnCast { .. } | Operator::BrOnCastFail { .. } => return None,
            Operator::LocalSet { local_index } | Operator::LocalTee { local_index }
                if Bound::Local(*local_index) == bound =>
            {
                return None;
            }
            _ => {}
        }
        cost = cost.saturating_add(s.graph.work(m, op));
    }
    let up = step > 0;
    let sound = match compare {
        Compare::Ne => step.unsigned_abs().is_power_of_two(),
        Compare::LtS | Compare::LtU => up,
        Compare::GtS | Compare::GtU => !up,
    };
    let chunk = (work / cost.max(1)).clamp(1, 1 << 16);
    // A chunk must be far from wrapping around.
    if !sound || step.unsigned_abs() > 1 << 12 {
        return None;
    }
    Some(Strip { induction, step, bound, compare, tail: c.start + 2 + value_at as u32, chunk })
}

fn tail(rest: &[&Operator<'_>]) -> Option<(Compare, Bound, usize)> {
    let bound_of = |op: &Operator<'_>| match op {
        Operator::I32Const { value } => Some(Bound::Const(*value)),
        Operator::LocalGet { local_index } => Some(Bound::Local(*local_index)),
        _ => None,
    };
    let n = rest.len();
    let compare = match rest.last()? {
        Operator::I32Ne => Compare::Ne,
        Operator::I32LtS => Compare::LtS,
        Operator::I32LtU => Compare::LtU,
        Operator::I32GtS => Compare::GtS,
        Operator::I32GtU => Compare::GtU,
        Operator::LocalGet { .. } | Operator::LocalTee { .. } => return Some((Compare::Ne, Bound::Const(0), n - 1)),
        _ => return None,
    };
    let bound = bound_of(rest.get(n.checked_sub(2)?)?)?;
    matches!(rest.get(n.checked_sub(3)?)?, Operator::LocalTee { .. } | Operator::LocalGet { .. }).then_some((
        compare,
        bound,
        n - 3,
    ))
}

/// The constant step of a local assigned exactly once, outside of any inner construct.
fn one_step(ops: &[&Operator<'_>], induction: u32) -> Option<i32> {
    let mut depth = 0;
    let mut step = None;
    for (i, op) in ops.iter().enumerate() {
        match op {
            Operator::Block { .. } | Operator::If { .. } | Operator::TryTable { .. } => depth += 1,
            Operator::End => depth -= 1,
            Operator::LocalSet { local_index } | Operator::LocalTee { local_index } if *local_index == induction => {
                if depth != 0 || step.is_some() || i < 3 {
                    return None;
                }
                step = match (ops[i - 3], ops[i - 2], ops[i - 1]) {
                    (Operator::LocalGet { local_index }, Operator::I32Const { value }, Operator::I32Add)
                        if *local_index == induction =>
                    {
                        Some(*value)
                    }
                    (Operator::LocalGet { local_index }, Operator::I32Const { value }, Operator::I32Sub)
                        if *local_index == induction =>
                    {
                        value.checked_neg()
                    }
                    _ => None,
                };
                step?;
            }
            _ => {}
        }
    }
    step.filter(|s| *s != 0)
}
