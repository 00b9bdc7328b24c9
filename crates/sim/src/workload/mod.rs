//! Clients that look like WordPress, drawn hostile on purpose: few hot rows, stale saves, colliding slugs, counters,
//! deletes and re-inserts, transactions that lock in different orders, writes that no trigger sees.
//!
//! Every written value is new in the whole world (`w<number>` with padding, or a number of its own), so that a
//! checker knows who wrote what; only slugs, counters and what a stale save sends back are not.

mod door;
mod options;
mod posts;
mod script;

use std::collections::BTreeMap;

use crdt::row::ColumnName;
use crdt::{Namespace, Value};
use replica::host::{RowId, RowImage};

use crate::database::{Database, column};
use crate::random::Random;
pub use door::{DoorRequest, leaf_object};
pub use script::{Script, Step};

/// What a client of a database can come with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// A post with its metas.
    NewPost,
    /// A post is loaded, changed for a while, and saved.
    EditPost,
    /// A post is loaded, and its whole old state is saved much later.
    StaleEdit,
    /// A post gets a slug that others have as well.
    Rename,
    /// A comment, with its post's count.
    Comment,
    /// A post is looked at.
    View,
    /// A post goes with its metas.
    DeletePost,
    /// Several posts are changed by one statement.
    Bulk,
    /// Two posts are changed in whatever order.
    Pair,
    /// A term, whose slug collides.
    Term,
    /// A counter with a natural key.
    Hit,
    /// A counter's row is replaced.
    ReplaceHits,
    /// An option is written by its natural key.
    Option,
    /// An option is deleted.
    DeleteOption,
    /// An option is deleted and inserted again.
    Reinsert,
    /// A row with many columns.
    Wide,
    /// A transaction that is rolled back.
    Abandon,
    /// A write that no trigger sees.
    Bypass,
}

impl Request {
    /// All requests with their usual weights.
    pub const WEIGHTS: &[(Self, u32)] = &[
        (Self::NewPost, 12),
        (Self::EditPost, 14),
        (Self::StaleEdit, 10),
        (Self::Rename, 6),
        (Self::Comment, 10),
        (Self::View, 12),
        (Self::DeletePost, 5),
        (Self::Bulk, 3),
        (Self::Pair, 4),
        (Self::Term, 4),
        (Self::Hit, 10),
        (Self::ReplaceHits, 4),
        (Self::Option, 12),
        (Self::DeleteOption, 4),
        (Self::Reinsert, 5),
        (Self::Wide, 8),
        (Self::Abandon, 3),
        (Self::Bypass, 2),
    ];
}

/// What all clients of a world share: names, numbers and which rows there are.
#[derive(Clone, Debug)]
pub struct Workload {
    random: Random,
    last_value: u64,
    rows: BTreeMap<&'static str, Vec<RowId>>,
    metas: BTreeMap<RowId, Vec<RowId>>,
    weights: Vec<(Request, u32)>,
    /// Longest time that a client thinks in the middle of a request.
    think_us: u64,
}

impl Workload {
    /// Clients with these habits.
    pub fn new(random: Random, weights: Vec<(Request, u32)>, think_us: u64) -> Self {
        Self { random, last_value: 0, rows: BTreeMap::new(), metas: BTreeMap::new(), weights, think_us }
    }

    /// What a client of this database does next.
    pub fn script(&mut self, database: &mut Database) -> Script {
        let total = self.weights.iter().map(|(_, weight)| weight).sum::<u32>();
        let mut drawn = self.random.below(total.into()) as u32;
        let mut request = Request::Option;
        for (candidate, weight) in &self.weights {
            if drawn < *weight {
                request = *candidate;
                break;
            }
            drawn -= weight;
        }
        self.script_of(request, database)
    }

    /// A script for this request.
    pub fn script_of(&mut self, request: Request, database: &mut Database) -> Script {
        match request {
            Request::NewPost => self.new_post(database),
            Request::EditPost => self.edit_post(database),
            Request::StaleEdit => self.stale_edit(database),
            Request::Rename => self.rename(database),
            Request::Comment => self.comment(database),
            Request::View => self.view(database),
            Request::DeletePost => self.delete_post(database),
            Request::Bulk => self.bulk(database),
            Request::Pair => self.pair(database),
            Request::Term => self.term(database),
            Request::Hit => self.hit(),
            Request::ReplaceHits => self.replace_hits(),
            Request::Option => self.option(),
            Request::DeleteOption => self.delete_option(),
            Request::Reinsert => self.reinsert(),
            Request::Wide => self.wide(database),
            Request::Abandon => self.abandon(database),
            Request::Bypass => self.bypass(database),
        }
    }

    /// A value that nobody wrote before.
    pub fn value(&mut self) -> Value {
        self.last_value += 1;
        let number = self.last_value;
        if self.random.one_in(12) {
            return Value::from(1_000_000_000 + number);
        }
        let length = match self.random.below(40) {
            0 => 4_000,
            1..=4 => 300,
            _ => self.random.below(24) as usize,
        };
        Value::from(format!("w{number}{:.<length$}", "").as_str())
    }

    /// A number that nobody used before.
    pub fn fresh_number(&mut self) -> u64 {
        self.last_value += 1;
        self.last_value
    }

    fn think(&mut self) -> Step {
        Step::Think { us: self.random.long_tailed(self.think_us / 8) }
    }

    fn think_long(&mut self) -> Step {
        Step::Think { us: self.random.range(self.think_us / 4, self.think_us) }
    }

    fn site(&mut self) -> Namespace {
        Namespace(if self.random.one_in(5) { 2 } else { 1 })
    }

    /// A slug out of few, so that regions collide.
    fn slug(&mut self) -> Value {
        Value::from(format!("slug-{}", self.random.below(6)).as_str())
    }

    /// A row of a table that this database has, mostly one of the hot ones.
    fn row_of(&mut self, table: &'static str, database: &Database) -> Option<RowId> {
        let rows = self.rows.get(table)?;
        for _ in 0..4 {
            let hot = rows.len().min(4);
            let at = match self.random.below(4) {
                0 | 1 => self.random.index(hot),
                2 => rows.len() - 1 - self.random.index(hot),
                _ => self.random.index(rows.len()),
            };
            if database.store().row(&rows[at]).is_some() {
                return Some(rows[at].clone());
            }
        }
        None
    }

    fn remember(&mut self, table: &'static str, row: &RowId) {
        self.rows.entry(table).or_default().push(row.clone());
    }

    fn column_value(&mut self, name: &str) -> (ColumnName, Value) {
        (column(name), self.value())
    }

    /// Some of the named columns with new values, at least one.
    fn some_columns(&mut self, names: &[&str]) -> RowImage {
        let mut image = RowImage::new();
        for name in names {
            if self.random.one_in(2) {
                image.extend([self.column_value(name)]);
            }
        }
        if image.is_empty() {
            let name = names.get(self.random.index(names.len())).copied().unwrap_or_default();
            image.extend([self.column_value(name)]);
        }
        image
    }
}
