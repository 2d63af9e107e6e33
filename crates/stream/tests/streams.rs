//! What a client and a guest see of each other, whatever happens between them.

use wayfare_stream::{Event, IngressEnd, OpenError, Segment, StreamError, TaskEnd, WINDOW};

struct Both {
    ingress: IngressEnd,
    task: TaskEnd,
}

impl Both {
    fn new() -> Self {
        let mut both = Self { ingress: IngressEnd::new(10), task: TaskEnd::new(10) };
        both.attach();
        both
    }

    /// With one client, accepted.
    fn connected() -> Self {
        let mut both = Self::new();
        both.ingress.open(7, "192.0.2.1:4000").unwrap();
        both.carry();
        assert_eq!(both.task.accept(), Some(7));
        both
    }

    fn attach(&mut self) {
        self.ingress.attached();
        self.task.attached();
    }

    /// Carries segments until nobody says anything more.
    fn carry(&mut self) {
        loop {
            let (up, down) = (self.ingress.poll_transmit(), self.task.poll_transmit());
            if up.is_none() && down.is_none() {
                return;
            }
            up.into_iter().for_each(|segment| self.task.handle(segment).unwrap());
            down.into_iter().for_each(|segment| self.ingress.handle(segment).unwrap());
        }
    }

    /// What both sides say now goes nowhere.
    fn lose(&mut self) {
        while self.ingress.poll_transmit().is_some() {}
        while self.task.poll_transmit().is_some() {}
    }

    fn moved(&mut self) {
        self.task = TaskEnd::thaw(&self.task.freeze(), 10).unwrap();
        self.attach();
        self.carry();
    }

    fn guest_reads(&mut self, len: usize) -> Result<Vec<u8>, StreamError> {
        let mut buf = vec![0; len];
        let len = self.task.recv(7, &mut buf, false)?;
        buf.truncate(len);
        Ok(buf)
    }

    fn client_reads(&mut self) -> Result<Vec<u8>, StreamError> {
        let mut buf = vec![0; 1 << 20];
        let len = self.ingress.read(7, &mut buf)?;
        buf.truncate(len);
        Ok(buf)
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.ingress.poll_event()).collect()
    }

    fn assert_forgotten(&self) {
        assert!(self.ingress.is_empty() && self.task.is_empty());
    }
}

#[test]
fn a_connection_is_there_once_with_its_address_in_the_order_of_arrival() {
    let mut both = Both::new();
    both.ingress.open(3, "192.0.2.1:4000").unwrap();
    both.lose();
    both.attach();
    both.carry();
    assert!(both.task.can_accept());
    both.ingress.open(2, "[::1]:5").unwrap();
    both.carry();
    both.attach();
    both.carry();
    assert_eq!((both.task.accept(), both.task.accept(), both.task.accept()), (Some(3), Some(2), None));
    assert_eq!((both.task.peer(3), both.task.peer(2)), (Some("192.0.2.1:4000"), Some("[::1]:5")));
    assert_eq!(both.ingress.open(2, ""), Err(OpenError::Taken));
    assert_eq!(both.ingress.open(4, &"x".repeat(65)), Err(OpenError::Peer));
    (10..18).for_each(|stream| both.ingress.open(stream, "").unwrap());
    assert_eq!(both.ingress.open(4, ""), Err(OpenError::Full));
}

#[test]
fn connections_that_wait_to_be_accepted_move_in_their_order() {
    let mut both = Both::new();
    [9, 4, 6].into_iter().for_each(|stream| {
        both.ingress.open(stream, "x").unwrap();
        both.carry();
    });
    both.ingress.write(4, b"first words").unwrap();
    both.moved();
    assert_eq!((both.task.accept(), both.task.accept(), both.task.accept()), (Some(9), Some(4), Some(6)));
    assert!(both.task.is_readable(4) && !both.task.is_readable(9));
}

#[test]
fn bytes_on_their_way_and_unread_survive_a_move() {
    let mut both = Both::connected();
    both.ingress.write(7, b"abcdef").unwrap();
    both.carry();
    assert_eq!(both.guest_reads(2), Ok(b"ab".to_vec()));
    both.task.send(7, b"123").unwrap();
    both.lose();
    both.ingress.write(7, b"gh").unwrap();
    both.moved();
    assert_eq!(both.guest_reads(9), Ok(b"cdefgh".to_vec()));
    both.task.send(7, b"45").unwrap();
    both.carry();
    assert_eq!(both.client_reads(), Ok(b"12345".to_vec()));
    assert_eq!(both.client_reads(), Err(StreamError::WouldBlock));
    assert_eq!(both.guest_reads(9), Err(StreamError::WouldBlock));
}

