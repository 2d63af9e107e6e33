//! What may be typed about nodes, and about the tasks of an agent.

use super::{Format, Listing};
use crate::units;
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// Which agent.
#[derive(Clone, Debug, Args)]
pub struct At {
    /// The node's directory (default: /var/lib/wayfare for root, else below the XDG state directory)
    #[arg(long, value_name = "DIR", env = "WAYFARE_STATE")]
    pub state: Option<PathBuf>,
}

/// Which agent, and whom it is to ask.
#[derive(Clone, Debug, Args)]
pub struct Asked {
    #[command(flatten)]
    pub at: At,
    /// Ask this node of the cluster, rather than the one here
    #[arg(long, value_name = "NODE")]
    pub node: Option<String>,
}

/// `wayfare node ...`.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Make a cluster, with this machine as its first node
    Init(Init),
    /// Run this node's agent
    Serve(Serve),
    /// Print a token with which another machine can join, once
    Invite(Invite),
    /// Make this machine a node of a cluster
    Join(Join),
    /// Take a node's membership back
    Revoke(Revoke),
    /// Give this node a new key
    Rotate(Rotate),
    /// Have the controller start nothing new on a node
    #[command(after_help = "Examples:\n  wayfare node cordon node2\n  wayfare node cordon node2 --undo")]
    Cordon(Cordon),
    /// Have the controller move what runs on a node to others, live, and start nothing new there
    #[command(after_help = "Examples:\n  wayfare node drain node2\n  wayfare node cordon node2 --undo")]
    Drain(Marked),
    /// Say something about a node that tasks may ask for
    Label(Label),
    /// Have the controller forget a node on which nothing runs; its membership ends
    #[command(after_help = "Examples:\n  wayfare node drain node2\n  wayfare node rm node2")]
    Rm(Marked),
    /// Print how many times as fast as a node of speed 1 this machine runs tasks
    #[command(hide = true)]
    Speed {
        /// How often it is tried; the fastest counts
        #[arg(default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=100))]
        runs: u8,
    },
}

/// A node of the controller's.
#[derive(Debug, Args)]
pub struct Marked {
    #[command(flatten)]
    pub at: At,
    /// The node
    #[arg(value_name = "NODE")]
    pub name: String,
}

/// `wayfare node cordon`.
#[derive(Debug, Args)]
pub struct Cordon {
    #[command(flatten)]
    pub node: Marked,
    /// It may have tasks again
    #[arg(long)]
    pub undo: bool,
}

/// `wayfare node label`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wayfare node label node2 zone=a gpu
  wayfare node label node2 --remove gpu

The label gpu says that tasks which need one can run there.")]
pub struct Label {
    #[command(flatten)]
    pub node: Marked,
    /// Labels that it gets
    #[arg(required_unless_present = "remove")]
    pub labels: Vec<String>,
    /// A label that it has no more
    #[arg(long, value_name = "LABEL")]
    pub remove: Vec<String>,
}

/// `wayfare node init`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wayfare node init --cluster home
  wayfare node init --cluster home --name server1

The cluster's key stays in this node's directory (authority.key): whoever has it can make members.
Keep a copy of it in a safe place.")]
pub struct Init {
    #[command(flatten)]
    pub at: At,
    /// The cluster's name
    #[arg(long)]
    pub cluster: String,
    /// This node's name (default: the host's)
    #[arg(long)]
    pub name: Option<String>,
}

/// `wayfare node serve`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wayfare node serve --listen 0.0.0.0:7600 --advertise server1.example:7600
  wayfare node serve --listen 192.0.2.7:7600 --share /srv/data --memory 4GiB --cpus 4

