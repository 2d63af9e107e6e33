//! Files and directories. Every test runs on a volume and on a real directory of Linux: the kernel is the judge of
//! what a volume has to answer.
#![cfg(feature = "std")]

mod support;

use support::*;
use wayfare_wasi::{Ctx, Errno, Host, Volume};

/// Runs `test` with descriptor 3 on a writable directory and 4 on a read-only one, each holding
/// `file` ("content"), `dir/inner` ("inner") and the links `to-file`, `to-dir`, `dangling`, `up` (out of it).
macro_rules! on_both {
    ($(fn $name:ident($g:ident) $body:block)*) => { $(
        #[test]
        fn $name() {
            fn run<H: Host>($g: &mut Guest<H>) $body
            let ctx = Ctx::builder().volume("/data", Volume::new(), false).build();
            let mut filled = Guest::new(ctx, FakeHost { realtime: 1_000_000_000, ..FakeHost::default() });
            fill(&mut filled);
            run(&mut filled);
            let dir = tempfile::tempdir().unwrap();
            let mut filled = Guest::new(Ctx::builder().dir("/data", false).build(), linux(dir.path()));
            fill(&mut filled);
            run(&mut filled);
        }
    )* };
}

fn fill<H: Host>(g: &mut Guest<H>) {
    g.create(3, "file", b"content");
    g.mkdir(3, "dir").unwrap();
    g.create(3, "dir/inner", b"inner");
    for (target, name) in
        [("file", "to-file"), ("dir", "to-dir"), ("nowhere", "dangling"), ("../x", "up"), ("loop", "loop")]
    {
        g.symlink(target, 3, name).unwrap();
    }
}

