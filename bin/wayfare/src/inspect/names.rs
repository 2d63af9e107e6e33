//! Names from a module's name section, its imports and exports.

use std::collections::HashMap;
use wasmparser::{ExternalKind, KnownCustom, Name, Parser, Payload, TypeRef};

/// What a module calls its parts.
#[derive(Debug, Default)]
pub struct Names {
    functions: HashMap<u32, String>,
    locals: HashMap<(u32, u32), String>,
    globals: HashMap<u32, String>,
    /// Imports, `module.name`, with whether they are functions.
    pub imports: Vec<(String, String, bool)>,
}

impl Names {
    /// Reads what there is; a damaged name section gives no names, as it means nothing to the program.
    pub fn of(wasm: &[u8]) -> Names {
        let mut names = Names::default();
        // Less telling names are kept apart: the name section comes last, and goes first.
        let mut fallback: HashMap<u32, String> = HashMap::new();
        for payload in Parser::new(0).parse_all(wasm) {
            match payload {
                Ok(Payload::ImportSection(reader)) => {
                    for import in reader.into_imports().flatten() {
                        let is_function = matches!(import.ty, TypeRef::Func(_));
                        if is_function {
                            let index = names.imports.iter().filter(|i| i.2).count() as u32;
                            fallback.insert(index, import.name.into());
                        }
                        names.imports.push((import.module.into(), import.name.into(), is_function));
                    }
                }
                Ok(Payload::ExportSection(reader)) => {
                    for export in reader.into_iter().flatten() {
                        if export.kind == ExternalKind::Func {
                            fallback.entry(export.index).or_insert_with(|| export.name.into());
                        }
                    }
                }
                Ok(Payload::CustomSection(section)) => {
                    if let KnownCustom::Name(reader) = section.as_known() {
                        reader.into_iter().map_while(Result::ok).for_each(|name| names.take(name));
                    }
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
        for (index, name) in fallback {
            names.functions.entry(index).or_insert(name);
        }
        names
    }

    fn take(&mut self, name: Name<'_>) {
        match name {
            Name::Function(map) => {
                self.functions.extend(map.into_iter().map_while(Result::ok).map(|n| (n.index, n.name.to_string())));
            }
            Name::Global(map) => {
                self.globals.extend(map.into_iter().map_while(Result::ok).map(|n| (n.index, n.name.to_string())));
            }
            Name::Local(map) => {
                for function in map.into_iter().map_while(Result::ok) {
                    let index = function.index;
                    let locals = function.names.into_iter().map_while(Result::ok);
                    self.locals.extend(locals.map(|n| ((index, n.index), n.name.to_string())));
                }
            }
            _ => {}
        }
    }

    /// A function's name, or its number.
    pub fn function(&self, index: u32) -> String {
        self.functions.get(&index).cloned().unwrap_or_else(|| format!("function {index}"))
    }

    /// A local's name, if it has one.
    pub fn local(&self, function: u32, local: u32) -> Option<&str> {
        self.locals.get(&(function, local)).map(String::as_str).filter(|n| !n.is_empty())
    }

    /// A global's name, if it has one.
    pub fn global(&self, index: u32) -> Option<&str> {
        self.globals.get(&index).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_name_section_then_from_exports_and_imports() {
        let wasm = [
            &b"\0asm\x01\0\0\0"[..],
            b"\x01\x04\x01\x60\0\0",               // a type: no parameters, no results
            b"\x02\x07\x01\x01m\x01i\0\0",         // imports m.i
            b"\x03\x03\x02\0\0",                   // two functions
            b"\x07\x09\x02\x01a\0\x01\x01b\0\x02", // exports a and b
            b"\x0a\x07\x02\x02\0\x0b\x02\0\x0b",   // empty bodies
            b"\0\x13\x04name\x01\x04\x01\x01\x01A\x02\x06\x01\x01\x01\x00\x01x", // function 1 is A, its local 0 is x
        ]
        .concat();
        let names = Names::of(&wasm);
        assert_eq!([0, 1, 2, 3].map(|f| names.function(f)), ["i", "A", "b", "function 3"]);
        assert_eq!((names.local(1, 0), names.local(1, 1)), (Some("x"), None));
        assert_eq!(names.imports, [("m".into(), "i".into(), true)]);
    }
}
