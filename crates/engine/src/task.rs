//! A task: a machine with WASI around it, and a handle by which other threads stop it.

use crate::{Error, Form, Image, Machine, Run, State, Trigger};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use wasmtime::{Caller, Extern, ExternType, Func, Global, Instance, Memory, Store, Val};
use wayfare_instrument::abi;
use wayfare_snapshot::{Meta, Packed, Snapshot, TaskOptions};
use wayfare_wasi::std_host::{Canceller, StdHost};
use wayfare_wasi::{Control, Ctx, Function, Host, MODULE, ValType, Woken};

/// Where a program begins.
pub const ENTRY: &str = "_start";
/// Stack that a thread needs to run a task on: the guest's own and some for the host functions.
pub const THREAD_STACK: usize = crate::config::STACK + (8 << 20);

/// How a run ended.
#[derive(Debug)]
pub enum Outcome {
    /// The program ended with this status.
    Exited(u32),
    /// The program stands still at a migration point: [`Task::snapshot`] it, [`Task::run`] on, or both.
    Captured,
    /// The program trapped.
    Trapped(Error),
}

/// What a task has to do besides running: its WASI state and the host under it.
struct Inside {
    ctx: Ctx,
    host: StdHost,
    memory: Option<Memory>,
    unwinding: Option<Global>,
    trigger: Trigger,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    requested: AtomicBool,
    /// Number of captures so far, and whether the task has ended.
    stopped: Mutex<(u64, bool)>,
    changed: Condvar,
    /// Nanoseconds that the guest has run for.
    ran: AtomicU64,
}

/// Stops a task from other threads. Cheap to clone; outlives the task safely.
#[derive(Clone)]
pub struct Handle {
    trigger: Trigger,
    canceller: Canceller,
    shared: Arc<Shared>,
    unmovable: Arc<[String]>,
}

/// What came of asking a task to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// It stands at a migration point.
    Captured,
    /// It ended first.
    Ended,
}

/// The program's own end.
#[derive(Debug, thiserror::Error)]
#[error("exit with status {0}")]
struct Exit(u32);

impl Handle {
    /// Asks the task to stop at its next migration point and waits until it has.
    ///
    /// # Errors
    /// [`Error::Unmovable`] with the reasons when it cannot be captured; it goes on running.
    pub fn capture(&self) -> Result<Stopped, Error> {
        if !self.unmovable.is_empty() {
            return Err(Error::Unmovable(self.unmovable.to_vec()));
        }
        let mut state = self.shared.stopped.lock().unwrap_or_else(|e| e.into_inner());
        let before = state.0;
        loop {
            if state.1 {
                return Ok(Stopped::Ended);
            }
            if state.0 != before {
                return Ok(Stopped::Captured);
            }
            self.shared.requested.store(true, Ordering::SeqCst);
            self.trigger.fire();
            self.canceller.cancel();
            // A resume that was just ending may have cleared the request: repeat it.
            state = self
                .shared
                .changed
                .wait_timeout(state, Duration::from_micros(500))
                .unwrap_or_else(|e| e.into_inner())
                .0;
        }
    }

    /// How long the guest has run, pauses not counted.
    pub fn ran(&self) -> Duration {
        Duration::from_nanos(self.shared.ran.load(Ordering::Relaxed))
    }
}

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

/// What runs.
#[expect(clippy::large_enum_variant, reason = "there is one in a task, and the large one is the usual one")]
enum Body {
    Movable(Machine<Inside>),
    /// A task that cannot be moved has no machine around its instance.
    Fixed(Store<Inside>, Instance),
}

impl Body {
    fn inside(&mut self) -> &mut Inside {
        match self {
            Body::Movable(machine) => machine.store().data_mut(),
            Body::Fixed(store, _) => store.data_mut(),
        }
    }

