//! Whether anything may have been lost, or copied, since the store was last open.
//!
//! A replica id whose sequence went back loses writes silently (see [`crdt::ReplicaId`]), so the burden of proof is on
//! the store: every sign below makes [`Continuity::NotProven`], and the node mints another id. What no sign can show
//! (a virtual machine put back to a snapshot that holds folder and mark) peers notice: `replica` listens first.

use core::fmt;
use std::path::PathBuf;

use replica::Continuity;

/// One reason why continuity is not proven.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Doubt {
    /// There was nothing.
    FirstStart,
    /// Records are there, but not the files that tell of the last run.
    NoLedger,
    /// The files that tell of the last run do not read.
    LedgerDamaged,
    /// The machine was started anew and the store had not been closed: power may have been cut.
    PowerCut,
    /// The folder was last used on another machine.
    OtherMachine,
    /// The files that tell of the last run are not the ones that it wrote: a copy, or a restored backup.
    Copied,
    /// The last run ended by a durable write that failed.
    WriteFailed,
    /// The last start was in doubt, and nothing became durable since.
    Unsettled,
    /// The store holds less than it had acknowledged.
    WentBack {
        /// Number of its last group.
        found: u64,
        /// Number of the last group that was called durable.
        known: u64,
    },
    /// The store was closed at a group and holds more: somebody else has written.
    WentOn {
        /// Number of its last group.
        found: u64,
        /// Number of the last group when it was closed.
        known: u64,
    },
    /// Bytes did not read.
    Damaged {
        /// What, in words.
        what: String,
        /// Where they are kept, if they were set aside.
        kept: Option<PathBuf>,
    },
    /// The server's data are not those that this node's ledger belongs to.
    OtherStore,
    /// The server is another process than before: its last second may be gone.
    ServiceRestarted,
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FirstStart => f.write_str("this is the first start"),
            Self::NoLedger => f.write_str("records are there without the files that tell of the last run"),
            Self::LedgerDamaged => f.write_str("the files that tell of the last run do not read"),
            Self::PowerCut => f.write_str("the machine was started anew, and the store had not been closed"),
            Self::OtherMachine => f.write_str("the folder was last used on another machine"),
            Self::Copied => f.write_str("the folder is a copy or a restored backup"),
            Self::WriteFailed => f.write_str("the last run ended by a durable write that failed"),
            Self::Unsettled => f.write_str("the last start was in doubt and nothing became durable since"),
            Self::WentBack { found, known } => {
                write!(f, "the store holds groups up to {found} and had acknowledged {known}")
            }
            Self::WentOn { found, known } => write!(f, "the store was closed at group {known} and holds {found}"),
            Self::Damaged { what, kept: Some(kept) } => write!(f, "{what} did not read; kept in {}", kept.display()),
            Self::Damaged { what, kept: None } => write!(f, "{what} did not read"),
            Self::OtherStore => f.write_str("the server's data are not those of this node"),
            Self::ServiceRestarted => f.write_str("the server was restarted"),
        }
    }
}

/// What a start found out about the time before it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proof {
    /// Every sign against continuity.
    pub doubts: Vec<Doubt>,
    /// Identity of the store, 128 random bits made with it.
    pub store: u128,
    /// Number of the last group found.
    pub sequence: u64,
}

impl Proof {
    /// What [`replica::Start`] asks for.
    pub fn continuity(&self) -> Continuity {
        if self.doubts.is_empty() { Continuity::Proven } else { Continuity::NotProven }
    }
}

/// What the ledger says of the last run.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Past {
    /// What the ledger itself shows.
    pub(crate) doubts: Vec<Doubt>,
    /// Number of the last group that was called durable.
    pub(crate) acknowledged: u64,
    /// Number of the last group when the store was closed in order.
    pub(crate) closed: Option<u64>,
    /// The server's `run_id`.
    pub(crate) service: Option<String>,
}

/// What the store itself says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Present {
    /// Number of its last group; 0 where there is none.
    pub(crate) sequence: u64,
    /// The server's `run_id`.
    pub(crate) service: Option<String>,
    /// What opening it showed.
    pub(crate) doubts: Vec<Doubt>,
}

/// Every sign against continuity.
pub(crate) fn doubts(past: &Past, present: &Present) -> Vec<Doubt> {
    let mut doubts = past.doubts.clone();
    let known = past.acknowledged.max(past.closed.unwrap_or_default());
    let found = present.sequence;
    if found < known {
        doubts.push(Doubt::WentBack { found, known });
    } else if let Some(known) = past.closed.filter(|closed| found > *closed) {
        doubts.push(Doubt::WentOn { found, known });
    }
    if past.service.is_some() && past.service != present.service {
        doubts.push(Doubt::ServiceRestarted);
    }
    doubts.extend(present.doubts.iter().cloned());
    doubts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(acknowledged: u64, closed: Option<u64>, found: u64) -> Vec<Doubt> {
        let past = Past { acknowledged, closed, ..Past::default() };
        doubts(&past, &Present { sequence: found, ..Present::default() })
    }

    #[test]
    fn a_store_that_holds_what_it_acknowledged_is_trusted() {
        assert_eq!(judge(5, Some(5), 5), Vec::<Doubt>::new());
        assert_eq!(judge(5, None, 5), Vec::<Doubt>::new());
        assert_eq!(judge(5, None, 6), Vec::<Doubt>::new(), "killed between the commit and the note of it");
    }

    #[test]
    fn less_or_more_than_known_is_a_doubt() {
        assert_eq!(judge(5, None, 4), [Doubt::WentBack { found: 4, known: 5 }]);
        assert_eq!(judge(0, Some(5), 4), [Doubt::WentBack { found: 4, known: 5 }]);
        assert_eq!(judge(5, Some(5), 6), [Doubt::WentOn { found: 6, known: 5 }]);
    }

    #[test]
    fn another_server_process_is_a_doubt() {
        let past = Past { service: Some("a".into()), ..Past::default() };
        let present = |service: &str| Present { service: Some(service.into()), ..Present::default() };
        assert_eq!(doubts(&past, &present("a")), Vec::<Doubt>::new());
        assert_eq!(doubts(&past, &present("b")), [Doubt::ServiceRestarted]);
    }
}
