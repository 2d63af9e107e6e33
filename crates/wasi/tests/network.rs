//! Listeners and connections of a network that is not this process's: every call on them, waiting, and moving.
#![cfg(feature = "std")]

mod support;

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustix::event::EventfdFlags;
use support::*;
use wayfare_wasi::std_host::{Network, StdHost, StreamSource};
use wayfare_wasi::{
    Control, Ctx, DescriptorKind, Errno, Host, Interest, Obstacle, Shutdown, Source, Stream, Unattached, Volume, Wait,
    Woken,
};

#[derive(Default)]
struct Pipe {
    to_guest: VecDeque<u8>,
    to_client: Vec<u8>,
    /// How many bytes `send` still takes.
    room: usize,
    ended: bool,
    reset: bool,
    shut: Vec<Shutdown>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<u64>,
    pipes: BTreeMap<u64, Pipe>,
    attached: Vec<u64>,
    closed: Vec<u64>,
    closed_listeners: Vec<u64>,
    /// How often readiness was asked for.
    asked: usize,
}

/// A network that the test holds the other side of. Cloned, it is the same one seen from another node.
#[derive(Clone)]
struct Net(Arc<(Mutex<State>, OwnedFd)>);

impl Net {
    fn new() -> Self {
        let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
        Self(Arc::new((Mutex::default(), event)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap()
    }

    /// Changes something and wakes the host.
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.wake();
    }

    fn wake(&self) {
        rustix::io::write(&self.0.1, &1_u64.to_ne_bytes()).unwrap();
    }

    fn connect(&self, stream: u64) {
        self.change(|state| {
            state.pipes.insert(stream, Pipe { room: 100, ..Pipe::default() });
            state.queue.push_back(stream);
        });
    }

    fn write(&self, stream: u64, bytes: &[u8]) {
        self.change(|state| state.pipes.get_mut(&stream).unwrap().to_guest.extend(bytes));
    }
}

impl Network for Net {
    fn listener(&mut self, name: &str) -> Result<u64> {
        // The number of a listener may be that of a stream.
        if name == "http" { Ok(70) } else { Err(Errno::Noent) }
    }

    fn accept(&mut self, listener: u64) -> Result<u64> {
        assert_eq!(listener, 70);
        self.state().queue.pop_front().ok_or(Errno::Again)
    }

    fn attach(&mut self, stream: u64) -> Result<()> {
        let mut state = self.state();
        state.attached.push(stream);
        if state.pipes.contains_key(&stream) { Ok(()) } else { Err(Errno::Notconn) }
    }

    fn recv(&mut self, stream: u64, buf: &mut [u8], peek: bool) -> Result<usize> {
        let mut state = self.state();
        let pipe = state.pipes.get_mut(&stream).ok_or(Errno::Notconn)?;
        if pipe.reset {
            return Err(Errno::Connreset);
        }
        if pipe.to_guest.is_empty() && !pipe.ended {
            return Err(Errno::Again);
        }
        let len = buf.len().min(pipe.to_guest.len());
        buf.iter_mut().zip(&pipe.to_guest).for_each(|(to, from)| *to = *from);
        if !peek {
            pipe.to_guest.drain(..len);
        }
        Ok(len)
    }

    fn send(&mut self, stream: u64, bytes: &[u8]) -> Result<usize> {
        let mut state = self.state();
        let pipe = state.pipes.get_mut(&stream).ok_or(Errno::Notconn)?;
        let len = bytes.len().min(pipe.room);
        pipe.room -= len;
        pipe.to_client.extend(&bytes[..len]);
        if len == 0 { Err(Errno::Again) } else { Ok(len) }
    }

    fn shutdown(&mut self, stream: u64, how: Shutdown) -> Result<()> {
        self.state().pipes.get_mut(&stream).ok_or(Errno::Notconn)?.shut.push(how);
        Ok(())
    }

    fn close(&mut self, stream: u64) {
        self.state().closed.push(stream);
    }

    fn close_listener(&mut self, listener: u64) {
        self.state().closed_listeners.push(listener);
    }

