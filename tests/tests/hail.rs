//! Captures that rain down on a program from another thread, a few hundred microseconds apart: in place, and every
//! few times through the bytes of a snapshot into a task of its own. What one thread does while the other is in the
//! middle of it is met only by trying often.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use wayfare_engine::{Form, Image, Key, Options, Outcome, Stopped, THREAD_STACK, Target, Task};
use wayfare_snapshot::{Compression, Limits};
use wayfare_tests::generate::Random;
use wayfare_wasi::std_host::{StdHost, StreamSource};
use wayfare_wasi::{Ctx, Stream};

/// For each program; it is run again while there is time.
const BUDGET: Duration = Duration::from_secs(6);

#[test]
fn sqlite_does_not_notice() {
    hail("sqlite", &["4000"]);
}

#[test]
fn lua_does_not_notice() {
    hail("lua", &["bench", "1"]);
}

#[test]
fn recursion_does_not_notice() {
    hail("fib", &["32"]);
    hail("binary-trees", &["12"]);
}

fn guest(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir));
    target.join("guests").join(format!("{name}.wasm"))
}

fn hail(name: &'static str, args: &'static [&'static str]) {
    let work = move || {
        let key = Key([1; 32]);
        let wasm = std::fs::read(guest(name)).expect("guests/build.sh was run");
        let image = Image::compile(&wasm, &Target::host(), Options::default(), Form::Resume, false, &key);
        let image = Image::load(&image.expect("compiles"), &key).expect("was compiled here");
        let expect = run(&image, name, args, |_| Duration::MAX).0;
        let mut random = Random::new(7);
        let (began, mut captures) = (Instant::now(), 0);
        while began.elapsed() < BUDGET {
            let (output, n) = run(&image, name, args, |_| Duration::from_micros(random.below(400)));
            assert!(output == expect, "{name} prints something else after {n} captures");
            captures += n;
        }
        println!("{name}: {captures} captures");
        assert!(captures > 100, "hardly any capture");
    };
    std::thread::Builder::new().stack_size(THREAD_STACK).spawn(work).expect("a thread").join().expect("no panic");
}

fn host(output: &File) -> StdHost {
    let output = output.try_clone().expect("a descriptor").into();
    StdHost::new()
        .expect("a host")
        .stream(Stream::Stdin, StreamSource::Null)
        .stream(Stream::Stdout, StreamSource::Fd(output))
}

/// What the program prints, and how often it was captured; `pause` is the time to the n-th request.
fn run(image: &Image, name: &str, args: &[&str], mut pause: impl FnMut(u64) -> Duration + Send) -> (Vec<u8>, u64) {
    let mut output = tempfile::tempfile().expect("a file");
    let ctx = Ctx::builder().arg(name).args(args.iter().copied()).build();
    let mut task = Task::start(image, name, ctx, host(&output)).expect("starts");
    let mut captures = 0;
    std::thread::scope(|scope| {
        let (handles, stones) = mpsc::channel();
        scope.spawn(move || {
            for (n, handle) in (0..).zip(stones.iter()) {
                let handle: wayfare_engine::Handle = handle;
                let wait = pause(n);
                if wait == Duration::MAX {
                    return;
                }
                std::thread::sleep(wait);
                if handle.capture().expect("can be captured") == Stopped::Ended {
                    return;
                }
            }
        });
        let handles = handles;
        let _ = handles.send(task.handle());
        loop {
            match task.run() {
                Outcome::Captured => {
                    captures += 1;
                    let bytes = {
                        let snapshot = task.snapshot().expect("a snapshot");
                        (captures % 8 == 0)
                            .then(|| wayfare_snapshot::encode(&snapshot, Compression::Lz4).expect("encodes"))
                    };
                    if let Some(bytes) = bytes {
                        let snapshot = wayfare_snapshot::open(&bytes, &Limits::default()).expect("opens");
                        task = Task::resume(image, &snapshot, host(&output)).expect("resumes");
                    } else {
                        task.unpause();
                    }
                    let _ = handles.send(task.handle());
                }
                Outcome::Exited(status) => break assert_eq!(status, 0),
                Outcome::Trapped(e) => panic!("{name} trapped after {captures} captures: {e}"),
            }
        }
    });
    let mut bytes = Vec::new();
    output.rewind().and_then(|()| output.read_to_end(&mut bytes)).expect("its output");
    (bytes, captures)
}
