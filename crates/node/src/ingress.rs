//! Where clients of a published task connect: this node keeps their connections, wherever the task is.

use crate::agent::lock;
use crate::rate::Rate;
use crate::service::Sockets;
use anyhow::{Context, Result, anyhow};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use wayfare_stream::ports::{STREAMS, identity};
use wayfare_stream::{Event, IngressEnd, Mark, Segment, StreamError};

/// The clients of one task.
pub(crate) struct Ingress {
    ends: Vec<Mutex<IngressEnd>>,
    clients: Mutex<HashMap<u64, Arc<Client>>>,
    next: AtomicU64,
    /// There may be segments to send.
    stirred: Notify,
    /// What all clients together may send, and what they may get.
    rates: Option<(Rate, Rate)>,
    /// The epoch of the task whose segments are taken, and the count of its channels.
    turn: watch::Sender<(u64, u64)>,
    closed: watch::Sender<bool>,
    /// The last epoch at which the task went on from an older state.
    went_back: AtomicU64,
}

/// Bytes that are kept, for a task's standby, of what its clients have said and heard. When there are as many they wait
/// until the standby is up to date.
pub(crate) const KEEP: usize = 64 << 20;

/// Bytes that are moved at once between a client and its stream.
const STEP: usize = 32 << 10;

/// A client that is connected.
#[derive(Default)]
struct Client {
    changed: Notify,
    fate: AtomicU8,
}

/// Its stream goes on.
const ALIVE: u8 = 0;
/// Both sides have said all and closed.
const CLOSED: u8 = 1;
/// The task's side is gone.
const RESET: u8 = 2;

/// The right to speak for the task, until somebody else has it.
pub(crate) struct Turn {
    mine: (u64, u64),
    now: watch::Receiver<(u64, u64)>,
}

impl Turn {
    /// Waits until it is over.
    pub(crate) async fn over(&self) {
        let mut now = self.now.clone();
        let _ = now.wait_for(|now| *now != self.mine).await;
    }

    /// Whether it is not over.
    pub(crate) fn holds(&self) -> bool {
        *self.now.borrow() == self.mine
    }
}

impl Ingress {
    /// Listens on the ports.
    ///
    /// # Errors
    /// When one of them is taken.
    pub(crate) async fn open(ports: &[u16], first: u64, rate: Option<u64>) -> Result<Arc<Ingress>> {
        let mut listeners = Vec::new();
        for port in ports {
            let listener = TcpListener::bind(("0.0.0.0", *port)).await;
            listeners.push(listener.with_context(|| format!("cannot publish port {port}"))?);
        }
        let ingress = Arc::new(Ingress {
            ends: ports.iter().map(|_| Mutex::new(IngressEnd::new(STREAMS))).collect(),
            clients: Mutex::default(),
            next: AtomicU64::new(first),
            stirred: Notify::new(),
            rates: rate.map(|rate| (Rate::new(rate), Rate::new(rate))),
            turn: watch::Sender::new((0, 0)),
            closed: watch::Sender::new(false),
            went_back: AtomicU64::new(0),
        });
        for (index, listener) in listeners.into_iter().enumerate() {
            let ingress = ingress.clone();
            tokio::spawn(async move { ingress.listen(index, listener).await });
        }
        Ok(ingress)
    }

    /// Ends it: the ports are free, and clients are sent away.
    pub(crate) fn close(&self) {
        self.ends.iter().for_each(|end| lock(end).reset_all());
        self.closed.send_replace(true);
        self.events();
    }

    async fn listen(self: Arc<Self>, index: usize, listener: TcpListener) {
        let mut closed = self.closed.subscribe();
        let mut close = std::pin::pin!(async { closed.wait_for(|closed| *closed).await.is_ok() });
        loop {
            tokio::select! {
                biased;
                _ = &mut close => return,
                accepted = listener.accept() => {
                    let Ok((client, address)) = accepted else {
                        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                        continue;
                    };
                    let id = identity(index, self.next.fetch_add(1, Ordering::Relaxed));
                    if lock(&self.ends[index]).open(id, &address.to_string()).is_err() {
                        continue;
                    }
                    let state = Arc::new(Client::default());
                    lock(&self.clients).insert(id, state.clone());
                    self.stirred.notify_one();
                    let ingress = self.clone();
                    tokio::spawn(async move { ingress.serve(index, id, client, &state).await });
                    if *self.closed.borrow() {
                        // Meanwhile: those before this one have been sent away already.
                        self.close();
                    }
                }
            }
        }
    }

