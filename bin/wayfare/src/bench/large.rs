//! A module of 50 MB, made of the functions of a smaller one many times over: how long instrumenting it takes,
//! and how much memory.

use anyhow::{Context, Result};
use std::time::Instant;
use wasm_encoder::{CodeSection, Encode, Module, RawSection, SectionId};
use wasmparser::{Parser, Payload};

const SIZE: usize = 50_000_000;

/// Seconds, and bytes of memory at most.
pub fn measure(wasm: &[u8]) -> Result<(f64, u64)> {
    let large = repeat(wasm, SIZE.div_ceil(wasm.len()))?;
    reset_peak();
    let before = memory("VmRSS:")?;
    let began = Instant::now();
    let out = wayfare_instrument::instrument(&large, &wayfare_instrument::Options::default())?;
    let seconds = began.elapsed().as_secs_f64();
    drop(out);
    Ok((seconds, memory("VmHWM:")?.saturating_sub(before)))
}

/// The module with each of its functions `times` over. Nothing calls the copies; they call what the originals do.
fn repeat(wasm: &[u8], times: usize) -> Result<Vec<u8>> {
    let mut module = Module::new();
    let (mut types, mut bodies) = (Vec::new(), Vec::new());
    for payload in Parser::new(0).parse_all(wasm) {
        match payload? {
            Payload::FunctionSection(reader) => {
                types = reader.into_iter().collect::<Result<Vec<u32>, _>>()?;
                let mut data = Vec::new();
                ((types.len() * times) as u32).encode(&mut data);
                types.iter().cycle().take(types.len() * times).for_each(|ty| ty.encode(&mut data));
                module.section(&RawSection { id: SectionId::Function.into(), data: &data });
            }
            Payload::CodeSectionEntry(body) => {
                bodies.push(body);
                if bodies.len() == types.len() {
                    let mut code = CodeSection::new();
                    for body in bodies.iter().cycle().take(bodies.len() * times) {
                        code.raw(body.as_bytes());
                    }
                    module.section(&code);
                }
            }
            other => {
                if let Some((id, range)) = other.as_section()
                    && id != 0
                    && id != u8::from(SectionId::Code)
                {
                    module.section(&RawSection { id, data: &wasm[range] });
                }
            }
        }
    }
    Ok(module.finish())
}

/// Lets the kernel count the highest use of memory from here. Where it does not, the figure is of the whole process.
fn reset_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

fn memory(field: &str) -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix(field)).context("the kernel does not tell memory use")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib << 10)
}
