//! What a task is, apart from what it has computed: travels with it, and is what it is started from anew.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use wayfare_transfer::TaskId;
use wayfare_transfer::message::{Offer, Reason, Refusal};

/// A directory of the machine that a task uses; shared storage, the same at each node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dir {
    /// On the machine.
    pub host: String,
    /// In the program.
    pub guest: String,
    /// Whether it may only be read.
    pub read_only: bool,
}

/// How much of a machine a task may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of memory: a task that asks for more is told that there is none.
    pub memory: Option<u64>,
    /// Processors it counts for, in hundredths.
    pub cpus: u32,
    /// Its share of a busy processor, against 100 for others.
    pub cpu_share: u32,
    /// Seconds after which it is stopped.
    pub wall_time: Option<u64>,
    /// Descriptors open at once.
    pub open_files: Option<u32>,
    /// Bytes per second from all clients together, and as many to them.
    #[serde(default)]
    pub network: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: None, cpus: 100, cpu_share: 100, wall_time: None, open_files: None, network: None }
    }
}

/// A task as it was ordered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Its identity.
    pub id: TaskId,
    /// What people call it.
    pub name: String,
    /// The program's file where it was started, for showing.
    pub program: String,
    /// BLAKE3 of the module, in hexadecimal digits.
    pub module: String,
    /// Whether NaNs are canonical.
    pub canonical_nan: bool,
    /// The program's arguments, without its name.
    pub args: Vec<String>,
    /// Its environment.
    pub env: Vec<(String, String)>,
    /// Shared directories.
    pub dirs: Vec<Dir>,
    /// Directories that move with it, and where they were read from.
    pub volumes: Vec<Dir>,
    /// What it may use.
    pub limits: Limits,
    /// Seconds between durable snapshots; 0 for none.
    pub checkpoint_every: u64,
    /// Ports at which clients reach it.
    pub publish: Vec<u16>,
    /// The node it was started on.
    pub origin: String,
    /// When it was started, seconds since 1970.
    pub started: u64,
    /// A controller has placed it, and follows what becomes of it.
    #[serde(default)]
    pub placed: bool,
}

/// Longest name of a task: the path of its socket has 108 bytes.
pub const NAME_MAX: usize = 48;

/// Most directories, and most ports.
const MANY: usize = 64;

/// Refuses what cannot be a task's name.
///
/// # Errors
/// Says what may be one.
pub fn check_name(name: &str) -> anyhow::Result<()> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > NAME_MAX || name.starts_with(['.', '-']) || !name.chars().all(good) {
        anyhow::bail!("{name:?} cannot be a task's name: use up to {NAME_MAX} letters, digits, '-', '_' and '.'");
    }
    Ok(())
}

impl Spec {
    /// Reads the settings of an offer, from a peer.
    ///
    /// # Errors
    /// When they are none, or name what no task has.
    pub fn from_peer(bytes: &[u8]) -> anyhow::Result<Spec> {
        let spec: Spec = serde_json::from_slice(bytes)?;
        spec.check()?;
        Ok(spec)
    }

    /// Reads an offer's settings, which must be those of the task that is offered.
    ///
    /// # Errors
    /// As [`Spec::from_peer`]; when they are another task's.
    pub fn of_offer(offer: &Offer) -> Result<Spec, Refusal> {
        let bad = |e: anyhow::Error| Refusal::new(Reason::State, format!("the task's settings cannot be read: {e:#}"));
        let spec = Spec::from_peer(&offer.settings).map_err(bad)?;
        if spec.id != offer.task || spec.name != offer.name || spec.module != offer.digest().to_string() {
            return Err(Refusal::new(Reason::State, "the task's settings are another task's"));
        }
        Ok(spec)
    }

    /// Refuses what no task can be.
    ///
    /// # Errors
    /// A name that is none, or too much of something.
    pub fn check(&self) -> anyhow::Result<()> {
        check_name(&self.name)?;
        for (what, n) in [("directories", self.dirs.len() + self.volumes.len()), ("ports", self.publish.len())] {
            anyhow::ensure!(n <= MANY, "{n} {what}, where a task may have at most {MANY}");
        }
        Ok(())
    }
}
