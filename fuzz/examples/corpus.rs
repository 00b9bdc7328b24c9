//! Writes the committed corpus: real encodings of everything that a target reads.
//!
//! `cargo run --manifest-path fuzz/Cargo.toml --example corpus` writes the same files each time. Files that it
//! does not know, such as inputs that once crashed, stay.
//!
//! LONG: one function a target, all on the same sample clusters and messages, read as one list of what is committed.

use std::fs;
use std::path::Path;

use crdt::chain::Seen;
use crdt::change::seal;
use crdt::row::{ColumnDelta, RowDelta};
use crdt::row_view::{ViewSum, Write};
use crdt::{
    Batch, BatchHeader, BatchId, Change, Content, Crdt, Dot, Fingerprint, Hlc, Key, Keyspace, Kind, Name, Namespace,
    Object, Op, Place, ReplicaId, Row, RowView, Tally, Value, VersionVector,
};
use fuzz::envelope::{KEY_ID, MAC, changes_of, sample_header};
use fuzz::event::{Code, Event, stranger};
use fuzz::history::{History, REPLICAS, Turn};
use fuzz::machine::{Machine, NAMES, SIGNATURE, START_MS, first_replica};
use fuzz::script::Script;
use replica::host::RowId;
use replica::matrix::MatrixRow;
use replica::message::{Chunk, Digest, Hello, Manifest, Message, Pull, Times};
use replica::record::Meta;
use replica::{Epoch, Member, RecordKey, Report, SignedEpoch};

fn main() {
    batches();
    objects_and_views();
    deltas();
    keys();
    messages();
    epochs();
    nodes();
    bombs();
}

/// What takes the most memory for its length, for each target with a bound: an estimate of the bound that is
/// too low is noticed at once.
fn bombs() {
    write("batch", "bomb-of-counters", &[&[255], &[2, 0, 0].repeat(255)[..]].concat());

    let mut row = Row::default();
    let change = |index: u32, delta: RowDelta| (Dot::new(ReplicaId(1), 1, index), delta);
    let insert = RowDelta { insert: true, ..RowDelta::default() };
    let lives: Vec<Dot> = (0..16).map(|index| Dot::new(ReplicaId(1), 1, index)).collect();
    let column = ColumnDelta { write: Some(Value::Null), ..ColumnDelta::default() };
    let update = RowDelta { lives, columns: vec![column], ..RowDelta::default() };
    let inserts = (0..16).map(|index| change(index, insert.clone()));
    for (dot, delta) in inserts.chain((16..516).map(|index| change(index, update.clone()))) {
        row.apply(dot, Hlc(1), &delta, Place::root(b""), &mut Tally::default()).expect("no counter");
    }
    let row = Object::Row(row);
    write("object", "bomb-of-lives", &[&[row.kind() as u8], &row.to_bytes()[..]].concat());

    let birth = Dot::new(ReplicaId(1), 1, 0);
    let sum = ViewSum { amount: 0, seen: vec![(Seen { birth, tip: birth, total: 0 }, true); 513] };
    let view = RowView { sums: [(b"n"[..].into(), sum)].into_iter().collect(), ..RowView::default() };
    write("view", "bomb-of-shares", &view.to_bytes());

    write("message", "bomb-of-batches", body(&Message::Batches(vec![vec![0]; 1_025]).to_bytes()));
    let members = (1..=64).map(|slot| (char::from(b'0' + slot).to_string(), Member { slot })).collect();
    write("epoch", "bomb-of-members", &Epoch { number: 1, members, ..Epoch::default() }.to_bytes());
}

fn write(target: &str, name: &str, bytes: &[u8]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&folder).expect("the corpus folder can be made");
    fs::write(folder.join(name), bytes).expect("the corpus can be written");
}

