//! A node: it drives the machines of `wayfare-transfer` exactly as a real driver must.
//!
//! What a driver owes the machines, and this one shows:
//! - actions are carried out in the order in which they come, and before messages are polled;
//! - what an action says is to be in the journal is durable before its event is delivered;
//! - only durable records are spoken of to others ([`Host::on_ask`]); new ones do not contradict those being written;
//! - a machine that is over is kept until its last message is out and a freeze that it asked for has had its answer;
//! - a channel that broke the protocol, or from which no whole record came for too long, is closed, and the machine
//!   is told so;
//! - what was given away is kept apart from the tasks until it is released: the task may have come back meanwhile, and
//!   neither its pages nor its life are the old machine's business;
//! - messages are polled only while little waits to go out.

mod inbound;
mod outbound;
mod settings;

use crate::clock::{MILLI, Nanos, Rng};
use crate::disk::{Checkpoint, Disk, Entry};
use crate::guest::{Program, SimGuest};
use crate::net::{ConnId, Net};
use inbound::Inbound;
pub use outbound::Outcome;
use outbound::{Doubt, Outbound};
pub use settings::{Fails, Settings};
use std::collections::BTreeMap;
use std::rc::Rc;
use wayfare_transfer::channel::Credentials;
use wayfare_transfer::journal::{self, Facts, Record, Restart};
use wayfare_transfer::pages::PageDigest;
use wayfare_transfer::{Answer, Channel, Incoming, Kind, Message, PageRange, TaskId, destination, source};

/// Which host.
pub type HostId = usize;

/// The name by which a host stands in journals.
pub fn name(host: HostId) -> String {
    format!("n{host}")
}

fn number(name: &str) -> HostId {
    name[1..].parse().unwrap_or(0)
}

/// How a task is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Its record is being written.
    Starting,
    /// It runs.
    Running,
    /// It stands still, for a move.
    Frozen,
    /// It waits for a late page.
    Stalled(PageRange),
    /// It has come to its end.
    Ended,
}

/// A task at a host.
pub struct Slot {
    /// It.
    pub guest: SimGuest,
    /// Since which epoch it is here.
    pub epoch: u64,
    /// How it is.
    pub condition: Condition,
    /// Until when it has run.
    last: Nanos,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Somebody else's; it has said nothing yet.
    Fresh,
    /// A task of ours leaves by it.
    Source(TaskId),
    /// We ask by it.
    Doubt(TaskId),
    /// A task comes by it.
    Destination(u64),
}

struct Endpoint {
    channel: Channel,
    role: Role,
    connected: bool,
    heard: Nanos,
    spoke: Nanos,
}

/// What a write was for.
#[derive(Clone)]
enum Written {
    Started(TaskId),
    Logged(TaskId),
    Taken(u64),
    Saved(u64),
    Retaken(TaskId),
    Say(ConnId, Answer),
}

enum Job {
    Freeze(TaskId),
    Land(u64, Option<Rc<Program>>),
    Prepare(u64, Vec<u8>, Vec<PageRange>),
}

/// What a kill leaves nothing of.
#[derive(Default)]
struct Live {
    tasks: BTreeMap<TaskId, Slot>,
    outbound: BTreeMap<TaskId, Outbound>,
    inbound: BTreeMap<u64, Inbound>,
    doubts: BTreeMap<TaskId, Doubt>,
    ends: BTreeMap<ConnId, Endpoint>,
    jobs: Vec<(Nanos, Job)>,
    kept: BTreeMap<TaskId, Rc<BTreeMap<PageDigest, Vec<u8>>>>,
    modules: BTreeMap<[u8; 32], Rc<Program>>,
    /// Tasks that are owned here and cannot go on, and why.
    lost: BTreeMap<TaskId, &'static str>,
    checkpoint: Nanos,
}

/// A node.
pub struct Host {
    /// Its number.
    pub id: HostId,
    /// How it behaves.
    pub settings: Settings,
    /// Every moment at which it did something: those are the moments to break things at.
    pub instants: Vec<Nanos>,
    /// What it did, in words, if somebody wants to read it.
    pub story: Option<Vec<String>>,
    /// How moves ended.
    pub outcomes: Vec<Outcome>,
    /// Connections that were closed because the other side broke the protocol.
    pub violations: Vec<String>,
    credentials: Credentials,
    rng: Rng,
    disk: Disk<Written>,
    live: Option<Live>,
    serial: u64,
}

