//! The memory of a task that runs, as it is copied to another node.

use crate::ground;
use std::collections::HashMap;
use wayfare_engine::Watch;
use wayfare_snapshot::PAGE_SIZE;
use wayfare_transfer::pages::PageRange;
use wayfare_transfer::source::Guest;
use wayfare_transfer::standby::Protected;

/// See the module.
pub(crate) struct Watched {
    watch: Watch,
    sizes: HashMap<u32, u64>,
}

impl Watched {
    pub(crate) fn new(watch: Watch) -> Self {
        let sizes = watch.sizes().into_iter().collect();
        Watched { watch, sizes }
    }
}

/// A range as the protocol has it.
fn transfer(range: &wayfare_engine::PageRange) -> PageRange {
    PageRange { memory: range.memory, first: range.first, count: range.count }
}

impl Guest for Watched {
    fn dirty(&mut self) -> Vec<PageRange> {
        let dirty = self.watch.dirty();
        self.sizes = self.watch.sizes().into_iter().collect();
        dirty.iter().map(transfer).collect()
    }

    fn written(&mut self, range: PageRange) -> Vec<PageRange> {
        let written = self.watch.written(ground::engine(&range)).unwrap_or_default();
        written.iter().map(transfer).collect()
    }

    /// Without clearing the marks, where that can be done: nobody looks at them any more.
    fn rest(&mut self) -> Vec<PageRange> {
        let whole = |(memory, size): (u32, u64)| PageRange { memory, first: 0, count: size.div_ceil(PAGE_SIZE as u64) };
        let sizes = self.watch.sizes();
        let rest = sizes.iter().map(|memory| self.watch.written(ground::engine(&whole(*memory))));
        let Some(rest) = rest.collect::<Option<Vec<_>>>() else { return self.dirty() };
        self.sizes = sizes.into_iter().collect();
        rest.iter().flatten().map(transfer).collect()
    }

    fn read(&mut self, range: PageRange, into: &mut Vec<u8>) -> bool {
        let size = self.sizes.get(&range.memory).copied().unwrap_or(0);
        let from = range.first * PAGE_SIZE as u64;
        let len = (range.count * PAGE_SIZE as u64).min(size.saturating_sub(from)) as usize;
        let at = into.len();
        into.resize(at + len, 0);
        len > 0 && self.watch.read(range.memory, range.first, &mut into[at..])
    }
}

impl Protected for Watched {
    fn sizes(&mut self) -> Vec<u64> {
        self.watch.sizes().into_iter().map(|(_, size)| size).collect()
    }
}
