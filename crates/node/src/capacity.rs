//! What a node has to give, and what it has promised: offers are admitted against this before anything is set aside.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use wayfare_transfer::TaskId;
use wayfare_transfer::message::{Reason, Refusal};

/// How much a task counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// Bytes of memory.
    pub memory: u64,
    /// Processors, in hundredths.
    pub cpus: u32,
}

/// What there is.
#[derive(Clone, Copy, Debug)]
pub struct Total {
    /// Bytes of memory that tasks may take; `None` for what the machine has free.
    pub memory: Option<u64>,
    /// Processors, in hundredths.
    pub cpus: u32,
}

/// What is promised to whom, and who asked how often.
pub struct Capacity {
    total: Total,
    promised: Mutex<HashMap<TaskId, Need>>,
    offers: Mutex<HashMap<String, Bucket>>,
}

struct Bucket {
    tokens: f64,
    at: Instant,
}

/// Offers that a peer may make at once.
const BURST: f64 = 20.0;
/// Offers that it may make each second in the long run.
const RATE: f64 = 2.0;
/// Part of the free memory that is left to others.
const SPARE: u64 = 64 << 20;

impl Capacity {
    /// Nothing promised yet.
    pub fn new(total: Total) -> Self {
        Self { total, promised: Mutex::default(), offers: Mutex::default() }
    }

    /// Counts an offer against its sender.
    ///
    /// # Errors
    /// [`Reason::Busy`] for one that comes too often.
    pub fn count_offer(&self, peer: &str) -> Result<(), Refusal> {
        let mut offers = self.offers.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let full = |b: &Bucket| now - b.at > Duration::from_secs((BURST / RATE) as u64);
        if offers.len() > 1024 {
            offers.retain(|_, bucket| !full(bucket));
        }
        let bucket = offers.entry(peer.into()).or_insert(Bucket { tokens: BURST, at: now });
        bucket.tokens = (bucket.tokens + (now - bucket.at).as_secs_f64() * RATE).min(BURST);
        bucket.at = now;
        if bucket.tokens < 1.0 {
            return Err(Refusal::new(Reason::Busy, "too many offers: try again in a few seconds"));
        }
        bucket.tokens -= 1.0;
        Ok(())
    }

    /// Takes the count of an offer back that led to a task's coming: only those that come to nothing are suspect.
    pub fn refund_offer(&self, peer: &str) {
        let mut offers = self.offers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = offers.get_mut(peer) {
            bucket.tokens = (bucket.tokens + 1.0).min(BURST);
        }
    }

    /// Promises a task what it needs, until [`Capacity::release`].
    ///
    /// # Errors
    /// [`Reason::Memory`] or [`Reason::Cores`], with what there is.
    pub fn promise(&self, task: TaskId, need: Need) -> Result<(), Refusal> {
        let mut promised = self.promised.lock().unwrap_or_else(PoisonError::into_inner);
        let others = || promised.iter().filter(|(id, _)| **id != task).map(|(_, need)| need);
        let cpus: u32 = others().map(|n| n.cpus).sum();
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let free = self.beside(others().map(|n| n.memory).sum());
        if need.memory > free {
            let text = format!("the task needs {} MiB of memory, and {} MiB are free", mib(need.memory), mib(free));
            return Err(Refusal::new(Reason::Memory, text));
        }
        let free = self.total.cpus.saturating_sub(cpus);
        if need.cpus > free {
            let cores = |n: u32| f64::from(n) / 100.0;
            let text = format!("the task needs {} processors, and {} are free", cores(need.cpus), cores(free));
            return Err(Refusal::new(Reason::Cores, text));
        }
        promised.insert(task, need);
        Ok(())
    }

    /// Bytes of memory that a further task could be promised.
    pub fn free(&self) -> u64 {
        self.beside(self.promised.lock().unwrap_or_else(PoisonError::into_inner).values().map(|n| n.memory).sum())
    }

    /// Hundredths of processors, and bytes of memory, that there are for tasks, promised or not.
    pub fn room(&self) -> (u32, u64) {
        (self.total.cpus, self.total.memory.unwrap_or_else(|| available_memory().saturating_sub(SPARE)))
    }

    /// What is free when so much was promised.
    fn beside(&self, memory: u64) -> u64 {
        // What others were promised they may not have taken yet, so the free memory says too little of that; a limit
        // that was set says all.
        match self.total.memory {
            Some(total) => total.saturating_sub(memory),
            None => available_memory().saturating_sub(SPARE),
        }
    }

    /// Takes a promise back.
    pub fn release(&self, task: TaskId) {
        self.promised.lock().unwrap_or_else(PoisonError::into_inner).remove(&task);
    }
}

/// Bytes that the machine could give without swapping.
fn available_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|l| l.trim().strip_suffix(" kB")).and_then(|n| n.trim().parse::<u64>().ok());
    // Without the figure, what fits will be found out by trying.
    kib.map_or(u64::MAX, |kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(n: u8) -> TaskId {
        TaskId([n; 16])
    }

    #[test]
    fn what_is_promised_is_not_promised_again() {
        let capacity = Capacity::new(Total { memory: Some(100), cpus: 200 });
        capacity.promise(task(1), Need { memory: 60, cpus: 100 }).unwrap();
        let refused = capacity.promise(task(2), Need { memory: 60, cpus: 100 }).unwrap_err();
        assert_eq!(refused.reason, Reason::Memory);
        let refused = capacity.promise(task(2), Need { memory: 10, cpus: 150 }).unwrap_err();
        assert_eq!(refused.reason, Reason::Cores);
        // The same task again replaces its own promise.
        capacity.promise(task(1), Need { memory: 90, cpus: 200 }).unwrap();
        capacity.release(task(1));
        capacity.promise(task(2), Need { memory: 100, cpus: 200 }).unwrap();
    }

    #[test]
    fn a_peer_that_offers_without_end_is_put_off() {
        let capacity = Capacity::new(Total { memory: None, cpus: 100 });
        let admitted = (0..10_000).filter(|_| capacity.count_offer("noisy").is_ok()).count();
        assert!(admitted < 100, "{admitted}");
        capacity.count_offer("quiet").unwrap();
    }
}
