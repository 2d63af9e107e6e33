//! Blocks, loops, ifs and try regions, and the branches to them.

use super::{Emitter, NOT_HOISTED};
use crate::abi;
use crate::context::Globals;
use crate::plan::{self, Label, Temp};
use crate::scan::{Construct, Kind, NONE, Op};
use crate::strip::{Bound, Compare, Strip};
use wasm_encoder::{BlockType, Instruction as I};
use wasmparser::{Catch, Operator, ValType};

impl Emitter<'_, '_> {
    /// Whether this construct is entered in the middle: its label is then open already.
    fn enters(&self, c: &Construct) -> bool {
        self.clone && c.landing
    }

    /// Puts a construct's parameters in locals, and the operands under them if there is a point inside.
    fn put_away(&mut self, c: &Construct) {
        self.set_all(&c.params, |k, t| Temp::Param(c.level, k, t));
        if c.landing {
            let (own, base) = self.own(&c.under);
            self.set_all(own, |k, t| Temp::Depth(base + k, t));
        }
    }

    pub(super) fn start_block(&mut self, op: &Op<'_>) {
        let c = &self.s.constructs[op.construct as usize];
        let level = c.level;
        self.put_away(c);
        if !self.enters(c) {
            self.block(Label::Construct(op.construct));
        }
        self.open.push(op.construct);
        self.get_all(&c.params, |k, t| Temp::Param(level, k, t));
    }

    pub(super) fn start_if(&mut self, op: &Op<'_>) {
        let c = &self.s.constructs[op.construct as usize];
        let level = c.level;
        let (own, base) = self.own(&c.under);
        let put_away = !c.params.is_empty() || (c.landing && !own.is_empty());
        if put_away {
            self.set(Temp::Scratch(ValType::I32));
            self.set_all(&c.params, |k, t| Temp::Param(level, k, t));
            if c.landing {
                self.set_all(own, |k, t| Temp::Depth(base + k, t));
            }
            if c.else_op == NONE {
                // Without an else, the parameters are the results.
                self.get_all(&c.params, |k, t| Temp::Param(level, k, t));
                self.set_all(&c.params, |k, t| Temp::Label(level, k, t));
            }
            self.get(Temp::Scratch(ValType::I32));
        }
        if self.enters(c) {
            self.i(I::I32Eqz);
            let has_else = c.else_op != NONE;
            self.br_if(if has_else { Label::Else(op.construct) } else { Label::Construct(op.construct) });
        } else {
            self.i(I::If(BlockType::Empty));
            self.push_label(Label::Construct(op.construct), NOT_HOISTED);
        }
        self.open.push(op.construct);
        self.get_all(&c.params, |k, t| Temp::Param(level, k, t));
    }

    pub(super) fn else_(&mut self, op: &Op<'_>, index: u32) {
        let c = &self.s.constructs[op.construct as usize];
        let level = c.level;
        if op.falls_in {
            self.set_all(&c.results, |k, t| Temp::Label(level, k, t));
        }
        if self.enters(c) {
            if op.falls_in {
                self.br(Label::Construct(op.construct));
            }
            self.close_at(index * 4 + 1);
        } else {
            self.i(I::Else);
        }
        self.get_all(&c.params, |k, t| Temp::Param(level, k, t));
    }

    pub(super) fn start_loop(&mut self, op: &Op<'_>, index: u32) {
        let c = &self.s.constructs[op.construct as usize];
        let level = c.level;
        let (own, base) = self.own(&c.under);
        self.set_all(&c.params, |k, t| Temp::Label(level, k, t));
        self.set_all(own, |k, t| Temp::Depth(base + k, t));
        self.close_at(index * 4);
        let polls = c.header != NONE;
        let poll = abi::POLLS + 4 * (self.loops % abi::POLL_WORDS);
        if polls && self.loops >= abi::POLL_WORDS {
            // This loop shares its word with an earlier one: a store between keeps their loads apart.
            self.i(I::I32Const(0));
            self.i(I::I32Const(0));
            let at = self.poll(abi::FENCE);
            self.i(I::I32Store(at));
        }
        self.loops += u32::from(polls);
        let strip = self.p.strips.get(&op.construct).copied();
        if strip.is_none() {
            self.begin_turns(op.construct);
        }
        let label = if strip.is_some() { self.fresh() } else { Label::Construct(op.construct) };
        self.i(I::Loop(BlockType::Empty));
        self.push_label(label, NOT_HOISTED);
        self.open_region(op.construct);
        if let Some(strip) = strip {
            self.chunk(strip, poll, c.header);
            self.i(I::Loop(BlockType::Empty));
            self.push_label(Label::Construct(op.construct), NOT_HOISTED);
        } else if polls || self.enters(c) {
            self.load_poll(poll);
            let cold = self.unlikely_if();
            if self.enters(c) {
                self.global(Globals::rewinding);
                let inner = self.unlikely_if();
                self.dispatch(op.construct);
                self.end_of(inner);
            }
            if polls {
                self.capture(c.header);
            }
            self.end_of(cold);
            if polls {
                self.count_turn();
            }
        }
        self.open.push(op.construct);
        self.get_all(&c.params, |k, t| Temp::Label(level, k, t));
    }

