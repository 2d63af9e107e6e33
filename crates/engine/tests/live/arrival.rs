//! A task that was moved while it ran ends as an unmoved one, and nothing that a peer sends does harm.

use super::{endless_writer, host, image, random, start, status, while_running, writer_of};
use std::time::{Duration, Instant};
use wayfare_engine::{Arrival, Error, Form, Handle, Image, Limits, Outcome, Stopped, Target, Task, Watch};
use wayfare_snapshot::{GlobalValue, MemoryState, PAGE_SIZE, PageRun, Pages, Snapshot};

/// Sends what was written.
fn round(watch: &mut Watch, arrival: &mut Arrival) -> u64 {
    let mut pages = 0;
    for (memory, size) in watch.sizes() {
        arrival.grow(memory, size).unwrap();
    }
    for range in watch.dirty() {
        // Grown since.
        arrival.grow(range.memory, (range.first + range.count) * PAGE_SIZE as u64).unwrap();
        let mut bytes = vec![0; range.count as usize * PAGE_SIZE];
        assert!(watch.read(range.memory, range.first, &mut bytes));
        for (page, bytes) in (range.first..).zip(bytes.chunks(PAGE_SIZE)) {
            if bytes.iter().all(|b| *b == 0) {
                arrival.zero(range.memory, page, 1).unwrap();
            } else {
                arrival.write(range.memory, page, bytes).unwrap();
            }
        }
        pages += range.count;
    }
    pages
}

/// Moves a running task; `None` when it ended first.
fn moved(task: Task, image: &Image, begin: fn(&Handle) -> Result<Watch, Error>, after: Duration) -> Result<Task, u32> {
    let mut watch = begin(&task.handle()).unwrap();
    let mut arrival = Arrival::new(image, Limits { memory: Some(500 << 16), table_elements: None }).unwrap();
    let (mut task, outcome, ()) = while_running(task, |handle| {
        std::thread::sleep(after);
        for _ in 0..3 {
            round(&mut watch, &mut arrival);
        }
        handle.capture().unwrap();
    });
    match outcome {
        Outcome::Captured => {}
        Outcome::Exited(status) => return Err(status),
        Outcome::Trapped(e) => panic!("{e}"),
    }
    task.set_epoch(task.epoch() + 1);
    let epoch = task.epoch();
    round(&mut watch, &mut arrival);
    // What has arrived is what is here.
    for memory in &task.snapshot().unwrap().memories {
        for run in &memory.runs {
            let Pages::Bytes(bytes) = &run.pages else { continue };
            let mut there = vec![0; bytes.len()];
            arrival.read(memory.index, run.first_page, &mut there).unwrap();
            let differs = |(a, b): (&[u8], &[u8])| a != b;
            let page = there.chunks(PAGE_SIZE).zip(bytes.chunks(PAGE_SIZE)).position(differs);
            assert_eq!(page, None, "in the run of pages from {} on", run.first_page);
        }
    }
    task.unpause();
    let mut state = task.state().unwrap();
    assert!(state.memories.iter().all(|m| m.runs.is_empty() && m.size > 0));
    // Some of the last pages may come with the state.
    let mut page = vec![0; PAGE_SIZE];
    arrival.read(0, 2, &mut page).unwrap();
    arrival.write(0, 2, &[0xee; PAGE_SIZE]).unwrap();
    state.memories[0].runs.push(PageRun::bytes(2, page));
    let began = Instant::now();
    let task = arrival.finish(&state, host()).unwrap();
    println!("finish: {:?}", began.elapsed());
    assert_eq!((task.epoch(), task.name()), (epoch, "test"));
    Ok(task)
}

#[test]
fn a_moved_task_ends_as_an_unmoved_one() {
    let wat = writer_of(12_000_000);
    let native = image(&wat, Form::Resume, &Target::host());
    let expect = status(start(&native));
    let mut random = random(9);
    for begin in [Handle::watch, Handle::watch_by_comparison] {
        let mut task = start(&native);
        let mut moves = 0;
        let end = loop {
            match moved(task, &native, begin, Duration::from_millis(random(10))) {
                Ok(next) => task = next,
                Err(status) => break status,
            }
            moves += 1;
        };
        assert_eq!(end, expect);
        assert!(moves > 2, "{moves}");
        println!("{moves} moves");
    }
}

#[test]
fn a_task_moves_to_another_target() {
    let wat = writer_of(400_000);
    let native = image(&wat, Form::Resume, &Target::host());
    let pulley = image(&wat, Form::Resume, &Target::parse("pulley64").unwrap());
    let expect = status(start(&native));
    for (from, to) in [(&native, &pulley), (&pulley, &native)] {
        // From the native one it has to be soon.
        match moved(start(from), to, Handle::watch, Duration::ZERO) {
            Ok(task) => assert_eq!(status(task), expect),
            Err(status) => {
                println!("ended first");
                assert_eq!(status, expect);
            }
        }
    }
}

