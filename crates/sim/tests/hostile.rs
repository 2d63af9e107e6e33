//! Peers that keep to no protocol: random bytes, frames cut off or too long, messages in any order, claims without
//! bounds. Nothing panics, nothing grows without end, and what is wrong is called wrong.

use proptest::prelude::*;
use std::collections::BTreeMap;
use wayfare_sim::net::{ConnId, Net, NetEvent};
use wayfare_sim::{Host, MILLI, Nanos, Program, Rng, SECOND, Settings, Shape, SimGuest};
use wayfare_transfer::destination::{self, Caps, Destination, Landing};
use wayfare_transfer::pages::{Batch, Packer};
use wayfare_transfer::source::{self, Guest, LATE, Phase, Policy, RANGES_MAX, Source};
use wayfare_transfer::{
    Accept, Answer, Channel, Incoming, Kind, Message, Mode, Offer, PageRange, Part, Reason, Refusal, TaskId,
    message::Long,
};

const TASK: TaskId = TaskId([3; 16]);

fn offer(program: &Program, mode: Mode, epoch: u64) -> Offer {
    let module = program.encode();
    Offer {
        task: TASK,
        name: "task".into(),
        epoch,
        module: wayfare_snapshot::Digest::of(&module).0,
        module_len: module.len() as u64,
        canonical_nan: false,
        memories: SimGuest::start(program).sizes(),
        mode,
        settings: Vec::new(),
    }
}

fn range(rng: &mut Rng) -> PageRange {
    let far = rng.pick(&[0, 3, 40, 90, 1 << 30, 1 << 52, u64::MAX - 1, u64::MAX]);
    let count = rng.pick(&[0, 1, 5, 64, 1 << 20, 1 << 52, u64::MAX]);
    PageRange { memory: rng.pick(&[0, 0, 0, 1, 2, 63, 64, u32::MAX]), first: far, count }
}

fn message(rng: &mut Rng, program: &Program) -> Message {
    let refusal = Refusal::new(Reason::Busy, "no");
    let epoch = rng.pick(&[0, 1, 2, 3, u64::MAX]);
    let range = range(rng);
    let few = rng.below(5) as usize;
    let mode = rng.pick(&[Mode::PreCopy, Mode::PostCopy, Mode::Hybrid, Mode::Stop]);
    match rng.below(22) {
        0 => Message::Offer(offer(program, mode, epoch)),
        1 => Message::Accept(Accept {
            has_module: rng.chance(0.5),
            has_pages: rng.chance(0.5),
            can_be_late: rng.chance(0.5),
        }),
        2 => Message::Refuse(refusal),
        3 => Message::Abort(refusal),
        4 => Message::Landed,
        5 => Message::Digests { range: PageRange { count: few as u64, ..range }, digests: vec![[0; 16]; few] },
        6 => Message::Digests { range, digests: vec![[0; 16]; few] },
        7 => Message::Have(vec![0xff; few]),
        8 => Message::Round { number: rng.pick(&[0, 1, 2, u32::MAX]), pages: rng.pick(&[0, 1, u64::MAX]) },
        9 => Message::RoundDone(rng.pick(&[0, 1, 2, u32::MAX])),
        10 => Message::Late((0..few).map(|_| self::range(rng)).collect()),
        11 => Message::Prepared,
        12 => Message::Commit(epoch),
        13 => Message::Committed(epoch),
        14 => Message::Fetch(range),
        15 => Message::Drained,
        16 => Message::Received,
        17 if rng.chance(0.3) => Message::Lane { task: TASK, epoch },
        17 => Message::Ask { task: TASK, epoch, holds: rng.chance(0.5) },
        18 => Message::Answer(rng.pick(&[Answer::Owns, Answer::Never, Answer::Deciding, Answer::Lost])),
        19 => Message::Stale((0..few).map(|_| self::range(rng)).collect()),
        20 => Message::Dropped,
        _ => Message::Reattach { task: TASK, epoch },
    }
}

/// What the other side would say next if it were honest, by what this one has just said; the rest is noise.
fn reply(said: &Message) -> Option<Message> {
    Some(match said {
        Message::Offer(_) => Message::Accept(Accept { has_module: true, has_pages: true, can_be_late: true }),
        Message::Digests { digests, .. } => Message::Have(vec![0; digests.len().div_ceil(8)]),
        Message::Round { number, .. } => Message::RoundDone(*number),
        Message::Stale(_) => Message::Dropped,
        Message::Commit(epoch) => Message::Committed(*epoch),
        Message::Drained => Message::Received,
        _ => return None,
    })
}

