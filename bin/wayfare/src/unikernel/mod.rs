//! `wayfare unikernel`: images that machines without an operating system boot, and QEMU to try them in.

mod build;
mod run;

use crate::node::{invitation, runtime};
use anyhow::{Context, Result};
pub use build::build;
pub use run::run;
use std::path::Path;
pub use wayfare_board::image::TARGETS;
use wayfare_board::{attach, image};
use wayfare_node::membership;

/// Makes a machine a member of the cluster: enters it under that name, and gives the kernel with what it needs to be that
/// node. `by` is TOKEN@ADDRESS.
fn enroll(kernel: &[u8], from: &Path, by: &str, name: &str) -> Result<Vec<u8>> {
    // Before the invitation is used up.
    attach(kernel, &[]).with_context(|| from.display().to_string())?;
    let (token, address) = invitation(by)?;
    let (identity, peers) = runtime()?.block_on(membership::enter(&token, address, name))?;
    image::of_node(kernel, identity, peers).with_context(|| from.display().to_string())
}

/// A file's name without what follows its last dot: what its node is called unless something else is said.
fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
