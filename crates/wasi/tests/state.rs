//! The state as bytes: it comes back whole from the middle of things, and nothing else is taken for one.
#![cfg(feature = "std")]

mod support;

use proptest::prelude::*;
use support::*;
use wayfare_wasi::{Ctx, DecodeError, DescriptorKind, Errno, Interest, Source, Stream, Volume, Wait};

/// A task with something of everything in it.
fn busy() -> Guest<FakeHost> {
    let mut volume = Volume::new().with_limit(1 << 20);
    volume.write_file("etc/conf", b"a=b\n").unwrap();
    let ctx = Ctx::builder()
        .args(["prog", "x"])
        .env("A", "b")
        .volume("/v", volume, false)
        .volume("/ro", Volume::new(), true)
        .build();
    let mut g = Guest::new(ctx, FakeHost { room: 1 << 20, realtime: 99, ..FakeHost::default() });
    g.fdstat(1).unwrap();
    let fd = g.open_with(3, "log", CREAT, RW, APPEND, true).unwrap();
    g.write(fd, b"first line\n").unwrap();
    let sparse = g.open(3, "sparse", CREAT, RW).unwrap();
    g.pwrite(sparse, b"far", 1 << 30).unwrap();
    g.link(3, "log", 3, "etc/log").unwrap();
    g.symlink("etc/conf", 3, "conf").unwrap();
    let gone = g.open(3, "gone", CREAT, RW).unwrap();
    g.write(gone, b"still here").unwrap();
    g.seek(gone, 6, 0).unwrap();
    g.unlink(3, "gone").unwrap();
    g.mkdir(3, "old").unwrap();
    g.open(3, "old", 0, R).unwrap();
    g.rmdir(3, "old").unwrap();
    g.readdir_once(3, 60, 0).unwrap();
    g.close(0).unwrap();
    g
}

/// Puts a relative timeout of 500 ns and a wait for stdout into memory and issues the call.
fn sleep(g: &mut Guest<FakeHost>) -> Wait {
    g.put(1024, &[0; 96]);
    g.put(1024 + 16, &1_u32.to_le_bytes());
    g.put(1024 + 24, &500_u64.to_le_bytes());
    g.put(1072 + 8, &[2]);
    g.put(1072 + 16, &1_u32.to_le_bytes());
    g.blocked("poll_oneoff", &[1024, 8192, 2, 16])
}

#[test]
fn a_task_goes_on_elsewhere_in_the_middle_of_everything() {
    let mut g = busy();
    g.host.room = 0;
    g.host.monotonic = 1_000;
    assert_eq!(sleep(&mut g).deadline, Some(1_500));
    g.host.monotonic = 1_100;
    let mut g = g.moved(FakeHost { monotonic: 8_000_000, realtime: 100, ..FakeHost::default() });
    let expect = Wait { deadline: Some(8_000_400), sources: vec![(Source::Stream(Stream::Stdout), Interest::Write)] };
    assert_eq!(sleep(&mut g), expect);

    assert_eq!(g.write(5, b"second line\n"), Ok(12));
    assert_eq!(g.pread(5, 100, 0), Ok(b"first line\nsecond line\n".to_vec()));
    assert_eq!(g.pread(6, 3, 1 << 30), Ok(b"far".to_vec()));
    assert_eq!(g.read(7, 100), Ok(b"here".to_vec()));
    assert_eq!(g.fstat(7).unwrap().nlink, 0);
    assert_eq!(g.stat(3, "log", true).unwrap().nlink, 2);
    assert_eq!(g.stat(3, "conf", true).unwrap().size, 4);
    assert_eq!(g.mkdir(8, "x"), Err(Errno::Noent));
    // The listing that had given out two names goes on with the third.
    let rest: Vec<String> = g.readdir_once(3, 1000, 2).unwrap().0.into_iter().map(|(_, name, _)| name).collect();
    assert_eq!(rest, ["conf", "etc", "log", "sparse"]);
    assert_eq!(g.open(3, "log", 0, R), Ok(0));
}

