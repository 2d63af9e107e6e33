//! Functions, and the values in them: each leaves one value of a type on the stack.

use super::{FREE, FUEL, FUNCREF, HASH, KINDS, SLOTS, TYPED};
use crate::generate::Random;
use wasm_encoder::{BlockType, Function, Instruction as I, MemArg, RefType, ValType};

/// Writes one function.
pub(super) struct Weaver<'a> {
    pub(super) r: &'a mut Random,
    pub(super) types: &'a [(Vec<ValType>, Vec<ValType>)],
    pub(super) functions: &'a [u32],
    pub(super) block_types: u32,
    pub(super) slots: u32,
    pub(super) locals: Vec<ValType>,
    pub(super) params: usize,
    pub(super) results: &'a [ValType],
    pub(super) code: Vec<I<'static>>,
    /// Types that a branch to each open label carries, innermost last; `None` where none may go.
    pub(super) labels: Vec<Option<Vec<ValType>>>,
    /// Locals that count loops: nothing else assigns them.
    pub(super) counters: Vec<u32>,
    /// Statements and calls left.
    pub(super) budget: i32,
}

impl Weaver<'_> {
    pub(super) fn i(&mut self, instruction: I<'static>) {
        self.code.push(instruction);
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.r.below(n)
    }

    pub(super) fn local(&mut self, ty: ValType) -> u32 {
        self.locals.push(ty);
        self.locals.len() as u32 - 1
    }

    pub(super) fn function(&mut self) {
        for kind in KINDS {
            for _ in 0..1 + self.below(2) {
                self.local(kind);
            }
        }
        // Out of fuel: back with whatever there is.
        self.i(I::GlobalGet(FUEL));
        self.i(I::I32Eqz);
        self.i(I::If(BlockType::Empty));
        for t in self.results {
            self.zero(*t);
        }
        self.i(I::Return);
        self.i(I::End);
        self.i(I::GlobalGet(FUEL));
        self.i(I::I32Const(1));
        self.i(I::I32Sub);
        self.i(I::GlobalSet(FUEL));
        while self.budget > 0 {
            self.statement(3);
        }
        for _ in 0..3 {
            self.fold();
        }
        for t in self.results {
            self.value(*t, 2);
        }
        self.i(I::End);
    }

    pub(super) fn finish(self) -> Function {
        let mut f = Function::new(self.locals[self.params..].iter().map(|t| (1, *t)));
        for instruction in &self.code {
            f.instruction(instruction);
        }
        f
    }

    pub(super) fn zero(&mut self, ty: ValType) {
        self.i(match ty {
            ValType::I32 => I::I32Const(0),
            ValType::I64 => I::I64Const(0),
            ValType::F32 => I::F32Const(0.0.into()),
            ValType::F64 => I::F64Const(0.0.into()),
            ValType::V128 => I::V128Const(0),
            ValType::Ref(r) => I::RefNull(r.heap_type),
        });
    }

    /// A local of this type that may be assigned, if `assign`.
    pub(super) fn some_local(&mut self, ty: ValType, assign: bool) -> u32 {
        let all: Vec<u32> = (0..self.locals.len() as u32)
            .filter(|l| self.locals[*l as usize] == ty && !(assign && self.counters.contains(l)))
            .collect();
        all[self.below(all.len() as u64) as usize]
    }

    pub(super) fn kind(&mut self) -> ValType {
        KINDS[self.below(7) as usize]
    }

    pub(super) fn address(&mut self, depth: u32) {
        self.value(ValType::I32, depth);
        self.i(I::I32Const(0xffc));
        self.i(I::I32And);
    }

    /// Folds a local into the running hash.
    pub(super) fn fold(&mut self) {
        let kind = self.kind();
        let local = self.some_local(kind, false);
        self.i(I::GlobalGet(HASH));
        self.i(I::I64Const(7));
        self.i(I::I64Rotl);
        self.i(I::LocalGet(local));
        match kind {
            ValType::I32 => self.i(I::I64ExtendI32S),
            ValType::I64 => {}
            ValType::F32 => {
                self.i(I::I32ReinterpretF32);
                self.i(I::I64ExtendI32U);
            }
            ValType::F64 => self.i(I::I64ReinterpretF64),
            ValType::V128 => self.i(I::I64x2ExtractLane(1)),
            ValType::Ref(_) => {
                self.i(I::RefIsNull);
                self.i(I::I64ExtendI32U);
            }
        }
        self.i(I::I64Xor);
        self.i(I::GlobalSet(HASH));
    }

    pub(super) fn value(&mut self, ty: ValType, depth: u32) {
        if depth == 0 || self.budget <= 0 {
            return self.leaf(ty);
        }
        match self.below(14) {
            0..3 => self.leaf(ty),
            3 => {
                self.value(ty, depth - 1);
                self.value(ty, depth - 1);
                self.value(ValType::I32, depth - 1);
                self.i(match ty {
                    ValType::Ref(_) => I::TypedSelect(ty),
                    _ => I::Select,
                });
            }
            4 => {
                self.value(ValType::I32, depth - 1);
                self.open(I::If(BlockType::Result(ty)), Some(vec![ty]));
                self.inside(depth - 1);
                self.value(ty, depth - 1);
                self.i(I::Else);
                self.value(ty, depth - 1);
                self.close();
            }
            5 => {
                self.open(I::Block(BlockType::Result(ty)), Some(vec![ty]));
                self.inside(depth - 1);
                self.value(ty, depth - 1);
                self.close();
            }
            6 | 7 => self.call(ty, depth - 1),
            _ => self.operation(ty, depth - 1),
        }
    }

    /// One or two statements, as the start of a block.
    pub(super) fn inside(&mut self, depth: u32) {
        for _ in 0..1 + self.below(2) {
            self.statement(depth);
        }
    }

    pub(super) fn open(&mut self, instruction: I<'static>, label: Option<Vec<ValType>>) {
        self.i(instruction);
        self.labels.push(label);
    }

    pub(super) fn close(&mut self) {
        self.i(I::End);
        self.labels.pop();
    }

    pub(super) fn leaf(&mut self, ty: ValType) {
        if self.below(3) != 0 {
            let local = self.some_local(ty, false);
            return self.i(I::LocalGet(local));
        }
        if self.below(3) == 0 {
            let kind = KINDS.iter().position(|k| *k == ty).expect("one of them") as u32;
            return self.i(I::GlobalGet(2 + kind));
        }
        let n = self.r.next();
        let instruction = match ty {
            ValType::I32 => I::I32Const((n % 100) as i32 - 20),
            ValType::I64 => I::I64Const(n as i64 >> (n % 60)),
            ValType::F32 => I::F32Const(((n % 1000) as f32 / 8.0).into()),
            ValType::F64 => I::F64Const(((n % 100_000) as f64 / 16.0).into()),
            ValType::V128 => I::V128Const(i128::from(n as i64) * 0x1_0001_0001),
            TYPED => I::RefFunc(self.function_of(0)),
            ValType::Ref(_) => I::RefFunc((n % self.functions.len() as u64) as u32),
        };
        self.i(instruction);
    }

    pub(super) fn function_of(&mut self, ty: u32) -> u32 {
        let all: Vec<u32> = (0..self.functions.len() as u32).filter(|f| self.functions[*f as usize] == ty).collect();
        all[self.below(all.len() as u64) as usize]
    }

    pub(super) fn operation(&mut self, ty: ValType, depth: u32) {
        let at = |memory_index| MemArg { offset: 0, align: 0, memory_index };
        match (ty, self.below(6)) {
            (ValType::I32, 0) => {
                self.address(depth);
                self.i(I::I32Load(at(0)));
            }
            (ValType::I32, 1) => {
                self.value(ValType::F64, depth);
                self.i(I::I32TruncSatF64S);
            }
            (ValType::I32, 2) => {
                let kind = if self.below(2) == 0 { FUNCREF } else { TYPED };
                self.value(kind, depth);
                self.i(I::RefIsNull);
            }
            (ValType::I32, 3) => {
                let table = self.below(2) as u32;
                self.i(I::TableSize(table));
            }
            (ValType::I32, n) => {
                self.value(ValType::I32, depth);
                self.value(ValType::I32, depth);
                self.i(if n == 4 { I::I32Add } else { I::I32Xor });
            }
            (ValType::I64, 0) => {
                self.address(depth);
                self.i(I::I64ExtendI32U);
                self.i(I::I64Load(at(1)));
            }
            (ValType::I64, 1) => {
                self.value(ValType::I32, depth);
                self.i(I::I64ExtendI32S);
            }
            (ValType::I64, 2) => {
                self.value(ValType::V128, depth);
                self.i(I::I64x2ExtractLane(0));
            }
            (ValType::I64, n) => {
                self.value(ValType::I64, depth);
                self.value(ValType::I64, depth);
                self.i(if n == 3 { I::I64Sub } else { I::I64Rotl });
            }
            // Floats stay in the range of integers: no infinities, and so no NaN, whose bits are free.
            (ValType::F32, _) => {
                self.value(ValType::F32, depth);
                self.value(ValType::F32, depth);
                self.i(I::F32Add);
                self.i(I::I32TruncSatF32S);
                self.i(I::F32ConvertI32S);
            }
            (ValType::F64, _) => {
                self.value(ValType::F64, depth);
                self.value(ValType::F64, depth);
                self.i(I::F64Sub);
                self.i(I::I32TruncSatF64S);
                self.i(I::F64ConvertI32S);
            }
            (ValType::V128, 0) => {
                self.address(depth);
                self.i(I::V128Load(at(0)));
            }
            (ValType::V128, 1) => {
                self.value(ValType::I64, depth);
                self.i(I::I64x2Splat);
            }
            (ValType::V128, _) => {
                self.value(ValType::V128, depth);
                self.value(ValType::V128, depth);
                self.i(I::I32x4Add);
            }
            (FUNCREF, _) => {
                self.free_slot(depth);
                self.i(I::TableGet(0));
            }
            (_, _) => self.leaf(ty),
        }
    }

    /// Index of a slot of the table that may hold anything.
    pub(super) fn free_slot(&mut self, depth: u32) {
        self.value(ValType::I32, depth);
        self.i(I::I32Const(FREE as i32 - 1));
        self.i(I::I32And);
        self.i(I::I32Const((self.slots - FREE) as i32));
        self.i(I::I32Add);
    }

    /// A call that leaves one value of this type, if there is a function that has one among its results.
    pub(super) fn call(&mut self, ty: ValType, depth: u32) {
        let with: Vec<u32> = (0..self.types.len() as u32).filter(|t| self.types[*t as usize].1.contains(&ty)).collect();
        if with.is_empty() {
            return self.leaf(ty);
        }
        let t = with[self.below(with.len() as u64) as usize];
        self.call_type(t, depth);
        // Its last result of this type stays; the others go to locals or are dropped.
        let results = &self.types[t as usize].1;
        let kept = results.iter().rposition(|r| *r == ty).expect("it has one");
        let stay = self.local(ty);
        for (i, r) in results.iter().enumerate().rev() {
            if i == kept {
                self.i(I::LocalSet(stay));
            } else if self.below(2) == 0 {
                let local = self.some_local(*r, true);
                self.i(I::LocalSet(local));
            } else {
                self.i(I::Drop);
            }
        }
        self.i(I::LocalGet(stay));
    }

    pub(super) fn call_type(&mut self, t: u32, depth: u32) {
        self.budget -= 1;
        for p in &self.types[t as usize].0 {
            self.value(*p, depth);
        }
        match self.below(3) {
            0 if t == 0 => {
                // By reference; null calls a function that is there.
                let there = self.function_of(0);
                self.open(I::Block(BlockType::Result(ValType::Ref(RefType { nullable: false, ..typed() }))), None);
                self.value(TYPED, depth.min(1));
                self.i(I::BrOnNonNull(0));
                self.i(I::RefFunc(there));
                self.close();
                self.i(I::CallRef(0));
            }
            0 | 1 => {
                self.value(ValType::I32, depth.min(1));
                self.i(I::I32Const(SLOTS as i32 - 1));
                self.i(I::I32And);
                self.i(I::I32Const((t * SLOTS) as i32));
                self.i(I::I32Add);
                self.i(I::CallIndirect { type_index: t, table_index: 0 });
            }
            _ => {
                let f = self.function_of(t);
                self.i(I::Call(f));
            }
        }
    }
}

fn typed() -> RefType {
    match TYPED {
        ValType::Ref(r) => r,
        _ => unreachable!("it is a reference"),
    }
}
