//! What must be true of every node at the end, from what clients were told alone. It shares no code with the engine.
//!
//! | written | at the end |
//! |---|---|
//! | a register or a field | the last acknowledged value of one of its writers, or one that this writer wrote later and heard nothing of |
//! | a member added to a set, never removed | there, if acknowledged |
//! | a member removed by who had added it | gone, if acknowledged |
//! | increments | their sum; those without an answer may count or not |
//! | two registers in one transaction | equal |
//!
//! What no client ever sent is nowhere.

use std::collections::{BTreeMap, BTreeSet};

use redis::RedisResult;

use crate::client::{Client, Outcome};

/// Keys of one MGET.
const KEYS_PER_READ: usize = 200;

/// One write of a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Write {
    Set {
        key: String,
        value: String,
    },
    /// Two registers in one transaction.
    Both {
        keys: [String; 2],
        value: String,
    },
    Field {
        key: String,
        field: String,
        value: String,
    },
    Add {
        key: String,
        member: String,
    },
    /// Of a member that the same client has added, and nobody else.
    Remove {
        key: String,
        member: String,
    },
    Count {
        key: String,
    },
}

/// What one writer knows of one register.
#[derive(Clone, Default, Debug)]
struct Slot {
    acknowledged: Option<String>,
    /// Later values without an answer.
    open: Vec<String>,
}

/// What is known of a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Presence {
    There,
    Gone,
    Either,
}

/// A register, or a field of a hash.
type Place = (String, Option<String>);

/// What one or several writers were told.
#[derive(Clone, Default, Debug)]
pub(crate) struct Oracle {
    /// Place -> writer -> slot.
    values: BTreeMap<Place, BTreeMap<String, Slot>>,
    members: BTreeMap<String, BTreeMap<String, Presence>>,
    /// Key -> acknowledged increments, and those without an answer.
    counters: BTreeMap<String, (u64, u64)>,
    twins: BTreeSet<[String; 2]>,
}

impl Write {
    /// Sends it.
    pub(crate) fn send(&self, client: &mut Client) -> Outcome {
        match self {
            Self::Set { key, value } => client.write(&["SET", key, value]),
            Self::Both { keys: [a, b], value } => {
                let set = |key| vec!["SET", key, value.as_str()];
                client.write_together(&[set(a.as_str()), set(b.as_str())])
            }
            Self::Field { key, field, value } => client.write(&["HSET", key, field, value]),
            Self::Add { key, member } => client.write(&["SADD", key, member]),
            Self::Remove { key, member } => client.write(&["SREM", key, member]),
            Self::Count { key } => client.write(&["INCRBY", key, "1"]),
        }
    }
}

impl Oracle {
    /// Remembers a write of `writer`, and what became of it. Writers share no writer's name.
    pub(crate) fn note(&mut self, writer: &str, write: &Write, outcome: &Outcome) {
        if matches!(outcome, Outcome::Refused(_)) {
            return;
        }
        let is_done = *outcome == Outcome::Done;
        match write {
            Write::Set { key, value } => self.value(writer, (key.clone(), None), value, is_done),
            Write::Both { keys, value } => {
                keys.iter().for_each(|key| self.value(writer, (key.clone(), None), value, is_done));
                self.twins.insert(keys.clone());
            }
            Write::Field { key, field, value } => {
                self.value(writer, (key.clone(), Some(field.clone())), value, is_done);
            }
            Write::Add { key, member } => {
                let presence = if is_done { Presence::There } else { Presence::Either };
                self.members.entry(key.clone()).or_default().insert(member.clone(), presence);
            }
            Write::Remove { key, member } => {
                let presence = if is_done { Presence::Gone } else { Presence::Either };
                self.members.entry(key.clone()).or_default().insert(member.clone(), presence);
            }
            Write::Count { key } => {
                let (acknowledged, open) = self.counters.entry(key.clone()).or_default();
                *(if is_done { acknowledged } else { open }) += 1;
            }
        }
    }

    fn value(&mut self, writer: &str, place: Place, value: &str, is_done: bool) {
        let slot = self.values.entry(place).or_default().entry(writer.to_owned()).or_default();
        if is_done {
            *slot = Slot { acknowledged: Some(value.to_owned()), open: Vec::new() };
        } else {
            slot.open.push(value.to_owned());
        }
    }

    /// Adds what another writer was told.
    pub(crate) fn absorb(&mut self, other: Self) {
        for (place, slots) in other.values {
            self.values.entry(place).or_default().extend(slots);
        }
        for (key, members) in other.members {
            self.members.entry(key).or_default().extend(members);
        }
        for (key, (acknowledged, open)) in other.counters {
            let sums = self.counters.entry(key).or_default();
            *sums = (sums.0 + acknowledged, sums.1 + open);
        }
        self.twins.extend(other.twins);
    }

    /// Compares with what a node shows; empty when all is well.
    pub(crate) fn complaints(&self, client: &mut Client) -> RedisResult<Vec<String>> {
        let registers = self.registers(client)?;
        let mut complaints = Vec::new();
        for ((key, _), slots) in self.values.iter().filter(|((_, field), _)| field.is_none()) {
            complaints.extend(value_complaint(key, slots, registers.get(key).and_then(Option::as_deref)));
        }
        for [a, b] in &self.twins {
            if registers.get(a) != registers.get(b) {
                complaints.push(format!("{a} and {b} were written together and differ"));
            }
        }
        complaints.extend(self.field_complaints(client)?);
        for (key, members) in &self.members {
            let shown: BTreeSet<String> = client.ask(&["SMEMBERS", key])?;
            complaints.extend(member_complaints(key, members, &shown));
        }
        for (key, &(acknowledged, open)) in &self.counters {
            let shown: Option<u64> = client.ask(&["GET", key])?;
            if !(acknowledged..=acknowledged + open).contains(&shown.unwrap_or(0)) {
                complaints
                    .push(format!("{key} is {shown:?}; {acknowledged} increments are acknowledged, {open} are open"));
            }
        }
        Ok(complaints)
    }