on_both! {

fn opening_answers_as_linux_does(g) {
    let cases: &[(&str, u64, u64, bool, Result<()>)] = &[
        ("file", 0, R, true, Ok(())),
        ("file", 0, W, true, Ok(())),
        ("file", 0, 0, true, Ok(())),
        ("missing", 0, R, true, Err(Errno::Noent)),
        ("missing/x", CREAT, RW, true, Err(Errno::Noent)),
        ("", 0, R, true, Err(Errno::Noent)),
        ("/file", 0, R, true, Err(Errno::Perm)),
        ("..", 0, R, true, Err(Errno::Perm)),
        ("../data/file", 0, R, true, Err(Errno::Perm)),
        ("dir/../../data", 0, R, true, Err(Errno::Perm)),
        ("dir/../file", 0, R, true, Ok(())),
        ("./dir//inner", 0, R, true, Ok(())),
        ("up", 0, R, true, Err(Errno::Perm)),
        ("up", CREAT, RW, true, Err(Errno::Perm)),
        ("up", 0, R, false, Err(Errno::Loop)),
        ("dangling", 0, R, true, Err(Errno::Noent)),
        ("loop", 0, R, true, Err(Errno::Loop)),
        ("to-file", 0, R, true, Ok(())),
        ("to-file", 0, R, false, Err(Errno::Loop)),
        ("to-file/", 0, R, true, Err(Errno::Notdir)),
        ("to-dir", 0, R, true, Ok(())),
        ("to-dir", DIRECTORY, R, false, Err(Errno::Loop)),
        ("to-dir/", DIRECTORY, R, false, Ok(())),
        ("to-dir/inner", 0, R, false, Ok(())),
        ("file/", 0, R, true, Err(Errno::Notdir)),
        ("file/x", 0, R, true, Err(Errno::Notdir)),
        ("file", DIRECTORY, R, true, Err(Errno::Notdir)),
        ("dir", 0, R, true, Ok(())),
        ("dir", DIRECTORY, R, true, Ok(())),
        ("dir", 0, RW, true, Err(Errno::Isdir)),
        ("dir", CREAT, R, true, Err(Errno::Isdir)),
        ("dir", DIRECTORY, W, true, Err(Errno::Isdir)),
        (".", 0, R, true, Ok(())),
        ("dir/..", 0, R, true, Ok(())),
        ("file", CREAT | EXCL, RW, true, Err(Errno::Exist)),
        ("dangling", CREAT | EXCL, RW, true, Err(Errno::Exist)),
        ("file", EXCL, R, true, Ok(())),
        ("file", CREAT | DIRECTORY, RW, true, Err(Errno::Inval)),
        ("file", TRUNC | DIRECTORY, RW, true, Err(Errno::Inval)),
        ("new/", CREAT, RW, true, Err(Errno::Isdir)),
        ("a\0b", CREAT, RW, true, Err(Errno::Inval)),
        ("fresh", CREAT | EXCL, RW, true, Ok(())),
        ("dir/fresh", CREAT, R, true, Ok(())),
        ("dangling", CREAT, RW, true, Ok(())),
        ("nowhere", 0, R, true, Ok(())),
    ];
    for &(path, oflags, rights, follow, expect) in cases {
        let got = g.open_with(3, path, oflags, rights, 0, follow);
        assert_eq!(got.map(|_| ()), expect, "{path} {oflags} {rights} {follow}");
    }
    let long = "n".repeat(256);
    assert_eq!(g.open(3, &long, CREAT, RW), Err(Errno::Nametoolong));
    assert_eq!(g.open(3, &"d/".repeat(2100), 0, R), Err(Errno::Nametoolong));
    let file = g.open(3, "file", 0, R).unwrap();
    assert_eq!(g.open(file, "x", 0, R), Err(Errno::Notdir));
    assert_eq!(g.open(0, "x", 0, R), Err(Errno::Badf));
    for sync in [2, 8, 16] {
        assert_eq!(g.open_with(3, "file", 0, R, sync, true), Err(Errno::Notsup));
    }
}

fn flags_that_do_not_exist_are_refused(g) {
    let [p, n] = [4096, 4];
    g.put(4096, b"file");
    assert_eq!(g.errno("path_open", &[3, 2, p, n, 0, R, R, 0, 16]), Errno::Inval);
    assert_eq!(g.errno("path_open", &[3, 0, p, n, 16, R, R, 0, 16]), Errno::Inval);
    assert_eq!(g.errno("path_open", &[3, 0, p, n, 1 << 16, R, R, 0, 16]), Errno::Overflow);
    assert_eq!(g.errno("path_open", &[3, 0, p, n, 0, 1 << 30, R, 0, 16]), Errno::Inval);
    assert_eq!(g.errno("path_open", &[3, 0, p, n, 0, u64::MAX, R, 0, 16]), Errno::Overflow);
    assert_eq!(g.errno("path_open", &[3, 0, p, n, 0, R, R, 32, 16]), Errno::Inval);
    g.put(4096, b"\xff\xff");
    assert_eq!(g.errno("path_open", &[3, 0, p, 2, 0, R, R, 0, 16]), Errno::Ilseq);
    assert_eq!(g.errno("path_open", &[3, 0, 1 << 20, 2, 0, R, R, 0, 16]), Errno::Fault);
}

fn reading_and_writing_move_the_offset_and_positions_do_not(g) {
    let fd = g.open(3, "data", CREAT, RW).unwrap();
    assert_eq!(g.write(fd, b"hello world"), Ok(11));
    assert_eq!(g.tell(fd), Ok(11));
    assert_eq!(g.read(fd, 10), Ok(vec![]));
    assert_eq!(g.seek(fd, -5, 1), Ok(6));
    assert_eq!(g.read(fd, 100), Ok(b"world".to_vec()));
    assert_eq!(g.pread(fd, 5, 0), Ok(b"hello".to_vec()));
    assert_eq!(g.pwrite(fd, b"J", 0), Ok(1));
    assert_eq!(g.tell(fd), Ok(11));
    assert_eq!(g.seek(fd, -11, 2), Ok(0));
    assert_eq!(g.read(fd, 3), Ok(b"Jel".to_vec()));
    assert_eq!(g.seek(fd, -4, 1), Err(Errno::Inval));
    assert_eq!(g.seek(fd, -1, 0), Err(Errno::Inval));
    assert_eq!(g.seek(fd, 0, 9), Err(Errno::Inval));
    assert_eq!(g.seek(fd, 5000, 0), Ok(5000));
    assert_eq!(g.write(fd, b"!"), Ok(1));
    assert_eq!(g.fstat(fd).unwrap().size, 5001);
    assert_eq!(g.pread(fd, 3, 4998), Ok(b"\0\0!".to_vec()));
    assert_eq!(g.read(fd, 0), Ok(vec![]));
}

fn a_descriptor_does_what_it_was_opened_for(g) {
    let read = g.open(3, "file", 0, R).unwrap();
    let write = g.open(3, "file", 0, W).unwrap();
    assert_eq!(g.write(read, b"x"), Err(Errno::Badf));
    assert_eq!(g.pwrite(read, b"x", 0), Err(Errno::Badf));
    assert_eq!(g.read(write, 1), Err(Errno::Badf));
    assert_eq!(g.pread(write, 1, 0), Err(Errno::Badf));
    assert_eq!(g.errno("fd_filestat_set_size", &[read.into(), 1]), Errno::Inval);
    let dir = g.open(3, "dir", 0, R).unwrap();
    assert_eq!(g.read(dir, 1), Err(Errno::Badf));
    assert_eq!(g.write(dir, b"x"), Err(Errno::Badf));
    assert_eq!(g.seek(dir, 0, 0), Err(Errno::Badf));
    assert_eq!(g.errno("fd_sync", &[dir.into()]), Errno::Badf);
    assert_eq!(g.errno("fd_advise", &[dir.into(), 0, 0, 0]), Errno::Badf);
    // Created without asking to write: open for writing all the same, and for reading.
    let created = g.open(3, "created", CREAT, 0).unwrap();
    assert_eq!(g.write(created, b"x"), Ok(1));
    assert_eq!(g.pread(created, 1, 0), Ok(b"x".to_vec()));
    assert_eq!(g.fdstat(read).unwrap().2 & RW, R);
    assert_eq!(g.fdstat(write).unwrap().2 & RW, W);
    assert_eq!(g.fdstat(dir).unwrap().2 & RW, R);
    assert_eq!(g.fdstat(3).unwrap().0, 3);
}

fn appending_ignores_offsets(g) {
    let fd = g.open_with(3, "log", CREAT, RW, APPEND, true).unwrap();
    g.write(fd, b"one").unwrap();
    g.seek(fd, 0, 0).unwrap();
    g.write(fd, b"two").unwrap();
    assert_eq!(g.tell(fd), Ok(6));
    g.pwrite(fd, b"three", 0).unwrap();
    assert_eq!(g.tell(fd), Ok(6));
    assert_eq!(g.pread(fd, 100, 0), Ok(b"onetwothree".to_vec()));
    assert_eq!(g.fdstat(fd).unwrap().1, APPEND as u16);
    assert_eq!(g.errno("fd_fdstat_set_flags", &[fd.into(), NONBLOCK]), Errno::Success);
    assert_eq!(g.fdstat(fd).unwrap().1, NONBLOCK as u16);
    g.pwrite(fd, b"ONE", 0).unwrap();
    assert_eq!(g.pread(fd, 3, 0), Ok(b"ONE".to_vec()));
    for sync in [2, 8, 16] {
        assert_eq!(g.errno("fd_fdstat_set_flags", &[fd.into(), sync]), Errno::Inval);
    }
    assert_eq!(g.errno("fd_fdstat_set_flags", &[3, 0]), Errno::Badf);
}

fn truncation_and_size(g) {
    let fd = g.open(3, "file", TRUNC, RW).unwrap();
    assert_eq!(g.fstat(fd).unwrap().size, 0);
    assert_eq!(g.errno("fd_filestat_set_size", &[fd.into(), 10]), Errno::Success);
    assert_eq!(g.read(fd, 100), Ok(vec![0; 10]));
    assert_eq!(g.errno("fd_filestat_set_size", &[fd.into(), 4]), Errno::Success);
    assert_eq!(g.tell(fd), Ok(10));
    assert_eq!(g.read(fd, 100), Ok(vec![]));
    assert_eq!(g.errno("fd_filestat_set_size", &[fd.into(), 1 << 63]), Errno::Inval);
    assert_eq!(g.errno("fd_filestat_set_size", &[3, 1]), Errno::Badf);
    assert_eq!(g.errno("fd_allocate", &[fd.into(), 0, 10]), Errno::Notsup);
    assert_eq!(g.errno("fd_advise", &[fd.into(), 0, 10, 3]), Errno::Success);
    assert_eq!(g.errno("fd_advise", &[fd.into(), 0, 10, 6]), Errno::Inval);
    assert_eq!(g.errno("fd_sync", &[fd.into()]), Errno::Success);
    assert_eq!(g.errno("fd_datasync", &[fd.into()]), Errno::Success);
    assert_eq!(g.errno("fd_fdstat_set_rights", &[fd.into(), R, R]), Errno::Notsup);
}

fn attributes_tell_kinds_links_and_identity(g) {
    let file = g.stat(3, "file", true).unwrap();
    assert_eq!((file.dev, file.filetype, file.nlink, file.size), (1, 4, 1, 7));
    assert_ne!(file.mtim, 0);
    assert_eq!(g.stat(3, "dir", true).unwrap().filetype, 3);
    assert_eq!(g.stat(3, "to-file", false).unwrap().filetype, 7);
    assert_eq!(g.stat(3, "to-file", false).unwrap().size, 4);
    assert_eq!(g.stat(3, "to-file", true), Ok(file));
    assert_eq!(g.stat(3, "to-dir/inner", false).unwrap().size, 5);
    assert_eq!(g.stat(3, "dangling", true), Err(Errno::Noent));
    assert_eq!(g.stat(3, "up", true), Err(Errno::Perm));
    assert_eq!(g.stat(3, "..", true), Err(Errno::Perm));
    assert_eq!(g.stat(3, "missing", false), Err(Errno::Noent));
    assert_eq!(g.stat(3, "file/x", false), Err(Errno::Notdir));
    assert_eq!(g.stat(3, "file/", true), Err(Errno::Notdir));
    assert_eq!(g.stat(3, "", true), Err(Errno::Noent));
    // The oracle takes a single name as it is when it does not follow.
    assert_eq!(g.stat(3, "file/", false), Ok(file));
    assert_eq!(g.stat(3, "to-dir/", false).unwrap().filetype, 7);
    assert_eq!(g.stat(3, "./to-dir/", false).unwrap().filetype, 3);
    let fd = g.open(3, "file", 0, R).unwrap();
    assert_eq!(g.fstat(fd), Ok(file));
    g.link(3, "file", 3, "second").unwrap();
    assert_eq!(g.fstat(fd).unwrap().nlink, 2);
    assert_eq!(g.stat(3, "second", true).unwrap().ino, file.ino);
    assert_ne!(g.stat(3, "dir/inner", true).unwrap().ino, file.ino);
    assert_eq!(g.errno("path_filestat_get", &[9, 0, 4096, 1, 512]), Errno::Badf);
}

fn times_can_be_set_and_kept(g) {
    const SECOND: u64 = 1_000_000_000;
    g.set_times(3, "file", true, 5 * SECOND + 7, 6 * SECOND, 1 | 4).unwrap();
    let stat = g.stat(3, "file", true).unwrap();
    assert_eq!((stat.atim, stat.mtim), (5 * SECOND + 7, 6 * SECOND));
    g.set_times(3, "to-file", true, 9 * SECOND, 0, 1).unwrap();
    let stat = g.stat(3, "file", true).unwrap();
    assert_eq!((stat.atim, stat.mtim), (9 * SECOND, 6 * SECOND));
    g.set_times(3, "to-file", false, SECOND, SECOND, 1 | 4).unwrap();
    assert_eq!(g.stat(3, "to-file", false).unwrap().mtim, SECOND);
    assert_eq!(g.stat(3, "file", true).unwrap().mtim, 6 * SECOND);
    g.set_times(3, "dir", true, SECOND, SECOND, 1 | 4).unwrap();
    assert_eq!(g.stat(3, "dir", true).unwrap().mtim, SECOND);
    assert_eq!(g.set_times(3, "file", true, 0, 0, 1 | 2), Err(Errno::Inval));
    assert_eq!(g.set_times(3, "file", true, 0, 0, 4 | 8), Err(Errno::Inval));
    assert_eq!(g.set_times(3, "file", true, 0, 0, 16), Err(Errno::Inval));
    assert_eq!(g.set_times(3, "missing", true, 0, 0, 1), Err(Errno::Noent));
    assert_eq!(g.set_times(3, "up", true, 0, 0, 1), Err(Errno::Perm));
    let fd = g.open(3, "file", 0, R).unwrap();
    assert_eq!(g.errno("fd_filestat_set_times", &[fd.into(), 3 * SECOND, 4 * SECOND, 1 | 4]), Errno::Success);
    assert_eq!(g.fstat(fd).unwrap().mtim, 4 * SECOND);
    assert_eq!(g.errno("fd_filestat_set_times", &[fd.into(), 0, 0, 1 | 8]), Errno::Success);
    let stat = g.fstat(fd).unwrap();
    assert_eq!(stat.atim, 0);
    assert_eq!(stat.mtim / SECOND, g.host.realtime() / SECOND);
}

fn directories_come_and_go(g) {
    assert_eq!(g.mkdir(3, "new"), Ok(()));
    assert_eq!(g.mkdir(3, "new"), Err(Errno::Exist));
    assert_eq!(g.mkdir(3, "new/"), Err(Errno::Exist));
    assert_eq!(g.mkdir(3, "slash//"), Ok(()));
    assert_eq!(g.mkdir(3, "."), Err(Errno::Exist));
    assert_eq!(g.mkdir(3, "dangling"), Err(Errno::Exist));
    assert_eq!(g.mkdir(3, "missing/x"), Err(Errno::Noent));
    assert_eq!(g.mkdir(3, "file/x"), Err(Errno::Notdir));
    assert_eq!(g.mkdir(3, "../x"), Err(Errno::Perm));
    assert_eq!(g.mkdir(3, "up/x"), Err(Errno::Perm));
    assert_eq!(g.mkdir(3, "/x"), Err(Errno::Perm));
    assert_eq!(g.mkdir(3, ""), Err(Errno::Noent));
    assert_eq!(g.mkdir(3, "to-dir/deep"), Ok(()));
    assert_eq!(g.stat(3, "dir", true).unwrap().nlink, g.stat(3, "new", true).unwrap().nlink + 1);
    assert_eq!(g.rmdir(3, "dir"), Err(Errno::Notempty));
    assert_eq!(g.rmdir(3, "file"), Err(Errno::Notdir));
    assert_eq!(g.rmdir(3, "to-dir"), Err(Errno::Notdir));
    assert_eq!(g.rmdir(3, "missing"), Err(Errno::Noent));
    assert_eq!(g.rmdir(3, "new/"), Err(Errno::Inval));
    assert_eq!(g.rmdir(3, "."), Err(Errno::Inval));
    assert_eq!(g.rmdir(3, ".."), Err(Errno::Perm));
    assert_eq!(g.rmdir(3, "new"), Ok(()));
    assert_eq!(g.stat(3, "new", true), Err(Errno::Noent));
}

fn unlinking_takes_names_and_leaves_open_files(g) {
    assert_eq!(g.unlink(3, "dir"), Err(Errno::Isdir));
    assert_eq!(g.unlink(3, "dir/"), Err(Errno::Isdir));
    assert_eq!(g.unlink(3, "file/"), Err(Errno::Notdir));
    assert_eq!(g.unlink(3, "missing"), Err(Errno::Noent));
    assert_eq!(g.unlink(3, "../x"), Err(Errno::Perm));
    assert_eq!(g.unlink(3, "up"), Ok(()));
    assert_eq!(g.unlink(3, "to-file"), Ok(()));
    let fd = g.open(3, "file", 0, RW).unwrap();
    assert_eq!(g.unlink(3, "file"), Ok(()));
    assert_eq!(g.stat(3, "file", true), Err(Errno::Noent));
    assert_eq!(g.fstat(fd).unwrap().nlink, 0);
    assert_eq!(g.read(fd, 100), Ok(b"content".to_vec()));
    assert_eq!(g.write(fd, b"!"), Ok(1));
    assert_eq!(g.fstat(fd).unwrap().size, 8);
    let dir = g.open(3, "to-dir", 0, R).unwrap();
    g.unlink(dir, "inner").unwrap();
    g.rmdir(3, "dir").unwrap();
    assert_eq!(g.open(dir, "x", CREAT, RW), Err(Errno::Noent));
    assert_eq!(g.mkdir(dir, "x"), Err(Errno::Noent));
    assert_eq!(g.readdir(dir, 1000), Ok(vec![".".into(), "..".into()]));
}

fn links_are_made_and_read(g) {
    assert_eq!(g.readlink(3, "to-file"), Ok("file".into()));
    assert_eq!(g.readlink(3, "up"), Ok("../x".into()));
    assert_eq!(g.readlink(3, "file"), Err(Errno::Inval));
    assert_eq!(g.readlink(3, "to-dir/"), Err(Errno::Inval));
    assert_eq!(g.readlink(3, "missing"), Err(Errno::Noent));
    assert_eq!(g.readlink(3, "../x"), Err(Errno::Perm));
    g.put(4096, b"to-file");
    assert_eq!(g.errno("path_readlink", &[3, 4096, 7, DATA, 2, 16]), Errno::Success);
    assert_eq!(g.bytes(DATA, g.count().into()), b"fi");
    assert_eq!(g.symlink("/etc/passwd", 3, "abs"), Err(Errno::Perm));
    assert_eq!(g.symlink("", 3, "empty"), Err(Errno::Noent));
    assert_eq!(g.symlink("x", 3, "file"), Err(Errno::Exist));
    assert_eq!(g.symlink("x", 3, "dangling"), Err(Errno::Exist));
    assert_eq!(g.symlink("x", 3, "missing/x"), Err(Errno::Noent));
    assert_eq!(g.symlink("x", 3, "new/"), Err(Errno::Noent));
    assert_eq!(g.symlink("x", 3, "dir/"), Err(Errno::Exist));
    assert_eq!(g.symlink("x", 3, "../x"), Err(Errno::Perm));

    assert_eq!(g.link(3, "file", 3, "hard"), Ok(()));
    assert_eq!(g.link(3, "file", 3, "hard"), Err(Errno::Exist));
    assert_eq!(g.link(3, "dir", 3, "hard-dir"), Err(Errno::Perm));
    assert_eq!(g.link(3, "dir/", 3, "hard-dir"), Err(Errno::Perm));
    assert_eq!(g.link(3, "missing", 3, "x"), Err(Errno::Noent));
    assert_eq!(g.link(3, "../x", 3, "x"), Err(Errno::Perm));
    assert_eq!(g.link(3, "file", 3, "../x"), Err(Errno::Perm));
    assert_eq!(g.link(3, "to-file", 3, "same-link"), Ok(()));
    assert_eq!(g.stat(3, "same-link", false).unwrap().filetype, 7);
    assert_eq!(g.errno("path_link", &[3, 1, 4096, 1, 3, 16384, 1]), Errno::Inval);
    g.unlink(3, "file").unwrap();
    let fd = g.open(3, "hard", 0, R).unwrap();
    assert_eq!(g.read(fd, 100), Ok(b"content".to_vec()));
}

fn renaming_answers_as_linux_does(g) {
    g.mkdir(3, "empty").unwrap();
    g.link(3, "file", 3, "hard").unwrap();
    let cases: &[(&str, &str, Result<()>)] = &[
        ("missing", "x", Err(Errno::Noent)),
        ("file", "missing/x", Err(Errno::Noent)),
        ("file", "../x", Err(Errno::Perm)),
        ("../x", "file", Err(Errno::Perm)),
        ("file", "up/x", Err(Errno::Perm)),
        ("file", "dir", Err(Errno::Isdir)),
        ("dir", "file", Err(Errno::Notdir)),
        ("empty", "dir", Err(Errno::Notempty)),
        ("dir", "dir/sub", Err(Errno::Inval)),
        ("dir/inner", "dir", Err(Errno::Notempty)),
        ("file", "x/", Err(Errno::Notdir)),
        ("file/", "x", Err(Errno::Notdir)),
        (".", "x", Err(Errno::Busy)),
        ("dir", ".", Err(Errno::Busy)),
        ("file", "hard", Ok(())),
        ("file", "file", Ok(())),
        ("dir", "empty", Ok(())),
        ("empty/", "dir/", Ok(())),
        ("file", "dir/inner", Ok(())),
        ("dangling", "moved-link", Ok(())),
    ];
    for &(old, new, expect) in cases {
        assert_eq!(g.rename(3, old, 3, new), expect, "{old} -> {new}");
    }
    assert_eq!(g.stat(3, "hard", true).unwrap().nlink, 2);
    assert_eq!(g.stat(3, "dir/inner", true).unwrap().size, 7);
    assert_eq!(g.stat(3, "moved-link", false).unwrap().filetype, 7);
    assert_eq!(g.stat(3, "file", true), Err(Errno::Noent));
    let dir = g.open(3, "dir", 0, R).unwrap();
    assert_eq!(g.rename(dir, "inner", 3, "out"), Ok(()));
    assert_eq!(g.rename(9, "inner", 3, "out"), Err(Errno::Badf));
}

fn listing_gives_every_name_whatever_the_size_of_the_buffer(g) {
    let expect = [".", "..", "dangling", "dir", "file", "loop", "to-dir", "to-file", "up"];
    for len in [48, 64, 100, 4096] {
        assert_eq!(g.readdir(3, len).unwrap(), expect, "{len}");
    }
    let (entries, used) = g.readdir_once(3, 4096, 0).unwrap();
    assert_eq!(u64::from(used), expect.iter().map(|name| 24 + name.len() as u64).sum::<u64>());
    assert_eq!(entries[0], (1, ".".into(), 3));
    assert_eq!(entries[1], (2, "..".into(), 3));
    assert_eq!(entries[3], (4, "dir".into(), 3));
    assert_eq!(entries[4], (5, "file".into(), 4));
    assert_eq!(entries[7], (8, "to-file".into(), 7));
    assert_eq!(g.u64(DATA + 8), g.stat(3, ".", true).unwrap().ino);
    // An entry that does not fit whole is cut, and the count says that the buffer is full.
    for len in [1, 23, 25, 49, 60] {
        assert_eq!(g.readdir_once(3, len, 0).unwrap().1, len as u32);
    }
    assert_eq!(g.readdir_once(3, 4096, 7).unwrap().0.len(), 2);
    assert_eq!(g.readdir_once(3, 4096, 9).unwrap(), (vec![], 0));
    assert_eq!(g.readdir_once(3, 4096, u64::MAX).unwrap(), (vec![], 0));
    let fd = g.open(3, "file", 0, R).unwrap();
    assert_eq!(g.readdir(fd, 100), Err(Errno::Badf));
    assert_eq!(g.errno("fd_readdir", &[3, (1 << 20) - 4, 100, 0, 16]), Errno::Fault);
}

fn a_listing_in_progress_keeps_its_place_while_files_go(g) {
    for i in 0..20 {
        g.create(3, &format!("dir/f{i:02}"), b"");
    }
    let dir = g.open(3, "dir", 0, R).unwrap();
    let (mut seen, mut cookie) = (Vec::new(), 0);
    loop {
        let (entries, used) = g.readdir_once(dir, 100, cookie).unwrap();
        for (next, name, _) in entries {
            cookie = next;
            if !name.starts_with('.') {
                g.unlink(dir, &name).unwrap();
                seen.push(name);
            }
        }
        if used < 100 {
            break;
        }
    }
    assert_eq!(seen.len(), 21);
    assert_eq!(g.rmdir(3, "dir"), Ok(()));
}

fn a_preopen_tells_its_name(g) {
    assert_eq!(g.errno("fd_prestat_get", &[3, 512]), Errno::Success);
    assert_eq!((g.mem[512], g.u32(516)), (0, 5));
    assert_eq!(g.errno("fd_prestat_dir_name", &[3, 600, 5]), Errno::Success);
    assert_eq!(g.bytes(600, 5), b"/data");
    assert_eq!(g.errno("fd_prestat_dir_name", &[3, 600, 4]), Errno::Nametoolong);
    assert_eq!(g.errno("fd_prestat_get", &[4, 512]), Errno::Badf);
    let dir = g.open(3, "dir", 0, R).unwrap();
    assert_eq!(g.errno("fd_prestat_get", &[dir.into(), 512]), Errno::Badf);
    assert_eq!(g.errno("fd_prestat_dir_name", &[dir.into(), 600, 9]), Errno::Notdir);
    let file = g.open(3, "file", 0, R).unwrap();
    // Files opened through a preopen survive its closing.
    g.close(3).unwrap();
    assert_eq!(g.mkdir(3, "x"), Err(Errno::Badf));
    assert_eq!(g.read(file, 3), Ok(b"con".to_vec()));
}

}

