//! `wayfare migrate`: moves a task of the agent, and shows how that goes.

use crate::cli::{Format, Migrate, Mode, OnStall};
use crate::client::{Client, Refused};
use crate::tasks::of_controller;
use crate::{output, sets};
use anyhow::{Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;
use wayfare_node::control::{Line, Order, Reply, Report, Request};
use wayfare_transfer::message::Mode as Wire;

/// Moves it.
///
/// # Errors
/// When it stays here, with the reason.
pub fn run(args: &Migrate) -> Result<ExitCode> {
    // The controller finds its own tasks, sees to it that there is room, and takes a standby along.
    if let Some((api, task)) = of_controller(&args.asked, &args.name) {
        let is_plain = args.mode == Mode::PreCopy && args.on_stall == OnStall::default() && args.limit.is_none();
        if !is_plain || args.streams != 1 {
            bail!(
                "{} is the controller's, which moves it by pre-copy: leave --mode, --on-stall, --limit and --streams out",
                args.name
            );
        }
        return sets::migrate(&api, &task, &args.to, args.output);
    }
    let order = Order {
        name: args.name.clone(),
        to: args.to.clone(),
        mode: match args.mode {
            Mode::PreCopy => Wire::PreCopy,
            Mode::PostCopy => Wire::PostCopy,
            Mode::Hybrid => Wire::Hybrid,
            Mode::Stop => Wire::Stop,
        },
        max_downtime: args.max_downtime.as_nanos() as u64,
        give_up: args.on_stall == OnStall::GiveUp,
        limit: args.limit,
        streams: args.streams,
    };
    let bar = match std::io::stderr().is_terminal() {
        true => ProgressBar::new(1).with_message("asking"),
        false => ProgressBar::hidden(),
    };
    if let Ok(style) = ProgressStyle::with_template("{bar:24} {msg}") {
        bar.set_style(style);
    }
    let mut asked = Client::ask_at(&args.asked, Request::Migrate { order });
    let report = loop {
        let (mut client, reply) = match asked {
            Ok(asked) => asked,
            Err(e) => {
                bar.finish_and_clear();
                // If the agent itself is gone, nobody knows.
                return Err(if e.is::<Refused>() { e.context(format!("{} stays where it is", args.name)) } else { e });
            }
        };
        match reply {
            Reply::Moving { line } => {
                let (of, left) = (line.progress.of, line.progress.left);
                bar.set_length(of.max(1));
                bar.set_position(of - left.min(of));
                bar.set_message(describe(&line));
            }
            Reply::Moved { report } => break report,
            _ => bail!("the agent answered something else"),
        }
        asked = client.next().map(|reply| (client, reply));
    };
    bar.finish_and_clear();
    match args.output {
        Format::Json => output::print_json(&serde_json::to_value(&report)?)?,
        Format::Text => output::print(&tell(args, &report))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(line: &Line) -> String {
    let p = &line.progress;
    if p.round == 0 {
        return line.phase.clone();
    }
    let mut text = format!(
        "{}, round {}: {} of {} pages, {} sent at {}/s",
        line.phase,
        p.round,
        p.of - p.left.min(p.of),
        p.of,
        output::bytes(p.bytes),
        output::bytes(p.bandwidth as u64),
    );
    if p.dirty_rate > 0.0 {
        text.push_str(&format!(", {:.0} dirty pages/s", p.dirty_rate));
    }
    if is_known(p.predicted) {
        text.push_str(&format!(", downtime about {}", output::duration(Duration::from_nanos(p.predicted))));
    }
    text
}

/// Whether a downtime was predicted: a task that moves while it stands still has sent nothing before.
fn is_known(predicted: u64) -> bool {
    !matches!(predicted, 0 | u64::MAX)
}

fn tell(args: &Migrate, report: &Report) -> String {
    let time = |ns: u64| output::duration(Duration::from_nanos(ns));
    let line = &report.last.progress;
    let spared = match line.spared {
        0 => String::new(),
        n => format!(" ({} known there already)", output::count(n, "page")),
    };
    let predicted = match line.predicted {
        ns if is_known(ns) => format!(" (predicted {})", time(ns)),
        _ => String::new(),
    };
    let mut text = format!(
        "{} runs on {}: it stood still for {}{predicted}; {} in {}, {} sent{}, in {}\n",
        args.name,
        args.to,
        time(report.downtime),
        output::count(line.pages, "page"),
        output::count(u64::from(line.round), "round"),
        output::bytes(line.bytes + report.state_bytes),
        spared,
        time(report.total),
    );
    if line.stalled {
        text.push_str(&format!(
            "It writes to memory as fast as the link carries it: the bound of {} could not be kept. With --mode hybrid what \
             is left comes after it.\n",
            output::duration(args.max_downtime)
        ));
    }
    if line.late > 0 {
        text.push_str(&format!("{} of its memory came after it.\n", output::count(line.late, "page")));
    }
    text
}
