//! A channel between two nodes: handshake, certificates, records, and messages of bounded size in them.
//!
//! ```text
//! on the wire   | len u16 | Noise message, len bytes | ...                     (big endian, as Noise has it)
//! in records    | kind u8 | len u32 | payload | ...                            (messages may span records)
//! ```
//! Until the handshake is over a peer can make us keep [`HANDSHAKE_MAX`] bytes and do four multiplications on the
//! curve. A message is refused by its length before any of it is kept.
//!
//! Records are opened where they lie in what was read, into one buffer that stays in the cache, and each message is put
//! together in the memory that it is handed on in: at these rates a copy too many costs as much as the cipher.

use crate::error::ChannelError;
use crate::identity::{CERTIFICATE_MAX, Certificate, Claims, Revocations, UnixSeconds};
use crate::{VERSIONS, noise};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Longest Noise message.
const RECORD_MAX: usize = 65535;
/// Bytes before a record: its length.
const HEAD: usize = 2;
/// Bytes of a record that are not payload: the tag.
const TAG: usize = 16;
/// Longest message of a handshake.
pub const HANDSHAKE_MAX: usize = 1024;
/// Bytes before a message's payload.
const HEADER: usize = 5;

/// What a message is about, and how long it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The protocol of a move ([`crate::Message`]).
    Transfer = 1,
    /// Pages of memory ([`crate::pages`]).
    Pages = 2,
    /// A piece of something long ([`crate::Part`]).
    Part = 3,
    /// What agents say to each other besides.
    Node = 4,
    /// Segments of byte streams.
    Stream = 5,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        [Kind::Transfer, Kind::Pages, Kind::Part, Kind::Node, Kind::Stream].into_iter().find(|kind| *kind as u8 == byte)
    }

    /// Longest payload.
    pub const fn cap(self) -> usize {
        match self {
            Kind::Transfer => 256 << 10,
            Kind::Pages => crate::pages::BATCH_MAX,
            Kind::Part => (1 << 20) + 64,
            Kind::Node => 64 << 10,
            Kind::Stream => 80 << 10,
        }
    }
}

/// A message that arrived whole.
#[derive(Debug)]
pub struct Incoming {
    /// What it is about.
    pub kind: Kind,
    /// Its payload, not looked at.
    pub payload: Vec<u8>,
}

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A node of the cluster.
    Member(Claims),
    /// Somebody with no certificate, who may ask to join and nothing else.
    Stranger([u8; 32]),
}

/// What a node shows and checks in handshakes.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The static secret key.
    pub secret: [u8; 32],
    /// The certificate; none before the node has joined.
    pub certificate: Option<Certificate>,
    /// The authority's public key.
    pub cluster: [u8; 32],
    /// What is revoked.
    pub revoked: Revocations,
}

impl Credentials {
    /// The public key to a secret one.
    pub fn public_key(secret: &[u8; 32]) -> [u8; 32] {
        use snow::resolvers::{CryptoResolver, DefaultResolver};
        let mut key = [0; 32];
        if let Some(mut dh) = DefaultResolver.resolve_dh(&snow::params::DHChoice::Curve25519) {
            dh.set(secret);
            key.copy_from_slice(&dh.pubkey()[..32]);
        }
        key
    }
}

/// What goes along in the handshake.
#[derive(Serialize, Deserialize)]
struct Hello {
    versions: (u16, u16),
    certificate: Option<Certificate>,
}

enum State {
    Handshake(Box<snow::HandshakeState>),
    Open(Box<snow::TransportState>),
    /// After an error.
    Closed,
}

/// One end.
pub struct Channel {
    state: State,
    credentials: Credentials,
    now: UnixSeconds,
    /// A server takes those who want to join; nobody else does.
    strangers: bool,
    peer: Option<Peer>,
    version: u16,
    records: u64,
    /// A record that is not whole yet.
    inbound: Vec<u8>,
    begun: Begun,
    arrived: VecDeque<Incoming>,
    outbound: Vec<u8>,
    /// The payload of one record.
    scratch: Vec<u8>,
}

