//! Delivery to a real ClickHouse: schema, deduplication, errors with their remedies.
#![cfg(feature = "clickhouse")]
#![recursion_limit = "256"]

mod database;

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use tracing_activity::config::{ClickHouse, PipelineConfig, Secret};
use tracing_activity::model::{
    Activity, ActivityId, ClientKind, EventRecord, KeepReason, Level, Outcome, SpanRecord,
    Timestamp, Trace, Value,
};
use tracing_activity::pipeline::{Counters, Queue, Worker, WorkerHandle};
use tracing_activity::schema::{COLUMNS, LATEST_VERSION};
use tracing_activity::sink::{Batch, ClickHouseSink, Sink, SinkError};

use self::database::{Db, activity, batch, server, wait};

const LONG: Duration = Duration::from_mins(1);

fn worker(db: &Db) -> Running {
    let config = PipelineConfig::default();
    let (queue, counters) = (Arc::new(Queue::new(&config)), Arc::new(Counters::new()));
    let handle = Worker::spawn(
        Arc::clone(&queue),
        Arc::clone(&counters),
        Box::new(db.sink()),
        config,
        Box::new(|| {}),
    );
    Running { queue, counters, handle: handle.unwrap() }
}

struct Running {
    queue: Arc<Queue>,
    counters: Arc<Counters>,
    handle: WorkerHandle,
}

impl Running {
    fn push(&self, activity: Activity) {
        self.counters.count_created();
        assert!(self.queue.push(Box::new(activity)).is_ok());
    }

    fn prepare_error(&self) -> SinkError {
        self.handle.prepared(LONG).expect("an answer").expect_err("an error")
    }
}

#[test]
fn migrations_can_be_applied_again_and_by_two_at_once() {
    let db = Db::absent();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| wait(db.sink().prepare()))).collect();
        for thread in threads {
            thread.join().unwrap().unwrap();
        }
    });
    wait(db.sink().prepare()).unwrap();
    let versions = db.query("SELECT version, name FROM {db}.schema_version FINAL ORDER BY version");
    assert_eq!(versions, "1\tactivities\n2\tactivity_minutes\n3\ttrace_shapes\n4\tactivity_spans");
    db.query("DROP TABLE {db}.schema_version");
    wait(db.sink().prepare()).unwrap();
    assert_eq!(
        db.query("SELECT max(version) FROM {db}.schema_version"),
        LATEST_VERSION.to_string()
    );
}

#[test]
fn the_row_that_is_written_is_the_table_that_is_there() {
    let db = Db::new();
    let described = db.query("DESCRIBE TABLE {db}.activities FORMAT JSONEachRow");
    let table: Vec<(String, String)> = described
        .lines()
        .map(|line| serde_json::from_str::<Json>(line).unwrap())
        .filter(|column| column["default_type"] != "ALIAS")
        .map(|column| {
            let text = |key: &str| column[key].as_str().unwrap().to_owned();
            (text("name"), text("type"))
        })
        .collect();
    let row: Vec<(String, String)> =
        COLUMNS.iter().map(|(name, kind)| ((*name).to_owned(), (*kind).to_owned())).collect();
    assert_eq!(row, table);
}

#[test]
fn a_newer_schema_is_an_error_that_tells_both_versions() {
    let db = Db::new();
    db.query("INSERT INTO {db}.schema_version (version, name) VALUES (99, 'future')");
    for migrate in [true, false] {
        let it = db.with(|config| config.migrate = migrate);
        let error = wait(it.sink().prepare()).unwrap_err();
        assert!(error.is_schema(), "{error}");
        assert!(error.to_string().contains("version 99, this build knows 4: upgrade"), "{error}");
        std::mem::forget(it);
    }
}

