//! Links that break and boards that lose their power in the middle of a move to or from a board: nobody ever has the task
//! together with somebody else, and it is lost only with a board whose power was cut while the board alone had it.
//!
//! As in `crate::faults`, round trips take a quarter of a second, so that the lines of progress say when to strike.

use crate::support::board::{Board, TARGETS, alone, try_to_send};
use crate::support::cluster::{Move, Node, PATIENCE, found, until};
use crate::support::link::slow;
use crate::support::steady::{is_unbroken, start, unmoved};
use std::time::{Duration, Instant};
use wayfare_sim::proxy::Proxy;
use wayfare_transfer::Mode;

/// The phases of a move that wait for the other side, in order. Boards keep no pages, so that none are compared.
const PHASES: [&str; 5] =
    ["offering", "compiling there", "copying", "switching", "waiting for the word that it runs there"];
const ROUND_TRIP: Duration = Duration::from_millis(250);
const TASK: &str = "t";

/// A link that each round trip over takes so long, to somebody at this machine's loopback device.
fn proxy(target: &str) -> Proxy {
    Proxy::start("127.0.0.1:0".parse().unwrap(), target.parse().unwrap(), slow(ROUND_TRIP)).unwrap()
}

/// A node and a board that reach each other by proxies, for as long as the test takes.
fn linked(target: &str, test: impl FnOnce(&Node, &mut Board<'_>, [&Proxy; 2])) {
    let mut a = Node::new("a");
    let to_node = proxy(&a.address);
    a.advertised = Some(to_node.address().to_string());
    found(&mut a);
    let mut board = Board::made(&a, target, "board", "64M");
    let to_board = proxy(&board.address);
    board.advertise(to_board.address().to_string());
    board.switch_on();
    start(&a, TASK, "100000");
    test(&a, &mut board, [&to_node, &to_board]);
}

/// Who has the task in the end, when all are at work: the node or the board, if anybody. Never both.
#[track_caller]
fn owner<'n>(a: &'n Node, board: &'n Board<'_>) -> Option<&'n str> {
    let began = Instant::now();
    loop {
        let states = [a.state(TASK), board.state(TASK)];
        let logs = || format!("{states:?}\n{}\n{}", a.log(), board.log());
        match [states[0].as_str(), states[1].as_str()] {
            ["running", "running"] => panic!("two have it: {}", logs()),
            ["running", "none" | "left"] => return Some("a"),
            ["none" | "left", "running"] => return Some("board"),
            ["none" | "left", "none"] => return None,
            _ => {}
        }
        assert!(began.elapsed() < PATIENCE, "it is not clear who has it: {}", logs());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Moves the task, however often that must be tried until what a fault has left behind is cleared away.
#[track_caller]
fn again(a: &Node, to: &str) {
    until(&format!("it moves to {to} again"), PATIENCE, || try_to_send(a, TASK, to, &[]).status == Some(0));
}

fn output(a: &Node) -> String {
    a.run(&["logs", TASK]).ok().stdout
}

/// Strikes in each phase of a move, and leaves both at work; then they go on as if nothing had been.
fn in_each_phase(
    to: &str,
    strike: impl Fn(&mut Board<'_>, [&Proxy; 2]) + Sync,
    may_be_lost: impl Fn(&str) -> bool + Sync,
) {
    in_phases(&PHASES.map(|phase| (phase, to)), strike, may_be_lost);
}

/// The same in each of these phases of a move to somebody.
fn in_phases(
    all: &[(&str, &str)],
    strike: impl Fn(&mut Board<'_>, [&Proxy; 2]) + Sync,
    may_be_lost: impl Fn(&str) -> bool + Sync,
) {
    unmoved();
    let (strike, may_be_lost) = (&strike, &may_be_lost);
    std::thread::scope(|scope| {
        for (&(phase, to), target) in all.iter().zip(TARGETS.iter().cycle()) {
            scope.spawn(move || {
                linked(target, |a, board, proxies| {
                    if to == "a" {
                        again(a, "board");
                    }
                    let mut moving = Move::begin_to(a, to, TASK, Mode::PreCopy, None);
                    if !moving.reaches(phase) {
                        // A node has compiled it before.
                        let end = moving.end();
                        let known = to == "a" && phase == PHASES[1];
                        assert!(known, "never {phase}: {:?}: {end:?}", moving.phases);
                        return;
                    }
                    strike(board, proxies);
                    let ended = moving.end();
                    let owner = owner(a, board);
                    eprintln!("{target}, to {to}, {phase}: {ended:?}, now {owner:?} has it");
                    match owner {
                        Some("board") => again(a, "a"),
                        Some(_) => {}
                        // A new one takes its place.
                        None => {
                            assert!(may_be_lost(phase), "lost while {phase}: {}\n{}", a.log(), board.log());
                            a.run(&["rm", TASK]).ok();
                            start(a, TASK, "100000");
                        }
                    }
                    until("it prints", PATIENCE, || output(a).lines().count() > 1);
                    is_unbroken(&output(a));
                    again(a, "board");
                    is_unbroken(&output(a));
                    again(a, "a");
                    is_unbroken(&output(a));
                });
            });
        }
    });
}

fn cut(board: &mut Board<'_>, proxies: [&Proxy; 2], pause: Duration) {
    let _ = board;
    proxies.iter().for_each(|proxy| proxy.cut());
    std::thread::sleep(pause);
    proxies.iter().for_each(|proxy| proxy.restore());
}

const MOMENT: Duration = Duration::from_millis(1500);

#[test]
fn the_link_to_a_board_may_break_in_any_phase() {
    let _alone = alone();
    in_each_phase("board", |board, proxies| cut(board, proxies, MOMENT), |_| false);
}

#[test]
fn the_link_from_a_board_may_break_in_any_phase() {
    let _alone = alone();
    in_each_phase("a", |board, proxies| cut(board, proxies, MOMENT), |_| false);
}

/// More than anybody waits for a word: a source for 20 s, a destination for a minute.
const AGES: Duration = Duration::from_secs(65);

#[test]
fn nothing_may_be_heard_for_longer_than_anybody_waits() {
    let _alone = alone();
    // Those in which something is on its way, or in doubt.
    let phases = PHASES[2..].iter().flat_map(|phase| [(*phase, "board"), (*phase, "a")]).collect::<Vec<_>>();
    let silence = |_: &mut Board<'_>, proxies: [&Proxy; 2]| {
        proxies.iter().for_each(|proxy| proxy.silence());
        std::thread::sleep(AGES);
        proxies.iter().for_each(|proxy| proxy.restore());
    };
    in_phases(&phases, silence, |_| false);
}

fn power_cut(board: &mut Board<'_>, _: [&Proxy; 2]) {
    board.switch_off();
    board.switch_on();
}

#[test]
fn a_board_may_lose_its_power_while_a_task_comes() {
    let _alone = alone();
    // Once it has said that it has the task, nobody else keeps it.
    in_each_phase("board", power_cut, |phase| phase == PHASES[4]);
}

#[test]
fn a_board_may_lose_its_power_while_a_task_leaves() {
    let _alone = alone();
    // What was in its memory alone is gone.
    in_each_phase("a", power_cut, |_| true);
}

#[test]
fn a_move_from_a_board_may_be_called_off_at_any_moment() {
    let _alone = alone();
    let mut a = Node::new("a");
    found(&mut a);
    let board = Board::new(&a, "aarch64", "board", "64M");
    start(&a, TASK, "100000");
    again(&a, "board");
    let (mut stayed, mut printed) = (0, 0);
    for n in 0..40 {
        let moving = Move::begin_to(&a, "a", TASK, Mode::PreCopy, None);
        std::thread::sleep(Duration::from_millis(n));
        drop(moving);
        if owner(&a, &board) == Some("board") {
            stayed += 1;
        } else {
            again(&a, "board");
        }
        // It runs, wherever it was in its way.
        until("it prints", PATIENCE, || output(&a).lines().count() > printed);
        printed = output(&a).lines().count();
    }
    assert!(stayed > 0, "none was called off in time");
    is_unbroken(&output(&a));
}
