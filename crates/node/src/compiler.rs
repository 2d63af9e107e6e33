//! Compiles programs for nodes that have no compiler: boards without an operating system.

use crate::link::Link;
use crate::peers::NodeMessage;
use anyhow::{Context, Result, bail};
use std::sync::{Mutex, PoisonError};
use wayfare_engine::{Form, Key, Options, Target};
use wayfare_snapshot::Digest;
use wayfare_store::program::{self, Wanted};
use wayfare_transfer::Kind;
use wayfare_transfer::destination::Caps;
use wayfare_transfer::message::{Assembly, Long, Part};

/// One at a time: a compiler takes all the processors that there are.
static TURN: Mutex<()> = Mutex::new(());

/// Answers a wish for an image.
///
/// # Errors
/// When the link breaks. A program that cannot be compiled is told to the other side.
pub(crate) async fn serve(mut link: Link, module: Digest, canonical_nan: bool, target: &str, key: Key) -> Result<()> {
    let wanted = match Target::parse(target) {
        Ok(target) => {
            let options = Options { canonical_nan };
            Wanted { target, explicit: true, options, form: Form::Resume, allow_unmovable: false }
        }
        Err(e) => return refuse(link, &e.into()).await,
    };
    let wasm = match program::kept_module(module)? {
        Some(wasm) => wasm,
        None => receive(&mut link, module).await?,
    };
    let compiled = tokio::task::spawn_blocking(move || {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        program::image_for(&wasm, module, &wanted, &key)
    });
    let image = match compiled.await? {
        Ok(image) => image,
        Err(e) => return refuse(link, &e).await,
    };
    link.send(Kind::Node, &NodeMessage::Image.encode()).await?;
    for part in Part::all(Long::Module, &image) {
        link.send(Kind::Part, &part.to_vec()).await?;
    }
    Ok(())
}

async fn refuse(mut link: Link, why: &anyhow::Error) -> Result<()> {
    link.send(Kind::Node, &NodeMessage::Refused(format!("{why:#}")).encode()).await
}

/// Has the module sent.
pub(crate) async fn receive(link: &mut Link, module: Digest) -> Result<Vec<u8>> {
    link.send(Kind::Node, &NodeMessage::Unknown.encode()).await?;
    let mut assembly = Assembly::default();
    loop {
        let part = link.expect(Kind::Part).await.context("a program to compile did not come")?;
        if let Some(wasm) = assembly.take(&Part::decode(&part)?, Caps::default().module)? {
            if Digest::of(&wasm) != module {
                bail!("the program that was sent to be compiled is another one");
            }
            return Ok(wasm);
        }
    }
}
