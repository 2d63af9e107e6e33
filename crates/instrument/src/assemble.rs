//! Puts the module together again: sections are copied through as they were, with entries appended.

use crate::abi;
use crate::context::{Code, Context, Globals, Rewritten, val_type};
use crate::helpers;
use crate::meta::Metadata;
use crate::parse::Module;
use crate::plan;
use crate::transform::Error;
use wasm_encoder::{BranchHint, BranchHints, CustomSection, Encode, ExportKind, Section, SectionId, TypeSection};

/// Section ids in the order that a module must have them.
const ORDER: [u8; 12] = [1, 2, 3, 4, 5, 13, 6, 7, 9, 12, 10, 11];

/// Writes the new module.
pub fn assemble(m: &Module<'_>, cx: &Context<'_>, rewritten: Vec<Rewritten>) -> Result<(Vec<u8>, Metadata), Error> {
    let functions: Vec<_> = {
        let mut all: Vec<_> = rewritten.iter().filter_map(|r| r.meta.clone()).collect();
        all.sort_by_key(|f| cx.slots[&f.index]);
        all
    };
    let largest = functions.iter().map(|f| f.frame_size).max().unwrap_or(0);
    let headroom = (largest + 63) & !63;
    let area = (abi::DROPPED + m.data_segments + m.element_segments + 63) & !63;
    let pages = (area + headroom).div_ceil(65536) + 1;
    let mut tables: Vec<u32> = (0..m.tables.len() as u32).filter(|t| cx.graph.mutated_tables[*t as usize]).collect();
    tables.sort_unstable();
    let metadata = Metadata {
        functions,
        imported_functions: m.imported_functions(),
        total_functions: m.functions.len() as u32,
        globals: (0..m.globals.len() as u32).filter(|g| m.globals[*g as usize].mutable).collect(),
        memories: m.memories.len() as u32,
        tables,
        data_segments: m.data_segments,
        element_segments: m.element_segments,
        area,
        headroom,
        referable: cx.graph.referable.clone(),
        tags: plan::exn_slot(m)
            .map(|_| m.tags.iter().filter_map(|tag| plan::tag_values(m, *tag)).collect())
            .unwrap_or_default(),
        has_start: m.start.is_some(),
        countdown: cx.options.countdown,
        unmovable: Vec::new(),
    };
    if let Some(name) = m.export_names.iter().find(|n| n.starts_with(abi::PREFIX)) {
        return Err(Error::Rewrite(format!("the export {name:?} has a name reserved for Wayfare")));
    }

    let mut out = Vec::with_capacity(m.bytes.len() * 2);
    out.extend_from_slice(&wasm_encoder::Module::HEADER);
    let helper_types = helpers::types(cx);
    let helper_bodies = helpers::bodies(cx, headroom);
    for id in ORDER {
        if id == SectionId::Code as u8 {
            hints(cx, &rewritten).append_to(&mut out);
        }
        let mut added = Vec::new();
        let count = match id {
            1 => {
                let mut section = TypeSection::new();
                for (params, results) in &cx.new_types {
                    section.ty().function(params.iter().map(|t| val_type(*t)), results.iter().map(|t| val_type(*t)));
                }
                body_of(&section, &mut added);
                cx.new_types.len()
            }
            3 => {
                for ty in &helper_types {
                    ty.encode(&mut added);
                }
                helper_types.len()
            }
            4 => {
                let slots = if cx.options.resume_clones { cx.slots.len() as u64 } else { 0 };
                let referable = cx.graph.referable.len() as u64;
                for (min, max) in [(slots, Some(slots)), (referable, Some(referable)), (0, None)] {
                    wasm_encoder::TableType {
                        element_type: wasm_encoder::RefType::FUNCREF,
                        table64: false,
                        minimum: min,
                        maximum: max,
                        shared: false,
                    }
                    .encode(&mut added);
                }
                3
            }
            5 => {
                // A maximum of the whole address space lets an engine reserve it once and never move it.
                for (minimum, maximum) in [(1, 1), (u64::from(pages), 65536), (0, 65536)] {
                    wasm_encoder::MemoryType {
                        minimum,
                        maximum: Some(maximum),
                        memory64: false,
                        shared: false,
                        page_size_log2: None,
                    }
                    .encode(&mut added);
                }
                3
            }
            6 => {
                let initial = |name: &str| match name {
                    abi::SP => area,
                    abi::LIMIT => pages << 16,
                    _ => 0,
                };
                for name in Globals::NAMES {
                    let (val_type, value) = match name {
                        abi::WORK => (wasm_encoder::ValType::I64, wasm_encoder::ConstExpr::i64_const(0)),
                        _ => (wasm_encoder::ValType::I32, wasm_encoder::ConstExpr::i32_const(initial(name) as i32)),
                    };
                    wasm_encoder::GlobalType { val_type, mutable: true, shared: false }.encode(&mut added);
                    value.encode(&mut added);
                }
                Globals::NAMES.len()
            }
            7 => exports(m, cx, &metadata, &mut added),
            9 => elements(cx, &mut added),
            10 => {
                code(cx, &rewritten, &helper_bodies, &mut out);
                continue;
            }
            _ => 0,
        };
        let raw = m.sections.get(&id).map(|r| &m.bytes[r.clone()]);
        append(id, raw, count as u32, &added, &mut out);
    }
    if let Some(names) = &m.name_section {
        CustomSection { name: "name".into(), data: m.bytes[names.clone()].into() }.append_to(&mut out);
    }
    CustomSection { name: abi::SECTION.into(), data: metadata.encode().into() }.append_to(&mut out);
    Ok((out, metadata))
}

