//! Programs from seeds: valid, terminating, importing nothing, with everything exported.

use arbitrary::Unstructured;
use wasm_smith::Config;

/// What a generated program may be made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// Numbers, vectors, memories, exceptions, tail calls: nothing that Wayfare refuses but by accident.
    Numbers,
    /// Tables and references as well; `externref` is refused where it would have to travel.
    References,
    /// Structs, arrays and typed references: mostly refused.
    Gc,
    /// Made by [`crate::weave`]: everything that travels, and little else.
    Woven,
}

impl Flavour {
    /// The flavour that a seed has in a mixed run.
    pub fn of(seed: u64) -> Self {
        match seed % 8 {
            0..4 => Flavour::Woven,
            4 | 5 => Flavour::Numbers,
            6 => Flavour::References,
            _ => Flavour::Gc,
        }
    }
}

/// Calls and loop turns that a program may make in all before it traps.
pub const FUEL: u32 = 3000;

/// A module, or `None` when the generator could make nothing of the seed.
pub fn module(seed: u64, flavour: Flavour) -> Option<Vec<u8>> {
    if flavour == Flavour::Woven {
        return Some(crate::weave::module(seed));
    }
    let mut random = Random::new(seed);
    let bytes: Vec<u8> = (0..2048 + random.below(6144) / 8).flat_map(|_| random.next().to_le_bytes()).collect();
    from_bytes(&bytes, flavour)
}

/// A module from a fuzzer's bytes.
pub fn from_bytes(bytes: &[u8], flavour: Flavour) -> Option<Vec<u8>> {
    let (choice, rest) = bytes.split_first()?;
    // Programs that cannot trap but for want of fuel run further; the others trap.
    let config = config(flavour, choice & 3 != 0);
    let mut module = wasm_smith::Module::new(config, &mut Unstructured::new(rest)).ok()?;
    module.ensure_termination(FUEL).ok()?;
    Some(module.to_bytes())
}

fn config(flavour: Flavour, disallow_traps: bool) -> Config {
    Config {
        disallow_traps,
        export_everything: true,
        // The same operation may give another NaN where the code around it differs.
        canonicalize_nans: true,
        threads_enabled: false,
        gc_enabled: flavour == Flavour::Gc,
        reference_types_enabled: flavour != Flavour::Numbers,
        max_imports: 0,
        min_funcs: 4,
        max_funcs: 12,
        max_types: 20,
        max_tags: 4,
        max_globals: 8,
        max_instructions: 160,
        min_memories: 1,
        max_memories: 3,
        max_memory32_bytes: 4 << 16,
        max_memory64_bytes: 4 << 16,
        memory_max_size_required: true,
        max_tables: if flavour == Flavour::Numbers { 1 } else { 3 },
        max_table_elements: 40,
        table_max_size_required: true,
        max_data_segments: 4,
        max_element_segments: 4,
        max_elements: 12,
        ..Config::default()
    }
}

/// A small generator (SplitMix64): the same numbers for a seed for ever.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Numbers of a seed.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// The next 64 bits.
    #[expect(clippy::should_implement_trait, reason = "it never ends, and is not iterated")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number under a bound.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}
