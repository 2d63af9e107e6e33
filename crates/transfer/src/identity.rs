//! Who belongs to a cluster: keys signed by the cluster's authority, and what was revoked.
//!
//! A node's identity is its static key of the Noise handshake (X25519). The authority (Ed25519) signs it together with
//! the node's name and a term; the certificate goes along in the handshake, so that two nodes that never met know each
//! other by the authority's public key alone, with nobody else to ask. Revocations are a list that is signed as well
//! and only grows; nodes hand on the longest one they know.

use alloc::string::String;
use alloc::vec::Vec;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

/// Seconds since 1970, by the verifier's clock.
pub type UnixSeconds = u64;

/// What the authority says of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The authority's public key: which cluster.
    pub cluster: [u8; 32],
    /// The node's name, unique in the cluster.
    pub name: String,
    /// The node's static public key.
    pub key: [u8; 32],
    /// Counts the certificates of the cluster.
    pub serial: u64,
    /// Not valid before.
    pub not_before: UnixSeconds,
    /// Not valid from this on.
    pub not_after: UnixSeconds,
}

/// Signed claims.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// The encoded [`Claims`]: what was signed is what is kept.
    claims: Vec<u8>,
    signature: Vec<u8>,
}

/// Longest encoded certificate.
pub const CERTIFICATE_MAX: usize = 512;
/// Longest name of a node, bytes.
pub const NAME_MAX: usize = 63;

/// The time of a verifier without a clock: terms are not looked at.
pub const NO_CLOCK: UnixSeconds = 0;

/// A clock may be this far behind the authority's.
const SKEW: UnixSeconds = 300;

const CERTIFICATE_CONTEXT: &[u8] = b"wayfare certificate 1\0";
const REVOCATION_CONTEXT: &[u8] = b"wayfare revocations 1\0";

/// Why a certificate is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Bytes that are none.
    #[error("its certificate cannot be read")]
    Malformed,
    /// Signed by another authority.
    #[error("its certificate is from another cluster")]
    Foreign,
    /// Not signed by the authority it names.
    #[error("the signature of its certificate is wrong")]
    Forged,
    /// For another key than the one it has.
    #[error("its certificate is for another key")]
    OtherKey,
    /// The term is over.
    #[error("its certificate has expired")]
    Expired,
    /// The term has not begun.
    #[error("its certificate is not valid yet: compare the clocks")]
    Early,
    /// Taken back by the authority.
    #[error("its certificate was revoked")]
    Revoked,
}

/// The cluster's authority, on the node that holds its key.
pub struct Authority(SigningKey);

impl Authority {
    /// From 32 random bytes, kept secret.
    pub fn from_secret(secret: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(secret))
    }

    /// What certificates name as the cluster.
    pub fn public(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// Signs a node's key. The claims' cluster is set to this one.
    pub fn certify(&self, mut claims: Claims) -> Certificate {
        claims.cluster = self.public();
        let claims = postcard::to_allocvec(&claims).unwrap_or_default();
        let signature = self.sign(CERTIFICATE_CONTEXT, &claims);
        Certificate { claims, signature }
    }

    /// Signs a list of revoked serials.
    pub fn revoke(&self, mut serials: Vec<u64>) -> Revocations {
        serials.sort_unstable();
        serials.dedup();
        let body = postcard::to_allocvec(&serials).unwrap_or_default();
        let signature = self.sign(REVOCATION_CONTEXT, &body);
        Revocations { serials, signature }
    }

    fn sign(&self, context: &[u8], bytes: &[u8]) -> Vec<u8> {
        self.0.sign(&[context, bytes].concat()).to_bytes().to_vec()
    }
}

fn verify(authority: &[u8; 32], context: &[u8], bytes: &[u8], signature: &[u8]) -> bool {
    let (Ok(key), Ok(signature)) = (VerifyingKey::from_bytes(authority), Signature::from_slice(signature)) else {
        return false;
    };
    key.verify_strict(&[context, bytes].concat(), &signature).is_ok()
}

impl Certificate {
    /// The claims, unverified: for showing.
    pub fn claims(&self) -> Option<Claims> {
        postcard::from_bytes(&self.claims).ok()
    }

