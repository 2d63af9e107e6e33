//! What the rewriting of all functions shares: index spaces of the new module, and what was added to them.

use crate::abi;
use crate::callgraph::CallGraph;
use crate::parse::Module;
use crate::plan;
use crate::transform::{Options, Refusal};
use hashbrown::HashMap;
use wasm_encoder::{BlockType, Instruction as I};
use wasmparser::ValType;

/// Functions added to every module, after its own.
#[derive(Clone, Copy)]
pub struct Helpers {
    /// `(header: i64, size: i32)`: completes a frame.
    pub pushed: u32,
    /// `(base: i32, size: i32)`: writes a frame that was read back, and not touched since, once more.
    pub pushed_again: u32,
    /// `(funcref) -> i32`.
    pub save_ref: u32,
    /// `(i32) -> funcref`.
    pub load_ref: u32,
    /// `(base: i32, exnref, offset: i32)`: writes an exception into a frame.
    pub save_exn: u32,
    /// `(base: i32, offset: i32) -> exnref`.
    pub load_exn: u32,
    pub drop_segments: u32,
    /// Per class of results: `(size: i32) -> results`, takes a frame off and calls the next one's function.
    pub resume_first: u32,
    /// Per function that captures: its resume clone, `() -> results`.
    pub clone_first: u32,
}

/// Helpers that every module gets; after them come those per class, and the clones.
pub const FIXED_HELPERS: u32 = 7;

/// Globals added to every module, after its own.
#[derive(Clone, Copy)]
pub struct Globals {
    pub first: u32,
}

impl Globals {
    /// Their exports, in order.
    pub const NAMES: [&'static str; 8] =
        [abi::UNWINDING, abi::REWINDING, abi::SP, abi::LIMIT, abi::REFS, abi::COUNTDOWN, abi::REWIND_SP, abi::WORK];

    pub fn unwinding(self) -> u32 {
        self.first
    }
    pub fn rewinding(self) -> u32 {
        self.first + 1
    }
    pub fn sp(self) -> u32 {
        self.first + 2
    }
    pub fn limit(self) -> u32 {
        self.first + 3
    }
    pub fn refs(self) -> u32 {
        self.first + 4
    }
    pub fn countdown(self) -> u32 {
        self.first + 5
    }
    pub fn rewind_sp(self) -> u32 {
        self.first + 6
    }
    /// The only `i64`.
    pub fn work(self) -> u32 {
        self.first + 7
    }
}

/// What all functions' rewriting shares.
pub struct Context<'m> {
    pub module: &'m Module<'m>,
    pub graph: &'m CallGraph,
    pub options: &'m Options,
    /// Result types of each class.
    pub classes: Vec<Vec<ValType>>,
    pub class_of: HashMap<Vec<ValType>, u32>,
    pub polls: u32,
    pub stack: u32,
    pub rewind: u32,
    pub globals: Globals,
    pub resume_table: u32,
    pub functions_table: u32,
    pub refs_table: u32,
    pub helpers: Helpers,
    /// Function types to append, as (params, results).
    pub new_types: Vec<(Vec<ValType>, Vec<ValType>)>,
    stub_types: HashMap<Vec<ValType>, u32>,
    /// Resume slot by function index.
    pub slots: HashMap<u32, u32>,
}

/// A function's code entry.
#[derive(Default)]
pub struct Code {
    /// Without its size.
    pub bytes: Vec<u8>,
    /// Offsets in `bytes` of branches that are hardly ever taken.
    pub unlikely: Vec<u32>,
}

/// A function ready to be put in a module.
#[derive(Default)]
pub struct Rewritten {
    pub index: u32,
    pub code: Code,
    pub clone: Option<Code>,
    pub meta: Option<crate::meta::Function>,
    pub refusals: Vec<Refusal>,
}

