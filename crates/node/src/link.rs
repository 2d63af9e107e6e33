//! A channel over TCP.

use crate::{random, unix_now};
use anyhow::{Context, Result, anyhow, bail};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;
use wayfare_transfer::channel::Credentials;
use wayfare_transfer::{Channel, ChannelError, Incoming, Kind, Peer};

/// A connection and its handshake must be there within this time.
const OPENING: Duration = Duration::from_secs(5);
/// An answer that takes no work must be there within this time.
const ANSWER: Duration = Duration::from_secs(10);
/// A link on which nothing can be sent for so long is gone.
const STUCK: Duration = Duration::from_secs(30);
/// Bytes in the kernel that have not been sent once, on a link that is in a hurry.
const UNSENT: u32 = 64 << 10;
/// Bytes read at once.
const READ: usize = 256 << 10;

/// One end.
pub struct Link {
    /// The handshake, and everything behind it.
    pub channel: Channel,
    read: OwnedReadHalf,
    write: OwnedWriteHalf,
    buffer: Vec<u8>,
    out: Vec<u8>,
    sent: usize,
    /// What a round trip takes.
    pub rtt: Duration,
    /// Genuine records so far, and when the last one came.
    heard: (u64, Instant),
}

impl Link {
    /// Dials a node and shakes hands.
    ///
    /// # Errors
    /// When nobody is there, or not one whom to trust.
    pub async fn dial(address: &str, credentials: Credentials) -> Result<Link> {
        let opening = async {
            let stream = TcpStream::connect(address).await.with_context(|| format!("cannot reach {address}"))?;
            Link::open(stream, credentials).await.map_err(|e| match e.downcast_ref::<ChannelError>() {
                Some(ChannelError::Version(..)) => e.context(format!("{address} cannot be talked to")),
                _ => e.context(format!("{address} is not to be trusted")),
            })
        };
        timeout(OPENING, opening).await.map_err(|_| anyhow!("{address} does not answer"))?
    }

    /// Shakes hands on a connection that was dialled.
    ///
    /// # Errors
    /// When the other side is not to be trusted.
    pub async fn open(stream: TcpStream, credentials: Credentials) -> Result<Link> {
        let channel = Channel::initiate(credentials, random()?, unix_now())?;
        let mut link = Link::new(stream, channel)?;
        let began = Instant::now();
        link.shake().await?;
        link.rtt = began.elapsed();
        Ok(link)
    }

    /// Takes a connection and shakes hands.
    ///
    /// # Errors
    /// When the other side is not to be trusted.
    pub async fn accept(stream: TcpStream, credentials: Credentials, strangers: bool) -> Result<Link> {
        let channel = Channel::respond(credentials, random()?, unix_now(), strangers)?;
        let mut link = Link::new(stream, channel)?;
        timeout(OPENING, link.shake()).await.map_err(|_| anyhow!("no handshake came"))??;
        Ok(link)
    }

    fn new(stream: TcpStream, channel: Channel) -> Result<Link> {
        use rustix::net::sockopt;
        stream.set_nodelay(true)?;
        // A peer that is gone without a word is found out within about twenty seconds, whoever waits for whom. An
        // emulator may not know all of these; silence is noticed all the same where it matters.
        let _ = sockopt::set_socket_keepalive(&stream, true);
        let _ = sockopt::set_tcp_keepidle(&stream, Duration::from_secs(5));
        let _ = sockopt::set_tcp_keepintvl(&stream, Duration::from_secs(5));
        let _ = sockopt::set_tcp_keepcnt(&stream, 3);
        let _ = sockopt::set_tcp_user_timeout(&stream, 20_000);
        let (read, write) = stream.into_split();
        Ok(Link {
            channel,
            read,
            write,
            buffer: vec![0; 16 << 10],
            out: Vec::new(),
            sent: 0,
            rtt: Duration::ZERO,
            heard: (0, Instant::now()),
        })
    }

    async fn shake(&mut self) -> Result<()> {
        while !self.channel.is_open() {
            self.flush().await?;
            let read = self.read.read(&mut self.buffer).await?;
            if read == 0 {
                bail!("the other side closed the connection");
            }
            self.channel.handle(&self.buffer[..read])?;
        }
        self.flush().await?;
        self.buffer = vec![0; READ];
        Ok(())
    }

