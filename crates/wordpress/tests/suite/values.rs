//! What stands in one database stands in the other, byte by byte.

use mysql_async::prelude::Queryable;
use replica::host::{RowWrite, SqlRequest, SqlResponse};

use crate::server::{SITE, Server, block_on, sql};

const PACK: &str = "version = 1\n[[table]]\nname = \"odd\"\nscope = \"site\"\nrank = 0\n";

const TABLE: &str = "CREATE TABLE wp_odd (\
    name VARBINARY(40) NOT NULL, id INT NOT NULL, \
    tiny TINYINT, small SMALLINT UNSIGNED, big BIGINT, ubig BIGINT UNSIGNED, year YEAR, bits BIT(12), \
    f FLOAT, d DOUBLE, price DECIMAL(20, 6), \
    day DATE, moment DATETIME, fine DATETIME(6), stamp TIMESTAMP(3) NULL, span TIME(2), \
    latin VARCHAR(40) CHARACTER SET latin1, text4 LONGTEXT CHARACTER SET utf8mb4, raw LONGBLOB, \
    kind ENUM('a', 'b', '') , many SET('x', 'y', 'z'), doc JSON, \
    sum BIGINT AS (big + 1) VIRTUAL, twice BIGINT AS (id * 2) STORED, \
    PRIMARY KEY (name, id))";

const ROWS: &[&str] = &[
    "('a\\0b', 1, -128, 65535, -9223372036854775808, 18446744073709551615, 1901, b'111100001111', \
     0.1, 0.1, '12345678901234.567891', '0000-00-00', '0000-00-00 00:00:00', '9999-12-31 23:59:59.999999', \
     '2038-01-19 03:14:07.999', '-838:59:59.99', X'E9E4FF', 'é\u{1F600}\\0', X'00FF80', 'a', 'x,z', '{\"a\": 1}')",
    "('', 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
    "('\\0', 2147483647, 0, 0, 0, 0, 0, b'0', -0.0, -1e-308, '-0.000001', '2026-02-00', '2026-00-10 01:02:03', \
     '1000-01-01 00:00:00.000001', '1970-01-01 00:00:01', '00:00:00', '', '', '', '', '', '[]')",
    "('z', 7, 1, 1, 1, 1, 2155, b'1', 3.4028234e38, 1.7976931348623157e308, '0', '2026-11-23', '2026-11-23 10:00:00', \
     '2026-11-23 10:00:00.5', '2026-11-23 10:00:00.5', '10:00:00', 'a ', 'a ', 'a ', 'b', 'x', '\"\\\\u00e9\"')",
];

#[test]
fn every_kind_of_value_arrives_as_it_was() {
    let server = Server::start();
    block_on(async {
        let mut site = server.site(SITE).await;
        sql(&mut site, "SET sql_mode = '', time_zone = '+00:00'").await;
        sql(&mut site, TABLE).await;
        server.clone_site("there");
        let mut here = server.open(SITE, &[PACK]).await;
        let mut there = server.open("there", &[PACK]).await;
        here.install().await.expect("root may do everything");
        there.install().await.expect("root may do everything");
        for row in ROWS {
            let columns = "name, id, tiny, small, big, ubig, year, bits, f, d, price, day, moment, fine, stamp, span, latin, \
                           text4, raw, kind, many, doc";
            sql(&mut site, &format!("INSERT INTO wp_odd ({columns}) VALUES {row}")).await;
        }
        // Larger than half of what a packet may be.
        sql(&mut site, "UPDATE wp_odd SET raw = REPEAT(X'00FF27', 3000000), text4 = REPEAT('é', 2000000) WHERE id = 7")
            .await;
        let (response, error) = here.ask(SqlRequest::Drain { also: Vec::new() }).await;
        assert_eq!(error, None);
        let SqlResponse::Drained { entries, rows } = response else { panic!("no answer") };
        assert_eq!(rows.len(), ROWS.len());
        assert_eq!(entries.len(), ROWS.len() + 1);
        let writes: Vec<_> = rows
            .iter()
            .map(|(row, image)| (row.clone(), RowWrite::Insert(image.clone().expect("it is there"))))
            .collect();
        there.ask(SqlRequest::Lock { rows: rows.keys().cloned().collect() }).await;
        let (response, error) = there.ask(SqlRequest::Write { rows: writes, cursor: 1 }).await;
        assert_eq!((response, error), (SqlResponse::Written, None));
        let all = |database: &str| {
            let dump = server.dump(database);
            let rows = dump.lines().find(|line| line.starts_with("INSERT INTO `wp_odd`"));
            rows.expect("its rows").to_owned()
        };
        assert!(all(SITE) == all("there"), "the dumps differ");
        // What was written reads as what was sent: the next look finds no difference.
        let (response, _) = there.ask(SqlRequest::Lock { rows: rows.keys().cloned().collect() }).await;
        let SqlResponse::Locked { rows: back, .. } = response else { panic!("no answer") };
        assert!(back == rows, "a value changes on the way there and back");
        there.ask(SqlRequest::Rollback).await;
        for row in rows.keys() {
            there.ask(SqlRequest::Lock { rows: vec![row.clone()] }).await;
            let writes = vec![(row.clone(), RowWrite::Delete)];
            there.ask(SqlRequest::Write { rows: writes, cursor: 2 }).await;
        }
        let mut site = server.site("there").await;
        assert_eq!(site.query_first("SELECT COUNT(*) FROM wp_odd").await.expect("a number"), Some(0));
    });
}
