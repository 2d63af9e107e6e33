//! A primary and a standby on a link that breaks at any moment, with a task that writes at any moment: what the standby would
//! go on from is always the state of one moment, the last one that it said it had or a later one.

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use wayfare_snapshot::PAGE_SIZE;
use wayfare_transfer::destination::{Caps, Landing};
use wayfare_transfer::message::{Message, Mode, Offer, Part, Refusal, TaskId};
use wayfare_transfer::pages::{PageDigest, PageRange};
use wayfare_transfer::source::Guest;
use wayfare_transfer::standby::{
    Primary, PrimaryAction, PrimaryEvent, PrimaryPhase, Protected, Said, Standby, StandbyAction, StandbyEvent,
    StandbyPhase, takeover,
};
use wayfare_transfer::{Kind, Reason};

const PAGES: usize = 700;

/// A page's content is a number, repeated; 0 is a page of zeros.
#[derive(Clone)]
struct Task {
    pages: Vec<u64>,
    dirty: BTreeSet<u64>,
}

fn bytes_of(number: u64) -> Vec<u8> {
    number.to_le_bytes().repeat(PAGE_SIZE / 8)
}

impl Guest for Task {
    fn dirty(&mut self) -> Vec<PageRange> {
        let dirty = std::mem::take(&mut self.dirty);
        dirty.into_iter().map(|first| PageRange { memory: 0, first, count: 1 }).collect()
    }

    fn read(&mut self, range: PageRange, into: &mut Vec<u8>) -> bool {
        for page in range.first..range.first + range.count {
            into.extend(bytes_of(self.pages[page as usize]));
        }
        true
    }
}

impl Protected for Task {
    fn sizes(&mut self) -> Vec<u64> {
        vec![(self.pages.len() * PAGE_SIZE) as u64]
    }
}

#[derive(Default)]
struct Instance(BTreeMap<u64, u64>);

impl Landing for Instance {
    fn write(&mut self, range: PageRange, bytes: &[u8]) -> Result<(), Refusal> {
        for (page, bytes) in (range.first..).zip(bytes.chunks(PAGE_SIZE)) {
            self.0.insert(page, u64::from_le_bytes(bytes[..8].try_into().unwrap()));
        }
        Ok(())
    }

    fn zero(&mut self, range: PageRange) -> Result<(), Refusal> {
        (range.first..range.first + range.count).for_each(|page| _ = self.0.insert(page, 0));
        Ok(())
    }

    fn forget(&mut self, _: &[PageRange]) {}

    fn recall(&mut self, _: u32, _: u64, _: &PageDigest) -> bool {
        false
    }
}

#[derive(Clone, Debug)]
enum Op {
    Write(usize, u64),
    /// Many pages at once.
    Sweep(usize, usize, u64),
    Sync,
    /// So many messages go each way.
    Carry(usize),
    /// The task is at a migration point.
    Freeze,
    /// The task is to be handed over.
    HandOver,
    Cut,
    Dial,
    /// The standby's process is started anew.
    Restart,
    /// Another node goes on with the task; the standby hears of it or does not.
    Pass(bool),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0..PAGES, 0..5_u64).prop_map(|(page, value)| Op::Write(page, value)),
        2 => (0..PAGES, 1..PAGES, 1..5_u64).prop_map(|(from, count, value)| Op::Sweep(from, count, value)),
        4 => Just(Op::Sync),
        16 => (1..12_usize).prop_map(Op::Carry),
        6 => Just(Op::Freeze),
        1 => Just(Op::HandOver),
        1 => Just(Op::Cut),
        3 => Just(Op::Dial),
        1 => Just(Op::Restart),
        1 => any::<bool>().prop_map(Op::Pass),
    ]
}

struct World {
    task: Task,
    epoch: u64,
    now: u64,
    primary: Primary,
    standby: Standby,
    instance: Instance,
    wants_freeze: bool,
    /// The task stands still.
    still: bool,
    /// It was handed over: the standby goes on from this.
    handed: Option<Vec<u8>>,
    connected: bool,
    up: VecDeque<(Kind, Vec<u8>)>,
    down: VecDeque<Message>,
    /// By the text of a state, the memory that belongs to it.
    moments: BTreeMap<Vec<u8>, Vec<u64>>,
    spared: u64,
    /// Standbys are such as keep nothing of what is cut off.
    is_forgetful: bool,
}

fn standby(is_forgetful: bool) -> Standby {
    let standby = Standby::new(Caps::default());
    if is_forgetful { standby.forgetful() } else { standby }
}

fn offer() -> Offer {
    offer_at(3)
}

