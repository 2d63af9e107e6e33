//! What one encrypted stream carries over loopback, against plain TCP and against copying memory.
//!
//! A core is what a move costs its nodes, so both ends share one here: sealing, the kernel's copies and opening are all
//! paid from it. With a core to each end the stream is about as fast as the slower of the two.

use super::super::median;
use super::{RATE, Setting, row};
use crate::bench::Row;
use anyhow::{Context, Result};
use std::io::{Read, Write};
use std::sync::mpsc;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use wayfare_node::link::Link;
use wayfare_sim::proxy::{Proxy, Shape};
use wayfare_transfer::channel::Credentials;
use wayfare_transfer::identity::{Authority, Claims, Revocations};
use wayfare_transfer::{Kind, pages};

/// Bytes of a message: a batch of pages that do not shrink.
const MESSAGE: usize = pages::BATCH_MAX / 4096 * 4096 - 4096;
/// Bytes that may wait, as for a task that leaves.
const BACKLOG: usize = 512 << 10;
const READ: usize = 256 << 10;

/// How long a byte takes there and back over a link like the agents', in words: what the emulation makes of its delay
/// on this machine.
///
/// # Errors
/// When there is no loopback.
pub fn round_trips(setting: &Setting<'_>) -> Result<String> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let proxy = Proxy::start("127.0.0.1:0".parse()?, listener.local_addr()?, Shape::new(RATE, setting.rtt / 2))?;
    let mut near = std::net::TcpStream::connect(proxy.address())?;
    let (mut far, _) = listener.accept()?;
    let echo = std::thread::spawn(move || {
        let mut byte = [0];
        let _ = far.set_nodelay(true);
        while far.read_exact(&mut byte).is_ok() && far.write_all(&byte).is_ok() {}
    });
    near.set_nodelay(true)?;
    let (mut times, mut byte) = (Vec::new(), [0]);
    for _ in 0..200 {
        let began = Instant::now();
        near.write_all(&byte)?;
        near.read_exact(&mut byte)?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    drop((near, proxy));
    let _ = echo.join();
    Ok(format!("{:.2} ms, nine in ten times within {:.2}", median(&mut times), times[times.len() * 9 / 10]))
}

/// Bytes per second: medians, and the extremes of the encrypted stream.
struct Rates {
    encrypted: f64,
    spread: (f64, f64),
    /// With a core to each end.
    apart: f64,
    plain: f64,
    memcpy: f64,
}

/// Bytes of one run.
const TOTAL: usize = 1 << 30;

/// The rows.
pub fn rows(runs: u32) -> Result<Vec<Row>> {
    let rates = measure(runs, TOTAL)?;
    let mb = |rate: f64| rate / 1e6;
    let note = format!(
        "{:.0} to {:.0}, both ends on that core; plain TCP {:.0}, memcpy {:.0}; a core to each end {:.0}",
        mb(rates.spread.0),
        mb(rates.spread.1),
        mb(rates.plain),
        mb(rates.memcpy),
        mb(rates.apart)
    );
    let one = row("one encrypted stream, on one core", mb(rates.encrypted), "MB/s", Some(500.0), note);
    let of = |name: &str, other: f64| row(name, rates.encrypted / other, "ratio", None, String::new());
    Ok(vec![
        Row { at_least: true, ..one },
        of("the same / plain TCP", rates.plain),
        of("the same / memcpy", rates.memcpy),
    ])
}

/// Measures them alternately.
///
/// # Errors
/// When there is no loopback.
fn measure(runs: u32, total: usize) -> Result<Rates> {
    let (mut encrypted, mut apart, mut plain, mut memcpy) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs.max(1) {
        encrypted.push(stream(total, [0, 0], send_sealed, receive_sealed)?);
        plain.push(stream(total, [0, 0], send_plain, receive_plain)?);
        apart.push(stream(total, [0, 1], send_sealed, receive_sealed)?);
        memcpy.push(copy(total));
    }
    let rate = median(&mut encrypted);
    let spread = (encrypted[0], encrypted[encrypted.len() - 1]);
    Ok(Rates {
        encrypted: rate,
        spread,
        apart: median(&mut apart),
        plain: median(&mut plain),
        memcpy: median(&mut memcpy),
    })
}

/// Bytes per second from one thread to another, each on its core.
fn stream<S, R>(total: usize, cores: [usize; 2], send: S, receive: R) -> Result<f64>
where
    S: AsyncFn(TcpStream, usize) -> Result<()> + Send,
    R: AsyncFn(TcpStream, usize) -> Result<()> + Send,
{
    let (told, address) = mpsc::channel();
    std::thread::scope(|scope| {
        let receiver = scope.spawn(move || {
            on_core(cores[1], async move || {
                let listener = TcpListener::bind("127.0.0.1:0").await?;
                told.send(listener.local_addr()?)?;
                receive(listener.accept().await?.0, total).await
            })
        });
        let sent = on_core(cores[0], async move || {
            let stream = TcpStream::connect(address.recv()?).await?;
            let began = Instant::now();
            // Ends when the other side has had everything.
            send(stream, total).await?;
            Ok(total as f64 / began.elapsed().as_secs_f64())
        });
        receiver.join().ok().context("the receiver panicked")??;
        sent
    })
}

/// Runs something on a thread of its own that stays on a core.
fn on_core<T: Send>(core: usize, work: impl AsyncFnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            let mut set = rustix::thread::CpuSet::new();
            set.set(core);
            // A machine with one core has no other to be on.
            let _ = rustix::thread::sched_setaffinity(None, &set);
            let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(work())
        });
        thread.join().ok().context("the thread panicked")?
    })
}