    /// The claims, if the authority `cluster` has signed them for `key`, they hold now and were not revoked. A board that has
    /// just been switched on may not know what time it is ([`NO_CLOCK`]).
    ///
    /// # Errors
    /// One reason each.
    pub fn verify(
        &self,
        cluster: &[u8; 32],
        key: &[u8],
        now: UnixSeconds,
        revoked: &Revocations,
    ) -> Result<Claims, Refused> {
        let claims = self.claims().ok_or(Refused::Malformed)?;
        let name = &claims.name;
        if name.is_empty() || name.len() > NAME_MAX || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            return Err(Refused::Malformed);
        }
        if claims.cluster != *cluster {
            return Err(Refused::Foreign);
        }
        if !verify(cluster, CERTIFICATE_CONTEXT, &self.claims, &self.signature) {
            return Err(Refused::Forged);
        }
        if claims.key != *key {
            return Err(Refused::OtherKey);
        }
        if now != NO_CLOCK && now.saturating_add(SKEW) < claims.not_before {
            return Err(Refused::Early);
        }
        if now >= claims.not_after {
            return Err(Refused::Expired);
        }
        if revoked.contains(claims.serial) {
            return Err(Refused::Revoked);
        }
        Ok(claims)
    }
}

/// Serials of certificates that hold no longer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocations {
    serials: Vec<u64>,
    signature: Vec<u8>,
}

impl Revocations {
    /// Whether it is revoked.
    pub fn contains(&self, serial: u64) -> bool {
        self.serials.binary_search(&serial).is_ok()
    }

    /// The serials, ascending.
    pub fn serials(&self) -> &[u64] {
        &self.serials
    }

    /// Takes over a list from a peer, if the authority signed it and it holds all that this one does. Says whether
    /// anything is new.
    pub fn merge(&mut self, other: Revocations, cluster: &[u8; 32]) -> bool {
        let longer = other.serials.len() > self.serials.len();
        let sorted = other.serials.is_sorted_by(|a, b| a < b);
        if !longer || !sorted || !self.serials.iter().all(|serial| other.contains(*serial)) {
            return false;
        }
        let body = postcard::to_allocvec(&other.serials).unwrap_or_default();
        let signed = verify(cluster, REVOCATION_CONTEXT, &body, &other.signature);
        if signed {
            *self = other;
        }
        signed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn claims(serial: u64) -> Claims {
        Claims { cluster: [0; 32], name: "gateway".into(), key: [7; 32], serial, not_before: 1000, not_after: 2000 }
    }

    #[test]
    fn a_certificate_holds_for_its_cluster_key_and_term_only() {
        let (ours, theirs) = (Authority::from_secret(&[1; 32]), Authority::from_secret(&[2; 32]));
        let none = Revocations::default();
        let good = ours.certify(claims(3));
        let check = |cluster: &Authority, key: [u8; 32], now| good.verify(&cluster.public(), &key, now, &none);
        assert_eq!(check(&ours, [7; 32], 1500).unwrap().name, "gateway");
        assert_eq!(check(&theirs, [7; 32], 1500), Err(Refused::Foreign));
        assert_eq!(check(&ours, [8; 32], 1500), Err(Refused::OtherKey));
        assert_eq!(check(&ours, [7; 32], 2000), Err(Refused::Expired));
        assert_eq!(check(&ours, [7; 32], 699), Err(Refused::Early));
        assert!(check(&ours, [7; 32], 700).is_ok());
        assert!(check(&ours, [7; 32], NO_CLOCK).is_ok());
        assert_eq!(check(&theirs, [7; 32], NO_CLOCK), Err(Refused::Foreign));
    }

    #[test]
    fn a_changed_certificate_is_forged() {
        let ours = Authority::from_secret(&[1; 32]);
        let good = ours.certify(claims(3));
        for at in 0..good.claims.len() {
            let mut bad = good.clone();
            bad.claims[at] ^= 1;
            assert!(bad.verify(&ours.public(), &[7; 32], 1500, &Revocations::default()).is_err(), "byte {at}");
        }
        let mut theirs = Authority::from_secret(&[2; 32]).certify(claims(3));
        // Another authority that names our cluster.
        theirs.claims = good.claims.clone();
        let verdict = theirs.verify(&ours.public(), &[7; 32], 1500, &Revocations::default());
        assert_eq!(verdict, Err(Refused::Forged));
    }

    #[test]
    fn revocations_only_grow_and_only_by_the_authority() {
        let (ours, theirs) = (Authority::from_secret(&[1; 32]), Authority::from_secret(&[2; 32]));
        let cluster = ours.public();
        let mut known = Revocations::default();
        assert!(known.merge(ours.revoke(vec![5, 3]), &cluster));
        assert!(!known.merge(ours.revoke(vec![5, 3]), &cluster), "nothing new");
        assert!(!known.merge(ours.revoke(vec![3]), &cluster), "shorter");
        assert!(!known.merge(ours.revoke(vec![1, 2, 4]), &cluster), "forgets some");
        assert!(!known.merge(theirs.revoke(vec![1, 3, 5]), &cluster), "signed by a stranger");
        let verdict = ours.certify(claims(5)).verify(&cluster, &[7; 32], 1500, &known);
        assert_eq!(verdict, Err(Refused::Revoked));
    }
}
