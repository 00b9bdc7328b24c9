//! Requests to tables with numeric ids: posts, metas, comments, terms, wide rows.

use std::collections::BTreeMap;

use replica::host::{RowId, RowImage};

use super::{Script, Step, Workload};
use crate::database::{Database, Statement, column};

const POST_COLUMNS: &[&str] = &["post_title", "post_content", "post_status", "post_modified"];

fn update(row: RowId, set: RowImage, add: &[(&str, i64)]) -> Step {
    let add = add.iter().map(|(name, amount)| (column(name), *amount)).collect();
    Step::Run(Statement::Update { rows: vec![row], set, add })
}

impl Workload {
    pub(super) fn new_post(&mut self, database: &mut Database) -> Script {
        let site = self.site();
        let post = RowId::numbered(site, "wp_posts", database.next_id(site, "wp_posts"));
        let mut image: RowImage = POST_COLUMNS.iter().map(|name| self.column_value(name)).collect();
        let slug = if self.random.one_in(2) { self.slug() } else { self.value() };
        image.insert(column("post_name"), slug);
        let mut steps = vec![Step::Run(Statement::Insert { row: post.clone(), image })];
        let mut metas = Vec::new();
        for _ in 0..self.random.below(4) {
            let meta = RowId::numbered(site, "wp_postmeta", database.next_id(site, "wp_postmeta"));
            let id = post.number().unwrap_or(0);
            let mut image = RowImage::from([(column("post_id"), id.into())]);
            image.extend([self.column_value("meta_key"), self.column_value("meta_value")]);
            steps.push(Step::Run(Statement::Insert { row: meta.clone(), image }));
            self.remember("wp_postmeta", &meta);
            metas.push(meta);
        }
        if self.random.one_in(3) {
            let think = self.think();
            steps.insert(1, think);
        }
        self.remember("wp_posts", &post);
        self.metas.insert(post, metas);
        Script::transaction("new post", steps)
    }

    pub(super) fn edit_post(&mut self, database: &mut Database) -> Script {
        let Some(post) = self.row_of("wp_posts", database) else { return self.new_post(database) };
        let set = self.some_columns(POST_COLUMNS);
        let think = self.think();
        let whole = self.random.one_in(2);
        let save = Step::Save { row: post.clone(), set, add: BTreeMap::new(), whole };
        Script::transaction("edit of a post", vec![Step::Load(vec![post]), think, save])
    }

    /// The editor loads outside of any transaction, so nothing protects what it saves much later.
    pub(super) fn stale_edit(&mut self, database: &mut Database) -> Script {
        let table = if self.random.one_in(3) { "wp_wide" } else { "wp_posts" };
        let Some(row) = self.row_of(table, database) else { return self.new_post(database) };
        let set = if table == "wp_posts" {
            self.some_columns(POST_COLUMNS)
        } else {
            [self.column_value("field_00")].into_iter().collect()
        };
        let think = self.think_long();
        let save = Step::Save { row: row.clone(), set, add: BTreeMap::new(), whole: true };
        let mut script = Script::transaction("stale edit", vec![save]);
        script.steps.splice(0..0, [Step::Load(vec![row]), think]);
        script
    }

    pub(super) fn rename(&mut self, database: &mut Database) -> Script {
        let Some(post) = self.row_of("wp_posts", database) else { return self.new_post(database) };
        let set = RowImage::from([(column("post_name"), self.slug())]);
        Script::transaction("rename of a post", vec![update(post, set, &[])])
    }

    pub(super) fn comment(&mut self, database: &mut Database) -> Script {
        let Some(post) = self.row_of("wp_posts", database) else { return self.new_post(database) };
        let site = post.namespace;
        let comment = RowId::numbered(site, "wp_comments", database.next_id(site, "wp_comments"));
        let mut image = RowImage::from([(column("comment_post_id"), post.number().unwrap_or(0).into())]);
        image.extend([self.column_value("comment_content"), self.column_value("approved")]);
        let think = self.think();
        let steps = vec![
            Step::Load(vec![post.clone()]),
            think,
            Step::Run(Statement::Insert { row: comment.clone(), image }),
            update(post.clone(), RowImage::new(), &[("comment_count", 1)]),
        ];
        self.remember("wp_comments", &comment);
        let mut script = Script::transaction("comment", steps);
        script.parents.push((comment, post));
        script
    }

