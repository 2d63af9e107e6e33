//! The way back in: a clone of the function that takes its frame off, restores its locals, and jumps to its point.

use super::Emitter;
use crate::abi;
use crate::context::Globals;
use crate::meta::{PointKind, SlotType};
use crate::plan::{Label, Temp};
use crate::scan::NONE;
use wasm_encoder::Instruction as I;
use wasmparser::ValType;

/// How a region's dispatch gets to a point.
#[derive(PartialEq, Clone, Copy)]
enum Way {
    Innermost,
    /// By calling a function with results of this class.
    Call(u32),
    /// The same for one point inside a try: what the callee throws is caught by code that needs the
    /// locals, so they are restored before the call.
    CallInTry(u32),
    /// Inside this loop or try.
    Towards(u32),
}

impl Emitter<'_, '_> {
    /// At a region's top while rewinding: restores the locals that are restored here, and goes to the point
    /// or towards it.
    ///
    /// The callee of a call point runs before anything is restored: what lives across a call lives in
    /// memory, and would do so on the hot path too (measured: SQLite's interpreter loop 3.8 times slower).
    pub(super) fn dispatch(&mut self, region: u32) {
        let Some(range) = self.p.points.get(&region).cloned() else { return };
        let size = self.p.frame_size;
        self.global(Globals::rewind_sp);
        self.i(I::I32Const(size as i32));
        self.i(I::I32Sub);
        self.set(Temp::Base);
        self.load_point(range.start);
        let ways: Vec<Way> = range.clone().map(|q| self.way(region, q)).collect();
        let mut groups: Vec<Way> = Vec::new();
        for w in &ways {
            if !groups.contains(w) {
                groups.push(*w);
            }
        }
        let labels: Vec<Label> = groups.iter().map(|_| self.fresh()).collect();
        for label in labels.iter().rev() {
            self.block(*label);
        }
        let group_of = |w: &Way| groups.iter().position(|g| g == w).expect("grouped");
        let targets: Vec<Label> = ways.iter().map(|w| labels[group_of(w)]).collect();
        self.choose(0, &targets);
        for (group, label) in groups.iter().zip(&labels) {
            self.end_of(*label);
            let members: Vec<u32> = (range.clone()).filter(|q| ways[(q - range.start) as usize] == *group).collect();
            match group {
                Way::Towards(child) => {
                    let slots = self.p.towards.remove(&(region, *child)).unwrap_or_default();
                    self.restore(&slots);
                    self.br(Label::Before(*child));
                }
                Way::Innermost => {
                    self.resumed();
                    self.land(region, range.start, &members);
                }
                Way::Call(class) => {
                    self.resume_callee(*class);
                    if members.len() > 1 {
                        self.load_point(range.start);
                    }
                    self.land(region, range.start, &members);
                }
                Way::CallInTry(q) => {
                    let slots = self.p.at_home.remove(&(region, *q)).unwrap_or_default();
                    self.restore(&slots);
                    self.resume_callee(self.cx.class_of[&self.s.points[*q as usize].results]);
                    self.br(Label::Resumed(*q));
                }
            }
        }
    }

    /// Calls the function of the next frame in a call's place, and takes its results.
    fn resume_callee(&mut self, class: u32) {
        let size = self.p.frame_size as i32;
        self.i(I::I32Const(size));
        self.i(I::Call(self.cx.helpers.resume_first + class));
        let results = self.cx.classes[class as usize].clone();
        self.set_all(&results, Temp::Result);
        self.global(Globals::unwinding);
        let again = self.unlikely_if();
        self.get(Temp::Base);
        self.i(I::I32Const(size));
        self.i(I::Call(self.cx.helpers.pushed_again));
        self.br(Label::Dummies);
        self.end_of(again);
    }

    /// Reads the point of the frame at `Base`, relative to a first one.
    fn load_point(&mut self, first: u32) {
        self.get(Temp::Base);
        let at = self.saved(self.p.frame_size - 4);
        self.i(I::I32Load(at));
        if first != 0 {
            self.i(I::I32Const(first as i32));
            self.i(I::I32Sub);
        }
        self.set(Temp::Point);
    }

