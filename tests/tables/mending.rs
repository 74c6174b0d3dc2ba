//! What is missing is made again where the service may.

use std::sync::Arc;
use std::time::Duration;

use tracing_activity::config::PipelineConfig;
use tracing_activity::model::Activity;
use tracing_activity::pipeline::{Counters, Queue, Worker};
use tracing_activity::schema::{SchemaOptions, migrations};
use tracing_activity::sink::Sink as _;

use crate::database::{Db, activity, batch, wait};

/// Every table and view of the database.
const OBJECTS: &str = "SELECT groupArray(name) FROM (SELECT name FROM system.tables WHERE database = '{db}' ORDER BY name)";

fn on_path(n: u16) -> Activity {
    let hash = tracing_activity::model::TraceHash::from_bytes([7; 16]);
    Activity { trace_hash: Some(hash), service: "shop".to_owned(), ..activity(n) }
}

fn write(db: &Db, rows: u16) {
    let batch = tracing_activity::sink::Batch::new((0..rows).map(on_path).collect(), 0);
    wait(db.sink().write(&batch)).unwrap();
}

fn counts(db: &Db) -> String {
    let rollup = |table| format!("(SELECT sum(requests) FROM {{db}}.{table})");
    let sql = format!(
        "SELECT count(), {}, {} FROM {{db}}.activities",
        rollup("activity_minutes"),
        rollup("trace_shapes")
    );
    db.query(&sql)
}

#[test]
fn whatever_was_dropped_is_made_again_at_the_next_start() {
    let whole = Db::new();
    let all = whole.query(OBJECTS);
    let names: Vec<&str> =
        all.trim_matches(['[', ']']).split(',').map(|it| it.trim_matches('\'')).collect();
    assert!(names.len() >= 8, "{all}");
    for name in names {
        let db = Db::new();
        db.query(&format!("DROP TABLE {{db}}.{name} SYNC"));
        wait(db.sink().prepare()).unwrap();
        assert_eq!(db.query(OBJECTS), all, "{name} was dropped");
        write(&db, 10);
        assert_eq!(counts(&db), "10\t10\t10", "{name} was dropped");
    }
}

#[test]
fn several_that_were_dropped_at_once_are_made_again_in_order() {
    let db = Db::new();
    let all = db.query(OBJECTS);
    for name in ["activity_minutes_mv", "trace_shapes_mv", "activities", "activity_spans"] {
        db.query(&format!("DROP TABLE {{db}}.{name} SYNC"));
    }
    wait(db.sink().prepare()).unwrap();
    assert_eq!(db.query(OBJECTS), all);
    write(&db, 10);
    assert_eq!(counts(&db), "10\t10\t10");
}

#[test]
fn a_migration_that_broke_off_is_finished_even_if_it_was_noted() {
    let db = Db::absent();
    let options =
        SchemaOptions { database: db.config.database.clone(), ..SchemaOptions::default() };
    db.query("CREATE DATABASE {db}");
    let whole = Db::new();
    // The first statement of each, and the note that all was done.
    for migration in migrations(&options) {
        db.query(&migration.statements[0]);
    }
    db.query(&options.fill(tracing_activity::schema::VERSION_TABLE));
    db.query("INSERT INTO {db}.schema_version (version, name) VALUES (4, 'activity_spans')");
    wait(db.sink().prepare()).unwrap();
    assert_eq!(db.query(OBJECTS), whole.query(OBJECTS));
    write(&db, 3);
    assert_eq!(counts(&db), "3\t3\t3");
}

#[test]
fn a_table_dropped_under_a_running_service_is_made_again_and_no_row_is_lost() {
    let tables = ["activities", "activity_minutes", "trace_shapes"]
        .map(|name| (name, format!("DROP TABLE {{db}}.{name} SYNC")));
    for (name, drop) in tables.into_iter().chain([("all", "DROP DATABASE {db} SYNC".to_owned())]) {
        let db = Db::new();
        let config = PipelineConfig::default();
        let (queue, counters) = (Arc::new(Queue::new(&config)), Arc::new(Counters::new()));
        let handle = Worker::spawn(
            Arc::clone(&queue),
            Arc::clone(&counters),
            Box::new(db.sink()),
            config,
            Box::new(|| {}),
        )
        .unwrap();
        let long = Duration::from_mins(1);
        assert!(handle.prepared(long).unwrap().is_ok());
        db.query(&drop);
        for n in 0..20 {
            counters.count_created();
            assert!(queue.push(Box::new(on_path(n))).is_ok());
        }
        assert!(handle.flush(long), "{name} was dropped");
        assert_eq!(counts(&db), "20\t20\t20", "{name} was dropped");
        let report = handle.shutdown(long);
        assert_eq!((report.stats.created, report.stats.stored), (20, 20), "{name} was dropped");
    }
}

