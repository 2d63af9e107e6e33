//! Segments and frozen streams as bytes: they come back whole, and nothing else is taken for them.

use proptest::prelude::*;
use wayfare_stream::{DecodeError, IngressEnd, PEER_MAX, SEGMENT_MAX, Segment, StreamError, TaskEnd, WINDOW};

fn segments() -> Vec<Segment> {
    vec![
        Segment::Open { stream: 1, peer: "[2001:db8::1]:443".into() },
        Segment::Open { stream: 1, peer: String::new() },
        Segment::Data { stream: u64::MAX, offset: 5, bytes: vec![9; SEGMENT_MAX] },
        Segment::Ack { stream: 2, offset: 1 << 62 },
        Segment::Fin { stream: 3, offset: 0 },
        Segment::Close { stream: 4 },
        Segment::Reset { stream: 5 },
    ]
}

#[test]
fn every_segment_comes_back() {
    for segment in segments() {
        let bytes = segment.encode();
        assert!(bytes.len() <= Segment::ENCODED_MAX);
        assert_eq!(Segment::decode(&bytes), Ok(segment));
    }
}

#[test]
fn segments_that_cannot_be_are_refused() {
    let refused = |bytes: &[u8]| Segment::decode(bytes).unwrap_err();
    for segment in segments() {
        let bytes = segment.encode();
        for len in 0..bytes.len().min(9) {
            assert_eq!(refused(&bytes[..len]), DecodeError::Truncated);
        }
        if matches!(segment, Segment::Ack { .. } | Segment::Fin { .. } | Segment::Close { .. } | Segment::Reset { .. })
        {
            assert_eq!(refused(&[&bytes[..], &[0]].concat()), DecodeError::Leftover);
        }
    }
    let data = |offset: u64, len: usize| Segment::Data { stream: 1, offset, bytes: vec![1; len] }.encode();
    assert_eq!(refused(&data(0, 0)), DecodeError::Invalid("the number of bytes in a segment"));
    assert_eq!(refused(&data(0, SEGMENT_MAX + 1)), DecodeError::Invalid("the number of bytes in a segment"));
    assert_eq!(refused(&data(1 << 62, 1)), DecodeError::Invalid("an offset"));
    assert_eq!(refused(&data(u64::MAX, 1)), DecodeError::Invalid("an offset"));
    let open = |peer: &[u8]| [&Segment::Close { stream: 1 }.encode()[1..], peer].concat();
    let open = |peer: &[u8]| [&[1][..], &open(peer)].concat();
    assert!(Segment::decode(&open(&[b'x'; PEER_MAX])).is_ok());
    assert_eq!(refused(&open(&[b'x'; PEER_MAX + 1])), DecodeError::Invalid("the length of an address"));
    assert_eq!(refused(&open(&[0xff])), DecodeError::Invalid("the text of an address"));
    assert_eq!(refused(&[7; 9]), DecodeError::Invalid("the kind of a segment"));
}

/// Streams in every state there is.
fn busy() -> TaskEnd {
    let (mut ingress, mut task) = (IngressEnd::new(20), TaskEnd::new(20));
    ingress.attached();
    task.attached();
    for stream in 1..=9 {
        ingress.open(stream, &format!("192.0.2.{stream}:1")).unwrap();
        ingress.write(stream, b"request").unwrap();
    }
    ingress.finish(2);
    let carry = |ingress: &mut IngressEnd, task: &mut TaskEnd| {
        while let Some(segment) = ingress.poll_transmit() {
            task.handle(segment).unwrap();
        }
        while let Some(segment) = task.poll_transmit() {
            ingress.handle(segment).unwrap();
        }
    };
    carry(&mut ingress, &mut task);
    let mut buf = [0; 100];
    for _ in 1..=7 {
        let stream = task.accept().unwrap();
        task.recv(stream, &mut buf, false).unwrap();
    }
    assert_eq!(task.recv(2, &mut buf, false), Ok(0));
    task.send(3, b"part of an answer").unwrap();
    task.shutdown(4, true, true).unwrap();
    carry(&mut ingress, &mut task);
    ingress.read(4, &mut buf).unwrap();
    ingress.reset(5);
    carry(&mut ingress, &mut task);
    carry(&mut ingress, &mut task);
    task.send(6, b"the last words").unwrap();
    task.close(6);
    // The ingress acknowledges what was never sent: it and the task are not of one mind.
    task.handle(Segment::Ack { stream: 7, offset: 99 }).unwrap();
    assert_eq!(task.recv(7, &mut buf, false), Err(StreamError::Reset));
    task
}

