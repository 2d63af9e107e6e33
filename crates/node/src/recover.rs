//! What a node makes of its journal: it picks its tasks up when the agent is started anew, asks others about those of
//! which it does not know, and answers them.

use crate::agent::{Agent, Entry, Visit, limits, lock};
use crate::capacity::Need;
use crate::control::State;
use crate::link::Link;
use crate::service::Sockets;
use crate::spec::Spec;
use crate::task;
use anyhow::{Context, Result, bail};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use wayfare_engine::Task;
use wayfare_transfer::journal::{self, Facts, Record, Restart};
use wayfare_transfer::message::{Answer, Message};
use wayfare_transfer::{Kind, TaskId};

impl Agent {
    /// Picks up the tasks that were here when the agent ended: those it owns run on from their last durable snapshot,
    /// of those that it may have given away it asks the others.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn recover(self: &Arc<Self>) -> Result<()> {
        crate::snapshots::sweep(&self.dirs);
        for row in self.db.tasks()? {
            let (spec, record) = (row.spec, row.record);
            let may_be_published =
                row.ended.is_none() && !matches!(record, Record::Ended { .. } | Record::Refused { .. });
            if may_be_published
                && spec.origin == self.identity()?.name
                && let Err(e) = tokio::task::block_in_place(|| self.publish(&spec))
            {
                tracing::error!(task = %spec.name, "{e:#}");
            }
            if let Some(ended) = row.ended {
                let state = serde_json::from_str(&ended).unwrap_or(State::Failed { why: ended });
                self.remember(Entry::new(spec, state, record.epoch()));
                continue;
            }
            match journal::restart(&record) {
                Restart::Run => match self.db.standbys(spec.id)? {
                    none if none.is_empty() => _ = self.revive(spec, record.epoch()),
                    all => _ = tokio::spawn(self.clone().come_back(spec, record.epoch(), all)),
                },
                Restart::Ask { to, epoch } => {
                    let entry = Entry::new(spec, State::Unknown { to, claimed: epoch }, epoch);
                    self.remember(entry.clone());
                    let agent = self.clone();
                    tokio::spawn(async move { agent.resolve(entry).await });
                }
                Restart::GiveUp { epoch } => {
                    self.db.set_record(spec.id, &Record::Lost { epoch })?;
                    // Of an earlier stay, or about to count when the agent ended.
                    let _ = std::fs::remove_file(self.dirs.checkpoint(spec.id));
                    tracing::warn!(task = %spec.name, "was not saved here yet: the node that it came from goes on with it");
                }
                Restart::Nothing => {
                    if let Record::Left { to, epoch } = record {
                        self.remember(Entry::new(spec, State::Left { to, saved: true }, epoch));
                    }
                }
            }
        }
        Ok(())
    }

    pub(crate) fn remember(&self, entry: Arc<Entry>) {
        let mut tasks = lock(&self.tasks);
        // Of two of one name the one that is alive is meant.
        let keeps = tasks.get(&entry.spec.name).is_some_and(|e| e.state().holds_name() && !entry.state().holds_name());
        if !keeps {
            tasks.insert(entry.spec.name.clone(), entry);
        }
    }

    /// Lets a task run on from its last durable snapshot; from its beginning if it began here and has none.
    pub(crate) fn revive(self: &Arc<Self>, spec: Spec, epoch: u64) -> Arc<Entry> {
        let entry = Entry::new(spec, State::Running, epoch);
        self.remember(entry.clone());
        let _ = self.capacity.promise(
            entry.spec.id,
            Need { memory: entry.spec.limits.memory.unwrap_or(0), cpus: entry.spec.limits.cpus },
        );
        let (agent, revived) = (self.clone(), entry.clone());
        // Compiling may take a while, and other tasks need not wait for it.
        tokio::task::spawn_blocking(move || {
            let built = agent.image(&entry.spec).and_then(|image| {
                let sockets = Sockets::new(&entry.spec.publish)?;
                // What was connected when the agent ended is connected no longer.
                sockets.forgive();
                let path = agent.dirs.checkpoint(entry.spec.id);
                let mut task = match std::fs::read(&path) {
                    Ok(bytes) => {
                        let packed = wayfare_snapshot::open(&bytes, &wayfare_snapshot::Limits::default())
                            .with_context(|| path.display().to_string())?;
                        let written = packed.snapshot.options.extra.get(task::LOG).and_then(|len| len.parse().ok());
                        agent.cut_log(&entry.spec, written)?;
                        Task::resume(&image, &packed, task::host(&entry.spec, &agent.dirs, &sockets)?)?
                    }
                    // One that has come from elsewhere is owned only once it is on the disk: this one began here.
                    Err(e)
                        if e.kind() == std::io::ErrorKind::NotFound && entry.spec.origin == agent.identity()?.name =>
                    {
                        agent.cut_log(&entry.spec, Some(0))?;
                        agent.beginning(&entry.spec, &image, &sockets)?
                    }
                    Err(e) => return Err(e).with_context(|| format!("its snapshot {}", path.display())),
                };
                task.limit(limits(&entry.spec, &agent.settings))?;
                task.set_epoch(epoch);
                agent.run(&entry, task, sockets)
            });
            if let Err(e) = built {
                tracing::error!(task = %entry.spec.name, "cannot go on: {e:#}");
                agent.finish(&entry, State::Failed { why: format!("{e:#}") });
            }
        });
        revived
    }

    /// What a task that a controller has placed writes is its result: what it had written after the state that it goes on from it will
    /// write again. Of others the log is a log, and all of it is kept.
    fn cut_log(&self, spec: &Spec, written: Option<u64>) -> Result<()> {
        let Some(written) = written.filter(|_| spec.placed) else { return Ok(()) };
        match std::fs::OpenOptions::new().write(true).open(self.dirs.log(spec.id)) {
            Ok(log) if log.metadata()?.len() > written => Ok(log.set_len(written)?),
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e.into()),
            _ => Ok(()),
        }
    }

    /// Asks the node that a task may be on until it answers, or a person decides.
    async fn resolve(self: Arc<Self>, entry: Arc<Entry>) {
        let State::Unknown { to, claimed: epoch } = entry.state() else { return };
        let answer = self.ask(&entry, &to, epoch, false).await;
        let record = Record::Moving { epoch, to: to.clone() };
        let Some(next) = journal::resolved(&record, answer) else { return };
        if let Err(e) = self.db.set_record(entry.spec.id, &next) {
            tracing::error!(task = %entry.spec.name, "what became of it cannot be written down: {e:#}");
            return;
        }
        match next {
            Record::Owned { epoch } => _ = self.revive(entry.spec.clone(), epoch),
            _ => {
                let _ = std::fs::remove_file(self.dirs.checkpoint(entry.spec.id));
                entry.set_state(State::Left { to, saved: true });
            }
        }
    }

    /// Asks until there is an answer. `holds`: the task is here as it was when it moved.
    pub(crate) async fn ask(&self, entry: &Entry, to: &str, epoch: u64, holds: bool) -> Answer {
        let mut decision = entry.decision.subscribe();
        let mut pause = Duration::from_millis(100);
        loop {
            match self.ask_once(entry.spec.id, to, epoch, holds).await {
                Ok(Answer::Deciding) => {}
                Ok(answer) => return answer,
                Err(e) => tracing::warn!(task = %entry.spec.name, "{to} cannot be asked: {e:#}"),
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_secs(10)),
                _ = decision.changed() => {
                    if let Some(answer) = *decision.borrow() {
                        tracing::warn!(task = %entry.spec.name, ?answer, "decided by a person");
                        return answer;
                    }
                }
            }
        }
    }

    async fn ask_once(&self, task: TaskId, to: &str, epoch: u64, holds: bool) -> Result<Answer> {
        let mut link = self.dial(to).await?;
        link.send(Kind::Transfer, &Message::Ask { task, epoch, holds }.encode()).await?;
        match Message::decode(&link.expect(Kind::Transfer).await?)? {
            Message::Answer(answer) => Ok(answer),
            _ => bail!("it answered something else"),
        }
    }

    /// Answers another node's question.
    ///
    /// # Errors
    /// When the answer cannot be written down: then it must not be given.
    pub(crate) fn answer(&self, peer: &str, task: TaskId, epoch: u64, holds: bool) -> Result<Answer> {
        // Its commit may be in a buffer here. Nobody who asks still sends, so it can be called off.
        let deciding = self.visit(peer, task, epoch, Visit::Asked { holds }).is_none();
        let record = self.db.record(task)?;
        let facts = Facts { runs: self.runs(task, epoch), deciding, holds };
        let (answer, promise) = journal::answer(record.as_ref(), epoch, facts);
        if let Some(promise) = promise {
            self.db.set_record(task, &promise)?;
        }
        Ok(answer)
    }

    /// Brings something to a move to this node. Gives it back if there is none from that node at that epoch.
    fn visit(&self, peer: &str, task: TaskId, epoch: u64, visit: Visit) -> Option<Visit> {
        let visitors = lock(&self.arriving).get(&task).cloned();
        match visitors.filter(|v| v.epoch == epoch && v.peer == peer) {
            Some(visitors) => visitors.door.send(visit).err().map(|e| e.0),
            None => Some(visit),
        }
    }

    /// A source that was cut off has dialled again: it goes on where it was, or hears that there is no need.
    ///
    /// # Errors
    /// When there is no such task here, or that is about to be the case.
    pub(crate) async fn reattach(&self, link: Link, task: TaskId, epoch: u64) -> Result<()> {
        let peer = link.peer().context("a stranger asks for a task")?.to_string();
        let Some(Visit::Reattached(mut link)) = self.visit(&peer, task, epoch, Visit::Reattached(link)) else {
            return Ok(());
        };
        let facts = Facts { runs: self.runs(task, epoch), deciding: true, holds: false };
        let said = match journal::answer(self.db.record(task)?.as_ref(), epoch, facts).0 {
            Answer::Owns => Message::Received,
            Answer::Lost => Message::Answer(Answer::Lost),
            _ => bail!("{peer} has pages of a task that is not here"),
        };
        link.send(Kind::Transfer, &said.encode()).await?;
        link.close().await;
        Ok(())
    }

    /// One more link for the pages of a move to this node.
    ///
    /// # Errors
    /// When there is no such move from that node.
    pub(crate) fn add_lane(&self, link: Link, task: TaskId, epoch: u64) -> Result<()> {
        let peer = link.peer().context("a stranger brings pages")?.to_string();
        match self.visit(&peer, task, epoch, Visit::Lane(link)) {
            None => Ok(()),
            Some(_) => bail!("{peer} brings pages of a task that is not on its way here"),
        }
    }

    /// A task that waited for pages will never have them: nothing of it has been seen that it did not do with the right
    /// ones, and the node that it came from goes on with it.
    pub(crate) fn give_up(&self, entry: &Arc<Entry>) {
        let (id, epoch) = (entry.spec.id, entry.epoch.load(Ordering::SeqCst));
        tracing::warn!(task = %entry.spec.name, "pages of it will never come: it is given up here");
        if let Err(e) = self.db.set_record(id, &Record::Lost { epoch }) {
            // A restart writes it.
            tracing::error!(task = %entry.spec.name, "that cannot be written down: {e:#}");
        }
        self.capacity.release(id);
        // Not its end: its clients stay connected.
        entry.set_state(State::Left { to: "the node that it came from".into(), saved: true });
        lock(&self.tasks).retain(|_, other| !Arc::ptr_eq(other, entry));
    }

    /// Ends the agent: every task is written to the disk and goes on when the agent is started again.
    pub async fn suspend(&self) {
        self.leave_standbys().await;
        for entry in self.tasks() {
            if entry.live().is_err() || !entry.state().is_alive() {
                continue;
            }
            // A move under way is waited for. One that is in doubt is not: the journal has it, and a restart asks.
            let moving = tokio::time::timeout(LAST_MOVES, entry.moving.lock());
            let Ok(_moving) = moving.await else { continue };
            if let Err(e) = self.save(&entry, false).await {
                tracing::error!(task = %entry.spec.name, "could not be suspended: {e:#}");
            }
        }
    }
}

/// How long moves may take that are under way when the agent is told to end.
const LAST_MOVES: Duration = Duration::from_secs(10);
