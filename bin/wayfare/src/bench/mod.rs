//! Measures what Wayfare costs, with the tables that the README shows: each figure beside its
//! alternative in one run, as a ratio, because machines differ and drift.

mod capture;
mod cluster;
mod control;
mod hello;
mod large;
mod migrate;
pub mod mix;
mod naps;
mod overhead;
mod pause;
mod sched;
mod standby;
mod unikernel;

use crate::cli::Format;
use crate::{output, units};
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use wayfare_engine::{Form, Image, Key, Options, THREAD_STACK, Target, Task};
use wayfare_wasi::std_host::{StdHost, StreamSource};
use wayfare_wasi::{Ctx, Stream};

/// `wayfare bench`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  wayfare bench overhead\n  wayfare bench capture -o json\n  wayfare bench overhead --only fib,sqlite --runs 9\n  wayfare bench migrate --only cg,moves --moves 200\n  wayfare bench unikernel --runs 5\n  wayfare bench naps --seeds 400 --traces ../shared/traces\n  wayfare bench sched --only table,scale"
)]
pub struct Bench {
    /// What to measure
    #[arg(value_enum)]
    pub name: Name,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
    /// Where the guest programs are (guests/build.sh makes them)
    #[arg(long, default_value = "target/guests")]
    pub guests: PathBuf,
    /// Only these programs; of migrate, only these parts: cg, sqlite, idle, stop, slowdown, link, criu, moves; of
    /// unikernel: size, memory, boot, programs, transfer, downtime; of naps: networks, recorded,
    /// pause, takeover, overhead; of sched: table, planning, scale, events, real, latency, rate, idle
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<String>,
    /// Counted runs of each program
    #[arg(long, default_value_t = 5)]
    pub runs: u32,
    /// Round-trip time of the link between nodes, half of it each way (migrate)
    #[arg(long, value_parser = units::duration, default_value = "1ms")]
    pub rtt: Duration,
    /// Held-out courses of each network (naps)
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(2..=10_000))]
    pub seeds: u64,
    /// Where recorded drives are, CSV files in it or in folders of it (naps)
    #[arg(long, default_value = "../shared/traces")]
    pub traces: PathBuf,
    /// Moves in a row (migrate)
    #[arg(long, default_value_t = 1000)]
    pub moves: u32,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Name {
    /// What instrumentation costs a program that is never captured
    Overhead,
    /// How long a capture stops a program, and how large it is
    Capture,
    /// How long a move stops a program, what it sends, and what the program notices
    Migrate,
    /// What machines without an operating system need, and what moves to and from them cost
    Unikernel,
    /// What keeping a standby costs: our policy against fixed intervals, NAPS and an oracle in simulated time; and what a task
    /// and its clients notice
    Naps,
    /// What the scheduler achieves, and how long planning takes
    Sched,
}

/// One line of a table: a figure and what it should be.
struct Row {
    name: String,
    value: f64,
    unit: &'static str,
    /// At most this, or at least, by the sign of `at_least`.
    target: Option<f64>,
    at_least: bool,
    ratio: Option<f64>,
    note: String,
}

impl Row {
    fn met(&self) -> Option<bool> {
        self.target.map(|t| if self.at_least { self.value >= t } else { self.value <= t })
    }
}

/// A program of the tables.
struct Program {
    name: &'static str,
    args: &'static [&'static str],
}

/// The programs of the tables, with arguments for some tenths of a second to seconds each.
const PROGRAMS: &[Program] = &[
    Program { name: "npb_ep", args: &["A"] },
    Program { name: "npb_is", args: &["A"] },
    Program { name: "npb_cg", args: &["A"] },
    Program { name: "nbody", args: &["10000000"] },
    Program { name: "fannkuch", args: &["10"] },
    Program { name: "mandelbrot", args: &["3000"] },
    Program { name: "binary-trees", args: &["17"] },
    Program { name: "fib", args: &["40"] },
    Program { name: "bfs", args: &["18", "8"] },
    Program { name: "pagerank", args: &["18", "2"] },
    Program { name: "sqlite", args: &["150000"] },
    Program { name: "lua", args: &["bench", "15"] },
];

