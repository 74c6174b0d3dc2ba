//! What the sink makes of answers, on a real ClickHouse behind a proxy that misbehaves.
#![cfg(feature = "clickhouse")]

mod database;

use std::sync::Arc;
use std::time::{Duration, Instant};

use embedded_clickhouse::proxy::{Action, Proxy, Reply, Request};
use embedded_clickhouse::{Limits, Options, Server};
use tracing_activity::config::{ClickHouse, Database, PipelineConfig, Secret};
use tracing_activity::pipeline::{Counters, Queue, Worker};
use tracing_activity::sink::{ClickHouseSink, Sink as _, SinkError};

use self::database::{Db, activity, batch, server, wait};

const LONG: Duration = Duration::from_mins(1);

/// A sink that goes to the database past a proxy with this rule.
fn past(db: &Db, rule: impl Fn(&Request) -> Action + Send + Sync + 'static) -> (Proxy, ClickHouse) {
    let upstream = server().url.strip_prefix("http://").unwrap();
    let proxy = Proxy::start(upstream, rule).unwrap();
    let mut config = db.config.clone();
    config.url = proxy.url();
    (proxy, config)
}

fn sink(config: &ClickHouse) -> ClickHouseSink {
    ClickHouseSink::new(config, Duration::from_secs(30))
}

/// What an insert of ten rows comes to where every insert meets `action`.
fn inserted(db: &Db, action: &Action) -> Result<(), SinkError> {
    let action = action.clone();
    let (_proxy, config) =
        past(db, move |request| if request.is_insert() { action.clone() } else { Action::Pass });
    wait(sink(&config).write(&batch(10)))
}

#[test]
fn every_code_that_the_server_knows_is_in_the_table_under_its_name() {
    let sql = "SELECT number, errorCodeToName(toUInt32(number)) AS name FROM numbers(3001) \
               WHERE name != '' FORMAT TSV";
    let known = server().query(sql).unwrap();
    let table = include_str!("../src/sink/clickhouse/codes.txt");
    let (mut missing, mut count) = (Vec::new(), 0);
    for line in known.lines() {
        count += 1;
        let entry = format!("  {}", line.replace('\t', " "));
        if table.lines().all(|it| it != entry) {
            missing.push(entry);
        }
    }
    assert!(count > 600, "{count} codes");
    assert!(missing.is_empty(), "not in codes.txt, or under another name: {missing:#?}");
    // What the server counted so far, which is how a person meets them.
    let seen = server().query("SELECT code, name FROM system.errors FORMAT TSV").unwrap();
    for line in seen.lines() {
        let entry = format!("  {}", line.replace('\t', " "));
        assert!(table.lines().any(|it| it == entry), "{entry}");
    }
}

