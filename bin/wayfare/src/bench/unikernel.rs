//! What machines without an operating system need, and what moves to, between and from them cost. All of it in QEMU, by its
//! own translator, which runs code many times slower than a processor does: times of the guest's own clock are told apart.

mod programs;

use super::cluster::{Cluster, Node, free_port, migrate, order, order_to, until};
use super::migrate::{ms, row, spread};
use super::{Bench, Row, check_parts, guest, median};
use crate::unikernel::TARGETS;
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use wayfare_node::control::Order;
use wayfare_sim::proxy::Shape;
use wayfare_transfer::message::Mode;

/// What `--only` may name.
const PARTS: [&str; 6] = ["size", "memory", "boot", "programs", "transfer", "downtime"];
/// Memory of machines that are not to be small.
const MEMORY: u64 = 256;
/// The port of the machine that sends everything back.
const ECHO: u16 = 7;
/// Bytes of an echo.
const BYTES: usize = 48 << 20;
/// More than the links between agents on this machine carry.
const FAST: u64 = 4 << 30;

/// The rows of the table.
///
/// # Errors
/// When a part does not exist, or there is no QEMU or no kernel.
pub fn measure(args: &Bench) -> Result<Vec<Row>> {
    check_parts(args, &PARTS)?;
    let cluster = Cluster::start(&Shape::new(FAST, Duration::ZERO), &[])?;
    let setting = Setting { args, cluster };
    let mut rows = Vec::new();
    for (part, measure) in [
        ("size", size as fn(&Setting<'_>, &str) -> Result<Vec<Row>>),
        ("memory", memory),
        ("boot", boot),
        ("programs", programs::measure),
        ("transfer", transfer),
        ("downtime", downtime),
    ] {
        if args.only.is_empty() || args.only.iter().any(|only| only == part) {
            for target in TARGETS {
                rows.extend(measure(&setting, target).with_context(|| format!("{part}, {target}"))?);
            }
        }
    }
    Ok(rows)
}

struct Setting<'b> {
    args: &'b Bench,
    cluster: Cluster,
}

impl Setting<'_> {
    /// The image of a new board, by that name.
    fn image(&self, target: &str, name: &str) -> Result<PathBuf> {
        let (a, path) = (&self.cluster.a, self.cluster.a.file(&format!("{name}.img")));
        let join = a.invitation()?;
        a.cli(&[
            "unikernel",
            "build",
            "--target",
            target,
            "--join",
            &join,
            "--name",
            name,
            "-o",
            &path.to_string_lossy(),
        ])?;
        Ok(path)
    }
}

/// A machine that is switched on.
struct Board {
    machine: Child,
    log: PathBuf,
    monitor: PathBuf,
}