    fn bound(&mut self, bound: Bound) {
        match bound {
            Bound::Const(c) => self.i(I::I32Const(c)),
            Bound::Local(l) => self.i(I::LocalGet(l)),
        }
    }

    fn compare(&mut self, compare: Compare) {
        self.i(match compare {
            Compare::Ne => I::I32Ne,
            Compare::LtS => I::I32LtS,
            Compare::LtU => I::I32LtU,
            Compare::GtS => I::I32GtS,
            Compare::GtU => I::I32GtU,
        });
    }

    /// Before a strip-mined loop: where what remains is more than a chunk, polls and sets a bound to stop
    /// at; else lets the loop run to its end without a poll.
    fn chunk(&mut self, s: Strip, poll: u32, header: u32) {
        self.bound(s.bound);
        self.set(Temp::Limit);
        let step = s.step.unsigned_abs();
        if s.step > 0 {
            self.bound(s.bound);
            self.i(I::LocalGet(s.induction));
        } else {
            self.i(I::LocalGet(s.induction));
            self.bound(s.bound);
        }
        self.i(I::I32Sub);
        if s.compare == Compare::Ne {
            // Distance 0 is a full turn, as the body runs before the comparison.
            self.i(I::I32Const(step as i32));
            self.i(I::I32Sub);
            if step > 1 {
                // A distance that is no multiple of the step becomes a long one: it is never met.
                self.i(I::I32Const(step.trailing_zeros() as i32));
                self.i(I::I32Rotr);
            }
            self.i(I::I32Const(s.chunk as i32));
            self.i(I::I32GeU);
        } else {
            self.i(I::I32Const((s.chunk * step) as i32));
            self.i(I::I32GtU);
        }
        let long = self.unlikely_if();
        self.load_poll(poll);
        let cold = self.unlikely_if();
        self.capture(header);
        self.end_of(cold);
        self.count(1);
        // Past the bound the distance is long, too, though the loop turns only once.
        let ahead = (s.compare != Compare::Ne).then(|| {
            self.i(I::LocalGet(s.induction));
            self.bound(s.bound);
            self.compare(s.compare);
            self.unlikely_if()
        });
        self.i(I::LocalGet(s.induction));
        self.i(I::I32Const((s.chunk as i32).wrapping_mul(s.step)));
        self.i(I::I32Add);
        self.set(Temp::Limit);
        self.count(s.chunk - 1);
        if let Some(ahead) = ahead {
            self.end_of(ahead);
        }
        self.end_of(long);
    }

    pub(super) fn start_try(&mut self, op: &Op<'_>, index: u32, catches: &[Catch]) {
        let c = &self.s.constructs[op.construct as usize];
        let level = c.level;
        self.put_away(c);
        if c.landing {
            self.close_at(index * 4);
        }
        // One block per catch takes the caught values; its code passes them on to the catch's label.
        let after = self.fresh();
        self.block(after);
        let mut stubs = Vec::new();
        for catch in catches.iter().rev() {
            let ty = self.cx.block_type(&self.caught(catch));
            self.i(I::Block(ty));
            let label = self.fresh();
            self.push_label(label, NOT_HOISTED);
            stubs.push(label);
        }
        stubs.reverse();
        let encoded: Vec<wasm_encoder::Catch> = catches
            .iter()
            .zip(&stubs)
            .map(|(catch, stub)| {
                let label = self.to(*stub);
                match catch {
                    Catch::One { tag, .. } => wasm_encoder::Catch::One { tag: *tag, label },
                    Catch::OneRef { tag, .. } => wasm_encoder::Catch::OneRef { tag: *tag, label },
                    Catch::All { .. } => wasm_encoder::Catch::All { label },
                    Catch::AllRef { .. } => wasm_encoder::Catch::AllRef { label },
                }
            })
            .collect();
        self.i(I::TryTable(BlockType::Empty, encoded.into()));
        self.push_label(Label::Construct(op.construct), NOT_HOISTED);
        self.open_region(op.construct);
        if self.enters(c) {
            self.global(Globals::rewinding);
            let cold = self.unlikely_if();
            self.dispatch(op.construct);
            self.end_of(cold);
        }
        self.open.push(op.construct);
        self.get_all(&c.params, |k, t| Temp::Param(level, k, t));
    }

