//! What the tables make of the rows: shapes, rollups, and the columns and views for people.
#![cfg(feature = "clickhouse")]

mod database;

use serde_json::{Value as Json, json};
use tracing_activity::model::{
    Activity, ActivityId, EventRecord, KeepReason, Level, Outcome, SpanRecord, Timestamp, Trace,
    TraceHash, Value,
};
use tracing_activity::schema::{
    HIST_QUANTILE, SHAPES_AT_ONCE, SHAPES_CAP, SchemaOptions, VERSION_TABLE, migrations,
};
use tracing_activity::sink::{Batch, Sink as _};

use self::database::{Db, activity, now, wait};

fn hash(n: u32) -> TraceHash {
    let mut bytes = [7; 16];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    TraceHash::from_bytes(bytes)
}

/// A request that took the path `n`, its trace not kept.
fn on_path(n: u32) -> Activity {
    Activity { trace_hash: Some(hash(n)), service: "shop".to_owned(), ..activity(200) }
}

fn span(name: &'static str, parent: u32) -> SpanRecord {
    SpanRecord {
        name: name.into(),
        target: "shop".into(),
        level: Level::Info,
        parent,
        start: 0,
        duration: 1000,
        error: "".into(),
        attributes: vec![],
    }
}

fn kept(spans: Vec<SpanRecord>, activity: Activity) -> Activity {
    Activity {
        trace: Some(Trace { spans, events: vec![] }),
        kept_because: Some(KeepReason::Probabilistic),
        sample_weight: 10.0,
        ..activity
    }
}

fn write(db: &Db, rows: Vec<Activity>) -> Batch {
    let batch = Batch::new(rows, 0);
    wait(db.sink().write(&batch)).unwrap();
    batch
}

fn seconds(n: i64) -> Timestamp {
    Timestamp::from_micros(n * 1_000_000)
}

#[test]
fn a_shape_tells_since_when_how_often_and_by_example_what_a_code_path_is() {
    let db = Db::new();
    let at = |second: i64| {
        let when = seconds(1_800_000_000 + second);
        let activity_id = ActivityId::new(when, fastrand::u64(..));
        let site_version = seconds(1_700_000_000 + second);
        Activity {
            when,
            activity_id,
            site_version,
            route: "/pay".into(),
            method: "POST".into(),
            ..on_path(1)
        }
    };
    let failed = Activity { outcome: Outcome::ServerFault, duration: 900, ..at(30) };
    let mut error = span("charge", 2);
    error.error = "timeout".into();
    let long = vec![span("request", 0), span("pay", 0), span("query", 1), span("query", 1)];
    let short = [span("request", 0), span("log", 0), span("pay", 0), error];
    let shortest = kept(short.to_vec(), at(20));
    let id = shortest.activity_id;
    write(&db, vec![at(10), failed]);
    write(&db, vec![kept([long, vec![span("query", 1)]].concat(), at(5)), shortest]);
    write(&db, vec![at(40), Activity { trace_hash: None, ..at(50) }]);
    let sql = "SELECT service, trace_hash, first_seen, last_seen, first_version, last_version, \
               requests, errors, duration_sum, duration_max, routes, route, shape, activity_id \
               FROM {db}.trace_shapes FINAL FORMAT JSONEachRow \
               SETTINGS output_format_json_quote_64bit_integers = 0";
    let row: Json = serde_json::from_str(&db.query(sql)).expect("one shape");
    let expected = json!({
        "service": "shop", "trace_hash": hash(1).to_string(),
        "first_seen": "2027-01-15 08:00:05.000000", "last_seen": "2027-01-15 08:00:40.000000",
        "first_version": "2023-11-14 22:13:25", "last_version": "2023-11-14 22:14:00",
        "requests": 5, "errors": 1, "duration_sum": 900 + 4 * 200, "duration_max": 900,
        "routes": ["POST /pay"], "route": "POST /pay",
        "shape": "request\n  log\n  pay\n    charge !timeout", "activity_id": id.to_string(),
    });
    assert_eq!(row, expected);
}

