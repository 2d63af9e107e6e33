//! What this crate asks of the machine it runs on. Everything a task can observe of its host passes through
//! [`Host`], so that a fake one makes tests deterministic and a bare board supplies only what it has:
//! the methods for directories and sockets answer `notsup` unless they are overridden.

use alloc::string::String;
use alloc::vec::Vec;

use crate::Errno;
use crate::types::Filetype;

/// A file, directory or socket open on the host. Means nothing elsewhere, so it is never serialised.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Handle(pub u64);

/// One of the three standard streams.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Stream {
    /// Standard input.
    Stdin,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Something whose readiness can be waited for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Source {
    /// A standard stream.
    Stream(Stream),
    /// A socket, by its host handle.
    Socket(Handle),
}

/// The direction a wait is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Interest {
    /// Bytes, a connection, or the end of the stream can be had without blocking.
    Read,
    /// At least one byte can be written without blocking.
    Write,
}

/// What a blocked call waits for. It ends as soon as one source is ready or the deadline has passed.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Wait {
    /// The latest moment to wake up, in nanoseconds of **this host's** monotonic clock
    /// ([`Host::monotonic`]). A `Wait` belongs to the host it was made on: after a move the call is
    /// issued again and makes its own.
    pub deadline: Option<u64>,
    /// The sources, each with the direction of interest.
    pub sources: Vec<(Source, Interest)>,
}

/// Why [`Host::wait`] returned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Woken {
    /// A source is ready, or may be: issue the call again.
    Ready,
    /// The deadline has passed: issue the call again.
    TimedOut,
    /// Somebody wants the task's attention (a capture, say). Nothing is lost by not issuing the call again here.
    Cancelled,
}

/// How [`Host::open_at`] opens. The access mode is what the operating system is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct OpenOptions {
    /// Open for reading.
    pub read: bool,
    /// Open for writing.
    pub write: bool,
    /// Create the file if it is missing (needs `write`).
    pub create: bool,
    /// With `create`: fail if the name exists.
    pub exclusive: bool,
    /// Cut the file to length 0 (needs `write`).
    pub truncate: bool,
    /// Follow a symbolic link in the last component; without it such a link fails with `loop`.
    pub follow: bool,
}

/// The attributes of a file, host or volume. Times are nanoseconds since the Unix epoch; 0 where unknown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileStat {
    /// A number that tells this file from every other one the host offers (device and inode mixed).
    pub ino: u64,
    /// What kind of file it is.
    pub filetype: Filetype,
    /// Number of hard links.
    pub nlink: u64,
    /// Size in bytes.
    pub size: u64,
    /// Last access.
    pub atim: u64,
    /// Last modification of the data.
    pub mtim: u64,
    /// Creation, which the oracle reports in the place of the status change.
    pub ctim: u64,
}

/// One name in a directory, without `.` and `..`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirEntry {
    /// The file's identity, as [`FileStat::ino`].
    pub ino: u64,
    /// The file's kind.
    pub filetype: Filetype,
    /// The name.
    pub name: String,
}

/// A change to one timestamp.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NewTime {
    /// Leave it.
    Keep,
    /// Set it to the host's real time.
    Now,
    /// Set it to this many nanoseconds since the Unix epoch.
    At(u64),
}

/// An access pattern hint of `fd_advise`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Advice {
    /// No advice.
    Normal,
    /// From low to high offsets.
    Sequential,
    /// In no order.
    Random,
    /// Soon.
    WillNeed,
    /// Not soon.
    DontNeed,
    /// Once.
    NoReuse,
}

/// The sides of a connection that [`Host::shutdown`] closes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shutdown {
    /// No more reading.
    pub read: bool,
    /// No more writing.
    pub write: bool,
}

type Result<T> = core::result::Result<T, Errno>;

