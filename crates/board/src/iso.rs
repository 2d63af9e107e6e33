//! A disc image that boots a kernel on a PC, by BIOS and by UEFI, from an optical drive or a USB stick: GRUB with the kernel
//! as a Multiboot2 one. GRUB's own tools make it, which are looked for when they are needed.

use anyhow::{Context, Result, bail};
use std::path::Path;
use std::prelude::v1::*;
use std::process::{Command, Stdio};

/// The packages that the tools are in.
const PACKAGES: &str = "grub-common grub-pc-bin grub-efi-amd64-bin xorriso mtools";
/// What the tool is called by Debian, and by Fedora.
const NAMES: [&str; 2] = ["grub-mkrescue", "grub2-mkrescue"];
/// Tools that it calls, and does not work without.
const CALLED: [&str; 2] = ["xorriso", "mformat"];
/// Where GRUB's parts for BIOS and for UEFI are.
const PARTS: [&str; 2] = ["/usr/lib/grub/i386-pc", "/usr/lib/grub/x86_64-efi"];
/// What GRUB does: nothing but boot, with its words on the console that the kernel speaks on too.
const CONFIGURATION: &str = "\
serial --unit=0 --speed=115200
terminal_output console serial
set timeout=0
menuentry wayfare {
    multiboot2 /boot/wayfare.elf
}
";

/// The disc image of an ELF image.
///
/// # Errors
/// When GRUB's tools are not installed, or fail.
pub(crate) fn iso(image: &[u8]) -> Result<Vec<u8>> {
    let is_installed = |name: &str| {
        let found = Command::new(name).arg("--version").stdin(Stdio::null()).output();
        found.is_ok_and(|done| done.status.success())
    };
    let mut missing: Vec<&str> = CALLED.into_iter().filter(|name| !is_installed(name)).collect();
    let tool = NAMES.into_iter().find(|name| is_installed(name));
    missing.extend(tool.is_none().then_some(NAMES[0]));
    missing.extend(PARTS.into_iter().filter(|part| !Path::new(part).exists()));
    let Some(tool) = tool.filter(|_| missing.is_empty()) else {
        bail!("an ISO needs {}: install them (Debian: apt-get install {PACKAGES})", missing.join(", "));
    };
    let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
    let (root, disc) = (directory.path().join("disc"), directory.path().join("disc.iso"));
    std::fs::create_dir_all(root.join("boot/grub"))?;
    std::fs::write(root.join("boot/wayfare.elf"), image)?;
    std::fs::write(root.join("boot/grub/grub.cfg"), CONFIGURATION)?;
    let modules = "--install-modules=normal multiboot2 serial iso9660 part_msdos part_gpt fat search";
    let mut command = Command::new(tool);
    // No fonts, translations and themes: nobody looks.
    command.args([modules, "--locales=", "--fonts=", "--themes=", "-o"]).arg(&disc).arg(&root);
    let done = command.stdin(Stdio::null()).output().with_context(|| tool.to_string())?;
    if !done.status.success() {
        bail!("{tool} failed: {}", String::from_utf8_lossy(&done.stderr).trim());
    }
    std::fs::read(&disc).with_context(|| format!("{tool} has made no {}", disc.display()))
}
