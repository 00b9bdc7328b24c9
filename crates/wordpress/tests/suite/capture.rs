//! What the triggers write, and that nobody notices them.

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::server::{SITE, Server, block_on, sql};

/// What the outbox holds: table, key in hexadecimal digits, operation.
type Noted = Vec<(String, String, u8)>;

/// Empties the outbox.
async fn take(site: &mut Conn) -> Noted {
    let noted: Noted = site.query("SELECT tbl, HEX(k), op FROM wp_crdt_outbox ORDER BY id").await.expect("our table");
    sql(site, "DELETE FROM wp_crdt_outbox").await;
    noted
}

fn number(id: u64) -> String {
    format!("{id:016X}")
}

fn text(name: &str) -> String {
    name.bytes().map(|byte| format!("{byte:02X}")).collect()
}

fn noted(lines: &[(&str, String, u8)]) -> Noted {
    lines.iter().map(|(table, key, operation)| ((*table).to_owned(), key.clone(), *operation)).collect()
}

const INSERT: u8 = 1;
const UPDATE: u8 = 2;
const DELETE: u8 = 3;

#[test]
fn every_change_is_noted_by_its_key() {
    let server = Server::start();
    block_on(async {
        let _engine = server.installed(SITE).await;
        let mut site = server.site(SITE).await;
        for (statement, lines) in [
            // A collation takes these for equal, and they are not.
            (
                "UPDATE wp_options SET option_value = 'a sitE' WHERE option_name = 'blogname'",
                vec![(UPDATE, "blogname")],
            ),
            (
                "UPDATE wp_options SET option_value = 'á sitE ' WHERE option_name = 'blogname'",
                vec![(UPDATE, "blogname")],
            ),
            ("INSERT INTO wp_options (option_name, option_value) VALUES ('n', '1')", vec![(INSERT, "n")]),
            (
                "INSERT INTO wp_options (option_name, option_value) VALUES ('n', '2') \
                 ON DUPLICATE KEY UPDATE option_value = VALUES(option_value)",
                vec![(UPDATE, "n")],
            ),
            (
                "REPLACE INTO wp_options (option_name, option_value) VALUES ('n', '3')",
                vec![(DELETE, "n"), (INSERT, "n")],
            ),
            // The key changes: what only differs in case is another option.
            ("UPDATE wp_options SET option_name = 'N' WHERE option_name = 'n'", vec![(DELETE, "n"), (INSERT, "N")]),
            ("DELETE FROM wp_options WHERE option_name = 'N'", vec![(DELETE, "N")]),
            // What is rolled back was never there.
            ("START TRANSACTION; DELETE FROM wp_options; ROLLBACK", vec![]),
            // Nothing is known of rows that stay here.
            ("INSERT INTO wp_options (option_name, option_value) VALUES ('_transient_x', '1')", vec![]),
            ("UPDATE wp_options SET option_value = '2' WHERE option_name = '_transient_x'", vec![]),
            ("DELETE FROM wp_options WHERE option_name = '_transient_x'", vec![]),
            (
                "INSERT INTO wp_options (option_name, option_value) VALUES ('xtransient_x', '1')",
                vec![(INSERT, "xtransient_x")],
            ),
            ("UPDATE wp_options SET option_value = 'x' WHERE option_name = 'cron'", vec![]),
        ] {
            sql(&mut site, statement).await;
            let lines: Vec<_> = lines.iter().map(|(operation, name)| ("options", text(name), *operation)).collect();
            assert_eq!(take(&mut site).await, noted(&lines), "{statement}");
        }
        sql(&mut site, "INSERT INTO wp_term_relationships (object_id, term_taxonomy_id) VALUES (7, 258)").await;
        let both = format!("{}{}", number(7), number(258));
        assert_eq!(take(&mut site).await, noted(&[("term_relationships", both, INSERT)]));
    });
}

#[test]
fn the_trigger_and_the_catalogue_judge_names_alike() {
    const PIECES: &[&str] = &[
        "_transient_",
        "_site_transient_",
        ".lock",
        "_children",
        "cron",
        "finished_",
        "user_count",
        "x",
        "%",
        "_",
        "|",
        "*",
        "é",
        "T",
        " ",
        "auto_update_core_",
        "recently_edited",
    ];
    let server = Server::start();
    let catalogue = wordpress::Catalogue::core();
    block_on(async {
        let _engine = server.installed(SITE).await;
        let mut site = server.site(SITE).await;
        sql(&mut site, "DELETE FROM wp_options").await;
        take(&mut site).await;
        let mut kept = 0;
        for first in PIECES {
            for second in PIECES {
                for name in
                    [format!("{first}{second}"), format!("{first}{second}{first}"), format!("a{first}{second}a")]
                {
                    let insert = "INSERT IGNORE INTO wp_options (option_name, option_value) VALUES (?, '')";
                    site.exec_drop(insert, (name.as_str(),)).await.expect("an option");
                    if site.affected_rows() == 0 {
                        // To the collation it is one that is there.
                        continue;
                    }
                    let rule = catalogue.name_rule("options", name.as_bytes());
                    let leaves = rule.is_none_or(|rule| rule.policy.is_replicated());
                    kept += u32::from(!leaves);
                    let expected = if leaves { vec![("options", text(&name), INSERT)] } else { Vec::new() };
                    assert_eq!(take(&mut site).await, noted(&expected), "{name}");
                }
            }
        }
        assert!(kept > 100, "only {kept} names were kept here");
    });
}

