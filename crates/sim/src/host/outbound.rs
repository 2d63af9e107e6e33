//! Tasks that leave a host, and questions about those of which it does not know whether they have left.

use super::{BACKLOG, Condition, Host, HostId, Job, Role, Slot, Written, name};
use crate::clock::Nanos;
use crate::disk::{Checkpoint, Entry};
use crate::guest::SimGuest;
use crate::net::{ConnId, Net};
use std::rc::Rc;
use wayfare_transfer::journal::{self, Record};
use wayfare_transfer::source::{Action, Event, Guest, Phase, Policy, Progress, Source};
use wayfare_transfer::{Answer, Message, Mode, Offer, PageRange, Reason, Refusal, TaskId};

/// A move of a task away from here.
pub(super) struct Outbound {
    pub(super) source: Source,
    to: HostId,
    conn: Option<ConnId>,
    redial: Option<Nanos>,
    /// A new connection is to be told what it is for, once it is open.
    reattach: bool,
    freezing: bool,
    /// What was given away, as it was then: for the sake of its late pages, and to go on with it if it is lost there.
    given: Option<SimGuest>,
    outcome: Outcome,
}

impl Outbound {
    pub(super) fn next_time(&self, now: Nanos) -> Option<Nanos> {
        let redial = self.redial.filter(|_| self.conn.is_none());
        let limit = self.source.poll_timeout().filter(|_| self.conn.is_some());
        [redial, limit].into_iter().flatten().filter(|at| *at > now).min()
    }
}

/// How a move ended, by its source.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Of which task.
    pub task: TaskId,
    /// Where it was to go.
    pub to: HostId,
    /// How.
    pub phase: Phase,
    /// The machine's last figures.
    pub progress: Progress,
    /// When it began.
    pub began: Nanos,
    /// When the task stood still.
    pub frozen: Option<Nanos>,
    /// When it was over.
    pub ended: Nanos,
    /// Pages that were dirty at the start of each round.
    pub rounds: Vec<u64>,
}

/// A question that is asked until it is answered.
pub(super) struct Doubt {
    to: HostId,
    epoch: u64,
    /// The task is here as it was when it moved: a restart leaves nothing of that.
    holds: bool,
    conn: Option<ConnId>,
    asked: bool,
    at: Nanos,
}

impl Doubt {
    pub(super) fn new(to: HostId, epoch: u64, at: Nanos, holds: bool) -> Self {
        Self { to, epoch, holds, conn: None, asked: false, at }
    }

    pub(super) fn lost(&mut self, conn: ConnId, retry: Nanos) {
        if self.conn == Some(conn) {
            (self.conn, self.asked, self.at) = (None, false, retry);
        }
    }

    pub(super) fn next_time(&self, now: Nanos) -> Option<Nanos> {
        (!self.asked && self.at > now).then_some(self.at)
    }
}

/// The memory of a task that is not there any more.
struct Ended;

impl Guest for Ended {
    fn dirty(&mut self) -> Vec<PageRange> {
        Vec::new()
    }

    fn read(&mut self, _: PageRange, _: &mut Vec<u8>) -> bool {
        false
    }
}

impl Host {
    /// Begins to move a task away; `false` if it does not run here, or is not on the disk here yet.
    pub fn move_task(
        &mut self,
        now: Nanos,
        net: &mut Net,
        task: TaskId,
        to: HostId,
        mode: Mode,
        policy: Policy,
    ) -> bool {
        self.advance(now);
        let epoch = self.disk.latest(task).map_or(0, Record::epoch) + 1;
        let Some(live) = &mut self.live else { return false };
        let Some(slot) = live.tasks.get_mut(&task) else { return false };
        // The node that it came from still keeps it: that ends first.
        let coming = live.inbound.values().any(|i| i.task() == Some(task) && i.destination.owns() && !i.is_saved());
        if slot.condition != Condition::Running || live.outbound.contains_key(&task) || coming {
            return false;
        }
        slot.guest.begin_move();
        let (module, log) = (slot.guest.program().encode(), slot.guest.program().log());
        let offer = Offer {
            task,
            name: "task".into(),
            epoch,
            module: *blake3::hash(&module).as_bytes(),
            module_len: module.len() as u64,
            canonical_nan: false,
            memories: slot.guest.sizes(),
            mode,
            settings: Vec::new(),
        };
        let source = Source::new(offer, module, policy).with_extra(log);
        let outcome = Outcome {
            task,
            to,
            phase: Phase::Offering,
            progress: Progress::default(),
            began: now,
            frozen: None,
            ended: 0,
            rounds: Vec::new(),
        };
        self.note(now, || format!("moves its task to {}, {mode:?}, epoch {epoch}", name(to)));
        let conn = self.dial(now, net, to, Role::Source(task));
        let outbound =
            Outbound { source, to, conn, redial: None, reattach: false, freezing: false, given: None, outcome };
        self.live().outbound.insert(task, outbound);
        true
    }