#[test]
fn a_source_stands_any_messages_in_any_order() {
    let program = Program::small(2);
    let mut reached = BTreeMap::new();
    for seed in 0..20_000 {
        let rng = &mut Rng::new(seed);
        let mode = rng.pick(&[Mode::PreCopy, Mode::PostCopy, Mode::Hybrid, Mode::Stop]);
        let mut guest = SimGuest::start(&program);
        guest.begin_move();
        let mut source = Source::new(offer(&program, mode, 2), program.encode(), Policy::default());
        let (mut honest, mut payload, mut committed) = (Vec::new(), Vec::new(), false);
        for now in 0..200 {
            let said = if rng.chance(0.15) { Some(message(rng, &program)) } else { honest.pop() };
            if let Some(said) = said
                && source.handle_message(now, said).is_err()
            {
                // The driver closes the channel.
                source.handle_event(source::Event::Disconnected);
                assert!(
                    !matches!(source.phase(), Phase::Copying | Phase::Final(_)),
                    "seed {seed}: {:?}",
                    source.phase()
                );
            }
            if rng.chance(0.02) {
                source.handle_event(source::Event::Disconnected);
            }
            committed |= matches!(source.phase(), Phase::Unknown);
            while let Some(action) = source.poll_action() {
                match action {
                    source::Action::Freeze => source.handle_event(source::Event::Frozen(guest.registers())),
                    source::Action::Log(_) => source.handle_event(source::Event::Logged),
                    source::Action::Ask => {
                        source.handle_answer(rng.pick(&[Answer::Owns, Answer::Never, Answer::Deciding, Answer::Lost]))
                    }
                    source::Action::Redial => source.reattach(),
                    // Before the commit was sent nothing may leave, after it only the destination's word gives it back.
                    source::Action::Gone => assert!(committed, "seed {seed}"),
                    source::Action::Thaw => assert!(!committed, "seed {seed}"),
                    _ => {}
                }
            }
            let Some(kind) = source.poll_message(now, &mut guest, &mut payload) else { continue };
            assert!(payload.len() <= kind.cap(), "seed {seed}");
            if kind == Kind::Transfer {
                let said = Message::decode(&payload).unwrap();
                honest.extend(reply(&said));
            } else if matches!(source.phase(), Phase::Preparing) {
                honest.push(Message::Prepared);
            }
            if matches!(source.phase(), Phase::Landing) {
                honest.push(Message::Landed);
            }
        }
        *reached.entry(format!("{:?}", source.phase()).split('(').next().unwrap().to_string()).or_insert(0) += 1;
    }
    println!("{reached:?}");
    assert!(reached.contains_key("Done") && reached.contains_key("Failed"), "{reached:?}");
}

