//! Tasks that come to a host.

use super::{BACKLOG, Condition, Fails, Host, Job, Role, Slot, Written};
use crate::clock::Nanos;
use crate::disk::{Checkpoint, Entry};
use crate::guest::{Program, SimGuest};
use crate::net::{ConnId, Net};
use std::rc::Rc;
use wayfare_transfer::destination::{Action, Caps, Destination, Event, Landing, Phase};
use wayfare_transfer::journal::{self, Facts, Record};
use wayfare_transfer::pages::Batch;
use wayfare_transfer::{Accept, Answer, Incoming, Kind, Message, PageRange, Part, Reason, Refusal, TaskId};

/// A move of a task to here.
pub(super) struct Inbound {
    pub(super) destination: Destination,
    conn: Option<ConnId>,
    /// Until it runs; then it is among the tasks.
    landing: Option<SimGuest>,
    /// What the journal said before it spoke of this move.
    before: Option<Record>,
}

impl Inbound {
    pub(super) fn task(&self) -> Option<TaskId> {
        self.destination.offer().map(|offer| offer.task)
    }

    fn epoch(&self) -> u64 {
        self.destination.offer().map_or(0, |offer| offer.epoch)
    }

    /// Whether the task would survive a crash here.
    pub(super) fn is_saved(&self) -> bool {
        *self.destination.phase() == Phase::Done
    }
}

impl Host {
    /// Closes what is open of moves of a task to here, of one epoch or of all, unless it has been committed.
    pub(super) fn close_sessions(&mut self, now: Nanos, net: &mut Net, task: TaskId, epoch: Option<u64>) {
        let of = |i: &Inbound| i.task() == Some(task) && epoch.is_none_or(|epoch| i.epoch() == epoch);
        let open = |i: &Inbound| of(i) && !i.destination.is_over() && !i.destination.owns();
        let conns: Vec<_> = self.live().inbound.values().filter(|i| open(i)).filter_map(|i| i.conn).collect();
        for conn in conns {
            self.note(now, || format!("closes an older session on {conn}"));
            self.close(now, net, conn);
        }
        // What is over because of that is struck before anything is answered.
        self.pump_inbound(now, net);
    }

    pub(super) fn on_offer(&mut self, now: Nanos, net: &mut Net, conn: ConnId, message: Message) -> Result<(), String> {
        if let Message::Offer(offer) = &message {
            self.close_sessions(now, net, offer.task, None);
        }
        self.serial += 1;
        let key = self.serial;
        let mut destination = Destination::new(Caps { module: 8 << 20, state: 1 << 20, extra: 1 << 20 });
        let result = destination.handle_message(message, None).map_err(|violation| violation.to_string());
        self.live().inbound.insert(key, Inbound { destination, conn: Some(conn), landing: None, before: None });
        if let Some(end) = self.live().ends.get_mut(&conn) {
            end.role = Role::Destination(key);
        }
        result
    }

    pub(super) fn inbound_disconnected(&mut self, key: u64, conn: ConnId) {
        if let Some(inbound) = self.live().inbound.get_mut(&key).filter(|i| i.conn == Some(conn)) {
            inbound.conn = None;
            inbound.destination.handle_event(Event::Disconnected);
        }
    }

    /// A source has nothing of its task any more: one that runs here without some pages is given up.
    pub(super) fn forsake(&mut self, task: TaskId, epoch: u64) -> bool {
        let mut forsaken = false;
        for inbound in self.live().inbound.values_mut().filter(|i| i.task() == Some(task) && i.epoch() == epoch) {
            forsaken |= inbound.destination.forsaken();
        }
        forsaken
    }

    /// A source that was cut off has dialled again.
    pub(super) fn on_reattach(
        &mut self,
        now: Nanos,
        net: &mut Net,
        conn: ConnId,
        task: TaskId,
        epoch: u64,
    ) -> Result<(), String> {
        let live = self.live();
        let of = |i: &&mut Inbound| i.task() == Some(task) && i.epoch() == epoch && i.destination.owns();
        let found = live.inbound.iter_mut().find_map(|(key, i)| of(&i).then_some((*key, i)));
        if let Some((key, inbound)) = found
            && inbound.destination.reattach()
        {
            // The old connection may not know yet that it is gone.
            if let Some(old) = inbound.conn.replace(conn).and_then(|old| live.ends.get_mut(&old)) {
                old.role = Role::Fresh;
            }
            if let Some(end) = live.ends.get_mut(&conn) {
                end.role = Role::Destination(key);
            }
            return Ok(());
        }
        // All had come, and this node has forgotten how; or it is lost.
        let facts = Facts { runs: self.runs(task, epoch), deciding: true, holds: false };
        match journal::answer(self.disk.record(task), epoch, facts) {
            (Answer::Owns, _) => self.tell(now, conn, &Message::Received),
            (Answer::Lost, _) => self.tell(now, conn, &Message::Answer(Answer::Lost)),
            // That it is lost is being written down.
            (Answer::Deciding, _) => self.close(now, net, conn),
            _ => return Err("a task that is not here".into()),
        }
        Ok(())
    }