    fn machine(&mut self) -> Option<&mut Machine<Inside>> {
        match self {
            Body::Movable(machine) => Some(machine),
            Body::Fixed(..) => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
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
    pub fn resume(image: &Image, packed: &Packed<'_>, host: StdHost) -> Result<Task, Error> {
        let snapshot = &packed.snapshot;
        if snapshot.meta.module != image.digest() {
            let (snapshot, module) = (snapshot.meta.module.to_string(), image.digest().to_string());
            return Err(Error::OtherModule { snapshot, module });
        }
        if snapshot.meta.base.is_some() {
            return Err(Error::DeltaOnly);
        }
        if snapshot.options.canonical_nan != image.options().canonical_nan {
            return Err(Error::OptionMismatch("another setting of --canonical-nan"));
        }
        let ctx = Ctx::decode(&snapshot.wasi).map_err(|e| Error::Misfit(e.to_string()))?;
        if image.form() == Form::Start {
            return Err(Error::StartsOnly);
        }
        let phase = if snapshot.options.entry == abi::START { Phase::Start } else { Phase::Entry };
        let mut task = Task::build(image, &snapshot.options.name, ctx, host, phase)?;
        task.sequence = snapshot.meta.sequence + 1;
        task.epoch = snapshot.meta.epoch;
        task.extra = snapshot.options.extra.clone();
        task.handle.shared.ran.store(snapshot.meta.progress, Ordering::Relaxed);
        let unmovable = || Error::Unmovable(image.unmovable().to_vec());
        let machine = task.body.machine().ok_or_else(unmovable)?;
        machine.restore_memories(packed)?;
        machine.restore(&State {
            frames: snapshot.frames.to_vec(),
            globals: snapshot.globals.clone(),
            tables: snapshot.tables.clone(),
            dropped_data: snapshot.dropped_data.clone(),
            dropped_elem: snapshot.dropped_elem.clone(),
            refs: snapshot.refs.clone(),
        })?;
        let inside = task.body.inside();
        inside.ctx.resumed(&mut inside.host);
        Ok(task)
    }

    /// Whether a captured task can go on here: an image of [`Form::Start`] has no code for that.
    pub fn can_go_on(&self) -> bool {
        self.image.form() == Form::Resume
    }

    /// Goes over to an image of the same module that can resume, with the captured state; handles stay valid.
    ///
    /// # Errors
    /// [`Error::StartsOnly`] and [`Error::OtherModule`] when the image is not such a one; else as
    /// [`Task::resume`]. The task is then as it was.
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
        let state = old.state()?;
        let host = StdHost::new().map_err(|e| Error::System(e.to_string()))?;
        let shared = self.handle.shared.clone();
        let trigger = self.handle.trigger.clone();
        // Its world is exchanged for the real one once nothing can fail any more.
        let inside = Inside { ctx: Ctx::builder().build(), host, memory: None, unwinding: None, trigger, shared };
        let mut body = embody(image, inside)?;
        let Body::Movable(new) = &mut body else {
            return Err(Error::Unmovable(image.unmovable().to_vec()));
        };
        new.restore_memories(&old.memories()[..])?;
        new.restore(&state)?;
        let (from, to) = (old.store().data_mut(), new.store().data_mut());
        std::mem::swap(&mut from.ctx, &mut to.ctx);
        std::mem::swap(&mut from.host, &mut to.host);
        new.answer_to(&self.handle.trigger);
        self.body = body;
        self.image = image.clone();
        Ok(())
    }

    fn build(image: &Image, name: &str, mut ctx: Ctx, mut host: StdHost, phase: Phase) -> Result<Task, Error> {
        ctx.reattach(&mut host).map_err(|e| Error::System(e.to_string()))?;
        let canceller = host.canceller();
        let shared = Arc::new(Shared::default());
        let trigger = Trigger::default();
        let inside =
            Inside { ctx, host, memory: None, unwinding: None, trigger: trigger.clone(), shared: shared.clone() };
        let mut body = embody(image, inside)?;
        if let Some(machine) = body.machine() {
            machine.answer_to(&trigger);
        }
        let handle = Handle { trigger, canceller, shared, unmovable: image.unmovable().into() };
        Ok(Task {
            body,
            image: image.clone(),
            name: name.into(),
            phase,
            sequence: 0,
            epoch: 0,
            handle,
            extra: BTreeMap::new(),
        })
    }

    /// Stops the task from other threads.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The task's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Notes that travel with the task, for whoever runs it (not seen by the program).
    pub fn extra(&mut self) -> &mut BTreeMap<String, String> {
        &mut self.extra
    }

    /// Runs until the program ends or is captured. Call it on a thread with [`THREAD_STACK`].
    pub fn run(&mut self) -> Outcome {
        let shared = self.handle.shared.clone();
        let began = Instant::now();
        let outcome = self.run_inner();
        shared.ran.fetch_add(began.elapsed().as_nanos() as u64, Ordering::Relaxed);
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
                Ok(Run::Returned) => Outcome::Exited(0),
                Ok(Run::Captured) => Outcome::Captured,
                Err(Error::Wasm(e)) => match e.downcast::<Exit>() {
                    Ok(Exit(code)) => Outcome::Exited(code),
                    Err(e) => Outcome::Trapped(Error::Wasm(e)),
                },
                Err(e) => Outcome::Trapped(e),
            };
        }
    }

    /// The captured state, memory borrowed. Stops the task's clock until it runs on.
    ///
    /// # Errors
    /// [`Error::Unmovable`] when the task cannot be captured, [`Error::Misfit`] on a reference that is
    /// not the module's own.
    pub fn snapshot(&mut self) -> Result<Snapshot<'_>, Error> {
        let Body::Movable(machine) = &mut self.body else {
            return Err(Error::Unmovable(self.image.unmovable().to_vec()));
        };
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
        Ok(Snapshot {
            meta: Meta {
                module: self.image.digest(),
                base: None,
                sequence: self.sequence,
                epoch: self.epoch,
                progress: self.handle.shared.ran.load(Ordering::Relaxed),
                id: None,
            },
            options: TaskOptions {
                canonical_nan: self.image.options().canonical_nan,
                deterministic_relaxed_simd: true,
                entry: if self.phase == Phase::Start { abi::START } else { ENTRY }.into(),
                name: self.name.clone(),
                extra: self.extra.clone(),
            },
            frames: Cow::Owned(state.frames),
            globals: state.globals,
            tables: state.tables,
            memories: machine.memories(),
            dropped_data: state.dropped_data,
            dropped_elem: state.dropped_elem,
            refs: state.refs,
            wasi: Cow::Owned(wasi),
        })
    }

    /// Lets a captured task's clock go on, before it is run on in place.
    pub fn unpause(&mut self) {
        let inside = self.body.inside();
        inside.ctx.resumed(&mut inside.host);
    }

    /// The WASI state, for looking at.
    pub fn wasi(&mut self) -> &Ctx {
        &self.body.inside().ctx
    }
}

