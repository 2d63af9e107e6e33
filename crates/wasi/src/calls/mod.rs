//! The calls, by theme. Each is a method of [`Call`] that takes typed arguments and returns `Ok` for success;
//! this file turns a guest's raw arguments into those.
//!
//! The order of checks is the oracle's: flags and enumerations first (`inval`, or `overflow` where the number does
//! not even fit the type), then descriptors or strings, then permissions, then what the file system says.

mod clock;
mod dirs;
mod files;
mod io;
mod nodes;
mod poll;
mod process;
mod sockets;

use crate::host::{Advice, Host, NewTime, Wait};
use crate::memory::Memory;
use crate::types;
use crate::{Ctx, Errno, Function};

/// Why a call has not succeeded.
pub(crate) enum Stop {
    Errno(Errno),
    Block(Wait),
    Exit(u32),
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

/// One call in progress: the state, the machine below and the memory of the guest.
pub(crate) struct Call<'a> {
    pub ctx: &'a mut Ctx,
    pub host: &'a mut dyn Host,
    pub mem: Memory<'a>,
}

/// A path argument: pointer and length.
#[derive(Clone, Copy)]
pub(crate) struct PathArg {
    ptr: u32,
    len: u32,
}

/// The raw arguments of a call, taken one after the other.
struct Args<'a>(core::slice::Iter<'a, u64>);

impl Args<'_> {
    /// The caller has checked the number of arguments.
    fn u64(&mut self) -> u64 {
        self.0.next().copied().unwrap_or(0)
    }

    /// The high half of a raw `i32` means nothing.
    fn u32(&mut self) -> u32 {
        self.u64() as u32
    }

    fn path(&mut self) -> PathArg {
        PathArg { ptr: self.u32(), len: self.u32() }
    }

    fn flags16(&mut self, all: u16) -> Result<u16, Errno> {
        let flags = u16::try_from(self.u32()).map_err(|_| Errno::Overflow)?;
        if flags & !all == 0 { Ok(flags) } else { Err(Errno::Inval) }
    }

    fn sdflags(&mut self) -> Result<u8, Errno> {
        let flags = u8::try_from(self.u32()).map_err(|_| Errno::Overflow)?;
        if flags & !types::sdflags::ALL == 0 { Ok(flags) } else { Err(Errno::Inval) }
    }

    /// Whether to follow a symbolic link in the last place.
    fn follow(&mut self) -> Result<bool, Errno> {
        match self.u32() {
            flags if flags > i32::MAX as u32 => Err(Errno::Overflow),
            0 => Ok(false),
            types::SYMLINK_FOLLOW => Ok(true),
            _ => Err(Errno::Inval),
        }
    }

    fn rights(&mut self) -> Result<u64, Errno> {
        match self.u64() {
            rights if rights > i64::MAX as u64 => Err(Errno::Overflow),
            rights if rights & !types::rights::ALL != 0 => Err(Errno::Inval),
            rights => Ok(rights),
        }
    }

    fn advice(&mut self) -> Result<Advice, Errno> {
        Ok(match self.u32() {
            0 => Advice::Normal,
            1 => Advice::Sequential,
            2 => Advice::Random,
            3 => Advice::WillNeed,
            4 => Advice::DontNeed,
            5 => Advice::NoReuse,
            _ => return Err(Errno::Inval),
        })
    }

    /// Two timestamps and the flags that say which of them count.
    fn times(&mut self) -> Result<(NewTime, NewTime), Errno> {
        use types::fstflags::{ALL, ATIM, ATIM_NOW, MTIM, MTIM_NOW};
        let (atim, mtim) = (self.u64(), self.u64());
        let flags = self.flags16(ALL)?;
        let new = |set: u16, now: u16, at| match (flags & set != 0, flags & now != 0) {
            (true, true) => Err(Errno::Inval),
            (true, false) => Ok(NewTime::At(at)),
            (false, true) => Ok(NewTime::Now),
            (false, false) => Ok(NewTime::Keep),
        };
        Ok((new(ATIM, ATIM_NOW, atim)?, new(MTIM, MTIM_NOW, mtim)?))
    }
}

