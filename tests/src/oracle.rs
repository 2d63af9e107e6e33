//! Judges: an instrumented program, undisturbed, moved once, or moved at every poll, must end as the
//! original on a plain engine, in results, traps, memories, globals and tables.

use crate::carry::{Carried, Ended, Program, Schedule, engine, once, polls};
use crate::densify::densify;
use crate::generate::Random;
use std::collections::BTreeMap;
use wayfare_engine::wasmtime::{
    self, Extern, ExternType, Func, Instance, Module, Ref, Store, ThrownException, Trap, Val, ValType,
};
use wayfare_instrument::{Error, Options, abi, instrument};

/// How a comparison ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All runs agreed.
    Same {
        /// Calls made in each run.
        calls: u64,
        /// Moves made in all of them.
        moves: u64,
    },
    /// The program cannot be moved, for this reason.
    Refused(String),
}

/// Calls per program.
const CALLS: usize = 10;

/// Compares all ways of running a program that imports nothing. `seed` chooses arguments and polls.
///
/// # Errors
/// The first difference, as text.
pub fn check(wasm: &[u8], seed: u64) -> Result<Verdict, String> {
    let mut random = Random::new(seed);
    // Half of the programs get more polls, between any two instructions; the original is the same.
    let dense = random.below(2) == 0;
    let chunk = [0, 1, 100, Options::default().chunk][random.below(4) as usize];
    let options = Options { chunk, ..Options::default() };
    let source = if dense { densify(wasm, 25)? } else { wasm.to_vec() };
    let out = match instrument(&source, &options) {
        Ok(out) => out,
        Err(Error::Unmovable(reasons)) => return Ok(Verdict::Refused(reasons[0].reason.clone())),
        Err(e) => return Err(format!("not instrumented: {e}")),
    };
    let original = Module::new(engine(), wasm).map_err(|e| format!("the original does not compile: {e:#}"))?;
    let plan = Plan::new(&original, &mut random);
    let expect = plan.run_plain(&original);

    let module = Module::new(engine(), &out.wasm).map_err(|e| format!("it does not compile: {e:#}"))?;
    let undisturbed = plan.run_plain(&module);
    expect.same(&undisturbed, "instrumented, undisturbed")?;
    let expect = undisturbed;

    let counted = instrument(&source, &Options { countdown: true, ..options }).map_err(|e| e.to_string())?;
    let link = |store: &mut Store<()>, module: &Module| Instance::new(store, module, &[]);
    let program = Program::new(counted, link).map_err(|e| format!("with a countdown, it does not compile: {e:#}"))?;
    let (trace, every) = plan.run_carried(&program, &mut || Box::new(polls(400)))?;
    expect.same(&trace, "moved at every poll")?;
    let mut moves = every;
    if every > 0 {
        let k = random.below(every.min(2000)) as u32;
        let (trace, n) = plan.run_carried(&program, &mut || Box::new(once(k)))?;
        expect.same(&trace, &format!("moved once in each call, at poll {k}"))?;
        moves += n;
    }
    Ok(Verdict::Same { calls: plan.calls.len() as u64, moves })
}

/// The calls to make, the same in each run.
struct Plan {
    calls: Vec<(String, Vec<Val>)>,
    /// What to look at in the end.
    exports: Vec<String>,
}

/// What a run showed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Trace {
    /// Per call, its results or its end.
    calls: Vec<String>,
    /// Per export, its value.
    state: BTreeMap<String, String>,
    memories: BTreeMap<String, Vec<u8>>,
    /// Per call, the work that it was, where it counts any. One that traps loses the turns of the loop that it is in.
    work: Vec<Option<u64>>,
}

