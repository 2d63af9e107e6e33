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
//!
//! Where both are there, the task is handed over, and nothing of it is lost: it is not let go after its last sync, and the
//! standby takes over at the primary's word.
//! ```text
//!   | <--------------------------------- HandMe | a person asked there
//!   # freeze, copy what is left                  |
//!   | Pages... Part(state)... End(k) ----------> |
//!   | <---------------------------------- Kept(k) |
//!   | Hand ------------------------------------> # takes over
//!   | <------------------------- TakenOver(epoch) |
//! ```
//! If the link breaks in the middle, the primary lets the task go on: it cannot know whether the standby has taken over, as with
//! any link that breaks.
//!
//! A primary that was cut off, and went on, hears of it that it has been taken over, and may say why its own state should count
//! ([`Claim`]); the other side has the last word.

mod primary;
mod secondary;

pub use primary::{Action as PrimaryAction, Event as PrimaryEvent, Phase as PrimaryPhase, Primary, Protected, Synced};
pub use secondary::{Action as StandbyAction, Event as StandbyEvent, Phase as StandbyPhase, Standby};

use crate::message::{Offer, Refusal, TaskId};
use crate::pages::{PageDigest, PageRange};
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// What primary and standby say to each other, besides pages and parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Said {
    /// Primary: will you be the standby?
    Protect {
        /// The epoch is the one at which the task runs.
        offer: Offer,
        /// How many other standbys the task has that are to go on with it rather than this one.
        rank: u32,
        /// What the drivers say to each other of how it is protected.
        terms: Vec<u8>,
    },
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
    /// Primary: another standby goes on with the task. What you have of it is kept until that one says its offer.
    Passed {
        /// Which node.
        to: String,
        /// At which epoch.
        epoch: u64,
    },
    /// Standby: a person wants it to take over; with all that the task has done, since the primary is there.
    HandMe,
    /// Primary: the task stands still at the last sync that you have. Take over.
    Hand {
        /// A person wants it to stay there.
        stays: bool,
    },
    /// Standby: it has taken over, at this epoch.
    TakenOver(u64),
    /// A primary that was taken over, on a channel of its own: why its own state is to count. The answer is `TakenOver` or `Yield`.
    Claim {
        /// Which task.
        task: TaskId,
        /// The epoch at which it was taken over.
        epoch: u64,
        /// Why.
        claim: Claim,
    },
    /// Standby that had taken over: its task stands still. Go on at this epoch.
    Yield(u64),
    /// A primary that was started anew, or a standby further away that hears nothing of the primary, on a channel of its own: has
    /// it been taken over? The answer is `TakenOver` or `NotTakenOver`. A standby whose state is not behind what its primary
    /// has takes over for that.
    Ask {
        /// Which task.
        task: TaskId,
        /// The epoch at which it ran there.
        epoch: u64,
        /// How much work the state stands for that the primary would go on from.
        work: u64,
    },
    /// Standby: it has not.
    NotTakenOver {
        /// It could.
        stands_by: bool,
    },
    /// Primary: I am here. Not for the machines; the number comes back.
    Beat(u64),
    /// Primary: the same, with bytes that say nothing: how much later than the last one its echo comes tells the link's bandwidth.
    Probe {
        /// The number.
        at: u64,
        /// What takes the link its time.
        padding: Vec<u8>,
    },
    /// Standby: so am I.
    Echo(u64),
}

/// Why the state of a primary that was cut off is to count rather than the one of its standby, which took over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Claim {
    /// It has served its clients all the time.
    Served,
    /// It has done so much work, in the units of a snapshot's progress: what is further counts (thesis, definition 3.1).
    Work(u64),
}

/// Bytes of terms, at most.
pub const TERMS_MAX: usize = 4096;

/// Bits of an epoch that count moves since a takeover, and those that say who took over.
const MOVES: u32 = 28;
const RANKS: u32 = 4;

/// Most standbys of a task.
pub const STANDBYS_MAX: u32 = (1 << RANKS) - 1;

/// The epoch of a standby that takes over from a task at `epoch`: later than that of any move that its primary makes. The
/// upper half counts takeovers; the four bits below it are for two standbys that take over from the same primary, of which the
/// one of the lower `rank` (0: the nearest) counts; the rest counts moves in between.
pub fn takeover(epoch: u64, rank: u32) -> u64 {
    let first = u64::from(STANDBYS_MAX - rank.min(STANDBYS_MAX));
    ((((epoch >> (MOVES + RANKS)) + 1) << RANKS) | first) << MOVES
}

/// Whether an epoch is of a takeover that counts before the one that another epoch is of: both sides go on, and are not where a
/// move has brought them.
pub fn is_ahead(epoch: u64, of: u64) -> bool {
    epoch >> MOVES > of >> MOVES
}

#[cfg(test)]
mod tests {
    use super::{is_ahead, takeover};

    #[test]
    fn who_takes_over_is_ahead_of_all_moves() {
        let mut epoch = 1;
        for _ in 0..10 {
            let next = takeover(epoch, 0);
            assert!(next > epoch + 1_000_000 && is_ahead(next, epoch + 1_000_000));
            epoch = next + 7;
        }
    }

    #[test]
    fn of_two_that_take_over_the_nearer_one_is_ahead() {
        let (near, far) = (takeover(5, 0), takeover(5, 1));
        assert!(is_ahead(near, far + 1_000_000) && !is_ahead(far, near) && !is_ahead(near, near));
        // Who takes over from either is ahead of both.
        assert!(is_ahead(takeover(far, 14), near) && is_ahead(takeover(far, 99), near));
    }
}