#[test]
fn nothing_can_be_changed_in_a_read_only_preopen() {
    fn check<H: Host>(g: &mut Guest<H>) {
        let file = g.open(3, "file", 0, R).unwrap();
        assert_eq!(g.read(file, 3), Ok(b"con".to_vec()));
        assert_eq!(g.open(3, "file", 0, RW), Err(Errno::Perm));
        assert_eq!(g.open(3, "file", TRUNC, R), Err(Errno::Perm));
        assert_eq!(g.open(3, "new", CREAT, R), Err(Errno::Perm));
        assert_eq!(g.errno("fd_filestat_set_size", &[file.into(), 0]), Errno::Perm);
        assert_eq!(g.errno("fd_filestat_set_times", &[file.into(), 0, 0, 1]), Errno::Perm);
        assert_eq!(g.set_times(3, "file", true, 0, 0, 1), Err(Errno::Perm));
        assert_eq!(g.mkdir(3, "new"), Err(Errno::Perm));
        assert_eq!(g.rmdir(3, "dir"), Err(Errno::Perm));
        assert_eq!(g.unlink(3, "file"), Err(Errno::Perm));
        assert_eq!(g.symlink("x", 3, "new"), Err(Errno::Perm));
        assert_eq!(g.link(3, "file", 3, "new"), Err(Errno::Perm));
        assert_eq!(g.rename(3, "file", 3, "new"), Err(Errno::Perm));
        let dir = g.open(3, "dir", 0, R).unwrap();
        assert_eq!(g.unlink(dir, "inner"), Err(Errno::Perm));
        assert_eq!(g.readdir(dir, 100).unwrap().len(), 3);
    }
    let mut volume = Volume::new();
    volume.write_file("file", b"content").unwrap();
    volume.write_file("dir/inner", b"inner").unwrap();
    let dir = tempfile::tempdir().unwrap();
    volume.store_dir(dir.path()).unwrap();
    check(&mut Guest::new(Ctx::builder().volume("/data", volume, true).build(), FakeHost::default()));
    check(&mut Guest::new(Ctx::builder().dir("/data", true).build(), linux(dir.path())));
}

