//! A view as text: aligned, with long lists cut unless all is asked for.

use crate::output::{Paint, bytes, count, duration, fields, table};
use serde_json::Value;
use std::fmt::Write as _;
use std::time::Duration;

/// How much of a long list is shown.
const SHOWN: usize = 24;

/// The text for a view made by this module's siblings.
pub fn render(view: &Value, all: bool, paint: Paint) -> String {
    let limit = if all { usize::MAX } else { SHOWN };
    match view["kind"].as_str() {
        Some("snapshot") => snapshot(view, limit, paint),
        Some("image") => fields(&image(view), paint) + &unmovable(view, paint),
        _ => fields(&module(view), paint) + &unmovable(view, paint) + &imports(view, paint),
    }
}

fn module(view: &Value) -> Vec<(&'static str, String)> {
    let (before, after) = (number(&view["bytes"]), number(&view["instrumented_bytes"]));
    let more = (after as f64 / before.max(1) as f64 - 1.0) * 100.0;
    let mut rows = vec![
        ("module", word(&view["digest"])),
        ("size", format!("{}, instrumented {} ({more:+.0} %)", bytes(before), bytes(after))),
    ];
    rows.extend(summary(view));
    rows
}

fn image(view: &Value) -> Vec<(&'static str, String)> {
    let signed =
        if view["signed_by_this_user"] == true { "by this user" } else { "not by this user: it is not run here" };
    let mut rows = vec![
        ("image", format!("for {}", word(&view["target"]))),
        ("version", word(&view["version"])),
        ("module", word(&view["module"])),
        ("signed", signed.into()),
        ("NaN bits", if view["canonical_nan"] == true { "canonical" } else { "the machine's" }.into()),
        ("size", format!("{}, {} of it code", bytes(number(&view["bytes"])), bytes(number(&view["code_bytes"])))),
    ];
    rows.extend(summary(view));
    rows
}

fn summary(view: &Value) -> Vec<(&'static str, String)> {
    if view["movable"] == false {
        return vec![("movable", "no".into())];
    }
    let (functions, points) = (&view["functions"], &view["points"]);
    let mut kinds = Vec::new();
    for (key, what) in [
        ("loop", "loop"),
        ("entry", "function entry"),
        ("call", "call"),
        ("call_indirect", "indirect call"),
        ("host_call", "host call"),
    ] {
        match number(&points[key]) {
            0 => {}
            n => kinds.push(count(n, what).replace("entrys", "entries")),
        }
    }
    vec![
        ("movable", "yes".into()),
        (
            "functions",
            format!(
                "{}, {} of them imported; {} may be captured",
                functions["total"], functions["imported"], functions["may_capture"]
            ),
        ),
        ("points", format!("{}: {}", points["total"], kinds.join(", "))),
        ("memories", view["memories"].to_string()),
    ]
}

fn unmovable(view: &Value, paint: Paint) -> String {
    list(&view["unmovable"]).fold(String::new(), |mut out, reason| {
        let _ = writeln!(out, "  {}", paint.warn(&word(reason)));
        out
    })
}

fn imports(view: &Value, paint: Paint) -> String {
    let mut out = heading("imports", paint);
    for import in list(&view["imports"]) {
        let name = format!("{}.{}", word(&import["module"]), word(&import["name"]));
        let missing = if import["provided"] == true { String::new() } else { paint.warn("  not provided by Wayfare") };
        let _ = writeln!(out, "  {name}{missing}");
    }
    out
}

fn snapshot(view: &Value, limit: usize, paint: Paint) -> String {
    let header = &view["header"];
    let mut rows = vec![
        ("task", format!("{}, in {}", word(&view["name"]), word(&view["entry"]))),
        (
            "snapshot",
            format!("{}, format {}, {}", word(&header["kind"]), header["format"], bytes(number(&header["bytes"]))),
        ),
        ("id", word(&header["id"])),
    ];
    if !header["base"].is_null() {
        rows.push(("base", word(&header["base"])));
    }
    rows.extend([
        ("module", word(&header["module"])),
        ("checksum", word(&header["checksum"])),
        ("number", format!("{}, in epoch {}", header["sequence"], header["epoch"])),
        ("work", format!("{} migration points passed", header["work"])),
        ("ran for", duration(Duration::from_nanos(number(&view["ran_ns"])))),
        ("NaN bits", if view["canonical_nan"] == true { "canonical" } else { "the machine's" }.into()),
    ]);
    let mut out = fields(&rows, paint);
    for (key, value) in view["notes"].as_object().into_iter().flatten() {
        let _ = writeln!(out, "{}", paint.dim(&format!("{key} = {}", word(value))));
    }
    out += &stack(view, limit, paint);
    for memory in list(&view["memories"]) {
        out += &memory_map(memory, limit, paint);
    }
    out += &values(&view["globals"], "globals", limit, paint);
    out += &descriptors(view, paint);
    let volumes = list(&view["volumes"]).map(|v| vec![word(&v["guest"]), bytes(number(&v["bytes"]))]);
    out + &section("volumes", &["GUEST", "CONTENT"], volumes.collect(), paint)
}

