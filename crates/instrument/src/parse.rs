//! Reads a module once: what later phases ask about it, and the raw sections that are copied through.

use crate::abi;
use crate::transform::{Error, Refusal, features};
use hashbrown::HashMap;
use std::ops::Range;
use wasmparser::{
    CompositeInnerType, ElementItems, ElementKind, ExternalKind, FuncToValidate, FuncType, FuncValidator,
    FuncValidatorAllocations, FunctionBody, GlobalType, HeapType, Import, MemoryType, Name, Operator, Parser, Payload,
    RefType, TableType, TypeRef, UnpackedIndex, ValType, ValidPayload, Validator, ValidatorResources,
    types::CoreTypeId,
};

/// A function's code with what its validator needs.
pub struct Body<'a> {
    pub validate: FuncToValidate<ValidatorResources>,
    pub body: FunctionBody<'a>,
}

impl Body<'_> {
    /// A validator at the function's start; any number can be had.
    pub fn validator(&self) -> FuncValidator<ValidatorResources> {
        let FuncToValidate { resources, index, ty, features } = &self.validate;
        let copy = FuncToValidate { resources: resources.clone(), index: *index, ty: *ty, features: *features };
        copy.into_validator(FuncValidatorAllocations::default())
    }
}

/// A parsed and, apart from function bodies, validated module.
pub struct Module<'a> {
    pub bytes: &'a [u8],
    /// Content ranges of the standard sections, by section id.
    pub sections: HashMap<u8, Range<usize>>,
    pub name_section: Option<Range<usize>>,
    /// By type index; `None` for struct and array types.
    pub types: Vec<Option<FuncType>>,
    /// A type index for each canonical type, to write types of operands back.
    pub type_of_id: HashMap<CoreTypeId, u32>,
    /// Class of each type index: equal classes are the same type.
    pub type_ids: Vec<CoreTypeId>,
    /// Type index by function index, imports first.
    pub functions: Vec<u32>,
    pub function_imports: Vec<(String, String)>,
    pub tables: Vec<TableType>,
    pub imported_tables: u32,
    pub memories: Vec<MemoryType>,
    pub imported_memories: u32,
    pub globals: Vec<GlobalType>,
    pub imported_globals: u32,
    /// Type index by tag index.
    pub tags: Vec<u32>,
    pub export_names: Vec<String>,
    pub exported_tables: Vec<u32>,
    pub exported_functions: Vec<u32>,
    pub start: Option<u32>,
    /// Functions that appear outside of code: in elements, exports and constant expressions.
    pub referenced: Vec<u32>,
    pub data_segments: u32,
    pub element_segments: u32,
    pub bodies: Vec<Body<'a>>,
    pub names: HashMap<u32, String>,
    pub func_subtyping: bool,
}

/// Parses and validates everything but the function bodies (those are validated by the call graph's analysis).
pub fn parse(bytes: &[u8]) -> Result<Module<'_>, Error> {
    let mut m = Module {
        bytes,
        sections: HashMap::new(),
        name_section: None,
        types: Vec::new(),
        type_of_id: HashMap::new(),
        type_ids: Vec::new(),
        functions: Vec::new(),
        function_imports: Vec::new(),
        tables: Vec::new(),
        imported_tables: 0,
        memories: Vec::new(),
        imported_memories: 0,
        globals: Vec::new(),
        imported_globals: 0,
        tags: Vec::new(),
        export_names: Vec::new(),
        exported_tables: Vec::new(),
        exported_functions: Vec::new(),
        start: None,
        referenced: Vec::new(),
        data_segments: 0,
        element_segments: 0,
        bodies: Vec::new(),
        names: HashMap::new(),
        func_subtyping: false,
    };
    let mut validator = Validator::new_with_features(features());
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload?;
        if let Some((id, range)) = payload.as_section()
            && id != 0
        {
            m.sections.insert(id, range);
        }
        if let Payload::Version { encoding: wasmparser::Encoding::Component, .. } = payload {
            return Err(Error::Component);
        }
        match validator.payload(&payload)? {
            ValidPayload::Func(validate, body) => m.bodies.push(Body { validate, body }),
            ValidPayload::End(types) => {
                let types = types.as_ref();
                for i in 0..types.core_type_count_in_module() {
                    let id = types.core_type_at_in_module(i);
                    m.type_of_id.entry(id).or_insert(i);
                    m.type_ids.push(id);
                }
            }
            _ => {}
        }
        m.read(payload)?;
    }
    m.referenced.sort_unstable();
    m.referenced.dedup();
    m.name_types_once();
    Ok(m)
}

