//! Random pipelines: cut anywhere they mean the same, and on one node they mean what a naive Redis means.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use resp::{ErrorReply, Reply, Version};

use crate::node::Door;

/// What stands under a name in the naive Redis.
#[derive(Clone, Debug)]
enum Content {
    Text(String),
    Count(i64),
    Members(BTreeSet<String>),
    Fields(BTreeMap<String, String>),
}

#[derive(Clone, Debug)]
enum Order {
    Set(u8, u8),
    Get(u8),
    Del(u8),
    Exists(u8),
    Type(u8),
    Add(u8, i8),
    SAdd(u8, u8),
    SRem(u8, u8),
    SCard(u8),
    SMembers(u8),
    HSet(u8, u8, u8),
    HGet(u8, u8),
    HDel(u8, u8),
    HGetAll(u8),
}

impl Order {
    fn line(&self) -> String {
        match self {
            Self::Set(key, value) => format!("SET k{key} v{value}"),
            Self::Get(key) => format!("GET k{key}"),
            Self::Del(key) => format!("DEL k{key}"),
            Self::Exists(key) => format!("EXISTS k{key}"),
            Self::Type(key) => format!("TYPE k{key}"),
            Self::Add(key, amount) => format!("INCRBY k{key} {amount}"),
            Self::SAdd(key, member) => format!("SADD k{key} m{member}"),
            Self::SRem(key, member) => format!("SREM k{key} m{member}"),
            Self::SCard(key) => format!("SCARD k{key}"),
            Self::SMembers(key) => format!("SMEMBERS k{key}"),
            Self::HSet(key, field, value) => format!("HSET k{key} f{field} v{value}"),
            Self::HGet(key, field) => format!("HGET k{key} f{field}"),
            Self::HDel(key, field) => format!("HDEL k{key} f{field}"),
            Self::HGetAll(key) => format!("HGETALL k{key}"),
        }
    }

    fn key(&self) -> String {
        self.line().split(' ').nth(1).unwrap_or_default().to_owned()
    }
}

#[derive(Debug, Default)]
struct NaiveRedis(BTreeMap<String, Content>);

fn wrong_type() -> Reply {
    Reply::Error(ErrorReply::new("WRONGTYPE", "Operation against a key holding the wrong kind of value"))
}

impl NaiveRedis {
    fn run(&mut self, order: &Order) -> Reply {
        let key = order.key();
        let content = self.0.get_mut(&key);
        match (order, content) {
            (Order::Set(_, value), _) => {
                self.0.insert(key, Content::Text(format!("v{value}")));
                Reply::OK
            }
            (Order::Get(_), None) => Reply::Null,
            (Order::Get(_), Some(Content::Text(text))) => Reply::bulk(text),
            (Order::Get(_), Some(Content::Count(count))) => Reply::bulk(count.to_string()),
            (Order::Del(_), _) => Reply::Integer(self.0.remove(&key).is_some().into()),
            (Order::Exists(_), content) => Reply::Integer(content.is_some().into()),
            (Order::Type(_), content) => Reply::Simple(match content {
                None => "none",
                Some(Content::Text(_) | Content::Count(_)) => "string",
                Some(Content::Members(_)) => "set",
                Some(Content::Fields(_)) => "hash",
            }),
            (Order::Add(_, amount), None) => {
                self.0.insert(key, Content::Count((*amount).into()));
                Reply::Integer((*amount).into())
            }
            (Order::Add(_, amount), Some(Content::Count(count))) => {
                *count += i64::from(*amount);
                Reply::Integer(*count)
            }
            (Order::SAdd(_, member), None) => {
                self.0.insert(key, Content::Members([format!("m{member}")].into()));
                Reply::Integer(1)
            }
            (Order::SAdd(_, member), Some(Content::Members(members))) => {
                Reply::Integer(members.insert(format!("m{member}")).into())
            }
            (Order::SRem(..) | Order::SCard(_) | Order::HDel(..), None) => Reply::Integer(0),
            (Order::SRem(_, member), Some(Content::Members(members))) => {
                let was = members.remove(&format!("m{member}"));
                if members.is_empty() {
                    self.0.remove(&key);
                }
                Reply::Integer(was.into())
            }
            (Order::SCard(_), Some(Content::Members(members))) => Reply::count(members.len()),
            (Order::SMembers(_), None) => Reply::Set(Vec::new()),
            (Order::SMembers(_), Some(Content::Members(members))) => {
                Reply::Set(members.iter().map(Reply::bulk).collect())
            }
            (Order::HSet(_, field, value), None) => {
                self.0.insert(key, Content::Fields([(format!("f{field}"), format!("v{value}"))].into()));
                Reply::Integer(1)
            }
            (Order::HSet(_, field, value), Some(Content::Fields(fields))) => {
                Reply::Integer(fields.insert(format!("f{field}"), format!("v{value}")).is_none().into())
            }
            (Order::HGet(..), None) => Reply::Null,
            (Order::HGet(_, field), Some(Content::Fields(fields))) => {
                fields.get(&format!("f{field}")).map_or(Reply::Null, Reply::bulk)
            }
            (Order::HDel(_, field), Some(Content::Fields(fields))) => {
                let was = fields.remove(&format!("f{field}")).is_some();
                if fields.is_empty() {
                    self.0.remove(&key);
                }
                Reply::Integer(was.into())
            }
            (Order::HGetAll(_), None) => Reply::Map(Vec::new()),
            (Order::HGetAll(_), Some(Content::Fields(fields))) => {
                Reply::Map(fields.iter().map(|(field, value)| (Reply::bulk(field), Reply::bulk(value))).collect())
            }
            _ => wrong_type(),
        }
    }
}

