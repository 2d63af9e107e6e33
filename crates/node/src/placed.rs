//! Tasks that a controller places on nodes: started under an identity of its own, and followed from there, by the same links as
//! all that nodes say to each other.

use crate::agent::{Agent, Entry, wanted};
use crate::compiler;
use crate::control::{BRIEFS, Brief, Reply, Request};
use crate::link::Link;
use crate::local;
use crate::membership::{self, Identity};
use crate::peers::{NodeMessage, Peer};
use crate::snapshots::{self, Kept};
use crate::spans::{self, of_task};
use crate::spec::Spec;
use anyhow::{Context, Result, bail};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::watch;
use wayfare_engine::Form;
use wayfare_snapshot::Digest;
use wayfare_store::program::{self, Wanted};
use wayfare_transfer::Kind;
use wayfare_transfer::message::{Long, Part};

/// Without a change there is an answer all the same, by which the asker knows that this node is there.
const AT_LEAST: Duration = Duration::from_secs(2);
/// How long the next answer takes after one: changes come in company.
const COMPANY: Duration = Duration::from_millis(2);

/// Counts changes of what tasks do, of all agents in this process.
static CHANGES: LazyLock<watch::Sender<u64>> = LazyLock::new(|| watch::Sender::new(1));

/// A task does something else than before.
pub(crate) fn something_changed() {
    CHANGES.send_modify(|count| *count += 1);
}

impl Agent {
    /// Starts a task whose identity somebody else has given it; once, however often it is said. `false` if its module is neither
    /// given nor here.
    ///
    /// # Errors
    /// As [`Agent::start`].
    pub(crate) fn launch(self: &Arc<Self>, spec: Spec, module: Option<&[u8]>) -> Result<bool> {
        spec.check()?;
        let has_dirs = !spec.dirs.is_empty() || !spec.volumes.is_empty();
        anyhow::ensure!(!has_dirs, "a task that another node places here has no directories");
        if self.db.record(spec.id)?.is_some() {
            return Ok(true);
        }
        let span = of_task!("launch", spec.name, Some(spec.id));
        let launched = span.in_scope(|| self.launch_anew(spec, module));
        spans::ended(&span, &launched);
        launched
    }

    fn launch_anew(self: &Arc<Self>, spec: Spec, module: Option<&[u8]>) -> Result<bool> {
        let (digest, wanted): (Digest, _) = (spec.module.parse()?, wanted(spec.canonical_nan)?);
        let image = match module {
            Some(wasm) => program::from_module(wasm, digest, &Wanted { form: Form::Resume, ..wanted })?,
            None => match program::from_digest(digest, &wanted)? {
                Some(found) => found.resumable()?,
                None => return Ok(false),
            },
        };
        self.admit_and_start(spec, &image)?;
        Ok(true)
    }

    /// What has become of the tasks that were placed here, when something has changed since `seen`, or after a second.
    pub(crate) async fn changes(&self, seen: u64) -> Reply {
        let mut changes = CHANGES.subscribe();
        if *changes.borrow() == seen {
            let _ = tokio::time::timeout(AT_LEAST, changes.wait_for(|count| *count != seen)).await;
            tokio::time::sleep(COMPANY).await;
        }
        // Before the tasks are looked at.
        let seen = *changes.borrow();
        let placed = self.tasks().into_iter().filter(|entry| entry.spec.placed);
        let mut tasks: Vec<Brief> = placed.map(|entry| brief(&entry)).collect();
        // Whoever has taken note of those that are over removes them.
        tasks.sort_by_key(|task| task.state.is_alive());
        let more = tasks.len() > BRIEFS;
        tasks.truncate(BRIEFS);
        Reply::Changes { seen, tasks, more }
    }

    /// Asks a node, which may be this one, as this machine's users do: by the agent's socket. The last answer, and what follows it.
    pub(crate) async fn ask_as_user(&self, node: &str, request: Request) -> Result<(Reply, BufReader<UnixStream>)> {
        let mut line = serde_json::to_vec(&Request::At { node: node.into(), request: Box::new(request) })?;
        line.push(b'\n');
        let mut stream = BufReader::new(UnixStream::connect(self.dirs.socket()).await?);
        stream.get_mut().write_all(&line).await?;
        loop {
            let mut answer = Vec::new();
            (&mut stream).take(local::LINE_MAX).read_until(b'\n', &mut answer).await?;
            match serde_json::from_slice(&answer).context("the agent has ended")? {
                // Of a move.
                Reply::Moving { .. } => {}
                Reply::Failed { error } => bail!(error),
                reply => return Ok((reply, stream)),
            }
        }
    }

    /// Asks a node, which may be this one; the answer.
    ///
    /// # Errors
    /// What it says, or that it is not there.
    pub async fn ask_node(&self, node: &str, request: Request) -> Result<Reply> {
        Ok(self.ask_as_user(node, request).await?.0)
    }