#[test]
fn rows_are_stored_by_the_servers_account_and_not_by_a_status() {
    let db = Db::new();
    let error = Reply::new(200, "Code: 241. DB::Exception: no memory. (MEMORY_LIMIT_EXCEEDED)");
    let none = Reply::new(200, "").with("X-ClickHouse-Summary", r#"{"written_rows":"9"}"#);
    let garbage = Reply::new(200, "").with("X-ClickHouse-Summary", "ten rows");
    for reply in
        [error, none, garbage, Reply::new(200, ""), Reply::new(204, ""), Reply::new(200, "<h1>Hi")]
    {
        let told = inserted(&db, &Action::Answer(reply.clone())).unwrap_err();
        assert!(told.is_retryable() && !told.is_certain(), "{reply:?}: {told}");
    }
    assert_eq!(db.count("activities"), 0);
    // They are there, and only the account of them was lost.
    inserted(&db, &Action::Lie(Reply::new(200, ""))).unwrap();
    assert_eq!(db.count("activities"), 10);
}

#[test]
fn an_insert_without_an_account_names_the_remedy_where_the_user_may_not_look() {
    let db = Db::new();
    let denied = Reply::new(500, "Code: 497. DB::Exception: ana: Not enough privileges");
    let (_proxy, config) = past(&db, move |request| {
        if request.is_insert() {
            Action::Lie(Reply::new(200, ""))
        } else {
            Action::Answer(denied.clone())
        }
    });
    let batch = batch(10);
    let told = wait(sink(&config).write(&batch)).unwrap_err();
    let text = told.to_string();
    assert!(told.is_retryable() && text.contains("X-ClickHouse-Summary"), "{text}");
    assert!(text.contains("SELECT(batch_id, when)"), "{text}");
    assert_eq!(wait(sink(&config).stored(&batch)).unwrap(), None);
}

#[test]
fn the_sink_tells_how_much_of_a_batch_is_stored() {
    let db = Db::new();
    let (whole, other) = (batch(100), batch(100));
    let mut sink = db.sink();
    assert_eq!(wait(sink.stored(&whole)).unwrap(), Some(0));
    wait(sink.write(&whole)).unwrap();
    assert_eq!(wait(sink.stored(&whole)).unwrap(), Some(100));
    assert_eq!(wait(sink.stored(&other)).unwrap(), Some(0));
    let (left, _) = whole.split();
    assert_eq!(wait(sink.stored(&left)).unwrap(), Some(0), "a half is a batch of its own");
    assert!(wait(sink_to_nowhere(&db).stored(&other)).unwrap_err().is_retryable());
}

fn sink_to_nowhere(db: &Db) -> ClickHouseSink {
    let mut config = db.config.clone();
    "http://127.0.0.1:1".clone_into(&mut config.url);
    sink(&config)
}

#[test]
fn a_proxys_page_names_the_remedy_at_an_insert_and_at_the_start() {
    let db = Db::new();
    for (status, remedy) in
        [(401, "ACTIVITY_PASSWORD"), (403, "ACTIVITY_PASSWORD"), (404, "ACTIVITY_DB")]
    {
        let action = Action::Answer(Reply::new(status, "<html><h1>a page</h1></html>"));
        let told = inserted(&db, &action).unwrap_err();
        assert!(told.is_configuration() && told.to_string().contains(remedy), "{told}");
        let (_proxy, config) = past(&db, move |_| action.clone());
        let told = wait(sink(&config).prepare()).unwrap_err();
        assert!(told.is_configuration() && told.to_string().contains(remedy), "{told}");
        assert!(told.to_string().contains(&status.to_string()), "{told}");
    }
    let told = inserted(&db, &Action::Answer(Reply::new(413, "<html>"))).unwrap_err();
    assert!(told.is_too_large() && told.to_string().contains("client_max_body_size"), "{told}");
    let (_proxy, config) = past(&db, |_| Action::Answer(Reply::new(200, "<h1>Welcome")));
    let told = wait(sink(&config).prepare()).unwrap_err();
    assert!(told.is_configuration() && told.to_string().contains("ACTIVITY_DB"), "{told}");
}

/// Resident memory of this process in bytes.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
fn an_answer_without_an_end_takes_neither_memory_nor_time() {
    let db = Db::new();
    let flood = |status| Reply { body: vec![b'x'; 1 << 20], times: 1024, ..Reply::new(status, "") };
    let headers = Reply::new(500, "").with("X-Flood", &"x".repeat(16 << 20));
    for reply in [flood(500), flood(200), flood(413), headers] {
        let (_proxy, config) = past(&db, move |_| Action::Answer(reply.clone()));
        let before = resident();
        let start = Instant::now();
        assert!(wait(sink(&config).write(&batch(10))).is_err());
        assert!(wait(sink(&config).prepare()).is_err());
        let grown = resident().saturating_sub(before);
        assert!(grown < 256 << 20, "memory grew by {} MiB", grown >> 20);
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    }
    let drip = Reply { pause: Duration::from_millis(20), times: 100_000, ..Reply::new(200, "x") };
    let (_proxy, config) = past(&db, move |_| Action::Answer(drip.clone()));
    let mut sink = ClickHouseSink::new(&config, Duration::from_millis(300));
    let start = Instant::now();
    assert!(wait(sink.write(&batch(10))).unwrap_err().to_string().contains("ACTIVITY_TIMEOUT"));
    assert!(wait(sink.prepare()).unwrap_err().to_string().contains("ACTIVITY_TIMEOUT"));
    assert!(wait(sink.stored(&batch(10))).unwrap_err().to_string().contains("ACTIVITY_TIMEOUT"));
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn a_row_that_the_server_refuses_fails_alone_and_costs_few_inserts() {
    let db = Db::new();
    db.query("ALTER TABLE {db}.activities ADD CONSTRAINT picky CHECK status != 777");
    let (proxy, config) = past(&db, |_| Action::Pass);
    let mut pipeline = PipelineConfig::default();
    pipeline.batch_interval = LONG * 10;
    let (queue, counters) = (Arc::new(Queue::new(&pipeline)), Arc::new(Counters::new()));
    let handle = Worker::spawn(
        Arc::clone(&queue),
        Arc::clone(&counters),
        Box::new(sink(&config)),
        pipeline,
        Box::new(|| {}),
    );
    for n in 0..5000 {
        counters.count_created();
        assert!(queue.push(Box::new(activity(n))).is_ok());
    }
    let stats = handle.unwrap().shutdown(LONG).stats;
    assert_eq!((stats.stored, stats.failed, stats.retries), (4999, 1, 0), "{stats}");
    assert!(proxy.inserts() <= 30, "{} inserts", proxy.inserts());
    assert_eq!(db.count("activities"), 4999);
    assert_eq!(db.query("SELECT sum(requests) FROM {db}.activity_minutes"), "4999");
}

#[test]
fn a_setting_that_the_profile_pins_is_named_with_its_remedy() {
    let pinned = vec![("async_insert".to_owned(), "1".to_owned())];
    let limits = Limits { pinned, ..Limits::default() };
    let server = Server::start(Options { limits, ..Options::default() }).unwrap();
    let Ok(Database::ClickHouse(mut config)) = server.url.parse() else { panic!("{}", server.url) };
    config.user.clone_from(&server.user);
    config.password = Secret::new(&*server.password);
    let mut sink = sink(&config);
    wait(sink.prepare()).unwrap();
    let told = wait(sink.write(&batch(10))).unwrap_err();
    assert!(told.is_configuration() && told.to_string().contains("async_insert=0"), "{told}");
    assert!(told.to_string().contains("constraint"), "{told}");
}
