//! The local door's protocol without sockets: bytes of a Redis client go in, intents for [`replica::Node`] and bytes
//! for the client come out.
//!
//! | module | what it answers |
//! |---|---|
//! | [`request`] | where does a request end, and where in the buffer do its arguments stand? |
//! | [`reply`] | how does a reply look in RESP2 and in RESP3? |
//! | [`table`] | which commands exist, over which data type, and who wins? |
//! | [`refused`] | why is every other Redis command answered by an error? |
//! | [`view`] | what does a client see of the state? |
//! | [`session`] | what happens next on one connection? |
//! | [`document`] | `docs/commands.md` |
//!
//! The crate is pure: no I/O, no clock, no randomness. One [`Session`] is one connection:
//!
//! ```text
//! bytes --feed--> Session --poll--> Step::Commit --> Node::commit --> Session::committed
//!                    |                                  ... Effect::Acknowledge --> Session::acknowledge
//!                    |    --poll--> Step::Call   --> the daemon   --> Session::reply
//! bytes <--output----+
//! ```
//! Replies leave in the order of requests; that of a write leaves once its batch is acknowledged.

pub mod call;
mod connection;
pub mod document;
pub mod error;
mod execute;
pub mod limits;
mod number;
mod password;
pub mod refused;
mod replies;
pub mod reply;
pub mod request;
pub mod session;
mod staged;
pub mod table;
mod transaction;
pub mod view;

pub use call::{Call, HeldCall};
pub use error::{ErrorReply, ProtocolError};
pub use limits::Limits;
pub use password::Password;
pub use reply::{Reply, Version};
pub use request::{Arguments, Parser, Progress};
pub use session::{Session, SessionConfig, Step, Ticket};
pub use view::View;
