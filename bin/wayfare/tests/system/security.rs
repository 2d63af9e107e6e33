//! Who is not a member, or does not behave like one, gets nothing: it is refused, the log says so, and what it costs the
//! agent is bounded. Who only listens hears nothing.

use crate::support::cluster::{Move, Node, PATIENCE, join, migrate, owner, pair, until};
use crate::support::link::{FAST, Linked};
use crate::support::wire::{Wire, connect, credentials, is_closed};
use crate::support::{Home, guest};
use std::io::{Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use wayfare_node::spec::{Limits, Spec};
use wayfare_sim::forger::Forger;
use wayfare_sim::proxy::{Shape, Way};
use wayfare_transfer::channel::Credentials;
use wayfare_transfer::identity::Authority;
use wayfare_transfer::message::{Answer, Message, Mode, Offer, Reason, TaskId};
use wayfare_transfer::{Kind, VERSIONS};

/// The agent is at work, and its log says so much.
#[track_caller]
fn logged(node: &Node, text: &str) {
    let says = || node.log().contains(text);
    until(&format!("{text:?} in the log"), Duration::from_secs(10), says);
    node.run(&["nodes"]).ok();
}

#[test]
fn an_unknown_key_gets_nothing() {
    let (a, b) = pair();
    let good = credentials(&b);
    let secret = [3; 32];
    let mut claims = good.certificate.as_ref().unwrap().claims().unwrap();
    claims.key = Credentials::public_key(&secret);
    let forged = Authority::from_secret(&[9; 32]).certify(claims);
    let none = Credentials { secret, certificate: None, ..good.clone() };
    let stolen = Credentials { secret, ..good.clone() };
    let strange = Credentials { certificate: Some(forged), ..stolen.clone() };
    let question = Message::Ask { task: TaskId([1; 16]), epoch: 1, holds: true };
    for (who, why) in [(strange, "another cluster"), (stolen, "another key")] {
        // The last word of the handshake is the peer's; the agent then says nothing more.
        let heard = Wire::dial(&a.address, who).and_then(|mut wire| wire.ask(&question));
        assert!(heard.is_err(), "{heard:?}");
        logged(&a, why);
    }
    // Who has no certificate may ask to join where the cluster's key is, and nothing else anywhere.
    let heard = Wire::dial(&b.address, none.clone()).and_then(|mut wire| wire.ask(&question));
    assert!(heard.is_err(), "{heard:?}");
    logged(&b, "no certificate");
    let heard = Wire::dial(&a.address, none).and_then(|mut wire| wire.ask(&question));
    assert!(heard.is_err(), "{heard:?}");
    logged(&a, "something else than to join");
    // A member is answered.
    let heard = Wire::dial(&a.address, good).and_then(|mut wire| wire.ask(&question));
    assert_eq!(heard, Ok(Message::Answer(Answer::Never)));
}

#[test]
fn an_invitation_expires() {
    let (a, _b) = pair();
    let token = a.run(&["node", "invite", "--valid", "1s"]).ok().stdout;
    std::thread::sleep(Duration::from_millis(2100));
    let c = Node::new("c");
    c.run(&["node", "join", &format!("{}@{}", token.trim(), a.address), "--name", "c"]).fails("too old");
    logged(&a, "somebody may not join: the invitation is unknown, used or too old");
}

#[test]
fn a_recorded_handshake_is_worth_nothing() {
    let linked = Linked::local(Shape { capture: true, ..Shape::new(FAST, Duration::ZERO) });
    let (a, b) = (&linked.a, &linked.b);
    a.start("t", &[], "steady", &["4", "100000", "10"]);
    migrate(a, b, "t");
    // All that a has ever said, from the first handshake on.
    let said = linked.proxy.capture(Way::Up);
    assert!(said.len() > 4 << 20);
    let (before, state) = (b.log().matches("a handshake failed").count(), b.task("t"));
    let mut stream = connect(&b.address);
    // It is closed in the middle of this.
    let _ = stream.write_all(&said);
    assert!(is_closed(&stream));
    until("it is logged", PATIENCE, || b.log().matches("a handshake failed").count() == before + 1);
    // Nothing came of it.
    let task = b.task("t").unwrap();
    assert_eq!((task["state"].as_str(), &task["epoch"]), (Some("running"), &state.unwrap()["epoch"]));
    assert_eq!(owner("t", linked.nodes()).name, "b");
}

#[test]
fn a_tampered_page_ends_the_move_and_nothing_else() {
    let linked = Linked::local(Shape::new(FAST, Duration::ZERO));
    let (a, b, proxy) = (&linked.a, &linked.b, &linked.proxy);
    a.start("t", &[], "steady", &["4", "100000", "10"]);
    until("it has its memory", PATIENCE, || a.output("t").lines().count() > 2);
    // In the middle of the pages: a byte of one, and with luck the length of a record.
    for at in [2 << 20, 3 << 20] {
        proxy.corrupt_at(Way::Up, proxy.stats().up + at);
        let why = Move::begin(a, b, "t").end().unwrap_err();
        assert!(!why.is_empty() && !why.contains('\n'), "{why}");
        assert_eq!(owner("t", linked.nodes()).name, "a");
        logged(b, "a record is damaged or forged");
        // What had come before is genuine, and is not sent again: the next byte would never be reached.
        a.run(&["stop", "t"]).ok();
        a.run(&["rm", "t"]).ok();
        a.start("t", &[], "steady", &["4", "100000", "10"]);
        until("it has its memory", PATIENCE, || a.output("t").lines().count() > 2);
    }
    migrate(a, b, "t");
    let whole = a.home.plain("steady", &["4", "2000", "0"]);
    assert!(whole.starts_with(&b.output("t")));
}

#[test]
fn frames_that_are_too_long_are_not_even_read() {
    let (a, b) = pair();
    // Before the handshake is over, a record of the longest length there is.
    let mut stream = connect(&a.address);
    stream.write_all(&[0xff, 0xff]).unwrap();
    assert!(is_closed(&stream));
    logged(&a, "a frame of 65535 bytes, where at most 1024 are allowed");
    // And a member who announces a message of four gigabytes.
    for kind in [Kind::Transfer, Kind::Pages, Kind::Part, Kind::Node] {
        let stream = connect(&a.address);
        let mut forger = Forger::shake(&stream, true, &credentials(&b), VERSIONS, [kind as u8; 32]).unwrap();
        forger.say(&[kind as u8, 0xff, 0xff, 0xff, 0xff]).unwrap();
        assert!(!forger.hears());
        logged(&a, &format!("a frame of 4294967295 bytes, where at most {} are allowed", kind.cap()));
    }
    // Or of a kind that there is not.
    let stream = connect(&a.address);
    let mut forger = Forger::shake(&stream, true, &credentials(&b), VERSIONS, [77; 32]).unwrap();
    forger.say(&[77, 0, 0, 0, 0]).unwrap();
    assert!(!forger.hears());
    logged(&a, "a message of kind 77 cannot be read");
}

/// A number in a process's status, such as `VmRSS`.
fn status(pid: u32, field: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim_start_matches(':').split_whitespace().next().unwrap().parse().unwrap()
}

fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// A task that nobody has, as its node would offer it.
fn offer(n: u64) -> Offer {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&n.to_le_bytes());
    let spec = Spec {
        id: TaskId(id),
        name: format!("offer{n}"),
        program: "/nothing".into(),
        module: "55".repeat(32),
        canonical_nan: false,
        args: Vec::new(),
        env: vec![("FILLING".into(), "x".repeat(4000))],
        dirs: Vec::new(),
        volumes: Vec::new(),
        // So little that it is not this of which there is too little.
        limits: Limits { cpus: 1, ..Limits::default() },
        checkpoint_every: 0,
        publish: Vec::new(),
        origin: "c".into(),
        started: 0,
        placed: false,
    };
    Offer {
        task: spec.id,
        name: spec.name.clone(),
        epoch: 2,
        module: [0x55; 32],
        module_len: 1000,
        canonical_nan: false,
        memories: vec![1 << 20],
        mode: Mode::PreCopy,
        settings: serde_json::to_vec(&spec).unwrap(),
    }
}

