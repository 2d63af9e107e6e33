//! The entry point: parse, analyse, rewrite each function, put the module together.

use crate::meta::Metadata;
use crate::{assemble, callgraph, context, emit, parse, wrap};
use rayon::prelude::*;
use std::fmt;

/// What may be asked of the transformation.
#[derive(Clone, Debug)]
pub struct Options {
    /// Imports, as (module, name), that may block and are issued again after a resume.
    pub blocking_imports: Vec<(String, String)>,
    /// Split loops with a known induction variable in chunks of about so many operators, so that their
    /// bodies hold no poll; 0 lets every loop poll.
    pub chunk: u32,
    /// Add to each function that may capture the clone by which a captured stack is taken back. Without
    /// them the module starts tasks, and those can be captured; with them it also resumes.
    pub resume_clones: bool,
    /// Count the work done. Off only to measure what that costs.
    pub count_work: bool,
    /// Build in a countdown of polls, so that a test can capture at the k-th poll exactly.
    pub countdown: bool,
    /// Return the module as it was, with the reasons in its metadata, where it cannot be captured.
    pub allow_unmovable: bool,
}

impl Default for Options {
    fn default() -> Self {
        let wasi = |name: &str| ("wasi_snapshot_preview1".to_owned(), name.to_owned());
        Options {
            blocking_imports: ["fd_read", "fd_write", "poll_oneoff", "sock_accept", "sock_recv", "sock_send"]
                .into_iter()
                .map(wasi)
                .collect(),
            // About ten microseconds, and a millisecond where each turn faults a page in.
            chunk: 1 << 13,
            resume_clones: true,
            count_work: true,
            countdown: false,
            allow_unmovable: false,
        }
    }
}

/// A construct that cannot be captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The function, by name where there is one, else `function N`; or the part of the module.
    pub place: String,
    /// The construct, and why it cannot be captured.
    pub reason: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.reason)
    }
}

/// Why a module could not be instrumented.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a valid module.
    #[error("not a valid WebAssembly module: {0}")]
    Invalid(#[from] wasmparser::BinaryReaderError),
    /// A component, not a core module.
    #[error("this is a WebAssembly component; Wayfare runs core modules with WASI preview 1: build for wasm32-wasip1")]
    Component,
    /// The module went through this transformation before.
    #[error("the module has been instrumented already: give the original module")]
    AlreadyInstrumented,
    /// State that cannot be captured.
    #[error("cannot be moved while it runs: {}{}", .0[0], more(.0.len()))]
    Unmovable(Vec<Refusal>),
    /// The module's element or export sections could not be rewritten.
    #[error("could not rewrite the module: {0}")]
    Rewrite(String),
}

fn more(n: usize) -> String {
    if n > 1 {
        format!(" (and {} more; --allow-unmovable runs it in place)", n - 1)
    } else {
        " (--allow-unmovable runs it in place)".into()
    }
}

/// The result of a transformation.
#[derive(Clone, Debug)]
pub struct Instrumented {
    /// The new module.
    pub wasm: Vec<u8>,
    /// What it says about itself (also inside `wasm`, as a custom section).
    pub metadata: Metadata,
}

/// The WebAssembly features that are accepted: what the engine enables.
pub fn features() -> wasmparser::WasmFeatures {
    wasmparser::WasmFeatures::WASM3 | wasmparser::WasmFeatures::THREADS
}

/// Whether a module carries our metadata already.
pub fn is_instrumented(wasm: &[u8]) -> bool {
    wasmparser::Parser::new(0)
        .parse_all(wasm)
        .any(|p| matches!(p, Ok(wasmparser::Payload::CustomSection(c)) if c.name() == crate::abi::SECTION))
}

/// Instruments a module.
///
/// # Errors
/// [`Error::Invalid`] when the module does not validate, [`Error::Unmovable`] when it holds state that
/// cannot be captured and `allow_unmovable` is off.
pub fn instrument(wasm: &[u8], options: &Options) -> Result<Instrumented, Error> {
    let wrapped = wrap::wrap_blocking_imports(wasm, options)?;
    let wasm = wrapped.as_deref().unwrap_or(wasm);
    let mut module = parse::parse(wasm)?;
    let graph = callgraph::analyse(&module, options)?;
    let mut refusals = module.refusals();
    let bodies = std::mem::take(&mut module.bodies);
    let context = context::Context::new(&module, &graph, options);
    let rewritten: Vec<_> = bodies
        .into_par_iter()
        .map(|body| {
            let index = body.validate.index;
            if graph.rewrite[index as usize] { emit::rewrite(&context, body) } else { emit::keep(body) }
        })
        .collect::<Result<_, Error>>()?;
    for r in &rewritten {
        refusals.extend(r.refusals.iter().cloned());
    }
    if !refusals.is_empty() {
        if !options.allow_unmovable {
            return Err(Error::Unmovable(refusals));
        }
        let metadata =
            Metadata { unmovable: refusals.iter().map(ToString::to_string).collect(), ..Metadata::default() };
        let mut out = wasm.to_vec();
        let section = wasm_encoder::CustomSection { name: crate::abi::SECTION.into(), data: metadata.encode().into() };
        wasm_encoder::Section::append_to(&section, &mut out);
        return Ok(Instrumented { wasm: out, metadata });
    }
    let (wasm, metadata) = assemble::assemble(&module, &context, rewritten)?;
    debug_assert_eq!(Metadata::decode(&metadata.encode()).as_ref(), Ok(&metadata));
    Ok(Instrumented { wasm, metadata })
}