impl<'a> Module<'a> {
    fn read(&mut self, payload: Payload<'a>) -> Result<(), Error> {
        match payload {
            Payload::TypeSection(reader) => {
                for group in reader {
                    for ty in group?.into_types() {
                        let func = match ty.composite_type.inner {
                            CompositeInnerType::Func(f) => Some(f),
                            _ => None,
                        };
                        self.func_subtyping |= func.is_some() && ty.supertype_idx.is_some();
                        self.types.push(func);
                    }
                }
            }
            Payload::ImportSection(reader) => {
                for import in reader.into_imports() {
                    self.import(import?);
                }
            }
            Payload::FunctionSection(reader) => {
                for ty in reader {
                    self.functions.push(ty?);
                }
            }
            Payload::TableSection(reader) => {
                for table in reader {
                    let table = table?;
                    if let wasmparser::TableInit::Expr(e) = &table.init {
                        self.constant(e)?;
                    }
                    self.tables.push(table.ty);
                }
            }
            Payload::MemorySection(reader) => {
                for memory in reader {
                    self.memories.push(memory?);
                }
            }
            Payload::TagSection(reader) => {
                for tag in reader {
                    self.tags.push(tag?.func_type_idx);
                }
            }
            Payload::GlobalSection(reader) => {
                for global in reader {
                    let global = global?;
                    self.constant(&global.init_expr)?;
                    self.globals.push(global.ty);
                }
            }
            Payload::ExportSection(reader) => {
                for export in reader {
                    let export = export?;
                    self.export_names.push(export.name.to_owned());
                    match export.kind {
                        ExternalKind::Func => {
                            self.referenced.push(export.index);
                            self.exported_functions.push(export.index);
                        }
                        ExternalKind::Table => self.exported_tables.push(export.index),
                        _ => {}
                    }
                }
            }
            Payload::StartSection { func, .. } => self.start = Some(func),
            Payload::ElementSection(reader) => {
                self.element_segments = reader.count();
                for element in reader {
                    let element = element?;
                    if let ElementKind::Active { offset_expr, .. } = &element.kind {
                        self.constant(offset_expr)?;
                    }
                    match element.items {
                        ElementItems::Functions(functions) => {
                            for f in functions {
                                self.referenced.push(f?);
                            }
                        }
                        ElementItems::Expressions(_, expressions) => {
                            for e in expressions {
                                self.constant(&e?)?;
                            }
                        }
                    }
                }
            }
            Payload::DataSection(reader) => self.data_segments = reader.count(),
            Payload::CustomSection(c) if c.name() == abi::SECTION => return Err(Error::AlreadyInstrumented),
            Payload::CustomSection(c) if c.name() == "name" => {
                self.name_section = Some(c.data_offset()..c.data_offset() + c.data().len());
                self.read_names(&c);
            }
            _ => {}
        }
        Ok(())
    }

    /// Lets equal types have one name, so that lists of types are the same if and only if they are equal.
    fn name_types_once(&mut self) {
        let name = |t: &ValType| match t {
            ValType::Ref(r) => match r.heap_type() {
                HeapType::Concrete(UnpackedIndex::Module(i)) => {
                    let first = self.type_of_id[&self.type_ids[i as usize]];
                    let heap = HeapType::Concrete(UnpackedIndex::Module(first));
                    RefType::new(r.is_nullable(), heap).map_or(*t, ValType::Ref)
                }
                _ => *t,
            },
            other => *other,
        };
        let rename = |f: &FuncType| FuncType::new(f.params().iter().map(name), f.results().iter().map(name));
        self.types = self.types.iter().map(|t| t.as_ref().map(rename)).collect();
    }

