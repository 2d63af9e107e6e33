//! Puts the page that `./x` has built into the program. It is in `target/web` of the repository, wherever else cargo builds, so that
//! every instruction set's program has it. Without it the program still builds, and says how to get it.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let web = here.join("../../target/web");
    // Of what is not there cargo would think, each time, that it has changed.
    let _ = fs::create_dir_all(&web);
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={}", web.display());

    let mut files = Vec::new();
    if web.is_dir() {
        list(&web.canonicalize()?, &mut files)?;
    }
    files.sort();
    let mut text = String::from("&[\n");
    for (name, path) in files.iter().filter(|(name, _)| !name.ends_with(".br")) {
        let packed = files.iter().find(|(other, _)| *other == format!("{name}.br"));
        let packed = packed.map_or("None".into(), |(_, path)| format!("Some(include_bytes!({path:?}))"));
        let _ = writeln!(text, "    File {{ name: {name:?}, bytes: include_bytes!({path:?}), packed: {packed} }},");
    }
    text.push_str("]\n");
    fs::write(PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("page.rs"), text)
}

/// The files below a directory, with their names as the page asks for them.
fn list(dir: &Path, files: &mut Vec<(String, PathBuf)>) -> io::Result<()> {
    let mut stack = vec![dir.to_path_buf()];
    while let Some(next) = stack.pop() {
        for entry in fs::read_dir(next)? {
            let path = entry?.path();
            if path.is_dir() {
                stack.push(path);
            } else if let Ok(name) = path.strip_prefix(dir) {
                files.push((name.to_string_lossy().into_owned(), path));
            }
        }
    }
    Ok(())
}
