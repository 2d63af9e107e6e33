//! Tying a task's descriptors to the host it is on: attaching after a start or a move, detaching before one, and
//! saying what cannot move while that is still only a refusal.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::descriptor::{Backing, Descriptor, Node};
use crate::host::{Host, OpenOptions, Stream};
use crate::types::{Filetype, rights};
use crate::{Ctx, Errno};

/// What a descriptor is, for a reader of a captured task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DescriptorKind {
    /// A standard stream.
    Stream(Stream),
    /// A file of a host directory.
    HostFile,
    /// A host directory.
    HostDirectory,
    /// A file of a volume.
    VolumeFile,
    /// A directory of a volume.
    VolumeDirectory,
    /// A listening socket.
    Listener,
    /// An accepted connection.
    Connection,
}

/// One open descriptor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DescriptorInfo {
    /// The number the guest knows it by.
    pub fd: u32,
    /// What it is.
    pub kind: DescriptorKind,
    /// The guest's path of the preopened directory, with the path beneath it; the name of a listener; else empty.
    pub path: String,
    /// The file offset, for files.
    pub offset: Option<u64>,
    /// The rights `fd_fdstat_get` reports ([`types::rights`](crate::types::rights)).
    pub rights: u64,
    /// The identity of a connection that can move, by which the next host finds it.
    pub stream: Option<u64>,
    /// Whether the host's side is there ([`Ctx::reattach`]); always so for streams and volumes.
    pub attached: bool,
}

/// Something that keeps a task from being captured and moved without loss.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Obstacle {
    /// A file or directory of a host directory that was removed while open; only this host still has it.
    Deleted {
        /// The descriptor.
        fd: u32,
        /// The guest path it had last.
        path: String,
    },
    /// An open connection whose peer is connected to this host itself, not to an ingress.
    Connection {
        /// The descriptor.
        fd: u32,
    },
}

impl core::fmt::Display for Obstacle {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Deleted { fd, path } => {
                write!(f, "descriptor {fd}: {path} was removed while it was open")
            }
            Self::Connection { fd } => write!(f, "descriptor {fd}: an open connection cannot leave its host"),
        }
    }
}

/// One thing [`Ctx::reattach`] could not open.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Unattached {
    /// The host offers no such directory.
    Directory {
        /// The path under which the guest knows it.
        guest_path: String,
        /// What the host said.
        errno: Errno,
    },
    /// The host has published no such listening socket.
    Listener {
        /// The descriptor.
        fd: u32,
        /// Its name.
        name: String,
        /// What the host said.
        errno: Errno,
    },
    /// The open file or directory is not there, or not to be opened in the way it was open.
    File {
        /// The descriptor.
        fd: u32,
        /// Its guest path.
        path: String,
        /// What the host said; `notdir` or `isdir` if something of another kind has taken its name.
        errno: Errno,
    },
    /// The file was already removed when the task was captured.
    Deleted {
        /// The descriptor.
        fd: u32,
        /// The guest path it had last.
        path: String,
    },
    /// A connection without an identity, which exists on its own host only.
    Connection {
        /// The descriptor.
        fd: u32,
    },
    /// A connection that can move, but this host does not have it.
    Stream {
        /// The descriptor.
        fd: u32,
        /// Its identity.
        stream: u64,
        /// What the host said.
        errno: Errno,
    },
}

impl core::fmt::Display for Unattached {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Directory { guest_path, errno: Errno::Noent } => {
                write!(f, "no directory is given for {guest_path} (--dir HOST_PATH::{guest_path})")
            }
            Self::Directory { guest_path, errno: Errno::Rofs } => {
                write!(f, "the directory given for {guest_path} is for reading only, and the task may write to it")
            }
            Self::Directory { guest_path, errno } => {
                write!(f, "the directory given for {guest_path} cannot be opened: {errno}")
            }
            Self::Listener { fd, name, errno } => {
                write!(f, "descriptor {fd}: no listening socket {name}: {errno}")
            }
            Self::File { fd, path, errno } => {
                write!(f, "descriptor {fd}: {path} cannot be reopened: {errno}")
            }
            Self::Deleted { fd, path } => {
                write!(f, "descriptor {fd}: {path} was removed while it was open")
            }
            Self::Connection { fd } => write!(f, "descriptor {fd}: an open connection cannot move to another host"),
            Self::Stream { fd, stream, errno } => {
                write!(f, "descriptor {fd}: the connection {stream:#x} cannot be attached: {errno}")
            }
        }
    }
}

/// Everything that [`Ctx::reattach`] could not open, never empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReattachError(pub Vec<Unattached>);

