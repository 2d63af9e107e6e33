//! Invitations: a token of 56 bytes says which one, its secret, and the authority's public key, by which the newcomer knows
//! that it speaks to the right cluster before it says the secret.

use alloc::vec::Vec;
use anyhow::{Result, anyhow, bail};
use wayfare_transfer::identity::NAME_MAX;

/// Refuses what cannot be a node's name.
///
/// # Errors
/// Says what may be one.
pub fn check_name(name: &str) -> Result<()> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if name.is_empty() || name.len() > NAME_MAX || name.starts_with('-') || !name.chars().all(good) {
        bail!("{name:?} cannot be a node's name: use up to {NAME_MAX} letters, digits and '-'");
    }
    Ok(())
}

/// A wish to join, as it is typed.
#[derive(Clone)]
pub struct Token {
    /// Which invitation.
    pub invitation: [u8; 8],
    /// Its secret.
    pub secret: [u8; 16],
    /// The authority's public key.
    pub authority: [u8; 32],
}

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const PREFIX: &str = "wf1-";
/// Of 56 bytes, five bits each.
const DIGITS: usize = 90;

impl core::fmt::Display for Token {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let bytes = [&self.invitation[..], &self.secret, &self.authority].concat();
        f.write_str(PREFIX)?;
        for chunk in bytes.chunks(5) {
            let mut block = [0; 8];
            block[3..3 + chunk.len()].copy_from_slice(chunk);
            let bits = u64::from_be_bytes(block);
            for i in 0..(chunk.len() * 8).div_ceil(5) {
                let five = bits >> (35 - 5 * i) & 31;
                write!(f, "{}", char::from(ALPHABET[five as usize]))?;
            }
        }
        Ok(())
    }
}

impl core::str::FromStr for Token {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Token> {
        let wrong = || anyhow!("{text:?} is no token: it begins with {PREFIX}, as `wayfare node invite` prints it");
        let digits = text.strip_prefix(PREFIX).filter(|d| d.len() == DIGITS).ok_or_else(wrong)?;
        let mut bytes = Vec::new();
        let (mut bits, mut count) = (0u32, 0);
        for c in digits.bytes() {
            let five = ALPHABET.iter().position(|a| *a == c).ok_or_else(wrong)? as u32;
            (bits, count) = (bits << 5 | five, count + 5);
            if count >= 8 {
                count -= 8;
                bytes.push((bits >> count) as u8);
            }
        }
        let mut token = Token { invitation: [0; 8], secret: [0; 16], authority: [0; 32] };
        token.invitation.copy_from_slice(&bytes[..8]);
        token.secret.copy_from_slice(&bytes[8..24]);
        token.authority.copy_from_slice(&bytes[24..]);
        Ok(token)
    }
}

impl Token {
    /// What is kept of a secret by the one who gave it out.
    pub fn hash(secret: &[u8; 16]) -> [u8; 32] {
        blake3::derive_key("wayfare invitation 1", secret)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_token_is_read_as_it_was_written() {
        let token = Token { invitation: [1; 8], secret: [0xfe; 16], authority: core::array::from_fn(|i| i as u8 * 7) };
        let text = token.to_string();
        let back: Token = text.parse().unwrap();
        assert_eq!((back.invitation, back.secret, back.authority), (token.invitation, token.secret, token.authority));
        for bad in ["", "wf1-", "wf1-abc", &text[..text.len() - 3], &text.to_uppercase()] {
            assert!(bad.parse::<Token>().is_err(), "{bad}");
        }
    }
}