#[test]
fn one_batch_sent_ten_times_counts_once_in_every_view() {
    let db = Db::new();
    let batch = Batch::new((0..1000).map(|n| on_path(n % 40)).collect(), 0);
    let mut sink = db.sink();
    for _ in 0..10 {
        wait(sink.write(&batch)).unwrap();
    }
    let shapes = "SELECT uniqExact(trace_hash), sum(requests) FROM {db}.trace_shapes";
    assert_eq!(db.query(shapes), "40\t1000");
    let rollup =
        "SELECT sum(requests), arraySum(mapValues(sumMap(dur_hist))) FROM {db}.activity_minutes";
    assert_eq!(db.query(rollup), "1000\t1000");
}

#[test]
fn a_request_of_two_rows_counts_once() {
    let db = Db::new();
    let given_up = Activity { incomplete: true, ..on_path(1) };
    let ended = Activity { late_end: true, incomplete: false, status: 503, ..given_up.clone() };
    write(&db, vec![on_path(1), given_up, ended]);
    for (count, table) in [
        ("countIf(NOT late_end)", "activities"),
        ("sum(requests)", "activity_minutes"),
        ("sum(requests)", "trace_shapes"),
        ("count()", "activity_spans"),
        ("uniqExact(activity_id)", "activities"),
    ] {
        let sql = format!("SELECT {count} FROM {{db}}.{table}");
        assert_eq!(db.query(&sql), "2", "{table}");
    }
    let last = "SELECT status, late_end FROM (SELECT * FROM {db}.activities \
                ORDER BY late_end DESC LIMIT 1 BY activity_id) ORDER BY late_end DESC";
    assert!(db.query(last).starts_with("503\ttrue"), "{}", db.query(last));
}

#[test]
fn an_explosion_of_shapes_fills_one_row_and_not_the_table() {
    let db = Db::new();
    let other = |service: &str| Activity { service: service.to_owned(), ..on_path(77) };
    let (cap, at_once) = (SHAPES_CAP, SHAPES_AT_ONCE);
    let count = |what: &str| -> u32 {
        db.query(&format!("SELECT {what} FROM {{db}}.trace_shapes FINAL")).parse().unwrap()
    };
    // What is known from before, and another service.
    write(&db, (0..5).map(on_path).chain([other("billing")]).collect());
    // 20,000 paths that nobody has seen, the first of them in one insert.
    write(&db, (5..5005).map(on_path).collect());
    assert_eq!(count("countIf(service = 'shop' AND trace_hash != 'other')"), 5 + at_once);
    assert_eq!(count("sumIf(requests, trace_hash = 'other')"), 5000 - at_once);
    let mut next = 5005;
    while next < 20_005 {
        let end = 20_005.min(next + at_once / 2);
        write(&db, (next..end).map(on_path).collect());
        next = end;
    }
    assert_eq!(count("sum(requests)"), 5 + 1 + 20_000);
    let kept = count("countIf(service = 'shop' AND trace_hash != 'other')");
    assert!((cap..cap + at_once).contains(&kept), "{kept}");
    assert_eq!(count("sumIf(requests, trace_hash = 'other')"), 20_005 - kept);
    // What is known stays known; what another service does is its own.
    write(&db, vec![on_path(3), on_path(999_999), other("billing"), other("mail")]);
    assert_eq!(count(&format!("sumIf(requests, trace_hash = '{}')", hash(3))), 2);
    assert_eq!(count("sumIf(requests, trace_hash = 'other')"), 20_005 - kept + 1);
    assert_eq!(count("sumIf(requests, service != 'shop' AND trace_hash != 'other')"), 3);
    // Paths that nobody has taken for long make room.
    db.query("ALTER TABLE {db}.trace_shapes UPDATE last_seen = now() - toIntervalDay(31) WHERE trace_hash != 'other' SETTINGS mutations_sync = 1");
    write(&db, vec![on_path(888_888)]);
    assert_eq!(count(&format!("countIf(trace_hash = '{}')", hash(888_888))), 1);
}

