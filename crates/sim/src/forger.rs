//! A peer that can shake hands and keeps to nothing else: it is of another version, or says what no channel would send.

use serde::Serialize;
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use std::io::{self, Read, Write};
use wayfare_transfer::channel::Credentials;
use wayfare_transfer::identity::Certificate;

/// As `wayfare-transfer` has them; written out again, since a peer of another version has its own, too.
const PATTERN: &str = "Noise_XX_25519_ChaChaPoly_SHA256";
const PROLOGUE: &[u8] = b"wayfare";
/// Longest Noise message.
const RECORD_MAX: usize = 65535;

#[derive(Serialize)]
struct Hello<'c> {
    versions: (u16, u16),
    certificate: &'c Option<Certificate>,
}

/// The open channel, from its dark side.
pub struct Forger<S> {
    stream: S,
    noise: snow::TransportState,
}

impl<S: Read + Write> Forger<S> {
    /// Shakes hands over `stream`, with a member's credentials and other versions; as the one who has dialled or was
    /// dialled. `seed` is 32 bytes for its keys.
    ///
    /// # Errors
    /// When the other side does not go along, or the stream ends.
    pub fn shake(
        mut stream: S,
        dialled: bool,
        credentials: &Credentials,
        versions: (u16, u16),
        seed: [u8; 32],
    ) -> io::Result<Self> {
        let hello = Hello { versions, certificate: &credentials.certificate };
        let hello = postcard::to_allocvec(&hello).map_err(io::Error::other)?;
        let builder = snow::Builder::with_resolver(PATTERN.parse().map_err(io::Error::other)?, Box::new(Seeded(seed)));
        let builder = builder.prologue(PROLOGUE).and_then(|b| b.local_private_key(&credentials.secret));
        let made = builder.and_then(|b| if dialled { b.build_initiator() } else { b.build_responder() });
        let mut state = made.map_err(io::Error::other)?;
        let mut buffer = vec![0; RECORD_MAX];
        while !state.is_handshake_finished() {
            if state.is_my_turn() {
                let payload: &[u8] = if dialled && state.get_remote_static().is_none() { &[] } else { &hello };
                let len = state.write_message(payload, &mut buffer).map_err(io::Error::other)?;
                write(&mut stream, &buffer[..len])?;
            } else {
                let record = read(&mut stream)?;
                state.read_message(&record, &mut buffer).map_err(io::Error::other)?;
            }
        }
        Ok(Self { stream, noise: state.into_transport_mode().map_err(io::Error::other)? })
    }

    /// Sends bytes in a record, whatever they mean.
    ///
    /// # Errors
    /// When the stream takes nothing.
    pub fn say(&mut self, plain: &[u8]) -> io::Result<()> {
        let mut record = vec![0; RECORD_MAX];
        let len = self.noise.write_message(plain, &mut record).map_err(io::Error::other)?;
        write(&mut self.stream, &record[..len])
    }

    /// Waits for the end of the stream, or for a record; tells whether it was one.
    pub fn hears(&mut self) -> bool {
        read(&mut self.stream).is_ok()
    }
}

fn write(to: &mut impl Write, record: &[u8]) -> io::Result<()> {
    to.write_all(&[&(record.len() as u16).to_be_bytes(), record].concat())
}

fn read(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut len = [0; 2];
    from.read_exact(&mut len)?;
    let mut record = vec![0; usize::from(u16::from_be_bytes(len))];
    from.read_exact(&mut record)?;
    Ok(record)
}

/// Randomness out of a seed, the rest as usual.
struct Seeded([u8; 32]);

impl CryptoResolver for Seeded {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Stream(blake3::Hasher::new_keyed(&self.0).finalize_xof())))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

struct Stream(blake3::OutputReader);

impl Random for Stream {
    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), snow::Error> {
        self.0.fill(to);
        Ok(())
    }
}
