//! A task: a machine with WASI around it, and a handle by which other threads stop it.

use crate::arrival::Arrival;
use crate::body::Body;
use crate::calls::{ENTRY, Label, admit, portray};
use crate::grounds::Grounds;
use crate::handle::Shared;
use crate::late::Place;
use crate::{Error, Form, Handle, Image, Limits, Machine, Outcome, Run, Trigger};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use wayfare_instrument::abi;
use wayfare_snapshot::{MemoryState, Packed, Snapshot};
use wayfare_wasi::Ctx;
use wayfare_wasi::std_host::StdHost;

/// Stack that a thread needs to run a task on: the guest's own and some for the host functions.
pub const THREAD_STACK: usize = crate::config::STACK + (8 << 20);

/// A program in execution.
pub struct Task {
    body: Body,
    image: Image,
    name: String,
    phase: Phase,
    sequence: u64,
    epoch: u64,
    handle: Handle,
    extra: BTreeMap<String, String>,
}

/// How far a program has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// In the module's start function, not begun or resumed.
    Start,
    /// In `_start`.
    Entry,
}

impl Task {
    /// Prepares a task; nothing of it runs yet.
    ///
    /// # Errors
    /// [`Error::UnknownImports`], all at once; [`Error::NoEntry`]; [`Error::System`] when a directory
    /// cannot be opened.
    pub fn start(image: &Image, name: &str, ctx: Ctx, host: StdHost) -> Result<Task, Error> {
        let phase = if image.metadata().has_start { Phase::Start } else { Phase::Entry };
        Task::build(image, name, ctx, host, phase)
    }

    /// Rebuilds a captured task; it goes on with [`Task::run`].
    ///
    /// # Errors
    /// Whatever makes the snapshot unusable here, found before anything runs: another module, a delta
    /// without its base, frames that cannot be, descriptors that cannot be opened again (all listed).
    pub fn resume(image: &Image, packed: &Packed<'_>, mut host: StdHost) -> Result<Task, Error> {
        let mut ctx = admit(image, &packed.snapshot)?;
        ctx.reattach(&mut host).map_err(|e| Error::System(e.to_string()))?;
        let mut arrival = Arrival::new(image, Limits::default())?;
        arrival.machine()?.restore_memories(packed)?;
        arrival.complete(&packed.snapshot, ctx, host)
    }

    /// Whether a captured task can go on here: an image of [`Form::Start`] has no code for that.
    pub fn can_go_on(&self) -> bool {
        self.image.form() == Form::Resume
    }

    /// Goes over to an image of the same module that can resume, with the captured state; handles stay valid.
    ///
    /// # Errors
    /// [`Error::StartsOnly`] and [`Error::OtherModule`] when the image is not such a one; [`Error::Incomplete`] and
    /// [`Error::Lost`] as [`Task::snapshot`]; else as [`Task::resume`]. The task is then as it was.
    pub fn go_over(&mut self, image: &Image) -> Result<(), Error> {
        if image.form() == Form::Start {
            return Err(Error::StartsOnly);
        }
        if image.digest() != self.image.digest() {
            let (snapshot, module) = (self.image.digest().to_string(), image.digest().to_string());
            return Err(Error::OtherModule { snapshot, module });
        }
        let Body::Movable(old) = &mut self.body else {
            return Err(Error::Unmovable(image.unmovable().to_vec()));
        };
        self.handle.shared.has_all()?;
        let state = old.state()?;
        let limits = old.store().data_mut().meter.limits();
        let host = StdHost::new().map_err(|e| Error::System(e.to_string()))?;
        // Its world is exchanged for the real one once nothing can fail any more.
        let ctx = Ctx::builder().build();
        let mut body = Body::new(image, ctx, host, &self.handle.shared, &self.handle.trigger, limits)?;
        let Body::Movable(new) = &mut body else {
            return Err(Error::Unmovable(image.unmovable().to_vec()));
        };
        new.restore_memories(&old.memories()[..])?;
        new.restore(&state)?;
        let (from, to) = (old.store().data_mut(), new.store().data_mut());
        std::mem::swap(&mut from.ctx, &mut to.ctx);
        std::mem::swap(&mut from.host, &mut to.host);
        new.answer_to(&self.handle.trigger);
        body.settle();
        self.handle.shared.grounds.exchange(Some(body.regions()));
        self.body = body;
        self.image = image.clone();
        Ok(())
    }

