//! A cluster as `wayfare up` makes it, and its API.

use super::cluster::{PATIENCE, free_port, until};
use super::{Done, Home, guest};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};

/// A cluster as `wayfare up` makes it.
pub struct Up {
    pub home: Home,
    nodes: usize,
    /// What else is said to `wayfare up`.
    more: Vec<&'static str>,
    env: Vec<(String, String)>,
    listen: String,
    pub api: String,
    process: Option<Child>,
}

impl Up {
    pub fn new(nodes: usize) -> Up {
        Up::with(nodes, &["--cpus", "1"])
    }

    pub fn with(nodes: usize, more: &[&'static str]) -> Up {
        Up::with_env(nodes, more, &[])
    }

    /// With these variables.
    pub fn with_env(nodes: usize, more: &[&'static str], env: &[(&str, &str)]) -> Up {
        let at = || format!("127.0.0.1:{}", free_port());
        let env = env.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let mut up = Up { home: Home::new(), nodes, more: more.into(), env, listen: at(), api: at(), process: None };
        up.start();
        up
    }

    pub fn start(&mut self) {
        let nodes = self.nodes.to_string();
        let mut args = vec!["up", "--nodes", &nodes, "--listen", &self.listen, "--api", &self.api];
        args.extend(&self.more);
        let log = std::fs::OpenOptions::new().append(true).create(true).open(self.home.path("up.log")).unwrap();
        let mut command = self.home.wayfare(args);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        self.process = Some(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
        until("all nodes are there", PATIENCE, || {
            let done = self.run(&["nodes", "-o", "wide"]);
            done.status == Some(0) && done.stdout.matches(" ready ").count() == self.nodes
        });
    }

    /// As a power cut of the machine that it is on; nodes in processes of their own go on.
    pub fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// As by Ctrl-C.
    pub fn stop(&mut self) {
        let mut process = self.process.take().unwrap();
        kill_process(Pid::from_raw(process.id() as i32).unwrap(), Signal::INT).unwrap();
        assert!(process.wait().unwrap().success());
    }

    /// Where other nodes find it.
    pub fn listen(&self) -> &str {
        &self.listen
    }

    pub fn pid_of(&self, node: u32) -> Pid {
        let text = std::fs::read_to_string(self.home.path(&format!("state/nodes/{node}/agent.pid"))).unwrap();
        Pid::from_raw(text.trim().parse().unwrap()).unwrap()
    }

    pub fn run(&self, args: &[&str]) -> Done {
        self.home.ended(&mut self.home.wayfare(args))
    }

    pub fn token(&self) -> Option<String> {
        let text = std::fs::read(self.home.path("state/controller/access.json")).ok()?;
        Some(serde_json::from_slice::<Value>(&text).ok()?["token"].as_str()?.to_string())
    }

    pub fn try_ask(&self, method: &str, path: &str, body: &[u8]) -> Option<(u16, Value)> {
        self.ask_as(&self.token()?, method, path, body)
    }

    pub fn ask(&self, method: &str, path: &str, body: &[u8]) -> (u16, Value) {
        self.try_ask(method, path, body).unwrap()
    }

    pub fn ask_as(&self, token: &str, method: &str, path: &str, body: &[u8]) -> Option<(u16, Value)> {
        self.ask_with(token, method, path, "", body)
    }

    /// With more lines in the head, each with its end.
    pub fn ask_with(&self, token: &str, method: &str, path: &str, more: &str, body: &[u8]) -> Option<(u16, Value)> {
        let (status, _, body) = self.fetch_with(token, method, path, more, body)?;
        Some((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }

    /// The status, what stands before the body, and the body.
    pub fn fetch(&self, method: &str, path: &str) -> (u16, String, Vec<u8>) {
        self.fetch_with(&self.token().unwrap(), method, path, "", b"").unwrap()
    }

    fn fetch_with(
        &self,
        token: &str,
        method: &str,
        path: &str,
        more: &str,
        body: &[u8],
    ) -> Option<(u16, String, Vec<u8>)> {
        let mut stream = TcpStream::connect(&self.api).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {token}\r\n{more}content-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).ok()?;
        // A body that is too long is refused before all of it is said.
        let _ = stream.write_all(body);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        const END: &[u8] = b"\r\n\r\n";
        let end = answer.windows(END.len()).position(|bytes| bytes == END);
        let (head, body) = answer.split_at(end.map_or(answer.len(), |end| end + END.len()));
        let head = String::from_utf8_lossy(head).into_owned();
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, head, body.to_vec()))
    }

    pub fn submit(&self, set: &Value) -> Done {
        let path = self.home.path("set.json");
        std::fs::write(&path, set.to_string()).unwrap();
        self.run(&["submit", path.to_str().unwrap()])
    }

    pub fn tasks(&self, set: &str) -> Vec<Value> {
        let (_, tasks) = self.ask("GET", &format!("/v1/tasks?set={set}"), b"");
        tasks.as_array().unwrap().clone()
    }

    /// Every task of the set has succeeded once, and has printed what it should.
    pub fn check(&self, set: &str, line: &str) {
        for task in self.tasks(set) {
            assert_eq!(task["state"], "succeeded", "{task}");
            let name = task["name"].as_str().unwrap();
            assert_eq!(self.run(&["logs", name]).ok().stdout.trim(), line, "{task}");
        }
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if self.process.is_none() {
            return;
        }
        let mut process = self.process.take().unwrap();
        let _ = kill_process(Pid::from_raw(process.id() as i32).unwrap(), Signal::TERM);
        let _ = process.wait();
    }
}

pub fn set(name: &str, program: &str, args: &[&str], count: u32) -> Value {
    serde_json::json!({"name": name, "tasks": [
        {"name": format!("{name}-{program}"), "image": guest(program), "args": args, "count": count, "cores": 0.5}]})
}

/// What the set's tasks print.
pub fn printed(program: &str, args: &[&str]) -> String {
    Home::new().plain(program, args).trim().to_string()
}
