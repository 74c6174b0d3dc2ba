//! What can be set, and what is said of what cannot.

use std::time::{Duration, Instant};

use tracing_activity::Config;
use tracing_activity::config::{ClickHouse, Database, SamplingPolicy};
use tracing_activity::model::Outcome;
use tracing_activity::sink::MemorySink;

use crate::support::{self, Fixture, capture_with, request};

fn with(vars: &[(&str, &str)]) -> Result<Config, String> {
    let find = |name: &str| vars.iter().find(|(key, _)| *key == name);
    Config::from_lookup(|name| Ok(find(name).map(|(_, value)| (*value).to_owned())))
        .map_err(|error| error.to_string())
}

fn clickhouse(address: &str) -> ClickHouse {
    let vars = [("ACTIVITY_DB", address), ("ACTIVITY_INSECURE", "true")];
    match with(&vars).unwrap_or_else(|error| panic!("{address}: {error}")).database {
        Database::ClickHouse(it) => it,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_password_in_an_address_is_what_it_was_before_it_was_encoded() {
    let it = clickhouse("clickhouse://u:p+q&r=s@h/db");
    assert_eq!((it.user.as_str(), it.password.expose()), ("u", "p+q&r=s"));
    for password in ["p+q&r=s", "%", "%41", "@", "/", "?", "#", "a b", "ü", "a@b/c?d#e:f%g", "\\"]
    {
        let encoded = password.bytes().flat_map(|byte| format!("%{byte:02X}").into_bytes());
        let encoded: String = encoded.map(char::from).collect();
        for address in [format!("https://ana:{encoded}@h/shop"), format!("http://:{encoded}@h")] {
            let it = clickhouse(&address);
            assert_eq!(it.password.expose(), password, "{address}");
            assert!(!format!("{it:?}").contains(&encoded));
        }
    }
}

#[test]
fn an_address_may_lead_through_a_path_to_any_database() {
    for (address, url, database) in [
        ("https://h/clickhouse/shop", "https://h:8443/clickhouse", "shop"),
        ("http://h/my-shop", "http://h:8123", "my-shop"),
        ("http://h/shop/", "http://h:8123", "shop"),
        ("CLICKHOUSE://h", "http://h:8123", "activity"),
    ] {
        let it = clickhouse(address);
        assert_eq!((it.url.as_str(), it.database.as_str()), (url, database), "{address}");
    }
}

#[test]
fn an_address_that_could_be_read_in_two_ways_is_refused_without_repeating_it() {
    for address in [
        "clickhouse:///d",
        "http://u:hun/ter2@h/d",
        "http://u:8123/hunter2@h/d",
        "http://u:hunter2@h:99999/d",
        "http://u:hunter2@h/d?secure=true",
    ] {
        let error = with(&[("ACTIVITY_DB", address)]).unwrap_err();
        assert!(error.contains("expected stdout, off, clickhouse://USER"), "{address}: {error}");
        assert!(!error.contains("hunter2") && !error.contains("hun/ter2"), "{error}");
    }
}

#[test]
fn variables_of_opentelemetry_that_are_meant_for_others_stop_nothing() {
    for (name, value) in [
        ("OTEL_PROPAGATORS", "tracecontext,baggage,b3"),
        ("OTEL_TRACES_SAMPLER", "xray"),
        ("OTEL_TRACES_SAMPLER", "parentbased_jaeger_remote"),
        ("OTEL_TRACES_EXPORTER", "console"),
        ("OTEL_METRICS_EXPORTER", "prometheus"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "many"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "hunter2"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "ana:hunter2@collector"),
    ] {
        let config = with(&[(name, value)]).unwrap_or_else(|error| panic!("{error}"));
        let [warning] = config.warnings() else { panic!("{:?}", config.warnings()) };
        let line = warning.to_string();
        assert!(line.starts_with(name) && line.contains("expected "), "{line}");
        assert!(!format!("{line}{config:?}").contains("hunter2"), "{line}");
    }
    assert!(with(&[("ACTIVITY_ROOTS", "middleware?")]).is_err(), "our own stay strict");
}

/// Of a configuration begun in code it is an error: see `tests/otlp`.
#[test]
#[cfg(not(feature = "otlp-grpc"))]
fn an_export_that_this_build_cannot_do_stops_nothing_where_the_environment_asks_for_it() {
    let grpc = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    for exporter in ["OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER"] {
        let mut config = with(&[grpc, (exporter, "otlp")]).unwrap();
        config.pipeline.batch_interval = Duration::from_millis(1);
        let builder = tracing_activity::builder().config(config).sink(MemorySink::new());
        let (_, guard) = builder.subscriber().unwrap_or_else(|error| panic!("{error}"));
        assert!(guard.handle().span_stats().is_none());
    }
}

#[test]
fn a_limit_that_would_switch_capture_off_is_refused_by_the_name_of_its_field() {
    let refused = |change: fn(&mut Config)| {
        let mut config = support::config();
        change(&mut config);
        let builder = tracing_activity::builder().config(config).sink(MemorySink::new());
        let error = builder.build().expect_err("out of bounds");
        assert!(error.is_config(), "{error}");
        error.to_string()
    };
    for (field, variable, error) in [
        ("capture.max_spans", "ACTIVITY_MAX_SPANS", refused(|it| it.capture.max_spans = 0)),
        (
            "capture.max_in_flight",
            "ACTIVITY_MAX_IN_FLIGHT",
            refused(|it| it.capture.max_in_flight = 0),
        ),
        (
            "capture.max_lifetime",
            "ACTIVITY_MAX_LIFETIME",
            refused(|it| it.capture.max_lifetime = Duration::ZERO),
        ),
        ("pipeline.queue_rows", "ACTIVITY_QUEUE_ROWS", refused(|it| it.pipeline.queue_rows = 0)),
        ("pipeline.batch_rows", "ACTIVITY_BATCH_ROWS", refused(|it| it.pipeline.batch_rows = 0)),
        (
            "pipeline.timeout",
            "ACTIVITY_TIMEOUT",
            refused(|it| it.pipeline.timeout = Duration::ZERO),
        ),
    ] {
        assert!(error.starts_with(field) && error.contains(variable), "{error}");
    }
}

#[test]
fn a_hundred_thousand_sampling_rules_are_read_at_once() {
    let rules = |n: usize| format!("route:/r{n}=0.1,ekind:e{n}*=0.2");
    let text = (0..50_000).map(rules).collect::<Vec<_>>().join(",");
    let begin = Instant::now();
    let policy: SamplingPolicy = text.parse().unwrap();
    let sampler = tracing_activity::sampling::Sampler::new(policy);
    assert!(sampler.tail().reads_ekind());
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
}

/// Requests of two routes, each with every outcome.
fn traffic(times: usize) {
    for n in 0..times {
        for route in ["/healthz", "/orders"] {
            for status in [200, 404, 503] {
                let request = request!(http.route = route, http.response.status_code = status, n);
                request.in_scope(|| drop(tracing::info_span!("step").entered()));
            }
        }
    }
}

#[test]
fn successful_health_checks_are_no_rows_where_a_rule_says_so_and_are_counted() {
    for policy in
        ["all,drop:route:/healthz", "off,drop:route:/healthz", "errors,drop:ekind:GET /h*"]
    {
        let mut config = support::config();
        config.sample = policy.parse().unwrap();
        let (rows, stats) = capture_with(config, || traffic(50));
        let of = |route: &str, outcome| {
            rows.iter().filter(|it| it.route == route && it.outcome == outcome).count()
        };
        assert_eq!(of("/healthz", Outcome::Success), 0, "{policy}");
        for outcome in [Outcome::ClientFault, Outcome::ServerFault] {
            assert_eq!(of("/healthz", outcome), 50, "{policy}: {outcome:?}");
        }
        assert_eq!(of("/orders", Outcome::Success), 50, "{policy}");
        assert_eq!((stats.created, stats.stored, stats.dropped.rule), (300, 250, 50), "{policy}");
        assert_eq!((stats.dropped.total(), stats.dropped.lost()), (50, 0), "{policy}");
        assert!(stats.to_string().contains("50 (50 rule) dropped"), "{stats}");
    }
}

#[test]
fn a_rule_that_comes_while_the_service_runs_leaves_out_rows_from_then_on() {
    for before in ["all", "off"] {
        let mut config = support::config();
        config.sample = before.parse().unwrap();
        let fixture = Fixture::new(config);
        fixture.run(|| traffic(1));
        fixture.guard.set_sampling(format!("{before},drop:route:/healthz").parse().unwrap());
        fixture.run(|| traffic(1));
        let (rows, stats) = fixture.finish();
        assert_eq!((rows.len(), stats.dropped.rule), (11, 1), "{before}: {stats}");
    }
}

#[test]
fn what_a_rule_leaves_out_is_no_part_of_the_estimate() {
    let mut config = support::config();
    config.sample = "rate=0.25,drop:route:/healthz".parse().unwrap();
    let (rows, stats) = capture_with(config, || {
        for n in 0..20_000_u64 {
            let route = if n % 10 == 0 { "/orders" } else { "/healthz" };
            drop(request!(http.route = route, http.response.status_code = 200, n).entered());
        }
    });
    assert_eq!((rows.len(), stats.dropped.rule), (2_000, 18_000));
    let weights: f64 = rows.iter().map(|it| f64::from(it.sample_weight)).sum();
    // 500 kept of 2000, each for four: a deviation of 4 * sqrt(2000 / 4 * 3 / 4) = 77.
    assert!((weights - 2_000.0).abs() < 400.0, "{weights}");
}

#[test]
fn what_a_rule_leaves_out_takes_nothing_of_the_budget() {
    let mut config = support::config();
    // Twelve traces in a minute: of the health checks each would have its part of them.
    config.sample = "rate=1,budget=0.2/s,drop:route:/healthz".parse().unwrap();
    let (rows, stats) = capture_with(config, || {
        let send = |route, times: u64| {
            for n in 0..times {
                drop(request!(http.route = route, http.response.status_code = 200, n).entered());
            }
        };
        send("/healthz", 2_000);
        send("/orders", 10);
    });
    assert_eq!((rows.len(), stats.dropped.rule), (10, 2_000));
    assert!(rows.iter().all(|it| it.kept_because.is_some()), "{rows:#?}");
}

#[test]
fn the_count_of_what_rules_leave_out_is_a_metric() {
    let mut config = support::config();
    config.sample = "all,drop:route:/healthz".parse().unwrap();
    let fixture = Fixture::new(config);
    fixture.run(|| traffic(3));
    let page = tracing_activity::metrics::prometheus(&fixture.guard.handle().metrics());
    let line = page.lines().find(|line| line.contains("\"rule\"")).expect("a line of its own");
    assert!(line.ends_with(" 3"), "{line}");
}

#[test]
#[cfg(unix)]
fn a_fifo_in_the_place_of_a_salt_stops_the_set_up_and_does_not_hang_it() {
    use tracing_activity::config::{Cookieless, Visits};
    let folder = std::env::temp_dir().join(format!("activity-fifo-{:016x}", fastrand::u64(..)));
    std::fs::create_dir(&folder).unwrap();
    let noon = std::time::UNIX_EPOCH + Duration::from_hours(20_833 * 24 + 12);
    let fifo = folder.join("2027-01-15.salt");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().expect("mkfifo").success());
    let mut cookieless = Cookieless::default();
    cookieless.salts = Some(folder.clone());
    let (told, answer) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let builder = tracing_activity::builder().config(support::config()).sink(MemorySink::new());
        let built = builder.clock(move || noon).visits(Visits::Cookieless(cookieless)).build();
        told.send(built.map(drop).map_err(|error| error.to_string()))
    });
    let answer = answer.recv_timeout(support::DEADLINE).expect("it hangs");
    let _ = std::fs::remove_dir_all(&folder);
    let error = answer.unwrap_err();
    assert!(
        error.contains("ACTIVITY_VISIT_SALTS") && error.contains("15.salt is no salt"),
        "{error}"
    );
}
