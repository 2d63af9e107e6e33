//! Puts a migration point before every instruction: an empty loop, which the instrumenter must take for
//! one that may run for ever. A suite of small functions thus meets captures with every shape of the
//! operand stack, inside of every construct.

use wasm_encoder::reencode::{self, Reencode};
use wasm_encoder::{BlockType, CodeSection, Function, Instruction as I, Module};
use wasmparser::{CustomSectionReader, FunctionBody, Parser};

/// Points times locals at most, in one function: the size of the code grows with both.
const MOST_SAVES: usize = 20_000;

/// The module with its points, `most` of them in each function; custom sections are left out.
///
/// # Errors
/// When the module cannot be read or written.
pub fn densify(wasm: &[u8], most: usize) -> Result<Vec<u8>, String> {
    let mut module = Module::new();
    Densify { most }.parse_core_module(&mut module, Parser::new(0), wasm).map_err(|e| e.to_string())?;
    Ok(module.finish())
}

struct Densify {
    most: usize,
}

impl Reencode for Densify {
    type Error = std::convert::Infallible;

    fn parse_custom_section(
        &mut self,
        _: &mut Module,
        _: CustomSectionReader<'_>,
    ) -> Result<(), reencode::Error<Self::Error>> {
        Ok(())
    }

    fn parse_function_body(
        &mut self,
        code: &mut CodeSection,
        body: FunctionBody<'_>,
    ) -> Result<(), reencode::Error<Self::Error>> {
        let mut locals = Vec::new();
        for pair in body.get_locals_reader()? {
            let (count, ty) = pair?;
            locals.push((count, self.val_type(ty)?));
        }
        let all: usize = locals.iter().map(|(n, _)| *n as usize).sum();
        let mut f = Function::new(locals);
        let most = (MOST_SAVES / all.max(1)).clamp(1, self.most);
        let every = body.get_operators_reader()?.into_iter().count().div_ceil(most);
        for (i, operator) in body.get_operators_reader()?.into_iter().enumerate() {
            if i % every == 0 {
                f.instruction(&I::Loop(BlockType::Empty));
                f.instruction(&I::I32Const(0));
                f.instruction(&I::BrIf(0));
                f.instruction(&I::End);
            }
            f.instruction(&reencode::utils::instruction(self, operator?)?);
        }
        code.function(&f);
        Ok(())
    }
}
