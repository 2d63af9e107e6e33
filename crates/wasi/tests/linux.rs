//! The Linux host: moves with open files, streams, waiting, sockets.
#![cfg(feature = "std")]

mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use support::*;
use wayfare_wasi::std_host::{StdHost, StreamSource};
use wayfare_wasi::{Ctx, Errno, Host, Interest, Obstacle, Source, Stream, Unattached, Wait, Woken};

#[test]
fn open_files_are_found_again_by_path_and_go_on_at_their_offset() {
    let dir = tempfile::tempdir().unwrap();
    let mut g = Guest::new(Ctx::builder().dir("/data", false).build(), linux(dir.path()));
    g.mkdir(3, "sub").unwrap();
    let sub = g.open(3, "sub", 0, R).unwrap();
    let fd = g.open(sub, "log", CREAT | EXCL, RW).unwrap();
    g.write(fd, b"before ").unwrap();
    let read = g.open(3, "sub/log", 0, R).unwrap();
    g.read(read, 3).unwrap();
    let append = g.open_with(3, "append", CREAT | TRUNC, W, APPEND, true).unwrap();
    g.write(append, b"one ").unwrap();

    let mut g = g.moved(linux(dir.path()));
    g.write(fd, b"after").unwrap();
    assert_eq!(g.read(read, 100), Ok(b"ore after".to_vec()));
    g.write(append, b"two").unwrap();
    assert_eq!(fs::read(dir.path().join("append")).unwrap(), b"one two");
    assert_eq!(g.readdir(sub, 1000), Ok(vec![".".into(), "..".into(), "log".into()]));
    assert_eq!(g.read(append, 1), Err(Errno::Badf));
}

#[test]
fn a_file_renamed_while_open_is_found_under_its_new_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut g = Guest::new(Ctx::builder().dir("/data", false).build(), linux(dir.path()));
    g.mkdir(3, "a").unwrap();
    g.create(3, "a/file", b"right");
    let fd = g.open(3, "a/file", 0, R).unwrap();
    g.rename(3, "a", 3, "b").unwrap();
    g.mkdir(3, "a").unwrap();
    g.create(3, "a/file", b"wrong");
    let mut g = g.moved(linux(dir.path()));
    assert_eq!(g.read(fd, 10), Ok(b"right".to_vec()));
    // So is one whose name looks like that of a removed file.
    g.rename(3, "b/file", 3, "b/file (deleted)").unwrap();
    assert_eq!(g.moved(linux(dir.path())).pread(fd, 10, 0), Ok(b"right".to_vec()));
}

#[test]
fn a_file_removed_while_open_is_an_obstacle_before_the_move_and_an_error_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut g = Guest::new(Ctx::builder().dir("/data", false).build(), linux(dir.path()));
    g.create(3, "file", b"x");
    let fd = g.open(3, "file", 0, R).unwrap();
    g.ctx.pausing(&mut g.host);
    assert_eq!(g.ctx.obstacles(), []);
    g.unlink(3, "file").unwrap();
    g.ctx.pausing(&mut g.host);
    assert_eq!(g.ctx.obstacles(), [Obstacle::Deleted { fd, path: "/data/file".into() }]);
    let mut there = Ctx::decode(&g.ctx.encode()).unwrap();
    let error = there.reattach(&mut linux(dir.path())).unwrap_err();
    assert_eq!(error.0, [Unattached::Deleted { fd, path: "/data/file".into() }]);
    // Here it goes on.
    g.ctx.resumed(&mut g.host);
    assert_eq!(g.read(fd, 1), Ok(b"x".to_vec()));
}

