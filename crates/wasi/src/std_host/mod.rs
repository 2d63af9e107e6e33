//! Linux as a [`Host`]: what `wayfare` runs tasks on.
//!
//! Inherited descriptors are never switched to non-blocking mode, since that would change them for every process that
//! shares them: they are polled first, then read or written in portions that a ready descriptor takes. Directories
//! are resolved by the kernel (`openat2`, beneath) or, where it cannot, by the walk in `paths`.

mod beneath;
mod errors;
mod files;
mod network;
mod paths_of;
mod sockets;
mod streams;
mod wait;

use std::boxed::Box;
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::string::String;
use std::vec::Vec;

use rustix::fs::{Mode, OFlags};
use rustix::time::ClockId;

pub use network::Network;
pub use streams::StreamSource;
pub use wait::Canceller;

use crate::Errno;
use crate::host::{
    Advice, DirEntry, FileStat, Handle, Host, Interest, NewTime, OpenOptions, Shutdown, Source, Stream, Wait, Woken,
};
use crate::types::Filetype;
use beneath::Beneath;
use errors::errno;
use network::{Plugged, Socket};

type Result<T> = core::result::Result<T, Errno>;

/// Host directories, the process's streams and clocks, and sockets. Dropping it closes all that it has opened.
#[derive(Debug)]
pub struct StdHost {
    /// By guest path: where it is, and whether for reading only.
    dirs: BTreeMap<String, (PathBuf, bool)>,
    listeners: BTreeMap<String, TcpListener>,
    streams: [StreamSource; 3],
    network: Option<Plugged>,
    open: BTreeMap<u64, OwnedFd>,
    /// The handles of what belongs to the network; their numbers are not those of `open`.
    sockets: BTreeMap<u64, Socket>,
    next: u64,
    canceller: Canceller,
    beneath: Beneath,
}

impl StdHost {
    /// A host that offers the process's own standard streams, and no directory.
    ///
    /// # Errors
    /// If the kernel gives no event descriptor.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            dirs: BTreeMap::new(),
            listeners: BTreeMap::new(),
            streams: [StreamSource::Inherit, StreamSource::Inherit, StreamSource::Inherit],
            network: None,
            open: BTreeMap::new(),
            sockets: BTreeMap::new(),
            next: 0,
            canceller: Canceller::new()?,
            beneath: Beneath::default(),
        })
    }

    /// Offers the directory `host` as `guest` (`--dir host::guest`). It is opened when a task is attached; one that
    /// may write is refused if it is `read_only` here.
    #[must_use]
    pub fn dir(mut self, guest: impl Into<String>, host: impl Into<PathBuf>, read_only: bool) -> Self {
        self.dirs.insert(guest.into(), (host.into(), read_only));
        self
    }

    /// Publishes a listening socket as `name`. It is handed out once.
    #[must_use]
    pub fn publish(mut self, name: impl Into<String>, listener: TcpListener) -> Self {
        self.listeners.insert(name.into(), listener);
        self
    }

    /// Gives the task listeners and connections that are not this process's sockets, and so can move with it. A
    /// listener that [`StdHost::publish`] knows comes before one of the same name here.
    #[must_use]
    pub fn network(mut self, network: Box<dyn Network + Send>) -> Self {
        self.network = Some(Plugged(network));
        self
    }

    /// Replaces a standard stream.
    #[must_use]
    pub fn stream(mut self, stream: Stream, source: StreamSource) -> Self {
        self.streams[stream as usize] = source;
        self
    }

    /// Something that ends a wait of this host, from any thread.
    pub fn canceller(&self) -> Canceller {
        self.canceller.clone()
    }

    fn fd(&self, handle: Handle) -> Result<BorrowedFd<'_>> {
        self.open.get(&handle.0).map(AsFd::as_fd).ok_or(Errno::Badf)
    }

    fn keep(&mut self, fd: OwnedFd) -> Handle {
        self.next += 1;
        self.open.insert(self.next, fd);
        Handle(self.next)
    }
}

fn nanoseconds(time: rustix::time::Timespec) -> u64 {
    let (sec, nsec) = (u64::try_from(time.tv_sec).unwrap_or(0), u64::try_from(time.tv_nsec).unwrap_or(0));
    sec.saturating_mul(1_000_000_000).saturating_add(nsec)
}

impl Host for StdHost {
    fn realtime(&mut self) -> u64 {
        nanoseconds(rustix::time::clock_gettime(ClockId::Realtime))
    }

