//! Counting the work done: the polls that the program passes ([`crate::abi::WORK`]).
//!
//! What is counted lies behind the place where a resumed frame lands, or where none does, so it is counted exactly once.
//! Mostly that is an addition in the global. The turns of a loop without calls, and of those inside it, are counted in a
//! local, in a register, which is added to the global on every way out of the loop, that of a capture included (an
//! addition in memory waits for the one before it, which takes longer than many such loops do for a turn):
//!
//! ```text
//! block $after
//!   block $leave               ;; one for each construct that the loop branches out to
//!     turns = 0                ;; a resumed frame lands before this, and goes on inside
//!     loop
//!       if poll  work += turns; save; br $unwind  end
//!       turns += 1
//!       ... br_if $leave       ;; was: br_if $outer
//!     end
//!     work += turns; br $after
//!   end
//!   work += turns; br $outer
//! end
//! ```

use super::Emitter;
use crate::context::Globals;
use crate::plan::{Label, Temp};
use crate::scan::NONE;
use wasm_encoder::Instruction as I;
use wasmparser::Operator;

/// A loop that counts turns in a local, while it is emitted.
pub(super) struct Turns {
    /// The loop.
    pub construct: u32,
    /// How many constructs are open around it.
    around: usize,
    /// Constructs that it branches out to.
    leaves: Vec<u32>,
}

impl Emitter<'_, '_> {
    /// Adds a constant to the work done.
    pub(super) fn count(&mut self, n: u32) {
        if n == 0 || !self.cx.options.count_work {
            return;
        }
        self.global(Globals::work);
        self.i(I::I64Const(i64::from(n)));
        self.i(I::I64Add);
        self.set_global(Globals::work);
    }

    /// Whether a branch is one back to a loop that counts its turns there.
    pub(super) fn is_counted(&self, to: Label) -> bool {
        self.cx.options.count_work && matches!(to, Label::Construct(c) if self.s.constructs[c as usize].counts)
    }

    /// Counts a turn before a branch that goes, or may go, back to a loop that counts its turns there. (One too many where
    /// another way is taken, at a table for instance, is the same one on every machine.)
    pub(super) fn count_if_back(&mut self, to: Label) {
        if self.is_counted(to) {
            self.count(1);
        }
    }

    /// Before a loop: counts its turns in a local if that pays, and no loop around does already.
    pub(super) fn begin_turns(&mut self, construct: u32) {
        if self.turns.is_some() {
            return;
        }
        let Some(leaves) = self.leaves(construct) else { return };
        let after = self.fresh();
        self.block(after);
        for to in &leaves {
            self.block(Label::Leave(*to));
        }
        self.i(I::I64Const(0));
        self.set(Temp::Turns);
        self.turns = Some(Turns { construct, around: self.open.len(), leaves });
    }

    /// Counts a turn of a loop that polls.
    pub(super) fn count_turn(&mut self) {
        if self.turns.is_none() {
            self.count(1);
            return;
        }
        self.get(Temp::Turns);
        self.i(I::I64Const(1));
        self.i(I::I64Add);
        self.set(Temp::Turns);
    }

    /// Adds the turns counted so far to the work done, where control leaves the loop.
    pub(super) fn add_turns(&mut self) {
        if self.turns.is_none() {
            return;
        }
        self.global(Globals::work);
        self.get(Temp::Turns);
        self.i(I::I64Add);
        self.set_global(Globals::work);
    }

    /// After the end of a loop.
    pub(super) fn end_turns(&mut self, construct: u32, falls_in: bool) {
        if self.turns.as_ref().is_none_or(|turns| turns.construct != construct) {
            return;
        }
        let after = self.labels[self.labels.len() - 1 - self.turns.as_ref().map_or(0, |t| t.leaves.len())].0;
        if falls_in {
            self.add_turns();
            self.br(after);
        } else {
            self.i(I::Unreachable);
        }
        let leaves = self.turns.as_ref().map(|turns| turns.leaves.clone()).unwrap_or_default();
        for to in leaves.into_iter().rev() {
            self.end_of(Label::Leave(to));
            self.add_turns();
            self.count_if_back(Label::Construct(to));
            self.br(Label::Construct(to));
        }
        self.turns = None;
        self.end_of(after);
    }

    /// The label of a branch to one of the open constructs.
    pub(super) fn label_of(&self, place: usize) -> Label {
        let construct = self.open[place];
        match &self.turns {
            Some(turns) if place < turns.around => Label::Leave(construct),
            _ => Label::Construct(construct),
        }
    }

    /// The constructs that a loop branches out to; `None` if its turns are not to be counted in a local: if there is a call,
    /// around which that would lie in memory anyway, and from which an exception would leave by a way that adds nothing; or
    /// if no innermost loop in it counts its turns, so that those inside would only have a register less.
    fn leaves(&self, construct: u32) -> Option<Vec<u32>> {
        let c = &self.s.constructs[construct as usize];
        if !self.cx.options.count_work {
            return None;
        }
        let turns_often = |id: u32| {
            let c = &self.s.constructs[id as usize];
            c.header != NONE && !c.landing && !self.p.strips.contains_key(&id)
        };
        let mut pays = turns_often(construct);
        let mut leaves = Vec::new();
        let mut inside = 1u32;
        let mut leave = |depth: u32, inside: u32| {
            if let Some(out) = depth.checked_sub(inside) {
                leaves.push(self.open[self.open.len() - 1 - out as usize]);
            }
        };
        for op in &self.s.ops[c.start as usize + 1..c.end as usize] {
            match &op.operator {
                Operator::Loop { .. } => {
                    pays |= turns_often(op.construct);
                    inside += 1;
                }
                Operator::Block { .. } | Operator::If { .. } => inside += 1,
                Operator::End => inside -= 1,
                Operator::Br { relative_depth }
                | Operator::BrIf { relative_depth }
                | Operator::BrOnNull { relative_depth }
                | Operator::BrOnNonNull { relative_depth } => leave(*relative_depth, inside),
                Operator::BrTable { targets } => {
                    for target in targets.targets().chain([Ok(targets.default())]) {
                        leave(target.expect("validated"), inside);
                    }
                }
                Operator::TryTable { .. }
                | Operator::Throw { .. }
                | Operator::ThrowRef
                | Operator::Call { .. }
                | Operator::CallIndirect { .. }
                | Operator::CallRef { .. } => return None,
                _ => {}
            }
        }
        leaves.sort_unstable();
        leaves.dedup();
        pays.then_some(leaves)
    }
}
