//! What holds for every link and every task, whatever is observed.

use proptest::prelude::*;
use wayfare_policy::delta::Delta;
use wayfare_policy::interval::best;
use wayfare_policy::link::Signs;
use wayfare_policy::units::{MINUTE, SECOND};
use wayfare_policy::{Action, Bounds, Costs, Hazard, LinkSample, Nanos, Policy, Settings, Synchroniser, Weights};

const POLICIES: [Policy; 6] =
    [Policy::Auto, Policy::Young, Policy::Naps, Policy::NapsPrinted, Policy::Fixed(SECOND), Policy::Fixed(8 * MINUTE)];

/// One thing that a node tells.
#[derive(Clone, Debug)]
enum Told {
    Sample(Option<u64>, Option<Nanos>),
    Heartbeat,
    Progress(Nanos),
    Dirty(u64),
    Idle(bool),
    Finished(u64),
    Cut(u64),
    Broke,
    Back,
}

fn told() -> impl Strategy<Value = Told> {
    // Ordinary numbers and the most absurd ones.
    let any_number = || prop_oneof![Just(0), 0..1u64 << 40, any::<u64>()];
    prop_oneof![
        (prop::option::of(any_number()), prop::option::of(any_number())).prop_map(|(b, d)| Told::Sample(b, d)),
        Just(Told::Heartbeat),
        any_number().prop_map(Told::Progress),
        any_number().prop_map(Told::Dirty),
        any::<bool>().prop_map(Told::Idle),
        any_number().prop_map(Told::Finished),
        any_number().prop_map(Told::Cut),
        Just(Told::Broke),
        Just(Told::Back),
    ]
}

fn tell(s: &mut Synchroniser, now: Nanos, told: &Told) {
    match *told {
        Told::Sample(bandwidth, delay) => s.handle_link_sample(now, LinkSample { bandwidth, delay }),
        Told::Heartbeat => s.handle_heartbeat(now),
        Told::Progress(work) => s.handle_progress(now, work),
        Told::Dirty(bytes) => s.handle_dirty(now, bytes),
        Told::Idle(idle) => s.handle_idle(now, idle),
        Told::Finished(bytes) => s.handle_sync_finished(now, bytes),
        Told::Cut(bytes) => s.handle_sync_cut(now, bytes),
        Told::Broke => s.handle_outage_began(now),
        Told::Back => s.handle_outage_ended(now),
    }
}

fn costs() -> impl Strategy<Value = Costs> {
    (0.0..1e4, 0.0..1e-3, 0.1..100.0).prop_map(|(per_sync, per_byte, slowdown)| Costs { per_sync, per_byte, slowdown })
}

fn delta_of(syncs: &[(u64, u64)]) -> Delta {
    let mut delta = Delta::new();
    syncs.iter().for_each(|&(since, bytes)| delta.synced(since, bytes, None));
    delta
}

fn signs() -> impl Strategy<Value = Signs> {
    (0.0..5.0, 0.0..5.0, 0.0..1.4).prop_map(|(drop, rise, swing)| Signs { drop, rise, swing })
}