    fn monotonic(&mut self) -> u64 {
        nanoseconds(rustix::time::clock_gettime(ClockId::Monotonic))
    }

    fn realtime_resolution(&mut self) -> u64 {
        nanoseconds(rustix::time::clock_getres(ClockId::Realtime))
    }

    fn monotonic_resolution(&mut self) -> u64 {
        nanoseconds(rustix::time::clock_getres(ClockId::Monotonic))
    }

    fn entropy(&mut self, buf: &mut [u8]) -> Result<()> {
        let mut done = 0;
        while done < buf.len() {
            match rustix::rand::getrandom(&mut buf[done..], rustix::rand::GetRandomFlags::empty()) {
                Ok(got) => done += got,
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(errno(e)),
            }
        }
        Ok(())
    }

    fn is_terminal(&mut self, stream: Stream) -> bool {
        self.streams[stream as usize].is_terminal(stream)
    }

    fn stdin_read(&mut self, buf: &mut [u8]) -> Result<usize> {
        self.streams[Stream::Stdin as usize].read(buf)
    }

    fn stream_write(&mut self, stream: Stream, bytes: &[u8]) -> Result<usize> {
        self.streams[stream as usize].write(stream, bytes)
    }

    fn is_ready(&mut self, source: Source, interest: Interest) -> bool {
        self.source_is_ready(source, interest)
    }

    fn wait(&mut self, wait: &Wait) -> Woken {
        self.wait_for(wait)
    }

