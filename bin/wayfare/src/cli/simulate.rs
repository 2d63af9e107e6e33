//! What `wayfare simulate` takes.

use super::Format;
use crate::units;
use clap::{Args, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use wayfare_policy::Policy;

/// `wayfare simulate ...`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
pub struct Simulate {
    #[command(subcommand)]
    pub command: Option<SimulateCommand>,
    #[command(flatten)]
    pub cluster: SimulateSched,
}

/// What is simulated.
#[derive(Debug, Subcommand)]
pub enum SimulateCommand {
    /// Run the thesis's sets of tasks (Table 5-3): how much sooner they end when they are offloaded
    #[command(name = "table-5-3")]
    Table(SimulateTable),
    /// Plan and run many tasks on many nodes; the same as without `sched`
    Sched(SimulateSched),
    /// Keep a standby over a link that is made up or was recorded
    Naps(SimulateNaps),
    /// Pass bytes between addresses of this machine as a link would that is slow, far or broken at times
    Link(SimulateLink),
}

/// `wayfare simulate table-5-3`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wayfare simulate table-5-3
  wayfare simulate table-5-3 --policy list,mbct-ga --cv 0.5 --plot table.svg
  wayfare simulate table-5-3 --measure              with run times that the nine programs have here

A = (Tlocal - Toff) / Tlocal, for sets of 100, 500 and 1000 tasks of Table 5-1 on the cluster of Table 5-2 (24 cores,
4 of them where the tasks come from: 83.33 % if work could be divided at will). Tasks take a lognormal number, of mean 1
and this cv, times their estimates. The thesis does not publish run times.")]
pub struct SimulateTable {
    /// What decides: list, local, memory-first, mbct-ga, earliest-finish, local-search
    #[arg(long, value_delimiter = ',', default_value = "list,memory-first,mbct-ga")]
    pub policy: Vec<wayfare_sched::Policy>,
    /// How far run times are from their estimates: standard deviation / mean
    #[arg(long, default_value = "0.15", value_parser = cv)]
    pub cv: f64,
    /// Of what is drawn
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Sets of each size; the thesis has three
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub sets: u16,
    /// Run times of the programs, JSON: {\"maze\": 12, \"sha256\": 30, ...}, seconds
    #[arg(long, value_name = "FILE")]
    pub times: Option<PathBuf>,
    /// Run each of the nine programs once first, on this machine
    #[arg(long, conflicts_with = "times")]
    pub measure: bool,
    /// Where the programs are (guests/build.sh makes them)
    #[arg(long, default_value = "target/guests")]
    pub guests: PathBuf,
    /// Draw it
    #[arg(long, value_name = "OUT.svg")]
    pub plot: Option<PathBuf>,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// `wayfare simulate sched`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wayfare simulate sched --nodes 10000 --tasks 100000
  wayfare simulate --nodes 20 --tasks 500 --policy list,mbct-ga,memory-first --objective mean-response --cv 0.5
  wayfare simulate --nodes 20 --tasks 500 --cv 0.5 --moves

Nodes have four cores and 8 GB each, and speeds of 0.5 to 2 in so many classes; tasks are those of the thesis's Table 5-1.")]
pub struct SimulateSched {
    /// How many nodes
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub nodes: u32,
    /// How many tasks
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub tasks: u32,
    /// Classes of speed
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub classes: u32,
    /// What decides: list, local, memory-first, mbct-ga, earliest-finish, local-search
    #[arg(long, value_delimiter = ',', default_value = "list")]
    pub policy: Vec<wayfare_sched::Policy>,
    /// What is to be small
    #[arg(long, value_enum, default_value_t)]
    pub objective: super::Goal,
    /// Show as well what the controller would come to, and what with moving tasks that run to faster nodes
    #[arg(long)]
    pub moves: bool,
    /// How far run times are from their estimates: standard deviation / mean
    #[arg(long, default_value = "0.15", value_parser = cv)]
    pub cv: f64,
    /// Of what is drawn
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

fn cv(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(c) if (0.0..=3.0).contains(&c) => Ok(c),
        _ => Err("this is no coefficient of variation: use 0 to 3".into()),
    }
}

/// `wayfare simulate link`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wayfare simulate link 127.0.0.1:7701=127.0.0.1:7601 --rate 16Mbit --delay 40ms
  wayfare simulate link 127.0.0.1:7701=127.0.0.1:7601 127.0.0.1:7702=127.0.0.1:7602 --trace drive.csv

Nodes go by it when they say that they are reached there: `wayfare node serve --advertise 127.0.0.1:7701`. A trace is a
CSV file with the columns t_s,rate_bps,delay_ms, from the start of this program; a rate of 0 is an outage, in which
nothing passes and nobody is told. The last line lasts until Ctrl-C.")]
pub struct SimulateLink {
    /// Where it listens, and where what comes goes to
    #[arg(required = true, value_name = "LISTEN=TARGET", value_parser = way)]
    pub ways: Vec<(SocketAddr, SocketAddr)>,
    /// Rate and delay over time (.csv)
    #[arg(long, conflicts_with_all = ["rate", "delay"], value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Bytes per second, each way
    #[arg(long, value_parser = units::rate, default_value = "1Gbit")]
    pub rate: u64,
    /// How long a byte takes, one way
    #[arg(long, value_parser = units::duration, default_value = "1ms")]
    pub delay: Duration,
}

fn way(text: &str) -> Result<(SocketAddr, SocketAddr), String> {
    let parsed = text.split_once('=').and_then(|(listen, target)| Some((listen.parse().ok()?, target.parse().ok()?)));
    parsed.ok_or_else(|| "this is no way: use LISTEN=TARGET, each ADDRESS:PORT".into())
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