#[test]
fn a_look_takes_nothing() {
    let mut both = Both::connected();
    both.ingress.write(7, b"abc").unwrap();
    both.ingress.finish(7);
    both.carry();
    let mut buf = [0; 8];
    assert_eq!((both.task.recv(7, &mut buf, true), both.task.recv(7, &mut [], true)), (Ok(3), Ok(0)));
    both.carry();
    assert_eq!(both.ingress.room(7), 0, "finished");
    assert_eq!(both.guest_reads(9), Ok(b"abc".to_vec()));
    assert_eq!((both.task.recv(7, &mut buf, true), both.guest_reads(9)), (Ok(0), Ok(vec![])));
}

#[test]
fn each_side_keeps_a_window_and_then_waits() {
    let mut both = Both::connected();
    let big = vec![5; WINDOW + 1];
    assert_eq!(both.ingress.write(7, &big), Ok(WINDOW));
    assert_eq!((both.ingress.write(7, b"x"), both.ingress.room(7)), (Err(StreamError::WouldBlock), 0));
    assert_eq!(both.task.send(7, &big), Ok(WINDOW));
    assert_eq!((both.task.send(7, b"x"), both.task.is_writable(7)), (Err(StreamError::WouldBlock), false));
    both.carry();
    // What has arrived and is not consumed makes no room.
    assert_eq!((both.ingress.room(7), both.task.is_writable(7)), (0, false));
    assert_eq!(both.events(), [Event::Changed(7)]);
    assert_eq!(both.guest_reads(1 << 20).unwrap().len(), WINDOW);
    assert_eq!(both.client_reads().unwrap().len(), WINDOW);
    both.carry();
    assert_eq!((both.ingress.room(7), both.task.is_writable(7)), (WINDOW, true));
    assert_eq!(both.events(), [Event::Changed(7)]);
    assert_eq!((both.ingress.buffered(), both.task.buffered()), (0, 0));
}

#[test]
fn a_client_that_finishes_still_gets_its_answer() {
    let mut both = Both::connected();
    both.ingress.write(7, b"all").unwrap();
    both.ingress.finish(7);
    assert_eq!(both.ingress.write(7, b"x"), Err(StreamError::Closed));
    both.moved();
    assert_eq!((both.guest_reads(9), both.guest_reads(9)), (Ok(b"all".to_vec()), Ok(vec![])));
    both.moved();
    // The end is still the end there.
    assert_eq!(both.guest_reads(9), Ok(vec![]));
    both.task.send(7, b"answer").unwrap();
    both.task.close(7);
    both.carry();
    assert_eq!((both.client_reads(), both.client_reads()), (Ok(b"answer".to_vec()), Ok(vec![])));
    both.carry();
    assert_eq!(both.events(), [Event::Closed(7)]);
    both.assert_forgotten();
}

#[test]
fn a_guest_that_shuts_down_for_writing_goes_on_reading() {
    let mut both = Both::connected();
    both.task.send(7, b"hello").unwrap();
    both.task.shutdown(7, false, true).unwrap();
    assert_eq!(both.task.send(7, b"x"), Err(StreamError::Closed));
    both.moved();
    assert_eq!((both.client_reads(), both.client_reads()), (Ok(b"hello".to_vec()), Ok(vec![])));
    both.ingress.write(7, b"more").unwrap();
    both.moved();
    assert_eq!((both.guest_reads(9), both.task.send(7, b"x")), (Ok(b"more".to_vec()), Err(StreamError::Closed)));
    // Finished both ways, the stream is there until the guest closes it.
    both.ingress.finish(7);
    both.carry();
    assert_eq!(both.guest_reads(9), Ok(vec![]));
    both.moved();
    assert_eq!((both.guest_reads(9), both.events()), (Ok(vec![]), vec![Event::Changed(7)]));
    both.task.close(7);
    both.carry();
    assert_eq!(both.events(), [Event::Closed(7)]);
    both.assert_forgotten();
}

#[test]
fn a_guest_that_shuts_down_for_reading_reads_what_is_there_and_then_the_end() {
    let mut both = Both::connected();
    both.ingress.write(7, b"abc").unwrap();
    both.carry();
    both.task.shutdown(7, true, false).unwrap();
    assert_eq!((both.guest_reads(9), both.guest_reads(9)), (Ok(b"abc".to_vec()), Ok(vec![])));
    both.moved();
    assert!(both.task.is_readable(7));
    assert_eq!((both.guest_reads(9), both.task.send(7, b"x")), (Ok(vec![]), Ok(1)));
}

