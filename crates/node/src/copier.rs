//! Copies and packs pages of tasks that run, out of their way.
//!
//! A task is to go on as if nobody copied it. Copying takes a good part of a core at the rate of a fast link, and where
//! no core is idle the kernel would take half of the task's: so it is done by threads that are nicer. Where all cores
//! are busy these hardly run at all, and a task would not get away from a node that is overloaded: then it is done
//! by whoever is there.

use rayon::ThreadPool;
use rustix::time::{ClockId, clock_gettime};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Of a core that it shares with a busy task it has a tenth.
const NICE: i32 = 10;
/// So many times as long as it needs, and a little, is too long for a piece of work.
const STARVED: u32 = 4;
const A_LITTLE: Duration = Duration::from_millis(5);
/// Pieces that are not left to nicer threads after one that took too long.
const AFTER_THAT: u32 = 16;

/// What copies for one move.
#[derive(Default)]
pub(crate) struct Copier {
    /// Pieces that are still to be done by whoever is there.
    urgent: u32,
}

impl Copier {
    /// Whether the next piece of work is one for a nicer thread.
    fn may_wait(&mut self) -> bool {
        let may = self.urgent == 0;
        self.urgent = self.urgent.saturating_sub(1);
        may
    }

    /// A piece took so long, of which it ran for so long.
    fn took(&mut self, all: Duration, ran: Duration) {
        if all > ran * STARVED + A_LITTLE {
            self.urgent = AFTER_THAT;
        }
    }

    /// Does a piece of work on a nicer thread, unless these do not get to run, and waits for it.
    pub(crate) fn run<R: Send>(&mut self, work: impl FnOnce() -> R + Send) -> R {
        let Some(pool) = pool().filter(|_| self.may_wait()) else { return work() };
        let began = Instant::now();
        // On a busy machine this may take a while, and others wait for the thread that we are on.
        let (result, ran) = tokio::task::block_in_place(|| {
            pool.install(|| {
                let before = processor_time();
                let result = work();
                (result, processor_time().saturating_sub(before))
            })
        });
        self.took(began.elapsed(), ran);
        result
    }
}

fn pool() -> Option<&'static ThreadPool> {
    static POOL: OnceLock<Option<ThreadPool>> = OnceLock::new();
    let pool = POOL.get_or_init(|| {
        let nicer = |_| {
            // Linux keeps it by thread, and `None` is the calling one. It may always be nicer.
            let _ = rustix::process::setpriority_process(None, NICE);
        };
        let builder = rayon::ThreadPoolBuilder::new().thread_name(|i| format!("wayfare-copy-{i}"));
        builder.start_handler(nicer).build().ok()
    });
    pool.as_ref()
}

/// What the calling thread has used.
fn processor_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_nicer_threads_do_not_get_to_is_done_by_others_for_a_while() {
        let ms = Duration::from_millis;
        let mut copier = Copier::default();
        copier.took(ms(6), ms(3));
        assert!(copier.may_wait());
        copier.took(ms(100), ms(3));
        assert!((0..AFTER_THAT).all(|_| !copier.may_wait()));
        assert!(copier.may_wait());
    }
}
