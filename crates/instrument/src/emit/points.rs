//! Migration points on the way out: polls, checks after calls, and the writing of frames.

use super::{Emitter, NOT_HOISTED};
use crate::abi;
use crate::context::Globals;
use crate::meta::{PointKind, SlotType};
use crate::plan::{Label, Temp};
use crate::scan::Op;
use wasm_encoder::{BlockType, Instruction as I};
use wasmparser::{Operator, ValType};

impl Emitter<'_, '_> {
    pub(super) fn enter_function(&mut self) {
        let entry = self.s.points.first().is_some_and(|p| p.kind == PointKind::Entry);
        self.open_region(0);
        if self.clone {
            self.block(Label::Entered);
            self.dispatch(0);
            self.end_of(Label::Entered);
        } else if entry {
            self.load_poll(abi::ENTRY);
            let cold = self.unlikely_if();
            self.capture(0);
            self.end_of(cold);
        }
        if entry {
            self.count(1);
        }
    }

    /// In a poll's cold path: captures, unless a test's countdown lets this poll pass.
    pub(super) fn capture(&mut self, point: u32) {
        if !self.cx.options.countdown {
            self.save(point);
            return;
        }
        self.global(Globals::countdown);
        self.i(I::I32Eqz);
        self.i(I::If(BlockType::Empty));
        let label = self.fresh();
        self.push_label(label, NOT_HOISTED);
        self.save(point);
        self.end_of(label);
        self.global(Globals::countdown);
        self.i(I::I32Const(1));
        self.i(I::I32Sub);
        self.set_global(Globals::countdown);
    }

    /// Writes the live locals of a point into a new frame and leaves.
    fn save(&mut self, point: u32) {
        self.add_turns();
        let entry = self.p.enters_shared(point);
        let live = std::mem::take(&mut self.p.live[point as usize]);
        let shared = entry.map_or(0, |i| self.p.shared[i]);
        let own: Vec<u32> = live.iter().copied().filter(|slot| *slot >= shared).collect();
        self.write(&own);
        // What the common code writes besides must not be looked for: it is dead here.
        for slot in (0..shared).filter(|slot| !live.contains(slot)) {
            let slot = self.p.slots[slot as usize];
            self.dummy(slot.ty);
            self.i(I::LocalSet(slot.local));
        }
        self.p.live[point as usize] = live;
        self.i(I::I32Const(point as i32));
        self.set(Temp::Point);
        self.br_cold(entry.map_or(Label::Unwind, |i| Label::Shared(i as u32)));
    }

    /// The end of a function that may capture, after its last instruction: what all points write in common.
    pub(super) fn unwind(&mut self) {
        for i in (0..self.p.shared.len()).rev() {
            self.end_of(Label::Shared(i as u32));
            let from = if i > 0 { self.p.shared[i - 1] } else { 0 };
            let slots: Vec<u32> = (from..self.p.shared[i]).collect();
            self.write(&slots);
            self.br_cold(if i > 0 { Label::Shared(i as u32 - 1) } else { Label::Unwind });
        }
        self.end_of(Label::Unwind);
        self.i(I::I64Const(i64::from(self.cx.slots[&self.function])));
        self.get(Temp::Point);
        self.i(I::I64ExtendI32U);
        self.i(I::I64Const(32));
        self.i(I::I64Shl);
        self.i(I::I64Or);
        self.i(I::I32Const(self.p.frame_size as i32));
        self.i(I::Call(self.cx.helpers.pushed));
        self.br_cold(Label::Dummies);
    }