#[test]
fn a_guest_that_closes_has_its_last_words_delivered_through_losses_and_moves() {
    let mut both = Both::connected();
    both.ingress.write(7, b"not read by anyone").unwrap();
    both.carry();
    both.task.send(7, b"last words").unwrap();
    both.task.close(7);
    assert_eq!(both.guest_reads(1), Err(StreamError::Unknown));
    both.lose();
    both.moved();
    // Its bytes are not wanted any more, and the driver hears of it.
    assert_eq!(both.events(), [Event::Changed(7)]);
    assert_eq!((both.ingress.write(7, b"x"), both.ingress.room(7)), (Err(StreamError::Closed), 0));
    both.moved();
    assert_eq!(both.client_reads(), Ok(b"last words".to_vec()));
    both.moved();
    assert_eq!(both.client_reads(), Ok(vec![]));
    both.lose();
    assert!(both.ingress.is_empty() && !both.task.is_empty());
    both.moved();
    both.assert_forgotten();
    assert_eq!(both.events(), [Event::Closed(7)]);
}

#[test]
fn a_client_that_goes_resets_the_guest_however_often_that_is_lost() {
    let mut both = Both::connected();
    both.ingress.write(7, b"abc").unwrap();
    both.carry();
    both.ingress.reset(7);
    both.lose();
    both.attach();
    both.lose();
    both.attach();
    both.carry();
    // As on Linux: what had come before, then the error.
    assert_eq!((both.guest_reads(9), both.guest_reads(9)), (Ok(b"abc".to_vec()), Err(StreamError::Reset)));
    assert_eq!(both.task.send(7, b"x"), Err(StreamError::Reset));
    assert!(both.task.is_readable(7) && both.task.is_writable(7) && both.events().is_empty());
    both.moved();
    assert_eq!(
        (both.guest_reads(9), both.task.shutdown(7, true, true)),
        (Err(StreamError::Reset), Err(StreamError::Reset))
    );
    both.task.close(7);
    both.assert_forgotten();
}

#[test]
fn a_client_that_goes_before_it_is_accepted_is_not_seen() {
    let mut both = Both::new();
    both.ingress.open(1, "x").unwrap();
    both.carry();
    both.ingress.reset(1);
    both.carry();
    assert_eq!(both.task.accept(), None);
    both.assert_forgotten();
}

#[test]
fn a_closed_stream_never_comes_back_as_a_new_client() {
    let mut both = Both::new();
    both.ingress.open(7, "x").unwrap();
    // Nothing that the task says arrives, so that the ingress does not know that it is known.
    while let Some(segment) = both.ingress.poll_transmit() {
        both.task.handle(segment).unwrap();
    }
    assert_eq!(both.task.accept(), Some(7));
    both.task.close(7);
    both.lose();
    both.moved();
    assert_eq!(both.task.accept(), None);
    assert_eq!(both.client_reads(), Ok(vec![]));
    both.carry();
    both.assert_forgotten();
}

#[test]
fn a_listener_that_closes_resets_those_who_wait_and_those_who_come() {
    let mut both = Both::connected();
    both.ingress.open(8, "x").unwrap();
    both.carry();
    both.task.stop_listening();
    both.lose();
    both.moved();
    assert_eq!(both.events(), [Event::Changed(7), Event::Reset(8)]);
    both.ingress.open(9, "x").unwrap();
    both.carry();
    assert_eq!((both.events(), both.task.accept()), (vec![Event::Reset(9)], None));
    // The connection that was accepted is untouched.
    assert_eq!(both.task.send(7, b"x"), Ok(1));
    assert_eq!(both.task.len(), 1);
}

#[test]
fn a_task_that_ends_leaves_no_client_waiting() {
    let mut both = Both::connected();
    both.ingress.open(8, "x").unwrap();
    both.carry();
    both.task.send(7, b"bye").unwrap();
    both.task.close_all();
    both.carry();
    assert_eq!((both.client_reads(), both.client_reads()), (Ok(b"bye".to_vec()), Ok(vec![])));
    both.carry();
    assert_eq!(both.events(), [Event::Closed(7), Event::Reset(8)]);
    both.assert_forgotten();

    let mut both = Both::connected();
    both.task.send(7, b"bye").unwrap();
    both.task.reset_all();
    both.carry();
    assert_eq!(both.events(), [Event::Reset(7)]);
    both.assert_forgotten();

    // Its node is gone with all that it had.
    let mut both = Both::connected();
    both.ingress.reset_all();
    assert_eq!((both.events(), both.ingress.len()), (vec![Event::Reset(7)], 0));
}

