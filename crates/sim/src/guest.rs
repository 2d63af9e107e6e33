//! A task whose state after any number of steps is a function of its program, so that whoever moved it can be told by
//! running another one, unmoved, as far.
//!
//! Each step reads a page and mixes it into a register, and writes the register to a page: a page that is wrong, old
//! or missing spoils everything after it. Some steps write a page full of zeros, some let the memory grow.

use crate::clock::{Nanos, mix};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use wayfare_snapshot::PAGE_SIZE;
use wayfare_transfer::destination::Landing;
use wayfare_transfer::pages::{self, PageDigest};
use wayfare_transfer::source::Guest;
use wayfare_transfer::{PageRange, Reason, Refusal};

/// What a task does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Decides where it reads and writes, and what.
    pub seed: u64,
    /// Pages of its first memory.
    pub pages: u64,
    /// Pages that it has filled before its first step.
    pub filled: u64,
    /// Pages that its steps write to; 0: none.
    pub hot: u64,
    /// Time of a step.
    pub step: Nanos,
    /// After so many steps, each time, the memory grows by a page, up to twice of what it was.
    pub grow: Option<u64>,
    /// Some steps write a page full of zeros: such pages pack well from then on.
    pub wipe: bool,
    /// It ends after so many steps.
    pub end: Option<u64>,
    /// Bytes of its state besides memory.
    pub state: u32,
    /// Bytes of its module.
    pub module: u32,
}

impl Program {
    /// A small task that writes to half of its memory.
    pub fn small(seed: u64) -> Self {
        Self {
            seed,
            pages: 48,
            filled: 40,
            hot: 24,
            step: 500_000,
            grow: Some(700),
            wipe: true,
            end: None,
            state: 900,
            module: 3000,
        }
    }

    /// The module's bytes: the program, and filling.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = postcard::to_allocvec(self).unwrap_or_default();
        let len = out.len().max(self.module as usize);
        out.resize(len, 0xa5);
        out
    }

    /// What it has written to its log, which goes along when it moves.
    pub fn log(&self) -> Vec<u8> {
        vec![b'.'; self.state as usize / 3 % 500]
    }

    /// Reads a module.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (program, rest) = postcard::take_from_bytes::<Self>(bytes).ok()?;
        (rest.iter().all(|byte| *byte == 0xa5) && program.pages <= 1 << 20).then_some(program)
    }

    /// Most pages that its memories may have.
    fn most(&self, memory: u32) -> u64 {
        if memory == 0 { self.pages * 2 } else { SECOND_PAGES }
    }

    /// The state after so many steps, of a task that nobody moved.
    pub fn unmoved(&self, steps: u64) -> SimGuest {
        let mut guest = SimGuest::start(self);
        while guest.steps() < steps && guest.step().is_ok() {}
        guest
    }
}

/// Pages of the second memory, of which most tasks have none.
const SECOND_PAGES: u64 = 2;

#[derive(Clone, Default)]
struct Memory {
    bytes: Vec<u8>,
    /// Written since the program's image.
    touched: Vec<bool>,
    /// Written since the last look.
    dirty: Vec<bool>,
}

impl Memory {
    fn pages(&self) -> u64 {
        self.touched.len() as u64
    }

    fn grow(&mut self, pages: u64) {
        self.bytes.resize(pages as usize * PAGE_SIZE, 0);
        self.touched.resize(pages as usize, false);
        self.dirty.resize(pages as usize, false);
    }

    fn page(&mut self, page: u64) -> &mut [u8] {
        self.touched[page as usize] = true;
        self.dirty[page as usize] = true;
        &mut self.bytes[page as usize * PAGE_SIZE..][..PAGE_SIZE]
    }
}

#[derive(Serialize, Deserialize)]
struct Registers {
    steps: u64,
    value: u64,
    sizes: [u64; 2],
    filling: Vec<u8>,
}