#[test]
fn ten_thousand_offers_of_one_peer_cost_little_and_keep_nobody_else_away() {
    const OFFERS: u64 = 10_000;
    let (a, b) = pair();
    let mut c = Node::new("c");
    join(&a, &mut c);
    let noisy = credentials(&c);
    b.start("t", &[], "steady", &["4", "100000", "10"]);
    // What moves take for ever is not the offers'.
    migrate(&b, &a, "t");
    for _ in 0..8 {
        migrate(&a, &b, "t");
        migrate(&b, &a, "t");
    }
    let pid = a.pid();
    let before = (status(pid, "VmRSS"), descriptors(pid), a.log().len());
    let (next, accepted, refused) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let knock = || {
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= OFFERS {
                return;
            }
            match Wire::dial(&a.address, noisy.clone()).and_then(|mut wire| wire.ask(&Message::Offer(offer(n)))) {
                Ok(Message::Accept(_)) => accepted.fetch_add(1, Ordering::Relaxed),
                Ok(Message::Refuse(refusal)) => {
                    assert_eq!(refusal.reason, Reason::Busy, "{refusal}");
                    refused.fetch_add(1, Ordering::Relaxed)
                }
                other => panic!("offer {n}: {other:?}"),
            };
        }
    };
    std::thread::scope(|scope| {
        let noise: Vec<_> = (0..8).map(|_| scope.spawn(knock)).collect();
        // Meanwhile the others' tasks come and go.
        while noise.iter().any(|thread| !thread.is_finished()) {
            migrate(&a, &b, "t");
            migrate(&b, &a, "t");
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    let (accepted, refused) = (accepted.into_inner(), refused.into_inner());
    assert_eq!(accepted + refused, OFFERS);
    assert!(accepted < OFFERS / 20, "{accepted} offers were accepted");
    until("connections are closed", PATIENCE, || descriptors(pid) <= before.1 + 4);
    let rss = status(pid, "VmRSS").saturating_sub(before.0);
    eprintln!("{accepted} of {OFFERS} offers were accepted; the agent has grown by {rss} KiB");
    assert!(rss < 16 << 10, "it has grown by {rss} KiB");
    let log = a.log();
    assert!(log.contains("too many offers"), "{log}");
    assert!(log.len() - before.2 < 128 << 10, "the log has grown by {} bytes:\n{log}", log.len() - before.2);
    migrate(&a, &b, "t");
}

#[test]
fn an_image_signed_by_a_stranger_is_never_run() {
    let stranger = Home::new();
    let image = |home: &Home| home.path("program.img").to_str().unwrap().to_string();
    let wasm = guest("steady");
    let wasm = wasm.to_str().unwrap();
    let theirs = image(&stranger);
    stranger.output(["compile", wasm, "-o", &theirs]).ok();
    // Given as the program.
    let (a, b) = pair();
    a.run(&["run", "-d", "--name", "t", &theirs]).fails("signature does not match");
    // Put in the place of our own, where they were found before: on the node where the task begins, and where it goes.
    a.start("t", &[], "steady", &["4", "100000", "10"]);
    migrate(&a, &b, "t");
    for node in [&a, &b] {
        let images = std::fs::read_dir(node.home.cache().join("images")).unwrap();
        let images: Vec<_> = images.map(|entry| entry.unwrap().path()).collect();
        assert!(!images.is_empty());
        for image in images {
            std::fs::copy(&theirs, image).unwrap();
        }
    }
    a.start("u", &[], "steady", &["4", "100000", "10"]);
    logged(&a, "signature does not match");
    migrate(&a, &b, "u");
    logged(&b, "signature does not match");
    let whole = a.home.plain("steady", &["4", "2000", "0"]);
    assert!(whole.starts_with(&b.output("u")));
}

#[test]
fn who_listens_to_a_move_hears_no_word_of_it() {
    const NAME: &str = "marzipan-in-the-name";
    const TEXT: &str = "marzipan-in-the-log-and-in-memory";
    let linked = Linked::local(Shape { capture: true, ..Shape::new(FAST, Duration::ZERO) });
    let (a, b, proxy) = (&linked.a, &linked.b, &linked.proxy);
    a.start(NAME, &[], "steady", &["4", "100000", "10", TEXT]);
    until("it has its memory", PATIENCE, || a.output(NAME).lines().count() > 2);
    migrate(a, b, NAME);
    let snapshot = b.home.path("taken.snap");
    b.run(&["capture", NAME, "--keep-running", "-o", snapshot.to_str().unwrap()]).ok();
    let mut state = Vec::new();
    std::fs::File::open(&snapshot).unwrap().read_to_end(&mut state).unwrap();
    let module = std::fs::read(guest("steady")).unwrap();
    let holds = |bytes: &[u8], marker: &str| bytes.windows(marker.len()).any(|window| window == marker.as_bytes());
    // They are there to be found.
    let format = "step %ld: ";
    assert!(holds(&state, TEXT) && holds(&module, format) && b.output(NAME).starts_with(TEXT));
    let wire = [Way::Up, Way::Down].map(|way| proxy.capture(way));
    assert!(wire[0].len() > 4 << 20 && wire[1].len() > 100);
    let key = credentials(b).secret;
    for bytes in &wire {
        for marker in [NAME, TEXT, format, "marzipan", "step 1: ", "steady"] {
            assert!(!holds(bytes, marker), "{marker:?} can be read");
        }
        assert!(!bytes.windows(32).any(|window| window == key), "a key");
    }
}
