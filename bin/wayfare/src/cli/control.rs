//! What may be typed about a controller and the sets of tasks that it has.

use super::{At, Format, TaskCommand};
use crate::units;
use clap::{Args, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// `wayfare up`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wayfare up                                        a node and a controller on this machine
  wayfare up --nodes 3                              with two more nodes, each a process of its own
  wayfare up --listen 192.0.2.7:7600 --api 192.0.2.7:7700
                                                    other machines join: `wayfare node invite`, `wayfare node join`

All of it ends on Ctrl-C, and goes on when it is started again: what was submitted, what ran, and what is known of it are
on the disk.")]
pub struct Up {
    #[command(flatten)]
    pub at: At,
    /// How many nodes there are to be on this machine
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub nodes: u16,
    /// Where to listen for other nodes
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7600")]
    pub listen: SocketAddr,
    /// Where to listen for users: HTTP
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7700")]
    pub api: SocketAddr,
    /// Speak TLS to users of this machine, too; to others it is spoken always
    #[arg(long)]
    pub tls: bool,
    /// Leave tasks on their nodes though they would end sooner on faster ones that are free
    #[arg(long)]
    pub stay: bool,
    /// Processors that tasks may have of each node (default: those of the machine, shared by its nodes)
    #[arg(long, value_parser = units::cpus)]
    pub cpus: Option<u32>,
    /// Memory that tasks may have of each node (default: what the machine has free, shared by its nodes)
    #[arg(long, value_parser = units::size)]
    pub memory: Option<u64>,
}

/// `wayfare submit`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wayfare submit set.json
  wayfare submit --name hash --image sha256.wasm --count 20 --cores 0.5 -- 64 7

  set.json: {\"name\": \"night\", \"tasks\": [
    {\"name\": \"queens\", \"image\": \"queens.wasm\", \"args\": [\"12\"], \"count\": 10},
    {\"name\": \"sort\", \"image\": \"quicksort.wasm\", \"memory\": 67108864, \"priority\": 1}]}

Images are found beside the file. A set is taken as a whole or not at all.")]
pub struct Submit {
    #[command(flatten)]
    pub at: At,
    /// A set
    #[arg(value_name = "SET.json", required_unless_present = "image", conflicts_with = "image")]
    pub file: Option<PathBuf>,
    /// A single task's name, and its set's
    #[arg(long, requires = "image")]
    pub name: Option<String>,
    /// Its program
    #[arg(long, value_name = "PROG.wasm")]
    pub image: Option<PathBuf>,
    /// How many of it
    #[arg(long, default_value_t = 1, requires = "image")]
    pub count: u32,
    /// Processors that it counts for
    #[arg(long, default_value = "1", value_parser = units::cpus, requires = "image")]
    pub cores: u32,
    /// Memory that it may use
    #[arg(long, default_value = "256MiB", value_parser = units::size, requires = "image")]
    pub memory: u64,
    /// It needs a GPU: a node with the label gpu
    #[arg(long, requires = "image")]
    pub gpu: bool,
    /// It keeps a warm standby on another node, from which it goes on if its node is lost
    #[arg(long, requires = "image")]
    pub standby: bool,
    /// The controller keeps a snapshot of it, made so often: it goes on from there if its node is lost
    #[arg(long, value_name = "TIME", value_parser = units::duration, requires = "image", conflicts_with = "standby")]
    pub snapshot_every: Option<Duration>,
    /// Until when it is to be over, from now; late ones are counted
    #[arg(long, value_parser = units::duration, requires = "image")]
    pub deadline: Option<Duration>,
    /// How long it will run, about, if that is not known yet
    #[arg(long, value_parser = units::duration, requires = "image")]
    pub estimate: Option<Duration>,
    /// A variable of its environment
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable, requires = "image")]
    pub env: Vec<(String, String)>,
    /// The higher the sooner
    #[arg(long, default_value_t = 0, requires = "image", allow_negative_numbers = true)]
    pub priority: i32,
    /// A label that its node must have
    #[arg(long, value_name = "LABEL", requires = "image")]
    pub label: Vec<String>,
    /// It stays on the controller's node
    #[arg(long, requires = "image")]
    pub local_only: bool,
    /// Wait until all is over
    #[arg(long)]
    pub wait: bool,
    /// Its arguments
    #[arg(last = true, requires = "image")]
    pub args: Vec<String>,
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("this is no variable: use NAME=VALUE")?;
    Ok((name.into(), value.into()))
}

/// `wayfare tasks`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  wayfare tasks\n  wayfare tasks night -o json\n  wayfare tasks -o wide")]
pub struct Tasks {
    #[command(flatten)]
    pub at: At,
    /// Only those of this set
    pub set: Option<String>,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Listing,
}

/// How tasks are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Listing {
    /// For reading
    #[default]
    Text,
    /// With all that is known
    Wide,
    /// For programs
    Json,
}

/// `wayfare task`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:\n  wayfare task queens-3\n  wayfare task queens-3 -o json"
)]
pub struct Task {
    #[command(subcommand)]
    pub command: Option<TaskCommand>,
    #[command(flatten)]
    pub at: At,
    /// The task
    #[arg(required = true)]
    pub name: Option<String>,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// `wayfare token ...`.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token: whoever has its access file may ask the controller
    Add(AddToken),
    /// List tokens, and what the tasks of each have of the cluster
    #[command(after_help = "\
Examples:
  wayfare token ls
  wayfare token ls -o json

CORES are those that its tasks have now, WAITING those that they wait for, CORE-SECONDS what they were charged since the
controller began; what runs counts for as long as it is thought to run.")]
    Ls(ListTokens),
    /// Say what part of the cluster a token's tasks have against those of others
    #[command(after_help = "\
Examples:
  wayfare token share alice 2                                twice the cores of each other one, while they wait, too")]
    Share(ShareToken),
    /// End a token
    #[command(after_help = "Examples:\n  wayfare token rm alice")]
    Rm(EndToken),
}

