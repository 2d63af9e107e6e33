//! What a node writes down about a task, so that after a crash, a lost link or a power cut exactly one node goes on.
//!
//! ```text
//! source                                         destination
//! Owned(n) ── about to send Commit(n+1) ──►      (none) ──── Commit(n+1) ───► Taken(n+1) ── saved ──► Owned(n+1)
//!    Moving(n+1) ── it says Owns ──► Left           │                             └── died before ──► Lost(n+1)
//!        ├───────── it says Never ─► Owned(n+1)     └─────── Ask(n+1) ──────► Refused(n+1)
//!        └───────── it says Lost ──► Owned(n+2)
//! ```
//! A record is on the disk before what it speaks of happens: `Moving` before `Commit` is sent, `Taken` before the task
//! runs, `Refused` and `Lost` before they are said. So a question has one answer for ever, but for the one of a node
//! that runs a task which is not on its disk yet: it says `Deciding` to one who needs to know whether it may forget.

use crate::message::Answer;
use alloc::string::String;
use serde::{Deserialize, Serialize};

/// The last thing that happened to a task on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// The node runs it, and can go on from what is on its disk.
    Owned {
        /// Since this epoch.
        epoch: u64,
    },
    /// The node runs it, and has nothing of it on its disk: the node that it came from still has what it was then.
    Taken {
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
    /// The node died after it had taken the task over, with nothing of it on its disk.
    Lost {
        /// At this epoch.
        epoch: u64,
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
            | Record::Taken { epoch }
            | Record::Lost { epoch }
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
    /// Writes down that it is lost: then the node that it came from may go on with what it has kept.
    GiveUp {
        /// The epoch at which it was taken over.
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
        Record::Taken { epoch } => Restart::GiveUp { epoch: *epoch },
        Record::Left { .. } | Record::Refused { .. } | Record::Lost { .. } | Record::Ended { .. } => Restart::Nothing,
    }
}

/// May a node take a task over at this epoch?
pub fn admits(record: Option<&Record>, epoch: u64) -> bool {
    match record {
        None => true,
        Some(Record::Owned { .. } | Record::Taken { .. } | Record::Moving { .. }) => false,
        Some(gone) => gone.epoch() < epoch,
    }
}

/// The answer to a question about `epoch`, and the record to write before it is given.
///
/// `deciding`: a move of that epoch to this node is under way, and its commit may be on the way. `holds`: whoever asks
/// still has the task as it was when it moved, and will keep that until it hears that the task is on the disk here.
pub fn answer(record: Option<&Record>, epoch: u64, deciding: bool, holds: bool) -> (Answer, Option<Record>) {
    match record {
        Some(Record::Taken { epoch: own }) if *own == epoch && !holds => (Answer::Deciding, None),
        Some(Record::Taken { epoch: own } | Record::Lost { epoch: own }) if *own > epoch => (Answer::Owns, None),
        Some(Record::Taken { epoch: own }) if *own == epoch => (Answer::Owns, None),
        Some(Record::Lost { epoch: own }) if *own == epoch => (Answer::Lost, None),
        // It has owned it, now or until it gave it away later.
        Some(Record::Owned { epoch: own } | Record::Ended { epoch: own }) if *own >= epoch => (Answer::Owns, None),
        Some(Record::Moving { epoch: next, .. } | Record::Left { epoch: next, .. }) if *next > epoch => {
            (Answer::Owns, None)
        }
        Some(Record::Refused { held, .. }) if *held >= epoch => (Answer::Owns, None),
        Some(Record::Refused { epoch: refused, .. }) if *refused >= epoch => (Answer::Never, None),
        _ if deciding => (Answer::Deciding, None),
        // It runs an earlier epoch itself: how should it have taken over a later one?
        Some(Record::Owned { .. } | Record::Taken { .. } | Record::Moving { .. }) => (Answer::Never, None),
        _ => (Answer::Never, Some(Record::Refused { epoch, held: record.map_or(0, held) })),
    }
}

/// The latest epoch at which the task may have been owned, by a record.
fn held(record: &Record) -> u64 {
    match record {
        Record::Owned { epoch } | Record::Taken { epoch } | Record::Ended { epoch } => *epoch,
        // Whoever gave it up for lost here has heard so: nobody gives it here again before.
        Record::Moving { epoch, .. } | Record::Left { epoch, .. } | Record::Lost { epoch } => epoch.saturating_sub(1),
        Record::Refused { held, .. } => *held,
    }
}

/// What becomes of a source's record with an answer about the epoch it speaks of.
pub fn resolved(record: &Record, answer: Answer) -> Option<Record> {
    match (record, answer) {
        (Record::Moving { epoch, to }, Answer::Owns) => Some(Record::Left { epoch: *epoch, to: to.clone() }),
        // The claimed epoch comes back: nobody else will use it.
        (Record::Moving { epoch, .. }, Answer::Never) => Some(Record::Owned { epoch: *epoch }),
        // It has been used: what ran there and what goes on here are two.
        (Record::Moving { epoch, .. }, Answer::Lost) => Some(Record::Owned { epoch: epoch.saturating_add(1) }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_has_one_answer_for_ever() {
        let (first, record) = answer(None, 5, false, true);
        assert_eq!((first, &record), (Answer::Never, &Some(Record::Refused { epoch: 5, held: 0 })));
        assert!(!admits(record.as_ref(), 5) && admits(record.as_ref(), 6));
        assert_eq!(answer(record.as_ref(), 5, false, true), (Answer::Never, None));
        assert_eq!(answer(Some(&Record::Owned { epoch: 5 }), 5, false, true), (Answer::Owns, None));
        // It has moved on.
        let left = Record::Left { epoch: 6, to: "c".into() };
        assert_eq!(answer(Some(&left), 5, false, true), (Answer::Owns, None));
        // It gave the task to the one who asks, and is to get it back.
        assert_eq!(answer(Some(&left), 7, true, true), (Answer::Deciding, None));
        let (never, refused) = answer(Some(&left), 7, false, true);
        assert_eq!((never, &refused), (Answer::Never, &Some(Record::Refused { epoch: 7, held: 5 })));
        // Whoever gave it the task at 5 and never heard so may still ask.
        assert_eq!(answer(refused.as_ref(), 5, false, true), (Answer::Owns, None));
        assert_eq!(answer(refused.as_ref(), 7, false, true), (Answer::Never, None));
        assert_eq!(answer(refused.as_ref(), 8, false, true).1, Some(Record::Refused { epoch: 8, held: 5 }));
    }

    #[test]
    fn a_task_that_is_not_on_the_disk_is_kept_by_whom_it_came_from() {
        let taken = Record::Taken { epoch: 5 };
        // One who still has it may know; one who would have to forget it waits.
        assert_eq!(answer(Some(&taken), 5, false, true), (Answer::Owns, None));
        assert_eq!(answer(Some(&taken), 5, false, false), (Answer::Deciding, None));
        assert_eq!(answer(Some(&Record::Owned { epoch: 5 }), 5, false, false), (Answer::Owns, None));
        assert!(!admits(Some(&taken), 6));
        // The node dies.
        assert_eq!(restart(&taken), Restart::GiveUp { epoch: 5 });
        let lost = Record::Lost { epoch: 5 };
        assert_eq!(answer(Some(&lost), 5, false, true), (Answer::Lost, None));
        assert_eq!(answer(Some(&lost), 5, false, false), (Answer::Lost, None));
        assert_eq!(restart(&lost), Restart::Nothing);
        let moving = Record::Moving { epoch: 5, to: "b".into() };
        assert_eq!(resolved(&moving, Answer::Lost), Some(Record::Owned { epoch: 6 }));
        // And it may come again.
        assert!(!admits(Some(&lost), 5) && admits(Some(&lost), 7));
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
