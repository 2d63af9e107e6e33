//! A task that runs before its pages have come ends as one that had them all along.

use super::{Mirror, endless_writer, host, image, random, start, status, while_running, writer_of};
use rustix::event::{PollFd, PollFlags, Timespec};
use std::time::{Duration, Instant};
use wayfare_engine::{Arrival, Error, Form, Image, Late, Limits, Outcome, PageRange, Target, Task};
use wayfare_snapshot::{MemoryState, PAGE_SIZE, PageRun, Pages, Snapshot};
use wayfare_wasi::Ctx;
use wayfare_wasi::std_host::StdHost;

/// A task that was stopped: its state, and all of its first memory.
pub struct Source {
    pub state: Snapshot<'static>,
    pub memory: Vec<u8>,
    /// Pages that are not as the module says.
    pub changed: Vec<PageRange>,
}

impl Source {
    /// `initial` is what the module says.
    pub fn of(task: &mut Task, initial: &[u8]) -> Source {
        let snapshot = task.snapshot().unwrap();
        let (mut memory, mut changed) = (initial.to_vec(), Vec::new());
        memory.resize(snapshot.memories[0].size as usize, 0);
        for run in &snapshot.memories[0].runs {
            let (first, at) = (run.first_page, run.first_page as usize * PAGE_SIZE);
            match &run.pages {
                Pages::Bytes(bytes) => memory[at..at + bytes.len()].copy_from_slice(bytes),
                Pages::Zero(count) => memory[at..at + *count as usize * PAGE_SIZE].fill(0),
            }
            changed.push(PageRange { memory: 0, first, count: run.page_count() });
        }
        task.unpause();
        Source { state: task.state().unwrap(), memory, changed }
    }

    pub fn all(&self) -> Vec<PageRange> {
        vec![PageRange { memory: 0, first: 0, count: (self.memory.len() / PAGE_SIZE) as u64 }]
    }

    fn bytes(&self, range: PageRange) -> &[u8] {
        &self.memory[range.first as usize * PAGE_SIZE..][..range.count as usize * PAGE_SIZE]
    }

    pub fn bring(&self, late: &mut Late, range: PageRange) {
        let bytes = self.bytes(range);
        if bytes.iter().all(|b| *b == 0) {
            late.zero(range.memory, range.first, range.count).unwrap();
        } else {
            late.write(range.memory, range.first, bytes).unwrap();
        }
    }

    /// An arrival that has all pages but the late ones, and there what has gone stale since.
    pub fn arrival(&self, image: &Image, late: &[PageRange], mut stale: impl FnMut() -> bool) -> Arrival {
        let mut arrival = Arrival::new(image, Limits::default()).unwrap();
        arrival.grow(0, self.memory.len() as u64).unwrap();
        for range in &self.changed {
            arrival.write(0, range.first, self.bytes(*range)).unwrap();
        }
        for page in late.iter().flat_map(|range| range.first..range.first + range.count) {
            if stale() {
                arrival.write(0, page, &[0xee; PAGE_SIZE]).unwrap();
            }
        }
        arrival
    }
}

/// Not every kernel lets us, and no emulator does.
pub fn possible() -> bool {
    let possible = Arrival::can_be_late();
    if !possible {
        println!("this kernel does not let us");
    }
    possible
}

/// The first memory of a task that has not run.
pub fn initial(task: &Task) -> Vec<u8> {
    Mirror::of(&mut task.handle().watch().unwrap()).0.remove(&0).unwrap()
}

/// Runs a task for a while and stops it.
pub fn stopped(task: Task, after: Duration) -> Task {
    let (task, outcome, _) = while_running(task, |handle| {
        while handle.ran() < after {
            std::thread::sleep(Duration::from_micros(100));
        }
        handle.capture().unwrap()
    });
    assert!(matches!(outcome, Outcome::Captured), "{outcome:?}");
    task
}

/// Waits for a fault.
pub fn faults(late: &mut Late, patience: Duration) -> Vec<PageRange> {
    let timeout = Timespec::try_from(patience).unwrap();
    let fd = late.fd().try_clone_to_owned().unwrap();
    let _ = rustix::event::poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout));
    late.faults()
}

