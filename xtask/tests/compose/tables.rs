//! The SQL that compose runs, and the users it makes, on the embedded engine.

use std::process::Command;
use std::time::Duration;

use embedded_clickhouse::{Options, Server, fetch, http};
use tracing_activity::config::{ClickHouse, Database, Secret};
use tracing_activity::schema::LATEST_VERSION;
use tracing_activity::sink::{ClickHouseSink, Sink as _};

use crate::files::{text, yaml};

fn statements(script: &str) -> Vec<String> {
    let statements = script.split_inclusive(";\n").map(|it| it.trim().trim_end_matches(';'));
    let is_more_than_comment =
        |sql: &&str| sql.lines().any(|it| !it.is_empty() && !it.starts_with("--"));
    statements.filter(is_more_than_comment).map(str::to_owned).collect()
}

pub(crate) fn run_script(server: &Server) {
    let script = statements(&text("docker/clickhouse/init.sql"));
    assert!(script.len() > 15, "{} statements", script.len());
    for sql in script {
        server.query(&sql).unwrap_or_else(|error| panic!("{error}: {sql}"));
    }
}

fn tables(server: &Server) -> String {
    server
        .query(
            "SELECT database, name, engine, create_table_query FROM system.tables \
             WHERE database IN ('activity', 'otel') AND NOT startsWith(name, '.inner') ORDER BY ALL",
        )
        .unwrap()
}

