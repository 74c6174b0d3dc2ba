//! What each user may do, and above all what none may.

use embedded_clickhouse::{Engine, Options, READER, WRITER};

use crate::support::{Folder, ask, shared};

const USERS: [(&str, &str); 3] = [(WRITER, "activity"), (READER, "reader"), ("default", "")];

/// Statements nobody may run; `{port}` is the engine's own.
const FORBIDDEN: [&str; 21] = [
    "SELECT * FROM file('/etc/hostname', LineAsString)",
    "SELECT file('/etc/hostname')",
    "SELECT file('/proc/self/environ')",
    "SELECT * FROM default.`/etc/hostname`",
    "SELECT * FROM filesystem('/etc')",
    "SELECT * FROM url('http://127.0.0.1:{port}/ping', LineAsString)",
    "SELECT * FROM s3('http://127.0.0.1:{port}/bucket/key', LineAsString)",
    "SELECT * FROM remote('127.0.0.1:{port}', system.one)",
    "SELECT * FROM mysql('127.0.0.1:{port}', 'a', 'b', 'c', 'd')",
    "SELECT * FROM executable('id', TSV, 'x String')",
    "SELECT 1 INTO OUTFILE '/srv/embedded-clickhouse-outfile'",
    "INSERT INTO FUNCTION file('/srv/embedded-clickhouse-outfile', TSV, 'x String') VALUES ('x')",
    "CREATE TABLE d.bad (x String) ENGINE = File(TSV)",
    "CREATE TABLE d.bad (x String) ENGINE = URL('http://127.0.0.1:{port}/', TSV)",
    "CREATE TABLE d.bad (x UInt8) ENGINE = MergeTree ORDER BY x SETTINGS disk = disk(type = 'web', endpoint = 'http://127.0.0.1:{port}/')",
    "CREATE DATABASE bad ENGINE = Filesystem('/etc')",
    "CREATE DICTIONARY d.bad (x UInt64, y String) PRIMARY KEY x SOURCE(EXECUTABLE(COMMAND 'id' FORMAT TSV)) LAYOUT(FLAT()) LIFETIME(1)",
    "CREATE USER bad",
    "GRANT ALL ON *.* TO activity",
    "SYSTEM SHUTDOWN",
    "SYSTEM STOP LISTEN HTTP",
];

#[test]
fn no_user_reaches_files_other_machines_or_the_off_switch() {
    let _machine = shared();
    let engine = Engine::start(Options::default()).unwrap();
    engine.query("CREATE DATABASE d").unwrap();
    for (user, password) in USERS {
        for statement in FORBIDDEN {
            let sql = statement.replace("{port}", &engine.http_port().to_string());
            let response = ask(&engine, user, password, &sql);
            assert_ne!(response.status, 200, "{user} may {sql}: {}", response.body);
        }
    }
    assert_eq!(engine.query("SELECT 1").unwrap(), "1\n");
    engine.stop().unwrap();
}

#[test]
fn the_passwordless_user_has_no_query_left() {
    let _machine = shared();
    for tcp_port in [None, Some(0)] {
        let engine = Engine::start(Options { tcp_port, ..Options::default() }).unwrap();
        let response = ask(&engine, "default", "", "SYSTEM STOP LISTEN HTTP");
        assert!(response.body.contains("QUOTA_EXCEEDED"), "{}", response.body);
        assert_eq!(engine.query("SELECT 1").unwrap(), "1\n");
        engine.stop().unwrap();
    }
}

#[test]
fn refusals_of_the_writer_are_about_rights_and_nothing_else() {
    let _machine = shared();
    let engine = Engine::start(Options::default()).unwrap();
    engine.query("CREATE DATABASE d").unwrap();
    // Closed by other means than a grant; each with the reason it is refused for.
    let by_other_means = [
        ("SELECT file(", "Permission denied"),
        ("executable(", "does not exist inside user scripts folder"),
        ("INTO OUTFILE", "INTO_OUTFILE_NOT_ALLOWED"),
        ("disk = disk(", "SETTING_CONSTRAINT_VIOLATION"),
    ];
    for statement in FORBIDDEN {
        let sql = statement.replace("{port}", &engine.http_port().to_string());
        let body = ask(&engine, WRITER, "activity", &sql).body;
        let reason = by_other_means
            .iter()
            .find(|(part, _)| sql.contains(part))
            .map_or("Not enough privileges", |(_, reason)| reason);
        assert!(body.contains(reason), "{sql}: {body}");
    }
}

