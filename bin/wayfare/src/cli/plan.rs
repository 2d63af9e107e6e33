//! What `wayfare plan` takes.

use super::At;
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use wayfare_sched::Policy;

/// `wayfare plan`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wayfare plan night.json                           on the cluster that is there, beside what runs
  wayfare plan night.json -o svg > night.svg        a chart: who runs what, when
  wayfare plan night.json --policy mbct-ga --seed 7
  wayfare plan night.json --cluster lab.json        on one that is described, without a controller

  lab.json: [{\"name\": \"desk\", \"cores\": 4, \"memory\": 8000000000},
             {\"name\": \"server\", \"cores\": 8, \"memory\": 16000000000, \"speed\": 2, \"labels\": [\"zone=a\"]}]

The first node of a file is the one that tasks come from. The controller itself goes by `list`; the other policies are
there to compare with. Times are estimates: from earlier runs, from the set's file, or a minute.

Exit status: 1 if tasks can run nowhere, which are named.")]
pub struct Plan {
    #[command(flatten)]
    pub at: At,
    /// A set, as for `wayfare submit`
    #[arg(value_name = "SET.json")]
    pub file: PathBuf,
    /// What decides: list, local, memory-first, mbct-ga, earliest-finish, local-search
    #[arg(long, default_value = "list")]
    pub policy: Policy,
    /// What is to be small (default: what the set says)
    #[arg(long, value_enum)]
    pub objective: Option<Goal>,
    /// Of the chance in some policies
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// A cluster, described in a file, instead of the one that is there
    #[arg(long, value_name = "CLUSTER.json")]
    pub cluster: Option<PathBuf>,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    pub output: PlanFormat,
}

/// What is to be small.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Goal {
    /// The time until the last task ends
    #[default]
    Makespan,
    /// The mean time until a task ends
    MeanResponse,
}

impl From<Goal> for wayfare_api::Objective {
    fn from(goal: Goal) -> Self {
        match goal {
            Goal::Makespan => Self::Makespan,
            Goal::MeanResponse => Self::MeanResponse,
        }
    }
}

impl From<Goal> for wayfare_sched::Objective {
    fn from(goal: Goal) -> Self {
        match goal {
            Goal::Makespan => Self::Makespan,
            Goal::MeanResponse => Self::MeanResponse,
        }
    }
}

/// How a plan is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum PlanFormat {
    /// For reading
    #[default]
    Text,
    /// For programs
    Json,
    /// As a chart
    Svg,
}
