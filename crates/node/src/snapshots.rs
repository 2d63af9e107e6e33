//! Snapshots of tasks that a controller keeps: made here and sent to it, and brought here to go on from. What goes with one is the
//! log that the task had written by then, so that whoever reads its output finds every byte once.

use crate::agent::{Agent, lock};
use crate::capacity::Need;
use crate::control::{Reply, Request};
use crate::dirs::Dirs;
use crate::link::Link;
use crate::peers::NodeMessage;
use crate::spans::{self, of_task};
use crate::spec::Spec;
use anyhow::{Context, Result, anyhow, bail, ensure};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tracing::Instrument;
use wayfare_snapshot::Digest;
use wayfare_store::atomic::Atomic;
use wayfare_store::program;
use wayfare_transfer::journal::Record;
use wayfare_transfer::message::{Long, Part};
use wayfare_transfer::{Kind, TaskId};

/// Largest snapshot of a task without a limit of memory.
const LARGEST: u64 = 64 << 30;
/// Largest log that goes with one.
const LOG: u64 = 4 << 30;

/// Largest snapshot of a task that may have so much memory: what is packed badly is little longer than it was.
fn most(memory: Option<u64>) -> u64 {
    memory.map_or(LARGEST, |memory| memory.saturating_mul(2).saturating_add(64 << 20)).min(LARGEST)
}

/// A snapshot as a controller keeps it: two files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The snapshot itself.
    pub snapshot: PathBuf,
    /// What the task had written.
    pub log: PathBuf,
}

/// A snapshot of a task that has just been made, not sent yet. Its file is gone when this is.
pub(crate) struct Made {
    pub(crate) snapshot: File,
    pub(crate) log: File,
    /// Bytes of both.
    pub(crate) len: (u64, u64),
}

impl Agent {
    /// Makes a snapshot of a task, which runs on.
    ///
    /// # Errors
    /// When it is not here, has a standby, or cannot be captured.
    pub(crate) async fn snapshot(&self, name: &str) -> Result<Made> {
        let entry = self.task(name)?;
        self.is_unprotected(name)?;
        let _moving = entry.moving.lock().await;
        let path = self.dirs.task(entry.spec.id).join("for-controller.snap");
        let span = of_task!("capture", name, Some(entry.spec.id), wayfare.keep_running = true);
        let log = entry.live()?.save(&path, true).instrument(span.clone()).await;
        spans::ended(&span, &log);
        let log = log?;
        let snapshot = File::open(&path).with_context(|| path.display().to_string())?;
        // Whoever has it open may read it to its end.
        let _ = std::fs::remove_file(&path);
        let of_log = self.dirs.log(entry.spec.id);
        let made = Made {
            len: (snapshot.metadata()?.len(), log),
            log: File::open(&of_log).with_context(|| of_log.display().to_string())?,
            snapshot,
        };
        Ok(made)
    }

    /// Has a snapshot made of a task that runs on a node, which may be this one, and that may have so much memory; puts it where it is
    /// to be kept. Gives its length.
    ///
    /// # Errors
    /// What the node says, that it is not there, or that the disk does not take it. Nothing is kept then.
    pub async fn snapshot_of(&self, node: &str, name: &str, memory: u64, to: &Kept) -> Result<u64> {
        let (reply, mut stream) = self.ask_as_user(node, Request::Snapshot { name: name.into() }).await?;
        let Reply::Snapshot { snapshot, log } = reply else { bail!("it answered something else") };
        let fits = snapshot <= most(Some(memory)) && log <= LOG;
        ensure!(fits, "a snapshot of {snapshot} bytes, with {log} of a log, is more than the task can have");
        let first = receive(&mut stream, snapshot, &to.snapshot).await?;
        let second = receive(&mut stream, log, &to.log).await?;
        // A snapshot without its log is of no use, and the other way about: the snapshot's name is what counts.
        second.commit()?;
        first.commit()?;
        Ok(snapshot)
    }

    /// Lets a task run on from what has been brought for it: once, however often it is said.
    ///
    /// # Errors
    /// As [`Agent::start`]; nothing is left then.
    pub(crate) fn go_on_from(self: &Arc<Self>, spec: Spec, brought: &Kept) -> Result<()> {
        let span = of_task!("launch", spec.name, Some(spec.id), wayfare.resumed = true);
        let launched = span.in_scope(|| self.go_on(spec, brought));
        spans::ended(&span, &launched);
        launched
    }

    fn go_on(self: &Arc<Self>, mut spec: Spec, brought: &Kept) -> Result<()> {
        spec.started = crate::unix_now();
        spec.origin = self.identity()?.name;
        if lock(&self.tasks).get(&spec.name).is_some_and(|e| e.state().holds_name()) {
            bail!("a task named {} is already on this node", spec.name);
        }
        let memory = spec.limits.memory.unwrap_or(0);
        self.capacity.promise(spec.id, Need { memory, cpus: spec.limits.cpus }).map_err(|r| anyhow!(r.text))?;
        let begin = || -> Result<()> {
            std::fs::create_dir_all(self.dirs.task(spec.id))?;
            take(&brought.log, &self.dirs.log(spec.id))?;
            take(&brought.snapshot, &self.dirs.checkpoint(spec.id))?;
            self.db.put_task(&spec, &Record::Owned { epoch: 1 })
        };
        if let Err(e) = begin() {
            self.capacity.release(spec.id);
            let _ = std::fs::remove_dir_all(self.dirs.task(spec.id));
            return Err(e);
        }
        self.revive(spec, 1);
        Ok(())
    }