#[test]
fn a_quantile_from_the_histogram_is_within_a_bucket_of_the_exact_one() {
    let db = Db::new();
    let mut rng = fastrand::Rng::with_seed(1);
    // Log-normal, about what services do.
    let normal = |rng: &mut fastrand::Rng| (0..12).map(|_| rng.f64()).sum::<f64>() - 6.0;
    let slow = |rng: &mut fastrand::Rng| (10.0 + 1.5 * normal(rng)).exp() as u64;
    let rows = |count: u32, rng: &mut fastrand::Rng| -> Vec<Activity> {
        (0..count).map(|n| Activity { duration: slow(rng), ..on_path(n % 3) }).collect()
    };
    for _ in 0..3 {
        write(&db, rows(10_000, &mut rng));
    }
    let quantiles = [0.0, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1.0];
    for p in quantiles {
        let exact = format!("SELECT quantileExact({p})(duration) FROM {{db}}.activities");
        let rolled = format!(
            "SELECT activity_hist_quantile(sumMap(dur_hist), {p}) FROM {{db}}.activity_minutes"
        );
        let exact: f64 = db.query(&exact).parse().unwrap();
        let rolled: f64 = db.query(&rolled).parse().unwrap();
        let error = (rolled / exact - 1.0).abs();
        assert!(error <= 0.0219, "p {p}: {rolled} for {exact}, {error}");
    }
    let of = |histogram: &str| -> f64 {
        db.query(&format!("SELECT activity_hist_quantile({histogram}, 0.5)")).parse().unwrap()
    };
    assert!(of("map()").is_nan());
    assert!(of("CAST(map(), 'Map(UInt16, UInt64)')").is_nan());
    assert!((of("map(0, 1)") - 1.0).abs() < 0.0219);
}

#[test]
fn the_rollup_tells_when_answers_began_and_when_they_ended() {
    let db = Db::new();
    let row = |response_start, duration| Activity { response_start, duration, ..on_path(1) };
    // A stream of an hour, an answer at once, and one of which nobody told.
    write(
        &db,
        vec![row(1_000, 3_600_000_000), row(900, 1_000), row(0, 64), row(u64::MAX, u64::MAX)],
    );
    let sql = "SELECT sumMap(dur_hist), sumMap(start_hist) FROM {db}.activity_minutes";
    assert_eq!(db.query(sql), "{96:1,159:1,507:1,1024:1}\t{96:1,157:1,159:1,1024:1}");
    let stored = "SELECT response_start, duration FROM {db}.activities ORDER BY duration LIMIT 3";
    assert_eq!(db.query(stored), "0\t64\n900\t1000\n1000\t3600000000");
}

#[test]
fn the_rollup_is_read_by_the_hour() {
    let db = Db::new();
    write(&db, vec![on_path(1)]);
    let read = "EXPLAIN indexes = 1 SELECT sum(requests) FROM {db}.activity_minutes WHERE minute >= now() - INTERVAL 1 HOUR";
    let plan = db.query(read);
    let (_, primary) = plan.split_once("PrimaryKey").expect("a primary key");
    let condition = primary.split("Parts").next().unwrap_or_default();
    assert!(condition.contains("toStartOfHour(minute) in"), "{plan}");
}

#[test]
fn extreme_durations_and_weights_leave_the_rollup_readable() {
    let db = Db::new();
    let weights = [f32::NAN, f32::INFINITY, 2.5, 0.0];
    let durations = [0, 1, u64::MAX, 7];
    let rows = weights.into_iter().zip(durations);
    let rows =
        rows.map(|(sample_weight, duration)| Activity { sample_weight, duration, ..on_path(1) });
    write(&db, rows.collect());
    let sql = "SELECT sum(requests), sum(weight), sumMap(dur_hist) FROM {db}.activity_minutes";
    assert_eq!(db.query(sql), "4\t2.5\t{0:2,44:1,1024:1}");
}

