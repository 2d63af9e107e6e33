//! Each module of a script on machines of its own, moved to a fresh one at every poll. Modules that share
//! state with others are left out: a task is one module.

use crate::Demand;
use crate::tally::{Tally, reason};
use std::collections::HashMap;
use std::rc::Rc;
use wast::WastExecute;
use wayfare_engine::wasmtime::{Extern, Module, Val};
use wayfare_instrument::{Error, Options, instrument};
use wayfare_tests::carry::{Carried, Ended, Program, once, polls};
use wayfare_tests::densify::densify;
use wayfare_tests::script;

/// Moves in a row in one call; later ones leave polls out.
const MOST: u32 = 60;

type Slot = Rc<std::cell::RefCell<Result<Carried<'static>, String>>>;

pub struct CarriedWorld {
    dense: bool,
    instances: HashMap<Option<String>, Slot>,
}

impl CarriedWorld {
    pub fn new(dense: bool) -> Self {
        CarriedWorld { dense, instances: HashMap::new() }
    }

    fn count(&self, tally: &mut Tally, what: &str) {
        tally.count(&format!("{}: {what}", if self.dense { "dense" } else { "carried" }));
    }

    pub fn lost(&mut self, name: Option<&str>, reason: &str) {
        self.keep(name, Err(reason.to_owned()));
    }

    fn keep(&mut self, name: Option<&str>, carried: Result<Carried<'static>, String>) {
        let slot = Rc::new(std::cell::RefCell::new(carried));
        self.instances.insert(None, slot.clone());
        if let Some(name) = name {
            self.instances.insert(Some(name.to_owned()), slot);
        }
    }

    pub fn module(&mut self, name: Option<&str>, bytes: &[u8], imports_from: &[Option<String>], tally: &mut Tally) {
        self.share(imports_from);
        let carried = if imports_from.is_empty() {
            self.program(bytes, tally).and_then(|p| {
                let mut carried = Carried::new(p).map_err(|e| self.not_made(e, tally))?;
                let started = carried.start(&mut polls(MOST));
                tally.moved(self.dense, carried.moves);
                carried.moves = 0;
                started.map_err(|e| self.not_made(e, tally))?;
                Ok(carried)
            })
        } else {
            Err("module that imports from another".to_owned())
        };
        self.keep(name, carried);
    }

    /// What others may change is not known here any more.
    fn share(&mut self, imports_from: &[Option<String>]) {
        for other in imports_from {
            if let Some(slot) = self.instances.get(other) {
                *slot.borrow_mut() = Err("module that others import from".into());
            }
        }
    }

    fn not_made(&self, e: Ended, tally: &mut Tally) -> String {
        if let Ended::Broken(e) = e {
            tally.fail(&format!("dense {}: {e}", self.dense));
        }
        "module that the engine cannot instantiate".into()
    }