impl core::fmt::Display for ReattachError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for (i, one) in self.0.iter().enumerate() {
            write!(f, "{}{one}", if i == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl core::error::Error for ReattachError {}

impl Ctx {
    /// Opens on `host` whatever this state names and has no handle for: preopened directories, open files (by path,
    /// without creating or cutting them; offsets are part of the state), listeners, connections that have an identity.
    /// Call it before the first call of a new task and after [`Ctx::decode`]. It changes nothing the guest can see, and may be repeated.
    ///
    /// # Errors
    /// Lists all that is missing, not the first only. What could be opened stays open; drop the `Ctx` and the host.
    pub fn reattach(&mut self, host: &mut dyn Host) -> Result<(), ReattachError> {
        let mut missing = Vec::new();
        for preopen in &mut self.preopens {
            if let Backing::Host(handle @ None) = &mut preopen.backing {
                match host.preopen(&preopen.guest_path, !preopen.read_only) {
                    Ok(opened) => *handle = Some(opened),
                    Err(errno) => {
                        missing.push(Unattached::Directory { guest_path: preopen.guest_path.clone(), errno });
                    }
                }
            }
        }
        for (&fd, descriptor) in &mut self.table.used {
            match descriptor {
                Descriptor::Stream { .. } => {}
                Descriptor::Connection { handle: Some(_), .. } => {}
                Descriptor::Connection { stream: None, .. } => missing.push(Unattached::Connection { fd }),
                Descriptor::Connection { handle, stream: Some(stream), .. } => match host.attach_stream(*stream) {
                    Ok(attached) => *handle = Some(attached),
                    Err(errno) => missing.push(Unattached::Stream { fd, stream: *stream, errno }),
                },
                Descriptor::Listener { name, handle, .. } => {
                    if handle.is_none() {
                        match host.listener(name) {
                            Ok(opened) => *handle = Some(opened),
                            Err(errno) => missing.push(Unattached::Listener { fd, name: name.clone(), errno }),
                        }
                    }
                }
                Descriptor::File(file) => {
                    let Node::Host { handle: handle @ None, path, deleted } = &mut file.node else {
                        continue;
                    };
                    let preopen = &self.preopens[file.preopen];
                    let guest_path = display_path(&preopen.guest_path, path);
                    if *deleted {
                        missing.push(Unattached::Deleted { fd, path: guest_path });
                        continue;
                    }
                    // A missing directory is listed once, not again for each file in it.
                    let Backing::Host(Some(dir)) = preopen.backing else {
                        continue;
                    };
                    let options =
                        OpenOptions { read: file.read, write: file.write, follow: true, ..OpenOptions::default() };
                    match host.open_at(dir, path, options) {
                        Ok((opened, Filetype::Directory)) => {
                            host.close(opened);
                            missing.push(Unattached::File { fd, path: guest_path, errno: Errno::Isdir });
                        }
                        Ok((opened, _)) => *handle = Some(opened),
                        Err(errno) => missing.push(Unattached::File { fd, path: guest_path, errno }),
                    }
                }
                Descriptor::Dir(dir) => {
                    let Node::Host { handle: handle @ None, path, deleted } = &mut dir.node else {
                        continue;
                    };
                    let preopen = &self.preopens[dir.preopen];
                    let guest_path = display_path(&preopen.guest_path, path);
                    let Backing::Host(Some(base)) = preopen.backing else {
                        continue;
                    };
                    if dir.root {
                        *handle = Some(base);
                        continue;
                    }
                    if *deleted {
                        missing.push(Unattached::Deleted { fd, path: guest_path });
                        continue;
                    }
                    let options = OpenOptions { read: true, follow: true, ..OpenOptions::default() };
                    match host.open_at(base, path, options) {
                        Ok((opened, Filetype::Directory)) => *handle = Some(opened),
                        Ok((opened, _)) => {
                            host.close(opened);
                            missing.push(Unattached::File { fd, path: guest_path, errno: Errno::Notdir });
                        }
                        Err(errno) => missing.push(Unattached::File { fd, path: guest_path, errno }),
                    }
                }
            }
        }
        if missing.is_empty() { Ok(()) } else { Err(ReattachError(missing)) }
    }

    /// Call before [`Ctx::encode`], when the task has stopped: stops its clock and asks the host where the open files
    /// are now, since they may have been renamed or removed, by the guest or by others. Look at [`Ctx::obstacles`]
    /// next. After it either [`Ctx::resumed`] makes the task go on here, or its copy goes on elsewhere.
    pub fn pausing(&mut self, host: &mut dyn Host) {
        self.clock.stop(host);
        for descriptor in self.table.used.values_mut() {
            let (preopen, node) = match descriptor {
                Descriptor::File(file) => (file.preopen, &mut file.node),
                Descriptor::Dir(dir) if !dir.root => (dir.preopen, &mut dir.node),
                _ => continue,
            };
            let Backing::Host(Some(base)) = self.preopens[preopen].backing else {
                continue;
            };
            let Node::Host { handle: Some(handle), path, deleted } = node else {
                continue;
            };
            match host.path_of(base, *handle) {
                Ok(Some(now)) => (*path, *deleted) = (now, false),
                Ok(None) => {}
                Err(_) => *deleted = true,
            }
        }
    }

    /// Starts the task's clock again, on this host or on another, from where [`Ctx::pausing`] stopped it.
    pub fn resumed(&mut self, host: &mut dyn Host) {
        self.clock.start(host);
    }

    /// What would make a move fail, as known since [`Ctx::pausing`]. A task with obstacles can still be encoded, and
    /// be resumed on the same host once they are gone.
    pub fn obstacles(&self) -> Vec<Obstacle> {
        let mut found = Vec::new();
        for (&fd, descriptor) in &self.table.used {
            let (preopen, node) = match descriptor {
                Descriptor::Connection { stream: None, .. } => {
                    found.push(Obstacle::Connection { fd });
                    continue;
                }
                Descriptor::File(file) => (file.preopen, &file.node),
                Descriptor::Dir(dir) => (dir.preopen, &dir.node),
                _ => continue,
            };
            if let Node::Host { path, deleted: true, .. } = node {
                found.push(Obstacle::Deleted { fd, path: display_path(&self.preopens[preopen].guest_path, path) });
            }
        }
        found
    }

    /// The open descriptors in the order of their numbers.
    pub fn describe(&self) -> Vec<DescriptorInfo> {
        let mut all = Vec::new();
        for (&fd, descriptor) in &self.table.used {
            let mut info = DescriptorInfo {
                fd,
                kind: DescriptorKind::Connection,
                path: String::new(),
                offset: None,
                rights: descriptor.rights().0,
                stream: None,
                attached: true,
            };
            match descriptor {
                Descriptor::Stream { stream, .. } => info.kind = DescriptorKind::Stream(*stream),
                Descriptor::Connection { handle, stream, .. } => {
                    info.kind = DescriptorKind::Connection;
                    info.stream = *stream;
                    info.attached = handle.is_some();
                }
                Descriptor::Listener { name, handle, .. } => {
                    info.kind = DescriptorKind::Listener;
                    info.path.clone_from(name);
                    info.attached = handle.is_some();
                }
                Descriptor::File(file) => {
                    info.offset = Some(file.offset);
                    (info.kind, info.path, info.attached) = self.describe_node(
                        file.preopen,
                        &file.node,
                        DescriptorKind::HostFile,
                        DescriptorKind::VolumeFile,
                    );
                }
                Descriptor::Dir(dir) => {
                    (info.kind, info.path, info.attached) = self.describe_node(
                        dir.preopen,
                        &dir.node,
                        DescriptorKind::HostDirectory,
                        DescriptorKind::VolumeDirectory,
                    );
                }
            }
            all.push(info);
        }
        all
    }

    fn describe_node(
        &self,
        preopen: usize,
        node: &Node,
        on_host: DescriptorKind,
        in_volume: DescriptorKind,
    ) -> (DescriptorKind, String, bool) {
        let preopen = &self.preopens[preopen];
        match (node, &preopen.backing) {
            (Node::Host { handle, path, .. }, _) => {
                (on_host, display_path(&preopen.guest_path, path), handle.is_some())
            }
            (Node::Volume(ino), Backing::Volume(volume)) => {
                let path = match volume.path_of(*ino) {
                    Some(path) => display_path(&preopen.guest_path, &path),
                    None => format!("{} (removed)", preopen.guest_path),
                };
                (in_volume, path, true)
            }
            (Node::Volume(_), Backing::Host(_)) => (in_volume, preopen.guest_path.clone(), true),
        }
    }

    /// The volumes with the guest paths they are offered as, to be stored when the task has ended.
    pub fn volumes(&self) -> impl Iterator<Item = (&str, &crate::Volume)> {
        self.preopens.iter().filter_map(|preopen| match &preopen.backing {
            Backing::Volume(volume) => Some((preopen.guest_path.as_str(), volume)),
            Backing::Host(_) => None,
        })
    }
}

impl Descriptor {
    /// The rights a descriptor reports, for itself and for what is opened through it.
    pub(crate) fn rights(&self) -> (u64, u64) {
        match self {
            Self::Stream { stream: Stream::Stdin, .. } => (rights::FD_READ, rights::FD_READ),
            Self::Stream { .. } => (rights::FD_WRITE, rights::FD_WRITE),
            Self::Listener { .. } | Self::Connection { .. } => (rights::SOCKET, 0),
            Self::Dir(dir) if dir.root => (rights::PREOPEN_BASE, rights::PREOPEN_INHERITING),
            Self::Dir(_) => {
                let all = rights::ALL
                    & !(rights::FD_SEEK
                        | rights::FD_FILESTAT_SET_SIZE
                        | rights::PATH_FILESTAT_SET_SIZE
                        | rights::FD_WRITE);
                (all, all)
            }
            Self::File(file) => {
                let mut all = rights::ALL;
                if !file.read {
                    all &= !(rights::FD_READ | rights::FD_READDIR);
                }
                if !file.write {
                    all &= !rights::FD_WRITE;
                }
                (all, all)
            }
        }
    }
}

/// A path beneath a preopen as the guest would write it.
fn display_path(guest_path: &str, path: &str) -> String {
    match path {
        "." => guest_path.to_string(),
        _ if guest_path.ends_with('/') => format!("{guest_path}{path}"),
        _ => format!("{guest_path}/{path}"),
    }
}
