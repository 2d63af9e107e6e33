//! A task whose pages never come ends, and nothing is seen of what it did without them.

use super::late::{Source, faults, initial, possible, stopped};
use super::{endless_writer, host, image, start, while_running};
use std::sync::mpsc;
use std::time::Duration;
use wayfare_engine::{Error, Form, Image, Late, Outcome, Stopped, THREAD_STACK, Target, Task};
use wayfare_wasi::Ctx;

/// A program that counts for a while and then does something, moved without any of its pages.
fn late(what: &str, dir: &std::path::Path) -> (Task, Late, Source) {
    let wat = format!(
        r#"(module
          (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
          (memory (export "memory") 20)
          (data (i32.const 4094) "file")
          (data (i32.const 8192) "\00\50\00\00\00\10\00\00") (data (i32.const 20480) "bytes")
          (data (i32.const 12312) "\00\00\00\00\01") (data (i32.const 12320) "\00\00\00\00\00\00\00\10")
          (func (export "_start") (local $n i32)
            (if (call $open (i32.const 3) (i32.const 0) (i32.const 4094) (i32.const 4) (i32.const 1) (i64.const 66) (i64.const 66) (i32.const 0) (i32.const 1020))
              (then unreachable))
            (loop $l (br_if $l (i32.ne (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 100000000))))
            {what}))"#
    );
    let image = image(&wat, Form::Resume, &Target::host());
    let ctx = Ctx::builder().arg("test").dir("/d", false).build();
    let task = Task::start(&image, "test", ctx, host().dir("/d", dir, false)).unwrap();
    let initial = initial(&task);
    let source = Source::of(&mut stopped(task, Duration::from_millis(5)), &initial);
    let all = source.all();
    let arrival = source.arrival(&image, &all, || false);
    let (task, late) = arrival.finish_late(&source.state, host().dir("/d", dir, false), &all).unwrap();
    (task, late, source)
}

/// The task runs on a thread; what comes of it has to come soon.
fn running(mut task: Task) -> mpsc::Receiver<(Task, Outcome)> {
    let (sender, receiver) = mpsc::channel();
    let run = move || {
        let outcome = task.run();
        let _ = sender.send((task, outcome));
    };
    std::thread::Builder::new().stack_size(THREAD_STACK).spawn(run).unwrap();
    receiver
}

fn assert_lost(ended: &mpsc::Receiver<(Task, Outcome)>) -> Task {
    let (mut task, outcome) = ended.recv_timeout(Duration::from_secs(10)).expect("ends soon");
    assert!(matches!(outcome, Outcome::Trapped(Error::Lost)), "{outcome:?}");
    assert!(matches!(task.state(), Err(Error::Lost)));
    assert!(matches!(task.snapshot(), Err(Error::Lost)));
    assert!(matches!(task.handle().watch(), Err(Error::Watched)));
    assert!(task.handle().prepare_freeze().is_none());
    assert!(matches!(task.run(), Outcome::Trapped(Error::Lost)));
    assert!(matches!(task.handle().capture(), Ok(Stopped::Ended)));
    task
}

/// Where a task can be when it is lost: what it does then, and how many of its faults are served before.
const PLACES: [(&str, usize); 8] = [
    // In its own code; nothing is written by what comes after.
    (
        "(if (i32.eqz (i32.load (i32.const 40000))) (then (drop (call $write (i32.const 4) (i32.const 8192) (i32.const 1) (i32.const 1024)))))",
        0,
    ),
    // It would end well.
    ("(drop (i32.load (i32.const 40000)))", 0),
    ("(drop (i32.load (i32.const 40000))) (call $exit (i32.const 0))", 0),
    // It would go on for ever.
    ("(local.set $n (i32.load (i32.const 40000))) (loop $e (br $e))", 0),
    // In the engine's code.
    ("(memory.copy (i32.const 40000) (i32.const 80000) (i32.const 30000)) (loop $e (br $e))", 1),
    ("(memory.fill (i32.const 40000) (i32.const 1) (i32.const 30000)) (loop $e (br $e))", 1),
    // Before a call, waiting for the array of buffers; and for the buffer.
    ("(drop (call $write (i32.const 4) (i32.const 8192) (i32.const 1) (i32.const 1024)))", 0),
    ("(drop (call $write (i32.const 4) (i32.const 8192) (i32.const 1) (i32.const 1024)))", 2),
];