    fn program(&self, bytes: &[u8], tally: &mut Tally) -> Result<&'static Program, String> {
        let dense;
        let bytes = if self.dense {
            dense = densify(bytes, 400).map_err(|_| "module that the engine does not accept".to_owned())?;
            &dense
        } else {
            bytes
        };
        let options = Options { countdown: true, ..Options::default() };
        let out = match instrument(bytes, &options) {
            Ok(out) => out,
            Err(Error::Unmovable(reasons)) => {
                let reason = reason(&reasons[0]);
                if self.dense {
                    self.count(tally, &format!("module refused: {reason}"));
                }
                return Err("module refused".into());
            }
            Err(_) => return Err("module that the engine does not accept".into()),
        };
        let wasm = out.wasm.clone();
        let program = Program::new(out, |store, module| script::spectest(store)?.instantiate(store, module));
        match program {
            // Scripts are few and short: their modules may stay.
            Ok(program) => Ok(Box::leak(Box::new(program))),
            Err(e) => {
                match Module::new(wayfare_tests::carry::engine(), bytes) {
                    Ok(_) => {
                        if let Some(dir) = std::env::var_os("WAYFARE_SPEC_DUMP") {
                            let _ = std::fs::write(std::path::Path::new(&dir).join("failed.wasm"), &wasm);
                        }
                        tally.fail(&format!("dense {}: instrumented, it does not compile: {e:#}", self.dense));
                    }
                    Err(_) => self.count(tally, "module that the engine does not accept"),
                }
                Err("module that the engine does not accept".into())
            }
        }
    }

    pub fn instantiation_fails(
        &mut self,
        bytes: &[u8],
        imports_from: &[Option<String>],
        trap: &str,
        tally: &mut Tally,
    ) {
        self.share(imports_from);
        if !imports_from.is_empty() {
            return self.count(tally, "assertion skipped: module that imports from another");
        }
        let program = match self.program(bytes, tally) {
            Ok(program) => program,
            Err(reason) => return self.count(tally, &format!("assertion skipped: {reason}")),
        };
        let run = Carried::new(program).and_then(|mut c| {
            let run = c.start(&mut polls(MOST));
            tally.moved(self.dense, c.moves);
            run
        });
        match run {
            Err(Ended::Wasm(e)) if script::is_trap(&e, trap) => tally.carried[usize::from(self.dense)] += 1,
            other => tally.fail(&format!("dense {}: not {trap:?}: {other:?}", self.dense)),
        }
    }

    pub fn execute(&mut self, exec: &WastExecute<'_>, demand: Demand<'_>, tally: &mut Tally) {
        let module = match exec {
            WastExecute::Invoke(i) => i.module,
            WastExecute::Get { module, .. } => *module,
            WastExecute::Wat(_) => return,
        };
        let Some(slot) = self.instances.get(&module.map(|m| m.name().to_owned())).cloned() else {
            return self.count(tally, "assertion skipped: no module");
        };
        let mut slot = slot.borrow_mut();
        let carried = match &mut *slot {
            Ok(carried) => carried,
            Err(reason) => return self.count(tally, &format!("assertion skipped: {reason}")),
        };
        let judged = match exec {
            WastExecute::Invoke(invoke) => {
                let args: Result<Vec<Val>, _> =
                    invoke.args.iter().map(|a| script::argument(carried.machine().store(), a)).collect();
                let args = args.expect("arguments can be made");
                // To be moved at every poll of an endless recursion would never end; and to fill the stack
                // takes a while, so that once is enough.
                let run = if matches!(demand, Demand::Exhaustion) {
                    if self.dense {
                        return self.count(tally, "assertion skipped: exhaustion");
                    }
                    carried.call(invoke.name, &args, &mut once(100))
                } else {
                    carried.call(invoke.name, &args, &mut polls(MOST))
                };
                tally.moved(self.dense, std::mem::take(&mut carried.moves));
                match run {
                    Ok(values) => demand.results(carried.machine().store(), &values),
                    Err(Ended::Wasm(e)) => demand.judge(&e),
                    Err(Ended::Broken(e)) => Err(e),
                }
            }
            WastExecute::Get { global, .. } => {
                let instance = carried.machine().instance();
                match instance.get_export(carried.machine().store(), global) {
                    Some(Extern::Global(g)) => {
                        let value = g.get(carried.machine().store());
                        demand.results(carried.machine().store(), &[value])
                    }
                    _ => Err("no such global".into()),
                }
            }
            WastExecute::Wat(_) => unreachable!("returned above"),
        };
        match judged {
            Ok(()) if !matches!(demand, Demand::Nothing) => tally.carried[usize::from(self.dense)] += 1,
            Ok(()) => {}
            Err(e) => {
                let call = match exec {
                    WastExecute::Invoke(i) => i.name,
                    _ => "",
                };
                tally.fail(&format!("dense {}: {call:?}: {e}", self.dense));
            }
        }
    }
}
