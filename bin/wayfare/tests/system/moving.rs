//! A program that is captured and resumed does what it would have done anyway.

use crate::support::{Home, guest};
use std::time::Duration;

/// Runs a guest on the first target, and moves it from each to the next, always after so many milliseconds.
fn moves(home: &Home, name: &str, args: &[&str], targets: &[&str], after: u64) {
    let expect = home.plain(name, args);
    for target in targets {
        // Compiled before the clock starts.
        let module = guest(name).display().to_string();
        home.output([&["run", "--target", target, &module, "--"], SMALLEST].concat());
    }
    let mut got = String::new();
    let mut task = home.start(&["--target", targets[0]], name, args);
    let mut moved = 0;
    for (i, target) in targets[1..].iter().enumerate() {
        std::thread::sleep(Duration::from_millis(after));
        let file = format!("{i}.snap");
        let captured = home.output(["capture", &task.name, "-o", &file]);
        if captured.status != Some(0) {
            // It was quicker than we are; what it printed must be right all the same.
            break;
        }
        let done = task.end().is(75);
        assert!(done.stderr.contains("captured to"), "{done:?}");
        got += &done.stdout;
        moved += 1;
        task = home.spawn(["resume", &file, "--target", target]);
    }
    got += &task.end().ok().stdout;
    assert_eq!(got, expect, "{name} after {moved} moves");
    assert!(moved > 0, "{name} ended before it was moved once");
}

/// Arguments with which every guest that is moved here ends at once.
const SMALLEST: &[&str] = &["10", "1"];
/// The name of this machine's own target.
const HOST: &str = std::env::consts::ARCH;
const THERE_AND_BACK: &[&str] = &[HOST, "pulley64", HOST];

#[test]
fn fib_moves_between_native_code_and_the_interpreter() {
    moves(&Home::new(), "fib", &["38"], THERE_AND_BACK, 40);
}

#[test]
fn nbody_moves_between_native_code_and_the_interpreter() {
    moves(&Home::new(), "nbody", &["1000000"], THERE_AND_BACK, 30);
}

#[test]
fn sqlite_moves_at_many_moments_and_to_the_interpreter_and_back() {
    let home = Home::new();
    moves(&home, "sqlite", &["20000"], THERE_AND_BACK, 30);
    for after in [3, 17, 71] {
        moves(&home, "sqlite", &["20000"], &[HOST; 5], after);
    }
}

#[test]
fn a_hundred_thousand_frames_move() {
    moves(&Home::new(), "deep", &["100000", "300000000"], &[HOST, HOST], 60);
}

#[test]
fn a_program_that_waits_for_input_gets_the_rest_of_it_after_the_move() {
    for how in [&["read"][..], &["poll", "60000"]] {
        let home = Home::new();
        let mut task = home.start(&[], "blocked", how);
        task.hear("waiting\n");
        task.say("one\ntwo\n");
        task.hear("2: two\n");
        let first = task.capture("blocked.snap").is(75);
        assert_eq!(first.stdout, "");
        let mut task = home.spawn(["resume", "blocked.snap"]);
        task.say("three\n");
        assert_eq!(task.hear("3: three\n"), "3: three\n");
        assert_eq!(task.end().ok().stdout, "3 lines\n");
    }
}

#[test]
fn time_goes_on_where_it_stopped() {
    let home = Home::new();
    // A gap above 300 ms of the task's own time would be reported; the pause is longer.
    let mut task = home.start(&[], "sleeper", &["12", "50", "300"]);
    task.hear("tick 3\n");
    let first = task.capture("sleeper.snap").is(75);
    std::thread::sleep(Duration::from_millis(700));
    let rest = home.output(["resume", "sleeper.snap"]).ok();
    let all = first.stdout + &rest.stdout;
    assert!(all.ends_with("time was right\n"), "{all}");
    assert_eq!(all.matches("tick").count(), 8, "{all}");
}

#[test]
fn a_task_that_keeps_running_is_captured_again_and_again() {
    let home = Home::new();
    let expect = home.plain("sqlite", &["20000"]);
    home.compile("sqlite");
    let task = home.start(&[], "sqlite", &["20000"]);
    let mut files = Vec::new();
    for i in 0..5 {
        let file = format!("{i}.snap");
        if home.output(["capture", &task.name, "-o", &file, "--keep-running"]).status == Some(0) {
            files.push(file);
        }
    }
    assert_eq!(task.end().ok().stdout, expect);
    assert!(!files.is_empty());
    // What had been printed by then is not printed again: only the end is the same.
    for file in files {
        let rest = home.output(["resume", &file]).ok().stdout;
        assert!(expect.ends_with(&rest) && !rest.is_empty(), "{file}: {rest}");
    }
}

