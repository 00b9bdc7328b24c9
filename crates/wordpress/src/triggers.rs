//! The triggers that capture, and the engine's own tables: their text.
//!
//! A trigger writes which row changed, never what is in it, so it costs the same for a row of 1 MB. It cannot make a
//! site's write fail: a missing column or table is passed over (1054, 1146), and the heartbeat finds it. It never passes
//! over a deadlock or a lost lock (1213, 1205): there the transaction is gone, and must not go on.
//!
//! Rows of this region get numbers of its own class: the trigger before an insert sets the session's step and offset,
//! the one after it takes them back.

use std::fmt::Write;

use crate::key::KeyPart;
use crate::policy::literal;
use crate::shape::{Shape, TableShape};

/// How far numbers of one region are apart: as many regions can have a class of their own. Fixed for the life of a
/// cluster, because numbers stand in content.
pub const CLASS_STEP: u16 = 64;

/// What marks the engine's own session: its writes are not captured.
pub(crate) const MARK: &str = "@crdt_applying";

/// A piece of SQL that makes one object of ours, and its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Definition {
    /// The trigger's name.
    pub name: String,
    /// The table that it stands at.
    pub table: Box<str>,
    /// `CREATE TRIGGER`.
    pub sql: String,
    /// The part behind `FOR EACH ROW`, as `information_schema.TRIGGERS` gives it back.
    pub body: String,
}

/// The engine's own tables, whose names begin with the prefix.
pub(crate) fn outbox(prefix: &str) -> String {
    format!("{prefix}crdt_outbox")
}

/// The table of single values.
pub(crate) fn state(prefix: &str) -> String {
    format!("{prefix}crdt_state")
}

/// Makes the engine's own tables. Each of the statements may be given again.
pub(crate) fn own_tables(prefix: &str) -> [String; 2] {
    [
        // No key longer than an index can hold is cut: the index takes the beginning, the row the whole.
        format!(
            "CREATE TABLE IF NOT EXISTS {} (\
             id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT, site INT UNSIGNED NOT NULL, tbl VARBINARY(64) NOT NULL, \
             k VARBINARY(3072) NOT NULL, op TINYINT UNSIGNED NOT NULL, t BIGINT UNSIGNED NOT NULL, \
             c BIGINT UNSIGNED NOT NULL, PRIMARY KEY (id), KEY k (k(32))) ENGINE=InnoDB",
            quoted(&outbox(prefix))
        ),
        format!(
            "CREATE TABLE IF NOT EXISTS {} (\
             name VARBINARY(64) NOT NULL, value BIGINT UNSIGNED NOT NULL, PRIMARY KEY (name)) ENGINE=InnoDB",
            quoted(&state(prefix))
        ),
    ]
}

/// An identifier in quotes.
pub(crate) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// What the outbox says of an operation.
pub(crate) const INSERT: u8 = 1;
pub(crate) const UPDATE: u8 = 2;
pub(crate) const DELETE: u8 = 3;

/// The triggers of one table. `offset` is the class of this region's numbers: 1 to [`CLASS_STEP`].
pub fn triggers(shape: &Shape, table: &TableShape, offset: u16) -> Vec<Definition> {
    let make = |suffix: &str, when: &str, body: String| {
        let name = format!("{}crdt_{suffix}_{}_{}", shape.prefix, table.namespace.0, table.table);
        let sql = format!("CREATE TRIGGER {} {when} ON {} FOR EACH ROW {body}", quoted(&name), quoted(&table.physical));
        Definition { name, table: table.physical.clone(), sql, body }
    };
    let mut triggers = vec![
        make("ai", "AFTER INSERT", after_insert(shape, table)),
        make("au", "AFTER UPDATE", after_update(shape, table)),
        make("ad", "AFTER DELETE", after_delete(shape, table)),
    ];
    if table.counting.is_some() {
        triggers.push(make("bi", "BEFORE INSERT", before_insert(offset)));
    }
    triggers
}

/// SUBTLE: the step and the offset are the session's, so they must not outlive the row. A statement that fails between
/// the two triggers leaves them; the next insert into any of our tables takes them back then, since what was there
/// before is remembered only while it is not remembered yet.
fn before_insert(offset: u16) -> String {
    format!(
        "BEGIN \
         IF {MARK} IS NULL THEN \
         IF @crdt_step IS NULL THEN \
         SET @crdt_step = @@session.auto_increment_increment, @crdt_offset = @@session.auto_increment_offset; \
         END IF; \
         SET @@session.auto_increment_increment = {CLASS_STEP}, @@session.auto_increment_offset = {offset}; \
         END IF; END"
    )
}

