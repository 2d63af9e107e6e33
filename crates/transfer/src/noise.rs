//! The Noise handshake's primitives: ring's where there is an operating system, portable ones elsewhere, and
//! randomness out of a seed that the driver supplies.

use alloc::boxed::Box;
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{BoxedCryptoResolver, CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};

/// Pattern XX: both sides show their static keys, encrypted; ChaCha20, since boards without AES instructions would be
/// slow, and leak by their timing, with the alternative.
pub const PATTERN: &str = "Noise_XX_25519_ChaChaPoly_SHA256";
/// Bound into every handshake.
pub const PROLOGUE: &[u8] = b"wayfare";

/// A builder with our primitives.
pub fn builder<'b>(seed: [u8; 32]) -> Result<snow::Builder<'b>, snow::Error> {
    let resolver: BoxedCryptoResolver = Box::new(Resolver(seed));
    snow::Builder::with_resolver(PATTERN.parse()?, resolver).prologue(PROLOGUE)
}

struct Resolver([u8; 32]);

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Stream(blake3::Hasher::new_keyed(&self.0).finalize_xof())))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        fast().resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        fast().resolve_cipher(choice)
    }
}

#[cfg(feature = "std")]
fn fast() -> impl CryptoResolver {
    snow::resolvers::RingResolver
}

#[cfg(not(feature = "std"))]
fn fast() -> impl CryptoResolver {
    DefaultResolver
}

/// BLAKE3's keyed output of any length: a stream of pseudorandom bytes out of the seed.
struct Stream(blake3::OutputReader);

impl Random for Stream {
    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), snow::Error> {
        self.0.fill(to);
        Ok(())
    }
}