impl<'m> Context<'m> {
    pub fn new(module: &'m Module<'m>, graph: &'m CallGraph, options: &'m Options) -> Self {
        let (mut classes, mut class_of) = (Vec::new(), HashMap::new());
        let mut intern = |results: &[ValType]| {
            *class_of.entry(results.to_vec()).or_insert_with(|| {
                classes.push(results.to_vec());
                classes.len() as u32 - 1
            })
        };
        for ty in module.types.iter().flatten() {
            intern(ty.results());
        }
        let imports = module.imported_functions();
        let mut slots = HashMap::new();
        for f in imports..module.functions.len() as u32 {
            if graph.captures[f as usize] {
                slots.insert(f, slots.len() as u32);
            }
        }
        let first = module.functions.len() as u32;
        let helpers = Helpers {
            pushed: first,
            pushed_again: first + 1,
            save_ref: first + 2,
            load_ref: first + 3,
            save_exn: first + 4,
            load_exn: first + 5,
            drop_segments: first + 6,
            resume_first: first + FIXED_HELPERS,
            clone_first: first + FIXED_HELPERS + classes.len() as u32,
        };
        let mut c = Context {
            module,
            graph,
            options,
            classes,
            class_of,
            polls: module.memories.len() as u32,
            stack: module.memories.len() as u32 + 1,
            rewind: module.memories.len() as u32 + 2,
            globals: Globals { first: module.globals.len() as u32 },
            resume_table: module.tables.len() as u32,
            functions_table: module.tables.len() as u32 + 1,
            refs_table: module.tables.len() as u32 + 2,
            helpers,
            new_types: Vec::new(),
            stub_types: HashMap::new(),
            slots,
        };
        let funcref = ValType::Ref(wasmparser::RefType::FUNCREF);
        // A module that only mentions the type of exceptions would be given a heap for them.
        let exceptions = plan::exn_slot(module).map(|_| ValType::Ref(wasmparser::RefType::EXNREF));
        c.new_types.extend([
            (vec![ValType::I64, ValType::I32], vec![]),
            (vec![ValType::I32, ValType::I32], vec![]),
            (vec![funcref], vec![ValType::I32]),
            (vec![ValType::I32], vec![funcref]),
            exceptions.map_or((vec![], vec![]), |exn| (vec![ValType::I32, exn, ValType::I32], vec![])),
            exceptions.map_or((vec![], vec![]), |exn| (vec![ValType::I32, ValType::I32], vec![exn])),
            (vec![], vec![]),
        ]);
        for class in c.classes.clone() {
            c.new_types.push((vec![ValType::I32], class));
        }
        for class in c.classes.clone() {
            c.new_types.push((vec![], class));
        }
        for tag in module.tags.clone() {
            let params = module.types[tag as usize].as_ref().expect("validated").params().to_vec();
            let mut with_ref = params.clone();
            with_ref.push(ValType::Ref(wasmparser::RefType::EXN));
            for list in [params, with_ref] {
                if list.len() > 1 && !c.stub_types.contains_key(&list) {
                    c.stub_types.insert(list.clone(), module.types.len() as u32 + c.new_types.len() as u32);
                    c.new_types.push((vec![], list));
                }
            }
        }
        c
    }

    /// Type index of an added function.
    pub fn added_type(&self, n: usize) -> u32 {
        (self.module.types.len() + n) as u32
    }

    /// Type index of `[] -> class`.
    pub fn class_type(&self, class: u32) -> u32 {
        self.added_type(FIXED_HELPERS as usize + self.classes.len() + class as usize)
    }

    pub fn block_type(&self, results: &[ValType]) -> BlockType {
        match results {
            [] => BlockType::Empty,
            [one] => BlockType::Result(val_type(*one)),
            more => BlockType::FunctionType(self.stub_types[more]),
        }
    }
}

/// The encoder's form of a type.
pub fn val_type(ty: ValType) -> wasm_encoder::ValType {
    ty.try_into().expect("types of operands name types of this module")
}

/// A value of a type that nobody looks at; `None` where a type has none.
pub fn dummy(ty: ValType) -> Option<I<'static>> {
    Some(match ty {
        ValType::I32 => I::I32Const(0),
        ValType::I64 => I::I64Const(0),
        ValType::F32 => I::F32Const(0.0.into()),
        ValType::F64 => I::F64Const(0.0.into()),
        ValType::V128 => I::V128Const(0),
        ValType::Ref(r) if r.is_nullable() => I::RefNull(r.heap_type().try_into().ok()?),
        ValType::Ref(_) => return None,
    })
}
