//! TCP/IP: an address by DHCP, streams to other machines, and listeners.

use super::card::Card;
use crate::clock;
use crate::executor::EVENTS;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use anyhow::{Result, anyhow};
use core::cell::RefCell;
use core::future::poll_fn;
use core::net::{Ipv4Addr, SocketAddrV4};
use core::task::{Poll, Waker};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::{dhcpv4, tcp};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr, IpListenEndpoint};
use wayfare_unikernel_abi::{Boot, NEVER};

/// Bytes of a stream that may be under way, in each direction.
const BUFFER: usize = 64 << 10;
/// Streams that nobody has any more, at most.
const CLOSING_MOST: usize = 16;
/// Connections that may wait to be taken.
const BACKLOG: usize = 4;
/// Where streams from here come from.
const PORTS: core::ops::Range<u16> = 49152..65535;
/// A stream on which the other side confirms nothing for so long is gone; one without anything to say asks after a third.
const SILENCE: Duration = Duration::from_secs(20);

/// Between two looks at a card that has too much to send, or that does not interrupt.
const FULL: Duration = Duration::from_millis(10);

/// The network. Cheap to clone.
#[derive(Clone)]
pub struct Net(Rc<RefCell<Inner>>);

struct Inner {
    card: Card,
    interface: Interface,
    sockets: SocketSet<'static>,
    dhcp: SocketHandle,
    address: Option<Ipv4Addr>,
    /// Who waits for an address.
    waiting: Vec<Waker>,
    /// Streams that nobody has any more, but whose last words are still under way, and until when.
    closing: Vec<(SocketHandle, u64)>,
    next_port: u16,
    /// Where addresses that mean "this machine" lead: to the one that emulates this one.
    loopback: Option<Ipv4Addr>,
}

fn now() -> Instant {
    Instant::from_micros((clock::nanos() / 1000) as i64)
}

fn socket() -> tcp::Socket<'static> {
    let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER]);
    let mut socket = tcp::Socket::new(buffer(), buffer());
    socket.set_nagle_enabled(false);
    socket.set_ack_delay(None);
    socket.set_timeout(Some(SILENCE));
    socket.set_keep_alive(Some(SILENCE / 3));
    socket
}

