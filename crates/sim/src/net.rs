//! Links between hosts, and the connections over them: what a socket would do, without one.
//!
//! Each connection has the link's rate to itself. A connection that is cut silently stays open at both ends, as one
//! does whose packets vanish: only silence tells.

use crate::clock::{MILLI, Nanos, Rng};
use crate::host::HostId;
use crate::hostile::Meddler;
use crate::link::{Pipe, Shape};
use std::collections::BTreeMap;

/// A connection; never used twice.
pub type ConnId = u64;

/// After this a dialler that hears nothing gives up.
const DIAL_TIMEOUT: Nanos = 150 * MILLI;

struct Conn {
    /// Who dialled, who was dialled.
    ends: [HostId; 2],
    /// From the first to the second, and back.
    pipes: [Pipe; 2],
    open: [bool; 2],
    /// Nothing passes any more, and nobody is told.
    dead: bool,
}

enum Dial {
    Syn,
    Answer,
    Fail,
}

struct Link {
    shape: Shape,
    up: bool,
    /// Towards the host of the higher number, and back.
    meddlers: [Meddler; 2],
}

/// What hosts are told.
#[derive(Debug)]
pub enum NetEvent {
    /// Somebody has dialled.
    Incoming(HostId, ConnId, HostId),
    /// A dialled connection is there.
    Connected(HostId, ConnId),
    /// Bytes came.
    Bytes(HostId, ConnId, Vec<u8>),
    /// A connection is gone, or did not come about.
    Closed(HostId, ConnId),
    /// A connection takes more bytes.
    Room(HostId),
}

impl NetEvent {
    /// Who is told.
    pub fn host(&self) -> HostId {
        match self {
            Self::Incoming(host, ..) | Self::Bytes(host, ..) => *host,
            Self::Connected(host, _) | Self::Closed(host, _) | Self::Room(host) => *host,
        }
    }
}

/// All links and connections.
pub struct Net {
    rng: Rng,
    links: BTreeMap<(HostId, HostId), Link>,
    conns: BTreeMap<ConnId, Conn>,
    dials: BTreeMap<(Nanos, ConnId), (HostId, HostId, Dial)>,
    wakes: BTreeMap<(Nanos, HostId), ()>,
    closed: Vec<(HostId, ConnId)>,
    alive: Vec<bool>,
    next: ConnId,
    /// Bytes sent from one host to another, handshakes and all.
    sent: BTreeMap<(HostId, HostId), u64>,
}

fn pair(a: HostId, b: HostId) -> (HostId, HostId) {
    (a.min(b), a.max(b))
}

impl Net {
    /// A full mesh of links of one shape.
    pub fn new(hosts: usize, shape: &Shape, seed: u64) -> Self {
        let mut links = BTreeMap::new();
        for a in 0..hosts {
            for b in a + 1..hosts {
                links.insert((a, b), Link { shape: shape.clone(), up: true, meddlers: Default::default() });
            }
        }
        Self {
            rng: Rng::new(seed),
            links,
            conns: BTreeMap::new(),
            dials: BTreeMap::new(),
            wakes: BTreeMap::new(),
            closed: Vec::new(),
            alive: vec![true; hosts],
            next: 1,
            sent: BTreeMap::new(),
        }
    }

    fn link(&mut self, a: HostId, b: HostId) -> Option<&mut Link> {
        self.links.get_mut(&pair(a, b))
    }

    /// What tampers with records from one host to another.
    pub fn meddler(&mut self, from: HostId, to: HostId) -> Option<&mut Meddler> {
        self.link(from, to).map(|link| &mut link.meddlers[usize::from(from > to)])
    }

    /// Bytes sent from one host to another.
    pub fn sent(&self, from: HostId, to: HostId) -> u64 {
        self.sent.get(&(from, to)).copied().unwrap_or(0)
    }

    /// Begins a connection.
    pub fn dial(&mut self, now: Nanos, from: HostId, to: HostId) -> ConnId {
        let conn = self.next;
        self.next += 1;
        let delay = self.link(from, to).map_or(0, |link| link.shape.trace.at(now).delay);
        self.dials.insert((now + delay, conn), (from, to, Dial::Syn));
        conn
    }

    /// Bytes that a connection takes now.
    pub fn room(&self, now: Nanos, host: HostId, conn: ConnId) -> usize {
        self.conns.get(&conn).map_or(0, |c| c.pipes[usize::from(c.ends[0] != host)].room(now))
    }

    /// The host is told when the connection takes more.
    pub fn wake(&mut self, now: Nanos, host: HostId, conn: ConnId) {
        let pipe = self.conns.get(&conn).map(|c| &c.pipes[usize::from(c.ends[0] != host)]);
        if let Some(at) = pipe.and_then(|pipe| pipe.more_room(now)) {
            self.wakes.insert((at, host), ());
        }
    }

    /// Sends bytes.
    pub fn send(&mut self, now: Nanos, host: HostId, conn: ConnId, bytes: &[u8]) {
        let Some(c) = self.conns.get_mut(&conn) else { return };
        let end = usize::from(c.ends[0] != host);
        let to = c.ends[1 - end];
        if c.dead || !c.open[end] {
            return;
        }
        *self.sent.entry((host, to)).or_default() += bytes.len() as u64;
        if let Some(link) = self.links.get_mut(&pair(host, to)) {
            let bytes = link.meddlers[usize::from(host > to)].pass(bytes);
            c.pipes[end].send(now, &bytes);
        }
    }

    /// Closes this host's end; what it has sent still arrives.
    pub fn close(&mut self, now: Nanos, host: HostId, conn: ConnId) {
        if let Some(c) = self.conns.get_mut(&conn) {
            let end = usize::from(c.ends[0] != host);
            c.open[end] = false;
            c.pipes[end].finish(now);
            c.pipes[1 - end].cut();
            if c.open == [false; 2] {
                self.conns.remove(&conn);
            }
        }
    }

