//! Where a coming task's pages land: in the memory of the instance that is to run, and later in that of the task that
//! runs without some of them.

use crate::agent::{Agent, limits, wanted};
use crate::capacity::Need;
use crate::kept::Pages;
use crate::spec::Spec;
use anyhow::{Result, bail};
use std::collections::BTreeMap;
use std::sync::Arc;
use wayfare_engine::{Arrival, Image, Late};
use wayfare_snapshot::PAGE_SIZE;
use wayfare_store::program;
use wayfare_transfer::destination::Landing;
use wayfare_transfer::message::{Offer, Reason, Refusal, TaskId};
use wayfare_transfer::pages::{PageDigest, PageRange};

/// Where pages land.
pub(crate) struct Ground {
    pub(crate) arrival: Arrival,
    agent: Arc<Agent>,
    id: TaskId,
    need: Need,
    sizes: BTreeMap<u32, u64>,
    /// From before.
    kept: Pages,
    /// Pages that were written, for keeping if the move is cut off.
    written: Vec<PageRange>,
}

/// The unit in which memories grow.
const WASM_PAGE: u64 = 65536;

impl Ground {
    /// Makes room up to a page, if the node has it.
    fn reach(&mut self, range: PageRange) -> Result<(), Refusal> {
        let end = range.first.saturating_add(range.count).saturating_mul(PAGE_SIZE as u64);
        let unfit = || Refusal::new(Reason::State, format!("the task has no memory {}", range.memory));
        let size = *self.sizes.get(&range.memory).ok_or_else(unfit)?;
        if end <= size.next_multiple_of(PAGE_SIZE as u64) {
            return Ok(());
        }
        let grown = end.checked_next_multiple_of(WASM_PAGE).unwrap_or(u64::MAX);
        self.need.memory = self.need.memory.saturating_add(grown - size);
        self.agent.capacity.promise(self.id, self.need)?;
        self.arrival.grow(range.memory, grown).map_err(|e| Refusal::new(Reason::Memory, e.to_string()))?;
        self.sizes.insert(range.memory, grown);
        Ok(())
    }

    /// The pages that have come, by their digests.
    pub(crate) fn keep(mut self) -> Pages {
        let mut pages = std::mem::take(&mut self.kept);
        let mut page = vec![0; PAGE_SIZE];
        for range in std::mem::take(&mut self.written) {
            for number in range.first..range.first + range.count {
                if !pages.has_room() {
                    return pages;
                }
                if self.arrival.read(range.memory, number, &mut page).is_ok() {
                    pages.put(&page);
                }
            }
        }
        pages
    }
}

/// A range as the engine has it.
pub(crate) fn engine(range: &PageRange) -> wayfare_engine::PageRange {
    wayfare_engine::PageRange { memory: range.memory, first: range.first, count: range.count }
}

fn unfit(e: &wayfare_engine::Error) -> Refusal {
    Refusal::new(Reason::State, e.to_string())
}

impl Landing for Ground {
    fn write(&mut self, range: PageRange, bytes: &[u8]) -> Result<(), Refusal> {
        self.reach(range)?;
        self.written.push(range);
        self.arrival.write(range.memory, range.first, bytes).map_err(|e| unfit(&e))
    }

    fn zero(&mut self, range: PageRange) -> Result<(), Refusal> {
        self.reach(range)?;
        self.arrival.zero(range.memory, range.first, range.count).map_err(|e| unfit(&e))
    }

    fn forget(&mut self, pages: &[PageRange]) {
        // What does not go now goes when the task stands still.
        let _ = self.arrival.forget(&pages.iter().map(engine).collect::<Vec<_>>());
    }

    fn recall(&mut self, memory: u32, page: u64, digest: &PageDigest) -> bool {
        let range = PageRange { memory, first: page, count: 1 };
        let Some(bytes) = self.kept.page(digest).map(<[u8]>::to_vec) else { return false };
        self.write(range, &bytes).is_ok()
    }
}

/// The memory of a task that runs already.
pub(crate) struct LateGround(pub(crate) Late);

impl Landing for LateGround {
    fn write(&mut self, range: PageRange, bytes: &[u8]) -> Result<(), Refusal> {
        self.0.write(range.memory, range.first, bytes).map_err(|e| unfit(&e))
    }

    fn zero(&mut self, range: PageRange) -> Result<(), Refusal> {
        self.0.zero(range.memory, range.first, range.count).map_err(|e| unfit(&e))
    }

    fn forget(&mut self, _: &[PageRange]) {}

    fn recall(&mut self, _: u32, _: u64, _: &PageDigest) -> bool {
        false
    }
}

/// An instance for the task, its memories as large as they are at the source.
///
/// # Errors
/// When the module cannot be loaded, or there is no room.
pub(crate) fn land(
    agent: Arc<Agent>,
    offer: &Offer,
    spec: &Spec,
    module: Option<Vec<u8>>,
) -> Result<Box<Ground>, Refusal> {
    let refused = |reason| move |e: anyhow::Error| Refusal::new(reason, format!("{e:#}"));
    let image = image(&agent, offer, spec, module).map_err(refused(Reason::Module))?;
    let mut arrival = Arrival::new(&image, limits(spec, &agent.settings)).map_err(|e| unfit(&e))?;
    let mut sizes = BTreeMap::new();
    for (memory, size) in (0..).zip(&offer.memories) {
        let grown = arrival.grow(memory, *size);
        grown.map_err(|e| Refusal::new(Reason::Memory, e.to_string()))?;
        sizes.insert(memory, *size);
    }
    let need = Need { memory: offer.memory(), cpus: spec.limits.cpus };
    let kept = agent.kept.take(offer.task);
    Ok(Box::new(Ground { arrival, id: offer.task, need, sizes, kept, written: Vec::new(), agent }))
}

fn image(agent: &Agent, offer: &Offer, spec: &Spec, module: Option<Vec<u8>>) -> Result<Image> {
    let Some(module) = module else { return agent.image(spec) };
    let digest = wayfare_snapshot::Digest::of(&module);
    if digest != offer.digest() {
        bail!("the module that was sent is another one");
    }
    program::from_module(&module, digest, &wanted(spec.canonical_nan)?)
}
