//! Row locks: one holder each, first come, first served; cycles are found when a wait begins.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use replica::host::RowId;

use super::SessionId;

#[derive(Clone, Debug)]
struct Lock {
    holder: SessionId,
    queue: VecDeque<SessionId>,
}

/// What became of a request for a lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Request {
    /// The lock is held now.
    Granted,
    /// Somebody else holds it: wait.
    Waits,
    /// Waiting would close a cycle.
    Deadlock,
}

/// All row locks of a database.
#[derive(Clone, Debug, Default)]
pub(super) struct Locks {
    locks: BTreeMap<RowId, Lock>,
    held: BTreeMap<SessionId, BTreeSet<RowId>>,
    waiting: BTreeMap<SessionId, RowId>,
}

impl Locks {
    /// Asks for a row's lock, or begins to wait for it.
    pub(super) fn request(&mut self, session: SessionId, row: &RowId) -> Request {
        let Some(lock) = self.locks.get(row) else {
            self.grant(session, row.clone());
            return Request::Granted;
        };
        if lock.holder == session {
            return Request::Granted;
        }
        if self.closes_cycle(session, row) {
            return Request::Deadlock;
        }
        if let Some(lock) = self.locks.get_mut(row) {
            lock.queue.push_back(session);
        }
        self.waiting.insert(session, row.clone());
        Request::Waits
    }

    /// True when the session holds the row's lock.
    pub(super) fn holds(&self, session: SessionId, row: &RowId) -> bool {
        self.locks.get(row).is_some_and(|lock| lock.holder == session)
    }

    /// True while the session waits.
    pub(super) fn is_waiting(&self, session: SessionId) -> bool {
        self.waiting.contains_key(&session)
    }

    /// Gives one lock back. Returns who holds it next.
    pub(super) fn release(&mut self, session: SessionId, row: &RowId) -> Option<SessionId> {
        if let Some(held) = self.held.get_mut(&session) {
            held.remove(row);
        }
        self.pass_on(row)
    }

    /// Ends a session's waits and gives all its locks back. Returns who goes on, in order.
    pub(super) fn release_all(&mut self, session: SessionId) -> Vec<SessionId> {
        if let Some(row) = self.waiting.remove(&session)
            && let Some(lock) = self.locks.get_mut(&row)
        {
            lock.queue.retain(|waiting| *waiting != session);
        }
        let held = self.held.remove(&session).unwrap_or_default();
        held.iter().filter_map(|row| self.pass_on(row)).collect()
    }

    fn grant(&mut self, session: SessionId, row: RowId) {
        self.held.entry(session).or_default().insert(row.clone());
        self.locks.insert(row, Lock { holder: session, queue: VecDeque::new() });
    }

    fn pass_on(&mut self, row: &RowId) -> Option<SessionId> {
        let lock = self.locks.get_mut(row)?;
        let Some(next) = lock.queue.pop_front() else {
            self.locks.remove(row);
            return None;
        };
        lock.holder = next;
        self.waiting.remove(&next);
        self.held.entry(next).or_default().insert(row.clone());
        Some(next)
    }

    fn closes_cycle(&self, session: SessionId, row: &RowId) -> bool {
        let mut row = row;
        // Each session waits for one row at most, so the chain of waits has no branch.
        for _ in 0..=self.waiting.len() {
            let Some(lock) = self.locks.get(row) else { return false };
            if lock.holder == session {
                return true;
            }
            match self.waiting.get(&lock.holder) {
                Some(next) => row = next,
                None => return false,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crdt::Namespace;

    fn row(id: u64) -> RowId {
        RowId::numbered(Namespace(1), "t", id)
    }

    #[test]
    fn locks_pass_to_the_first_in_the_queue() {
        let mut locks = Locks::default();
        let [a, b, c] = [SessionId(1), SessionId(2), SessionId(3)];
        assert_eq!(locks.request(a, &row(1)), Request::Granted);
        assert_eq!(locks.request(b, &row(1)), Request::Waits);
        assert_eq!(locks.request(c, &row(1)), Request::Waits);
        assert_eq!(locks.release_all(a), vec![b]);
        assert!(locks.holds(b, &row(1)) && locks.is_waiting(c));
        assert_eq!(locks.release_all(c), vec![]);
        assert_eq!(locks.release(b, &row(1)), None);
    }

    #[test]
    fn a_cycle_is_found_when_it_closes() {
        let mut locks = Locks::default();
        let [a, b, c] = [SessionId(1), SessionId(2), SessionId(3)];
        for (session, id) in [(a, 1), (b, 2), (c, 3)] {
            assert_eq!(locks.request(session, &row(id)), Request::Granted);
        }
        assert_eq!(locks.request(a, &row(2)), Request::Waits);
        assert_eq!(locks.request(b, &row(3)), Request::Waits);
        assert_eq!(locks.request(c, &row(1)), Request::Deadlock);
        assert_eq!(locks.release_all(c), vec![b]);
    }
}