    /// What the node shows of all registers.
    fn registers(&self, client: &mut Client) -> RedisResult<BTreeMap<String, Option<String>>> {
        let keys: Vec<&str> =
            self.values.keys().filter(|(_, field)| field.is_none()).map(|(key, _)| key.as_str()).collect();
        let mut shown = BTreeMap::new();
        for keys in keys.chunks(KEYS_PER_READ) {
            let mut words = vec!["MGET"];
            words.extend_from_slice(keys);
            let values: Vec<Option<String>> = client.ask(&words)?;
            shown.extend(keys.iter().map(|&key| key.to_owned()).zip(values));
        }
        Ok(shown)
    }

    fn field_complaints(&self, client: &mut Client) -> RedisResult<Vec<String>> {
        let keys: BTreeSet<&str> =
            self.values.keys().filter(|(_, field)| field.is_some()).map(|(key, _)| key.as_str()).collect();
        let mut complaints = Vec::new();
        for key in keys {
            let mut shown: BTreeMap<String, String> = client.ask(&["HGETALL", key])?;
            let places = self.values.iter().filter(|((candidate, _), _)| candidate == key);
            for (field, slots) in places.filter_map(|((_, field), slots)| Some((field.as_deref()?, slots))) {
                complaints.extend(value_complaint(&format!("{key}.{field}"), slots, shown.remove(field).as_deref()));
            }
            complaints.extend(shown.keys().map(|field| format!("{key}.{field} was never written")));
        }
        Ok(complaints)
    }
}

fn value_complaint(name: &str, slots: &BTreeMap<String, Slot>, shown: Option<&str>) -> Option<String> {
    let is_allowed = match shown {
        None => slots.values().all(|slot| slot.acknowledged.is_none()),
        Some(shown) => slots
            .values()
            .any(|slot| slot.acknowledged.as_deref() == Some(shown) || slot.open.iter().any(|v| v == shown)),
    };
    if is_allowed {
        return None;
    }
    let short = |text: &str| text.chars().take(60).collect::<String>();
    let mut complaint = format!("{name} is {:?};", shown.map(short));
    for (writer, slot) in slots {
        let acknowledged = slot.acknowledged.as_deref().map(short);
        complaint.push_str(&format!(" {writer}: {acknowledged:?}, then {} open;", slot.open.len()));
    }
    Some(complaint)
}

fn member_complaints(key: &str, members: &BTreeMap<String, Presence>, shown: &BTreeSet<String>) -> Vec<String> {
    let wrong = members.iter().filter_map(|(member, presence)| match (presence, shown.contains(member)) {
        (Presence::There, false) => Some(format!("{member} is missing in {key}")),
        (Presence::Gone, true) => Some(format!("{member} was removed from {key} and is there")),
        _ => None,
    });
    let invented = shown.iter().filter(|member| !members.contains_key(*member));
    wrong.chain(invented.map(|member| format!("{member} in {key} was never added"))).collect()
}

#[test]
fn a_register_shows_a_last_value_of_somebody() {
    let slot = |acknowledged: Option<&str>, open: &[&str]| Slot {
        acknowledged: acknowledged.map(str::to_owned),
        open: open.iter().map(|&value| value.to_owned()).collect(),
    };
    let slots = BTreeMap::from([("a".to_owned(), slot(Some("1"), &["2"])), ("b".to_owned(), slot(None, &["3"]))]);
    for (shown, is_allowed) in
        [(Some("1"), true), (Some("2"), true), (Some("3"), true), (Some("0"), false), (None, false)]
    {
        assert_eq!(value_complaint("key", &slots, shown).is_none(), is_allowed, "{shown:?}");
    }
    let open = BTreeMap::from([("b".to_owned(), slot(None, &["3"]))]);
    assert_eq!(value_complaint("key", &open, None), None);
}

#[test]
fn a_later_acknowledged_value_replaces_open_ones() {
    let mut oracle = Oracle::default();
    let set = |value: &str| Write::Set { key: "k".into(), value: value.into() };
    oracle.note("a", &set("1"), &Outcome::Uncertain(String::new()));
    oracle.note("a", &set("2"), &Outcome::Done);
    oracle.note("a", &set("3"), &Outcome::Refused(String::new()));
    let slots = &oracle.values[&("k".to_owned(), None)];
    assert!(value_complaint("k", slots, Some("1")).is_some());
    assert!(value_complaint("k", slots, Some("3")).is_some());
    assert!(value_complaint("k", slots, Some("2")).is_none());
}

#[test]
fn members_are_missing_left_over_or_invented() {
    let members = BTreeMap::from([
        ("there".to_owned(), Presence::There),
        ("gone".to_owned(), Presence::Gone),
        ("either".to_owned(), Presence::Either),
    ]);
    let shown = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(member_complaints("s", &members, &shown(&["there", "either"])), Vec::<String>::new());
    assert_eq!(member_complaints("s", &members, &shown(&["gone", "new"])).len(), 3);
}
