//! Tells the linker where the node's program lies (`wayfare_unikernel_abi::NODE`), each part of it in pages of its own.

fn main() {
    let arch = std::env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    let base = match arch.as_str() {
        "x86_64" => "0x40000000",
        "riscv64" => "0x200000000",
        _ => "0x2000000000",
    };
    for arg in [&format!("--image-base={base}"), "-zseparate-loadable-segments", "-zmax-page-size=4096", "-znorelro"] {
        println!("cargo:rustc-link-arg={arg}");
    }
    println!("cargo:rustc-link-arg=--gc-sections");
}