/// Runs one.
///
/// # Errors
/// When there is nothing to measure with.
pub fn run(args: &Bench) -> Result<ExitCode> {
    let rows = match args.name {
        Name::Overhead => overhead::measure(args)?,
        Name::Capture => capture::measure(args)?,
        Name::Migrate => migrate::measure(args)?,
        Name::Unikernel => unikernel::measure(args)?,
        Name::Naps => naps::measure(args)?,
        Name::Sched => sched::measure(args)?,
    };
    if args.output == Format::Json {
        let rows: Vec<_> = rows
            .iter()
            .map(|r| {
                let mut row =
                    json!({"name": r.name, "value": r.value, "unit": r.unit, "target": r.target, "met": r.met()});
                if let Some(ratio) = r.ratio {
                    row["ratio"] = json!(ratio);
                }
                row
            })
            .collect();
        output::print_json(&json!({ "rows": rows }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = format!("{:<38} {:>12} {:<6} {:>9} {:<4}  \n", "figure", "value", "unit", "target", "met");
    for r in &rows {
        let target = r.target.map_or(String::new(), |t| format!("{}{t}", if r.at_least { ">=" } else { "<=" }));
        let met = r.met().map_or("", |m| if m { "yes" } else { "NO" });
        text += &format!("{:<38} {:>12.3} {:<6} {target:>9} {met:<4} {}\n", r.name, r.value, r.unit, r.note);
    }
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn chosen(args: &Bench) -> impl Iterator<Item = &'static Program> + '_ {
    PROGRAMS.iter().filter(|p| args.only.is_empty() || args.only.iter().any(|o| o == p.name))
}

fn read(args: &Bench, name: &str) -> Result<Vec<u8>> {
    Ok(std::fs::read(guest(args, name)?)?)
}

/// Where a guest program is.
fn guest(args: &Bench, name: &str) -> Result<PathBuf> {
    guest_in(&args.guests, name)
}

fn guest_in(guests: &Path, name: &str) -> Result<PathBuf> {
    let path = guests.join(format!("{name}.wasm"));
    std::fs::canonicalize(&path)
        .with_context(|| format!("{}: run guests/build.sh first, or give --guests", path.display()))
}

/// Refuses a part that does not exist.
fn check_parts(args: &Bench, parts: &[&str]) -> Result<()> {
    match args.only.iter().find(|only| !parts.contains(&only.as_str())) {
        Some(unknown) => bail!("--only {unknown}: the parts are {}", parts.join(", ")),
        None => Ok(()),
    }
}

/// A key for images that never leave this process.
const KEY: Key = Key([0x5a; 32]);

/// The image of a module, plain without a form.
fn load(wasm: &[u8], form: Option<Form>) -> Result<Image> {
    let target = Target::host();
    let options = Options::default();
    let bytes = match form {
        Some(form) => Image::compile(wasm, &target, options, form, false, &KEY)?,
        None => Image::compile_plain(wasm, &target, options, &KEY)?,
    };
    Ok(Image::load(&bytes, &KEY)?)
}

fn host() -> Result<StdHost> {
    Ok(StdHost::new()?.stream(Stream::Stdin, StreamSource::Null).stream(Stream::Stdout, StreamSource::Null))
}

fn task(image: &Image, program: &Program) -> Result<Task> {
    let ctx = Ctx::builder().arg(program.name).args(program.args.iter().copied()).build();
    Ok(Task::start(image, program.name, ctx, host()?)?)
}

/// Runs something on a thread that a task may run on.
fn on_task_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .stack_size(THREAD_STACK)
            .spawn_scoped(scope, work)?
            .join()
            .unwrap_or_else(|_| anyhow::bail!("the measurement panicked"))
    })
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn geometric_mean(values: &[f64]) -> f64 {
    (values.iter().map(|v| v.ln()).sum::<f64>() / values.len() as f64).exp()
}
