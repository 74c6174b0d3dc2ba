//! What the table of variables promises.

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::*;
use crate::config::{OtlpProtocol, Temporality};

fn with(vars: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::from_lookup(|name| {
        Ok(vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    })
}

#[test]
fn every_variable_in_the_table_is_read_and_no_other() {
    let asked = RefCell::new(BTreeSet::new());
    Config::from_lookup(|name| {
        asked.borrow_mut().insert(name.to_owned());
        Ok(None)
    })
    .unwrap();
    let table: BTreeSet<_> = VARIABLES.iter().map(|var| var.name.to_owned()).collect();
    assert_eq!(asked.into_inner(), table);
}

#[test]
fn an_empty_environment_gives_the_defaults() {
    assert_eq!(with(&[]).unwrap(), Config::default());
    assert_eq!(with(&[("ACTIVITY_DB", "")]).unwrap(), Config::default());
}

#[test]
fn defaults_in_the_table_are_the_real_defaults() {
    let config = Config::default();
    for var in VARIABLES {
        let Some(text) = var.default.strip_prefix('`').and_then(|it| it.strip_suffix('`')) else {
            continue;
        };
        assert_eq!(with(&[(var.name, text)]).unwrap(), config, "{}={text}", var.name);
    }
}

#[test]
fn every_malformed_value_is_an_error_that_names_variable_value_and_what_is_accepted() {
    for var in VARIABLES {
        if var.accepts == "text" || var.name.starts_with("OTEL_") {
            continue;
        }
        // Not even a regular expression.
        let error = with(&[(var.name, "no such <value> (")]).unwrap_err();
        assert_eq!(error.name(), var.name);
        let message = error.to_string();
        assert!(message.starts_with(var.name) && message.contains("expected "), "{message}");
        assert!(
            ["ACTIVITY_DB", "ACTIVITY_VISIT_KEYS"].contains(&var.name)
                || message.contains("no such <value> ("),
            "{message}"
        );
    }
}

#[test]
fn a_value_that_is_not_text_is_an_error() {
    let error = Config::from_lookup(|name| match name {
        "ACTIVITY_HOST" => Err("is not UTF-8".to_owned()),
        _ => Ok(None),
    })
    .unwrap_err();
    assert_eq!(error.to_string(), "ACTIVITY_HOST: is not UTF-8");
}

#[test]
fn a_password_in_the_clear_to_another_host_is_refused_unless_asked_for() {
    let address = ("ACTIVITY_DB", "http://ana:hunter2@db.example");
    let error = with(&[address]).unwrap_err().to_string();
    assert!(error.contains("ACTIVITY_INSECURE=true") && !error.contains("hunter2"), "{error}");
    assert!(with(&[address, ("ACTIVITY_INSECURE", "true")]).is_ok());
    assert!(with(&[("ACTIVITY_DB", "http://db.example")]).is_ok());
}

#[test]
fn visits_are_followed_as_far_as_the_mode_and_its_settings_say() {
    const KEY: &str = "hunter2-hunter2-hunter2-hunter2-hunter2";
    let visits = |variables: &[(&str, &str)]| with(variables).map(|it| it.http.visits);
    let error = visits(&[("ACTIVITY_VISITS", "cookie")]).unwrap_err().to_string();
    assert!(error.starts_with("ACTIVITY_VISIT_KEYS: ACTIVITY_VISITS=cookie needs"), "{error}");
    let error = visits(&[("ACTIVITY_VISIT_KEYS", "hunter2")]).unwrap_err().to_string();
    assert!(!error.contains("hunter2"), "{error}");
    let keys = ("ACTIVITY_VISIT_KEYS", KEY);
    let cookie = with(&[("ACTIVITY_VISITS", "cookie"), keys]).unwrap();
    assert_eq!(cookie.http.visits, Visits::Cookie(KEY.parse().unwrap()));
    assert!(!format!("{cookie:?}").contains("hunter2"), "{cookie:?}");
    assert_eq!(visits(&[keys]), Ok(Visits::Off));
    let cookieless = visits(&[
        ("ACTIVITY_VISITS", "cookieless"),
        ("ACTIVITY_VISIT_SALTS", "/var/lib/shop"),
        ("ACTIVITY_VISIT_SITE", "shop"),
    ]);
    let expected = Cookieless { salts: Some("/var/lib/shop".into()), site: Some("shop".into()) };
    assert_eq!(cookieless, Ok(Visits::Cookieless(expected)));
}

#[test]
fn user_and_password_variables_win_over_the_address() {
    let config = with(&[
        ("ACTIVITY_DB", "http://a:b@localhost/shop"),
        ("ACTIVITY_USER", "ana"),
        ("ACTIVITY_PASSWORD", "hunter2"),
        ("ACTIVITY_RETENTION", "90d"),
        ("ACTIVITY_ROLLUP_RETENTION", "730d"),
    ]);
    let Database::ClickHouse(it) = config.unwrap().database else { panic!() };
    assert_eq!((it.user.as_str(), it.password.expose()), ("ana", "hunter2"));
    assert_eq!(it.retention, Some(Duration::from_hours(90 * 24)));
    assert_eq!(it.rollup_retention, Some(Duration::from_hours(730 * 24)));
}

#[test]
fn spans_are_exported_where_an_endpoint_asks_for_it_and_nothing_forbids_it() {
    let otlp = |vars: &[(&str, &str)]| with(vars).unwrap().otlp;
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/");
    assert!(!otlp(&[]).enabled);
    assert!(otlp(&[endpoint]).enabled);
    assert!(otlp(&[("OTEL_TRACES_EXPORTER", "otlp")]).enabled);
    assert!(!otlp(&[endpoint, ("OTEL_TRACES_EXPORTER", "none")]).enabled);
    assert!(!otlp(&[endpoint, ("OTEL_SDK_DISABLED", "true")]).enabled);
    assert_eq!(otlp(&[endpoint]).target.address("traces"), "http://collector:4318/v1/traces");
    let whole = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://other/x");
    assert_eq!(otlp(&[endpoint, whole]).target.address("traces"), "http://other/x");
    let grpc = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    assert_eq!(otlp(&[endpoint, grpc]).target.address("traces"), "http://collector:4318/");
    assert_eq!(otlp(&[grpc]).target.address("traces"), "http://localhost:4317");
}

#[test]
fn metrics_are_exported_where_they_are_asked_for_and_nothing_forbids_it() {
    let metrics = |vars: &[(&str, &str)]| with(vars).unwrap().otlp.metrics;
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/");
    let wanted = ("OTEL_METRICS_EXPORTER", "otlp");
    // Unlike spans, an endpoint alone does not ask for them.
    assert!(!metrics(&[endpoint]).enabled);
    assert!(metrics(&[wanted]).enabled);
    assert!(!metrics(&[("OTEL_METRICS_EXPORTER", "none")]).enabled);
    assert!(!metrics(&[wanted, ("OTEL_SDK_DISABLED", "true")]).enabled);
    assert_eq!(metrics(&[wanted]).target.address("metrics"), "http://localhost:4318/v1/metrics");
    assert_eq!(metrics(&[endpoint]).target.address("metrics"), "http://collector:4318/v1/metrics");
    let whole = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://other/x");
    assert_eq!(metrics(&[endpoint, whole]).target.address("metrics"), "http://other/x");
    let own = [
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "250"),
        ("OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "x=1"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "y=1"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "Delta"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "5000"),
        endpoint,
    ];
    let it = metrics(&own);
    assert_eq!(
        (it.target.address("metrics"), it.target.protocol),
        ("http://collector:4318/".to_owned(), OtlpProtocol::Grpc)
    );
    assert_eq!(
        (it.target.timeout, it.interval),
        (Duration::from_millis(250), Duration::from_secs(5))
    );
    assert_eq!((it.target.gzip, it.target.headers[0].0.as_str()), (true, "x"));
    assert_eq!(it.temporality, Temporality::Delta);
    let traces = with(&own).unwrap().otlp;
    assert_eq!((traces.target.protocol, traces.target.gzip), (OtlpProtocol::HttpProtobuf, false));
    assert_eq!(traces.target.headers[0].0, "y");
}

#[test]
fn whatever_opentelemetrys_variables_hold_the_service_starts_and_is_warned_once_of_each() {
    const GARBAGE: &str = "no such <value> (";
    let otel: Vec<_> = VARIABLES.iter().filter(|it| it.name.starts_with("OTEL_")).collect();
    assert!(otel.len() > 20, "{otel:?}");
    let mut all = Vec::new();
    for var in &otel {
        // Any text is the name of a service.
        if var.accepts == "text" {
            continue;
        }
        let config = with(&[(var.name, GARBAGE)]).unwrap();
        let [warning] = config.warnings() else { panic!("{}: {:?}", var.name, config.warnings()) };
        assert_eq!(warning.name(), var.name);
        let line = warning.to_string();
        let default = var.default.replace('`', "");
        assert!(line.ends_with(&format!("; it counts as not set; default: {default}")), "{line}");
        assert!(line.contains("expected "), "{line}");
        let hides = var.name.ends_with("_HEADERS");
        assert_eq!(line.starts_with(&format!("{}={GARBAGE:?}: ", var.name)), !hides, "{line}");
        assert_eq!(Config { warnings: Vec::new(), ..config }, Config::default(), "{line}");
        all.push((var.name, GARBAGE));
    }
    let config = with(&all).unwrap();
    let warned: Vec<_> = config.warnings().iter().map(ConfigWarning::name).collect();
    let given: BTreeSet<_> = all.iter().map(|(name, _)| *name).collect();
    assert_eq!((warned.len(), warned.into_iter().collect()), (all.len(), given));
    // What is no text at all is no reason to stop either.
    for var in otel {
        let config = Config::from_lookup(|name| match name {
            name if name == var.name => Err("is not UTF-8".to_owned()),
            _ => Ok(None),
        });
        let warnings = config.unwrap().warnings;
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(
            warnings[0].to_string().starts_with(&format!("{}: is not", var.name)),
            "{warnings:?}"
        );
    }
}

#[test]
fn values_that_other_languages_know_count_as_not_set() {
    for (name, values) in [
        ("OTEL_TRACES_EXPORTER", &["console", "zipkin", "logging", "jaeger", "otlp/stdout"][..]),
        ("OTEL_METRICS_EXPORTER", &["console", "prometheus", "logging"]),
        ("OTEL_TRACES_SAMPLER", &["xray", "jaeger_remote", "parentbased_jaeger_remote"]),
        ("OTEL_PROPAGATORS", &["b3", "b3multi", "jaeger", "xray", "ottrace", "b3,xray"]),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", &["http/json", "http"]),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", &["zstd", "deflate"]),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", &["10s", "-1", "1.5", "0", "99999999999999999999"]),
        ("OTEL_BSP_MAX_QUEUE_SIZE", &["many", "-1", "0", "1e3"]),
        ("OTEL_TRACES_SAMPLER_ARG", &["2", "-0.1", "NaN", "endpoint=http://h,pollingIntervalMs=5"]),
        ("OTEL_SDK_DISABLED", &["yes", "1", "on"]),
        ("OTEL_RESOURCE_ATTRIBUTES", &["a", "a=%ff", "=b"]),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &["collector:4317", "unix:///x", "http://", ""]),
    ] {
        for value in values {
            let config = with(&[(name, value)]).unwrap();
            let warned = usize::from(!value.is_empty());
            assert_eq!(config.warnings().len(), warned, "{name}={value}: {:?}", config.warnings());
            let config = Config { warnings: Vec::new(), ..config };
            assert_eq!(config, Config::default(), "{name}={value}");
        }
    }
    let prometheus = with(&[("OTEL_METRICS_EXPORTER", "prometheus")]).unwrap();
    let line = prometheus.warnings()[0].to_string();
    assert!(line.contains("metrics::prometheus(&handle.metrics())"), "{line}");
}

