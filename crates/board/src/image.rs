//! Images as files: where the kernels are that come with a program, and what machines' firmware and boot loaders take.

use crate::iso::iso;
use crate::{Payload, Role, attach, flat};
use anyhow::{Context, Result, bail};
use core::fmt;
use std::path::{Path, PathBuf};
use std::prelude::v1::*;
use std::{format, fs};
use wayfare_cluster::identity::Identity;
use wayfare_cluster::peers::Peer;

/// What the machines are that there are kernels for.
pub const TARGETS: [&str; 3] = ["x86_64", "aarch64", "riscv64"];
/// Where a package puts kernels.
const INSTALLED: &str = "/usr/lib/wayfare/unikernel";

/// What kind of file an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// An ELF file: QEMU's `-kernel`, GRUB (x86_64: PVH and Multiboot2), `wayfare unikernel run`.
    Elf,
    /// A disc or USB stick that a PC boots by BIOS or UEFI (x86_64).
    Iso,
    /// A flat file that begins as Linux's do: U-Boot's `booti`, a Raspberry Pi, QEMU's `-kernel` (aarch64, riscv64).
    Raw,
}

impl Format {
    /// All, with their names.
    pub const ALL: [(Format, &'static str); 3] = [(Format::Elf, "elf"), (Format::Iso, "iso"), (Format::Raw, "raw")];

    /// Those that a target's machines boot.
    pub fn of(target: &str) -> impl Iterator<Item = Format> {
        Self::ALL.into_iter().map(|(format, _)| format).filter(move |format| format.check(target).is_ok())
    }

    /// Whether a target's machines boot these.
    ///
    /// # Errors
    /// Which they boot.
    pub fn check(self, target: &str) -> Result<()> {
        match (self, target == "x86_64") {
            (Format::Iso, false) => bail!("PCs alone boot these; for {target}, say raw or elf"),
            (Format::Raw, true) => bail!("nothing boots these on a PC; for {target}, say iso or elf"),
            _ => Ok(()),
        }
    }

    /// An ELF image in this form.
    ///
    /// # Errors
    /// When what makes discs is not installed, or the image is of machines that boot no such file.
    pub fn made_of(self, image: Vec<u8>) -> Result<Vec<u8>> {
        match self {
            Format::Elf => Ok(image),
            Format::Iso => iso(&image),
            Format::Raw => Ok(flat(&image)?),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(Self::ALL.iter().find(|(format, _)| format == self).map_or("", |(_, name)| name))
    }
}

/// Where the kernel for a target is: beside this program, or where a package puts it.
///
/// # Errors
/// Where it was looked for, and what makes one.
pub fn kernel(target: &str) -> Result<PathBuf> {
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let beside = program.parent().unwrap_or(Path::new(".")).join("unikernel");
    find(&[&beside, Path::new(INSTALLED)], target)
}

fn find(places: &[&Path], target: &str) -> Result<PathBuf> {
    let file = format!("{target}.elf");
    let found = places.iter().map(|place| place.join(&file)).find(|path| path.exists());
    found.with_context(|| {
        let all: Vec<String> = places.iter().map(|place| place.join(&file).display().to_string()).collect();
        format!("there is no kernel in {}: `./x unikernel` builds it", all.join(" or "))
    })
}

/// A kernel's bytes, if the file is one without a payload.
///
/// # Errors
/// When it cannot be read, or is something else.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let kernel = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    attach(&kernel, &[]).with_context(|| path.display().to_string())?;
    Ok(kernel)
}

/// The image of a node: whoever boots it is that node.
///
/// # Errors
/// When the kernel is none, or has a payload already.
pub fn of_node(kernel: &[u8], identity: Identity, peers: Vec<Peer>) -> Result<Vec<u8>> {
    let payload = Payload { role: Role::Node { identity, peers }, image: &[], snapshot: &[] }.encode();
    Ok(attach(kernel, &payload)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_target_has_the_forms_that_its_machines_boot() {
        let names = |target| Format::of(target).map(|format| format.to_string()).collect::<Vec<_>>();
        assert_eq!(names("x86_64"), ["elf", "iso"]);
        assert_eq!((names("aarch64"), names("riscv64")), (["elf", "raw"].map(Into::into).into(), names("aarch64")));
        assert!(Format::Iso.check("riscv64").unwrap_err().to_string().contains("for riscv64, say raw or elf"));
    }

    #[test]
    fn a_kernel_that_is_missing_is_named_with_what_makes_it() {
        let dir = tempfile::tempdir().unwrap();
        let (here, there) = (dir.path().join("here"), dir.path().join("there"));
        let error = find(&[&here, &there], "riscv64").unwrap_err().to_string();
        assert!(error.contains("here/riscv64.elf or ") && error.contains("`./x unikernel` builds it"), "{error}");
        fs::create_dir(&there).unwrap();
        fs::write(there.join("riscv64.elf"), b"no kernel").unwrap();
        let path = find(&[&here, &there], "riscv64").unwrap();
        assert!(format!("{:#}", read(&path).unwrap_err()).contains("not a Wayfare kernel"));
    }
}
