//! Limits and intervals of a node. Every queue, buffer and retry has one.

/// Limits, each with what breaks outside its range.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Batches kept beyond a gap, over all origins. Over it they are dropped and pulled again; too few
    /// makes reordering cost round trips, too many costs memory.
    pub beyond_gap_batches_max: usize,
    /// Changes after which what one snapshot of the outbox showed is split into a further batch. At most
    /// [`crdt::pack::CHANGES_MAX`]; small batches cost headers, large ones memory.
    pub batch_changes_max: usize,
    /// Bytes asked for in one pull: the credit that a peer gives. Bounds what is on its way to us.
    pub pull_bytes_max: usize,
    /// Most bytes of one message with batches.
    pub message_bytes_max: usize,
    /// Bytes of log above which what every member has is cut within a second; below, the next slice of collection does
    /// it. On a busy node a batch that stays for longer is written to the disk twice, and taken out of it again.
    pub log_bytes_usual: usize,
    /// Log kept for members that are away, in bytes over all replicas. Above it, what is applied here is
    /// cut within a second, and a member that lacks it must take a snapshot. Above twice of it only what applies at
    /// once is taken from others.
    pub log_bytes_max: usize,
    /// Rows written in one transaction of the apply.
    pub rows_per_step: usize,
    /// Changes of one origin applied before another origin's turn: a runaway plugin delays only itself.
    pub origin_turn_changes: usize,
    /// Bytes of one chunk of a snapshot.
    pub chunk_bytes_max: usize,
    /// Bytes of old object states kept for a snapshot that is being sent. Above it the snapshot is
    /// interrupted and starts over.
    pub snapshot_preimage_bytes_max: usize,
    /// Bounds one slice of collection twice: removals whose remains it takes, and journal entries that it forgets.
    pub gc_slice_keys: usize,
    /// Remains above which the next slice of collection comes after a tenth of [`Intervals::gc_ms`], if the last one
    /// collected anything (`CRDT_GC_THRESHOLD`). It only shortens that wait, and starts no collection.
    pub gc_threshold: u64,
    /// A commit that changes or removes more objects of one table than this, and more than
    /// [`Limits::blast_share_percent`] of them, is held ([`Intervals::blast_hold_ms`]). Too small, and everyday work
    /// of a small site is held.
    pub blast_objects_min: usize,
    /// Share of a table, in percent, above which a commit is held; from 100 on nothing is.
    pub blast_share_percent: u8,
    /// Bytes of what objects were before held commits, kept for discarding them, over all that are held. A commit above
    /// it is held and cannot be discarded. It is memory.
    pub blast_preimage_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            beyond_gap_batches_max: 1_024,
            batch_changes_max: crdt::pack::CHANGES_MAX as usize,
            pull_bytes_max: 4 << 20,
            message_bytes_max: 1 << 20,
            log_bytes_usual: 4 << 20,
            log_bytes_max: 1 << 30,
            rows_per_step: 8,
            origin_turn_changes: 1_000,
            chunk_bytes_max: 256 << 10,
            snapshot_preimage_bytes_max: 64 << 20,
            gc_slice_keys: 1_000,
            gc_threshold: 10_000,
            blast_objects_min: 1_000,
            blast_share_percent: 5,
            blast_preimage_bytes_max: 64 << 20,
        }
    }
}

/// Intervals in milliseconds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Intervals {
    /// Between two digests to a peer at first. Adapts between `digest_min_ms` and `digest_max_ms`: longer while there is
    /// nothing new or much goes over the link for nothing, shorter else; jitter takes up to a tenth of it away.
    pub digest_ms: u64,
    /// Shortest interval of digests.
    pub digest_min_ms: u64,
    /// Longest interval of digests.
    pub digest_max_ms: u64,
    /// A pull or a chunk that was not answered is asked for again after this.
    pub retry_ms: u64,
    /// Between two looks into the outbox when nothing was notified.
    pub outbox_poll_ms: u64,
    /// Between two slices of the rolling scan of rows against the shadow.
    pub scan_ms: u64,
    /// Between two slices of collection; [`Limits::gc_threshold`] shortens it.
    pub gc_ms: u64,
    /// How long a journal entry is kept at least. Its age counts on the monotonic clock, from the first slice of
    /// collection of this process that saw it, and is not stored: a restart begins anew, so a node that is restarted
    /// more often than this forgets nothing.
    pub journal_retention_ms: u64,
    /// Clock offset at which a warning is given.
    pub skew_warn_ms: u64,
    /// Clock offset above which a batch is delayed and its clock is not followed.
    pub skew_bound_ms: u64,
    /// How long a skewed batch is delayed at most.
    pub skew_delay_ms: u64,
    /// Clock offset above which an origin is fenced until an operator acts.
    pub skew_fence_ms: u64,
    /// A node that starts again writes nothing until it has heard what each reachable member knows of it, or for this
    /// long: a store that went back unnoticed would use sequence numbers twice.
    pub listen_ms: u64,
    /// A restored node waits this long for members to be heard before it looks at its database.
    pub recovery_wait_ms: u64,
    /// How long the sending of a commit is held that changed much of a table at once, if nobody decides; 0 turns that
    /// off. All that this node writes waits behind it.
    pub blast_hold_ms: u64,
}

impl Default for Intervals {
    fn default() -> Self {
        Self {
            digest_ms: 1_000,
            digest_min_ms: 50,
            digest_max_ms: 15_000,
            retry_ms: 2_000,
            outbox_poll_ms: 250,
            scan_ms: 10_000,
            gc_ms: 60_000,
            journal_retention_ms: 30 * 24 * 3_600_000,
            skew_warn_ms: 500,
            skew_bound_ms: 5_000,
            skew_delay_ms: 60_000,
            skew_fence_ms: 24 * 3_600_000,
            listen_ms: 1_000,
            recovery_wait_ms: 30_000,
            blast_hold_ms: 15 * 60_000,
        }
    }
}