fn stack(view: &Value, limit: usize, paint: Paint) -> String {
    let size = bytes(number(&view["frames_bytes"]));
    let Some(frames) = view["frames"].as_array() else {
        let why = format!("{size}; names and values need the program: give it with --program");
        return heading("call stack", paint) + &format!("  {}\n", paint.warn(&why));
    };
    let mut out =
        heading(&format!("call stack, innermost last ({}, {size})", count(frames.len() as u64, "frame")), paint);
    // The ends are what tells: where it came from and where it is.
    let (top, bottom) =
        if frames.len() > limit { (limit / 3, frames.len() - limit * 2 / 3) } else { (frames.len(), 0) };
    for (i, frame) in frames.iter().enumerate() {
        if i >= top && i < bottom {
            if i == top {
                let _ = writeln!(out, "  {}", paint.dim(&format!("... {} more (--all shows them)", bottom - top)));
            }
            continue;
        }
        let at = match (word(&frame["point"]).as_str(), frame["callee"].as_str()) {
            ("loop", _) => "at a loop".to_string(),
            ("entry", _) => "at its entry".into(),
            ("call_indirect", _) => "in an indirect call".into(),
            ("host_call", Some(callee)) => format!("waiting in {callee}"),
            (_, callee) => format!("calling {}", callee.unwrap_or("?")),
        };
        let place = paint.dim(&format!("{at}, offset {:#x}", number(&frame["offset"])));
        let _ = writeln!(out, "  #{i} {}  {place}", paint.name(&word(&frame["name"])));
        let rows: Vec<_> = list(&frame["values"]).collect();
        let width = |key: &str| rows.iter().map(|v| word(&v[key]).chars().count()).max().unwrap_or(0);
        let (names, types) = (width("name"), width("type"));
        for v in rows {
            let (name, ty, shown) = (word(&v["name"]), word(&v["type"]), word(&v["shown"]));
            let _ = writeln!(out, "       {name:names$}  {}  {shown}", paint.dim(&format!("{ty:types$}")));
        }
    }
    out
}

fn memory_map(memory: &Value, limit: usize, paint: Paint) -> String {
    let title = format!(
        "memory {}: {}, {} stored",
        memory["index"],
        bytes(number(&memory["bytes"])),
        count(number(&memory["data_pages"]), "page")
    );
    let rows = list(&memory["ranges"]).map(|range| {
        let pages = number(&range["pages"]);
        vec![
            format!("{:#010x}", number(&range["address"])),
            pages.to_string(),
            bytes(pages * wayfare_snapshot::PAGE_SIZE as u64),
            word(&range["content"]),
        ]
    });
    cut(section(&title, &["ADDRESS", "PAGES", "SIZE", "CONTENT"], rows.collect(), paint), limit, paint)
}

fn values(all: &Value, title: &str, limit: usize, paint: Paint) -> String {
    let rows = list(all).map(|v| vec![word(&v["name"]), word(&v["type"]), word(&v["shown"])]).collect();
    cut(section(title, &["NAME", "TYPE", "VALUE"], rows, paint), limit, paint)
}

fn descriptors(view: &Value, paint: Paint) -> String {
    let rows = list(&view["descriptors"]).map(|d| {
        let offset = d["offset"].as_u64().map_or(String::new(), |o| o.to_string());
        vec![d["fd"].to_string(), word(&d["kind"]), offset, word(&d["path"])]
    });
    section("descriptors", &["FD", "KIND", "OFFSET", "PATH"], rows.collect(), paint)
}

fn heading(title: &str, paint: Paint) -> String {
    format!("\n{}\n", paint.bold(title))
}

fn section(title: &str, headings: &[&str], rows: Vec<Vec<String>>, paint: Paint) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut out = heading(title, paint);
    for line in table(headings, &rows, paint).lines() {
        let _ = writeln!(out, "  {line}");
    }
    out
}

/// Leaves `limit` rows of a section, which begins with an empty line, a title and headings.
fn cut(section: String, limit: usize, paint: Paint) -> String {
    let lines = section.lines().count();
    if lines.saturating_sub(3) <= limit {
        return section;
    }
    let kept: Vec<&str> = section.lines().take(limit + 3).collect();
    let more = format!("... {} more (--all shows them)", lines - 3 - limit);
    format!("{}\n  {}\n", kept.join("\n"), paint.dim(&more))
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_string()
}
