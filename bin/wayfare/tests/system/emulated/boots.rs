//! Machines boot images as real ones do: PCs from a disc or a stick, by BIOS and by UEFI; others from flat files, wherever
//! these are put; and all of them find what is on PCI.
//!
//! `./x test` installs what this needs: GRUB's tools, and UEFI and U-Boot for QEMU's machines.

use crate::support::board::{Board, TARGETS, alone, send};
use crate::support::cluster::{Node, PATIENCE, found, free_port, until};
use crate::support::steady::{is_unbroken, start};
use crate::support::{Done, Home, guest};
use std::process::{Child, Command, Stdio};

/// QEMU, without all that it brings along, and for so long at most.
fn qemu(home: &Home, arch: &str, args: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command.args(["180", &format!("qemu-system-{arch}"), "-nodefaults", "-display", "none", "-no-reboot"]);
    command.args(["-serial", "stdio", "-m", "256M"]);
    home.here(command, args)
}

/// A PC, whose exit status is what a program ends with, and a half.
const PC: [&str; 6] = ["-M", "q35", "-cpu", "max", "-device", "isa-debug-exit,iobase=0xf4,iosize=0x4"];
const U_BOOT: &str = "/usr/lib/u-boot/qemu_arm64/u-boot.bin";
const UEFI: [&str; 2] = ["-bios", "/usr/share/ovmf/OVMF.fd"];

/// An image of a program, in this format.
fn build(home: &Home, target: &str, format: &str) {
    let task = guest("hello");
    let args = ["unikernel", "build", "--target", target, "--format", format, "-o", "it.img", "--task"];
    home.output(args.iter().map(std::ffi::OsStr::new).chain([task.as_os_str()])).ok();
}

/// It has said what the program says, and ended as it did.
#[track_caller]
fn said_hello(home: &Home, done: &Done) {
    let hello = home.plain("hello", &[]);
    // Whoever had the console before may end lines otherwise.
    assert!(done.stdout.replace('\r', "").ends_with(&hello), "{done:?}");
    // A status of 0, and one; QEMU makes of it twice that, and one.
    assert_eq!(done.status, Some(3), "{done:?}");
}

#[test]
fn a_stick_boots_a_pc_with_a_bios_and_a_disc_one_with_uefi() {
    let home = Home::new();
    build(&home, "x86_64", "iso");
    let stick = ["-drive", "if=none,id=stick,format=raw,readonly=on,file=it.img"];
    let usb = ["-device", "qemu-xhci", "-device", "usb-storage,drive=stick"];
    for how in [&[&stick[..], &usb].concat()[..], &[&["-cdrom", "it.img"][..], &UEFI].concat()] {
        said_hello(&home, &home.ended(&mut qemu(&home, "x86_64", &[&PC[..], how].concat())));
    }
}

#[test]
fn flat_files_boot_wherever_they_are_put() {
    let home = Home::new();
    // Each with code that goes elsewhere, with what the loader has left in other registers.
    let machines: [(&str, &[&str], &str, &[u32]); 2] = [
        // movz x4, #0x4880, lsl #16; br x4
        ("aarch64", &["-M", "virt", "-cpu", "max", "-semihosting"], "0x48800000", &[0xd2a9_1004, 0xd61f_0080]),
        // addi t0, zero, 0x111; slli t0, t0, 23; jr t0
        ("riscv64", &["-M", "virt"], "0x88800000", &[0x1110_0293, 0x0172_9293, 0x0002_8067]),
    ];
    for (target, machine, elsewhere, jump) in machines {
        build(&home, target, "raw");
        let jump: Vec<u8> = jump.iter().flat_map(|word| word.to_le_bytes()).collect();
        std::fs::write(home.path("jump"), jump).unwrap();
        let loaded = format!("loader,file=it.img,addr={elsewhere},force-raw=on");
        for how in [&["-kernel", "it.img"][..], &["-kernel", "jump", "-device", &loaded]] {
            said_hello(&home, &home.ended(&mut qemu(&home, target, &[machine, how].concat())));
        }
    }
}

