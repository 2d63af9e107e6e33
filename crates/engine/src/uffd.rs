//! Write protection of our own memory by userfaultfd (Linux 6.7): who wrote where, and in time to copy a page first.
//!
//! A *noting* descriptor has the kernel settle every write to a protected page by itself: the page loses its
//! protection, which a later scan sees, and nobody waits. A *holding* one stops the writer until we let it go on.

use crate::pagemap::{self, Question};
use rustix::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, UserfaultfdFlags};
use std::sync::OnceLock;
use wayfare_snapshot::PAGE_SIZE;

/// `struct uffdio_api`, `uffdio_register`: the last member is the kernel's answer.
#[repr(C)]
struct Api {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
struct Range {
    start: u64,
    len: u64,
}

#[repr(C)]
struct Register {
    range: Range,
    mode: u64,
    ioctls: u64,
}

#[repr(C)]
struct WriteProtect {
    range: Range,
    mode: u64,
}

const UFFD: u8 = 0xaa;
/// The memory of a module's data is a private mapping of a file in memory.
const FEATURE_WP_HUGETLBFS_SHMEM: u64 = 1 << 12;
const FEATURE_WP_UNPOPULATED: u64 = 1 << 13;
const FEATURE_WP_ASYNC: u64 = 1 << 15;
const REGISTER_MODE_WP: u64 = 1 << 1;
const PROTECT: u64 = 1 << 0;
const USER_MODE_ONLY: u32 = 1;
/// Of an event of 32 bytes: what it is, and where the faulting address stands.
const EVENT_PAGEFAULT: u8 = 0x12;
const EVENT_LEN: usize = 32;
const EVENT_ADDRESS: core::ops::Range<usize> = 16..24;

/// A userfaultfd. Whatever is registered with it becomes ordinary memory again, and whoever is held goes on, when it
/// is dropped.
pub struct Uffd(OwnedFd);

impl Uffd {
    /// One by which the kernel notes writes, for [`Question::Take`]; `None` where that does not work.
    pub fn noting() -> Option<Uffd> {
        static WORKS: OnceLock<bool> = OnceLock::new();
        // Unprivileged processes get only this mode, and lose nothing: nobody has to handle a fault.
        let open =
            || Uffd::open(USER_MODE_ONLY, FEATURE_WP_ASYNC | FEATURE_WP_UNPOPULATED | FEATURE_WP_HUGETLBFS_SHMEM);
        WORKS.get_or_init(|| open().is_some_and(|uffd| uffd.notes().unwrap_or(false))).then(open)?
    }

    /// One that holds writers until their page is unprotected; `None` where there is none that also holds the kernel
    /// itself, which writes what the task reads from files.
    pub fn holding() -> Option<Uffd> {
        // The emulators that get a descriptor but no faults were found out by `noting`.
        drop(Uffd::noting()?);
        Uffd::open(0, FEATURE_WP_HUGETLBFS_SHMEM)
    }

    fn open(mode: u32, features: u64) -> Option<Uffd> {
        let flags = UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::NONBLOCK;
        let flags = flags | UserfaultfdFlags::from_bits_retain(mode);
        // SAFETY: the descriptor stays in here, and only memory of running tasks (or our own) is registered with it,
        // in ways that change no byte.
        let fd = match unsafe { rustix::mm::userfaultfd(flags) } {
            Ok(fd) => fd,
            Err(Errno::PERM) if mode == 0 => device(flags)?,
            Err(_) => return None,
        };
        let uffd = Uffd(fd);
        let mut api = Api { api: u64::from(UFFD), features, ioctls: 0 };
        uffd.call::<Api, 0x3f, true>(&mut api).ok()?;
        Some(uffd)
    }

    /// Makes pages of a mapped range protectable. None is protected yet.
    pub fn register(&self, start: usize, bytes: usize) -> Result<(), Errno> {
        let range = Range { start: start as u64, len: bytes as u64 };
        let mut register = Register { range, mode: REGISTER_MODE_WP, ioctls: 0 };
        self.call::<_, 0x00, true>(&mut register)
    }

    /// Takes the protection off and ends the registration; whoever was held goes on.
    pub fn unregister(&self, start: usize, bytes: usize) {
        let mut range = Range { start: start as u64, len: bytes as u64 };
        let _ = self.call::<_, 0x01, false>(&mut range);
    }