#[test]
fn a_task_without_code_to_resume_gets_it_when_it_is_to_keep_running() {
    let home = Home::new();
    let expect = home.plain("nbody", &["6000000"]);
    let task = home.start(&[], "nbody", &["6000000"]);
    for file in ["a.snap", "b.snap"] {
        home.output(["capture", &task.name, "-o", file, "--keep-running"]).ok();
    }
    assert_eq!(task.end().ok().stdout, expect);
    for file in ["a.snap", "b.snap"] {
        assert!(expect.ends_with(&home.output(["resume", file]).ok().stdout), "{file}");
    }
}

#[test]
fn a_delta_and_its_base_make_a_snapshot() {
    let home = Home::new();
    let expect = home.plain("sqlite", &["100000"]);
    home.compile("sqlite");
    let task = home.start(&[], "sqlite", &["100000"]);
    let name = task.name.clone();
    std::thread::sleep(Duration::from_millis(30));
    home.output(["capture", &name, "-o", "a.snap", "--keep-running"]).ok();
    std::thread::sleep(Duration::from_millis(30));
    let json = home
        .output(["capture", &name, "-o", "b.snap", "--since", "a.snap", "--json", "--compress", "zstd"])
        .ok()
        .stdout;
    let first = task.end().is(75).stdout;
    let stats: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(stats["pages"].as_u64().unwrap() > 0 && stats["bytes"].as_u64().unwrap() > 0, "{json}");

    home.output(["resume", "b.snap"]).fails("delta");
    home.output(["snapshot", "squash", "b.snap", "a.snap", "-o", "x.snap"]).fails("b.snap and a.snap");
    home.output(["snapshot", "squash", "a.snap", "b.snap", "-o", "c.snap"]).ok();
    for file in ["a.snap", "b.snap", "c.snap"] {
        let said = home.output(["snapshot", "verify", file]).ok().stdout;
        assert!(said.contains("whole and undamaged"), "{said}");
    }
    assert_eq!(first + &home.output(["resume", "c.snap"]).ok().stdout, expect);
}

#[test]
fn a_volume_moves_with_the_task_and_is_stored_at_its_end() {
    let home = Home::new();
    let lines: String = (0..20_000).map(|i| format!("line {i} of the input\n")).collect();
    let input = home.path("input");
    std::fs::write(&input, &lines).unwrap();
    let args = |volume: &str| {
        let volume = format!("{volume}::/data");
        [
            ["run", "--volume"].map(String::from).to_vec(),
            vec![volume, guest("readwrite").display().to_string()],
            ["--", "/data", "4", "8"].map(String::from).to_vec(),
        ]
        .concat()
    };
    let open = || std::fs::File::open(&input).unwrap();
    for volume in ["one", "two", "three"] {
        std::fs::create_dir(home.path(volume)).unwrap();
    }
    let expect = home.wayfare(args("one")).stdin(open()).output().unwrap();
    assert!(expect.status.success(), "{expect:?}");

    let mut task = home.spawn(args("two"));
    // Half of the input, so that it is captured while it reads the rest.
    task.say(&lines[..lines.len() / 2]);
    std::thread::sleep(Duration::from_millis(50));
    let first = task.capture("volume.snap").is(75);
    assert_eq!(std::fs::read_dir(home.path("two")).unwrap().count(), 0, "stored although captured");

    let mut task = home.spawn(["resume", "volume.snap", "--volume", "three::/data"]);
    task.say(&lines[lines.len() / 2..]);
    let second = task.end().ok();
    assert_eq!(first.stdout + &second.stdout, String::from_utf8_lossy(&expect.stdout));
    let names = |dir: &str| {
        let entries = std::fs::read_dir(home.path(dir)).unwrap().map(|e| e.unwrap());
        let mut files: Vec<_> = entries.map(|e| (e.file_name(), std::fs::read(e.path()).unwrap())).collect();
        files.sort();
        files
    };
    assert_eq!(names("one"), names("three"));
    assert!(names("one").len() >= 5 && names("two").is_empty());

    home.output(["resume", "volume.snap", "--volume", "three::/other"]).fails("no volume /other (it has /data)");
}

#[test]
fn a_shared_directory_is_asked_for_again() {
    let home = Home::new();
    std::fs::create_dir(home.path("shared")).unwrap();
    let mut task = home.start(&["--dir", "shared::/data"], "readwrite", &["/data", "2", "3"]);
    task.say("a\nb\n");
    std::thread::sleep(Duration::from_millis(50));
    task.capture("dir.snap").is(75);
    home.output(["resume", "dir.snap"]).fails("no directory is given for /data");
    home.output(["resume", "dir.snap", "--dir", "gone::/data"]).fails("gone");
    let mut task = home.spawn(["resume", "dir.snap", "--dir", "shared::/data"]);
    task.say("c\n");
    let done = task.end().ok();
    assert!(done.stdout.starts_with("3 lines\n") && done.stdout.contains("log checksum"), "{done:?}");
}