    /// What a task on a node, which may be this one, has written; with `follow` what it will, too, until it ends. The stream is at
    /// the log's first byte.
    ///
    /// # Errors
    /// What the node says, or that it is not there.
    pub async fn log_of(&self, node: &str, name: &str, follow: bool) -> Result<BufReader<UnixStream>> {
        match self.ask_as_user(node, Request::Logs { name: name.into(), follow }).await? {
            (Reply::Log, stream) => Ok(stream),
            _ => bail!("it answered something else"),
        }
    }

    /// Invites a machine: the word for `wayfare node join`, good for one node and so long.
    ///
    /// # Errors
    /// On a node without the cluster's key.
    pub fn invite(&self, valid: Duration) -> Result<String> {
        Ok(format!("{}@{}", membership::invite_by(&self.dirs, &self.db, valid)?, self.settings.address))
    }

    /// Whether there is a member of this name, heard of or not.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn is_member(&self, name: &str) -> Result<bool> {
        membership::is_member(&self.db, name)
    }

    /// Makes a machine a member that has no agent yet: what it is to know, its key included.
    ///
    /// # Errors
    /// As [`Agent::invite`], and for a name that cannot be, or is a member's.
    pub fn enroll(&self, name: &str) -> Result<(Identity, Vec<Peer>)> {
        let peers = self.peers()?;
        Ok((membership::enroll(&self.dirs, &self.db, &self.identity()?.cluster, name)?, peers))
    }

    /// Ends a node's membership.
    ///
    /// # Errors
    /// As [`Agent::invite`].
    pub fn expel(&self, name: &str) -> Result<()> {
        membership::revoke(&self.dirs, name)
    }

    /// Starts a task on a node, which may be this one, from its beginning or from a snapshot; the module is sent where that lacks it.
    /// It takes as long as the node takes, which may have to compile the module: the caller's patience is the limit.
    ///
    /// # Errors
    /// That it is not there: it may have started the task all the same. Within that, why it has not.
    pub async fn launch_at(self: &Arc<Self>, node: &str, spec: Spec, from: Option<Kept>) -> Result<Result<(), String>> {
        let digest: Digest = spec.module.parse()?;
        if self.identity()?.name == node {
            let (agent, told) = (self.clone(), |e: anyhow::Error| format!("{e:#}"));
            return Ok(match from {
                None => local::answer(self, Request::Launch { spec, resumes: false }).await.map(|_| ()).map_err(told),
                Some(kept) => {
                    let span = tracing::Span::current();
                    let launch = move || span.in_scope(|| agent.launch_from(spec, &kept));
                    tokio::task::spawn_blocking(launch).await?.map_err(told)
                }
            });
        }
        let wish = Request::Launch { spec, resumes: from.is_some() };
        let mut link = self.dial(node).await?;
        link.send(Kind::Node, &NodeMessage::Request(serde_json::to_vec(&wish)?).encode()).await?;
        loop {
            match NodeMessage::decode(&link.answer(Kind::Node).await?)? {
                NodeMessage::Unknown => {
                    let wasm =
                        program::kept_module(digest)?.with_context(|| format!("the program {digest} is not here"))?;
                    for part in Part::all(Long::Module, &wasm) {
                        link.send(Kind::Part, &part.to_vec()).await?;
                    }
                }
                NodeMessage::GoOn => {
                    let kept = from.as_ref().context("it asks for a snapshot that it was not told of")?;
                    snapshots::send(&mut link, kept).await?;
                }
                NodeMessage::Reply(reply) => {
                    return match serde_json::from_slice(&reply)? {
                        Reply::Started { .. } => Ok(Ok(())),
                        Reply::Failed { error } => Ok(Err(error)),
                        _ => bail!("it answered something else"),
                    };
                }
                NodeMessage::Refused(why) => return Ok(Err(why)),
                _ => bail!("it answered something else"),
            }
        }
    }
}

/// Starts a task that another node places here.
///
/// # Errors
/// When it cannot be; when the module does not come.
pub(crate) async fn launched(agent: &Arc<Agent>, spec: Spec, link: &mut Link) -> Result<Reply> {
    let (digest, name): (Digest, _) = (spec.module.parse()?, spec.name.clone());
    let start = |spec: Spec, module: Option<Vec<u8>>| {
        let agent = agent.clone();
        tokio::task::spawn_blocking(move || agent.launch(spec, module.as_deref()))
    };
    if !start(spec.clone(), None).await?? {
        let wasm = compiler::receive(link, digest).await?;
        start(spec, Some(wasm)).await??;
    }
    Ok(Reply::Started { name })
}

fn brief(entry: &Entry) -> Brief {
    let epoch = entry.epoch.load(std::sync::atomic::Ordering::SeqCst);
    Brief { id: entry.spec.id, name: entry.spec.name.clone(), epoch, state: entry.state() }
}
