//! Asks this machine's agent.

use crate::cli::Asked;
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use wayfare_node::Dirs;
use wayfare_node::control::{Reply, Request};
use wayfare_node::local::LINE_MAX;

/// What the agent says when it did not do what it was asked for.
#[derive(Debug)]
pub struct Refused(String);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

/// A connection to the agent.
pub struct Client {
    read: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the agent of a node's directory.
    ///
    /// # Errors
    /// When none is at work there.
    pub fn connect(state: Option<&Path>) -> Result<Client> {
        let dirs = Dirs::locate(state)?;
        let stream = UnixStream::connect(dirs.socket()).with_context(|| {
            format!("no agent is at work in {}: start one with `wayfare node serve`", dirs.root().display())
        })?;
        Ok(Client { read: BufReader::new(stream) })
    }

    /// Connects if there is one.
    pub fn try_connect(state: Option<&Path>) -> Option<Client> {
        let dirs = Dirs::locate(state).ok()?;
        UnixStream::connect(dirs.socket()).ok().map(|stream| Client { read: BufReader::new(stream) })
    }

    /// Connects, and asks the node that was named; the first answer.
    ///
    /// # Errors
    /// As [`Client::connect`] and [`Client::ask`].
    pub fn ask_at(asked: &Asked, request: Request) -> Result<(Client, Reply)> {
        let mut client = Client::connect(asked.at.state.as_deref())?;
        let request = match &asked.node {
            Some(node) => Request::At { node: node.clone(), request: Box::new(request) },
            None => request,
        };
        let reply = client.ask(&request)?;
        Ok((client, reply))
    }

    /// Asks; the first answer.
    ///
    /// # Errors
    /// What the agent says, or that it has gone away.
    pub fn ask(&mut self, request: &Request) -> Result<Reply> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        self.read.get_mut().write_all(&line)?;
        self.next()
    }

    /// A further answer.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn next(&mut self) -> Result<Reply> {
        let mut line = Vec::new();
        (&mut self.read).take(LINE_MAX * 64).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            bail!("the agent has ended");
        }
        match serde_json::from_slice(&line).context("the agent is of another version")? {
            Reply::Failed { error } => Err(Refused(error).into()),
            reply => Ok(reply),
        }
    }

    /// What comes after the line that announced it.
    pub fn bytes(self) -> impl Read {
        self.read
    }
}