#[test]
fn of_a_list_what_is_known_counts() {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");
    let config = with(&[("OTEL_PROPAGATORS", "TraceContext, b3,xray")]).unwrap();
    let them = config.otlp.propagators;
    assert_eq!((them.trace_context, them.baggage), (true, false));
    assert_eq!(
        config.warnings()[0].to_string(),
        "OTEL_PROPAGATORS=\"TraceContext, b3,xray\": \"b3\" is not known here, expected some of \
         tracecontext and baggage, comma-separated, or none; what is known counts: tracecontext"
    );
    for (exporters, enabled) in
        [("otlp,console", true), ("console,none", false), ("console", true), ("OTLP", true)]
    {
        let config = with(&[endpoint, ("OTEL_TRACES_EXPORTER", exporters)]).unwrap();
        assert_eq!(config.otlp.enabled, enabled, "{exporters}");
        assert_eq!(config.warnings().len(), usize::from(exporters.contains("console")));
    }
    // Of the two variables of a setting the other holds.
    let protocol = with(&[
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
    ]);
    assert_eq!(protocol.unwrap().otlp.target.protocol, OtlpProtocol::Grpc);
    let headers = with(&[("OTEL_EXPORTER_OTLP_HEADERS", "x=1,hunter2,y=2")]).unwrap();
    assert_eq!(headers.otlp.target.headers.len(), 2);
    let line = headers.warnings()[0].to_string();
    assert!(line.contains("pair 2") && !line.contains("hunter2"), "{line}");
}

