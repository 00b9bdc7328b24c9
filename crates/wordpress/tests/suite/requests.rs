//! What the machine asks for, and what a real database makes of it.

use std::time::Duration;

use crdt::{Namespace, Value};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use replica::host::{OutboxEntry, RowId, RowImage, RowOperation, RowWrite, SqlError, SqlRequest, SqlResponse};
use wordpress::Database;

use crate::server::{SITE, Server, block_on, sql};

const MAIN: Namespace = Namespace(1);

fn option(name: &str) -> RowId {
    RowId::named(MAIN, "options", name.as_bytes())
}

fn post(id: u64) -> RowId {
    RowId::numbered(MAIN, "posts", id)
}

async fn ask(engine: &mut Database, request: SqlRequest) -> SqlResponse {
    let (response, error) = engine.ask(request).await;
    assert_eq!(error, None);
    response
}

async fn fails(engine: &mut Database, request: SqlRequest) -> SqlError {
    match engine.ask(request).await {
        (SqlResponse::Failed(failed), Some(_)) => failed,
        other => panic!("{other:?}"),
    }
}

async fn drain(engine: &mut Database) -> (Vec<OutboxEntry>, std::collections::BTreeMap<RowId, Option<RowImage>>) {
    match ask(engine, SqlRequest::Drain { also: Vec::new() }).await {
        SqlResponse::Drained { entries, rows } => (entries, rows),
        other => panic!("{other:?}"),
    }
}

async fn lock(engine: &mut Database, rows: &[RowId]) -> (Vec<u64>, Vec<Option<RowImage>>) {
    match ask(engine, SqlRequest::Lock { rows: rows.to_vec() }).await {
        SqlResponse::Locked { entries, rows } => (entries, rows.into_values().collect()),
        other => panic!("{other:?}"),
    }
}

fn cell(image: &RowImage, column: &str) -> Value {
    image.iter().find(|(name, _)| ***name == *column.as_bytes()).map(|(_, value)| value.clone()).expect("a column")
}

fn image(cells: &[(&str, Value)]) -> RowImage {
    cells.iter().map(|(name, value)| (name.as_bytes().into(), value.clone())).collect()
}

async fn set_option(site: &mut Conn, name: &str, value: &str) {
    let statement = format!("UPDATE wp_options SET option_value = '{value}' WHERE option_name = '{name}'");
    sql(site, &statement).await;
}

#[test]
fn a_drain_shows_whole_transactions_and_forgets_none_that_commits_late() {
    let server = Server::start();
    block_on(async {
        let mut engine = server.installed(SITE).await;
        let (mut early, mut late) = (server.site(SITE).await, server.site(SITE).await);
        sql(&mut late, "START TRANSACTION").await;
        set_option(&mut late, "blogname", "late").await;
        set_option(&mut early, "blogdescription", "early").await;
        let (entries, rows) = drain(&mut engine).await;
        let [entry] = entries.as_slice() else { panic!("{entries:?}") };
        assert_eq!((&entry.row, entry.operation), (&option("blogdescription"), RowOperation::Update));
        let image = rows[&entry.row].as_ref().expect("it is there");
        assert_eq!(cell(image, "option_value"), Value::from("early"));
        assert!(image.keys().all(|name| **name != *b"option_id"), "its number stays here");
        let deleted = ask(&mut engine, SqlRequest::DeleteOutbox { ids: vec![entry.id], cursor: 7 }).await;
        assert_eq!(deleted, SqlResponse::Deleted);
        assert_eq!(ask(&mut engine, SqlRequest::ReadCursor).await, SqlResponse::Cursor(7));
        // Its entry has a smaller id than the one that is gone.
        sql(&mut late, "COMMIT").await;
        let (entries, rows) = drain(&mut engine).await;
        assert_eq!(entries.len(), 1);
        assert_eq!(cell(rows[&option("blogname")].as_ref().expect("it is there"), "option_value"), Value::from("late"));
        // The clock of an entry is the server's, and UTC.
        let wall_ms =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis();
        assert!((u128::from(entries[0].time_ms)).abs_diff(wall_ms) < 60_000);
    });
}

#[test]
fn a_row_that_is_gone_or_stays_here_is_none() {
    let server = Server::start();
    block_on(async {
        let mut engine = server.installed(SITE).await;
        let mut site = server.site(SITE).await;
        sql(&mut site, "DELETE FROM wp_options WHERE option_name = 'blogname'").await;
        let also = vec![option("blogname"), option("BLOGDESCRIPTION"), option("cron"), post(1), post(999)];
        let request = SqlRequest::Drain { also: also.clone() };
        let SqlResponse::Drained { rows, .. } = ask(&mut engine, request).await else { panic!("no answer") };
        let found: Vec<bool> = also.iter().map(|row| rows[row].is_some()).collect();
        // A name that only the collation finds is another option.
        assert_eq!(found, [false, false, false, true, false]);
        assert!(!rows[&post(1)].as_ref().expect("a row").contains_key(&b"comment_count"[..]), "it is counted here");
    });
}