/// `wayfare token add`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wayfare token add alice --role operate > alice.json
  WAYFARE_ACCESS=alice.json wayfare submit set.json          there, or on another machine
  wayfare token add wall --role view --ttl 12h
  wayfare token add bob --role operate --share 2 > bob.json  twice the cores of others, while these wait, too

What is printed is an access file: where the controller is, the certificate it is known by, and the token. It is shown this
once. Whatever is submitted with a token is its name's, and names share nodes fairly.")]
pub struct AddToken {
    #[command(flatten)]
    pub at: At,
    /// Whose it is
    pub name: String,
    /// What its holder may do
    #[arg(long, value_enum)]
    pub role: RoleName,
    /// How long it holds (default: without end)
    #[arg(long, value_parser = units::duration)]
    pub ttl: Option<Duration>,
    /// Its part of the cluster against that of others who wait
    #[arg(long, default_value = "1", value_parser = units::share)]
    pub share: f64,
}

/// What a token's holder may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RoleName {
    /// Look
    View,
    /// Submit, cancel, move and remove tasks, too
    Operate,
    /// All
    Admin,
}

/// `wayfare token ls`.
#[derive(Debug, Args)]
pub struct ListTokens {
    #[command(flatten)]
    pub at: At,
    /// How to print them
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// `wayfare token share`.
#[derive(Debug, Args)]
pub struct ShareToken {
    #[command(flatten)]
    pub at: At,
    /// Whose
    pub name: String,
    /// Against 1 of each other one
    #[arg(value_parser = units::share)]
    pub share: f64,
}

/// `wayfare token rm`.
#[derive(Debug, Args)]
pub struct EndToken {
    #[command(flatten)]
    pub at: At,
    /// Whose
    pub name: String,
}

/// `wayfare wait`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wayfare wait night

Exit status: 0 if all of its tasks have succeeded, 1 if not.")]
pub struct Wait {
    #[command(flatten)]
    pub at: At,
    /// The set
    pub set: String,
    /// How to print how it went
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// `wayfare cancel`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  wayfare cancel queens-3")]
pub struct Cancel {
    #[command(flatten)]
    pub at: At,
    /// The task
    pub name: String,
}
