//! Snapshots that the controller keeps of tasks: when they are made, which are kept, and who goes on from one.

use super::{Answer, Core, Deed, Saying, clock, problem};
use crate::store::{Resumed, Snapshot, Store};
use crate::task::Task;
use crate::trace::Place;
use anyhow::Result;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use wayfare_api::{Accepted, Problem, SetRequest, SnapshotView, TaskRequest, TaskState};
use wayfare_node::snapshots::Kept;
use wayfare_transfer::TaskId;

/// Snapshots of a task that were made by themselves and are kept.
const KEPT: usize = 2;
/// Snapshots of a task that somebody has asked for, at most.
const BY_HAND: usize = 16;
/// From a snapshot that could not be made to the next attempt, at least.
const AGAIN: Duration = Duration::from_secs(5);

/// Where a snapshot's files are.
pub(crate) fn files(dir: &Path, id: u64) -> Kept {
    Kept { snapshot: dir.join(format!("{id}.snap")), log: dir.join(format!("{id}.log")) }
}

/// A snapshot that is to be made.
pub(crate) struct Order {
    pub(crate) node: String,
    pub(crate) name: String,
    /// The attempt that is meant.
    pub(crate) of: TaskId,
    /// Bytes of memory that it may have.
    pub(crate) memory: u64,
    pub(crate) snapshot: Snapshot,
    /// Whoever has asked for it.
    pub(crate) answer: Option<Answer<SnapshotView>>,
}

/// All snapshots, and what is under way.
pub(super) struct Album {
    dir: PathBuf,
    all: BTreeMap<u64, Snapshot>,
    of: HashMap<u64, BTreeSet<u64>>,
    next: u64,
    /// By task: when the last one was begun, and whether it is still being made.
    made: HashMap<u64, (Instant, bool)>,
    /// Files that nothing speaks of once all is written down.
    forgotten: Vec<u64>,
}

impl Album {
    /// # Errors
    /// When the database cannot be read, or the directory not made.
    pub(super) fn open(store: &Store, dir: PathBuf) -> Result<Album> {
        std::fs::create_dir_all(&dir)?;
        let all: BTreeMap<u64, Snapshot> = store.snapshots()?.into_iter().map(|s| (s.id, s)).collect();
        let mut of: HashMap<u64, BTreeSet<u64>> = HashMap::new();
        all.values().for_each(|s| _ = of.entry(s.number).or_default().insert(s.id));
        // What was being made when the controller ended.
        for entry in std::fs::read_dir(&dir)?.flatten() {
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| name.split_once('.')?.0.parse().ok());
            if id.is_none_or(|id: u64| !all.contains_key(&id)) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        Ok(Album { dir, all, of, next: store.next_snapshot()?, made: HashMap::new(), forgotten: Vec::new() })
    }

    /// The latest of a task.
    fn latest(&self, number: u64) -> Option<&Snapshot> {
        self.all.get(self.of.get(&number)?.last()?)
    }

    /// Takes the files away that nothing speaks of any more.
    pub(super) fn sweep(&mut self) {
        for id in self.forgotten.drain(..) {
            let Kept { snapshot, log } = files(&self.dir, id);
            let _ = std::fs::remove_file(snapshot);
            let _ = std::fs::remove_file(log);
        }
    }

    pub(super) fn kept(&self, id: u64) -> Kept {
        files(&self.dir, id)
    }
}

impl Core {
    pub(super) fn snapshot_view(&self, snapshot: &Snapshot) -> SnapshotView {
        let task = self.tasks.get(&snapshot.number).map_or_else(String::new, |task| task.name.clone());
        let Snapshot { id, node, at, bytes, done, by_hand, .. } = snapshot.clone();
        SnapshotView { id, task, node, at, bytes, done, by_hand }
    }

    pub(super) fn snapshots_of(&self, name: &str) -> Result<Vec<SnapshotView>, Problem> {
        let number = self.find(name)?.number;
        let all = self.album.of.get(&number).into_iter().flatten().filter_map(|id| self.album.all.get(id));
        Ok(all.map(|snapshot| self.snapshot_view(snapshot)).collect())
    }

    fn find_snapshot(&self, id: u64) -> Result<&Snapshot, Problem> {
        self.album.all.get(&id).ok_or_else(|| problem(404, format!("no snapshot {id} is known")))
    }

    /// Its files, and what it is to be called.
    pub(super) fn snapshot_files(&self, id: u64) -> Result<(Kept, SnapshotView), Problem> {
        let snapshot = self.find_snapshot(id)?;
        Ok((self.album.kept(id), self.snapshot_view(snapshot)))
    }