type Finish = fn(Arrival, &Snapshot<'_>, StdHost, &[PageRange]) -> Result<(Task, Late), Error>;
const BOTH: [Finish; 2] = [Arrival::finish_late, Arrival::finish_late_unprivileged];

/// Brings all pages, in an order that nobody could foresee, some of them several times, and the second time wrongly.
fn serve(source: &Source, late: &mut Late, random: &mut impl FnMut(u64) -> u64) -> u64 {
    let (mut told, mut before) = (0, late.missing());
    while before > 0 {
        let wait = if random(3) == 0 { Duration::from_micros(200) } else { Duration::ZERO };
        let mut ranges = faults(late, wait);
        told += ranges.len() as u64;
        if random(8) == 0 {
            // Somebody has to wait a little.
            std::thread::sleep(Duration::from_micros(random(300)));
        }
        let missing = late.missing_pages();
        if let Some(range) = missing.get(random(missing.len() as u64 + 1) as usize) {
            let skip = random(range.count);
            let count = (1 + random(16)).min(range.count - skip);
            ranges.push(PageRange { first: range.first + skip, count, ..*range });
        }
        for range in ranges {
            // With what is next to it, if it has come or not.
            let first = range.first - random(3).min(range.first);
            let pages = (source.memory.len() / PAGE_SIZE) as u64;
            let count = (range.first - first + range.count + random(3)).min(pages - first);
            let wide = PageRange { memory: 0, first, count };
            source.bring(late, wide);
            late.write(0, first, &vec![0xdd; count as usize * PAGE_SIZE]).unwrap();
            late.zero(0, first, count).unwrap();
            assert!(late.missing_pages().iter().all(|r| r.first + r.count <= first || first + count <= r.first));
        }
        assert!(late.missing() <= before);
        before = late.missing();
    }
    assert_eq!(late.missing_pages(), []);
    told
}

#[test]
fn a_task_that_runs_before_its_pages_come_ends_as_an_unmoved_one() {
    if !possible() {
        return;
    }
    let image = image(&writer_of(6_000_000), Form::Resume, &Target::host());
    let expect = status(start(&image));
    let mut random = random(5);
    for finish in BOTH {
        let mut task = start(&image);
        let initial = initial(&task);
        let mut faults = 0;
        for turn in 0..4 {
            task = stopped(task, Duration::from_millis(2));
            let source = Source::of(&mut task, &initial);
            // All that has changed, a part of it, or really everything; in the first turns much is stale.
            let mut late = if turn == 2 { source.all() } else { source.changed.clone() };
            if turn == 3 {
                late = late
                    .iter()
                    .flat_map(|r| (r.first..r.first + r.count).map(|first| PageRange { first, count: 1, ..*r }))
                    .collect();
                late.retain(|_| random(2) == 0);
            }
            let mut arrival = source.arrival(&image, &late, || turn < 3 && random(2) == 0);
            // Some of it may have been dropped before.
            let early: Vec<_> = late.iter().copied().filter(|_| random(2) == 0).collect();
            arrival.forget(&early).unwrap();
            let beyond = PageRange { memory: 0, first: u64::MAX, count: u64::MAX };
            arrival.forget(&[beyond]).unwrap();
            arrival.forget(&[PageRange { memory: 9, ..beyond }]).unwrap_err();
            let pages: u64 = late.iter().map(|r| r.count).sum();
            let began = Instant::now();
            let (next, mut rest) = finish(arrival, &source.state, host(), &late).unwrap();
            println!("{} ranges, {pages} pages: finished in {:?}", late.len(), began.elapsed());
            assert_eq!(rest.missing(), pages);
            let (next, outcome, told) = while_running(next, |handle| {
                let told = serve(&source, &mut rest, &mut random);
                assert_eq!(rest.faults(), []);
                drop(handle.watch().unwrap());
                handle.capture().unwrap();
                told
            });
            println!("{told} faults");
            assert!(matches!(outcome, Outcome::Captured), "{outcome:?}");
            // On a busy machine all may have come before it has touched one: not every time.
            faults += told;
            task = next;
        }
        assert!(faults > 0);
        assert_eq!(status(task), expect);
    }
}

#[test]
fn a_task_without_all_of_its_pages_is_not_captured_watched_or_exchanged() {
    if !possible() {
        return;
    }
    let image = image(&endless_writer(), Form::Resume, &Target::host());
    let fresh = start(&image);
    let initial = initial(&fresh);
    let mut source = Source::of(&mut stopped(fresh, Duration::from_millis(3)), &initial);
    // What the module says is another memory than the program's.
    source.state.memories[0].size = source.memory.len() as u64;
    let last = PageRange { first: source.memory.len() as u64 / 4096 - 1, count: 1, memory: 0 };
    let arrival = source.arrival(&image, &[last], || false);
    let (mut task, mut late) = arrival.finish_late(&source.state, host(), &[last]).unwrap();
    let handle = task.handle();
    assert!(matches!(task.state(), Err(Error::Incomplete)));
    assert!(matches!(task.snapshot(), Err(Error::Incomplete)));
    assert!(matches!(task.go_over(&image), Err(Error::Incomplete)));
    assert!(matches!(handle.watch(), Err(Error::Watched)));
    assert!(handle.prepare_freeze().is_none());
    assert!(handle.memory() == source.memory.len() as u64);
    source.bring(&mut late, last);
    assert_eq!(late.missing(), 0);
    drop(handle.watch().unwrap());
    drop(handle.prepare_freeze());
    let again = Source::of(&mut task, &initial);
    assert!(again.memory == source.memory);
    task.go_over(&image).unwrap();
    drop(late);
    stopped(task, Duration::from_millis(1)).state().unwrap();
}

#[test]
fn damaged_ranges_and_pages_are_refused() {
    if !possible() {
        return;
    }
    let image = image(&endless_writer(), Form::Resume, &Target::host());
    let fresh = start(&image);
    let initial = initial(&fresh);
    let source = Source::of(&mut stopped(fresh, Duration::from_millis(3)), &initial);
    let pages = (source.memory.len() / PAGE_SIZE) as u64;
    let misfit = |r: Result<(), Error>| assert!(matches!(r, Err(Error::Misfit(_))), "{r:?}");
    let finish = |late: &[PageRange]| source.arrival(&image, &[], || false).finish_late(&source.state, host(), late);
    let range = |memory, first, count| PageRange { memory, first, count };
    for bad in [
        range(1, 0, 1),
        range(u32::MAX, 0, 1),
        range(0, 0, 0),
        range(0, pages, 1),
        range(0, pages - 1, 2),
        range(0, 1, u64::MAX),
        range(0, u64::MAX, 1),
        range(0, u64::MAX, u64::MAX),
        range(0, 1 << 52, 1),
    ] {
        misfit(finish(&[range(0, 3, 1), bad]).map(drop));
        misfit(finish(&[bad, range(0, 3, 1)]).map(drop));
    }
    // One that the state brings.
    let mut state = source.state.clone();
    state.memories[0].runs = vec![PageRun::bytes(8, vec![1; 2 * PAGE_SIZE])];
    misfit(source.arrival(&image, &[], || false).finish_late(&state, host(), &[range(0, 9, 1)]).map(drop));
    // Those that overlap are the same pages.
    let (task, mut late) = finish(&[range(0, 5, 4), range(0, 2, 1), range(0, 3, 4), range(0, 5, 1)]).unwrap();
    assert_eq!(late.missing_pages(), [range(0, 2, 7)]);
    let page = [1; PAGE_SIZE];
    for bad in [pages, u64::MAX, u64::MAX / PAGE_SIZE as u64, 1 << 52] {
        misfit(late.write(0, bad, &page));
        misfit(late.zero(0, bad, 1));
    }
    misfit(late.write(1, 0, &page));
    misfit(late.zero(1, 0, 1));
    misfit(late.zero(0, 0, u64::MAX));
    misfit(late.zero(0, pages - 1, 2));
    misfit(late.write(0, pages - 1, &[1; 2 * PAGE_SIZE]));
    misfit(late.write(0, 3, &page[1..]));
    misfit(late.write(0, 3, &[1; PAGE_SIZE + 1]));
    late.write(0, 3, &[]).unwrap();
    late.zero(0, 3, 0).unwrap();
    assert_eq!(late.missing(), 7);
    drop(late);
    drop(task);
    let (mut task, late) = finish(&[]).unwrap();
    assert_eq!(late.missing(), 0);
    task.state().unwrap();
}

#[test]
fn pages_of_zeros_hide_the_modules_data_and_take_no_memory_elsewhere() {
    if !possible() {
        return;
    }
    let image = image(&endless_writer(), Form::Resume, &Target::host());
    let fresh = start(&image);
    let mut truth = initial(&fresh);
    let source = Source::of(&mut stopped(fresh, Duration::from_millis(2)), &truth);
    truth.resize(200 << 16, 0);
    let state =
        Snapshot { memories: vec![MemoryState { index: 0, size: 200 << 16, runs: vec![] }], ..source.state.clone() };
    let mut arrival = Arrival::new(&image, Limits::default()).unwrap();
    arrival.grow(0, 200 << 16).unwrap();
    let all = [PageRange { memory: 0, first: 1, count: 3199 }];
    let (mut task, mut late) = arrival.finish_late(&state, host(), &all).unwrap();
    late.zero(0, 0, 100).unwrap();
    late.zero(0, 340, 2860).unwrap();
    // Across the end of what the module says, which lies between two mappings.
    late.write(0, 100, &[3; 240 * PAGE_SIZE]).unwrap();
    assert_eq!(late.missing(), 0);
    // Of those that are zero, only the ones in the module's own memory are there.
    let runs = &task.snapshot().unwrap().memories[0].runs;
    assert_eq!(runs.iter().map(|r| (r.first_page, r.page_count())).collect::<Vec<_>>(), [(1, 339)]);
    let Pages::Bytes(bytes) = &runs[0].pages else { panic!("bytes") };
    assert!(bytes[..99 * PAGE_SIZE].iter().all(|b| *b == 0));
    assert!(bytes[99 * PAGE_SIZE..].iter().all(|b| *b == 3));
}

#[test]
fn a_task_may_go_while_its_pages_are_on_their_way() {
    if !possible() {
        return;
    }
    let image = image(&endless_writer(), Form::Resume, &Target::host());
    let fresh = start(&image);
    let initial = initial(&fresh);
    let source = Source::of(&mut stopped(fresh, Duration::from_millis(3)), &initial);
    for seed in 0..20 {
        let late = source.all();
        let (task, mut rest) =
            source.arrival(&image, &late, || false).finish_late(&source.state, host(), &late).unwrap();
        // The driver does not notice for a while.
        let driver = std::thread::spawn({
            let memory = source.memory.clone();
            move || {
                let mut random = random(seed);
                for _ in 0..200 {
                    let first = random(300);
                    rest.write(0, first, &memory[first as usize * PAGE_SIZE..][..16 * PAGE_SIZE]).unwrap();
                    rest.zero(0, 0, 1).unwrap();
                    rest.faults();
                }
                rest
            }
        });
        std::thread::sleep(Duration::from_micros(seed * 50));
        drop(task);
        let mut rest = driver.join().unwrap();
        assert_eq!((rest.missing(), rest.missing_pages(), rest.faults()), (0, vec![], vec![]));
    }
}

/// Calls the host in all ways that touch memory. Each pointer is to a page of its own, or to the border of two.
fn caller() -> String {
    let mut calls = String::new();
    let mut imports = String::new();
    let mut data = String::new();
    let mut page = 8;
    let mut call = |name: &str, args: &[&str]| {
        let mut given = String::new();
        for arg in args {
            // `*`: a place for a result, across two pages; `"`: a string there, and its length; `[`: a buffer there.
            let at = page * 4096 - 2;
            let given_here = if *arg == "*" {
                page += 3;
                format!("(i32.const {at})")
            } else if let Some(text) = arg.strip_prefix('"') {
                page += 3;
                data += &format!("(data (i32.const {at}) \"{text}\")");
                format!("(i32.const {at}) (i32.const {})", text.len())
            } else if let Some(len) = arg.strip_prefix('[') {
                // Its first is empty, and it begins four bytes before a border; the buffer has some pages.
                let len: u32 = len.parse().unwrap();
                let (array, buffer) = (page * 4096 - 12, (page + 2) * 4096 - 9);
                page += 5 + len / 4096;
                let bytes: String =
                    buffer.to_le_bytes().iter().chain(&len.to_le_bytes()).map(|b| format!("\\{b:02x}")).collect();
                data += &format!("(data (i32.const {}) \"{bytes}\")(data (i32.const {buffer}) \"written\")", array + 8);
                format!("(i32.const {array}) (i32.const 2)")
            } else {
                format!("({arg})")
            };
            given += &given_here;
        }
        calls +=
            &format!("(local.set $sum (i32.add (i32.mul (local.get $sum) (i32.const 31)) (call ${name} {given})))\n");
        let import = wayfare_wasi::Function::from_name(name).unwrap();
        let params: String =
            import.params().iter().map(|p| if *p == wayfare_wasi::ValType::I32 { " i32" } else { " i64" }).collect();
        let import =
            format!("(import \"wasi_snapshot_preview1\" \"{name}\" (func ${name} (param{params}) (result i32)))\n");
        if !imports.contains(&import) {
            imports += &import;
        }
    };
    let (n, big) = (|n: i32| format!("i32.const {n}"), |n: i64| format!("i64.const {n}"));
    let (zero, dir, file, far) = (n(0), n(3), n(4), big(0x1fffff));
    call("args_sizes_get", &["*", "*"]);
    call("args_get", &["*", "*"]);
    call("environ_sizes_get", &["*", "*"]);
    call("environ_get", &["*", "*"]);
    call("clock_res_get", &[&n(1), "*"]);
    call("clock_time_get", &[&n(1), &big(0), "*"]);
    call("fd_fdstat_get", &[&dir, "*"]);
    call("fd_prestat_get", &[&dir, "*"]);
    call("fd_prestat_dir_name", &[&dir, "\"longenough"]);
    call("path_create_directory", &[&dir, "\"made"]);
    call("path_open", &[&dir, &zero, "\"file", &n(1), &big(66), &far, &zero, "*"]);
    call("fd_write", &[&file, "[30000", "*"]);
    call("fd_pwrite", &[&file, "[5000", &big(30000), "*"]);
    call("fd_seek", &[&file, &big(-4), &n(1), "*"]);
    call("fd_read", &[&file, "[9000", "*"]);
    call("fd_pread", &[&file, "[9000", &big(0), "*"]);
    call("fd_tell", &[&file, "*"]);
    call("fd_filestat_get", &[&file, "*"]);
    call("path_link", &[&dir, &zero, "\"file", &dir, "\"link"]);
    call("path_symlink", &["\"file", &dir, "\"symlink"]);
    call("path_readlink", &[&dir, "\"symlink", "\"room for a link", "*"]);
    call("path_filestat_get", &[&dir, &zero, "\"link", "*"]);
    call("path_filestat_set_times", &[&dir, &zero, "\"link", &big(7), &big(7), &n(5)]);
    call("path_rename", &[&dir, "\"link", &dir, "\"other"]);
    call("path_unlink_file", &[&dir, "\"other"]);
    call("path_remove_directory", &[&dir, "\"made"]);
    call("fd_readdir", &[&dir, "\"room for some of the entries", &big(0), "*"]);
    call("random_get", &["\"some room"]);
    call("poll_oneoff", &["*", "*", &n(1), "*"]);
    call("sock_accept", &[&dir, &zero, "*"]);
    call("sock_recv", &[&dir, "[5000", &zero, "*", "*"]);
    call("sock_send", &[&dir, "[5000", &zero, "*"]);
    format!(
        r#"(module {imports} (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
          (memory (export "memory") 40) {data}
          (func (export "_start") (local $sum i32) (local $n i32)
            (loop $l (br_if $l (i32.ne (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 300000000))))
            {calls} (call $exit (local.get $sum))))"#
    )
}