/// A request with two spans below it, an event and values of every kind.
fn traced() -> Activity {
    let mut query = span("SELECT \"orders\"\n", 0);
    (query.start, query.duration, query.error) = (200, 900, "timeout".into());
    query.attributes = vec![
        ("rows".into(), Value::I64(-5)),
        ("table".into(), Value::Str("a\\b\"c\u{1}".into())),
        ("otel.kind".into(), Value::Str("client".into())),
    ];
    let mut inner = span("parse", 1);
    (inner.start, inner.duration) = (300, 10);
    let event = EventRecord {
        span: 1,
        time: 250,
        level: Level::Warn,
        target: "shop::db".into(),
        message: "slow".to_owned(),
        attributes: vec![("ms".into(), Value::I64(7))],
    };
    let when = seconds(1_800_000_000);
    let root = Activity {
        when,
        activity_id: "01a1f640-bc00-7b17-a917-6f08190b8b14".parse().unwrap(),
        duration: 1500,
        outcome: Outcome::ServerFault,
        error: "no answer".to_owned(),
        method: "GET".to_owned(),
        route: "/orders/{id}".to_owned(),
        status: 503,
        host: "web-1".to_owned(),
        ..on_path(1)
    };
    let mut request = span("request", 0);
    // As the middleware says it: the columns say it again.
    request.attributes = vec![("http.route".into(), Value::Str("/orders/{id}".into()))];
    let mut traced = kept(vec![request, query, inner], root);
    traced.trace.as_mut().unwrap().events.push(event);
    traced
}

#[test]
fn a_campaign_is_read_by_its_parameters() {
    let db = Db::new();
    let campaign = "utm_source=news+letter&utm_campaign=caf%C3%A9%26more";
    write(&db, vec![Activity { campaign: campaign.to_owned(), ..on_path(1) }, on_path(2)]);
    let sql =
        "SELECT utm_source, utm_medium, utm_campaign FROM {db}.activities WHERE utm_source != ''";
    assert_eq!(db.query(sql), "news letter\t\tcafé&more");
}

#[test]
fn the_column_trace_is_the_spans_as_json() {
    let db = Db::new();
    write(&db, vec![traced(), on_path(2)]);
    let trace: Json = serde_json::from_str(
        &db.query("SELECT trace FROM {db}.activities WHERE notEmpty(span_name) FORMAT TSVRaw"),
    )
    .unwrap();
    let expected = json!([
        { "name": "request", "parent": null, "start_us": 0, "duration_us": 1000, "error": null,
          "attributes": { "http.route": "/orders/{id}" } },
        { "name": "SELECT \"orders\"\n", "parent": 0, "start_us": 200, "duration_us": 900,
          "error": "timeout",
          "attributes": { "rows": -5, "table": "a\\b\"c\u{1}", "otel.kind": "client" } },
        { "name": "parse", "parent": 1, "start_us": 300, "duration_us": 10, "error": null,
          "attributes": {} },
    ]);
    assert_eq!(trace, expected);
    assert_eq!(db.query("SELECT trace FROM {db}.activities WHERE empty(span_name)"), "[]");
}

#[test]
fn a_text_in_trace_stays_a_text_whatever_it_reads_as() {
    let db = Db::new();
    let texts = ["007", "-1", "1e3", "NULL", "null", "true", "", " 5", "[1]", "ᴺᵁᴸᴸ"];
    let mut request = span("request", 0);
    let texts_then_number = texts.map(|text| (text, Value::Str(text.into()))).into_iter();
    let texts_then_number = texts_then_number.chain([("number", Value::I64(7))]);
    request.attributes =
        texts_then_number.map(|(key, value)| (format!("key {key}").into(), value)).collect();
    write(&db, vec![kept(vec![request], on_path(1))]);
    let trace: Json =
        serde_json::from_str(&db.query("SELECT trace FROM {db}.activities FORMAT TSVRaw")).unwrap();
    let attributes = &trace[0]["attributes"];
    for text in texts {
        assert_eq!(attributes[format!("key {text}")], json!(text), "{attributes}");
    }
    assert_eq!(attributes["key number"], json!(7));
}

#[test]
fn values_in_data_are_read_by_name_and_what_is_no_object_is_empty() {
    let db = Db::new();
    for data in ["{\"total\":5,\"a\":{\"b\":\"x\"}}", "", "{\"total\":", "[1]", "5", "{}"] {
        write(&db, vec![Activity { data: data.to_owned(), ..on_path(1) }]);
    }
    let sql = "SELECT sum(data_json.total::UInt64), any(data_json.a.b::Nullable(String)) FROM {db}.activities";
    assert_eq!(db.query(sql), "5\tx");
}