/// The machine below a task.
///
/// Rules for implementors: no call may block for long, except `wait` and file operations that the operating
/// system cannot make non-blocking; [`Errno::Again`] says that a stream or socket is not ready. Paths are never
/// trusted: every `path` must be resolved *beneath* its directory, and one that leads out of it by `..`, by an
/// absolute path or by a symbolic link is refused with [`Errno::Perm`].
pub trait Host {
    /// Nanoseconds since the Unix epoch.
    fn realtime(&mut self) -> u64;
    /// Nanoseconds of a clock that never goes back, from any origin.
    fn monotonic(&mut self) -> u64;
    /// Resolution of [`Host::realtime`] in nanoseconds.
    fn realtime_resolution(&mut self) -> u64 {
        1
    }
    /// Resolution of [`Host::monotonic`] in nanoseconds.
    fn monotonic_resolution(&mut self) -> u64 {
        1
    }
    /// Fills `buf` with cryptographically secure random bytes.
    fn entropy(&mut self, buf: &mut [u8]) -> Result<()>;

    /// Whether the stream is a terminal.
    fn is_terminal(&mut self, stream: Stream) -> bool;
    /// Takes up to `buf.len()` bytes (never 0) from standard input; `Ok(0)` is its end. Bytes that are not
    /// returned must stay in the stream: a buffer here would lose them when the task moves.
    fn stdin_read(&mut self, buf: &mut [u8]) -> Result<usize>;
    /// Writes some of `bytes` (never empty) and says how many; [`Errno::Again`] if none could be written.
    fn stream_write(&mut self, stream: Stream, bytes: &[u8]) -> Result<usize>;
    /// Whether [`Source`] is ready now; must agree with [`Host::wait`].
    fn is_ready(&mut self, source: Source, interest: Interest) -> bool;
    /// Sleeps until `wait` is over or the host is asked to stop waiting.
    fn wait(&mut self, wait: &Wait) -> Woken;