impl Net {
    /// Sets the network up. It has an address when [`Net::address`] gives one.
    ///
    /// # Errors
    /// When there is no card that can be used.
    pub fn find(boot: &Boot, seed: u64, loopback: Option<Ipv4Addr>) -> Result<Net> {
        let mut card = Card::find(boot)?;
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(card.address())));
        config.random_seed = seed;
        let interface = Interface::new(config, &mut card, now());
        let mut sockets = SocketSet::new(Vec::new());
        let dhcp = sockets.add(dhcpv4::Socket::new());
        let next_port = PORTS.start + (seed % PORTS.len() as u64) as u16;
        let inner = Inner {
            card,
            interface,
            sockets,
            dhcp,
            address: None,
            waiting: Vec::new(),
            closing: Vec::new(),
            next_port,
            loopback,
        };
        Ok(Net(Rc::new(RefCell::new(inner))))
    }

    /// Does what there is to do; gives when it is to be called again at the latest, nanoseconds since the start.
    pub fn serve(&self) -> u64 {
        let inner = &mut *self.0.borrow_mut();
        let interrupts = inner.card.listen(&EVENTS);
        let now = now();
        inner.interface.poll(now, &mut inner.card, &mut inner.sockets);
        let can_send = inner.card.tell();
        inner.configure();
        inner.sweep();
        let delay = match inner.interface.poll_delay(now, &inner.sockets) {
            // The card's interrupt comes first.
            Some(delay) if !can_send => Some(FULL.max(delay)),
            delay => delay,
        };
        let delay = if interrupts { delay } else { Some(delay.map_or(FULL, |delay| delay.min(FULL))) };
        delay.map_or(NEVER, |delay| clock::nanos().saturating_add(delay.total_micros() * 1000))
    }

    /// This machine's address, as soon as it has one.
    pub async fn address(&self) -> Ipv4Addr {
        poll_fn(|cx| {
            let mut inner = self.0.borrow_mut();
            match inner.address {
                Some(address) => Poll::Ready(address),
                None => {
                    inner.waiting.push(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Connects to a machine: `IP:PORT`.
    ///
    /// # Errors
    /// When nobody is there, or the address is none.
    pub async fn connect(&self, address: &str) -> Result<Stream> {
        let to: SocketAddrV4 = address.parse().map_err(|_| {
            anyhow!("{address}: a board knows others by their addresses in numbers alone (--advertise IP:PORT there)")
        })?;
        let stream = {
            let inner = &mut *self.0.borrow_mut();
            let ip = inner.loopback.filter(|_| to.ip().is_loopback()).unwrap_or(*to.ip());
            inner.next_port = if inner.next_port + 1 < PORTS.end { inner.next_port + 1 } else { PORTS.start };
            let (mut socket, port) = (socket(), inner.next_port);
            let connected = socket.connect(inner.interface.context(), (IpAddress::Ipv4(ip), to.port()), port);
            connected.map_err(|e| anyhow!("cannot reach {address}: {e}"))?;
            Stream { net: self.clone(), handle: inner.sockets.add(socket) }
        };
        stream
            .poll(|socket, waker| match socket.state() {
                tcp::State::SynSent | tcp::State::SynReceived => {
                    socket.register_send_waker(waker);
                    None
                }
                tcp::State::Established | tcp::State::CloseWait => Some(Ok(())),
                _ => Some(Err(anyhow!("cannot reach {address}"))),
            })
            .await?;
        Ok(stream)
    }

    /// Takes connections at a port.
    pub fn listen(&self, port: u16) -> Listener {
        let handles = (0..BACKLOG).map(|_| self.listening(port)).collect();
        Listener { net: self.clone(), port, handles }
    }

    fn listening(&self, port: u16) -> SocketHandle {
        let mut socket = socket();
        // Fails only for port 0, or a socket in use.
        let _ = socket.listen(IpListenEndpoint::from(port));
        self.0.borrow_mut().sockets.add(socket)
    }
}

impl Inner {
    /// Takes over what DHCP has to say.
    fn configure(&mut self) {
        match self.sockets.get_mut::<dhcpv4::Socket>(self.dhcp).poll() {
            Some(dhcpv4::Event::Configured(config)) => {
                self.interface.update_ip_addrs(|all| {
                    all.clear();
                    // It has room for more than one.
                    let _ = all.push(IpCidr::Ipv4(config.address));
                });
                let routes = self.interface.routes_mut();
                routes.remove_default_ipv4_route();
                if let Some(router) = config.router {
                    let _ = routes.add_default_ipv4_route(router);
                }
                self.address = Some(config.address.address());
                self.waiting.drain(..).for_each(Waker::wake);
            }
            Some(dhcpv4::Event::Deconfigured) => {
                self.interface.update_ip_addrs(|all| all.clear());
                self.interface.routes_mut().remove_default_ipv4_route();
                self.address = None;
            }
            None => {}
        }
    }

    /// Forgets streams that are over.
    fn sweep(&mut self) {
        let now = clock::nanos();
        // The oldest ones are first.
        let mut too_many = self.closing.len().saturating_sub(CLOSING_MOST);
        self.closing.retain(|(handle, until)| {
            let state = self.sockets.get::<tcp::Socket>(*handle).state();
            // In TIME-WAIT all has been said and confirmed, and a buffer is worth more than an answer to a stray packet.
            let over = *until <= now || too_many > 0 || matches!(state, tcp::State::Closed | tcp::State::TimeWait);
            too_many = too_many.saturating_sub(usize::from(over));
            if over {
                self.sockets.remove(*handle);
            }
            !over
        });
    }
}

/// A connection. Dropped, it is closed.
pub struct Stream {
    net: Net,
    handle: SocketHandle,
}

impl Stream {
    /// Waits until `ask` has an answer; it has the socket wake it if not.
    async fn poll<T>(&self, mut ask: impl FnMut(&mut tcp::Socket<'static>, &Waker) -> Option<T>) -> T {
        poll_fn(|cx| {
            let mut inner = self.net.0.borrow_mut();
            let socket = inner.sockets.get_mut::<tcp::Socket>(self.handle);
            ask(socket, cx.waker()).map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// What has come: 0 at the end.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn read(&self, into: &mut [u8]) -> Result<usize> {
        self.poll(|socket, waker| match socket.recv_slice(into) {
            Ok(0) => {
                socket.register_recv_waker(waker);
                None
            }
            Ok(read) => Some(Ok(read)),
            Err(tcp::RecvError::Finished) => Some(Ok(0)),
            Err(tcp::RecvError::InvalidState) => Some(Err(anyhow!("the connection is gone"))),
        })
        .await
    }

    /// Takes as much as there is room for.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn write(&self, bytes: &[u8]) -> Result<usize> {
        self.poll(|socket, waker| match socket.send_slice(bytes) {
            Ok(0) => {
                socket.register_send_waker(waker);
                None
            }
            Ok(sent) => Some(Ok(sent)),
            Err(_) => Some(Err(anyhow!("the connection is gone"))),
        })
        .await
    }

    /// As [`Stream::write`], without waiting: 0 if there is no room.
    pub fn try_write(&self, bytes: &[u8]) -> usize {
        let mut inner = self.net.0.borrow_mut();
        inner.sockets.get_mut::<tcp::Socket>(self.handle).send_slice(bytes).unwrap_or(0)
    }

    /// Says that nothing more will be said.
    pub fn finish(&self) {
        self.net.0.borrow_mut().sockets.get_mut::<tcp::Socket>(self.handle).close();
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let inner = &mut *self.net.0.borrow_mut();
        inner.sockets.get_mut::<tcp::Socket>(self.handle).close();
        inner.closing.push((self.handle, clock::nanos() + SILENCE.total_micros() * 1000));
    }
}

/// Takes connections.
pub struct Listener {
    net: Net,
    port: u16,
    handles: Vec<SocketHandle>,
}

impl Listener {
    /// The next connection.
    pub async fn accept(&mut self) -> Stream {
        let index = poll_fn(|cx| {
            let mut inner = self.net.0.borrow_mut();
            let found = self.handles.iter().position(|handle| {
                let socket = inner.sockets.get_mut::<tcp::Socket>(*handle);
                socket.register_recv_waker(cx.waker());
                socket.register_send_waker(cx.waker());
                // One that was given up in the middle of a handshake as well: its place is needed.
                !matches!(socket.state(), tcp::State::Listen | tcp::State::SynReceived)
            });
            found.map_or(Poll::Pending, Poll::Ready)
        })
        .await;
        let next = self.net.listening(self.port);
        let handle = core::mem::replace(&mut self.handles[index], next);
        Stream { net: self.net.clone(), handle }
    }
}
