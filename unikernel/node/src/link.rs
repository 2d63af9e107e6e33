//! A channel over a stream.

use crate::executor::Executor;
use crate::net::{Net, Stream};
use crate::{clock, entropy};
use alloc::vec;
use alloc::vec::Vec;
use anyhow::{Context, Result, anyhow, bail};
use core::pin::pin;
use futures_util::future::{Either, select};
use wayfare_transfer::channel::Credentials;
use wayfare_transfer::{Channel, Incoming, Kind, Peer};

/// A connection and its handshake must be there within so many milliseconds.
const OPENING: u64 = 5_000;
/// An answer that takes no work likewise.
const ANSWER: u64 = 10_000;
/// A link on which nothing can be sent for so long is gone, milliseconds.
const STUCK: u64 = 30_000;
/// Bytes read at once.
const READ: usize = 32 << 10;

/// One end.
pub struct Link {
    /// The handshake, and everything behind it.
    pub channel: Channel,
    executor: Executor,
    stream: Stream,
    buffer: Vec<u8>,
    out: Vec<u8>,
    sent: usize,
    /// Nanoseconds of a round trip.
    pub rtt: u64,
    /// Genuine records so far, and when the last one came.
    heard: (u64, u64),
}

fn seed() -> Result<[u8; 32]> {
    let mut seed = [0; 32];
    match entropy::fill(&mut seed) {
        true => Ok(seed),
        false => bail!("this machine has no source of randomness, so that no key can be made"),
    }
}

impl Link {
    /// Dials a node and shakes hands.
    ///
    /// # Errors
    /// When nobody is there, or not one whom to trust.
    pub async fn dial(net: &Net, executor: &Executor, address: &str, credentials: Credentials) -> Result<Link> {
        let channel = Channel::initiate(credentials, seed()?, clock::unix())?;
        let opening = async {
            let stream = net.connect(address).await?;
            let mut link = Link::new(executor, stream, channel);
            let began = clock::nanos();
            link.shake().await.with_context(|| alloc::format!("{address} is not to be trusted"))?;
            link.rtt = clock::nanos() - began;
            Ok(link)
        };
        let opened = executor.within(OPENING, opening).await;
        opened.ok_or_else(|| anyhow!("{address} does not answer"))?
    }

    /// Takes a connection and shakes hands.
    ///
    /// # Errors
    /// When the other side is not to be trusted.
    pub async fn accept(executor: &Executor, stream: Stream, credentials: Credentials) -> Result<Link> {
        let channel = Channel::respond(credentials, seed()?, clock::unix(), false)?;
        let mut link = Link::new(executor, stream, channel);
        let shaken = executor.within(OPENING, link.shake()).await;
        shaken.ok_or_else(|| anyhow!("no handshake came"))??;
        Ok(link)
    }

    fn new(executor: &Executor, stream: Stream, channel: Channel) -> Link {
        let heard = (0, clock::nanos());
        let (executor, out) = (executor.clone(), Vec::new());
        Link { channel, executor, stream, buffer: vec![0; READ], out, sent: 0, rtt: 0, heard }
    }

    async fn shake(&mut self) -> Result<()> {
        while !self.channel.is_open() {
            self.flush().await?;
            let read = self.stream.read(&mut self.buffer).await?;
            if read == 0 {
                bail!("the other side closed the connection");
            }
            self.channel.handle(&self.buffer[..read])?;
        }
        self.flush().await
    }

    /// The name of the node at the other end; none for one that is no member.
    pub fn peer(&self) -> Option<&str> {
        match self.channel.peer() {
            Some(Peer::Member(claims)) => Some(&claims.name),
            _ => None,
        }
    }

    /// Sends a message and waits until the stream has it.
    ///
    /// # Errors
    /// When the link is gone.
    pub async fn send(&mut self, kind: Kind, payload: &[u8]) -> Result<()> {
        self.channel.send(kind, payload)?;
        let executor = self.executor.clone();
        let flushed = executor.within(STUCK, self.flush()).await;
        flushed.ok_or_else(|| anyhow!("the link takes nothing"))?
    }

    async fn flush(&mut self) -> Result<()> {
        while self.fill() {
            self.sent += self.stream.write(&self.out[self.sent..]).await?;
        }
        Ok(())
    }

    /// Sees to it that what waits is in `out`; `false` when nothing does.
    fn fill(&mut self) -> bool {
        if self.sent == self.out.len() {
            self.sent = 0;
            return self.channel.poll_transmit(&mut self.out);
        }
        true
    }

    /// Writes as much of what waits as there is room for at once.
    pub fn push(&mut self) {
        while self.fill() {
            match self.stream.try_write(&self.out[self.sent..]) {
                0 => return,
                sent => self.sent += sent,
            }
        }
    }

    /// Reads what has come and writes what can go, whichever is possible first. Gives a message if one is complete. May
    /// be dropped at any time.
    ///
    /// # Errors
    /// When the link is gone, or the other side broke the protocol.
    pub async fn turn(&mut self) -> Result<Option<Incoming>> {
        if let Some(message) = self.channel.poll() {
            return Ok(Some(message));
        }
        let read = if self.fill() {
            let (stream, out) = (&self.stream, &self.out[self.sent..]);
            match select(pin!(stream.read(&mut self.buffer)), pin!(stream.write(out))).await {
                Either::Left((read, _)) => read?,
                Either::Right((wrote, _)) => {
                    self.sent += wrote?;
                    return Ok(None);
                }
            }
        } else {
            self.stream.read(&mut self.buffer).await?
        };
        if read == 0 {
            bail!("the other side closed the connection");
        }
        self.channel.handle(&self.buffer[..read])?;
        Ok(self.channel.poll())
    }

    /// How long the other side has said nothing that was genuine, milliseconds.
    pub fn silence(&mut self) -> u64 {
        let records = self.channel.records();
        if records != self.heard.0 {
            self.heard = (records, clock::nanos());
        }
        (clock::nanos() - self.heard.1) / 1_000_000
    }

    /// The next message, within so many milliseconds.
    ///
    /// # Errors
    /// As [`Link::turn`]; when none comes in time.
    pub async fn receive(&mut self, millis: u64) -> Result<Incoming> {
        let executor = self.executor.clone();
        let receiving = async {
            loop {
                if let Some(message) = self.turn().await? {
                    return Ok(message);
                }
            }
        };
        executor.within(millis, receiving).await.ok_or_else(|| anyhow!("no answer came"))?
    }

    /// The answer to what was asked.
    ///
    /// # Errors
    /// When it does not come in time, or is of another kind.
    pub async fn expect(&mut self, kind: Kind) -> Result<Vec<u8>> {
        let message = self.receive(ANSWER).await?;
        if message.kind != kind {
            bail!("an answer to something else");
        }
        Ok(message.payload)
    }

    /// Sends what waits, and closes. What the other side is still sending is taken and thrown away until it closes too: else
    /// the last word may be lost.
    pub async fn part(mut self) {
        let executor = self.executor.clone();
        let parting = async {
            self.flush().await?;
            self.stream.finish();
            while self.stream.read(&mut self.buffer).await? > 0 {}
            anyhow::Ok(())
        };
        let _ = executor.within(ANSWER, parting).await;
    }
}
