//! A task that has a standby, which takes over from states that are older than what clients have seen: every client gets all
//! answers, once, and the task hears all that was ever said to it, also by clients that have left.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;
use wayfare_stream::{Event, IngressEnd, Mark, OpenError, Segment, StreamError, TaskEnd, WINDOW};

const STREAMS: u64 = 6;
const MOST: usize = 3 * WINDOW;

#[derive(Clone, Debug)]
enum Op {
    Open,
    ClientWrite(u64, usize),
    ClientRead(u64, usize),
    ClientFinish(u64),
    ClientReset(u64),
    /// The guest reads so much from each client that is there, and answers.
    Guest(usize),
    Carry(usize, usize),
    Lose,
    Move,
    /// A state of the task becomes safe elsewhere; the ingress hears of it, or does not yet.
    Sync(bool),
    TakeOver,
    /// The same, and the one that takes over gets a standby of its own only after some time.
    TakeOverAlone(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let id = || 0..STREAMS;
    let len = || prop_oneof![8 => 1..3000_usize, 1 => 1..WINDOW + 1000];
    prop_oneof![
        4 => Just(Op::Open),
        12 => (id(), len()).prop_map(|(id, len)| Op::ClientWrite(id, len)),
        8 => (id(), len()).prop_map(|(id, len)| Op::ClientRead(id, len)),
        2 => id().prop_map(Op::ClientFinish),
        1 => id().prop_map(Op::ClientReset),
        14 => len().prop_map(Op::Guest),
        20 => (0..30_usize, 0..30_usize).prop_map(|(up, down)| Op::Carry(up, down)),
        2 => Just(Op::Lose),
        1 => Just(Op::Move),
        4 => any::<bool>().prop_map(Op::Sync),
        4 => Just(Op::TakeOver),
        1 => (0..20_usize).prop_map(Op::TakeOverAlone),
    ]
}

/// The byte at `offset` of what a client says.
fn byte(stream: u64, offset: usize) -> u8 {
    ((offset as u64 + stream * 1_000_003).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8
}

/// The guest's answer to it.
fn answer(byte: u8) -> u8 {
    byte.wrapping_mul(7).wrapping_add(13)
}

#[derive(Default)]
struct Client {
    written: usize,
    finished: bool,
    read: usize,
    saw_end: bool,
    gone: bool,
}

/// What the guest has in its memory: by stream, how much it has heard, and what it has not said yet.
#[derive(Clone, Default)]
struct Guest {
    streams: BTreeMap<u64, (usize, VecDeque<u8>)>,
    /// Of clients that are over.
    heard: BTreeMap<u64, usize>,
}

struct World {
    ingress: IngressEnd,
    task: TaskEnd,
    guest: Guest,
    up: VecDeque<Segment>,
    down: VecDeque<Segment>,
    clients: BTreeMap<u64, Client>,
    safe: (Vec<u8>, Guest),
}

impl World {
    fn new() -> Self {
        let (mut ingress, mut task) = (IngressEnd::new(STREAMS as usize), TaskEnd::new(STREAMS as usize));
        ingress.keep(MOST);
        task.keep();
        ingress.attached();
        task.attached();
        let (safe, guest) = ((task.freeze(), Guest::default()), Guest::default());
        World { ingress, task, guest, up: VecDeque::new(), down: VecDeque::new(), clients: BTreeMap::new(), safe }
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Open => {
                let id = self.clients.len() as u64;
                if id < STREAMS {
                    match self.ingress.open(id, "client") {
                        Ok(()) => _ = self.clients.insert(id, Client::default()),
                        Err(e) => assert_eq!(e, OpenError::Full),
                    }
                }
            }
            Op::ClientWrite(id, len) => {
                let Some(client) = self.clients.get_mut(&id).filter(|c| !c.gone && !c.finished) else { return };
                let bytes: Vec<u8> = (client.written..client.written + len).map(|at| byte(id, at)).collect();
                let room = self.ingress.room(id);
                match self.ingress.write(id, &bytes[..len.min(room)]) {
                    Ok(n) => client.written += n,
                    // The guest closes only what has ended.
                    Err(e) => panic!("client {id}: {e}"),
                }
            }
            Op::ClientRead(id, len) => self.client_reads(id, len),
            Op::ClientFinish(id) => {
                if let Some(client) = self.clients.get_mut(&id).filter(|c| !c.gone) {
                    client.finished = true;
                    self.ingress.finish(id);
                }
            }
            Op::ClientReset(id) => {
                if let Some(client) = self.clients.get_mut(&id).filter(|c| !c.gone) {
                    client.gone = true;
                    self.ingress.reset(id);
                }
            }
            Op::Guest(len) => self.guest_runs(len),
            Op::Carry(up, down) => self.carry(up, down),
            Op::Lose => {
                self.lose();
                self.ingress.attached();
                self.task.attached();
            }
            Op::Move => {
                self.lose();
                self.task = TaskEnd::thaw(&self.task.freeze(), STREAMS as usize).unwrap();
                self.ingress.attached();
                self.task.attached();
            }
            Op::Sync(heard) => {
                self.safe = (self.task.freeze(), self.guest.clone());
                if heard {
                    let mark = Mark::decode(&self.task.mark().encode()).unwrap();
                    assert_eq!(mark, Mark::of(&self.safe.0).unwrap());
                    self.ingress.release(&mark);
                    self.task.released(&mark);
                }
            }
            Op::TakeOver => self.take_over(),
            Op::TakeOverAlone(n) => {
                self.take_over();
                self.ingress.keep_no_more();
                self.task.keep_nothing();
                for _ in 0..n {
                    self.carry(5, 5);
                    self.guest_runs(500);
                    (0..STREAMS).for_each(|id| self.client_reads(id, 700));
                }
                self.ingress.keep(MOST);
                self.task.keep();
                // What the channel carries now may be of before.
                self.apply(&Op::Lose);
                self.safe = (self.task.freeze(), self.guest.clone());
            }
        }
        while let Some(event) = self.ingress.poll_event() {
            match event {
                Event::Changed(_) => {}
                Event::Closed(id) => {
                    let client = self.clients.get_mut(&id).unwrap();
                    assert!(client.saw_end, "client {id} is closed before it has all");
                    client.gone = true;
                }
                Event::Reset(id) => panic!("client {id} is reset"),
            }
        }
    }

    fn take_over(&mut self) {
        self.lose();
        let (frozen, guest) = self.safe.clone();
        self.task = TaskEnd::thaw_behind(&frozen, STREAMS as usize).unwrap();
        self.guest = guest;
        self.ingress.release(&Mark::of(&frozen).unwrap());
        self.ingress.go_back();
        self.task.attached();
    }

    fn lose(&mut self) {
        self.up.clear();
        self.down.clear();
    }

    fn carry(&mut self, up: usize, down: usize) {
        self.up.extend(std::iter::from_fn(|| self.ingress.poll_transmit()).take(up));
        self.down.extend(std::iter::from_fn(|| self.task.poll_transmit()).take(down));
        for segment in self.up.drain(..up.min(self.up.len())) {
            self.task.handle(segment).unwrap();
        }
        for segment in self.down.drain(..down.min(self.down.len())) {
            self.ingress.handle(segment).unwrap();
        }
    }

    fn client_reads(&mut self, id: u64, len: usize) {
        let Some(client) = self.clients.get_mut(&id).filter(|c| !c.gone) else { return };
        let mut buf = vec![0; len];
        match self.ingress.read(id, &mut buf) {
            Ok(0) => client.saw_end = true,
            Ok(n) => {
                for (i, got) in buf[..n].iter().enumerate() {
                    assert_eq!(*got, answer(byte(id, client.read + i)), "client {id} at {}", client.read + i);
                }
                client.read += n;
                assert!(client.read <= client.written);
            }
            Err(StreamError::WouldBlock) => {}
            Err(StreamError::Unknown) => assert!(client.saw_end),
            Err(e) => panic!("client {id}: {e}"),
        }
    }

    fn guest_runs(&mut self, len: usize) {
        while let Some(id) = self.task.accept() {
            self.guest.streams.insert(id, Default::default());
        }
        let mut over = Vec::new();
        for (&id, (heard, unsaid)) in &mut self.guest.streams {
            let mut buf = vec![0; len];
            let mut ended = false;
            if unsaid.is_empty() {
                match self.task.recv(id, &mut buf, false) {
                    Ok(0) => ended = true,
                    Ok(n) => {
                        for (i, got) in buf[..n].iter().enumerate() {
                            assert_eq!(*got, byte(id, *heard + i), "guest hears {id} at {}", *heard + i);
                        }
                        *heard += n;
                        unsaid.extend(buf[..n].iter().map(|byte| answer(*byte)));
                    }
                    Err(StreamError::WouldBlock) => {}
                    Err(StreamError::Reset) => ended = true,
                    Err(e) => panic!("guest, {id}: {e}"),
                }
            }
            let bytes: Vec<u8> = unsaid.iter().copied().collect();
            match self.task.send(id, &bytes) {
                Ok(n) => _ = unsaid.drain(..n),
                Err(StreamError::WouldBlock) => {}
                Err(StreamError::Reset) => unsaid.clear(),
                Err(e) => panic!("guest, {id}: {e}"),
            }
            if ended {
                self.task.close(id);
                over.push(id);
            }
        }
        for id in over {
            let (heard, _) = self.guest.streams.remove(&id).unwrap();
            assert!(self.guest.heard.insert(id, heard).is_none(), "client {id} comes twice");
        }
    }

    /// Everything is let run: all clients end, and all has been said and heard.
    fn settle(&mut self) {
        (0..STREAMS).for_each(|id| self.apply(&Op::ClientFinish(id)));
        let is_over = |world: &World| {
            let clients = world.clients.values().all(|c| c.gone);
            clients && world.guest.streams.is_empty() && world.ingress.is_empty() && world.task.is_empty()
        };
        for _ in 0..2000 {
            self.apply(&Op::Carry(100, 100));
            self.apply(&Op::Guest(WINDOW));
            (0..STREAMS).for_each(|id| self.apply(&Op::ClientRead(id, WINDOW)));
            self.apply(&Op::Sync(true));
            if is_over(self) {
                break;
            }
        }
        assert!(is_over(self), "it does not come to an end");
        for (&id, client) in &self.clients {
            if client.finished && client.saw_end {
                assert_eq!(client.read, client.written, "client {id} lacks answers");
            }
            if client.saw_end {
                assert_eq!(self.guest.heard.get(&id), Some(&client.written), "the guest has not heard all of {id}");
            }
        }
        self.apply(&Op::Sync(true));
        self.apply(&Op::Sync(true));
        self.apply(&Op::Lose);
        self.apply(&Op::Carry(100, 100));
        self.apply(&Op::Sync(true));
        assert_eq!(self.ingress.kept(), 0, "what is safe is not kept");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_answer_is_lost_or_doubled(ops in prop::collection::vec(op(), 1..250)) {
        let mut world = World::new();
        ops.iter().for_each(|op| world.apply(op));
        world.settle();
    }
}

fn carry(ingress: &mut IngressEnd, task: &mut TaskEnd) {
    loop {
        let (mut idle, up) = (true, ingress.poll_transmit());
        if let Some(segment) = up {
            task.handle(segment).unwrap();
            idle = false;
        }
        if let Some(segment) = task.poll_transmit() {
            ingress.handle(segment).unwrap();
            idle = false;
        }
        if idle {
            return;
        }
    }
}

#[test]
fn a_client_that_would_hear_two_stories_is_reset() {
    let (mut ingress, mut task) = (IngressEnd::new(4), TaskEnd::new(4));
    ingress.keep(1 << 20);
    task.keep();
    ingress.attached();
    task.attached();
    let frozen = task.freeze();
    let mut buf = [0; 16];
    for id in [1, 2] {
        ingress.open(id, "client").unwrap();
        ingress.write(id, b"what is it?").unwrap();
    }
    carry(&mut ingress, &mut task);
    for id in [1, 2] {
        assert_eq!(task.accept(), Some(id));
        task.recv(id, &mut buf, false).unwrap();
        task.send(id, b"black").unwrap();
    }
    carry(&mut ingress, &mut task);
    for id in [1, 2] {
        assert_eq!(ingress.read(id, &mut buf), Ok(5));
    }
    while ingress.poll_event().is_some() {}

    let mut standby = TaskEnd::thaw_behind(&frozen, 4).unwrap();
    ingress.go_back();
    standby.attached();
    carry(&mut ingress, &mut standby);
    for (id, says) in [(1, b"black and white"), (2, b"blue and yellow")] {
        assert_eq!(standby.accept(), Some(id));
        assert_eq!(standby.recv(id, &mut buf, false), Ok(11));
        standby.send(id, says).unwrap();
    }
    carry(&mut ingress, &mut standby);
    assert_eq!(ingress.read(1, &mut buf), Ok(10));
    assert_eq!(&buf[..10], b" and white");
    let events: Vec<Event> = std::iter::from_fn(|| ingress.poll_event()).collect();
    assert!(events.contains(&Event::Reset(2)) && !events.contains(&Event::Reset(1)), "{events:?}");
    assert_eq!(standby.recv(2, &mut buf, false), Err(StreamError::Reset));
}

#[test]
fn clients_wait_when_too_much_is_kept() {
    let (mut ingress, mut task) = (IngressEnd::new(4), TaskEnd::new(4));
    ingress.keep(1000);
    task.keep();
    ingress.attached();
    task.attached();
    ingress.open(1, "client").unwrap();
    let mut buf = [0; 2000];
    assert_eq!(ingress.write(1, &[7; 1500]), Ok(1500));
    carry(&mut ingress, &mut task);
    task.accept().unwrap();
    assert_eq!(task.recv(1, &mut buf, false), Ok(1500));
    carry(&mut ingress, &mut task);
    assert_eq!((ingress.kept(), ingress.room(1), ingress.open(2, "another")), (1500, 0, Err(OpenError::Full)));
    while ingress.poll_event().is_some() {}
    ingress.release(&task.mark());
    assert_eq!((ingress.kept(), ingress.room(1) > 0, ingress.poll_event()), (0, true, Some(Event::Changed(1))));
    ingress.open(2, "another").unwrap();
    ingress.keep_nothing();
    assert_eq!(ingress.kept(), 0);
}

#[test]
fn more_than_a_window_is_heard_once_more() {
    let (mut ingress, mut task) = (IngressEnd::new(4), TaskEnd::new(4));
    ingress.keep(1 << 30);
    task.keep();
    ingress.attached();
    task.attached();
    let frozen = task.freeze();
    ingress.open(1, "client").unwrap();
    let (mut buf, mut heard) = (vec![0; WINDOW], 0);
    for round in 0..20 {
        assert_eq!(ingress.write(1, &vec![round; WINDOW]), Ok(WINDOW));
        carry(&mut ingress, &mut task);
        task.accept();
        heard += task.recv(1, &mut buf, false).unwrap();
        carry(&mut ingress, &mut task);
    }
    assert_eq!((heard, ingress.kept()), (20 * WINDOW, 20 * WINDOW));
    let mut standby = TaskEnd::thaw_behind(&frozen, 4).unwrap();
    ingress.go_back();
    ingress.keep_no_more();
    standby.attached();
    assert_eq!(ingress.room(1), 0);
    for round in 0..20 {
        carry(&mut ingress, &mut standby);
        standby.accept();
        assert_eq!(standby.recv(1, &mut buf, false), Ok(WINDOW));
        assert!(buf.iter().all(|byte| *byte == round));
    }
    carry(&mut ingress, &mut standby);
    assert_eq!((ingress.room(1), ingress.kept()), (WINDOW, 0));
}

#[test]
fn marks_that_are_none_are_refused() {
    let (mut ingress, mut task) = (IngressEnd::new(4), TaskEnd::new(4));
    ingress.attached();
    task.attached();
    for id in [3, 9] {
        ingress.open(id, "client").unwrap();
    }
    carry(&mut ingress, &mut task);
    let bytes = task.mark().encode();
    assert_eq!(Mark::decode(&bytes), Ok(task.mark()));
    for len in 0..bytes.len() {
        assert!(Mark::decode(&bytes[..len]).is_err());
    }
    assert!(Mark::decode(&[&bytes[..], &[0]].concat()).is_err());
    assert!(Mark::decode(&[0xff; 64]).is_err());
}