Ends on SIGTERM or Ctrl-C: every task is written to the disk first, and goes on when the agent is started
again. After a crash, tasks go on from their last snapshot (`wayfare run --checkpoint-every`).")]
pub struct Serve {
    #[command(flatten)]
    pub at: At,
    /// Where to listen for other nodes
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7600")]
    pub listen: String,
    /// How other nodes reach this one (default: the address it listens on)
    #[arg(long, value_name = "ADDRESS")]
    pub advertise: Option<String>,
    /// Let tasks from other nodes use this directory
    #[arg(long, value_name = "DIR")]
    pub share: Vec<PathBuf>,
    /// Memory for tasks, such as 4GiB (default: what is free)
    #[arg(long, value_parser = units::size)]
    pub memory: Option<u64>,
    /// Processors for tasks (default: four tasks to each)
    #[arg(long, value_parser = units::cpus)]
    pub cpus: Option<u32>,
    /// Memory for pages of tasks that have left: they need not be sent when these come back [default: 256MiB]
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    pub keep: Option<u64>,
}

/// `wayfare node invite`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wayfare node invite
  wayfare node invite --valid 5m
  wayfare node invite --nodes gateways.json      [{\"name\": \"gw1\", \"labels\": [\"zone=a\"]}, ...]

The token is good for one node. On the other machine: wayfare node join TOKEN@ADDRESS
With --nodes the controller is asked, which prints a line for each machine; nodes have their labels as soon as they are there.")]
pub struct Invite {
    #[command(flatten)]
    pub at: At,
    /// How long the token is good for
    #[arg(long, value_parser = units::duration, default_value = "15m", conflicts_with = "nodes")]
    pub valid: Duration,
    /// Invite these nodes, up to 256, each good for an hour: a list of names and labels
    #[arg(long, value_name = "FILE.json")]
    pub nodes: Option<PathBuf>,
}

/// `wayfare node join`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  wayfare node join wf1-...@server1.example:7600 --name gateway")]
pub struct Join {
    #[command(flatten)]
    pub at: At,
    /// The token, and where the agent is that gave it
    #[arg(value_name = "TOKEN@ADDRESS")]
    pub token: String,
    /// This node's name (default: the host's)
    #[arg(long)]
    pub name: Option<String>,
}

/// `wayfare node revoke`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  wayfare node revoke gateway")]
pub struct Revoke {
    #[command(flatten)]
    pub at: At,
    /// The node
    pub name: String,
}

/// `wayfare node rotate`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wayfare node rotate                               on the node with the cluster's key
  wayfare node rotate --via server1.example:7600    elsewhere; that node has the cluster's key")]
pub struct Rotate {
    #[command(flatten)]
    pub at: At,
    /// Where the node is that holds the cluster's key
    #[arg(long, value_name = "ADDRESS")]
    pub via: Option<String>,
}

/// `wayfare nodes`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wayfare nodes
  wayfare nodes -o wide          as the controller sees them: how they are, and what they have
  wayfare nodes -o json
  wayfare nodes --node board1    as that one sees them")]
pub struct Nodes {
    #[command(flatten)]
    pub asked: Asked,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Listing,
}

/// How memory comes along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// In rounds while the task runs, until little is left
    #[default]
    PreCopy,
    /// After it has gone over: each page when the task touches it, the others behind. Least to wait for, whatever it
    /// writes; while the link is broken it waits there for pages that are still here
    PostCopy,
    /// In rounds while each halves what is left; then what cannot go within the bound after it has gone over
    Hybrid,
    /// While the task stands still
    Stop,
}

/// What to do if the bound on the downtime cannot be kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OnStall {
    /// Move it all the same
    #[default]
    Move,
    /// Leave it where it is
    GiveUp,
}

/// `wayfare migrate`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wayfare migrate sim --to gateway
  wayfare migrate sim --to gateway --max-downtime 5ms --on-stall give-up
  wayfare migrate sim --to gateway --limit 100Mbit
  wayfare migrate sim --to gateway --mode post-copy     writes faster than the link carries

