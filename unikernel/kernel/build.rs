//! Tells the linker where things lie, and the kernel where the node's program is (`WAYFARE_NODE`).

fn main() {
    let arch = std::env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    let here = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo:rerun-if-changed={arch}.ld");
    println!("cargo:rerun-if-env-changed=WAYFARE_NODE");
    if let Ok(node) = std::env::var("WAYFARE_NODE") {
        println!("cargo:rerun-if-changed={node}");
    }
    println!("cargo:rustc-link-arg=-T{here}/{arch}.ld");
    println!("cargo:rustc-link-arg=--gc-sections");
    if arch != "x86_64" {
        // Boot loaders put it where they like.
        for arg in ["-pie", "--no-dynamic-linker", "-znorelro", "-zmax-page-size=4096", "--pack-dyn-relocs=relr"] {
            println!("cargo:rustc-link-arg={arg}");
        }
    }
}
