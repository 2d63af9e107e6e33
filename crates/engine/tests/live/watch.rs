//! A watch finds every page that was written, and survives whatever the task does.

use super::{Mirror, endless_writer, host, image, random, start, status, while_running, writer_of};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use wayfare_engine::{Error, Form, Handle, Method, Options, Outcome, PageRange, Stopped, Target, Task, Watch};
use wayfare_snapshot::PAGE_SIZE;
use wayfare_wasi::Ctx;

type Begin = fn(&Handle) -> Result<Watch, Error>;
const BOTH: [Begin; 2] = [Handle::watch, Handle::watch_by_comparison];

#[test]
fn written_pages_are_told_exactly() {
    // Writes to its pages 1 (image), 5, 9, 10 and, in the other memory, 3; nothing else.
    let wat = r#"(module
      (memory (export "memory") 2) (memory $other 1)
      (data (i32.const 4096) "image") (data (i32.const 20000) "image")
      (func (export "_start") (local $n i32)
        (loop $l
          (i32.store (i32.const 4200) (local.get $n))
          (i32.store (i32.const 20480) (local.get $n))
          (i32.store (i32.const 40958) (local.get $n))
          (i32.store $other (i32.const 16380) (local.get $n))
          (local.set $n (i32.add (local.get $n) (i32.const 1)))
          (br $l))))"#;
    let image = image(wat, Form::Resume, &Target::host());
    for begin in BOTH {
        let (mut task, outcome, ()) = while_running(start(&image), |handle| {
            let mut watch = begin(handle).unwrap();
            assert_eq!(watch.sizes(), [(0, 131072), (1, 65536)]);
            // All of these pages and no other, as soon as the guest has had its turn.
            let told = |watch: &mut Watch| {
                let mut told = BTreeSet::new();
                while told.len() < 5 {
                    told.extend(watch.dirty().iter().flat_map(|r| (r.first..r.first + r.count).map(|p| (r.memory, p))));
                    std::thread::sleep(Duration::from_millis(1));
                }
                assert_eq!(told, BTreeSet::from([(0, 1), (0, 5), (0, 9), (0, 10), (1, 3)]));
            };
            for _ in 0..20 {
                told(&mut watch);
            }
            let mut page = [0; PAGE_SIZE];
            assert!(watch.read(0, 4, &mut page) && page[20000 - 16384..].starts_with(b"image"));
            assert!(!watch.read(0, 32, &mut page) && !watch.read(2, 0, &mut page));
            assert!(!watch.read(0, u64::MAX, &mut page) && !watch.read(1, u64::MAX / 4096, &mut page));
            assert_eq!(handle.capture().unwrap(), Stopped::Captured);
            // What was written between the last time and the capture; and after it nothing. Looking takes nothing away.
            let written = |watch: &Watch| {
                let look = |memory, first, count| watch.written(PageRange { memory, first, count });
                Some([look(0, 0, 32)?, look(1, 0, 16)?].concat())
            };
            let (looked, again) = (written(&watch), written(&watch));
            let dirty = watch.dirty();
            assert!(dirty.len() <= 4 && looked == again);
            assert!(looked.is_none_or(|looked| looked == dirty));
            assert_eq!(watch.dirty(), []);
            assert!(written(&watch).is_none_or(|written| written.is_empty()));
            assert_eq!(watch.written(PageRange { memory: 0, first: u64::MAX, count: 1 }).unwrap_or_default(), []);
        });
        assert!(matches!(outcome, Outcome::Captured));
        let memories = task.snapshot().unwrap().memories;
        assert_eq!(
            memories[0].runs.iter().map(|r| (r.first_page, r.page_count())).collect::<Vec<_>>(),
            [(1, 1), (5, 1), (9, 2)]
        );
    }
}

#[test]
fn copies_made_while_the_task_writes_end_equal() {
    let image = image(&endless_writer(), Form::Resume, &Target::host());
    for (begin, millis) in BOTH.into_iter().zip([8, 30]) {
        let mut random = random(5);
        let mut task = start(&image);
        let mut watch = begin(&task.handle()).unwrap();
        let initial = Mirror::of(&mut watch);
        let mut mirror = initial.clone();
        for round in 0..12 {
            let outcome;
            (task, outcome, ()) = while_running(task, |handle| {
                let until = Instant::now() + Duration::from_millis(random(millis * 4));
                while Instant::now() < until {
                    mirror.update(&mut watch);
                    std::thread::sleep(Duration::from_micros(random(800)));
                }
                assert_eq!(handle.capture().unwrap(), Stopped::Captured);
            });
            assert!(matches!(outcome, Outcome::Captured), "{outcome:?}");
            let snapshot = task.snapshot().unwrap();
            assert_eq!(watch.sizes(), snapshot.memories.iter().map(|m| (m.index, m.size)).collect::<Vec<_>>());
            mirror.update(&mut watch);
            mirror.assert_is(&initial, &snapshot);
            assert_eq!(mirror.update(&mut watch), 0, "round {round}: it stands still");
            task.unpause();
        }
        assert!(watch.sizes()[0].1 > 20 << 16, "it grew");
    }
}