impl Board {
    /// Boots an image, with so many MiB; it has joined when this returns.
    fn boot(a: &Node, image: &std::path::Path, mib: u64) -> Result<Board> {
        let (log, monitor) = (image.with_extension("log"), image.with_extension("mon"));
        let address = format!("127.0.0.1:{}", free_port()?);
        let output = File::create(&log)?;
        let errors = output.try_clone()?;
        let mut command = a.command()?;
        command.args(["unikernel", "run"]).arg(image).args(["--memory", &format!("{mib}M"), "--listen", &address]);
        let append = format!("wayfare.address={address} wayfare.loopback=10.0.2.2 wayfare.echo={ECHO}");
        command.args(["--", "-monitor", &format!("unix:{},server,nowait", monitor.display()), "-append", &append]);
        let machine = command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn()?;
        let mut board = Board { machine, log, monitor };
        until("the board joins", || {
            if board.machine.try_wait()?.is_some() {
                bail!("the machine has ended");
            }
            Ok(board.text().contains("joined after"))
        })?;
        Ok(board)
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Milliseconds of the machine's own clock until it said something.
    fn after(&self, what: &str) -> Result<f64> {
        let text = self.text();
        let line = text.lines().find(|line| line.contains(what)).context("the board has not said when")?;
        let millis = line.rsplit("after ").next().and_then(|rest| rest.split(' ').next()?.parse().ok());
        millis.context("the board has not said when")
    }

    /// A port of this machine that leads to one of the board's.
    fn forward(&self, port: u16) -> Result<u16> {
        let here = free_port()?;
        let mut monitor = UnixStream::connect(&self.monitor)?;
        writeln!(monitor, "hostfwd_add net tcp:127.0.0.1:{here}-:{port}")?;
        monitor.shutdown(std::net::Shutdown::Write)?;
        std::io::copy(&mut monitor, &mut std::io::sink())?;
        Ok(here)
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        // Not killed: it ends QEMU.
        let _ = kill_process(Pid::from_child(&self.machine), Signal::TERM);
        let _ = self.machine.wait();
    }
}

/// The image of a generic node.
fn size(setting: &Setting<'_>, target: &str) -> Result<Vec<Row>> {
    let path = setting.cluster.a.file("generic.img");
    setting.cluster.a.cli(&["unikernel", "build", "--target", target, "-o", &path.to_string_lossy()])?;
    let bytes = std::fs::metadata(&path)?.len();
    Ok(vec![row(format!("{target}: image of a node"), bytes as f64 / 1e6, "MB", Some(1.5), String::new())])
}

/// The least memory with which a board joins and a small task goes on there.
fn memory(setting: &Setting<'_>, target: &str) -> Result<Vec<Row>> {
    let a = &setting.cluster.a;
    let name = format!("small-{}", target.replace('_', "-"));
    let image = setting.image(target, &name)?;
    let mut least = None;
    for mib in [16, 14, 12, 11, 10, 9, 8, 7, 6, 5, 4] {
        let tried = || -> Result<()> {
            let _board = Board::boot(a, &image, mib)?;
            a.run("small", &guest(setting.args, "sha256")?, None, &["100000"])?;
            migrate(a, order_to("small", &name))?;
            a.cli(&["stop", "small"]).map(|_| ())
        };
        let went = tried();
        let _ = a.forget("small");
        match went {
            Ok(()) => least = Some(mib),
            Err(_) => break,
        }
    }
    let least = least.context("it does not work in 16 MiB")?;
    let note = "boots, joins, takes sha256 in while it runs".to_string();
    Ok(vec![row(format!("{target}: memory, at least"), least as f64, "MiB", Some(16.0), note)])
}

/// From the kernel's first instruction to an address on the network, and to the first answer of the cluster.
fn boot(setting: &Setting<'_>, target: &str) -> Result<Vec<Row>> {
    let image = setting.image(target, &format!("boot-{}", target.replace('_', "-")))?;
    let (mut up, mut joined) = (Vec::new(), Vec::new());
    for _ in 0..setting.args.runs {
        let board = Board::boot(&setting.cluster.a, &image, 64)?;
        up.push(board.after(" is at ")?);
        joined.push(board.after("joined after")?);
    }
    let (ups, joins) = (spread(&up), spread(&joined));
    Ok(vec![
        row(format!("{target}: network up"), median(&mut up), "ms", Some(20.0), format!("{ups}; guest's clock, TCG")),
        row(format!("{target}: joined"), median(&mut joined), "ms", None, joins),
    ])
}

/// What a task's noise goes at from the board to here, against an echo of as many bytes.
fn transfer(setting: &Setting<'_>, target: &str) -> Result<Vec<Row>> {
    let a = &setting.cluster.a;
    let name = format!("transfer-{}", target.replace('_', "-"));
    let board = Board::boot(a, &setting.image(target, &name)?, MEMORY)?;
    let port = board.forward(ECHO)?;
    let mib = (BYTES >> 20).to_string();
    let (mut moves, mut echoes, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..setting.args.runs {
        a.run("noise", &guest(setting.args, "steady")?, None, &[&mib, "100000", "50"])?;
        a.ran("noise", Duration::from_millis(500))?;
        migrate(a, order_to("noise", &name))?;
        let back = migrate(a, Order { mode: Mode::Stop, ..order("noise", a) })?;
        let moved = back.last.progress.bytes as f64 / (back.total as f64 / 1e9) / 1e6;
        a.forget("noise")?;
        let echoed = echo(port)?;
        moves.push(moved);
        echoes.push(echoed);
        ratios.push(moved / echoed);
    }
    let (moved, echoed) = (spread(&moves), spread(&echoes));
    let mut rows = vec![
        row(format!("{target}: a task's way from the board"), median(&mut moves), "MB/s", None, moved),
        row(format!("{target}: an echo of as many bytes"), median(&mut echoes), "MB/s", None, echoed),
    ];
    let note = "encrypted and checked, against bare bytes".to_string();
    let ratio = row(format!("{target}: the first to the second"), median(&mut ratios), "", Some(0.9), note);
    rows.push(Row { at_least: true, ..ratio });
    Ok(rows)
}

/// Megabytes per second of an echo.
fn echo(port: u16) -> Result<f64> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    let mut writer = stream.try_clone()?;
    let began = Instant::now();
    let sending = std::thread::spawn(move || -> std::io::Result<()> {
        let chunk = vec![0x5a; 64 << 10];
        (0..BYTES / chunk.len()).try_for_each(|_| writer.write_all(&chunk))
    });
    let (mut come, mut buffer) = (0, vec![0; 64 << 10]);
    while come < BYTES {
        match stream.read(&mut buffer)? {
            0 => bail!("the echo has ended early"),
            len => come += len,
        }
    }
    let taken = began.elapsed().as_secs_f64();
    match sending.join() {
        Ok(sent) => sent?,
        Err(_) => bail!("the measurement panicked"),
    }
    Ok(BYTES as f64 / taken / 1e6)
}

/// How long a task stands still that moves between two boards, and between two agents on Linux; where there are such, also
/// between agents that the same translator runs. For those there are no pages that can be watched: all move at once.
fn downtime(setting: &Setting<'_>, target: &str) -> Result<Vec<Row>> {
    let a = &setting.cluster.a;
    let names = ["one", "two"].map(|which| format!("{which}-{}", target.replace('_', "-")));
    let images = [setting.image(target, &names[0])?, setting.image(target, &names[1])?];
    let boards = [Board::boot(a, &images[0], MEMORY)?, Board::boot(a, &images[1], MEMORY)?];
    start(setting, a, "there")?;
    migrate(a, order_to("there", &names[0]))?;
    let (mut there, mut at_once) = (Vec::new(), Vec::new());
    for (mode, all) in [(Mode::PreCopy, &mut there), (Mode::Stop, &mut at_once)] {
        for turn in 0..2 * setting.args.runs as usize {
            let order = Order { mode, ..order_to("there", &names[(turn + 1) % 2]) };
            all.push(ms(migrate(a, order)?.downtime));
        }
    }
    a.cli(&["stop", "there"])?;
    a.forget("there")?;
    drop(boards);
    let mut here = between(setting, &setting.cluster, Mode::PreCopy)?;
    let (theres, heres) = (spread(&there), spread(&here));
    let mut rows = vec![
        row(format!("{target}: a task stands still, board to board"), median(&mut there), "ms", None, theres),
        row("the same between agents on Linux, not emulated", median(&mut here), "ms", None, heres),
    ];
    let Some(emulated) = emulated(target)? else { return Ok(rows) };
    let cluster = Cluster::start_by(&emulated, &Shape::new(FAST, Duration::ZERO), &[])?;
    let mut linux = between(setting, &cluster, Mode::Stop)?;
    let (boards, linuxes) = (spread(&at_once), spread(&linux));
    let (board, linux) = (median(&mut at_once), median(&mut linux));
    let note = "of Linux, QEMU translates the agents alone, and not the kernel".to_string();
    rows.extend([
        row(format!("{target}: --mode stop, board to board"), board, "ms", None, boards),
        row(format!("{target}: --mode stop, agents that QEMU translates"), linux, "ms", None, linuxes),
        row(format!("{target}: the former to the latter"), board / linux, "", Some(1.2), note),
    ]);
    Ok(rows)
}

fn start(setting: &Setting<'_>, on: &Node, name: &str) -> Result<()> {
    on.run(name, &guest(setting.args, "steady")?, None, &["8", "100000", "20"])
}

/// How long a task stands still each time that it moves between two agents on Linux, milliseconds.
fn between(setting: &Setting<'_>, cluster: &Cluster, mode: Mode) -> Result<Vec<f64>> {
    let (a, b) = (&cluster.a, &cluster.b);
    start(setting, a, "here")?;
    let mut all = Vec::new();
    for turn in 0..2 * setting.args.runs {
        let (from, to) = if turn % 2 == 0 { (a, b) } else { (b, a) };
        all.push(ms(migrate(from, Order { mode, ..order("here", to) })?.downtime));
        from.left("here")?;
    }
    a.forget("here")?;
    Ok(all)
}

/// This program for a target, by QEMU's translator; none where there is none built.
fn emulated(target: &str) -> Result<Option<Vec<String>>> {
    let command = match target {
        "x86_64" => format!("qemu-x86_64 {}", std::env::current_exe()?.display()),
        "aarch64" => std::env::var("WAYFARE_AARCH64").unwrap_or_default(),
        _ => String::new(),
    };
    let words: Vec<String> = command.split_whitespace().map(String::from).collect();
    let Some(program) = words.first() else { return Ok(None) };
    let found =
        std::process::Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    Ok(found.is_ok().then_some(words))
}