impl Trace {
    fn same(&self, other: &Trace, how: &str) -> Result<(), String> {
        for (i, (a, b)) in self.calls.iter().zip(&other.calls).enumerate() {
            if a != b {
                return Err(format!("{how}: call {i} gave {b}, the original {a}"));
            }
        }
        for (i, (a, b)) in self.work.iter().zip(&other.work).enumerate() {
            if let (Some(a), Some(b)) = (a, b)
                && a != b
            {
                return Err(format!("{how}: call {i} was work of {b}, undisturbed {a}"));
            }
        }
        if self.calls.len() != other.calls.len() {
            return Err(format!("{how}: {} calls, the original {}", other.calls.len(), self.calls.len()));
        }
        for (name, a) in &self.state {
            let b = other.state.get(name);
            if Some(a) != b {
                return Err(format!("{how}: export {name:?} is {b:?}, in the original {a}"));
            }
        }
        for (name, a) in &self.memories {
            let b = &other.memories[name];
            if a != b {
                let at = a.iter().zip(b).position(|(a, b)| a != b);
                return Err(format!("{how}: memory {name:?} differs at {at:?}, sizes {} and {}", b.len(), a.len()));
            }
        }
        Ok(())
    }
}

impl Plan {
    fn new(module: &Module, random: &mut Random) -> Plan {
        let mut calls = Vec::new();
        for export in module.exports() {
            let ExternType::Func(ty) = export.ty() else { continue };
            let args: Option<Vec<Val>> = ty.params().map(|t| value(&t, random)).collect();
            if let Some(args) = args {
                calls.push((export.name().to_owned(), args));
            }
        }
        while calls.len() > CALLS {
            calls.swap_remove(random.below(calls.len() as u64) as usize);
        }
        Plan { calls, exports: module.exports().map(|e| e.name().to_owned()).collect() }
    }

    fn run_plain(&self, module: &Module) -> Trace {
        let mut trace = Trace::default();
        let mut store = Store::new(engine(), ());
        let made = Instance::new(&mut store, module, &[]).and_then(|instance| {
            if let Some(start) = instance.get_func(&mut store, abi::START) {
                start.call(&mut store, &[], &mut [])?;
            }
            Ok(instance)
        });
        let instance = match made {
            Ok(instance) => instance,
            Err(e) => {
                trace.calls.push(end(&e));
                return trace;
            }
        };
        for (name, args) in &self.calls {
            let f = instance.get_func(&mut store, name).expect("it is exported");
            let mut results = vec![Val::I32(0); f.ty(&store).results().len()];
            let before = work(&mut store, instance);
            let run = f.call(&mut store, args, &mut results).map(|()| results);
            trace.work.push(exact(&run).then(|| Some(work(&mut store, instance)? - before?)).flatten());
            if run.is_err() {
                let _ = store.take_pending_exception();
            }
            let seen = self.outcome(&mut store, instance, run);
            trace.calls.push(seen);
        }
        self.look(&mut store, instance, &mut trace);
        trace
    }

