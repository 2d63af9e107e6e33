//! The layout of a state's body (see [`codec`](crate::codec) for the elements).
//!
//! ```text
//! args: list of str     environment: list of (name str, value str)
//! preopens: list of (guest path str, read-only bool, kind u8; kind 1, volume: the volume)
//! descriptors: list of (number u32, kind u8, fields)      numbers ascend
//!     0, stream:     which u8, is terminal u8 (0 no, 1 yes, 2 not asked yet)
//!     1, file:       preopen u32, node, filetype u8, flags u8 (read 1, write 2, append 4, nonblock 8), offset u64
//!     2, directory:  preopen u32, node, root bool, listing: option of list of (ino u64, filetype u8, name str)
//!     3, listener:   name str, nonblock bool
//!     4, connection: nonblock bool                        one that cannot move
//!     5, stream:     nonblock bool, identity u64          a connection that can; each identity once
//!     node: on the host (path str, deleted bool); in a volume (ino u64); the preopen says which
//! free numbers: list of u32, ascending
//! task time u64    pending poll: option of (3 arguments u32, since u64)    exit status: option of u32
//! ```

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::Ctx;
use crate::clock::Clock;
use crate::codec::{DecodeError, Reader, Writer};
use crate::ctx::PendingPoll;
use crate::descriptor::{Backing, Descriptor, Dir, File, Node, Preopen, Table};
use crate::host::{DirEntry, Stream};
use crate::paths;
use crate::types::Filetype;
use crate::volume::{ROOT, Volume};

type Result<T> = core::result::Result<T, DecodeError>;

const MAGIC: &[u8; 6] = b"WFWASI";
const VERSION: u16 = 1;

const STREAM: u8 = 0;
const FILE: u8 = 1;
const DIR: u8 = 2;
const LISTENER: u8 = 3;
const CONNECTION: u8 = 4;
/// Added without another version: a state without it is written as it always was, and a build that does not know it
/// refuses the descriptor.
const MOVABLE_CONNECTION: u8 = 5;