fn offer_at(epoch: u64) -> Offer {
    Offer {
        task: TaskId([7; 16]),
        name: "t".into(),
        epoch,
        module: [1; 32],
        module_len: 5,
        canonical_nan: false,
        memories: Vec::new(),
        mode: Mode::Stop,
        settings: Vec::new(),
    }
}

impl World {
    fn new() -> World {
        World::with(false)
    }

    fn with(is_forgetful: bool) -> World {
        let pages: Vec<u64> = (0..PAGES as u64).map(|page| page % 3).collect();
        World {
            task: Task { pages, dirty: BTreeSet::new() },
            epoch: 3,
            now: 0,
            primary: Primary::new(offer(), 0, b"terms".to_vec(), b"wasm!".to_vec()),
            standby: standby(is_forgetful),
            instance: Instance::default(),
            wants_freeze: false,
            still: false,
            handed: None,
            connected: true,
            up: VecDeque::new(),
            down: VecDeque::new(),
            moments: BTreeMap::new(),
            spared: 0,
            is_forgetful,
        }
    }

    fn apply(&mut self, op: &Op) {
        self.now += 1;
        match *op {
            Op::Write(page, value) => self.write(page, value),
            Op::Sweep(from, count, value) => (from..(from + count).min(PAGES)).for_each(|page| self.write(page, value)),
            Op::Sync => _ = self.primary.begin(self.now),
            Op::Carry(n) => (0..n).for_each(|_| self.carry()),
            Op::Freeze => {
                if std::mem::take(&mut self.wants_freeze) {
                    self.still = true;
                    let state = format!("at {}", self.now).into_bytes();
                    self.moments.insert(state.clone(), self.task.pages.clone());
                    self.primary.frozen(self.now, state, &mut self.task);
                }
            }
            Op::HandOver => self.primary.hand_over(self.now, true),
            Op::Cut => self.cut(),
            Op::Dial => {
                if !self.connected {
                    self.connected = true;
                    self.primary.reattach();
                    self.standby.reattach();
                }
            }
            Op::Pass(is_heard) => self.pass(is_heard),
            Op::Restart => {
                self.cut();
                (self.standby, self.instance) = (standby(self.is_forgetful), Instance::default());
            }
        }
        self.drive();
        self.check();
    }

    fn write(&mut self, page: usize, value: u64) {
        if self.still {
            return;
        }
        // A page has a story: the value says when it was written, so that an old one is seen.
        self.task.pages[page] = if value == 0 { 0 } else { self.now << 8 | value };
        self.task.dirty.insert(page as u64);
    }

    fn cut(&mut self) {
        if std::mem::take(&mut self.connected) {
            self.up.clear();
            self.down.clear();
            self.primary.handle_event(PrimaryEvent::Disconnected);
            self.standby.handle_event(StandbyEvent::Disconnected);
            // A standby that has nothing yet forgets it.
            if matches!(self.standby.phase(), StandbyPhase::Over(_)) {
                self.standby = standby(self.is_forgetful);
            }
        }
    }

    /// Another node goes on with the task, and tells the standby nothing before it has dialled.
    fn pass(&mut self, is_heard: bool) {
        // Who hands it over does not give it to somebody else.
        if self.primary.is_handing() || self.primary.is_over() {
            return;
        }
        self.epoch += 1;
        self.primary.handle_event(PrimaryEvent::Passed { to: "other".into(), epoch: self.epoch });
        if is_heard {
            (0..10).for_each(|_| self.carry());
        }
        self.cut();
        (self.still, self.wants_freeze) = (false, false);
        self.task.dirty.clear();
        self.primary = Primary::new(offer_at(self.epoch), 0, b"terms".to_vec(), b"wasm!".to_vec());
        self.primary.handle_event(PrimaryEvent::Disconnected);
    }

    fn carry(&mut self) {
        if !self.connected {
            return;
        }
        let mut out = Vec::new();
        if let Some(kind) = self.primary.poll_message(&mut self.task, &mut out) {
            self.up.push_back((kind, out));
        }
        if let Some((kind, payload)) = self.up.pop_front() {
            match kind {
                Kind::Transfer => {
                    let Message::Standby(said) = Message::decode(&payload).unwrap() else { panic!() };
                    self.standby.handle_message(said, Some(&mut self.instance)).unwrap();
                }
                Kind::Part => self.standby.handle_part(&Part::decode(&payload).unwrap()).unwrap(),
                Kind::Pages => self.standby.handle_pages(payload).unwrap(),
                _ => panic!(),
            }
        }
        self.down.extend(self.standby.poll_message());
        if let Some(message) = self.down.pop_front() {
            let Message::Standby(said) = message else { panic!() };
            self.primary.handle_message(said).unwrap();
        }
    }