impl Call<'_> {
    pub fn dispatch(&mut self, function: Function, args: &[u64]) -> Result<(), Stop> {
        use Function as F;
        let mut a = Args(args.iter());
        match function {
            F::FdRead => return self.fd_read(a.u32(), a.u32(), a.u32(), a.u32()),
            F::FdWrite => return self.fd_write(a.u32(), a.u32(), a.u32(), a.u32()),
            F::PollOneoff => return self.poll_oneoff(a.u32(), a.u32(), a.u32(), a.u32()),
            F::ProcExit => return Err(Stop::Exit(a.u32())),
            F::SockAccept => {
                return self.sock_accept(a.u32(), a.flags16(types::fdflags::ALL)?, a.u32());
            }
            F::SockRecv => {
                let (fd, iovs, count) = (a.u32(), a.u32(), a.u32());
                return self.sock_recv(fd, iovs, count, a.flags16(types::riflags::ALL)?, a.u32(), a.u32());
            }
            F::SockSend => {
                let (fd, iovs, count) = (a.u32(), a.u32(), a.u32());
                // The type has 16 bits and no flag is defined; like the oracle, none is looked at.
                a.flags16(u16::MAX)?;
                return self.sock_send(fd, iovs, count, a.u32());
            }
            F::ArgsGet => self.args_get(a.u32(), a.u32()),
            F::ArgsSizesGet => self.args_sizes_get(a.u32(), a.u32()),
            F::EnvironGet => self.environ_get(a.u32(), a.u32()),
            F::EnvironSizesGet => self.environ_sizes_get(a.u32(), a.u32()),
            F::ClockResGet => self.clock_res_get(a.u32(), a.u32()),
            F::ClockTimeGet => {
                let (id, _precision) = (a.u32(), a.u64());
                self.clock_time_get(id, a.u32())
            }
            F::FdAdvise => self.fd_advise(a.u32(), a.u64(), a.u64(), a.advice()?),
            F::FdAllocate => self.fd_allocate(a.u32()),
            F::FdClose => self.fd_close(a.u32()),
            F::FdDatasync => self.fd_sync(a.u32(), false),
            F::FdFdstatGet => self.fd_fdstat_get(a.u32(), a.u32()),
            F::FdFdstatSetFlags => self.fd_fdstat_set_flags(a.u32(), a.flags16(types::fdflags::ALL)?),
            F::FdFdstatSetRights => {
                let fd = a.u32();
                a.rights()?;
                a.rights()?;
                self.fd_fdstat_set_rights(fd)
            }
            F::FdFilestatGet => self.fd_filestat_get(a.u32(), a.u32()),
            F::FdFilestatSetSize => self.fd_filestat_set_size(a.u32(), a.u64()),
            F::FdFilestatSetTimes => self.fd_filestat_set_times(a.u32(), a.times()?),
            F::FdPread => self.fd_pread(a.u32(), a.u32(), a.u32(), a.u64(), a.u32()),
            F::FdPrestatGet => self.fd_prestat_get(a.u32(), a.u32()),
            F::FdPrestatDirName => self.fd_prestat_dir_name(a.u32(), a.u32(), a.u32()),
            F::FdPwrite => self.fd_pwrite(a.u32(), a.u32(), a.u32(), a.u64(), a.u32()),
            F::FdReaddir => self.fd_readdir(a.u32(), a.u32(), a.u32(), a.u64(), a.u32()),
            F::FdRenumber => self.fd_renumber(a.u32(), a.u32()),
            F::FdSeek => self.fd_seek(a.u32(), a.u64().cast_signed(), a.u32(), a.u32()),
            F::FdSync => self.fd_sync(a.u32(), true),
            F::FdTell => self.fd_tell(a.u32(), a.u32()),
            F::PathCreateDirectory => self.path_create_directory(a.u32(), a.path()),
            F::PathFilestatGet => self.path_filestat_get(a.u32(), a.follow()?, a.path(), a.u32()),
            F::PathFilestatSetTimes => self.path_filestat_set_times(a.u32(), a.follow()?, a.path(), a.times()?),
            F::PathLink => self.path_link(a.u32(), a.follow()?, a.path(), a.u32(), a.path()),
            F::PathOpen => {
                let (fd, follow, path) = (a.u32(), a.follow()?, a.path());
                let (oflags, base) = (a.flags16(types::oflags::ALL)?, a.rights()?);
                a.rights()?;
                let how = dirs::OpenArgs { follow, oflags, rights: base, fdflags: a.flags16(types::fdflags::ALL)? };
                self.path_open(fd, path, how, a.u32())
            }
            F::PathReadlink => self.path_readlink(a.u32(), a.path(), a.u32(), a.u32(), a.u32()),
            F::PathRemoveDirectory => self.path_remove_directory(a.u32(), a.path()),
            F::PathRename => self.path_rename(a.u32(), a.path(), a.u32(), a.path()),
            F::PathSymlink => self.path_symlink(a.path(), a.u32(), a.path()),
            F::PathUnlinkFile => self.path_unlink_file(a.u32(), a.path()),
            F::ProcRaise => self.proc_raise(a.u32()),
            F::SchedYield => Ok(()),
            F::RandomGet => self.random_get(a.u32(), a.u32()),
            F::SockShutdown => self.sock_shutdown(a.u32(), a.sdflags()?),
        }
        .map_err(Stop::Errno)
    }
}
