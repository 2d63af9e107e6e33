//! The proxy on loopback: it is as fast as it says and no faster, and breaks what it is told to break.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};
use wayfare_sim::Trace;
use wayfare_sim::proxy::{Proxy, Shape, Stats, Way};

const ANY: &str = "127.0.0.1:0";
const GIGABIT: u64 = 125_000_000;

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Bytes are counted once they have gone out, which the one who gets them may see first.
fn eventually(holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(10));
        std::thread::sleep(millis(1));
    }
}

/// Sends everything back.
fn echo() -> SocketAddr {
    serve(|mut stream| {
        let mut buffer = [0; 65536];
        while let Ok(len @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..len]).is_err() {
                return;
            }
        }
    })
}

/// Takes everything and then says how much it was.
fn sink() -> SocketAddr {
    serve(|mut stream| {
        let (mut buffer, mut total) = (vec![0; 1 << 20], 0u64);
        while let Ok(len @ 1..) = stream.read(&mut buffer) {
            total += len as u64;
        }
        let _ = stream.write_all(&total.to_le_bytes());
    })
}

fn serve(each: fn(TcpStream)) -> SocketAddr {
    let listener = TcpListener::bind(ANY).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        listener.incoming().flatten().for_each(|stream| drop(std::thread::spawn(move || each(stream))))
    });
    address
}

fn start(target: SocketAddr, shape: Shape) -> (Proxy, TcpStream) {
    let proxy = Proxy::start(ANY.parse().unwrap(), target, shape).unwrap();
    let stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    (proxy, stream)
}

/// Seconds that sending so much takes, until the other side has said that it has it.
fn upload(stream: &mut TcpStream, bytes: usize) -> f64 {
    let data = vec![0x55; bytes];
    let began = Instant::now();
    stream.write_all(&data).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut total = [0; 8];
    stream.read_exact(&mut total).unwrap();
    assert_eq!(u64::from_le_bytes(total), bytes as u64);
    began.elapsed().as_secs_f64()
}

/// Seconds of processor time of the proxies' threads.
fn cpu() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let ours = tasks.filter(|task| {
        std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.starts_with("wayfare-proxy"))
    });
    let nanos = ours.map(|task| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        text.split(' ').next().and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0)
    });
    nanos.sum::<f64>() / 1e9
}

#[test]
#[ignore = "a measurement, for a machine that does nothing else: cargo test -- --ignored"]
fn a_rate_is_kept_within_a_few_per_cent_without_burning_a_core() {
    for (rate, bytes) in [(GIGABIT, 60_000_000), (12_500_000, 6_000_000), (1_000_000, 700_000)] {
        // Other work on this machine may spoil a try.
        let mut best = (f64::MAX, 0.0);
        for _ in 0..4 {
            let (_proxy, mut stream) = start(sink(), Shape::new(rate, millis(1)));
            let before = cpu();
            let took = upload(&mut stream, bytes);
            let share = (cpu() - before) / took;
            let expected = bytes as f64 / rate as f64 + 0.002;
            let off = took / expected - 1.0;
            if off.abs() < best.0.abs() {
                best = (off, share);
            }
            if best.0.abs() < 0.03 {
                break;
            }
        }
        println!("{rate} B/s: off by {:.2} %, {:.0} % of a core", best.0 * 100.0, best.1 * 100.0);
        assert!(best.0.abs() < 0.05, "{rate} B/s: off by {:.1} %", best.0 * 100.0);
        assert!(best.1 < 0.6, "{:.0} % of a core", best.1 * 100.0);
    }
}

#[test]
fn a_delay_is_kept_both_ways() {
    for delay in [1, 20] {
        let (_proxy, mut stream) = start(echo(), Shape::new(GIGABIT, millis(delay)));
        let mut times: Vec<Duration> = (0..40)
            .map(|_| {
                let began = Instant::now();
                stream.write_all(b"x").unwrap();
                stream.read_exact(&mut [0]).unwrap();
                began.elapsed()
            })
            .collect();
        times.sort_unstable();
        assert!(times[0] >= millis(2 * delay), "{:?}", times[0]);
    }
}

