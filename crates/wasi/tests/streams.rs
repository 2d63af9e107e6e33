//! Standard streams, numbers of descriptors, and waiting.
#![cfg(feature = "std")]

mod support;

use support::*;
use wayfare_wasi::{Ctx, Errno, Interest, Source, Stream, Volume, Wait};

fn guest() -> Guest<FakeHost> {
    Guest::new(Ctx::builder().build(), FakeHost { room: 1 << 20, realtime: 1_000, ..FakeHost::default() })
}

fn wait_for(stream: Stream, interest: Interest) -> Wait {
    Wait { deadline: None, sources: vec![(Source::Stream(stream), interest)] }
}

#[test]
fn a_read_of_an_empty_stdin_blocks_and_takes_its_bytes_on_the_next_issue() {
    let mut g = guest();
    let args = g.read_args(0, 10);
    assert_eq!(g.blocked("fd_read", &args), wait_for(Stream::Stdin, Interest::Read));
    g.host.stdin.extend(b"hello");
    assert_eq!(g.errno("fd_read", &args), Errno::Success);
    assert_eq!(g.bytes(DATA, g.count().into()), b"hello");
    g.host.stdin_ended = true;
    assert_eq!(g.read(0, 10), Ok(vec![]));
}

#[test]
fn stdin_is_never_read_ahead() {
    let mut g = guest();
    g.host.stdin.extend(b"line one\nline two\n");
    assert_eq!(g.read(0, 5), Ok(b"line ".to_vec()));
    assert_eq!((g.host.largest_read, g.host.stdin.len()), (5, 13));
    // On the next machine the stream goes on with the next byte.
    let rest = std::mem::take(&mut g.host.stdin);
    let mut g = g.moved(FakeHost { stdin: rest, ..FakeHost::default() });
    assert_eq!(g.read(0, 4), Ok(b"one\n".to_vec()));
}

#[test]
fn a_read_of_nothing_gives_nothing_at_once() {
    let mut g = guest();
    assert_eq!(g.read(0, 0), Ok(vec![]));
}

#[test]
fn a_full_pipe_blocks_a_write_and_a_nearly_full_one_shortens_it() {
    let mut g = guest();
    g.host.room = 3;
    assert_eq!(g.write(1, b"hello"), Ok(3));
    let args = g.write_args(1, b"lo");
    assert_eq!(g.blocked("fd_write", &args), wait_for(Stream::Stdout, Interest::Write));
    g.host.room = 10;
    assert_eq!(g.errno("fd_write", &args), Errno::Success);
    assert_eq!(g.host.stdout, b"hello");
    assert_eq!(g.write(2, b"err"), Ok(3));
    assert_eq!(g.host.stderr, b"err");
    assert_eq!(g.write(1, b""), Ok(0));
}

#[test]
fn a_write_takes_one_buffer_and_skips_empty_ones() {
    let mut g = guest();
    g.put(DATA, b"abcdef");
    for (i, (ptr, len)) in [(0_u32, 0_u32), (DATA as u32, 2), (DATA as u32 + 2, 4)].into_iter().enumerate() {
        g.put(256 + 8 * i as u64, &ptr.to_le_bytes());
        g.put(260 + 8 * i as u64, &len.to_le_bytes());
    }
    assert_eq!(g.errno("fd_write", &[1, 256, 3, 16]), Errno::Success);
    assert_eq!((g.u32(16), &g.host.stdout[..]), (2, &b"ab"[..]));
}

