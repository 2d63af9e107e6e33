//! Gives an imported function that may block, and that also exists as a reference, a function of the
//! module's own in its place: a host call is issued again by the frame that made it, so somebody must
//! have a frame.

use crate::transform::{Error, Options};
use std::collections::HashMap;
use wasm_encoder::reencode::{self, Reencode};
use wasmparser::{Operator, Parser, Payload, TypeRef};

/// The module with wrappers, or `None` when none is needed.
pub fn wrap_blocking_imports(wasm: &[u8], options: &Options) -> Result<Option<Vec<u8>>, Error> {
    let (mut imports, mut types, mut functions) = (Vec::new(), Vec::new(), 0u32);
    let mut parsed_types = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        match payload? {
            Payload::TypeSection(reader) => {
                for group in reader {
                    for ty in group?.into_types() {
                        parsed_types.push(ty);
                    }
                }
            }
            Payload::ImportSection(reader) => {
                for import in reader.into_imports() {
                    let import = import?;
                    if let TypeRef::Func(ty) = import.ty {
                        let blocks =
                            options.blocking_imports.iter().any(|(m, n)| m == import.module && n == import.name);
                        imports.push(blocks);
                        types.push(ty);
                    }
                }
            }
            Payload::FunctionSection(reader) => functions = reader.count(),
            Payload::CodeSectionStart { .. } => break,
            _ => {}
        }
    }
    if !imports.contains(&true) {
        return Ok(None);
    }
    let mut referenced = vec![false; imports.len()];
    find_references(wasm, &mut referenced)?;
    let total = imports.len() as u32 + functions;
    let mut wrapper = Wrapper { map: HashMap::new(), types: Vec::new(), params: Vec::new(), originals: Vec::new() };
    for (i, blocks) in imports.iter().enumerate() {
        if *blocks && referenced[i] {
            wrapper.map.insert(i as u32, total + wrapper.map.len() as u32);
            wrapper.types.push(types[i]);
            let ty = parsed_types.get(types[i] as usize).map(|t| &t.composite_type.inner);
            let Some(wasmparser::CompositeInnerType::Func(f)) = ty else { continue };
            wrapper.params.push(f.params().len() as u32);
            wrapper.originals.push(i as u32);
        }
    }
    if wrapper.map.is_empty() {
        return Ok(None);
    }
    // What the re-encoder reads must be valid, or its errors would speak of the wrong thing.
    wasmparser::Validator::new_with_features(crate::features()).validate_all(wasm)?;
    let mut module = wasm_encoder::Module::new();
    wrapper.parse_core_module(&mut module, Parser::new(0), wasm).map_err(|e| Error::Rewrite(e.to_string()))?;
    Ok(Some(module.finish()))
}

fn find_references(wasm: &[u8], referenced: &mut [bool]) -> Result<(), Error> {
    let mut note = |f: u32| {
        if let Some(r) = referenced.get_mut(f as usize) {
            *r = true;
        }
    };
    for payload in Parser::new(0).parse_all(wasm) {
        let operators = match payload? {
            Payload::ExportSection(reader) => {
                for export in reader {
                    let export = export?;
                    if export.kind == wasmparser::ExternalKind::Func {
                        note(export.index);
                    }
                }
                continue;
            }
            Payload::ElementSection(reader) => {
                for element in reader {
                    match element?.items {
                        wasmparser::ElementItems::Functions(list) => {
                            for f in list {
                                note(f?);
                            }
                        }
                        wasmparser::ElementItems::Expressions(_, list) => {
                            for e in list {
                                for op in e?.get_operators_reader() {
                                    if let Operator::RefFunc { function_index } = op? {
                                        note(function_index);
                                    }
                                }
                            }
                        }
                    }
                }
                continue;
            }
            Payload::GlobalSection(reader) => {
                for g in reader {
                    for op in g?.init_expr.get_operators_reader() {
                        if let Operator::RefFunc { function_index } = op? {
                            note(function_index);
                        }
                    }
                }
                continue;
            }
            Payload::CodeSectionEntry(body) => body.get_operators_reader()?,
            _ => continue,
        };
        for op in operators {
            if let Operator::RefFunc { function_index } = op? {
                note(function_index);
            }
        }
    }
    Ok(())
}

struct Wrapper {
    map: HashMap<u32, u32>,
    types: Vec<u32>,
    params: Vec<u32>,
    originals: Vec<u32>,
}

impl Reencode for Wrapper {
    type Error = std::convert::Infallible;

    /// References go to the wrapper; direct calls, below, keep calling the import.
    fn function_index(&mut self, f: u32) -> Result<u32, reencode::Error<Self::Error>> {
        Ok(self.map.get(&f).copied().unwrap_or(f))
    }

    fn instruction<'a>(
        &mut self,
        op: Operator<'a>,
    ) -> Result<wasm_encoder::Instruction<'a>, reencode::Error<Self::Error>> {
        Ok(match op {
            Operator::Call { function_index } => wasm_encoder::Instruction::Call(function_index),
            Operator::ReturnCall { function_index } => wasm_encoder::Instruction::ReturnCall(function_index),
            op => reencode::utils::instruction(self, op)?,
        })
    }

    fn parse_function_section(
        &mut self,
        functions: &mut wasm_encoder::FunctionSection,
        section: wasmparser::FunctionSectionReader<'_>,
    ) -> Result<(), reencode::Error<Self::Error>> {
        reencode::utils::parse_function_section(self, functions, section)?;
        for ty in &self.types {
            functions.function(*ty);
        }
        Ok(())
    }

    fn parse_code_section(
        &mut self,
        code: &mut wasm_encoder::CodeSection,
        section: wasmparser::CodeSectionReader<'_>,
    ) -> Result<(), reencode::Error<Self::Error>> {
        reencode::utils::parse_code_section(self, code, section)?;
        for (original, params) in self.originals.iter().zip(&self.params) {
            let mut f = wasm_encoder::Function::new([]);
            for p in 0..*params {
                f.instructions().local_get(p);
            }
            f.instructions().call(*original).end();
            code.function(&f);
        }
        Ok(())
    }
}