#[test]
fn credentials_of_an_endpoint_are_in_no_warning_and_in_no_debug() {
    for value in [
        "ftp://ana:hunter2@h:1/x",
        "ana:hunter2@h",
        "https:/ana:hunter2@h",
        "h?key=hunter2",
        "https://ana:hunter2@h:1/x?key=hunter2",
        "https://ana:hunter%32@h:99999",
    ] {
        for name in ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"] {
            let shown = format!("{:?}", with(&[(name, value)]).unwrap());
            assert!(!shown.contains("hunter"), "{shown}");
        }
    }
}

#[test]
fn lists_that_every_request_looks_into_have_a_bound() {
    for (name, entry) in [
        ("ACTIVITY_QUERY_KEEP", "page"),
        ("ACTIVITY_REDACT_JSON", "/user/name"),
        ("ACTIVITY_CAPTURE_HEADERS", "x-request-id"),
        ("ACTIVITY_CAPTURE_RESPONSE", "text/*"),
        ("ACTIVITY_CAPTURE_REQUEST", "text/*"),
        ("ACTIVITY_FILTER", "a=info"),
        ("ACTIVITY_VISIT_KEYS", "hunter2-hunter2-hunter2-hunter2-hunter2"),
    ] {
        let list = |entries| vec![entry; entries].join(",");
        assert!(with(&[(name, &list(1_000))]).is_ok(), "{name}");
        let error = with(&[(name, &list(1_001))]).unwrap_err().to_string();
        assert!(error.contains("1001 entries, expected at most 1000"), "{error}");
        assert!(error.len() < 400 && !error.contains("hunter2"), "{error}");
    }
}