    pub(super) fn inbound_message(&mut self, key: u64, message: Message) -> Result<(), String> {
        let live = self.live();
        let Some(inbound) = live.inbound.get_mut(&key) else { return Ok(()) };
        let landing = inbound.landing.as_mut().map(|guest| guest as &mut dyn Landing);
        inbound.destination.handle_message(message, landing).map_err(|violation| violation.to_string())
    }

    pub(super) fn on_bulk(&mut self, key: u64, incoming: &Incoming) -> Result<(), String> {
        let live = self.live();
        let Some(inbound) = live.inbound.get_mut(&key) else { return Ok(()) };
        if incoming.kind == Kind::Part {
            let part = Part::decode(&incoming.payload).map_err(|error| error.to_string())?;
            return inbound.destination.handle_part(&part).map_err(|error| error.to_string());
        }
        let batch = Batch::parse(&incoming.payload).map_err(|error| error.to_string())?;
        let running = inbound.task().and_then(|task| live.tasks.get_mut(&task)).map(|slot| &mut slot.guest);
        let guest = if inbound.destination.owns() { running } else { inbound.landing.as_mut() };
        match guest {
            Some(guest) => inbound.destination.handle_pages(&batch, guest).map_err(|violation| violation.to_string()),
            None if matches!(inbound.destination.phase(), Phase::Failed(_)) => Ok(()),
            None => Err("pages before an instance".into()),
        }
    }

    pub(super) fn pump_inbound(&mut self, now: Nanos, net: &mut Net) -> bool {
        let keys: Vec<u64> = self.live().inbound.keys().copied().collect();
        let mut busy = false;
        for key in keys {
            let Some(mut inbound) = self.live().inbound.remove(&key) else { continue };
            while let Some(action) = inbound.destination.poll_action() {
                self.carry_in(now, key, &mut inbound, action);
                busy = true;
            }
            while let Some(conn) = inbound.conn
                && let Some(end) = self.live().ends.get(&conn)
                && end.channel.is_open()
                && end.channel.backlog() < BACKLOG
                && let Some(message) = inbound.destination.poll_message()
            {
                self.tell(now, conn, &message);
                busy = true;
            }
            if !self.lay_down(now, net, &mut inbound) {
                self.live().inbound.insert(key, inbound);
            }
        }
        busy
    }

    /// Whether a machine is over and nobody will ask it anything.
    fn lay_down(&mut self, now: Nanos, net: &mut Net, inbound: &mut Inbound) -> bool {
        if !inbound.destination.is_over() {
            return false;
        }
        let Some(conn) = inbound.conn else { return true };
        let flushed = self.live().ends.get(&conn).is_none_or(|end| end.channel.backlog() == 0);
        // The source closes what has gone well.
        let failed = matches!(inbound.destination.phase(), Phase::Failed(_));
        if failed && flushed {
            self.close(now, net, conn);
        }
        failed && flushed
    }

