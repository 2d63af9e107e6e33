//! One wasmtime configuration for compiler and runtime: what an image was compiled for and what loads it
//! must agree, on every machine.

use crate::Error;
use alloc::string::String;
use wasmtime::Config;

/// What compiled code depends on, besides the target: part of every image's identity. The last part
/// changes with what instrumented code and its host agree on (`wayfare_instrument::abi` and the frames).
pub const VERSION: &str = concat!("wasmtime-48/wayfare-", env!("CARGO_PKG_VERSION"), "/abi-1");

/// Choices that both sides of a move must share; they are recorded in images and snapshots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Give every NaN the same bits (costs up to a factor of three in floating-point loops).
    pub canonical_nan: bool,
}

/// An instruction set and operating system to compile for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target(String);

impl Target {
    /// The machine this runs on.
    pub fn host() -> Self {
        if cfg!(feature = "std") { Target(alloc::format!("{ARCH}-unknown-linux-gnu")) } else { Target::bare(ARCH) }
    }

    fn bare(arch: &str) -> Self {
        // The one whose triple says which files its compilers make.
        Target(alloc::format!("{arch}-unknown-none{}", if arch.starts_with("riscv64") { "-elf" } else { "" }))
    }

    /// Reads a target's short name (`x86_64`, `aarch64`, `riscv64`, `pulley64`) or a target triple; the short name of one
    /// without an operating system ends in `-none`.
    ///
    /// # Errors
    /// [`Error::Target`] for one there is no code generator for.
    pub fn parse(name: &str) -> Result<Self, Error> {
        let arch = name.split('-').next().unwrap_or_default();
        if name.ends_with("-none") || name.ends_with("-none-elf") {
            return match arch {
                "x86_64" | "aarch64" => Ok(Target::bare(arch)),
                "riscv64" | "riscv64gc" => Ok(Target::bare("riscv64gc")),
                _ => Err(Error::Target(name.into())),
            };
        }
        Ok(Target(match arch {
            "x86_64" | "x86-64" | "amd64" => "x86_64-unknown-linux-gnu".into(),
            "aarch64" | "arm64" => "aarch64-unknown-linux-gnu".into(),
            "riscv64" | "riscv64gc" => "riscv64gc-unknown-linux-gnu".into(),
            "pulley64" | "pulley" => "pulley64".into(),
            _ => return Err(Error::Target(name.into())),
        }))
    }

    /// Whether it has no operating system.
    pub fn is_bare(&self) -> bool {
        self.0.contains("-none")
    }

    /// The target triple.
    pub fn triple(&self) -> &str {
        &self.0
    }

    /// Whether this process can run code compiled for the target.
    pub fn runs_here(&self) -> bool {
        *self == Target::host() || self.0 == "pulley64"
    }
}

impl core::fmt::Display for Target {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.0.split('-').next().unwrap_or_default())?;
        f.write_str(if self.is_bare() { "-none" } else { "" })
    }
}

/// The stack that a task may use, bytes; reserved, not committed. A hundred thousand frames fit with
/// room for an ISA whose frames are larger than those of the machine that captured them.
pub const STACK: usize = 256 << 20;

/// Address space of a linear memory: all that a 32-bit one can have.
pub const RESERVATION: usize = 4 << 30;
/// What one that begins larger can still grow by.
pub const RESERVATION_FOR_GROWTH: usize = 2 << 30;

/// wasmtime's configuration for a target.
///
/// # Errors
/// [`Error::Target`] when wasmtime does not know the target.
pub fn configure(target: &Target, options: Options) -> Result<Config, Error> {
    let mut config = Config::new();
    if *target != Target::host() {
        config.target(target.triple()).map_err(|_| Error::Target(target.triple().into()))?;
    }
    // Memory never moves: the poll words are written from other threads through a plain pointer.
    config.memory_reservation(RESERVATION as u64).memory_reservation_for_growth(RESERVATION_FOR_GROWTH as u64);
    config.memory_guard_size(32 << 20).memory_may_move(false);
    config.wasm_branch_hinting(true);
    config.wasm_backtrace_max_frames(core::num::NonZeroUsize::new(20));
    config.max_wasm_stack(STACK);
    config.async_stack_size(STACK + (2 << 20));
    // The same result of relaxed SIMD on every ISA: a moved task ends as an unmoved one.
    config.relaxed_simd_deterministic(true);
    #[cfg(feature = "compile")]
    config.cranelift_nan_canonicalization(options.canonical_nan);
    if target.is_bare() {
        // There is no file to map a memory's first content from.
        config.memory_init_cow(false);
        #[cfg(feature = "std")]
        config.wasm_threads(false);
    }
    if target.0.starts_with("riscv64") {
        // Few of these processors have vector registers, and there is no SIMD code without.
        config.wasm_simd(false).wasm_relaxed_simd(false);
    }
    #[cfg(feature = "compile")]
    if target.is_bare() {
        let features = match target.0.split('-').next() {
            Some("x86_64") => &BARE_X86_64[..],
            Some("riscv64gc") => &BARE_RISCV64,
            _ => &[],
        };
        for feature in features {
            // SAFETY: these say what instructions the code has, and a board checks that it knows them all before it
            // runs any (`detect`); or they are those that its kernel has, too (RISC-V).
            unsafe { config.cranelift_flag_enable(feature) };
        }
    }
    #[cfg(all(not(feature = "std"), target_arch = "x86_64"))]
    {
        // SAFETY: `detect` says what the processor says of itself. No floating-point value goes between compiled code
        // and this build, which has no vector registers: what could, is one instruction from SSE4.1 on, which images
        // for such machines are compiled for.
        unsafe { config.detect_host_feature(detect).x86_float_abi_ok(true) };
    }
    let _ = options;
    Ok(config)
}

/// What every x86-64 machine of the last fifteen years has (level v2), and SIMD code and rounding need.
#[cfg(feature = "compile")]
const BARE_X86_64: [&str; 6] = ["has_sse3", "has_ssse3", "has_cmpxchg16b", "has_sse41", "has_sse42", "has_popcnt"];

/// What every 64-bit RISC-V processor that general programs are built for has besides what is taken for granted (`RV64GC`):
/// compressed instructions.
#[cfg(feature = "compile")]
const BARE_RISCV64: [&str; 2] = ["has_zca", "has_zcd"];

/// Whether this processor has a feature, by wasmtime's name for it; `None` for one that images for bare machines do not
/// use.
#[cfg(all(not(feature = "std"), target_arch = "x86_64"))]
fn detect(feature: &str) -> Option<bool> {
    let bit = match feature {
        "sse3" => 0,
        "ssse3" => 9,
        "cmpxchg16b" => 13,
        "sse4.1" => 19,
        "sse4.2" => 20,
        "popcnt" => 23,
        _ => return None,
    };
    Some(core::arch::x86_64::__cpuid(1).ecx & 1 << bit != 0)
}

#[cfg(target_arch = "x86_64")]
const ARCH: &str = "x86_64";
#[cfg(target_arch = "aarch64")]
const ARCH: &str = "aarch64";
#[cfg(target_arch = "riscv64")]
const ARCH: &str = "riscv64gc";
