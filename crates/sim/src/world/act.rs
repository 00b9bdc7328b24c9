//! What scripted scenarios do to a world.

use std::rc::Rc;

use crdt::change::{Batch, BatchHeader, Change, Content, seal};
use crdt::{BatchId, Hlc, Namespace, ReplicaId, VersionVector};
use replica::Signer;
use replica::message::Message;

use super::machine::{CrashPoint, DatabaseBackup, Machine, RequestKind};
use super::{Process, World};
use crate::coverage::Fault;
use crate::database::Database;
use crate::disk::Records;
use crate::history::Opened;
use crate::network::{PartitionId, PartitionShape};
use crate::signer::Keys;

/// A whole machine at one moment.
#[derive(Clone, Debug)]
pub struct Picture {
    /// What its disk held.
    pub records: Records,
    database: Option<DatabaseBackup>,
}

impl World {
    /// Cuts the network until [`World::heal_cut`].
    pub fn cut(&mut self, shape: PartitionShape) -> PartitionId {
        let id = self.network.cut(shape);
        self.line(None, || format!("the network is cut: {shape:?}"));
        self.review_links();
        id
    }

    /// Ends a cut.
    pub fn heal_cut(&mut self, id: PartitionId) {
        if self.network.heal(id) {
            self.line(None, || "a cut is healed".into());
            self.review_links();
        }
    }

    /// One more machine with an empty disk and an empty database, under a name of its own or that of another one.
    pub fn add_machine(&mut self, same_name_as: Option<usize>) -> usize {
        let index = self.history.add_node();
        let slot = index as u8 + 1;
        let name = match same_name_as {
            Some(other) => {
                self.history.doubled(other);
                self.machines[other].name.clone()
            }
            None => format!("node_{slot:02}"),
        };
        let database = Database::new(self.tables.clone(), slot, self.swarm.snapshot_isolation);
        let mut machine = Machine::new(name, slot, Some(database));
        machine.is_outside = true;
        machine.key.set(self.machines[0].key.get());
        self.machines.push(machine);
        self.network.add_machine(&self.swarm.link, &mut self.network_random);
        index
    }

    /// Starts a machine that is down. One that starts for the first time gets its clients once it shows something.
    pub fn start_machine(&mut self, node: usize) {
        self.start(node);
    }

    /// Kills a machine's process.
    pub fn stop_machine(&mut self, node: usize) {
        if self.is_running(node) {
            self.fault(Fault::Kill);
            self.kill(node);
        }
    }

    /// A machine loses power, and stays down.
    pub fn lose_power(&mut self, node: usize) {
        if self.is_running(node) {
            self.cut_power(node);
        }
    }

    /// A backup of a machine's store.
    pub fn back_up(&mut self, node: usize) -> Records {
        self.line(Some(node), || "a backup is taken".into());
        self.machines[node].disk.backup()
    }

    /// A picture of a whole machine: its store and its database, of one moment.
    pub fn take_picture(&mut self, node: usize) -> Picture {
        let database = self.machines[node].back_up_database();
        Picture { records: self.back_up(node), database }
    }

    /// Lets a process die before its database deletes drained entries.
    pub fn crash_before_delete(&mut self, node: usize) {
        self.machines[node].crash = Some(CrashPoint::Request { kind: RequestKind::Delete, after: false });
    }

    /// Puts a store back, and says so.
    pub fn put_back(&mut self, node: usize, records: Records) {
        self.machines[node].disk.restore(records);
        self.machines[node].opens_as(Opened::StoreRestored);
        self.fault(Fault::RestoredStore);
        self.line(Some(node), || "a backup is put back".into());
    }

    /// Puts a machine back to an earlier picture, or only its store, without telling the node that its continuity is
    /// broken.
    pub fn put_back_unnoticed(&mut self, node: usize, picture: Picture, with_database: bool) {
        let Picture { records, database } = picture;
        self.machines[node].disk.restore(records);
        self.machines[node].opens_as(Opened::StoreRestored);
        self.machines[node].continuity = replica::Continuity::Proven;
        if let Some(database) = database.filter(|_| with_database) {
            self.put_database_back(node, database);
        }
        self.fault(Fault::RestoredStore);
        self.line(Some(node), || "a backup is put back, and nobody says so".into());
    }

    /// Lets a batch with a change of an unknown kind arrive at a machine, from a member that is a version ahead.
    pub fn bring_unknown_change(&mut self, node: usize) {
        let replica = ReplicaId(self.random.next_u128());
        let wall_ms = self.clock_of(node).wall_ms;
        self.bring(node, replica, wall_ms, Some(Content::Unknown { code: 9, bytes: vec![1, 2, 3] }));
    }

    /// Lets a batch arrive whose MAC fits and whose change does not decode: from a member with a broken encoder.
    pub fn bring_unreadable_change(&mut self, node: usize) {
        let replica = ReplicaId(self.random.next_u128());
        // The code of a register, and behind it what no register is.
        let wall_ms = self.clock_of(node).wall_ms;
        self.bring(node, replica, wall_ms, Some(Content::Unknown { code: 0, bytes: vec![0xff, 0xff] }));
    }

    /// Lets two batches under one dot arrive at two machines: from a member whose replica id somebody else used as well.
    /// They change nothing, so that the states stay equal.
    pub fn bring_fork(&mut self, one: usize, other: usize) {
        let replica = ReplicaId(self.random.next_u128());
        self.history.forged(BatchId { replica, seq: 1 });
        // Their clocks tell them apart. The world's time stands still: moved past an event that is planned, a timer would be
        // served late, taken for an obsolete one, and its node never woken again.
        let wall_ms = self.clock_of(one).wall_ms;
        self.bring(one, replica, wall_ms, None);
        self.bring(other, replica, wall_ms + 1, None);
    }

    fn bring(&mut self, node: usize, replica: ReplicaId, wall_ms: u64, content: Option<Content>) {
        let Some(from) = self.running().into_iter().find(|other| *other != node) else { return };
        let id = BatchId { replica, seq: 1 };
        let hlc = Hlc::from_millis(wall_ms);
        let header = BatchHeader { id, more: false, hlc, context: VersionVector::new() };
        let change =
            |content| Change { namespace: Namespace(1), path: vec![b"later".as_slice().into()], stamp: hlc, content };
        let keys = Keys::new(Rc::clone(&self.machines[from].key));
        let signed =
            Batch { header, changes: content.map(change).into_iter().collect() }.to_signed_bytes(keys.key_id());
        let mac = keys.sign(&signed);
        let bytes = Message::Batches(vec![seal(signed, mac)]).to_bytes();
        let (now, name) = (self.clock_of(node), self.machines[from].name.clone());
        if let Some(process) = &mut self.machines[node].process {
            process.node.handle_message(now, &name, &bytes);
            self.line(Some(node), || format!("hears a batch that nobody wrote, {id}, from {name}"));
            self.settle(node);
        }
    }
}

impl Machine {
    /// The machine from which a snapshot is coming in.
    pub fn donor(&self) -> Option<usize> {
        self.donor
    }
}

impl Process {
    /// What the node has logged durably, as last observed.
    pub fn received(&self) -> &VersionVector {
        &self.received
    }
}