#[test]
fn streams_are_for_one_direction_and_do_not_seek() {
    let mut g = guest();
    assert_eq!(g.read(1, 1), Err(Errno::Badf));
    assert_eq!(g.write(0, b"x"), Err(Errno::Badf));
    assert_eq!(g.pread(0, 1, 0), Err(Errno::Spipe));
    assert_eq!(g.pread(1, 1, 0), Err(Errno::Badf));
    assert_eq!(g.pwrite(1, b"x", 0), Err(Errno::Spipe));
    assert_eq!(g.pwrite(0, b"x", 0), Err(Errno::Badf));
    assert_eq!(g.seek(0, 0, 0), Err(Errno::Spipe));
    assert_eq!(g.seek(9, 0, 0), Err(Errno::Badf));
    assert_eq!(g.seek(0, 0, 3), Err(Errno::Inval));
    assert_eq!(g.tell(1), Err(Errno::Spipe));
    for name in ["fd_sync", "fd_datasync"] {
        assert_eq!(g.errno(name, &[1]), Errno::Badf);
    }
    assert_eq!(g.errno("fd_fdstat_set_flags", &[0, 4]), Errno::Badf);
    assert_eq!(g.errno("fd_fdstat_set_rights", &[0, 0, 0]), Errno::Badf);
    assert_eq!(g.errno("fd_filestat_set_size", &[1, 0]), Errno::Badf);
    assert_eq!(g.errno("fd_filestat_set_times", &[1, 0, 0, 0]), Errno::Badf);
    assert_eq!(g.errno("fd_advise", &[1, 0, 0, 0]), Errno::Badf);
    assert_eq!(g.errno("fd_allocate", &[1, 0, 0]), Errno::Badf);
    assert_eq!(g.errno("fd_prestat_get", &[1, 512]), Errno::Badf);
    assert_eq!(g.errno("fd_prestat_dir_name", &[1, 512, 100]), Errno::Notdir);
}

#[test]
fn a_reader_that_has_gone_is_an_input_output_error() {
    let mut g = guest();
    g.host.broken = true;
    assert_eq!(g.write(1, b"x"), Err(Errno::Io));
}

#[test]
fn whether_a_stream_is_a_terminal_is_decided_once() {
    let mut g = guest();
    g.host.terminal = true;
    assert_eq!(g.fdstat(1), Ok((2, 0, W, W)));
    let mut g = g.moved(FakeHost::default());
    assert_eq!(g.fdstat(1), Ok((2, 0, W, W)));
    assert_eq!(g.fdstat(0), Ok((0, 0, R, R)));
    let stat = g.fstat(1).unwrap();
    assert_eq!((stat.dev, stat.ino, stat.filetype, stat.size), (0, 0, 2, 0));
}

#[test]
fn closed_numbers_come_back_highest_first() {
    let ctx = Ctx::builder().volume("/v", Volume::new(), false).build();
    let mut g = Guest::new(ctx, FakeHost::default());
    let fds: Vec<u32> = (0..3).map(|i| g.open(3, &format!("f{i}"), CREAT, RW).unwrap()).collect();
    assert_eq!(fds, [4, 5, 6]);
    g.close(0).unwrap();
    g.close(4).unwrap();
    g.close(5).unwrap();
    assert_eq!(g.close(5), Err(Errno::Badf));
    let mut g = g.moved(FakeHost::default());
    assert_eq!(g.open(3, "f0", 0, R), Ok(5));
    assert_eq!(g.open(3, "f0", 0, R), Ok(4));
    assert_eq!(g.open(3, "f0", 0, R), Ok(0));
    assert_eq!(g.open(3, "f0", 0, R), Ok(7));
}

#[test]
fn renumbering_closes_the_target_and_moves_the_offset() {
    let ctx = Ctx::builder().volume("/v", Volume::new(), false).build();
    let mut g = Guest::new(ctx, FakeHost::default());
    let a = g.open(3, "a", CREAT, RW).unwrap();
    let b = g.open(3, "b", CREAT, RW).unwrap();
    g.write(a, b"abc").unwrap();
    assert_eq!(g.errno("fd_renumber", &[a.into(), 77]), Errno::Badf);
    assert_eq!(g.errno("fd_renumber", &[77, a.into()]), Errno::Badf);
    assert_eq!(g.errno("fd_renumber", &[a.into(), a.into()]), Errno::Success);
    assert_eq!(g.errno("fd_renumber", &[a.into(), b.into()]), Errno::Success);
    assert_eq!(g.tell(b), Ok(3));
    assert_eq!(g.tell(a), Err(Errno::Badf));
    assert_eq!(g.open(3, "c", CREAT, RW), Ok(a));
}

