//! What a task consists of while it runs: an instance, with its WASI state, the host under it and its limits in the
//! instance's store, and the host functions that bring the two together.

use crate::calls::{self, ENTRY, Exit};
use crate::grounds::Region;
use crate::handle::Shared;
use crate::limits::Meter;
use crate::{Error, Image, Limits, Machine, Trigger};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use wasmtime::{Caller, Global, Instance, Memory, Store, Val};
use wayfare_instrument::abi;
use wayfare_wasi::std_host::StdHost;
use wayfare_wasi::{Control, Ctx, Function, Host, Woken};

/// What a task has to do besides running: its WASI state and the host under it.
pub struct Inside {
    pub ctx: Ctx,
    pub host: StdHost,
    pub meter: Meter,
    memory: Option<Memory>,
    unwinding: Option<Global>,
    trigger: Trigger,
    shared: Arc<Shared>,
}

/// What runs.
#[expect(clippy::large_enum_variant, reason = "there is one in a task, and the large one is the usual one")]
pub enum Body {
    Movable(Machine<Inside>),
    /// A task that cannot be moved has no machine around its instance.
    Fixed(Store<Inside>, Instance),
}

impl Body {
    /// An instance with its world in a store.
    ///
    /// # Errors
    /// [`Error::UnknownImports`], all at once; [`Error::NoEntry`]; [`Error::TooLarge`].
    pub fn new(
        image: &Image,
        ctx: Ctx,
        host: StdHost,
        shared: &Arc<Shared>,
        trigger: &Trigger,
        limits: Limits,
    ) -> Result<Body, Error> {
        let movable = image.unmovable().is_empty();
        // What an instrumented module starts with is known; of any other everything is counted as it comes.
        let own_growth = Arc::new(AtomicBool::new(movable));
        let meter = Meter::new(image, limits, own_growth.clone(), trigger.clone())?;
        let (trigger, shared) = (trigger.clone(), shared.clone());
        let inside = Inside { ctx, host, meter, memory: None, unwinding: None, trigger, shared };
        let mut store = Store::new(image.engine(), inside);
        store.limiter(|inside| &mut inside.meter);
        let imports = calls::link(&mut store, image, host_call)?;
        let instance = Instance::new(&mut store, image.module(), &imports)?;
        if instance.get_func(&mut store, ENTRY).is_none() {
            return Err(Error::NoEntry(ENTRY.into()));
        }
        store.data_mut().memory = instance.get_memory(&mut store, "memory");
        store.data_mut().unwinding = instance.get_global(&mut store, abi::UNWINDING);
        own_growth.store(false, Ordering::Relaxed);
        if !movable {
            return Ok(Body::Fixed(store, instance));
        }
        let mut machine = Machine::new(store, instance, image.metadata().clone())?;
        machine.tell_own_growth(own_growth);
        let mut body = Body::Movable(machine);
        body.settle();
        Ok(body)
    }

    pub fn inside(&mut self) -> &mut Inside {
        match self {
            Body::Movable(machine) => machine.store().data_mut(),
            Body::Fixed(store, _) => store.data_mut(),
        }
    }

    pub fn machine(&mut self) -> Option<&mut Machine<Inside>> {
        match self {
            Body::Movable(machine) => Some(machine),
            Body::Fixed(..) => None,
        }
    }

    /// Where its linear memories are: valid until it is dropped.
    pub fn regions(&mut self) -> Vec<Region> {
        let Some(machine) = self.machine() else { return Vec::new() };
        let memories = machine.linear_memories();
        let store = machine.store();
        let region = |(i, m): (u32, Memory)| Region::new(i, m.data_ptr(&mut *store), m.data_size(&mut *store));
        memories.into_iter().map(region).collect()
    }

    /// Tells the meter what the guest did not grow. To be called when it stands still.
    pub fn settle(&mut self) {
        if let Some(machine) = self.machine() {
            let (stack, refs) = machine.own_sizes();
            machine.store().data_mut().meter.settle(stack, refs);
        }
    }
}

fn host_call(
    caller: &mut Caller<'_, Inside>,
    function: Function,
    args: &[Val],
    results: &mut [Val],
) -> wasmtime::Result<()> {
    let raw = calls::raw(args);
    let raw = &raw[..args.len()];
    let absent = caller.data().shared.absent();
    loop {
        let memory = caller.data().memory;
        let (data, inside) = match memory {
            Some(memory) => memory.data_and_store_mut(&mut *caller),
            None => (&mut [][..], caller.data_mut()),
        };
        if let Some(absent) = &absent {
            let strings = calls::strings(&mut inside.ctx, &mut inside.host, function);
            absent.enter(function, raw, strings, data).map_err(wasmtime::Error::new)?;
        }
        let control = inside.ctx.call(&mut inside.host, function, raw, data);
        if let Some(absent) = &absent {
            absent.leave().map_err(wasmtime::Error::new)?;
        }
        let wait = match control {
            Control::Return(errno) => {
                if let Some(r) = results.first_mut() {
                    *r = Val::I32(errno as u16 as i32);
                }
                return Ok(());
            }
            Control::Exit(status) => return Err(wasmtime::Error::new(Exit(status))),
            Control::Block(wait) => wait,
        };
        if !inside.shared.requested.load(Ordering::SeqCst) && inside.host.wait(&wait) != Woken::Cancelled {
            continue;
        }
        if inside.shared.requested.load(Ordering::SeqCst)
            && let Some(unwinding) = inside.unwinding
        {
            // The caller writes a frame that stands before the call: the resume issues it again. What is
            // returned is not looked at, but must be of the right type.
            if let Some(r) = results.first_mut() {
                *r = Val::I32(0);
            }
            // The poll words first: after some calls they are all that is looked at.
            inside.trigger.fire();
            return unwinding.set(&mut *caller, Val::I32(1));
        }
        // A stale cancellation: nobody asks any more.
        caller.data().host.canceller().reset();
    }
}