/// A synchroniser that has seen a link for a while.
fn seasoned(samples: &[(u64, Nanos)], outages: u32) -> Synchroniser {
    let mut s = Synchroniser::new(Policy::Auto, Settings::default(), 0);
    let mut now = 0;
    for (i, &(bandwidth, delay)) in samples.iter().enumerate() {
        now = (i as Nanos + 1) * 5 * SECOND;
        s.handle_link_sample(now, LinkSample { bandwidth: Some(bandwidth), delay: Some(delay) });
        s.handle_heartbeat(now);
    }
    for _ in 0..outages {
        s.handle_outage_began(now);
        s.handle_outage_ended(now);
    }
    s
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_told_decisions_are_sound(
        policy in prop::sample::select(POLICIES.to_vec()),
        costs in costs(),
        max_loss in prop::option::of(0..u64::MAX),
        share in prop_oneof![Just(f64::NAN), Just(0.0), 0.0..2.0],
        bound_all in any::<bool>(),
        events in prop::collection::vec((0..1u64 << 42, told()), 0..120),
    ) {
        let bounds = Bounds { max_loss, share, ..Bounds::default() };
        let mut s = Synchroniser::new(policy, Settings { costs, bounds, bound_all, ..Settings::default() }, 0);
        let (mut now, mut up, mut flying) = (0u64, true, false);
        for (gap, event) in &events {
            now = now.saturating_add(*gap);
            tell(&mut s, now, event);
            match event {
                Told::Broke => (up, flying) = (false, false),
                Told::Back => up = true,
                Told::Finished(_) | Told::Cut(_) => flying = false,
                _ => {}
            }
            let decision = s.decide(now);
            let line = decision.reason.to_string();
            prop_assert!(!line.contains("NaN") && !line.contains("inf") && !line.contains('\n') && line.len() < 160, "{}", line);
            match decision.action {
                Action::Sync => {
                    prop_assert!(up && !flying, "{}", line);
                    s.handle_sync_started(now);
                    flying = true;
                }
                Action::WaitUntil(until) => prop_assert!(until > now || now == Nanos::MAX, "{} {}", until, now),
            }
            let view = s.view();
            prop_assert!(view.hazard.is_finite() && view.hazard > 0.0 && view.recompute.is_finite());
            prop_assert!(view.bandwidth.is_none_or(f64::is_finite) && view.delay.is_none_or(f64::is_finite));
            if matches!(policy, Policy::Auto | Policy::Young) {
                let interval = view.interval.unwrap();
                prop_assert!((SECOND..=Bounds::default().most).contains(&interval), "{}", interval);
            }
        }
    }

    #[test]
    fn a_larger_hazard_asks_for_syncs_no_less_often(
        costs in costs(),
        syncs in prop::collection::vec((0..1u64 << 44, 0..1u64 << 40), 0..12),
        low in 1e-9..1.0f64,
        factor in 1.0..1e4f64,
    ) {
        let delta = delta_of(&syncs);
        let (rare, often) = (best(costs, &delta, low, 7200.0), best(costs, &delta, low * factor, 7200.0));
        prop_assert!(often <= rare * (1.0 + 1e-6), "{} {}", often, rare);
        prop_assert!(often > 0.0 || costs.per_sync == 0.0);
    }

    #[test]
    fn more_bytes_to_send_ask_for_syncs_no_more_often(
        costs in costs(),
        syncs in prop::collection::vec((SECOND..1u64 << 42, 0..1u64 << 32), 1..12),
        lambda in 1e-6..1e-1f64,
        factor in 2..16u64,
    ) {
        let more: Vec<(u64, u64)> = syncs.iter().map(|&(since, bytes)| (since, bytes * factor)).collect();
        let (few, many) = (best(costs, &delta_of(&syncs), lambda, 7200.0), best(costs, &delta_of(&more), lambda, 7200.0));
        prop_assert!(many >= few * (1.0 - 1e-3), "{} {}", few, many);
    }

    /// The signs all point one way: worse is never safer, for any record of outages.
    #[test]
    fn worse_signs_never_lower_the_hazard(
        past in prop::collection::vec((0..1u64 << 40, signs(), any::<bool>()), 0..60),
        now_signs in signs(),
        worse in (0.0..3.0, 0.0..3.0, 0.0..1.0),
    ) {
        let mut hazard = Hazard::new(Weights::default(), 0);
        let mut now = 0;
        for (gap, signs, breaks) in past {
            now += gap;
            hazard.read(now, &signs);
            if breaks {
                hazard.outage_began(now + SECOND);
                now += 10 * SECOND;
                hazard.outage_ended(now);
            }
        }
        let worst = Signs {
            drop: now_signs.drop + worse.0,
            rise: now_signs.rise + worse.1,
            swing: now_signs.swing + worse.2,
        };
        let mut other = hazard;
        hazard.read(now, &now_signs);
        other.read(now, &worst);
        prop_assert!(other.rate(0.0) >= hazard.rate(0.0) * (1.0 - 1e-9));
        prop_assert!(hazard.rate(5.0) >= hazard.rate(0.0));
    }

    #[test]
    fn a_faster_sample_never_shortens_the_interval_and_a_later_one_never_lengthens_it(
        samples in prop::collection::vec((1_000..100_000_000u64, 1_000_000..2_000_000_000u64), 1..200),
        outages in 0..6u32,
        last in (1_000..100_000_000u64, 1_000_000..2_000_000_000u64),
        factor in 1..20u64,
    ) {
        let interval = |bandwidth: u64, delay: Nanos| {
            let mut s = seasoned(&samples, outages);
            let now = (samples.len() as Nanos + 1) * 5 * SECOND;
            s.handle_link_sample(now, LinkSample { bandwidth: Some(bandwidth), delay: Some(delay) });
            s.view().interval.unwrap()
        };
        let (b, d) = last;
        prop_assert!(interval(b * factor, d) >= interval(b, d));
        prop_assert!(interval(b, d * factor) <= interval(b, d));
    }

    /// Only the node's own clock is used, and only differences of it.
    #[test]
    fn where_the_clock_started_does_not_matter(
        policy in prop::sample::select(POLICIES.to_vec()),
        offset in 0..1u64 << 60,
        events in prop::collection::vec((0..1u64 << 36, told()), 0..60),
    ) {
        let mut a = Synchroniser::new(policy, Settings::default(), 0);
        let mut b = Synchroniser::new(policy, Settings::default(), offset);
        let mut now = 0;
        for (gap, event) in &events {
            now += gap;
            tell(&mut a, now, event);
            tell(&mut b, now + offset, event);
            let (x, y) = (a.decide(now), b.decide(now + offset));
            prop_assert_eq!(x.reason, y.reason);
            if x.action == Action::Sync {
                prop_assert_eq!(y.action, Action::Sync);
                a.handle_sync_started(now);
                b.handle_sync_started(now + offset);
            }
        }
    }
}
