//! A guest without WebAssembly: it puts arguments into memory as a libc does and looks at what comes back.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::VecDeque;

use wayfare_wasi::std_host::{StdHost, StreamSource};
use wayfare_wasi::{Control, Ctx, Errno, Function, Host, Interest, Source, Stream, Wait, Woken};

/// `fd_read` and `fd_write`.
pub const RW: u64 = (1 << 1) | (1 << 6);
pub const R: u64 = 1 << 1;
pub const W: u64 = 1 << 6;
pub const CREAT: u64 = 1;
pub const DIRECTORY: u64 = 2;
pub const EXCL: u64 = 4;
pub const TRUNC: u64 = 8;
pub const APPEND: u64 = 1;
pub const NONBLOCK: u64 = 4;

const OUT: u64 = 16;
const OUT2: u64 = 24;
const IOV: u64 = 256;
const PATH1: u64 = 4096;
const PATH2: u64 = 16384;
pub const DATA: u64 = 65536;

pub type Result<T> = std::result::Result<T, Errno>;

/// Cookie of the next entry, name, file type.
pub type Entry = (u64, String, u8);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stat {
    pub dev: u64,
    pub ino: u64,
    pub filetype: u8,
    pub nlink: u64,
    pub size: u64,
    pub atim: u64,
    pub mtim: u64,
    pub ctim: u64,
}

pub struct Guest<H: Host> {
    pub ctx: Ctx,
    pub host: H,
    pub mem: Vec<u8>,
}

impl<H: Host> Guest<H> {
    pub fn new(mut ctx: Ctx, mut host: H) -> Self {
        ctx.reattach(&mut host).unwrap();
        Self { ctx, host, mem: vec![0; 1 << 20] }
    }

    pub fn call(&mut self, name: &str, args: &[u64]) -> Control {
        let function = Function::from_name(name).unwrap();
        self.ctx.call(&mut self.host, function, args, &mut self.mem)
    }

    pub fn errno(&mut self, name: &str, args: &[u64]) -> Errno {
        match self.call(name, args) {
            Control::Return(errno) => errno,
            other => panic!("{name}: {other:?}"),
        }
    }

    pub fn done(&mut self, name: &str, args: &[u64]) -> Result<()> {
        match self.errno(name, args) {
            Errno::Success => Ok(()),
            errno => Err(errno),
        }
    }

    /// The call's answer if it is a block.
    pub fn blocked(&mut self, name: &str, args: &[u64]) -> Wait {
        match self.call(name, args) {
            Control::Block(wait) => wait,
            other => panic!("{name}: {other:?}"),
        }
    }

