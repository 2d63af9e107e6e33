//! Links that misbehave, and tasks that ask for the utmost: syncs neither pile up nor eat the link.

use wayfare_policy::units::{MINUTE, SECOND};
use wayfare_policy::{Action, Bounds, Costs, Hold, LinkSample, NEVER, Nanos, Policy, Reason, Settings, Synchroniser};

/// A tenth of a second.
const TICK: Nanos = SECOND / 10;

/// What became of it.
#[derive(Debug, Default)]
struct Seen {
    begun: u32,
    finished: u32,
    /// Time that syncs took of the link, and that of the longest.
    busy: Nanos,
    longest: Nanos,
    /// The most progress at risk while the link was up.
    risk: Nanos,
    up: Nanos,
}

/// A task that makes `dirty` bytes per second over a link that gives a rate and a one-way delay at each moment, or is down,
/// for so long. Every `lost`-th heartbeat does not come, none but the first where that is 0.
fn drive(
    policy: Policy,
    settings: Settings,
    dirty: u64,
    lost: u64,
    long: Nanos,
    link: impl Fn(Nanos) -> Option<(u64, Nanos)>,
) -> Seen {
    let mut s = Synchroniser::new(policy, settings, 0);
    let mut seen = Seen::default();
    let (mut work, mut safe, mut was_up) = (0, 0, true);
    // Beginning, what is left to send, size, progress carried.
    let mut flight: Option<(Nanos, f64, u64, Nanos)> = None;
    for now in (0..long).step_by(TICK as usize) {
        let state = link(now);
        if was_up != state.is_some() {
            was_up = state.is_some();
            if was_up {
                safe = work;
                s.handle_outage_ended(now);
                s.handle_alike(now, work);
            } else {
                flight = None;
                s.handle_outage_began(now);
            }
        }
        work += TICK;
        let Some((rate, delay)) = state else {
            let decision = s.decide(now);
            assert_eq!((decision.action, decision.reason), (Action::WaitUntil(NEVER), Reason::Hold(Hold::Down)));
            continue;
        };
        seen.up += TICK;
        if now % SECOND == 0 && !(now / SECOND).is_multiple_of(lost) {
            s.handle_heartbeat(now);
            s.handle_link_sample(now, LinkSample { bandwidth: Some(rate), delay: Some(delay) });
        }
        s.handle_progress(now, work);
        s.handle_dirty(now, dirty * (work - safe) / SECOND);
        if s.decide(now).action == Action::Sync {
            assert!(flight.is_none(), "two syncs at once");
            let bytes = dirty * (work - safe) / SECOND;
            flight = Some((now, bytes as f64 + 2.0 * delay as f64 / 1e9 * rate as f64, bytes, work));
            seen.begun += 1;
            s.handle_sync_started(now);
        }
        if let Some((began, left, bytes, carries)) = &mut flight {
            *left -= rate as f64 * 0.1;
            seen.busy += TICK;
            if *left <= 0.0 {
                let took = now + TICK - *began;
                seen.longest = seen.longest.max(took);
                seen.finished += 1;
                safe = *carries;
                let bytes = *bytes;
                flight = None;
                s.handle_sync_finished(now + TICK, bytes);
            }
        }
        seen.risk = seen.risk.max(work - safe);
    }
    seen
}

/// A task that wants to be synced all the time.
fn eager() -> Settings {
    Settings {
        costs: Costs { per_sync: 0.001, ..Costs::default() },
        bounds: Bounds { max_loss: Some(5 * SECOND), ..Bounds::default() },
        ..Settings::default()
    }
}

/// By [`Bounds`]: a tenth of the time that the link is up, what may be saved up, and the last sync.
fn within_share(seen: &Seen) {
    let most = seen.up / 10 + 60 * SECOND + seen.longest;
    assert!(seen.busy <= most, "{seen:?}: at most {} s of the link", most / SECOND);
}

#[test]
fn a_link_that_flaps_each_second_sees_hardly_a_sync() {
    let flapping = |now: Nanos| (now / SECOND).is_multiple_of(2).then_some((1_000_000, 20_000_000));
    for policy in [Policy::Auto, Policy::Young, Policy::Fixed(SECOND / 2), Policy::Naps] {
        let seen = drive(policy, eager(), 2_000_000, 0, 60 * MINUTE, flapping);
        within_share(&seen);
        // Each try that is cut doubles the wait for the next.
        assert!(seen.begun - seen.finished <= 20, "{policy}: {seen:?}");
        let seen = drive(policy, Settings::default(), 2_000_000, 0, 60 * MINUTE, flapping);
        assert!(seen.begun <= 20, "{policy}: {seen:?}");
    }
}

