//! What an administrator does to the tables of a cluster, as the documents say it.

use tracing_activity::model::Activity;
use tracing_activity::schema::{COLUMNS, SchemaOptions, migrations};
use tracing_activity::sink::{Batch, Sink as _};

use crate::database::{Db, activity, server, wait};

fn page(name: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    std::fs::read_to_string(path).unwrap()
}

/// The statements of a page that are for every server of a cluster, each with its block's heading.
fn statements(page: &str) -> Vec<String> {
    let blocks = page.split("```sql\n").skip(1).map(|it| it.split("```").next().unwrap());
    let statements = blocks
        .flat_map(|it| it.split(";\n"))
        .map(|it| it.lines().filter(|line| !line.starts_with("--")).collect::<Vec<_>>().join("\n"));
    let statements = statements.map(|it| it.trim().trim_end_matches(';').to_owned());
    statements.filter(|it| it.contains(" ON CLUSTER ")).collect()
}

/// The tables of a cluster on one server: without what needs Keeper, and with a table over all of a
/// name instead of one over all shards.
fn cluster() -> Db {
    let db = Db::absent();
    let name = db.config.database.clone();
    db.query("CREATE DATABASE {db}");
    let options = SchemaOptions {
        database: name.clone(),
        retention_days: Some(90),
        rollup_retention_days: Some(730),
        cluster: Some("{cluster}".to_owned()),
    };
    for sql in migrations(&options).into_iter().flat_map(|it| it.statements) {
        let sql = sql.replace(" ON CLUSTER '{cluster}'", "").replace("= Replicated", "= ");
        let sql = match sql.split_once("Distributed(") {
            Some((create, engine)) => {
                let local = engine.split(", ").nth(2).unwrap().trim_end_matches(')');
                format!("{create}Merge('{name}', '^{local}$')")
            }
            None => sql,
        };
        db.query(&sql);
    }
    let rows = ["u17", "u18", "u17"].map(|user| Activity {
        user_id: user.to_owned(),
        tracker_id: format!("t{user}"),
        ..activity(200)
    });
    let plain = Db::new();
    wait(plain.sink().write(&Batch::new(rows.to_vec(), 0))).unwrap();
    let columns: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
    let columns = columns.join(", ");
    db.query(&format!(
        "INSERT INTO {{db}}.activities_local ({columns}) SELECT {columns} FROM {}.activities",
        plain.config.database
    ));
    db
}

#[test]
fn every_statement_for_a_cluster_parses_and_names_the_tables_that_hold_rows() {
    let all: Vec<String> = ["schema.md", "visits.md", "sql.md"]
        .map(page)
        .iter()
        .flat_map(|it| statements(it))
        .collect();
    for word in ["DELETE WHERE", "MODIFY TTL", "OPTIMIZE TABLE", "DROP PARTITION", "MODIFY SETTING"]
    {
        assert!(all.iter().any(|sql| sql.contains(word)), "no statement with {word}: {all:?}");
    }
    let db = cluster();
    for sql in all {
        assert!(sql.contains("_local ON CLUSTER '{cluster}'"), "{sql}");
        let tree = server().query(&format!("EXPLAIN AST {sql}"));
        assert!(tree.is_ok(), "{tree:?} of {sql}");
        let here = sql.replace(" ON CLUSTER '{cluster}'", "").replacen("TABLE ", "TABLE {db}.", 1);
        db.query(&here);
    }
}

#[test]
fn a_person_is_deleted_from_every_table_that_holds_rows() {
    let db = cluster();
    let visits = page("visits.md");
    let (_, rest) = visits
        .split_once("`ALTER TABLE activities_local ON CLUSTER")
        .expect("a statement for a cluster");
    let (rest, _) = rest.split_once('`').unwrap();
    let rest = rest.replace('\n', " ");
    let sql = format!("ALTER TABLE activities_local ON CLUSTER{rest}");
    assert!(server().query(&format!("EXPLAIN AST {sql}")).is_ok(), "{sql}");
    // The one for a single server fails on what only points at rows.
    let single = statement_for_one_server(&visits);
    let refused =
        server().query(&single.replace("TABLE ", &format!("TABLE {}.", db.config.database)));
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(db.query("SELECT count() FROM {db}.activities WHERE user_id = 'u17'"), "2");
    let here = sql.replace(" ON CLUSTER '{cluster}'", "").replacen("TABLE ", "TABLE {db}.", 1);
    db.query(&format!("{here} SETTINGS mutations_sync = 1"));
    assert_eq!(db.query("SELECT groupArray(user_id) FROM {db}.activities"), "['u18']");
}

fn statement_for_one_server(page: &str) -> String {
    let blocks = page.split("```sql\n").skip(1).map(|it| it.split("```").next().unwrap().trim());
    blocks
        .filter(|it| it.starts_with("ALTER TABLE activities DELETE"))
        .map(str::to_owned)
        .next()
        .unwrap()
}

#[test]
fn a_service_that_migrates_leaves_the_tables_of_a_cluster_alone() {
    let db = cluster();
    let objects = "SELECT groupArray((name, engine_full)) FROM (SELECT name, engine_full FROM system.tables WHERE database = '{db}' ORDER BY name)";
    db.query("CREATE TABLE {db}.schema_version (version UInt32, name String) ENGINE = MergeTree ORDER BY version");
    db.query("INSERT INTO {db}.schema_version VALUES (1, 'activities')");
    db.query("DROP TABLE {db}.activity_minutes SYNC");
    let before = db.query(objects);
    let error = wait(db.sink().prepare()).unwrap_err();
    assert!(error.to_string().contains("cargo xtask schema --cluster"), "{error}");
    db.query("INSERT INTO {db}.schema_version VALUES (4, 'activity_spans')");
    wait(db.sink().prepare()).unwrap();
    assert_eq!(db.query(objects), before);
}
