//! Runs a program while it is carried from one fresh instance to the next, with nothing but its own
//! state: whatever a move forgets is gone.

use std::sync::{Arc, OnceLock};
use wayfare_engine::wasmtime::{self, Engine, Instance, Module, Store, Val};
use wayfare_engine::{Error, Machine, Options, Run, State, Target, configure};
use wayfare_instrument::Instrumented;
use wayfare_instrument::meta::Metadata;
use wayfare_snapshot::MemoryState;

/// The engine as tasks have it; one for the process.
pub fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let config = configure(&Target::host(), Options::default()).expect("this machine is a target");
        Engine::new(&config).expect("the configuration is valid")
    })
}

/// Makes an instance of a module, with what it imports, in a store of its own.
pub type Link = fn(&mut Store<()>, &Module) -> wasmtime::Result<Instance>;

/// A compiled module built with a countdown of polls, and how to link it.
pub struct Program {
    module: Module,
    meta: Arc<Metadata>,
    link: Link,
}

impl Program {
    /// Compiles an instrumented module.
    ///
    /// # Errors
    /// What the compiler says.
    pub fn new(instrumented: Instrumented, link: Link) -> wasmtime::Result<Self> {
        assert!(instrumented.metadata.countdown, "moves at chosen polls need a countdown");
        let module = Module::new(engine(), &instrumented.wasm)?;
        Ok(Program { module, meta: Arc::new(instrumented.metadata), link })
    }

    /// The compiled module.
    pub fn module(&self) -> &Module {
        &self.module
    }

    fn machine(&self) -> Result<Machine<()>, Ended> {
        let mut store = Store::new(engine(), ());
        let instance = (self.link)(&mut store, &self.module).map_err(Ended::Wasm)?;
        Machine::new(store, instance, self.meta.clone()).map_err(|e| Ended::Broken(e.to_string()))
    }
}

/// How a call did not return.
#[derive(Debug)]
pub enum Ended {
    /// The program's own end: a trap, an exception, an instantiation that cannot be.
    Wasm(wasmtime::Error),
    /// A capture or a restore failed, which it never should.
    Broken(String),
}

/// Which polls capture: each number is of polls to let pass, the first from the call's start, the
/// others from the move before. `None` ends the moves.
pub type Schedule<'a> = &'a mut dyn FnMut() -> Option<u32>;

/// The first polls, all of them; then ever fewer, so that long loops end as well.
pub fn polls(all: u32) -> impl FnMut() -> Option<u32> {
    let mut made = 0u32;
    move || {
        made += 1;
        let more = made.saturating_sub(all);
        Some(1u32.checked_shl(more / 8).unwrap_or(1 << 31) - 1)
    }
}

/// One capture, at the k-th poll.
pub fn once(k: u32) -> impl FnMut() -> Option<u32> {
    let mut next = Some(k);
    move || next.take()
}

/// A program that lives on one machine after the other.
pub struct Carried<'p> {
    program: &'p Program,
    machine: Machine<()>,
    /// Moves made.
    pub moves: u64,
}

impl<'p> Carried<'p> {
    /// A fresh machine; the module's start function has not run.
    ///
    /// # Errors
    /// [`Ended::Wasm`] when there can be no instance.
    pub fn new(program: &'p Program) -> Result<Self, Ended> {
        Ok(Carried { program, machine: program.machine()?, moves: 0 })
    }

    /// The machine that it lives on at the moment.
    pub fn machine(&mut self) -> &mut Machine<()> {
        &mut self.machine
    }

    /// Runs the start function, if there is one.
    ///
    /// # Errors
    /// As [`Carried::call`].
    pub fn start(&mut self, schedule: Schedule<'_>) -> Result<(), Ended> {
        if self.program.meta.has_start {
            self.call(wayfare_instrument::abi::START, &[], schedule)?;
        }
        Ok(())
    }

    /// Calls an export to its end, however many machines that takes.
    ///
    /// # Errors
    /// [`Ended::Wasm`] when the program traps or throws.
    pub fn call(&mut self, name: &str, params: &[Val], schedule: Schedule<'_>) -> Result<Vec<Val>, Ended> {
        let instance = self.machine.instance();
        let f = instance
            .get_func(self.machine.store(), name)
            .ok_or_else(|| Ended::Broken(format!("no function {name:?}")))?;
        let mut results = vec![Val::I32(0); f.ty(self.machine.store()).results().len()];
        self.arm(schedule(), 0);
        let mut run = self.machine.call(name, params, &mut results);
        while self.ended(run)? == Run::Captured {
            self.step()?;
            self.moves += 1;
            // The poll that captured is passed again by the loop that it is in.
            self.arm(schedule(), 1);
            run = self.machine.rewind(&mut results);
        }
        Ok(results)
    }

    fn arm(&mut self, polls: Option<u32>, more: u32) {
        // Polls stay armed during a resume, so that "never" is a number as well.
        self.machine.arm(Some(polls.map_or(u32::MAX, |n| n.saturating_add(more)))).expect("a countdown build");
    }

    fn ended(&mut self, run: Result<Run, Error>) -> Result<Run, Ended> {
        run.map_err(|e| match e {
            Error::Wasm(e) => {
                let _ = self.machine.store().take_pending_exception();
                Ended::Wasm(e)
            }
            e => Ended::Broken(e.to_string()),
        })
    }

    /// Moves to a fresh machine; the old one is gone before the new one runs.
    fn step(&mut self) -> Result<(), Ended> {
        let broken = |what: &str, e: Error| Ended::Broken(format!("{what}: {e}"));
        let state: State = self.machine.state().map_err(|e| broken("capture", e))?;
        let memories: Vec<MemoryState<'static>> = self
            .machine
            .memories()
            .iter()
            .map(|m| MemoryState {
                index: m.index,
                size: m.size,
                runs: m.runs.iter().map(|r| r.clone().into_owned()).collect(),
            })
            .collect();
        let mut next = self.program.machine().map_err(|e| match e {
            Ended::Wasm(e) => Ended::Broken(format!("no second instance: {e:#}")),
            e => e,
        })?;
        next.restore_memories(&memories[..]).map_err(|e| broken("restore of memories", e))?;
        next.restore(&state).map_err(|e| broken("restore", e))?;
        self.machine = next;
        Ok(())
    }
}