#[test]
fn an_older_or_different_schema_is_an_error_where_it_may_not_be_migrated() {
    let db = Db::new();
    let checked = || {
        let it = std::mem::ManuallyDrop::new(db.with(|config| config.migrate = false));
        wait(it.sink().prepare())
    };
    checked().unwrap();
    db.query("ALTER TABLE {db}.activities ADD COLUMN mine String DEFAULT 'x'");
    checked().unwrap();
    db.query("ALTER TABLE {db}.activities MODIFY COLUMN status UInt32");
    let error = checked().unwrap_err().to_string();
    assert!(error.contains("status is UInt32, not UInt16") && error.contains("ACTIVITY_MIGRATE"));
    db.query("ALTER TABLE {db}.activities MODIFY COLUMN status UInt16");
    db.query("ALTER TABLE {db}.activity_minutes DROP COLUMN weight");
    let error = checked().unwrap_err().to_string();
    assert!(error.contains("activity_minutes has other columns"), "{error}");
    assert!(error.contains("there is no column weight"), "{error}");
    db.query("TRUNCATE TABLE {db}.schema_version");
    db.query("INSERT INTO {db}.schema_version (version, name) VALUES (1, 'activities')");
    let error = checked().unwrap_err().to_string();
    assert!(error.contains("version 1, this build needs 4"), "{error}");
}

#[test]
fn a_column_that_changes_under_a_running_service_is_refused_and_not_misread() {
    let db = Db::new();
    db.query("ALTER TABLE {db}.activities MODIFY COLUMN status UInt32");
    let error = wait(db.sink().write(&batch(10))).unwrap_err();
    assert!(error.is_schema(), "{error}");
    db.query("ALTER TABLE {db}.activities DROP COLUMN status");
    let error = wait(db.sink().write(&batch(10))).unwrap_err();
    assert!(error.is_schema(), "{error}");
    assert_eq!(db.count("activities"), 0);
}

#[test]
fn a_wrong_password_names_the_variables_and_never_itself() {
    let db = Db::new();
    let wrong = db.with(|config| config.password = Secret::new("hunter2"));
    let running = worker(&wrong);
    running.push(activity(1));
    let error = running.prepare_error();
    let text = error.to_string();
    assert!(error.is_configuration() && text.contains("check ACTIVITY_USER and ACTIVITY_PASSWORD"));
    assert!(!text.contains("hunter2"), "{text}");
    let report = running.handle.shutdown(Duration::from_millis(500));
    assert!(!report.complete);
    assert_eq!((report.stats.created, report.stats.failed), (1, 1));
    std::mem::forget(wrong);
}

#[test]
fn an_early_refusal_of_a_large_batch_keeps_the_servers_words() {
    let db = Db::new();
    let rows = (0..2000)
        .map(|n| Activity { url: "x".repeat(10_000) + &n.to_string(), ..activity(n) })
        .collect();
    let batch = Batch::new(rows, 20_000_000);
    for (config, remedy) in [
        (db.with(|config| config.password = Secret::new("hunter2")), "ACTIVITY_PASSWORD"),
        (db.with(|config| config.database += "_none"), "ACTIVITY_MIGRATE"),
        (db.with(reader), "INSERT on"),
    ] {
        let error = wait(config.sink().write(&batch)).unwrap_err();
        assert!(error.is_configuration() && error.to_string().contains(remedy), "{error}");
        std::mem::forget(config);
    }
    wait(db.sink().write(&batch)).unwrap();
    assert_eq!(db.count("activities"), 2000);
}

fn reader(config: &mut ClickHouse) {
    config.user.clone_from(&server().reader);
    config.password = Secret::new(&*server().reader_password);
}

#[test]
fn a_user_who_may_only_read_is_told_what_to_grant() {
    let db = Db::new();
    let reading = db.with(reader);
    let running = worker(&reading);
    running.push(activity(1));
    assert!(running.handle.prepared(LONG).unwrap().is_ok(), "the tables are as they should be");
    let error = wait(reading.sink().write(&batch(1))).unwrap_err();
    assert!(error.is_configuration(), "{error}");
    assert!(error.to_string().contains("needs INSERT on"), "{error}");
    let report = running.handle.shutdown(Duration::from_secs(1));
    assert_eq!((report.stats.stored, report.stats.failed), (0, 1));
    std::mem::forget(reading);
}