/// Puts a clock subscription at the `i`th place.
fn clock(g: &mut Guest<FakeHost>, i: u64, id: u32, timeout: u64, absolute: bool) {
    let at = 1024 + 48 * i;
    g.put(at, &[0; 48]);
    g.put(at, &(100 + i).to_le_bytes());
    g.put(at + 16, &id.to_le_bytes());
    g.put(at + 24, &timeout.to_le_bytes());
    g.put(at + 40, &u16::from(absolute).to_le_bytes());
}

fn descriptor(g: &mut Guest<FakeHost>, i: u64, kind: u8, fd: u32) {
    let at = 1024 + 48 * i;
    g.put(at, &[0; 48]);
    g.put(at, &(100 + i).to_le_bytes());
    g.put(at + 8, &[kind]);
    g.put(at + 16, &fd.to_le_bytes());
}

fn poll(count: u64) -> [u64; 4] {
    [1024, 8192, count, 16]
}

/// The events as (userdata, type, nbytes, flags).
fn events(g: &Guest<FakeHost>) -> Vec<(u64, u8, u64, u16)> {
    (0..u64::from(g.u32(16)))
        .map(|i| 8192 + 32 * i)
        .map(|at| {
            assert_eq!(g.bytes(at + 8, 2), [0, 0], "no event has an error of its own");
            let flags = u16::from_le_bytes(g.bytes(at + 24, 2).try_into().unwrap());
            (g.u64(at), g.mem[at as usize + 10], g.u64(at + 16), flags)
        })
        .collect()
}

#[test]
fn a_relative_timeout_keeps_its_deadline_however_often_the_call_is_issued() {
    let mut g = guest();
    g.host.monotonic = 1_000;
    clock(&mut g, 0, 1, 500, false);
    assert_eq!(g.blocked("poll_oneoff", &poll(1)), Wait { deadline: Some(1_500), sources: vec![] });
    g.host.monotonic = 1_400;
    assert_eq!(g.blocked("poll_oneoff", &poll(1)).deadline, Some(1_500));
    g.host.monotonic = 1_500;
    assert_eq!(g.errno("poll_oneoff", &poll(1)), Errno::Success);
    assert_eq!(events(&g), [(100, 0, 0, 0)]);
    // It is forgotten now: the same call is a new sleep.
    assert_eq!(g.blocked("poll_oneoff", &poll(1)).deadline, Some(2_000));
}

#[test]
fn a_sleep_goes_on_after_a_move_with_what_was_left_of_it() {
    let mut g = guest();
    g.host.monotonic = 1_000;
    clock(&mut g, 0, 0, 500, false);
    g.blocked("poll_oneoff", &poll(1));
    g.host.monotonic = 1_300;
    g.ctx.pausing(&mut g.host);
    let mut g = g.moved(FakeHost { monotonic: 70_000, ..FakeHost::default() });
    assert_eq!(g.blocked("poll_oneoff", &poll(1)).deadline, Some(70_200));
    g.host.monotonic = 70_200;
    assert_eq!(g.errno("poll_oneoff", &poll(1)), Errno::Success);
}

#[test]
fn another_call_in_between_forgets_the_deadline() {
    let mut g = guest();
    clock(&mut g, 0, 1, 500, false);
    clock(&mut g, 1, 1, 900, false);
    g.blocked("poll_oneoff", &poll(1));
    g.host.monotonic = 400;
    assert_eq!(g.blocked("poll_oneoff", &poll(2)).deadline, Some(900));
    g.errno("sched_yield", &[]);
    g.host.monotonic = 450;
    assert_eq!(g.blocked("poll_oneoff", &poll(1)).deadline, Some(950));
}