#[test]
fn an_automatic_draft_is_noted_once_it_is_saved() {
    let server = Server::start();
    block_on(async {
        let _engine = server.installed(SITE).await;
        let mut site = server.site(SITE).await;
        let insert = "INSERT INTO wp_posts (ID, post_status, post_content, post_title, post_excerpt, to_ping, pinged, \
                      post_content_filtered) VALUES (900, 'auto-draft', '', '', '', '', '', '')";
        sql(&mut site, insert).await;
        sql(&mut site, "UPDATE wp_posts SET post_title = 'x' WHERE ID = 900").await;
        assert_eq!(take(&mut site).await, noted(&[]));
        sql(&mut site, "UPDATE wp_posts SET post_status = 'draft' WHERE ID = 900").await;
        assert_eq!(take(&mut site).await, noted(&[("posts", number(900), INSERT)]));
        sql(&mut site, "UPDATE wp_posts SET post_status = 'publish' WHERE ID = 900").await;
        assert_eq!(take(&mut site).await, noted(&[("posts", number(900), UPDATE)]));
    });
}

/// Insert ids and affected rows of a run of statements, and what the tables hold afterwards.
async fn answers(site: &mut Conn) -> Vec<(Option<u64>, u64)> {
    let mut answers = Vec::new();
    for statement in [
        "INSERT INTO wp_terms (term_id, name, slug) VALUES (500, 'a', 'a')",
        "INSERT INTO wp_postmeta (meta_id, post_id, meta_key, meta_value) VALUES (501, 1, 'k', 'v'), (502, 1, 'k', 'w')",
        "UPDATE wp_postmeta SET meta_value = 'x' WHERE post_id = 1 AND meta_key = 'k'",
        "UPDATE wp_postmeta SET meta_value = 'x' WHERE post_id = 1 AND meta_key = 'k'",
        "INSERT INTO wp_terms (term_id, name, slug) VALUES (500, 'b', 'b') ON DUPLICATE KEY UPDATE name = 'b'",
        "REPLACE INTO wp_terms (term_id, name, slug) VALUES (500, 'c', 'c')",
        "DELETE FROM wp_postmeta WHERE post_id = 1 AND meta_key = 'k'",
        "INSERT IGNORE INTO wp_terms (term_id, name, slug) VALUES (500, 'd', 'd')",
    ] {
        sql(site, statement).await;
        answers.push((site.last_insert_id(), site.affected_rows()));
    }
    answers
}

#[test]
fn triggers_change_neither_insert_ids_nor_affected_rows() {
    let server = Server::start();
    server.clone_site("plain");
    block_on(async {
        let _engine = server.installed(SITE).await;
        let with = answers(&mut server.site(SITE).await).await;
        let without = answers(&mut server.site("plain").await).await;
        assert_eq!(with, without);
        // What counts up gives the row's number also where the number is of our class.
        let mut site = server.site(SITE).await;
        sql(&mut site, "INSERT INTO wp_terms (name, slug) VALUES ('e', 'e')").await;
        let told = site.last_insert_id();
        let stands: Option<u64> =
            site.query_first("SELECT term_id FROM wp_terms WHERE name = 'e'").await.expect("a row");
        assert_eq!(told, stands);
        assert_eq!(site.query_first("SELECT LAST_INSERT_ID()").await.expect("a number"), told);
    });
}

#[test]
fn numbers_are_of_the_regions_own_class_and_the_session_stays_as_it_was() {
    let server = Server::start();
    block_on(async {
        let _engine = server.installed(SITE).await;
        let mut site = server.site(SITE).await;
        sql(&mut site, "CREATE TABLE other (id BIGINT AUTO_INCREMENT PRIMARY KEY)").await;
        for round in 0..3 {
            sql(&mut site, "INSERT INTO wp_terms (name, slug) VALUES ('t', 't')").await;
            sql(&mut site, "INSERT INTO wp_terms (name, slug) VALUES ('t', 't'), ('t', 't'), ('t', 't')").await;
            sql(&mut site, "INSERT INTO other VALUES (NULL), (NULL)").await;
            // One that fails between the triggers leaves nothing behind for long.
            let twice = "INSERT INTO wp_options (option_name, option_value) VALUES ('blogname', 'x')";
            assert!(site.query_drop(twice).await.is_err());
            let name = format!("o{round}");
            sql(&mut site, &format!("INSERT INTO wp_options (option_name, option_value) VALUES ('{name}', 'x')")).await;
        }
        let ids: Vec<u64> = site.query("SELECT term_id FROM wp_terms WHERE name = 't'").await.expect("rows");
        assert_eq!(ids.len(), 12);
        assert!(ids.iter().all(|id| id % 64 == 5), "{ids:?}");
        let others: Vec<u64> = site.query("SELECT id FROM other").await.expect("rows");
        assert_eq!(others, [1, 2, 3, 4, 5, 6]);
    });
}

#[test]
fn a_site_never_fails_because_of_us() {
    let server = Server::start();
    block_on(async {
        let _engine = server.installed(SITE).await;
        let mut site = server.site(SITE).await;
        sql(&mut site, "ALTER TABLE wp_posts ADD COLUMN more INT, DROP COLUMN pinged").await;
        sql(&mut site, "UPDATE wp_posts SET more = 1").await;
        sql(&mut site, "ALTER TABLE wp_options DROP COLUMN option_name").await;
        sql(&mut site, "UPDATE wp_options SET option_value = 'x'").await;
        sql(&mut site, "DROP TABLE wp_crdt_outbox").await;
        sql(&mut site, "UPDATE wp_posts SET post_title = 'x'").await;
        sql(&mut site, "INSERT INTO wp_terms (name, slug) VALUES ('t', 't')").await;
        sql(&mut site, "DELETE FROM wp_comments").await;
        sql(&mut site, "TRUNCATE wp_links").await;
    });
}