    fn ready(&mut self, stream: u64, interest: Interest) -> bool {
        let mut state = self.state();
        state.asked += 1;
        state.pipes.get(&stream).is_none_or(|pipe| match interest {
            Interest::Read => pipe.reset || pipe.ended || !pipe.to_guest.is_empty(),
            Interest::Write => pipe.reset || pipe.room > 0,
        })
    }

    fn can_accept(&mut self, listener: u64) -> bool {
        assert_eq!(listener, 70);
        let mut state = self.state();
        state.asked += 1;
        !state.queue.is_empty()
    }

    fn wakeup(&self) -> BorrowedFd<'_> {
        self.0.1.as_fd()
    }
}

fn host(net: &Net) -> StdHost {
    let host = StdHost::new().unwrap().network(Box::new(net.clone()));
    [Stream::Stdin, Stream::Stdout, Stream::Stderr]
        .into_iter()
        .fold(host, |host, stream| host.stream(stream, StreamSource::Null))
}

fn guest(net: &Net) -> Guest<StdHost> {
    Guest::new(Ctx::builder().listener("http").build(), host(net))
}

/// A guest with one connection, at descriptor 4.
fn connected(net: &Net, stream: u64) -> Guest<StdHost> {
    let mut g = guest(net);
    net.connect(stream);
    assert_eq!(g.errno("sock_accept", &[3, 0, 16]), Errno::Success);
    assert_eq!(g.u32(16), 4);
    g
}

#[test]
fn a_listener_is_found_at_the_first_number_after_the_directories_as_a_socket() {
    let net = Net::new();
    let mut g = guest(&net);
    // A libc that looks for directories stops here.
    assert_eq!(g.errno("fd_prestat_get", &[3, 512]), Errno::Badf);
    assert_eq!(g.fdstat(3), Ok((6, 0, RW, 0)));
    assert_eq!(g.fstat(3).unwrap().filetype, 6);
    assert_eq!(g.errno("fd_fdstat_set_flags", &[3, NONBLOCK]), Errno::Success);
    assert_eq!(g.fdstat(3), Ok((6, NONBLOCK as u16, RW, 0)));
    assert_eq!(g.errno("sock_accept", &[3, 0, 16]), Errno::Again);

    let mut g = Guest::new(Ctx::builder().listener("http").volume("/v", Volume::new(), false).build(), host(&net));
    assert_eq!((g.fdstat(3).unwrap().0, g.fdstat(4).unwrap().0), (3, 6));
    let error = Ctx::builder().listener("other").build().reattach(&mut host(&net)).unwrap_err();
    assert_eq!(error.0, [Unattached::Listener { fd: 3, name: "other".into(), errno: Errno::Noent }]);
    g.close(4).unwrap();
    assert_eq!(net.state().closed_listeners, [70]);
}

#[test]
fn every_call_works_on_a_connection() {
    let net = Net::new();
    let mut g = connected(&net, 7);
    assert_eq!(g.fdstat(4), Ok((6, 0, RW, 0)));
    net.write(7, b"request");
    // A look first, then the bytes.
    g.iov(3);
    assert_eq!(g.errno("sock_recv", &[4, 256, 1, 1, 16, 24]), Errno::Success);
    assert_eq!(g.bytes(DATA, g.count().into()), b"req");
    assert_eq!(g.errno("sock_recv", &[4, 256, 1, 0, 16, 24]), Errno::Success);
    assert_eq!((g.bytes(DATA, g.count().into()), g.bytes(24, 2)), (b"req".to_vec(), vec![0, 0]));
    assert_eq!(g.read(4, 100), Ok(b"uest".to_vec()));
    let args = g.read_args(4, 10);
    let wait = Wait { deadline: None, sources: g.blocked("fd_read", &args).sources };
    assert!(matches!(wait.sources[..], [(Source::Socket(_), Interest::Read)]));
    net.change(|state| state.pipes.get_mut(&7).unwrap().ended = true);
    assert_eq!(g.host.wait(&wait), Woken::Ready);
    assert_eq!(g.read(4, 10), Ok(vec![]));

    assert_eq!(g.write(4, b"answer"), Ok(6));
    let args = g.write_args(4, &[b'x'; 200]);
    assert_eq!(g.errno("sock_send", &[4, args[1], 1, 0, 16]), Errno::Success);
    assert_eq!(g.count(), 94);
    let wait = g.blocked("sock_send", &[4, args[1], 1, 0, 16]);
    assert!(matches!(wait.sources[..], [(Source::Socket(_), Interest::Write)]));
    assert_eq!(g.errno("fd_fdstat_set_flags", &[4, NONBLOCK]), Errno::Success);
    assert_eq!(g.write(4, b"x"), Err(Errno::Again));
    net.change(|state| state.pipes.get_mut(&7).unwrap().room = 1);
    assert_eq!(g.host.wait(&wait), Woken::Ready);
    assert_eq!(g.write(4, b"!?"), Ok(1));
    assert_eq!(net.state().pipes[&7].to_client[..6], *b"answer");

    assert_eq!(g.errno("sock_shutdown", &[4, 2]), Errno::Success);
    assert_eq!(net.state().pipes[&7].shut, [Shutdown { read: false, write: true }]);
    assert_eq!(g.errno("sock_shutdown", &[3, 2]), Errno::Notconn);
    assert_eq!(g.errno("sock_recv", &[3, 256, 1, 0, 16, 24]), Errno::Notconn);
    net.change(|state| state.pipes.get_mut(&7).unwrap().reset = true);
    assert_eq!(g.read(4, 10), Err(Errno::Connreset));
    assert_eq!(g.seek(4, 0, 0), Err(Errno::Spipe));
    g.close(4).unwrap();
    assert_eq!((&net.state().closed[..], g.read(4, 1)), (&[7][..], Err(Errno::Badf)));
}