#[test]
fn frozen_streams_come_back_whatever_state_they_are_in() {
    let task = busy();
    let bytes = task.freeze();
    let mut again = TaskEnd::thaw(&bytes, 9).unwrap();
    assert_eq!(again.freeze(), bytes);
    let mut buf = [0; 100];
    assert_eq!(again.peer(3), Some("192.0.2.3:1"));
    assert_eq!(again.recv(1, &mut buf, false), Err(StreamError::WouldBlock));
    assert_eq!(again.recv(2, &mut buf, false), Ok(0));
    assert_eq!((again.recv(4, &mut buf, false), again.send(4, b"x")), (Ok(0), Err(StreamError::Closed)));
    assert_eq!(
        (again.recv(5, &mut buf, false), again.send(5, b"x")),
        (Err(StreamError::Reset), Err(StreamError::Reset))
    );
    assert!(!again.holds(6) && again.holds(7) && !again.holds(8));
    assert_eq!((again.accept(), again.accept(), again.accept()), (Some(8), Some(9), None));
    assert!(again.holds(8) && again.poll_transmit().is_none());
}

#[test]
fn frozen_streams_that_cannot_be_are_refused() {
    let bytes = busy().freeze();
    let refused = |bytes: &[u8]| TaskEnd::thaw(bytes, 100).unwrap_err();
    assert_eq!(TaskEnd::thaw(&bytes, 8).unwrap_err(), DecodeError::Streams(9));
    for len in 0..bytes.len() {
        assert_eq!(refused(&bytes[..len]), DecodeError::Truncated, "{len}");
    }
    assert_eq!(refused(&[&bytes[..], &[0]].concat()), DecodeError::Leftover);
    assert_eq!(refused(&[1, 0]), DecodeError::Version(1));
    // More streams than bytes: refused before memory is set aside.
    assert_eq!(refused(&[2, 0, 1, 90, 0, 0, 0]), DecodeError::Truncated);

    let stream = |id: u64, flags: u8, wire: u8, consumed: u64, base: u64, content: &[u8]| {
        let len = (content.len() as u32).to_le_bytes();
        let rest = [&consumed.to_le_bytes()[..], &base.to_le_bytes(), &len, content].concat();
        [&id.to_le_bytes()[..], &[1, b'x', flags, wire], &rest].concat()
    };
    let state = |listening: u8, streams: &[Vec<u8>], queue: &[u64]| {
        let mut bytes = vec![2, 0, listening];
        bytes.extend((streams.len() as u32).to_le_bytes());
        streams.iter().for_each(|stream| bytes.extend(stream));
        bytes.extend((queue.len() as u32).to_le_bytes());
        queue.iter().for_each(|id| bytes.extend(id.to_le_bytes()));
        bytes
    };
    let fresh = stream(1, 0, 0, 0, 0, b"");
    let good = state(1, &[fresh.clone(), stream(2, 0, 0, 3, 4, b"abc")], &[1]);
    assert_eq!(TaskEnd::thaw(&good, 100).unwrap().freeze(), good);

    let invalid = |bytes: Vec<u8>, what| assert_eq!(refused(&bytes), DecodeError::Invalid(what));
    invalid(state(8, &[], &[]), "how the task has its streams");
    invalid(
        [state(2, &[], &[]), vec![2, 0, 0, 0], [7, 0, 0, 0, 0, 0, 0, 0].repeat(2)].concat(),
        "streams that are over",
    );
    invalid(state(1, &[stream(2, 0, 0, 0, 0, b""), fresh.clone()], &[]), "the order of streams");
    invalid(state(1, &[fresh.clone(), fresh.clone()], &[]), "the order of streams");
    invalid(state(1, &[stream(1, 0, 3, 0, 0, b"")], &[]), "what the ingress has of a stream");
    invalid(state(1, &[stream(1, 0, 0, u64::MAX, 0, b"")], &[]), "an offset");
    invalid(state(1, &[stream(1, 0, 0, 0, 1 << 62, b"x")], &[]), "the length of what is unacknowledged");
    invalid(state(1, &[stream(1, 0, 0, 0, 0, &vec![1; WINDOW + 1])], &[]), "the length of what is unacknowledged");
    let states: [(u8, u8, &[u8]); 6] =
        [(32, 0, b""), (8, 0, b""), (12, 0, b"x"), (0, 1, b""), (4, 2, b"x"), (28, 2, b"")];
    for (flags, wire, content) in states {
        invalid(state(1, &[stream(1, flags, wire, 0, 0, content)], &[]), "the state of a stream");
    }
    let queue = "a connection in the queue";
    invalid(state(1, std::slice::from_ref(&fresh), &[2]), queue);
    invalid(state(1, std::slice::from_ref(&fresh), &[1, 1]), queue);
    invalid(state(0, &[fresh], &[1]), queue);
    for touched in [stream(1, 0, 0, 1, 0, b""), stream(1, 0, 0, 0, 1, b""), stream(1, 2, 0, 0, 0, b"")] {
        invalid(state(1, &[touched], &[1]), queue);
    }
}

