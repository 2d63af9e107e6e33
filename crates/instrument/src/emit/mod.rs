//! Third pass over a function: writes it anew, twice.
//!
//! The *version that runs* keeps the shape of the original and gains polls, and checks after calls:
//!
//! ```text
//! block $unwind
//!   ... call g
//!       if unwinding  save live locals; br $unwind  end          ;; cold
//!       loop
//!         if poll  save live locals; br $unwind  end             ;; cold
//! ...
//! end $unwind: write the frame's header, return a dummy
//! ```
//! Its *resume clone* has the same, and can be entered in the middle; only a captured stack is taken
//! back by it, and what it calls anew are versions that run:
//!
//! ```text
//! block $unwind
//!   block $body
//!     block ... block                 ;; hoisted: one label per landing of this region
//!       find out the point
//!       innermost point: clear `rewinding`, restore locals, br to its landing
//!       call: call the next frame's clone, take its results, restore locals, br past the call
//!       point inside a loop: br before the loop, whose own poll dispatches further
//!       code ... call g  end $resumed ;; landing: as if g had just returned
//!       ...
//!       end $before_loop
//!       loop
//!         if poll                     ;; cold
//!           if rewinding  dispatch to landings inside  end
//!           save live locals; br $unwind
//!         end
//! ...
//! ```
//! Blocks and ifs that are entered in the middle have their start moved to the region's top, which
//! costs nothing (a label has no code); only loops and try regions need to dispatch again.

mod constructs;
mod points;
mod resume;
mod work;

use crate::abi;
use crate::context::{Code, Context, Globals, Rewritten, dummy, val_type};
use crate::meta::PointKind;
use crate::parse::Body;
use crate::plan::{self, Label, Plan, Temp};
use crate::scan::{self, Kind, Op, Scan};
use crate::transform::{Error, Refusal};
use hashbrown::HashMap;
use wasm_encoder::{BlockType, Encode, Instruction as I, MemArg};
use wasmparser::{Operator, ValType};

/// Copies a function through.
pub fn keep(body: Body<'_>) -> Result<Rewritten, Error> {
    let index = body.validate.index;
    Ok(Rewritten {
        index,
        code: Code { bytes: body.body.as_bytes().to_vec(), ..Code::default() },
        ..Rewritten::default()
    })
}

/// Rewrites a function that may capture.
pub fn rewrite(cx: &Context<'_>, body: Body<'_>) -> Result<Rewritten, Error> {
    let index = body.validate.index;
    let scan = scan::scan(cx.module, cx.graph, body, cx.options.chunk)?;
    let plan = plan::plan(cx.module, &scan, index, cx.options);
    if !plan.refusals.is_empty() {
        return Ok(Rewritten { index, refusals: plan.refusals, ..Rewritten::default() });
    }
    let clone = (cx.options.resume_clones && cx.slots.contains_key(&index)).then(|| {
        let mut e = Emitter::new(cx, &scan, plan.clone(), index, true);
        e.function();
        e.finish()
    });
    let mut e = Emitter::new(cx, &scan, plan, index, false);
    e.function();
    let meta = e.describe();
    let refusals = std::mem::take(&mut e.refusals);
    Ok(Rewritten { index, code: e.finish(), clone, meta, refusals })
}

struct Emitter<'a, 'm> {
    cx: &'a Context<'m>,
    s: &'a Scan<'a>,
    p: Plan,
    out: Vec<u8>,
    /// Open labels with the place where a hoisted one closes.
    labels: Vec<(Label, u32)>,
    depth: HashMap<Label, u32>,
    /// Branches that are hardly ever taken.
    unlikely: Vec<u32>,
    /// Open constructs of the original function.
    open: Vec<u32>,
    fresh: u32,
    loops: u32,
    refusals: Vec<Refusal>,
    function: u32,
    /// The loop that is being emitted, or is around it, which counts turns in a local.
    turns: Option<work::Turns>,
    /// Whether this is the clone that a captured stack is taken back by.
    clone: bool,
}

const NOT_HOISTED: u32 = u32::MAX;

impl<'a, 'm> Emitter<'a, 'm> {
    fn new(cx: &'a Context<'m>, s: &'a Scan<'a>, p: Plan, function: u32, clone: bool) -> Self {
        Emitter {
            cx,
            s,
            p,
            out: Vec::with_capacity(s.ops.len() * 6),
            labels: Vec::new(),
            depth: HashMap::new(),
            unlikely: Vec::new(),
            open: vec![0],
            fresh: 0,
            loops: 0,
            refusals: Vec::new(),
            function,
            turns: None,
            clone,
        }
    }