#[test]
fn rows_wait_for_a_missing_table_and_arrive_once_it_is_made() {
    let db = Db::absent();
    let running = {
        let unmigrated = db.with(|config| config.migrate = false);
        let running = worker(&unmigrated);
        std::mem::forget(unmigrated);
        running
    };
    for n in 0..500 {
        running.push(activity(n));
    }
    let error = running.prepare_error();
    assert!(error.is_schema() && error.to_string().contains("ACTIVITY_MIGRATE=true"), "{error}");
    wait(db.sink().prepare()).unwrap();
    assert!(running.handle.flush(LONG));
    assert_eq!(db.count("activities"), 500);

    // Gone again, under way, with a service that may make it.
    let migrating = worker(&db);
    assert!(migrating.handle.prepared(LONG).unwrap().is_ok());
    db.query("DROP TABLE {db}.activity_minutes_mv");
    db.query("DROP TABLE {db}.activities SYNC");
    db.query("DROP TABLE {db}.schema_version SYNC");
    migrating.push(activity(1));
    assert!(migrating.handle.flush(LONG));
    assert_eq!(db.count("activities"), 1);
    for it in [running, migrating] {
        let report = it.handle.shutdown(LONG);
        assert!(report.complete && report.stats.created == report.stats.stored, "{report:?}");
    }
}

#[test]
fn a_server_that_is_away_is_waited_for() {
    let db = Db::new();
    let away = db.with(|config| config.url = "http://127.0.0.1:1".to_owned());
    let error = wait(away.sink().write(&batch(1))).unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert!(error.to_string().contains("cannot reach ClickHouse at http://127.0.0.1:1"), "{error}");
    std::mem::forget(away);
}

