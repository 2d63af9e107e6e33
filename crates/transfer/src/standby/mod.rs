//! Keeping a standby: a task's state goes to another node again and again while the task runs, so that it goes on from there
//! when this node, or the way to it, is gone (thesis, 3.3).
//!
//! ```text
//! primary                                  standby
//!   | Protect (epoch n) ----------------------> | admits it, or refuses
//!   | <----------------------------------- Accept | says which sync it has of this task, if any
//!   | Part(module)... ------------------------> | compiles, makes an instance
//!   | <----------------------------------- Landed |
//!   # as often as a policy says                  |
//!   | Begin(k, since j) ------------------------> |
//!   | Pages... --------------------------------> | puts them aside
//!   # freeze, copy what is left, thaw            |
//!   | Pages... Part(state)... End(k) ----------> # all of it is there: applied at once
//!   | <---------------------------------- Kept(k) |
//! ```
//! The task stands still only while what it has written last is copied in memory, never for the link. The standby changes
//! its instance only with a sync that is complete; so it has the state of one moment, always. What has come of a sync that
//! was cut off is not part of it, but need not come again: pages are asked for by their digests.
//!
//! Who takes over claims an epoch that no move of the primary can reach ([`takeover`]): whatever the primary still says to
//! clients is fenced off by that.

mod primary;
mod secondary;

pub use primary::{Action as PrimaryAction, Event as PrimaryEvent, Phase as PrimaryPhase, Primary, Protected, Synced};
pub use secondary::{Action as StandbyAction, Event as StandbyEvent, Phase as StandbyPhase, Standby};

use crate::message::{Offer, Refusal, TaskId};
use crate::pages::{PageDigest, PageRange};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// What primary and standby say to each other, besides pages and parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Said {
    /// Primary: will you be the standby? The epoch is the one at which the task runs.
    Protect(Offer),
    /// Standby: yes.
    Accept {
        /// The module need not be sent.
        has_module: bool,
        /// The last complete sync of this task that is there; 0 if none is.
        sync: u64,
        /// There are pages of one that was cut off.
        has_rest: bool,
    },
    /// Standby: no, or not any more.
    Refuse(Refusal),
    /// Standby: there is an instance.
    Landed,
    /// Primary: what follows is a sync.
    Begin {
        /// Its number, from 1.
        sync: u64,
        /// It holds what was written since this one; 0: all there is.
        since: u64,
    },
    /// Primary: digests of pages that may be there of a sync that was cut off.
    Digests {
        /// The pages.
        range: PageRange,
        /// One for each.
        digests: Vec<PageDigest>,
    },
    /// Standby: one bit for each page of the oldest unanswered `Digests`: it need not come.
    Have(Vec<u8>),
    /// Primary: that was all of it.
    End {
        /// Its number.
        sync: u64,
        /// Batches of pages in it.
        batches: u64,
    },
    /// Standby: it is complete, and what the task would go on from.
    Kept(u64),
    /// Primary: thank you, that is all.
    Dismiss,
    /// Standby: it has taken over, at this epoch.
    TakenOver(u64),
    /// A primary that was away, on a channel of its own: has it been taken over? The answer is `TakenOver` or `NotTakenOver`.
    Ask {
        /// Which task.
        task: TaskId,
        /// The epoch at which it ran there.
        epoch: u64,
    },
    /// Standby: it has not.
    NotTakenOver,
    /// Primary: I am here. Not for the machines; the number comes back.
    Beat(u64),
    /// Standby: so am I.
    Echo(u64),
}

/// The epoch of a standby that takes over from a task at `epoch`: later than that of any move that its primary makes. The
/// upper half counts takeovers, the lower one moves in between.
pub fn takeover(epoch: u64) -> u64 {
    ((epoch >> 32) + 1) << 32
}

#[cfg(test)]
mod tests {
    #[test]
    fn who_takes_over_is_ahead_of_all_moves() {
        let mut epoch = 1;
        for _ in 0..10 {
            let next = super::takeover(epoch);
            assert!(next > epoch + 1_000_000);
            epoch = next + 7;
        }
    }
}