#[test]
fn a_task_takes_no_more_clients_than_it_may_have() {
    let mut both = Both::new();
    both.task = TaskEnd::new(1);
    both.task.attached();
    both.ingress.open(1, "x").unwrap();
    both.ingress.open(2, "x").unwrap();
    both.carry();
    assert_eq!((both.task.len(), both.events()), (1, vec![Event::Reset(2)]));
}

#[test]
fn an_older_copy_goes_on_where_nothing_has_happened_and_is_reset_where_something_has() {
    let mut both = Both::new();
    (1..=4).for_each(|stream| both.ingress.open(stream, "x").unwrap());
    both.carry();
    (1..=4).for_each(|stream| assert_eq!(both.task.accept(), Some(stream)));
    let older = both.task.freeze();
    let mut buf = [0; 9];
    // 1: the task has read; 2: the client has read; 3: the client has written; 4: a new answer is half way.
    both.ingress.write(1, b"x").unwrap();
    both.ingress.write(3, b"x").unwrap();
    both.task.send(2, b"y").unwrap();
    both.task.send(4, b"new").unwrap();
    both.carry();
    both.task.recv(1, &mut buf, false).unwrap();
    both.carry();
    both.ingress.read(2, &mut buf).unwrap();
    // 5 came after it, and has had an answer.
    both.ingress.open(5, "x").unwrap();
    both.carry();
    both.task.accept().unwrap();
    both.task.send(5, b"z").unwrap();
    both.carry();
    both.ingress.read(5, &mut buf).unwrap();
    both.events();

    both.task = TaskEnd::thaw(&older, 10).unwrap();
    both.task.send(4, b"old").unwrap();
    both.attach();
    // What the task does before it knows is void too.
    both.task.send(1, b"w").unwrap();
    both.ingress.write(1, b"x").unwrap();
    both.carry();
    let events = both.events();
    for stream in [1, 2, 5] {
        assert!(events.contains(&Event::Reset(stream)), "{stream} {events:?}");
    }
    assert!(both.task.recv(1, &mut buf, false) == Err(StreamError::Reset) && both.task.accept().is_none());
    assert_eq!(both.task.recv(3, &mut buf, false), Ok(1));
    assert_eq!((both.ingress.read(4, &mut buf), &buf[..3]), (Ok(3), &b"old"[..]));
}

#[test]
fn an_older_copy_takes_no_stream_for_new_whose_task_has_closed_it() {
    let mut both = Both::new();
    let older = both.task.freeze();
    both.ingress.open(7, "x").unwrap();
    both.carry();
    both.task.accept().unwrap();
    both.task.send(7, b"not got yet").unwrap();
    both.task.close(7);
    both.carry();
    both.events();
    both.task = TaskEnd::thaw(&older, 10).unwrap();
    both.attach();
    both.carry();
    assert_eq!((both.task.accept(), both.events()), (None, vec![Event::Reset(7)]));
    both.assert_forgotten();
}

#[test]
fn a_large_transfer_does_not_keep_others_waiting() {
    let mut both = Both::new();
    both.ingress.open(1, "x").unwrap();
    both.ingress.open(2, "x").unwrap();
    both.ingress.write(1, &vec![0; WINDOW]).unwrap();
    both.ingress.write(2, b"small").unwrap();
    let order: Vec<u64> = std::iter::from_fn(|| both.ingress.poll_transmit())
        .filter(|segment| matches!(segment, Segment::Data { .. }))
        .map(|segment| segment.stream())
        .collect();
    assert_eq!(order, [1, 2, 1, 1, 1]);
}

#[test]
fn nothing_is_sent_without_a_channel() {
    let (mut ingress, mut task) = (IngressEnd::new(9), TaskEnd::new(9));
    ingress.open(1, "x").unwrap();
    assert_eq!((ingress.poll_transmit(), task.poll_transmit()), (None, None));
    ingress.attached();
    assert!(ingress.poll_transmit().is_some());
    ingress.write(1, b"x").unwrap();
    ingress.detached();
    assert_eq!(ingress.poll_transmit(), None);
    task.detached();
}
