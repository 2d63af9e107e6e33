//! A link between real processes: a TCP proxy with rate, delay, outages and faults, for whole-system tests and
//! benchmarks on machines whose kernel cannot emulate one.
//!
//! ```text
//! client ─► listen ─► line (one per way, shared by all connections: rate) ─► queue (delay) ─► target
//! ```
//! A line is a clock: bytes leave it when those before them have, so that a late wake-up does not cost throughput. The
//! proxy has a thread of its own and wakes by a `timerfd`, which is precise to some ten microseconds where tokio's
//! timers are to a millisecond.

use crate::trace::Trace;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::io::unix::AsyncFd;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What the link is like.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Bytes per second, each way.
    pub rate_bytes_per_s: u64,
    /// One way.
    pub delay: Duration,
    /// Rate and delay over time from the start of the proxy, in place of the two above.
    pub trace: Option<Trace>,
    /// Keep all bytes for [`Proxy::capture`].
    pub capture: bool,
}

impl Shape {
    /// The same at all times.
    pub fn new(rate_bytes_per_s: u64, delay: Duration) -> Self {
        Self { rate_bytes_per_s, delay, trace: None, capture: false }
    }
}

/// In which direction bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From whoever dials to the target.
    Up = 0,
    /// Back.
    Down = 1,
}

/// What has passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes towards the target.
    pub up: u64,
    /// Bytes back.
    pub down: u64,
    /// Connections that came about.
    pub connections: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Up,
    Silent,
    Cut,
    Stopped,
}

#[derive(Default)]
struct Line {
    /// When the line is free, in nanoseconds since the start.
    free: u64,
    /// Bytes taken in, and delivered.
    taken: u64,
    passed: u64,
    cut_after: Option<u64>,
    corrupt: BTreeSet<u64>,
    captured: Vec<u8>,
}

struct Shared {
    trace: Trace,
    capture: bool,
    target: SocketAddr,
    began: Instant,
    lines: Mutex<[Line; 2]>,
    connections: Mutex<u64>,
    state: watch::Sender<State>,
}

impl Shared {
    fn lines(&self) -> MutexGuard<'_, [Line; 2]> {
        self.lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }
}

/// A running proxy; it ends when this is dropped.
pub struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Listens on `listen` (port 0: any) and carries connections on to `target`.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn start(listen: SocketAddr, target: SocketAddr, shape: Shape) -> io::Result<Self> {
        let delay = shape.delay.as_nanos() as u64;
        let shared = Arc::new(Shared {
            trace: shape.trace.unwrap_or_else(|| Trace::constant(shape.rate_bytes_per_s, delay)),
            capture: shape.capture,
            target,
            began: Instant::now(),
            lines: Mutex::default(),
            connections: Mutex::new(0),
            state: watch::Sender::new(State::Up),
        });
        let listener = std::net::TcpListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let ours = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("wayfare-proxy".into()).spawn(move || {
            // Whoever notices that it is gone is told by a connection that fails.
            let _ = runtime.block_on(serve(&ours, listener));
        })?;
        Ok(Self { shared, address, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks the link: connections are reset, new ones too.
    pub fn cut(&self) {
        self.shared.state.send_replace(State::Cut);
    }

    /// Breaks the link without a word: nothing passes, and nobody is told.
    pub fn silence(&self) {
        self.shared.state.send_replace(State::Silent);
    }

    /// Repairs it. Connections that were silenced go on.
    pub fn restore(&self) {
        self.shared.state.send_replace(State::Up);
    }

    /// Cuts the link once so many more bytes have been delivered that way, and not one more.
    pub fn cut_after(&self, way: Way, bytes: u64) {
        let line = &mut self.shared.lines()[way as usize];
        line.cut_after = Some(line.taken + bytes);
    }

    /// Flips a bit of the byte that is to come at this offset that way, counted from the start of the proxy.
    pub fn corrupt_at(&self, way: Way, offset: u64) {
        self.shared.lines()[way as usize].corrupt.insert(offset);
    }

    /// What has passed so far.
    pub fn stats(&self) -> Stats {
        let lines = self.shared.lines();
        let connections = *self.shared.connections.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Stats { up: lines[0].passed, down: lines[1].passed, connections }
    }

    /// All bytes that have come in that way, if the shape asked for it.
    pub fn capture(&self, way: Way) -> Vec<u8> {
        self.shared.lines()[way as usize].captured.clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.state.send_replace(State::Stopped);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(shared: &Arc<Shared>, listener: std::net::TcpListener) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let mut state = shared.state.subscribe();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // Too many open files, say: the next may go well.
                let Ok((client, _)) = accepted else { continue };
                tokio::spawn(carry(Arc::clone(shared), client));
            }
            _ = state.wait_for(|state| *state == State::Stopped) => return Ok(()),
        }
    }
}

/// Carries one connection until it ends or the link is cut.
async fn carry(shared: Arc<Shared>, client: TcpStream) {
    let mut state = shared.state.subscribe();
    let cut = async move {
        let _ = state.wait_for(|state| matches!(state, State::Cut | State::Stopped)).await;
    };
    tokio::pin!(cut);
    // A cut link does not say goodbye: what is dropped without having ended is reset.
    let _ = rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO));
    let server = tokio::select! {
        biased;
        () = &mut cut => return,
        server = TcpStream::connect(shared.target) => server,
    };
    let Ok(server) = server else { return };
    let _ = rustix::net::sockopt::set_socket_linger(&server, Some(Duration::ZERO));
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    notice_death(&client);
    notice_death(&server);
    *shared.connections.lock().unwrap_or_else(std::sync::PoisonError::into_inner) += 1;
    let both = async {
        tokio::try_join!(pump(&shared, Way::Up, &client, &server), pump(&shared, Way::Down, &server, &client))
    };
    tokio::select! {
        biased;
        () = cut => {}
        ended = both => if ended.is_ok() {
            // Both sides have said all they had to say, and have been told so.
            for side in [&client, &server] {
                let _ = rustix::net::sockopt::set_socket_linger(side, None);
            }
        },
    }
}

