//! How a copy on another thread asks the writer's thread for its beginning and its end.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use super::{Request, Shared};
use crate::StoreError;
use crate::copying::{Begun, CopyDesk, Tail};

/// Puts the requests of a copy into the queue of all requests.
pub(super) struct Desk(pub(super) Arc<Shared>);

impl Desk {
    fn ask(&self, request: Request) {
        self.0.lock().requests.push_back(request);
        self.0.asked.notify_one();
    }
}

impl CopyDesk for Desk {
    fn begin(&self, answer: SyncSender<Result<Begun, StoreError>>) {
        self.ask(Request::Copy(answer));
    }

    fn end(&self, tail: Arc<Tail>, answer: SyncSender<Result<(), StoreError>>) {
        self.ask(Request::EndCopy(tail, answer));
    }

    fn failure(&self) -> Option<StoreError> {
        let queues = self.0.lock();
        let closed = queues.has_ended.then_some(StoreError::Closed);
        queues.failure.clone().or(closed)
    }
}
