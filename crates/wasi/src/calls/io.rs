//! Reading and writing through descriptors.

use super::nodes::Target;
use super::{Call, Stop};
use crate::Errno;
use crate::descriptor::{Descriptor, File};
use crate::host::{Interest, Source, Stream, Wait};

type Result<T = ()> = core::result::Result<T, Errno>;

/// Where a write to a file goes.
#[derive(Clone, Copy)]
enum Place {
    /// At the descriptor's offset, which moves.
    Offset,
    At(u64),
}

/// Turns a host's `again` into a wait, unless the guest has asked not to wait.
pub(super) fn or_block(errno: Errno, source: Source, interest: Interest, nonblock: bool) -> Stop {
    match errno {
        Errno::Again if !nonblock => Stop::Block(Wait { deadline: None, sources: alloc::vec![(source, interest)] }),
        errno => Stop::Errno(errno),
    }
}

impl Call<'_> {
    pub fn fd_read(&mut self, fd: u32, iovs: u32, count: u32, out: u32) -> core::result::Result<(), Stop> {
        self.mem.check(out, 4)?;
        let (ptr, len) = self.mem.first_buffer(iovs, count)?;
        let read = match self.ctx.table.get(fd)? {
            Descriptor::File(file) => {
                let offset = file.offset;
                let read = self.read_file(fd, ptr, len, offset)?;
                self.ctx.table.file_mut(fd)?.offset = offset.checked_add(read.into()).ok_or(Errno::Overflow)?;
                read
            }
            Descriptor::Stream { stream: Stream::Stdin, .. } if len == 0 => 0,
            Descriptor::Stream { stream: stream @ Stream::Stdin, .. } => {
                let source = Source::Stream(*stream);
                let buf = self.mem.bytes_mut(ptr, len)?;
                let read = self.host.stdin_read(buf);
                read.map_err(|errno| or_block(errno, source, Interest::Read, false))? as u32
            }
            Descriptor::Connection { .. } => self.receive(fd, ptr, len, false)?,
            _ => return Err(Errno::Badf.into()),
        };
        Ok(self.mem.write_u32(out, read)?)
    }

    pub fn fd_pread(&mut self, fd: u32, iovs: u32, count: u32, offset: u64, out: u32) -> Result {
        self.mem.check(out, 4)?;
        let (ptr, len) = self.mem.first_buffer(iovs, count)?;
        let read = match self.ctx.table.get(fd)? {
            Descriptor::File(_) => self.read_file(fd, ptr, len, offset)?,
            Descriptor::Stream { stream: Stream::Stdin, .. } | Descriptor::Connection { .. } => {
                return Err(Errno::Spipe);
            }
            _ => return Err(Errno::Badf),
        };
        self.mem.write_u32(out, read)
    }

    fn read_file(&mut self, fd: u32, ptr: u32, len: u32, offset: u64) -> Result<u32> {
        let File { preopen, node, read, .. } = self.ctx.table.file(fd)?;
        let (target, read) = (Target::of(*preopen, node)?, *read);
        if !read {
            return Err(Errno::Badf);
        }
        let buf = self.mem.bytes_mut(ptr, len)?;
        let read = match target {
            Target::Host(handle) => self.host.pread(handle, buf, offset)?,
            Target::Volume(preopen, ino) => match &self.ctx.preopens[preopen].backing {
                crate::descriptor::Backing::Volume(volume) => volume.read(ino, buf, offset)?,
                crate::descriptor::Backing::Host(_) => return Err(Errno::Badf),
            },
        };
        // No more than `len` was asked for.
        Ok(read as u32)
    }

    pub fn fd_write(&mut self, fd: u32, iovs: u32, count: u32, out: u32) -> core::result::Result<(), Stop> {
        self.mem.check(out, 4)?;
        let (ptr, len) = self.mem.first_buffer(iovs, count)?;
        let written = match self.ctx.table.get(fd)? {
            Descriptor::File(_) => self.write_file(fd, ptr, len, Place::Offset)?,
            Descriptor::Stream { stream: stream @ (Stream::Stdout | Stream::Stderr), .. } => {
                self.write_stream(*stream, ptr, len)?
            }
            Descriptor::Connection { .. } => self.transmit(fd, ptr, len)?,
            _ => return Err(Errno::Badf.into()),
        };
        Ok(self.mem.write_u32(out, written)?)
    }

    pub fn fd_pwrite(&mut self, fd: u32, iovs: u32, count: u32, offset: u64, out: u32) -> Result {
        self.mem.check(out, 4)?;
        let (ptr, len) = self.mem.first_buffer(iovs, count)?;
        let written = match self.ctx.table.get(fd)? {
            Descriptor::File(_) => self.write_file(fd, ptr, len, Place::At(offset))?,
            Descriptor::Stream { stream: Stream::Stdout | Stream::Stderr, .. } | Descriptor::Connection { .. } => {
                return Err(Errno::Spipe);
            }
            _ => return Err(Errno::Badf),
        };
        self.mem.write_u32(out, written)
    }

    fn write_file(&mut self, fd: u32, ptr: u32, len: u32, place: Place) -> Result<u32> {
        let file = self.ctx.table.file(fd)?;
        if !file.write {
            return Err(Errno::Badf);
        }
        let (target, append, offset) = (Target::of(file.preopen, &file.node)?, file.append, file.offset);
        // As on Linux, appending wins over an explicit offset.
        let at = match place {
            Place::At(at) => at,
            Place::Offset => offset,
        };
        let bytes = self.mem.bytes(ptr, len)?;
        let written = match target {
            Target::Host(handle) if append => self.host.append(handle, bytes)?,
            Target::Host(handle) => self.host.pwrite(handle, bytes, at)?,
            Target::Volume(preopen, ino) => {
                let now = self.host.realtime();
                let crate::descriptor::Backing::Volume(volume) = &mut self.ctx.preopens[preopen].backing else {
                    return Err(Errno::Badf);
                };
                let at = if append { volume.stat(ino)?.size } else { at };
                volume.write(ino, bytes, at, now)?
            }
        };
        if let Place::Offset = place {
            let after = if append { self.stat(target)?.size } else { offset.saturating_add(written as u64) };
            self.ctx.table.file_mut(fd)?.offset = after;
        }
        Ok(written as u32)
    }

    fn write_stream(&mut self, stream: Stream, ptr: u32, len: u32) -> core::result::Result<u32, Stop> {
        if len == 0 {
            return Ok(0);
        }
        let bytes = self.mem.bytes(ptr, len)?;
        match self.host.stream_write(stream, bytes) {
            Ok(written) => Ok(written as u32),
            // The oracle loses the reason when the reader has gone.
            Err(Errno::Pipe) => Err(Errno::Io.into()),
            Err(errno) => Err(or_block(errno, Source::Stream(stream), Interest::Write, false)),
        }
    }
}