    pub fn put(&mut self, at: u64, bytes: &[u8]) {
        self.mem[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    }

    pub fn bytes(&self, at: u64, len: u64) -> Vec<u8> {
        self.mem[at as usize..(at + len) as usize].to_vec()
    }

    pub fn u32(&self, at: u64) -> u32 {
        u32::from_le_bytes(self.bytes(at, 4).try_into().unwrap())
    }

    pub fn u64(&self, at: u64) -> u64 {
        u64::from_le_bytes(self.bytes(at, 8).try_into().unwrap())
    }

    fn path_at(&mut self, at: u64, path: &str) -> [u64; 2] {
        self.put(at, path.as_bytes());
        [at, path.len() as u64]
    }

    pub fn iov(&mut self, len: u64) {
        self.put(IOV, &(DATA as u32).to_le_bytes());
        self.put(IOV + 4, &(len as u32).to_le_bytes());
    }

    pub fn write_args(&mut self, fd: u32, bytes: &[u8]) -> Vec<u64> {
        self.put(DATA, bytes);
        self.iov(bytes.len() as u64);
        vec![fd.into(), IOV, 1, OUT]
    }

    pub fn read_args(&mut self, fd: u32, len: u64) -> Vec<u64> {
        self.iov(len);
        vec![fd.into(), IOV, 1, OUT]
    }

    /// What `fd_read` or `fd_write` has counted.
    pub fn count(&self) -> u32 {
        self.u32(OUT)
    }

    pub fn write(&mut self, fd: u32, bytes: &[u8]) -> Result<u32> {
        let args = self.write_args(fd, bytes);
        self.done("fd_write", &args)?;
        Ok(self.count())
    }

    pub fn pwrite(&mut self, fd: u32, bytes: &[u8], offset: u64) -> Result<u32> {
        let a = self.write_args(fd, bytes);
        self.done("fd_pwrite", &[a[0], a[1], a[2], offset, a[3]])?;
        Ok(self.count())
    }

    pub fn read(&mut self, fd: u32, len: u64) -> Result<Vec<u8>> {
        let args = self.read_args(fd, len);
        self.done("fd_read", &args)?;
        Ok(self.bytes(DATA, self.count().into()))
    }

    pub fn pread(&mut self, fd: u32, len: u64, offset: u64) -> Result<Vec<u8>> {
        let a = self.read_args(fd, len);
        self.done("fd_pread", &[a[0], a[1], a[2], offset, a[3]])?;
        Ok(self.bytes(DATA, self.count().into()))
    }

    pub fn open_with(
        &mut self,
        dir: u32,
        path: &str,
        oflags: u64,
        rights: u64,
        fdflags: u64,
        follow: bool,
    ) -> Result<u32> {
        let [p, n] = self.path_at(PATH1, path);
        self.done("path_open", &[dir.into(), follow.into(), p, n, oflags, rights, rights, fdflags, OUT])?;
        Ok(self.u32(OUT))
    }

    pub fn open(&mut self, dir: u32, path: &str, oflags: u64, rights: u64) -> Result<u32> {
        self.open_with(dir, path, oflags, rights, 0, true)
    }

    pub fn close(&mut self, fd: u32) -> Result<()> {
        self.done("fd_close", &[fd.into()])
    }

    pub fn create(&mut self, dir: u32, path: &str, content: &[u8]) {
        let fd = self.open(dir, path, CREAT | TRUNC, W).unwrap();
        if !content.is_empty() {
            assert_eq!(self.write(fd, content), Ok(content.len() as u32));
        }
        self.close(fd).unwrap();
    }

    pub fn seek(&mut self, fd: u32, delta: i64, whence: u64) -> Result<u64> {
        self.done("fd_seek", &[fd.into(), delta as u64, whence, OUT])?;
        Ok(self.u64(OUT))
    }

    pub fn tell(&mut self, fd: u32) -> Result<u64> {
        self.done("fd_tell", &[fd.into(), OUT])?;
        Ok(self.u64(OUT))
    }

    fn stat_out(&self) -> Stat {
        let field = |i: u64| self.u64(512 + 8 * i);
        Stat {
            dev: field(0),
            ino: field(1),
            filetype: self.mem[512 + 16],
            nlink: field(3),
            size: field(4),
            atim: field(5),
            mtim: field(6),
            ctim: field(7),
        }
    }

    pub fn fstat(&mut self, fd: u32) -> Result<Stat> {
        self.done("fd_filestat_get", &[fd.into(), 512])?;
        Ok(self.stat_out())
    }

    pub fn stat(&mut self, dir: u32, path: &str, follow: bool) -> Result<Stat> {
        let [p, n] = self.path_at(PATH1, path);
        self.done("path_filestat_get", &[dir.into(), follow.into(), p, n, 512])?;
        Ok(self.stat_out())
    }

    /// File type, flags, rights and inheriting rights.
    pub fn fdstat(&mut self, fd: u32) -> Result<(u8, u16, u64, u64)> {
        self.done("fd_fdstat_get", &[fd.into(), 512])?;
        Ok((self.mem[512], u16::from_le_bytes([self.mem[514], self.mem[515]]), self.u64(520), self.u64(528)))
    }

    pub fn one_path(&mut self, name: &str, dir: u32, path: &str) -> Result<()> {
        let [p, n] = self.path_at(PATH1, path);
        self.done(name, &[dir.into(), p, n])
    }

    pub fn mkdir(&mut self, dir: u32, path: &str) -> Result<()> {
        self.one_path("path_create_directory", dir, path)
    }

    pub fn rmdir(&mut self, dir: u32, path: &str) -> Result<()> {
        self.one_path("path_remove_directory", dir, path)
    }

    pub fn unlink(&mut self, dir: u32, path: &str) -> Result<()> {
        self.one_path("path_unlink_file", dir, path)
    }

    pub fn rename(&mut self, old_dir: u32, old: &str, new_dir: u32, new: &str) -> Result<()> {
        let ([p, n], [q, m]) = (self.path_at(PATH1, old), self.path_at(PATH2, new));
        self.done("path_rename", &[old_dir.into(), p, n, new_dir.into(), q, m])
    }

    pub fn link(&mut self, old_dir: u32, old: &str, new_dir: u32, new: &str) -> Result<()> {
        let ([p, n], [q, m]) = (self.path_at(PATH1, old), self.path_at(PATH2, new));
        self.done("path_link", &[old_dir.into(), 0, p, n, new_dir.into(), q, m])
    }

    pub fn symlink(&mut self, target: &str, dir: u32, path: &str) -> Result<()> {
        let ([p, n], [q, m]) = (self.path_at(PATH1, target), self.path_at(PATH2, path));
        self.done("path_symlink", &[p, n, dir.into(), q, m])
    }

    pub fn readlink(&mut self, dir: u32, path: &str) -> Result<String> {
        let [p, n] = self.path_at(PATH1, path);
        self.done("path_readlink", &[dir.into(), p, n, DATA, 4096, OUT])?;
        Ok(String::from_utf8(self.bytes(DATA, self.count().into())).unwrap())
    }

    pub fn set_times(&mut self, dir: u32, path: &str, follow: bool, atim: u64, mtim: u64, flags: u64) -> Result<()> {
        let [p, n] = self.path_at(PATH1, path);
        self.done("path_filestat_set_times", &[dir.into(), follow.into(), p, n, atim, mtim, flags])
    }

    /// One `fd_readdir`: the whole entries in the buffer as (next cookie, name, type), and how many bytes were used.
    pub fn readdir_once(&mut self, fd: u32, len: u64, cookie: u64) -> Result<(Vec<Entry>, u32)> {
        self.done("fd_readdir", &[fd.into(), DATA, len, cookie, OUT])?;
        let used = self.count();
        let mut entries = Vec::new();
        let mut at = 0;
        while at + 24 <= u64::from(used) {
            let name_len = u64::from(self.u32(DATA + at + 16));
            if at + 24 + name_len > used.into() {
                break;
            }
            let name = String::from_utf8(self.bytes(DATA + at + 24, name_len)).unwrap();
            entries.push((self.u64(DATA + at), name, self.mem[(DATA + at + 20) as usize]));
            at += 24 + name_len;
        }
        Ok((entries, used))
    }

    /// All names, read as a libc does with a buffer of `len` bytes.
    pub fn readdir(&mut self, fd: u32, len: u64) -> Result<Vec<String>> {
        let (mut names, mut cookie) = (Vec::new(), 0);
        loop {
            let (entries, used) = self.readdir_once(fd, len, cookie)?;
            for (next, name, _) in entries {
                cookie = next;
                names.push(name);
            }
            if u64::from(used) < len {
                return Ok(names);
            }
        }
    }

    /// The state as another machine would get it.
    pub fn moved<T: Host>(&mut self, mut host: T) -> Guest<T> {
        self.ctx.pausing(&mut self.host);
        let bytes = self.ctx.encode();
        let mut ctx = Ctx::decode(&bytes).unwrap();
        assert_eq!(ctx.encode(), bytes, "a state has one encoding");
        ctx.reattach(&mut host).unwrap();
        ctx.resumed(&mut host);
        Guest { ctx, host, mem: self.mem.clone() }
    }

    pub fn out2() -> u64 {
        OUT2
    }
}

/// A machine whose clock and streams the test holds.
#[derive(Default)]
pub struct FakeHost {
    pub realtime: u64,
    pub monotonic: u64,
    pub terminal: bool,
    /// Bytes that stdin has ready; empty and not `ended` means that a read would block.
    pub stdin: VecDeque<u8>,
    pub stdin_ended: bool,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// How many bytes the outputs still take.
    pub room: usize,
    pub broken: bool,
    pub largest_read: usize,
}

impl Host for FakeHost {
    fn realtime(&mut self) -> u64 {
        self.realtime
    }