#[test]
fn a_file_without_a_name_is_gone_with_its_last_descriptor_after_a_move_too() {
    let mut g = busy();
    let before = g.ctx.volumes().next().unwrap().1.stored_bytes();
    let mut g = g.moved(FakeHost::default());
    g.close(7).unwrap();
    assert_eq!(g.ctx.volumes().next().unwrap().1.stored_bytes(), before - 4096);
    g.moved(FakeHost::default());
}

#[test]
fn equal_states_have_equal_bytes_whatever_host_they_were_on() {
    let mut g = busy();
    g.ctx.pausing(&mut g.host);
    let here = g.ctx.encode();
    let mut there = Ctx::decode(&here).unwrap();
    let mut host = FakeHost { monotonic: 12345, ..FakeHost::default() };
    there.reattach(&mut host).unwrap();
    there.resumed(&mut host);
    there.pausing(&mut host);
    assert_eq!(there.encode(), here);
}

#[test]
fn zeros_cost_nothing() {
    let mut g = Guest::new(Ctx::builder().volume("/v", Volume::new(), false).build(), FakeHost::default());
    let empty = g.ctx.encode().len();
    let fd = g.open(3, "zeros", CREAT, RW).unwrap();
    g.write(fd, &[1; 100_000]).unwrap();
    g.pwrite(fd, &[0; 100_000], 0).unwrap();
    assert!(g.ctx.encode().len() < empty + 200);
    assert_eq!(g.moved(FakeHost::default()).pread(fd, 100_000, 0), Ok(vec![0; 100_000]));
}

#[test]
fn a_description_names_every_descriptor() {
    let g = busy();
    let all = g.ctx.describe();
    let check = |fd, kind, path: &str, offset| {
        let info = all.iter().find(|info| info.fd == fd).unwrap();
        assert_eq!((info.kind, info.path.as_str(), info.offset, info.attached), (kind, path, offset, true));
    };
    check(1, DescriptorKind::Stream(Stream::Stdout), "", None);
    check(3, DescriptorKind::VolumeDirectory, "/v", None);
    check(5, DescriptorKind::VolumeFile, "/v/log", Some(11));
    check(7, DescriptorKind::VolumeFile, "/v (removed)", Some(6));
    assert_eq!(all.len(), 8);
}