/// Numbers that are the same in every run (Knuth's MMIX generator).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn value(&mut self) -> Value {
        match self.below(8) {
            0 => Value::Null,
            1 => Value::from(true),
            2 => Value::from(self.below(300)),
            3 => Value::from(-1 - self.below(9) as i64),
            4 => Value::from(self.below(9) as f64 / 3.0),
            5 => Value::bytes(vec![b'v'; 230]),
            _ => Value::bytes([b'a' + self.below(4) as u8]),
        }
    }
}

/// A change that a client of `replica` could make to a leaf.
fn derive(random: &mut Random, replica: ReplicaId, time: Hlc, leaf: &Object) -> Option<(Hlc, Op)> {
    let amount = random.below(2_000) as i128 - 500;
    let element = [b'a' + random.below(4) as u8];
    let choice = random.below(5);
    let at = |op| Some((time, op));
    match leaf {
        Object::Register(register) => match choice {
            0 => at(Op::Register(register.remove()?)),
            1 => {
                let dot = register.journal().next()?.dot;
                register.restore(dot, time).map(|(stamp, delta)| (stamp, Op::Register(delta)))
            }
            _ => {
                let (stamp, delta) = register.set(random.value(), time);
                Some((stamp, Op::Register(delta)))
            }
        },
        Object::GCounter(counter) => match choice {
            0 => at(Op::GCounter(counter.remove()?)),
            _ => at(Op::GCounter(counter.increment(replica, amount.unsigned_abs() as u64).ok()?)),
        },
        Object::PnCounter(counter) => match choice {
            0 => at(Op::PnCounter(counter.remove()?)),
            1 => at(Op::PnCounter(counter.reset(amount))),
            _ => at(Op::PnCounter(counter.increment(replica, amount).ok()?)),
        },
        Object::Set(set) => match choice {
            0 => at(Op::Set(set.clear()?)),
            1 => at(Op::Set(set.remove([&element[..]]))),
            _ => at(Op::Set(set.add([&element[..], b"more"]))),
        },
        Object::Row(row) => derive_row(random, replica, time, row),
        Object::Map(_) => None,
    }
}

fn derive_row(random: &mut Random, replica: ReplicaId, time: Hlc, row: &Row) -> Option<(Hlc, Op)> {
    let view = row.view().ok()?;
    let columns: Vec<(Name, Write)> = vec![
        (b"title"[..].into(), Write::Set(random.value())),
        (b"views"[..].into(), Write::Count(random.below(100).into())),
    ];
    if !view.exists() {
        return Some((time, Op::Row(view.insert(columns))));
    }
    match random.below(5) {
        0 => view.delete().map(|delta| (time, Op::Row(delta))),
        1 => view.replace(replica, time, columns).into_iter().next().map(|(stamp, delta)| (stamp, Op::Row(delta))),
        _ => view.update(replica, time, columns).into_iter().next().map(|(stamp, delta)| (stamp, Op::Row(delta))),
    }
}

/// The leaf at a path, empty where there is none.
fn leaf(keyspace: &Keyspace, namespace: Namespace, path: &[Name], kind: Kind) -> Object {
    let root = if path.len() == 1 { kind } else { Kind::Map };
    let object = keyspace.object(&Key::new(namespace, root, &path[0]));
    let mut object = object.map_or_else(|| Object::new(root), |object| object.into_owned());
    for (place, name) in path.iter().enumerate().skip(1) {
        let kind = if place + 1 == path.len() { kind } else { Kind::Map };
        let child = match &object {
            Object::Map(map) => map.entry(name, kind).cloned(),
            _ => None,
        };
        object = child.unwrap_or_else(|| Object::new(kind));
    }
    object
}

/// A batch with this header: up to three changes to leaves of one type, made part of the author's state.
fn written(random: &mut Random, state: &mut Keyspace, header: BatchHeader, kind: Kind, depth: usize) -> Batch {
    let BatchId { replica, seq } = header.id;
    let mut batch = Batch { header, changes: Vec::new() };
    for _ in 0..=random.below(3) {
        let path: Vec<Name> = (0..depth).map(|_| [b'k' + random.below(2) as u8].into()).collect();
        let namespace = Namespace(random.below(2) as u32 * 300);
        let leaf = leaf(state, namespace, &path, kind);
        let Some((stamp, op)) = derive(random, replica, batch.header.hlc, &leaf) else { continue };
        let change = Change { namespace, path, stamp, content: Content::Op(op) };
        let dot = Dot::new(replica, seq, batch.changes.len() as u32);
        state.apply_change(dot, &change).expect("amounts are small");
        batch.changes.push(change);
    }
    batch
}