#[test]
fn a_destination_stands_any_messages_in_any_order() {
    let program = Program::small(2);
    let mut reached = BTreeMap::new();
    for seed in 0..20_000 {
        let rng = &mut Rng::new(seed);
        let mode = rng.pick(&[Mode::PreCopy, Mode::PostCopy, Mode::Hybrid, Mode::Stop]);
        let mut source_guest = SimGuest::start(&program);
        source_guest.begin_move();
        let dirty = source_guest.dirty();
        let mut guest = SimGuest::image(&program);
        let mut d = Destination::new(Caps::default());
        let (mut committed, mut answers, mut handled) = (false, 0, 0);
        // An honest course, with noise between.
        let mut course: Vec<Step> = vec![Step::Say(Message::Offer(offer(&program, mode, 2)))];
        match mode {
            Mode::PreCopy | Mode::Stop => course
                .extend([Step::Pages(1, dirty[0]), Step::Say(Message::Round { number: 1, pages: dirty[0].count })]),
            _ => course.push(Step::Say(Message::Late(dirty.clone()))),
        }
        course.extend([Step::State, Step::Say(Message::Commit(2))]);
        if mode.is_late() {
            course.extend([Step::Pages(LATE, dirty[0]), Step::Say(Message::Drained)]);
        }
        course.reverse();
        for _ in 0..60 {
            let step =
                if rng.chance(0.12) { Step::noise(rng, &program) } else { course.pop().unwrap_or(Step::Nothing) };
            handled += 1;
            let owned = d.owns();
            let result = match step {
                Step::Say(message) => {
                    let offered = d.offer().map(|offer| offer.epoch);
                    committed |= matches!(message, Message::Commit(epoch) if Some(epoch) == offered);
                    d.handle_message(message, Some(&mut guest as &mut dyn Landing)).map_err(|e| e.to_string())
                }
                Step::State => {
                    let state = source_guest.registers();
                    d.handle_part(&Part::of(Long::State, &state, 0)).map_err(|e| e.to_string())
                }
                Step::Pages(round, range) => pages(&mut d, &mut guest, round, range),
                Step::Part(bytes) => match Part::decode(&bytes) {
                    Ok(part) => d.handle_part(&part).map_err(|e| e.to_string()),
                    Err(e) => Err(e.to_string()),
                },
                Step::Nothing => Ok(()),
            };
            if result.is_err() {
                d.handle_event(destination::Event::Disconnected);
                assert_eq!(d.owns(), owned, "seed {seed}");
            }
            while let Some(action) = d.poll_action() {
                match action {
                    destination::Action::Admit => {
                        d.handle_event(destination::Event::Admitted(Accept {
                            has_module: true,
                            has_pages: false,
                            can_be_late: true,
                        }));
                    }
                    destination::Action::Land(_) => d.handle_event(destination::Event::Landed),
                    destination::Action::Prepare { state, late, .. } => {
                        let event = match guest.restore(&state, &late) {
                            Ok(()) => destination::Event::Prepared,
                            Err(refusal) => destination::Event::Failed(refusal),
                        };
                        d.handle_event(event);
                    }
                    destination::Action::Log(epoch) => {
                        assert_eq!(Some(epoch), d.offer().map(|offer| offer.epoch), "seed {seed}");
                        d.handle_event(destination::Event::Logged);
                    }
                    destination::Action::Run => assert!(committed, "seed {seed}"),
                    destination::Action::Save => d.handle_event(destination::Event::Saved),
                    _ => {}
                }
            }
            while d.poll_message().is_some() {
                answers += 1;
            }
        }
        assert!(answers <= 2 * handled, "seed {seed}: {answers} answers to {handled}");
        *reached.entry(format!("{:?}", d.phase()).split('(').next().unwrap().to_string()).or_insert(0) += 1;
    }
    println!("{reached:?}");
    assert!(reached.contains_key("Done") && reached.contains_key("Failed"), "{reached:?}");
}

enum Step {
    Say(Message),
    State,
    Pages(u32, PageRange),
    Part(Vec<u8>),
    Nothing,
}

impl Step {
    fn noise(rng: &mut Rng, program: &Program) -> Step {
        match rng.below(6) {
            0 => Step::Pages(rng.pick(&[0, 1, 2, LATE]), range(rng)),
            1 => Step::Part((0..rng.below(60)).map(|_| rng.draw() as u8 % 4).collect()),
            _ => Step::Say(message(rng, program)),
        }
    }
}

fn pages(d: &mut Destination, guest: &mut SimGuest, round: u32, range: PageRange) -> Result<(), String> {
    let mut out = Vec::new();
    let bytes = vec![7; range.count.min(64) as usize * 4096];
    Packer::default().pack(round, PageRange { count: range.count.min(64), ..range }, &bytes, &mut out);
    let batch = Batch::parse(&out).map_err(|e| e.to_string())?;
    d.handle_pages(&batch, guest).map_err(|e| e.to_string())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn random_bytes_are_refused_by_every_parser(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        let _ = Message::decode(&bytes);
        if let Ok(batch) = Batch::parse(&bytes) {
            prop_assert!(batch.runs().count() <= 64);
        }
        if let Ok(part) = Part::decode(&bytes) {
            prop_assert!(part.bytes.len() <= bytes.len());
        }
    }

    #[test]
    fn a_message_cut_off_or_changed_is_refused_or_another(seed in any::<u64>(), at in any::<usize>(), bit in 0..8u32) {
        let rng = &mut Rng::new(seed);
        let mut bytes = message(rng, &Program::small(1)).encode();
        prop_assert!(Message::decode(&bytes).is_ok());
        prop_assert!(Message::decode(&bytes[..at % bytes.len()]).is_err());
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        let _ = Message::decode(&bytes);
    }
}

