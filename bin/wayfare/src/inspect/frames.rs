//! A captured call stack as functions and values.

use super::names::Names;
use anyhow::Result;
use serde_json::{Value, json};
use wayfare_instrument::meta::{Frame, Metadata, PointKind, Reference, SlotType};
use wayfare_snapshot::Snapshot;

/// The frames, outermost first.
///
/// # Errors
/// When they cannot be a stack of this module.
pub fn frames(snapshot: &Snapshot<'_>, meta: &Metadata, names: &Names) -> Result<Vec<Value>> {
    let frames = meta.frames(&snapshot.frames)?;
    Ok(frames.iter().map(|frame| view(frame, snapshot, meta, names)).collect())
}

fn view(frame: &Frame<'_>, snapshot: &Snapshot<'_>, meta: &Metadata, names: &Names) -> Value {
    let function = frame.function;
    let point = &function.points[frame.point];
    let (kind, callee) = match point.kind {
        PointKind::Loop => ("loop", None),
        PointKind::Entry => ("entry", None),
        PointKind::Call(callee) => ("call", Some(callee)),
        PointKind::CallIndirect => ("call_indirect", None),
        PointKind::Return => ("return", None),
        PointKind::HostCall(callee) => ("host_call", Some(callee)),
    };
    let values: Vec<Value> = point
        .live
        .iter()
        .map(|slot| {
            let slot = function.slots[*slot as usize];
            let name = match names.local(function.index, slot.local) {
                Some(name) => name.to_string(),
                None if slot.local < function.locals => format!("local {}", slot.local),
                // An operand that had to be put aside for the capture.
                None => format!("operand {}", slot.local - function.locals),
            };
            let at = slot.offset as usize;
            let bytes = frame.bytes.get(at..at + slot.ty.size() as usize).unwrap_or_default();
            let (ty, value, shown) = read(slot.ty, bytes, meta, snapshot);
            json!({ "name": name, "local": slot.local, "type": ty, "value": value, "shown": shown })
        })
        .collect();
    json!({
        "function": function.index,
        "name": names.function(function.index),
        "point": kind,
        "callee": callee.map(|f| names.function(f)),
        "offset": point.offset,
        "values": values,
    })
}

/// Type, value, and the value as people read it.
fn read(ty: SlotType, bytes: &[u8], meta: &Metadata, snapshot: &Snapshot<'_>) -> (&'static str, Value, String) {
    let mut wide = [0; 16];
    let len = bytes.len().min(wide.len());
    wide[..len].copy_from_slice(&bytes[..len]);
    let bits = u128::from_le_bytes(wide);
    match ty {
        SlotType::I32 => ("i32", json!(bits as u32 as i32), integer((bits as u32 as i32).into(), bits)),
        SlotType::I64 => ("i64", json!(bits as u64 as i64), integer(bits as u64 as i64, bits)),
        SlotType::F32 => float("f32", f32::from_bits(bits as u32).into(), bits),
        SlotType::F64 => float("f64", f64::from_bits(bits as u64), bits),
        SlotType::V128 => ("v128", json!(format!("{bits:#034x}")), format!("{bits:#034x}")),
        SlotType::Func => {
            let function = (bits as usize).checked_sub(1).and_then(|i| snapshot.refs.get(i).copied().flatten());
            ("funcref", json!(function), function.map_or("null".into(), |f| format!("function {f}")))
        }
        SlotType::Exn(_) => exception(bytes, ty, meta, snapshot),
    }
}

/// A caught exception: its tag and what it carries.
fn exception(bytes: &[u8], ty: SlotType, meta: &Metadata, snapshot: &Snapshot<'_>) -> (&'static str, Value, String) {
    let Some(Reference::Exn(tag, values)) = meta.reference(ty, bytes) else {
        return ("exnref", Value::Null, "null".into());
    };
    let values: Vec<_> = values.iter().map(|(ty, bytes)| read(*ty, bytes, meta, snapshot)).collect();
    let shown: Vec<&str> = values.iter().map(|(_, _, shown)| shown.as_str()).collect();
    let shown = format!("exception with tag {tag} ({})", shown.join(", "));
    let values: Vec<&Value> = values.iter().map(|(_, value, _)| value).collect();
    ("exnref", json!({ "tag": tag, "values": values }), shown)
}

/// Hexadecimal too where the number may be an address or bits.
pub fn integer(value: i64, bits: u128) -> String {
    if value.unsigned_abs() < 4096 { value.to_string() } else { format!("{value} ({bits:#x})") }
}

/// JSON has no infinities and no NaN: then the bits stand alone.
pub fn float(ty: &'static str, value: f64, bits: u128) -> (&'static str, Value, String) {
    let shown = if value.is_nan() { format!("NaN ({bits:#x})") } else { format!("{value:?}") };
    (ty, if value.is_finite() { json!(value) } else { json!(shown) }, shown)
}