/// A task, or the instance that is to become one.
#[derive(Clone)]
pub struct SimGuest {
    program: Rc<Program>,
    memories: [Memory; 2],
    steps: u64,
    value: u64,
    missing: BTreeSet<(u32, u64)>,
    /// Pages known from before.
    kept: Rc<BTreeMap<PageDigest, Vec<u8>>>,
    /// Bytes of pages that came over the wire, and that need not.
    came: u64,
}

impl SimGuest {
    /// An instance as its module makes it; nothing has run.
    pub fn image(program: &Program) -> Self {
        let mut memories = [Memory::default(), Memory::default()];
        memories[0].grow(program.pages);
        memories[1].grow(SECOND_PAGES);
        // Some pages come with the module: what is not sent must be these, and zeros must be sent over them.
        for page in (0..program.pages).step_by(3) {
            let from = page as usize * PAGE_SIZE;
            memories[0].bytes[from..from + PAGE_SIZE].fill(mix(program.seed ^ page) as u8 | 1);
        }
        Self {
            program: Rc::new(program.clone()),
            memories,
            steps: 0,
            value: program.seed,
            missing: BTreeSet::new(),
            kept: Rc::default(),
            came: 0,
        }
    }

    /// A task at its beginning.
    pub fn start(program: &Program) -> Self {
        let mut guest = Self::image(program);
        for page in 0..program.filled.min(program.pages) {
            let to = guest.memories[0].page(page);
            let mut value = mix(program.seed.wrapping_add(page));
            for word in to.as_chunks_mut::<8>().0 {
                value = value.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                *word = mix(value).to_le_bytes();
            }
        }
        guest
    }

    /// Its program.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Steps that it has made.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Whether it has come to its end.
    pub fn has_ended(&self) -> bool {
        self.program.end.is_some_and(|end| self.steps >= end)
    }