    /// Writes slots into the new frame.
    fn write(&mut self, slots: &[u32]) {
        if slots.is_empty() {
            return;
        }
        self.global(Globals::sp);
        self.set(Temp::Base);
        for slot in slots {
            let slot = self.p.slots[*slot as usize];
            self.get(Temp::Base);
            self.i(I::LocalGet(slot.local));
            let at = self.frame(slot.offset);
            match slot.slot {
                SlotType::I32 => self.i(I::I32Store(at)),
                SlotType::I64 => self.i(I::I64Store(at)),
                SlotType::F32 => self.i(I::F32Store(at)),
                SlotType::F64 => self.i(I::F64Store(at)),
                SlotType::V128 => self.i(I::V128Store(at)),
                SlotType::Func => {
                    self.i(I::Call(self.cx.helpers.save_ref));
                    self.i(I::I32Store(at));
                }
                SlotType::Exn(_) => {
                    self.i(I::I32Const(slot.offset as i32));
                    self.i(I::Call(self.cx.helpers.save_exn));
                }
            }
        }
    }

    pub(super) fn call(&mut self, op: &Op<'_>, index: u32, point: u32) {
        let p = &self.s.points[point as usize];
        let (own, base) = self.own(&p.stack);
        let again = matches!(p.kind, PointKind::HostCall(_));
        let kept = own.len() - p.args;
        if again {
            self.set_all(own, |k, t| Temp::Depth(base + k, t));
            self.close_at(index * 4);
            self.get_all(&own[kept..], |k, t| Temp::Depth(base + kept as u32 + k, t));
        } else if !own.is_empty() {
            let args = self.arguments(op);
            self.set_all(&args, Temp::Arg);
            self.set_all(own, |k, t| Temp::Depth(base + k, t));
            self.get_all(&args, Temp::Arg);
        }
        match op.operator {
            Operator::ReturnCall { function_index } => self.i(I::Call(function_index)),
            _ => self.copy(op),
        }
        self.set_all(&p.results, Temp::Result);
        let polled = self.s.points.get(point as usize + 1).is_some_and(|p| p.kind == PointKind::Return);
        if polled {
            // Whoever sets `unwinding` sets this word too, on this thread.
            self.load_poll(abi::ENTRY);
            let cold = self.unlikely_if();
            let (asked, unwinding) = (self.fresh(), self.fresh());
            self.block(asked);
            self.block(unwinding);
            self.global(Globals::unwinding);
            self.br_if_unlikely(unwinding);
            self.br_cold(asked);
            self.end_of(unwinding);
            self.save(point);
            self.end_of(asked);
            self.capture(point + 1);
            self.end_of(cold);
        } else {
            self.global(Globals::unwinding);
            let cold = self.unlikely_if();
            self.save(point);
            self.end_of(cold);
        }
        if !again {
            self.close_at(index * 4 + 3);
        }
        if polled && self.s.points[point as usize + 1].counts {
            // Also when this frame was resumed, at the poll or within the callee: it has not counted it yet.
            self.count(1);
        }
        self.get_all(&own[..kept], |k, t| Temp::Depth(base + k, t));
        self.get_all(&p.results, Temp::Result);
        if matches!(op.operator, Operator::ReturnCall { .. }) {
            self.i(I::Return);
        }
    }

    /// Types of a call's operands, callee reference or index included.
    fn arguments(&self, op: &Op<'_>) -> Vec<ValType> {
        let m = self.cx.module;
        let by_type = |ty: u32| m.types[ty as usize].as_ref().expect("validated").params().to_vec();
        match op.operator {
            Operator::Call { function_index } => m.type_of(function_index).params().to_vec(),
            Operator::CallIndirect { type_index, table_index } => {
                let mut types = by_type(type_index);
                types.push(if m.tables[table_index as usize].table64 { ValType::I64 } else { ValType::I32 });
                types
            }
            Operator::CallRef { type_index } => {
                let mut types = by_type(type_index);
                let heap = wasmparser::HeapType::Concrete(wasmparser::UnpackedIndex::Module(type_index));
                types.push(ValType::Ref(wasmparser::RefType::new(true, heap).expect("small index")));
                types
            }
            _ => Vec::new(),
        }
    }
}