impl Ctx {
    /// The state as bytes. It is the same for the same state, whatever machine it is on. Call [`Ctx::pausing`] before,
    /// or the time is that of the last look at the clock and renamed files are not found again.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        w.0.extend(MAGIC);
        w.u16(VERSION);
        w.len(self.args.len());
        self.args.iter().for_each(|arg| w.str(arg));
        w.len(self.env.len());
        for (name, value) in &self.env {
            w.str(name);
            w.str(value);
        }
        w.len(self.preopens.len());
        for preopen in &self.preopens {
            w.str(&preopen.guest_path);
            w.bool(preopen.read_only);
            match &preopen.backing {
                Backing::Host(_) => w.u8(0),
                Backing::Volume(volume) => {
                    w.u8(1);
                    volume.encode(&mut w);
                }
            }
        }
        w.len(self.table.used.len());
        for (&fd, descriptor) in &self.table.used {
            w.u32(fd);
            encode_descriptor(&mut w, descriptor);
        }
        w.len(self.table.free.len());
        self.table.free.iter().for_each(|&fd| w.u32(fd));
        w.u64(self.clock.last());
        w.bool(self.pending.is_some());
        if let Some(PendingPoll { args, since }) = self.pending {
            args.into_iter().for_each(|arg| w.u32(arg));
            w.u64(since);
        }
        w.bool(self.exit.is_some());
        if let Some(status) = self.exit {
            w.u32(status);
        }
        w.0
    }

    /// Reads a state back. It is not attached to any host yet ([`Ctx::reattach`]), and its clock stands still.
    ///
    /// # Errors
    /// Refuses whatever [`Ctx::encode`] cannot have written; never panics, and allocates in proportion to `bytes`.
    pub fn decode(bytes: &[u8]) -> core::result::Result<Ctx, DecodeError> {
        let mut r = Reader(bytes);
        if !bytes.starts_with(MAGIC) {
            return Err(DecodeError::Magic);
        }
        r.take(MAGIC.len())?;
        match r.u16()? {
            VERSION => {}
            version => return Err(DecodeError::Version(version)),
        }
        let args = r.list(4, Reader::str)?;
        let env = r.list(8, |r| Ok((r.str()?, r.str()?)))?;
        let mut preopens = r.list(6, |r| {
            let (guest_path, read_only) = (r.str()?, r.bool()?);
            let backing = match r.u8()? {
                0 => Backing::Host(None),
                1 => Backing::Volume(Volume::decode(r)?),
                _ => return Err(DecodeError::Invalid("the kind of a preopen")),
            };
            Ok(Preopen { guest_path, read_only, backing })
        })?;
        let (mut used, mut streams) = (BTreeMap::new(), BTreeSet::new());
        for _ in 0..r.len(6)? {
            let fd = r.u32()?;
            if used.last_key_value().is_some_and(|(last, _)| *last >= fd) {
                return Err(DecodeError::Invalid("the order of descriptors"));
            }
            let descriptor = decode_descriptor(&mut r, &mut preopens)?;
            if let Descriptor::Connection { stream: Some(stream), .. } = descriptor
                && !streams.insert(stream)
            {
                return Err(DecodeError::Invalid("a connection with two descriptors"));
            }
            used.insert(fd, descriptor);
        }
        let mut free = BTreeSet::new();
        for fd in r.list(4, Reader::u32)? {
            if free.last().is_some_and(|last| *last >= fd) || used.contains_key(&fd) {
                return Err(DecodeError::Invalid("the free descriptor numbers"));
            }
            free.insert(fd);
        }
        for preopen in &preopens {
            if let Backing::Volume(volume) = &preopen.backing {
                volume.check()?;
            }
        }
        let clock = Clock::stopped_at(r.u64()?);
        let pending = r.option(|r| Ok(PendingPoll { args: [r.u32()?, r.u32()?, r.u32()?], since: r.u64()? }))?;
        if pending.is_some_and(|pending| pending.since > clock.last()) {
            return Err(DecodeError::Invalid("a call that began in the future"));
        }
        let exit = r.option(Reader::u32)?;
        r.finish()?;
        Ok(Ctx { args, env, preopens, table: Table { used, free, ..Table::default() }, clock, pending, exit })
    }
}

fn encode_descriptor(w: &mut Writer, descriptor: &Descriptor) {
    match descriptor {
        Descriptor::Stream { stream, terminal } => {
            w.u8(STREAM);
            w.u8(match stream {
                Stream::Stdin => 0,
                Stream::Stdout => 1,
                Stream::Stderr => 2,
            });
            w.u8(terminal.map_or(2, u8::from));
        }
        Descriptor::File(file) => {
            w.u8(FILE);
            encode_node(w, file.preopen, &file.node);
            w.u8(file.filetype as u8);
            let flags = [(file.read, 1), (file.write, 2), (file.append, 4), (file.nonblock, 8)];
            w.u8(flags.iter().map(|(set, bit)| if *set { *bit } else { 0 }).sum());
            w.u64(file.offset);
        }
        Descriptor::Dir(dir) => {
            w.u8(DIR);
            encode_node(w, dir.preopen, &dir.node);
            w.bool(dir.root);
            w.bool(dir.listing.is_some());
            if let Some(listing) = &dir.listing {
                w.len(listing.len());
                for entry in listing {
                    w.u64(entry.ino);
                    w.u8(entry.filetype as u8);
                    w.str(&entry.name);
                }
            }
        }
        Descriptor::Listener { name, nonblock, .. } => {
            w.u8(LISTENER);
            w.str(name);
            w.bool(*nonblock);
        }
        Descriptor::Connection { nonblock, stream: None, .. } => {
            w.u8(CONNECTION);
            w.bool(*nonblock);
        }
        Descriptor::Connection { nonblock, stream: Some(stream), .. } => {
            w.u8(MOVABLE_CONNECTION);
            w.bool(*nonblock);
            w.u64(*stream);
        }
    }
}