    /// [`Agent::go_on_from`] on this node, of what a controller here keeps.
    ///
    /// # Errors
    /// As there; when its program is not here.
    pub(crate) fn launch_from(self: &Arc<Self>, spec: Spec, kept: &Kept) -> Result<()> {
        check(&spec)?;
        if self.db.record(spec.id)?.is_some() {
            return Ok(());
        }
        ensure!(program::has_module(spec.module.parse()?), "the program of {} is not here", spec.name);
        // What is kept stays as it is: the task writes on in its log.
        let brought = brought(&self.dirs, spec.id);
        for (from, to) in [(&kept.snapshot, &brought.snapshot), (&kept.log, &brought.log)] {
            std::fs::copy(from, to).with_context(|| from.display().to_string())?;
        }
        self.go_on_from(spec, &brought)
    }
}

fn check(spec: &Spec) -> Result<()> {
    spec.check()?;
    let has_dirs = !spec.dirs.is_empty() || !spec.volumes.is_empty();
    ensure!(
        !has_dirs && spec.publish.is_empty(),
        "a task that goes on from a snapshot here has no directories or ports"
    );
    Ok(())
}

/// Where what is brought for a task waits.
fn brought(dirs: &Dirs, id: TaskId) -> Kept {
    let at = |what: &str| dirs.root().join(format!("tasks/.{id}.{what}"));
    Kept { snapshot: at("snapshot"), log: at("log") }
}

/// Takes away what was being brought when the agent ended.
pub(crate) fn sweep(dirs: &Dirs) {
    let Ok(entries) = std::fs::read_dir(dirs.root().join("tasks")) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b".")) {
        let _ = std::fs::remove_file(entry.path());
    }
}

/// Gives a file its place: on the disk before its name is.
fn take(from: &Path, to: &Path) -> Result<()> {
    File::open(from)?.sync_all()?;
    std::fs::rename(from, to).with_context(|| to.display().to_string())
}

async fn receive(from: &mut (impl AsyncRead + Unpin), len: u64, to: &Path) -> Result<Atomic> {
    let atomic = Atomic::create(to).with_context(|| to.display().to_string())?;
    let mut file = tokio::fs::File::from_std(atomic.file.try_clone()?);
    let copied = tokio::io::copy(&mut from.take(len), &mut file).await?;
    file.flush().await?;
    ensure!(copied == len, "the node broke off after {copied} of {len} bytes");
    Ok(atomic)
}

/// Sends what a task is to go on from, as parts.
///
/// # Errors
/// When the link breaks, or the files cannot be read.
pub(crate) async fn send(link: &mut Link, kept: &Kept) -> Result<()> {
    for (what, path) in [(Long::State, &kept.snapshot), (Long::Extra, &kept.log)] {
        let mut file = File::open(path).with_context(|| path.display().to_string())?;
        let total = file.metadata()?.len();
        let (mut offset, mut bytes) = (0, vec![0; Part::LEN]);
        loop {
            let n = bytes.len().min((total - offset) as usize);
            file.read_exact(&mut bytes[..n])?;
            let part = Part { what, offset, total, bytes: &bytes[..n] };
            link.send(Kind::Part, &part.to_vec()).await?;
            offset += n as u64;
            if offset == total {
                break;
            }
        }
    }
    Ok(())
}

/// Has what a task is to go on from sent, and starts it.
///
/// # Errors
/// When it does not come, or the task cannot be started.
pub(crate) async fn launched(agent: &Arc<Agent>, spec: Spec, link: &mut Link) -> Result<Reply> {
    check(&spec)?;
    let (digest, name): (Digest, _) = (spec.module.parse()?, spec.name.clone());
    if agent.db.record(spec.id)?.is_some() {
        return Ok(Reply::Started { name });
    }
    if !program::has_module(digest) {
        let wasm = crate::compiler::receive(link, digest).await?;
        tokio::task::spawn_blocking(move || crate::agent::keep_program(&wasm)).await??;
    }
    link.send(Kind::Node, &NodeMessage::GoOn.encode()).await?;
    let (brought, largest) = (brought(&agent.dirs, spec.id), most(spec.limits.memory));
    let came = async {
        for (what, path, most) in [(Long::State, &brought.snapshot, largest), (Long::Extra, &brought.log, LOG)] {
            let mut file = File::create(path).with_context(|| path.display().to_string())?;
            let mut at = 0;
            loop {
                let bytes = link.expect(Kind::Part).await.context("what the task is to go on from did not come")?;
                let part = Part::decode(&bytes)?;
                let is_next = part.what == what && part.offset == at && part.total <= most;
                ensure!(is_next && (part.is_last() || !part.bytes.is_empty()), "a part that is not the next one");
                file.write_all(part.bytes)?;
                at += part.bytes.len() as u64;
                if part.is_last() {
                    break;
                }
            }
        }
        let (agent, brought) = (agent.clone(), brought.clone());
        tokio::task::spawn_blocking(move || agent.go_on_from(spec, &brought)).await?
    };
    let started = came.await;
    if started.is_err() {
        let _ = std::fs::remove_file(&brought.snapshot);
        let _ = std::fs::remove_file(&brought.log);
    }
    started.map(|()| Reply::Started { name })
}
