//! A way around a defect of the code generator for RISC-V: it makes vector instructions of a copy whose length is a constant,
//! and fails where the processor need not have them (<https://github.com/bytecodealliance/wasmtime/issues/13959>).
//!
//! Constants that are lengths of copies are hidden from it: zero bits are added to them.

use crate::Error;
use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::ops::Range;
use wasm_encoder::{BranchHint, BranchHints, CodeSection, RawSection};
use wasmparser::{BinaryReaderError, KnownCustom, Operator, Parser, Payload, TypeRef};

/// `i32.const 0`, `i32.or`; and with 64 bits.
const HIDE: [[u8; HIDE_LEN]; 2] = [[0x41, 0, 0x72], [0x42, 0, 0x84]];
const HIDE_LEN: usize = 3;

/// The module for a target: as it is, or without such lengths.
///
/// # Errors
/// [`Error::Compile`] when the module is invalid.
pub fn hide<'a>(wasm: &'a [u8], target: &crate::Target) -> Result<Cow<'a, [u8]>, Error> {
    if !target.triple().starts_with("riscv64") {
        return Ok(wasm.into());
    }
    let hidden = copies(wasm).and_then(|found| if found.any() { rewrite(wasm, &found) } else { Ok(wasm.into()) });
    hidden.map_err(|e| Error::Compile(alloc::format!("{e}")))
}

/// Where lengths are, and whether each has 64 bits.
type Lengths = Vec<(usize, bool)>;

/// Where a module copies.
#[derive(Default)]
struct Copies {
    imported_functions: usize,
    /// Of each body its place, and before what in it: where that is, and whether the length has 64 bits.
    bodies: Vec<(Range<usize>, Lengths)>,
}

impl Copies {
    fn any(&self) -> bool {
        self.bodies.iter().any(|(_, copies)| !copies.is_empty())
    }
}

fn copies(wasm: &[u8]) -> Result<Copies, BinaryReaderError> {
    let (mut found, mut memories, mut tables) = (Copies::default(), Vec::new(), Vec::new());
    for payload in Parser::new(0).parse_all(wasm) {
        match payload? {
            Payload::ImportSection(reader) => {
                for import in reader.into_imports() {
                    match import?.ty {
                        TypeRef::Func(_) | TypeRef::FuncExact(_) => found.imported_functions += 1,
                        TypeRef::Memory(ty) => memories.push(ty.memory64),
                        TypeRef::Table(ty) => tables.push(ty.table64),
                        _ => {}
                    }
                }
            }
            Payload::MemorySection(reader) => {
                for ty in reader {
                    memories.push(ty?.memory64);
                }
            }
            Payload::TableSection(reader) => {
                for table in reader {
                    tables.push(table?.ty.table64);
                }
            }
            Payload::CodeSectionEntry(body) => {
                let (mut reader, mut copies) = (body.get_operators_reader()?, Vec::new());
                let both =
                    |of: &[bool], a: u32, b: u32| [a, b].iter().all(|of_one| of.get(*of_one as usize) == Some(&true));
                while !reader.eof() {
                    let (operator, at) = reader.read_with_offset()?;
                    copies.extend(match operator {
                        Operator::MemoryCopy { dst_mem, src_mem } => Some((at, both(&memories, dst_mem, src_mem))),
                        Operator::TableCopy { dst_table, src_table } => Some((at, both(&tables, dst_table, src_table))),
                        Operator::MemoryInit { .. }
                        | Operator::TableInit { .. }
                        | Operator::ArrayCopy { .. }
                        | Operator::ArrayInitData { .. }
                        | Operator::ArrayInitElem { .. }
                        | Operator::ArrayNewData { .. }
                        | Operator::ArrayNewElem { .. } => Some((at, false)),
                        _ => None,
                    });
                }
                found.bodies.push((body.range(), copies));
            }
            _ => {}
        }
    }
    Ok(found)
}