    fn i(&mut self, instruction: I<'_>) {
        instruction.encode(&mut self.out);
    }

    fn push_label(&mut self, label: Label, at: u32) {
        self.depth.insert(label, self.labels.len() as u32);
        self.labels.push((label, at));
    }

    fn block(&mut self, label: Label) {
        self.i(I::Block(BlockType::Empty));
        self.push_label(label, NOT_HOISTED);
    }

    fn end(&mut self) -> Label {
        self.i(I::End);
        let (label, _) = self.labels.pop().expect("balanced");
        self.depth.remove(&label);
        label
    }

    fn end_of(&mut self, label: Label) {
        let closed = self.end();
        debug_assert_eq!(closed, label);
    }

    fn fresh(&mut self) -> Label {
        self.fresh += 1;
        Label::Fresh(self.fresh)
    }

    /// `if`, marked as hardly ever taken.
    fn unlikely_if(&mut self) -> Label {
        self.unlikely.push(self.out.len() as u32);
        self.i(I::If(BlockType::Empty));
        let label = self.fresh();
        self.push_label(label, NOT_HOISTED);
        label
    }

    fn to(&self, label: Label) -> u32 {
        self.labels.len() as u32 - 1 - self.depth[&label]
    }

    fn br(&mut self, label: Label) {
        let d = self.to(label);
        self.i(I::Br(d));
    }

    fn br_if(&mut self, label: Label) {
        let d = self.to(label);
        self.i(I::BrIf(d));
    }

    /// Branches to code that hardly ever runs. That it is a condition, though always met, lets a hint say so: then
    /// the code is laid out behind all other.
    fn br_cold(&mut self, label: Label) {
        self.i(I::I32Const(1));
        self.br_if_unlikely(label);
        self.i(I::Unreachable);
    }

    fn br_if_unlikely(&mut self, label: Label) {
        self.unlikely.push(self.out.len() as u32);
        self.br_if(label);
    }

    fn br_table(&mut self, labels: &[Label]) {
        let depths: Vec<u32> = labels.iter().map(|l| self.to(*l)).collect();
        let (default, table) = depths.split_last().expect("at least one target");
        self.i(I::BrTable(table.into(), *default));
    }

    fn get(&mut self, temp: Temp) {
        let l = self.p.locals.index(temp);
        self.i(I::LocalGet(l));
        if let Temp::Depth(_, t)
        | Temp::Param(_, _, t)
        | Temp::Label(_, _, t)
        | Temp::Arg(_, t)
        | Temp::Result(_, t)
        | Temp::Scratch(t) = temp
            && matches!(t, ValType::Ref(r) if !r.is_nullable())
        {
            self.i(I::RefAsNonNull);
        }
    }

    fn set(&mut self, temp: Temp) {
        let l = self.p.locals.index(temp);
        self.i(I::LocalSet(l));
    }

    fn get_all(&mut self, types: &[ValType], temp: impl Fn(u32, ValType) -> Temp) {
        for (k, t) in types.iter().enumerate() {
            self.get(temp(k as u32, *t));
        }
    }

    fn set_all(&mut self, types: &[ValType], temp: impl Fn(u32, ValType) -> Temp) {
        for (k, t) in types.iter().enumerate().rev() {
            self.set(temp(k as u32, *t));
        }
    }

    /// A place in the stack memory.
    fn frame(&self, offset: u32) -> MemArg {
        MemArg { offset: u64::from(offset), align: 0, memory_index: self.cx.stack }
    }

    /// A place in a frame that is read back.
    fn saved(&self, offset: u32) -> MemArg {
        MemArg { offset: u64::from(offset), align: 0, memory_index: self.cx.rewind }
    }

    /// A place in the poll memory.
    fn poll(&self, offset: u32) -> MemArg {
        MemArg { offset: u64::from(offset), align: 2, memory_index: self.cx.polls }
    }

    fn load_poll(&mut self, offset: u32) {
        self.i(I::I32Const(0));
        let at = self.poll(offset);
        self.i(I::I32Load(at));
    }

    fn global(&mut self, index: impl FnOnce(Globals) -> u32) {
        let index = index(self.cx.globals);
        self.i(I::GlobalGet(index));
    }

    fn set_global(&mut self, index: impl FnOnce(Globals) -> u32) {
        let index = index(self.cx.globals);
        self.i(I::GlobalSet(index));
    }

    /// Closes the hoisted labels that end at this place.
    fn close_at(&mut self, at: u32) {
        while matches!(self.labels.last(), Some((_, a)) if *a == at) {
            self.end();
        }
    }

