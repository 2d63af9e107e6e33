//! What a node knows of itself.

use alloc::string::String;
use serde::{Deserialize, Serialize};
use wayfare_transfer::channel::Credentials;
use wayfare_transfer::identity::{Certificate, Claims, Revocations};

/// A member of a cluster. Whoever has this is that member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The cluster's name, for people.
    pub cluster: String,
    /// The authority's public key.
    pub authority: [u8; 32],
    /// The node's name.
    pub name: String,
    /// Its static secret key.
    pub secret: [u8; 32],
    /// Its certificate.
    pub certificate: Certificate,
}

impl Identity {
    /// For handshakes.
    pub fn credentials(&self, revoked: Revocations) -> Credentials {
        Credentials {
            secret: self.secret,
            certificate: Some(self.certificate.clone()),
            cluster: self.authority,
            revoked,
        }
    }

    /// Its certificate's claims.
    pub fn claims(&self) -> Option<Claims> {
        self.certificate.claims()
    }
}
