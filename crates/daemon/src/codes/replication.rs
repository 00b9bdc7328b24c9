//! Replication.

use super::{Code, code};
use crate::exit::Exit;

pub(super) const CODES: &[Code] = &[
    code(
        "ERR_IDEMPOTENCY_VIOLATION",
        Exit::Software,
        "Two different batches have one dot. The proof is kept, and that replica's stream stands still here; all others \
         go on.",
        "A node used sequence numbers twice: its disk went back in time unnoticed, or it was copied.",
        "Find the node that the message names; stop the copy, and restore or join it anew, so that it gets a new replica \
         id. `crdt-engine held list` shows the stream.",
    ),
    code(
        "ERR_VLOCK_SKEW_OVERFLOW",
        Exit::Unavailable,
        "The clock of a node is further off than clock.skew_bound_ms. Its batches are delayed and applied without \
         following its clock; above clock.skew_fence_ms they wait for a person.",
        "A machine without NTP, or a virtual machine that was asleep.",
        "Start a time service there (`timedatectl set-ntp true`); release a fenced origin with `crdt-engine held \
         release`.",
    ),
    code(
        "ERR_HMAC_MISMATCH",
        Exit::Data,
        "A batch carries no MAC of this cluster. It was dropped.",
        "A key was changed on some members only, or bytes were changed on the way.",
        "`crdt-engine key list` on every member; where a key is missing, `crdt-engine key add` it. What was dropped is \
         asked for again.",
    ),
    code(
        "ERR_MALFORMED",
        Exit::Protocol,
        "A member sent bytes that do not decode. They were dropped and are asked for again.",
        "Another version, or a bug.",
        "Install the same version on both; if it goes on, report it.",
    ),
    code(
        "ERR_VERSION_SKEW",
        Exit::Protocol,
        "Two sides have no protocol version in common. Nothing was exchanged.",
        "Versions that are too far apart.",
        "Upgrade the older one; adjacent minor versions talk to each other.",
    ),
    code(
        "ERR_NODE_ID_COLLISION",
        Exit::Data,
        "Two processes use the identity of one node.",
        "A machine or a node folder was copied while the first one runs.",
        "Stop one of them; make its folder anew and join it under a name of its own.",
    ),
    code(
        "ERR_DATABASE_RESTORED",
        Exit::Data,
        "The database and this node are of different moments. The node compares all rows and goes on.",
        "One of the two was restored from a backup.",
        "Nothing, if it was you. Restore both from one moment next time.",
    ),
    code(
        "ERR_RESCUED",
        Exit::Data,
        "The database held content that no rule could place. It was set aside, not dropped.",
        "Writes that bypassed capture while nodes were apart.",
        "Look at it in the log, and write it again where it belongs.",
    ),
    code(
        "ERR_QUARANTINED",
        Exit::Data,
        "A batch is genuine and does not decode. It is kept and forwarded, and its replica's stream waits.",
        "Its origin runs a newer version, or had a bug.",
        "Upgrade this node; `crdt-engine held list` shows the batch, `release` or `discard` decides.",
    ),
    code(
        "ERR_SNAPSHOT_INTERRUPTED",
        Exit::Temporary,
        "A snapshot ended before its end. It goes on or starts over by itself.",
        "The donor or the way there went down, or the donor had too many writes meanwhile.",
        "Nothing; if it repeats, raise limits.snapshot_preimage_bytes_max on the donor.",
    ),
    code(
        "ERR_DIVERGED",
        Exit::Software,
        "Two nodes with equal vectors have different states. Nothing was changed; both go on.",
        "Damage that no checksum saw, or a bug.",
        "Keep both folders (`crdt-engine backup`), report it, and join the one anew whose content is wrong.",
    ),
    code(
        "ERR_BLAST_HELD",
        Exit::Temporary,
        "A commit changed or removed more than limits.blast_objects_min objects of a table and more than \
         limits.blast_share_percent of them. It is committed and durable here; its sending is held for up to \
         blast_hold_ms, and with it all that this node writes afterwards.",
        "A search-replace, a bulk delete, a migration, or an attack.",
        "`crdt-engine held list` shows it; `release` sends it at once, `discard` writes the values from before again.",
    ),
    code(
        "ERR_HELD_REFUSED",
        Exit::Data,
        "What is held cannot be released or discarded like this. Nothing has changed.",
        "The message says which: a stream with two versions of one batch, a stream of another node, or a commit whose \
         old values were too large to be kept, are damaged, or cannot be written again.",
        "Release what cannot be discarded and mend it by hand; join the node of a stream that cannot go on anew.",
    ),
    code(
        "ERR_NOT_HELD",
        Exit::Data,
        "Nothing with this name is held. Nothing has changed.",
        "A slip of the pen, or it was released meanwhile.",
        "`crdt-engine held list` shows what is held.",
    ),
];