#[test]
fn an_accept_waits_until_a_connection_comes() {
    let net = Net::new();
    let mut g = guest(&net);
    let args = [3, NONBLOCK, 16];
    let wait = g.blocked("sock_accept", &args);
    let other = net.clone();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        other.connect(9);
    });
    assert_eq!(g.host.wait(&wait), Woken::Ready);
    thread.join().unwrap();
    assert_eq!(g.errno("sock_accept", &args), Errno::Success);
    assert_eq!(g.fdstat(4), Ok((6, NONBLOCK as u16, RW, 0)));
    assert_eq!(g.read(4, 1), Err(Errno::Again));
}

#[test]
fn connections_move_with_the_call_that_waits_for_them() {
    let net = Net::new();
    let mut g = connected(&net, 7);
    net.connect(8);
    assert_eq!(g.errno("sock_accept", &[3, NONBLOCK, 16]), Errno::Success);
    net.write(7, b"before ");
    assert_eq!(g.read(4, 3), Ok(b"bef".to_vec()));
    g.read(4, 100).unwrap();
    let args = g.read_args(4, 100);
    g.blocked("fd_read", &args);
    g.ctx.pausing(&mut g.host);
    assert_eq!(g.ctx.obstacles(), []);
    let info = g.ctx.describe().pop().unwrap();
    assert_eq!((info.fd, info.kind, info.stream, info.attached), (5, DescriptorKind::Connection, Some(8), true));

    let mut g = g.moved(host(&net));
    assert_eq!(net.state().attached, [7, 8]);
    // The host of the task that has left goes without closing anything.
    assert!(net.state().closed.is_empty());
    let wait = match g.call("fd_read", &args) {
        Control::Block(wait) => wait,
        other => panic!("{other:?}"),
    };
    net.write(7, b"after");
    assert_eq!(g.host.wait(&wait), Woken::Ready);
    assert_eq!(g.errno("fd_read", &args), Errno::Success);
    assert_eq!(g.bytes(DATA, g.count().into()), b"after");
    assert_eq!(g.read(5, 1), Err(Errno::Again));
    assert_eq!(g.write(5, b"x"), Ok(1));
    let wait = g.blocked("sock_accept", &[3, 0, 16]);
    net.connect(9);
    assert_eq!(g.host.wait(&wait), Woken::Ready);
    assert_eq!(g.errno("sock_accept", &[3, 0, 16]), Errno::Success);
}