    fn drive(&mut self) {
        while let Some(action) = self.primary.poll_action() {
            match action {
                PrimaryAction::Freeze => self.wants_freeze = true,
                PrimaryAction::Thaw => self.still = false,
                PrimaryAction::HandOver { stays } => self.primary.hand_over(self.now, stays),
                PrimaryAction::Synced(synced) => {
                    let over = matches!(self.standby.phase(), StandbyPhase::TakenOver(_));
                    assert!(over || synced.sync == self.standby.kept());
                    self.spared += synced.spared;
                }
            }
        }
        while let Some(action) = self.standby.poll_action() {
            match action {
                StandbyAction::Admit => self.standby.handle_event(StandbyEvent::Admitted { has_module: false }),
                StandbyAction::Land(module) => {
                    assert_eq!(module.as_deref(), Some(&b"wasm!"[..]));
                    self.instance = Instance::default();
                    self.standby.handle_event(StandbyEvent::Landed);
                }
                StandbyAction::Run { state, epoch, handed } => {
                    assert_eq!((handed, self.still), (Some(true), true), "it takes over by itself");
                    assert_eq!(self.moments[&state], self.task.pages, "something was lost");
                    self.handed = Some(state);
                    // It runs there.
                    self.down.push_back(Message::Standby(Said::TakenOver(epoch)));
                }
                StandbyAction::Kept(_) | StandbyAction::Passed(_) | StandbyAction::Discard => {}
            }
        }
    }

    /// What the standby has is what the task was.
    fn check(&mut self) {
        if let Some(state) = self.standby.state() {
            let then = &self.moments[state];
            let wrong = (0..PAGES).find(|page| self.instance.0.get(&(*page as u64)) != Some(&then[*page]));
            assert_eq!(wrong, None, "sync {}", self.standby.kept());
        }
    }

    /// So many messages go each way, and what they ask for is done.
    fn talk(&mut self, n: usize) {
        (0..n).for_each(|_| self.apply(&Op::Carry(1)));
    }

