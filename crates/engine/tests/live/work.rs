//! The work that a task has done is a number of its program's, whatever was done to it on the way.

use super::{host, image, start, while_running};
use std::time::Duration;
use wayfare_engine::{Form, Handle, Image, Outcome, Stopped, Target, Task};
use wayfare_instrument::meta::PointKind;
use wayfare_snapshot::{Compression, Header, Limits, encode, open};

/// Turns in a plain loop, in one in chunks, and in one that recursion covers; then sleeps for an hour.
const SLEEPER: &str = r#"(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func $fib (param $n i32) (result i32)
    (if (result i32) (i32.lt_u (local.get $n) (i32.const 2)) (then (local.get $n))
      (else (i32.add (call $fib (i32.sub (local.get $n) (i32.const 1))) (call $fib (i32.sub (local.get $n) (i32.const 2)))))))
  (func (export "_start") (local $i i32) (local $x i32)
    (loop $plain
      (local.set $x (i32.add (i32.mul (local.get $x) (i32.const 1103515245)) (i32.const 12345)))
      (local.set $i (i32.add (local.get $i) (i32.and (i32.shr_u (local.get $x) (i32.const 16)) (i32.const 1))))
      (br_if $plain (i32.lt_u (local.get $i) (i32.const 200000))))
    (loop $chunks
      (i32.store (i32.const 256) (i32.add (i32.load (i32.const 256)) (local.get $i)))
      (br_if $chunks (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
    (loop $covered
      (drop (call $fib (local.get $i)))
      (br_if $covered (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 22))))
    (i32.store (i32.const 16) (i32.const 1))
    (i64.store (i32.const 24) (i64.const 3600000000000))
    (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))))"#;

fn captured_after(task: Task, delay: Duration) -> Task {
    let capture = |handle: &Handle| {
        std::thread::sleep(delay);
        assert_eq!(handle.capture().unwrap(), Stopped::Captured);
    };
    let (task, outcome, ()) = while_running(task, capture);
    assert!(matches!(outcome, Outcome::Captured), "{outcome:?}");
    task
}

/// Captures a task again and again until it sleeps, in place or each time in a task of its own.
fn captured_asleep(mut task: Task, image: &Image, delay: Duration, moves: bool) -> Task {
    let mut before = 0;
    loop {
        task = captured_after(task, delay);
        let work = task.work();
        assert!(work >= before, "{work} after {before}");
        before = work;
        if !task.can_go_on() {
            task.go_over(image).unwrap();
            assert_eq!(task.work(), work, "the image to resume carries it on");
        }
        let snapshot = task.snapshot().unwrap();
        let frames = image.metadata().frames(&snapshot.frames).unwrap();
        let innermost = frames.last().unwrap();
        let asleep = matches!(innermost.function.points[innermost.point].kind, PointKind::HostCall(_));
        if moves {
            let bytes = encode(&snapshot, Compression::default()).unwrap();
            assert_eq!(Header::parse(&bytes).unwrap().progress, work);
            task = Task::resume(image, &open(&bytes, &Limits::default()).unwrap(), host()).unwrap();
            assert_eq!((task.work(), task.handle().work()), (work, work));
        } else {
            task.unpause();
        }
        if asleep {
            return task;
        }
    }
}

#[test]
fn a_call_that_is_issued_again_is_no_more_work() {
    let (starts, resumes) =
        (image(SLEEPER, Form::Start, &Target::host()), image(SLEEPER, Form::Resume, &Target::host()));
    let undisturbed = captured_asleep(start(&starts), &resumes, Duration::from_millis(300), false);
    let handle = undisturbed.handle();
    let work = handle.work();
    // Turns of the plain loop, which are about twice as many, and of the one in chunks, and of the recursion.
    assert!((600_000..700_000).contains(&work), "{work}");
    for (micros, moves) in [(50, false), (100, true), (700, false), (1000, true)] {
        let mut task = captured_asleep(start(&starts), &resumes, Duration::from_micros(micros), moves);
        for _ in 0..3 {
            assert_eq!(task.work(), work, "captures {micros} us apart, moved: {moves}");
            task = captured_asleep(task, &resumes, Duration::from_millis(1), moves);
        }
    }
}
