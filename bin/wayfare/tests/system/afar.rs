//! What nodes do for users and nodes elsewhere: they answer for their tasks, pass questions on to where a task has gone, and
//! compile for those that cannot.

use crate::support::cluster::{Node, migrate, pair};
use crate::support::guest;
use crate::support::wire::{Wire, credentials};
use std::time::Duration;
use wayfare_engine::{Form, ImageInfo};
use wayfare_node::control::{Reply, Request};
use wayfare_node::peers::NodeMessage;
use wayfare_snapshot::Digest;
use wayfare_transfer::Kind;
use wayfare_transfer::message::{Assembly, Long, Part};

#[test]
fn a_task_is_found_where_it_has_gone() {
    let (a, b) = pair();
    let whole = a.home.plain("sha256", &["400"]);
    a.start("hash", &[], "sha256", &["400"]);
    a.wait("hash", "running");
    migrate(&a, &b, "hash");
    a.run(&["migrate", "hash", "--to", "a"]).ok();
    a.wait("hash", "exited");
    assert_eq!(b.run(&["logs", "-f", "hash"]).ok().stdout, whole);
    // It runs for minutes.
    a.start("long", &[], "sha256", &["100000"]);
    migrate(&a, &b, "long");
    assert!(a.run(&["ps", "--node", "b"]).ok().stdout.contains("running"));
    assert!(!a.run(&["ps", "--node", "a"]).ok().stdout.contains("running"));
    assert!(a.run(&["stats", "--node", "b", "-o", "json"]).ok().stdout.contains("\"long\""));
    assert!(a.run(&["logs", "long"]).ok().stdout.is_empty());
    a.run(&["migrate", "long", "--to", "b"]).fails("b already");
    a.run(&["stop", "long"]).ok();
    b.wait("long", "stopped");
    a.run(&["rm", "long", "--node", "b"]).ok();
    b.run(&["logs", "long"]).fails("no task named long");
    a.run(&["ps", "--node", "nobody"]).fails("no node named nobody");
    b.run(&["stop", "none", "--node", "a"]).fails("no task named none");
}

fn node_message(wire: &mut Wire) -> NodeMessage {
    let message = wire.receive().unwrap();
    assert_eq!(message.kind, Kind::Node);
    NodeMessage::decode(&message.payload).unwrap()
}

#[test]
fn files_are_for_users_of_that_machine_only() {
    let (a, b) = pair();
    let output = b.home.path("stolen.snap").to_str().unwrap().to_string();
    let capture = Request::Capture { name: "t".into(), output: output.clone(), keep_running: true };
    let nested = Request::At { node: "b".into(), request: Box::new(capture.clone()) };
    for request in [capture, nested] {
        let mut wire = Wire::dial(&b.address, credentials(&a)).unwrap();
        let request = NodeMessage::Request(serde_json::to_vec(&request).unwrap());
        wire.send(Kind::Node, &request.encode()).unwrap();
        let NodeMessage::Reply(reply) = node_message(&mut wire) else { panic!("no reply") };
        match serde_json::from_slice(&reply).unwrap() {
            Reply::Failed { error } => assert!(error.contains("on that machine only"), "{error}"),
            other => panic!("{other:?}"),
        }
    }
    assert!(!std::path::Path::new(&output).exists());
}

/// Has a node compile a module; and whether it wanted to have it sent.
fn compile(node: &Node, by: &Node, wasm: &[u8], target: &str, key: [u8; 32]) -> Result<(Vec<u8>, bool), String> {
    let mut wire = Wire::dial(&node.address, credentials(by)).unwrap();
    wire.stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    let (module, target) = (Digest::of(wasm).0, target.into());
    let wish = NodeMessage::Compile { module, canonical_nan: false, target, key };
    wire.send(Kind::Node, &wish.encode()).unwrap();
    let mut was_sent = false;
    loop {
        match node_message(&mut wire) {
            NodeMessage::Unknown => {
                was_sent = true;
                Part::all(Long::Module, wasm).for_each(|part| wire.send(Kind::Part, &part.to_vec()).unwrap());
            }
            NodeMessage::Image => break,
            NodeMessage::Refused(why) => return Err(why),
            other => panic!("{other:?}"),
        }
    }
    let mut assembly = Assembly::default();
    loop {
        let part = wire.receive()?;
        if let Some(image) = assembly.take(&Part::decode(&part.payload).unwrap(), 64 << 20).unwrap() {
            return Ok((image, was_sent));
        }
    }
}

#[test]
fn nodes_compile_for_those_that_cannot() {
    let (a, b) = pair();
    let wasm = std::fs::read(guest("hello")).unwrap();
    let targets = [
        ("x86_64-none", "x86_64-unknown-none"),
        ("aarch64-none", "aarch64-unknown-none"),
        ("riscv64-none", "riscv64gc-unknown-none-elf"),
    ];
    for (round, (target, triple)) in targets.into_iter().enumerate() {
        let (image, was_sent) = compile(&b, &a, &wasm, target, [1; 32]).unwrap();
        let info = ImageInfo::parse(&image).unwrap();
        assert_eq!((info.target.as_str(), info.form, info.module), (triple, Form::Resume, Digest::of(&wasm)));
        // It is known from then on, and signed for each who asks.
        assert_eq!(was_sent, round == 0);
        let (other, was_sent) = compile(&b, &a, &wasm, target, [2; 32]).unwrap();
        assert!(!was_sent && other.len() == image.len() && other != image);
        assert_eq!(compile(&b, &a, &wasm, target, [1; 32]).unwrap().0, image);
    }
    assert!(compile(&b, &a, &wasm, "z80-none", [1; 32]).unwrap_err().contains("z80"));
    assert!(!compile(&b, &a, b"\0asm\x01\0\0\0\x01", "x86_64-none", [1; 32]).unwrap_err().is_empty());
    b.run(&["nodes"]).ok();
}
