//! Commands about standbys.

use super::{Asked, Format, OfAgent};
use crate::units;
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;
use wayfare_policy::Policy;

/// `wayfare protect`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wayfare protect sim --standby gateway
  wayfare protect sim --standby gateway --max-loss 5s
  wayfare protect sim --standby gateway --policy fixed:4m

  wayfare protect sim --standby gateway --on-return furthest --stay
  wayfare protect sim --standby gateway,cloud       the cloud goes on if the gateway is gone, too

The standby is kept up to date while the task runs, as often as the policy finds worth what the link takes for it.
When nothing is heard of this node any more, it goes on there from the last state that came whole; `wayfare protected`
says how old that is. When this node is back, one of the two copies counts (--on-return), and the other is dropped as
soon as that one is safe on both nodes; then the task goes home, live, unless it is to --stay.")]
pub struct Protect {
    #[command(flatten)]
    pub asked: Asked,
    /// The task
    pub name: String,
    /// The node that is to go on with it; several, nearest first: each is kept up to date, and goes on if those before it are gone
    #[arg(long = "standby", value_name = "NODE", required = true, value_delimiter = ',', num_args = 1)]
    pub standbys: Vec<String>,
    /// When to sync: auto, naps, naps-printed, young, or fixed:INTERVAL
    #[arg(long, default_value = "auto")]
    pub policy: Policy,
    /// Never more progress at risk than this, if the link can do it
    #[arg(long, value_parser = units::duration, value_name = "TIME")]
    pub max_loss: Option<Duration>,
    /// Whose state counts once both sides went on: the one that has served clients (the standby's, as a rule), or the one
    /// that has done more work
    #[arg(long, value_enum, default_value_t)]
    pub on_return: Return,
    /// After a takeover, stay at the standby until `wayfare failback`
    #[arg(long)]
    pub stay: bool,
}

/// Whose state counts.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum Return {
    /// A service: the side that has served
    #[default]
    Standby,
    /// Pure computation: the side that has come further
    Furthest,
}

/// `wayfare unprotect`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  wayfare unprotect sim")]
pub struct Unprotect {
    #[command(flatten)]
    pub task: OfAgent,
}

/// `wayfare protected`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wayfare protected
  wayfare protected --node gateway -o json
  wayfare protected sim --plot sim.svg              watch it until Ctrl-C, and draw what happened
  wayfare protected sim --plot sim.svg --for 10m")]
pub struct Protected {
    #[command(flatten)]
    pub asked: Asked,
    /// Only this task
    pub name: Option<String>,
    /// Watch the pair, and draw its link, syncs, outages and recomputed work into this file (SVG)
    #[arg(long, value_name = "FILE", requires = "name")]
    pub plot: Option<PathBuf>,
    /// Watch it for so long; else until Ctrl-C
    #[arg(long = "for", value_name = "TIME", value_parser = units::duration, requires = "plot")]
    pub long: Option<Duration>,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// `wayfare failover`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wayfare failover sim                    asked of the task's node, or of the standby's
  wayfare failover sim --node gateway     where the task's node does not answer

Where both nodes are there the task is handed over live, with all that it has done; it stays there until `wayfare failback`.
Where they do not reach each other it goes on at the standby from the last state that came whole.")]
pub struct Failover {
    #[command(flatten)]
    pub task: OfAgent,
}

/// `wayfare failback`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wayfare failback sim                    asked of the node where it is, or of its home

It goes back, live, to the node where it was when it was given its standby; that is its standby by now.")]
pub struct Failback {
    #[command(flatten)]
    pub task: OfAgent,
}