/// The content of a section built by the encoder, without its count.
fn body_of(section: &impl Encode, out: &mut Vec<u8>) {
    let mut bytes = Vec::new();
    section.encode(&mut bytes);
    let (_, size_len) = leb(&bytes);
    let (_, count_len) = leb(&bytes[size_len..]);
    out.extend_from_slice(&bytes[size_len + count_len..]);
}

fn leb(bytes: &[u8]) -> (u32, usize) {
    let (mut v, mut n) = (0u64, 0);
    loop {
        v |= u64::from(bytes[n] & 0x7f) << (7 * n);
        n += 1;
        if bytes[n - 1] & 0x80 == 0 {
            return (v as u32, n);
        }
    }
}

/// Writes a section: the old entries as they are, then the added ones.
fn append(id: u8, raw: Option<&[u8]>, added: u32, entries: &[u8], out: &mut Vec<u8>) {
    // The data count section is a single number, not a list.
    if id == 12 {
        if let Some(raw) = raw {
            out.push(id);
            raw.encode(out);
        }
        return;
    }
    let (count, old) = match raw {
        Some(raw) => {
            let (count, n) = leb(raw);
            (count, &raw[n..])
        }
        None => (0, &[][..]),
    };
    if count + added == 0 {
        return;
    }
    let mut content = Vec::with_capacity(old.len() + entries.len() + 5);
    (count + added).encode(&mut content);
    content.extend_from_slice(old);
    content.extend_from_slice(entries);
    out.push(id);
    content.encode(out);
}

fn exports(m: &Module<'_>, cx: &Context<'_>, meta: &Metadata, out: &mut Vec<u8>) -> usize {
    let mut n = 0;
    let mut export = |name: &str, kind: ExportKind, index: u32| {
        name.encode(out);
        kind.encode(out);
        index.encode(out);
        n += 1;
    };
    export(abi::POLL_MEMORY, ExportKind::Memory, cx.polls);
    export(abi::STACK_MEMORY, ExportKind::Memory, cx.stack);
    export(abi::REWIND_MEMORY, ExportKind::Memory, cx.rewind);
    for (name, i) in Globals::NAMES.iter().zip(cx.globals.first..) {
        export(name, ExportKind::Global, i);
    }
    export(abi::RESUME_TABLE, ExportKind::Table, cx.resume_table);
    export(abi::FUNCTIONS_TABLE, ExportKind::Table, cx.functions_table);
    export(abi::REFS_TABLE, ExportKind::Table, cx.refs_table);
    export(abi::DROP_SEGMENTS, ExportKind::Func, cx.helpers.drop_segments);
    if let Some(start) = m.start {
        export(abi::START, ExportKind::Func, start);
    }
    for g in &meta.globals {
        export(&format!("{}{g}", abi::GLOBAL_PREFIX), ExportKind::Global, *g);
    }
    for i in 0..meta.memories {
        export(&format!("{}{i}", abi::MEMORY_PREFIX), ExportKind::Memory, i);
    }
    for t in &meta.tables {
        export(&format!("{}{t}", abi::TABLE_PREFIX), ExportKind::Table, *t);
    }
    n
}

fn elements(cx: &Context<'_>, out: &mut Vec<u8>) -> usize {
    let mut section = wasm_encoder::ElementSection::new();
    let count = if cx.options.resume_clones { cx.slots.len() as u32 } else { 0 };
    let clones: Vec<u32> = (0..count).map(|s| cx.helpers.clone_first + s).collect();
    let zero = wasm_encoder::ConstExpr::i32_const(0);
    let tables = [(cx.resume_table, &clones), (cx.functions_table, &cx.graph.referable)];
    for (table, list) in tables {
        section.active(Some(table), &zero, wasm_encoder::Elements::Functions(list[..].into()));
    }
    body_of(&section, out);
    2
}

/// The resume clones, by slot.
fn clones<'r>(cx: &Context<'_>, rewritten: &'r [Rewritten]) -> Vec<&'r Code> {
    let mut all: Vec<(u32, &Code)> =
        rewritten.iter().filter_map(|r| r.clone.as_ref().map(|c| (cx.slots[&r.index], c))).collect();
    all.sort_unstable_by_key(|(slot, _)| *slot);
    all.into_iter().map(|(_, c)| c).collect()
}

fn code(cx: &Context<'_>, rewritten: &[Rewritten], helpers: &[wasm_encoder::Function], out: &mut Vec<u8>) {
    let clones = clones(cx, rewritten);
    let functions = || rewritten.iter().map(|r| &r.code);
    let size = functions().chain(clones.iter().copied()).map(|c| c.bytes.len() + 5).sum();
    let mut content = Vec::with_capacity(size);
    ((rewritten.len() + helpers.len() + clones.len()) as u32).encode(&mut content);
    for c in functions() {
        c.bytes.encode(&mut content);
    }
    for h in helpers {
        h.encode(&mut content);
    }
    for c in clones {
        c.bytes.encode(&mut content);
    }
    out.push(SectionId::Code as u8);
    content.encode(out);
}

fn hints(cx: &Context<'_>, rewritten: &[Rewritten]) -> BranchHints {
    let mut hints = BranchHints::new();
    let clones = (cx.helpers.clone_first..).zip(clones(cx, rewritten));
    for (index, code) in rewritten.iter().map(|r| (r.index, &r.code)).chain(clones) {
        if !code.unlikely.is_empty() {
            let list = code.unlikely.iter().map(|o| BranchHint { branch_func_offset: *o, branch_hint_value: 0 });
            hints.function_hints(index, list.collect::<Vec<_>>());
        }
    }
    hints
}
