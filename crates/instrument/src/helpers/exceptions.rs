//! Caught exceptions in frames. An `exnref` says nothing about itself, so to save one it is thrown once more and
//! caught by its tag, which yields its values; to restore it, an exception with these values is thrown and
//! caught by reference. Programs cannot tell it from the first, as exceptions have no identity.

use super::at;
use crate::context::{Context, val_type};
use crate::meta::SlotType;
use crate::plan;
use alloc::vec::Vec;
use wasm_encoder::{AbstractHeapType, BlockType, Catch, Function, HeapType, InstructionSink, MemArg, RefType, ValType};

const EXN: HeapType = HeapType::Abstract { shared: false, ty: AbstractHeapType::Exn };

/// Per tag: its values, and how a frame stores them.
fn tags(cx: &Context<'_>) -> Option<Vec<Vec<(ValType, SlotType)>>> {
    plan::exn_slot(cx.module)?;
    let tags = cx.module.tags.iter().map(|tag| {
        let params = cx.module.types[*tag as usize].as_ref().expect("validated").params();
        let slots = plan::tag_values(cx.module, *tag)?;
        Some(params.iter().map(|ty| val_type(*ty)).zip(slots).collect())
    });
    tags.collect()
}

fn empty() -> Function {
    let mut f = Function::new([]);
    f.instructions().end();
    f
}

/// `(base, exception, offset)`.
pub fn save(cx: &Context<'_>) -> Function {
    let Some(tags) = tags(cx) else { return empty() };
    let (address, exception, offset) = (0, 1, 2);
    // One local per value of any tag, after the parameters.
    let locals: Vec<(u32, ValType)> = tags.iter().flatten().map(|(ty, _)| (1, nullable(*ty))).collect();
    let mut f = Function::new(locals);
    let mut b = f.instructions();
    b.local_get(address).local_get(offset).i32_add().local_tee(address).i32_const(0).i32_store(at(cx, 0));
    b.local_get(exception).ref_is_null().if_(BlockType::Empty).return_().end();
    for tag in cx.module.tags.iter().rev() {
        let values = cx.module.types[*tag as usize].as_ref().expect("validated").params();
        b.block(cx.block_type(values));
    }
    let catches: Vec<Catch> = (0..tags.len() as u32).map(|tag| Catch::One { tag, label: tag }).collect();
    b.try_table(BlockType::Empty, catches);
    b.local_get(exception).throw_ref();
    b.end();
    b.unreachable();
    let mut local = 3;
    for (tag, values) in (1..).zip(&tags) {
        b.end();
        for k in (0..values.len() as u32).rev() {
            b.local_set(local + k);
        }
        b.local_get(address).i32_const(tag).i32_store(at(cx, 0));
        let mut offset = 4;
        for (_, slot) in values {
            b.local_get(address).local_get(local);
            store(&mut b, cx, *slot, at(cx, offset));
            offset += slot.size();
            local += 1;
        }
        b.return_();
    }
    b.end();
    f
}

/// `(base, offset) -> exception`.
pub fn load(cx: &Context<'_>) -> Function {
    let Some(tags) = tags(cx) else { return empty() };
    let (address, offset) = (0, 1);
    let saved = |offset: u32| MemArg { memory_index: cx.rewind, ..at(cx, offset) };
    let mut f = Function::new([]);
    let mut b = f.instructions();
    b.block(BlockType::Result(ValType::Ref(RefType { nullable: false, heap_type: EXN })));
    b.try_table(BlockType::Empty, [Catch::AllRef { label: 0 }]);
    for _ in 0..tags.len() + 2 {
        b.block(BlockType::Empty);
    }
    // 0: null; then each tag; anything else was never saved.
    let targets: Vec<u32> = (0..=tags.len() as u32).collect();
    b.local_get(address)
        .local_get(offset)
        .i32_add()
        .local_tee(address)
        .i32_load(saved(0))
        .br_table(targets, tags.len() as u32 + 1);
    b.end();
    b.ref_null(EXN).return_();
    for (tag, values) in (0..).zip(&tags) {
        b.end();
        let mut offset = 4;
        for (ty, slot) in values {
            b.local_get(address);
            load_value(&mut b, cx, *ty, *slot, saved(offset));
            offset += slot.size();
        }
        b.throw(tag);
    }
    b.end();
    b.unreachable();
    b.end();
    b.unreachable();
    b.end();
    b.end();
    f
}

fn nullable(ty: ValType) -> ValType {
    match ty {
        ValType::Ref(r) => ValType::Ref(RefType { nullable: true, ..r }),
        other => other,
    }
}

fn store(b: &mut InstructionSink<'_>, cx: &Context<'_>, slot: SlotType, to: MemArg) {
    match slot {
        SlotType::I32 => b.i32_store(to),
        SlotType::I64 => b.i64_store(to),
        SlotType::F32 => b.f32_store(to),
        SlotType::F64 => b.f64_store(to),
        SlotType::V128 => b.v128_store(to),
        SlotType::Func => b.call(cx.helpers.save_ref).i32_store(to),
        SlotType::Exn(_) => unreachable!("no exception carries one"),
    };
}

fn load_value(b: &mut InstructionSink<'_>, cx: &Context<'_>, ty: ValType, slot: SlotType, from: MemArg) {
    match slot {
        SlotType::I32 => b.i32_load(from),
        SlotType::I64 => b.i64_load(from),
        SlotType::F32 => b.f32_load(from),
        SlotType::F64 => b.f64_load(from),
        SlotType::V128 => b.v128_load(from),
        SlotType::Func => {
            b.i32_load(from).call(cx.helpers.load_ref);
            match ty {
                ValType::Ref(r) if r != RefType::FUNCREF && r.nullable => b.ref_cast_nullable(r.heap_type),
                ValType::Ref(r) if r != RefType::FUNCREF => b.ref_cast_non_null(r.heap_type),
                _ => b,
            }
        }
        SlotType::Exn(_) => unreachable!("no exception carries one"),
    };
}
