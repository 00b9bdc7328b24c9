//! Limits of one connection. Each is checked before anything is allocated for what it bounds.

/// Limits, each with what breaks outside its range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of one request from its first byte to its last. Above what one batch holds (4 MiB of values) a write is
    /// refused at the commit anyway; a few MiB more leave room for names and for reads of many keys.
    pub frame_bytes_max: usize,
    /// Arguments of one request, the command's name included. Twice [`crdt::pack::CHANGES_MAX`] fits an `MSET` that
    /// fills a batch; each costs 16 bytes here.
    pub arguments_max: usize,
    /// Bytes of one argument. At most `frame_bytes_max`.
    pub bulk_bytes_max: usize,
    /// Bytes of a request in one line (typed into telnet). Redis takes 64 KiB.
    pub line_bytes_max: usize,
    /// Bytes that are kept unread. At least `frame_bytes_max`, or a large request never becomes whole.
    pub input_bytes_max: usize,
    /// Replies that may wait for their writes to become durable. Too few stall a pipeline at each group of the store.
    pub replies_max: usize,
    /// Bytes of replies that the client has not taken. Above it no further request is read; one reply may exceed it.
    pub output_bytes_max: usize,
    /// Commands between MULTI and EXEC.
    pub transaction_commands_max: usize,
    /// Bytes of the commands between MULTI and EXEC.
    pub transaction_bytes_max: usize,
    /// Databases that SELECT takes, from 0: database `n` is [`crdt::Namespace`] `n`.
    pub databases_max: u32,
    /// False narrows what a stranger may send; see [`Limits::for_strangers`].
    pub is_authenticated: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_bytes_max: 8 << 20,
            arguments_max: 65_536,
            bulk_bytes_max: crdt::change::BATCH_BYTES_MAX / 2,
            line_bytes_max: 64 << 10,
            input_bytes_max: (8 << 20) + (64 << 10),
            replies_max: 4_096,
            output_bytes_max: 1 << 20,
            transaction_commands_max: crdt::pack::CHANGES_MAX as usize,
            transaction_bytes_max: 8 << 20,
            databases_max: 16,
            is_authenticated: true,
        }
    }
}

/// Arguments of a request before AUTH: Redis takes ten, and `HELLO 3 AUTH name password SETNAME name` has seven.
const STRANGER_ARGUMENTS_MAX: usize = 10;
/// Bytes of an argument before AUTH, as in Redis.
const STRANGER_BULK_BYTES_MAX: usize = 16 << 10;

impl Limits {
    /// The same limits as they hold before AUTH: ten arguments of at most 16 KiB.
    pub fn for_strangers(self) -> Self {
        Self {
            arguments_max: self.arguments_max.min(STRANGER_ARGUMENTS_MAX),
            bulk_bytes_max: self.bulk_bytes_max.min(STRANGER_BULK_BYTES_MAX),
            is_authenticated: false,
            ..self
        }
    }
}