    fn run_carried(
        &self,
        program: &Program,
        schedule: &mut dyn FnMut() -> Box<dyn FnMut() -> Option<u32>>,
    ) -> Result<(Trace, u64), String> {
        let mut trace = Trace::default();
        let made = Carried::new(program).and_then(|mut carried| {
            let mut next = schedule();
            carried.start(&mut *next as Schedule<'_>)?;
            Ok(carried)
        });
        let mut carried = match made {
            Ok(carried) => carried,
            Err(Ended::Wasm(e)) => {
                trace.calls.push(end(&e));
                return Ok((trace, 0));
            }
            Err(Ended::Broken(e)) => return Err(e),
        };
        for (name, args) in &self.calls {
            let mut next = schedule();
            let before = carried.machine().work();
            let run = match carried.call(name, args, &mut *next) {
                Ok(values) => Ok(values),
                Err(Ended::Wasm(e)) => Err(e),
                Err(Ended::Broken(e)) => return Err(format!("call of {name:?}: {e}")),
            };
            trace.work.push(exact(&run).then(|| carried.machine().work() - before));
            let instance = carried.machine().instance();
            let seen = self.outcome(carried.machine().store(), instance, run);
            trace.calls.push(seen);
        }
        let instance = carried.machine().instance();
        self.look(carried.machine().store(), instance, &mut trace);
        Ok((trace, carried.moves))
    }

    fn outcome(&self, store: &mut Store<()>, instance: Instance, run: wasmtime::Result<Vec<Val>>) -> String {
        match run {
            Ok(values) => values.iter().map(|v| self.describe(store, instance, v)).collect::<Vec<_>>().join(", "),
            Err(e) => end(&e),
        }
    }

    fn look(&self, store: &mut Store<()>, instance: Instance, trace: &mut Trace) {
        for name in &self.exports {
            match instance.get_export(&mut *store, name) {
                Some(Extern::Memory(m)) => {
                    trace.memories.insert(name.clone(), m.data(&*store).to_vec());
                }
                Some(Extern::Global(g)) => {
                    let value = g.get(&mut *store);
                    let seen = self.describe(store, instance, &value);
                    trace.state.insert(name.clone(), seen);
                }
                Some(Extern::Table(t)) => {
                    let mut seen = Vec::new();
                    for i in 0..t.size(&*store) {
                        seen.push(match t.get(&mut *store, i) {
                            Some(Ref::Func(f)) => self.describe(store, instance, &Val::FuncRef(f)),
                            Some(r) => format!("null: {}", r.is_null()),
                            None => "gone".into(),
                        });
                    }
                    trace.state.insert(name.clone(), seen.join(" "));
                }
                _ => {}
            }
        }
    }

    /// A value in words that mean the same in every store.
    fn describe(&self, store: &mut Store<()>, instance: Instance, value: &Val) -> String {
        match value {
            Val::I32(v) => format!("{v:#x}"),
            Val::I64(v) => format!("{v:#x}"),
            Val::F32(v) => format!("f32 {v:#x}"),
            Val::F64(v) => format!("f64 {v:#x}"),
            Val::V128(v) => format!("{:#x}", v.as_u128()),
            Val::FuncRef(Some(f)) => self.function(store, instance, *f),
            Val::FuncRef(None) | Val::ExternRef(None) | Val::AnyRef(None) | Val::ExnRef(None) => "null".into(),
            _ => "a reference".into(),
        }
    }

    fn function(&self, store: &mut Store<()>, instance: Instance, f: Func) -> String {
        let id = f.to_raw(&mut *store);
        let is =
            |name: &&String| instance.get_func(&mut *store, name).is_some_and(|other| other.to_raw(&mut *store) == id);
        // Everything is exported, some under two names: the first is as good as another.
        self.exports.iter().find(is).cloned().unwrap_or_else(|| "a function".into())
    }
}

/// An argument; `None` where a type has no value that could be made here.
fn value(ty: &ValType, random: &mut Random) -> Option<Val> {
    // Small and round numbers reach further into a program than any others.
    let bits = match random.below(4) {
        0 => random.below(20),
        1 => 1 << random.below(64),
        2 => random.below(20).wrapping_neg(),
        _ => random.next(),
    };
    Some(match ty {
        ValType::I32 => Val::I32(bits as i32),
        ValType::I64 => Val::I64(bits as i64),
        ValType::F32 => Val::F32((bits as f32).to_bits()),
        ValType::F64 => Val::F64((bits as f64).to_bits()),
        ValType::V128 => Val::V128((u128::from(bits) << 64 | u128::from(random.next())).into()),
        ValType::Ref(r) if r.is_nullable() => Val::null_ref(r.heap_type()),
        ValType::Ref(_) => return None,
    })
}

/// Whether all work was counted: by a call that returned, or threw an exception.
fn exact(run: &wasmtime::Result<Vec<Val>>) -> bool {
    run.as_ref().err().is_none_or(|e| e.is::<ThrownException>())
}

/// What an instrumented module has counted.
fn work(store: &mut Store<()>, instance: Instance) -> Option<u64> {
    match instance.get_global(&mut *store, abi::WORK)?.get(store) {
        Val::I64(work) => Some(work as u64),
        _ => None,
    }
}

fn end(e: &wasmtime::Error) -> String {
    if let Some(trap) = e.downcast_ref::<Trap>() {
        return format!("trap: {trap}");
    }
    if e.is::<ThrownException>() {
        return "an exception".into();
    }
    // Segments that do not fit, at instantiation.
    format!("error: {e:#}")
}