#[test]
fn the_writer_does_its_work() {
    let _machine = shared();
    let engine = Engine::start(Options::default()).unwrap();
    for sql in [
        "CREATE DATABASE d",
        "CREATE TABLE d.t (x UInt64, at DateTime) ENGINE = MergeTree ORDER BY x
         TTL at + INTERVAL 1 DAY SETTINGS non_replicated_deduplication_window = 100",
        "CREATE TABLE d.sums (x UInt64, n UInt64) ENGINE = SummingMergeTree ORDER BY x",
        "CREATE MATERIALIZED VIEW d.feed TO d.sums AS SELECT x, count() AS n FROM d.t GROUP BY x",
        "CREATE VIEW d.view AS SELECT * FROM d.t",
        "CREATE TEMPORARY TABLE scratch (x UInt64)",
        "INSERT INTO d.t SELECT number, now() FROM numbers(10)",
        "ALTER TABLE d.t ADD COLUMN y String DEFAULT 'y'",
        "ALTER TABLE d.t ADD INDEX i x TYPE minmax",
        "ALTER TABLE d.t MODIFY TTL at + INTERVAL 2 DAY",
        "ALTER TABLE d.feed MODIFY QUERY SELECT x, count() AS n FROM d.t GROUP BY x",
        "ALTER TABLE d.t DELETE WHERE x = 1 SETTINGS mutations_sync = 1",
        "CREATE FUNCTION twice AS (x) -> 2 * x",
        "SELECT twice(count()) FROM d.view",
        "SYSTEM STOP MERGES d.t",
        "SYSTEM START MERGES d.t",
        "OPTIMIZE TABLE d.t FINAL",
        "SYSTEM FLUSH LOGS",
        "SELECT count() FROM system.query_log",
        "SELECT count() FROM system.parts",
        "KILL QUERY WHERE query_id = 'none'",
        "SHOW CREATE TABLE d.t",
        "DESCRIBE TABLE d.t",
        "EXPLAIN indexes = 1 SELECT * FROM d.t WHERE x = 1",
        "EXCHANGE TABLES d.t AND d.sums",
        "RENAME TABLE d.t TO d.old",
        "TRUNCATE TABLE d.old",
        "DROP FUNCTION twice",
        "DROP VIEW d.view",
        "DROP TABLE d.old",
        "DROP DATABASE d",
    ] {
        if let Err(error) = engine.query(sql) {
            panic!("{sql}: {error}");
        }
    }
}

#[test]
fn the_reader_reads_and_changes_nothing() {
    let _machine = shared();
    let engine = Engine::start(Options::default()).unwrap();
    engine.query("CREATE DATABASE d").unwrap();
    engine.query("CREATE TABLE d.t (x UInt64) ENGINE = MergeTree ORDER BY x").unwrap();
    engine.query("INSERT INTO d.t VALUES (7)").unwrap();
    let reads = |sql: &str| ask(&engine, READER, "reader", sql);
    assert_eq!(reads("SELECT x FROM d.t").body, "7\n");
    assert_eq!(reads("SELECT name FROM system.tables WHERE database = 'd'").body, "t\n");
    assert_eq!(reads("DESCRIBE TABLE d.t").status, 200);
    for sql in [
        "INSERT INTO d.t VALUES (8)",
        "CREATE TABLE d.u (x UInt64) ENGINE = Memory",
        "CREATE TEMPORARY TABLE u (x UInt64)",
        "CREATE DATABASE e",
        "ALTER TABLE d.t ADD COLUMN y String",
        "TRUNCATE TABLE d.t",
        "DROP TABLE d.t",
        "SET max_threads = 1",
        "SELECT x FROM d.t SETTINGS max_execution_time = 0",
        "OPTIMIZE TABLE d.t",
        "SYSTEM FLUSH LOGS",
    ] {
        let response = reads(sql);
        assert_ne!(response.status, 200, "the reader may {sql}");
    }
    assert_eq!(engine.query("SELECT x FROM d.t").unwrap(), "7\n");
}

#[test]
fn the_reader_sees_of_system_what_clients_need() {
    let _machine = shared();
    let engine = Engine::start(Options::default()).unwrap();
    engine.query("SYSTEM FLUSH LOGS").unwrap();
    for table in [
        "one",
        "numbers",
        "databases",
        "tables",
        "columns",
        "settings",
        "functions",
        "data_type_families",
        "table_functions",
        "build_options",
        "parts",
    ] {
        let sql = format!("SELECT * FROM system.{table} LIMIT 1");
        let response = ask(&engine, READER, "reader", &sql);
        assert_eq!(response.status, 200, "{table}: {}", response.body);
    }
    for table in ["query_log", "part_log", "processes", "users", "grants"] {
        let sql = format!("SELECT * FROM system.{table} LIMIT 1");
        let response = ask(&engine, READER, "reader", &sql);
        assert!(response.body.contains("Not enough privileges"), "{table}: {}", response.body);
    }
}

#[test]
fn the_reader_cannot_ask_for_too_many_rows() {
    let _machine = shared();
    let engine = Engine::start(Options::default()).unwrap();
    let sql = "SELECT number FROM numbers(2000000)";
    let response = ask(&engine, READER, "reader", sql);
    assert!(response.body.contains("Limit for result exceeded"), "{}", response.status);
    assert_eq!(ask(&engine, WRITER, "activity", sql).status, 200);
}

#[test]
fn passwords_are_those_asked_for_and_stay_out_of_the_folder() {
    let _machine = shared();
    let folder = Folder::new();
    let engine = Engine::start(Options {
        writer_password: "correct-horse".to_owned(),
        reader_password: "battery-staple".to_owned(),
        ..folder.options()
    })
    .unwrap();
    assert_eq!(engine.query("SELECT currentUser()").unwrap(), "activity\n");
    assert_eq!(ask(&engine, READER, "battery-staple", "SELECT 1").body, "1\n");
    for (user, password) in [(WRITER, "activity"), (READER, "reader"), (WRITER, "")] {
        let response = ask(&engine, user, password, "SELECT 1");
        assert!(response.body.contains("AUTHENTICATION_FAILED"), "{user}: {}", response.body);
    }
    assert!(!folder.path().join("users.xml").exists());
}

#[test]
fn a_query_needs_its_verb() {
    let _machine = shared();
    let engine = Engine::start(Options::default()).unwrap();
    let body = ask(&engine, WRITER, "activity", "1 + 1").body;
    assert!(body.contains("Syntax error"), "{body}");
}
