//! The declared table of commands: what `COMMAND` tells, what is checked before a command runs, and what
//! `docs/commands.md` is made of.

/// What a command does; one for each row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "each is the command of its name")]
pub enum Verb {
    Auth,
    Client,
    Command,
    CrdtBackup,
    CrdtClock,
    CrdtConfig,
    CrdtConflicts,
    CrdtGc,
    CrdtHeld,
    CrdtKeys,
    CrdtMatrix,
    CrdtPeers,
    CrdtStats,
    CrdtSync,
    CrdtVerify,
    CrdtWait,
    Decr,
    DecrBy,
    Del,
    Discard,
    Echo,
    Exec,
    Exists,
    Get,
    HDel,
    HGet,
    HGetAll,
    HIncrBy,
    HMGet,
    HSet,
    Hello,
    Incr,
    IncrBy,
    Info,
    MGet,
    MSet,
    Multi,
    Ping,
    Quit,
    SAdd,
    SCard,
    SIsMember,
    SMembers,
    SRem,
    Select,
    Set,
    Type,
}

/// A property of a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flag {
    /// It may commit.
    Write,
    /// It only reads keys.
    ReadOnly,
    /// It takes constant time.
    Fast,
    /// It is for operators.
    Admin,
    /// It is taken before AUTH.
    NoAuth,
    /// It is refused between MULTI and EXEC.
    NoMulti,
}

impl Flag {
    /// The name in the reply of COMMAND.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::ReadOnly => "readonly",
            Self::Fast => "fast",
            Self::Admin => "admin",
            Self::NoAuth => "no_auth",
            Self::NoMulti => "no_multi",
        }
    }
}

/// The data type that a command works on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DataType {
    /// None.
    Nothing,
    /// Last-writer-wins register.
    Register,
    /// PN-counter.
    Counter,
    /// OR-set.
    Set,
    /// OR-map.
    Map,
    /// Whatever has the name.
    Any,
}

impl DataType {
    /// Its name in documents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "-",
            Self::Register => "register",
            Self::Counter => "PN-counter",
            Self::Set => "OR-set",
            Self::Map => "OR-map",
            Self::Any => "any",
        }
    }

    /// Who wins where two nodes write at the same time.
    pub const fn wins(self) -> &'static str {
        match self {
            Self::Nothing => "-",
            Self::Register => "the greatest write stamp; the other value is journaled",
            Self::Counter => "nobody: everything adds up",
            Self::Set => "an add against a concurrent remove",
            Self::Map => "a write to a field against a concurrent removal; between two writes, the field's type",
            Self::Any => "a write against a concurrent removal",
        }
    }

    /// What a delete leaves behind.
    pub const fn delete_cost(self) -> &'static str {
        match self {
            Self::Nothing => "-",
            Self::Register | Self::Set => "nothing",
            Self::Counter => "a (dot, sum) per replica until stable",
            Self::Map => "that of its fields",
            Self::Any => "that of the type",
        }
    }
}

/// What commands are sorted by in documents.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Group {
    /// Any key.
    Generic,
    /// Registers.
    String,
    /// Counters.
    Counter,
    /// Maps.
    Hash,
    /// Sets.
    Set,
    /// MULTI and EXEC.
    Transactions,
    /// The connection and the server.
    Connection,
    /// What Redis does not know.
    Engine,
}

impl Group {
    /// All groups in the order of documents.
    pub const ALL: [Self; 8] = [
        Self::Generic,
        Self::String,
        Self::Counter,
        Self::Hash,
        Self::Set,
        Self::Transactions,
        Self::Connection,
        Self::Engine,
    ];

    /// The name in the reply of COMMAND DOCS and in documents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Generic => "generic",
            Self::String => "string",
            Self::Counter => "counter",
            Self::Hash => "hash",
            Self::Set => "set",
            Self::Transactions => "transactions",
            Self::Connection => "connection",
            Self::Engine => "engine",
        }
    }
}

/// Which arguments are keys: index of the first, of the last (-1: the last argument), and the distance between two.
pub type Keys = (i64, i64, i64);

