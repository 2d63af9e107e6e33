//! Hosts, links, faults and one clock: a run is a function of its seed.
//!
//! After every single thing that happens the world looks at all hosts and panics if two of them run a task, or own it
//! by their journals, or if somebody runs it at an epoch that has passed.

use crate::clock::{Clock, Nanos, Rng, SECOND};
use crate::guest::Program;
use crate::host::{Condition, Host, HostId, Outcome, Settings, name};
use crate::hostile::Tamper;
use crate::link::Shape;
use crate::net::{Net, NetEvent};
use std::collections::BTreeMap;
use wayfare_transfer::channel::Credentials;
use wayfare_transfer::identity::{Authority, Claims, Revocations};
use wayfare_transfer::journal::Record;
use wayfare_transfer::source::Policy;
use wayfare_transfer::{Mode, TaskId};

/// Something that goes wrong, or that somebody wants.
#[derive(Clone, Debug)]
pub enum Fault {
    /// A link breaks. Silently: neither end is told.
    Cut(HostId, HostId, bool),
    /// Connections over a link break; new ones come about.
    Reset(HostId, HostId, bool),
    /// A link is there again.
    Heal(HostId, HostId),
    /// Nothing moves over a link for so long, and nothing is lost.
    Stall(HostId, HostId, Nanos),
    /// A host dies. Silently: its power fails.
    Kill(HostId, bool),
    /// A host that is dead starts again.
    Restart(HostId),
    /// The n-th record from now on from one host to another is tampered with.
    Tamper(HostId, HostId, u64, Tamper),
    /// Somebody wants the task to go there; nothing happens if it runs nowhere, or there.
    Move(HostId, Mode),
    /// Somebody calls off whatever move there is.
    Cancel,
}

/// The task that worlds are about.
pub const TASK: TaskId = TaskId([7; 16]);

/// Everything.
pub struct World {
    /// The hosts.
    pub hosts: Vec<Host>,
    /// What is between them.
    pub net: Net,
    /// How moves go that [`Fault::Move`] begins.
    pub policy: Policy,
    clock: Clock,
    program: Program,
    plan: BTreeMap<(Nanos, usize), Fault>,
    planned: usize,
    /// The highest epoch at which the task ever ran.
    epoch: u64,
    /// The most steps it was ever seen to have made, where it ran.
    steps: u64,
    /// Whether a kill may have taken it back to a checkpoint.
    killed: bool,
    /// How often it looked at its hosts.
    looks: u64,
    /// Moments at which the task began to run, and where.
    runs: Vec<(Nanos, HostId)>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// One host runs the task.
    Runs(HostId),
    /// It has come to its end there.
    Ended(HostId),
    /// It is owned there and waits for pages that may never come.
    Stalled(HostId),
    /// It is owned there and cannot go on; the host says why.
    Lost(HostId, &'static str),
    /// A host does not know whether it has given it away, and holds it frozen.
    Unknown(HostId),
}

/// What so many nodes of one cluster show each other.
pub fn credentials(hosts: usize) -> Vec<Credentials> {
    let authority = Authority::from_secret(&[9; 32]);
    let of = |id: usize| {
        let secret = [id as u8 + 1; 32];
        let claims = Claims {
            cluster: [0; 32],
            name: name(id),
            key: Credentials::public_key(&secret),
            serial: id as u64,
            not_before: 0,
            not_after: 1000,
        };
        let certificate = Some(authority.certify(claims));
        Credentials { secret, certificate, cluster: authority.public(), revoked: Revocations::default() }
    };
    (0..hosts).map(of).collect()
}

thread_local! {
    // Keys and signatures are the dearest part of making a world, and are always the same.
    static CREDENTIALS: Vec<Credentials> = credentials(4);
}

impl World {
    /// So many hosts, at most four, with links of one shape, and the task at the first.
    pub fn new(hosts: usize, shape: &Shape, settings: &Settings, program: &Program, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let all = CREDENTIALS.with(Clone::clone);
        let hosts: Vec<Host> = (all.into_iter().take(hosts).enumerate())
            .map(|(id, credentials)| Host::new(id, credentials, settings.clone(), rng.draw()))
            .collect();
        let net = Net::new(hosts.len(), shape, rng.draw());
        let mut world = Self {
            hosts,
            net,
            policy: Policy::default(),
            clock: Clock::default(),
            program: program.clone(),
            plan: BTreeMap::new(),
            planned: 0,
            epoch: 0,
            steps: 0,
            killed: false,
            looks: 0,
            runs: Vec::new(),
        };
        world.hosts[0].start(0, TASK, program);
        world
    }

    /// Makes hosts remember what they do, for [`World::story`].
    pub fn tell(&mut self) {
        self.hosts.iter_mut().for_each(|host| host.story = Some(Vec::new()));
    }

