//! What one `wayfare` asks another over a task's socket: a line of JSON each way.

use crate::cli::Compress;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Request {
    /// How is it?
    Status,
    /// Write yourself to a file.
    Capture(Order),
}

/// How to be captured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The file to write, absolute.
    pub output: PathBuf,
    /// Whether to go on here.
    pub keep_running: bool,
    /// The earlier snapshot that a delta shall stand on, absolute.
    pub since: Option<PathBuf>,
    /// How to pack it.
    pub compress: Compress,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "lowercase")]
pub enum Reply {
    /// How it is.
    Status {
        /// `running` or `capturing`.
        state: String,
    },
    /// The file is on the disk.
    Captured(Stats),
    /// It could not be done, and the task goes on.
    Failed {
        /// Why.
        error: String,
    },
}

/// What a capture took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// The file.
    pub file: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// Pages of linear memory in it.
    pub pages: u64,
    /// Frames of the call stack.
    pub frames: u64,
    /// From the request until the task stood still, nanoseconds.
    pub pause_ns: u64,
    /// How long it stood still before it went on, nanoseconds; `None` when it did not go on.
    pub held_ns: Option<u64>,
    /// Packing, writing and reaching the disk, nanoseconds.
    pub write_ns: u64,
    /// Id by which a later delta names this snapshot.
    pub id: String,
}

/// Longest line either side accepts: paths are the only long thing in one.
const LINE_MAX: u64 = 64 * 1024;

/// Sends one line.
///
/// # Errors
/// When the other side is gone, or for a path that is not UTF-8.
pub fn send(stream: &mut UnixStream, message: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_vec(message).context("a path is not UTF-8")?;
    line.push(b'\n');
    stream.write_all(&line)?;
    Ok(())
}

/// Receives one line; `None` when the other side has closed.
///
/// # Errors
/// When it is no line of the protocol, or does not come in time.
pub fn receive<T: for<'a> Deserialize<'a>>(stream: &UnixStream, within: Option<Duration>) -> Result<Option<T>> {
    stream.set_read_timeout(within)?;
    let mut line = Vec::new();
    BufReader::new(stream.take(LINE_MAX)).read_until(b'\n', &mut line)?;
    match line.last() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(serde_json::from_slice(&line).context("the other side speaks another version")?)),
        Some(_) => bail!("the other side sent half a line"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_arrives_as_it_was_sent() {
        let (mut a, b) = UnixStream::pair().unwrap();
        let order = Order {
            output: "/x/y.snap".into(),
            keep_running: true,
            since: Some("/x/z.snap".into()),
            compress: Compress::Zstd,
        };
        for request in [Request::Status, Request::Capture(order)] {
            send(&mut a, &request).unwrap();
            assert_eq!(receive::<Request>(&b, None).unwrap(), Some(request));
        }
        a.write_all(b"nonsense\n").unwrap();
        receive::<Request>(&b, None).unwrap_err();
        a.write_all(b"{").unwrap();
        drop(a);
        receive::<Request>(&b, None).unwrap_err();
        assert_eq!(receive::<Request>(&b, None).unwrap(), None);
    }
}