    fn preopen(&mut self, guest_path: &str, writable: bool) -> Result<Handle> {
        let (path, read_only) = self.dirs.get(guest_path).ok_or(Errno::Noent)?;
        if writable && *read_only {
            return Err(Errno::Rofs);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(errno)?;
        Ok(self.keep(fd))
    }

    fn open_at(&mut self, dir: Handle, path: &str, options: OpenOptions) -> Result<(Handle, Filetype)> {
        let (fd, filetype) = files::open_at(self.beneath, self.fd(dir)?, path, options)?;
        Ok((self.keep(fd), filetype))
    }

    fn close(&mut self, handle: Handle) {
        self.open.remove(&handle.0);
        self.close_socket(handle);
    }

    fn path_of(&mut self, dir: Handle, handle: Handle) -> Result<Option<String>> {
        paths_of::path_of(self.beneath, self.fd(dir)?, self.fd(handle)?)
    }

    fn stat(&mut self, handle: Handle) -> Result<FileStat> {
        files::stat(self.fd(handle)?)
    }

    fn pread(&mut self, file: Handle, buf: &mut [u8], offset: u64) -> Result<usize> {
        files::retry(|| rustix::io::pread(self.fd(file)?, &mut *buf, offset).map_err(errno))
    }

    fn pwrite(&mut self, file: Handle, bytes: &[u8], offset: u64) -> Result<usize> {
        files::retry(|| rustix::io::pwrite(self.fd(file)?, bytes, offset).map_err(errno))
    }

    fn append(&mut self, file: Handle, bytes: &[u8]) -> Result<usize> {
        files::append(self.fd(file)?, bytes)
    }

    fn set_size(&mut self, file: Handle, size: u64) -> Result<()> {
        files::retry(|| rustix::fs::ftruncate(self.fd(file)?, size).map_err(errno))
    }

    fn set_times(&mut self, handle: Handle, atim: NewTime, mtim: NewTime) -> Result<()> {
        rustix::fs::futimens(self.fd(handle)?, &files::timestamps(atim, mtim)?).map_err(errno)
    }

    fn advise(&mut self, file: Handle, offset: u64, len: u64, advice: Advice) -> Result<()> {
        files::advise(self.fd(file)?, offset, len, advice)
    }

    fn sync(&mut self, file: Handle, metadata: bool) -> Result<()> {
        let fd = self.fd(file)?;
        if metadata { rustix::fs::fsync(fd) } else { rustix::fs::fdatasync(fd) }.map_err(errno)
    }

    fn read_dir(&mut self, dir: Handle) -> Result<Vec<DirEntry>> {
        files::read_dir(self.fd(dir)?)
    }

    fn stat_at(&mut self, dir: Handle, path: &str, follow: bool) -> Result<FileStat> {
        files::stat_at(self.beneath, self.fd(dir)?, path, follow)
    }

    fn set_times_at(&mut self, dir: Handle, path: &str, follow: bool, atim: NewTime, mtim: NewTime) -> Result<()> {
        files::set_times_at(self.beneath, self.fd(dir)?, path, follow, &files::timestamps(atim, mtim)?)
    }

    fn create_directory(&mut self, dir: Handle, path: &str) -> Result<()> {
        let path = crate::paths::strip_slashes(path);
        let parent = self.beneath.parent(self.fd(dir)?, path)?;
        rustix::fs::mkdirat(parent.dir(), parent.name, Mode::from_raw_mode(0o777)).map_err(errno)
    }

    fn link(&mut self, old_dir: Handle, old: &str, new_dir: Handle, new: &str) -> Result<()> {
        let old = self.beneath.parent(self.fd(old_dir)?, old)?;
        let new = self.beneath.parent(self.fd(new_dir)?, new)?;
        rustix::fs::linkat(old.dir(), old.name, new.dir(), new.name, rustix::fs::AtFlags::empty()).map_err(errno)
    }

    fn symlink(&mut self, target: &str, dir: Handle, path: &str) -> Result<()> {
        let parent = self.beneath.parent(self.fd(dir)?, path)?;
        rustix::fs::symlinkat(target, parent.dir(), parent.name).map_err(errno)
    }

    fn read_link(&mut self, dir: Handle, path: &str) -> Result<String> {
        let parent = self.beneath.parent(self.fd(dir)?, path)?;
        let target = rustix::fs::readlinkat(parent.dir(), parent.name, Vec::new()).map_err(errno)?;
        let target = target.into_string().map_err(|_| Errno::Ilseq)?;
        // An absolute one would tell the guest about the host outside its directory.
        if target.starts_with('/') { Err(Errno::Perm) } else { Ok(target) }
    }

    fn rename(&mut self, old_dir: Handle, old: &str, new_dir: Handle, new: &str) -> Result<()> {
        files::rename(self.beneath, (self.fd(old_dir)?, old), (self.fd(new_dir)?, new))
    }

    fn remove_directory(&mut self, dir: Handle, path: &str) -> Result<()> {
        let parent = self.beneath.parent(self.fd(dir)?, path)?;
        rustix::fs::unlinkat(parent.dir(), parent.name, rustix::fs::AtFlags::REMOVEDIR).map_err(errno)
    }

    fn unlink_file(&mut self, dir: Handle, path: &str) -> Result<()> {
        let parent = self.beneath.parent(self.fd(dir)?, path)?;
        rustix::fs::unlinkat(parent.dir(), parent.name, rustix::fs::AtFlags::empty()).map_err(errno)
    }

    fn listener(&mut self, name: &str) -> Result<Handle> {
        let Some(listener) = self.listeners.remove(name) else {
            return self.network_listener(name);
        };
        // The socket is this process's own, so nobody else sees the change of mode.
        listener.set_nonblocking(true).map_err(|_| Errno::Io)?;
        Ok(self.keep(listener.into()))
    }

    fn accept(&mut self, listener: Handle) -> Result<Handle> {
        if let Some(socket) = self.socket(listener) {
            return self.network_accept(socket);
        }
        let accepted = sockets::accept(self.fd(listener)?)?;
        Ok(self.keep(accepted))
    }

    fn stream_of(&mut self, socket: Handle) -> Option<u64> {
        match self.socket(socket)? {
            Socket::Stream(stream) => Some(stream),
            Socket::Listener(_) => None,
        }
    }

    fn attach_stream(&mut self, stream: u64) -> Result<Handle> {
        self.network.as_mut().ok_or(Errno::Notsup)?.0.attach(stream)?;
        Ok(self.keep_socket(Socket::Stream(stream)))
    }

    fn recv(&mut self, socket: Handle, buf: &mut [u8], peek: bool) -> Result<usize> {
        match self.connection(socket)? {
            Some((network, stream)) => network.recv(stream, buf, peek),
            None => sockets::recv(self.fd(socket)?, buf, peek),
        }
    }

    fn send(&mut self, socket: Handle, bytes: &[u8]) -> Result<usize> {
        match self.connection(socket)? {
            Some((network, stream)) => network.send(stream, bytes),
            None => sockets::send(self.fd(socket)?, bytes),
        }
    }

    fn shutdown(&mut self, socket: Handle, how: Shutdown) -> Result<()> {
        match self.connection(socket)? {
            Some((network, stream)) => network.shutdown(stream, how),
            None => sockets::shutdown(self.fd(socket)?, how),
        }
    }
}
