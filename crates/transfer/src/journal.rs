//! What a node writes down about a task, so that after a crash, a lost link or a power cut exactly one node goes on.
//!
//! ```text
//! source                                         destination
//! Owned(n) ── about to send Commit(n+1) ──►      (none) ──── Commit(n+1) ───► Owned(n+1)
//!    Moving(n+1) ── it says Owns ──► Left           └─────── Ask(n+1) ──────► Refused(n+1)
//!        └───────── it says Never ─► Owned(n+1)
//! ```
//! A record is on the disk before what it speaks of happens: `Moving` before `Commit` is sent, `Owned` before the task
//! runs, `Refused` before `Never` is said. So a question has one answer for ever.

use crate::message::Answer;
use alloc::string::String;
use serde::{Deserialize, Serialize};

/// The last thing that happened to a task on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// The node runs it.
    Owned {
        /// Since this epoch.
        epoch: u64,
    },
    /// The node has frozen it and may have given it away.
    Moving {
        /// The epoch that the other node was to own it from.
        epoch: u64,
        /// The other node.
        to: String,
    },
    /// The node gave it away.
    Left {
        /// At this epoch.
        epoch: u64,
        /// To this node.
        to: String,
    },
    /// The node has promised not to take it over at this epoch, or an earlier one.
    Refused {
        /// Which.
        epoch: u64,
        /// The latest epoch at which it may have owned the task before; 0 for none. Without it the promise would
        /// wipe out the answer to an older question.
        held: u64,
    },
    /// It has ended here, at this epoch.
    Ended {
        /// Which.
        epoch: u64,
    },
}

impl Record {
    /// The latest epoch that the record speaks of.
    pub fn epoch(&self) -> u64 {
        match self {
            Record::Owned { epoch }
            | Record::Moving { epoch, .. }
            | Record::Left { epoch, .. }
            | Record::Refused { epoch, .. }
            | Record::Ended { epoch } => *epoch,
        }
    }
}

/// What a node does about a task after it was started anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Runs it from its last snapshot.
    Run,
    /// Asks that node whether it took over at that epoch.
    Ask {
        /// Whom.
        to: String,
        /// About which epoch.
        epoch: u64,
    },
    /// Nothing: it is not here.
    Nothing,
}

/// What the record obliges a node to do when it starts.
pub fn restart(record: &Record) -> Restart {
    match record {
        Record::Owned { .. } => Restart::Run,
        Record::Moving { epoch, to } => Restart::Ask { to: to.clone(), epoch: *epoch },
        Record::Left { .. } | Record::Refused { .. } | Record::Ended { .. } => Restart::Nothing,
    }
}

/// May a node take a task over at this epoch?
pub fn admits(record: Option<&Record>, epoch: u64) -> bool {
    match record {
        None => true,
        Some(Record::Owned { .. } | Record::Moving { .. }) => false,
        Some(gone) => gone.epoch() < epoch,
    }
}

/// The answer to a question about `epoch`, and the record to write before it is given.
///
/// `deciding`: a move of that epoch to this node is under way, and its commit may be on the way.
pub fn answer(record: Option<&Record>, epoch: u64, deciding: bool) -> (Answer, Option<Record>) {
    match record {
        // It has owned it, now or until it gave it away later.
        Some(Record::Owned { epoch: own } | Record::Ended { epoch: own }) if *own >= epoch => (Answer::Owns, None),
        Some(Record::Moving { epoch: next, .. } | Record::Left { epoch: next, .. }) if *next > epoch => {
            (Answer::Owns, None)
        }
        Some(Record::Refused { held, .. }) if *held >= epoch => (Answer::Owns, None),
        Some(Record::Refused { epoch: refused, .. }) if *refused >= epoch => (Answer::Never, None),
        _ if deciding => (Answer::Deciding, None),
        // It runs an earlier epoch itself: how should it have taken over a later one?
        Some(Record::Owned { .. } | Record::Moving { .. }) => (Answer::Never, None),
        _ => (Answer::Never, Some(Record::Refused { epoch, held: record.map_or(0, held) })),
    }
}

/// The latest epoch at which the task may have been owned, by a record.
fn held(record: &Record) -> u64 {
    match record {
        Record::Owned { epoch } | Record::Ended { epoch } => *epoch,
        Record::Moving { epoch, .. } | Record::Left { epoch, .. } => epoch.saturating_sub(1),
        Record::Refused { held, .. } => *held,
    }
}

/// What becomes of a source's record with an answer about the epoch it speaks of.
pub fn resolved(record: &Record, answer: Answer) -> Option<Record> {
    match (record, answer) {
        (Record::Moving { epoch, to }, Answer::Owns) => Some(Record::Left { epoch: *epoch, to: to.clone() }),
        // The claimed epoch comes back: nobody else will use it.
        (Record::Moving { epoch, .. }, Answer::Never) => Some(Record::Owned { epoch: *epoch }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_has_one_answer_for_ever() {
        let (first, record) = answer(None, 5, false);
        assert_eq!((first, &record), (Answer::Never, &Some(Record::Refused { epoch: 5, held: 0 })));
        assert!(!admits(record.as_ref(), 5) && admits(record.as_ref(), 6));
        assert_eq!(answer(record.as_ref(), 5, false), (Answer::Never, None));
        assert_eq!(answer(Some(&Record::Owned { epoch: 5 }), 5, false), (Answer::Owns, None));
        // It has moved on.
        let left = Record::Left { epoch: 6, to: "c".into() };
        assert_eq!(answer(Some(&left), 5, false), (Answer::Owns, None));
        // It gave the task to the one who asks, and is to get it back.
        assert_eq!(answer(Some(&left), 7, true), (Answer::Deciding, None));
        let (never, refused) = answer(Some(&left), 7, false);
        assert_eq!((never, &refused), (Answer::Never, &Some(Record::Refused { epoch: 7, held: 5 })));
        // Whoever gave it the task at 5 and never heard so may still ask.
        assert_eq!(answer(refused.as_ref(), 5, false), (Answer::Owns, None));
        assert_eq!(answer(refused.as_ref(), 7, false), (Answer::Never, None));
        assert_eq!(answer(refused.as_ref(), 8, false).1, Some(Record::Refused { epoch: 8, held: 5 }));
    }

    #[test]
    fn a_source_in_doubt_asks_and_does_what_it_hears() {
        let moving = Record::Moving { epoch: 5, to: "b".into() };
        assert_eq!(restart(&moving), Restart::Ask { to: "b".into(), epoch: 5 });
        assert_eq!(resolved(&moving, Answer::Never), Some(Record::Owned { epoch: 5 }));
        assert_eq!(resolved(&moving, Answer::Owns), Some(Record::Left { epoch: 5, to: "b".into() }));
        assert_eq!(resolved(&moving, Answer::Deciding), None);
        assert!(!admits(Some(&moving), 9), "a task in doubt is not taken in from elsewhere");
    }
}