/// A member of the cluster whose program is ours: it says to a host whatever we like.
struct Member {
    net: Net,
    host: Host,
    channel: Channel,
    conn: ConnId,
    now: Nanos,
    heard: Vec<Incoming>,
    closed: bool,
}

impl Member {
    fn new() -> Self {
        let mut all = wayfare_sim::world::credentials(2);
        let host = Host::new(1, all.pop().unwrap(), Settings { memory: 1 << 30, ..Settings::default() }, 5);
        let mut net = Net::new(2, &Shape::new(100_000_000, MILLI / 10), 5);
        let channel = Channel::initiate(all.pop().unwrap(), [8; 32], 500).unwrap();
        let conn = net.dial(0, 0, 1);
        let mut member = Self { net, host, channel, conn, now: 0, heard: Vec::new(), closed: false };
        member.run(20 * MILLI);
        assert!(member.channel.is_open());
        member
    }

    fn run(&mut self, long: Nanos) {
        let until = self.now + long;
        let mut buffer = Vec::new();
        while self.now < until {
            while let Some(event) = self.net.step(self.now) {
                match event {
                    NetEvent::Incoming(1, conn, peer) => self.host.on_incoming(self.now, conn, peer),
                    NetEvent::Bytes(1, conn, bytes) => self.host.on_bytes(self.now, &mut self.net, conn, &bytes),
                    NetEvent::Closed(1, conn) => self.host.on_closed(self.now, conn),
                    NetEvent::Bytes(_, _, bytes) => self.channel.handle(&bytes).unwrap(),
                    NetEvent::Closed(..) => self.closed = true,
                    _ => {}
                }
            }
            while let Some(incoming) = self.channel.poll() {
                self.heard.push(incoming);
            }
            if self.now >= MILLI && self.channel.poll_transmit(&mut buffer) {
                self.net.send(self.now, 0, self.conn, &buffer);
            }
            self.host.pump(self.now, &mut self.net);
            self.now += MILLI / 10;
        }
    }

    fn say(&mut self, message: &Message) {
        self.channel.send(Kind::Transfer, &message.encode()).unwrap();
        self.run(20 * MILLI);
    }

    fn last(&self) -> Option<Message> {
        let last = self.heard.iter().rev().find(|incoming| incoming.kind == Kind::Transfer);
        last.map(|incoming| Message::decode(&incoming.payload).unwrap())
    }

    /// As far as pages may come.
    fn landed(mode: Mode) -> Self {
        let program = Program::small(1);
        let mut member = Self::new();
        member.say(&Message::Offer(offer(&program, mode, 5)));
        assert!(matches!(member.last(), Some(Message::Accept(_))));
        member.channel.send(Kind::Part, &part(Long::Module, &program.encode())).unwrap();
        member.run(20 * MILLI);
        assert_eq!(member.last(), Some(Message::Landed));
        member
    }
}

fn part(what: Long, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Part::of(what, bytes, 0).encode(&mut out);
    out
}

#[test]
fn an_offer_of_more_memory_than_there_is_gets_a_refusal() {
    for memories in [vec![1 << 60], vec![u64::MAX; 64], vec![1 << 29, 1 << 29, 1]] {
        let mut member = Member::new();
        member.say(&Message::Offer(Offer { memories, ..offer(&Program::small(1), Mode::PreCopy, 5) }));
        assert!(matches!(member.last(), Some(Message::Refuse(r)) if r.reason == Reason::Memory), "{:?}", member.last());
    }
    let mut member = Member::new();
    member.say(&Message::Offer(Offer { memories: vec![1; 65], ..offer(&Program::small(1), Mode::PreCopy, 5) }));
    assert!(member.closed && member.host.violations.len() == 1);
}

