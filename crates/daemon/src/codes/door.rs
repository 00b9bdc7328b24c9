//! The local door: what clients are told.

use super::{Code, code};
use crate::exit::Exit;

pub(super) const CODES: &[Code] = &[
    code(
        "ERR_NOT_READY",
        Exit::Temporary,
        "The node has just started and takes no writes yet. The write did not happen.",
        "It first listens to its peers, for sync.listen_ms at most, or fetches a snapshot.",
        "Send it again in a second; `crdt-engine status` tells.",
    ),
    code(
        "ERR_NO_SAFE_MEANING",
        Exit::Usage,
        "The command has no meaning that is safe when several nodes write at once. Nothing happened.",
        "It decides by what one node sees, such as SETNX or EXPIRE.",
        "docs/commands.md says for each command what to use.",
    ),
    code(
        "ERR_NOT_BUILT",
        Exit::Usage,
        "The command is not built. Nothing happened.",
        "The door is small on purpose.",
        "docs/commands.md lists what there is.",
    ),
    code(
        "ERR_COUNTER_OVERFLOW",
        Exit::Data,
        "A counter would leave 128 bits. Nothing happened.",
        "An increment that is far too large.",
        "Use smaller steps.",
    ),
    code(
        "ERR_PATH",
        Exit::Data,
        "A key, field or member is longer than names may be, or empty where it may not be. Nothing happened.",
        "Content was used as a name.",
        "Use a hash of it as the name.",
    ),
    code(
        "ERR_TOO_LARGE",
        Exit::Data,
        "A command or a transaction is larger than one batch. Nothing happened.",
        "Values of many MiB, or very many commands between MULTI and EXEC.",
        "Split it; large files belong elsewhere, with their address here.",
    ),
    code(
        "ERR_DOOR_FRAME_SIZE",
        Exit::Protocol,
        "A request is longer than door.frame_bytes_max. The connection was closed.",
        "A value that is too large, or bytes that are no requests.",
        "Send smaller values, or raise the bound.",
    ),
    code(
        "ERR_DOOR_ARGUMENT_COUNT",
        Exit::Protocol,
        "A request has too many arguments, or their number does not read. The connection was closed.",
        "A very long MSET or SADD, many arguments before AUTH, or bytes that are no requests.",
        "Split the request; authenticate first.",
    ),
    code(
        "ERR_DOOR_BULK_LENGTH",
        Exit::Protocol,
        "An argument is longer than door.bulk_bytes_max, or its length does not read. The connection was closed.",
        "A value that is too large, or bytes that are no requests.",
        "Send smaller values.",
    ),
    code(
        "ERR_DOOR_MALFORMED",
        Exit::Protocol,
        "Bytes are no request. The connection was closed.",
        "A client that does not speak RESP.",
        "Use a client of Redis.",
    ),
    code(
        "ERR_DOOR_HTTP",
        Exit::Protocol,
        "Somebody spoke HTTP to the door. The connection was closed.",
        "A browser or a probe at the wrong port; perhaps a web page that tries to reach the door.",
        "Point probes to http.listen.",
    ),
    code(
        "ERR_DOOR_IN_USE",
        Exit::Temporary,
        "Another process answers on the socket of the door. The node does not start.",
        "Another crdt-engine, or something else that was given the same path.",
        "Stop it, or set door.socket to another path.",
    ),
    code(
        "ERR_DOOR_BIND",
        Exit::System,
        "The door cannot listen where it shall. The node does not start.",
        "Something that is no socket stands there, the path is too long, the port is taken, or this user may not write \
         there.",
        "Follow the message: move it away, or set door.socket or door.listen.",
    ),
    code(
        "ERR_DOOR_FULL",
        Exit::Temporary,
        "A client was refused, because door.connections_max clients are there.",
        "Connections that nobody closes, or a pool that is too large.",
        "Look at INFO clients; close idle ones, or raise the bound.",
    ),
    code(
        "ERR_DOOR_ACCEPT",
        Exit::System,
        "The system refused a client. It is tried again.",
        "No file descriptor is left.",
        "Raise LimitNOFILE of the unit, or ulimit -n.",
    ),
    code(
        "ERR_DOOR_BUFFERS",
        Exit::Temporary,
        "A client was cut off, because all clients together held more than door.buffers_bytes_max, and this one most.",
        "Requests that are begun and not finished, large transactions, or replies that nobody reads.",
        "Look at that program; or raise the bound, if the machine has the memory.",
    ),
    code(
        "ERR_DOOR_SLOW_CLIENT",
        Exit::Temporary,
        "A client was cut off, because it took none of its replies for long.",
        "It hangs, or asks for more than it reads.",
        "Look at that program.",
    ),
];