#[test]
fn everything_that_is_missing_is_listed_at_once() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let host = linux(one.path()).dir("/other", two.path(), false);
    let mut g = Guest::new(Ctx::builder().dir("/data", false).dir("/other", false).build(), host);
    g.create(3, "gone", b"x");
    g.create(3, "turned", b"x");
    g.create(4, "unreachable", b"x");
    g.mkdir(3, "dir").unwrap();
    let gone = g.open(3, "gone", 0, R).unwrap();
    let turned = g.open(3, "turned", 0, R).unwrap();
    let unreachable = g.open(4, "unreachable", 0, R).unwrap();
    let dir = g.open(3, "dir", 0, R).unwrap();
    g.ctx.pausing(&mut g.host);
    let bytes = g.ctx.encode();

    fs::remove_file(one.path().join("gone")).unwrap();
    fs::remove_file(one.path().join("turned")).unwrap();
    fs::create_dir(one.path().join("turned")).unwrap();
    fs::remove_dir(one.path().join("dir")).unwrap();
    fs::write(one.path().join("dir"), "").unwrap();
    let mut ctx = Ctx::decode(&bytes).unwrap();
    let error = ctx.reattach(&mut linux(one.path())).unwrap_err();
    assert_eq!(
        error.0,
        [
            Unattached::Directory { guest_path: "/other".into(), errno: Errno::Noent },
            Unattached::File { fd: gone, path: "/data/gone".into(), errno: Errno::Noent },
            Unattached::File { fd: turned, path: "/data/turned".into(), errno: Errno::Isdir },
            Unattached::File { fd: dir, path: "/data/dir".into(), errno: Errno::Notdir },
        ]
    );
    let text = error.to_string();
    assert!(
        text.contains("--dir HOST_PATH::/other") && text.contains("/data/gone cannot be reopened: noent"),
        "{text}"
    );
    let attached = |ctx: &Ctx, fd| ctx.describe().iter().any(|info| info.fd == fd && info.attached);
    assert!(!attached(&ctx, unreachable) && attached(&ctx, 3));
    // A call on what is not attached fails; it does not panic.
    let mut g = Guest { ctx, host: linux(one.path()), mem: g.mem };
    assert_eq!(g.read(gone, 1), Err(Errno::Badf));
}

#[test]
fn a_file_that_may_not_be_opened_as_it_was_is_listed() {
    let dir = tempfile::tempdir().unwrap();
    let mut g = Guest::new(Ctx::builder().dir("/data", false).build(), linux(dir.path()));
    g.create(3, "file", b"x");
    g.open(3, "file", 0, RW).unwrap();
    g.ctx.pausing(&mut g.host);
    let mut there = Ctx::decode(&g.ctx.encode()).unwrap();
    // A link out of the directory has taken its place: the sandbox holds for reattaching too.
    fs::remove_file(dir.path().join("file")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", dir.path().join("file")).unwrap();
    let error = there.reattach(&mut linux(dir.path())).unwrap_err();
    assert!(matches!(error.0[..], [Unattached::File { errno: Errno::Perm, .. }]), "{error}");
}

#[test]
fn a_state_that_claims_to_write_is_refused_where_only_reading_is_offered() {
    let dir = tempfile::tempdir().unwrap();
    let host = || StdHost::new().unwrap().dir("/data", dir.path(), true);
    let error = Ctx::builder().dir("/data", false).build().reattach(&mut host()).unwrap_err();
    assert_eq!(error.0, [Unattached::Directory { guest_path: "/data".into(), errno: Errno::Rofs }]);
    Ctx::builder().dir("/data", true).build().reattach(&mut host()).unwrap();
}

fn pipe_host(stream: Stream) -> (StdHost, OwnedFd) {
    let (read, write) = rustix::pipe::pipe().unwrap();
    let (ours, theirs) = if stream == Stream::Stdin { (write, read) } else { (read, write) };
    (StdHost::new().unwrap().stream(stream, StreamSource::Fd(theirs)), ours)
}

#[test]
fn stdin_gives_what_is_there_and_leaves_the_rest_in_the_pipe() {
    let (host, write) = pipe_host(Stream::Stdin);
    let mut write = fs::File::from(write);
    let mut g = Guest::new(Ctx::builder().build(), host);
    let args = g.read_args(0, 4);
    g.blocked("fd_read", &args);
    write.write_all(b"abcdef").unwrap();
    assert_eq!(g.read(0, 4), Ok(b"abcd".to_vec()));
    assert_eq!(g.read(0, 4), Ok(b"ef".to_vec()));
    g.blocked("fd_read", &args);
    drop(write);
    assert_eq!(g.read(0, 4), Ok(vec![]));
}

#[test]
fn a_pipe_is_filled_without_blocking_and_without_changing_its_mode() {
    let (read, write) = rustix::pipe::pipe().unwrap();
    let probe = write.try_clone().unwrap();
    let host = StdHost::new().unwrap().stream(Stream::Stdout, StreamSource::Fd(write));
    let mut g = Guest::new(Ctx::builder().build(), host);
    let big = vec![7; 500_000];
    let written = g.write(1, &big).unwrap() as usize;
    assert!(written >= 4096 && written < big.len());
    let args = g.write_args(1, b"more");
    let wait = g.blocked("fd_write", &args);
    assert_eq!(wait.sources, [(Source::Stream(Stream::Stdout), Interest::Write)]);
    assert!(!rustix::fs::fcntl_getfl(&probe).unwrap().contains(rustix::fs::OFlags::NONBLOCK));
    let mut read = fs::File::from(read);
    let mut buf = vec![0; written];
    read.read_exact(&mut buf).unwrap();
    assert_eq!(g.host.wait(&wait), Woken::Ready);
    assert_eq!(g.errno("fd_write", &args), Errno::Success);
    drop(read);
    assert_eq!(g.write(1, b"x"), Err(Errno::Io));
}

#[test]
fn output_to_a_file_and_to_nothing_is_taken_whole() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let host = StdHost::new()
        .unwrap()
        .stream(Stream::Stdout, StreamSource::Fd(file.reopen().unwrap().into()))
        .stream(Stream::Stderr, StreamSource::Null)
        .stream(Stream::Stdin, StreamSource::Null);
    let mut g = Guest::new(Ctx::builder().build(), host);
    assert_eq!(g.write(1, &[1; 200_000]), Ok(200_000));
    assert_eq!(g.write(2, &[1; 200_000]), Ok(200_000));
    assert_eq!(g.read(0, 10), Ok(vec![]));
    assert_eq!(file.as_file().metadata().unwrap().len(), 200_000);
    assert_eq!(g.fdstat(1).unwrap().0, 0);
}