#[test]
fn a_connection_that_is_not_here_is_listed_with_what_else_is_missing() {
    let net = Net::new();
    let mut g = connected(&net, 0xabc);
    g.ctx.pausing(&mut g.host);
    let bytes = g.ctx.encode();
    let error = Ctx::decode(&bytes).unwrap().reattach(&mut StdHost::new().unwrap()).unwrap_err();
    let stream = |errno| Unattached::Stream { fd: 4, stream: 0xabc, errno };
    let listener = Unattached::Listener { fd: 3, name: "http".into(), errno: Errno::Noent };
    assert_eq!(error.0, [listener, stream(Errno::Notsup)]);
    assert!(error.to_string().contains("0xabc"), "{error}");
    net.change(|state| state.pipes.clear());
    let mut ctx = Ctx::decode(&bytes).unwrap();
    assert_eq!(ctx.reattach(&mut host(&net)).unwrap_err().0, [stream(Errno::Notconn)]);
    assert!(!ctx.describe().pop().unwrap().attached);
    // A call on it fails; it does not panic.
    let mut g = Guest { ctx, host: host(&net), mem: g.mem };
    assert_eq!(g.read(4, 1), Err(Errno::Notconn));
    g.close(4).unwrap();
}

#[test]
fn a_connection_of_this_process_is_an_obstacle_beside_one_that_can_move() {
    let net = Net::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let ctx = Ctx::builder().listener("here").listener("http").build();
    let mut g = Guest::new(ctx, host(&net).publish("here", listener));
    let _client = std::net::TcpStream::connect(address).unwrap();
    net.connect(1);
    assert_eq!(g.errno("sock_accept", &[4, 0, 16]), Errno::Success);
    let Control::Block(wait) = g.call("sock_accept", &[3, 0, 16]) else {
        assert_eq!(g.ctx.obstacles(), [Obstacle::Connection { fd: 6 }]);
        return;
    };
    assert_eq!(g.host.wait(&wait), Woken::Ready);
    assert_eq!(g.errno("sock_accept", &[3, 0, 16]), Errno::Success);
    assert_eq!(g.ctx.obstacles(), [Obstacle::Connection { fd: 6 }]);
}

/// Puts a subscription for reading or writing at the `i`th place.
fn subscribe(g: &mut Guest<StdHost>, i: u64, interest: Interest, fd: u32) {
    let at = 1024 + 48 * i;
    g.put(at, &[0; 48]);
    g.put(at, &(100 + i).to_le_bytes());
    g.put(at + 8, &[if interest == Interest::Read { 1 } else { 2 }]);
    g.put(at + 16, &fd.to_le_bytes());
}

/// User data and kind of what `poll_oneoff` of `count` subscriptions reports.
fn poll(g: &mut Guest<StdHost>, count: u64) -> Vec<(u64, u8)> {
    assert_eq!(g.errno("poll_oneoff", &[1024, 8192, count, 16]), Errno::Success);
    (0..u64::from(g.u32(16))).map(|i| (g.u64(8192 + 32 * i), g.mem[8192 + 32 * i as usize + 10])).collect()
}

#[test]
fn a_poll_reports_listeners_and_connections_in_both_directions() {
    let net = Net::new();
    let mut g = connected(&net, 70);
    subscribe(&mut g, 0, Interest::Read, 3);
    subscribe(&mut g, 1, Interest::Read, 4);
    let wait = g.blocked("poll_oneoff", &[1024, 8192, 2, 16]);
    assert_eq!(wait.sources.len(), 2);
    subscribe(&mut g, 2, Interest::Write, 4);
    assert_eq!(poll(&mut g, 3), [(102, 2)]);
    net.connect(8);
    assert_eq!(g.host.wait(&wait), Woken::Ready);
    assert_eq!(poll(&mut g, 3), [(100, 1), (102, 2)]);
    net.write(70, b"x");
    net.change(|state| state.pipes.get_mut(&70).unwrap().room = 0);
    assert_eq!(poll(&mut g, 3), [(100, 1), (101, 1)]);
    assert_eq!(g.read(4, 10), Ok(b"x".to_vec()));
    assert_eq!(g.errno("sock_accept", &[3, 0, 16]), Errno::Success);
    // The same poll goes on elsewhere.
    g.blocked("poll_oneoff", &[1024, 8192, 3, 16]);
    let mut g = g.moved(host(&net));
    let wait = g.blocked("poll_oneoff", &[1024, 8192, 3, 16]);
    net.change(|state| state.pipes.get_mut(&70).unwrap().room = 5);
    assert_eq!(g.host.wait(&wait), Woken::Ready);
    assert_eq!(poll(&mut g, 3), [(102, 2)]);
}