#[test]
fn a_link_of_two_seconds_delay_that_loses_every_tenth_packet_is_not_eaten() {
    let slow = |_| Some((125_000, 2 * SECOND));
    for policy in [Policy::Auto, Policy::Young, Policy::Fixed(SECOND), Policy::Naps, Policy::NapsPrinted] {
        let seen = drive(policy, eager(), 100_000, 10, 60 * MINUTE, slow);
        within_share(&seen);
        assert!(seen.begun <= seen.finished + 1, "{policy}: {seen:?}");
    }
}

#[test]
fn no_more_than_max_loss_is_at_risk_where_the_link_can_do_it() {
    // 2.4 Mbit/s of changes over 80 Mbit/s: 3 % of the link.
    for policy in [Policy::Auto, Policy::Young, Policy::Fixed(10 * MINUTE), Policy::Naps] {
        for max_loss in [5 * SECOND, 20 * SECOND, 5 * MINUTE] {
            let bounds = Bounds { max_loss: Some(max_loss), ..Bounds::default() };
            let seen = drive(policy, Settings { bounds, ..Settings::default() }, 300_000, 0, 40 * MINUTE, |_| {
                Some((10_000_000, 10_000_000))
            });
            assert!(seen.risk <= max_loss + TICK, "{policy}: {} of {} ms", seen.risk / 1_000_000, max_loss / 1_000_000);
            within_share(&seen);
        }
    }
}

#[test]
fn a_task_that_changes_more_than_the_share_carries_is_held_to_the_share() {
    // 8 Mbit/s of changes over 8 Mbit/s.
    let seen = drive(Policy::Auto, eager(), 1_000_000, 0, 60 * MINUTE, |_| Some((1_000_000, 10_000_000)));
    within_share(&seen);
    assert!(seen.finished > 0);
}

#[test]
fn an_idle_or_clean_task_is_never_synced() {
    for policy in [Policy::Auto, Policy::Young, Policy::Fixed(SECOND), Policy::Naps, Policy::NapsPrinted] {
        let mut s = Synchroniser::new(policy, eager(), 0);
        s.handle_progress(0, 0);
        s.handle_idle(0, true);
        for second in 0..10_000 {
            let now = second * SECOND;
            s.handle_heartbeat(now);
            let decision = s.decide(now);
            assert_eq!((decision.action, decision.reason), (Action::WaitUntil(NEVER), Reason::Hold(Hold::Idle)));
        }
        // It has worked, but nothing that it changed remains.
        s.handle_idle(10_000 * SECOND, false);
        s.handle_progress(10_000 * SECOND, MINUTE);
        s.handle_dirty(10_000 * SECOND, 0);
        assert_eq!(s.decide(10_000 * SECOND).reason, Reason::Hold(Hold::Clean));
    }
}

#[test]
fn a_task_that_stops_after_work_is_synced_once_and_then_left_alone() {
    let mut s = Synchroniser::new(Policy::Auto, Settings::default(), 0);
    s.handle_progress(0, 180 * MINUTE);
    s.handle_idle(0, true);
    assert_eq!(s.decide(SECOND).action, Action::Sync);
    s.handle_sync_started(SECOND);
    s.handle_sync_finished(2 * SECOND, 1000);
    assert_eq!(s.decide(2 * SECOND).action, Action::WaitUntil(NEVER));
}

#[test]
fn a_task_that_stops_with_little_at_risk_is_synced_in_the_end() {
    let mut s = Synchroniser::new(Policy::Auto, Settings::default(), 0);
    s.handle_progress(0, 5 * MINUTE);
    s.handle_idle(0, true);
    let (mut now, mut asked) = (0, 0);
    while let Action::WaitUntil(until) = s.decide(now).action {
        (now, asked) = (until, asked + 1);
    }
    // The longer it lies there, the likelier an outage finds it; and nobody has to ask all the time.
    assert!(now > 5 * MINUTE && now < 600 * MINUTE && asked < 2000, "{now} {asked}");
}

#[test]
fn while_nothing_is_heard_no_sync_begins() {
    let mut s = Synchroniser::new(Policy::Fixed(MINUTE), Settings::default(), 0);
    for second in 0..50 {
        s.handle_heartbeat(second * SECOND);
    }
    s.handle_progress(61 * SECOND, 61 * SECOND);
    assert!(matches!(s.decide(61 * SECOND).reason, Reason::Silent { .. }));
    s.handle_heartbeat(62 * SECOND);
    assert_eq!(s.decide(62 * SECOND).action, Action::Sync);
}