#[test]
fn calls_of_the_host_wait_for_the_pages_they_touch() {
    if !possible() {
        return;
    }
    let image = image(&caller(), Form::Resume, &Target::host());
    let base = std::env::temp_dir().join(format!("wayfare-late-{}", std::process::id()));
    let begin = |name: &str| {
        let dir = base.join(name);
        std::fs::create_dir_all(&dir).unwrap();
        let ctx = Ctx::builder().arg("test").arg("another").env("A", "b").dir("/d", false).build();
        let task = Task::start(&image, "test", ctx, host().dir("/d", &dir, false)).unwrap();
        (task, dir)
    };
    let (task, unmoved) = begin("unmoved");
    let expect = status(task);
    for (place, finish) in BOTH.into_iter().enumerate() {
        let (task, dir) = begin(&place.to_string());
        let initial = initial(&task);
        let source = Source::of(&mut stopped(task, Duration::from_millis(5)), &initial);
        let all = source.all();
        let arrival = source.arrival(&image, &all, || true);
        let (task, mut late) = finish(arrival, &source.state, host().dir("/d", &dir, false), &all).unwrap();
        let (task, outcome, told) = while_running(task, |_| {
            let mut told = Vec::new();
            let mut last = Instant::now();
            while last.elapsed() < Duration::from_secs(1) {
                for range in faults(&mut late, Duration::from_millis(10)) {
                    last = Instant::now();
                    std::thread::sleep(Duration::from_micros(200));
                    source.bring(&mut late, range);
                    told.push(range);
                }
            }
            told
        });
        assert!(matches!(outcome, Outcome::Exited(status) if status == expect), "{outcome:?}");
        println!(
            "{} of {} told, {} at once at most",
            told.len(),
            late.missing(),
            told.iter().map(|r| r.count).max().unwrap()
        );
        // Of all that the calls touched, nothing was touched before it had come.
        assert_eq!(late.unforeseen(), 0);
        assert!(late.missing() > 0);
        drop(task);
        let content = |dir: &std::path::Path| std::fs::read(dir.join("file")).unwrap();
        assert!(
            content(&dir) == content(&unmoved) && content(&dir).len() == 35000 && content(&dir).starts_with(b"written")
        );
    }
    std::fs::remove_dir_all(base).unwrap();
}