    fn caught(&self, catch: &Catch) -> Vec<ValType> {
        let (tag, reference) = match catch {
            Catch::One { tag, .. } => (Some(*tag), false),
            Catch::OneRef { tag, .. } => (Some(*tag), true),
            Catch::All { .. } => (None, false),
            Catch::AllRef { .. } => (None, true),
        };
        let mut types = tag.map_or_else(Vec::new, |t| {
            let ty = self.cx.module.tags[t as usize];
            self.cx.module.types[ty as usize].as_ref().expect("validated").params().to_vec()
        });
        if reference {
            types.push(ValType::Ref(wasmparser::RefType::EXN));
        }
        types
    }

    pub(super) fn end_op(&mut self, op: &Op<'_>, index: u32) {
        let id = op.construct;
        let c = &self.s.constructs[id as usize];
        let level = c.level;
        let strip = self.p.strips.get(&id).copied();
        if let Some(strip) = strip {
            self.get(Temp::Limit);
            self.compare(strip.compare);
            self.br_if(Label::Construct(id));
        }
        let result = |k, t| if c.kind == Kind::Loop { Temp::Param(level, k, t) } else { Temp::Label(level, k, t) };
        if op.falls_in && strip.is_none() {
            self.set_all(&c.results, result);
        }
        self.open.pop();
        match c.kind {
            Kind::Function => {
                self.end_of(Label::Construct(0));
                return;
            }
            Kind::Block | Kind::If if self.enters(c) => self.close_at(index * 4 + 1),
            Kind::Block | Kind::If | Kind::Loop => {
                self.end_of(Label::Construct(id));
                if let Some(strip) = strip {
                    self.i(I::LocalGet(strip.induction));
                    self.bound(strip.bound);
                    self.compare(strip.compare);
                    let (outer, _) = *self.labels.last().expect("the outer loop");
                    self.br_if(outer);
                    self.end();
                } else {
                    self.end_turns(id, op.falls_in);
                }
            }
            Kind::Try => self.end_try(id),
        }
        if c.landing || c.kind == Kind::Loop {
            let (own, base) = self.own(&c.under);
            self.get_all(own, |k, t| Temp::Depth(base + k, t));
        }
        self.get_all(&c.results, result);
    }

    fn end_try(&mut self, id: u32) {
        self.end_of(Label::Construct(id));
        let c = &self.s.constructs[id as usize];
        let Operator::TryTable { try_table } = &self.s.ops[c.start as usize].operator else {
            unreachable!("a try construct starts with try_table")
        };
        let after = self.labels[self.labels.len() - 1 - try_table.catches.len()].0;
        self.br(after);
        for catch in &try_table.catches {
            self.end();
            let (Catch::One { label, .. }
            | Catch::OneRef { label, .. }
            | Catch::All { label }
            | Catch::AllRef { label }) = catch;
            let (to, types, level) = self.target(*label);
            self.set_all(&types, |k, t| Temp::Label(level, k, t));
            self.count_if_back(to);
            self.br(to);
        }
        self.end_of(after);
    }

    pub(super) fn br_on_null(&mut self, op: &Op<'_>, depth: u32) {
        let Some(ty) = op.top else {
            self.copy(op);
            return;
        };
        let (label, types, level) = self.target(depth);
        let on_null = matches!(op.operator, Operator::BrOnNull { .. });
        let reference = self.p.locals.index(Temp::Scratch(plan::nullable(ty)));
        self.i(I::LocalTee(reference));
        self.i(I::RefIsNull);
        if !on_null {
            self.i(I::I32Eqz);
        }
        self.set(Temp::Scratch(ValType::I32));
        let carried = if on_null { &types[..] } else { &types[..types.len() - 1] };
        self.set_all(carried, |k, t| Temp::Label(level, k, t));
        if !on_null {
            self.i(I::LocalGet(reference));
            self.set(Temp::Label(level, carried.len() as u32, types[types.len() - 1]));
        }
        self.get_all(carried, |k, t| Temp::Label(level, k, t));
        self.count_if_back(label);
        self.get(Temp::Scratch(ValType::I32));
        self.br_if(label);
        if on_null {
            self.i(I::LocalGet(reference));
            self.i(I::RefAsNonNull);
        }
    }
}