#[test]
fn what_belongs_to_an_automatic_draft_goes_with_it() {
    let server = Server::start();
    block_on(async {
        let mut engine = server.installed(SITE).await;
        let mut site = server.site(SITE).await;
        let insert = "INSERT INTO wp_posts (ID, post_status, post_content, post_title, post_excerpt, to_ping, pinged, \
                      post_content_filtered) VALUES (900, 'auto-draft', '', '', '', '', '', '')";
        sql(&mut site, insert).await;
        sql(&mut site, "INSERT INTO wp_postmeta (meta_id, post_id, meta_key) VALUES (69, 900, 'k')").await;
        let meta = RowId::numbered(MAIN, "postmeta", 69);
        let (entries, rows) = drain(&mut engine).await;
        assert_eq!(rows[&meta], None, "it stays here for now");
        let ids = entries.iter().map(|entry| entry.id).collect();
        ask(&mut engine, SqlRequest::DeleteOutbox { ids, cursor: 1 }).await;
        sql(&mut site, "UPDATE wp_posts SET post_status = 'draft' WHERE ID = 900").await;
        let (entries, rows) = drain(&mut engine).await;
        assert_eq!(entries.len(), 2);
        assert!(rows[&meta].is_some() && rows[&post(900)].is_some());
    });
}

#[test]
fn the_second_look_sees_what_was_committed_before_the_lock() {
    let server = Server::start();
    block_on(async {
        let mut engine = server.installed(SITE).await;
        let mut site = server.site(SITE).await;
        sql(&mut site, "START TRANSACTION").await;
        set_option(&mut site, "blogname", "theirs").await;
        let rows = [option("blogname"), option("new")];
        let (locked, ()) = tokio::join!(lock(&mut engine, &rows), async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            sql(&mut site, "COMMIT").await;
        });
        let (entries, rows) = locked;
        assert_eq!(entries.len(), 1, "it waited for them, and sees their entry");
        assert_eq!(cell(rows[0].as_ref().expect("a row"), "option_value"), Value::from("theirs"));
        assert_eq!(rows[1], None);
        assert_eq!(ask(&mut engine, SqlRequest::Rollback).await, SqlResponse::RolledBack);
        set_option(&mut site, "blogname", "again").await;
    });
}

#[test]
fn what_is_applied_is_not_captured() {
    let server = Server::start();
    block_on(async {
        let mut engine = server.installed(SITE).await;
        let mut site = server.site(SITE).await;
        let rows = [option("blogname"), option("new"), option("blogdescription")];
        lock(&mut engine, &rows).await;
        let new = image(&[("option_name", "new".into()), ("option_value", "1".into()), ("autoload", "no".into())]);
        let writes = vec![
            (rows[0].clone(), RowWrite::Update(image(&[("option_value", "ours".into()), ("elsewhere", "x".into())]))),
            (rows[1].clone(), RowWrite::Insert(new)),
            (rows[2].clone(), RowWrite::Delete),
        ];
        assert_eq!(ask(&mut engine, SqlRequest::Write { rows: writes, cursor: 9 }).await, SqlResponse::Written);
        assert_eq!(ask(&mut engine, SqlRequest::ReadCursor).await, SqlResponse::Cursor(9));
        let stands: Vec<(String, String)> = site
            .query("SELECT option_name, option_value FROM wp_options WHERE option_name IN ('blogname', 'new', 'blogdescription')")
            .await
            .expect("rows");
        assert_eq!(stands, [("blogname".to_owned(), "ours".to_owned()), ("new".to_owned(), "1".to_owned())]);
        assert_eq!(drain(&mut engine).await.0, []);
    });
}

#[test]
fn each_failure_is_told_as_what_it_is() {
    let server = Server::start();
    block_on(async {
        let mut engine = server.installed(SITE).await;
        let mut site = server.site(SITE).await;
        let twice = image(&[("option_name", "blogname".into()), ("option_value", "x".into())]);
        lock(&mut engine, &[option("blogname")]).await;
        let rows = vec![(option("blogname"), RowWrite::Insert(twice))];
        assert_eq!(fails(&mut engine, SqlRequest::Write { rows, cursor: 1 }).await, SqlError::DuplicateKey);
        // The lock is given back with it.
        set_option(&mut site, "blogname", "free").await;

        sql(&mut site, "START TRANSACTION").await;
        set_option(&mut site, "blogname", "held").await;
        let failed = fails(&mut engine, SqlRequest::Lock { rows: vec![option("blogname")] }).await;
        assert_eq!(failed, SqlError::LockTimeout);

        // Each waits for the other's row: the one that did less is given up, which is ours.
        lock(&mut engine, &[post(1)]).await;
        let delete = SqlRequest::Write { rows: vec![(option("blogname"), RowWrite::Delete)], cursor: 2 };
        let (failed, ()) = tokio::join!(fails(&mut engine, delete), async {
            sql(&mut site, "UPDATE wp_posts SET post_title = 'x' WHERE ID = 1").await;
        });
        assert_eq!(failed, SqlError::Deadlock);
        sql(&mut site, "COMMIT").await;

        let ids: Vec<u64> = site
            .query("SELECT ID FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID()")
            .await
            .expect("rows");
        for id in ids {
            // One of them may have ended by itself.
            let _ = site.query_drop(format!("KILL {id}")).await;
        }
        assert_eq!(fails(&mut engine, SqlRequest::Drain { also: Vec::new() }).await, SqlError::ConnectionLost);
        assert_eq!(ask(&mut engine, SqlRequest::ReadCursor).await, SqlResponse::Cursor(0));
    });
}