#[test]
fn no_wakeup_is_lost_and_those_for_others_do_not_end_a_wait() {
    let net = Net::new();
    let mut g = connected(&net, 7);
    net.connect(8);
    let args = g.read_args(4, 10);
    let wait = g.blocked("fd_read", &args);
    // One that came before the wait counts for it.
    net.write(7, b"x");
    assert_eq!(g.host.wait(&wait), Woken::Ready);
    g.read(4, 10).unwrap();
    // Stale ones, and those for another stream, end nothing and do not make it spin.
    net.wake();
    let other = net.clone();
    let thread = std::thread::spawn(move || {
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(5));
            other.write(8, b"for another");
        }
    });
    let asked = net.state().asked;
    let (started, now) = (Instant::now(), g.host.monotonic());
    let deadline = Some(now + 60_000_000);
    assert_eq!(g.host.wait(&Wait { deadline, sources: wait.sources.clone() }), Woken::TimedOut);
    assert!(started.elapsed() >= Duration::from_millis(60));
    thread.join().unwrap();
    let asked = net.state().asked - asked;
    assert!((1..=7).contains(&asked), "{asked}");
    // A hundred races between the last look and the sleep: each write ends the wait it was made for.
    for _ in 0..100 {
        let other = net.clone();
        let thread = std::thread::spawn(move || other.write(7, b"x"));
        assert_eq!(g.host.wait(&wait), Woken::Ready);
        thread.join().unwrap();
        assert_eq!(g.read(4, 10), Ok(b"x".to_vec()));
    }
}

#[test]
fn a_wait_on_the_network_ends_for_other_sources_and_when_it_is_cancelled() {
    let net = Net::new();
    let (read, write) = rustix::pipe::pipe().unwrap();
    let host = StdHost::new().unwrap().network(Box::new(net.clone())).stream(Stream::Stdin, StreamSource::Fd(read));
    let mut g = Guest::new(Ctx::builder().listener("http").build(), host);
    subscribe(&mut g, 0, Interest::Read, 3);
    subscribe(&mut g, 1, Interest::Read, 0);
    let wait = g.blocked("poll_oneoff", &[1024, 8192, 2, 16]);
    rustix::io::write(&write, b"x").unwrap();
    assert_eq!(g.host.wait(&wait), Woken::Ready);
    assert_eq!(poll(&mut g, 2), [(101, 1)]);
    g.read(0, 1).unwrap();
    let canceller = g.host.canceller();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(10));
        canceller.cancel();
    });
    assert_eq!(g.host.wait(&wait), Woken::Cancelled);
    thread.join().unwrap();
}

#[test]
fn a_task_at_its_limit_of_descriptors_opens_and_accepts_nothing_and_loses_nothing() {
    let net = Net::new();
    let ctx = Ctx::builder().volume("/v", Volume::new(), false).listener("http").build();
    let mut g = Guest::new(ctx, host(&net));
    g.ctx.limit_descriptors(6);
    net.connect(7);
    let fd = g.open(3, "one", CREAT, RW).unwrap();
    assert_eq!(g.open(3, "two", CREAT, RW), Err(Errno::Mfile));
    assert_eq!(g.errno("sock_accept", &[4, 0, 16]), Errno::Mfile);
    assert_eq!(g.stat(3, "two", true), Err(Errno::Noent));
    // What is wrong with the call itself is said first.
    assert_eq!(g.errno("sock_accept", &[3, 0, 16]), Errno::Notsock);
    g.close(fd).unwrap();
    assert_eq!(g.errno("sock_accept", &[4, 0, 16]), Errno::Success);
    assert_eq!(g.u32(16), fd);
    // The limit is the embedder's: a state has none, and what is open beyond one stays open.
    let mut g = g.moved(host(&net));
    assert_eq!(g.open(3, "two", CREAT, RW), Ok(6));
    g.ctx.limit_descriptors(3);
    assert_eq!(g.open(3, "three", CREAT, RW), Err(Errno::Mfile));
    assert_eq!(g.write(6, b"x"), Ok(1));
}