    /// Calls a move off.
    pub fn cancel(&mut self, task: TaskId) {
        if let Some(outbound) = self.live().outbound.get_mut(&task) {
            outbound.source.handle_event(Event::Cancelled(Refusal::new(Reason::Cancelled, "called off")));
        }
    }

    pub(super) fn outbound_disconnected(&mut self, _now: Nanos, task: TaskId, conn: ConnId) {
        if let Some(outbound) = self.live().outbound.get_mut(&task).filter(|o| o.conn == Some(conn)) {
            outbound.conn = None;
            outbound.source.handle_event(Event::Disconnected);
        }
    }

    pub(super) fn outbound_message(&mut self, now: Nanos, task: TaskId, message: Message) -> Result<(), String> {
        let Some(outbound) = self.live().outbound.get_mut(&task) else { return Ok(()) };
        outbound.source.handle_message(now, message).map_err(|violation| violation.to_string())
    }

    pub(super) fn on_freeze(&mut self, now: Nanos, task: TaskId) {
        self.note(now, || "has stopped its task".into());
        let live = self.live();
        let Some(outbound) = live.outbound.get_mut(&task) else { return };
        outbound.freezing = false;
        let event = match live.tasks.get_mut(&task) {
            Some(slot) if slot.condition == Condition::Running => {
                slot.condition = Condition::Frozen;
                outbound.outcome.frozen = Some(now);
                Event::Frozen(slot.guest.registers())
            }
            _ => Event::NotFrozen(Refusal::new(Reason::Ended, "the task has ended")),
        };
        outbound.source.handle_event(event);
    }

    pub(super) fn pump_outbound(&mut self, now: Nanos, net: &mut Net) -> bool {
        let tasks: Vec<TaskId> = self.live().outbound.keys().copied().collect();
        let mut busy = false;
        for task in tasks {
            let Some(mut outbound) = self.live().outbound.remove(&task) else { continue };
            busy |= self.drive(now, net, task, &mut outbound);
            if !self.bury(now, net, &mut outbound) {
                self.live().outbound.insert(task, outbound);
            }
        }
        busy
    }

    fn drive(&mut self, now: Nanos, net: &mut Net, task: TaskId, outbound: &mut Outbound) -> bool {
        let mut busy = false;
        let mut payload = Vec::new();
        loop {
            while let Some(action) = outbound.source.poll_action() {
                self.carry_out(now, task, outbound, action);
                busy = true;
            }
            if outbound.conn.is_none() && outbound.redial.is_some_and(|at| at <= now) {
                outbound.redial = None;
                outbound.conn = self.dial(now, net, outbound.to, Role::Source(task));
                outbound.reattach = true;
            }
            let id = self.id;
            let Some(conn) = outbound.conn else { return busy };
            let live = self.live();
            let Some(end) = live.ends.get_mut(&conn) else { return busy };
            if !end.channel.is_open() || end.channel.backlog() >= BACKLOG || net.room(now, id, conn) == 0 {
                return busy;
            }
            if core::mem::take(&mut outbound.reattach) {
                outbound.source.reattach();
            }
            let gone = matches!(outbound.source.phase(), Phase::Draining | Phase::Keeping);
            let guest: &mut dyn Guest = match (&mut outbound.given, live.tasks.get_mut(&task)) {
                (Some(guest), _) => guest,
                (None, Some(slot)) if !gone => &mut slot.guest,
                _ => &mut Ended,
            };
            let Some(kind) = outbound.source.poll_message(now, guest, &mut payload) else {
                // A poll may end a move, too.
                match outbound.source.poll_action() {
                    Some(action) => self.carry_out(now, task, outbound, action),
                    None => return busy,
                }
                continue;
            };
            let _ = end.channel.send(kind, &payload);
            let progress = outbound.source.progress();
            if outbound.outcome.rounds.len() < progress.round as usize {
                outbound.outcome.rounds.push(progress.of);
            }
            if kind == wayfare_transfer::Kind::Transfer {
                self.note(now, || {
                    Message::decode(&payload).map_or(String::new(), |m| format!("says on {conn} {}", super::short(&m)))
                });
            } else {
                self.note(now, || format!("sends on {conn} {} bytes of {kind:?}", payload.len()));
            }
            busy = true;
        }
    }

    /// Whether a machine is over, has said all it had to say, and waits for nothing.
    fn bury(&mut self, now: Nanos, net: &mut Net, outbound: &mut Outbound) -> bool {
        if !outbound.source.is_over() || outbound.freezing {
            return false;
        }
        if let Some(conn) = outbound.conn {
            let end = self.live().ends.get(&conn);
            if end.is_some_and(|end| end.channel.is_open() && end.channel.backlog() > 0) {
                return false;
            }
            self.close(now, net, conn);
        }
        let outcome = &mut outbound.outcome;
        outcome.phase = outbound.source.phase().clone();
        outcome.progress = outbound.source.progress();
        outcome.ended = now;
        let outcome = outcome.clone();
        self.note(now, || format!("is done with a move: {:?}", outcome.phase));
        self.outcomes.push(outcome);
        true
    }