#[test]
fn the_script_is_what_the_schema_gives() {
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["schema", "--compose", "--check"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_script_runs_twice_and_the_second_time_changes_nothing() {
    fetch::ensure().unwrap();
    let server = Server::start(Options::default()).unwrap();
    run_script(&server);
    let first = tables(&server);
    assert!(first.contains("activities") && first.contains("otel_traces"), "{first}");
    run_script(&server);
    assert_eq!(first, tables(&server));
    let versions = server.query("SELECT version FROM activity.schema_version FINAL ORDER BY 1");
    let versions: Vec<u32> = versions.unwrap().lines().map(|it| it.parse().unwrap()).collect();
    assert_eq!(versions, (1..=LATEST_VERSION).collect::<Vec<_>>());
    // Grafana's data source names columns of this view.
    let columns = server
        .query("SELECT name FROM system.columns WHERE database = 'activity' AND table = 'activity_spans'")
        .unwrap();
    let source = &yaml("docker/grafana/datasources.yaml")["datasources"][0]["jsonData"];
    let traces = source["traces"].as_object().unwrap();
    let mut named = 0;
    for (key, column) in traces.iter().filter(|(key, _)| key.ends_with("Column")) {
        assert!(columns.lines().any(|it| it == column), "{key}: no column {column}");
        named += 1;
    }
    assert!(named > 10, "{traces:?}");
    for table in ["activities", "activity_spans", "activity_spans_trace_id_ts"] {
        assert!(first.contains(&format!("activity\t{table}\t")), "{table} in {first}");
    }
    assert_eq!(source["defaultTable"], "activities");
    assert_eq!(traces["defaultTable"], "activity_spans");
    assert_eq!(traces["traceTimestampTableSuffix"], "_trace_id_ts");
}

/// An engine that knows the users of compose, each with its own name as the password.
pub(crate) fn engine_with_users(folder: &std::path::Path) -> Server {
    fetch::ensure().unwrap();
    let mut users = text("docker/clickhouse/users.xml");
    for (variable, user) in [
        ("ACTIVITY_WRITER_PASSWORD", "activity_writer"),
        ("COLLECTOR_PASSWORD", "collector"),
        ("GRAFANA_PASSWORD", "grafana"),
    ] {
        let told = format!("<password from_env=\"{variable}\"/>");
        assert!(users.contains(&told), "{told} in {users}");
        users = users.replace(&told, &format!("<password>{user}</password>"));
    }
    // The server merges what lies in this folder into its users, as the image's does.
    std::fs::create_dir_all(folder.join("users.d")).unwrap();
    std::fs::write(folder.join("users.d/activity.xml"), users).unwrap();
    Server::start(Options { data: Some(folder.to_path_buf()), ..Options::default() }).unwrap()
}

/// What the server answers `user`: `Ok` is the body, `Err` the refusal.
pub(crate) fn ask(
    server: &Server,
    user: &str,
    settings: &[(&str, &str)],
    sql: &str,
) -> Result<String, String> {
    let address = server.url.strip_prefix("http://").unwrap();
    let response = http::query(address, user, user, settings, sql).unwrap();
    if response.status == 200 { Ok(response.body) } else { Err(response.body) }
}

#[test]
fn each_user_may_do_what_it_is_for_and_nothing_else() {
    let folder = std::env::temp_dir().join(format!("compose-users-{}", std::process::id()));
    let server = engine_with_users(&folder);
    run_script(&server);
    let may = |user: &str, sql: &str| {
        ask(&server, user, &[], sql).unwrap_or_else(|error| panic!("{user}: {sql}: {error}"))
    };
    let may_not = |user: &str, sql: &str| {
        let answer = ask(&server, user, &[], sql);
        let refused = answer
            .as_ref()
            .is_err_and(|it| it.contains("ACCESS_DENIED") || it.contains("READONLY"));
        assert!(refused, "{user}: {sql}: {answer:?}");
    };

    // The service finds its tables without making any, as the demo does.
    let config = {
        let Ok(Database::ClickHouse(mut config)) = server.url.parse::<Database>() else {
            panic!("{}", server.url)
        };
        config.database = "activity".to_owned();
        config.user = "activity_writer".to_owned();
        config.password = Secret::new("activity_writer");
        config.migrate = false;
        config
    };
    prepare(&config);
    may(
        "activity_writer",
        "INSERT INTO activity.activities (when, service) VALUES (now64(6), 'shop')",
    );
    may_not("activity_writer", "SELECT count() FROM otel.otel_traces");
    may_not("activity_writer", "TRUNCATE TABLE activity.activities");
    may_not("activity_writer", "CREATE TABLE activity.mine (a UInt8) ENGINE = Memory");

    // A batch that is sent again, because its answer was lost, is stored once.
    for _ in 0..2 {
        may(
            "collector",
            "INSERT INTO otel.otel_traces (Timestamp, TraceId) VALUES (toDateTime64(today(), 9), 't')",
        );
    }
    may("collector", "DESCRIBE TABLE otel.otel_traces");
    may_not("collector", "SELECT SpanName FROM otel.otel_traces");
    may_not("collector", "SELECT count() FROM otel.otel_metrics_sum");
    may_not("collector", "INSERT INTO activity.activities (service) VALUES ('shop')");

    assert_eq!(may("grafana", "SELECT count() FROM activity.activities"), "1\n");
    assert_eq!(may("grafana", "SELECT count() FROM otel.otel_traces"), "1\n");
    assert_eq!(may("grafana", "SELECT count() FROM otel.otel_traces_trace_id_ts"), "1\n");
    // What the writer stored went through the views, too.
    assert_eq!(may("grafana", "SELECT sum(requests) FROM activity.activity_minutes"), "1\n");
    may_not("grafana", "INSERT INTO activity.activities (service) VALUES ('x')");
    may_not("grafana", "DROP TABLE activity.activities");
    // The log of queries holds what others asked.
    server.query("SYSTEM FLUSH LOGS").unwrap();
    may_not("grafana", "SELECT * FROM system.query_log");
    may_not("grafana", "SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'a String')");

    let limited = |settings: &[(&str, &str)]| {
        ask(&server, "grafana", settings, "SELECT getSetting('max_execution_time')")
    };
    assert_eq!(limited(&[]).unwrap(), "30\n");
    assert_eq!(limited(&[("max_execution_time", "50")]).unwrap(), "50\n");
    limited(&[("max_execution_time", "61")]).unwrap_err();
    limited(&[("max_execution_time", "0")]).unwrap_err();
    for (setting, value) in
        [("readonly", "0"), ("max_rows_to_read", "0"), ("max_memory_usage", "0")]
    {
        limited(&[(setting, value)]).unwrap_err();
    }
    let filtered = ask(
        &server,
        "grafana",
        &[("additional_table_filters", "{'activity.activities':'service=%20''none'''}")],
        "SELECT count() FROM activity.activities",
    );
    assert_eq!(filtered.unwrap(), "0\n");
    server.engine.unwrap().stop().unwrap();
    std::fs::remove_dir_all(folder).unwrap();
}

/// What a service does with its tables when it starts.
fn prepare(config: &ClickHouse) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut sink = ClickHouseSink::new(config, Duration::from_secs(30));
    runtime.block_on(sink.prepare()).unwrap();
}
