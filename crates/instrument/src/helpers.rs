//! The functions added to every module: completing a frame, taking one off, saved references.

mod exceptions;

use crate::abi;
use crate::context::{Context, FIXED_HELPERS};
use wasm_encoder::{BlockType, Function, InstructionSink, MemArg};

/// Function types of the added functions, in order: helpers, then resume clones.
pub fn types(cx: &Context<'_>) -> Vec<u32> {
    let classes = cx.classes.len();
    let mut types: Vec<u32> = (0..FIXED_HELPERS as usize + classes).map(|i| cx.added_type(i)).collect();
    let mut slots: Vec<(u32, u32)> = cx.slots.iter().map(|(f, s)| (*s, *f)).collect();
    slots.sort_unstable();
    for (_, f) in slots.into_iter().filter(|_| cx.options.resume_clones) {
        types.push(cx.class_type(cx.class_of[cx.module.type_of(f).results()]));
    }
    types
}

/// Bodies of the helpers, in the order of [`types`]. `headroom` is the largest frame.
pub fn bodies(cx: &Context<'_>, headroom: u32) -> Vec<Function> {
    let mut out = vec![
        pushed(cx, headroom),
        pushed_again(cx, headroom),
        save_ref(cx),
        load_ref(cx),
        exceptions::save(cx),
        exceptions::load(cx),
        drop_segments(cx),
    ];
    for class in 0..cx.classes.len() as u32 {
        out.push(resume_class(cx, class));
    }
    out
}

fn at(cx: &Context<'_>, offset: u32) -> MemArg {
    MemArg { offset: u64::from(offset), align: 0, memory_index: cx.stack }
}

/// `(header, size)`: the frame's values are written already, below the header.
fn pushed(cx: &Context<'_>, headroom: u32) -> Function {
    let mut f = Function::new([(2, wasm_encoder::ValType::I32)]);
    let (header, size, sp, pages) = (0, 1, 2, 3);
    let mut b = f.instructions();
    b.global_get(cx.globals.sp()).local_get(size).i32_add().local_tee(sp);
    b.i32_const(8).i32_sub().local_get(header).i64_store(at(cx, 0));
    b.local_get(sp).global_set(cx.globals.sp());
    b.i32_const(1).global_set(cx.globals.unwinding());
    // The host may have set the word of a loop, and not yet this one, which is all that some callers look at.
    b.i32_const(0).i32_const(1).i32_store(MemArg { offset: u64::from(abi::ENTRY), align: 2, memory_index: cx.polls });
    keep_room(&mut b, cx, headroom, sp, pages);
    b.end();
    f
}

/// `(base, size)`: the frame was read back, and its callee is being captured again before it ran.
fn pushed_again(cx: &Context<'_>, headroom: u32) -> Function {
    let mut f = Function::new([(2, wasm_encoder::ValType::I32)]);
    let (base, size, sp, pages) = (0, 1, 2, 3);
    let mut b = f.instructions();
    b.global_get(cx.globals.sp()).local_get(base).local_get(size).memory_copy(cx.stack, cx.rewind);
    b.global_get(cx.globals.sp()).local_get(size).i32_add().local_tee(sp).global_set(cx.globals.sp());
    keep_room(&mut b, cx, headroom, sp, pages);
    b.end();
    f
}

/// Keeps room for the largest frame, so that the saving code need not check: it has live values in
/// registers, and a call there would cost the hot path.
fn keep_room(b: &mut InstructionSink<'_>, cx: &Context<'_>, headroom: u32, sp: u32, pages: u32) {
    b.global_get(cx.globals.limit()).local_get(sp).i32_sub().i32_const(headroom as i32).i32_lt_u();
    b.if_(BlockType::Empty);
    b.i32_const((headroom.div_ceil(65536) + 16) as i32).local_set(pages);
    b.local_get(pages).memory_grow(cx.stack).i32_const(-1).i32_eq();
    // The host is out of memory in the middle of a capture: a trap is the only honest end.
    b.if_(BlockType::Empty).unreachable().end();
    b.global_get(cx.globals.limit()).local_get(pages).i32_const(16).i32_shl().i32_add();
    b.global_set(cx.globals.limit());
    b.end();
}

fn save_ref(cx: &Context<'_>) -> Function {
    let mut f = Function::new([(1, wasm_encoder::ValType::I32)]);
    let (reference, index) = (0, 1);
    let mut b = f.instructions();
    b.local_get(reference).ref_is_null().if_(BlockType::Empty).i32_const(0).return_().end();
    b.global_get(cx.globals.refs()).local_tee(index).table_size(cx.refs_table).i32_ge_u();
    b.if_(BlockType::Empty);
    b.ref_null(wasm_encoder::HeapType::FUNC).i32_const(64).table_grow(cx.refs_table);
    b.i32_const(-1).i32_eq().if_(BlockType::Empty).unreachable().end();
    b.end();
    b.local_get(index).local_get(reference).table_set(cx.refs_table);
    b.local_get(index).i32_const(1).i32_add().global_set(cx.globals.refs());
    b.local_get(index).i32_const(1).i32_add();
    b.end();
    f
}

fn load_ref(cx: &Context<'_>) -> Function {
    let mut f = Function::new([]);
    let mut b = f.instructions();
    b.local_get(0).i32_eqz().if_(BlockType::Empty).ref_null(wasm_encoder::HeapType::FUNC).return_().end();
    b.local_get(0).i32_const(1).i32_sub().table_get(cx.refs_table);
    b.end();
    f
}

fn drop_segments(cx: &Context<'_>) -> Function {
    let mut f = Function::new([]);
    let mut b = f.instructions();
    let data = cx.module.data_segments;
    for i in 0..data + cx.module.element_segments {
        if !cx.graph.dropped.contains(&i) {
            continue;
        }
        b.i32_const(0).i32_load8_u(at(cx, abi::DROPPED + i)).if_(BlockType::Empty);
        if i < data {
            b.data_drop(i);
        } else {
            b.elem_drop(i - data);
        }
        b.end();
    }
    b.end();
    f
}

/// `(size) -> results`: takes the caller's frame off and calls the function of the next one.
fn resume_class(cx: &Context<'_>, class: u32) -> Function {
    let mut f = Function::new([]);
    let mut b = f.instructions();
    b.global_get(cx.globals.rewind_sp()).local_get(0).i32_sub().local_tee(0).global_set(cx.globals.rewind_sp());
    b.local_get(0).i32_const(8).i32_sub().i32_load(MemArg { memory_index: cx.rewind, ..at(cx, 0) });
    // A tail call: a hundred thousand resumed frames must not need twice the stack.
    b.return_call_indirect(cx.resume_table, cx.class_type(class));
    b.end();
    f
}