    /// Has a snapshot made because somebody asks for it; the answer comes when it is there.
    pub(super) fn snapshot_by_hand(&mut self, name: &str, answer: Answer<SnapshotView>) -> Option<Saying> {
        let may = self.find(name).map(|task| task.number).and_then(|number| self.may_snapshot(number).map(|()| number));
        match may {
            Ok(number) => self.order_snapshot(number, Some(answer)),
            Err(why) => return Some(Box::new(move |_| _ = answer.send(Err(why)))),
        }
        None
    }

    fn may_snapshot(&self, number: u64) -> Result<(), Problem> {
        let Some(task) = self.tasks.get(&number) else { return Err(problem(404, "no such task is known")) };
        let name = &task.name;
        if task.state != TaskState::Running {
            return Err(problem(409, format!("{name} does not run: it is {}", task.state.name())));
        }
        if let Some(standby) = &task.standby {
            return Err(problem(409, format!("{name} has a standby on {standby}, which is up to date as it is")));
        }
        if self.album.made.get(&number).is_some_and(|(_, is_under_way)| *is_under_way) {
            return Err(problem(409, format!("a snapshot of {name} is being made: ask again in a moment")));
        }
        let by_hand = self.album.of.get(&number).into_iter().flatten().filter_map(|id| self.album.all.get(id));
        if by_hand.filter(|snapshot| snapshot.by_hand).count() >= BY_HAND {
            return Err(problem(409, format!("{BY_HAND} snapshots of {name} are kept: remove one first")));
        }
        Ok(())
    }

    fn order_snapshot(&mut self, number: u64, answer: Option<Answer<SnapshotView>>) {
        let now = clock();
        let Some(task) = self.tasks.get(&number) else { return };
        let Some(node) = task.node.clone() else { return };
        let snapshot = Snapshot {
            id: self.album.next,
            number,
            at: now,
            bytes: 0,
            done: task.work_done(self.speed_of(&node), now),
            by_hand: answer.is_some(),
            node: node.clone(),
        };
        let (of, memory) = (task.id, task.request.memory);
        let order = Order { node, name: task.name.clone(), of, memory, snapshot, answer };
        self.deeds.push(Deed::Snapshot(Box::new(order)));
        self.album.next += 1;
        self.album.made.insert(number, (Instant::now(), true));
    }

    /// Has those made that are due.
    pub(super) fn make_snapshots(&mut self) {
        let is_due = |task: &Task| {
            let every = Duration::from_secs_f64(task.request.snapshot_every?);
            let (last, is_under_way) = self.album.made.get(&task.number).copied().unzip();
            let since = match last {
                Some(last) => last.elapsed(),
                None => Duration::from_millis(clock().saturating_sub(task.started?)),
            };
            let is_free = task.state == TaskState::Running && !task.cancelled && task.standby.is_none();
            (is_free && is_under_way != Some(true) && since >= every).then_some(task.number)
        };
        let due: Vec<u64> = self.pictured.iter().filter_map(|number| is_due(self.tasks.get(number)?)).collect();
        due.into_iter().for_each(|number| self.order_snapshot(number, None));
    }

    /// A snapshot has been made, with so many bytes, or has not.
    pub(super) fn snapshot_made(&mut self, order: Order, made: Result<u64, String>) -> Result<Option<Saying>> {
        let Order { node, of, mut snapshot, answer, .. } = order;
        let (id, number) = (snapshot.id, snapshot.number);
        if let Some(made) = self.album.made.get_mut(&number) {
            made.1 = false;
        }
        let is_meant = self.tasks.get(&number).is_some_and(|task| task.id == of && !task.state.is_over());
        let made = match made {
            // Nobody would ever look at it.
            Ok(_) if !is_meant => Err("the task was over before it was made".into()),
            made => made,
        };
        let result = match made {
            Ok(bytes) => {
                snapshot.bytes = bytes;
                self.store.put_snapshot(&snapshot)?;
                self.engine.handle_synced(wayfare_sched::TaskId(number), snapshot.done);
                let view = self.snapshot_view(&snapshot);
                self.album.all.insert(id, snapshot);
                self.album.of.entry(number).or_default().insert(id);
                self.prune(number)?;
                Ok(view)
            }
            Err(why) => {
                tracing::debug!(task = number, %node, "no snapshot: {why}");
                self.album.forgotten.push(id);
                // Not at once.
                let every = self.tasks.get(&number).and_then(|task| task.request.snapshot_every);
                let early = Duration::from_secs_f64(every.unwrap_or(0.0)).saturating_sub(AGAIN);
                let at = Instant::now().checked_sub(early).unwrap_or_else(Instant::now);
                self.album.made.insert(number, (at, false));
                Err(problem(502, format!("no snapshot: {why}")))
            }
        };
        Ok(answer.map(|answer| -> Saying { Box::new(move |_| _ = answer.send(result)) }))
    }

