//! A task where there is no operating system: one thread, and whatever host the board gives it.

use crate::calls::{self, ENTRY, Exit};
use crate::{Error, Image, Machine, Outcome, Run, State};
use alloc::string::ToString;
use wasmtime::{Caller, Instance, Memory, Store, Val};
use wayfare_instrument::abi;
use wayfare_snapshot::Packed;
use wayfare_wasi::{Control, Ctx, Function, Host};

struct Inside<H> {
    ctx: Ctx,
    host: H,
    memory: Option<Memory>,
}

/// A program in execution.
pub struct Task<H: Host + 'static> {
    machine: Machine<Inside<H>>,
    in_start: bool,
}

impl<H: Host + 'static> Task<H> {
    /// Prepares a task; nothing of it runs yet.
    ///
    /// # Errors
    /// [`Error::UnknownImports`], all at once; [`Error::NoEntry`]; [`Error::Unmovable`]; [`Error::Wasm`] when there is no
    /// room for its memory.
    pub fn start(image: &Image, ctx: Ctx, host: H) -> Result<Task<H>, Error> {
        let mut store = Store::new(image.engine(), Inside { ctx, host, memory: None });
        let imports = calls::link(&mut store, image, host_call)?;
        let instance = Instance::new(&mut store, image.module(), &imports)?;
        if instance.get_func(&mut store, ENTRY).is_none() {
            return Err(Error::NoEntry(ENTRY.into()));
        }
        store.data_mut().memory = instance.get_memory(&mut store, "memory");
        let machine = Machine::new(store, instance, image.metadata().clone())?;
        Ok(Task { machine, in_start: image.metadata().has_start })
    }

    /// Rebuilds a captured task; it goes on with [`Task::run`].
    ///
    /// # Errors
    /// Whatever makes the snapshot unusable here, found before anything runs: another module, a delta without its base,
    /// frames that cannot be, descriptors that cannot be opened again (all listed).
    pub fn resume(image: &Image, packed: &Packed<'_>, mut host: H) -> Result<Task<H>, Error> {
        let snapshot = &packed.snapshot;
        let mut ctx = calls::admit(image, snapshot)?;
        ctx.reattach(&mut host).map_err(|e| Error::System(e.to_string()))?;
        let mut task = Task::start(image, ctx, host)?;
        task.machine.restore_memories(packed)?;
        task.machine.restore(&State::of(snapshot))?;
        task.in_start = snapshot.options.entry == abi::START;
        let inside = task.machine.store().data_mut();
        inside.ctx.resumed(&mut inside.host);
        Ok(task)
    }

    /// Runs until the program ends or is captured.
    pub fn run(&mut self) -> Outcome {
        loop {
            let entry = if self.in_start { abi::START } else { ENTRY };
            let run = match self.machine.has_frames() {
                true => self.machine.rewind(&mut []),
                false => self.machine.call(entry, &[], &mut []),
            };
            return match run {
                Ok(Run::Returned) if self.in_start => {
                    self.in_start = false;
                    continue;
                }
                run => Outcome::of(run),
            };
        }
    }
}

fn host_call<H: Host + 'static>(
    caller: &mut Caller<'_, Inside<H>>,
    function: Function,
    args: &[Val],
    results: &mut [Val],
) -> wasmtime::Result<()> {
    let raw = calls::raw(args);
    loop {
        let (data, inside) = match caller.data().memory {
            Some(memory) => memory.data_and_store_mut(&mut *caller),
            None => (&mut [][..], caller.data_mut()),
        };
        match inside.ctx.call(&mut inside.host, function, &raw[..args.len()], data) {
            Control::Return(errno) => {
                if let Some(r) = results.first_mut() {
                    *r = Val::I32(errno as u16 as i32);
                }
                return Ok(());
            }
            Control::Exit(status) => return Err(wasmtime::Error::new(Exit(status))),
            Control::Block(wait) => {
                inside.host.wait(&wait);
            }
        }
    }
}
