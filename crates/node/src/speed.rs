//! How fast this node runs tasks: a small program is compiled as tasks are and timed, so that a controller can tell how long here
//! takes what took so long there (seed 002, 5.2.3, asks for estimates that hold on other nodes).
//!
//! What is counted is the processor time of the fastest of a few runs, not the clock's: what else goes on at that moment is not
//! the node's speed. Even so a busy neighbour takes something of the caches; whoever asks again gets the best that was ever seen.

use anyhow::{Result, anyhow, ensure};
use std::time::Duration;
use wasm_encoder::{
    BlockType, CodeSection, ExportKind, ExportSection, Function, FunctionSection, MemArg, MemorySection, MemoryType,
    Module, TypeSection, ValType,
};
use wayfare_engine::{Form, Image, Options, Outcome, THREAD_STACK, Target, Task};
use wayfare_wasi::Ctx;
use wayfare_wasi::std_host::StdHost;

/// Rounds of the program: some seven milliseconds on a server.
const ROUNDS: i64 = 1_000_000;
/// Rounds per second of a node of speed 1.
const OF_SPEED_1: f64 = 1.5e8;

/// How many times as fast as a node of speed 1 this one is, by so many runs.
///
/// # Errors
/// When the program cannot be run.
pub fn measure(runs: usize) -> Result<f64> {
    let options = Options { canonical_nan: false };
    // It is not kept among the programs that people run.
    let key = wayfare_store::locations::key()?;
    let compiled = Image::compile(&program(), &Target::host(), options, Form::Resume, false, &key)?;
    let image = Image::load(&compiled, &key)?;
    let run = move || -> Result<f64> {
        let mut best = Duration::MAX;
        for _ in 0..runs {
            let mut task = Task::start(&image, "speed", Ctx::builder().build(), StdHost::new()?)?;
            let began = processor_time();
            let outcome = task.run();
            let took = processor_time().saturating_sub(began);
            ensure!(matches!(outcome, Outcome::Exited(0)), "the program that is timed did not end as it should");
            best = best.min(took);
        }
        Ok(ROUNDS as f64 / best.as_secs_f64().max(1e-6) / OF_SPEED_1)
    };
    let thread = std::thread::Builder::new().name("speed".into()).stack_size(THREAD_STACK).spawn(run)?;
    thread.join().map_err(|_| anyhow!("the engine failed"))?
}

/// That this thread has had.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// A bit of what programs do: arithmetic of integers and of floating-point numbers, loads and stores all over a mebibyte, and
/// branches that nobody can foresee.
fn program() -> Vec<u8> {
    let (x, left, sum, at) = (0, 1, 2, 3);
    let types = [(2, ValType::I64), (1, ValType::F64), (1, ValType::I32)];
    let mut body = Function::new(types);
    let place = MemArg { offset: 0, align: 3, memory_index: 0 };
    body.instructions()
        .i64_const(ROUNDS)
        .local_set(left)
        .loop_(BlockType::Empty)
        // x = x * 6364136223846793005 + 1442695040888963407 (Knuth's MMIX)
        .local_get(x)
        .i64_const(6_364_136_223_846_793_005)
        .i64_mul()
        .i64_const(1_442_695_040_888_963_407)
        .i64_add()
        .local_tee(x)
        // memory[x's upper bits] ^= x
        .i64_const(40)
        .i64_shr_u()
        .i32_wrap_i64()
        .i32_const(0xf_fff8)
        .i32_and()
        .local_tee(at)
        .local_get(at)
        .i64_load(place)
        .local_get(x)
        .i64_xor()
        .i64_store(place)
        // sum = sum * 0.999 + x's upper bits
        .local_get(sum)
        .f64_const(0.999.into())
        .f64_mul()
        .local_get(x)
        .i64_const(52)
        .i64_shr_u()
        .f64_convert_i64_u()
        .f64_add()
        .local_set(sum)
        .local_get(x)
        .i64_const(1 << 35)
        .i64_and()
        .i64_eqz()
        .if_(BlockType::Empty)
        .local_get(x)
        .i64_const(7)
        .i64_rotl()
        .local_set(x)
        .end()
        .local_get(left)
        .i64_const(1)
        .i64_sub()
        .local_tee(left)
        .i64_eqz()
        .i32_eqz()
        .br_if(0)
        .end()
        // Nobody is to find out that it is for nothing.
        .i32_const(0)
        .local_get(sum)
        .f64_store(place)
        .end();
    let mut module = Module::new();
    let mut section = TypeSection::new();
    section.ty().function([], []);
    module.section(&section).section(FunctionSection::new().function(0));
    let pages = MemoryType { minimum: 16, maximum: Some(16), memory64: false, shared: false, page_size_log2: None };
    module.section(MemorySection::new().memory(pages));
    let mut exports = ExportSection::new();
    exports.export("_start", ExportKind::Func, 0).export("memory", ExportKind::Memory, 0);
    module.section(&exports).section(CodeSection::new().function(&body));
    module.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_a_speed() {
        let speed = measure(3).unwrap();
        assert!(speed > 1e-4 && speed < 1e4, "{speed}");
    }
}