#[test]
fn a_column_that_was_dropped_or_is_new_to_the_table_is_added() {
    let db = Db::new();
    let described = "DESCRIBE TABLE {db}.activities FORMAT JSONEachRow";
    let before = db.query(described);
    for (table, column) in [
        ("activities", "status"),
        ("activities", "visit_id"),
        ("activities", "data_json"),
        ("activities", "trace"),
        ("activities", "span_id"),
        ("activity_minutes", "weight"),
        ("trace_shapes", "shape"),
    ] {
        if column == "visit_id" {
            db.query("ALTER TABLE {db}.activities DROP INDEX visit");
        }
        db.query(&format!("ALTER TABLE {{db}}.{table} DROP COLUMN {column}"));
    }
    write(&Db::new(), 1);
    wait(db.sink().prepare()).unwrap();
    assert_eq!(db.query(described), before);
    write(&db, 5);
    assert_eq!(counts(&db), "5\t5\t5");
    assert_eq!(db.query("SELECT any(toString(data_json)) FROM {db}.activities"), "{}");
}

#[test]
fn a_column_of_another_type_is_not_touched_and_the_remedy_is_one() {
    let db = Db::new();
    db.query("ALTER TABLE {db}.activities MODIFY COLUMN status UInt32");
    let error = wait(db.sink().prepare()).unwrap_err();
    assert!(error.is_schema(), "{error}");
    let text = error.to_string();
    let remedy = text.find("ALTER TABLE").expect("a statement");
    db.query(&text[remedy..]);
    wait(db.sink().prepare()).unwrap();
}

#[test]
fn what_people_read_from_a_table_made_before_is_brought_up_to_date() {
    let db = Db::new();
    db.query(
        "ALTER TABLE {db}.activities MODIFY COLUMN data_json JSON ALIAS \
         CAST(if(isValidJSON(data) AND startsWith(data, '{'), data, '{}'), 'JSON')",
    );
    wait(db.sink().prepare()).unwrap();
    let row = Activity { data: r#"{"x":{"y":1},"x.y":2}"#.to_owned(), ..activity(1) };
    wait(db.sink().write(&tracing_activity::sink::Batch::new(vec![row], 0))).unwrap();
    assert_eq!(db.query("SELECT toString(data_json) FROM {db}.activities"), "{}");
    // An alias of somebody's own stays.
    db.query(
        "ALTER TABLE {db}.activities MODIFY COLUMN data_json JSON ALIAS CAST('{\"a\":1}', 'JSON')",
    );
    wait(db.sink().prepare()).unwrap();
    assert_eq!(db.query("SELECT toString(data_json) FROM {db}.activities"), "{\"a\":1}");
}

#[test]
fn a_rollup_that_was_given_up_stays_away() {
    let db = Db::new();
    db.query("DROP TABLE {db}.activity_minutes_mv SYNC");
    db.query("DROP TABLE {db}.activity_minutes SYNC");
    db.query("CREATE VIEW {db}.activity_minutes_mv AS SELECT 'given up'");
    wait(db.sink().prepare()).unwrap();
    let rollups = "SELECT count() FROM system.tables WHERE database = '{db}' AND name LIKE 'activity_minutes%'";
    assert_eq!(db.query(rollups), "1");
    write(&db, 5);
    assert_eq!(db.count("activities"), 5);
    // And comes back once nothing stands in its place.
    db.query("DROP VIEW {db}.activity_minutes_mv SYNC");
    wait(db.sink().prepare()).unwrap();
    assert_eq!(db.query(rollups), "2");
}

#[test]
fn a_service_that_may_not_migrate_makes_nothing() {
    let db = Db::new();
    db.query("DROP TABLE {db}.activity_minutes_mv SYNC");
    let checked = std::mem::ManuallyDrop::new(db.with(|config| config.migrate = false));
    wait(checked.sink().prepare()).unwrap();
    wait(checked.sink().write(&batch(1))).unwrap();
    assert_eq!(db.query("SELECT count() FROM system.tables WHERE database = '{db}' AND name = 'activity_minutes_mv'"), "0");
}

#[test]
fn a_user_who_may_only_insert_is_not_stopped_by_what_it_cannot_make() {
    let db = Db::new();
    db.query("DROP TABLE {db}.activity_minutes_mv SYNC");
    let reading = std::mem::ManuallyDrop::new(db.with(|config| {
        config.user.clone_from(&crate::database::server().reader);
        config.password =
            tracing_activity::config::Secret::new(&*crate::database::server().reader_password);
    }));
    wait(reading.sink().prepare()).unwrap();
}

#[test]
fn a_view_that_is_only_detached_stays_so_and_stops_no_service() {
    let db = Db::new();
    db.query("DETACH TABLE {db}.activity_minutes_mv PERMANENTLY SYNC");
    wait(db.sink().prepare()).unwrap();
    write(&db, 4);
    assert_eq!(db.query("SELECT sum(requests) FROM {db}.activity_minutes"), "0");
    db.query("ATTACH TABLE {db}.activity_minutes_mv");
    write(&db, 5);
    assert_eq!(db.query("SELECT sum(requests) FROM {db}.activity_minutes"), "5");
}