/// Three replicas that write leaves of one type, hear each other now and then, and keep what they have.
struct Cluster {
    random: Random,
    history: History,
    states: [Keyspace; 3],
    batches: Vec<Batch>,
    script: Vec<u8>,
}

impl Cluster {
    fn new(seed: u64) -> Self {
        Self {
            random: Random(seed),
            history: History::default(),
            states: [Keyspace::new(), Keyspace::new(), Keyspace::new()],
            batches: Vec::new(),
            script: Vec::new(),
        }
    }

    fn turn(&mut self, kind: Kind, depth: usize) {
        let heard = [0, 1, 2].map(|_| self.random.below(3) == 0);
        let writer = self.random.below(3) as usize;
        let turn = Turn { writer, heard, more: self.random.below(8) == 0, time: self.random.below(40) as u8 };
        let header = self.history.header(&turn);
        self.hear(writer, &header.context);
        let batch = written(&mut self.random, &mut self.states[writer], header, kind, depth);
        turn.push(batch.changes.len() as u8, &changes_of(&batch), &mut self.script);
        self.history.commit(&batch.header);
        self.batches.push(batch);
    }

    /// Applies what the writer had not heard before.
    fn hear(&mut self, writer: usize, context: &VersionVector) {
        let past = &self.history.pasts()[writer];
        for batch in &self.batches {
            if context.contains(batch.header.id) && !past.contains(batch.header.id) {
                for (index, change) in (0..).zip(&batch.changes) {
                    let dot = Dot::new(batch.header.id.replica, batch.header.id.seq, index);
                    self.states[writer].apply_change(dot, change).expect("amounts are small");
                }
            }
        }
    }
}

/// The leaves' types with the depths at which they are written.
const LEAVES: [(&str, Kind, usize); 7] = [
    ("register", Kind::Register, 1),
    ("growing-counter", Kind::GCounter, 1),
    ("counter", Kind::PnCounter, 1),
    ("set", Kind::Set, 1),
    ("row", Kind::Row, 1),
    ("map-of-registers", Kind::Register, 2),
    ("map-of-counters", Kind::PnCounter, 3),
];

fn cluster(kind: Kind, depth: usize, seed: u64, turns: usize) -> Cluster {
    let mut cluster = Cluster::new(seed);
    (0..turns).for_each(|_| cluster.turn(kind, depth));
    cluster
}

fn deltas() {
    for (name, kind, depth) in LEAVES {
        for seed in 1..=3 {
            write("delta", &format!("{name}-{seed}"), &cluster(kind, depth, seed, 4 * seed as usize).script);
        }
    }
    let mut mixed = Cluster::new(9);
    (0..3).for_each(|_| LEAVES.iter().for_each(|(_, kind, depth)| mixed.turn(*kind, *depth)));
    write("delta", "mixed", &mixed.script);
}

fn objects_and_views() {
    for (name, kind, depth) in LEAVES {
        for seed in 1..=2 {
            let played = cluster(kind, depth, seed, 12);
            let largest = played.states.iter().flat_map(|state| {
                state.keys().filter_map(|key| Some((key.kind, state.object(&key)?.into_owned()))).collect::<Vec<_>>()
            });
            let Some((kind, object)) = largest.max_by_key(|(_, object)| object.to_bytes().len()) else { continue };
            write("object", &format!("{name}-{seed}"), &[&[kind as u8], &object.to_bytes()[..]].concat());
            if let Object::Row(row) = &object {
                let view = row.view().expect("amounts are small");
                write("view", &format!("view-{seed}"), &view.to_bytes());
            }
        }
    }
    for kind in Kind::ALL {
        write("object", &format!("empty-{}", kind as u8), &[&[kind as u8], &Object::new(kind).to_bytes()[..]].concat());
    }
    write("view", "empty", &RowView::default().to_bytes());
    for seed in 3..12 {
        for (place, state) in cluster(Kind::Row, 1, seed, 9).states.iter().enumerate() {
            for key in state.keys() {
                if let Some(object) = state.object(&key)
                    && let Object::Row(row) = object.as_ref()
                {
                    let view = row.view().expect("amounts are small");
                    write("view", &format!("view-{seed}-{place}"), &view.to_bytes());
                }
            }
        }
    }
}

