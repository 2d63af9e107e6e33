//! A captured task: its header, call stack, memory, globals, descriptors and volumes.

use super::frames::{self, float, integer};
use super::module::instrument;
use super::names::Names;
use anyhow::{Result, bail};
use serde_json::{Value, json};
use std::path::Path;
use wayfare_engine::ImageInfo;
use wayfare_instrument::meta::Metadata;
use wayfare_snapshot::{Digest, GlobalValue, Header, Kind, MemoryState, PAGE_SIZE, Pages};
use wayfare_store::program::{self, FileKind};
use wayfare_wasi::{Ctx, DescriptorInfo, DescriptorKind};

/// A snapshot.
///
/// # Errors
/// When it is damaged, or does not fit the program that is given.
pub fn snapshot(bytes: &[u8], given: Option<&Path>) -> Result<Value> {
    let snapshot = crate::snapshots::decode(bytes)?;
    let header = Header::parse(bytes)?;
    let (meta, names) = match program(header.module, given)? {
        Some((meta, names)) => (Some(meta), names),
        None => (None, Names::default()),
    };
    let frames = meta.as_ref().map(|meta| frames::frames(&snapshot, meta, &names)).transpose()?;
    let ctx = Ctx::decode(&snapshot.wasi).map_err(|e| wayfare_engine::Error::Misfit(e.to_string()))?;
    let volumes = ctx.volumes().map(|(guest, volume)| json!({ "guest": guest, "bytes": volume.stored_bytes() }));
    let tables = snapshot.tables.iter().map(|table| {
        let set: usize = table.entries.iter().map(|(_, functions)| functions.len()).sum();
        json!({ "index": table.index, "slots": table.len, "filled": set })
    });
    Ok(json!({
        "kind": "snapshot",
        "header": {
            "format": header.format,
            "kind": match header.kind { Kind::Full => "full", Kind::Delta => "delta" },
            "module": header.module.to_string(),
            "base": header.base.map(|b| b.to_string()),
            "id": header.id().to_string(),
            "sequence": header.sequence,
            "epoch": header.epoch,
            "work": header.progress,
            "bytes": header.total_len,
            "checksum": header.checksum.to_string(),
        },
        "ran_ns": snapshot.options.ran,
        "name": snapshot.options.name,
        "entry": snapshot.options.entry,
        "canonical_nan": snapshot.options.canonical_nan,
        "notes": snapshot.options.extra,
        "frames_bytes": snapshot.frames.len(),
        "frames": frames,
        "memories": snapshot.memories.iter().map(memory).collect::<Vec<_>>(),
        "globals": snapshot.globals.iter().map(|(i, v)| global(*i, *v, &names)).collect::<Vec<_>>(),
        "tables": tables.collect::<Vec<_>>(),
        "dropped_data": snapshot.dropped_data,
        "dropped_elements": snapshot.dropped_elem,
        "descriptors": ctx.describe().iter().map(descriptor).collect::<Vec<_>>(),
        "volumes": volumes.collect::<Vec<_>>(),
    }))
}

/// The program's migration points and names: of the one given, or of the one kept here.
fn program(module: Digest, given: Option<&Path>) -> Result<Option<(Metadata, Names)>> {
    let mut wasm = program::kept_module(module)?;
    if let Some(path) = given {
        let (bytes, kind) = program::read(path)?;
        let digest = match kind {
            FileKind::Module => Digest::of(&bytes),
            FileKind::Image => ImageInfo::parse(&bytes)?.module,
            FileKind::Snapshot => bail!("--program {}: this is a snapshot", path.display()),
        };
        if digest != module {
            let (snapshot, module) = (module.to_string(), digest.to_string());
            return Err(wayfare_engine::Error::OtherModule { snapshot, module }.into());
        }
        if kind == FileKind::Image {
            let names = wasm.as_deref().map(Names::of).unwrap_or_default();
            return Ok(Some((ImageInfo::parse(&bytes)?.metadata, names)));
        }
        wasm = Some(bytes);
    }
    let Some(wasm) = wasm else { return Ok(None) };
    Ok(Some((instrument(&wasm)?.metadata, Names::of(&wasm))))
}

fn memory(memory: &MemoryState<'_>) -> Value {
    // What lies side by side and is of one kind is one range, however it was cut.
    let mut ranges: Vec<(u64, u64, bool)> = Vec::new();
    for run in &memory.runs {
        let zero = matches!(run.pages, Pages::Zero(_));
        match ranges.last_mut() {
            Some((first, count, z)) if *z == zero && *first + *count == run.first_page => *count += run.page_count(),
            _ => ranges.push((run.first_page, run.page_count(), zero)),
        }
    }
    let data: u64 = ranges.iter().filter(|r| !r.2).map(|r| r.1).sum();
    let ranges = ranges.iter().map(|(first, count, zero)| {
        json!({
            "first_page": first, "pages": count, "address": first * PAGE_SIZE as u64,
            "content": if *zero { "zero" } else { "data" },
        })
    });
    json!({ "index": memory.index, "bytes": memory.size, "data_pages": data, "ranges": ranges.collect::<Vec<_>>() })
}

fn global(index: u32, value: GlobalValue, names: &Names) -> Value {
    let (ty, value, shown) = match value {
        GlobalValue::I32(v) => ("i32", json!(v as i32), integer((v as i32).into(), v.into())),
        GlobalValue::I64(v) => ("i64", json!(v as i64), integer(v as i64, v.into())),
        GlobalValue::F32(v) => float("f32", f32::from_bits(v).into(), v.into()),
        GlobalValue::F64(v) => float("f64", f64::from_bits(v), v.into()),
        GlobalValue::V128(v) => ("v128", json!(format!("{v:#034x}")), format!("{v:#034x}")),
        GlobalValue::Func(f) => ("funcref", json!(f), f.map_or("null".into(), |f| names.function(f))),
        GlobalValue::NullRef => ("ref", Value::Null, "null".into()),
    };
    let name = names.global(index).map_or_else(|| format!("global {index}"), Into::into);
    json!({ "index": index, "name": name, "type": ty, "value": value, "shown": shown })
}

fn descriptor(info: &DescriptorInfo) -> Value {
    let kind = match info.kind {
        DescriptorKind::Stream(stream) => format!("{stream:?}").to_lowercase(),
        DescriptorKind::HostFile => "file".into(),
        DescriptorKind::HostDirectory => "directory".into(),
        DescriptorKind::VolumeFile => "volume file".into(),
        DescriptorKind::VolumeDirectory => "volume".into(),
        DescriptorKind::Listener => "listener".into(),
        DescriptorKind::Connection => "connection".into(),
        _ => "other".into(),
    };
    json!({ "fd": info.fd, "kind": kind, "path": info.path, "offset": info.offset, "rights": info.rights })
}