    /// A digest of everything that a program could notice.
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.steps.to_le_bytes()).update(&self.value.to_le_bytes());
        for memory in &self.memories {
            hasher.update(&memory.pages().to_le_bytes()).update(&memory.bytes);
        }
        *hasher.finalize().as_bytes()
    }

    /// One step.
    ///
    /// # Errors
    /// The page that it needs and that is not there; nothing has happened then.
    pub fn step(&mut self) -> Result<(), PageRange> {
        let program = Rc::clone(&self.program);
        let k = self.steps;
        let grows = program.grow.is_some_and(|every| k % every == every - 1);
        let size = self.memories[0].pages();
        if program.hot > 0 {
            let draw = mix(program.seed ^ k.wrapping_mul(0x9e37_79b9));
            let (memory, hot) = if draw.is_multiple_of(16) { (1, SECOND_PAGES) } else { (0, program.hot.min(size)) };
            let (from, to) = ((draw >> 8) % size, (draw >> 32) % hot);
            let missing = [(0, from), (memory, to)].into_iter().find(|page| self.missing.contains(page));
            if let Some((memory, first)) = missing {
                return Err(PageRange { memory, first, count: 1 });
            }
            let at = (draw >> 20) as usize % (PAGE_SIZE / 8) * 8;
            let read = &self.memories[0].bytes[from as usize * PAGE_SIZE + at..][..8];
            let read = read.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
            self.value = mix(self.value ^ read ^ k);
            let page = self.memories[memory as usize].page(to);
            match draw % 61 {
                0 if program.wipe => page.fill(0),
                _ => page[at..at + 8].copy_from_slice(&self.value.to_le_bytes()),
            }
        }
        if grows && size < program.most(0) {
            self.memories[0].grow(size + 1);
        }
        self.steps += 1;
        Ok(())
    }

    /// Its state but for its pages.
    pub fn registers(&self) -> Vec<u8> {
        let filling = (0..self.program.state).map(|i| mix(self.steps ^ u64::from(i)) as u8).collect();
        let sizes = [self.memories[0].pages(), self.memories[1].pages()];
        let registers = Registers { steps: self.steps, value: self.value, sizes, filling };
        postcard::to_allocvec(&registers).unwrap_or_default()
    }

    /// Takes a state over; `late` pages are not there yet.
    ///
    /// # Errors
    /// A state that is not of this program.
    pub fn restore(&mut self, state: &[u8], late: &[PageRange]) -> Result<(), Refusal> {
        let refusal = || Refusal::new(Reason::State, "the state does not fit the module");
        let registers: Registers = postcard::from_bytes(state).map_err(|_| refusal())?;
        for (memory, pages) in registers.sizes.into_iter().enumerate() {
            if pages > self.program.most(memory as u32) || pages < self.memories[memory].pages() {
                return Err(refusal());
            }
            self.memories[memory].grow(pages);
        }
        let intact = |(i, byte): (usize, &u8)| *byte == mix(registers.steps ^ i as u64) as u8;
        if !registers.filling.iter().enumerate().all(intact) {
            return Err(refusal());
        }
        for range in late {
            if range.count > self.program.most(range.memory) {
                return Err(refusal());
            }
            for page in range.first..range.first + range.count {
                if self.memories.get(range.memory as usize).is_none_or(|m| page >= m.pages()) {
                    return Err(refusal());
                }
                self.missing.insert((range.memory, page));
                // Whatever an earlier round has put there is old: spoil it, so that a use of it shows.
                self.memories[range.memory as usize].page(page).fill(0xdd);
            }
        }
        (self.steps, self.value) = (registers.steps, registers.value);
        Ok(())
    }

    /// Pages that it runs without.
    pub fn missing(&self) -> usize {
        self.missing.len()
    }

    /// Late pages are there now.
    pub fn arrived(&mut self, range: PageRange) {
        (range.first..range.first + range.count).for_each(|page| {
            self.missing.remove(&(range.memory, page));
        });
    }

    /// Whether a page is waited for.
    pub fn misses(&self, range: PageRange) -> bool {
        (range.first..range.first + range.count).any(|page| self.missing.contains(&(range.memory, page)))
    }

    /// A move begins: all pages that differ from the image are listed anew.
    pub fn begin_move(&mut self) {
        self.memories.iter_mut().for_each(|memory| memory.dirty.clone_from(&memory.touched));
    }

    /// Bytes of its memories.
    pub fn sizes(&self) -> Vec<u64> {
        self.memories.iter().map(|memory| memory.bytes.len() as u64).collect()
    }

    /// Pages that were written to.
    pub fn touched(&self) -> u64 {
        self.memories.iter().flat_map(|memory| &memory.touched).filter(|touched| **touched).count() as u64
    }

    /// Its pages by their digests, for another try.
    pub fn keep(&self) -> BTreeMap<PageDigest, Vec<u8>> {
        let mut kept = BTreeMap::new();
        for (index, memory) in self.memories.iter().enumerate() {
            for (page, bytes) in memory.bytes.chunks(PAGE_SIZE).enumerate() {
                if memory.touched[page] && !self.missing.contains(&(index as u32, page as u64)) {
                    kept.insert(pages::digest(bytes), bytes.to_vec());
                }
            }
        }
        kept
    }

    /// Pages from before that may be recalled.
    pub fn remember(&mut self, kept: Rc<BTreeMap<PageDigest, Vec<u8>>>) {
        self.kept = kept;
    }

    /// Bytes of pages that came over the wire, zeros not counted.
    pub fn came(&self) -> u64 {
        self.came
    }

    /// Where a page may be written, the memory grown for it.
    fn room(&mut self, range: PageRange) -> Result<&mut Memory, Refusal> {
        let refusal = Refusal::new(Reason::Memory, "pages past what the task may have");
        let end = range.first.checked_add(range.count);
        let most = self.program.most(range.memory);
        match (self.memories.get_mut(range.memory as usize), end) {
            (Some(memory), Some(end)) if end <= most => {
                if end > memory.pages() {
                    memory.grow(end);
                }
                Ok(memory)
            }
            _ => Err(refusal),
        }
    }
}