fn batches() {
    let empty = Batch { header: sample_header(), changes: Vec::new() };
    write("batch", "empty", &[&[0], &seal(empty.to_signed_bytes(KEY_ID), MAC)[..]].concat());
    for (name, kind, depth) in LEAVES {
        let mut played = cluster(kind, depth, 5, 12);
        played.batches.retain(|batch| !batch.changes.is_empty());
        let longest = played.batches.iter().max_by_key(|batch| changes_of(batch).len()).expect("something was written");
        write("batch", name, &[&[0], &seal(longest.to_signed_bytes(KEY_ID), MAC)[..]].concat());
        // The same changes as the sample's author would have written them: dots move to its replicas.
        let moved = moved(longest);
        write("batch", &format!("{name}-changes"), &[&[moved.changes.len() as u8], &changes_of(&moved)[..]].concat());
    }
    let unknown = Change {
        namespace: Namespace(4),
        path: vec![b"future"[..].into()],
        stamp: Hlc(99),
        content: Content::Unknown { code: 12, bytes: vec![1, 2, 3] },
    };
    let unknown = Batch { header: sample_header(), changes: vec![unknown] };
    write("batch", "unknown", &[&[1], &changes_of(&unknown)[..]].concat());
    let golden = include_str!("../../crates/crdt/golden/batch-0.hex").trim();
    let golden: Vec<u8> = (0..golden.len() / 2)
        .map(|place| u8::from_str_radix(&golden[2 * place..2 * place + 2], 16).expect("the golden file is hex"))
        .collect();
    write("batch", "golden", &[&[0], &golden[..]].concat());
}

/// A batch with the sample's header; what its changes name is of the sample's replicas.
fn moved(batch: &Batch) -> Batch {
    let header = sample_header();
    let known: Vec<(ReplicaId, u64)> =
        core::iter::once((header.id.replica, header.id.seq - 1)).chain(header.context.iter()).collect();
    let place = |dot: &Dot| REPLICAS.iter().position(|replica| *replica == dot.replica).unwrap_or(0);
    // The writer's own dots must stay its own, so the writer comes first.
    let shift = place(&Dot::new(batch.header.id.replica, 1, 0));
    let renamed = |dot: &mut Dot| {
        let (replica, seq) = known[(place(dot) + 3 - shift) % 3];
        *dot = Dot::new(replica, dot.seq.min(seq), dot.index);
    };
    let mut changes = batch.changes.clone();
    for change in &mut changes {
        change.stamp = Hlc(change.stamp.0 + 40);
        let Content::Op(op) = &mut change.content else { continue };
        match op {
            Op::Register(delta) => delta.replaces.iter_mut().chain(&mut delta.retires).for_each(renamed),
            Op::GCounter(delta) | Op::PnCounter(delta) => {
                let seen = delta.removes.iter_mut().chain(delta.add.iter_mut().flat_map(|add| &mut add.extends));
                seen.flat_map(|seen| [&mut seen.birth, &mut seen.tip]).for_each(renamed);
            }
            Op::Set(delta) => delta.elements.iter_mut().flat_map(|element| &mut element.removes).for_each(renamed),
            Op::Row(delta) => {
                delta.lives.iter_mut().chain(&mut delta.ends).for_each(renamed);
                for column in &mut delta.columns {
                    column.replaces.iter_mut().for_each(renamed);
                    let seen = column.removes.iter_mut().chain(column.add.iter_mut().flat_map(|add| &mut add.extends));
                    seen.flat_map(|seen| [&mut seen.birth, &mut seen.tip]).for_each(renamed);
                }
            }
        }
    }
    Batch { header, changes }
}

