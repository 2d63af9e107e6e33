//! A task that shows every step that was lost, doubled or computed on another memory: the guest `steady`.

use super::Home;
use super::cluster::{Node, PATIENCE, until};
use std::sync::OnceLock;

/// Mebibytes of the task, whose steps take a hundredth of a second and more.
pub const SIZE: &str = "4";
pub const PAUSE: &str = "10";

/// What it prints if nobody moves it, line by line.
pub fn unmoved() -> &'static [String] {
    static LINES: OnceLock<Vec<String>> = OnceLock::new();
    LINES.get_or_init(|| Home::new().plain("steady", &[SIZE, "12000", "0"]).lines().map(String::from).collect())
}

/// So far it has printed each line once, and no other.
#[track_caller]
pub fn is_unbroken(log: &str) {
    let lines: Vec<&str> = log.lines().collect();
    let wrong = lines.iter().zip(unmoved()).position(|(got, expected)| got != expected);
    assert!(lines.len() > 1 && wrong.is_none(), "{} lines, wrong from line {wrong:?}:\n{log}", lines.len());
}

/// So far it has printed no line that it should not, and none is missing. After a crash it goes on from a snapshot, and
/// prints again what it had printed since.
#[track_caller]
pub fn is_unbroken_but_for_crashes(log: &str) {
    let mut next = 0;
    for line in log.lines() {
        let at = unmoved().iter().position(|expected| expected == line);
        assert!(at.is_some_and(|at| at <= next), "{line:?} where line {next} should be:\n{log}");
        next = at.unwrap() + 1;
    }
    assert!(next > 1, "{log}");
}

pub fn start(node: &Node, name: &str, steps: &str) {
    node.start(name, &["--cpus", "0.1", "--checkpoint-every", "1s"], "steady", &[SIZE, steps, PAUSE]);
}

/// Lines that a node's task has printed.
pub fn lines(at: &Node, task: &str) -> usize {
    at.output(task).lines().count()
}

/// It goes on there, from a state that was whole: nothing that it prints is wrong, and nothing is missing.
#[track_caller]
pub fn goes_on(at: &Node, task: &str) {
    at.wait(task, "running");
    let before = lines(at, task);
    until("it prints", PATIENCE, || lines(at, task) > before + 5);
    is_unbroken(&at.output(task));
}
