//! Our own memory under userfaultfd: who wrote where, and in time to copy a page first (Linux 6.7); and pages that come
//! only when they are touched.
//!
//! A *noting* descriptor has the kernel settle every write to a protected page by itself: the page loses its
//! protection, which a later scan sees, and nobody waits. A *holding* one stops the writer until we let it go on. A
//! *catching* one stops whoever touches a page that is not there until we have put it there.

use crate::pagemap::{self, Question};
use rustix::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, UserfaultfdFlags};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
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

#[repr(C)]
struct Copy {
    to: u64,
    from: u64,
    len: u64,
    mode: u64,
    copied: i64,
}

#[repr(C)]
struct ZeroPage {
    range: Range,
    mode: u64,
    zeroed: i64,
}

const UFFD: u8 = 0xaa;
/// The memory of a module's data is a private mapping of a file in memory.
const FEATURE_WP_HUGETLBFS_SHMEM: u64 = 1 << 12;
const FEATURE_WP_UNPOPULATED: u64 = 1 << 13;
const FEATURE_WP_ASYNC: u64 = 1 << 15;
const REGISTER_MODE_MISSING: u64 = 1 << 0;
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

    /// One that stops whoever touches a missing page. `Ok` if it also stops the kernel, when it reads or writes there
    /// for somebody; `Err` if the kernel gets an error (`EFAULT`) there instead, which is all that an unprivileged
    /// process may have. `None` where there is none that works.
    pub fn catching() -> Option<Result<Uffd, Uffd>> {
        static WORKS: OnceLock<bool> = OnceLock::new();
        let works = || Uffd::catching_user().is_some_and(|uffd| uffd.catches().unwrap_or(false));
        if rustix::param::page_size() != PAGE_SIZE || !*WORKS.get_or_init(works) {
            return None;
        }
        Uffd::open(0, 0).map(Ok).or_else(|| Uffd::catching_user().map(Err))
    }

    /// One that only stops touches by code of this process.
    pub fn catching_user() -> Option<Uffd> {
        Uffd::open(USER_MODE_ONLY, 0)
    }

    fn open(mode: u32, features: u64) -> Option<Uffd> {
        let flags = UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::NONBLOCK;
        let flags = flags | UserfaultfdFlags::from_bits_retain(mode);
        // SAFETY: the descriptor stays in here, and only memory of running tasks (or our own) is registered with it,
        // in ways that change no byte, or that only fill what is missing.
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
        self.register_as(REGISTER_MODE_WP, start, bytes)
    }

    /// From now on, whoever touches a page of the range that is not there waits. Those that are there are not touched,
    /// and no huge page will fill what is missing around them.
    pub fn register_missing(&self, start: usize, bytes: usize) -> Result<(), Errno> {
        self.register_as(REGISTER_MODE_MISSING, start, bytes)
    }

    fn register_as(&self, mode: u64, start: usize, bytes: usize) -> Result<(), Errno> {
        let range = Range { start: start as u64, len: bytes as u64 };
        self.call::<_, 0x00, true>(&mut Register { range, mode, ioctls: 0 })
    }

    /// Puts whole pages where none are, all at once for whoever looks, and lets those go on that wait for them. What
    /// is there already is an error. An error comes with the number of bytes that were put there before.
    ///
    /// # Safety
    /// The pages must be of a mapping that is registered as [`Uffd::register_missing`] does, and nobody may rely on
    /// their being zero.
    pub unsafe fn fill(&self, start: usize, bytes: &[u8]) -> Result<(), (usize, Errno)> {
        let from = bytes.as_ptr().expose_provenance();
        in_pieces(bytes.len(), |done, len| {
            let (to, from) = ((start + done) as u64, (from + done) as u64);
            let mut argument = Copy { to, from, len: len as u64, mode: 0, copied: 0 };
            self.call::<_, 0x03, true>(&mut argument).map_err(|errno| (argument.copied, errno))
        })
    }

    /// [`Uffd::fill`] with zeros, which take no memory before they are written to.
    ///
    /// # Safety
    /// As [`Uffd::fill`].
    pub unsafe fn fill_zero(&self, start: usize, bytes: usize) -> Result<(), (usize, Errno)> {
        in_pieces(bytes, |done, len| {
            let range = Range { start: (start + done) as u64, len: len as u64 };
            let mut argument = ZeroPage { range, mode: 0, zeroed: 0 };
            self.call::<_, 0x04, true>(&mut argument).map_err(|errno| (argument.zeroed, errno))
        })
    }

    /// Lets whoever waits for pages of a range look again.
    pub fn wake(&self, start: usize, bytes: usize) {
        let mut range = Range { start: start as u64, len: bytes as u64 };
        let _ = self.call::<_, 0x02, false>(&mut range);
    }

    /// Ends the registration, takes any protection off, and lets whoever was stopped go on: what is still missing is
    /// zero from then on.
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

    /// Address of the next touch that was stopped.
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

    /// Whether somebody who touches a missing page really waits, and then finds what was put there.
    fn catches(&self) -> Option<bool> {
        /// Far more than a thread needs to start.
        const PATIENCE: Duration = Duration::from_secs(5);
        let pages = Pages::new(2)?;
        let page = pages.0 as usize + PAGE_SIZE;
        self.register_missing(pages.0 as usize, pages.1).ok()?;
        // SAFETY: the page is mapped until `pages` is dropped, which is after the thread was joined.
        let touch = move || unsafe { core::ptr::with_exposed_provenance::<u8>(page).read_volatile() };
        let thread = std::thread::Builder::new().name("wayfare-probe".into()).spawn(touch).ok()?;
        let began = Instant::now();
        let caught = loop {
            match self.held() {
                Some(address) => break address & !(PAGE_SIZE - 1) == page,
                None if thread.is_finished() || began.elapsed() > PATIENCE => break false,
                None => std::thread::sleep(Duration::from_micros(50)),
            }
        };
        // SAFETY: registered above, and only the thread looks there, for this.
        let filled = caught && unsafe { self.fill(page, &[7; PAGE_SIZE]) }.is_ok();
        self.unregister(pages.0 as usize, pages.1);
        let read = thread.join().ok()?;
        Some(filled && read == 7)
    }

    fn call<T, const NUMBER: u8, const WRITES: bool>(&self, argument: &mut T) -> Result<(), Errno> {
        // SAFETY: as `Call` says; the callers above pair each number with its structure. Only two of these requests
        // change what bytes memory holds, of which `fill` and `fill_zero` tell their callers.
        unsafe { rustix::ioctl::ioctl(self.0.as_fd(), Call::<T, NUMBER, WRITES>(argument)) }
    }
}