    /// Protects pages of a registered range, or lets writers have them again (and wakes those that wait).
    pub fn protect(&self, start: usize, bytes: usize, on: bool) -> Result<(), Errno> {
        let range = Range { start: start as u64, len: bytes as u64 };
        let mut argument = WriteProtect { range, mode: if on { PROTECT } else { 0 } };
        loop {
            match self.call::<_, 0x06, true>(&mut argument) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
    }

    /// Address of the next write that is being held.
    pub fn held(&self) -> Option<usize> {
        let mut event = [0; EVENT_LEN];
        loop {
            match rustix::io::read(&self.0, &mut event) {
                Ok(EVENT_LEN) if event[0] == EVENT_PAGEFAULT => {
                    let mut address = [0; 8];
                    address.copy_from_slice(&event[EVENT_ADDRESS]);
                    return Some(u64::from_ne_bytes(address) as usize);
                }
                Ok(EVENT_LEN) | Err(Errno::INTR) => {}
                _ => return None,
            }
        }
    }

    /// Tries it on pages of our own: user-mode emulators and other kernels answer what they like.
    fn notes(&self) -> Option<bool> {
        let pages = Pages::new(8)?;
        let (start, bytes) = (pages.0 as usize, pages.1);
        pages.write(3);
        self.register(start, bytes).ok()?;
        let take = || pagemap::scan(Question::Take, start, bytes);
        let first = take()?;
        let none = take()?;
        pages.write(3);
        pages.write(6);
        let both = take()?;
        Some(first == [(3, 1)] && none.is_empty() && both == [(3, 1), (6, 1)] && take()?.is_empty())
    }

    fn call<T, const NUMBER: u8, const WRITES: bool>(&self, argument: &mut T) -> Result<(), Errno> {
        // SAFETY: as `Call` says; the callers above pair each number with its structure. None of these requests
        // changes what bytes memory holds.
        unsafe { rustix::ioctl::ioctl(self.0.as_fd(), Call::<T, NUMBER, WRITES>(argument)) }
    }
}

impl AsFd for Uffd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The other way to a descriptor that also holds the kernel: whoever may open the device may have one.
fn device(flags: UserfaultfdFlags) -> Option<OwnedFd> {
    let open = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
    let device = rustix::fs::open("/dev/userfaultfd", open, rustix::fs::Mode::empty()).ok()?;
    // SAFETY: `USERFAULTFD_IOC_NEW` takes flags by value and gives a new descriptor.
    let raw = unsafe { rustix::ioctl::ioctl(&device, New(flags.bits())) }.ok()?;
    // SAFETY: it is open, and nobody else has it.
    Some(unsafe { OwnedFd::from_raw_fd(raw) })
}

struct Call<'a, T, const NUMBER: u8, const WRITES: bool>(&'a mut T);

// SAFETY: the requests of `linux/userfaultfd.h` are `_IOWR(0xaa, NUMBER, T)` where the kernel answers in the
// structure, `_IOR` where it does not; the argument is a pointer to it, and the result nothing.
unsafe impl<T, const NUMBER: u8, const WRITES: bool> rustix::ioctl::Ioctl for Call<'_, T, NUMBER, WRITES> {
    type Output = ();
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> rustix::ioctl::Opcode {
        if WRITES {
            rustix::ioctl::opcode::read_write::<T>(UFFD, NUMBER)
        } else {
            rustix::ioctl::opcode::read::<T>(UFFD, NUMBER)
        }
    }

    fn as_ptr(&mut self) -> *mut core::ffi::c_void {
        core::ptr::from_mut(self.0).cast()
    }

    unsafe fn output_from_ptr(_: rustix::ioctl::IoctlOutput, _: *mut core::ffi::c_void) -> rustix::io::Result<()> {
        Ok(())
    }
}

struct New(u32);

// SAFETY: `_IO(0xaa, 0)`, whose argument is a number in the place of a pointer, and whose result is a descriptor.
unsafe impl rustix::ioctl::Ioctl for New {
    type Output = i32;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> rustix::ioctl::Opcode {
        rustix::ioctl::opcode::none(UFFD, 0)
    }

    fn as_ptr(&mut self) -> *mut core::ffi::c_void {
        core::ptr::without_provenance_mut(self.0 as usize)
    }

    unsafe fn output_from_ptr(out: rustix::ioctl::IoctlOutput, _: *mut core::ffi::c_void) -> rustix::io::Result<i32> {
        Ok(out)
    }
}

/// Pages of our own.
struct Pages(*mut u8, usize);

impl Pages {
    fn new(count: usize) -> Option<Pages> {
        let (null, len) = (core::ptr::null_mut(), count * PAGE_SIZE);
        // SAFETY: a new mapping at a place of the kernel's choice disturbs nothing.
        let base =
            unsafe { rustix::mm::mmap_anonymous(null, len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE) };
        base.ok().map(|base| Pages(base.cast(), len))
    }

    fn write(&self, page: usize) {
        // SAFETY: the page is in the mapping (`notes` asks for 8 and writes the 3rd and 6th), which only we know.
        unsafe { self.0.add(page * PAGE_SIZE).write_volatile(1) };
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: ours, whole, and nothing refers to it any more.
        let _ = unsafe { rustix::mm::munmap(self.0.cast(), self.1) };
    }
}
