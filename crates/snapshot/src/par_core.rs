//! The single-threaded twin of `par_std.rs`, for targets without threads.

use alloc::vec::Vec;

/// `f` of each item, in order; `init` makes the scratch state that they share.
pub(crate) fn map<T, S, R>(items: Vec<T>, init: impl Fn() -> S, f: impl Fn(&mut S, T) -> R) -> Vec<R> {
    let mut scratch = init();
    items.into_iter().map(|item| f(&mut scratch, item)).collect()
}

/// Feeds `bytes` to `hasher`.
pub(crate) fn hash(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    hasher.update(bytes);
}