impl AsFd for Uffd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Fills so many bytes by calls that may do only a part of what they are asked for, and that refuse a range of pages
/// across the border of two mappings: neighbours in the same state are not always one.
fn in_pieces(
    bytes: usize,
    mut fill: impl FnMut(usize, usize) -> Result<(), (i64, Errno)>,
) -> Result<(), (usize, Errno)> {
    let (mut done, mut most) = (0, bytes);
    while done < bytes {
        let len = most.min(bytes - done);
        match fill(done, len) {
            Ok(()) => {
                done += len;
                most = most.saturating_mul(2);
            }
            // What was done is there for good.
            Err((part, Errno::AGAIN | Errno::INTR)) => done += usize::try_from(part).unwrap_or(0),
            Err((_, Errno::NOENT)) if len > PAGE_SIZE => most = (len / 2).next_multiple_of(PAGE_SIZE),
            Err((_, errno)) => return Err((done, errno)),
        }
    }
    Ok(())
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
        let base = base.ok()?.cast::<u8>();
        base.expose_provenance();
        Some(Pages(base, len))
    }

    fn write(&self, page: usize) {
        // SAFETY: the page is in the mapping (`notes` asks for 8 and writes the 3rd and 6th), which only we know of.
        unsafe { self.0.add(page * PAGE_SIZE).write_volatile(1) };
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: ours, whole, and nothing refers to it any more.
        let _ = unsafe { rustix::mm::munmap(self.0.cast(), self.1) };
    }
}