    /// Opens the directory that is offered to the guest as `guest_path`. `noent` if none is; `rofs` if it is offered
    /// for reading only and the task wants to write. The host must see to that: what a task may do is part of
    /// its state, and a state may come from anywhere.
    fn preopen(&mut self, _guest_path: &str, _writable: bool) -> Result<Handle> {
        Err(Errno::Noent)
    }
    /// Opens a file or directory beneath `dir`; which of the two it was is in the answer.
    fn open_at(&mut self, _dir: Handle, _path: &str, _options: OpenOptions) -> Result<(Handle, Filetype)> {
        Err(Errno::Notsup)
    }
    /// Releases a handle of any kind.
    fn close(&mut self, _handle: Handle) {}
    /// Where `handle` is now, as a path beneath `dir`, following renames; `Err(noent)` if its last name is gone.
    /// `Ok(None)` if the host cannot tell.
    fn path_of(&mut self, _dir: Handle, _handle: Handle) -> Result<Option<String>> {
        Ok(None)
    }
    /// Attributes of an open file or directory.
    fn stat(&mut self, _handle: Handle) -> Result<FileStat> {
        Err(Errno::Notsup)
    }
    /// Reads at `offset`; `Ok(0)` is the end of the file.
    fn pread(&mut self, _file: Handle, _buf: &mut [u8], _offset: u64) -> Result<usize> {
        Err(Errno::Notsup)
    }
    /// Writes at `offset`.
    fn pwrite(&mut self, _file: Handle, _bytes: &[u8], _offset: u64) -> Result<usize> {
        Err(Errno::Notsup)
    }
    /// Writes at the end of the file, wherever that is at this moment.
    fn append(&mut self, _file: Handle, _bytes: &[u8]) -> Result<usize> {
        Err(Errno::Notsup)
    }
    /// Sets the length of the file.
    fn set_size(&mut self, _file: Handle, _size: u64) -> Result<()> {
        Err(Errno::Notsup)
    }
    /// Sets the times of an open file or directory.
    fn set_times(&mut self, _handle: Handle, _atim: NewTime, _mtim: NewTime) -> Result<()> {
        Err(Errno::Notsup)
    }
    /// Passes a hint on; a host may ignore it.
    fn advise(&mut self, _file: Handle, _offset: u64, _len: u64, _advice: Advice) -> Result<()> {
        Ok(())
    }
    /// Writes the file's data, and with `metadata` its attributes too, to stable storage.
    fn sync(&mut self, _file: Handle, _metadata: bool) -> Result<()> {
        Err(Errno::Notsup)
    }
    /// Every name in the directory but `.` and `..`, in any order. `ilseq` if one is not UTF-8.
    fn read_dir(&mut self, _dir: Handle) -> Result<Vec<DirEntry>> {
        Err(Errno::Notsup)
    }
    /// Attributes of the file at `path`.
    fn stat_at(&mut self, _dir: Handle, _path: &str, _follow: bool) -> Result<FileStat> {
        Err(Errno::Notsup)
    }
    /// Sets the times of the file at `path`.
    fn set_times_at(&mut self, _dir: Handle, _path: &str, _follow: bool, _atim: NewTime, _mtim: NewTime) -> Result<()> {
        Err(Errno::Notsup)
    }
    /// Makes a directory.
    fn create_directory(&mut self, _dir: Handle, _path: &str) -> Result<()> {
        Err(Errno::Notsup)
    }
    /// Makes a hard link; the last component of `old` is not followed.
    fn link(&mut self, _old_dir: Handle, _old: &str, _new_dir: Handle, _new: &str) -> Result<()> {
        Err(Errno::Notsup)
    }
    /// Makes a symbolic link holding `target`.
    fn symlink(&mut self, _target: &str, _dir: Handle, _path: &str) -> Result<()> {
        Err(Errno::Notsup)
    }
    /// The content of a symbolic link. `perm` if it is absolute.
    fn read_link(&mut self, _dir: Handle, _path: &str) -> Result<String> {
        Err(Errno::Notsup)
    }
    /// Renames, replacing what the new name meant.
    fn rename(&mut self, _old_dir: Handle, _old: &str, _new_dir: Handle, _new: &str) -> Result<()> {
        Err(Errno::Notsup)
    }
    /// Removes an empty directory.
    fn remove_directory(&mut self, _dir: Handle, _path: &str) -> Result<()> {
        Err(Errno::Notsup)
    }
    /// Removes a name that is not a directory.
    fn unlink_file(&mut self, _dir: Handle, _path: &str) -> Result<()> {
        Err(Errno::Notsup)
    }

    /// Hands out the listening socket that was published under `name`.
    fn listener(&mut self, _name: &str) -> Result<Handle> {
        Err(Errno::Noent)
    }
    /// Accepts a connection.
    fn accept(&mut self, _listener: Handle) -> Result<Handle> {
        Err(Errno::Notsup)
    }
    /// The identity under which an accepted connection can be had again after a move ([`Host::attach_stream`]). Asked
    /// once, at the accept. `None`: the connection ends here, and keeps the task from moving while it is open.
    fn stream_of(&mut self, _socket: Handle) -> Option<u64> {
        None
    }
    /// Hands out the connection that is `stream` wherever the task is, at the byte where it left off. `notconn` if this
    /// host does not have it.
    fn attach_stream(&mut self, _stream: u64) -> Result<Handle> {
        Err(Errno::Notsup)
    }
    /// Receives up to `buf.len()` bytes; with `peek` they stay in the queue. `Ok(0)` is the end of the stream.
    fn recv(&mut self, _socket: Handle, _buf: &mut [u8], _peek: bool) -> Result<usize> {
        Err(Errno::Notsup)
    }
    /// Sends some of `bytes`.
    fn send(&mut self, _socket: Handle, _bytes: &[u8]) -> Result<usize> {
        Err(Errno::Notsup)
    }
    /// Closes one or both directions.
    fn shutdown(&mut self, _socket: Handle, _how: Shutdown) -> Result<()> {
        Err(Errno::Notsup)
    }
}
