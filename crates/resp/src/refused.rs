//! Every other command of Redis 7.2, and why it is answered by an error.

use crate::error::ErrorReply;
use crate::table::{NAME_BYTES_MAX, to_capitals};

/// Why a command is refused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Reason {
    /// It decides by a state that other nodes change at the same time.
    Condition,
    /// It writes what one node has read.
    Derived,
    /// It takes something away and gives it to one caller.
    Taking,
    /// It means a place in a sequence, or a rank.
    Order,
    /// It depends on when something happens.
    Expiry,
    /// It runs a program whose reads other nodes do not share.
    Script,
    /// It adds in floating point.
    FloatingSum,
    /// It changes a part of a value whose rest another node may replace.
    PartialWrite,
    /// It belongs to how Redis replicates, stores or clusters.
    RedisOnly,
    /// It removes more than a batch holds.
    Sweep,
    /// It has a meaning, and nobody has written it yet.
    NotBuilt,
}

impl Reason {
    /// All reasons in the order of documents.
    pub const ALL: [Self; 11] = [
        Self::Condition,
        Self::Derived,
        Self::Taking,
        Self::Order,
        Self::Expiry,
        Self::Script,
        Self::FloatingSum,
        Self::PartialWrite,
        Self::RedisOnly,
        Self::Sweep,
        Self::NotBuilt,
    ];

    /// The rest of the sentence that begins with the command's name.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Condition => {
                "has no safe meaning across nodes: its condition may hold on two nodes at once, and both would succeed"
            }
            Self::Derived => {
                "has no safe meaning across nodes: it would write what one node has read, without what arrives there later"
            }
            Self::Taking => "has no safe meaning across nodes: two nodes may give the same element to two callers",
            Self::Order => "has no safe meaning across nodes: places and ranks move when another node's writes arrive",
            Self::Expiry => {
                "has no safe meaning across nodes: clocks differ, so a key would expire on one node and be written on another"
            }
            Self::Script => {
                "has no safe meaning across nodes: a script decides by what one node sees; use MULTI for writes that belong together"
            }
            Self::FloatingSum => {
                "has no safe meaning across nodes: floating-point sums depend on the order of arrival; count in the smallest unit with INCRBY"
            }
            Self::PartialWrite => {
                "has no safe meaning across nodes: it changes a part of a value that another node may replace as a whole"
            }
            Self::RedisOnly => {
                "belongs to how Redis stores, replicates or clusters; see CRDT.* for what this node knows"
            }
            Self::Sweep => {
                "has no safe meaning across nodes: writes that arrive meanwhile would survive or not by chance; use DEL"
            }
            Self::NotBuilt => "is not built",
        }
    }

    /// The stable code.
    pub const fn code(self) -> &'static str {
        match self {
            Self::NotBuilt | Self::RedisOnly => "ERR_NOT_BUILT",
            _ => "ERR_NO_SAFE_MEANING",
        }
    }
}

/// Why this command is refused; `None` for a name that Redis does not know either, or that is in the table.
pub fn find(name: &[u8]) -> Option<Reason> {
    let mut capitals = [0; NAME_BYTES_MAX];
    let capitals = to_capitals(name, &mut capitals)?;
    let at = REFUSED.binary_search_by(|(name, _)| name.as_bytes().cmp(capitals)).ok()?;
    REFUSED.get(at).map(|(_, reason)| *reason)
}

/// The error that says why.
pub(crate) fn refusal(name: &str, reason: Reason) -> ErrorReply {
    ErrorReply::err(format!("'{name}' {} ({})", reason.sentence(), reason.code()))
}

