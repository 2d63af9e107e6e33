//! Sockets: listeners that the host has published, and the connections accepted from them. The oracle knows none;
//! on every other descriptor the answer is its `notsock`.

use super::io::or_block;
use super::{Call, Stop};
use crate::Errno;
use crate::descriptor::Descriptor;
use crate::host::{Handle, Interest, Shutdown, Source};
use crate::types::{fdflags, riflags, sdflags};

type Result<T> = core::result::Result<T, Stop>;

impl Call<'_> {
    pub fn sock_accept(&mut self, fd: u32, flags: u16, out: u32) -> Result<()> {
        self.mem.check(out, 4)?;
        let (listener, nonblock) = match self.ctx.table.get(fd)? {
            Descriptor::Listener { handle, nonblock, .. } => (handle.ok_or(Errno::Badf)?, *nonblock),
            _ => return Err(Errno::Notsock.into()),
        };
        if flags & !fdflags::NONBLOCK != 0 {
            return Err(Errno::Inval.into());
        }
        self.ctx.table.check_room()?;
        let accepted = self
            .host
            .accept(listener)
            .map_err(|errno| or_block(errno, Source::Socket(listener), Interest::Read, nonblock))?;
        let (nonblock, stream) = (flags & fdflags::NONBLOCK != 0, self.host.stream_of(accepted));
        let fd = self.ctx.table.push(Descriptor::Connection { handle: Some(accepted), nonblock, stream })?;
        Ok(self.mem.write_u32(out, fd)?)
    }

    pub fn sock_recv(
        &mut self,
        fd: u32,
        iovs: u32,
        count: u32,
        flags: u16,
        size_out: u32,
        flags_out: u32,
    ) -> Result<()> {
        self.connection(fd)?;
        if flags & riflags::WAITALL != 0 {
            // Bytes would have to be held back between two issues of one call.
            return Err(Errno::Notsup.into());
        }
        self.mem.check(size_out, 4)?;
        self.mem.check(flags_out, 2)?;
        let (ptr, len) = self.mem.first_buffer(iovs, count)?;
        let received = self.receive(fd, ptr, len, flags & riflags::PEEK != 0)?;
        self.mem.write_u32(size_out, received)?;
        // A byte stream never cuts a message short.
        Ok(self.mem.write(flags_out, &[0, 0])?)
    }

    pub fn sock_send(&mut self, fd: u32, iovs: u32, count: u32, out: u32) -> Result<()> {
        self.connection(fd)?;
        self.mem.check(out, 4)?;
        let (ptr, len) = self.mem.first_buffer(iovs, count)?;
        let sent = self.transmit(fd, ptr, len)?;
        Ok(self.mem.write_u32(out, sent)?)
    }

    pub fn sock_shutdown(&mut self, fd: u32, how: u8) -> core::result::Result<(), Errno> {
        let (socket, _) = self.connection(fd)?;
        if how == 0 {
            return Err(Errno::Inval);
        }
        self.host.shutdown(socket, Shutdown { read: how & sdflags::RD != 0, write: how & sdflags::WR != 0 })
    }

    /// The connection and whether it is non-blocking. One that a move has cut off is `notconn`.
    fn connection(&self, fd: u32) -> core::result::Result<(Handle, bool), Errno> {
        match self.ctx.table.get(fd)? {
            Descriptor::Connection { handle, nonblock, .. } => Ok((handle.ok_or(Errno::Notconn)?, *nonblock)),
            Descriptor::Listener { .. } => Err(Errno::Notconn),
            _ => Err(Errno::Notsock),
        }
    }

    pub(super) fn receive(&mut self, fd: u32, ptr: u32, len: u32, peek: bool) -> Result<u32> {
        let (socket, nonblock) = self.connection(fd)?;
        if len == 0 {
            return Ok(0);
        }
        let buf = self.mem.bytes_mut(ptr, len)?;
        let received = self.host.recv(socket, buf, peek);
        Ok(received.map_err(|errno| or_block(errno, Source::Socket(socket), Interest::Read, nonblock))? as u32)
    }

    pub(super) fn transmit(&mut self, fd: u32, ptr: u32, len: u32) -> Result<u32> {
        let (socket, nonblock) = self.connection(fd)?;
        if len == 0 {
            return Ok(0);
        }
        let bytes = self.mem.bytes(ptr, len)?;
        let sent = self.host.send(socket, bytes);
        Ok(sent.map_err(|errno| or_block(errno, Source::Socket(socket), Interest::Write, nonblock))? as u32)
    }
}
