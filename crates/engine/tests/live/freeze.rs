//! A snapshot that is copied while the task runs on is the state at the instant of the stop.

use super::{endless_writer, host, image, random, start, status, while_running, writer_of};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use wayfare_engine::{Form, Freezer, Frozen, Image, Outcome, Stopped, THREAD_STACK, Target, Task};
use wayfare_snapshot::Snapshot;
use wayfare_wasi::Ctx;

/// What the task's thread does at a stop: takes what was prepared, and answers.
struct Stop {
    frozen: Frozen,
    plain: Option<Snapshot<'static>>,
    pause: Duration,
    /// Without what other threads took of the processor.
    work: Duration,
}

/// Time that this thread has run for.
fn on_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(stat.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or_default())
}

/// Runs a task, and at each capture freezes what comes over the channel.
fn serve(mut task: Task, freezers: &mpsc::Receiver<Freezer>, stops: &mpsc::Sender<Stop>, compare: bool) -> Outcome {
    loop {
        match task.run() {
            Outcome::Captured => {
                let Ok(freezer) = freezers.recv() else { return Outcome::Captured };
                let (stopped, before) = (Instant::now(), on_cpu());
                let frozen = freezer.frozen(&mut task).unwrap();
                let (pause, work) = (stopped.elapsed(), on_cpu() - before);
                let plain = compare.then(|| task.snapshot().unwrap().into_owned());
                task.unpause();
                let _ = stops.send(Stop { frozen, plain, pause, work });
            }
            other => return other,
        }
    }
}

fn freezes(task: Task, count: u32, compare: bool, mut each: impl FnMut(Stop)) {
    let handle = task.handle();
    let (freezers, incoming) = mpsc::channel();
    let (outgoing, stops) = mpsc::channel();
    let run = move || serve(task, &incoming, &outgoing, compare);
    let thread = std::thread::Builder::new().stack_size(THREAD_STACK).spawn(run).unwrap();
    let mut random = random(3);
    for _ in 0..count {
        std::thread::sleep(Duration::from_millis(random(20)));
        let Some(freezer) = handle.prepare_freeze() else {
            println!("this kernel does not let us");
            break;
        };
        freezers.send(freezer).unwrap();
        if handle.capture().unwrap() == Stopped::Ended {
            return;
        }
        each(stops.recv().unwrap());
    }
    drop(freezers);
    handle.capture().unwrap();
    assert!(matches!(thread.join().unwrap(), Outcome::Captured));
}

fn assert_same(frozen: &Snapshot<'_>, plain: &Snapshot<'_>) {
    assert_eq!(frozen.memories.len(), plain.memories.len());
    for (a, b) in frozen.memories.iter().zip(&plain.memories) {
        let pages = |m: &wayfare_snapshot::MemoryState<'_>| m.runs.iter().map(|r| r.page_count()).sum::<u64>();
        assert!(a == b, "memory {}: {} and {} pages", a.index, pages(a), pages(b));
    }
    assert_eq!((&frozen.frames, &frozen.globals, &frozen.tables), (&plain.frames, &plain.globals, &plain.tables));
    frozen.check().unwrap();
}

#[test]
fn a_frozen_snapshot_is_the_state_at_the_stop() {
    let image = image(&endless_writer(), Form::Resume, &Target::host());
    let mut written = Vec::new();
    freezes(start(&image), 12, true, |stop| {
        assert!(stop.frozen.while_running());
        let frozen = stop.frozen.collect().unwrap();
        assert_same(&frozen, &stop.plain.unwrap());
        written.push(frozen.memories[0].size >> 16);
    });
    println!("sizes at the stops: {written:?}");
    assert!(written.is_sorted());
}