    /// Breaks a link: all that is on its way is lost. `silent`: neither end is told.
    pub fn cut(&mut self, a: HostId, b: HostId, silent: bool) {
        if let Some(link) = self.link(a, b) {
            link.up = false;
        }
        self.reset(a, b, silent);
    }

    /// Breaks the connections over a link, which itself stays.
    pub fn reset(&mut self, a: HostId, b: HostId, silent: bool) {
        let over = |c: &Conn| pair(c.ends[0], c.ends[1]) == pair(a, b);
        for (id, c) in self.conns.iter_mut().filter(|(_, c)| over(c)) {
            c.pipes.iter_mut().for_each(Pipe::cut);
            c.dead = true;
            if !silent {
                self.closed.extend((0..2).filter(|end| c.open[*end]).map(|end| (c.ends[end], *id)));
                c.open = [false; 2];
            }
        }
        self.conns.retain(|_, c| c.open != [false; 2]);
    }

    /// The link is there again.
    pub fn heal(&mut self, a: HostId, b: HostId) {
        if let Some(link) = self.link(a, b) {
            link.up = true;
        }
    }

    /// Nothing moves over a link for a while, and nothing is lost.
    pub fn stall(&mut self, now: Nanos, a: HostId, b: HostId, long: Nanos) {
        let over = |c: &&mut Conn| pair(c.ends[0], c.ends[1]) == pair(a, b);
        for c in self.conns.values_mut().filter(over) {
            c.pipes.iter_mut().for_each(|pipe| pipe.stall(now, long));
        }
    }

    /// A host dies. `silent`: its power failed, and nobody hears of it; else its kernel closes what was open.
    pub fn kill(&mut self, now: Nanos, host: HostId, silent: bool) {
        self.alive[host] = false;
        self.dials.retain(|_, (from, ..)| *from != host);
        for c in self.conns.values_mut().filter(|c| c.ends.contains(&host)) {
            let end = usize::from(c.ends[0] != host);
            c.open[end] = false;
            c.pipes[end].drop_unsent(now);
            c.pipes[1 - end].cut();
            if !silent {
                c.pipes[end].finish(now);
            }
        }
        self.conns.retain(|_, c| c.open != [false; 2]);
    }

    /// A host is back, and knows none of its connections.
    pub fn revive(&mut self, host: HostId) {
        self.alive[host] = true;
    }

    /// When something happens next.
    pub fn next_time(&self) -> Option<Nanos> {
        if !self.closed.is_empty() {
            return Some(0);
        }
        let pipes = self.conns.values().flat_map(|c| {
            c.pipes.iter().enumerate().filter(|(end, _)| c.open[1 - end] && !c.dead).filter_map(|(_, pipe)| pipe.next())
        });
        let dials = self.dials.keys().map(|(at, _)| *at).next();
        let wakes = self.wakes.keys().map(|(at, _)| *at).next();
        pipes.chain(dials).chain(wakes).min()
    }

    /// The next thing that happens until `now`.
    pub fn step(&mut self, now: Nanos) -> Option<NetEvent> {
        if let Some((host, conn)) = self.closed.pop() {
            return Some(NetEvent::Closed(host, conn));
        }
        if let Some(event) = self.step_dials(now) {
            return Some(event);
        }
        for (id, c) in &mut self.conns {
            for end in 0..2 {
                if !c.open[1 - end] || c.dead {
                    continue;
                }
                if let Some(bytes) = c.pipes[end].deliver(now) {
                    return Some(NetEvent::Bytes(c.ends[1 - end], *id, bytes));
                }
                if c.pipes[end].ended(now) {
                    c.open[1 - end] = false;
                    let event = NetEvent::Closed(c.ends[1 - end], *id);
                    self.conns.retain(|_, c| c.open != [false; 2]);
                    return Some(event);
                }
            }
        }
        let (&(at, host), ()) = self.wakes.first_key_value()?;
        (at <= now).then(|| {
            self.wakes.pop_first();
            NetEvent::Room(host)
        })
    }

    fn step_dials(&mut self, now: Nanos) -> Option<NetEvent> {
        while let Some((&(at, conn), _)) = self.dials.first_key_value()
            && at <= now
        {
            let Some((_, (from, to, dial))) = self.dials.pop_first() else { break };
            let alive = self.alive[to];
            let seeds = [self.rng.draw(), self.rng.draw()];
            let Some(link) = self.links.get_mut(&pair(from, to)) else { continue };
            let delay = link.shape.trace.at(now).delay;
            match dial {
                Dial::Syn if !link.up || !alive => {
                    let after = if link.up { delay } else { DIAL_TIMEOUT };
                    self.dials.insert((now + after, conn), (from, to, Dial::Fail));
                }
                Dial::Syn => {
                    link.meddlers.iter_mut().for_each(Meddler::begin);
                    let pipes = seeds.map(|seed| Pipe::new(link.shape.clone(), seed));
                    self.conns.insert(conn, Conn { ends: [from, to], pipes, open: [true; 2], dead: false });
                    self.dials.insert((now + delay, conn), (from, to, Dial::Answer));
                    return Some(NetEvent::Incoming(to, conn, from));
                }
                // Whoever was killed meanwhile knows nothing of it, and a connection that was cut was said to be.
                Dial::Answer if self.conns.get(&conn).is_some_and(|c| c.open[0]) => {
                    return Some(NetEvent::Connected(from, conn));
                }
                Dial::Answer => {}
                Dial::Fail => return Some(NetEvent::Closed(from, conn)),
            }
        }
        None
    }
}
