//! Where other nodes knock. A peer costs one handshake until it has proved that it is a member; of those who have not
//! yet, there are only so many at a time.

use crate::agent::Agent;
use crate::link::Link;
use crate::peers::{NodeMessage, Peer};
use crate::restart::Restarted;
use crate::{arrive, compiler, local, membership, service, standby, unix_nanos, unix_now};
use anyhow::{Context, Result, anyhow, bail};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use wayfare_engine::Key;
use wayfare_snapshot::Digest;
use wayfare_transfer::channel::Kind;
use wayfare_transfer::message::Message;
use wayfare_transfer::{Incoming, Peer as Remote};

/// Handshakes at once.
const HANDSHAKES: usize = 32;
/// Connections of members at once.
const CONNECTIONS: usize = 256;
/// A connection on which nothing is said is closed after this time.
const SILENCE: Duration = Duration::from_secs(15);
/// How often nodes tell each other that they are there.
const GREETINGS: Duration = Duration::from_secs(30);

/// An agent that is about to listen.
pub struct Serve {
    listener: TcpListener,
    agent: Arc<Agent>,
}

/// Binds the address for other nodes.
///
/// # Errors
/// When it is taken.
pub async fn serve(agent: Arc<Agent>, listen: &str) -> Result<Serve> {
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    Ok(Serve { listener, agent })
}

impl Serve {
    /// Serves until `stop` is ready; then every task is written to the disk.
    ///
    /// # Errors
    /// When the socket for this machine's users cannot be made, or the tasks that were here cannot be read.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<()> {
        let local = local::bind(&self.agent.dirs)?;
        self.agent.recover()?;
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
        let connections = Arc::new(Semaphore::new(CONNECTIONS));
        let mut greetings = tokio::time::interval(GREETINGS);
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                accepted = self.listener.accept() => {
                    let Ok((stream, from)) = accepted else {
                        // Out of descriptors: others will be closed.
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    };
                    // Those for whom there is no room are not kept waiting.
                    let Ok(permit) = handshakes.clone().try_acquire_owned() else { continue };
                    let (agent, connections) = (self.agent.clone(), connections.clone());
                    tokio::spawn(async move {
                        let greeted = greet(&agent, stream).await;
                        drop(permit);
                        let served = match (greeted, connections.try_acquire()) {
                            (Ok(link), Ok(_permit)) => handle(agent, link).await,
                            (Ok(_), Err(_)) => Err(anyhow!("too many connections")),
                            (Err(e), _) => Err(e),
                        };
                        if let Err(e) = served {
                            tracing::warn!(%from, "{e:#}");
                        }
                    });
                }
                accepted = local.accept() => {
                    let Ok((stream, _)) = accepted else { continue };
                    let agent = self.agent.clone();
                    tokio::spawn(async move {
                        if let Err(e) = local::handle(agent, stream).await {
                            tracing::debug!("a user's connection: {e:#}");
                        }
                    });
                }
                _ = greetings.tick() => {
                    let agent = self.agent.clone();
                    tokio::spawn(async move { agent.greet_all().await });
                }
            }
        }
        let _ = std::fs::remove_file(self.agent.dirs.socket());
        self.agent.suspend().await;
        Ok(())
    }
}

async fn greet(agent: &Agent, stream: TcpStream) -> Result<Link> {
    // Only the node with the cluster's key has something to say to strangers.
    let strangers = agent.dirs.file("authority.key").exists();
    Link::accept(stream, agent.credentials()?, strangers).await.context("a handshake failed")
}

async fn handle(agent: Arc<Agent>, mut link: Link) -> Result<()> {
    let first = timeout(SILENCE, link.receive()).await.map_err(|_| anyhow!("nothing was said"))??;
    if let Some(Remote::Stranger(key)) = link.channel.peer() {
        let key = *key;
        return join(&agent, link, key, &first).await;
    }
    match first.kind {
        Kind::Transfer => match Message::decode(&first.payload)? {
            Message::Offer(_) => arrive::arrive(agent, link, first).await,
            Message::Standby(said) => standby::hold(agent, link, said).await,
            Message::Lane { task, epoch } => agent.add_lane(link, task, epoch),
            Message::Reattach { task, epoch } => agent.reattach(link, task, epoch).await,
            Message::Ask { task, epoch, holds } => {
                let (asked, peer) = (agent.clone(), link.peer().unwrap_or_default().to_string());
                let answer = tokio::task::spawn_blocking(move || asked.answer(&peer, task, epoch, holds)).await??;
                link.send(Kind::Transfer, &Message::Answer(answer).encode()).await
            }
            _ => bail!("a message that begins nothing"),
        },
        Kind::Node => match NodeMessage::decode(&first.payload)? {
            NodeMessage::Attach { task, epoch, back } => service::serve(agent, link, task, epoch, &back).await,
            NodeMessage::Keep { task, epoch, marks } => {
                let answer = agent.noted(task, |ingress| ingress.keep(epoch, &marks));
                link.send(Kind::Node, &answer.encode()).await
            }
            NodeMessage::KeepNothing { task, epoch } => {
                let answer = agent.noted(task, |ingress| ingress.keep_nothing(epoch));
                link.send(Kind::Node, &answer.encode()).await
            }
            NodeMessage::Request(request) => local::from_node(agent, link, &request).await,
            NodeMessage::Compile { module, canonical_nan, target, key } => {
                compiler::serve(link, Digest(module), canonical_nan, &target, Key(key)).await
            }
            message => converse(&agent, link, message).await,
        },
        _ => bail!("a message that begins nothing"),
    }
}

