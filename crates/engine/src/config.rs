//! One wasmtime configuration for compiler and runtime: what an image was compiled for and what loads it
//! must agree, on every machine.

use crate::Error;
use alloc::string::String;
use wasmtime::Config;

/// What compiled code depends on, besides the target: part of every image's identity. The last part
/// changes with what instrumented code and its host agree on (`wayfare_instrument::abi` and the frames).
pub const VERSION: &str = concat!("wasmtime-48/wayfare-", env!("CARGO_PKG_VERSION"), "/abi-2");

/// Choices that both sides of a move must share; they are recorded in images and snapshots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Give every NaN the same bits (costs up to a factor of three in floating-point loops).
    pub canonical_nan: bool,
}

/// What code is compiled for: an instruction set, an operating system or none, and how far it relies on either.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    triple: &'static str,
    /// Only instructions of x86-64's level v2, which every such processor of the last fifteen years has; else, for this
    /// machine, all that it has.
    v2: bool,
    /// Each access to memory is checked by instructions, and not by page tables: for comparison.
    explicit_bounds: bool,
}

/// What stands behind the name of a target whose code checks its accesses itself.
const EXPLICIT_BOUNDS: &str = "+explicit-bounds";

impl Target {
    /// The machine this runs on.
    pub fn host() -> Self {
        if cfg!(feature = "std") { Target::linux(ARCH) } else { Target::bare(ARCH) }
    }

    fn new(triple: &'static str) -> Self {
        Target { triple, v2: false, explicit_bounds: false }
    }

    fn linux(arch: Arch) -> Self {
        Target::new(match arch {
            Arch::X86_64 => "x86_64-unknown-linux-gnu",
            Arch::Aarch64 => "aarch64-unknown-linux-gnu",
            Arch::Riscv64 => "riscv64gc-unknown-linux-gnu",
        })
    }

    fn bare(arch: Arch) -> Self {
        // The triples that say which files their compilers make.
        match arch {
            Arch::X86_64 => Target { v2: true, ..Target::new("x86_64-unknown-none") },
            Arch::Aarch64 => Target::new("aarch64-unknown-none"),
            Arch::Riscv64 => Target::new("riscv64gc-unknown-none-elf"),
        }
    }

    /// Reads a target's short name (`x86_64`, `x86_64-v2`, `aarch64`, `riscv64`, `pulley64`) or a target triple; the short
    /// name of one without an operating system ends in `-none`. `+explicit-bounds` may follow.
    ///
    /// # Errors
    /// [`Error::Target`] for one there is no code generator for.
    pub fn parse(name: &str) -> Result<Self, Error> {
        let unknown = || Error::Target(name.into());
        let (system, explicit_bounds) = match name.strip_suffix(EXPLICIT_BOUNDS) {
            Some(system) => (system, true),
            None => (name, false),
        };
        let target = match system.split('-').next().unwrap_or_default() {
            "pulley64" | "pulley" => Target::new("pulley64"),
            arch => {
                let arch = Arch::parse(arch).ok_or_else(unknown)?;
                match system.ends_with("-none") || system.ends_with("-none-elf") {
                    true => Target::bare(arch),
                    false => Target { v2: system == "x86_64-v2", ..Target::linux(arch) },
                }
            }
        };
        Ok(Target { explicit_bounds, ..target })
    }

    /// Whether it has no operating system.
    pub fn is_bare(&self) -> bool {
        self.triple.contains("-none")
    }

    /// The target triple.
    pub fn triple(&self) -> &'static str {
        self.triple
    }

    /// How an image names what it was compiled for. What instructions it has is in its code.
    pub fn of_image(&self) -> String {
        alloc::format!("{}{}", self.triple, if self.explicit_bounds { EXPLICIT_BOUNDS } else { "" })
    }

    /// Whether this process can run code compiled for the target, if the processor has the instructions.
    pub fn runs_here(&self) -> bool {
        self.triple == Target::host().triple || self.triple == "pulley64"
    }
}