#[test]
fn spans_stand_in_a_view_as_the_collectors_exporter_lays_them_out() {
    let db = Db::new();
    write(&db, vec![traced(), on_path(2)]);
    let columns = "SELECT name, type FROM system.columns WHERE database = '{db}' AND table = 'activity_spans' ORDER BY position";
    let expected = "\
Timestamp\tDateTime64(9, \\'UTC\\')
TraceId\tString
SpanId\tString
ParentSpanId\tString
TraceState\tString
SpanName\tLowCardinality(String)
SpanKind\tLowCardinality(String)
ServiceName\tLowCardinality(String)
ResourceAttributes\tMap(LowCardinality(String), String)
ScopeName\tString
ScopeVersion\tString
SpanAttributes\tMap(LowCardinality(String), String)
Duration\tUInt64
StatusCode\tLowCardinality(String)
StatusMessage\tString
Events.Timestamp\tArray(DateTime64(9, \\'UTC\\'))
Events.Name\tArray(LowCardinality(String))
Events.Attributes\tArray(Map(LowCardinality(String), String))
Links.TraceId\tArray(String)
Links.SpanId\tArray(String)
Links.TraceState\tArray(String)
Links.Attributes\tArray(Map(LowCardinality(String), String))";
    assert_eq!(db.query(columns), expected);

    let sql = "SELECT * FROM {db}.activity_spans WHERE TraceId = '01a1f640bc007b17a9176f08190b8b14' \
               ORDER BY Timestamp FORMAT JSONEachRow SETTINGS output_format_json_quote_64bit_integers = 0";
    let rows = db.query(sql);
    let rows: Vec<Json> = rows.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let pick = |column: &str| -> Vec<Json> { rows.iter().map(|row| row[column].clone()).collect() };
    // The second half of the id, and its exclusive or with the number of the span.
    assert_eq!(pick("SpanId"), ["a9176f08190b8b14", "a9176f08190b8b15", "a9176f08190b8b16"]);
    assert_eq!(pick("ParentSpanId"), ["", "a9176f08190b8b14", "a9176f08190b8b15"]);
    assert_eq!(pick("SpanName"), ["GET /orders/{id}", "SELECT \"orders\"\n", "parse"]);
    assert_eq!(pick("SpanKind"), ["Server", "Client", "Internal"]);
    assert_eq!(pick("StatusCode"), ["Error", "Error", "Unset"]);
    assert_eq!(pick("StatusMessage"), ["no answer", "timeout", ""]);
    assert_eq!(pick("Duration"), [1_500_000, 900_000, 10_000]);
    let start = "2027-01-15 08:00:00.000";
    let starts = ["000000", "200000", "300000"].map(|part| format!("{start}{part}"));
    assert_eq!(pick("Timestamp"), starts);
    assert_eq!(rows[0]["ResourceAttributes"]["service.name"], "shop");
    assert_eq!(rows[0]["SpanAttributes"]["http.response.status_code"], "503");
    let twice = "SELECT count() FROM {db}.activity_spans WHERE length(mapKeys(SpanAttributes)) != length(arrayDistinct(mapKeys(SpanAttributes)))";
    assert_eq!(db.query(twice), "0");
    let attributes = json!({ "rows": "-5", "table": "a\\b\"c\u{1}", "otel.kind": "client" });
    assert_eq!(rows[1]["SpanAttributes"], attributes);
    assert_eq!(rows[1]["Events.Name"], json!(["slow"]));
    assert_eq!(rows[1]["Events.Timestamp"], json!([format!("{start}250000")]));
    let fields = json!([{ "ms": "7", "level": "warn", "target": "shop::db" }]);
    assert_eq!(rows[1]["Events.Attributes"], fields);
    let ids = "SELECT span_id FROM {db}.activities WHERE notEmpty(span_name)";
    assert_eq!(db.query(ids), "['a9176f08190b8b14','a9176f08190b8b15','a9176f08190b8b16']");
    // A request whose trace was not kept is a root alone.
    assert_eq!(db.count("activity_spans"), 4);
    let alone = "SELECT SpanName, SpanKind, ParentSpanId, Duration FROM {db}.activity_spans WHERE Duration = 200000";
    assert_eq!(db.query(alone), "request\tServer\t\t200000");
    // The root of a request that another service's span called.
    let parent = "b7ad6b7169203331".parse().unwrap();
    write(&db, vec![Activity { remote_parent_id: Some(parent), duration: 7, ..on_path(3) }]);
    let called = "SELECT ParentSpanId FROM {db}.activity_spans WHERE Duration = 7000";
    assert_eq!(db.query(called), "b7ad6b7169203331");
    let times = "SELECT min(Start), max(End) FROM {db}.activity_spans_trace_id_ts WHERE TraceId = '01a1f640bc007b17a9176f08190b8b14'";
    assert_eq!(db.query(times), "2027-01-15 08:00:00\t2027-01-15 08:00:01");
}