#[test]
fn two_file_systems_are_two_devices() {
    let ctx = Ctx::builder().volume("/a", Volume::new(), false).volume("/b", Volume::new(), false).build();
    let mut g = Guest::new(ctx, FakeHost::default());
    g.create(3, "file", b"x");
    assert_eq!(g.rename(3, "file", 4, "file"), Err(Errno::Xdev));
    assert_eq!(g.link(3, "file", 4, "file"), Err(Errno::Xdev));
    g.create(4, "file", b"x");
    assert_ne!(g.stat(3, "file", true).unwrap().ino, g.stat(4, "file", true).unwrap().ino);
}

#[test]
fn a_volume_with_a_limit_is_full_at_it_and_has_room_again_after_unlinking() {
    let ctx = Ctx::builder().volume("/v", Volume::new().with_limit(3 * 4096), false).build();
    let mut g = Guest::new(ctx, FakeHost::default());
    let fd = g.open(3, "big", CREAT, RW).unwrap();
    assert_eq!(g.write(fd, &[1; 10_000]), Ok(8192));
    assert_eq!(g.write(fd, &[1; 10]), Err(Errno::Nospc));
    let mut g = g.moved(FakeHost::default());
    assert_eq!(g.write(fd, &[1; 10]), Err(Errno::Nospc));
    g.unlink(3, "big").unwrap();
    assert_eq!(g.open(3, "next", CREAT, RW).and_then(|fd| g.write(fd, b"x")), Err(Errno::Nospc));
    g.close(fd).unwrap();
    let fd = g.open(3, "next", CREAT, RW).unwrap();
    assert_eq!(g.write(fd, b"x"), Ok(1));
    // Empty files take room too.
    assert_eq!(g.mkdir(3, "d"), Ok(()));
    assert_eq!(g.mkdir(3, "e"), Err(Errno::Nospc));
    g.rmdir(3, "d").unwrap();
    assert_eq!(g.symlink("x", 3, "e"), Ok(()));
}

#[test]
fn a_named_pipe_in_a_host_directory_does_not_stop_the_host() {
    let dir = tempfile::tempdir().unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        dir.path().join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let mut g = Guest::new(Ctx::builder().dir("/data", false).build(), linux(dir.path()));
    let fd = g.open(3, "pipe", 0, R).unwrap();
    assert_eq!(g.read(fd, 1), Err(Errno::Spipe));
    assert_eq!(g.fdstat(fd).unwrap().0, 0);
}
