//! Commands about standbys.

use super::{Asked, Format, OfAgent};
use crate::units;
use clap::Args;
use std::time::Duration;
use wayfare_policy::Policy;

/// `wayfare protect`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wayfare protect sim --standby gateway
  wayfare protect sim --standby gateway --max-loss 5s
  wayfare protect sim --standby gateway --policy fixed:4m

The standby is kept up to date while the task runs, as often as the policy finds worth what the link takes for it.
When nothing is heard of this node any more, it goes on there from the last state that came whole; `wayfare protected`
says how old that is. When this node comes back, what is there is what counts.")]
pub struct Protect {
    #[command(flatten)]
    pub asked: Asked,
    /// The task
    pub name: String,
    /// The node that is to go on with it
    #[arg(long, value_name = "NODE")]
    pub standby: String,
    /// When to sync: auto, naps, naps-printed, young, or fixed:INTERVAL
    #[arg(long, default_value = "auto")]
    pub policy: Policy,
    /// Never more progress at risk than this, if the link can do it
    #[arg(long, value_parser = units::duration, value_name = "TIME")]
    pub max_loss: Option<Duration>,
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
#[command(after_help = "Examples:\n  wayfare protected\n  wayfare protected --node gateway -o json")]
pub struct Protected {
    #[command(flatten)]
    pub asked: Asked,
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

The task goes on at its standby, from the last state that came whole; what it has done since is done again there.
To move it with all that it has done, use `wayfare migrate`.")]
pub struct Failover {
    #[command(flatten)]
    pub task: OfAgent,
}
