//! Programs woven to be moved: every construct that keeps values somewhere while a call or a loop runs,
//! with what was kept folded into results, memory and globals afterwards. They end by themselves and
//! hardly ever trap, so that whatever a move forgets shows.

mod statements;
mod values;

use crate::generate::Random;
use values::Weaver;
use wasm_encoder::{
    CodeSection, ConstExpr, DataCountSection, DataSection, ElementSection, Elements, ExportKind, ExportSection,
    FunctionSection, GlobalSection, GlobalType, HeapType, MemorySection, MemoryType, Module, RefType, TableSection,
    TableType, TagKind, TagSection, TagType, TypeSection, ValType,
};

const FUNCREF: ValType = ValType::Ref(RefType::FUNCREF);
/// A nullable reference to functions of type 0.
const TYPED: ValType = ValType::Ref(RefType { nullable: true, heap_type: HeapType::Concrete(0) });
const KINDS: [ValType; 7] = [ValType::I32, ValType::I64, ValType::F32, ValType::F64, ValType::V128, FUNCREF, TYPED];

/// Calls that one call from outside may lead to.
const CALLS: i32 = 400;
const TYPES: u64 = 5;
/// Slots of the table per type, then free slots.
const SLOTS: u32 = 4;
const FREE: u32 = 8;
const FUEL: u32 = 0;
const HASH: u32 = 1;

/// A module of this seed.
pub fn module(seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed ^ 0x7765_6176_6500);
    let r = &mut random;
    let mut types: Vec<(Vec<ValType>, Vec<ValType>)> = vec![(vec![ValType::I32], vec![ValType::I64])];
    for _ in 1..TYPES {
        let list = |r: &mut Random, most| (0..r.below(most)).map(|_| KINDS[r.below(7) as usize]).collect::<Vec<_>>();
        types.push((list(r, 5), list(r, 4)));
    }
    // At least one function of each type, so that each has something to call.
    let functions: Vec<u32> =
        (0..TYPES + 1 + r.below(4)).map(|i| if i < TYPES { i as u32 } else { r.below(TYPES) as u32 }).collect();
    let slots = TYPES as u32 * SLOTS + FREE;

    let mut type_section = TypeSection::new();
    for (params, results) in &types {
        type_section.ty().function(params.iter().copied(), results.iter().copied());
    }
    let tag_type = types.len() as u32;
    type_section.ty().function([ValType::I32, ValType::I64], []);
    // Types of blocks that pass values in and out.
    let block_types = tag_type + 1;
    type_section.ty().function([], [ValType::I32, ValType::I64]);
    type_section.ty().function([ValType::I64, ValType::F64], [ValType::I64]);
    type_section.ty().function([ValType::I32, ValType::I64], [ValType::I64, ValType::I32]);

    let mut function_section = FunctionSection::new();
    for f in &functions {
        function_section.function(*f);
    }
    let mut tables = TableSection::new();
    for minimum in [slots, 3] {
        tables.table(TableType {
            element_type: RefType::FUNCREF,
            table64: false,
            minimum: minimum.into(),
            maximum: Some(u64::from(minimum) + 20),
            shared: false,
        });
    }
    let mut memories = MemorySection::new();
    for (memory64, maximum) in [(false, 4), (true, 3)] {
        memories.memory(MemoryType {
            minimum: 1,
            maximum: Some(maximum),
            memory64,
            shared: false,
            page_size_log2: None,
        });
    }
    let mut tags = TagSection::new();
    tags.tag(TagType { kind: TagKind::Exception, func_type_idx: tag_type });
    let mut globals = GlobalSection::new();
    let mutable = |val_type| GlobalType { val_type, mutable: true, shared: false };
    globals.global(mutable(ValType::I32), &ConstExpr::i32_const(CALLS));
    globals.global(mutable(ValType::I64), &ConstExpr::i64_const(seed as i64));
    for kind in KINDS {
        globals.global(mutable(kind), &initial(kind));
    }

    let mut exports = ExportSection::new();
    for f in 0..functions.len() as u32 {
        exports.export(&format!("f{f}"), ExportKind::Func, f);
    }
    for i in 0..2 {
        exports.export(&format!("memory{i}"), ExportKind::Memory, i);
        exports.export(&format!("table{i}"), ExportKind::Table, i);
    }
    for g in 0..KINDS.len() as u32 + 2 {
        exports.export(&format!("global{g}"), ExportKind::Global, g);
    }

    let mut elements = ElementSection::new();
    let of_type = |t: u32| functions.iter().zip(0u32..).filter(move |(ty, _)| **ty == t).map(|(_, f)| f);
    for t in 0..TYPES as u32 {
        let list: Vec<u32> = of_type(t).cycle().take(SLOTS as usize).collect();
        elements.active(Some(0), &ConstExpr::i32_const((t * SLOTS) as i32), Elements::Functions(list.into()));
    }
    let all: Vec<u32> = (0..functions.len() as u32).collect();
    elements.passive(Elements::Functions(all.into()));

    let mut code = CodeSection::new();
    for ty in &functions {
        let (params, results) = &types[*ty as usize];
        let mut w = Weaver {
            types: &types,
            functions: &functions,
            block_types,
            slots,
            locals: params.clone(),
            params: params.len(),
            results,
            code: Vec::new(),
            labels: vec![Some(results.clone())],
            counters: Vec::new(),
            budget: 12 + r.below(34) as i32,
            r,
        };
        w.function();
        code.function(&w.finish());
    }
    let mut data = DataSection::new();
    data.active(0, &ConstExpr::i32_const(64), (0..64u8).collect::<Vec<u8>>());
    data.passive((0..32u8).map(|b| b.wrapping_mul(37)).collect::<Vec<u8>>());

    let mut module = Module::new();
    module.section(&type_section).section(&function_section).section(&tables).section(&memories).section(&tags);
    module.section(&globals).section(&exports).section(&elements);
    module.section(&DataCountSection { count: 2 }).section(&code).section(&data);
    module.finish()
}

fn initial(kind: ValType) -> ConstExpr {
    match kind {
        ValType::I32 => ConstExpr::i32_const(3),
        ValType::I64 => ConstExpr::i64_const(-5),
        ValType::F32 => ConstExpr::f32_const(1.5.into()),
        ValType::F64 => ConstExpr::f64_const(2.5.into()),
        ValType::V128 => ConstExpr::v128_const(7),
        ValType::Ref(r) => ConstExpr::ref_null(r.heap_type),
    }
}