    /// Carries bytes between one client and its stream.
    async fn serve(&self, index: usize, id: u64, mut client: TcpStream, state: &Client) {
        let _ = client.set_nodelay(true);
        let end = &self.ends[index];
        let (mut reading, mut writing) = (true, true);
        let step = self.rates.as_ref().map_or(STEP, |(rate, _)| rate.step(STEP));
        let (mut from_client, mut to_client) = (vec![0; step], vec![0; step]);
        let (mut read, mut write) = client.split();
        let lost = loop {
            // What the task has sent, first.
            while writing && lock(end).is_readable(id) {
                let got = lock(end).read(id, &mut to_client);
                self.stirred.notify_one();
                match got {
                    Ok(0) => {
                        let _ = write.shutdown().await;
                        writing = false;
                    }
                    Ok(n) => {
                        if write.write_all(&to_client[..n]).await.is_err() {
                            lock(end).reset(id);
                            self.stirred.notify_one();
                        }
                        if let Some((_, to_clients)) = &self.rates {
                            to_clients.pay(n).await;
                        }
                    }
                    Err(StreamError::WouldBlock) => break,
                    Err(_) => writing = false,
                }
            }
            let fate = state.fate.load(Ordering::SeqCst);
            if fate != ALIVE {
                break fate == RESET;
            }
            let room = if reading { lock(end).room(id).min(from_client.len()) } else { 0 };
            tokio::select! {
                () = state.changed.notified() => {}
                got = read.read(&mut from_client[..room.max(1)]), if room > 0 => {
                    match got {
                        Ok(0) => {
                            lock(end).finish(id);
                            reading = false;
                        }
                        Ok(n) => {
                            // There was room for it, and nobody else fills it.
                            let _ = lock(end).write(id, &from_client[..n]);
                            self.stirred.notify_one();
                            if let Some((from_clients, _)) = &self.rates {
                                from_clients.pay(n).await;
                            }
                        }
                        Err(_) => {
                            lock(end).reset(id);
                            reading = false;
                        }
                    }
                    self.stirred.notify_one();
                    self.events();
                }
            }
        };
        if lost {
            // The client is to see a reset rather than an end that looks like all there was.
            let _ = rustix::net::sockopt::set_socket_linger(&client, Some(std::time::Duration::ZERO));
        }
    }

    /// Tells those whom it concerns what has happened.
    fn events(&self) {
        for end in &self.ends {
            loop {
                let Some(event) = lock(end).poll_event() else { break };
                let mut clients = lock(&self.clients);
                let (client, fate) = match event {
                    Event::Changed(id) => (clients.get(&id).cloned(), ALIVE),
                    Event::Closed(id) => (clients.remove(&id), CLOSED),
                    Event::Reset(id) => (clients.remove(&id), RESET),
                };
                if let Some(client) = client {
                    client.fate.fetch_max(fate, Ordering::SeqCst);
                    client.changed.notify_one();
                }
            }
        }
    }

    /// The task has a standby: keeps what that may have to hear, but for what comes before these marks.
    ///
    /// # Errors
    /// When a later epoch of the task has been here.
    pub(crate) fn keep(&self, epoch: u64, marks: &[Vec<u8>]) -> Result<()> {
        anyhow::ensure!(epoch >= self.turn.borrow().0, "the task has moved on");
        let marks = decoded(marks)?;
        for (i, end) in self.ends.iter().enumerate() {
            let mut end = lock(end);
            end.keep(KEEP / self.ends.len());
            if let Some(mark) = marks.get(i) {
                end.release(mark);
            }
        }
        self.events();
        Ok(())
    }

