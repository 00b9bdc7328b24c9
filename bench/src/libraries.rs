//! The libraries of a run, one module each, and the only list of them.

mod automerge;
mod crdts;
mod loro;
mod ours;
mod plain;
mod yrs;

use crate::failure::Failure;
use crate::receiver::{self, Measure};
use crate::replica::Replica;
use crate::workload::Workload;
use crate::writer::{self, Sent, ThreeWriters};

/// One library, with the steps of the bench compiled for its replica. The steps are generic so that
/// no call inside a clock goes through a pointer.
#[derive(Clone, Copy)]
pub(crate) struct Library {
    pub(crate) name: &'static str,
    pub(crate) conditions: &'static str,
    pub(crate) update_count: fn(usize) -> usize,
    pub(crate) send: fn(&Workload, usize, usize) -> Result<Sent, Failure>,
    pub(crate) three_writers: fn(&Workload, usize, usize) -> Result<ThreeWriters, Failure>,
    pub(crate) receive: fn(Measure, usize) -> Result<(), Failure>,
}

/// Everything that runs, in the order of the tables.
pub(crate) const LIBRARIES: [Library; 8] = [
    library::<ours::Ours>(),
    library::<plain::PlainMap<ours::Ours>>(),
    library::<crdts::Crdts>(),
    library::<crdts::CrdtsFastHash>(),
    library::<yrs::Yrs<yrs::V1>>(),
    library::<yrs::Yrs<yrs::V2>>(),
    library::<loro::Loro>(),
    library::<automerge::Automerge>(),
];

/// The library of a receiving process's command line.
pub(crate) fn named(name: &str) -> Result<Library, Failure> {
    LIBRARIES
        .into_iter()
        .find(|library| library.name == name)
        .ok_or_else(|| Failure::Arguments(format!("no library is called {name}")))
}

const fn library<R: Replica>() -> Library {
    Library {
        name: R::NAME,
        conditions: R::CONDITIONS,
        update_count: R::update_count,
        send: writer::send::<R>,
        three_writers: writer::three_writers::<R>,
        receive: receiver::receive::<R>,
    }
}