fn credentials(name: &str, secret: u8) -> Credentials {
    let authority = Authority::from_secret(&[9; 32]);
    let secret = [secret; 32];
    let key = Credentials::public_key(&secret);
    let claims = Claims { cluster: [0; 32], name: name.into(), key, serial: 1, not_before: 0, not_after: u64::MAX };
    Credentials {
        secret,
        certificate: Some(authority.certify(claims)),
        cluster: authority.public(),
        revoked: Revocations::default(),
    }
}

/// What a compressor or a cipher can make nothing of.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let word = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..len / 8).flat_map(word).collect()
}

async fn send_sealed(stream: TcpStream, total: usize) -> Result<()> {
    let mut link = Link::open(stream, credentials("a", 1)).await?;
    let message = noise(MESSAGE);
    let mut sent = 0;
    loop {
        while sent < total && link.channel.backlog() < BACKLOG {
            link.channel.send(Kind::Pages, &message)?;
            sent += message.len();
        }
        if link.turn().await?.is_some() {
            return Ok(());
        }
    }
}

async fn receive_sealed(stream: TcpStream, total: usize) -> Result<()> {
    let mut link = Link::accept(stream, credentials("b", 2), false).await?;
    let mut received = 0;
    while received < total {
        received += std::hint::black_box(link.receive().await?).payload.len();
    }
    link.send(Kind::Node, b"all").await?;
    link.close().await;
    Ok(())
}

async fn send_plain(mut stream: TcpStream, total: usize) -> Result<()> {
    let message = noise(MESSAGE);
    let mut sent = 0;
    while sent < total {
        stream.write_all(&message).await?;
        sent += message.len();
    }
    stream.read_u8().await?;
    Ok(())
}

async fn receive_plain(mut stream: TcpStream, total: usize) -> Result<()> {
    let mut buffer = vec![0; READ];
    let mut received = 0;
    while received < total {
        received += stream.read(&mut buffer).await?;
    }
    stream.write_u8(1).await?;
    Ok(())
}

fn copy(total: usize) -> f64 {
    // Larger than the caches, as a task's memory is.
    let from = noise(64 << 20);
    let mut to = vec![0; from.len()];
    to.copy_from_slice(&from);
    let began = Instant::now();
    let mut copied = 0;
    while copied < total {
        to.copy_from_slice(std::hint::black_box(&from));
        std::hint::black_box(&mut to);
        copied += from.len();
    }
    copied as f64 / began.elapsed().as_secs_f64()
}