/// More than this is not given to a channel while it waits to go out.
const BACKLOG: usize = 64 << 10;
/// While a task runs without some pages, it is looked at so often whether it needs one.
const TICK: Nanos = MILLI;
/// The hosts' calendar stands still.
const TODAY: u64 = 500;

impl Host {
    /// A node with an empty disk.
    pub fn new(id: HostId, credentials: Credentials, settings: Settings, seed: u64) -> Self {
        Self {
            id,
            settings,
            instants: Vec::new(),
            story: None,
            outcomes: Vec::new(),
            violations: Vec::new(),
            credentials,
            rng: Rng::new(seed),
            disk: Disk::default(),
            live: Some(Live::default()),
            serial: 0,
        }
    }

    /// Whether it is up.
    pub fn is_alive(&self) -> bool {
        self.live.is_some()
    }

    /// A task that is in its memory.
    pub fn task(&self, task: TaskId) -> Option<&Slot> {
        self.live.as_ref()?.tasks.get(&task)
    }

    /// The last record about a task, durable or not.
    pub fn record(&self, task: TaskId) -> Option<&Record> {
        self.disk.latest(task)
    }

    /// Why a task that it owns cannot go on.
    pub fn lost(&self, task: TaskId) -> Option<&'static str> {
        self.live.as_ref()?.lost.get(&task).copied()
    }

    /// Whether it has nothing under way: no move, no question.
    pub fn is_quiet(&self) -> bool {
        self.live.as_ref().is_some_and(|live| {
            live.outbound.is_empty() && live.doubts.is_empty() && live.inbound.is_empty() && self.disk.next().is_none()
        })
    }

    /// Whether a task of it is on its way out.
    pub fn outbound(&self, task: TaskId) -> Option<&source::Source> {
        Some(&self.live.as_ref()?.outbound.get(&task)?.source)
    }

    /// The machines by which a task comes, or came.
    pub fn arrivals(&self, task: TaskId) -> Vec<&destination::Destination> {
        let of = |inbound: &&Inbound| inbound.destination.offer().is_some_and(|offer| offer.task == task);
        self.live.iter().flat_map(|live| live.inbound.values()).filter(of).map(|inbound| &inbound.destination).collect()
    }

    /// Whether a task is in its memory, since this epoch.
    fn runs(&self, task: TaskId, epoch: u64) -> bool {
        self.task(task).is_some_and(|slot| slot.epoch == epoch)
    }

    fn note(&mut self, now: Nanos, what: impl FnOnce() -> String) {
        if self.instants.last() != Some(&now) {
            self.instants.push(now);
        }
        if let Some(story) = &mut self.story {
            story.push(format!("{:>14} {} {}", now, name(self.id), what()));
        }
    }

    fn live(&mut self) -> &mut Live {
        self.live.get_or_insert_default()
    }

    /// Starts a task here, at epoch 1.
    pub fn start(&mut self, now: Nanos, task: TaskId, program: &Program) {
        let guest = SimGuest::start(program);
        let module = program.encode();
        let live = self.live();
        live.modules.insert(*blake3::hash(&module).as_bytes(), Rc::new(program.clone()));
        live.tasks.insert(task, Slot { guest, epoch: 1, condition: Condition::Starting, last: now });
        self.own(now, task, 1, Written::Started(task));
    }

    /// Writes that a task is owned here, with a checkpoint of it as it stands.
    fn own(&mut self, now: Nanos, task: TaskId, epoch: u64, then: Written) {
        let slot = self.live.as_ref().and_then(|live| live.tasks.get(&task));
        let checkpoint = slot.map(|slot| Checkpoint { epoch, guest: Rc::new(slot.guest.clone()) });
        let entry = Entry { record: Some(Record::Owned { epoch }), checkpoint };
        self.disk.write(now, self.settings.log, task, entry, Some(then));
    }

    fn write(&mut self, now: Nanos, task: TaskId, record: Record, then: Option<Written>) {
        self.note(now, || format!("writes {record:?}"));
        self.disk.write(now, self.settings.log, task, Entry { record: Some(record), checkpoint: None }, then);
    }

    /// The power fails.
    pub fn kill(&mut self, now: Nanos) {
        self.note(now, || "dies".into());
        self.live = None;
        self.disk.kill(now, &mut self.rng);
    }

    /// It starts again, with what is on its disk.
    pub fn restart(&mut self, now: Nanos) {
        self.note(now, || "starts again".into());
        let mut live = Live::default();
        let mut given_up = Vec::new();
        for (task, entry) in self.disk.durable() {
            let Some(record) = &entry.record else { continue };
            match journal::restart(record) {
                Restart::Run => match &entry.checkpoint {
                    Some(checkpoint) if checkpoint.epoch == record.epoch() => {
                        let guest = SimGuest::clone(&checkpoint.guest);
                        let epoch = checkpoint.epoch;
                        live.tasks.insert(task, Slot { guest, epoch, condition: Condition::Running, last: now });
                    }
                    _ => {
                        live.lost.insert(task, "there is no checkpoint");
                    }
                },
                Restart::Ask { to, epoch } => {
                    live.doubts.insert(task, Doubt::new(number(&to), epoch, now, false));
                }
                Restart::GiveUp { epoch } => given_up.push((task, epoch)),
                Restart::Nothing => {}
            }
        }
        live.checkpoint = now + self.settings.checkpoint;
        self.live = Some(live);
        for (task, epoch) in given_up {
            self.write(now, task, Record::Lost { epoch }, None);
        }
    }

    /// Somebody has dialled.
    pub fn on_incoming(&mut self, now: Nanos, conn: ConnId, peer: HostId) {
        self.note(now, || format!("is dialled by {} on {conn}", name(peer)));
        let seed = self.rng.seed();
        if let Ok(channel) = Channel::respond(self.credentials.clone(), seed, TODAY, false) {
            let end = Endpoint { channel, role: Role::Fresh, connected: true, heard: now, spoke: now };
            self.live().ends.insert(conn, end);
        }
    }

    fn dial(&mut self, now: Nanos, net: &mut Net, to: HostId, role: Role) -> Option<ConnId> {
        let seed = self.rng.seed();
        let channel = Channel::initiate(self.credentials.clone(), seed, TODAY).ok()?;
        let conn = net.dial(now, self.id, to);
        self.live().ends.insert(conn, Endpoint { channel, role, connected: false, heard: now, spoke: now });
        Some(conn)
    }

    /// A dialled connection is there.
    pub fn on_connected(&mut self, now: Nanos, conn: ConnId) {
        if let Some(end) = self.live().ends.get_mut(&conn) {
            (end.connected, end.heard) = (true, now);
        }
    }

    /// Bytes came.
    pub fn on_bytes(&mut self, now: Nanos, net: &mut Net, conn: ConnId, bytes: &[u8]) {
        self.advance(now);
        let Some(end) = self.live().ends.get_mut(&conn) else { return };
        let records = end.channel.records();
        let result = end.channel.handle(bytes);
        // Bytes alone are no sign of life: see `Channel::records`.
        if end.channel.records() > records {
            end.heard = now;
        }
        // What came before the damage is good.
        while let Some(incoming) = self.live().ends.get_mut(&conn).and_then(|end| end.channel.poll()) {
            self.on_message(now, net, conn, incoming);
        }
        if let Err(error) = result {
            self.violates(now, net, conn, error.to_string());
        }
    }

    /// A connection is gone.
    pub fn on_closed(&mut self, now: Nanos, conn: ConnId) {
        let Some(end) = self.live().ends.remove(&conn) else { return };
        self.note(now, || format!("loses connection {conn}"));
        match end.role {
            Role::Fresh => {}
            Role::Source(task) => self.outbound_disconnected(now, task, conn),
            Role::Destination(key) => self.inbound_disconnected(key, conn),
            Role::Doubt(task) => {
                let retry = now + self.settings.retry;
                if let Some(doubt) = self.live().doubts.get_mut(&task) {
                    doubt.lost(conn, retry);
                }
            }
        }
    }

    fn close(&mut self, now: Nanos, net: &mut Net, conn: ConnId) {
        net.close(now, self.id, conn);
        self.on_closed(now, conn);
    }

    fn violates(&mut self, now: Nanos, net: &mut Net, conn: ConnId, why: String) {
        self.note(now, || format!("closes connection {conn}: {why}"));
        self.violations.push(why);
        self.close(now, net, conn);
    }

    fn on_message(&mut self, now: Nanos, net: &mut Net, conn: ConnId, incoming: Incoming) {
        let Some(role) = self.live().ends.get(&conn).map(|end| end.role) else { return };
        let result = match incoming.kind {
            Kind::Transfer => match Message::decode(&incoming.payload) {
                Ok(message) => {
                    self.note(now, || format!("hears on {conn} {}", short(&message)));
                    self.on_transfer(now, net, conn, role, message)
                }
                Err(error) => Err(error.to_string()),
            },
            Kind::Pages | Kind::Part => match role {
                Role::Destination(key) => self.on_bulk(key, &incoming),
                _ => Err("pages from somebody who offered nothing".into()),
            },
            // A sign of life.
            Kind::Node => Ok(()),
            Kind::Stream => Err("no stream was agreed on".into()),
        };
        if let Err(why) = result {
            self.violates(now, net, conn, why);
        }
    }

    fn on_transfer(
        &mut self,
        now: Nanos,
        net: &mut Net,
        conn: ConnId,
        role: Role,
        message: Message,
    ) -> Result<(), String> {
        match (role, message) {
            (_, Message::Ask { task, epoch, holds }) => {
                self.on_ask(now, net, conn, (task, epoch), holds);
                Ok(())
            }
            (Role::Doubt(task), Message::Answer(answer)) => {
                self.on_answer(now, net, task, conn, answer);
                Ok(())
            }
            (Role::Fresh, Message::Reattach { task, epoch }) => self.on_reattach(now, net, conn, task, epoch),
            (Role::Fresh, message @ Message::Offer(_)) => self.on_offer(now, net, conn, message),
            (Role::Source(task), message) => self.outbound_message(now, task, message),
            (Role::Destination(key), message) => self.inbound_message(key, message),
            _ => Err("a message out of place".into()),
        }
    }

    fn tell(&mut self, now: Nanos, conn: ConnId, message: &Message) {
        self.note(now, || format!("says on {conn} {}", short(message)));
        if let Some(end) = self.live().ends.get_mut(&conn) {
            let _ = end.channel.send(Kind::Transfer, &message.encode());
        }
    }

    /// Answers what became of a task, so that the same answer holds for ever.
    fn on_ask(&mut self, now: Nanos, net: &mut Net, conn: ConnId, (task, epoch): (TaskId, u64), holds: bool) {
        // Whoever asks has not, or no longer, a connection by which to commit: an open session is closed first.
        self.close_sessions(now, net, task, Some(epoch));
        let mut deciding = false;
        // One who has nothing of it any more cannot send what is missing.
        if !holds {
            deciding |= self.forsake(task, epoch);
        }
        // What is being written now is true soon, or never: nothing is said until then.
        deciding |= self.disk.is_writing(task);
        let facts = Facts { runs: self.runs(task, epoch), deciding, holds };
        match journal::answer(self.disk.record(task), epoch, facts) {
            (answer, Some(record)) => self.write(now, task, record, Some(Written::Say(conn, answer))),
            (answer, None) => self.tell(now, conn, &Message::Answer(answer)),
        }
    }

    /// Runs all tasks as far as they get.
    fn advance(&mut self, now: Nanos) {
        let Some(live) = &mut self.live else { return };
        let mut ended = Vec::new();
        for (task, slot) in &mut live.tasks {
            let step = slot.guest.program().step;
            while slot.condition == Condition::Running && slot.last + step <= now {
                match slot.guest.step() {
                    Ok(()) => slot.last += step,
                    Err(range) => {
                        slot.condition = Condition::Stalled(range);
                        let of = |i: &&mut Inbound| i.destination.offer().is_some_and(|o| o.task == *task);
                        if let Some(inbound) = live.inbound.values_mut().filter(of).find(|i| i.destination.owns()) {
                            inbound.destination.handle_event(destination::Event::Fault(range));
                        }
                    }
                }
                if slot.guest.has_ended() {
                    slot.condition = Condition::Ended;
                    ended.push((*task, slot.epoch));
                }
            }
        }
        for (task, epoch) in ended {
            self.write(now, task, Record::Ended { epoch }, None);
        }
    }

    fn checkpoint(&mut self, now: Nanos) {
        let every = self.settings.checkpoint;
        let Some(live) = &mut self.live else { return };
        if live.checkpoint > now {
            return;
        }
        live.checkpoint = now + every;
        for (task, slot) in &live.tasks {
            if slot.condition == Condition::Running && slot.guest.missing() == 0 {
                let checkpoint = Checkpoint { epoch: slot.epoch, guest: Rc::new(slot.guest.clone()) };
                let entry = Entry { record: None, checkpoint: Some(checkpoint) };
                self.disk.write(now, 2 * self.settings.log, *task, entry, None);
            }
        }
    }

    /// Does all that is to be done at this moment.
    pub fn pump(&mut self, now: Nanos, net: &mut Net) {
        if self.live.is_none() {
            return;
        }
        self.advance(now);
        self.checkpoint(now);
        loop {
            let mut busy = false;
            while let Some(written) = self.disk.settle(now) {
                self.on_written(now, written);
                busy = true;
            }
            while let Some(at) = self.live().jobs.iter().position(|(due, _)| *due <= now) {
                let (_, job) = self.live().jobs.swap_remove(at);
                match job {
                    Job::Freeze(task) => self.on_freeze(now, task),
                    Job::Land(key, program) => self.on_land(now, key, program),
                    Job::Prepare(key, state, late) => self.on_prepare(now, key, &state, &late),
                }
                busy = true;
            }
            busy |= self.pump_outbound(now, net);
            busy |= self.pump_inbound(now, net);
            busy |= self.pump_doubts(now, net);
            busy |= self.transmit(now, net);
            if !busy {
                break;
            }
        }
    }

    fn on_written(&mut self, now: Nanos, written: Written) {
        match written {
            Written::Started(task) | Written::Retaken(task) => {
                self.note(now, || "runs a task".into());
                if let Some(slot) = self.live().tasks.get_mut(&task) {
                    (slot.condition, slot.last) = (Condition::Running, now);
                }
            }
            Written::Logged(task) => {
                self.note(now, || "has logged a move".into());
                if let Some(outbound) = self.live().outbound.get_mut(&task) {
                    outbound.source.handle_event(source::Event::Logged);
                }
            }
            Written::Taken(key) => {
                self.note(now, || "has logged that it may have a task".into());
                if let Some(inbound) = self.live().inbound.get_mut(&key) {
                    inbound.destination.handle_event(destination::Event::Logged);
                }
            }
            Written::Saved(key) => {
                self.note(now, || "has a task on its disk".into());
                if let Some(inbound) = self.live().inbound.get_mut(&key) {
                    inbound.destination.handle_event(destination::Event::Saved);
                }
            }
            Written::Say(conn, answer) => self.tell(now, conn, &Message::Answer(answer)),
        }
    }

    /// Puts on the wire what channels have, gives signs of life, and closes what gives none.
    fn transmit(&mut self, now: Nanos, net: &mut Net) -> bool {
        let (id, idle) = (self.id, self.settings.idle);
        let (mut silent, mut busy) = (Vec::new(), false);
        let mut buffer = Vec::new();
        for (conn, end) in &mut self.live().ends {
            if !end.connected {
                continue;
            }
            if end.channel.is_open() && end.channel.backlog() == 0 && now >= end.spoke + idle / 4 {
                let _ = end.channel.send(Kind::Node, b"");
            }
            if net.room(now, id, *conn) > 0 {
                if end.channel.poll_transmit(&mut buffer) {
                    end.spoke = now;
                    busy = true;
                    net.send(now, id, *conn, &buffer);
                }
            } else {
                net.wake(now, id, *conn);
            }
            if now >= end.heard + idle {
                silent.push(*conn);
            }
        }
        for conn in silent {
            self.note(now, || format!("gives up on silent connection {conn}"));
            self.close(now, net, conn);
            busy = true;
        }
        busy
    }

    /// When [`Host::pump`] is to be called next though nothing has come.
    pub fn next_time(&self, now: Nanos) -> Option<Nanos> {
        let live = self.live.as_ref()?;
        let mut next = self.disk.next();
        let mut at = |time: Nanos| next = Some(next.map_or(time, |next: Nanos| next.min(time)));
        live.jobs.iter().for_each(|(due, _)| at(*due));
        for slot in live.tasks.values().filter(|slot| slot.condition == Condition::Running) {
            at(live.checkpoint.max(now + 1));
            if slot.guest.missing() > 0 {
                at(now + TICK);
            } else if let Some(end) = slot.guest.program().end {
                at((slot.last + (end - slot.guest.steps()) * slot.guest.program().step).max(now + 1));
            }
        }
        for end in live.ends.values().filter(|end| end.connected) {
            at((end.heard + self.settings.idle).max(now + 1));
            if end.channel.is_open() && end.channel.backlog() == 0 {
                at((end.spoke + self.settings.idle / 4).max(now + 1));
            }
        }
        live.outbound.values().filter_map(|outbound| outbound.next_time(now)).for_each(&mut at);
        live.doubts.values().filter_map(|doubt| doubt.next_time(now)).for_each(&mut at);
        next
    }
}

/// A message without the long parts.
fn short(message: &Message) -> String {
    let mut text = format!("{message:?}");
    text.truncate(70);
    text
}