#[test]
fn scattered_pages_are_not_lost() {
    // From so few writes on that most written pages stand alone, and more of them than the kernel tells of in one go.
    let wat = endless_writer().replace(" 20 200)", " 200 200)");
    let image = image(&wat, Form::Resume, &Target::host());
    let mut random = random(9);
    for _ in 0..150 {
        let task = start(&image);
        let mut watch = task.handle().watch().unwrap();
        let initial = Mirror::of(&mut watch);
        let mut mirror = initial.clone();
        let (mut task, _, ()) = while_running(task, |handle| {
            std::thread::sleep(Duration::from_millis(random(5)));
            for _ in 0..3 {
                mirror.update(&mut watch);
            }
            handle.capture().unwrap();
        });
        mirror.update(&mut watch);
        mirror.assert_is(&initial, &task.snapshot().unwrap());
    }
}

#[test]
fn one_watch_at_a_time() {
    let image = image(&writer_of(10), Form::Resume, &Target::host());
    let task = start(&image);
    let handle = task.handle();
    for begin in BOTH {
        let first = begin(&handle).unwrap();
        assert!(matches!(handle.watch(), Err(Error::Watched)));
        assert!(handle.prepare_freeze().is_none());
        drop(first);
    }
    let mut watch = handle.watch().unwrap();
    watch.dirty();
    drop(task);
    assert_eq!((watch.sizes(), watch.dirty()), (vec![], vec![]));
    assert!(!watch.read(0, 0, &mut [0; 8]));
}

#[test]
fn what_cannot_be_captured_cannot_be_watched() {
    let wasm = wat::parse_str(writer_of(10)).unwrap();
    let key = wayfare_engine::Key([3; 32]);
    let bytes = wayfare_engine::Image::compile_plain(&wasm, &Target::host(), Options::default(), &key).unwrap();
    let image = wayfare_engine::Image::load(&bytes, &key).unwrap();
    let task = Task::start(&image, "test", Ctx::builder().build(), host()).unwrap();
    assert!(matches!(task.handle().watch(), Err(Error::Unmovable(_))));
}

#[test]
fn a_watch_survives_ends_and_exchanges() {
    let (starts, resumes) = (writer_of(3_000_000), writer_of(3_000_000));
    let resumes = image(&resumes, Form::Resume, &Target::host());
    let starts = image(&starts, Form::Start, &Target::host());
    let expect = status(start(&resumes));
    for begin in BOTH {
        let mut task = start(&starts);
        let handle = task.handle();
        let mut watch = begin(&handle).unwrap();
        let initial = Mirror::of(&mut watch);
        let method = watch.method();
        let mut rounds = 0;
        std::thread::scope(|scope| {
            let watching = scope.spawn(move || {
                // Until the task is dropped: nothing else makes its memories go.
                let mut mirror = Mirror::default();
                while !watch.sizes().is_empty() {
                    for range in watch.dirty() {
                        let mut bytes = vec![0; range.count as usize * PAGE_SIZE];
                        // It may be dropped, and then only, in the middle of this.
                        assert!(watch.read(range.memory, range.first, &mut bytes) || watch.sizes().is_empty());
                    }
                    mirror.0.clear();
                }
                assert_eq!(watch.dirty(), []);
            });
            loop {
                let outcome;
                (task, outcome, ()) = while_running(task, |handle| {
                    std::thread::sleep(Duration::from_millis(3));
                    let _ = handle.capture().unwrap();
                });
                match outcome {
                    Outcome::Captured => {}
                    Outcome::Exited(status) => break assert_eq!(status, expect),
                    Outcome::Trapped(e) => panic!("{e}"),
                }
                rounds += 1;
                // A fresh instance each time, at another address.
                task.go_over(&resumes).unwrap();
            }
            drop(task);
            watching.join().unwrap();
        });
        assert!(rounds > 3, "{method:?}: {rounds}");
        drop(initial);
    }
}

#[test]
fn a_watch_goes_on_with_the_memory_after_an_exchange() {
    let wat = endless_writer();
    let (starts, resumes) = (image(&wat, Form::Start, &Target::host()), image(&wat, Form::Resume, &Target::host()));
    for begin in BOTH {
        let mut task = start(&starts);
        let mut watch = begin(&task.handle()).unwrap();
        let initial = Mirror::of(&mut watch);
        for image in [&resumes, &resumes] {
            (task, _, _) = while_running(task, |handle| {
                std::thread::sleep(Duration::from_millis(10));
                watch.dirty();
                handle.capture().unwrap()
            });
            task.go_over(image).unwrap();
        }
        // All is told again: a copy that begins now is whole.
        let mut mirror = initial.clone();
        mirror.update(&mut watch);
        mirror.assert_is(&initial, &task.snapshot().unwrap());
        assert_eq!(mirror.update(&mut watch), 0);
    }
}

#[test]
fn the_kernel_helps_where_it_can() {
    let image = image(&writer_of(10), Form::Resume, &Target::host());
    let task = start(&image);
    let mut watch = task.handle().watch().unwrap();
    watch.dirty();
    println!("method here: {:?}", watch.method());
    if std::fs::read_to_string("/proc/sys/kernel/osrelease").is_ok_and(|r| r.starts_with("6.18")) {
        assert_eq!(watch.method(), Method::Kernel);
    }
}