fn keys() {
    for kind in Kind::ALL {
        write("key", &format!("object-{}", kind as u8), &Key::new(Namespace(300), kind, b"name").to_bytes());
    }
    write("key", "row", &RowId::numbered(Namespace(0), "posts", 7).to_bytes());
    let batch = BatchId { replica: ReplicaId(7), seq: 9 };
    let records = [
        RecordKey::Meta(Meta::Identity),
        RecordKey::Meta(Meta::Claimed),
        RecordKey::Batch(batch),
        RecordKey::Object(Key::new(Namespace(1), Kind::Set, b"s").to_bytes()),
        RecordKey::Shadow(RowId::named(Namespace(0), "options", b"siteurl").to_bytes()),
        RecordKey::Row(NAMES[0].to_owned()),
        RecordKey::Epoch(4),
        RecordKey::Chunk(5),
        RecordKey::Drained(batch),
        RecordKey::Remains(batch),
        RecordKey::Held(batch),
    ];
    for (place, key) in records.iter().enumerate() {
        write("key", &format!("record-{place}"), &key.to_bytes());
    }
}

fn messages() {
    let replica = ReplicaId(7 << 100);
    let vector: VersionVector = [(ReplicaId(3), 300), (replica, 9)].into_iter().collect();
    let row =
        MatrixRow { epoch: 2, replicas: vec![ReplicaId(3), replica], shown: vector.clone(), received: vector.clone() };
    let digest = |settled| Digest {
        row: row.clone(),
        heads: vec![(replica, 9, [5; 16])],
        settled,
        heard: Some(BatchId { replica, seq: 11 }),
        times: Times { echo_ms: 1_000, heard_ms: 2_000, sent_ms: 3_000 },
    };
    let all = [
        Message::Hello(Hello { cluster: 7, replicas: vec![ReplicaId(3), replica], versions: (1, 2), heard: true }),
        Message::Digest(digest(None)),
        Message::Digest(digest(Some((vector.clone(), Fingerprint(77))))),
        Message::Pull(Pull { ranges: vec![(replica, 3, 9)], credit_bytes: 4_000 }),
        Message::Batches(vec![vec![1, 2, 3], vec![4]]),
        Message::BelowFloor(replica, 4),
        Message::WantEpochs(2),
        Message::Epochs(vec![SignedEpoch { bytes: Epoch::default().to_bytes(), signature: SIGNATURE.to_vec() }]),
        Message::WantSnapshot(vector.clone()),
        Message::Manifest(Manifest { id: 1, cut: vector.clone(), clock: Hlc(70), hashes: vec![(replica, [6; 16])] }),
        Message::WantChunk(1, 300),
        Message::Chunk(Chunk { id: 1, place: 2, last: true, hash: [4; 16], content: vec![0, 0, 0] }),
        Message::SnapshotGone(1, 1),
        Message::WantAudit(vector.clone()),
        Message::Audit(vector, vec![Fingerprint(1), Fingerprint(2)]),
        Message::Refused(vec![ReplicaId(3), replica]),
        Message::WantDigest,
    ];
    for (place, message) in all.iter().enumerate() {
        write("message", &format!("message-{place:02}"), body(&message.to_bytes()));
    }
}

/// A message without its checksum.
fn body(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len() - 8]
}

fn epochs() {
    for (count, seals) in [(0, 0), (1, 0), (2, 1), (5, 3)] {
        write("epoch", &format!("epoch-{count}-{seals}"), &epoch(count, seals).to_bytes());
    }
}

