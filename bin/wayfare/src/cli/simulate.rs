//! What `wayfare simulate` takes.

use super::Format;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use wayfare_policy::Policy;

/// `wayfare simulate ...`.
#[derive(Debug, Subcommand)]
pub enum SimulateCommand {
    /// Keep a standby over a link that is made up or was recorded
    Naps(SimulateNaps),
}

/// `wayfare simulate naps`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wayfare simulate naps --trace fair --policy naps,auto,fixed:8m
  wayfare simulate naps --trace poor --seed 7 --policy auto,young --plot poor.svg
  wayfare simulate naps --trace drive.csv --cost 0.5 -o json
  wayfare simulate naps --table --seeds 400          Table 4-3, and what the thesis prints

A trace is good, fair, poor, abrupt, tunnel, handover or train, two hours long, or a CSV file with the
columns t_s,down_kbps,rtt_ms. The cost J is syncs x cost + minutes of progress that the standby recomputes.")]
pub struct SimulateNaps {
    /// The network, or a recording (.csv)
    #[arg(long, default_value = "fair")]
    pub trace: String,
    /// What decides: auto, naps, naps-printed, fixed:TIME, young
    #[arg(long, value_delimiter = ',', default_value = "auto,naps,fixed:8m")]
    pub policy: Vec<Policy>,
    /// How many courses of the network; figures are means over them, with 95 % confidence intervals
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub seeds: u64,
    /// The first of them; the only one that is plotted
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..1 << 32))]
    pub seed: u64,
    /// What a sync costs, in minutes of progress
    #[arg(long, value_name = "MINUTES", default_value = "1", value_parser = cost)]
    pub cost: f64,
    /// Table 4-3 of the thesis instead, for three networks
    #[arg(long, conflicts_with_all = ["trace", "policy", "plot"])]
    pub table: bool,
    /// Draw the first course and what each policy did on it
    #[arg(long, value_name = "OUT.svg")]
    pub plot: Option<PathBuf>,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

fn cost(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(c) if (0.01..=1000.0).contains(&c) => Ok(c),
        _ => Err("this is no cost: use minutes, 0.01 to 1000".into()),
    }
}