/// One row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Command {
    /// Name in capitals.
    pub name: &'static str,
    /// What it does.
    pub verb: Verb,
    /// Number of arguments with the name; negative: at least as many.
    pub arity: i64,
    /// Properties.
    pub flags: &'static [Flag],
    /// Where keys stand; zeros without keys.
    pub keys: Keys,
    /// Data type: it says who wins and what a delete costs.
    pub data: DataType,
    /// Group.
    pub group: Group,
    /// How it is written.
    pub syntax: &'static str,
    /// One sentence.
    pub summary: &'static str,
}

impl Command {
    /// True when the command has this property.
    pub fn has(&self, flag: Flag) -> bool {
        self.flags.contains(&flag)
    }

    /// True for a number of arguments that the command takes, its name included.
    pub fn takes(&self, arguments: usize) -> bool {
        let least = usize::try_from(self.arity.unsigned_abs()).unwrap_or(usize::MAX);
        if self.arity < 0 { arguments >= least } else { arguments == least }
    }
}

/// The row of a command, whatever the case of its name.
pub fn find(name: &[u8]) -> Option<&'static Command> {
    let mut capitals = [0; NAME_BYTES_MAX];
    let capitals = to_capitals(name, &mut capitals)?;
    let at = TABLE.binary_search_by(|command| command.name.as_bytes().cmp(capitals)).ok()?;
    TABLE.get(at)
}

/// Longer names are no commands.
pub(crate) const NAME_BYTES_MAX: usize = 32;

/// The name in capitals, without an allocation; `None` for a name that is too long.
pub(crate) fn to_capitals<'a>(name: &[u8], capitals: &'a mut [u8; NAME_BYTES_MAX]) -> Option<&'a [u8]> {
    let capitals = capitals.get_mut(..name.len())?;
    capitals.copy_from_slice(name);
    capitals.make_ascii_uppercase();
    Some(capitals)
}

use DataType::{Any, Counter, Map, Nothing, Register};
use Flag::{Admin, Fast, NoAuth, NoMulti, ReadOnly, Write};

const NO_KEYS: Keys = (0, 0, 0);
const ONE_KEY: Keys = (1, 1, 1);
const ALL_KEYS: Keys = (1, -1, 1);
const PAIRS: Keys = (1, -1, 2);

#[allow(clippy::too_many_arguments, reason = "one call is one row, and its columns are explained at `Command`")]
const fn row(
    name: &'static str,
    verb: Verb,
    arity: i64,
    flags: &'static [Flag],
    keys: Keys,
    data: DataType,
    group: Group,
    syntax: &'static str,
    summary: &'static str,
) -> Command {
    Command { name, verb, arity, flags, keys, data, group, syntax, summary }
}