#[test]
fn the_border_between_threads_is_crossed() {
    fn send<T: Send>() {}
    send::<Late>();
}

/// Reads a word of each page of 64 MiB.
fn reader(initial: u32) -> Image {
    let wat = r#"(module
      (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
      (memory (export "memory") INITIAL)
      (func (export "_start") (local $at i32) (local $n i32) (local $sum i32)
        (drop (memory.grow (i32.sub (i32.const 1024) (memory.size))))
        (loop $l (br_if $l (i32.ne (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 300000000))))
        (loop $r
          (local.set $sum (i32.add (local.get $sum) (i32.load (local.get $at))))
          (br_if $r (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 4096))) (i32.const 0x4000000))))
        (call $exit (local.get $sum))))"#;
    image(&wat.replace("INITIAL", &initial.to_string()), Form::Resume, &Target::host())
}

#[test]
#[ignore = "a measurement"]
fn what_late_pages_cost() {
    if !possible() {
        return;
    }
    for pages in [1, 1024] {
        println!("{pages} pages of 64 KiB are the module's own");
        measure(&reader(pages));
    }
}

fn measure(image: &Image) {
    let fresh = start(image);
    let initial = initial(&fresh);
    let mut source = Source::of(&mut stopped(fresh, Duration::from_millis(3)), &initial);
    source.memory.fill(1);
    let all = source.all();
    for chunk in [1, 16, 256] {
        let (task, mut late) = source.arrival(image, &all, || false).finish_late(&source.state, host(), &all).unwrap();
        let (_, _, (faults, took)) = while_running(task, |_| {
            let (mut began, mut count) = (Instant::now(), 0);
            while late.missing() > 0 {
                for range in faults(&mut late, Duration::from_secs(10)) {
                    if count == 0 {
                        began = Instant::now();
                    }
                    count += 1;
                    source.bring(&mut late, PageRange { count: chunk.min(16384 - range.first), ..range });
                }
            }
            (count, began.elapsed())
        });
        println!("{chunk} pages at each fault: {faults} faults, {:?} each", took / faults);
    }
    for chunk in [1, 16, 256] {
        let (task, mut late) = source.arrival(image, &all, || false).finish_late(&source.state, host(), &all).unwrap();
        let began = Instant::now();
        for first in (0..16384).step_by(chunk) {
            late.write(0, first, &source.memory[..chunk * PAGE_SIZE]).unwrap();
        }
        assert_eq!(late.missing(), 0);
        let took = began.elapsed();
        println!("write of {chunk} pages: {:.0} MiB/s", 64.0 / took.as_secs_f64());
        let began = Instant::now();
        drop(task);
        println!("dropped in {:?}", began.elapsed());
    }
    for (gap, pages) in [(1, 8192), (3, 4096), (63, 256), (0, 16384)] {
        let late: Vec<_> = match gap {
            0 => all.clone(),
            gap => (0..pages).map(|n| PageRange { memory: 0, first: n * (gap + 1), count: 1 }).collect(),
        };
        for stale in [false, true] {
            let arrival = source.arrival(image, &late, || stale);
            let began = Instant::now();
            let (task, mut rest) = arrival.finish_late(&source.state, host(), &late).unwrap();
            let took = began.elapsed();
            let began = Instant::now();
            for range in &late {
                source.bring(&mut rest, *range);
            }
            println!("{} ranges, stale: {stale}: finished in {took:?}, brought in {:?}", late.len(), began.elapsed());
            drop(task);
        }
    }
}