A task that has left is followed: it need not be here. The task runs on where it is until it runs there. Whatever fails before, it stays here; Ctrl-C calls the move off.
It is kept here as it was until it is on the other node's disk: if that node dies before, it goes on here.")]
pub struct Migrate {
    #[command(flatten)]
    pub asked: Asked,
    /// The task
    pub name: String,
    /// The node
    #[arg(long, value_name = "NODE")]
    pub to: String,
    /// How memory comes along
    #[arg(long, value_enum, default_value_t)]
    pub mode: Mode,
    /// How long it may stand still
    #[arg(long, value_parser = units::duration, default_value = "10ms")]
    pub max_downtime: Duration,
    /// What to do if it writes to memory too fast for that
    #[arg(long, value_enum, default_value_t)]
    pub on_stall: OnStall,
    /// How much of the link the move may take, such as 100Mbit
    #[arg(long, value_parser = units::rate, value_name = "RATE")]
    pub limit: Option<u64>,
    /// Connections to send memory by: more than one helps where packets are lost on a long way, or where the link is
    /// faster than one core can encrypt
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=8), default_value_t = 1)]
    pub streams: u8,
    /// How to print the result
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// A task of the agent.
#[derive(Debug, Args)]
pub struct OfAgent {
    #[command(flatten)]
    pub asked: Asked,
    /// The task
    pub name: String,
}

/// `wayfare logs`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  wayfare logs sim\n  wayfare logs -f sim")]
pub struct Logs {
    #[command(flatten)]
    pub asked: Asked,
    /// The task
    pub name: String,
    /// Go on with what it writes, until it ends or moves away
    #[arg(short, long)]
    pub follow: bool,
}

/// `wayfare stats`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  wayfare stats\n  wayfare stats -o json")]
pub struct Stats {
    #[command(flatten)]
    pub asked: Asked,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// `wayfare task ...`.
#[derive(Debug, Subcommand)]
pub enum TaskCommand {
    /// Decide what became of a task whose node does not answer
    #[command(after_help = "\
Examples:
  wayfare task resolve sim               shows what is known
  wayfare task resolve sim --here        it goes on here: only if it does NOT run there
  wayfare task resolve sim --there       it is there: forget it here

After the word that gives a task away was sent and no answer came, this node does not know whether the task runs
there; it keeps asking, and the task stands still here. The same holds while the other node has not said that the
task is on its disk. Decide only if you know better.")]
    Resolve(Resolve),
}

/// `wayfare task resolve`.
#[derive(Debug, Args)]
pub struct Resolve {
    #[command(flatten)]
    pub at: At,
    /// The task
    pub name: String,
    /// It does not run there: let it go on here
    #[arg(long, conflicts_with = "there")]
    pub here: bool,
    /// It runs there: forget it here
    #[arg(long)]
    pub there: bool,
}

/// What an agent is to hold a task to, and to do for it (with --detach).
#[derive(Debug, Args)]
#[command(next_help_heading = "With --detach")]
pub struct Detached {
    /// Run on this machine's agent, in the background
    #[arg(short, long)]
    pub detach: bool,
    /// Most memory the program may have; beyond it, it is told that there is none
    #[arg(long, value_parser = units::size, requires = "detach")]
    pub memory: Option<u64>,
    /// Processors it counts for
    #[arg(long, value_parser = units::cpus, requires = "detach")]
    pub cpus: Option<u32>,
    /// Its share of a busy processor, against 100 for others
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100), requires = "detach")]
    pub cpu_share: Option<u32>,
    /// Stop it after this time
    #[arg(long, value_parser = units::duration, requires = "detach")]
    pub time_limit: Option<Duration>,
    /// Most descriptors it may have open
    #[arg(long, requires = "detach")]
    pub open_files: Option<u32>,
    /// Most traffic with its clients, each way, such as 10Mbit (without --publish it has none)
    #[arg(long, value_parser = units::rate, value_name = "RATE", requires = "detach")]
    pub network: Option<u64>,
    /// Let clients connect to it by TCP on this port; it finds a listening socket as descriptor 3 (after its directories)
    #[arg(long, value_name = "PORT", requires = "detach")]
    pub publish: Vec<u16>,
    /// How often it is written to the disk, so that a crash costs no more than that (0: never)
    #[arg(long, value_parser = units::duration, default_value = "60s")]
    pub checkpoint_every: Duration,
    /// The node's directory
    #[arg(long, value_name = "DIR", env = "WAYFARE_STATE")]
    pub state: Option<PathBuf>,
}