#[test]
fn pages_that_cannot_be_are_refused() {
    let image = image(&endless_writer(), Form::Resume, &Target::host());
    let mut arrival = Arrival::new(&image, Limits { memory: Some(30 << 16), table_elements: None }).unwrap();
    let misfit = |r: Result<(), Error>| assert!(matches!(r, Err(Error::Misfit(_))), "{r:?}");
    let (page, last) = ([7; PAGE_SIZE], (20 << 4) - 1);
    misfit(arrival.grow(1, 0));
    misfit(arrival.grow(0, (30 << 16) + 1));
    misfit(arrival.grow(0, u64::MAX));
    for bad in [last + 1, u64::MAX, u64::MAX / PAGE_SIZE as u64, 1 << 52] {
        misfit(arrival.write(0, bad, &page));
        misfit(arrival.zero(0, bad, 1));
        misfit(arrival.read(0, bad, &mut [0; 1]));
    }
    misfit(arrival.zero(0, 0, u64::MAX));
    misfit(arrival.zero(0, last, 2));
    misfit(arrival.write(0, last, &[0; PAGE_SIZE + 1]));
    misfit(arrival.write(0, 0, &[0; PAGE_SIZE - 1]));
    misfit(arrival.write(1, 0, &page));
    misfit(arrival.zero(1, 0, 1));
    misfit(arrival.read(1, 0, &mut [0; 1]));
    arrival.write(0, last, &page).unwrap();
    arrival.grow(0, 1).unwrap();
    arrival.grow(0, (29 << 16) + 1).unwrap();
    arrival.write(0, last, &[7; 10 * PAGE_SIZE]).unwrap();
    let mut back = [0; 2 * PAGE_SIZE];
    arrival.read(0, last + 9, &mut back).unwrap();
    assert!(back[..PAGE_SIZE] == page && back[PAGE_SIZE..] == [0; PAGE_SIZE]);
    arrival.zero(0, 0, (30 << 16) / PAGE_SIZE as u64).unwrap();
    arrival.read(0, 2, &mut back).unwrap();
    assert_eq!(back, [0; 2 * PAGE_SIZE]);
    assert!(matches!(
        Arrival::new(&super::image(&endless_writer(), Form::Start, &Target::host()), Limits::default()),
        Err(Error::StartsOnly)
    ));
}

#[test]
fn zeroing_untouched_pages_takes_no_memory() {
    let image = image(&endless_writer(), Form::Resume, &Target::host());
    let mut arrival = Arrival::new(&image, Limits::default()).unwrap();
    arrival.grow(0, 200 << 16).unwrap();
    arrival.write(0, 2000, &[1; PAGE_SIZE]).unwrap();
    arrival.zero(0, 0, 200 << 4).unwrap();
    let task = captured(&image).snapshot().unwrap().into_owned();
    // The state of a task that has the size already.
    let state = Snapshot { memories: vec![MemoryState { index: 0, size: 200 << 16, runs: vec![] }], ..task };
    let mut task = arrival.finish(&state, host()).unwrap();
    let pages: u64 = task.snapshot().unwrap().memories[0].runs.iter().map(|r| r.page_count()).sum();
    // The two that the image fills, and the one that was written.
    assert_eq!(pages, 3);
}

fn captured(image: &Image) -> Task {
    let (task, _, stopped) = while_running(start(image), |handle| {
        std::thread::sleep(Duration::from_millis(2));
        handle.capture().unwrap()
    });
    assert_eq!(stopped, Stopped::Captured);
    task
}

#[test]
fn damaged_states_are_refused() {
    let image = image(&endless_writer(), Form::Resume, &Target::host());
    let mut task = captured(&image);
    let state = task.state().unwrap();
    let arrive = |damage: &dyn Fn(&mut Snapshot<'static>)| {
        let mut state = state.clone();
        damage(&mut state);
        let mut arrival = Arrival::new(&image, Limits { memory: Some(300 << 16), table_elements: None }).unwrap();
        arrival.grow(0, 25 << 16).unwrap();
        arrival.finish(&state, host()).map(drop)
    };
    let good = |s: &mut Snapshot<'static>| s.memories[0].size = s.memories[0].size.max(25 << 16);
    arrive(&good).unwrap();
    let misfit = |r: Result<(), Error>| {
        assert!(matches!(r, Err(Error::Misfit(_) | Error::Frames(_) | Error::Snapshot(_))), "{r:?}")
    };
    misfit(arrive(&|s| s.memories[0].size = 24 << 16));
    misfit(arrive(&|s| s.memories[0].size = (25 << 16) + 1));
    misfit(arrive(&|s| s.memories[0].size = 201 << 16));
    misfit(arrive(&|s| s.memories[0].size = u64::MAX));
    misfit(arrive(&|s| s.memories.clear()));
    misfit(arrive(&|s| s.memories[0].index = 1));
    misfit(arrive(&|s| s.memories[0].runs = vec![PageRun::bytes(1 << 40, vec![0; PAGE_SIZE])]));
    misfit(arrive(&|s| s.memories[0].runs = vec![PageRun::zero(0, 1), PageRun::zero(0, 1)]));
    misfit(arrive(&|s| s.frames = vec![].into()));
    misfit(arrive(&|s| s.frames.to_mut().truncate(9)));
    misfit(arrive(&|s| s.frames.to_mut().iter_mut().for_each(|b| *b = 0xff)));
    misfit(arrive(&|s| s.wasi = vec![1, 2, 3].into()));
    misfit(arrive(&|s| s.globals.clear()));
    misfit(arrive(&|s| s.globals[0].1 = GlobalValue::F32(0)));
    misfit(arrive(&|s| s.dropped_data = vec![77]));
    assert!(matches!(arrive(&|s| s.meta.module.0[0] ^= 1), Err(Error::OtherModule { .. })));
    assert!(matches!(arrive(&|s| s.meta.base = Some(s.meta.module)), Err(Error::DeltaOnly)));
    assert!(matches!(arrive(&|s| s.options.canonical_nan ^= true), Err(Error::OptionMismatch(_))));
    // And the task at the other end goes on.
    task.unpause();
    let (_, outcome, _) = while_running(task, |handle| handle.capture().unwrap());
    assert!(matches!(outcome, Outcome::Captured));
}

#[test]
fn an_arrival_and_a_task_can_go_to_other_threads() {
    fn send<T: Send>() {}
    send::<Arrival>();
    send::<Task>();
    send::<Watch>();
    send::<wayfare_engine::Freezer>();
    send::<wayfare_engine::Frozen>();
}
