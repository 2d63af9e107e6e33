//! What a node writes down about a task, so that after a crash, a lost link or a power cut exactly one node goes on.
//!
//! ```text
//! source                                         destination
//! Owned(n) ── about to send Commit(n+1) ──►      (none) ── there is an instance ───► Taken(n+1) ── saved ──► Owned(n+1)
//!    Moving(n+1) ── it says Owns ──► Left           │  ◄── no commit comes ───────────────┤
//!        ├───────── it says Never ─► Owned(n+1)     │                                     └── died before ──► Lost(n+1)
//!        └───────── it says Lost ──► Owned(n+2)     └─────── Ask(n+1) ──────► Refused(n+1)
//! ```
//! A record is on the disk before what it speaks of happens: `Moving` before `Commit` is sent, `Taken` before
//! `Prepared` is, and as early as can be, so that the task does not stand still for a disk; `Refused` and `Lost` before they
//! are said. So a question has one answer for ever, but for the one of a node that runs a task which is not on its disk
//! yet: it says `Deciding` to one who needs to know whether it may forget.

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
    /// The node runs it, or is ready to, and has nothing of it on its disk: the node that it came from still has what it
    /// was then. Which of the two it is only the node's memory knows; after a crash it is as good as lost.
    Taken {
        /// At this epoch.
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
        // Offered again at this epoch, it was not committed at it: whoever waits for an answer offers nothing.
        Some(Record::Lost { epoch: lost }) => *lost <= epoch,
        Some(Record::Owned { .. } | Record::Taken { .. } | Record::Moving { .. }) => false,
        Some(gone) => gone.epoch() < epoch,
    }
}

/// What a destination's record of [`Record::Taken`] becomes when its commit will not come, given what was there before.
pub fn struck(before: Option<Record>) -> Record {
    // This promises nothing.
    before.unwrap_or(Record::Refused { epoch: 0, held: 0 })
}

/// A record as it is to be read: what was taken over and is not in the node's memory is lost, whether or not that could
/// be written down.
pub fn settled(record: Option<Record>, runs: bool) -> Option<Record> {
    match record {
        Some(Record::Taken { epoch }) if !runs => Some(Record::Lost { epoch }),
        other => other,
    }
}

/// What an answer depends on besides the record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The task is in this node's memory and goes by that epoch.
    pub runs: bool,
    /// A move of that epoch to this node is under way, and its commit may be on the way.
    pub deciding: bool,
    /// Whoever asks still has the task as it was when it moved, and will keep that until it hears that the task is on
    /// the disk here.
    pub holds: bool,
}

/// The answer to a question about `epoch`, and the record to write before it is given.
pub fn answer(record: Option<&Record>, epoch: u64, facts: Facts) -> (Answer, Option<Record>) {
    let Facts { runs, deciding, holds } = facts;
    match record {
        Some(Record::Taken { epoch: own } | Record::Lost { epoch: own }) if *own > epoch => (Answer::Owns, None),
        Some(Record::Taken { epoch: own }) if *own == epoch => match (runs, deciding) {
            (true, _) if holds => (Answer::Owns, None),
            (true, _) | (false, true) => (Answer::Deciding, None),
            (false, false) => (Answer::Lost, Some(Record::Lost { epoch })),
        },
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

    const HOLDS: Facts = Facts { runs: false, deciding: false, holds: true };

    #[test]
    fn a_question_has_one_answer_for_ever() {
        let (first, record) = answer(None, 5, HOLDS);
        assert_eq!((first, &record), (Answer::Never, &Some(Record::Refused { epoch: 5, held: 0 })));
        assert!(!admits(record.as_ref(), 5) && admits(record.as_ref(), 6));
        assert_eq!(answer(record.as_ref(), 5, HOLDS), (Answer::Never, None));
        assert_eq!(answer(Some(&Record::Owned { epoch: 5 }), 5, HOLDS), (Answer::Owns, None));
        // It has moved on.
        let left = Record::Left { epoch: 6, to: "c".into() };
        assert_eq!(answer(Some(&left), 5, HOLDS), (Answer::Owns, None));
        // It gave the task to the one who asks, and is to get it back.
        assert_eq!(answer(Some(&left), 7, Facts { deciding: true, ..HOLDS }), (Answer::Deciding, None));
        let (never, refused) = answer(Some(&left), 7, HOLDS);
        assert_eq!((never, &refused), (Answer::Never, &Some(Record::Refused { epoch: 7, held: 5 })));
        // Whoever gave it the task at 5 and never heard so may still ask.
        assert_eq!(answer(refused.as_ref(), 5, HOLDS), (Answer::Owns, None));
        assert_eq!(answer(refused.as_ref(), 7, HOLDS), (Answer::Never, None));
        assert_eq!(answer(refused.as_ref(), 8, HOLDS).1, Some(Record::Refused { epoch: 8, held: 5 }));
    }

    #[test]
    fn a_task_that_is_not_on_the_disk_is_kept_by_whom_it_came_from() {
        let taken = Record::Taken { epoch: 5 };
        // One who still has it may know; one who would have to forget it waits.
        assert_eq!(answer(Some(&taken), 5, Facts { runs: true, ..HOLDS }), (Answer::Owns, None));
        assert_eq!(answer(Some(&taken), 5, Facts { runs: true, ..Facts::default() }), (Answer::Deciding, None));
        assert_eq!(answer(Some(&Record::Owned { epoch: 5 }), 5, Facts::default()), (Answer::Owns, None));
        assert!(!admits(Some(&taken), 6));
        // The node dies.
        assert_eq!(restart(&taken), Restart::GiveUp { epoch: 5 });
        let lost = Record::Lost { epoch: 5 };
        assert_eq!(answer(Some(&lost), 5, HOLDS), (Answer::Lost, None));
        assert_eq!(answer(Some(&lost), 5, Facts::default()), (Answer::Lost, None));
        assert_eq!(restart(&lost), Restart::Nothing);
        let moving = Record::Moving { epoch: 5, to: "b".into() };
        assert_eq!(resolved(&moving, Answer::Lost), Some(Record::Owned { epoch: 6 }));
        // And it may come again.
        assert!(!admits(Some(&lost), 4) && admits(Some(&lost), 7));
    }

    #[test]
    fn what_was_ready_to_run_and_was_not_committed_is_struck_or_lost() {
        let taken = Record::Taken { epoch: 5 };
        // The commit may be on the way.
        assert_eq!(answer(Some(&taken), 5, Facts { deciding: true, ..HOLDS }), (Answer::Deciding, None));
        // The move is over, and that could not be written down.
        assert_eq!(answer(Some(&taken), 5, HOLDS), (Answer::Lost, Some(Record::Lost { epoch: 5 })));
        assert_eq!(settled(Some(taken.clone()), true), Some(taken.clone()));
        let lost = settled(Some(taken), false);
        // The source, which never asked, tries again.
        assert!(admits(lost.as_ref(), 5));
        let none = struck(None);
        assert!(admits(Some(&none), 1));
        assert_eq!(answer(Some(&none), 5, HOLDS), answer(None, 5, HOLDS));
        let left = Record::Left { epoch: 3, to: "a".into() };
        assert_eq!(struck(Some(left.clone())), left);
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
