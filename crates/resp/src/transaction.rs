//! Commands between MULTI and EXEC.

use core::ops::Range;

use crate::error::ErrorReply;
use crate::limits::Limits;
use crate::request::Arguments;
use crate::table::Command;

/// A command with its arguments, copied out of the buffer.
#[derive(Clone, Debug)]
pub(crate) struct Queued {
    pub(crate) command: &'static Command,
    bytes: Vec<u8>,
    ranges: Vec<Range<usize>>,
}

impl Queued {
    pub(crate) fn arguments(&self) -> Arguments<'_> {
        Arguments::new(&self.bytes, &self.ranges)
    }
}

/// What MULTI began.
#[derive(Clone, Debug, Default)]
pub(crate) struct Transaction {
    pub(crate) queued: Vec<Queued>,
    bytes: usize,
    /// A command could not be queued: EXEC will refuse all.
    pub(crate) is_broken: bool,
}

impl Transaction {
    /// Bytes of the commands that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes + self.queued.len() * size_of::<Queued>()
    }

    /// Queues a command.
    pub(crate) fn queue(
        &mut self,
        command: &'static Command,
        arguments: Arguments<'_>,
        limits: &Limits,
    ) -> Result<(), ErrorReply> {
        let size = arguments.rest(0).map(|argument| argument.len() + size_of::<Range<usize>>()).sum::<usize>();
        let fits = self.queued.len() < limits.transaction_commands_max
            && self.bytes.saturating_add(size) <= limits.transaction_bytes_max;
        if !fits {
            let (commands, bytes) = (limits.transaction_commands_max, limits.transaction_bytes_max);
            let message = format!("a transaction has at most {commands} commands and {bytes} bytes (ERR_TOO_LARGE)");
            return Err(ErrorReply::err(message));
        }
        self.bytes += size;
        let mut copied = Queued { command, bytes: Vec::new(), ranges: Vec::with_capacity(arguments.len()) };
        for argument in arguments.rest(0) {
            let start = copied.bytes.len();
            copied.bytes.extend_from_slice(argument);
            copied.ranges.push(start..copied.bytes.len());
        }
        self.queued.push(copied);
        Ok(())
    }
}
