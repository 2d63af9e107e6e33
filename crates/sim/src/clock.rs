//! Simulated time and chance: a clock that only a world moves, and numbers that only a seed decides.

pub use wayfare_transfer::Nanos;

/// A microsecond.
pub const MICRO: Nanos = 1_000;
/// A millisecond.
pub const MILLI: Nanos = 1_000_000;
/// A second.
pub const SECOND: Nanos = 1_000_000_000;

/// A clock that goes on when it is told to, and never back.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock(Nanos);

impl Clock {
    /// The time.
    pub fn now(self) -> Nanos {
        self.0
    }

    /// Goes on to `to`.
    ///
    /// # Panics
    /// If that is in the past: the protocol's machines rely on it that time does not go back.
    pub fn advance(&mut self, to: Nanos) {
        assert!(to >= self.0, "time goes back from {} to {to}", self.0);
        self.0 = to;
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, and the same everywhere.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `n`; 0 for none.
    pub fn below(&mut self, n: u64) -> u64 {
        // The bias is below 2^-32 for what is drawn here.
        ((u128::from(self.draw()) * u128::from(n)) >> 64) as u64
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        (self.draw() >> 11) as f64 / (1u64 << 53) as f64 <= p && p > 0.0
    }

    /// One of several.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    /// 32 bytes.
    pub fn seed(&mut self) -> [u8; 32] {
        let mut out = [0; 32];
        out.chunks_mut(8).for_each(|part| part.copy_from_slice(&self.draw().to_le_bytes()));
        out
    }
}

/// SplitMix64's output function: a bijection that leaves no pattern.
pub fn mix(mut z: u64) -> u64 {
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}