fn epoch(members: u8, seals: u64) -> Epoch {
    Epoch {
        number: u64::from(members) + seals * 100,
        members: (0..members).map(|place| (format!("node_{place:02}"), Member { slot: place + 1 })).collect(),
        seals: (0..seals).map(|place| (ReplicaId(u128::from(place) << 90), place * 1_000)).collect(),
        version_min: 1,
    }
}

/// Two members that talk. What happens to the first one is recorded.
struct Pair {
    machines: [Machine; 2],
    script: Vec<u8>,
}

impl Pair {
    fn new(with_database: bool) -> Self {
        let machines = [Machine::new(0, with_database), Machine::new(1, with_database)];
        let mut pair = Self { machines, script: vec![with_database.into()] };
        pair.talk();
        pair
    }

    fn happen(&mut self, code: Code, parameter: u8, block: &[u8]) {
        let event = Event { code, parameter, block };
        event.push(&mut self.script);
        event.happen(&mut self.machines[0]);
        self.talk();
    }

    fn happen_there(&mut self, code: Code, parameter: u8, block: &[u8]) {
        Event { code, parameter, block }.happen(&mut self.machines[1]);
        self.talk();
    }

    fn wait(&mut self, parameter: u8) {
        self.happen_there(Code::Wait, parameter, &[]);
        self.happen(Code::Wait, parameter, &[]);
    }

    /// Delivers everything that is on its way.
    fn talk(&mut self) {
        loop {
            let [here, there] = &mut self.machines;
            if let Some((_, bytes)) = here.sent.pop_front() {
                there.hear(&bytes);
            } else if let Some((_, bytes)) = there.sent.pop_front() {
                let event = Event { code: Code::Message, parameter: 0, block: body(&bytes) };
                event.push(&mut self.script);
                here.hear(&bytes);
            } else {
                return;
            }
        }
    }

    /// The link is down while `meanwhile` happens, and nothing that is said arrives.
    fn apart(&mut self, meanwhile: impl FnOnce(&mut [Machine; 2], &mut Vec<u8>)) {
        let down = Event { code: Code::Link, parameter: 0, block: &[] };
        let up = Event { parameter: 1, ..down };
        down.push(&mut self.script);
        self.machines.iter_mut().for_each(|machine| down.happen(machine));
        meanwhile(&mut self.machines, &mut self.script);
        self.machines.iter_mut().for_each(|machine| machine.sent.clear());
        up.push(&mut self.script);
        self.machines.iter_mut().for_each(|machine| up.happen(machine));
        self.talk();
    }

    fn save(self, name: &str) {
        write("node", name, &self.script);
    }
}

/// One intent as [`fuzz::event`] reads it.
fn intent(action: u8, path: &[u8], operand: u8) -> Vec<u8> {
    [&[action | (path.len() as u8 - 1) << 6], path, &[operand]].concat()
}

fn nodes() {
    let mut commits = Pair::new(false);
    for action in 0..8 {
        commits.happen_there(Code::Commit, 0, &intent(action, b"a", 3 + action));
        commits.happen(Code::Commit, 0, &[intent(action, b"ab", 7), intent(action, b"a", 9)].concat());
    }
    commits.wait(40);
    commits.save("commits");

    let mut apart = Pair::new(false);
    apart.apart(|machines, script| {
        for action in [0, 4, 5, 6, 0, 2] {
            let block = intent(action, b"a", action + 9);
            let event = Event { code: Code::Commit, parameter: 0, block: &block };
            event.push(script);
            machines.iter_mut().for_each(|machine| event.happen(machine));
        }
    });
    apart.wait(30);
    apart.happen(Code::Commit, 0, &intent(3, b"a", 0));
    apart.save("apart");

    let mut behind = Pair::new(false);
    behind.apart(|machines, _| {
        for key in 0..24 {
            let block = intent(0, &[key % 8], 2 + (key % 3) * 4);
            Event { code: Code::Commit, parameter: 0, block: &block }.happen(&mut machines[1]);
        }
        Event { code: Code::Wait, parameter: 30, block: &[] }.happen(&mut machines[1]);
    });
    (0..6).for_each(|_| behind.wait(16));
    let reports = &behind.machines[0].reports;
    assert!(reports.iter().any(is_install), "{reports:?}");
    behind.happen(Code::Restart, 1, &[]);
    behind.save("behind");

    let mut sites = Pair::new(true);
    sites.happen(Code::Site, 1, &[0, 1, 1, 5, 2, 3]);
    sites.happen_there(Code::Site, 2, &[0, 1, 1, 6]);
    sites.wait(6);
    sites.apart(|machines, script| {
        let event = Event { code: Code::Site, parameter: 1, block: &[1, 9, 0, 2] };
        event.push(script);
        event.happen(&mut machines[0]);
        Event { block: &[], ..event }.happen(&mut machines[1]);
    });
    sites.wait(10);
    sites.happen(Code::SqlFailure, 4, &[]);
    sites.happen(Code::Site, 2, &[]);
    sites.wait(40);
    sites.save("sites");

    let mut epochs = Pair::new(false);
    epochs.happen(Code::Epoch, 0, &epoch(2, 1).to_bytes());
    epochs.happen(Code::Commit, 0, &intent(0, b"a", 1));
    epochs.happen(Code::Restart, 0, &[]);
    epochs.wait(20);
    epochs.save("epochs");

    strangers();
}