#[test]
fn u_boot_boots_a_flat_file() {
    let home = Home::new();
    build(&home, "aarch64", "raw");
    // Any key, and what is typed then.
    std::fs::write(home.path("typed"), "\nbooti 0x48000000 - ${fdtcontroladdr}\n").unwrap();
    let machine = ["-M", "virt", "-cpu", "cortex-a72", "-semihosting", "-bios", U_BOOT];
    let loaded = ["-device", "loader,file=it.img,addr=0x48000000,force-raw=on"];
    let mut command = qemu(&home, "aarch64", &[&machine[..], &loaded].concat());
    said_hello(&home, &home.ended(command.stdin(std::fs::File::open(home.path("typed")).unwrap())));
}

#[test]
fn formats_are_for_the_machines_that_boot_them() {
    let home = Home::new();
    let built = |target: &str, more: &[&str]| {
        let args = ["unikernel", "build", "--target", target, "-o", "node.img"];
        home.output(args.iter().chain(more))
    };
    let refused = |done: Done, words: &str| {
        let failed = done.fails(words);
        assert!(!home.path("node.img").exists(), "{failed:?}");
    };
    refused(built("aarch64", &["--format", "iso"]), "say raw or elf");
    refused(built("x86_64", &["--format", "raw"]), "say iso or elf");
    refused(built("x86_64", &["--append", &"x".repeat(1000)]), "a command line of 1000 bytes");
    // Where GRUB is not, it is said what to install.
    let mut command = home.wayfare(["unikernel", "build", "--target", "x86_64", "--format", "iso", "-o", "node.img"]);
    refused(home.ended(command.env("PATH", "/nowhere")), "grub-pc-bin");
}

/// A machine that is switched on, until it goes out of sight.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

fn founder() -> Node {
    let mut a = Node::new("a");
    found(&mut a);
    a
}

/// A task goes there and comes back.
fn visits(a: &Node, board: &str) {
    start(a, "t", "100000");
    send(a, "t", board, &[]);
    send(a, "t", "a", &[]);
    is_unbroken(&a.output("t"));
    a.run(&["stop", "t"]).ok();
    a.run(&["rm", "t"]).ok();
}

#[test]
fn a_pc_with_uefi_is_a_node() {
    let _alone = alone();
    let a = founder();
    let (token, address) = (a.run(&["node", "invite"]).ok().stdout, format!("127.0.0.1:{}", free_port()));
    let join = format!("{}@{}", token.trim(), a.address);
    // What the machine's loader does not say, the image says.
    let line = format!("wayfare.address={address} wayfare.loopback=10.0.2.2");
    let build = ["unikernel", "build", "--target", "x86_64", "--format", "iso", "-o", "pc.iso", "--name", "pc"];
    a.run(&[&build[..], &["--join", &join, "--append", &line]].concat()).ok();
    let net = format!("user,id=net,hostfwd=tcp:{address}-:7600");
    let devices = ["-netdev", &net, "-device", "virtio-net-pci,netdev=net", "-device", "virtio-rng-pci"];
    let args = [&PC[..], &UEFI, &["-cdrom", "pc.iso"], &devices].concat();
    let log = a.home.path("pc.log");
    let console = std::fs::File::create(&log).unwrap();
    let mut command = qemu(&a.home, "x86_64", &args);
    let _machine = Machine(command.stdout(console).stderr(Stdio::inherit()).spawn().unwrap());
    let said = || String::from_utf8_lossy(&std::fs::read(&log).unwrap_or_default()).into_owned();
    until("it joins", PATIENCE, || said().contains("joined after"));
    visits(&a, "pc");
}

#[test]
fn boards_with_pci_are_nodes() {
    let _alone = alone();
    let a = founder();
    for target in TARGETS {
        let mut board = Board::made(&a, target, &target.replace('_', "-"), "128M");
        board.put_on_pci();
        board.switch_on();
        visits(&a, &board.name);
    }
}