    fn carry_in(&mut self, now: Nanos, key: u64, inbound: &mut Inbound, action: Action) {
        let shown = match &action {
            Action::Land(_) => "land".to_string(),
            Action::Prepare { state, late, .. } => format!("prepare {} bytes, {} late", state.len(), late.len()),
            other => format!("{other:?}"),
        };
        self.note(now, || format!("is to {shown}"));
        let (Some(task), epoch) = (inbound.task(), inbound.epoch()) else { return };
        match action {
            Action::Admit => {
                let event = self.admit(inbound);
                inbound.destination.handle_event(event);
            }
            Action::Land(module) => {
                let digest = inbound.destination.offer().map_or([0; 32], |offer| offer.module);
                let program = match module {
                    Some(bytes) if *blake3::hash(&bytes).as_bytes() == digest => Program::decode(&bytes).map(Rc::new),
                    Some(_) => None,
                    None => self.live().modules.get(&digest).cloned(),
                };
                if let Some(program) = &program {
                    self.live().modules.insert(digest, Rc::clone(program));
                }
                let at = now + self.settings.land;
                self.live().jobs.push((at, Job::Land(key, program)));
            }
            Action::Prepare { state, extra, late } => {
                let intact = inbound.landing.as_ref().is_some_and(|guest| extra == guest.program().log());
                // What went along is not all there: no state fits then.
                let state = if intact { state } else { Vec::new() };
                let at = now + self.settings.prepare;
                self.live().jobs.push((at, Job::Prepare(key, state, late)));
            }
            Action::Log(epoch) => {
                inbound.before = self.disk.latest(task).cloned();
                self.write(now, task, Record::Taken { epoch }, Some(Written::Taken(key)));
            }
            Action::Strike => self.write(now, task, journal::struck(inbound.before.take()), None),
            Action::Run => {
                if let Some(guest) = inbound.landing.take() {
                    let slot = Slot { guest, epoch, condition: Condition::Running, last: now };
                    self.live().tasks.insert(task, slot);
                }
            }
            Action::Arrived(range) => {
                if let Some(slot) = self.live().tasks.get_mut(&task) {
                    slot.guest.arrived(range);
                    if let Condition::Stalled(page) = slot.condition
                        && !slot.guest.misses(page)
                    {
                        (slot.condition, slot.last) = (Condition::Running, now);
                    }
                }
            }
            Action::Save => {
                let slot = self.live.as_ref().and_then(|live| live.tasks.get(&task));
                match slot.filter(|slot| slot.condition != Condition::Ended) {
                    Some(slot) => {
                        let checkpoint = Some(Checkpoint { epoch, guest: Rc::new(slot.guest.clone()) });
                        let entry = Entry { record: Some(Record::Owned { epoch }), checkpoint };
                        self.disk.write(now, 2 * self.settings.log, task, entry, Some(Written::Saved(key)));
                    }
                    // It has ended, and that is in the journal.
                    None => inbound.destination.handle_event(Event::Saved),
                }
            }
            Action::Forsake => {
                self.live().tasks.remove(&task);
                self.write(now, task, Record::Lost { epoch }, None);
            }
            Action::Discard => {
                if let Some(guest) = inbound.landing.take() {
                    let mut kept = guest.keep();
                    if let Some(before) = self.live().kept.get(&task) {
                        kept.extend(before.iter().map(|(digest, page)| (*digest, page.clone())));
                    }
                    self.live().kept.insert(task, Rc::new(kept));
                }
            }
        }
    }

    fn admit(&mut self, inbound: &Inbound) -> Event {
        let Some(offer) = inbound.destination.offer() else {
            return Event::Failed(Refusal::new(Reason::Node, "nothing was offered"));
        };
        if self.settings.fails == Some(Fails::Admit) {
            self.settings.fails = None;
            return Event::Failed(Refusal::new(Reason::Busy, "busy"));
        }
        if offer.memory() > self.settings.memory {
            return Event::Failed(Refusal::new(Reason::Memory, "not enough memory"));
        }
        if !journal::admits(self.disk.latest(offer.task), offer.epoch) {
            return Event::Failed(Refusal::new(Reason::Epoch, "the epoch is not a new one"));
        }
        let (task, module) = (offer.task, offer.module);
        let has_module = self.live().modules.contains_key(&module);
        Event::Admitted(Accept {
            has_module,
            has_pages: self.live().kept.contains_key(&task),
            can_be_late: self.settings.can_be_late,
        })
    }

    pub(super) fn on_land(&mut self, now: Nanos, key: u64, program: Option<Rc<Program>>) {
        self.note(now, || "has an instance".into());
        let fails = self.settings.fails == Some(Fails::Land);
        let live = self.live();
        // The move may have failed meanwhile.
        let Some(inbound) = live.inbound.get_mut(&key).filter(|i| *i.destination.phase() == Phase::Landing) else {
            return;
        };
        let kept = inbound.task().and_then(|task| live.kept.get(&task)).cloned();
        let event = match program {
            Some(program) if !fails => {
                let mut guest = SimGuest::image(&program);
                guest.remember(kept.unwrap_or_default());
                inbound.landing = Some(guest);
                Event::Landed
            }
            _ => Event::Failed(Refusal::new(Reason::Module, "the module cannot be loaded")),
        };
        inbound.destination.handle_event(event);
        if fails {
            self.settings.fails = None;
        }
    }

    pub(super) fn on_prepare(&mut self, now: Nanos, key: u64, state: &[u8], late: &[PageRange]) {
        self.note(now, || "has restored a state".into());
        let fails = self.settings.fails == Some(Fails::Prepare);
        let Some(inbound) = self.live().inbound.get_mut(&key) else { return };
        let Some(guest) = inbound.landing.as_mut() else { return };
        let result = match fails {
            true => Err(Refusal::new(Reason::State, "the state does not fit")),
            false => guest.restore(state, late),
        };
        inbound.destination.handle_event(result.map_or_else(Event::Failed, |()| Event::Prepared));
        if fails {
            self.settings.fails = None;
        }
    }
}