#[test]
fn an_entry_for_nothing_of_ours_is_taken_away() {
    let server = Server::start();
    block_on(async {
        let mut engine = server.installed(SITE).await;
        let mut site = server.site(SITE).await;
        for (table, key) in [("'nosuch'", "''"), ("'posts'", "'abc'")] {
            let insert =
                format!("INSERT INTO wp_crdt_outbox (site, tbl, k, op, t, c) VALUES (1, {table}, {key}, 1, 0, 0)");
            sql(&mut site, &insert).await;
        }
        assert_eq!(drain(&mut engine).await.0, []);
        ask(&mut engine, SqlRequest::DeleteOutbox { ids: Vec::new(), cursor: 1 }).await;
        assert_eq!(site.query_first("SELECT COUNT(*) FROM wp_crdt_outbox").await.expect("a number"), Some(0));
    });
}

#[test]
fn a_scan_shows_each_row_once_in_the_order_of_ids() {
    let server = Server::start();
    block_on(async {
        let mut engine = server.installed(SITE).await;
        let mut site = server.site(SITE).await;
        sql(&mut site, "ALTER TABLE wp_links MODIFY link_id BIGINT NOT NULL").await;
        engine.look_again().await.expect("a database");
        let link = "INSERT INTO wp_links (link_id, link_notes) VALUES";
        sql(&mut site, &format!("{link} (-2, ''), (-1, ''), (5, '')")).await;
        for name in ["a", "B", "b", "á", "ab", "_transient_z", "z "] {
            sql(&mut site, &format!("DELETE FROM wp_options WHERE option_name = '{name}'")).await;
            sql(&mut site, &format!("INSERT INTO wp_options (option_name, option_value) VALUES ('{name}', '')")).await;
        }
        sql(&mut site, "DELETE FROM wp_crdt_outbox").await;
        set_option(&mut site, "blogname", "noted").await;
        for limit in [1, 7, 100_000] {
            let mut all = Vec::new();
            let mut after = None;
            loop {
                let request = SqlRequest::Scan { after: after.clone(), limit };
                let SqlResponse::Scanned { rows, done } = ask(&mut engine, request).await else { panic!("no answer") };
                assert!(rows.len() <= limit + 1_000);
                assert!(done || !rows.is_empty(), "it would never end");
                all.extend(rows.into_iter().map(|(row, _)| row));
                if done {
                    break;
                }
                after = all.last().cloned();
            }
            assert!(all.is_sorted_by(|left, right| left < right), "limit {limit}");
            let expected: Vec<u64> = site
                .query(
                    "SELECT (SELECT COUNT(*) FROM wp_options WHERE option_name NOT REGEXP \
                     '^(_transient_|_site_transient_|cron$|db_version$|initial_db_version$|fresh_site$|rewrite_rules$|\
                     finished_|recently_edited$|auto_update_core_|user_count$|blogname$)|[.]lock$|_children$') \
                     + (SELECT COUNT(*) FROM wp_posts WHERE post_status <> 'auto-draft') + (SELECT COUNT(*) FROM wp_postmeta) \
                     + (SELECT COUNT(*) FROM wp_terms) + (SELECT COUNT(*) FROM wp_term_taxonomy) \
                     + (SELECT COUNT(*) FROM wp_term_relationships) + (SELECT COUNT(*) FROM wp_comments) \
                     + (SELECT COUNT(*) FROM wp_users) + (SELECT COUNT(*) FROM wp_usermeta WHERE meta_key NOT IN \
                     ('session_tokens', 'wp_dashboard_quick_press_last_post_id')) + 1",
                )
                .await
                .expect("a number");
            assert_eq!(all.len() as u64, expected[0], "limit {limit}");
            assert!(!all.contains(&option("blogname")), "what is noted is left to the drain");
        }
    });
}

#[test]
fn a_commit_whose_answer_was_lost_is_seen_by_the_cursor() {
    let server = Server::start();
    block_on(async {
        let mut engine = server.installed(SITE).await;
        lock(&mut engine, &[option("blogname")]).await;
        let rows = vec![(option("blogname"), RowWrite::Update(image(&[("option_value", "x".into())])))];
        ask(&mut engine, SqlRequest::Write { rows, cursor: 3 }).await;
        let server = server.restart();
        assert_eq!(fails(&mut engine, SqlRequest::Drain { also: Vec::new() }).await, SqlError::ConnectionLost);
        assert_eq!(ask(&mut engine, SqlRequest::ReadCursor).await, SqlResponse::Cursor(3));
        drop(server);
    });
}