#[test]
fn lists_of_late_pages_are_bounded_and_sound() {
    let range = |first, count| PageRange { memory: 0, first, count };
    let million = Message::Late((0..1_000_000).map(|i| range(2 * i, 1)).collect());
    let mut member = Member::landed(Mode::PostCopy);
    assert!(member.channel.send(Kind::Transfer, &million.encode()).is_err(), "longer than a message may be");
    for (late, good) in [
        (vec![range(0, 4), range(5, 1)], true),
        (vec![], true),
        ((0..RANGES_MAX as u64 + 1).map(|i| range(2 * i, 1)).collect(), false),
        (vec![range(0, 0)], false),
        (vec![range(5, 1), range(0, 4)], false),
        (vec![range(0, 4), range(3, 1)], false),
        (vec![range(u64::MAX, 2)], false),
        (vec![range(1, u64::MAX)], false),
        (vec![PageRange { memory: 64, first: 0, count: 1 }], false),
    ] {
        let mut member = Member::landed(Mode::PostCopy);
        let shown = format!("{:.80}", format!("{late:?}"));
        member.say(&Message::Late(late));
        assert_eq!(member.closed, !good, "{shown}: {:?}", member.host.violations);
    }
    // Within bounds, but past the memory: the state does not fit.
    let mut member = Member::landed(Mode::PostCopy);
    member.say(&Message::Late(vec![range(0, 1 << 50)]));
    member.channel.send(Kind::Part, &part(Long::State, &SimGuest::start(&Program::small(1)).registers())).unwrap();
    member.run(20 * MILLI);
    assert!(matches!(member.last(), Some(Message::Refuse(_))), "{:?}", member.last());
}

#[test]
fn pages_past_the_end_are_refused() {
    for (memory, first) in [(0, 90), (0, u64::MAX - 10), (2, 0), (u32::MAX, 0)] {
        let mut member = Member::landed(Mode::PreCopy);
        let mut out = Vec::new();
        let range = PageRange { memory, first, count: 8 };
        Packer::default().pack(1, range, &vec![1; 8 * 4096], &mut out);
        member.channel.send(Kind::Pages, &out).unwrap();
        member.run(20 * MILLI);
        assert!(matches!(member.last(), Some(Message::Refuse(_))), "{range:?}: {:?}", member.last());
    }
}

#[test]
fn a_running_task_cannot_be_written_to_by_late_pages_that_are_there() {
    let program = Program { hot: 0, ..Program::small(1) };
    let mut member = Member::landed(Mode::PostCopy);
    let late = PageRange { memory: 0, first: 0, count: 4 };
    member.say(&Message::Late(vec![late]));
    member.channel.send(Kind::Part, &part(Long::Extra, &program.log())).unwrap();
    member.channel.send(Kind::Part, &part(Long::State, &SimGuest::start(&program).registers())).unwrap();
    member.run(20 * MILLI);
    assert_eq!(member.last(), Some(Message::Prepared));
    member.say(&Message::Commit(5));
    let told = |member: &Member| member.heard.iter().any(|i| i.payload == Message::Committed(5).encode());
    assert!(told(&member));
    let pages = |first, count| {
        let mut out = Vec::new();
        let range = PageRange { memory: 0, first, count };
        Packer::default().pack(LATE, range, &vec![9; count as usize * 4096], &mut out);
        out
    };
    member.channel.send(Kind::Pages, &pages(0, 2)).unwrap();
    member.run(20 * MILLI);
    assert!(!member.closed);
    // Once more, and it would undo what the task has written since.
    member.channel.send(Kind::Pages, &pages(1, 1)).unwrap();
    member.run(20 * MILLI);
    assert!(member.closed, "a page that was there was taken again");
}

#[test]
fn a_member_that_says_anything_is_shut_out_and_nothing_breaks() {
    let program = Program::small(1);
    for seed in 0..300 {
        let rng = &mut Rng::new(seed);
        let mut member =
            if rng.chance(0.5) { Member::landed(rng.pick(&[Mode::PreCopy, Mode::PostCopy])) } else { Member::new() };
        for _ in 0..30 {
            let kind = rng.pick(&[Kind::Transfer, Kind::Transfer, Kind::Pages, Kind::Part, Kind::Node, Kind::Stream]);
            let payload: Vec<u8> = match kind {
                Kind::Transfer if rng.chance(0.8) => message(rng, &program).encode(),
                _ => (0..rng.below(200)).map(|_| rng.draw() as u8).collect(),
            };
            let _ = member.channel.send(kind, &payload);
            if rng.chance(0.3) {
                member.run(MILLI);
            }
        }
        member.run(20 * MILLI);
        // Without a commit nothing runs; and the next one is served.
        assert!(member.host.task(TASK).is_none(), "seed {seed}");
        member.run(2 * SECOND);
        assert!(member.closed, "seed {seed}");
    }
}