/// A message that is not whole yet.
#[derive(Default)]
struct Begun {
    head: [u8; HEADER],
    /// Bytes of the head that are there.
    known: usize,
    payload: Vec<u8>,
}

/// The first `len` bytes of a buffer that keeps its length: clearing it for every record would write it twice.
fn at_least(buffer: &mut Vec<u8>, len: usize) -> &mut [u8] {
    if buffer.len() < len {
        buffer.resize(len, 0);
    }
    &mut buffer[..len]
}

impl Channel {
    /// The end that has dialled. `seed` is 32 random bytes, used for nothing else.
    ///
    /// # Errors
    /// [`ChannelError::Handshake`] for keys that are none.
    pub fn initiate(credentials: Credentials, seed: [u8; 32], now: UnixSeconds) -> Result<Self, ChannelError> {
        let mut channel = Self::new(credentials, seed, now, true)?;
        channel.write_handshake(&[])?;
        Ok(channel)
    }

    /// The end that was dialled; `strangers` says whether somebody without a certificate may finish the handshake.
    ///
    /// # Errors
    /// [`ChannelError::Handshake`] for keys that are none.
    pub fn respond(
        credentials: Credentials,
        seed: [u8; 32],
        now: UnixSeconds,
        strangers: bool,
    ) -> Result<Self, ChannelError> {
        let mut channel = Self::new(credentials, seed, now, false)?;
        channel.strangers = strangers;
        Ok(channel)
    }

    fn new(credentials: Credentials, seed: [u8; 32], now: UnixSeconds, initiator: bool) -> Result<Self, ChannelError> {
        let failed = |_| ChannelError::Handshake;
        let builder = noise::builder(seed).and_then(|b| b.local_private_key(&credentials.secret)).map_err(failed)?;
        let state = if initiator { builder.build_initiator() } else { builder.build_responder() }.map_err(failed)?;
        Ok(Self {
            state: State::Handshake(Box::new(state)),
            credentials,
            now,
            strangers: false,
            peer: None,
            version: 0,
            records: 0,
            inbound: Vec::new(),
            begun: Begun::default(),
            arrived: VecDeque::new(),
            outbound: Vec::new(),
            scratch: Vec::new(),
        })
    }