    fn carry_out(&mut self, now: Nanos, task: TaskId, outbound: &mut Outbound, action: Action) {
        self.note(now, || format!("is to {action:?}"));
        let (to, claimed) = (name(outbound.to), outbound.source.offer().epoch);
        let slot = self.live().tasks.get_mut(&task);
        let ended = slot.as_ref().is_none_or(|slot| slot.condition == Condition::Ended);
        match action {
            Action::Freeze => {
                outbound.freezing = true;
                let at = now + self.settings.freeze;
                self.live().jobs.push((at, Job::Freeze(task)));
            }
            // What has ended goes nowhere: the freeze will say so.
            Action::Log(_) if ended => {}
            Action::Log(epoch) => self.write(now, task, Record::Moving { epoch, to }, Some(Written::Logged(task))),
            Action::Strike => {
                if let Some(epoch) = slot.map(|slot| slot.epoch) {
                    let record = if ended { Record::Ended { epoch } } else { Record::Owned { epoch } };
                    self.write(now, task, record, None);
                }
            }
            Action::Thaw => {
                if let Some(slot) = slot.filter(|slot| slot.condition == Condition::Frozen) {
                    (slot.condition, slot.last) = (Condition::Running, now);
                }
            }
            Action::Retake(epoch) => {
                if let Some(guest) = outbound.given.take() {
                    self.live().tasks.insert(task, Slot { guest, epoch, condition: Condition::Frozen, last: now });
                }
                if let Some(slot) = self.live().tasks.get_mut(&task) {
                    slot.epoch = epoch;
                    self.own(now, task, epoch, Written::Retaken(task));
                }
            }
            Action::Ask => {
                let doubt = Doubt::new(outbound.to, claimed, now, true);
                self.live().doubts.insert(task, doubt);
            }
            Action::Redial => outbound.redial = Some(now + self.settings.retry),
            Action::Gone => outbound.given = self.live().tasks.remove(&task).map(|slot| slot.guest),
            Action::Release => {
                self.write(now, task, Record::Left { epoch: claimed, to }, None);
                if let Some(guest) = outbound.given.take() {
                    // It may come back, and most of it will be the same.
                    self.live().kept.insert(task, Rc::new(guest.keep()));
                }
            }
        }
    }

    pub(super) fn pump_doubts(&mut self, now: Nanos, net: &mut Net) -> bool {
        let due = |(task, doubt): (&TaskId, &Doubt)| (!doubt.asked && doubt.at <= now).then_some(*task);
        let due: Vec<TaskId> = self.live().doubts.iter().filter_map(due).collect();
        let mut busy = false;
        for task in due {
            let Some(mut doubt) = self.live().doubts.remove(&task) else { continue };
            match doubt.conn {
                None => doubt.conn = self.dial(now, net, doubt.to, Role::Doubt(task)),
                Some(conn) if self.live().ends.get(&conn).is_some_and(|end| end.channel.is_open()) => {
                    doubt.asked = true;
                    busy = true;
                    self.tell(now, conn, &Message::Ask { task, epoch: doubt.epoch, holds: doubt.holds });
                }
                Some(_) => {}
            }
            self.live().doubts.insert(task, doubt);
        }
        busy
    }

    pub(super) fn on_answer(&mut self, now: Nanos, net: &mut Net, task: TaskId, conn: ConnId, answer: Answer) {
        let retry = now + self.settings.retry;
        let Some(doubt) = self.live().doubts.get_mut(&task).filter(|doubt| doubt.conn == Some(conn)) else { return };
        if answer == Answer::Deciding {
            (doubt.asked, doubt.at) = (false, retry);
            return;
        }
        self.live().doubts.remove(&task);
        self.close(now, net, conn);
        if let Some(outbound) = self.live().outbound.get_mut(&task) {
            outbound.source.handle_answer(answer);
            return;
        }
        // The machine did not outlive a kill; the journal did.
        let record = self.disk.latest(task).and_then(|record| journal::resolved(record, answer));
        match record {
            Some(Record::Owned { epoch }) => {
                let durable = self.disk.durable().find(|(id, _)| *id == task);
                let Some(old) = durable.and_then(|(_, entry)| entry.checkpoint.clone()) else {
                    self.live().lost.insert(task, "there is no checkpoint");
                    return;
                };
                let slot =
                    Slot { guest: SimGuest::clone(&old.guest), epoch, condition: Condition::Starting, last: now };
                self.live().tasks.insert(task, slot);
                let checkpoint = Some(Checkpoint { epoch, guest: old.guest });
                let entry = Entry { record: Some(Record::Owned { epoch }), checkpoint };
                self.disk.write(now, self.settings.log, task, entry, Some(Written::Retaken(task)));
            }
            Some(record) => self.write(now, task, record, None),
            None => {}
        }
    }
}