    fn build(image: &Image, name: &str, mut ctx: Ctx, mut host: StdHost, phase: Phase) -> Result<Task, Error> {
        ctx.reattach(&mut host).map_err(|e| Error::System(e.to_string()))?;
        let canceller = host.canceller();
        let shared = Arc::new(Shared::default());
        let trigger = Trigger::default();
        let body = Body::new(image, ctx, host, &shared, &trigger, Limits::default())?;
        let handle = Handle { trigger, canceller, shared, unmovable: image.unmovable().into() };
        Ok(Task::embody(image, name, body, handle, phase))
    }

    /// A task around a body, of which others can see the memories from now on.
    pub(crate) fn embody(image: &Image, name: &str, mut body: Body, handle: Handle, phase: Phase) -> Task {
        if let Some(machine) = body.machine() {
            machine.answer_to(&handle.trigger);
        }
        handle.shared.grounds.exchange(Some(body.regions()));
        let (image, name, extra) = (image.clone(), name.into(), BTreeMap::new());
        Task { body, image, name, phase, sequence: 0, epoch: 0, handle, extra }
    }

    /// Takes over what a snapshot says of the task itself.
    pub(crate) fn continue_from(&mut self, snapshot: &Snapshot<'_>) {
        self.sequence = snapshot.meta.sequence + 1;
        self.epoch = snapshot.meta.epoch;
        self.extra = snapshot.options.extra.clone();
        let shared = &self.handle.shared;
        shared.ran.store(snapshot.options.ran, Ordering::Relaxed);
        shared.work.store(snapshot.meta.progress, Ordering::Relaxed);
        let inside = self.body.inside();
        inside.ctx.resumed(&mut inside.host);
    }

    /// Stops the task from other threads.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The task's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Counts the task's moves: each claims the next epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Claims an epoch, or goes back to the former one when the move was called off.
    pub fn set_epoch(&mut self, epoch: u64) {
        self.epoch = epoch;
    }

    /// The work done, in units that are the same on every machine: see [`crate::Machine::work`]. Nothing for a task that
    /// cannot be captured.
    pub fn work(&mut self) -> u64 {
        self.body.machine().map_or(0, Machine::work)
    }

    /// Limits the task's memory and tables, in place of any limits before.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when it has more already; the former limits stay.
    pub fn limit(&mut self, limits: Limits) -> Result<(), Error> {
        self.body.inside().meter.limit(limits)
    }

    /// Notes that travel with the task, for whoever runs it (not seen by the program).
    pub fn extra(&mut self) -> &mut BTreeMap<String, String> {
        &mut self.extra
    }

    /// Runs until the program ends or is captured. Call it on a thread with [`THREAD_STACK`].
    pub fn run(&mut self) -> Outcome {
        let shared = self.handle.shared.clone();
        let began = Instant::now();
        let running_since = |since| *shared.running_since.lock().unwrap_or_else(|e| e.into_inner()) = since;
        running_since(Some(began));
        // What it comes to without its pages is not its own doing.
        let ran = (!shared.is_lost()).then(|| self.run_inner());
        let outcome = ran.filter(|_| !shared.is_lost()).unwrap_or(Outcome::Trapped(Error::Lost));
        self.body.settle();
        running_since(None);
        shared.ran.fetch_add(began.elapsed().as_nanos() as u64, Ordering::Relaxed);
        shared.work.store(self.work(), Ordering::Relaxed);
        let mut state = shared.stopped.lock().unwrap_or_else(|e| e.into_inner());
        match outcome {
            Outcome::Captured => {
                shared.requested.store(false, Ordering::SeqCst);
                self.handle.canceller.reset();
                state.0 += 1;
            }
            Outcome::Exited(_) | Outcome::Trapped(_) => state.1 = true,
        }
        shared.changed.notify_all();
        drop(state);
        outcome
    }

