//! A task where there is no operating system: on a thread of the board's, with whatever host the board gives it. Others
//! stop it by its [`Trigger`], and look at its memories where they are ([`Task::places`]).

use crate::calls::{self, ENTRY, Exit, Label, portray};
use crate::foresight::foresee;
use crate::limits::Meter;
use crate::{Error, Form, Image, Limits, Machine, Outcome, Run, State, Trigger};
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use wasmtime::{Caller, Global, Instance, Memory, Store, Val};
use wayfare_instrument::abi;
use wayfare_snapshot::{PAGE_SIZE, Packed, Snapshot};
use wayfare_wasi::{Control, Ctx, Function, Host, Woken};

/// What a task needs of a board besides what WASI asks for.
pub trait Board: Host + 'static {
    /// Whether the task is to be captured. [`Host::wait`] must come back then.
    fn is_wanted(&self) -> bool;

    /// Makes sure that there is memory for these bytes of a linear memory: a host function that touched one for which
    /// there is none could not go back. `false` when there is not enough.
    fn populate(&mut self, bytes: &[u8]) -> bool;

    /// Makes bytes of a linear memory zero, and takes no memory for pages that nobody has written to.
    fn clear(&mut self, bytes: &mut [u8]);
}

struct Inside<B> {
    ctx: Ctx,
    board: B,
    meter: Meter,
    memory: Option<Memory>,
    unwinding: Option<Global>,
    trigger: Trigger,
}

/// Where a linear memory is.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Its index in the module.
    pub index: u32,
    /// Its first byte. It stays there as long as the task.
    pub base: *mut u8,
    /// Bytes.
    pub size: usize,
}

/// A program in execution.
pub struct Task<B: Board> {
    machine: Machine<Inside<B>>,
    image: Image,
    in_start: bool,
    /// What people call it.
    pub name: String,
    /// Notes that travel with it.
    pub extra: BTreeMap<String, String>,
    /// Counts its moves.
    pub epoch: u64,
    /// Nanoseconds that it has run, for its snapshots.
    pub ran: u64,
    sequence: u64,
}

impl<B: Board> Task<B> {
    /// Prepares a task; nothing of it runs yet.
    ///
    /// # Errors
    /// [`Error::UnknownImports`], all at once; [`Error::NoEntry`]; [`Error::Unmovable`]; [`Error::TooLarge`];
    /// [`Error::Wasm`] when there is no room for its memory.
    pub fn start(image: &Image, name: &str, ctx: Ctx, board: B, limits: Limits) -> Result<Task<B>, Error> {
        let own_growth = Arc::new(AtomicBool::new(true));
        let trigger = Trigger::default();
        let meter = Meter::new(image, limits, own_growth.clone(), trigger.clone())?;
        let inside = Inside { ctx, board, meter, memory: None, unwinding: None, trigger: trigger.clone() };
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
        let mut machine = Machine::new(store, instance, image.metadata().clone())?;
        machine.tell_own_growth(own_growth);
        machine.answer_to(&trigger);
        let in_start = image.metadata().has_start;
        let (image, name, extra) = (image.clone(), name.into(), BTreeMap::new());
        let mut task = Task { machine, image, in_start, name, extra, epoch: 0, ran: 0, sequence: 0 };
        task.settle();
        Ok(task)
    }

    /// Rebuilds a captured task; it goes on with [`Task::run`].
    ///
    /// # Errors
    /// Whatever makes the snapshot unusable here, found before anything runs: another module, a delta without its base,
    /// frames that cannot be, descriptors that cannot be opened again (all listed).
    pub fn resume(image: &Image, packed: &Packed<'_>, board: B, limits: Limits) -> Result<Task<B>, Error> {
        let mut arrival = Arrival::new(image, board, limits)?;
        arrival.0.machine.restore_memories(packed)?;
        let ctx = arrival.admit(&packed.snapshot)?;
        arrival.complete(&packed.snapshot, ctx)
    }

    /// Tells the meter what the guest did not grow.
    fn settle(&mut self) {
        let (stack, refs) = self.machine.own_sizes();
        self.machine.store().data_mut().meter.settle(stack, refs);
    }

