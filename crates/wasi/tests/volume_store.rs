//! Volumes from and to directories of the host.
#![cfg(feature = "std")]

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use support::*;
use wayfare_wasi::{Ctx, Errno, StoreError, Volume};

fn guest(volume: Volume) -> Guest<FakeHost> {
    Guest::new(
        Ctx::builder().volume("/v", volume, false).build(),
        FakeHost { realtime: 7_000_000_000, ..FakeHost::default() },
    )
}

fn stored(g: &Guest<FakeHost>, dir: &Path) {
    g.ctx.volumes().next().unwrap().1.store_dir(dir).unwrap();
}

#[test]
fn a_tree_comes_back_as_it_went() {
    let from = tempfile::tempdir().unwrap();
    fs::create_dir_all(from.path().join("a/b")).unwrap();
    fs::write(from.path().join("a/b/file"), vec![5; 10_000]).unwrap();
    fs::hard_link(from.path().join("a/b/file"), from.path().join("hard")).unwrap();
    symlink("a/b", from.path().join("link")).unwrap();
    symlink("/etc/passwd", from.path().join("absolute")).unwrap();
    fs::File::create(from.path().join("sparse")).unwrap().set_len(1 << 32).unwrap();
    fs::write(from.path().join("empty"), b"").unwrap();

    let volume = Volume::load_dir(from.path()).unwrap();
    assert_eq!(volume.stored_bytes(), 3 * 4096);
    let mut g = guest(volume).moved(FakeHost::default());
    assert_eq!(g.stat(3, "hard", true).unwrap().nlink, 2);
    assert_eq!(g.stat(3, "sparse", true).unwrap().size, 1 << 32);
    assert_eq!(g.readlink(3, "absolute"), Err(Errno::Perm));
    assert_eq!(g.open(3, "absolute", 0, R), Err(Errno::Perm));

    let to = tempfile::tempdir().unwrap();
    let target = to.path().join("new/dir");
    stored(&g, &target);
    assert_eq!(fs::read(target.join("link/file")).unwrap(), vec![5; 10_000]);
    assert_eq!(fs::metadata(target.join("hard")).unwrap().ino(), fs::metadata(target.join("a/b/file")).unwrap().ino());
    let sparse = fs::metadata(target.join("sparse")).unwrap();
    assert!(sparse.len() == 1 << 32 && sparse.blocks() < 100);
    assert_eq!(fs::read_link(target.join("absolute")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(fs::read_dir(&target).unwrap().count(), 6);
    // Once more over itself changes nothing.
    let before = fs::metadata(target.join("a/b/file")).unwrap();
    stored(&g, &target);
    let after = fs::metadata(target.join("a/b/file")).unwrap();
    assert_eq!((before.len(), before.mtime()), (after.len(), after.mtime()));
    assert_eq!(fs::read_dir(&target).unwrap().count(), 6);
}

#[test]
fn what_the_task_changed_is_stored_and_what_others_added_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    for name in ["kept", "changed", "removed", "turned", "old-dir/removed"] {
        fs::create_dir_all(path(name).parent().unwrap()).unwrap();
        fs::write(path(name), name).unwrap();
    }
    fs::set_permissions(path("changed"), fs::Permissions::from_mode(0o640)).unwrap();
    let kept = fs::metadata(path("kept")).unwrap().ino();
    let mut g = guest(Volume::load_dir(dir.path()).unwrap());
    g.create(3, "changed", b"by the task");
    g.unlink(3, "removed").unwrap();
    g.unlink(3, "turned").unwrap();
    g.mkdir(3, "turned").unwrap();
    g.create(3, "turned/new", b"new");
    g.unlink(3, "old-dir/removed").unwrap();
    g.rmdir(3, "old-dir").unwrap();
    let mut g = g.moved(FakeHost::default());
    fs::write(path("foreign"), "foreign").unwrap();
    fs::write(path("old-dir/foreign"), "foreign").unwrap();
    stored(&g, dir.path());

    assert_eq!(fs::read(path("changed")).unwrap(), b"by the task");
    assert_eq!(fs::metadata(path("changed")).unwrap().mode() & 0o777, 0o640);
    assert_eq!(fs::metadata(path("changed")).unwrap().mtime(), 7);
    assert_eq!(fs::metadata(path("kept")).unwrap().ino(), kept);
    assert!(!path("removed").exists() && !path("old-dir/removed").exists());
    assert_eq!(fs::read(path("turned/new")).unwrap(), b"new");
    assert!(path("foreign").exists() && path("old-dir/foreign").exists());
    // Same size, other content.
    g.create(3, "kept", b"KEPT");
    stored(&g, dir.path());
    assert_eq!(fs::read(path("kept")).unwrap(), b"KEPT");
}

#[test]
fn a_link_in_the_way_is_replaced_and_never_written_through() {
    let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(outside.path().join("victim"), "safe").unwrap();
    symlink(outside.path(), dir.path().join("d")).unwrap();
    symlink(outside.path().join("victim"), dir.path().join("f")).unwrap();
    let mut volume = Volume::new();
    volume.write_file("d/victim", b"volume").unwrap();
    volume.write_file("f", b"volume").unwrap();
    volume.store_dir(dir.path()).unwrap();
    assert_eq!(fs::read(outside.path().join("victim")).unwrap(), b"safe");
    assert_eq!(fs::read(dir.path().join("d/victim")).unwrap(), b"volume");
    assert_eq!(fs::read(dir.path().join("f")).unwrap(), b"volume");
}

#[test]
fn what_cannot_be_in_a_volume_is_refused_by_name() {
    use std::os::unix::ffi::OsStrExt as _;
    let dir = tempfile::tempdir().unwrap();
    let bad = dir.path().join(std::ffi::OsStr::from_bytes(b"\xff"));
    fs::write(&bad, "").unwrap();
    assert!(matches!(Volume::load_dir(dir.path()), Err(StoreError::NotUtf8 { .. })));
    fs::remove_file(&bad).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
    match Volume::load_dir(dir.path()) {
        Err(StoreError::Special { path }) => assert_eq!(path, dir.path().join("socket")),
        other => panic!("{other:?}"),
    }
    match Volume::load_dir(&dir.path().join("missing")) {
        Err(StoreError::Io { path, .. }) => assert_eq!(path, dir.path().join("missing/")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn files_can_be_put_in_and_taken_out_without_a_guest() {
    let mut volume = Volume::new();
    volume.write_file("a/b/c", b"one").unwrap();
    volume.write_file("a/b/c", b"2").unwrap();
    assert_eq!(volume.read_file("a/b/c").unwrap(), b"2");
    assert_eq!(volume.read_file("a/b"), Err(Errno::Isdir));
    assert_eq!(volume.read_file("x"), Err(Errno::Noent));
    assert_eq!(volume.write_file("../x", b""), Err(Errno::Perm));
    assert_eq!(volume.with_limit(0).write_file("more", b"x"), Err(Errno::Nospc));
}