    pub(super) fn view(&mut self, database: &mut Database) -> Script {
        let Some(post) = self.row_of("wp_posts", database) else { return self.new_post(database) };
        if self.random.one_in(4) {
            // Read, then write the sum: what others added in between goes, as if on purpose.
            let add = BTreeMap::from([(column("views"), 1)]);
            let (load, think) = (Step::Load(vec![post.clone()]), self.think());
            let save = Step::Save { row: post, set: RowImage::new(), add, whole: false };
            return Script::transaction("view, counted by hand", vec![load, think, save]);
        }
        let amount = self.random.range(1, 3) as i64;
        Script::transaction("view", vec![update(post, RowImage::new(), &[("views", amount)])])
    }

    pub(super) fn delete_post(&mut self, database: &mut Database) -> Script {
        let Some(post) = self.row_of("wp_posts", database) else { return self.new_post(database) };
        let mut metas = self.metas.get(&post).cloned().unwrap_or_default();
        metas.sort_unstable();
        let mut steps = vec![Step::Run(Statement::Delete { rows: vec![post] })];
        if !metas.is_empty() {
            steps.push(Step::Run(Statement::Delete { rows: metas }));
        }
        if self.random.one_in(2) {
            steps.reverse();
        }
        Script::transaction("delete of a post", steps)
    }

    pub(super) fn bulk(&mut self, database: &mut Database) -> Script {
        let wanted = self.random.range(3, 12);
        let mut rows: Vec<RowId> = (0..wanted).filter_map(|_| self.row_of("wp_posts", database)).collect();
        rows.sort_unstable();
        rows.dedup();
        let set = [self.column_value("post_status")].into_iter().collect();
        let add = if self.random.one_in(3) { BTreeMap::from([(column("views"), 1)]) } else { BTreeMap::new() };
        Script::transaction("bulk update", vec![Step::Run(Statement::Update { rows, set, add })])
    }

    /// Two rows in whatever order: meets others that lock them the other way round.
    pub(super) fn pair(&mut self, database: &mut Database) -> Script {
        let (Some(one), Some(other)) = (self.row_of("wp_posts", database), self.row_of("wp_posts", database)) else {
            return self.new_post(database);
        };
        let (first, second) = (self.some_columns(POST_COLUMNS), self.some_columns(POST_COLUMNS));
        let think = self.think();
        Script::transaction("pair", vec![update(one, first, &[("views", 1)]), think, update(other, second, &[])])
    }

    pub(super) fn term(&mut self, database: &mut Database) -> Script {
        if let Some(term) = self.row_of("wp_terms", database).filter(|_| self.random.one_in(2)) {
            let amount = self.random.below(5) as i64 - 2;
            let set = [self.column_value("name")].into_iter().collect();
            return Script::transaction("term counted", vec![update(term, set, &[("count", amount)])]);
        }
        let site = self.site();
        let term = RowId::numbered(site, "wp_terms", database.next_id(site, "wp_terms"));
        let mut image = RowImage::from([(column("slug"), self.slug())]);
        image.extend([self.column_value("name")]);
        self.remember("wp_terms", &term);
        Script::transaction("new term", vec![Step::Run(Statement::Insert { row: term, image })])
    }

    pub(super) fn wide(&mut self, database: &mut Database) -> Script {
        let names: Vec<String> = (0..20).map(|n| format!("field_{n:02}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let known = self.rows.get("wp_wide").map_or(0, Vec::len);
        match self.row_of("wp_wide", database).filter(|_| known > 3) {
            Some(row) => {
                let few = self.random.range(1, 20) as usize;
                let set = self.some_columns(&names[..few]);
                Script::transaction("wide update", vec![update(row, set, &[])])
            }
            None => {
                let site = self.site();
                let row = RowId::numbered(site, "wp_wide", database.next_id(site, "wp_wide"));
                let image = names.iter().map(|name| self.column_value(name)).collect();
                self.remember("wp_wide", &row);
                Script::transaction("wide row", vec![Step::Run(Statement::Insert { row, image })])
            }
        }
    }

    pub(super) fn abandon(&mut self, database: &mut Database) -> Script {
        let mut script = if self.random.one_in(2) { self.new_post(database) } else { self.edit_post(database) };
        script.name = "rolled back";
        script.steps.pop();
        let think = self.think();
        script.steps.extend([think, Step::Run(Statement::Rollback)]);
        script
    }

    pub(super) fn bypass(&mut self, database: &mut Database) -> Script {
        let mut script = match self.random.below(6) {
            0 => self.delete_post(database),
            1 => self.option(),
            2 => self.new_post(database),
            3 => self.view(database),
            _ => self.edit_post(database),
        };
        script.name = "write that bypasses capture";
        for step in &mut script.steps {
            if let Step::Run(Statement::Begin { is_captured }) = step {
                *is_captured = false;
            }
        }
        script
    }
}