impl core::fmt::Display for Target {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.triple.split('-').next().unwrap_or_default())?;
        f.write_str(match (self.is_bare(), self.v2) {
            (true, _) => "-none",
            (false, true) => "-v2",
            (false, false) => "",
        })?;
        f.write_str(if self.explicit_bounds { EXPLICIT_BOUNDS } else { "" })
    }
}

#[derive(Clone, Copy)]
enum Arch {
    X86_64,
    Aarch64,
    Riscv64,
}

impl Arch {
    fn parse(name: &str) -> Option<Self> {
        match name {
            "x86_64" | "x86-64" | "amd64" => Some(Arch::X86_64),
            "aarch64" | "arm64" => Some(Arch::Aarch64),
            "riscv64" | "riscv64gc" => Some(Arch::Riscv64),
            _ => None,
        }
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
    // For this machine wasmtime finds out by itself what instructions there are. What only loads code need not say which
    // it was compiled for: they are looked for.
    if target.triple != Target::host().triple || target.v2 && cfg!(feature = "std") {
        config.target(target.triple).map_err(|_| Error::Target(target.triple.into()))?;
    }
    if target.explicit_bounds {
        config.signals_based_traps(false);
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
    if target.triple.starts_with("riscv64") {
        // Few of these processors have vector registers, and there is no SIMD code without.
        config.wasm_simd(false).wasm_relaxed_simd(false);
    }
    #[cfg(feature = "compile")]
    {
        let features = match target.is_bare() && target.triple.starts_with("riscv64") {
            true => &BARE_RISCV64[..],
            false if target.v2 => &X86_64_V2,
            false => &[],
        };
        for feature in features {
            // SAFETY: these say what instructions the code has, and whoever loads it looks whether the processor knows them
            // all before it runs any; or they are those that a board's kernel has, too (RISC-V).
            unsafe { config.cranelift_flag_enable(feature) };
        }
    }
    #[cfg(all(not(feature = "std"), target_arch = "x86_64"))]
    {
        // SAFETY: `detect` says what the processor says of itself. Floating-point values go between compiled code and this
        // build in vector registers, or not at all: what they are needed for is one instruction from SSE4.1 on, which
        // images for such machines are compiled for.
        unsafe { config.detect_host_feature(detect).x86_float_abi_ok(true) };
    }
    let _ = options;
    Ok(config)
}

/// Level v2, which SIMD code and rounding need.
#[cfg(feature = "compile")]
const X86_64_V2: [&str; 6] = ["has_sse3", "has_ssse3", "has_cmpxchg16b", "has_sse41", "has_sse42", "has_popcnt"];

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
const ARCH: Arch = Arch::X86_64;
#[cfg(target_arch = "aarch64")]
const ARCH: Arch = Arch::Aarch64;
#[cfg(target_arch = "riscv64")]
const ARCH: Arch = Arch::Riscv64;

#[cfg(all(test, feature = "compile"))]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn targets_have_names() {
        for (name, triple) in [
            ("x86_64", "x86_64-unknown-linux-gnu"),
            ("x86_64-v2", "x86_64-unknown-linux-gnu"),
            ("aarch64-none", "aarch64-unknown-none"),
            ("riscv64gc-none", "riscv64gc-unknown-none-elf"),
            ("x86_64-none+explicit-bounds", "x86_64-unknown-none"),
            ("pulley64", "pulley64"),
        ] {
            let target = Target::parse(name).unwrap();
            assert_eq!((target.to_string().as_str(), target.triple()), (name, triple));
        }
        assert_eq!(Target::parse("arm64").unwrap(), Target::parse("aarch64-unknown-linux-gnu").unwrap());
        assert!(Target::parse("x86_64-v2").unwrap().runs_here() == cfg!(target_arch = "x86_64"));
        for name in ["vax", "", "x86_64+bounds", "vax-none"] {
            assert!(matches!(Target::parse(name), Err(Error::Target(_))), "{name}");
        }
    }
}
