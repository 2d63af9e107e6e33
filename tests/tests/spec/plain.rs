//! All modules of a script in one store, instrumented but never captured.

use crate::Demand;
use crate::tally::{Tally, reason};
use std::collections::HashMap;
use wast::WastExecute;
use wayfare_engine::wasmtime::{self, Extern, Instance, Linker, Module, Store, Val};
use wayfare_instrument::{Error, Options, abi, instrument};
use wayfare_tests::carry::engine;
use wayfare_tests::script;

pub struct PlainWorld {
    store: Store<()>,
    linker: Linker<()>,
    /// By name; the current one has none.
    instances: HashMap<Option<String>, Option<Instance>>,
    definitions: HashMap<Option<String>, Vec<u8>>,
    /// Module name by name of registration.
    registered: HashMap<String, Option<String>>,
}

impl PlainWorld {
    pub fn new() -> Self {
        let mut store = Store::new(engine(), ());
        let linker = script::spectest(&mut store).expect("the host module can be made");
        PlainWorld { store, linker, instances: HashMap::new(), definitions: HashMap::new(), registered: HashMap::new() }
    }

    /// Names of the instances that a module imports from.
    pub fn imports_of(&self, bytes: &[u8]) -> Vec<Option<String>> {
        let mut out = Vec::new();
        for payload in wasmparser::Parser::new(0).parse_all(bytes) {
            if let Ok(wasmparser::Payload::ImportSection(reader)) = payload {
                for import in reader.into_imports().flatten() {
                    if let Some(name) = self.registered.get(import.module) {
                        out.push(name.clone());
                    }
                }
            }
        }
        out
    }

    pub fn define(&mut self, name: Option<&str>, bytes: Vec<u8>) {
        self.definitions.insert(name.map(str::to_owned), bytes.clone());
        self.definitions.insert(None, bytes);
    }

    pub fn definition(&self, name: Option<&str>) -> Option<Vec<u8>> {
        self.definitions.get(&name.map(str::to_owned)).cloned()
    }

    pub fn lost(&mut self, name: Option<&str>) {
        self.keep(name, None);
    }

    fn keep(&mut self, name: Option<&str>, instance: Option<Instance>) {
        self.instances.insert(None, instance);
        if let Some(name) = name {
            self.instances.insert(Some(name.to_owned()), instance);
        }
    }

    pub fn register(&mut self, as_name: &str, module: Option<&str>, tally: &mut Tally) {
        let module = module.map(str::to_owned);
        match self.instances.get(&module) {
            Some(Some(instance)) => {
                self.linker.instance(&mut self.store, as_name, *instance).expect("may shadow");
                self.registered.insert(as_name.to_owned(), module);
            }
            _ => tally.count("registered module is not there"),
        }
    }

    pub fn module(&mut self, name: Option<&str>, bytes: &[u8], tally: &mut Tally) {
        self.define(name, bytes.to_vec());
        let Some(module) = compile(bytes, tally) else { return self.lost(name) };
        match self.instantiate(&module) {
            Ok(instance) => self.keep(name, Some(instance)),
            Err(e) => {
                // Some declare tables or memories that no machine has.
                match Module::new(engine(), bytes).and_then(|m| self.linker.instantiate(&mut self.store, &m)) {
                    Ok(_) => tally.fail(&format!("instrumented, it cannot be instantiated: {e:#}")),
                    Err(_) => tally.count("module that the engine cannot instantiate"),
                }
                self.lost(name);
            }
        }
    }

    fn instantiate(&mut self, module: &Module) -> wasmtime::Result<Instance> {
        let instance = self.linker.instantiate(&mut self.store, module)?;
        if let Some(start) = instance.get_func(&mut self.store, abi::START) {
            start.call(&mut self.store, &[], &mut [])?;
        }
        Ok(instance)
    }

    /// An instantiation that must fail: with this trap, or for want of an import.
    pub fn instantiation_fails(&mut self, bytes: &[u8], trap: Option<&str>, tally: &mut Tally) {
        let Some(module) = compile(bytes, tally) else { return };
        match (self.instantiate(&module), trap) {
            (Ok(_), _) => tally.fail("it was instantiated"),
            (Err(e), Some(trap)) if !script::is_trap(&e, trap) => tally.fail(&format!("not {trap:?}: {e:#}")),
            _ => tally.plain += 1,
        }
    }

    pub fn execute(&mut self, exec: &WastExecute<'_>, demand: Demand<'_>, tally: &mut Tally) {
        let module = match exec {
            WastExecute::Invoke(i) => i.module,
            WastExecute::Get { module, .. } => *module,
            WastExecute::Wat(_) => return tally.count("a module in the place of a call"),
        };
        let Some(Some(instance)) = self.instances.get(&module.map(|m| m.name().to_owned())).copied() else {
            return tally.count("plain: assertion on a module that is not there");
        };
        let judged = match exec {
            WastExecute::Invoke(invoke) => {
                let f = instance.get_func(&mut self.store, invoke.name).expect("scripts call what exists");
                let args: wasmtime::Result<Vec<Val>> =
                    invoke.args.iter().map(|a| script::argument(&mut self.store, a)).collect();
                let mut results = vec![Val::I32(0); f.ty(&self.store).results().len()];
                let args = args.expect("arguments can be made");
                match f.call(&mut self.store, &args, &mut results) {
                    Ok(()) => demand.results(&mut self.store, &results),
                    Err(e) => {
                        let _ = self.store.take_pending_exception();
                        demand.judge(&e)
                    }
                }
            }
            WastExecute::Get { global, .. } => match instance.get_export(&mut self.store, global) {
                Some(Extern::Global(g)) => {
                    let value = g.get(&mut self.store);
                    demand.results(&mut self.store, &[value])
                }
                _ => Err("no such global".into()),
            },
            WastExecute::Wat(_) => unreachable!("returned above"),
        };
        match judged {
            Ok(()) if !matches!(demand, Demand::Nothing) => tally.plain += 1,
            Ok(()) => {}
            Err(e) => tally.fail(&format!("plain: {e}")),
        }
    }
}

/// Instruments and compiles for running in place; counts what cannot be moved.
fn compile(bytes: &[u8], tally: &mut Tally) -> Option<Module> {
    let options = Options { allow_unmovable: true, ..Options::default() };
    let result = match instrument(bytes, &options) {
        Ok(out) => {
            if let Err(Error::Unmovable(reasons)) = instrument(bytes, &Options::default()) {
                tally.count(&format!("module refused: {}", reason(&reasons[0])));
            }
            Module::new(engine(), &out.wasm).map_err(|e| format!("instrumented, it does not compile: {e:#}"))
        }
        Err(e) => Err(format!("the instrumenter says: {e}")),
    };
    match result {
        Ok(module) => Some(module),
        Err(e) => {
            match Module::new(engine(), bytes) {
                Ok(_) => tally.fail(&e),
                Err(_) => tally.count("module that the engine does not accept"),
            }
            None
        }
    }
}

/// An invalid module must be refused, and never panic.
pub fn refuses(bytes: &[u8], tally: &mut Tally) {
    match instrument(bytes, &Options::default()) {
        Err(_) => tally.refused += 1,
        Ok(_) if Module::validate(engine(), bytes).is_ok() => tally.count("module that was invalid once, and is not"),
        Ok(_) => tally.fail("an invalid module was instrumented"),
    }
}
