//! What the agent does at the same time, on its one thread: futures, times to wait for, and a sleep when there is nothing
//! to do that an interrupt or another thread ends.

use crate::{clock, sys};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::sync::Arc;
use alloc::task::Wake;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::pin::{Pin, pin};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use core::task::{Context, Poll, Waker};
use futures_util::future::{Either, select};
use futures_util::stream::{FuturesUnordered, StreamExt};
use wayfare_unikernel_abi::{NEVER, SECOND};

/// Between two signs of life, nanoseconds.
const SIGN: u64 = SECOND;

/// Goes up when there may be something to do: by interrupts, by wakers.
pub static EVENTS: AtomicU32 = AtomicU32::new(0);
/// The thread sleeps, or is about to.
static SLEEPS: AtomicBool = AtomicBool::new(false);

struct Wakes;

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        EVENTS.fetch_add(1, Ordering::SeqCst);
        if SLEEPS.load(Ordering::SeqCst) {
            sys::wake(&EVENTS, 1);
        }
    }
}

type Work = Pin<Box<dyn Future<Output = ()>>>;

#[derive(Default)]
struct Inner {
    begun: RefCell<Vec<Work>>,
    times: RefCell<BTreeMap<(u64, u64), Waker>>,
    next: Cell<u64>,
}

/// Begins futures, and knows what time it is.
#[derive(Clone, Default)]
pub struct Executor(Rc<Inner>);

impl Executor {
    /// Begins a future.
    pub fn spawn(&self, work: impl Future<Output = ()> + 'static) {
        self.0.begun.borrow_mut().push(Box::pin(work));
    }

    /// Waits until then, nanoseconds since the start.
    pub fn until(&self, deadline: u64) -> impl Future<Output = ()> + use<> {
        let inner = self.0.clone();
        let id = inner.next.get();
        inner.next.set(id + 1);
        poll_fn(move |cx| {
            let mut times = inner.times.borrow_mut();
            if clock::nanos() >= deadline {
                times.remove(&(deadline, id));
                return Poll::Ready(());
            }
            times.insert((deadline, id), cx.waker().clone());
            Poll::Pending
        })
    }

    /// Waits for so many milliseconds.
    pub fn sleep(&self, millis: u64) -> impl Future<Output = ()> + use<> {
        self.until(clock::nanos().saturating_add(millis.saturating_mul(1_000_000)))
    }

    /// What a future gives, if that is within so many milliseconds.
    pub async fn within<T>(&self, millis: u64, work: impl Future<Output = T>) -> Option<T> {
        match select(pin!(work), pin!(self.sleep(millis))).await {
            Either::Left((done, _)) => Some(done),
            Either::Right(_) => None,
        }
    }

    /// Runs for ever. `serve` is called around all that is done, and says when it wants to be called next at the latest. The
    /// kernel hears that this is so well within so many seconds; with 0, it does not care.
    pub fn run(&self, watchdog: u64, mut serve: impl FnMut() -> u64) -> ! {
        let mut all: FuturesUnordered<Work> = FuturesUnordered::new();
        let waker = Waker::from(Arc::new(Wakes));
        let mut cx = Context::from_waker(&waker);
        let mut sign = if watchdog == 0 { NEVER } else { 0 };
        loop {
            if clock::nanos() >= sign {
                sys::guard(watchdog);
                sign = clock::nanos().saturating_add(SIGN);
            }
            let seen = EVENTS.load(Ordering::SeqCst);
            serve();
            self.ring();
            loop {
                all.extend(self.0.begun.borrow_mut().drain(..));
                match all.poll_next_unpin(&mut cx) {
                    // One has ended: there may be more.
                    Poll::Ready(Some(())) => {}
                    Poll::Ready(None) | Poll::Pending if self.0.begun.borrow().is_empty() => break,
                    _ => {}
                }
            }
            let next = serve();
            let first = self.0.times.borrow().first_key_value().map_or(NEVER, |((deadline, _), _)| *deadline);
            SLEEPS.store(true, Ordering::SeqCst);
            // Comes back at once if something has happened since.
            let _ = sys::wait(&EVENTS, seen, next.min(first).min(sign));
            SLEEPS.store(false, Ordering::SeqCst);
        }
    }

    /// Wakes those whose time has come.
    fn ring(&self) {
        let now = clock::nanos();
        loop {
            let mut times = self.0.times.borrow_mut();
            let Some(entry) = times.first_entry().filter(|entry| entry.key().0 <= now) else { return };
            let waker = entry.remove();
            drop(times);
            waker.wake();
        }
    }
}
