//! Programs of a few instructions.

use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, ElementSection, Elements, EntityType, ExportKind, ExportSection, Function,
    FunctionSection, ImportSection, Instruction, MemArg, MemorySection, MemoryType, Module, RefType, TableSection,
    TableType, TypeSection, ValType,
};

/// A module whose `_start` has these instructions, and which has a memory of so many pages.
pub fn module(pages: u64, body: &[Instruction<'_>]) -> Vec<u8> {
    let (mut types, mut imports, mut functions) = (TypeSection::new(), ImportSection::new(), FunctionSection::new());
    types.ty().function([], []);
    types.ty().function([ValType::I32], []);
    imports.import("wasi_snapshot_preview1", "proc_exit", EntityType::Function(1));
    functions.function(0);
    let mut tables = TableSection::new();
    let ty = TableType { element_type: RefType::FUNCREF, minimum: 2, maximum: None, table64: false, shared: false };
    tables.table(ty);
    let mut memories = MemorySection::new();
    memories.memory(MemoryType { minimum: pages, maximum: None, memory64: false, shared: false, page_size_log2: None });
    let mut exports = ExportSection::new();
    exports.export("memory", ExportKind::Memory, 0).export("_start", ExportKind::Func, START);
    let mut elements = ElementSection::new();
    elements.active(Some(0), &ConstExpr::i32_const(0), Elements::Functions([EXIT].as_slice().into()));
    let mut function = Function::new([(1, ValType::I32)]);
    body.iter().for_each(|i| _ = function.instruction(i));
    function.instruction(&Instruction::End);
    let mut code = CodeSection::new();
    code.function(&function);
    let mut module = Module::new();
    module.section(&types).section(&imports).section(&functions).section(&tables).section(&memories);
    module.section(&exports).section(&elements).section(&code);
    module.finish()
}

/// A program with a memory of so many pages that counts so far, which takes seconds where it is emulated, and then does this.
pub fn later(pages: u64, turns: i32, body: &[Instruction<'_>]) -> Vec<u8> {
    use Instruction as I;
    let wait = [
        I::Loop(BlockType::Empty),
        I::LocalGet(0),
        I::I32Const(1),
        I::I32Add,
        I::LocalTee(0),
        I::I32Const(turns),
        I::I32LtU,
        I::BrIf(0),
        I::End,
    ];
    module(pages, &[&wait, body].concat())
}

/// Ends the program: its status.
pub const EXIT: u32 = 0;
/// The program itself.
pub const START: u32 = 1;

/// A place in its memory, from an address on.
pub fn at(offset: u64) -> MemArg {
    MemArg { offset, align: 2, memory_index: 0 }
}