fn after_insert(shape: &Shape, table: &TableShape) -> String {
    let reset = if table.counting.is_some() {
        "SET @@session.auto_increment_increment = @crdt_step, @@session.auto_increment_offset = @crdt_offset, \
         @crdt_step = NULL; "
    } else {
        ""
    };
    let leaves = is_replicated(shape, table, "NEW");
    guarded(&format!("{reset}IF {leaves} THEN {} END IF;", note(shape, table, "NEW", INSERT)))
}

fn after_delete(shape: &Shape, table: &TableShape) -> String {
    let leaves = is_replicated(shape, table, "OLD");
    guarded(&format!("IF {leaves} THEN {} END IF;", note(shape, table, "OLD", DELETE)))
}

/// A row whose key changes, or that the catalogue begins or ceases to keep out, is one that goes and one that comes.
fn after_update(shape: &Shape, table: &TableShape) -> String {
    let (was, is) = (is_replicated(shape, table, "OLD"), is_replicated(shape, table, "NEW"));
    let mut same = Vec::new();
    for (column, part) in table.key_columns().iter().zip(&table.key) {
        let name = quoted(&column.name);
        same.push(match part {
            KeyPart::Number => format!("OLD.{name} = NEW.{name}"),
            KeyPart::Bytes => format!("CAST(OLD.{name} AS BINARY) = CAST(NEW.{name} AS BINARY)"),
        });
    }
    let same = same.join(" AND ");
    let (went, came) = (note(shape, table, "OLD", DELETE), note(shape, table, "NEW", INSERT));
    guarded(&format!(
        "IF {same} AND {was} AND {is} THEN {} ELSE \
         IF {was} THEN {went} END IF; IF {is} THEN {came} END IF; END IF;",
        note(shape, table, "NEW", UPDATE)
    ))
}

fn guarded(body: &str) -> String {
    format!("BEGIN DECLARE CONTINUE HANDLER FOR 1054, 1146 BEGIN END; IF {MARK} IS NULL THEN {body} END IF; END")
}

/// One line in the outbox. The time is this server's, in UTC whatever the session's zone.
fn note(shape: &Shape, table: &TableShape, row: &str, operation: u8) -> String {
    let mut key = String::new();
    for (at, (column, part)) in table.key_columns().iter().zip(&table.key).enumerate() {
        let value = format!("{row}.{}", quoted(&column.name));
        let is_last = at + 1 == table.key.len();
        let bytes = match part {
            KeyPart::Number => format!("UNHEX(LPAD(HEX({value}), 16, '0'))"),
            KeyPart::Bytes if is_last => format!("CAST({value} AS BINARY)"),
            KeyPart::Bytes => format!("REPLACE(CAST({value} AS BINARY), X'00', X'00FF'), X'0000'"),
        };
        let _ = write!(key, "{}{bytes}", if at == 0 { "" } else { ", " });
    }
    if table.key.len() > 1 {
        key = format!("CONCAT({key})");
    }
    format!(
        "INSERT INTO {} (site, tbl, k, op, t, c) VALUES ({}, {}, {key}, {operation}, \
         TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000, CONNECTION_ID());",
        quoted(&outbox(&shape.prefix)),
        table.namespace.0,
        literal(table.table.as_bytes()),
    )
}

/// A condition that is true for rows which the catalogue lets go: the first rule that fits decides.
fn is_replicated(shape: &Shape, table: &TableShape, row: &str) -> String {
    let mut cases = String::new();
    for rule in shape.catalogue.row_rules(&table.table) {
        let condition = match (&rule.name, &rule.column, &rule.is) {
            (Some(pattern), _, _) => {
                let Some(names) = table.names.and_then(|at| table.columns.get(at)) else { continue };
                pattern.to_sql(&format!("{row}.{}", quoted(&names.name)))
            }
            (None, Some(column), Some(is)) => {
                format!("CAST({row}.{} AS BINARY) = {}", quoted(column), literal(is.as_bytes()))
            }
            _ => continue,
        };
        let _ = write!(cases, "WHEN {condition} THEN {} ", u8::from(rule.policy.is_replicated()));
    }
    if cases.is_empty() { "TRUE".to_owned() } else { format!("(CASE {cases}ELSE 1 END)") }
}