/// A side that is gone without a word is found out, and the other one told by a reset, in about the time in which the
/// two would have found out themselves (`wayfare-node`'s links).
fn notice_death(stream: &TcpStream) {
    use rustix::net::sockopt;
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, Duration::from_secs(5));
    let _ = sockopt::set_tcp_keepintvl(stream, Duration::from_secs(5));
    let _ = sockopt::set_tcp_keepcnt(stream, 3);
    let _ = sockopt::set_tcp_user_timeout(stream, 20_000);
}

/// Bytes on the way, and when they arrive.
struct Chunk {
    due: u64,
    bytes: Vec<u8>,
    cut: bool,
}

/// How far ahead of time the line is filled: more than any wake-up is late.
const AHEAD: u64 = 5_000_000;
/// A chunk takes the line about so long, so that rates show within short times.
const CHUNK_NANOS: u64 = 500_000;

async fn pump(shared: &Shared, way: Way, from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    let mut state = shared.state.subscribe();
    let timer = Timer::new()?;
    let mut queue: VecDeque<Chunk> = VecDeque::new();
    let mut buffer = vec![0; 64 << 10];
    let mut ended = false;
    loop {
        let now = shared.now();
        let silent = *state.borrow_and_update() == State::Silent;
        if !silent {
            while queue.front().is_some_and(|chunk| chunk.due <= now) {
                let Some(chunk) = queue.pop_front() else { break };
                write_all(to, &chunk.bytes).await?;
                shared.lines()[way as usize].passed += chunk.bytes.len() as u64;
                if chunk.cut {
                    shared.state.send_replace(State::Cut);
                }
            }
            if ended && queue.is_empty() {
                rustix::net::shutdown(to, rustix::net::Shutdown::Write)?;
                return Ok(());
            }
        }
        let rate = shared.trace.at(now).rate;
        let most =
            (u128::from(rate) * u128::from(CHUNK_NANOS) / 1_000_000_000).clamp(1448, buffer.len() as u128) as usize;
        let free = shared.lines()[way as usize].free;
        let reads = !ended && !silent && free <= now + AHEAD;
        let room = (!ended && !reads).then(|| free.saturating_sub(AHEAD));
        let next = queue.front().map(|chunk| chunk.due).into_iter().chain(room).min().filter(|_| !silent);
        timer.set(next.map(|at| at.saturating_sub(shared.now())))?;
        tokio::select! {
            ready = from.readable(), if reads => {
                ready?;
                match from.try_read(&mut buffer[..most]) {
                    Ok(0) => ended = true,
                    Ok(len) => take(shared, way, &buffer[..len], &mut queue),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            fired = timer.fired() => fired?,
            _ = state.changed() => {}
        }
    }
}

async fn write_all(to: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        to.writable().await?;
        match to.try_write(bytes) {
            Ok(len) => bytes = &bytes[len..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Puts bytes on the line.
fn take(shared: &Shared, way: Way, bytes: &[u8], queue: &mut VecDeque<Chunk>) {
    // Behind the byte at which the link will be cut, nothing comes any more.
    if queue.back().is_some_and(|last| last.cut) {
        return;
    }
    let now = shared.now();
    let line = &mut shared.lines()[way as usize];
    let mut bytes = bytes.to_vec();
    let cut = line.cut_after.filter(|at| line.taken + bytes.len() as u64 >= *at);
    if let Some(at) = cut {
        bytes.truncate((at - line.taken) as usize);
        line.cut_after = None;
    }
    let begin = line.taken;
    line.taken += bytes.len() as u64;
    while let Some(at) = line.corrupt.range(begin..line.taken).next().copied() {
        line.corrupt.remove(&at);
        bytes[(at - begin) as usize] ^= 1;
    }
    if shared.capture {
        line.captured.extend_from_slice(&bytes);
    }
    let start = line.free.max(now);
    // An outage without end: an hour is longer than any test.
    let left = shared.trace.finish(start, bytes.len() as u64).unwrap_or(start + 3_600_000_000_000);
    line.free = left;
    let due = (left + shared.trace.at(left).delay).max(queue.back().map_or(0, |last| last.due));
    queue.push_back(Chunk { due, bytes, cut: cut.is_some() });
}

struct Timer(AsyncFd<OwnedFd>);

impl Timer {
    #[allow(deprecated, reason = "an OwnedFd stays the same file as long as it lives; the other constructor is unsafe")]
    fn new() -> io::Result<Self> {
        let fd = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        Ok(Self(AsyncFd::new(fd)?))
    }

    /// To fire after so many nanoseconds; never, for none.
    fn set(&self, after: Option<u64>) -> io::Result<()> {
        // Zero would disarm it.
        let after = after.map_or(0, |after| after.max(1));
        let value = Timespec { tv_sec: (after / 1_000_000_000) as i64, tv_nsec: (after % 1_000_000_000) as _ };
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: never, it_value: value })?;
        Ok(())
    }

    async fn fired(&self) -> io::Result<()> {
        let mut ready = self.0.readable().await?;
        let mut count = [0; 8];
        // Set anew meanwhile: there is nothing to read, and nothing is due.
        let _ = rustix::io::read(self.0.get_ref(), &mut count);
        ready.clear_ready();
        Ok(())
    }
}