#[test]
fn a_frozen_snapshot_resumes_and_so_does_its_origin() {
    let image = image(&writer_of(15_000_000), Form::Resume, &Target::host());
    let expect = status(start(&image));
    let task = start(&image);
    let handle = task.handle();
    let (freezers, incoming) = mpsc::channel();
    let (outgoing, stops) = mpsc::channel();
    let run = move || serve(task, &incoming, &outgoing, false);
    let thread = std::thread::Builder::new().stack_size(THREAD_STACK).spawn(run).unwrap();
    std::thread::sleep(Duration::from_millis(10));
    if let Some(freezer) = handle.prepare_freeze() {
        freezers.send(freezer).unwrap();
        if handle.capture().unwrap() == Stopped::Captured {
            let snapshot = stops.recv().unwrap().frozen.collect().unwrap();
            let bytes = wayfare_snapshot::encode(&snapshot, wayfare_snapshot::Compression::Lz4).unwrap();
            let packed = wayfare_snapshot::open(&bytes, &wayfare_snapshot::Limits::default()).unwrap();
            assert_eq!(status(Task::resume(&image, &packed, host()).unwrap()), expect);
        }
    }
    drop(freezers);
    assert!(matches!(thread.join().unwrap(), Outcome::Exited(status) if status == expect));
}

#[test]
fn a_freeze_that_is_not_needed_does_no_harm() {
    let image = image(&endless_writer(), Form::Resume, &Target::host());
    let (mut task, _, freezer) = while_running(start(&image), |handle| {
        for _ in 0..10 {
            // Dropped while the task runs.
            drop(handle.prepare_freeze());
            drop(handle.watch().unwrap().dirty());
        }
        let freezer = handle.prepare_freeze();
        handle.capture().unwrap();
        freezer
    });
    // The memory has become another.
    task.go_over(&image).unwrap();
    if let Some(freezer) = freezer {
        let frozen = freezer.frozen(&mut task).unwrap();
        assert!(!frozen.while_running());
        assert_same(&frozen.collect().unwrap(), &task.snapshot().unwrap());
    }
    // The task goes, and the freezer has not noticed.
    let (task, _, freezer) = while_running(task, |handle| {
        let freezer = handle.prepare_freeze();
        handle.capture().unwrap();
        freezer
    });
    drop(task);
    drop(freezer);
    // The task goes while its pages are being copied.
    let (mut task, _, freezer) = while_running(start(&image), |handle| {
        let freezer = handle.prepare_freeze();
        handle.capture().unwrap();
        freezer
    });
    if let Some(freezer) = freezer {
        let plain = task.snapshot().unwrap().into_owned();
        let frozen = freezer.frozen(&mut task).unwrap();
        drop(task);
        assert_same(&frozen.collect().unwrap(), &plain);
    }
}

