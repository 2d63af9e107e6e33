//! Limits are what the guest sees, and nobody else.

use super::{host, image, start, status, while_running};
use wayfare_engine::{Arrival, Error, Form, Limits, Outcome, Stopped, Target, Task};
use wayfare_snapshot::{Compression, Limits as SnapshotLimits};

const EXIT: &str = r#"(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))"#;

fn limits(memory: u64, table_elements: u64) -> Limits {
    Limits { memory: Some(memory), table_elements: Some(table_elements) }
}

/// Grows two memories and a table while it can, and says how far it came.
fn greedy() -> String {
    format!(
        r#"(module {EXIT}
          (memory (export "memory") 2) (memory $b 1 20) (table $t 3 funcref)
          (func (export "_start") (local $n i32)
            (loop $l
              (drop (memory.grow $b (i32.const 1)))
              (drop (table.grow $t (ref.null func) (i32.const 10)))
              (br_if $l (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
            (call $exit (i32.add
              (i32.add (i32.mul (memory.size) (i32.const 1000000)) (i32.mul (memory.size $b) (i32.const 10000)))
              (table.size $t)))))"#
    )
}

#[test]
fn growth_ends_at_the_limit() {
    let image = image(&greedy(), Form::Resume, &Target::host());
    for (memory, elements, expect) in [
        (10 << 16, 33, 5_050_033),
        // A part of a page is none.
        ((10 << 16) + 65535, 32, 5_050_023),
        (11 << 16, 1000, 6_050_053),
        (100 << 16, 1000, 80_200_793),
        (3 << 16, 3, 2_010_003),
    ] {
        let mut task = start(&image);
        task.limit(limits(memory, elements)).unwrap();
        assert_eq!(status(task), expect, "{memory} bytes, {elements} elements");
    }
}

#[test]
fn limits_below_the_beginning_are_refused() {
    let image = image(&greedy(), Form::Resume, &Target::host());
    let mut task = start(&image);
    for too_small in [limits((3 << 16) - 1, 3), limits(3 << 16, 2)] {
        assert!(matches!(task.limit(too_small), Err(Error::TooLarge { .. })));
        assert!(matches!(Arrival::new(&image, too_small), Err(Error::TooLarge { .. })));
    }
}

/// Goes down far, and waits there until it is captured: its saved frames take megabytes. Then grows what it may.
fn deep() -> String {
    format!(
        r#"(module {EXIT}
          (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
          (memory (export "memory") 1)
          (global $turns (mut i32) (i32.const 0))
          (func $down (param $n i32) (result i32)
            (if (i32.eqz (local.get $n))
              (then (loop $l
                (global.set $turns (i32.add (global.get $turns) (i32.const 1)))
                (drop (call $yield))
                (br_if $l (i32.ne (global.get $turns) (i32.const 3000000)))) (return (i32.const 0))))
            (i32.add (i32.const 1) (call $down (i32.sub (local.get $n) (i32.const 1)))))
          (func (export "_start") (local $n i32)
            (local.set $n (call $down (i32.const 60000)))
            (loop $l (br_if $l (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
            (call $exit (i32.add (local.get $n) (memory.size)))))"#
    )
}

#[test]
fn saved_frames_do_not_count() {
    let image = image(&deep(), Form::Resume, &Target::host());
    let mut task = start(&image);
    task.limit(limits(5 << 16, 0)).unwrap();
    let mut captures = 0;
    // Often: what a capture takes of its own must not add up, nor be forgotten when it is resumed in place.
    let end = loop {
        let (back, outcome, stopped) = while_running(task, |handle| {
            if captures > 5 {
                return Stopped::Ended;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
            handle.capture().unwrap()
        });
        task = back;
        match outcome {
            Outcome::Captured => assert_eq!(stopped, Stopped::Captured),
            Outcome::Exited(status) => break status,
            Outcome::Trapped(e) => panic!("{e}"),
        }
        captures += 1;
        assert!(task.snapshot().unwrap().frames.len() > 60000 * 8);
        if captures % 2 == 0 {
            let bytes = wayfare_snapshot::encode(&task.snapshot().unwrap(), Compression::Lz4).unwrap();
            let packed = wayfare_snapshot::open(&bytes, &SnapshotLimits::default()).unwrap();
            task = Task::resume(&image, &packed, host()).unwrap();
            task.limit(limits(5 << 16, 0)).unwrap();
        } else {
            task.unpause();
            if captures % 3 == 0 {
                task.go_over(&image).unwrap();
            }
        }
    };
    assert!(captures > 3);
    assert_eq!(end, 60005);
}