#[test]
fn a_trace_is_found_by_its_id_in_two_granules_at_most() {
    let db = Db::new();
    // Always the same: a Bloom filter is wrong by chance, and midnight makes two parts.
    let begin = seconds(1_800_000_000).as_micros();
    let mut random = fastrand::Rng::with_seed(7);
    let mut rows = |remote: bool| -> Vec<Activity> {
        (0..100_000)
            .map(|n| {
                let when = Timestamp::from_micros(begin + i64::from(n) * 5_000);
                let id = ActivityId::new(when, random.u64(..));
                let mut row = Activity { when, activity_id: id, ..on_path(n % 40) };
                if remote {
                    row.remote_trace_id = Some(
                        ActivityId::new(seconds(i64::from(random.u32(..))), random.u64(..))
                            .to_trace_id(),
                    );
                }
                row
            })
            .collect()
    };
    let batches = [write(&db, rows(false)), write(&db, rows(true))];
    db.query("OPTIMIZE TABLE {db}.activities FINAL");
    for batch in batches {
        let row = &batch.rows()[54_321];
        for from in ["activities", "activity_spans", "activity_spans_trace_id_ts"] {
            let column = if from == "activities" { "trace_id" } else { "TraceId" };
            let sql = format!(
                "SELECT * FROM {{db}}.{from} WHERE {column} = '{}' FORMAT JSON \
                 SETTINGS output_format_json_quote_64bit_integers = 0",
                row.trace_id()
            );
            let answer: Json = serde_json::from_str(&db.query(&sql)).unwrap();
            assert_eq!(answer["rows"], 1, "{from}");
            let read = answer["statistics"]["rows_read"].as_u64().unwrap();
            assert!(read <= 2 * 8192, "{from}: {read}");
        }
    }
}

fn clustered(database: &str) -> Vec<String> {
    let options = SchemaOptions {
        database: database.to_owned(),
        retention_days: Some(90),
        rollup_retention_days: Some(730),
        cluster: Some("{cluster}".to_owned()),
    };
    let tables = migrations(&options).into_iter().flat_map(|it| it.statements);
    [VERSION_TABLE, HIST_QUANTILE].iter().map(|sql| options.fill(sql)).chain(tables).collect()
}

#[test]
fn the_engine_parses_every_statement_for_a_cluster() {
    let statements = clustered("shop");
    assert!(statements.len() > 8);
    for sql in statements {
        let tree = database::server().query(&format!("EXPLAIN AST {sql}"));
        assert!(tree.as_ref().is_ok_and(|it| it.starts_with("Create")), "{tree:?} of {sql}");
    }
}

