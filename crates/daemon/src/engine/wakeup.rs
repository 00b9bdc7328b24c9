//! How other threads wake the hot thread, at the price of an atomic swap while it is awake anyway.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::Wake;

use mio::{Registry, Token, Waker};

/// It is at work and has seen all news.
const AWAKE: u8 = 0;
/// There is news that it has not seen.
const NEWS: u8 = 1;
/// It is about to sleep or sleeps: only a system call reaches it.
const ASLEEP: u8 = 2;

/// Wakes the hot thread.
///
/// Whoever has news puts it into a queue first and calls [`Wakeup::wake`] then. The hot thread looks into the queues
/// after [`Wakeup::has_woken`] said that there is news, so nothing is ever left lying.
pub(crate) struct Wakeup {
    state: AtomicU8,
    waker: Waker,
}

impl Wakeup {
    /// Wakes the poll of this registry by an event with this token.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        Ok(Self { state: AtomicU8::new(AWAKE), waker: Waker::new(registry, token)? })
    }

    /// There is news.
    pub(crate) fn wake(&self) {
        if self.state.swap(NEWS, Ordering::AcqRel) == ASLEEP {
            // It fails only when the poll is gone, and then nobody is left to be woken.
            let _ = self.waker.wake();
        }
    }

    /// The hot thread wants to sleep; false when there is news, so that it must not.
    pub(crate) fn may_sleep(&self) -> bool {
        self.state.compare_exchange(AWAKE, ASLEEP, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// The hot thread goes on; true when there is news.
    pub(crate) fn has_woken(&self) -> bool {
        self.state.swap(AWAKE, Ordering::AcqRel) == NEWS
    }
}

/// As a waker of a future that the hot thread polls by itself.
impl Wake for Wakeup {
    fn wake(self: Arc<Self>) {
        Self::wake(&self);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        Self::wake(self);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mio::{Events, Poll};

    use super::*;

    #[test]
    fn only_a_sleeper_costs_a_system_call() {
        let mut poll = Poll::new().unwrap();
        let wakeup = Wakeup::new(poll.registry(), Token(7)).unwrap();
        let mut events = Events::with_capacity(4);
        wakeup.wake();
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        assert!(events.is_empty(), "it was awake");
        assert!(!wakeup.may_sleep());
        assert!(wakeup.has_woken() && !wakeup.has_woken());
        assert!(wakeup.may_sleep());
        wakeup.wake();
        poll.poll(&mut events, Some(Duration::from_secs(10))).unwrap();
        assert_eq!(events.iter().map(|event| event.token()).collect::<Vec<_>>(), [Token(7)]);
        assert!(wakeup.has_woken());
    }

    #[test]
    fn news_from_another_thread_ends_a_sleep() {
        let mut poll = Poll::new().unwrap();
        let wakeup = Arc::new(Wakeup::new(poll.registry(), Token(0)).unwrap());
        let other = Arc::clone(&wakeup);
        assert!(wakeup.may_sleep());
        let thread = std::thread::spawn(move || other.wake());
        let mut events = Events::with_capacity(4);
        poll.poll(&mut events, Some(Duration::from_secs(10))).unwrap();
        assert!(!events.is_empty() && wakeup.has_woken());
        thread.join().unwrap();
    }
}