fn order() -> impl Strategy<Value = Order> {
    let (key, name) = (0_u8..4, 0_u8..3);
    prop_oneof![
        (key.clone(), name.clone()).prop_map(|(key, value)| Order::Set(key, value)),
        key.clone().prop_map(Order::Get),
        key.clone().prop_map(Order::Del),
        key.clone().prop_map(Order::Exists),
        key.clone().prop_map(Order::Type),
        (key.clone(), any::<i8>()).prop_map(|(key, amount)| Order::Add(key, amount)),
        (key.clone(), name.clone()).prop_map(|(key, member)| Order::SAdd(key, member)),
        (key.clone(), name.clone()).prop_map(|(key, member)| Order::SRem(key, member)),
        key.clone().prop_map(Order::SCard),
        key.clone().prop_map(Order::SMembers),
        (key.clone(), name.clone(), name.clone()).prop_map(|(key, field, value)| Order::HSet(key, field, value)),
        (key.clone(), name.clone()).prop_map(|(key, field)| Order::HGet(key, field)),
        (key.clone(), name).prop_map(|(key, field)| Order::HDel(key, field)),
        key.prop_map(Order::HGetAll),
    ]
}

/// Commands, some of them together between MULTI and EXEC.
fn pipeline() -> impl Strategy<Value = Vec<(bool, Vec<Order>)>> {
    proptest::collection::vec((any::<bool>(), proptest::collection::vec(order(), 1..8)), 1..8)
}

/// The bytes of the pipeline, and what the naive Redis answers.
fn expected(groups: &[(bool, Vec<Order>)]) -> (String, Vec<u8>) {
    let mut redis = NaiveRedis::default();
    let (mut sent, mut answer) = (String::new(), Vec::new());
    for (together, orders) in groups {
        let lines: String = orders.iter().map(|order| order.line() + "\r\n").collect();
        let replies: Vec<Reply> = orders.iter().map(|order| redis.run(order)).collect();
        if *together {
            sent.push_str(&format!("MULTI\r\n{lines}EXEC\r\n"));
            Reply::OK.encode(Version::Resp2, &mut answer);
            orders.iter().for_each(|_| Reply::Simple("QUEUED").encode(Version::Resp2, &mut answer));
            Reply::Array(replies).encode(Version::Resp2, &mut answer);
        } else {
            sent.push_str(&lines);
            replies.iter().for_each(|reply| reply.encode(Version::Resp2, &mut answer));
        }
    }
    (sent, answer)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn one_node_answers_as_a_naive_redis(groups in pipeline()) {
        let (sent, answer) = expected(&groups);
        prop_assert_eq!(Door::new().send(&sent).escape_ascii().to_string(), answer.escape_ascii().to_string());
    }

    #[test]
    fn where_a_pipeline_is_cut_does_not_matter(groups in pipeline(), cuts in proptest::collection::vec(1_usize..40, 1..20)) {
        let (sent, _) = expected(&groups);
        let whole = Door::new().send(&sent);
        let (mut door, mut rest, mut received) = (Door::new(), sent.as_bytes(), Vec::new());
        for cut in cuts.iter().cycle() {
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            received.extend_from_slice(&door.send(now));
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(received, whole);
    }

    #[test]
    fn no_bytes_make_a_session_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        Door::new().send(&bytes);
    }
}