    /// The work done: see [`Machine::work`].
    pub fn work(&mut self) -> u64 {
        self.machine.work()
    }

    /// Asks for a capture, from another thread.
    pub fn trigger(&mut self) -> Trigger {
        self.machine.store().data_mut().trigger.clone()
    }

    /// Where its memories are.
    pub fn places(&mut self) -> Vec<Place> {
        let memories = self.machine.linear_memories();
        let store = self.machine.store();
        let place = |(index, m): (u32, Memory)| Place { index, base: m.data_ptr(&*store), size: m.data_size(&*store) };
        memories.into_iter().map(place).collect()
    }

    /// Runs until the program ends or is captured.
    pub fn run(&mut self) -> Outcome {
        loop {
            let entry = if self.in_start { abi::START } else { ENTRY };
            let run = match self.machine.has_frames() {
                true => self.machine.rewind(&mut []),
                false => self.machine.call(entry, &[], &mut []),
            };
            self.settle();
            return match run {
                Ok(Run::Returned) if self.in_start => {
                    self.in_start = false;
                    continue;
                }
                run => Outcome::of(run),
            };
        }
    }

    /// The captured state without pages; the memories have their sizes. Stops the task's clock until [`Task::unpause`].
    ///
    /// # Errors
    /// [`Error::Misfit`] on a reference that is not the module's own; [`Error::Unmovable`] for what its WASI state has
    /// open.
    pub fn state(&mut self) -> Result<Snapshot<'static>, Error> {
        let state = self.machine.state()?;
        let inside = self.machine.store().data_mut();
        inside.ctx.pausing(&mut inside.board);
        if let Some(obstacle) = inside.ctx.obstacles().first() {
            let reason = obstacle.to_string();
            inside.ctx.resumed(&mut inside.board);
            return Err(Error::Unmovable(alloc::vec![reason]));
        }
        let wasi = inside.ctx.encode();
        self.sequence += 1;
        let label = Label {
            name: &self.name,
            extra: &self.extra,
            entry: if self.in_start { abi::START } else { ENTRY },
            sequence: self.sequence,
            epoch: self.epoch,
            ran: self.ran,
        };
        Ok(portray(&mut self.machine, &self.image, state, wasi, &label))
    }

    /// Lets a captured task's clock go on, before it is run on in place.
    pub fn unpause(&mut self) {
        let inside = self.machine.store().data_mut();
        inside.ctx.resumed(&mut inside.board);
    }
}

/// A task that is coming in. Nothing of it runs before [`Arrival::finish`]. Its memory is a peer's to fill, so everything
/// is checked.
pub struct Arrival<B: Board>(Task<B>);

impl<B: Board> Arrival<B> {
    /// An instance with the module's own initial memory.
    ///
    /// # Errors
    /// As [`Task::start`]; [`Error::StartsOnly`] when nothing can be resumed by the image.
    pub fn new(image: &Image, board: B, limits: Limits) -> Result<Arrival<B>, Error> {
        if image.form() == Form::Start {
            return Err(Error::StartsOnly);
        }
        // Its world comes with its state.
        Task::start(image, "", Ctx::builder().build(), board, limits).map(Arrival)
    }

    /// Makes a memory at least so large.
    ///
    /// # Errors
    /// [`Error::Misfit`] when there is no such memory, or it cannot be so large here.
    pub fn grow(&mut self, memory: u32, bytes: u64) -> Result<(), Error> {
        self.0.machine.grow(memory, bytes)
    }

    /// Writes whole pages from `first` on.
    ///
    /// # Errors
    /// [`Error::Misfit`] when there is no such memory, they are not whole (the memory's last may be short), reach past its
    /// end, or there is no memory left; nothing is written then.
    pub fn write(&mut self, memory: u32, first: u64, bytes: &[u8]) -> Result<(), Error> {
        self.pages(memory, first, bytes.len(), |board, to| {
            let there = board.populate(to);
            if there {
                to.copy_from_slice(bytes);
            }
            there
        })
    }