    fn monotonic(&mut self) -> u64 {
        self.monotonic
    }

    fn entropy(&mut self, buf: &mut [u8]) -> Result<()> {
        buf.iter_mut().zip((1..=255).cycle()).for_each(|(byte, i)| *byte = i);
        Ok(())
    }

    fn is_terminal(&mut self, _stream: Stream) -> bool {
        self.terminal
    }

    fn stdin_read(&mut self, buf: &mut [u8]) -> Result<usize> {
        self.largest_read = self.largest_read.max(buf.len());
        if self.stdin.is_empty() && !self.stdin_ended {
            return Err(Errno::Again);
        }
        let len = buf.len().min(self.stdin.len());
        buf.iter_mut().zip(self.stdin.drain(..len)).for_each(|(to, from)| *to = from);
        Ok(len)
    }

    fn stream_write(&mut self, stream: Stream, bytes: &[u8]) -> Result<usize> {
        if self.broken {
            return Err(Errno::Pipe);
        }
        if self.room == 0 {
            return Err(Errno::Again);
        }
        let bytes = &bytes[..bytes.len().min(self.room)];
        self.room -= bytes.len();
        match stream {
            Stream::Stderr => self.stderr.extend(bytes),
            _ => self.stdout.extend(bytes),
        }
        Ok(bytes.len())
    }

    fn is_ready(&mut self, _source: Source, interest: Interest) -> bool {
        match interest {
            Interest::Read => self.stdin_ended || !self.stdin.is_empty(),
            Interest::Write => self.room > 0,
        }
    }

    fn wait(&mut self, wait: &Wait) -> Woken {
        match wait.deadline {
            Some(at) => {
                self.monotonic = self.monotonic.max(at);
                Woken::TimedOut
            }
            None => Woken::Cancelled,
        }
    }
}

/// Linux without streams, offering `dir` as `/data`.
pub fn linux(dir: &std::path::Path) -> StdHost {
    let host = StdHost::new().unwrap().dir("/data", dir, false);
    [Stream::Stdin, Stream::Stdout, Stream::Stderr]
        .into_iter()
        .fold(host, |host, stream| host.stream(stream, StreamSource::Null))
}