fn encode_node(w: &mut Writer, preopen: usize, node: &Node) {
    w.len(preopen);
    match node {
        Node::Host { path, deleted, .. } => {
            w.str(path);
            w.bool(*deleted);
        }
        Node::Volume(ino) => w.u64(*ino),
    }
}

fn decode_descriptor(r: &mut Reader<'_>, preopens: &mut [Preopen]) -> Result<Descriptor> {
    Ok(match r.u8()? {
        STREAM => {
            let stream = match r.u8()? {
                0 => Stream::Stdin,
                1 => Stream::Stdout,
                2 => Stream::Stderr,
                _ => return Err(DecodeError::Invalid("a standard stream")),
            };
            let terminal = match r.u8()? {
                0 => Some(false),
                1 => Some(true),
                2 => None,
                _ => return Err(DecodeError::Invalid("whether a stream is a terminal")),
            };
            Descriptor::Stream { stream, terminal }
        }
        FILE => {
            let (preopen, node, in_volume) = decode_node(r, preopens)?;
            let filetype = decode_filetype(r)?;
            if filetype == Filetype::Directory || in_volume.is_some_and(|kind| kind != filetype) {
                return Err(DecodeError::Invalid("the type of an open file"));
            }
            let flags = r.u8()?;
            if flags > 15 || flags & 3 == 0 {
                return Err(DecodeError::Invalid("the flags of an open file"));
            }
            let bit = |mask| flags & mask != 0;
            let offset = r.u64()?;
            let (read, write, append, nonblock) = (bit(1), bit(2), bit(4), bit(8));
            Descriptor::File(File { preopen, node, filetype, read, write, append, nonblock, offset })
        }
        DIR => {
            let (preopen, node, in_volume) = decode_node(r, preopens)?;
            let root = r.bool()?;
            let is_root = match &node {
                Node::Host { path, deleted, .. } => path == "." && !deleted,
                Node::Volume(ino) => *ino == ROOT,
            };
            if in_volume.is_some_and(|kind| kind != Filetype::Directory) || (root && !is_root) {
                return Err(DecodeError::Invalid("an open directory"));
            }
            let listing = r.option(|r| {
                r.list(13, |r| Ok(DirEntry { ino: r.u64()?, filetype: decode_filetype(r)?, name: r.str()? }))
            })?;
            Descriptor::Dir(Dir { preopen, node, root, listing })
        }
        LISTENER => Descriptor::Listener { name: r.str()?, handle: None, nonblock: r.bool()? },
        CONNECTION => Descriptor::Connection { handle: None, nonblock: r.bool()?, stream: None },
        MOVABLE_CONNECTION => Descriptor::Connection { handle: None, nonblock: r.bool()?, stream: Some(r.u64()?) },
        _ => return Err(DecodeError::Invalid("the kind of a descriptor")),
    })
}

fn decode_filetype(r: &mut Reader<'_>) -> Result<Filetype> {
    Filetype::from_raw(r.u8()?).ok_or(DecodeError::Invalid("a file type"))
}

/// The preopen, the node, and what the node is if it is in a volume, where it is counted as open.
fn decode_node(r: &mut Reader<'_>, preopens: &mut [Preopen]) -> Result<(usize, Node, Option<Filetype>)> {
    let index = r.u32()? as usize;
    let preopen = preopens.get_mut(index).ok_or(DecodeError::Invalid("the preopen of a descriptor"))?;
    match &mut preopen.backing {
        Backing::Host(_) => {
            let (path, deleted) = (r.str()?, r.bool()?);
            paths::check_recorded(&path).map_err(|_| DecodeError::Invalid("the path of a descriptor"))?;
            Ok((index, Node::Host { handle: None, path, deleted }, None))
        }
        Backing::Volume(volume) => {
            let ino = r.u64()?;
            let kind = volume.filetype(ino).map_err(|_| DecodeError::Invalid("the inode of a descriptor"))?;
            volume.retain(ino);
            Ok((index, Node::Volume(ino), Some(kind)))
        }
    }
}
