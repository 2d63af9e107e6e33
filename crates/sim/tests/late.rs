//! Late pages over a link that breaks: what is missing is told in messages that are not too long, what the task waits
//! for is asked for again, and nothing is taken twice.

use wayfare_transfer::destination::{Action, Caps, Destination, Event, Landing, Phase};
use wayfare_transfer::message::Long;
use wayfare_transfer::pages::{Batch, Packer, PageDigest};
use wayfare_transfer::source::{LATE, RANGES_MAX};
use wayfare_transfer::{Accept, Kind, Message, Mode, Offer, PageRange, Part, Refusal, TaskId};

/// Counts how often each page came.
struct Counter(Vec<u32>);

impl Landing for Counter {
    fn write(&mut self, range: PageRange, _: &[u8]) -> Result<(), Refusal> {
        self.zero(range)
    }

    fn zero(&mut self, range: PageRange) -> Result<(), Refusal> {
        (range.first..range.first + range.count).for_each(|page| self.0[page as usize] += 1);
        Ok(())
    }

    fn forget(&mut self, _: &[PageRange]) {}

    fn recall(&mut self, _: u32, _: u64, _: &PageDigest) -> bool {
        false
    }
}

fn page(first: u64, count: u64) -> PageRange {
    PageRange { memory: 0, first, count }
}

fn draining(pages: u64, mode: Mode) -> Destination {
    let mut d = Destination::new(Caps::default());
    let offer = Offer {
        task: TaskId([1; 16]),
        name: "task".into(),
        epoch: 2,
        module: [0; 32],
        module_len: 0,
        canonical_nan: false,
        memories: vec![pages << 12],
        mode,
        settings: Vec::new(),
    };
    d.handle_message(Message::Offer(offer), None).unwrap();
    d.handle_event(Event::Admitted(Accept { has_module: true, has_pages: false, can_be_late: true }));
    d.handle_event(Event::Landed);
    if mode.is_late() {
        d.handle_message(Message::Late(vec![page(0, pages)]), None).unwrap();
    }
    d.handle_part(&Part::of(Long::State, b"state", 0)).unwrap();
    d.handle_event(Event::Logged);
    d.handle_event(Event::Prepared);
    d.handle_message(Message::Commit(2), None).unwrap();
    while d.poll_message().is_some() {}
    d
}

fn send(d: &mut Destination, to: &mut Counter, range: PageRange) -> bool {
    let mut out = Vec::new();
    Packer::default().pack(LATE, range, &vec![0; range.count as usize * 4096], &mut out);
    let taken = d.handle_pages(&Batch::parse(&out).unwrap(), to).is_ok();
    while let Some(action) = d.poll_action() {
        if action == Action::Save {
            d.handle_event(Event::Saved);
        }
    }
    taken
}

#[test]
fn what_is_missing_in_many_pieces_is_told_in_messages_that_fit() {
    let pages = 3 * RANGES_MAX as u64;
    let (mut d, mut to) = (draining(pages, Mode::PostCopy), Counter(vec![0; pages as usize]));
    for first in (0..pages).step_by(2) {
        assert!(send(&mut d, &mut to, page(first, 1)));
    }
    assert_eq!(d.missing(), pages / 2);
    // The task waits for a page, and the link breaks.
    d.handle_event(Event::Fault(page(pages - 1, 1)));
    d.handle_event(Event::Disconnected);
    assert!(d.reattach());
    let (mut lists, mut fetched) = (0, 0);
    while let Some(message) = d.poll_message() {
        assert!(message.encode().len() <= Kind::Transfer.cap());
        match message {
            Message::Late(missing) => {
                lists += 1;
                assert!(missing.len() <= RANGES_MAX);
                missing.into_iter().for_each(|range| assert!(send(&mut d, &mut to, range)));
                d.handle_message(Message::Drained, None).unwrap();
            }
            Message::Fetch(range) => {
                fetched += 1;
                assert_eq!(range, page(pages - 1, 1));
            }
            Message::Received => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((d.phase(), lists), (&Phase::Done, 2));
    assert!(fetched >= 1, "what the task waits for was forgotten");
    assert!(to.0.iter().all(|times| *times == 1));
}

#[test]
fn a_page_that_is_there_is_not_taken_again() {
    let (mut d, mut to) = (draining(64, Mode::PostCopy), Counter(vec![0; 64]));
    assert!(send(&mut d, &mut to, page(0, 16)));
    assert!(!send(&mut d, &mut to, page(15, 2)));
    assert!(send(&mut d, &mut to, page(16, 48)));
    assert_eq!(d.missing(), 0);
    assert!(!send(&mut d, &mut to, page(63, 1)));
}

#[test]
fn a_task_that_came_whole_takes_no_late_pages() {
    let (mut d, mut to) = (draining(64, Mode::PreCopy), Counter(vec![0; 64]));
    assert_eq!((d.phase(), d.missing()), (&Phase::Saving, 0));
    assert!(!send(&mut d, &mut to, page(0, 1)));
}