    fn import(&mut self, import: Import<'_>) {
        match import.ty {
            TypeRef::Func(ty) | TypeRef::FuncExact(ty) => {
                self.functions.push(ty);
                self.function_imports.push((import.module.to_owned(), import.name.to_owned()));
            }
            TypeRef::Table(t) => {
                self.tables.push(t);
                self.imported_tables += 1;
            }
            TypeRef::Memory(t) => {
                self.memories.push(t);
                self.imported_memories += 1;
            }
            TypeRef::Global(t) => {
                self.globals.push(t);
                self.imported_globals += 1;
            }
            TypeRef::Tag(t) => self.tags.push(t.func_type_idx),
        }
    }

    fn constant(&mut self, expr: &wasmparser::ConstExpr<'_>) -> Result<(), Error> {
        for op in expr.get_operators_reader() {
            if let Operator::RefFunc { function_index } = op? {
                self.referenced.push(function_index);
            }
        }
        Ok(())
    }

    fn read_names(&mut self, section: &wasmparser::CustomSectionReader<'a>) {
        // A broken name section is no reason to refuse a program: names are only for people.
        let reader =
            wasmparser::NameSectionReader::new(wasmparser::BinaryReader::new(section.data(), section.data_offset()));
        for part in reader {
            if let Ok(Name::Function(map)) = part {
                for naming in map.into_iter().flatten() {
                    self.names.insert(naming.index, naming.name.to_owned());
                }
            }
        }
    }

    /// The function's name for people.
    pub fn name_of(&self, function: u32) -> String {
        match self.names.get(&function) {
            Some(name) => format!("function {name}"),
            None => format!("function {function}"),
        }
    }

    /// The function's type.
    pub fn type_of(&self, function: u32) -> &FuncType {
        self.types[self.functions[function as usize] as usize].as_ref().expect("validated: a function type")
    }

    /// Number of imported functions.
    pub fn imported_functions(&self) -> u32 {
        self.function_imports.len() as u32
    }

    /// The state outside of functions that cannot be captured.
    pub fn refusals(&self) -> Vec<Refusal> {
        let mut out = Vec::new();
        let mut refuse = |place: String, reason: &str| out.push(Refusal { place, reason: reason.to_owned() });
        for (i, m) in self.memories.iter().enumerate() {
            if m.shared {
                refuse(format!("memory {i}"), "is shared between threads, which cannot be stopped together");
            }
            if (i as u32) < self.imported_memories {
                refuse(format!("memory {i}"), "is imported: its owner is not part of the task");
            }
        }
        for (i, t) in self.tables.iter().enumerate() {
            if (i as u32) < self.imported_tables {
                refuse(format!("table {i}"), "is imported: its owner is not part of the task");
            } else if !is_function_ref(self, t.element_type) {
                refuse(format!("table {i}"), "holds references other than functions, which exist only on this host");
            }
        }
        for (i, g) in self.globals.iter().enumerate().filter(|(_, g)| g.mutable) {
            if (i as u32) < self.imported_globals {
                refuse(format!("global {i}"), "is mutable and imported: its owner is not part of the task");
            } else if matches!(g.content_type, ValType::Ref(r) if !is_function_ref(self, r)) {
                refuse(
                    format!("global {i}"),
                    "holds a reference other than a function, which exists only on this host",
                );
            }
        }
        if self.func_subtyping {
            refuse("types".into(), "declare function subtypes, whose frames cannot be told apart");
        }
        out
    }
}

/// Whether values of a reference type are functions, which travel as indices.
pub fn is_function_ref(m: &Module<'_>, r: RefType) -> bool {
    use wasmparser::{AbstractHeapType, HeapType};
    match r.heap_type() {
        HeapType::Abstract { shared: false, ty } => matches!(ty, AbstractHeapType::Func | AbstractHeapType::NoFunc),
        HeapType::Concrete(index) | HeapType::Exact(index) => {
            let index = match index {
                UnpackedIndex::Module(i) => Some(i),
                UnpackedIndex::Id(id) => m.type_of_id.get(&id).copied(),
                UnpackedIndex::RecGroup(_) => None,
            };
            index.is_some_and(|i| m.types[i as usize].is_some())
        }
        HeapType::Abstract { .. } => false,
    }
}