#[test]
fn a_task_whose_pages_never_come_ends_and_does_nothing_more() {
    if !possible() {
        return;
    }
    let dir = std::env::temp_dir().join(format!("wayfare-lost-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    for (what, served) in PLACES {
        let (task, mut late, source) = late(what, &dir);
        let ended = running(task);
        let mut told = 0;
        while told <= served {
            for range in faults(&mut late, Duration::from_secs(10)) {
                told += 1;
                if told <= served {
                    source.bring(&mut late, range);
                }
            }
        }
        // It does wait.
        assert!(ended.recv_timeout(Duration::from_millis(10)).is_err());
        drop(late);
        assert_lost(&ended);
        assert_eq!(std::fs::read(dir.join("file")).unwrap(), b"", "{what}");
    }
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_task_that_sleeps_while_it_is_lost_wakes_up_and_ends() {
    if !possible() {
        return;
    }
    let dir = std::env::temp_dir().join(format!("wayfare-lost-sleep-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let sleep = "(drop (call $poll (i32.const 12288) (i32.const 16384) (i32.const 1) (i32.const 16380))) (unreachable)";
    let (task, mut late, source) = late(sleep, &dir);
    let ended = running(task);
    // Of the array, the event and the count.
    let pages: u64 = faults(&mut late, Duration::from_secs(10))
        .into_iter()
        .map(|range| {
            source.bring(&mut late, range);
            range.count
        })
        .sum();
    assert_eq!(pages, 2);
    assert!(ended.recv_timeout(Duration::from_millis(50)).is_err());
    drop(late);
    assert_lost(&ended);
    std::fs::remove_dir_all(dir).unwrap();
}

fn moved(image: &Image) -> (Task, Late, Source) {
    let fresh = start(image);
    let initial = initial(&fresh);
    let source = Source::of(&mut stopped(fresh, Duration::from_millis(3)), &initial);
    let all = source.all();
    let (task, late) = source.arrival(image, &all, || false).finish_late(&source.state, host(), &all).unwrap();
    (task, late, source)
}

#[test]
fn a_task_that_is_lost_while_it_does_not_run_never_does() {
    if !possible() {
        return;
    }
    let image = image(&endless_writer(), Form::Resume, &Target::host());
    let (task, late, _) = moved(&image);
    drop(late);
    drop(assert_lost(&running(task)));
}

#[test]
fn whoever_waits_for_a_capture_of_a_lost_task_is_told_that_it_ended() {
    if !possible() {
        return;
    }
    let image = image(&endless_writer(), Form::Resume, &Target::host());
    for pause in 0..20 {
        let (task, mut late, source) = moved(&image);
        let (_, outcome, stopped) = while_running(task, |handle| {
            let handle = handle.clone();
            let capture = std::thread::spawn(move || handle.capture().unwrap());
            for range in faults(&mut late, Duration::from_secs(10)) {
                source.bring(&mut late, range);
            }
            std::thread::sleep(Duration::from_micros(pause * 20));
            drop(late);
            capture.join().unwrap()
        });
        // Unless it was quicker.
        match outcome {
            Outcome::Captured => assert_eq!(stopped, Stopped::Captured),
            Outcome::Trapped(Error::Lost) => assert_eq!(stopped, Stopped::Ended),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_capture_waits_for_the_page_that_the_task_waits_for() {
    if !possible() {
        return;
    }
    let image = image(&endless_writer(), Form::Resume, &Target::host());
    let (task, mut late, source) = moved(&image);
    let (mut task, outcome, ()) = while_running(task, |handle| {
        let told = faults(&mut late, Duration::from_secs(10));
        let capture = std::thread::spawn({
            let handle = handle.clone();
            move || handle.capture().unwrap()
        });
        std::thread::sleep(Duration::from_millis(20));
        assert!(!capture.is_finished());
        for range in told {
            source.bring(&mut late, range);
        }
        while !capture.is_finished() {
            // Perhaps another one before it gets to its loop's head.
            for range in faults(&mut late, Duration::from_millis(1)) {
                source.bring(&mut late, range);
            }
        }
        assert_eq!(capture.join().unwrap(), Stopped::Captured);
    });
    assert!(matches!(outcome, Outcome::Captured));
    assert!(matches!(task.state(), Err(Error::Incomplete)));
    // The rest comes while it stands still.
    for range in late.missing_pages() {
        source.bring(&mut late, range);
    }
    task.state().unwrap();
    drop(late);
    stopped(task, Duration::from_millis(1)).state().unwrap();
}