/// All commands in the order of their names.
#[rustfmt::skip]
pub static TABLE: &[Command] = &[
    row("AUTH", Verb::Auth, -2, &[Fast, NoAuth, NoMulti], NO_KEYS, Nothing, Group::Connection, "AUTH [username] password", "Tells the password of the door."),
    row("CLIENT", Verb::Client, -2, &[], NO_KEYS, Nothing, Group::Connection, "CLIENT ID|INFO|GETNAME|SETNAME name|SETINFO attribute value|NO-EVICT on|NO-TOUCH on|HELP", "Tells and names this connection."),
    row("COMMAND", Verb::Command, -1, &[], NO_KEYS, Nothing, Group::Connection, "COMMAND [COUNT|LIST|INFO [name ...]|DOCS [name ...]|HELP]", "Tells this table."),
    row("CRDT.BACKUP", Verb::CrdtBackup, -1, &[Admin, NoMulti], NO_KEYS, Nothing, Group::Engine, "CRDT.BACKUP [STATUS|START]", "Copies all records into a file of the node folder, beside all other work; crdt-engine backup makes a backup of it."),
    row("CRDT.CLOCK", Verb::CrdtClock, 1, &[Admin, NoMulti], NO_KEYS, Nothing, Group::Engine, "CRDT.CLOCK", "The hybrid clock and the vectors applied, received and stable."),
    row("CRDT.CONFIG", Verb::CrdtConfig, -1, &[Admin, NoMulti], NO_KEYS, Nothing, Group::Engine, "CRDT.CONFIG [pattern]", "The configuration in use and where each value comes from."),
    row("CRDT.CONFLICTS", Verb::CrdtConflicts, -1, &[Admin, NoMulti], NO_KEYS, Nothing, Group::Engine, "CRDT.CONFLICTS [count]", "The conflict journal: values that are present and not shown."),
    row("CRDT.GC", Verb::CrdtGc, 1, &[Admin, NoMulti], NO_KEYS, Nothing, Group::Engine, "CRDT.GC", "Collects now what every member has seen removed."),
    row("CRDT.HELD", Verb::CrdtHeld, -1, &[Admin, NoMulti], NO_KEYS, Nothing, Group::Engine, "CRDT.HELD [LIST|RELEASE id|DISCARD id]", "Batches that wait for a person: blast brake, fenced origins, quarantine."),
    row("CRDT.KEYS", Verb::CrdtKeys, -1, &[Admin, NoMulti], NO_KEYS, Nothing, Group::Engine, "CRDT.KEYS [RELOAD]", "The ids of the keys behind MACs, and how many batches still need the one that does not sign; RELOAD reads them from the node folder."),
    row("CRDT.MATRIX", Verb::CrdtMatrix, 1, &[Admin, NoMulti], NO_KEYS, Nothing, Group::Engine, "CRDT.MATRIX", "What every member is known to have applied."),
    row("CRDT.PEERS", Verb::CrdtPeers, 1, &[Admin, NoMulti], NO_KEYS, Nothing, Group::Engine, "CRDT.PEERS", "The links to the other members."),
    row("CRDT.STATS", Verb::CrdtStats, -1, &[Admin, NoMulti], NO_KEYS, Nothing, Group::Engine, "CRDT.STATS [pattern]", "The counters of this node."),
    row("CRDT.SYNC", Verb::CrdtSync, -1, &[Admin, NoMulti], NO_KEYS, Nothing, Group::Engine, "CRDT.SYNC [node]", "Exchanges digests now, with one member or with all."),
    row("CRDT.VERIFY", Verb::CrdtVerify, -1, &[Admin, NoMulti], NO_KEYS, Nothing, Group::Engine, "CRDT.VERIFY [node]", "Compares digests with one member or with all."),
    row("CRDT.WAIT", Verb::CrdtWait, 3, &[NoMulti], NO_KEYS, Nothing, Group::Engine, "CRDT.WAIT members milliseconds", "Waits until so many other members have the last write of this connection; tells how many have it."),
    row("DECR", Verb::Decr, 2, &[Write, Fast], ONE_KEY, Counter, Group::Counter, "DECR key", "Subtracts one and tells the sum."),
    row("DECRBY", Verb::DecrBy, 3, &[Write, Fast], ONE_KEY, Counter, Group::Counter, "DECRBY key amount", "Subtracts an amount and tells the sum."),
    row("DEL", Verb::Del, -2, &[Write], ALL_KEYS, Any, Group::Generic, "DEL key [key ...]", "Removes everything under the names that this node sees; tells how many names there were."),
    row("DISCARD", Verb::Discard, 1, &[Fast], NO_KEYS, Nothing, Group::Transactions, "DISCARD", "Forgets the commands since MULTI."),
    row("ECHO", Verb::Echo, 2, &[Fast], NO_KEYS, Nothing, Group::Connection, "ECHO message", "Answers the message."),
    row("EXEC", Verb::Exec, 1, &[], NO_KEYS, Any, Group::Transactions, "EXEC", "Runs the commands since MULTI and commits all their writes as one batch: every node shows all or none."),
    row("EXISTS", Verb::Exists, -2, &[ReadOnly, Fast], ALL_KEYS, Any, Group::Generic, "EXISTS key [key ...]", "Counts the names under which something is."),
    row("GET", Verb::Get, 2, &[ReadOnly, Fast], ONE_KEY, Register, Group::String, "GET key", "The value; the sum in decimal where the name is a counter's."),
    row("HDEL", Verb::HDel, -3, &[Write], ONE_KEY, Map, Group::Hash, "HDEL key field [field ...]", "Removes fields; tells how many there were."),
    row("HELLO", Verb::Hello, -1, &[Fast, NoAuth, NoMulti], NO_KEYS, Nothing, Group::Connection, "HELLO [2|3 [AUTH username password] [SETNAME name]]", "Chooses the version of the protocol."),
    row("HGET", Verb::HGet, 3, &[ReadOnly, Fast], ONE_KEY, Map, Group::Hash, "HGET key field", "The value of a field; the sum in decimal where the field is a counter."),
    row("HGETALL", Verb::HGetAll, 2, &[ReadOnly], ONE_KEY, Map, Group::Hash, "HGETALL key", "All fields with their values, in the order of bytes."),
    row("HINCRBY", Verb::HIncrBy, 4, &[Write, Fast], ONE_KEY, Counter, Group::Hash, "HINCRBY key field amount", "Adds an amount to a field that is a counter and tells the sum."),
    row("HMGET", Verb::HMGet, -3, &[ReadOnly], ONE_KEY, Map, Group::Hash, "HMGET key field [field ...]", "The values of several fields."),
    row("HSET", Verb::HSet, -4, &[Write], ONE_KEY, Map, Group::Hash, "HSET key field value [field value ...]", "Sets fields, each a register; tells how many are new."),
    row("INCR", Verb::Incr, 2, &[Write, Fast], ONE_KEY, Counter, Group::Counter, "INCR key", "Adds one and tells the sum."),
    row("INCRBY", Verb::IncrBy, 3, &[Write, Fast], ONE_KEY, Counter, Group::Counter, "INCRBY key amount", "Adds an amount and tells the sum."),
    row("INFO", Verb::Info, -1, &[NoMulti], NO_KEYS, Nothing, Group::Connection, "INFO [section ...]", "The state of the node as text."),
    row("MGET", Verb::MGet, -2, &[ReadOnly], ALL_KEYS, Register, Group::String, "MGET key [key ...]", "Several values; none where the name is a set's or a map's."),
    row("MSET", Verb::MSet, -3, &[Write], PAIRS, Register, Group::String, "MSET key value [key value ...]", "Sets several values as one batch."),
    row("MULTI", Verb::Multi, 1, &[Fast], NO_KEYS, Nothing, Group::Transactions, "MULTI", "Queues the commands that follow, until EXEC."),
    row("PING", Verb::Ping, -1, &[Fast], NO_KEYS, Nothing, Group::Connection, "PING [message]", "Answers PONG, or the message."),
    row("QUIT", Verb::Quit, -1, &[Fast, NoAuth], NO_KEYS, Nothing, Group::Connection, "QUIT", "Closes the connection when everything before it is answered."),
    row("SADD", Verb::SAdd, -3, &[Write, Fast], ONE_KEY, DataType::Set, Group::Set, "SADD key member [member ...]", "Adds members; tells how many are new."),
    row("SCARD", Verb::SCard, 2, &[ReadOnly, Fast], ONE_KEY, DataType::Set, Group::Set, "SCARD key", "Number of members."),
    row("SELECT", Verb::Select, 2, &[Fast], NO_KEYS, Nothing, Group::Connection, "SELECT index", "Chooses the namespace: 0 is shared by the network, others are its sites."),
    row("SET", Verb::Set, -3, &[Write], ONE_KEY, Register, Group::String, "SET key value", "Sets a value, in place of whatever this node sees under the name."),
    row("SISMEMBER", Verb::SIsMember, 3, &[ReadOnly, Fast], ONE_KEY, DataType::Set, Group::Set, "SISMEMBER key member", "1 for a member, else 0."),
    row("SMEMBERS", Verb::SMembers, 2, &[ReadOnly], ONE_KEY, DataType::Set, Group::Set, "SMEMBERS key", "All members, in the order of bytes."),
    row("SREM", Verb::SRem, -3, &[Write, Fast], ONE_KEY, DataType::Set, Group::Set, "SREM key member [member ...]", "Removes members; tells how many there were."),
    row("TYPE", Verb::Type, 2, &[ReadOnly, Fast], ONE_KEY, Any, Group::Generic, "TYPE key", "string, set, hash or none; string also for a counter."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_and_found_in_any_case() {
        assert!(TABLE.is_sorted_by(|left, right| left.name < right.name));
        for command in TABLE {
            assert_eq!(find(command.name.as_bytes()), Some(command));
            assert_eq!(find(command.name.to_ascii_lowercase().as_bytes()), Some(command));
            assert!(command.syntax.starts_with(command.name), "{}", command.name);
            assert!(command.arity != 0 && !command.summary.is_empty());
        }
        assert_eq!(find(b""), None);
        assert_eq!(find(&[b'A'; 1_000]), None);
    }

    #[test]
    fn no_verb_has_two_rows() {
        for (at, command) in TABLE.iter().enumerate() {
            assert!(TABLE[at + 1..].iter().all(|other| other.verb != command.verb), "{}", command.name);
        }
    }
}