#[test]
fn each_refusal_has_its_own_error() {
    let bytes = busy().ctx.encode();
    let refused = |bytes: &[u8]| Ctx::decode(bytes).err();
    assert_eq!(refused(b""), Some(DecodeError::Magic));
    assert_eq!(refused(b"WFWASJ\x01\0"), Some(DecodeError::Magic));
    let mut newer = bytes.clone();
    newer[6..8].copy_from_slice(&[7, 1]);
    assert_eq!(refused(&newer), Some(DecodeError::Version(263)));
    for len in 6..bytes.len().min(400) {
        assert_eq!(refused(&bytes[..len]), Some(DecodeError::Truncated), "{len}");
    }
    for len in (400..bytes.len()).step_by(97) {
        assert!(refused(&bytes[..len]).is_some(), "{len}");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert_eq!(refused(&longer), Some(DecodeError::Leftover));
    // A count that no input of this size can hold is refused before memory is set aside for it.
    assert_eq!(refused(b"WFWASI\x01\0\xff\xff\xff\xff"), Some(DecodeError::Truncated));
}

/// A state of one empty volume, by hand, with `inodes` in place of its own and `descriptors` besides.
fn by_hand(next: u64, inodes: &[&[u8]], descriptors: &[&[u8]], free: &[u32], after: &[u8]) -> Vec<u8> {
    let mut bytes = b"WFWASI\x01\0".to_vec();
    bytes.extend([0; 8]);
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend([2, 0, 0, 0, b'/', b'v', 0, 1]);
    bytes.extend(next.to_le_bytes());
    bytes.extend(u64::MAX.to_le_bytes());
    bytes.extend((inodes.len() as u32).to_le_bytes());
    inodes.iter().for_each(|inode| bytes.extend(*inode));
    bytes.extend(0_u32.to_le_bytes());
    bytes.extend((descriptors.len() as u32).to_le_bytes());
    descriptors.iter().for_each(|descriptor| bytes.extend(*descriptor));
    bytes.extend((free.len() as u32).to_le_bytes());
    free.iter().for_each(|fd| bytes.extend(fd.to_le_bytes()));
    bytes.extend(5_u64.to_le_bytes());
    bytes.extend(after);
    bytes
}

fn inode(ino: u64, body: &[u8]) -> Vec<u8> {
    [&ino.to_le_bytes()[..], &[0; 24], body].concat()
}

/// The body of a directory.
fn directory(entries: &[(&str, u64)]) -> Vec<u8> {
    let mut body = vec![1];
    body.extend((entries.len() as u32).to_le_bytes());
    for (name, ino) in entries {
        body.extend((name.len() as u32).to_le_bytes());
        body.extend(name.as_bytes());
        body.extend(ino.to_le_bytes());
    }
    body
}

fn file(size: u64, pages: &[(u64, u8)]) -> Vec<u8> {
    let mut body = vec![0];
    body.extend(size.to_le_bytes());
    body.extend((pages.len() as u32).to_le_bytes());
    for (index, byte) in pages {
        body.extend(index.to_le_bytes());
        body.extend([*byte; 4096]);
    }
    body
}

#[test]
fn references_that_do_not_hold_are_refused() {
    let good = inode(1, &directory(&[("f", 2)]));
    let small = inode(2, &file(3, &[]));
    let open = |fd: u32, body: &[u8]| [&fd.to_le_bytes()[..], body].concat();
    let file_fd =
        |ino: u64, flags: u8| [&[1, 0, 0, 0, 0][..], &ino.to_le_bytes(), &[4, flags], &9_u64.to_le_bytes()].concat();
    let check = |bytes: Vec<u8>, expect: std::result::Result<(), &'static str>| {
        let expect = expect.map_err(DecodeError::Invalid);
        assert_eq!(Ctx::decode(&bytes).map(|ctx| assert_eq!(ctx.encode(), bytes)), expect);
    };
    let end = [0, 0];
    check(by_hand(3, &[&good, &small], &[], &[], &end), Ok(()));
    check(by_hand(3, &[&good, &small], &[&open(3, &file_fd(2, 3))], &[0, 7], &end), Ok(()));

    let inodes = |inodes: &[&[u8]], expect| check(by_hand(9, inodes, &[], &[], &end), Err(expect));
    inodes(&[], "the next inode number");
    inodes(&[&small], "a volume without a root");
    inodes(&[&inode(1, &file(0, &[]))], "a volume's root");
    inodes(&[&good], "a name without a file");
    inodes(&[&small, &good], "the order of numbers");
    inodes(&[&good, &small, &inode(3, &file(0, &[]))], "a file with neither a name nor a descriptor");
    inodes(&[&good, &inode(2, &file(3, &[(0, 7)]))], "content beyond the end of a file");
    inodes(&[&good, &inode(2, &file(4096, &[(1, 7)]))], "content beyond the end of a file");
    inodes(&[&good, &inode(2, &file(4096, &[(u64::MAX, 7)]))], "content beyond the end of a file");
    inodes(&[&good, &inode(2, &file(u64::MAX, &[]))], "content beyond the end of a file");
    inodes(&[&good, &inode(2, &file(4096, &[(0, 0)]))], "a page of zeros");
    inodes(&[&good, &inode(2, &[3])], "the kind of a file in a volume");
    inodes(&[&good, &inode(2, &[2, 0, 0, 0, 0])], "a symbolic link");
    for name in ["", ".", "..", "a/b", "a\0"] {
        inodes(&[&inode(1, &directory(&[(name, 2)])), &small], "a name in a directory");
    }
    inodes(&[&inode(1, &directory(&[("b", 2), ("a", 2)])), &small], "a name in a directory");
    inodes(&[&inode(1, &directory(&[("self", 1)]))], "a directory with two names");
    let (two, three) = (inode(2, &directory(&[("x", 3)])), inode(3, &directory(&[("y", 2)])));
    inodes(&[&inode(1, &directory(&[])), &two, &three], "a directory outside the tree");
    check(by_hand(2, &[&good, &small], &[], &[], &end), Err("the next inode number"));

    let descriptors = |list: &[&[u8]], expect| check(by_hand(9, &[&good, &small], list, &[], &end), Err(expect));
    descriptors(&[&open(3, &file_fd(8, 3))], "the inode of a descriptor");
    descriptors(&[&open(3, &file_fd(1, 3))], "the type of an open file");
    descriptors(&[&open(3, &file_fd(2, 0))], "the flags of an open file");
    descriptors(&[&open(3, &file_fd(2, 16))], "the flags of an open file");
    descriptors(&[&open(3, &[1, 1, 0, 0, 0])], "the preopen of a descriptor");
    descriptors(&[&open(3, &[&[2, 0, 0, 0, 0][..], &2_u64.to_le_bytes(), &[0, 0]].concat())], "an open directory");
    descriptors(&[&open(3, &[9])], "the kind of a descriptor");
    descriptors(&[&open(3, &[0, 3, 0])], "a standard stream");
    descriptors(&[&open(3, &[0, 1, 3])], "whether a stream is a terminal");
    descriptors(&[&open(3, &[0, 1, 0]), &open(3, &[0, 1, 0])], "the order of descriptors");
    descriptors(&[&open(3, &[4, 2])], "a truth value");
    let stream = |fd: u32, stream: u64| open(fd, &[&[5, 1][..], &stream.to_le_bytes()].concat());
    check(by_hand(9, &[&good, &small], &[&open(3, &[4, 0]), &stream(4, 7), &stream(5, 8)], &[], &end), Ok(()));
    descriptors(&[&stream(4, 7), &stream(5, 7)], "a connection with two descriptors");

    check(by_hand(9, &[&good, &small], &[], &[7, 7], &end), Err("the free descriptor numbers"));
    check(by_hand(9, &[&good, &small], &[&open(3, &[4, 0])], &[3], &end), Err("the free descriptor numbers"));
    let mut pending = vec![1];
    pending.extend([0; 12]);
    pending.extend(6_u64.to_le_bytes());
    pending.push(0);
    check(by_hand(9, &[&good, &small], &[], &[], &pending), Err("a call that began in the future"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bytes_of_any_kind_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = Ctx::decode(&bytes);
        let _ = Ctx::decode(&[b"WFWASI\x01\0".as_slice(), &bytes].concat());
    }

    #[test]
    fn damaged_bytes_are_refused_or_mean_what_they_say(flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8_u8), 1..4)) {
        let mut bytes = busy().ctx.encode();
        for (index, bit) in flips {
            let at = index.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        if let Ok(ctx) = Ctx::decode(&bytes) {
            // Not a panic, not another state: if they are taken, they are written again as they were.
            prop_assert_eq!(ctx.encode(), bytes);
            // And a task in that state can be called.
            let mut g = Guest { ctx, host: FakeHost { room: 1 << 20, stdin_ended: true, ..FakeHost::default() }, mem: vec![0; 1 << 20] };
            for fd in 0..10 {
                let _ = g.read(fd, 10);
                let _ = g.write(fd, b"x");
                let _ = g.fstat(fd);
                if g.fdstat(fd).is_ok_and(|stat| stat.0 == 3) {
                    let _ = g.readdir_once(fd, 1000, 0);
                    let _ = g.rename(fd, "etc", fd, "log");
                }
                let _ = g.close(fd);
            }
        }
    }
}
