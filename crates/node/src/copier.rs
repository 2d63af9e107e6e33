//! Copies and packs pages of tasks that run, out of their way.
//!
//! A task is to go on as if nobody copied it. Copying takes a good part of a core at the rate of a fast link, and where
//! no core is idle the kernel would take half of the task's: so it is done by threads that are nicer.

use rayon::ThreadPool;
use std::sync::OnceLock;

/// Of a core that it shares with a busy task it has a tenth.
const NICE: i32 = 10;

/// Does a piece of work on such a thread, and waits for it.
pub(crate) fn run<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    static POOL: OnceLock<Option<ThreadPool>> = OnceLock::new();
    let pool = POOL.get_or_init(|| {
        let builder = rayon::ThreadPoolBuilder::new().thread_name(|i| format!("wayfare-copy-{i}"));
        let nicer = |_| {
            // Linux keeps it by thread, and `None` is the calling one. It may always be nicer.
            let _ = rustix::process::setpriority_process(None, NICE);
        };
        builder.start_handler(nicer).build().ok()
    });
    match pool {
        // On a busy machine this may take a while, and others wait for the thread that we are on.
        Some(pool) => tokio::task::block_in_place(|| pool.install(work)),
        None => work(),
    }
}