    fn function(&mut self) {
        let s = self.s;
        let movable = !s.points.is_empty();
        if movable {
            self.block(Label::Dummies);
            self.block(Label::Unwind);
            for i in 0..self.p.shared.len() as u32 {
                self.block(Label::Shared(i));
            }
        }
        self.block(Label::Construct(0));
        if movable {
            self.enter_function();
        }
        let mut i = 0;
        while i < s.ops.len() {
            i = self.op(i as u32) as usize;
        }
        let results = s.ty.results();
        self.get_all(results, |k, t| Temp::Label(0, k, t));
        if movable {
            self.i(I::Return);
            self.unwind();
            self.end_of(Label::Dummies);
            for t in results {
                self.dummy(*t);
            }
        }
        self.i(I::End);
        debug_assert!(self.labels.is_empty());
    }

    fn dummy(&mut self, ty: ValType) {
        match dummy(ty) {
            Some(instruction) => self.i(instruction),
            None => {
                self.i(I::Unreachable);
                self.refuse(format!("returns a {ty}, which has no null to return while its stack is written out"));
            }
        }
    }

    fn refuse(&mut self, reason: String) {
        self.refusals.push(Refusal { place: self.cx.module.name_of(self.function), reason });
    }

    fn open_region(&mut self, region: u32) {
        if !self.clone {
            return;
        }
        for h in self.p.hoisted.remove(&region).unwrap_or_default() {
            self.i(I::Block(BlockType::Empty));
            self.push_label(h.label, h.at);
        }
    }

    /// Emits one operator; returns the next one's index.
    fn op(&mut self, index: u32) -> u32 {
        let op = &self.s.ops[index as usize];
        let point = self.point_at(index);
        match &op.operator {
            Operator::Block { .. } => self.start_block(op),
            Operator::If { .. } => self.start_if(op),
            Operator::Loop { .. } => self.start_loop(op, index),
            Operator::TryTable { try_table } => self.start_try(op, index, &try_table.catches),
            Operator::Else => self.else_(op, index),
            Operator::End => self.end_op(op, index),
            Operator::Br { relative_depth } => {
                let (label, types, level) = self.target(*relative_depth);
                self.set_all(&types, |k, t| Temp::Label(level, k, t));
                self.count_if_back(label);
                self.br(label);
            }
            Operator::BrIf { relative_depth } => {
                let (label, types, level) = self.target(*relative_depth);
                if !types.is_empty() {
                    self.set(Temp::Scratch(ValType::I32));
                    self.set_all(&types, |k, t| Temp::Label(level, k, t));
                    self.get_all(&types, |k, t| Temp::Label(level, k, t));
                    self.get(Temp::Scratch(ValType::I32));
                }
                if self.is_counted(label) {
                    self.i(I::If(BlockType::Empty));
                    let back = self.fresh();
                    self.push_label(back, NOT_HOISTED);
                    self.count(1);
                    self.br(label);
                    self.end_of(back);
                } else {
                    self.br_if(label);
                }
            }
            Operator::BrTable { targets } => {
                let depths: Vec<u32> =
                    targets.targets().chain([Ok(targets.default())]).map(|t| t.expect("validated")).collect();
                let all: Vec<_> = depths.iter().map(|d| self.target(*d)).collect();
                let (_, types, level) = all[0].clone();
                if !types.is_empty() {
                    self.set(Temp::Scratch(ValType::I32));
                    self.set_all(&types, |k, t| Temp::Label(level, k, t));
                    for (_, other, other_level) in &all[1..] {
                        if (other, other_level) != (&types, &level) {
                            self.get_all(&types, |k, t| Temp::Label(level, k, t));
                            self.set_all(other, |k, t| Temp::Label(*other_level, k, t));
                        }
                    }
                    self.get(Temp::Scratch(ValType::I32));
                }
                let labels: Vec<Label> = all.into_iter().map(|(l, ..)| l).collect();
                if let Some(back) = labels.iter().find(|label| self.is_counted(**label)) {
                    self.count_if_back(*back);
                }
                self.br_table(&labels);
            }
            Operator::BrOnNull { relative_depth } | Operator::BrOnNonNull { relative_depth } => {
                self.br_on_null(op, *relative_depth);
            }
            Operator::BrOnCast { .. } | Operator::BrOnCastFail { .. } => {
                self.refuse("branches on a cast of a reference, which exists only on this host".into());
                self.i(I::Unreachable);
            }
            Operator::Call { .. }
            | Operator::ReturnCall { .. }
            | Operator::CallIndirect { .. }
            | Operator::CallRef { .. }
                if point.is_some() =>
            {
                self.call(op, index, point.expect("checked"));
            }
            Operator::LocalGet { local_index } | Operator::LocalTee { local_index } => {
                self.copy(op);
                if self.made_nullable(*local_index) {
                    self.i(I::RefAsNonNull);
                }
            }
            Operator::Return
            | Operator::ReturnCall { .. }
            | Operator::ReturnCallIndirect { .. }
            | Operator::ReturnCallRef { .. } => {
                self.add_turns();
                self.copy(op);
            }
            Operator::DataDrop { data_index } => self.drop_segment(op, *data_index),
            Operator::ElemDrop { elem_index } => self.drop_segment(op, self.cx.module.data_segments + elem_index),
            _ => self.copy(op),
        }
        // A strip-mined loop's tail is emitted with its end.
        let inner = *self.open.last().unwrap_or(&0);
        match self.p.strips.get(&inner) {
            Some(strip) if index + 1 == strip.tail => self.s.constructs[inner as usize].end,
            _ => index + 1,
        }
    }