fn any_segment() -> impl Strategy<Value = Segment> {
    let offset = prop_oneof![0..20_u64, Just(WINDOW as u64), any::<u64>()];
    (0..6_u64, offset, prop::collection::vec(any::<u8>(), 1..12), 0..6).prop_map(|(stream, offset, bytes, kind)| {
        match kind {
            0 => Segment::Open { stream, peer: "x".into() },
            1 => Segment::Data { stream, offset, bytes },
            2 => Segment::Ack { stream, offset },
            3 => Segment::Fin { stream, offset },
            4 => Segment::Close { stream },
            _ => Segment::Reset { stream },
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bytes_of_any_kind_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(segment) = Segment::decode(&bytes) {
            prop_assert_eq!(segment.encode(), bytes.clone());
        }
        let _ = TaskEnd::thaw(&bytes, 100);
        let _ = TaskEnd::thaw(&[&[2, 0, bytes.first().copied().unwrap_or(1) & 7], &bytes[..]].concat(), 100);
    }

    #[test]
    fn damaged_streams_are_refused_or_mean_what_they_say(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8_u8), 1..4),
        segments in prop::collection::vec(any_segment(), 0..30),
    ) {
        let mut bytes = busy().freeze();
        for (index, bit) in flips {
            let at = index.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        if let Ok(mut task) = TaskEnd::thaw(&bytes, 100) {
            prop_assert_eq!(task.freeze(), bytes);
            task.attached();
            for segment in segments {
                task.handle(segment).unwrap();
                task.poll_transmit();
                prop_assert_eq!(TaskEnd::thaw(&task.freeze(), 100).unwrap().freeze(), task.freeze());
            }
        }
    }

    #[test]
    fn a_peer_that_says_anything_at_all_costs_a_bounded_amount(
        segments in prop::collection::vec((any_segment(), any::<bool>()), 0..100),
    ) {
        let (mut ingress, mut task) = (IngressEnd::new(3), TaskEnd::new(3));
        ingress.attached();
        task.attached();
        for stream in 0..3 {
            ingress.open(stream, "x").unwrap();
            ingress.write(stream, b"request").unwrap();
        }
        let mut buf = [0; 5];
        for (segment, poll) in segments {
            let stream = segment.stream();
            ingress.handle(segment.clone()).unwrap();
            task.handle(segment).unwrap();
            if poll {
                ingress.poll_transmit();
                task.poll_transmit();
                let _ = (task.accept(), task.recv(stream, &mut buf, false), task.send(stream, b"y"));
                let _ = ingress.read(stream, &mut buf);
            }
            prop_assert!(ingress.len() <= 3 && task.len() <= 3);
            prop_assert!(ingress.buffered() <= 6 * WINDOW && task.buffered() <= 6 * WINDOW);
            prop_assert!(TaskEnd::thaw(&task.freeze(), 3).is_ok());
        }
    }
}
