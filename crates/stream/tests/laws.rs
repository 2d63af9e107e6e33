//! The law of it all: whatever is lost, moved, half-closed or reset and in whatever order, each side reads exactly a
//! beginning of what the other has written, and once things are let run, all of it.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;
use wayfare_stream::{Event, IngressEnd, Segment, StreamError, TaskEnd, WINDOW};

const STREAMS: u64 = 4;

#[derive(Clone, Debug)]
enum Op {
    Open,
    ClientWrite(u64, usize),
    ClientRead(u64, usize),
    ClientFinish(u64),
    ClientReset(u64),
    Accept,
    GuestWrite(u64, usize),
    GuestRead(u64, usize, bool),
    GuestFinish(u64),
    GuestClose(u64),
    /// Carries segments to the task and to the ingress.
    Carry(usize, usize),
    /// The channel breaks with all that is in it, and there is a fresh one at once...
    Lose,
    /// ...or not before an [`Op::Lose`] or [`Op::Move`].
    Break,
    Move,
    /// A move that is given up after the task was frozen: its copy is never used.
    FailedMove,
}

fn op() -> impl Strategy<Value = Op> {
    let id = || 0..STREAMS;
    let len = || prop_oneof![8 => 1..2000_usize, 1 => 1..WINDOW + 1000, 1 => Just(1)];
    prop_oneof![
        4 => Just(Op::Open),
        12 => (id(), len()).prop_map(|(id, len)| Op::ClientWrite(id, len)),
        8 => (id(), len()).prop_map(|(id, len)| Op::ClientRead(id, len)),
        2 => id().prop_map(Op::ClientFinish),
        1 => id().prop_map(Op::ClientReset),
        6 => Just(Op::Accept),
        12 => (id(), len()).prop_map(|(id, len)| Op::GuestWrite(id, len)),
        8 => (id(), len(), any::<bool>()).prop_map(|(id, len, peek)| Op::GuestRead(id, len, peek)),
        2 => id().prop_map(Op::GuestFinish),
        2 => id().prop_map(Op::GuestClose),
        25 => (0..20_usize, 0..20_usize).prop_map(|(up, down)| Op::Carry(up, down)),
        3 => Just(Op::Lose),
        1 => Just(Op::Break),
        5 => Just(Op::Move),
        2 => Just(Op::FailedMove),
    ]
}

/// The byte at `offset` of one direction of a stream: a reader can tell where it belongs.
fn byte(stream: u64, to_guest: bool, offset: usize) -> u8 {
    let mixed = (offset as u64 + stream * 1_000_003 + u64::from(to_guest) * 7919).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 56) as u8
}

fn bytes(stream: u64, to_guest: bool, from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(|offset| byte(stream, to_guest, offset)).collect()
}

/// What one side of one stream has done and seen.
#[derive(Default)]
struct Party {
    written: usize,
    finished: bool,
    read: usize,
    saw_end: bool,
    saw_reset: bool,
    closed: bool,
}

struct World {
    ingress: IngressEnd,
    task: TaskEnd,
    /// In the channel, encoded.
    up: VecDeque<Vec<u8>>,
    down: VecDeque<Vec<u8>>,
    connected: bool,
    opened: u64,
    clients: BTreeMap<u64, Party>,
    guests: BTreeMap<u64, Party>,
}

impl World {
    fn new() -> Self {
        let (ingress, task) = (IngressEnd::new(STREAMS as usize), TaskEnd::new(STREAMS as usize));
        let (clients, guests) = (BTreeMap::new(), BTreeMap::new());
        let (up, down) = (VecDeque::new(), VecDeque::new());
        Self { ingress, task, up, down, connected: false, opened: 0, clients, guests }
    }

    fn break_channel(&mut self) {
        self.up.clear();
        self.down.clear();
        self.ingress.detached();
        self.task.detached();
        self.connected = false;
    }

