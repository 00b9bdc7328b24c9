//! Requests to tables with natural keys, where two regions insert the same row.

use std::collections::BTreeMap;

use crdt::Value;
use replica::host::{RowId, RowImage};

use super::{Script, Step, Workload};
use crate::database::{Statement, column};

impl Workload {
    fn named(&mut self, table: &str, prefix: &str, names: u64) -> RowId {
        let site = self.site();
        let name = format!("{prefix}-{}", self.random.below(names));
        RowId::named(site, table, name.as_bytes())
    }

    fn option_row(&mut self) -> RowId {
        self.named("wp_options", "option", 12)
    }

    fn option_image(&mut self) -> RowImage {
        self.some_columns(&["option_value", "autoload"])
    }

    pub(super) fn option(&mut self) -> Script {
        let row = self.option_row();
        let image = self.option_image();
        let statement = match self.random.below(4) {
            0 => Statement::Replace { row, image },
            1 => Statement::Insert { row, image },
            2 => Statement::Update { rows: vec![row], set: image, add: BTreeMap::new() },
            _ => Statement::Upsert { row, image: image.clone(), set: image, add: BTreeMap::new() },
        };
        Script::transaction("option", vec![Step::Run(statement)])
    }

    pub(super) fn delete_option(&mut self) -> Script {
        let row = self.option_row();
        Script::transaction("delete of an option", vec![Step::Run(Statement::Delete { rows: vec![row] })])
    }

    pub(super) fn reinsert(&mut self) -> Script {
        let row = self.option_row();
        let delete = Step::Run(Statement::Delete { rows: vec![row.clone()] });
        let insert = Step::Run(Statement::Replace { row, image: self.option_image() });
        let think = self.think();
        let mut steps = vec![delete, think, insert];
        if self.random.one_in(2) {
            // Two transactions: whether one drain sees both decides between one update and two lives.
            steps.insert(1, Step::Run(Statement::Commit));
            steps.insert(3, Step::Run(Statement::Begin { is_captured: true }));
        }
        Script::transaction("delete and re-insert", steps)
    }

    pub(super) fn hit(&mut self) -> Script {
        let row = self.named("wp_hits", "page", 6);
        let amount = self.random.range(1, 5) as i64;
        let image = RowImage::from([self.column_value("label"), (column("hits"), Value::from(amount))]);
        let add = BTreeMap::from([(column("hits"), amount)]);
        let statement = Statement::Upsert { row, image, set: RowImage::new(), add };
        Script::transaction("hit", vec![Step::Run(statement)])
    }

    pub(super) fn replace_hits(&mut self) -> Script {
        let row = self.named("wp_hits", "page", 6);
        let amount = self.random.below(50) as i64;
        let image = RowImage::from([self.column_value("label"), (column("hits"), Value::from(amount))]);
        Script::transaction("replace of a counter", vec![Step::Run(Statement::Replace { row, image })])
    }
}
