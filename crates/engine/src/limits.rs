//! How much memory a task may have.
//!
//! wasmtime asks before anything grows, but does not say *what*: the guest's memory, or one of those that the
//! instrumented module keeps its own state in, which the guest cannot help growing and which must not fail in the middle
//! of a capture. The host says when it is itself who grows those ([`Machine::own_growth`]); when the module does, it is
//! during a capture, from a size and by a step that are known. A guest that grows its memory just so, in the moment
//! between the request and the capture, gets that one step past its limit, and [`Meter::settle`] then counts it.
//!
//! [`Machine::own_growth`]: crate::Machine::own_growth

use crate::{Error, Image, Trigger};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};
use wasmtime::{ExternType, Module};
use wayfare_instrument::abi;

/// What a task may have at most. Beyond it `memory.grow` and `table.grow` give -1, as the guest expects of a machine
/// that has no more; `None` leaves it to the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all linear memories together, and of the exceptions that the guest keeps.
    pub memory: Option<u64>,
    /// Elements of all tables together that the module can change.
    pub table_elements: Option<u64>,
}

/// Counts what a task has, and says whether it may have more.
pub(crate) struct Meter {
    limits: Limits,
    memory: u64,
    elements: u64,
    /// Bytes that were granted last: it may turn out that they cannot be had.
    granted: u64,
    /// Sizes of what the instrumented module grows by itself, in bytes and elements, and the step of the first.
    own_stack: u64,
    own_stack_step: u64,
    own_refs: u64,
    own_growth: Arc<AtomicBool>,
    trigger: Trigger,
}

/// Elements that the table of saved references grows by.
const REFS_STEP: u64 = 64;

impl Meter {
    /// For an instance of an image that is about to be made.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when the program cannot even start with so little.
    pub fn new(image: &Image, limits: Limits, own_growth: Arc<AtomicBool>, trigger: Trigger) -> Result<Meter, Error> {
        let (memory, elements) = initial(image.module());
        let step = (u64::from(image.metadata().headroom).div_ceil(65536) + 16) << 16;
        let mut meter = Meter {
            limits: Limits::default(),
            memory,
            elements,
            granted: 0,
            own_stack: 0,
            own_stack_step: step,
            own_refs: 0,
            own_growth,
            trigger,
        };
        meter.limit(limits)?;
        Ok(meter)
    }

    /// Sets other limits.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when the task has more already.
    pub fn limit(&mut self, limits: Limits) -> Result<(), Error> {
        for (what, has, limit) in
            [("bytes of memory", self.memory, limits.memory), ("table elements", self.elements, limits.table_elements)]
        {
            if let Some(limit) = limit.filter(|limit| *limit < has) {
                return Err(Error::TooLarge { what, has, limit });
            }
        }
        self.limits = limits;
        Ok(())
    }

    /// The limits in force.
    #[cfg(feature = "std")]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Takes the true sizes of what the module grows by itself, while it stands still.
    pub fn settle(&mut self, stack: u64, refs: u64) {
        // What was taken for the module's own growth, and was not, was the guest's.
        self.memory += self.own_stack.saturating_sub(stack);
        self.elements += self.own_refs.saturating_sub(refs);
        (self.own_stack, self.own_refs) = (stack, refs);
    }

    /// Whether the host grows what is the module's own.
    fn is_host(&self) -> bool {
        self.own_growth.load(Ordering::Relaxed)
    }
}

impl wasmtime::ResourceLimiter for Meter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        self.granted = 0;
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let (current, by) = (current as u64, desired.saturating_sub(current) as u64);
        if self.is_host() {
            return Ok(true);
        }
        if current == self.own_stack && by == self.own_stack_step && self.trigger.is_set() {
            self.own_stack += by;
            return Ok(true);
        }
        let memory = self.memory.saturating_add(by);
        if self.limits.memory.is_some_and(|limit| memory > limit) {
            return Ok(false);
        }
        (self.memory, self.granted) = (memory, by);
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.memory -= core::mem::take(&mut self.granted);
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let (current, by) = (current as u64, desired.saturating_sub(current) as u64);
        if self.is_host() {
            return Ok(true);
        }
        if current == self.own_refs && by == REFS_STEP && self.trigger.is_set() {
            self.own_refs += by;
            return Ok(true);
        }
        let elements = self.elements.saturating_add(by);
        if self.limits.table_elements.is_some_and(|limit| elements > limit) {
            return Ok(false);
        }
        self.elements = elements;
        Ok(true)
    }
}

/// Bytes of memory and elements of tables that a program starts with, the added ones apart.
fn initial(module: &Module) -> (u64, u64) {
    let (mut memory, mut elements) = (0u64, 0u64);
    // A module that was not instrumented exports its memory under its own name; others do so too, a second time.
    let plain = module.get_export(abi::POLL_MEMORY).is_none();
    for export in module.exports() {
        match export.ty() {
            ExternType::Memory(ty) if plain || export.name().starts_with(abi::MEMORY_PREFIX) => {
                memory = memory.saturating_add(ty.minimum().saturating_mul(ty.page_size()));
            }
            ExternType::Table(ty) if plain || export.name().starts_with(abi::TABLE_PREFIX) => {
                elements = elements.saturating_add(ty.minimum());
            }
            _ => {}
        }
    }
    (memory, elements)
}
