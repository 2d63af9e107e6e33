//! Random numbers from a seed that is passed in: the same seed, the same plan.

/// SplitMix64 (Steele, Lea, Flood 2014): small, and good enough to shuffle and to draw run times.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// From a seed; every seed will do.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In `0.0..1.0`.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// In `0..n`; 0 for `n` = 0.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.bits()) * n as u128) >> 64) as usize
    }

    /// Normal, mean 0 and variance 1 (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - self.unit()));
        radius * libm::cos(2.0 * core::f64::consts::PI * self.unit())
    }

    /// Lognormal, mean 1, with that coefficient of variation.
    pub fn lognormal(&mut self, cv: f64) -> f64 {
        let variance = libm::log1p(cv * cv);
        libm::exp(libm::sqrt(variance) * self.normal() - variance / 2.0)
    }
}