#[test]
fn a_server_that_never_answers_is_given_up_at_the_timeout() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let db = Db::absent();
    let mut config = db.config.clone();
    config.url = format!("http://{}", silent.local_addr().unwrap());
    let mut sink = ClickHouseSink::new(&config, Duration::from_millis(200));
    let start = Instant::now();
    for batch in
        [batch(1), Batch::new(vec![Activity { url: "x".repeat(64 << 20), ..activity(1) }], 0)]
    {
        let error = wait(sink.write(&batch)).unwrap_err();
        assert!(error.is_retryable() && error.to_string().contains("ACTIVITY_TIMEOUT"), "{error}");
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn one_batch_sent_ten_times_is_one_copy_in_the_table_and_in_its_views() {
    let db = Db::new();
    let (batch, other) = (batch(1000), batch(1000));
    let mut sink = db.sink();
    for _ in 0..10 {
        wait(sink.write(&batch)).unwrap();
    }
    assert_eq!(db.count("activities"), 1000);
    let requests =
        "SELECT sum(requests), sum(duration_sum), max(duration_max) FROM {db}.activity_minutes";
    assert_eq!(db.query(requests), "1000\t499500\t999");
    let ids = db.query("SELECT DISTINCT batch_id FROM {db}.activities");
    assert_eq!(ids, batch.id().to_string());
    wait(sink.write(&other)).unwrap();
    assert_eq!(db.count("activities"), 2000);
    assert_eq!(db.query(requests), "2000\t999000\t999");
}

#[test]
fn the_largest_batch_is_one_block() {
    let db = Db::new();
    let rows = (0..100_000_u32)
        .map(|n| Activity { url: format!("{n:x>250}"), ..activity((n % 60_000) as u16) })
        .collect();
    wait(db.sink().write(&Batch::new(rows, 32 << 20))).unwrap();
    let days = db.query("SELECT uniq(_partition_id) FROM {db}.activities");
    let parts = "SELECT count() FROM system.parts WHERE database = '{db}' AND table = 'activities' AND level = 0";
    assert_eq!((db.count("activities"), db.query(parts)), (100_000, days));
}

#[test]
fn a_failing_view_is_repaired_by_the_same_batch() {
    let db = Db::new();
    db.query("CREATE TABLE {db}.picky (n UInt64) ENGINE = MergeTree ORDER BY n");
    db.query(
        "CREATE MATERIALIZED VIEW {db}.picky_mv TO {db}.picky AS \
         SELECT throwIf(status = 7) AS n FROM {db}.activities",
    );
    let batch = batch(10);
    let error = wait(db.sink().write(&batch)).unwrap_err();
    assert!(error.is_configuration() && error.to_string().contains("drop it"), "{error}");
    db.query("DROP TABLE {db}.picky_mv SYNC");
    wait(db.sink().write(&batch)).unwrap();
    assert_eq!(db.count("activities"), 10);
    assert_eq!(db.query("SELECT sum(requests) FROM {db}.activity_minutes"), "10");
}

#[test]
fn hostile_text_and_extreme_numbers_are_stored_byte_for_byte() {
    let db = Db::new();
    let texts = [
        "\0",
        "'; DROP TABLE activities; --",
        "\\'\\\"`",
        "a\r\nb\tc",
        "\u{1b}[2J",
        "\u{9b}31m",
        "\u{202e}txt.exe",
        "\u{feff}",
        "é🦀\u{10ffff}",
        "{{db}}",
        "%00?",
        "</script>",
        "\\N",
        "NULL",
    ];
    let mut rows = Vec::new();
    for text in texts {
        let text = || text.to_owned();
        let value = || vec![("k\0".into(), Value::Str(text().into()))];
        let span = SpanRecord {
            name: text().into(),
            target: text().into(),
            level: Level::Trace,
            parent: u32::MAX,
            start: u32::MAX,
            duration: u32::MAX,
            error: text().into(),
            attributes: value(),
        };
        let event = EventRecord {
            span: u32::MAX,
            time: u32::MAX,
            level: Level::Error,
            target: text().into(),
            message: text(),
            attributes: value(),
        };
        rows.push(Activity {
            url: text(),
            okind: text(),
            user_agent: text(),
            data: text(),
            duration: u64::MAX,
            response_start: u64::MAX,
            dropped_spans: u32::MAX,
            sample_weight: f32::NAN,
            trace: Some(Trace { spans: vec![span], events: vec![event] }),
            ..activity(u16::MAX)
        });
    }
    for micros in [i64::MIN, -1, 0, i64::MAX] {
        let when = Timestamp::from_micros(micros);
        let activity_id = ActivityId::new(when, u64::MAX);
        rows.push(Activity { when, activity_id, site_version: when, ..Activity::default() });
    }
    rows.push(Activity { url: "x".repeat(5 << 20), ..activity(1) });
    let batch = Batch::new(rows, 0);
    wait(db.sink().write(&batch)).unwrap();
    assert_eq!(db.count("activities"), batch.len() as u64);
    let columns = [
        "url",
        "okind",
        "user_agent",
        "data",
        "span_name[1]",
        "span_target[1]",
        "span_error[1]",
        "attr_value[1]",
        "event_target[1]",
        "event_message[1]",
    ];
    for column in columns {
        let sql = format!("SELECT hex({column}) FROM {{db}}.activities WHERE status = 65535");
        let mut stored: Vec<String> = db.query(&sql).lines().map(str::to_owned).collect();
        let mut sent: Vec<String> = texts
            .iter()
            .map(|text| text.bytes().fold(String::new(), |out, byte| out + &format!("{byte:02X}")))
            .collect();
        stored.sort();
        sent.sort();
        assert_eq!(stored, sent, "{column}");
    }
    db.query("OPTIMIZE TABLE {db}.activities FINAL");
}

#[test]
fn retention_is_applied_when_the_tables_are_made_and_changed_later() {
    let db = Db::absent();
    let day = Duration::from_hours(24);
    let engine = |table: &str| {
        let tables = "SELECT engine_full FROM system.tables WHERE database = '{db}'";
        db.query(&format!("{tables} AND name = '{table}'"))
    };
    let prepare = |days: Option<u32>| {
        let kept = std::mem::ManuallyDrop::new(db.with(|config| {
            config.retention = days.map(|days| day * days);
            config.rollup_retention = days.map(|days| day * days * 10);
        }));
        wait(kept.sink().prepare()).unwrap();
    };
    for days in [Some(90_u32), Some(90), Some(30), None, Some(7)] {
        prepare(days);
        for (table, times) in [("activities", 1), ("activity_minutes", 10), ("trace_shapes", 10)] {
            let text = engine(table);
            let others = text.matches("toIntervalDay(3) RECOMPRESS").count();
            assert_eq!(others, usize::from(table == "activities"), "{text}");
            let deletes = text.matches("toIntervalDay").count() - others;
            assert_eq!(deletes, usize::from(days.is_some()), "{text}");
            if let Some(days) = days {
                assert!(text.contains(&format!(" + toIntervalDay({})", days * times)), "{text}");
            }
        }
    }
    let changes = "SELECT count() FROM system.mutations WHERE database = '{db}'";
    let before = db.query(changes);
    prepare(Some(7));
    assert_eq!(db.query(changes), before, "an unchanged age changes nothing");
}

fn everything() -> Activity {
    let root = SpanRecord {
        name: "request".into(),
        target: "shop::api".into(),
        level: Level::Info,
        parent: 0,
        start: 0,
        duration: 1500,
        error: "".into(),
        attributes: vec![
            ("items".into(), Value::I64(-3)),
            ("paid".into(), Value::Bool(true)),
            ("large".into(), Value::U64(u64::MAX)),
        ],
    };
    let query = SpanRecord {
        name: "query".into(),
        target: "shop::db".into(),
        level: Level::Debug,
        parent: 0,
        start: 200,
        duration: 900,
        error: "timeout".into(),
        attributes: vec![
            ("rows".into(), Value::U64(5)),
            ("cost".into(), Value::F64(1.5)),
            ("table".into(), Value::Str("orders".into())),
        ],
    };
    let event = EventRecord {
        span: 1,
        time: 300,
        level: Level::Warn,
        target: "shop::db".into(),
        message: "slow".to_owned(),
        attributes: vec![("ms".into(), Value::I64(7))],
    };
    let text = |text: &str| text.to_owned();
    let when = Timestamp::from_micros(1_800_000_000_123_456);
    Activity {
        when,
        activity_id: ActivityId::new(when, 42),
        duration: 1500,
        response_start: 1200,
        outcome: Outcome::ServerFault,
        status: 503,
        method: text("POST"),
        route: text("/orders/{id}"),
        url: text("/orders/7?x=1"),
        referer: text("https://shop.example/"),
        title: text("Pay the order"),
        okind: text("order"),
        oid: text("7"),
        ekind: text("paid"),
        target_kind: text("shop"),
        target_id: text("3"),
        data: text("{\"total\":3}"),
        error: text("no answer"),
        error_kind: text("timeout"),
        user_id: text("u1"),
        actor_kind: text("api_key"),
        on_behalf_of: text("u2"),
        session_id: text("s1"),
        visit_id: text("v1"),
        visit_created: true,
        tracker_id: text("t1"),
        tracker_created: false,
        campaign: text("utm_source=news"),
        visit_referer: text("blog.example"),
        ip: Some("::ffff:10.0.0.1".parse::<Ipv6Addr>().unwrap()),
        user_agent: text("Mozilla/5.0"),
        client_kind: ClientKind::Browser,
        app: text("ios"),
        app_version: text("1.2"),
        service: text("shop"),
        host: text("web-1"),
        site_version: Timestamp::from_micros(1_700_000_000_000_000),
        site_revision: text("abc"),
        remote_trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736".parse().unwrap()),
        remote_parent_id: Some("b7ad6b7169203331".parse().unwrap()),
        parent_sampled: true,
        trace_hash: Some("000102030405060708090a0b0c0d0e0f".parse().unwrap()),
        response: text("sorry"),
        kept_because: Some(KeepReason::StatusCode),
        sample_weight: 1.5,
        truncated: true,
        incomplete: false,
        late_end: true,
        dropped_spans: 4,
        trace: Some(Trace { spans: vec![root, query], events: vec![event] }),
    }
}

#[test]
fn every_field_comes_back_as_it_was_stored() {
    let db = Db::new();
    let sent = everything();
    let batch = Batch::new(vec![sent.clone()], 0);
    wait(db.sink().write(&batch)).unwrap();
    let sql = "SELECT *, trace_id, duration_ms FROM {db}.activities FORMAT JSONEachRow \
               SETTINGS output_format_json_quote_64bit_integers = 0";
    let stored: Json = serde_json::from_str(&db.query(sql)).unwrap();
    let expected = json!({
        "when": "2027-01-15 08:00:00.123456", "activity_id": sent.activity_id.to_string(),
        "duration": 1500, "response_start": 1200, "outcome": "server_fault", "status": 503,
        "method": "POST",
        "route": "/orders/{id}", "url": "/orders/7?x=1", "referer": "https://shop.example/",
        "title": "Pay the order", "okind": "order", "oid": "7", "ekind": "paid",
        "target_kind": "shop", "target_id": "3", "data": "{\"total\":3}", "error": "no answer", "error_kind": "timeout", "user_id": "u1",
        "actor_kind": "api_key", "on_behalf_of": "u2", "session_id": "s1", "visit_id": "v1", "visit_created": true, "tracker_id": "t1",
        "tracker_created": false, "campaign": "utm_source=news",
        "visit_referer": "blog.example", "ip": "::ffff:10.0.0.1", "user_agent": "Mozilla/5.0",
        "client_kind": "browser", "app": "ios", "app_version": "1.2", "service": "shop", "host": "web-1",
        "site_version": "2023-11-14 22:13:20", "site_revision": "abc",
        "remote_trace_id": stored["remote_trace_id"],
        "remote_parent_id": stored["remote_parent_id"], "parent_sampled": true,
        "trace_hash": "000102030405060708090a0b0c0d0e0f", "response": "sorry",
        "kept_because": "status_code", "sample_weight": 1.5, "truncated": true,
        "incomplete": false, "late_end": true, "dropped_spans": 4, "batch_id": batch.id().to_string(),
        "span_name": ["request", "query"], "span_target": ["shop::api", "shop::db"],
        "span_level": ["info", "debug"], "span_parent": [0, 0], "span_start": [0, 200],
        "span_duration": [1500, 900], "span_error": ["", "timeout"],
        "attr_span": [0, 0, 1, 1], "attr_key": ["paid", "large", "cost", "table"],
        "attr_value": ["true", "18446744073709551615", "1.5", "orders"],
        "int_span": [0, 1], "int_key": ["items", "rows"], "int_value": [-3, 5],
        "event_span": [1], "event_time": [300], "event_level": ["warn"],
        "event_target": ["shop::db"], "event_message": ["slow"], "event_fields": ["{\"ms\":7}"],
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "duration_ms": 1.5,
    });
    assert_eq!(stored, expected);
    let own = activity(1);
    wait(db.sink().write(&Batch::new(vec![own.clone()], 0))).unwrap();
    let trace_id = db.query("SELECT trace_id FROM {db}.activities WHERE status = 1");
    assert_eq!(trace_id, own.trace_id().to_string());
}
