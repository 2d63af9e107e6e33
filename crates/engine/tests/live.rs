//! What can be done with a task while it runs: watching its memory, limiting it, moving it, freezing it.

#[path = "live/arrival.rs"]
mod arrival;
#[path = "live/freeze.rs"]
mod freeze;
#[path = "live/late.rs"]
mod late;
#[path = "live/limits.rs"]
mod limits;
#[path = "live/lost.rs"]
mod lost;
#[path = "live/watch.rs"]
mod watch;
#[path = "live/work.rs"]
mod work;

use std::collections::BTreeMap;
use std::sync::mpsc;
use wayfare_engine::{Form, Handle, Image, Key, Options, Outcome, THREAD_STACK, Target, Task, Watch};
use wayfare_snapshot::{PAGE_SIZE, Pages, Snapshot};
use wayfare_wasi::std_host::{StdHost, StreamSource};
use wayfare_wasi::{Ctx, Stream};

/// Some data in the third page, and functions: a random number, and one step of a program that writes anywhere, and grows
/// its memory by a page every 4096 steps until it cannot.
const WRITER: &str = r#"
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 20 200)
  (data (i32.const 8190) "not all of it is zero")
  (global $x (mut i64) (i64.const 88172645463325252))
  (func $random (result i64)
    (global.set $x (i64.xor (global.get $x) (i64.shl (global.get $x) (i64.const 13))))
    (global.set $x (i64.xor (global.get $x) (i64.shr_u (global.get $x) (i64.const 7))))
    (global.set $x (i64.xor (global.get $x) (i64.shl (global.get $x) (i64.const 17))))
    (global.get $x))
  (func $anywhere (result i32)
    (i32.rem_u (i32.wrap_i64 (call $random)) (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 7))))
  (func $step (param $n i32)
    (i64.store (call $anywhere) (i64.mul (call $random) (i64.extend_i32_u (i32.and (local.get $n) (i32.const 1)))))
    (if (i32.eqz (i32.and (local.get $n) (i32.const 4095))) (then (drop (memory.grow (i32.const 1))))))
  (func $sum (result i32) (local $at i32) (local $sum i64)
    (loop $l
      (local.set $sum (i64.add (i64.mul (local.get $sum) (i64.const 31)) (i64.load (local.get $at))))
      (br_if $l (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.shl (memory.size) (i32.const 16)))))
    (i32.and (i32.wrap_i64 (local.get $sum)) (i32.const 0x7fffffff)))"#;

/// Runs for ever.
fn endless_writer() -> String {
    format!(
        r#"(module {WRITER} (func (export "_start") (local $n i32)
            (loop $l (call $step (local.get $n)) (local.set $n (i32.add (local.get $n) (i32.const 1))) (br $l))))"#
    )
}

/// Ends with the sum of its memory as status.
fn writer_of(steps: u32) -> String {
    format!(
        r#"(module {WRITER} (func (export "_start") (local $n i32)
            (loop $l
              (call $step (local.get $n))
              (br_if $l (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const {steps}))))
            (call $exit (call $sum))))"#
    )
}

fn image(wat: &str, form: Form, target: &Target) -> Image {
    let wasm = wat::parse_str(wat).expect("valid test module");
    let key = Key([3; 32]);
    let image = Image::compile(&wasm, target, Options::default(), form, false, &key).expect("compiles");
    Image::load(&image, &key).expect("was compiled here")
}

fn host() -> StdHost {
    StdHost::new().expect("a host").stream(Stream::Stdin, StreamSource::Null)
}

fn start(image: &Image) -> Task {
    Task::start(image, "test", Ctx::builder().arg("test").build(), host()).expect("starts")
}

/// Runs a task until it ends or is captured, and does something with its handle meanwhile, on this thread.
fn while_running<R>(mut task: Task, work: impl FnOnce(&Handle) -> R) -> (Task, Outcome, R) {
    let handle = task.handle();
    let (sender, receiver) = mpsc::channel();
    let run = move || {
        let outcome = task.run();
        let _ = sender.send((task, outcome));
    };
    let thread = std::thread::Builder::new().stack_size(THREAD_STACK).spawn(run).expect("a thread");
    let result = work(&handle);
    let (task, outcome) = receiver.recv().expect("the task's thread ended well");
    thread.join().expect("the task's thread ended well");
    (task, outcome, result)
}

/// Runs a task to its end.
fn status(task: Task) -> u32 {
    match while_running(task, |_| ()).1 {
        Outcome::Exited(status) => status,
        other => panic!("{other:?}"),
    }
}

/// A copy of a task's memories, kept up to date by a watch.
#[derive(Clone, Default)]
struct Mirror(BTreeMap<u32, Vec<u8>>);

impl Mirror {
    /// Of a task that has not run: as the module says.
    fn of(watch: &mut Watch) -> Mirror {
        let mut mirror = Mirror::default();
        for (memory, size) in watch.sizes() {
            let mut bytes = vec![0; size as usize];
            assert!(watch.read(memory, 0, &mut bytes));
            mirror.0.insert(memory, bytes);
        }
        mirror
    }

    /// Copies what was written, and says how many pages that were.
    fn update(&mut self, watch: &mut Watch) -> u64 {
        let mut pages = 0;
        for range in watch.dirty() {
            let bytes = self.0.entry(range.memory).or_default();
            let (from, len) = (range.first as usize * PAGE_SIZE, range.count as usize * PAGE_SIZE);
            bytes.resize(bytes.len().max(from + len), 0);
            assert!(watch.read(range.memory, range.first, &mut bytes[from..from + len]));
            pages += range.count;
        }
        pages
    }

    /// Whether it is what a task that began with `initial` has in its memories.
    fn assert_is(&self, initial: &Mirror, snapshot: &Snapshot<'_>) {
        for memory in &snapshot.memories {
            let mut truth = initial.0[&memory.index].clone();
            truth.resize(memory.size as usize, 0);
            for run in &memory.runs {
                let at = run.first_page as usize * PAGE_SIZE;
                match &run.pages {
                    Pages::Bytes(bytes) => truth[at..at + bytes.len()].copy_from_slice(bytes),
                    Pages::Zero(count) => truth[at..at + *count as usize * PAGE_SIZE].fill(0),
                }
            }
            let mut mine = self.0[&memory.index].clone();
            mine.resize(truth.len(), 0);
            let page = (0..truth.len() / PAGE_SIZE).find(|p| {
                let page = p * PAGE_SIZE..(p + 1) * PAGE_SIZE;
                mine[page.clone()] != truth[page]
            });
            assert_eq!(page, None, "page of memory {} that differs", memory.index);
        }
    }
}

fn random(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut x = seed | 1;
    move |below| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x % below
    }
}