    /// It has none any more.
    ///
    /// # Errors
    /// As [`Ingress::keep`].
    pub(crate) fn keep_nothing(&self, epoch: u64) -> Result<()> {
        anyhow::ensure!(epoch >= self.turn.borrow().0, "the task has moved on");
        self.ends.iter().for_each(|end| lock(end).keep_nothing());
        self.events();
        Ok(())
    }

    /// Begins a channel to the task at an epoch; `None` if a later one has been here. With marks it goes on from an older
    /// state; at its first channel, that is: it has caught up on what it was told by then.
    ///
    /// # Errors
    /// Marks that are none.
    pub(crate) fn attach(&self, epoch: u64, back: &[Vec<u8>]) -> Result<Option<Turn>> {
        let marks = decoded(back)?;
        let mut mine = None;
        self.turn.send_if_modified(|turn| {
            if epoch >= turn.0 {
                *turn = (epoch, turn.1 + 1);
                mine = Some(*turn);
            }
            mine.is_some()
        });
        let Some(mine) = mine else { return Ok(None) };
        let turn = Turn { mine, now: self.turn.subscribe() };
        let goes_back = !marks.is_empty() && self.went_back.swap(epoch, Ordering::SeqCst) != epoch;
        for (i, end) in self.ends.iter().enumerate() {
            let mut end = lock(end);
            match marks.get(i).filter(|_| goes_back) {
                Some(mark) => {
                    end.release(mark);
                    end.go_back();
                    end.keep_no_more();
                }
                None => end.attached(),
            }
        }
        self.events();
        self.stirred.notify_one();
        Ok(Some(turn))
    }

    /// Waits until there may be segments to send, or the turn is over: `false`.
    pub(crate) async fn stirs(&self, turn: &Turn) -> bool {
        tokio::select! {
            biased;
            () = turn.over() => return false,
            () = self.stirred.notified() => {}
        }
        if !turn.holds() {
            // It was meant for whoever has the turn now: nobody would say it again.
            self.stirred.notify_one();
        }
        turn.holds()
    }

    /// The next segment, with the index of its port.
    pub(crate) fn poll_transmit(&self, turn: &Turn) -> Option<(usize, Segment)> {
        self.ends.iter().enumerate().find_map(|(i, end)| {
            let mut end = lock(end);
            // Looked at with the lock held: what a channel takes after its turn would be missing from the next one.
            if !turn.holds() {
                return None;
            }
            end.poll_transmit().map(|segment| (i, segment))
        })
    }

    /// Takes a segment of the task.
    ///
    /// # Errors
    /// When it is none for this task, too much, or not its turn.
    pub(crate) fn handle(&self, turn: &Turn, index: usize, segment: Segment) -> Result<()> {
        let end = self.ends.get(index).context("a port that the task does not have")?;
        {
            let mut end = lock(end);
            if !turn.holds() {
                return Err(anyhow!("the task has moved on"));
            }
            end.handle(segment).map_err(|_| anyhow!("more than was asked for"))?;
        }
        self.events();
        Ok(())
    }

    /// Carries segments to and from a task on this node, until it is over or has another channel.
    pub(crate) async fn carry_local(
        &self,
        epoch: u64,
        sockets: &Sockets,
        back: &[Vec<u8>],
        is_over: impl Fn() -> bool,
    ) -> Result<()> {
        let turn = self.attach(epoch, back)?.context("the task has moved on")?;
        sockets.attached();
        loop {
            let mut idle = true;
            while let Some((index, segment)) = sockets.poll_transmit() {
                self.handle(&turn, index, segment)?;
                idle = false;
            }
            while let Some((index, segment)) = self.poll_transmit(&turn) {
                sockets.handle(index, segment)?;
                idle = false;
            }
            if !idle {
                continue;
            }
            if is_over() {
                return Ok(());
            }
            tokio::select! {
                stirred = self.stirs(&turn) => if !stirred { return Ok(()) },
                () = sockets.stirred.notified() => {}
                // Only to see that the task is over.
                () = tokio::time::sleep(std::time::Duration::from_millis(500)) => {}
            }
        }
    }
}

fn decoded(marks: &[Vec<u8>]) -> Result<Vec<Mark>> {
    marks.iter().map(|mark| Mark::decode(mark).map_err(|e| anyhow!("a mark of its streams: {e}"))).collect()
}