impl Drop for Task {
    /// Whoever waits for a capture need not wait any longer.
    fn drop(&mut self) {
        let shared = &self.handle.shared;
        shared.stopped.lock().unwrap_or_else(|e| e.into_inner()).1 = true;
        shared.changed.notify_all();
    }
}

/// An instance with its world in a store.
fn embody(image: &Image, inside: Inside) -> Result<Body, Error> {
    let mut store = Store::new(image.engine(), inside);
    let imports = link(&mut store, image)?;
    let instance = Instance::new(&mut store, image.module(), &imports)?;
    if instance.get_func(&mut store, ENTRY).is_none() {
        return Err(Error::NoEntry(ENTRY.into()));
    }
    store.data_mut().memory = instance.get_memory(&mut store, "memory");
    store.data_mut().unwinding = instance.get_global(&mut store, abi::UNWINDING);
    if !image.unmovable().is_empty() {
        return Ok(Body::Fixed(store, instance));
    }
    Ok(Body::Movable(Machine::new(store, instance, image.metadata().clone())?))
}

/// A host function for each import, or the list of those there are none for.
fn link(store: &mut Store<Inside>, image: &Image) -> Result<Vec<Extern>, Error> {
    let (mut imports, mut unknown) = (Vec::new(), Vec::new());
    for import in image.module().imports() {
        let function = (import.module() == MODULE).then(|| Function::from_name(import.name())).flatten();
        match (function, import.ty()) {
            (Some(function), ExternType::Func(ty)) if fits(function, &ty) => {
                let call = move |mut caller: Caller<'_, Inside>, args: &[Val], results: &mut [Val]| {
                    host_call(&mut caller, function, args, results)
                };
                imports.push(Func::new(&mut *store, ty, call).into());
            }
            _ => unknown.push(format!("{}.{}", import.module(), import.name())),
        }
    }
    if unknown.is_empty() { Ok(imports) } else { Err(Error::UnknownImports(unknown)) }
}

fn fits(function: Function, ty: &wasmtime::FuncType) -> bool {
    let params = function.params().iter().map(|p| match p {
        ValType::I32 => wasmtime::ValType::I32,
        ValType::I64 => wasmtime::ValType::I64,
    });
    let results = usize::from(function.returns_errno());
    ty.params().len() == function.params().len()
        && ty.params().zip(params).all(|(a, b)| wasmtime::ValType::eq(&a, &b))
        && ty.results().len() == results
        && ty.results().all(|r| r.is_i32())
}

fn host_call(
    caller: &mut Caller<'_, Inside>,
    function: Function,
    args: &[Val],
    results: &mut [Val],
) -> wasmtime::Result<()> {
    let mut raw = [0u64; 16];
    for (to, arg) in raw.iter_mut().zip(args) {
        *to = match arg {
            Val::I32(v) => u64::from(*v as u32),
            Val::I64(v) => *v as u64,
            _ => 0,
        };
    }
    let raw = &raw[..args.len()];
    loop {
        let memory = caller.data().memory;
        let (data, inside) = match memory {
            Some(memory) => memory.data_and_store_mut(&mut *caller),
            None => (&mut [][..], caller.data_mut()),
        };
        let wait = match inside.ctx.call(&mut inside.host, function, raw, data) {
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