    fn run_inner(&mut self) -> Outcome {
        loop {
            let run = match &mut self.body {
                Body::Movable(machine) => {
                    let entry = if self.phase == Phase::Start { abi::START } else { ENTRY };
                    if !machine.has_frames() {
                        machine.call(entry, &[], &mut [])
                    } else if self.image.form() == Form::Resume {
                        machine.rewind(&mut [])
                    } else {
                        Err(Error::StartsOnly)
                    }
                }
                Body::Fixed(store, instance) => match instance.get_func(&mut *store, ENTRY) {
                    Some(f) => f.call(store, &[], &mut []).map(|()| Run::Returned).map_err(Error::from),
                    None => Err(Error::NoEntry(ENTRY.into())),
                },
            };
            return match run {
                Ok(Run::Returned) if self.phase == Phase::Start && self.body.machine().is_some() => {
                    self.phase = Phase::Entry;
                    continue;
                }
                run => Outcome::of(run),
            };
        }
    }

    /// The captured state, memory borrowed. Stops the task's clock until it runs on.
    ///
    /// # Errors
    /// [`Error::Unmovable`] when the task cannot be captured, [`Error::Misfit`] on a reference that is
    /// not the module's own; [`Error::Incomplete`] while it has not all of its pages (it may be run on meanwhile),
    /// [`Error::Lost`] when it never will.
    pub fn snapshot(&mut self) -> Result<Snapshot<'_>, Error> {
        let state = self.state()?;
        Ok(Snapshot { memories: self.pages(), ..state })
    }

    /// [`Task::snapshot`] without pages: what is left to send once they have gone ahead. The memories have their
    /// sizes.
    ///
    /// # Errors
    /// As [`Task::snapshot`].
    pub fn state(&mut self) -> Result<Snapshot<'static>, Error> {
        let Body::Movable(machine) = &mut self.body else {
            return Err(Error::Unmovable(self.image.unmovable().to_vec()));
        };
        self.handle.shared.has_all()?;
        let state = machine.state()?;
        let inside = machine.store().data_mut();
        inside.ctx.pausing(&mut inside.host);
        if let Some(obstacle) = inside.ctx.obstacles().first() {
            let reason = obstacle.to_string();
            inside.ctx.resumed(&mut inside.host);
            return Err(Error::Unmovable(vec![reason]));
        }
        let wasi = inside.ctx.encode();
        self.sequence += 1;
        let label = Label {
            name: &self.name,
            extra: &self.extra,
            entry: if self.phase == Phase::Start { abi::START } else { ENTRY },
            sequence: self.sequence,
            epoch: self.epoch,
            ran: self.handle.shared.ran.load(Ordering::Relaxed),
        };
        Ok(portray(machine, &self.image, state, wasi, &label))
    }

    /// Where its memories are, and how large.
    pub(crate) fn places(&mut self) -> Vec<Place> {
        let Some(machine) = self.body.machine() else { return Vec::new() };
        let place = |index, memory: wasmtime::Memory, machine: &mut Machine<_>| Place {
            index,
            base: memory.data_ptr(machine.store()).expose_provenance(),
            size: memory.data_size(machine.store()),
            initial: machine.initial_size(index),
        };
        machine.linear_memories().into_iter().map(|(index, memory)| place(index, memory, machine)).collect()
    }

    pub(crate) fn pages(&mut self) -> Vec<MemoryState<'_>> {
        // A task that cannot be captured has no state either.
        self.body.machine().map_or_else(Vec::new, |machine| machine.memories())
    }

    pub(crate) fn grounds(&self) -> &Arc<Grounds> {
        &self.handle.shared.grounds
    }

    /// Lets a captured task's clock go on, before it is run on in place.
    pub fn unpause(&mut self) {
        let inside = self.body.inside();
        inside.ctx.resumed(&mut inside.host);
    }

    /// Lets the program have at most so many descriptors open. No part of its state: set it again after a move.
    pub fn limit_descriptors(&mut self, most: usize) {
        self.body.inside().ctx.limit_descriptors(most);
    }

    /// The WASI state, for looking at.
    pub fn wasi(&mut self) -> &Ctx {
        &self.body.inside().ctx
    }
}

impl Drop for Task {
    /// Whoever waits for a capture need not wait any longer, and whoever looks at the memories has to stop first.
    fn drop(&mut self) {
        let shared = &self.handle.shared;
        shared.grounds.exchange(None);
        shared.stopped.lock().unwrap_or_else(|e| e.into_inner()).1 = true;
        shared.changed.notify_all();
    }
}