    /// Whether messages can be sent.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_)) && self.peer.is_some()
    }

    /// Who the other side is, once it has proved that.
    pub fn peer(&self) -> Option<&Peer> {
        self.peer.as_ref()
    }

    /// The version of the protocol that both sides speak; 0 during the handshake.
    pub fn version(&self) -> u16 {
        self.version
    }

    /// Records that have come and were genuine. **Whoever closes silent channels must go by this**: a length that
    /// somebody changed makes the channel wait for bytes, and signs of life fill that up for minutes.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Takes bytes as they come from the wire.
    ///
    /// # Errors
    /// The channel is closed then, and takes and gives nothing any more.
    pub fn handle(&mut self, bytes: &[u8]) -> Result<(), ChannelError> {
        let result = self.take_records(bytes);
        if result.is_err() {
            self.state = State::Closed;
            self.inbound = Vec::new();
            self.begun = Begun::default();
        }
        result
    }

    fn take_records(&mut self, mut bytes: &[u8]) -> Result<(), ChannelError> {
        // What began earlier is completed first; what is whole is read where it lies.
        let mut record = core::mem::take(&mut self.inbound);
        while !record.is_empty() {
            let missing = self.wire_len(&record)?.unwrap_or(HEAD) - record.len();
            let (more, rest) = bytes.split_at(missing.min(bytes.len()));
            record.extend_from_slice(more);
            bytes = rest;
            if self.wire_len(&record)? == Some(record.len()) {
                self.take_record(&record[HEAD..])?;
                record.clear();
            } else if bytes.is_empty() {
                break;
            }
        }
        while let Some(len) = self.wire_len(bytes)?
            && let Some((whole, rest)) = bytes.split_at_checked(len)
        {
            self.take_record(&whole[HEAD..])?;
            bytes = rest;
        }
        record.extend_from_slice(bytes);
        self.inbound = record;
        Ok(())
    }

    /// Length on the wire of the record that begins here, as soon as its head says it.
    fn wire_len(&self, bytes: &[u8]) -> Result<Option<usize>, ChannelError> {
        let Some(&[high, low]) = bytes.first_chunk() else { return Ok(None) };
        let len = usize::from(u16::from_be_bytes([high, low]));
        let cap = if matches!(self.state, State::Open(_)) { RECORD_MAX } else { HANDSHAKE_MAX };
        if len > cap {
            return Err(ChannelError::Oversized { len: len as u64, cap: cap as u64 });
        }
        Ok(Some(HEAD + len))
    }

    fn take_record(&mut self, record: &[u8]) -> Result<(), ChannelError> {
        match &mut self.state {
            State::Handshake(_) => self.take_handshake(record)?,
            State::Open(state) => {
                let mut plain = core::mem::take(&mut self.scratch);
                let opened = state.read_message(record, at_least(&mut plain, record.len()));
                let taken = opened.map_err(|_| ChannelError::Record).and_then(|len| self.take_plain(&plain[..len]));
                self.scratch = plain;
                taken?;
            }
            State::Closed => return Err(ChannelError::Record),
        }
        self.records += 1;
        Ok(())
    }

    fn hello(&self) -> Vec<u8> {
        let hello = Hello { versions: VERSIONS, certificate: self.credentials.certificate.clone() };
        postcard::to_allocvec(&hello).unwrap_or_default()
    }

    fn write_handshake(&mut self, payload: &[u8]) -> Result<(), ChannelError> {
        let State::Handshake(state) = &mut self.state else { return Err(ChannelError::Handshake) };
        let mut buffer = vec![0; HANDSHAKE_MAX];
        let len = state.write_message(payload, &mut buffer).map_err(|_| ChannelError::Handshake)?;
        self.outbound.extend_from_slice(&(len as u16).to_be_bytes());
        self.outbound.extend_from_slice(&buffer[..len]);
        Ok(())
    }

    fn take_handshake(&mut self, record: &[u8]) -> Result<(), ChannelError> {
        let hello = self.hello();
        let State::Handshake(state) = &mut self.state else { return Err(ChannelError::Handshake) };
        let mut payload = vec![0; HANDSHAKE_MAX];
        let len = state.read_message(record, &mut payload).map_err(|_| ChannelError::Handshake)?;
        let shown = state.get_remote_static().map(<[u8]>::to_vec);
        let initiator = state.is_initiator();
        if let Some(key) = shown {
            self.meet(&payload[..len], &key)?;
        }
        if initiator || self.peer.is_none() {
            // The initiator's third message, or the responder's second.
            self.write_handshake(&hello)?;
        }
        if let State::Handshake(state) = core::mem::replace(&mut self.state, State::Closed) {
            self.state = match state.is_handshake_finished() {
                true => State::Open(Box::new(state.into_transport_mode().map_err(|_| ChannelError::Handshake)?)),
                false => State::Handshake(state),
            };
        }
        Ok(())
    }

    /// Checks what the other side says of itself.
    fn meet(&mut self, payload: &[u8], key: &[u8]) -> Result<(), ChannelError> {
        let hello: Hello = postcard::from_bytes(payload).map_err(|_| ChannelError::Handshake)?;
        let (low, high) = hello.versions;
        self.version = high.min(VERSIONS.1);
        if self.version < low.max(VERSIONS.0) {
            return Err(ChannelError::Version(low, high, VERSIONS.0, VERSIONS.1));
        }
        let credentials = &self.credentials;
        self.peer = Some(match hello.certificate {
            Some(certificate) => certificate
                .verify(&credentials.cluster, key, self.now, &credentials.revoked)
                .map(Peer::Member)
                .map_err(|e| ChannelError::Stranger(e.to_string()))?,
            None if self.strangers => Peer::Stranger(key.try_into().map_err(|_| ChannelError::Handshake)?),
            None => return Err(ChannelError::Stranger("it has no certificate".into())),
        });
        Ok(())
    }

    fn take_plain(&mut self, mut plain: &[u8]) -> Result<(), ChannelError> {
        while !plain.is_empty() {
            let begun = &mut self.begun;
            let (head, rest) = plain.split_at(plain.len().min(HEADER - begun.known));
            begun.head[begun.known..][..head.len()].copy_from_slice(head);
            begun.known += head.len();
            if begun.known < HEADER {
                return Ok(());
            }
            let [kind, len @ ..] = begun.head;
            let len = u32::from_be_bytes(len) as usize;
            let kind = Kind::from_byte(kind).ok_or(ChannelError::Malformed(kind))?;
            if begun.payload.is_empty() {
                // One who wants to join has little to say.
                let cap = if matches!(self.peer, Some(Peer::Member(_))) { kind.cap() } else { HANDSHAKE_MAX };
                if len > cap {
                    return Err(ChannelError::Oversized { len: len as u64, cap: cap as u64 });
                }
                begun.payload.reserve_exact(len);
            }
            let (more, rest) = rest.split_at(rest.len().min(len - begun.payload.len()));
            begun.payload.extend_from_slice(more);
            plain = rest;
            if begun.payload.len() == len {
                let payload = core::mem::take(&mut self.begun).payload;
                self.arrived.push_back(Incoming { kind, payload });
            }
        }
        Ok(())
    }

    /// The next message that arrived.
    pub fn poll(&mut self) -> Option<Incoming> {
        self.arrived.pop_front()
    }

    /// Sends a message. What goes out is had by [`Channel::poll_transmit`]; a driver that lets little of it pile up has
    /// back pressure.
    ///
    /// # Errors
    /// When the channel is not open, or the payload is longer than its kind may be.
    pub fn send(&mut self, kind: Kind, payload: &[u8]) -> Result<(), ChannelError> {
        if payload.len() > kind.cap() {
            return Err(ChannelError::Oversized { len: payload.len() as u64, cap: kind.cap() as u64 });
        }
        let State::Open(state) = &mut self.state else { return Err(ChannelError::Record) };
        let mut head = [kind as u8, 0, 0, 0, 0];
        head[1..].copy_from_slice(&(payload.len() as u32).to_be_bytes());
        // The first record takes the header and what of the payload fits beside it.
        let most = RECORD_MAX - TAG;
        let (first, rest) = payload.split_at(payload.len().min(most - HEADER));
        let joined = at_least(&mut self.scratch, HEADER + first.len());
        joined[..HEADER].copy_from_slice(&head);
        joined[HEADER..].copy_from_slice(first);
        self.outbound.reserve(payload.len() + (rest.len() / most + 2) * (TAG + HEAD) + HEADER);
        for plain in core::iter::once(&*joined).chain(rest.chunks(most)) {
            let at = self.outbound.len();
            let len = plain.len() + TAG;
            self.outbound.extend_from_slice(&(len as u16).to_be_bytes());
            self.outbound.resize(at + HEAD + len, 0);
            state.write_message(plain, &mut self.outbound[at + HEAD..]).map_err(|_| ChannelError::Record)?;
        }
        Ok(())
    }

    /// Bytes that wait to go out.
    pub fn backlog(&self) -> usize {
        self.outbound.len()
    }

    /// What is to go out, if anything; `buffer` comes back as the next buffer.
    pub fn poll_transmit(&mut self, buffer: &mut Vec<u8>) -> bool {
        buffer.clear();
        core::mem::swap(buffer, &mut self.outbound);
        !buffer.is_empty()
    }
}