#[test]
fn a_cut_link_resets_and_a_restored_one_works() {
    let (proxy, mut stream) = start(echo(), Shape::new(GIGABIT, millis(1)));
    stream.write_all(b"abc").unwrap();
    stream.read_exact(&mut [0; 3]).unwrap();
    proxy.cut();
    assert!(stream.read(&mut [0]).is_err());
    let refused = TcpStream::connect(proxy.address()).and_then(|mut stream| {
        stream.write_all(b"x")?;
        stream.read_exact(&mut [0])
    });
    assert!(refused.is_err());
    proxy.restore();
    let mut stream = TcpStream::connect(proxy.address()).unwrap();
    stream.write_all(b"abcd").unwrap();
    stream.read_exact(&mut [0; 4]).unwrap();
    eventually(|| proxy.stats() == Stats { up: 7, down: 7, connections: 2 });
}

#[test]
fn silence_is_not_noticed_and_ends() {
    let (proxy, mut stream) = start(echo(), Shape::new(GIGABIT, millis(1)));
    stream.write_all(b"a").unwrap();
    stream.read_exact(&mut [0]).unwrap();
    proxy.silence();
    stream.write_all(b"b").unwrap();
    stream.set_read_timeout(Some(millis(100))).unwrap();
    let error = stream.read_exact(&mut [0]).unwrap_err();
    assert!(matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut), "{error}");
    proxy.restore();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.read_exact(&mut [0]).unwrap();
}

#[test]
fn the_link_is_cut_after_the_byte_it_is_told() {
    let (proxy, mut stream) = start(echo(), Shape::new(GIGABIT, millis(1)));
    proxy.cut_after(Way::Down, 100_000);
    let mut from = stream.try_clone().unwrap();
    let writer = std::thread::spawn(move || drop(stream.write_all(&[7; 300_000])));
    let (mut total, mut buffer) = (0, vec![0; 65536]);
    while let Ok(len @ 1..) = from.read(&mut buffer) {
        total += len;
    }
    writer.join().unwrap();
    // A reset may overtake what the kernel has not handed out yet; more than that many never come.
    assert!(total <= 100_000, "{total}");
    eventually(|| proxy.stats().down == 100_000);
}

#[test]
fn one_byte_is_changed_and_all_are_captured() {
    let (proxy, mut stream) = start(echo(), Shape { capture: true, ..Shape::new(GIGABIT, millis(1)) });
    proxy.corrupt_at(Way::Up, 70_000);
    let sent: Vec<u8> = (0..200_000u32).map(|i| (i % 251) as u8).collect();
    let mut to = stream.try_clone().unwrap();
    let copy = sent.clone();
    let writer = std::thread::spawn(move || to.write_all(&copy).unwrap());
    let mut got = vec![0; sent.len()];
    stream.read_exact(&mut got).unwrap();
    writer.join().unwrap();
    let changed: Vec<usize> = (0..sent.len()).filter(|i| sent[*i] != got[*i]).collect();
    assert_eq!(changed, [70_000]);
    eventually(|| proxy.capture(Way::Up) == got && proxy.capture(Way::Down) == got);
}

#[test]
#[ignore = "a measurement, for a machine that does nothing else: cargo test -- --ignored"]
fn a_trace_with_an_outage_is_followed() {
    let trace = Trace::parse("0,80000000,1\n0.1,0,1\n0.5,80000000,1\n").unwrap();
    let (_proxy, mut stream) = start(sink(), Shape { trace: Some(trace), ..Shape::new(0, millis(0)) });
    // 1 MB fits before the outage, the second one waits for its end.
    let took = upload(&mut stream, 2_000_000);
    assert!((0.55..0.8).contains(&took), "{took}");
}
