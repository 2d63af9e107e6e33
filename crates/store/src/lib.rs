//! What a machine keeps: modules and the images compiled from them, the key that signs these, snapshots, and where all of it is.
//! Command line and agent share it, so that what one has compiled the other finds.
#![forbid(unsafe_code)]

pub mod atomic;
pub mod locations;
pub mod program;
pub mod snapshots;

use std::sync::OnceLock;

/// How whoever uses this crate shows what goes on.
#[derive(Clone, Copy)]
pub struct Observer {
    /// Something worth saying that ends nothing.
    pub notice: fn(&str),
    /// Does the work, and shows that it takes long if it does.
    pub working: fn(&str, &mut dyn FnMut()),
}

static OBSERVER: OnceLock<Observer> = OnceLock::new();

/// Sets the observer of this process; the first one stays.
pub fn observe(observer: Observer) {
    let _ = OBSERVER.set(observer);
}

fn notice(text: &str) {
    if let Some(observer) = OBSERVER.get() {
        (observer.notice)(text);
    }
}

fn while_working<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let (mut work, mut result) = (Some(work), None);
    let mut once = || result = work.take().map(|work| work());
    match OBSERVER.get() {
        Some(observer) => (observer.working)(what, &mut once),
        None => once(),
    }
    match result {
        Some(result) => result,
        None => unreachable!("an observer does the work"),
    }
}
