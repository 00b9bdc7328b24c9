//! Putting the engine's tables and triggers in, noticing when somebody changed them, and taking them out again.

use mysql_async::prelude::Queryable;
use wordpress::{Database, DatabaseError, DatabaseOptions};

use crate::server::{SITE, Server, block_on, sql};

#[test]
fn what_is_installed_twice_is_installed_once() {
    let server = Server::start();
    block_on(async {
        let mut engine = server.open(SITE, &[]).await;
        let made = engine.install().await.expect("root may do everything");
        // Twelve tables; those with a number of their own have one trigger more.
        assert_eq!(made.triggers.len(), 12 * 3 + 10);
        assert_eq!(made.tables.len(), 2);
        assert!(engine.install().await.expect("root may do everything").is_empty());
        assert!(server.open(SITE, &[]).await.check().await.expect("a database").is_empty());
    });
}

#[test]
fn what_somebody_changed_is_noticed_and_mended() {
    let server = Server::start();
    block_on(async {
        let mut engine = server.installed(SITE).await;
        let mut site = server.site(SITE).await;
        sql(&mut site, "DROP TRIGGER wp_crdt_au_1_posts").await;
        sql(&mut site, "CREATE OR REPLACE TRIGGER wp_crdt_ad_1_posts AFTER DELETE ON wp_posts FOR EACH ROW SET @x = 1")
            .await;
        sql(&mut site, "CREATE TRIGGER wp_crdt_ai_9_old AFTER INSERT ON wp_links FOR EACH ROW SET @x = 1").await;
        sql(&mut site, "DROP TABLE wp_crdt_outbox").await;
        let repairs = engine.install().await.expect("root may do everything");
        assert_eq!(repairs.triggers, ["wp_crdt_au_1_posts", "wp_crdt_ad_1_posts"]);
        assert_eq!(repairs.left_over, ["wp_crdt_ai_9_old"]);
        assert_eq!(repairs.tables, ["wp_crdt_outbox"]);
        assert!(engine.check().await.expect("a database").is_empty());
        // A table that was put in another's place brings none of its triggers along.
        sql(&mut site, "CREATE TABLE fresh LIKE wp_posts").await;
        sql(&mut site, "RENAME TABLE wp_posts TO old_posts, fresh TO wp_posts").await;
        assert_eq!(engine.check().await.expect("a database").triggers.len(), 4);
    });
}

#[test]
fn what_is_uninstalled_leaves_a_plain_database() {
    let server = Server::start();
    let before = server.dump(SITE);
    block_on(async {
        let mut engine = server.installed(SITE).await;
        assert_ne!(server.dump(SITE), before);
        engine.uninstall().await.expect("root may do everything");
    });
    assert_eq!(server.dump(SITE), before);
}

#[test]
fn a_database_that_cannot_be_used_is_told_in_words() {
    let server = Server::start();
    block_on(async {
        let options = |database: &str, prefix: &str| DatabaseOptions {
            url: server.url(database),
            prefix: prefix.into(),
            class: 1,
            catalogue: wordpress::Catalogue::core().into(),
        };
        let open = async |options| Database::open(options).await.err().expect("nothing to open");
        assert_eq!(open(options(SITE, "other_")).await, DatabaseError::NoSite { prefix: "other_".into() });
        assert!(matches!(open(options("nosuch", "wp_")).await, DatabaseError::Refused { code: 1049, .. }));
        let nowhere =
            DatabaseOptions { url: "mysql://root@localhost/wp?socket=/nowhere".to_owned(), ..options(SITE, "wp_") };
        assert!(matches!(open(nowhere).await, DatabaseError::Unreachable { .. }));
        let strange = DatabaseOptions { url: "postgres://x".to_owned(), ..options(SITE, "wp_") };
        assert!(matches!(open(strange).await, DatabaseError::Url { .. }));
        let mut site = server.site(SITE).await;
        sql(&mut site, "ALTER TABLE wp_links ENGINE = Aria").await;
        let found = open(options(SITE, "wp_")).await;
        assert_eq!(found, DatabaseError::Engine { table: "wp_links".into(), engine: "Aria".into() });
    });
}

#[test]
fn each_site_of_a_network_has_a_namespace_of_its_own() {
    let server = Server::start();
    block_on(async {
        let mut site = server.site(SITE).await;
        sql(
            &mut site,
            "CREATE TABLE wp_blogs (blog_id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, domain VARCHAR(200))",
        )
        .await;
        sql(&mut site, "INSERT INTO wp_blogs VALUES (1, 'a'), (7, 'b')").await;
        for table in ["posts", "options"] {
            sql(&mut site, &format!("CREATE TABLE wp_7_{table} LIKE wp_{table}")).await;
        }
        let _engine = server.installed(SITE).await;
        sql(&mut site, "INSERT INTO wp_7_options (option_name, option_value) VALUES ('o', 'x')").await;
        sql(&mut site, "UPDATE wp_users SET display_name = 'x'").await;
        sql(&mut site, "UPDATE wp_options SET option_value = 'x' WHERE option_name = 'blogname'").await;
        let sites: Vec<(u32, String)> =
            site.query("SELECT site, tbl FROM wp_crdt_outbox ORDER BY id").await.expect("our table");
        let expected = [(7, "options"), (0, "users"), (1, "options")];
        assert_eq!(sites, expected.map(|(site, table)| (site, table.to_owned())));
    });
}
