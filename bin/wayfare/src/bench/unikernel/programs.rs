//! What programs take on a board: against Linux where the processor itself runs the board's code, and with accesses to
//! memory checked by page tables against checked by instructions. What is timed is what the NAS kernels' specification
//! times: their memory has been touched before, and nothing is written.

use super::Setting;
use crate::bench::migrate::{row, spread};
use crate::bench::{Row, guest, median};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Programs, and their classes for processors and for QEMU's translator.
const PROGRAMS: [(&str, &str, &str); 3] = [("npb_ep", "W", "S"), ("npb_is", "A", "W"), ("npb_cg", "A", "S")];
/// The processor that QEMU shows: just what images for x86-64 are compiled for.
const LEVEL_V2: [&str; 3] = ["--", "-cpu", "Nehalem"];
/// Whoever takes longer is not run by a processor.
const PATIENCE: Duration = Duration::from_secs(300);
/// A processor that takes so many times as long is none.
const NATIVE: f64 = 4.0;

/// The rows of one target.
pub fn measure(setting: &Setting<'_>, target: &str) -> Result<Vec<Row>> {
    let is_native = target == std::env::consts::ARCH && target == "x86_64";
    let mut rows = Vec::new();
    for (program, class, translated) in PROGRAMS {
        if is_native {
            match by_processor(setting, target, program, class) {
                Ok(more) => rows.extend(more),
                Err(e) => rows.push(row(format!("{target}: {program}, KVM"), f64::NAN, "", None, format!("{e:#}"))),
            }
        }
        rows.extend(by_translator(setting, target, program, translated)?);
    }
    Ok(rows)
}

/// By KVM, against Linux and against explicit checks.
fn by_processor(setting: &Setting<'_>, target: &str, program: &str, class: &str) -> Result<Vec<Row>> {
    let [guarded, checked] = images(setting, target, program, class)?;
    let on_linux = setting.cluster.a.file(&format!("{program}-linux.img"));
    let wasm = guest(setting.args, program)?;
    let (from, to) = (wasm.to_string_lossy(), on_linux.to_string_lossy());
    setting.cluster.a.cli(&["compile", &from, "--target", "x86_64-v2", "-o", &to])?;
    let (mut boards, mut linuxes, mut ratios, mut guards) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..setting.args.runs {
        let linux = timed(setting.cluster.a.command()?.args(["run", "--env", "NPB_TIMED=1", &to, "--", class]))?;
        let board = boot(setting, &guarded, "kvm")?;
        if board > NATIVE * linux {
            bail!("KVM does not run it natively here: {board:.2} s against {linux:.2} on Linux");
        }
        let explicit = boot(setting, &checked, "kvm")?;
        boards.push(board);
        linuxes.push(linux);
        ratios.push(board / linux);
        guards.push(board / explicit);
    }
    let note =
        format!("{:.3} s against {:.3}, class {class}; {}", median(&mut boards), median(&mut linuxes), spread(&ratios));
    let against = |what: &str| format!("{target}: {program} by KVM, to {what}");
    Ok(vec![
        row(against("Linux"), median(&mut ratios), "ratio", Some(1.05), note),
        row(against("explicit checks"), median(&mut guards), "ratio", Some(1.0), spread(&guards)),
    ])
}

/// By QEMU's translator, guards against explicit checks.
fn by_translator(setting: &Setting<'_>, target: &str, program: &str, class: &str) -> Result<Vec<Row>> {
    let [guarded, checked] = images(setting, target, program, class)?;
    let (mut times, mut guards) = (Vec::new(), Vec::new());
    for _ in 0..setting.args.runs {
        let (with, without) = (boot(setting, &guarded, "tcg")?, boot(setting, &checked, "tcg")?);
        times.push(with);
        guards.push(with / without);
    }
    let note = format!("{:.2} s, class {class}; {}", median(&mut times), spread(&guards));
    let name = format!("{target}: {program} by TCG, to explicit checks");
    Ok(vec![row(name, median(&mut guards), "ratio", Some(1.0), note)])
}

/// Two of a program: one that relies on page tables, and one that does not.
fn images(setting: &Setting<'_>, target: &str, program: &str, class: &str) -> Result<[PathBuf; 2]> {
    let a = &setting.cluster.a;
    let wasm = guest(setting.args, program)?;
    let build = |name: &str, more: &[&str]| -> Result<PathBuf> {
        let path = a.file(&format!("{program}-{target}-{name}.img"));
        let (task, out) = (wasm.to_string_lossy(), path.to_string_lossy());
        let mut all = vec!["unikernel", "build", "--target", target, "--task", &task, "-o", &out];
        all.extend(["--env", "NPB_TIMED=1"]);
        all.extend(more);
        all.extend(["--", class]);
        a.cli(&all)?;
        Ok(path)
    };
    Ok([build("guarded", &[])?, build("checked", &["--explicit-bounds"])?])
}

/// Seconds of the timed part, by the machine's own clock.
fn boot(setting: &Setting<'_>, image: &Path, accel: &str) -> Result<f64> {
    let mut command = setting.cluster.a.command()?;
    command.args(["unikernel", "run", "--accel", accel, "--memory", "256M"]).arg(image);
    if accel == "kvm" {
        command.args(LEVEL_V2);
    }
    timed(&mut command)
}

/// What a program says of itself.
fn timed(command: &mut Command) -> Result<f64> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let began = Instant::now();
    // What it writes is less than a pipe holds.
    while child.try_wait()?.is_none() {
        if began.elapsed() > PATIENCE {
            let id = rustix::process::Pid::from_child(&child);
            // Not killed: it ends QEMU.
            let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
            child.wait()?;
            bail!("not done within {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output()?;
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    if !output.status.success() {
        bail!("{}", said.trim());
    }
    let seconds =
        said.lines().find_map(|line| line.trim().strip_prefix("timed section: ")?.strip_suffix(" s")?.parse().ok());
    seconds.with_context(|| format!("the program has not said what it took: {said}"))
}