/// One server has no Keeper, so what needs it is taken out, and a table over all of one name
/// stands for the one over all shards.
#[test]
fn a_clusters_tables_fit_each_other() {
    let db = Db::absent();
    let name = db.config.database.clone();
    db.query("CREATE DATABASE {db}");
    for sql in clustered(&name) {
        let mut sql = sql.replace(" ON CLUSTER '{cluster}'", "").replace("= Replicated", "= ");
        sql = sql.replace(
            "('/clickhouse/tables/all_shards/{database}/{table}', '{shard}-{replica}')",
            "",
        );
        sql = sql.replace(", replicated_deduplication_window_seconds = 604800", "");
        sql = sql.replace("replicated_deduplication", "non_replicated_deduplication");
        if let Some((create, engine)) = sql.clone().split_once("Distributed(") {
            let local = engine.split(", ").nth(2).unwrap().trim_end_matches(')');
            sql = format!("{create}Merge('{name}', '^{local}$')");
        }
        db.query(&sql);
    }
    let batch = Batch::new(vec![traced(), on_path(2)], 0);
    let columns = tracing_activity::schema::COLUMNS.iter().map(|(name, _)| *name);
    let columns = columns.collect::<Vec<_>>().join(", ");
    let plain = Db::new();
    wait(plain.sink().write(&batch)).unwrap();
    db.query(&format!(
        "INSERT INTO {{db}}.activities_local ({columns}) SELECT {columns} FROM {}.activities",
        plain.config.database
    ));
    for table in ["activities", "activity_spans", "trace_shapes"] {
        assert_eq!(db.count(table), plain.count(table), "{table}");
    }
    for table in ["activity_minutes", "trace_shapes"] {
        assert_eq!(db.query(&format!("SELECT sum(requests) FROM {{db}}.{table}")), "2", "{table}");
    }
}

#[test]
fn rows_older_than_three_days_are_compressed_once_more_in_every_column() {
    let db = Db::new();
    // Parts tell the bytes of their columns when each column is a file.
    db.query("ALTER TABLE {db}.activities MODIFY SETTING min_bytes_for_wide_part = 0");
    // The same rows, but for their age.
    let rows = |days: i64| {
        let mut random = fastrand::Rng::with_seed(7);
        let when = Timestamp::from_micros(now().as_micros() - days * 86_400_000_000);
        (0..4000).map(move |_| told_in_words(when, &mut random)).collect::<Vec<_>>()
    };
    write(&db, rows(0).into_iter().chain(rows(5)).collect());
    db.query("OPTIMIZE TABLE {db}.activities FINAL");
    let codecs = "SELECT default_compression_codec FROM system.parts WHERE active AND database = '{db}' AND table = 'activities' ORDER BY min_time";
    assert_eq!(db.query(codecs), "ZSTD(6)\nZSTD(1)");
    // What a part says of itself is a label; its bytes are what disks hold.
    let bytes = |column: &str| -> (f64, f64) {
        let sql = format!(
            "SELECT argMin(bytes, begin), argMax(bytes, begin) FROM ( \
             SELECT min_time AS begin, column_data_compressed_bytes AS bytes FROM system.parts_columns \
             WHERE active AND database = '{{db}}' AND table = 'activities' AND column = '{column}')"
        );
        let answer = db.query(&sql);
        let (old, young) = answer.split_once('\t').unwrap();
        (old.parse().unwrap(), young.parse().unwrap())
    };
    for column in ["url", "data", "span_duration", "attr_value", "int_value"] {
        let (old, young) = bytes(column);
        assert!(old < 0.97 * young, "{column}: {old} bytes when old, {young} when young");
    }
    // A codec of a column's own would be kept.
    let own = "SELECT count() FROM system.columns WHERE database = '{db}' AND table = 'activities' \
               AND compression_codec != '' AND position(compression_codec, 'Default') = 0";
    assert_eq!(db.query(own), "0");
}

/// A row of texts and numbers that a better compression makes something of.
fn told_in_words(when: Timestamp, random: &mut fastrand::Rng) -> Activity {
    const WORDS: [&str; 8] =
        ["order", "customer", "basket", "invoice", "gift", "parcel", "refund", "voucher"];
    let mut words = |count: usize| -> String {
        (0..count).map(|_| WORDS[random.usize(..WORDS.len())]).collect::<Vec<_>>().join("/")
    };
    let (url, data) = (words(6), format!("{{\"path\":\"{}\"}}", words(9)));
    let mut query = span("query", 0);
    query.attributes = vec![("table".into(), Value::Str(words(5).into()))];
    query.duration = 1 << random.u32(4..16);
    query.attributes.push(("rows".into(), Value::I64(1 << random.u32(..12))));
    let activity_id = ActivityId::new(when, random.u64(..));
    kept(vec![span("request", 0), query], Activity { when, activity_id, url, data, ..on_path(1) })
}