#[test]
fn a_terminal_is_a_character_device() {
    let controller = rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY).unwrap();
    let host = StdHost::new().unwrap().stream(Stream::Stdout, StreamSource::Fd(controller));
    let mut g = Guest::new(Ctx::builder().build(), host);
    assert_eq!(g.fdstat(1).unwrap().0, 2);
}

#[test]
fn a_wait_ends_at_its_deadline_or_when_it_is_cancelled() {
    let (mut host, _write) = pipe_host(Stream::Stdin);
    let sources = vec![(Source::Stream(Stream::Stdin), Interest::Read)];
    let now = host.monotonic();
    let wait = Wait { deadline: Some(now + 20_000_000), sources: sources.clone() };
    assert_eq!(host.wait(&wait), Woken::TimedOut);
    assert!(host.monotonic() >= now + 20_000_000);
    assert_eq!(host.wait(&Wait { deadline: Some(0), sources: vec![] }), Woken::TimedOut);

    let canceller = host.canceller();
    let started = Instant::now();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        canceller.cancel();
        canceller.cancel();
    });
    assert_eq!(host.wait(&Wait { deadline: None, sources }), Woken::Cancelled);
    assert!(started.elapsed() >= Duration::from_millis(20));
    thread.join().unwrap();
    // One before the wait counts for it; one that was noticed is over.
    host.canceller().cancel();
    assert_eq!(host.wait(&Wait::default()), Woken::Cancelled);
    host.canceller().cancel();
    host.canceller().reset();
    assert_eq!(host.wait(&Wait { deadline: Some(0), sources: vec![] }), Woken::TimedOut);
}

#[test]
fn clocks_and_randomness_are_the_kernels() {
    let mut host = StdHost::new().unwrap();
    assert!(host.realtime() > 1_600_000_000_000_000_000);
    let (a, b) = (host.monotonic(), host.monotonic());
    assert!(a <= b && host.monotonic_resolution() > 0 && host.realtime_resolution() > 0);
    let mut g = Guest::new(Ctx::builder().build(), host);
    assert_eq!(g.errno("random_get", &[0, 4096]), Errno::Success);
    assert!(g.bytes(0, 4096).iter().any(|&b| b != 0));
}

