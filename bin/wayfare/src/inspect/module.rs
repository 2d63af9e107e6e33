//! What of a module can be captured, and where; and what an image was made from.

use super::names::Names;
use anyhow::Result;
use serde_json::{Value, json};
use wayfare_engine::ImageInfo;
use wayfare_instrument::meta::{Metadata, PointKind};
use wayfare_instrument::{Instrumented, Options};
use wayfare_snapshot::Digest;

/// Instruments a module as the engine does, but whatever it holds.
///
/// # Errors
/// When it is not valid.
pub fn instrument(wasm: &[u8]) -> Result<Instrumented> {
    let blocking = wayfare_wasi::Function::ALL.iter().filter(|f| f.may_block());
    let options = Options {
        blocking_imports: blocking.map(|f| (wayfare_wasi::MODULE.into(), f.name().into())).collect(),
        allow_unmovable: true,
        ..Options::default()
    };
    Ok(wayfare_instrument::instrument(wasm, &options)?)
}

/// A module.
///
/// # Errors
/// When it is not valid.
pub fn module(wasm: &[u8]) -> Result<Value> {
    let out = instrument(wasm)?;
    let names = Names::of(wasm);
    let imports: Vec<Value> = names
        .imports
        .iter()
        .map(|(module, name, is_function)| {
            let known = module == wayfare_wasi::MODULE && wayfare_wasi::Function::from_name(name).is_some();
            json!({ "module": module, "name": name, "provided": *is_function && known })
        })
        .collect();
    let mut view = json!({
        "kind": "module",
        "digest": Digest::of(wasm).to_string(),
        "bytes": wasm.len(),
        "instrumented_bytes": out.wasm.len(),
        "imports": imports,
    });
    merge(&mut view, summary(&out.metadata));
    Ok(view)
}

/// An image. Nothing of it is run, so its signature does not matter here.
///
/// # Errors
/// When it is damaged.
pub fn image(bytes: &[u8]) -> Result<Value> {
    let info = ImageInfo::parse(bytes)?;
    let trusted = wayfare_store::locations::key().is_ok_and(|key| match wayfare_engine::Image::load(bytes, &key) {
        Ok(_) => true,
        // The signature is looked at before anything else.
        Err(e) => !matches!(e, wayfare_engine::Error::Untrusted | wayfare_engine::Error::NotAnImage(_)),
    });
    let mut view = json!({
        "kind": "image",
        "module": info.module.to_string(),
        "target": info.target,
        "version": info.version,
        "canonical_nan": info.options.canonical_nan,
        "bytes": bytes.len(),
        "code_bytes": info.code_len,
        "signed_by_this_user": trusted,
    });
    merge(&mut view, summary(&info.metadata));
    Ok(view)
}

fn summary(meta: &Metadata) -> Value {
    let points = || meta.functions.iter().flat_map(|f| &f.points);
    let count = |kind: fn(PointKind) -> bool| points().filter(|p| kind(p.kind)).count();
    json!({
        "movable": meta.unmovable.is_empty(),
        "unmovable": meta.unmovable,
        "functions": {
            "total": meta.total_functions, "imported": meta.imported_functions, "may_capture": meta.functions.len(),
        },
        "points": {
            "total": points().count(),
            "loop": count(|k| k == PointKind::Loop),
            "entry": count(|k| k == PointKind::Entry),
            "call": count(|k| matches!(k, PointKind::Call(_))),
            "call_indirect": count(|k| k == PointKind::CallIndirect),
            "return": count(|k| k == PointKind::Return),
            "host_call": count(|k| matches!(k, PointKind::HostCall(_))),
        },
        "memories": meta.memories,
    })
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}
