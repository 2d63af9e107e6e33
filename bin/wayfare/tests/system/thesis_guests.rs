//! The nine programs of the thesis's Table 5-1: each prints what it should, in one line that depends on all of its work, and
//! prints the same when it was captured or moved in the middle.
//!
//! The lines are from `guests/thesis.py`, which computes them another way. Some are known from elsewhere, too: 92 and 73712 ways
//! to place queens, the thousandth decimal of pi, the SHA-256 of nothing.

use crate::support::cluster::{migrate, pair};
use crate::support::{Home, guest};
use std::time::Duration;

/// Programs, and what they print without arguments.
const WHOLE: [(&str, &str); 9] = [
    ("maze", "maze 1200 1: 22943 53e16a3458eab4f8"),
    ("sha256", "sha256 256 5: 363f724f5d1169c91367d84483c9ea2c354d800bedc3915c44300b6349d81b0c"),
    ("queens", "queens 13: 73712 e1d3f28105a527fd"),
    ("quicksort", "quicksort 4000000 1: 31cc3586f8199801"),
    (
        "hashzip",
        "hashzip 48 1: 41869245 f3330c11a3801034b4d4e4c3b938fce05f04e7b85f0c0512e8bec3fc924c1766 \
         b5bff38753c4799cbd7681c054dce558c74503556e4a8b35a809bda8c703a576",
    ),
    ("dynprog", "dynprog 20000 1: 13074 d0e55e0f6b0506a2"),
    ("huffman", "huffman 40 1: 23029229 fa8845bd24eb495c"),
    ("pi", "pi 30000: 9451082478 60b8be7db0604f64"),
    ("matrix", "matrix 1000 1: 410830.73437500 396f4d780bf17f5d"),
];

#[test]
fn small_ones_print_what_was_computed_another_way() {
    let home = Home::new();
    for (name, args, result) in [
        ("maze", &["60", "9"][..], "2536 3780b314ed888bef"),
        ("sha256", &["2", "9"], "37211c6e758ea4042756a28a6646b84192cc913e99cc7eb3a8229dad0fbd5e9b"),
        ("sha256", &["0", "9"], "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ("queens", &["8"], "92 bbcbc8d6c267b4ed"),
        ("quicksort", &["5000", "9"], "bee496be7546cf06"),
        (
            "hashzip",
            &["1", "9"],
            "872311 043420fb265ac697cc18ced9d32e2274e0cff99f25a0c005669fff1a86dd13cb \
             2c939944bdcfe2c5831be153327f60d691125dc725fcfa7547c95d0c731f6045",
        ),
        ("dynprog", &["700", "9"], "445 145c738ec47d790a"),
        ("huffman", &["1", "9"], "575471 c3cf46a036532e2a"),
        ("pi", &["1000"], "2164201989 511d37c4f954c20f"),
        ("matrix", &["70", "9"], "120363.17578125 762b61c8d48ebb54"),
    ] {
        assert_eq!(home.plain(name, args), format!("{name} {}: {result}\n", args.join(" ")));
    }
}

#[test]
fn captured_twice_in_the_middle_they_print_the_same() {
    let home = Home::new();
    for (name, line) in WHOLE {
        home.compile(name);
        let program = guest(name);
        let mut task = home.start(&[], name, &[]);
        for file in ["first.snap", "second.snap"] {
            std::thread::sleep(Duration::from_millis(100));
            let done = task.capture(file).is(75);
            assert_eq!(done.stdout, "", "{name} has ended before");
            task = home.spawn(["resume".as_ref(), file.as_ref(), "--program".as_ref(), program.as_os_str()]);
        }
        assert_eq!(task.end().ok().stdout, format!("{line}\n"));
    }
}

#[test]
fn moved_with_64_mebibytes_of_memory_they_print_the_same() {
    let (a, b) = pair();
    for (name, line) in WHOLE {
        // Or a short one might end while the other node compiles it.
        b.home.compile(name);
        a.start(name, &["--memory", "64MiB"], name, &[]);
        a.wait(name, "running");
        migrate(&a, &b, name);
        assert_eq!((a.state(name).as_str(), b.output(name).as_str()), ("left", ""), "{name} has ended before");
        b.wait(name, "exited");
        assert_eq!(b.output(name), format!("{line}\n"));
    }
}

#[test]
fn wrong_arguments_are_named_and_end_with_2() {
    let home = Home::new();
    for (name, _) in WHOLE {
        let seeded = !["queens", "pi"].contains(&name);
        let most = if seeded { 2 } else { 1 };
        for (args, problem) in [
            (&["many"][..], "argument 1 must be a number from "),
            (&["-1"], "argument 1 must be a number from "),
            (&["99999999999999999999"], "argument 1 must be a number from "),
            (&["1 "], "argument 1 must be a number from "),
            (&[""], "argument 1 must be a number from "),
            (
                &["10", "x"],
                if seeded { "argument 2 must be a number from 0 to 2147483647, not \"x\"" } else { "2 arguments" },
            ),
            (&["10", "1", "1"], &format!("3 arguments, but there are at most {most}")),
        ] {
            let program = guest(name);
            let all = ["run".as_ref(), program.as_os_str(), "--".as_ref()];
            let done = home.output(all.into_iter().chain(args.iter().map(|a| a.as_ref()))).is(2);
            assert_eq!(
                (done.stdout.as_str(), done.stderr.lines().count()),
                ("", 1),
                "{name} {args:?}: {}",
                done.stderr
            );
            assert!(done.stderr.contains(problem), "{name} {args:?}: {}", done.stderr);
        }
    }
}