const _: () = assert!(CERTIFICATE_MAX + 160 < HANDSHAKE_MAX);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Authority;

    fn credentials(authority: &Authority, name: &str, secret: u8) -> Credentials {
        let secret = [secret; 32];
        let claims = Claims {
            cluster: [0; 32],
            name: name.into(),
            key: Credentials::public_key(&secret),
            serial: u64::from(secret[0]),
            not_before: 0,
            not_after: 1000,
        };
        Credentials {
            secret,
            certificate: Some(authority.certify(claims)),
            cluster: authority.public(),
            revoked: Revocations::default(),
        }
    }

    fn pass(from: &mut Channel, to: &mut Channel) -> Result<(), ChannelError> {
        let mut buffer = Vec::new();
        from.poll_transmit(&mut buffer);
        to.handle(&buffer)
    }

    fn shake(a: &mut Channel, b: &mut Channel) -> Result<(), ChannelError> {
        for _ in 0..2 {
            pass(a, b)?;
            pass(b, a)?;
        }
        Ok(())
    }

    fn pair(a: Credentials, b: Credentials) -> (Channel, Channel) {
        (Channel::initiate(a, [11; 32], 500).unwrap(), Channel::respond(b, [22; 32], 500, false).unwrap())
    }

    fn member(peer: Option<&Peer>) -> &str {
        match peer {
            Some(Peer::Member(claims)) => &claims.name,
            _ => "",
        }
    }

    #[test]
    fn members_know_each_other_and_messages_of_any_length_arrive() {
        let authority = Authority::from_secret(&[9; 32]);
        let (mut a, mut b) = pair(credentials(&authority, "a", 1), credentials(&authority, "b", 2));
        shake(&mut a, &mut b).unwrap();
        assert_eq!((member(a.peer()), member(b.peer())), ("b", "a"));
        for len in [0, 1, 65513, 65514, 65515, 65535, 65536, 1 << 20] {
            let payload: Vec<u8> = (0..len).map(|i| ((i * 31) >> 3) as u8).collect();
            a.send(Kind::Part, &payload).unwrap();
            let mut wire = Vec::new();
            a.poll_transmit(&mut wire);
            // Cut anywhere.
            for piece in wire.chunks(40_000) {
                b.handle(piece).unwrap();
            }
            let got = b.poll().unwrap();
            assert!(got.kind == Kind::Part && got.payload == payload, "{len}");
            assert!(b.poll().is_none());
        }
    }

    #[test]
    fn messages_may_begin_and_end_anywhere_in_records_and_records_in_reads() {
        let authority = Authority::from_secret(&[9; 32]);
        let message = |kind: Kind, payload: &[u8]| {
            let mut bytes = vec![kind as u8];
            bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes());
            bytes.extend_from_slice(payload);
            bytes
        };
        let all = [(Kind::Node, &b"first"[..]), (Kind::Stream, b""), (Kind::Part, b"the third"), (Kind::Node, b"")];
        let plain: Vec<u8> = all.iter().flat_map(|(kind, payload)| message(*kind, payload)).collect();
        for (record, read) in (1..=plain.len()).flat_map(|record| [(record, 1), (record, 3), (record, 1000)]) {
            let (mut a, mut b) = pair(credentials(&authority, "a", 1), credentials(&authority, "b", 2));
            shake(&mut a, &mut b).unwrap();
            let State::Open(state) = &mut a.state else { panic!("not open") };
            let mut wire = Vec::new();
            for piece in plain.chunks(record) {
                wire.extend_from_slice(&((piece.len() + TAG) as u16).to_be_bytes());
                let at = wire.len();
                wire.resize(at + piece.len() + TAG, 0);
                state.write_message(piece, &mut wire[at..]).unwrap();
            }
            wire.chunks(read).for_each(|bytes| b.handle(bytes).unwrap());
            for (kind, payload) in all {
                let got = b.poll().unwrap();
                assert_eq!((got.kind, &got.payload[..]), (kind, payload), "{record} {read}");
            }
            assert!(b.poll().is_none());
        }
    }

    #[test]
    fn strangers_expired_and_revoked_members_get_nothing() {
        let (ours, theirs) = (Authority::from_secret(&[9; 32]), Authority::from_secret(&[8; 32]));
        let good = || credentials(&ours, "b", 2);
        let refused = |bad: Credentials, now| {
            let mut a = Channel::initiate(bad, [11; 32], 500).unwrap();
            let mut b = Channel::respond(good(), [22; 32], now, false).unwrap();
            let result = shake(&mut a, &mut b);
            assert!(!b.is_open() && b.send(Kind::Node, b"x").is_err());
            matches!(result, Err(ChannelError::Stranger(_)))
        };
        assert!(refused(credentials(&theirs, "a", 1), 500), "another cluster");
        assert!(refused(Credentials { cluster: ours.public(), ..credentials(&theirs, "a", 1) }, 500), "a forger");
        assert!(refused(credentials(&ours, "a", 1), 1000), "expired");
        assert!(refused(Credentials { certificate: None, ..credentials(&ours, "a", 1) }, 500), "none");
        // A certificate of somebody else.
        let stolen = Credentials { secret: [3; 32], ..credentials(&ours, "a", 1) };
        assert!(refused(stolen, 500), "stolen");
        let mut b = good();
        b.revoked.merge(ours.revoke(vec![1]), &ours.public());
        let (mut a, mut b) = pair(credentials(&ours, "a", 1), b);
        assert!(matches!(shake(&mut a, &mut b), Err(ChannelError::Stranger(_))), "revoked");
    }

    #[test]
    fn one_who_wants_to_join_can_say_little() {
        let authority = Authority::from_secret(&[9; 32]);
        let stranger = Credentials { certificate: None, ..credentials(&authority, "a", 1) };
        let mut a = Channel::initiate(stranger, [11; 32], 500).unwrap();
        let mut b = Channel::respond(credentials(&authority, "b", 2), [22; 32], 500, true).unwrap();
        shake(&mut a, &mut b).unwrap();
        assert_eq!(b.peer(), Some(&Peer::Stranger(Credentials::public_key(&[1; 32]))));
        a.send(Kind::Node, &[0; 100]).unwrap();
        pass(&mut a, &mut b).unwrap();
        assert!(b.poll().is_some());
        a.send(Kind::Pages, &[0; 2000]).unwrap();
        assert!(matches!(pass(&mut a, &mut b), Err(ChannelError::Oversized { len: 2000, .. })));
    }

    #[test]
    fn any_changed_byte_closes_the_channel() {
        let authority = Authority::from_secret(&[9; 32]);
        let open = || {
            let (mut a, mut b) = pair(credentials(&authority, "a", 1), credentials(&authority, "b", 2));
            shake(&mut a, &mut b).unwrap();
            a.send(Kind::Node, b"some message").unwrap();
            let mut wire = Vec::new();
            a.poll_transmit(&mut wire);
            (a, b, wire)
        };
        let (.., wire) = open();
        for at in 0..wire.len() {
            let (_, mut b, mut wire) = open();
            wire[at] ^= 1;
            let result = b.handle(&wire);
            // A longer length leaves it waiting for bytes that never come.
            assert!(b.poll().is_none() && (result.is_err() || at < 2), "byte {at}");
        }
        let (_, mut b, wire) = open();
        b.handle(&wire).unwrap();
        assert_eq!(b.handle(&wire), Err(ChannelError::Record), "replayed");
        assert!(b.handle(&[]).is_ok() && !b.is_open());
    }

    #[test]
    fn the_wire_shows_no_plaintext() {
        let authority = Authority::from_secret(&[9; 32]);
        let (mut a, mut b) = pair(credentials(&authority, "nodename", 1), credentials(&authority, "othername", 2));
        let mut wire = Vec::new();
        let mut all = Vec::new();
        for _ in 0..2 {
            for (from, to) in [(true, false), (false, true)] {
                let _ = to;
                let (x, y) = if from { (&mut a, &mut b) } else { (&mut b, &mut a) };
                x.poll_transmit(&mut wire);
                all.extend_from_slice(&wire);
                y.handle(&wire).unwrap();
            }
        }
        a.send(Kind::Node, b"topsecret").unwrap();
        a.poll_transmit(&mut wire);
        all.extend_from_slice(&wire);
        for secret in [&b"nodename"[..], b"othername", b"topsecret"] {
            assert!(!all.windows(secret.len()).any(|w| w == secret));
        }
    }
}
