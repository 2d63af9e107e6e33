//! A board beside a controller: its image comes from there, and tasks go to it and come back, but never begin there.

use crate::support::cluster::{PATIENCE, free_port, until, until_or};
use crate::support::up::{Up, printed, set};
use serde_json::{Value, json};
use std::process::{Child, Command, Stdio};

/// A machine in QEMU, until this goes.
struct Machine(Child);

impl Machine {
    fn boot(up: &Up, image: &str) -> Machine {
        let address = format!("127.0.0.1:{}", free_port());
        let console = std::fs::File::create(up.home.path("board.log")).unwrap();
        let errors = console.try_clone().unwrap();
        let mut run =
            up.home.wayfare(["unikernel", "run", image, "--memory", "256M", "--cpus", "2", "--listen", &address]);
        Machine(run.stdin(Stdio::null()).stdout(console).stderr(errors).spawn().unwrap())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

#[test]
fn an_image_of_the_controllers_is_a_node_and_tasks_go_there_and_back() {
    let up = Up::with(1, &["--cpus", "2"]);
    let listed = up.ask("GET", "/v1/unikernels", b"").1;
    let isas: Vec<&str> = listed.as_array().unwrap().iter().map(|one| one["isa"].as_str().unwrap()).collect();
    assert_eq!(isas, ["x86_64", "aarch64", "riscv64"]);
    assert!(listed[0]["missing"].is_null() && listed[0]["formats"] == json!(["elf", "iso"]), "{listed}");
    for (path, status) in [
        ("/v1/unikernels/mips", 404),
        ("/v1/unikernels/x86_64?format=raw", 422),
        ("/v1/unikernels/x86_64?name=a%20b", 422),
        ("/v1/unikernels/x86_64?address=here", 422),
        ("/v1/unikernels/x86_64?name=node1", 409),
    ] {
        assert_eq!(up.ask("POST", path, b"").0, status, "{path}");
    }
    let (status, head, image) = up.fetch("POST", "/v1/unikernels/x86_64?name=board&append=wayfare.watchdog%3D60");
    assert!(status == 200 && head.contains("filename=\"board.img\"") && head.contains("no-store"), "{head}");
    // Its name is used up, and the next without one has another.
    assert_eq!(up.ask("POST", "/v1/unikernels/x86_64?name=board", b"").0, 409);
    assert!(up.fetch("POST", "/v1/unikernels/aarch64?format=raw").1.contains("filename=\"board1.img\""));
    std::fs::write(up.home.path("board.img"), &image).unwrap();
    let _machine = Machine::boot(&up, "board.img");
    let log = || std::fs::read_to_string(up.home.path("board.log")).unwrap_or_default();
    until("the board is there", PATIENCE, || {
        let node = up.ask("GET", "/v1/nodes/board", b"").1;
        node["state"] == "ready" && node["bare"] == true && node["isa"] == "x86_64"
    });

    let args = ["4", "1500", "10"];
    let line = printed("steady", &args);
    let submit = |name: &str, count: u32, cores: f64| {
        let mut wish = set(name, "steady", &args, count);
        wish["tasks"][0]["memory"] = json!(32 << 20);
        wish["tasks"][0]["cores"] = json!(cores);
        up.submit(&wish).ok();
    };
    submit("sim", 1, 0.5);
    let task = |name: &str| up.ask("GET", &format!("/v1/tasks/{name}"), b"").1;
    let lines = || up.run(&["logs", "sim-steady"]).ok().stdout.lines().count();
    until("it has come some way", PATIENCE, || lines() > 50);
    assert_eq!(task("sim-steady")["node"], "node1");
    let moved = up.run(&["migrate", "sim-steady", "--to", "board"]).ok().stdout;
    assert!(moved.contains("from node1 to board: it stood still for"), "{moved}");
    // While it is there, there is room for one more on the board, and not on the node that it has left.
    submit("beside", 3, 0.5);
    submit("wide", 1, 0.75);
    let before = lines();
    until_or("it goes on there", PATIENCE, || lines() > before + 50, log);
    assert_eq!((&task("sim-steady")["node"], &task("sim-steady")["state"]), (&json!("board"), &json!("running")));
    assert_eq!(task("wide-steady")["state"], "waiting");
    up.run(&["migrate", "sim-steady", "--to", "node1"]).ok();
    assert_eq!(task("sim-steady")["node"], "node1");
    for name in ["sim", "beside", "wide"] {
        up.run(&["wait", name]).ok();
        up.check(name, &line);
    }

    // Each began on the node that has a compiler, whatever room the board had.
    for task in ["sim", "beside", "wide"].into_iter().flat_map(|name| up.tasks(name)) {
        let name = task["name"].as_str().unwrap();
        let shown: Value = serde_json::from_str(&up.run(&["task", name, "-o", "json"]).ok().stdout).unwrap();
        let began = |moment: &&Value| moment["state"] == "starting";
        let nodes: Vec<&Value> =
            shown["history"].as_array().unwrap().iter().filter(began).map(|moment| &moment["node"]).collect();
        assert_eq!(nodes, [&json!("node1")], "{shown}");
        assert_eq!(task["attempt"], 1, "{task}");
    }
}