    /// Nothing breaks any more: a sync comes through, of now.
    fn settle(&mut self) {
        self.apply(&Op::Dial);
        let at = self.now;
        for _ in 0..5000 {
            self.apply(&Op::Sync);
            self.apply(&Op::Carry(3));
            self.apply(&Op::Freeze);
            assert!(!self.primary.is_over(), "{:?}", self.primary.phase());
            let of: Option<u64> =
                self.standby.state().map(|state| String::from_utf8_lossy(state)[3..].parse().unwrap());
            if of.is_some_and(|of| of > at) && *self.primary.phase() == PrimaryPhase::Idle {
                assert_eq!(self.primary.kept(), self.standby.kept());
                return;
            }
        }
        panic!("no sync comes through: {:?}, {:?}", self.primary.phase(), self.standby.phase());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_standby_has_the_state_of_one_moment(ops in prop::collection::vec(op(), 1..400), is_forgetful in any::<bool>()) {
        let mut world = World::with(is_forgetful);
        for op in &ops {
            world.apply(op);
            if world.handed.is_some() {
                // A task that was handed over stands still here until that is known, or the link breaks.
                prop_assert!(world.still);
                world.apply(&Op::Dial);
                world.apply(&Op::Carry(20));
                let over = matches!(world.primary.phase(), PrimaryPhase::TakenOver(_));
                prop_assert!(over, "{:?}", world.primary.phase());
                return Ok(());
            }
        }
        // What was to be handed over is not any more.
        world.apply(&Op::Cut);
        world.settle();
        let epoch = world.standby.take_over().unwrap();
        prop_assert_eq!(epoch, takeover(world.epoch, 0));
        let Some(StandbyAction::Run { state, epoch: at, handed: None }) = world.standby.poll_action() else { panic!() };
        prop_assert_eq!(at, epoch);
        prop_assert_eq!(&world.moments[&state], &world.task.pages);
        // The primary comes back, and hears it.
        world.apply(&Op::Cut);
        world.apply(&Op::Dial);
        world.apply(&Op::Carry(10));
        prop_assert_eq!(world.primary.phase(), &PrimaryPhase::TakenOver(epoch));
        prop_assert!(world.standby.take_over().is_err());
    }
}

#[test]
fn a_sync_that_is_cut_off_costs_its_bytes_once() {
    let mut world = World::new();
    world.talk(20);
    world.apply(&Op::Sweep(0, PAGES, 1));
    world.apply(&Op::Sync);
    // Most of the first one comes, then the link breaks.
    world.talk(9);
    world.apply(&Op::Cut);
    assert_eq!(world.standby.kept(), 0);
    world.settle();
    assert!(world.spared >= 300, "{} pages were spared", world.spared);
    let mut world = World::with(true);
    world.talk(20);
    world.apply(&Op::Sync);
    world.talk(9);
    world.apply(&Op::Cut);
    world.settle();
    assert_eq!(world.spared, 0, "nothing was kept");
}

#[test]
fn a_task_is_handed_over_with_all_that_it_has_done() {
    let mut world = World::new();
    world.settle();
    world.apply(&Op::Sweep(0, PAGES, 1));
    world.apply(&Op::HandOver);
    while world.handed.is_none() {
        world.apply(&Op::Write(3, 1));
        world.talk(1);
        world.apply(&Op::Freeze);
    }
    assert!(world.still);
    // The other way: the link breaks before the word is there, and the task goes on.
    let mut world = World::new();
    world.settle();
    world.apply(&Op::HandOver);
    while !world.still {
        world.talk(1);
        world.apply(&Op::Freeze);
    }
    world.apply(&Op::Cut);
    assert!(!world.still && world.handed.is_none());
    world.settle();
}

#[test]
fn nothing_is_taken_over_that_is_not_complete() {
    let mut world = World::new();
    assert_eq!(world.standby.take_over().unwrap_err().reason, Reason::State);
    world.talk(20);
    assert_eq!(*world.primary.phase(), PrimaryPhase::Idle);
    world.apply(&Op::Sync);
    world.talk(5);
    assert_eq!(world.standby.take_over().unwrap_err().reason, Reason::State);
    world.settle();
    world.standby.take_over().unwrap();
}

/// What is there of the one before is kept until the new one's first sync is complete, and nobody takes it for more than that.
#[test]
fn a_task_that_goes_on_elsewhere_is_still_safe() {
    let mut world = World::new();
    world.settle();
    let state = world.standby.state().map(<[u8]>::to_vec);
    world.apply(&Op::Pass(true));
    world.apply(&Op::Write(5, 9));
    world.apply(&Op::Dial);
    world.talk(10);
    assert_eq!((world.primary.phase().clone(), world.primary.kept()), (PrimaryPhase::Idle, 0));
    assert!(state.is_some() && world.standby.state().map(<[u8]>::to_vec) == state);
    world.apply(&Op::Sync);
    world.talk(3);
    // It says that it has taken over from the new one, whatever it goes on from.
    assert_eq!(world.standby.take_over().unwrap(), takeover(4, 0));
}

#[test]
fn a_standby_that_is_dismissed_keeps_nothing() {
    let mut world = World::new();
    world.settle();
    world.primary.handle_event(PrimaryEvent::Dismissed);
    world.apply(&Op::Carry(2));
    assert!(matches!(world.standby.phase(), StandbyPhase::Over(_)) && world.standby.state().is_none());
    assert!(matches!(world.primary.phase(), PrimaryPhase::Over(_)));
    assert!(!world.primary.begin(1));
}

#[test]
fn what_a_primary_cannot_say_breaks_the_link_and_nothing_else() {
    let mut world = World::new();
    world.settle();
    let state = world.standby.state().map(<[u8]>::to_vec);
    let (kept, huge) = (world.standby.kept(), PageRange { memory: 0, first: u64::MAX, count: 2 });
    let wrong = [
        Said::Begin { sync: 9, since: kept + 1 },
        Said::Begin { sync: 0, since: 0 },
        Said::End { sync: 1, batches: 0 },
        Said::Digests { range: huge, digests: vec![[0; 16]; 2] },
        Said::Protect { offer: offer(), rank: 0, terms: Vec::new() },
        Said::Landed,
        Said::Kept(1),
    ];
    for said in wrong {
        let text = format!("{said:?}");
        assert!(world.standby.handle_message(said, Some(&mut world.instance)).is_err(), "{text}");
    }
    assert!(world.standby.handle_pages(vec![0; 40]).is_err());
    assert_eq!(world.standby.state().map(<[u8]>::to_vec), state);
    world.check();
    // More than the task can have written.
    world.standby.handle_message(Said::Begin { sync: kept + 1, since: kept }, None).unwrap();
    let mut batch = Vec::new();
    let mut seed = 1_u64;
    let noise = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed as u8
    };
    let noise: Vec<u8> = std::iter::repeat_with(noise).take(64 * PAGE_SIZE).collect();
    let range = PageRange { memory: 0, first: 0, count: 64 };
    wayfare_transfer::pages::Packer::default().pack(0, range, &noise, &mut batch);
    let refused = (0..1000).find_map(|_| world.standby.handle_pages(batch.clone()).err());
    assert!(refused.is_some());
    world.check();
}