async fn join(agent: &Agent, mut link: Link, key: [u8; 32], first: &Incoming) -> Result<()> {
    anyhow::ensure!(first.kind == Kind::Node, "a stranger asks for something else than to join");
    let wish = NodeMessage::decode(&first.payload)?;
    let peers = agent.peers()?;
    let answer = membership::admit(&agent.dirs, &agent.db, &agent.identity()?.cluster, key, wish, peers);
    match &answer {
        NodeMessage::Refused(why) => tracing::warn!("somebody may not join: {why}"),
        _ => tracing::info!("a node has joined"),
    }
    link.send(Kind::Node, &answer.encode()).await
}

async fn converse(agent: &Agent, mut link: Link, message: NodeMessage) -> Result<()> {
    let Some(Remote::Member(claims)) = link.channel.peer().cloned() else { bail!("no member") };
    let answer = match message {
        NodeMessage::Hello { me, peers, revoked, .. } => {
            // It speaks for itself only.
            if me.name == claims.name {
                agent.learn(vec![Peer { seen: unix_now(), ..me }], &revoked)?;
            }
            agent.learn(peers, &revoked)?;
            agent.hello()?
        }
        NodeMessage::Renew { key } => match membership::renew(&agent.dirs, &agent.db, &claims, key) {
            Ok((certificate, _)) => {
                NodeMessage::Joined { certificate, cluster: agent.identity()?.cluster, peers: Vec::new() }
            }
            Err(e) => NodeMessage::Refused(format!("{e:#}")),
        },
        NodeMessage::Restarted { ago, why } => {
            tracing::warn!(node = %claims.name, times = why.times, "restarted: {}: {}", why.part.describe(), why.text);
            let at = unix_now().saturating_sub(ago);
            agent.db.put_restart(&claims.name, &Restarted { at, why })?;
            NodeMessage::Noted
        }
        _ => bail!("a message that begins nothing"),
    };
    link.send(Kind::Node, &answer.encode()).await
}

impl Agent {
    fn hello(&self) -> Result<NodeMessage> {
        let (me, peers, revoked) = (self.me()?, self.db.peers()?, self.db.revocations()?);
        Ok(NodeMessage::Hello { me, peers, revoked, clock: unix_nanos() })
    }

    /// Takes over what another node has heard.
    fn learn(&self, peers: Vec<Peer>, revoked: &wayfare_transfer::identity::Revocations) -> Result<()> {
        let me = self.identity()?;
        let mut known = self.db.revocations()?;
        if known.merge(revoked.clone(), &me.authority) {
            self.db.set_revocations(&known)?;
        }
        // A clock that is ahead must not make its news the last for ever.
        let latest = unix_now();
        for peer in peers.into_iter().filter(|p| p.name != me.name && !p.address.is_empty()) {
            self.db.put_peer(&Peer { seen: peer.seen.min(latest), ..peer })?;
        }
        Ok(())
    }

    /// Tells a node that this one is here, and hears whom it knows.
    async fn greet(&self, address: &str) -> Result<Peer> {
        let mut link = Link::dial(address, self.credentials()?).await?;
        link.send(Kind::Node, &self.hello()?.encode()).await?;
        let answer = NodeMessage::decode(&link.expect(Kind::Node).await?)?;
        let NodeMessage::Hello { me, peers, revoked, .. } = answer else { bail!("it answered something else") };
        anyhow::ensure!(link.peer() == Some(&me.name), "it says that it is another node");
        self.learn(vec![Peer { seen: unix_now(), ..me.clone() }], &revoked)?;
        self.learn(peers, &revoked)?;
        Ok(me)
    }

    /// Tells all.
    pub(crate) async fn greet_all(&self) {
        for peer in self.db.peers().unwrap_or_default() {
            if let Err(e) = self.greet(&peer.address).await {
                tracing::debug!(peer = %peer.name, "not there: {e:#}");
            }
        }
    }

    /// A link to a node, by its name.
    ///
    /// # Errors
    /// When nobody knows it, or it is not there.
    pub(crate) async fn dial(&self, name: &str) -> Result<Link> {
        let find = || -> Result<Option<Peer>> { Ok(self.db.peers()?.into_iter().find(|p| p.name == name)) };
        if find()?.is_none() {
            self.greet_all().await;
        }
        let peer = find()?.ok_or_else(|| anyhow!("no node named {name} is known: `wayfare nodes` lists them"))?;
        let link = Link::dial(&peer.address, self.credentials()?).await?;
        if link.peer() != Some(name) {
            bail!("at {} there is {} now, not {name}", peer.address, link.peer().unwrap_or("a stranger"));
        }
        Ok(link)
    }
}