#[test]
fn an_error_repeats_the_beginning_of_a_long_value_only() {
    let long = format!("errors,{}x", "rate=0.1,".repeat(10_000));
    let error = with(&[("ACTIVITY_SAMPLE", &long)]).unwrap_err().to_string();
    assert!(error.len() < 1_000 && error.contains("errors,rate=0.1"), "{}", error.len());
}

#[test]
fn a_configuration_made_in_code_has_the_bounds_of_the_variables() {
    type Change = fn(&mut Config);
    let changes: [(&str, Change); 14] = [
        ("capture.max_spans", |it| it.capture.max_spans = 0),
        ("capture.max_spans", |it| it.capture.max_spans = 65_536),
        ("capture.max_depth", |it| it.capture.max_depth = 0),
        ("capture.max_in_flight", |it| it.capture.max_in_flight = 0),
        ("capture.max_lifetime", |it| it.capture.max_lifetime = Duration::ZERO),
        ("http.capture.max_bytes", |it| it.http.capture.max_bytes = usize::MAX),
        ("pipeline.queue_rows", |it| it.pipeline.queue_rows = 0),
        ("pipeline.queue_bytes", |it| it.pipeline.queue_bytes = 0),
        ("pipeline.batch_rows", |it| it.pipeline.batch_rows = 0),
        ("pipeline.batch_bytes", |it| it.pipeline.batch_bytes = 0),
        ("pipeline.timeout", |it| it.pipeline.timeout = Duration::ZERO),
        ("pipeline.shutdown_timeout", |it| it.pipeline.shutdown_timeout = Duration::MAX),
        ("otlp.queue_spans", |it| it.otlp.queue_spans = 0),
        ("otlp.buffer_bytes", |it| it.otlp.buffer_bytes = 0),
    ];
    for (field, change) in changes {
        let mut config = Config::default();
        change(&mut config);
        let error = config.check().unwrap_err();
        assert_eq!(error.name(), field);
        let text = error.to_string();
        assert!(text.contains(": expected ") && text.contains("as of "), "{text}");
    }
    assert_eq!(Config::default().check(), Ok(()));
    let mut config = Config::default();
    config.capture.max_spans = 0;
    assert_eq!(
        config.check().unwrap_err().to_string(),
        "capture.max_spans=\"0\": expected a number from 1 to 65535, as of ACTIVITY_MAX_SPANS"
    );
}