    /// Forgets those that were made by themselves and have two later ones, but for one that a task is to go on from.
    fn prune(&mut self, number: u64) -> Result<()> {
        let in_use = self.tasks.get(&number).and_then(|task| task.resumed).map(|from| from.snapshot);
        let of = self.album.of.get(&number).into_iter().flatten().rev();
        let old = of.filter(|id| self.album.all.get(*id).is_some_and(|s| !s.by_hand)).skip(KEPT);
        let old: Vec<u64> = old.copied().filter(|id| Some(*id) != in_use).collect();
        old.into_iter().try_for_each(|id| self.forget_snapshot(id))
    }

    fn forget_snapshot(&mut self, id: u64) -> Result<()> {
        self.store.remove_snapshot(id)?;
        if let Some(snapshot) = self.album.all.remove(&id)
            && let Some(of) = self.album.of.get_mut(&snapshot.number)
        {
            of.remove(&id);
        }
        self.album.forgotten.push(id);
        Ok(())
    }

    pub(super) fn remove_snapshot(&mut self, id: u64) -> Result<Result<(), Problem>> {
        let number = match self.find_snapshot(id) {
            Ok(snapshot) => snapshot.number,
            Err(e) => return Ok(Err(e)),
        };
        let is_in_use = |task: &&Task| task.resumed.is_some_and(|from| from.snapshot == id) && !task.state.is_over();
        if let Some(task) = self.tasks.get(&number).filter(is_in_use) {
            return Ok(Err(problem(
                409,
                format!("{} has gone on from this snapshot, and may have to again", task.name),
            )));
        }
        self.forget_snapshot(id)?;
        Ok(Ok(()))
    }

    /// The task is forgotten, and its snapshots with it; the database has no more of them.
    pub(super) fn forget_snapshots_of(&mut self, number: u64) {
        self.album.made.remove(&number);
        for id in self.album.of.remove(&number).into_iter().flatten() {
            self.album.all.remove(&id);
            self.album.forgotten.push(id);
        }
    }

    /// Where a task that waits anew goes on from: its last snapshot, if there is one; then what is to be said of it.
    pub(super) fn resume_from_latest(&mut self, number: u64) -> Result<Option<String>> {
        let from = self.album.latest(number).map(|s| (Resumed { snapshot: s.id, done: s.done }, s.at));
        let before = self.tasks.get(&number).and_then(|task| task.resumed);
        let resumed = from.map(|from| from.0).or(before);
        if let Some(task) = self.tasks.get_mut(&number) {
            task.resumed = resumed;
        }
        self.store.put_resumed(number, resumed)?;
        Ok(from.map(|(_, at)| {
            let age = clock().saturating_sub(at) as f64 / 1e3;
            format!("it goes on from its snapshot of {age:.1} s ago")
        }))
    }

    /// A new task goes on from a snapshot of another one, with the same order; a set of its own.
    pub(super) fn resume_as(
        &mut self,
        owner: String,
        id: u64,
        name: String,
        place: &Place,
    ) -> Result<Result<Accepted, Problem>> {
        let snapshot = match self.find_snapshot(id) {
            Ok(snapshot) => snapshot.clone(),
            Err(e) => return Ok(Err(e)),
        };
        let Some(task) = self.tasks.get(&snapshot.number) else {
            return Ok(Err(problem(404, format!("the task of snapshot {id} is not known any more"))));
        };
        let request = TaskRequest { name: name.clone(), count: 1, ..(*task.request).clone() };
        let accepted = match self.submit(owner, SetRequest::of(request), place)? {
            Ok(accepted) => accepted,
            Err(e) => return Ok(Err(e)),
        };
        let Some(number) = self.by_name.get(&name).copied() else { return Ok(Ok(accepted)) };
        // The new task's own: whoever forgets the other one does not take it away.
        let own = Snapshot { id: self.album.next, number, by_hand: true, ..snapshot };
        let (from, to) = (self.album.kept(id), self.album.kept(own.id));
        for (from, to) in [(from.snapshot, to.snapshot), (from.log, to.log)] {
            // Both names of one file: neither is ever written to.
            std::fs::hard_link(&from, &to).or_else(|_| std::fs::copy(&from, &to).map(|_| ()))?;
        }
        self.album.next += 1;
        self.store.put_snapshot(&own)?;
        let resumed = Resumed { snapshot: own.id, done: own.done };
        self.album.of.entry(number).or_default().insert(own.id);
        self.album.all.insert(own.id, own);
        self.store.put_resumed(number, Some(resumed))?;
        if let Some(task) = self.tasks.get_mut(&number) {
            task.resumed = Some(resumed);
            self.tell(number);
        }
        Ok(Ok(accepted))
    }
}