    /// What hosts did, in the order of time.
    pub fn story(&self) -> String {
        let mut lines: Vec<&String> = self.hosts.iter().filter_map(|host| host.story.as_ref()).flatten().collect();
        lines.sort_by_key(|line| line[..14].trim().parse::<u64>().unwrap_or(0));
        lines.into_iter().fold(String::new(), |all, line| all + line + "\n")
    }

    /// How often anything happened.
    pub fn looks(&self) -> u64 {
        self.looks
    }

    /// The time.
    pub fn now(&self) -> Nanos {
        self.clock.now()
    }

    /// Something is to happen at `at`, after all else that happens then.
    pub fn plan(&mut self, at: Nanos, fault: Fault) {
        self.planned += 1;
        self.plan.insert((at, self.planned), fault);
    }

    /// Every moment at which a host did something.
    pub fn instants(&self) -> Vec<Nanos> {
        let mut all: Vec<Nanos> = self.hosts.iter().flat_map(|host| host.instants.iter().copied()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// How moves ended, in the order of time.
    pub fn outcomes(&self) -> Vec<Outcome> {
        let mut all: Vec<Outcome> = self.hosts.iter().flat_map(|host| host.outcomes.iter().cloned()).collect();
        all.sort_by_key(|outcome| outcome.ended);
        all
    }

    /// Moments at which the task began to run, and where.
    pub fn runs(&self) -> &[(Nanos, HostId)] {
        &self.runs
    }

    /// Where the task runs, or stands ready to.
    pub fn whereabouts(&self) -> Option<HostId> {
        self.hosts
            .iter()
            .find(|host| host.task(TASK).is_some_and(|slot| slot.condition == Condition::Running))
            .map(|h| h.id)
    }

    fn happen(&mut self, now: Nanos, fault: Fault) {
        match fault {
            Fault::Cut(a, b, silent) => self.net.cut(a, b, silent),
            Fault::Reset(a, b, silent) => self.net.reset(a, b, silent),
            Fault::Heal(a, b) => self.net.heal(a, b),
            Fault::Stall(a, b, long) => self.net.stall(now, a, b, long),
            Fault::Kill(host, silent) => {
                if self.hosts[host].is_alive() {
                    self.hosts[host].kill(now);
                    self.net.kill(now, host, silent);
                    self.killed = true;
                }
            }
            Fault::Restart(host) => {
                if !self.hosts[host].is_alive() {
                    self.hosts[host].restart(now);
                    self.net.revive(host);
                }
            }
            Fault::Tamper(from, to, nth, tamper) => {
                if let Some(meddler) = self.net.meddler(from, to) {
                    let seen = meddler.seen();
                    meddler.plan.insert(seen + nth, tamper);
                }
            }
            Fault::Move(to, mode) => {
                if let Some(from) = self.whereabouts().filter(|from| *from != to) {
                    self.hosts[from].move_task(now, &mut self.net, TASK, to, mode, self.policy);
                }
            }
            Fault::Cancel => self.hosts.iter_mut().filter(|host| host.is_alive()).for_each(|host| host.cancel(TASK)),
        }
    }

    /// Lets time run until `until`, or until `done` says so.
    pub fn run_until(&mut self, until: Nanos, mut done: impl FnMut(&World) -> bool) {
        loop {
            let now = self.clock.now();
            let times = self.hosts.iter().filter_map(|host| host.next_time(now)).chain(self.net.next_time());
            let planned = self.plan.keys().next().map(|(at, _)| *at);
            let next = times.chain(planned).min().map(|next| next.max(now)).filter(|next| *next <= until);
            let Some(next) = next.filter(|_| !done(self)) else {
                // Nothing happens until then, or enough has.
                self.clock.advance(next.map_or(until, |_| now).max(now));
                return;
            };
            self.clock.advance(next);
            // Hosts name moments after `now` only: who is due is to be known before time goes on.
            for host in 0..self.hosts.len() {
                if self.hosts[host].next_time(now).is_some_and(|at| at <= next) {
                    self.pump(next, host);
                }
            }
            self.instant(next);
        }
    }

    fn instant(&mut self, now: Nanos) {
        for _ in 0..100_000 {
            let mut busy = false;
            while let Some(event) = self.net.step(now) {
                busy = true;
                let host = event.host();
                if !self.hosts[host].is_alive() {
                    continue;
                }
                match event {
                    NetEvent::Incoming(_, conn, peer) => self.hosts[host].on_incoming(now, conn, peer),
                    NetEvent::Connected(_, conn) => self.hosts[host].on_connected(now, conn),
                    NetEvent::Bytes(_, conn, bytes) => self.hosts[host].on_bytes(now, &mut self.net, conn, &bytes),
                    NetEvent::Closed(_, conn) => self.hosts[host].on_closed(now, conn),
                    NetEvent::Room(_) => {}
                }
                self.pump(now, host);
            }
            for host in 0..self.hosts.len() {
                if self.hosts[host].next_time(now).is_some_and(|at| at <= now) {
                    self.pump(now, host);
                    busy = true;
                }
            }
            if !busy && let Some((&key, _)) = self.plan.first_key_value().filter(|((at, _), _)| *at <= now) {
                if let Some(fault) = self.plan.remove(&key) {
                    self.happen(now, fault);
                    (0..self.hosts.len()).for_each(|host| self.pump(now, host));
                }
                busy = true;
            }
            if !busy {
                return;
            }
        }
        panic!("the world does not come to rest at {now}\n{}", self.story());
    }

    fn pump(&mut self, now: Nanos, host: HostId) {
        self.hosts[host].pump(now, &mut self.net);
        self.watch(now);
    }

    /// What must hold at every moment.
    fn watch(&mut self, now: Nanos) {
        self.looks += 1;
        let runs = |condition: &Condition| matches!(condition, Condition::Running | Condition::Stalled(_));
        let mut running = None;
        let mut owner = None;
        for host in &self.hosts {
            if let Some(slot) = host.task(TASK).filter(|slot| runs(&slot.condition)) {
                assert!(
                    running.is_none(),
                    "two hosts run the task at {now}: {running:?} and {}\n{}",
                    host.id,
                    self.story()
                );
                running = Some((host.id, slot.epoch, slot.guest.steps()));
            }
            let owns = match host.record(TASK) {
                Some(Record::Owned { .. } | Record::Ended { .. }) => true,
                // Or it is only ready to.
                Some(Record::Taken { .. }) => host.task(TASK).is_some(),
                _ => false,
            };
            if owns {
                assert!(
                    owner.is_none(),
                    "two hosts own the task at {now}: {owner:?} and {}\n{}",
                    host.id,
                    self.story()
                );
                owner = Some(host.id);
            }
        }
        let Some((id, epoch, steps)) = running else { return };
        assert!(epoch >= self.epoch, "the task runs at epoch {epoch} after {} at {now}\n{}", self.epoch, self.story());
        // Until it stands still it runs on while the note is made that it may go.
        let leaving = owner.is_none() && matches!(self.hosts[id].record(TASK), Some(Record::Moving { .. }));
        assert!(owner == Some(id) || leaving, "n{id} runs what {owner:?} owns at {now}\n{}", self.story());
        if self.runs.last().is_none_or(|(_, last)| *last != id) || epoch > self.epoch {
            self.runs.push((now, id));
        }
        assert!(
            steps >= self.steps || self.killed,
            "the task went back from step {} to {steps} at {now}, and nobody was killed\n{}",
            self.steps,
            self.story()
        );
        self.epoch = epoch;
        self.steps = steps;
    }

    /// Makes everything good again and lets time run until nothing is under way; then says where the task is, having
    /// checked that it is what an unmoved one would be.
    pub fn settle(&mut self, patience: Nanos) -> End {
        let now = self.clock.now();
        self.plan.clear();
        for a in 0..self.hosts.len() {
            for b in 0..self.hosts.len() {
                if let Some(meddler) = self.net.meddler(a, b).filter(|_| a != b) {
                    meddler.plan.clear();
                }
                self.net.heal(a, b);
            }
            self.plan(now, Fault::Restart(a));
        }
        self.run_until(now + patience, |world| {
            world.plan.is_empty() && world.hosts.iter().all(Host::is_quiet) && world.whereabouts().is_some()
        });
        // Whoever runs it goes on.
        let now = self.clock.now();
        self.run_until(now + SECOND / 10, |_| false);
        self.verdict()
    }

    fn verdict(&self) -> End {
        let mut ends = Vec::new();
        for host in &self.hosts {
            if let Some(why) = host.lost(TASK) {
                ends.push(End::Lost(host.id, why));
            } else if matches!(host.record(TASK), Some(Record::Moving { .. })) {
                ends.push(End::Unknown(host.id));
            } else if matches!(host.record(TASK), Some(Record::Ended { .. })) {
                ends.push(End::Ended(host.id));
            } else if let Some(slot) = host.task(TASK) {
                match slot.condition {
                    Condition::Running => ends.push(End::Runs(host.id)),
                    Condition::Stalled(_) => ends.push(End::Stalled(host.id)),
                    _ => ends.push(End::Unknown(host.id)),
                }
            }
            if let Some(slot) = host.task(TASK).filter(|slot| slot.guest.missing() == 0) {
                let unmoved = self.program.unmoved(slot.guest.steps());
                assert!(
                    unmoved.digest() == slot.guest.digest(),
                    "the task at {} is not what it would be at step {}\n{}",
                    host.id,
                    slot.guest.steps(),
                    self.story()
                );
            }
        }
        assert!(ends.len() == 1, "the task is in {} places: {ends:?}\n{}", ends.len(), self.story());
        ends.remove(0)
    }
}
