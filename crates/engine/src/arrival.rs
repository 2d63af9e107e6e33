//! The far end of a live move: an instance whose pages come in while the task still runs elsewhere, and whose state
//! comes last.
//!
//! Bytes from a peer go straight into memory here, so everything is checked: whatever the peer says, the worst that
//! comes of it is an error, and a task that never runs.

use crate::body::{Body, Inside};
use crate::calls::admit;
use crate::grounds::bytes_of;
use crate::handle::Shared;
use crate::late::{Catch, Late, empty};
use crate::machine::{past, within};
use crate::task::Phase;
use crate::{Error, Form, Handle, Image, Limits, Machine, PageRange, State, Task, Trigger, changed};
use std::sync::Arc;
use wayfare_instrument::abi;
use wayfare_snapshot::{PAGE_SIZE, Snapshot};
use wayfare_wasi::Ctx;
use wayfare_wasi::std_host::StdHost;

/// A task that is coming in. Nothing of it runs before [`Arrival::finish`].
pub struct Arrival {
    body: Body,
    image: Image,
    shared: Arc<Shared>,
    trigger: Trigger,
}

impl Arrival {
    /// An instance with the module's own initial memory, which the pages to come are told apart from.
    ///
    /// # Errors
    /// [`Error::StartsOnly`] or [`Error::Unmovable`] when nothing can be resumed by the image; [`Error::TooLarge`]
    /// when the limits do not even allow its beginning; [`Error::UnknownImports`].
    pub fn new(image: &Image, limits: Limits) -> Result<Arrival, Error> {
        if image.form() == Form::Start {
            return Err(Error::StartsOnly);
        }
        if !image.unmovable().is_empty() {
            return Err(Error::Unmovable(image.unmovable().to_vec()));
        }
        // Its world comes with its state.
        let host = StdHost::new().map_err(|e| Error::System(e.to_string()))?;
        let (shared, trigger) = (Arc::default(), Trigger::default());
        let body = Body::new(image, Ctx::builder().build(), host, &shared, &trigger, limits)?;
        Ok(Arrival { body, image: image.clone(), shared, trigger })
    }

    /// Makes a memory at least so large.
    ///
    /// # Errors
    /// [`Error::Misfit`] when there is no such memory, or it cannot be so large here.
    pub fn grow(&mut self, memory: u32, bytes: u64) -> Result<(), Error> {
        self.machine()?.grow(memory, bytes)
    }

    /// Writes whole pages from `first` on.
    ///
    /// # Errors
    /// [`Error::Misfit`] when there is no such memory, they are not whole (the memory's last may be short), or reach
    /// past its end; nothing is written then.
    pub fn write(&mut self, memory: u32, first: u64, bytes: &[u8]) -> Result<(), Error> {
        let to = self.machine()?.whole_pages(memory, first, bytes.len())?;
        changed::populate(to);
        to.copy_from_slice(bytes);
        Ok(())
    }

    /// Makes pages zero; those that nobody has written to take no memory by it.
    ///
    /// # Errors
    /// [`Error::Misfit`] when there is no such memory, or they reach past its end; nothing is written then.
    pub fn zero(&mut self, memory: u32, first: u64, count: u64) -> Result<(), Error> {
        let machine = self.machine()?;
        let grown = machine.initial_size(memory).saturating_sub((first as usize).saturating_mul(PAGE_SIZE));
        let len = usize::try_from(count).ok().and_then(|pages| pages.checked_mul(PAGE_SIZE));
        changed::clear(machine.whole_pages(memory, first, len.unwrap_or(usize::MAX))?, grown);
        Ok(())
    }

    /// Drops what was written to pages that come late: what [`Arrival::finish_late`] would have to do while the task stands
    /// still. What they are until then is the module's, or zero.
    ///
    /// # Errors
    /// [`Error::Misfit`] when there is no such memory; [`Error::System`] when the kernel refuses.
    pub fn forget(&mut self, pages: &[PageRange]) -> Result<(), Error> {
        let mut places = Vec::with_capacity(pages.len());
        for range in pages {
            let data = self.machine()?.data(range.memory)?;
            let bytes = bytes_of(range.first, range.count, data.len());
            let place = &mut data[bytes];
            // The last page may be short; the kernel's is not.
            places.push((place.as_mut_ptr().expose_provenance(), place.len().next_multiple_of(PAGE_SIZE)));
        }
        places.retain(|(_, len)| *len > 0);
        // SAFETY: whole pages of memories that we hold exclusively, without a reference left, and of which nothing has
        // run.
        unsafe { empty(&places) }.map_err(|e| Error::System(e.to_string()))
    }