#[test]
fn the_kernel_may_write_to_frozen_pages() {
    // Reads a file into its memory, over and over, with the kernel's own hand, and grows.
    let wat = r#"(module
      (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "fd_seek" (func $seek (param i32 i64 i32 i32) (result i32)))
      (memory (export "memory") 20 400)
      (data (i32.const 16) "data")
      (func (export "_start") (local $at i32)
        (if (call $open (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 4) (i32.const 0) (i64.const 6) (i64.const 6) (i32.const 0) (i32.const 32))
          (then unreachable))
        (i32.store (i32.const 52) (i32.const 20000))
        (loop $l
          (local.set $at (i32.add (local.get $at) (i32.const 12344)))
          (if (i32.gt_u (local.get $at) (i32.const 1200000)) (then (local.set $at (i32.const 4096))))
          (i32.store (i32.const 48) (local.get $at))
          (if (call $read (i32.load (i32.const 32)) (i32.const 48) (i32.const 1) (i32.const 56)) (then unreachable))
          (if (i32.ne (i32.load (i32.const 56)) (i32.const 20000)) (then unreachable))
          (i64.store (i32.add (local.get $at) (i32.const 777)) (i64.extend_i32_u (local.get $at)))
          (if (call $seek (i32.load (i32.const 32)) (i64.const 0) (i32.const 0) (i32.const 64)) (then unreachable))
          (br $l))))"#;
    let image = image(wat, Form::Resume, &Target::host());
    let dir = std::env::temp_dir().join(format!("wayfare-freeze-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let bytes: Vec<u8> = (0..20000u32).map(|i| ((i * i) >> 3) as u8).collect();
    std::fs::write(dir.join("data"), bytes).unwrap();
    let ctx = Ctx::builder().arg("test").dir("/d", false).build();
    let task = Task::start(&image, "test", ctx, host().dir("/d", &dir, false)).unwrap();
    freezes(task, 10, true, |stop| assert_same(&stop.frozen.collect().unwrap(), &stop.plain.unwrap()));
    std::fs::remove_dir_all(dir).unwrap();
}

/// Writes to 256 MiB in an order that no cache likes, for ever.
fn large() -> Image {
    let wat = r#"(module (memory (export "memory") 4096)
      (func (export "_start") (local $x i32) (local $n i32)
        (loop $fill
          (i32.store (local.get $x) (i32.const 1))
          (br_if $fill (i32.lt_u (local.tee $x (i32.add (local.get $x) (i32.const 4096))) (i32.const 0x10000000))))
        (loop $l
          (local.set $x (i32.and (i32.add (i32.mul (local.get $x) (i32.const 1664525)) (i32.const 1013904223)) (i32.const 0x0ffffff8)))
          (i32.store (local.get $x) (local.tee $n (i32.add (local.get $n) (i32.const 1))))
          (br $l))))"#;
    image(wat, Form::Resume, &Target::host())
}

#[test]
#[ignore = "a measurement"]
fn the_pause_of_a_large_task() {
    let image = large();
    let task = start(&image);
    let handle = task.handle();
    let (freezers, incoming) = mpsc::channel();
    let (outgoing, stops) = mpsc::channel();
    let run = move || serve(task, &incoming, &outgoing, false);
    let thread = std::thread::Builder::new().stack_size(THREAD_STACK).spawn(run).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    for _ in 0..10 {
        let began = Instant::now();
        let freezer = handle.prepare_freeze().expect("a kernel that can");
        let prepared = began.elapsed();
        freezers.send(freezer).unwrap();
        handle.capture().unwrap();
        let captured = began.elapsed() - prepared;
        let stop = stops.recv().unwrap();
        let snapshot = stop.frozen.collect().unwrap();
        let pages: u64 = snapshot.memories[0].runs.iter().map(|r| r.page_count()).sum();
        println!(
            "{} MiB: prepared {prepared:?}, until captured {captured:?}, stood still {:?} ({:?} of work), all {:?}",
            pages >> 8,
            stop.pause,
            stop.work,
            began.elapsed()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    drop(freezers);
    handle.capture().unwrap();
    thread.join().unwrap();
}

#[test]
#[ignore = "a measurement"]
fn what_a_watch_of_a_large_task_costs() {
    let image = large();
    while_running(start(&image), |handle| {
        std::thread::sleep(Duration::from_millis(500));
        for begin in [wayfare_engine::Handle::watch, wayfare_engine::Handle::watch_by_comparison] {
            let mut watch = begin(handle).unwrap();
            for _ in 0..4 {
                let began = Instant::now();
                let dirty = watch.dirty();
                let told = began.elapsed();
                let mut page = vec![0; 1 << 20];
                for range in &dirty {
                    let mut at = range.first;
                    while at < range.first + range.count {
                        let pages = (range.first + range.count - at).min(256);
                        assert!(watch.read(0, at, &mut page[..pages as usize * 4096]));
                        at += pages;
                    }
                }
                let pages: u64 = dirty.iter().map(|r| r.count).sum();
                println!("{:?}: {pages} pages told in {told:?}, read in {:?}", watch.method(), began.elapsed() - told);
            }
        }
        handle.capture().unwrap();
    });
}