#[test]
fn the_service_is_named_by_its_own_variable_before_the_resource() {
    let resource = ("OTEL_RESOURCE_ATTRIBUTES", "service.name=shop%20a,x=y");
    let service = |vars: &[(&str, &str)]| with(vars).unwrap().service;
    assert_eq!(service(&[resource]), "shop a");
    assert_eq!(service(&[resource, ("OTEL_SERVICE_NAME", "shop")]), "shop");
}

#[test]
fn a_header_that_cannot_be_sent_is_told_by_the_variable_that_holds_it_and_not_repeated() {
    let common = ("OTEL_EXPORTER_OTLP_HEADERS", "x=1");
    let traces = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "a=b,x=hunter2%0A");
    let config = with(&[common, traces]).unwrap();
    let [warning] = config.warnings() else { panic!("{:?}", config.warnings()) };
    assert_eq!(warning.name(), "OTEL_EXPORTER_OTLP_TRACES_HEADERS");
    let line = warning.to_string();
    assert!(line.contains("pair 2") && !line.contains("hunter2"), "{line}");
    let config = with(&[("OTEL_EXPORTER_OTLP_HEADERS", "hunter2")]).unwrap();
    let line = config.warnings()[0].to_string();
    assert!(line.contains("KEY=VALUE") && !line.contains("hunter2"), "{line}");
}

#[test]
fn a_site_version_is_a_time_or_seconds() {
    let seconds = with(&[("ACTIVITY_SITE_VERSION", "1700000000")]).unwrap().site_version;
    let text = with(&[("ACTIVITY_SITE_VERSION", "2023-11-14T22:13:20Z")]).unwrap().site_version;
    assert_eq!(seconds, text);
    assert_eq!(seconds.as_micros(), 1_700_000_000_000_000);
    assert!(with(&[("ACTIVITY_SITE_VERSION", "2500-01-01T00:00:00Z")]).is_err());
}

#[test]
fn any_header_may_tell_the_client_and_what_is_none_is_named() {
    const NAME: &str = "ACTIVITY_CLIENT_ADDRESS_HEADER";
    let config = with(&[(NAME, "CF-Connecting-IP"), ("ACTIVITY_TRUSTED_PROXIES", "unix")]).unwrap();
    let single = crate::config::ClientAddressHeader::Single("cf-connecting-ip".into());
    assert_eq!(config.http.client_address, single);
    assert!(config.http.trusted_proxies.contains_unix());
    let error = with(&[(NAME, "x real ip")]).unwrap_err().to_string();
    assert!(error.contains(NAME) && error.contains("x real ip"), "{error}");
    assert!(error.contains("cf-connecting-ip"), "{error}");
}

#[test]
fn the_middleware_alone_may_begin_activities() {
    let config = with(&[("ACTIVITY_ROOTS", "middleware")]).unwrap();
    assert_eq!(config.capture.roots, Roots::Middleware);
    let error = with(&[("ACTIVITY_ROOTS", "some")]).unwrap_err().to_string();
    assert!(error.contains("request, middleware or all"), "{error}");
}