    /// How a region's dispatch gets to a point.
    fn way(&self, region: u32, q: u32) -> Way {
        let point = &self.s.points[q as usize];
        let mut home = self.s.constructs[point.construct as usize].region;
        let mut child = NONE;
        while home != region {
            child = home;
            let parent = self.s.constructs[home as usize].parent;
            home = self.s.constructs[parent as usize].region;
        }
        if child != NONE {
            Way::Towards(child)
        } else if point.kind.is_innermost() {
            Way::Innermost
        } else if self.s.in_try(point.construct) {
            Way::CallInTry(q)
        } else {
            Way::Call(self.cx.class_of[&point.results])
        }
    }

    /// Restores the locals that any of these points needs, and goes to the point's landing. What is dead at
    /// the point gets whatever lies in the frame, and nobody looks.
    fn land(&mut self, region: u32, base: u32, members: &[u32]) {
        let mut slots = Vec::new();
        for q in members {
            slots.extend(self.p.at_home.remove(&(region, *q)).unwrap_or_default());
        }
        slots.sort_unstable();
        slots.dedup();
        self.restore(&slots);
        let landings: Vec<Label> = members.iter().map(|q| self.landing(*q)).collect();
        // Places of the table that belong to other groups are never taken; any target will do.
        let (first, last) = (members[0], members[members.len() - 1]);
        let table: Vec<Label> = (first..=last).map(|q| landings[members.partition_point(|m| *m < q)]).collect();
        self.choose(first - base, &table);
    }

    fn landing(&self, point: u32) -> Label {
        match self.s.points[point as usize].kind {
            PointKind::Loop => {
                let c = self.s.constructs.iter().position(|c| c.header == point);
                Label::Before(c.expect("a header belongs to a loop") as u32)
            }
            PointKind::Entry => Label::Entered,
            PointKind::Return => Label::Resumed(point - 1),
            _ => Label::Resumed(point),
        }
    }

    fn restore(&mut self, slots: &[u32]) {
        for slot in slots {
            let slot = self.p.slots[*slot as usize];
            self.get(Temp::Base);
            let at = self.saved(slot.offset);
            match slot.slot {
                SlotType::I32 => self.i(I::I32Load(at)),
                SlotType::I64 => self.i(I::I64Load(at)),
                SlotType::F32 => self.i(I::F32Load(at)),
                SlotType::F64 => self.i(I::F64Load(at)),
                SlotType::V128 => self.i(I::V128Load(at)),
                SlotType::Func => {
                    self.i(I::I32Load(at));
                    self.i(I::Call(self.cx.helpers.load_ref));
                    if let ValType::Ref(r) = slot.ty
                        && r != wasmparser::RefType::FUNCREF
                    {
                        let heap = wasm_encoder::HeapType::try_from(r.heap_type()).expect("a type of this module");
                        self.i(I::RefCastNullable(heap));
                    }
                }
                SlotType::Exn(_) => {
                    self.i(I::I32Const(slot.offset as i32));
                    self.i(I::Call(self.cx.helpers.load_exn));
                }
            }
            self.i(I::LocalSet(slot.local));
        }
    }

    /// Takes the innermost frame off and goes back to normal running. Written out in place and without
    /// a call: wasmtime's calls keep no registers, and with one here the loop's variables, restored just
    /// before, would live in memory for the whole loop (measured: mandelbrot 1.8, cg 2.2 times slower).
    fn resumed(&mut self) {
        self.i(I::I32Const(0));
        self.set_global(Globals::rewinding);
        if self.cx.options.countdown {
            return;
        }
        for offset in (0..abi::FENCE).step_by(8) {
            self.i(I::I32Const(0));
            self.i(I::I64Const(0));
            let at = self.poll(offset);
            self.i(I::I64Store(at));
        }
    }

    /// Branches to `targets[point - first]`.
    fn choose(&mut self, first: u32, targets: &[Label]) {
        if targets.iter().all(|t| *t == targets[0]) {
            self.br(targets[0]);
            return;
        }
        self.get(Temp::Point);
        if first != 0 {
            self.i(I::I32Const(first as i32));
            self.i(I::I32Sub);
        }
        self.br_table(targets);
    }
}