fn rewrite<'a>(wasm: &'a [u8], copies: &Copies) -> Result<Cow<'a, [u8]>, BinaryReaderError> {
    let mut module = wasm_encoder::Module::new();
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload?;
        match &payload {
            Payload::CodeSectionStart { .. } => {
                let mut section = CodeSection::new();
                for (range, copies) in &copies.bodies {
                    section.raw(&body(wasm, range, copies));
                }
                module.section(&section);
                continue;
            }
            Payload::CustomSection(custom) => {
                if let KnownCustom::BranchHints(functions) = custom.as_known() {
                    let mut section = BranchHints::new();
                    for function in functions {
                        let function = function?;
                        let body = copies.bodies.get((function.func as usize).wrapping_sub(copies.imported_functions));
                        let moved = |at: u32| {
                            let is_before = |(start, copies): &(Range<usize>, Vec<(usize, bool)>)| {
                                copies.iter().filter(|(copy, _)| *copy < start.start + at as usize).count()
                            };
                            at + (HIDE_LEN * body.map_or(0, is_before)) as u32
                        };
                        let hints = function.hints.into_iter().map(|hint| {
                            hint.map(|hint| BranchHint {
                                branch_func_offset: moved(hint.func_offset),
                                branch_hint_value: hint.taken.into(),
                            })
                        });
                        section.function_hints(function.func, hints.collect::<Result<Vec<_>, _>>()?);
                    }
                    module.section(&section);
                    continue;
                }
            }
            _ => {}
        }
        if let Some((id, range)) = payload.as_section() {
            module.section(&RawSection { id, data: &wasm[range] });
        }
    }
    Ok(module.finish().into())
}

fn body(wasm: &[u8], range: &Range<usize>, copies: &[(usize, bool)]) -> Vec<u8> {
    let (mut bytes, mut done) = (Vec::with_capacity(range.len() + HIDE_LEN * copies.len()), range.start);
    for (at, wide) in copies {
        bytes.extend_from_slice(&wasm[done..*at]);
        bytes.extend_from_slice(&HIDE[usize::from(*wide)]);
        done = *at;
    }
    bytes.extend_from_slice(&wasm[done..range.end]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Form, Image, Key, Options, Target};
    use alloc::string::String;

    const COPIES: &str = r#"(module
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1) (memory $wide i64 1)
        (table 10 funcref) (data $data "0123456789abcdefghij") (elem $elem func 0 0 0)
        (func (export "_start") (local i32)
            (memory.copy (i32.const 0) (i32.const 100) (i32.const 40))
            (if (local.get 0) (then (call $exit (i32.const 1))))
            (memory.copy $wide $wide (i64.const 0) (i64.const 100) (i64.const 16))
            (memory.copy $wide 0 (i64.const 0) (i32.const 100) (i32.const 16))
            (memory.init $data (i32.const 0) (i32.const 0) (i32.const 16))
            (table.init $elem (i32.const 0) (i32.const 0) (i32.const 3))
            (table.copy (i32.const 2) (i32.const 0) (i32.const 4))
            (loop (br_if 0 (local.get 0)))))"#;

    fn targets() -> [Target; 2] {
        ["riscv64", "riscv64-none"].map(|name| Target::parse(name).unwrap())
    }

    #[test]
    fn copies_of_a_constant_length_are_compiled() {
        let wasm = wat::parse_str(COPIES).unwrap();
        for target in targets() {
            let hidden = hide(&wasm, &target).unwrap();
            wasmparser::Validator::new_with_features(wayfare_instrument::features()).validate_all(&hidden).unwrap();
            assert_eq!(hidden.len(), wasm.len() + 6 * HIDE_LEN);
            for form in [Form::Start, Form::Resume] {
                Image::compile(&wasm, &target, Options::default(), form, false, &Key([0; 32])).unwrap();
            }
        }
        assert_eq!(&hide(&wasm, &Target::host()).unwrap()[..], wasm);
    }

    #[test]
    fn hints_stay_with_their_branches() {
        let wasm = wat::parse_str(COPIES).unwrap();
        let wasm = wayfare_instrument::instrument(&wasm, &wayfare_instrument::Options::default()).unwrap().wasm;
        let hidden = hide(&wasm, &targets()[1]).unwrap();
        assert!(hidden.len() > wasm.len());
        let before = hinted(&wasm);
        assert!(!before.is_empty());
        assert_eq!(hinted(&hidden), before);
    }

    /// The operators that hints are for.
    fn hinted(wasm: &[u8]) -> Vec<(u32, String)> {
        let copies = copies(wasm).unwrap();
        let mut all = Vec::new();
        for payload in Parser::new(0).parse_all(wasm) {
            let Ok(Payload::CustomSection(custom)) = payload else { continue };
            let KnownCustom::BranchHints(functions) = custom.as_known() else { continue };
            for function in functions.into_iter().map(Result::unwrap) {
                let range = &copies.bodies[function.func as usize - copies.imported_functions].0;
                for hint in function.hints.into_iter().map(Result::unwrap) {
                    let at = range.start + hint.func_offset as usize;
                    let mut reader =
                        wasmparser::OperatorsReader::new(wasmparser::BinaryReader::new(&wasm[at..range.end], at));
                    all.push((function.func, alloc::format!("{:?}", reader.read().unwrap())));
                }
            }
        }
        all
    }
}
