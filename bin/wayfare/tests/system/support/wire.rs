//! A peer inside the test: it speaks the agents' own protocol, with the credentials of a node's directory or others.

use super::cluster::Node;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use wayfare_node::Dirs;
use wayfare_transfer::channel::Credentials;
use wayfare_transfer::identity::Revocations;
use wayfare_transfer::message::Message;
use wayfare_transfer::{Channel, Incoming, Kind};

/// What a node shows in handshakes.
pub fn credentials(node: &Node) -> Credentials {
    let dirs = Dirs::locate(Some(&node.state_dir())).unwrap();
    dirs.identity().unwrap().credentials(Revocations::default())
}

/// A connection on which nothing comes for so long is taken to be stuck.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection to an agent.
pub fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Whether the other side closes the connection; it may say something before.
pub fn is_closed(mut stream: &TcpStream) -> bool {
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(e) => return e.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

/// A channel to an agent.
pub struct Wire {
    pub stream: TcpStream,
    pub channel: Channel,
}

impl Wire {
    /// Shakes hands.
    ///
    /// # Errors
    /// What is wrong with the agent, or that it closes the connection.
    pub fn dial(address: &str, credentials: Credentials) -> Result<Wire, String> {
        let seed = wayfare_node::random().unwrap();
        let channel = Channel::initiate(credentials, seed, wayfare_node::unix_now()).unwrap();
        let mut wire = Wire { stream: connect(address), channel };
        wire.flush()?;
        while !wire.channel.is_open() {
            wire.read()?;
            wire.flush()?;
        }
        Ok(wire)
    }

    fn read(&mut self) -> Result<(), String> {
        let mut bytes = [0; 4096];
        match self.stream.read(&mut bytes) {
            Ok(0) => Err("closed".into()),
            Ok(read) => self.channel.handle(&bytes[..read]).map_err(|e| e.to_string()),
            Err(e) => Err(e.to_string()),
        }
    }

    fn flush(&mut self) -> Result<(), String> {
        let mut bytes = Vec::new();
        while self.channel.poll_transmit(&mut bytes) {
            self.stream.write_all(&bytes).map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// Says something of a move, and gives the answer.
    ///
    /// # Errors
    /// When there is none.
    pub fn ask(&mut self, message: &Message) -> Result<Message, String> {
        self.send(Kind::Transfer, &message.encode())?;
        Message::decode(&self.receive()?.payload).map_err(|e| e.to_string())
    }

    /// Says anything.
    ///
    /// # Errors
    /// When the connection is closed.
    pub fn send(&mut self, kind: Kind, payload: &[u8]) -> Result<(), String> {
        self.channel.send(kind, payload).map_err(|e| e.to_string())?;
        self.flush()
    }

    /// What the agent says next.
    ///
    /// # Errors
    /// When it says nothing.
    pub fn receive(&mut self) -> Result<Incoming, String> {
        loop {
            if let Some(message) = self.channel.poll() {
                return Ok(message);
            }
            self.read()?;
        }
    }
}