#[test]
fn an_absolute_real_time_is_compared_anew_after_the_pause() {
    let mut g = guest();
    clock(&mut g, 0, 0, 1_000_400, true);
    g.host.realtime = 1_000_000;
    assert_eq!(g.blocked("poll_oneoff", &poll(1)).deadline, Some(400));
    let mut g = g.moved(FakeHost { realtime: 1_000_500, ..FakeHost::default() });
    assert_eq!(g.errno("poll_oneoff", &poll(1)), Errno::Success);
}

#[test]
fn an_absolute_monotonic_time_is_task_time() {
    let mut g = guest();
    g.host.monotonic = 77;
    g.errno("clock_time_get", &[1, 0, 16]);
    let now = g.u64(16);
    clock(&mut g, 0, 1, now + 30, true);
    assert_eq!(g.blocked("poll_oneoff", &poll(1)).deadline, Some(107));
    clock(&mut g, 0, 1, 0, true);
    assert_eq!(g.errno("poll_oneoff", &poll(1)), Errno::Success);
}

#[test]
fn all_that_is_ready_is_reported_and_the_rest_is_not() {
    let ctx = Ctx::builder().volume("/v", Volume::new(), false).volume("/ro", Volume::new(), true).build();
    let mut g = Guest::new(ctx, FakeHost { room: 1, ..FakeHost::default() });
    let fd = g.open(3, "f", CREAT, RW).unwrap();
    clock(&mut g, 0, 1, 500, false);
    descriptor(&mut g, 1, 1, 0);
    assert_eq!(
        g.blocked("poll_oneoff", &poll(2)),
        Wait { deadline: Some(500), sources: vec![(Source::Stream(Stream::Stdin), Interest::Read)] }
    );
    descriptor(&mut g, 2, 2, 1);
    descriptor(&mut g, 3, 1, fd);
    descriptor(&mut g, 4, 2, fd);
    assert_eq!(g.errno("poll_oneoff", &poll(5)), Errno::Success);
    assert_eq!(events(&g), [(102, 2, 1, 0), (103, 1, 1, 1), (104, 2, 1, 0)]);
    g.host.stdin.extend(b"x");
    g.write(fd, b"abc").unwrap();
    g.seek(fd, 0, 0).unwrap();
    assert_eq!(g.errno("poll_oneoff", &poll(4)), Errno::Success);
    assert_eq!(events(&g), [(101, 1, 1, 0), (102, 2, 1, 0), (103, 1, 1, 0)]);
}

#[test]
fn a_poll_of_nothing_or_of_nonsense_is_refused_at_once() {
    let mut g = guest();
    assert_eq!(g.errno("poll_oneoff", &poll(0)), Errno::Inval);
    assert_eq!(g.errno("poll_oneoff", &poll(1 << 21)), Errno::Nomem);
    assert_eq!(g.errno("poll_oneoff", &[u64::from(u32::MAX) - 8, 0, 1, 16]), Errno::Fault);
    clock(&mut g, 0, 2, 1, false);
    assert_eq!(g.errno("poll_oneoff", &poll(1)), Errno::Inval);
    clock(&mut g, 0, 9, 1, false);
    assert_eq!(g.errno("poll_oneoff", &poll(1)), Errno::Inval);
    for (kind, fd) in [(1, 1), (2, 0), (1, 9)] {
        descriptor(&mut g, 0, kind, fd);
        assert_eq!(g.errno("poll_oneoff", &poll(1)), Errno::Badf);
    }
    descriptor(&mut g, 0, 3, 0);
    assert_eq!(g.errno("poll_oneoff", &poll(1)), Errno::Inval);
    for i in 0..50 {
        descriptor(&mut g, i, 1, 0);
    }
    assert_eq!(g.blocked("poll_oneoff", &poll(50)).sources.len(), 1);
    clock(&mut g, 0, 1, u64::MAX, false);
    assert_eq!(g.blocked("poll_oneoff", &poll(1)).deadline, Some(u64::MAX - 1_000_000));
}
