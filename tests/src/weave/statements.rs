//! Statements: each leaves the stack as it was.

use super::values::Weaver;
use super::{FUNCREF, KINDS, SLOTS, TYPES};
use wasm_encoder::{AbstractHeapType, BlockType, Catch, HeapType, Instruction as I, MemArg, RefType, ValType};

const EXN: HeapType = HeapType::Abstract { shared: false, ty: AbstractHeapType::Exn };
const EXNREF: ValType = ValType::Ref(RefType { nullable: true, heap_type: EXN });

impl Weaver<'_> {
    pub(super) fn statement(&mut self, depth: u32) {
        self.budget -= 1;
        let nested = depth > 0 && self.budget > 0;
        let d = depth.saturating_sub(1);
        match self.below(24) {
            0..4 => self.assign(depth),
            4 => {
                let kind = self.kind();
                self.value(kind, depth);
                let index = KINDS.iter().position(|k| *k == kind).expect("one of them") as u32;
                self.i(I::GlobalSet(2 + index));
            }
            5 => self.store(depth),
            6 | 7 if nested => self.counted_loop(d),
            8 if nested => self.loop_with_values(d),
            9 if nested => {
                self.value(ValType::I32, d);
                self.open(I::If(BlockType::Empty), Some(vec![]));
                self.inside(d);
                self.i(I::Else);
                self.inside(d);
                self.close();
            }
            10 | 11 if nested => self.try_(d),
            12 => self.rarely(|w| {
                w.value(ValType::I32, d);
                w.value(ValType::I64, d);
                w.i(I::Throw(0));
            }),
            13 => self.branch(d),
            14 => self.table(d),
            15 | 21 => self.bulk(d),
            16 => self.rarely(Self::leave),
            17 | 18 => self.call_statement(depth),
            19 if nested => self.switch(d),
            20 if nested => self.block_with_values(d),
            _ => self.fold(),
        }
    }

    fn assign(&mut self, depth: u32) {
        let kind = self.kind();
        self.value(kind, depth);
        let local = self.some_local(kind, true);
        if self.below(4) == 0 {
            self.i(I::LocalTee(local));
            self.i(I::Drop);
        } else {
            self.i(I::LocalSet(local));
        }
    }

    fn store(&mut self, depth: u32) {
        let at = |memory_index| MemArg { offset: self.slots.into(), align: 0, memory_index };
        let (first, second) = (at(0), at(1));
        self.address(depth);
        if self.below(2) == 0 {
            self.value(ValType::V128, depth);
            self.i(I::V128Store(first));
        } else {
            self.i(I::I64ExtendI32U);
            self.value(ValType::I64, depth);
            self.i(I::I64Store(second));
        }
    }

    fn counter(&mut self) -> u32 {
        let counter = self.local(ValType::I32);
        self.counters.push(counter);
        self.i(I::I32Const(0));
        self.i(I::LocalSet(counter));
        counter
    }

    /// Leaves whether the loop goes on.
    fn count(&mut self, counter: u32) {
        let turns = 1 + self.below(4) as i32;
        self.i(I::LocalGet(counter));
        self.i(I::I32Const(1));
        self.i(I::I32Add);
        self.i(I::LocalTee(counter));
        self.i(I::I32Const(turns));
        let signed = self.below(2) == 0;
        self.i(if signed { I::I32LtS } else { I::I32Ne });
    }

    fn counted_loop(&mut self, depth: u32) {
        let counter = self.counter();
        // Only the loop's own end may turn it: a branch from inside would not count.
        self.open(I::Block(BlockType::Empty), Some(vec![]));
        self.open(I::Loop(BlockType::Empty), None);
        self.inside(depth);
        self.count(counter);
        self.i(I::BrIf(0));
        self.close();
        self.close();
    }

    fn loop_with_values(&mut self, depth: u32) {
        let counter = self.counter();
        let (a, b) = (self.local(ValType::I32), self.local(ValType::I64));
        self.value(ValType::I32, depth);
        self.value(ValType::I64, depth);
        self.open(I::Loop(BlockType::FunctionType(self.block_types + 2)), None);
        self.i(I::LocalSet(b));
        self.i(I::LocalSet(a));
        self.inside(depth);
        self.value(ValType::I32, depth);
        self.i(I::LocalGet(b));
        self.i(I::I64Const(3));
        self.i(I::I64Add);
        self.count(counter);
        self.i(I::BrIf(0));
        self.i(I::LocalSet(b));
        self.i(I::LocalSet(a));
        self.i(I::LocalGet(b));
        self.i(I::LocalGet(a));
        self.close();
        let (i, l) = (self.some_local(ValType::I32, true), self.some_local(ValType::I64, true));
        self.i(I::LocalSet(i));
        self.i(I::LocalSet(l));
    }

    fn block_with_values(&mut self, depth: u32) {
        self.value(ValType::I64, depth);
        self.value(ValType::F64, depth);
        self.open(I::Block(BlockType::FunctionType(self.block_types + 1)), Some(vec![ValType::I64]));
        let f = self.some_local(ValType::F64, true);
        self.i(I::LocalSet(f));
        self.inside(depth);
        self.value(ValType::I64, depth);
        self.i(I::I64Add);
        self.close();
        let l = self.some_local(ValType::I64, true);
        self.i(I::LocalSet(l));
    }

    fn try_(&mut self, depth: u32) {
        let (i, l) = (self.some_local(ValType::I32, true), self.some_local(ValType::I64, true));
        let all = self.below(3) == 0;
        self.open(I::Block(BlockType::Empty), Some(vec![]));
        self.open(I::Block(BlockType::FunctionType(self.block_types)), Some(vec![ValType::I32, ValType::I64]));
        let catch = if all { Catch::All { label: 1 } } else { Catch::One { tag: 0, label: 0 } };
        self.open(I::TryTable(BlockType::Empty, vec![catch].into()), Some(vec![]));
        if depth > 0 && self.below(3) == 0 {
            self.clean_up(depth - 1);
        } else {
            self.inside(depth);
        }
        // What is assigned here is often seen by the handler alone.
        self.assign(depth);
        self.call_statement(depth);
        self.rarely(|w| {
            w.value(ValType::I32, 1);
            w.value(ValType::I64, 1);
            w.i(I::Throw(0));
        });
        self.assign(0);
        self.close();
        self.value(ValType::I32, depth);
        self.value(ValType::I64, depth);
        self.close();
        self.i(I::LocalSet(l));
        self.i(I::LocalSet(i));
        self.close();
        self.fold();
    }

    /// As C++ runs destructors: catches whatever is thrown, does something, and throws it again.
    fn clean_up(&mut self, depth: u32) {
        let caught = self.local(EXNREF);
        self.open(I::Block(BlockType::Result(EXNREF)), None);
        self.open(I::TryTable(BlockType::Empty, vec![Catch::AllRef { label: 0 }].into()), Some(vec![]));
        self.inside(depth);
        self.call_statement(depth);
        self.close();
        self.i(I::RefNull(EXN));
        self.close();
        self.i(I::LocalSet(caught));
        self.inside(depth);
        self.i(I::LocalGet(caught));
        self.inside(depth);
        self.i(I::LocalTee(caught));
        self.i(I::RefIsNull);
        self.i(I::I32Eqz);
        self.open(I::If(BlockType::Empty), Some(vec![]));
        self.i(I::LocalGet(caught));
        self.i(I::ThrowRef);
        self.close();
    }

    /// Does something when a value happens to be divisible by four.
    fn rarely(&mut self, what: impl FnOnce(&mut Self)) {
        self.value(ValType::I32, 1);
        self.i(I::I32Const(3));
        self.i(I::I32And);
        self.i(I::I32Eqz);
        self.open(I::If(BlockType::Empty), Some(vec![]));
        what(self);
        self.close();
    }

    fn branch(&mut self, depth: u32) {
        let to = self.below(self.labels.len() as u64) as u32;
        let Some(types) = self.labels[self.labels.len() - 1 - to as usize].clone() else {
            return self.fold();
        };
        for t in &types {
            self.value(*t, depth.min(1));
        }
        self.value(ValType::I32, depth);
        self.i(I::I32Const(7));
        self.i(I::I32And);
        self.i(I::I32Eqz);
        self.i(I::BrIf(to));
        for t in types.iter().rev() {
            let local = self.some_local(*t, true);
            self.i(I::LocalSet(local));
        }
    }

    /// Ends the function early: by a return or a tail call.
    fn leave(&mut self) {
        let like: Vec<u32> = (0..self.functions.len() as u32)
            .filter(|f| self.types[self.functions[*f as usize] as usize].1 == *self.results)
            .collect();
        if like.is_empty() || self.below(2) == 0 {
            for t in self.results {
                self.value(*t, 1);
            }
            return self.i(I::Return);
        }
        let f = like[self.below(like.len() as u64) as usize];
        let t = self.functions[f as usize];
        for p in &self.types[t as usize].0 {
            self.value(*p, 1);
        }
        if self.below(2) == 0 {
            self.i(I::ReturnCall(f));
        } else {
            self.i(I::I32Const((t * SLOTS) as i32));
            self.i(I::ReturnCallIndirect { type_index: t, table_index: 0 });
        }
    }

    fn call_statement(&mut self, depth: u32) {
        let t = self.below(TYPES) as u32;
        self.call_type(t, depth);
        for r in self.types[t as usize].1.iter().rev() {
            let local = self.some_local(*r, true);
            self.i(I::LocalSet(local));
        }
    }

    fn switch(&mut self, depth: u32) {
        for _ in 0..3 {
            self.open(I::Block(BlockType::Empty), Some(vec![]));
        }
        self.inside(depth);
        self.value(ValType::I32, depth);
        self.i(I::I32Const(3));
        self.i(I::I32And);
        self.i(I::BrTable(vec![0, 1].into(), 2));
        self.close();
        self.inside(depth);
        self.close();
        self.inside(depth);
        self.close();
    }

    fn table(&mut self, depth: u32) {
        match self.below(6) {
            0 => {
                let t = self.below(TYPES) as u32;
                let f = self.function_of(t);
                self.i(I::I32Const((t * SLOTS + f % SLOTS) as i32));
                self.i(I::RefFunc(f));
                self.i(I::TableSet(0));
            }
            1 => {
                self.value(FUNCREF, depth);
                self.value(ValType::I32, depth);
                self.i(I::I32Const(1));
                self.i(I::I32And);
                self.i(I::TableGrow(1));
                let local = self.some_local(ValType::I32, true);
                self.i(I::LocalSet(local));
            }
            2 => {
                self.i(I::I32Const((self.slots - 3) as i32));
                self.i(I::I32Const(1));
                self.i(I::I32Const(2));
                self.i(I::TableCopy { src_table: 1, dst_table: 0 });
            }
            3 => {
                self.i(I::I32Const(1));
                self.value(FUNCREF, depth);
                self.i(I::I32Const(2));
                self.i(I::TableFill(1));
            }
            _ => {
                self.free_slot(depth);
                self.value(FUNCREF, depth);
                self.i(I::TableSet(0));
            }
        }
    }

    fn bulk(&mut self, depth: u32) {
        match self.below(7) {
            0 => self.rarely(|w| w.i(I::DataDrop(1))),
            1 => self.rarely(|w| w.i(I::ElemDrop(TYPES as u32))),
            2 | 3 => {
                // Traps once the segment has been dropped.
                self.address(depth);
                self.i(I::I32Const(5));
                self.i(I::I32Const(9));
                self.i(I::MemoryInit { mem: 0, data_index: 1 });
            }
            4 => {
                self.i(I::I32Const((self.slots - 4) as i32));
                self.i(I::I32Const(0));
                self.i(I::I32Const(3));
                self.i(I::TableInit { table: 0, elem_index: TYPES as u32 });
            }
            5 => {
                self.i(I::I64Const(1));
                self.i(I::MemoryGrow(1));
                let local = self.some_local(ValType::I64, true);
                self.i(I::LocalSet(local));
            }
            _ => {
                self.address(depth);
                self.value(ValType::I32, depth);
                self.i(I::I32Const(40));
                self.i(I::MemoryFill(0));
            }
        }
    }
}