    fn attach(&mut self) {
        self.break_channel();
        self.ingress.attached();
        self.task.attached();
        self.connected = true;
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Open if self.opened < STREAMS => {
                self.ingress.open(self.opened, &format!("client {}", self.opened)).unwrap();
                self.clients.insert(self.opened, Party::default());
                self.opened += 1;
            }
            Op::Open => {}
            Op::ClientWrite(id, len) => self.client_write(id, len),
            Op::ClientRead(id, len) => {
                self.client_read(id, len);
            }
            Op::ClientFinish(id) => {
                self.ingress.finish(id);
                self.clients.entry(id).and_modify(|client| client.finished = true);
            }
            Op::ClientReset(id) => {
                self.ingress.reset(id);
                self.clients.entry(id).and_modify(|client| client.closed = true);
            }
            Op::Accept => {
                self.accept();
            }
            Op::GuestWrite(id, len) => self.guest_write(id, len),
            Op::GuestRead(id, len, peek) => {
                self.guest_read(id, len, peek);
            }
            Op::GuestFinish(id) => {
                if self.task.shutdown(id, false, true).is_ok() {
                    self.guests.get_mut(&id).unwrap().finished = true;
                }
            }
            Op::GuestClose(id) => self.guest_close(id),
            Op::Carry(up, down) => {
                self.carry(up, down);
            }
            Op::Lose => self.attach(),
            Op::Break => self.break_channel(),
            Op::Move => {
                let frozen = self.task.freeze();
                // What the old node does until it has stopped altogether changes nothing.
                self.carry(3, 3);
                self.task = TaskEnd::thaw(&frozen, STREAMS as usize).unwrap();
                assert_eq!(self.task.freeze(), frozen);
                self.attach();
            }
            Op::FailedMove => {
                self.task.freeze();
            }
        }
        self.events();
        let bound = 2 * WINDOW * STREAMS as usize;
        assert!(self.ingress.buffered() <= bound && self.task.buffered() <= bound);
    }

    /// Whether anything was carried.
    fn carry(&mut self, up: usize, down: usize) -> bool {
        let mut carried = false;
        for _ in 0..up {
            self.up.extend(self.ingress.poll_transmit().map(|segment| segment.encode()));
            if let Some(bytes) = self.up.pop_front() {
                self.task.handle(Segment::decode(&bytes).unwrap()).unwrap();
                carried = true;
            }
        }
        for _ in 0..down {
            self.down.extend(self.task.poll_transmit().map(|segment| segment.encode()));
            if let Some(bytes) = self.down.pop_front() {
                self.ingress.handle(Segment::decode(&bytes).unwrap()).unwrap();
                carried = true;
            }
        }
        // Some more is on its way, to be lost with the channel.
        self.up.extend(self.ingress.poll_transmit().map(|segment| segment.encode()));
        self.down.extend(self.task.poll_transmit().map(|segment| segment.encode()));
        assert!(self.connected || (self.up.is_empty() && self.down.is_empty()));
        carried
    }

    fn events(&mut self) {
        while let Some(event) = self.ingress.poll_event() {
            match event {
                Event::Changed(_) => {}
                Event::Closed(id) => {
                    let (client, guest) = (&self.clients[&id], &self.guests[&id]);
                    assert!(client.saw_end && guest.closed, "closed before its end");
                    assert_eq!(client.read, guest.written);
                }
                Event::Reset(id) => panic!("stream {id} is reset, and nobody has done anything to it"),
            }
        }
    }

    fn client_write(&mut self, id: u64, len: usize) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        match self.ingress.write(id, &bytes(id, true, client.written, len)) {
            Ok(taken) => {
                assert!(!client.finished && !client.closed);
                client.written += taken;
            }
            Err(StreamError::WouldBlock) => assert_eq!(self.ingress.room(id), 0),
            Err(StreamError::Closed) => {
                assert!(client.finished || self.guests[&id].closed);
            }
            Err(StreamError::Unknown) => assert!(client.closed || self.guests[&id].closed),
            Err(StreamError::Reset) => unreachable!(),
        }
    }

    fn client_read(&mut self, id: u64, len: usize) -> bool {
        let mut buf = vec![0; len];
        match self.ingress.read(id, &mut buf) {
            Ok(got) => {
                let client = self.clients.get_mut(&id).unwrap();
                assert!(got == 0 || !client.saw_end, "bytes after the end");
                assert_eq!(buf[..got], bytes(id, false, client.read, got)[..]);
                let progress = got > 0 || !client.saw_end;
                client.read += got;
                client.saw_end |= got == 0;
                let guest = &self.guests[&id];
                assert!(client.read <= guest.written);
                assert!(!client.saw_end || (guest.finished && client.read == guest.written), "an early end");
                // The driver polls after each read.
                self.events();
                progress
            }
            Err(_) => false,
        }
    }

    fn accept(&mut self) -> bool {
        let Some(id) = self.task.accept() else {
            return false;
        };
        assert_eq!(self.task.peer(id), Some(format!("client {id}").as_str()));
        let before = self.guests.insert(id, Party::default());
        assert!(before.is_none(), "the client {id} came twice");
        true
    }

    fn guest_write(&mut self, id: u64, len: usize) {
        let Some(guest) = self.guests.get_mut(&id) else {
            return assert_eq!(self.task.send(id, b"x"), Err(StreamError::Unknown));
        };
        match self.task.send(id, &bytes(id, false, guest.written, len)) {
            Ok(taken) => {
                assert!(!guest.finished && !guest.closed);
                guest.written += taken;
            }
            Err(StreamError::WouldBlock) => assert!(!self.task.is_writable(id)),
            Err(StreamError::Closed) => assert!(guest.finished),
            Err(StreamError::Unknown) => assert!(guest.closed),
            Err(StreamError::Reset) => assert!(self.clients[&id].closed),
        }
    }

    fn guest_read(&mut self, id: u64, len: usize, peek: bool) -> bool {
        let Some(guest) = self.guests.get_mut(&id) else {
            return false;
        };
        let mut buf = vec![0; len];
        let ready = self.task.is_readable(id);
        match self.task.recv(id, &mut buf, peek) {
            Ok(got) => {
                assert!(ready && (got == 0 || !guest.saw_end), "bytes after the end");
                assert_eq!(buf[..got], bytes(id, true, guest.read, got)[..]);
                let client = &self.clients[&id];
                assert!(guest.read + got <= client.written);
                assert!(got > 0 || (client.finished && guest.read == client.written), "an early end");
                let progress = !peek && (got > 0 || !guest.saw_end);
                if !peek {
                    guest.read += got;
                    guest.saw_end |= got == 0;
                }
                progress
            }
            Err(StreamError::WouldBlock) => {
                assert!(!ready);
                false
            }
            Err(StreamError::Unknown) => {
                assert!(guest.closed);
                false
            }
            Err(StreamError::Reset) => {
                assert!(self.clients[&id].closed && !guest.saw_end);
                guest.saw_reset = true;
                false
            }
            Err(StreamError::Closed) => unreachable!(),
        }
    }

    fn guest_close(&mut self, id: u64) {
        if let Some(guest) = self.guests.get_mut(&id) {
            self.task.close(id);
            (guest.closed, guest.finished) = (true, true);
        }
    }

    /// Lets everything run until nothing moves any more.
    fn settle(&mut self) {
        if !self.connected {
            self.attach();
        }
        loop {
            let mut progress = self.carry(1000, 1000) | self.accept();
            self.events();
            for id in 0..self.opened {
                progress |= self.client_read(id, 1 << 20) | self.guest_read(id, 1 << 20, false);
            }
            if !progress {
                return;
            }
        }
    }

    fn check(&mut self) {
        self.settle();
        for (id, client) in &self.clients {
            let guest = self.guests.get(id);
            if client.closed {
                assert!(guest.is_none_or(|guest| guest.closed || guest.saw_reset || guest.saw_end), "{id}");
                continue;
            }
            let guest = guest.expect("every client is accepted");
            assert_eq!((client.read, client.saw_end), (guest.written, guest.finished), "to the client of {id}");
            if !guest.closed {
                assert_eq!((guest.read, guest.saw_end), (client.written, client.finished), "to the guest of {id}");
            }
        }
        assert_eq!(self.ingress.buffered(), 0);
        // Both sides let go, and nothing is left of it.
        (0..self.opened).for_each(|id| self.apply(&Op::ClientFinish(id)));
        (0..self.opened).for_each(|id| self.guest_close(id));
        self.settle();
        assert!(self.ingress.is_empty() && self.task.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_side_reads_what_the_other_wrote_whatever_happens(ops in prop::collection::vec(op(), 0..150)) {
        let mut world = World::new();
        world.attach();
        ops.iter().for_each(|op| world.apply(op));
        world.check();
    }

    #[test]
    fn a_channel_that_never_lasts_is_enough(ops in prop::collection::vec(op(), 0..60), carried in 1..8_usize) {
        // A channel that carries a few segments each time before it breaks, moves in between: still all arrives.
        let mut world = World::new();
        for op in &ops {
            world.apply(op);
            world.attach();
            world.carry(carried, carried);
        }
        world.check();
    }
}
