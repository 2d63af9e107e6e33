//! Work on all cores, for hosts that have threads. The single-threaded twin is `par_core.rs`.

use alloc::vec::Vec;
use rayon::prelude::*;

/// Below this many bytes, waking other threads costs more than it saves.
const HASH_ALONE: usize = 512 * 1024;
const MAP_ALONE: usize = 4;

/// `f` of each item, in order; `init` makes the scratch state that a thread reuses.
pub(crate) fn map<T, S, R>(
    items: Vec<T>,
    init: impl Fn() -> S + Sync + Send,
    f: impl Fn(&mut S, T) -> R + Sync + Send,
) -> Vec<R>
where
    T: Send,
    R: Send,
{
    if items.len() < MAP_ALONE {
        let mut scratch = init();
        return items.into_iter().map(|item| f(&mut scratch, item)).collect();
    }
    items.into_par_iter().with_min_len(2).map_init(init, f).collect()
}

/// Feeds `bytes` to `hasher`.
pub(crate) fn hash(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    if bytes.len() < HASH_ALONE {
        hasher.update(bytes);
    } else {
        hasher.update_rayon(bytes);
    }
}