/// All of them in the order of their names.
#[rustfmt::skip]
pub static REFUSED: &[(&str, Reason)] = &[
    ("ACL", Reason::RedisOnly),
    ("APPEND", Reason::PartialWrite),
    ("ASKING", Reason::RedisOnly),
    ("BGREWRITEAOF", Reason::RedisOnly),
    ("BGSAVE", Reason::RedisOnly),
    ("BITCOUNT", Reason::NotBuilt),
    ("BITFIELD", Reason::PartialWrite),
    ("BITFIELD_RO", Reason::NotBuilt),
    ("BITOP", Reason::Derived),
    ("BITPOS", Reason::NotBuilt),
    ("BLMOVE", Reason::Taking),
    ("BLMPOP", Reason::Taking),
    ("BLPOP", Reason::Taking),
    ("BRPOP", Reason::Taking),
    ("BRPOPLPUSH", Reason::Taking),
    ("BZMPOP", Reason::Taking),
    ("BZPOPMAX", Reason::Taking),
    ("BZPOPMIN", Reason::Taking),
    ("CLUSTER", Reason::RedisOnly),
    ("CONFIG", Reason::RedisOnly),
    ("COPY", Reason::Derived),
    ("DBSIZE", Reason::NotBuilt),
    ("DEBUG", Reason::RedisOnly),
    ("DUMP", Reason::RedisOnly),
    ("EVAL", Reason::Script),
    ("EVALSHA", Reason::Script),
    ("EVALSHA_RO", Reason::Script),
    ("EVAL_RO", Reason::Script),
    ("EXPIRE", Reason::Expiry),
    ("EXPIREAT", Reason::Expiry),
    ("EXPIRETIME", Reason::Expiry),
    ("FAILOVER", Reason::RedisOnly),
    ("FCALL", Reason::Script),
    ("FCALL_RO", Reason::Script),
    ("FLUSHALL", Reason::Sweep),
    ("FLUSHDB", Reason::Sweep),
    ("FUNCTION", Reason::Script),
    ("GEOADD", Reason::Order),
    ("GEODIST", Reason::Order),
    ("GEOHASH", Reason::Order),
    ("GEOPOS", Reason::Order),
    ("GEORADIUS", Reason::Order),
    ("GEORADIUSBYMEMBER", Reason::Order),
    ("GEORADIUSBYMEMBER_RO", Reason::Order),
    ("GEORADIUS_RO", Reason::Order),
    ("GEOSEARCH", Reason::Order),
    ("GEOSEARCHSTORE", Reason::Derived),
    ("GETBIT", Reason::NotBuilt),
    ("GETDEL", Reason::Taking),
    ("GETEX", Reason::Expiry),
    ("GETRANGE", Reason::NotBuilt),
    ("GETSET", Reason::Taking),
    ("HEXISTS", Reason::NotBuilt),
    ("HINCRBYFLOAT", Reason::FloatingSum),
    ("HKEYS", Reason::NotBuilt),
    ("HLEN", Reason::NotBuilt),
    ("HMSET", Reason::NotBuilt),
    ("HRANDFIELD", Reason::NotBuilt),
    ("HSCAN", Reason::NotBuilt),
    ("HSETNX", Reason::Condition),
    ("HSTRLEN", Reason::NotBuilt),
    ("HVALS", Reason::NotBuilt),
    ("INCRBYFLOAT", Reason::FloatingSum),
    ("KEYS", Reason::NotBuilt),
    ("LASTSAVE", Reason::RedisOnly),
    ("LATENCY", Reason::RedisOnly),
    ("LCS", Reason::NotBuilt),
    ("LINDEX", Reason::Order),
    ("LINSERT", Reason::Order),
    ("LLEN", Reason::Order),
    ("LMOVE", Reason::Taking),
    ("LMPOP", Reason::Taking),
    ("LOLWUT", Reason::NotBuilt),
    ("LPOP", Reason::Taking),
    ("LPOS", Reason::Order),
    ("LPUSH", Reason::Order),
    ("LPUSHX", Reason::Order),
    ("LRANGE", Reason::Order),
    ("LREM", Reason::Order),
    ("LSET", Reason::Order),
    ("LTRIM", Reason::Order),
    ("MEMORY", Reason::RedisOnly),
    ("MIGRATE", Reason::RedisOnly),
    ("MODULE", Reason::RedisOnly),
    ("MONITOR", Reason::RedisOnly),
    ("MOVE", Reason::Derived),
    ("MSETNX", Reason::Condition),
    ("OBJECT", Reason::RedisOnly),
    ("PERSIST", Reason::Expiry),
    ("PEXPIRE", Reason::Expiry),
    ("PEXPIREAT", Reason::Expiry),
    ("PEXPIRETIME", Reason::Expiry),
    ("PFADD", Reason::PartialWrite),
    ("PFCOUNT", Reason::NotBuilt),
    ("PFDEBUG", Reason::RedisOnly),
    ("PFMERGE", Reason::Derived),
    ("PFSELFTEST", Reason::RedisOnly),
    ("PSETEX", Reason::Expiry),
    ("PSUBSCRIBE", Reason::NotBuilt),
    ("PSYNC", Reason::RedisOnly),
    ("PTTL", Reason::Expiry),
    ("PUBLISH", Reason::NotBuilt),
    ("PUBSUB", Reason::NotBuilt),
    ("PUNSUBSCRIBE", Reason::NotBuilt),
    ("RANDOMKEY", Reason::NotBuilt),
    ("READONLY", Reason::RedisOnly),
    ("READWRITE", Reason::RedisOnly),
    ("RENAME", Reason::Derived),
    ("RENAMENX", Reason::Condition),
    ("REPLCONF", Reason::RedisOnly),
    ("REPLICAOF", Reason::RedisOnly),
    ("RESET", Reason::NotBuilt),
    ("RESTORE", Reason::RedisOnly),
    ("RESTORE-ASKING", Reason::RedisOnly),
    ("ROLE", Reason::RedisOnly),
    ("RPOP", Reason::Taking),
    ("RPOPLPUSH", Reason::Taking),
    ("RPUSH", Reason::Order),
    ("RPUSHX", Reason::Order),
    ("SAVE", Reason::RedisOnly),
    ("SCAN", Reason::NotBuilt),
    ("SCRIPT", Reason::Script),
    ("SDIFF", Reason::NotBuilt),
    ("SDIFFSTORE", Reason::Derived),
    ("SETBIT", Reason::PartialWrite),
    ("SETEX", Reason::Expiry),
    ("SETNX", Reason::Condition),
    ("SETRANGE", Reason::PartialWrite),
    ("SHUTDOWN", Reason::RedisOnly),
    ("SINTER", Reason::NotBuilt),
    ("SINTERCARD", Reason::NotBuilt),
    ("SINTERSTORE", Reason::Derived),
    ("SLAVEOF", Reason::RedisOnly),
    ("SLOWLOG", Reason::RedisOnly),
    ("SMISMEMBER", Reason::NotBuilt),
    ("SMOVE", Reason::Derived),
    ("SORT", Reason::Order),
    ("SORT_RO", Reason::Order),
    ("SPOP", Reason::Taking),
    ("SPUBLISH", Reason::NotBuilt),
    ("SRANDMEMBER", Reason::NotBuilt),
    ("SSCAN", Reason::NotBuilt),
    ("SSUBSCRIBE", Reason::NotBuilt),
    ("STRLEN", Reason::NotBuilt),
    ("SUBSCRIBE", Reason::NotBuilt),
    ("SUBSTR", Reason::NotBuilt),
    ("SUNION", Reason::NotBuilt),
    ("SUNIONSTORE", Reason::Derived),
    ("SUNSUBSCRIBE", Reason::NotBuilt),
    ("SWAPDB", Reason::Sweep),
    ("SYNC", Reason::RedisOnly),
    ("TIME", Reason::NotBuilt),
    ("TOUCH", Reason::NotBuilt),
    ("TTL", Reason::Expiry),
    ("UNLINK", Reason::NotBuilt),
    ("UNSUBSCRIBE", Reason::NotBuilt),
    ("UNWATCH", Reason::Condition),
    ("WAIT", Reason::RedisOnly),
    ("WAITAOF", Reason::RedisOnly),
    ("WATCH", Reason::Condition),
    ("XACK", Reason::Taking),
    ("XADD", Reason::Order),
    ("XAUTOCLAIM", Reason::Taking),
    ("XCLAIM", Reason::Taking),
    ("XDEL", Reason::Order),
    ("XGROUP", Reason::Taking),
    ("XINFO", Reason::Order),
    ("XLEN", Reason::Order),
    ("XPENDING", Reason::Order),
    ("XRANGE", Reason::Order),
    ("XREAD", Reason::Order),
    ("XREADGROUP", Reason::Taking),
    ("XREVRANGE", Reason::Order),
    ("XSETID", Reason::Order),
    ("XTRIM", Reason::Order),
    ("ZADD", Reason::Order),
    ("ZCARD", Reason::Order),
    ("ZCOUNT", Reason::Order),
    ("ZDIFF", Reason::Order),
    ("ZDIFFSTORE", Reason::Derived),
    ("ZINCRBY", Reason::Order),
    ("ZINTER", Reason::Order),
    ("ZINTERCARD", Reason::Order),
    ("ZINTERSTORE", Reason::Derived),
    ("ZLEXCOUNT", Reason::Order),
    ("ZMPOP", Reason::Taking),
    ("ZMSCORE", Reason::Order),
    ("ZPOPMAX", Reason::Taking),
    ("ZPOPMIN", Reason::Taking),
    ("ZRANDMEMBER", Reason::Order),
    ("ZRANGE", Reason::Order),
    ("ZRANGEBYLEX", Reason::Order),
    ("ZRANGEBYSCORE", Reason::Order),
    ("ZRANGESTORE", Reason::Derived),
    ("ZRANK", Reason::Order),
    ("ZREM", Reason::Order),
    ("ZREMRANGEBYLEX", Reason::Order),
    ("ZREMRANGEBYRANK", Reason::Order),
    ("ZREMRANGEBYSCORE", Reason::Order),
    ("ZREVRANGE", Reason::Order),
    ("ZREVRANGEBYLEX", Reason::Order),
    ("ZREVRANGEBYSCORE", Reason::Order),
    ("ZREVRANK", Reason::Order),
    ("ZSCAN", Reason::Order),
    ("ZSCORE", Reason::Order),
    ("ZUNION", Reason::Order),
    ("ZUNIONSTORE", Reason::Derived),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table;

    #[test]
    fn names_are_sorted_and_stand_in_one_list_only() {
        assert!(REFUSED.is_sorted_by(|left, right| left.0 < right.0));
        for (name, reason) in REFUSED {
            assert_eq!(find(name.to_ascii_lowercase().as_bytes()), Some(*reason));
            assert_eq!(table::find(name.as_bytes()), None, "{name} is built and refused");
        }
        assert!(Reason::ALL.iter().all(|reason| REFUSED.iter().any(|(_, other)| other == reason)));
    }
}