    fn point_at(&self, index: u32) -> Option<u32> {
        let points = &self.s.points;
        let mut at = points.partition_point(|p| p.op < index);
        if points.get(at).is_some_and(|p| p.op == index && p.kind == PointKind::Entry) {
            at += 1;
        }
        points.get(at).is_some_and(|p| p.op == index).then_some(at as u32)
    }

    /// Copies an operator's bytes.
    fn copy(&mut self, op: &Op<'_>) {
        self.out.extend_from_slice(&self.cx.module.bytes[op.start as usize..op.end as usize]);
    }

    fn made_nullable(&self, local: u32) -> bool {
        (self.clone || local as usize >= self.s.params)
            && matches!(self.s.locals[local as usize], ValType::Ref(r) if !r.is_nullable())
    }

    fn drop_segment(&mut self, op: &Op<'_>, flag: u32) {
        self.i(I::I32Const(0));
        self.i(I::I32Const(1));
        let at = self.frame(abi::DROPPED + flag);
        self.i(I::I32Store8(at));
        self.copy(op);
    }

    /// The label, value types and nesting depth that a branch goes to.
    fn target(&self, depth: u32) -> (Label, Vec<ValType>, u32) {
        let place = self.open.len() - 1 - depth as usize;
        let c = &self.s.constructs[self.open[place] as usize];
        let types = if c.kind == Kind::Loop { &c.params } else { &c.results };
        (self.label_of(place), types.clone(), c.level)
    }

    /// Operands of the surrounding construct that are on the stack under a construct or call: their
    /// types and the height of the first.
    fn own<'t>(&self, stack: &'t [ValType]) -> (&'t [ValType], u32) {
        let parent = &self.s.constructs[*self.open.last().expect("inside") as usize];
        (&stack[parent.under.len()..], parent.under.len() as u32)
    }
    /// What the module says about the function.
    fn describe(&self) -> Option<crate::meta::Function> {
        let s = self.s;
        self.cx.slots.contains_key(&self.function).then(|| crate::meta::Function {
            index: self.function,
            result_class: self.cx.class_of[s.ty.results()],
            locals: s.locals.len() as u32,
            frame_size: self.p.frame_size,
            slots: self
                .p
                .slots
                .iter()
                .map(|f| crate::meta::Slot { local: f.local, ty: f.slot, offset: f.offset })
                .collect(),
            points: s
                .points
                .iter()
                .zip(&self.p.live)
                .map(|(p, live)| crate::meta::Point { kind: p.kind, offset: p.offset, live: live.clone() })
                .collect(),
            callee_classes: s
                .points
                .iter()
                .map(|p| if p.kind.is_innermost() { 0 } else { self.cx.class_of[&p.results] })
                .collect(),
        })
    }

    fn finish(self) -> Code {
        // Declared locals, then added ones, in runs of one type. A clone has no parameters: they are locals.
        let declared = self.s.locals[if self.clone { 0 } else { self.s.params }..].iter().map(|t| plan::nullable(*t));
        let mut runs: Vec<(u32, ValType)> = Vec::new();
        for ty in declared.chain(self.p.locals.types.iter().copied()) {
            match runs.last_mut() {
                Some((n, t)) if *t == ty => *n += 1,
                _ => runs.push((1, ty)),
            }
        }
        let mut bytes = Vec::with_capacity(self.out.len() + 16);
        (runs.len() as u32).encode(&mut bytes);
        for (n, ty) in runs {
            n.encode(&mut bytes);
            val_type(ty).encode(&mut bytes);
        }
        let shift = bytes.len() as u32;
        bytes.extend_from_slice(&self.out);
        Code { bytes, unlikely: self.unlikely.iter().map(|o| o + shift).collect() }
    }
}