    /// Copies bytes out, from the beginning of a page on.
    ///
    /// # Errors
    /// [`Error::Misfit`] when there is no such memory, or they reach past its end; `into` is as it was then.
    pub fn read(&mut self, memory: u32, first: u64, into: &mut [u8]) -> Result<(), Error> {
        let data = self.machine()?.data(memory)?;
        let range = within(first, into.len(), data.len()).ok_or_else(|| past(memory))?;
        into.copy_from_slice(&data[range]);
        Ok(())
    }

    /// Gives it the state that [`Task::state`] took at the other end, and the last pages if the snapshot has any; it
    /// goes on with [`Task::run`]. Short, since the task stands still meanwhile.
    ///
    /// # Errors
    /// As [`Task::resume`]. The arrival is lost.
    pub fn finish(mut self, snapshot: &Snapshot<'_>, mut host: StdHost) -> Result<Task, Error> {
        let mut ctx = admit(&self.image, snapshot)?;
        snapshot.check()?;
        self.machine()?.restore_memories(&snapshot.memories[..])?;
        ctx.reattach(&mut host).map_err(|e| Error::System(e.to_string()))?;
        self.complete(snapshot, ctx, host)
    }

    /// [`Arrival::finish`] of a task that some pages are still missing of: it waits for those that it touches, and
    /// [`Late`] brings them. What is written at these pages already, by an earlier round or by the module, is dropped.
    ///
    /// # Errors
    /// As [`Arrival::finish`]; [`Error::Misfit`] when the memories have no such pages, or the snapshot brings one of
    /// them; [`Error::System`] where the machine cannot do it ([`Arrival::can_be_late`]). The arrival is lost.
    pub fn finish_late(
        self,
        snapshot: &Snapshot<'_>,
        host: StdHost,
        late: &[PageRange],
    ) -> Result<(Task, Late), Error> {
        self.finish_without(snapshot, host, late, Catch::Best)
    }

    /// [`Arrival::finish_late`] as in a process that may not stop the kernel at a missing page.
    #[doc(hidden)]
    pub fn finish_late_unprivileged(
        self,
        snapshot: &Snapshot<'_>,
        host: StdHost,
        late: &[PageRange],
    ) -> Result<(Task, Late), Error> {
        self.finish_without(snapshot, host, late, Catch::User)
    }

    fn finish_without(
        self,
        snapshot: &Snapshot<'_>,
        host: StdHost,
        late: &[PageRange],
        catch: Catch,
    ) -> Result<(Task, Late), Error> {
        for (memory, run) in snapshot.memories.iter().flat_map(|m| m.runs.iter().map(|run| (m.index, run))) {
            let end = run.first_page.saturating_add(run.page_count());
            let meets = |late: &PageRange| {
                late.memory == memory && late.first < end && run.first_page < late.first.saturating_add(late.count)
            };
            if late.iter().any(meets) {
                return Err(Error::Misfit(format!("memory {memory} has pages that are here and late")));
            }
        }
        // Before this nothing of the task has run, and in it nothing but what drops data segments.
        let mut task = self.finish(snapshot, host)?;
        let late = Late::begin(&mut task, late, catch)?;
        Ok((task, late))
    }

    /// Whether [`Arrival::finish_late`] works here: to be asked before a move with late pages is agreed on.
    pub fn can_be_late() -> bool {
        Late::works()
    }

    /// Its memories are those of the snapshot.
    pub(crate) fn complete(mut self, snapshot: &Snapshot<'_>, ctx: Ctx, host: StdHost) -> Result<Task, Error> {
        self.machine()?.restore(&State::of(snapshot))?;
        self.body.settle();
        let canceller = host.canceller();
        let inside = self.body.inside();
        (inside.ctx, inside.host) = (ctx, host);
        let phase = if snapshot.options.entry == abi::START { Phase::Start } else { Phase::Entry };
        let handle =
            Handle { trigger: self.trigger, canceller, shared: self.shared, unmovable: self.image.unmovable().into() };
        let mut task = Task::embody(&self.image, &snapshot.options.name, self.body, handle, phase);
        task.continue_from(snapshot);
        Ok(task)
    }

    pub(crate) fn machine(&mut self) -> Result<&mut Machine<Inside>, Error> {
        self.body.machine().ok_or_else(|| Error::Unmovable(self.image.unmovable().to_vec()))
    }
}