    /// Makes pages zero.
    ///
    /// # Errors
    /// As [`Arrival::write`].
    pub fn zero(&mut self, memory: u32, first: u64, count: u64) -> Result<(), Error> {
        let len = usize::try_from(count).ok().and_then(|pages| pages.checked_mul(PAGE_SIZE));
        self.pages(memory, first, len.unwrap_or(usize::MAX), |board, to| {
            board.clear(to);
            true
        })
    }

    fn pages(
        &mut self,
        memory: u32,
        first: u64,
        len: usize,
        work: impl FnOnce(&mut B, &mut [u8]) -> bool,
    ) -> Result<(), Error> {
        let to: *mut [u8] = self.0.machine.whole_pages(memory, first, len)?;
        let board = &mut self.0.machine.store().data_mut().board;
        // SAFETY: a linear memory lies outside of its store, does not move, and we hold both exclusively.
        match work(board, unsafe { &mut *to }) {
            true => Ok(()),
            false => Err(Error::System("no memory is left for the task's pages".into())),
        }
    }

    /// Gives it its state, and its memories the sizes that they have there: a memory may have grown by pages that nobody has
    /// touched, so that none of them has come. It goes on with [`Task::run`].
    ///
    /// # Errors
    /// As [`Task::resume`]. The arrival is lost.
    pub fn finish(mut self, snapshot: &Snapshot<'_>) -> Result<Task<B>, Error> {
        let ctx = self.admit(snapshot)?;
        self.0.machine.restore_memories(&snapshot.memories[..])?;
        self.complete(snapshot, ctx)
    }

    fn admit(&self, snapshot: &Snapshot<'_>) -> Result<Ctx, Error> {
        let ctx = calls::admit(&self.0.image, snapshot)?;
        snapshot.check()?;
        Ok(ctx)
    }

    /// Its memories are those of the snapshot.
    fn complete(mut self, snapshot: &Snapshot<'_>, mut ctx: Ctx) -> Result<Task<B>, Error> {
        let task = &mut self.0;
        ctx.reattach(&mut task.machine.store().data_mut().board).map_err(|e| Error::System(e.to_string()))?;
        task.machine.restore(&State::of(snapshot))?;
        task.settle();
        task.in_start = snapshot.options.entry == abi::START;
        task.name = snapshot.options.name.clone();
        task.extra = snapshot.options.extra.clone();
        (task.epoch, task.ran) = (snapshot.meta.epoch, snapshot.options.ran);
        task.sequence = snapshot.meta.sequence + 1;
        task.machine.store().data_mut().ctx = ctx;
        task.unpause();
        Ok(self.0)
    }
}

fn host_call<B: Board>(
    caller: &mut Caller<'_, Inside<B>>,
    function: Function,
    args: &[Val],
    results: &mut [Val],
) -> wasmtime::Result<()> {
    let raw = calls::raw(args);
    let raw = &raw[..args.len()];
    loop {
        let (data, inside) = match caller.data().memory {
            Some(memory) => memory.data_and_store_mut(&mut *caller),
            None => (&mut [][..], caller.data_mut()),
        };
        let strings = calls::strings(&mut inside.ctx, &mut inside.board, function);
        foresee(function, raw, strings, data, |ranges| {
            let there = ranges.iter().all(|range| inside.board.populate(&data[range.clone()]));
            if there { Ok(()) } else { Err(wasmtime::Error::msg("out of memory")) }
        })?;
        let wait = match inside.ctx.call(&mut inside.board, function, raw, data) {
            Control::Return(errno) => {
                if let Some(r) = results.first_mut() {
                    *r = Val::I32(errno as u16 as i32);
                }
                return Ok(());
            }
            Control::Exit(status) => return Err(wasmtime::Error::new(Exit(status))),
            Control::Block(wait) => wait,
        };
        if !inside.board.is_wanted() && inside.board.wait(&wait) != Woken::Cancelled {
            continue;
        }
        if inside.board.is_wanted()
            && let Some(unwinding) = inside.unwinding
        {
            // The caller writes a frame that stands before the call: the resume issues it again. What is returned is not
            // looked at, but must be of the right type.
            if let Some(r) = results.first_mut() {
                *r = Val::I32(0);
            }
            // The poll words first: after some calls they are all that is looked at.
            inside.trigger.fire();
            return unwinding.set(&mut *caller, Val::I32(1));
        }
    }
}