impl Guest for SimGuest {
    fn dirty(&mut self) -> Vec<PageRange> {
        let mut out: Vec<PageRange> = Vec::new();
        for (index, memory) in self.memories.iter_mut().enumerate() {
            for (page, dirty) in memory.dirty.iter_mut().enumerate() {
                if !core::mem::take(dirty) {
                    continue;
                }
                match out.last_mut() {
                    Some(last) if last.memory == index as u32 && last.first + last.count == page as u64 => {
                        last.count += 1
                    }
                    _ => out.push(PageRange { memory: index as u32, first: page as u64, count: 1 }),
                }
            }
        }
        out
    }

    fn written(&mut self, range: PageRange) -> Vec<PageRange> {
        let memory = &self.memories[range.memory as usize];
        let pages = range.first..(range.first + range.count).min(memory.pages());
        let written = pages.filter(|page| memory.dirty[*page as usize]);
        written.map(|first| PageRange { first, count: 1, ..range }).collect()
    }

    fn read(&mut self, range: PageRange, into: &mut Vec<u8>) -> bool {
        let bytes = self.memories.get(range.memory as usize).map(|memory| &memory.bytes);
        let (from, to) = (range.first as usize * PAGE_SIZE, (range.first + range.count) as usize * PAGE_SIZE);
        match bytes.and_then(|bytes| bytes.get(from..to)) {
            // What has ended has no memory any more.
            Some(bytes) if !self.has_ended() => {
                into.extend_from_slice(bytes);
                true
            }
            _ => false,
        }
    }
}

impl Landing for SimGuest {
    fn write(&mut self, range: PageRange, bytes: &[u8]) -> Result<(), Refusal> {
        let memory = self.room(range)?;
        if bytes.len() != range.count as usize * PAGE_SIZE {
            return Err(Refusal::new(Reason::State, "pages of another length"));
        }
        for (page, bytes) in (range.first..).zip(bytes.chunks(PAGE_SIZE)) {
            memory.page(page).copy_from_slice(bytes);
        }
        self.came += bytes.len() as u64;
        Ok(())
    }

    fn zero(&mut self, range: PageRange) -> Result<(), Refusal> {
        let memory = self.room(range)?;
        (range.first..range.first + range.count).for_each(|page| memory.page(page).fill(0));
        Ok(())
    }

    fn forget(&mut self, pages: &[PageRange]) {
        for range in pages {
            let Some(memory) = self.memories.get_mut(range.memory as usize) else { continue };
            let pages = range.first..(range.first + range.count).min(memory.pages());
            // So that a use of one shows that does not come late after all.
            pages.for_each(|page| memory.page(page).fill(0xee));
        }
    }

    fn recall(&mut self, memory: u32, page: u64, digest: &PageDigest) -> bool {
        let kept = Rc::clone(&self.kept);
        let Some(bytes) = kept.get(digest) else { return false };
        let Ok(memory) = self.room(PageRange { memory, first: page, count: 1 }) else { return false };
        memory.page(page).copy_from_slice(bytes);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_what_its_program_and_its_steps_make_it() {
        let program = Program::small(3);
        let (a, b) = (program.unmoved(2000), program.unmoved(2000));
        assert_eq!(a.digest(), b.digest());
        assert_ne!(a.digest(), program.unmoved(2001).digest());
        assert!(a.sizes()[0] > program.pages * PAGE_SIZE as u64);
        assert_eq!(Program::decode(&program.encode()), Some(program));
    }

    #[test]
    fn pages_and_registers_make_up_all_of_a_task() {
        let program = Program::small(4);
        let mut from = program.unmoved(1500);
        let mut to = SimGuest::image(&program);
        from.begin_move();
        for range in from.dirty() {
            let mut bytes = Vec::new();
            assert!(from.read(range, &mut bytes));
            to.write(range, &bytes).unwrap();
        }
        to.restore(&from.registers(), &[]).unwrap();
        assert_eq!(to.digest(), from.digest());
        assert!(from.dirty().is_empty());
        assert!(to.write(PageRange { memory: 0, first: 90, count: 7 }, &[0; 7 * PAGE_SIZE]).is_err());
        assert!(to.zero(PageRange { memory: 0, first: u64::MAX, count: 1 }).is_err());
    }
}
