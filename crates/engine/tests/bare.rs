//! A task on a board goes on on another one as if nothing had been.
#![cfg(feature = "compile")]

use wayfare_engine::bare::{Arrival, Board, Task};
use wayfare_engine::{Form, Image, Key, Limits, Options, Outcome, Target};
use wayfare_wasi::{Ctx, Errno, Host, Interest, Source, Stream, Wait, Woken};

/// A board on which nothing is but memory.
struct Bare;

impl Board for Bare {
    fn is_wanted(&self) -> bool {
        false
    }

    fn populate(&mut self, _bytes: &[u8]) -> bool {
        true
    }

    fn clear(&mut self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
}

impl Host for Bare {
    fn realtime(&mut self) -> u64 {
        0
    }

    fn monotonic(&mut self) -> u64 {
        0
    }

    fn entropy(&mut self, _buf: &mut [u8]) -> Result<(), Errno> {
        Err(Errno::Nosys)
    }

    fn is_terminal(&mut self, _stream: Stream) -> bool {
        false
    }

    fn stdin_read(&mut self, _buf: &mut [u8]) -> Result<usize, Errno> {
        Ok(0)
    }

    fn stream_write(&mut self, _stream: Stream, bytes: &[u8]) -> Result<usize, Errno> {
        Ok(bytes.len())
    }

    fn is_ready(&mut self, _source: Source, _interest: Interest) -> bool {
        false
    }

    fn wait(&mut self, _wait: &Wait) -> Woken {
        Woken::TimedOut
    }
}

const WASM_PAGE: u64 = 65536;

/// Its memory grows to eight pages, then it turns for a while, then it touches the last byte for the first time.
const GROWS: &str = r#"
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start") (local $i i32)
    (drop (memory.grow (i32.const 7)))
    (loop $turn
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $turn (i32.lt_u (local.get $i) (i32.const 100000))))
    (i32.store8 (i32.const 524287) (i32.const 7))
    (call $exit (i32.load8_u (i32.const 524287)))))
"#;

#[test]
fn memory_that_grew_after_the_offer_and_was_not_touched_is_there() {
    let key = Key([7; 32]);
    let wasm = wat::parse_str(GROWS).unwrap();
    let image = Image::compile(&wasm, &Target::host(), Options::default(), Form::Resume, false, &key).unwrap();
    let image = Image::load(&image, &key).unwrap();
    let mut task = Task::start(&image, "t", Ctx::builder().build(), Bare, Limits::default()).unwrap();
    let trigger = task.trigger();
    // Until it has grown: each time it is stopped at the next point at which that is possible.
    for _ in 0..100 {
        trigger.fire();
        assert!(matches!(task.run(), Outcome::Captured));
        if task.places()[0].size as u64 == 8 * WASM_PAGE {
            break;
        }
        task.unpause();
    }
    let snapshot = task.state().unwrap();
    assert_eq!((snapshot.memories[0].size, snapshot.memories[0].runs.len()), (8 * WASM_PAGE, 0));
    // What the offer said.
    let mut arrival = Arrival::new(&image, Bare, Limits::default()).unwrap();
    arrival.grow(0, WASM_PAGE).unwrap();
    let mut there = arrival.finish(&snapshot).unwrap();
    assert_eq!(there.places()[0].size as u64, 8 * WASM_PAGE);
    assert!(matches!(there.run(), Outcome::Exited(7)));
}