    /// Lets little pile up in the kernel, so that what is sent next is soon there; a link that is to carry as much as
    /// it can does without.
    pub fn hurry(&self) {
        let stream: &TcpStream = self.write.as_ref();
        // An emulator may not know it.
        let _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT);
    }

    /// The name of the node at the other end; none for one that is no member.
    pub fn peer(&self) -> Option<&str> {
        match self.channel.peer() {
            Some(Peer::Member(claims)) => Some(&claims.name),
            _ => None,
        }
    }

    /// Sends a message and waits until the operating system has it.
    ///
    /// # Errors
    /// When the link is gone.
    pub async fn send(&mut self, kind: Kind, payload: &[u8]) -> Result<()> {
        self.channel.send(kind, payload)?;
        timeout(STUCK, self.flush()).await.map_err(|_| anyhow!("the link takes nothing"))?
    }

    async fn flush(&mut self) -> Result<()> {
        while self.write_some().await? {}
        Ok(())
    }

    /// Writes some of what waits; `false` when there is nothing. Nothing is lost if this is dropped half-way.
    async fn write_some(&mut self) -> Result<bool> {
        if self.sent == self.out.len() {
            self.sent = 0;
            if !self.channel.poll_transmit(&mut self.out) {
                return Ok(false);
            }
        }
        self.sent += self.write.write(&self.out[self.sent..]).await?;
        Ok(true)
    }

    /// Writes as much of what waits as the operating system takes at once, so that it is on its way while more is made.
    /// [`Link::turn`] tells of what goes wrong.
    pub fn push(&mut self) {
        loop {
            if self.sent == self.out.len() {
                self.sent = 0;
                if !self.channel.poll_transmit(&mut self.out) {
                    return;
                }
            }
            match self.write.try_write(&self.out[self.sent..]) {
                Ok(n) if n > 0 => self.sent += n,
                _ => return,
            }
        }
    }

    /// Reads what has come and writes what can go, whichever is possible first. Gives a message if one is complete.
    /// May be dropped at any time: it is for `select!`.
    ///
    /// # Errors
    /// When the link is gone, or the other side broke the protocol.
    pub async fn turn(&mut self) -> Result<Option<Incoming>> {
        if let Some(message) = self.channel.poll() {
            return Ok(Some(message));
        }
        if self.sent == self.out.len() {
            self.sent = 0;
            self.channel.poll_transmit(&mut self.out);
        }
        let writes = self.sent < self.out.len();
        tokio::select! {
            read = self.read.read(&mut self.buffer) => {
                match read? {
                    0 => bail!("the other side closed the connection"),
                    read => self.channel.handle(&self.buffer[..read])?,
                }
            }
            wrote = self.write.write(&self.out[self.sent..]), if writes => self.sent += wrote?,
        }
        Ok(self.channel.poll())
    }

    /// How long the other side has said nothing that was genuine. Bytes alone are no sign of life: with a length that
    /// somebody changed on the way, the channel may wait for a record that never ends.
    pub fn silence(&mut self) -> Duration {
        let records = self.channel.records();
        if records != self.heard.0 {
            self.heard = (records, Instant::now());
        }
        self.heard.1.elapsed()
    }

    /// The next message, whenever it comes.
    ///
    /// # Errors
    /// As [`Link::turn`].
    pub async fn receive(&mut self) -> Result<Incoming> {
        loop {
            if let Some(message) = self.turn().await? {
                return Ok(message);
            }
        }
    }

    /// The answer to what was asked.
    ///
    /// # Errors
    /// When it does not come in time, or is of another kind.
    pub async fn expect(&mut self, kind: Kind) -> Result<Vec<u8>> {
        timeout(ANSWER, self.answer(kind)).await.map_err(|_| anyhow!("no answer came"))?
    }

    /// [`Link::expect`], whenever it comes: of what takes the other side longer, as compiling a program does.
    ///
    /// # Errors
    /// As [`Link::turn`]; when it is of another kind.
    pub async fn answer(&mut self, kind: Kind) -> Result<Vec<u8>> {
        let message = self.receive().await?;
        if message.kind != kind {
            bail!("an answer to something else");
        }
        Ok(message.payload)
    }

    /// [`Link::close`] while the other side may still be sending: what it sends is taken and thrown away until it has heard
    /// the last word and closes too. Else the kernel would break the connection, and the last word be lost.
    pub async fn part(mut self) {
        let _ = timeout(ANSWER, async {
            self.flush().await?;
            self.write.shutdown().await?;
            while self.read.read(&mut self.buffer).await? > 0 {}
            anyhow::Ok(())
        })
        .await;
    }

    /// Sends what waits, for a while, and closes.
    pub async fn close(mut self) {
        let _ = timeout(ANSWER, self.flush()).await;
        let _ = timeout(ANSWER, self.write.shutdown()).await;
    }
}

/// The link's next event; without a link, none ever.
pub(crate) async fn turn(link: &mut Option<Link>) -> Result<Option<Incoming>> {
    match link {
        Some(link) => link.turn().await,
        None => std::future::pending().await,
    }
}