/// Scripts in which the other replicas are made up: batches of every type, and a snapshot.
fn strangers() {
    for (name, kind, depth) in LEAVES {
        for with_database in 0..2 {
            let (mut random, mut state, mut past) = (Random(7), Keyspace::new(), VersionVector::new());
            let mut script = vec![with_database];
            for parameter in 0..10 {
                // As the event makes it.
                let replica = stranger(parameter);
                let id = BatchId { replica, seq: past.seq(replica) + 1 };
                let mut context = past.clone();
                context.forget(replica);
                let header = BatchHeader { id, more: false, hlc: Hlc::from_millis(START_MS), context };
                let batch = written(&mut random, &mut state, header, kind, depth);
                past.advance(replica, id.seq);
                let block = [&[batch.changes.len() as u8], &changes_of(&batch)[..]].concat();
                Event { code: Code::Batch, parameter, block: &block }.push(&mut script);
            }
            Event { code: Code::Wait, parameter: 30, block: &[] }.push(&mut script);
            write("node", &format!("strangers-{name}-{with_database}"), &script);
        }
    }
    offer();
}

fn is_install(report: &Report) -> bool {
    matches!(report, Report::SnapshotInstalled { .. })
}

fn offer() {
    let content = [&[0, 0, 1][..], &block_of(&Key::new(Namespace(0), Kind::Register, b"k").to_bytes())].concat();
    let mut state = Keyspace::new();
    let (stamp, delta) = crdt::Register::default().set("v".into(), Hlc(5));
    let path = vec![b"k"[..].into()];
    let change = Change { namespace: Namespace(0), path, stamp, content: Content::Op(Op::Register(delta)) };
    state.apply_change(Dot::new(first_replica(1), 1, 0), &change).expect("no counter");
    let object = state.object(&Key::new(Namespace(0), Kind::Register, b"k")).expect("it was written").to_bytes();
    let content = [content, block_of(&object)].concat();
    let mut script = vec![0];
    Event { code: Code::Offer, parameter: 4, block: &[] }.push(&mut script);
    Event { code: Code::Chunk, parameter: 1, block: &content }.push(&mut script);
    Event { code: Code::Commit, parameter: 0, block: &intent(0, b"k", 1) }.push(&mut script);
    let mut machine = Machine::new(0, false);
    let mut events = Script::new(&script[1..]);
    while let Some(event) = Event::read(&mut events) {
        event.happen(&mut machine);
    }
    assert!(machine.reports.iter().any(is_install), "{:?}", machine.reports);
    write("node", "offer", &script);
}

/// Bytes behind their length, as packed fields have them.
fn block_of(bytes: &[u8]) -> Vec<u8> {
    [&[u8::try_from(bytes.len()).expect("short")], bytes].concat()
}
