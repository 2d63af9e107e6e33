//! What a machine without an operating system tells of its last end: that it failed, and was reset.

use alloc::string::String;
use anyhow::ensure;
use serde::{Deserialize, Serialize};

/// Longest text, bytes.
const TEXT_MAX: usize = 1024;

/// Which part of the machine has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// The agent, or what it works with.
    Agent,
    /// The kernel.
    Kernel,
    /// None that knew it: the agent was not heard of any more.
    Watchdog,
}

impl Part {
    /// What it has done, for people.
    pub fn describe(self) -> &'static str {
        match self {
            Part::Agent => "the agent failed",
            Part::Kernel => "the kernel failed",
            Part::Watchdog => "the watchdog fired",
        }
    }
}

/// Why a machine was reset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// Which part has failed.
    pub part: Part,
    /// How, in one line for people.
    pub text: String,
    /// How many times in a row it has.
    pub times: u32,
}

impl Restart {
    /// Looks at one that came from another node: it will be shown to people.
    ///
    /// # Errors
    /// When its text is too long, or does more to a terminal than to be shown.
    pub fn check(&self) -> anyhow::Result<()> {
        let is_line = self.text.len() <= TEXT_MAX && !self.text.chars().any(char::is_control);
        ensure!(is_line, "a reason for a restart that is no line of text");
        Ok(())
    }
}

/// A restart that a node was told of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restarted {
    /// Seconds since 1970.
    pub at: u64,
    /// Why.
    #[serde(flatten)]
    pub why: Restart,
}
