//! Programs, compiled for this board by nodes that have a compiler. An image is believed because a member of the cluster
//! sends it, over a channel that it has proved itself on; it is signed with a key that this board has made for the one
//! wish, and checked before anything of it runs.

use super::Agent;
use crate::{entropy, memory};
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use anyhow::{Context, Result, bail};
use core::cell::RefCell;
use wayfare_cluster::peers::NodeMessage;
use wayfare_engine::{Image, Key};
use wayfare_snapshot::Digest;
use wayfare_transfer::Kind;
use wayfare_transfer::destination::Caps;
use wayfare_transfer::message::{Assembly, Long, Part};

/// How long a compiler may take, milliseconds.
const COMPILING: u64 = 600_000;
/// Programs that are kept though no task is there.
const KEPT: usize = 4;

/// A program of a task that is here, or was.
#[derive(Clone)]
pub struct Program {
    /// What it was compiled from: the next node may want it.
    pub module: Rc<Vec<u8>>,
    /// What runs.
    pub image: Image,
    digest: Digest,
    canonical_nan: bool,
}

/// Those that are kept, the last one used at the end.
#[derive(Default)]
pub struct Programs(RefCell<Vec<Program>>);

impl Programs {
    /// One by its digest and option.
    pub fn get(&self, digest: Digest, canonical_nan: bool) -> Option<Program> {
        let mut all = self.0.borrow_mut();
        let at = all.iter().position(|p| p.digest == digest && p.canonical_nan == canonical_nan)?;
        let program = all.remove(at);
        all.push(program.clone());
        Some(program)
    }

    /// A module, whatever it was compiled for.
    pub fn module(&self, digest: Digest) -> Option<Rc<Vec<u8>>> {
        self.0.borrow().iter().find(|p| p.digest == digest).map(|p| p.module.clone())
    }

    /// Forgets those that are too many, but for the programs of tasks that are here.
    fn put(&self, program: Program, is_used: impl Fn(&Digest) -> bool) {
        let mut all = self.0.borrow_mut();
        all.push(program);
        while all.len() > KEPT {
            let Some(at) = all.iter().position(|p| !is_used(&p.digest)) else { return };
            all.remove(at);
        }
    }
}

impl Agent {
    /// A program, compiled by `first`, or whoever else can.
    ///
    /// # Errors
    /// When nobody can, or what came is not right.
    pub(super) async fn program(
        &self,
        digest: Digest,
        canonical_nan: bool,
        module: Option<Vec<u8>>,
        first: &str,
    ) -> Result<Program> {
        if let Some(program) = self.programs.get(digest, canonical_nan) {
            return Ok(program);
        }
        let module = match module {
            Some(module) => Rc::new(module),
            None => self.programs.module(digest).context("the program is not there")?,
        };
        if Digest::of(&module) != digest {
            bail!("the module that was sent is another one");
        }
        let mut compilers: Vec<(bool, String)> = {
            let peers = self.peers.borrow();
            peers.values().filter(|p| !p.is_bare()).map(|p| (p.name != first, p.name.clone())).collect()
        };
        compilers.sort();
        let mut why = format!("no node that has a compiler is known to {}", self.identity.name);
        for (_, node) in compilers {
            match self.compiled(&node, digest, canonical_nan, &module).await {
                Ok(image) => {
                    let program = Program { module, image, digest, canonical_nan };
                    let used = |digest: &Digest| {
                        let name = digest.to_string();
                        let runs = |e: &Rc<super::Entry>| e.spec.module == name && e.live.borrow().is_some();
                        self.tasks.borrow().values().any(runs)
                            || self.standbys.borrow().values().any(|held| held.module == *digest)
                    };
                    self.programs.put(program.clone(), used);
                    return Ok(program);
                }
                Err(e) => why = format!("{node} was to compile the program: {e:#}"),
            }
        }
        bail!("{why}")
    }

    async fn compiled(&self, node: &str, digest: Digest, canonical_nan: bool, module: &[u8]) -> Result<Image> {
        let mut key = [0; 32];
        if !entropy::fill(&mut key) {
            bail!("this board has no source of randomness");
        }
        let mut link = self.dial(node).await?;
        let wish = NodeMessage::Compile { module: digest.0, canonical_nan, target: super::target(), key };
        link.send(Kind::Node, &wish.encode()).await?;
        loop {
            let message = link.receive(COMPILING).await?;
            anyhow::ensure!(message.kind == Kind::Node, "it answered something else");
            match NodeMessage::decode(&message.payload)? {
                NodeMessage::Unknown => {
                    for part in Part::all(Long::Module, module) {
                        link.send(Kind::Part, &part.to_vec()).await?;
                    }
                }
                NodeMessage::Image => break,
                NodeMessage::Refused(why) => bail!("{why}"),
                _ => bail!("it answered something else"),
            }
        }
        let mut assembly = Assembly::default();
        let image = loop {
            let part = link.expect(Kind::Part).await?;
            if let Some(image) = assembly.take(&Part::decode(&part)?, Caps::default().module)? {
                break image;
            }
        };
        let image = Image::load_on(&image, &Key(key), memory::tell)?;
        if image.digest() != digest || image.options().canonical_nan != canonical_nan {
            bail!("it compiled something else");
        }
        Ok(image)
    }
}
