//! The one hash of the format, as a type of its own so that no digest is mistaken for other bytes.

use core::fmt;
use core::str::FromStr;

/// A BLAKE3 digest. Shown and parsed as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The all-zero value, which the format uses for "none".
    pub const ZERO: Self = Self([0; 32]);

    /// The digest of `bytes`; big inputs are hashed on all cores where the feature `std` is on.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        crate::par::hash(&mut hasher, bytes);
        Self(*hasher.finalize().as_bytes())
    }

    /// `None` for the all-zero value.
    pub(crate) fn non_zero(self) -> Option<Self> {
        (self != Self::ZERO).then_some(self)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// A text that is no digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a digest: expected 64 hexadecimal digits")]
pub struct ParseDigestError;

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.as_bytes();
        if text.len() != 64 {
            return Err(ParseDigestError);
        }
        let digit = |c: u8| char::from(c).to_digit(16).ok_or(ParseDigestError);
        let mut out = [0; 32];
        for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
            *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
        }
        Ok(Self(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn hex_round_trips_and_nothing_else_parses() {
        let digest = Digest::of(b"wayfare");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        let hex = digest.to_string();
        for bad in ["", "00", &hex[1..], &hex.replace(&hex[..1], "g"), &(hex.clone() + "0")] {
            assert_eq!(bad.parse::<Digest>(), Err(ParseDigestError), "{bad}");
        }
    }
}