#[test]
fn a_published_socket_is_accepted_read_written_and_shut_down() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let host = StdHost::new().unwrap().publish("http", listener);
    let mut g = Guest::new(Ctx::builder().listener("http").build(), host);
    let wait = g.blocked("sock_accept", &[3, NONBLOCK, 16]);
    assert_eq!(g.errno("fd_fdstat_set_flags", &[3, NONBLOCK]), Errno::Success);
    assert_eq!(g.errno("sock_accept", &[3, 0, 16]), Errno::Again);
    assert_eq!(g.errno("sock_accept", &[3, 1, 16]), Errno::Inval);
    assert_eq!(g.errno("sock_accept", &[1, 0, 16]), Errno::Notsock);
    assert_eq!(g.errno("sock_accept", &[9, 0, 16]), Errno::Badf);

    let mut client = TcpStream::connect(address).unwrap();
    assert_eq!(g.host.wait(&wait), Woken::Ready);
    assert_eq!(g.errno("sock_accept", &[3, 0, 16]), Errno::Success);
    let fd = g.u32(16);
    assert_eq!(g.fdstat(fd).unwrap().0, 6);
    assert_eq!(g.fstat(fd).unwrap().filetype, 6);
    let args = g.read_args(fd, 100);
    let wait = g.blocked("fd_read", &args);
    client.write_all(b"request").unwrap();
    assert_eq!(g.host.wait(&wait), Woken::Ready);
    let (fd, count) = (u64::from(fd), 16);
    // A look first, then the bytes.
    assert_eq!(g.errno("sock_recv", &[fd, 256, 1, 1, count, 24]), Errno::Success);
    assert_eq!(g.errno("sock_recv", &[fd, 256, 1, 0, count, 24]), Errno::Success);
    assert_eq!((g.bytes(DATA, g.count().into()), g.bytes(24, 2)), (b"request".to_vec(), vec![0, 0]));
    assert_eq!(g.errno("sock_recv", &[fd, 256, 1, 2, count, 24]), Errno::Notsup);
    assert_eq!(g.errno("sock_recv", &[fd, 256, 1, 4, count, 24]), Errno::Inval);
    assert_eq!(g.errno("sock_recv", &[1, 256, 1, 0, count, 24]), Errno::Notsock);
    let args = g.write_args(fd as u32, b"answer");
    assert_eq!(g.errno("sock_send", &[fd, args[1], 1, 0, count]), Errno::Success);
    assert_eq!(g.errno("sock_send", &[0, args[1], 1, 0, count]), Errno::Notsock);
    assert_eq!(g.write(fd as u32, b"!"), Ok(1));
    assert_eq!(g.errno("sock_shutdown", &[fd, 4]), Errno::Inval);
    assert_eq!(g.errno("sock_shutdown", &[fd, 0]), Errno::Inval);
    assert_eq!(g.errno("sock_shutdown", &[3, 1]), Errno::Notconn);
    assert_eq!(g.errno("sock_shutdown", &[0, 1]), Errno::Notsock);
    assert_eq!(g.errno("sock_shutdown", &[fd, 2]), Errno::Success);
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"answer!");
    assert_eq!(g.seek(fd as u32, 0, 0), Err(Errno::Spipe));
}

#[test]
fn a_connection_cannot_move_and_a_listener_can() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut g = Guest::new(Ctx::builder().listener("http").build(), StdHost::new().unwrap().publish("http", listener));
    let _client = TcpStream::connect(address).unwrap();
    let wait = Wait { deadline: None, sources: vec![] };
    let wait = match g.call("sock_accept", &[3, 0, 16]) {
        wayfare_wasi::Control::Block(wait) => wait,
        _ => wait,
    };
    if !wait.sources.is_empty() {
        g.host.wait(&wait);
        g.errno("sock_accept", &[3, 0, 16]);
    }
    g.ctx.pausing(&mut g.host);
    assert_eq!(g.ctx.obstacles(), [Obstacle::Connection { fd: 4 }]);
    let bytes = g.ctx.encode();
    let mut ctx = Ctx::decode(&bytes).unwrap();
    let error = ctx.reattach(&mut StdHost::new().unwrap()).unwrap_err();
    assert_eq!(
        error.0,
        [Unattached::Listener { fd: 3, name: "http".into(), errno: Errno::Noent }, Unattached::Connection { fd: 4 }]
    );
    g.close(4).unwrap();
    g.ctx.pausing(&mut g.host);
    let mut ctx = Ctx::decode(&g.ctx.encode()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    ctx.reattach(&mut StdHost::new().unwrap().publish("http", listener)).unwrap();
}
