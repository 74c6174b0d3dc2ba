//! The environment: every variable's name, type, default and meaning in one table, and the only
//! code that reads them.
//!
//! [`VARIABLES`] is the source of the README's table; a test holds the two together, and another
//! checks that every variable in it is really read.

#![allow(clippy::disallowed_methods, reason = "this module is the one reader of the environment")]

mod built;
mod otel;
mod reader;

use std::fmt;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

pub(crate) use self::built::executable_built;
use self::reader::Reader;
use super::bodies::parse_pointers;
use super::units::{listed, parse_duration};
use super::{
    BodyCapture, CaptureConfig, Config, Cookieless, Database, HttpConfig, Origin, PipelineConfig,
    RedactConfig, Roots, Secret, VisitKeys, Visits, bounds,
};
use crate::model::Timestamp;

/// One variable.
#[derive(Debug, Clone, Copy)]
pub struct EnvVar {
    /// Its name.
    pub name: &'static str,
    /// What it accepts.
    pub accepts: &'static str,
    /// What holds when it is absent.
    pub default: &'static str,
    /// What it does.
    pub doc: &'static str,
}

macro_rules! variables {
    ($($name:ident: $accepts:literal, $default:literal, $doc:literal;)*) => {
        /// Every variable that is read, in the order the README prints them.
        pub const VARIABLES: &[EnvVar] = &[
            $(EnvVar { name: stringify!($name), accepts: $accepts, default: $default, doc: $doc },)*
        ];
    };
}

variables! {
    ACTIVITY_DB: "`stdout`, `off`, `clickhouse://USER:PASSWORD@HOST:8123/DATABASE`, `http://..`, `https://..`, with a path before the database behind a proxy", "`stdout`", "Where activities go. `off` captures nothing.";
    ACTIVITY_USER: "text", "from `ACTIVITY_DB`, else `default`", "ClickHouse user.";
    ACTIVITY_PASSWORD: "text", "from `ACTIVITY_DB`, else empty", "ClickHouse password, sent in a header and never printed.";
    ACTIVITY_INSECURE: "`true`, `false`", "`false`", "Lets a password travel unencrypted to another host.";
    ACTIVITY_MIGRATE: "`true`, `false`", "`true`", "Whether `init` creates and upgrades the tables. With `false` it only checks them.";
    ACTIVITY_RETENTION: "whole days such as `90d`, or `forever`", "`forever`", "Age at which rows of `activities` are deleted. Set when the tables are created or upgraded.";
    ACTIVITY_ROLLUP_RETENTION: "whole days such as `730d`, or `forever`", "`forever`", "The same of what is added up from them: `activity_minutes` and `trace_shapes`.";
    ACTIVITY_SAMPLE: "`all`, `off`, or rules such as `errors,slow>500ms,rate=0.01,ekind:checkout=1`: [the language](docs/sampling.md)", "`errors,slow>500ms,rate=0.01`", "Which traces are kept. Every request is a row whatever is decided here, but for the successes that `drop:` leaves out.";
    ACTIVITY_ROOTS: "`request`, `middleware`, `all`", "`request`", "Which spans begin an activity: those that serve a request, those of the middleware, or all that have no parent. With each, those with fields `activity.*`.";
    ACTIVITY_FILTER: "directives such as `info,my_crate=debug`", "`info`", "Which child spans and events are recorded. A request's root is recognised whatever its level.";
    ACTIVITY_TRUSTED_PROXIES: "`private`, `unix`, addresses and networks such as `10.0.0.0/8`, comma-separated", "none", "Peers that are believed who the client is. `unix`: those on a Unix socket.";
    ACTIVITY_CLIENT_ADDRESS_HEADER: "`x-forwarded-for`, `forwarded`, or the name of a header with one address such as `cf-connecting-ip`", "`x-forwarded-for`", "The header by which trusted proxies tell the client's address. No other is read.";
    ACTIVITY_CLIENT_ADDRESS: "`truncated`, `full`, `none`", "`truncated`", "How much of the client's address is stored: its network (/24, /48), all of it, nothing.";
    ACTIVITY_TRACEPARENT: "`never`, `trusted`, `always`", "`trusted`", "Whose `traceparent` names the trace: nobody's, that of trusted proxies, everybody's.";
    ACTIVITY_QUERY_KEEP: "names such as `page,sort`", "none", "Query parameters whose values are kept in addresses; all others become `?`.";
    ACTIVITY_REDACT: "`off`, or some of `secrets`, `cards`, `emails`, comma-separated", "`secrets,cards`", "What is taken out of every text of a row: credentials, numbers of payment cards, mail addresses.";
    ACTIVITY_REDACT_PATTERN: "a regular expression", "none", "What else is taken out of every text of a row.";
    ACTIVITY_REDACT_JSON: "JSON pointers such as `/user/name,/items/*/price`", "none", "Places in captured JSON bodies whose values are hidden.";
    ACTIVITY_CAPTURE_RESPONSE: "content types such as `application/json,text/*`", "none", "Answers whose bodies are kept: column `response`.";
    ACTIVITY_CAPTURE_REQUEST: "content types such as `application/json,text/*`", "none", "Requests whose bodies are kept, by `RequestBodyLayer`: key `http.request.body` of `data`.";
    ACTIVITY_CAPTURE_BYTES: "size, at most `1MiB`", "`8KiB`", "Bytes kept of a body; the rest is cut.";
    ACTIVITY_CAPTURE_HEADERS: "names such as `x-request-id,accept-language`", "none", "Headers that are kept in `data`. Those that carry credentials cannot be.";
    ACTIVITY_VISITS: "`off`, `cookieless`, `cookie`", "`off`", "Whether visits are followed, by the middleware: [the modes](docs/visits.md).";
    ACTIVITY_VISIT_KEYS: "keys of at least 32 characters, comma-separated", "none", "Sign the cookies of `ACTIVITY_VISITS=cookie`. The first signs, all are accepted.";
    ACTIVITY_VISIT_SALTS: "absolute path of a folder", "none", "Where replicas share the daily salts of `ACTIVITY_VISITS=cookieless`. Without it each process has its own.";
    ACTIVITY_VISIT_SITE: "text", "the service's name", "What is visited: services with the same word and salts see the same visitors.";
    OTEL_SERVICE_NAME: "text", "`service.name` of `OTEL_RESOURCE_ATTRIBUTES`, else the executable's name", "Name of this service: column `service`.";
    OTEL_RESOURCE_ATTRIBUTES: "pairs such as `deployment.environment.name=prod,a=b`", "none", "Attributes of the service in exported spans. `service.name` counts where `OTEL_SERVICE_NAME` is absent.";
    OTEL_EXPORTER_OTLP_ENDPOINT: "address such as `http://localhost:4318`", "none", "With the feature `otlp`: exports the kept requests as spans, to `/v1/traces` below this.";
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "address such as `http://localhost:4318/v1/traces`", "none", "The same, the whole address.";
    OTEL_TRACES_EXPORTER: "`otlp`, `none`", "`otlp` where an endpoint is set", "`otlp` exports to the default address of the protocol, `none` exports nothing.";
    OTEL_SDK_DISABLED: "`true`, `false`", "`false`", "Exports nothing, whatever else is set. Rows are not concerned.";
    OTEL_EXPORTER_OTLP_PROTOCOL: "`http/protobuf`, `grpc`", "`http/protobuf`", "How spans and metrics are sent. `grpc` needs the feature `otlp-grpc`.";
    OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: "`http/protobuf`, `grpc`", "that of `OTEL_EXPORTER_OTLP_PROTOCOL`", "How spans are sent.";
    OTEL_EXPORTER_OTLP_HEADERS: "pairs such as `authorization=Bearer%20KEY`", "none", "Headers sent with spans and metrics, never printed.";
    OTEL_EXPORTER_OTLP_TRACES_HEADERS: "pairs such as `authorization=Bearer%20KEY`", "those of `OTEL_EXPORTER_OTLP_HEADERS`", "Headers sent with spans, never printed.";
    OTEL_EXPORTER_OTLP_TIMEOUT: "milliseconds, 1 to 600000", "`10000`", "Longest time of one export.";
    OTEL_EXPORTER_OTLP_TRACES_TIMEOUT: "milliseconds, 1 to 600000", "that of `OTEL_EXPORTER_OTLP_TIMEOUT`", "Longest time of one export of spans.";
    OTEL_EXPORTER_OTLP_COMPRESSION: "`gzip`, `none`", "`none`", "Whether exports are compressed.";
    OTEL_EXPORTER_OTLP_TRACES_COMPRESSION: "`gzip`, `none`", "that of `OTEL_EXPORTER_OTLP_COMPRESSION`", "Whether exports of spans are compressed.";
    OTEL_METRICS_EXPORTER: "`otlp`, `none`", "`none`", "With the feature `otlp`: `otlp` exports the layer's own counters, and what the program measures by OpenTelemetry's interface, to `/v1/metrics` below the endpoint.";
    OTEL_METRIC_EXPORT_INTERVAL: "milliseconds, 1 to 600000", "`60000`", "Time between two exports of metrics.";
    OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: "address such as `http://localhost:4318/v1/metrics`", "below `OTEL_EXPORTER_OTLP_ENDPOINT`", "Where metrics go, the whole address.";
    OTEL_EXPORTER_OTLP_METRICS_PROTOCOL: "`http/protobuf`, `grpc`", "that of `OTEL_EXPORTER_OTLP_PROTOCOL`", "How metrics are sent.";
    OTEL_EXPORTER_OTLP_METRICS_HEADERS: "pairs such as `authorization=Bearer%20KEY`", "those of `OTEL_EXPORTER_OTLP_HEADERS`", "Headers sent with metrics, never printed.";
    OTEL_EXPORTER_OTLP_METRICS_TIMEOUT: "milliseconds, 1 to 600000", "that of `OTEL_EXPORTER_OTLP_TIMEOUT`", "Longest time of one export of metrics.";
    OTEL_EXPORTER_OTLP_METRICS_COMPRESSION: "`gzip`, `none`", "that of `OTEL_EXPORTER_OTLP_COMPRESSION`", "Whether exports of metrics are compressed.";
    OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE: "`cumulative`, `delta`, `lowmemory`", "`cumulative`", "Whether counters tell their sum since the process began or since the last export.";
    OTEL_TRACES_SAMPLER: "`always_on`, `always_off`, `traceidratio`, each also after `parentbased_`", "the `rate` of `ACTIVITY_SAMPLE`, after `parentbased_`", "Whether the services that a request calls are asked to keep its trace. After `parentbased_` a believed caller's word counts: what it keeps is kept here.";
    OTEL_TRACES_SAMPLER_ARG: "number, 0 to 1", "`1`", "The chance of `traceidratio`.";
    OTEL_PROPAGATORS: "some of `tracecontext`, `baggage`, comma-separated, or `none`", "`tracecontext,baggage`", "What carries the trace to the services that a request calls.";
    OTEL_BSP_MAX_QUEUE_SIZE: "number, 1 to 16777216", "`2048`", "Spans waiting for export at most. Beyond it the newest are dropped and counted.";
    OTEL_BSP_MAX_EXPORT_BATCH_SIZE: "number, 1 to 100000", "`512`", "Spans in one export at most.";
    OTEL_BSP_SCHEDULE_DELAY: "milliseconds, 1 to 600000", "`5000`", "Longest wait of a span for its batch to fill.";
    ACTIVITY_OTLP_BUFFER_BYTES: "size, at least `1KiB`", "`64MiB`", "Memory of spans whose request has not ended, at most. Beyond it the newest are dropped and counted.";
    ACTIVITY_HOST: "text", "the system's host name", "Column `host`.";
    ACTIVITY_SITE_VERSION: "RFC 3339 time, or seconds since 1970", "the same variable at build time, else when the executable was built: its file time, or what tells it from other builds where that is none", "When this deploy was built: column `site_version`.";
    ACTIVITY_SITE_REVISION: "text", "empty", "Revision of this deploy, such as a commit: column `site_revision`.";
    ACTIVITY_QUEUE_ROWS: "number, 1 to 16777216", "`65536`", "Activities waiting at most. Beyond it the newest are dropped and counted.";
    ACTIVITY_QUEUE_BYTES: "size, `1B` to `32GiB`", "`64MiB`", "Memory of waiting activities at most. Beyond it the newest are dropped and counted.";
    ACTIVITY_BATCH_ROWS: "number, 1 to 100000", "`20000`", "Rows in one insert at most.";
    ACTIVITY_BATCH_BYTES: "size, `1B` to `32MiB`", "`16MiB`", "Memory of the activities in one insert at most.";
    ACTIVITY_BATCH_INTERVAL: "duration, at most `365d`", "`1s`", "Longest wait of an activity for its batch to fill.";
    ACTIVITY_TIMEOUT: "duration, `1ms` to `365d`", "`30s`", "Longest time one insert may take.";
    ACTIVITY_SHUTDOWN_TIMEOUT: "duration, at most `365d`", "`5s`", "Longest time the guard waits for delivery when the process ends.";
    ACTIVITY_MAX_SPANS: "number, 1 to 65535", "`1000`", "Spans recorded per activity.";
    ACTIVITY_MAX_EVENTS: "number, 0 to 1000000", "`1000`", "Events recorded per activity.";
    ACTIVITY_MAX_FIELDS: "number, 0 to 1000000", "`4096`", "Fields recorded per activity.";
    ACTIVITY_MAX_FIELD_BYTES: "size, at most `1GiB`", "`8KiB`", "Size of one field; the rest is cut.";
    ACTIVITY_MAX_ROW_BYTES: "size, at most `1GiB`", "`256KiB`", "Size of all fields of one activity.";
    ACTIVITY_MAX_DEPTH: "number, 1 to 250", "`64`", "Nesting recorded.";
    ACTIVITY_MAX_IN_FLIGHT: "number, at least 1", "`10000`", "Requests captured at one time.";
    ACTIVITY_MAX_LIFETIME: "duration, `1ms` to `365d`", "`10m`", "Age at which an unfinished request has a row that says so. If it ends after all, that is a second row.";
}

/// A variable's value cannot be used.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    name: &'static str,
    value: Option<String>,
    problem: String,
}

impl ConfigError {
    /// The variable; of a configuration made in code the field, such as `capture.max_spans`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name
    }

    /// An error of a field that was set in code.
    pub(super) fn of_field(field: &'static str, value: String, problem: impl Into<String>) -> Self {
        Self { name: field, value: Some(value), problem: problem.into() }
    }

    pub(crate) fn without_value(name: &'static str, problem: impl Into<String>) -> Self {
        Self { name, value: None, problem: problem.into() }
    }
}

/// A variable of OpenTelemetry whose value, or a part of it, does not count.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigWarning {
    error: ConfigError,
    instead: String,
}

impl ConfigWarning {
    /// The variable.
    #[must_use]
    pub fn name(&self) -> &str {
        self.error.name()
    }
}

impl fmt::Display for ConfigWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.error, self.instead)
    }
}

impl fmt::Debug for ConfigWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{}={value:?}: {}", self.name, self.problem),
            None => write!(f, "{}: {}", self.name, self.problem),
        }
    }
}

impl fmt::Debug for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Config {
    /// Reads the environment, as [`from_lookup`](Self::from_lookup) does.
    ///
    /// # Errors
    /// A [`ConfigError`] that names the first `ACTIVITY_*` variable whose value cannot be used.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_lookup(|name| match std::env::var(name) {
            Ok(value) => Ok(Some(value)),
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(std::env::VarError::NotUnicode(_)) => Err("is not UTF-8".to_owned()),
        })
    }

    /// Reads variables through `lookup`, which gives a variable's value, `None` where it is
    /// absent, or what is wrong with it. An empty value counts as absent, and so does one of
    /// OpenTelemetry's variables that is not known here: see [`warnings`](Self::warnings).
    ///
    /// # Errors
    /// A [`ConfigError`] that names the first `ACTIVITY_*` variable whose value cannot be used.
    ///
    /// ```
    /// use tracing_activity::Config;
    /// let error = Config::from_lookup(|name| Ok((name == "ACTIVITY_TIMEOUT").then(|| "5".into())))
    ///     .unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     "ACTIVITY_TIMEOUT=\"5\": expected a length of time with its unit, such as 500ms, 30s or 10m"
    /// );
    /// ```
    pub fn from_lookup(
        lookup: impl Fn(&str) -> Result<Option<String>, String>,
    ) -> Result<Self, ConfigError> {
        let read = Reader::new(lookup);
        let default = Self::default();
        let sampled = read.parsed("ACTIVITY_SAMPLE", FromStr::from_str)?;
        let otlp = read.otlp(default.otlp)?;
        let named = otlp.resource.iter().rev().find(|(key, _)| key == "service.name");
        let service = read.known(read.text("OTEL_SERVICE_NAME"));
        let service = service.or_else(|| Some(named?.1.clone()));
        let config = Self {
            database: read.database()?,
            service: service.unwrap_or(default.service),
            host: read.text("ACTIVITY_HOST")?.unwrap_or(default.host),
            site_version: read
                .parsed("ACTIVITY_SITE_VERSION", parse_site_version)?
                .unwrap_or(default.site_version),
            site_revision: read.text("ACTIVITY_SITE_REVISION")?.unwrap_or_default(),
            sample: sampled.unwrap_or(default.sample),
            capture: read.capture(default.capture)?,
            http: read.http(default.http)?,
            redact: read.redact(default.redact)?,
            pipeline: read.pipeline(&default.pipeline)?,
            otlp,
            warnings: Vec::new(),
            origin: Origin::Environment,
        };
        Ok(Self { warnings: read.into_warnings(), ..config })
    }
}

/// Names of variables that begin with `ACTIVITY_` and that nothing reads: most likely typos.
#[must_use]
pub fn unknown_variables() -> Vec<String> {
    std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| name.starts_with("ACTIVITY_") && !name.starts_with("ACTIVITY_TEST_"))
        .filter(|name| {
            name != "ACTIVITY_ENGINE_DIR" && VARIABLES.iter().all(|var| var.name != name)
        })
        .collect()
}

/// The table of variables in Markdown.
#[must_use]
pub fn markdown_table() -> String {
    let mut out = String::from("| variable | accepts | default | meaning |\n|---|---|---|---|\n");
    for var in VARIABLES {
        let accepts = var.accepts.replace('|', "\\|");
        let _ = writeln!(out, "| `{}` | {accepts} | {} | {} |", var.name, var.default, var.doc);
    }
    out
}

impl<F: Fn(&str) -> Result<Option<String>, String>> Reader<F> {
    fn database(&self) -> Result<Database, ConfigError> {
        const NAME: &str = "ACTIVITY_DB";
        let mut database = match self.text(NAME)? {
            // The address may hold a password, so the error does not repeat it.
            Some(text) => text
                .parse::<Database>()
                .map_err(|problem| ConfigError::without_value(NAME, problem))?,
            None => Database::default(),
        };
        let user = self.text("ACTIVITY_USER")?;
        let password = self.text("ACTIVITY_PASSWORD")?;
        let insecure = self.switch("ACTIVITY_INSECURE")?.unwrap_or(false);
        let migrate = self.switch("ACTIVITY_MIGRATE")?.unwrap_or(true);
        let retention = self.parsed("ACTIVITY_RETENTION", parse_retention)?.flatten();
        let rollups = self.parsed("ACTIVITY_ROLLUP_RETENTION", parse_retention)?.flatten();
        if let Database::ClickHouse(clickhouse) = &mut database {
            clickhouse.user = user.unwrap_or(std::mem::take(&mut clickhouse.user));
            if let Some(password) = password {
                clickhouse.password = Secret::new(password);
            }
            clickhouse.insecure = insecure;
            clickhouse.migrate = migrate;
            clickhouse.retention = retention;
            clickhouse.rollup_retention = rollups;
            if !clickhouse.password.expose().is_empty() && !clickhouse.is_private() && !insecure {
                return Err(ConfigError::without_value(
                    NAME,
                    "the password would travel unencrypted to another host; use https://, or set ACTIVITY_INSECURE=true",
                ));
            }
        }
        Ok(database)
    }

    fn capture(&self, default: CaptureConfig) -> Result<CaptureConfig, ConfigError> {
        let roots = self.parsed("ACTIVITY_ROOTS", |text| match text {
            "request" => Ok(Roots::Request),
            "middleware" => Ok(Roots::Middleware),
            "all" => Ok(Roots::All),
            _ => Err("request, middleware or all"),
        })?;
        Ok(CaptureConfig {
            roots: roots.unwrap_or(default.roots),
            filter: self.parsed("ACTIVITY_FILTER", FromStr::from_str)?.unwrap_or(default.filter),
            max_spans: self.number(&bounds::MAX_SPANS)?.unwrap_or(default.max_spans),
            max_events: self.number(&bounds::MAX_EVENTS)?.unwrap_or(default.max_events),
            max_fields: self.number(&bounds::MAX_FIELDS)?.unwrap_or(default.max_fields),
            max_field_bytes: self
                .size(&bounds::MAX_FIELD_BYTES)?
                .unwrap_or(default.max_field_bytes),
            max_row_bytes: self.size(&bounds::MAX_ROW_BYTES)?.unwrap_or(default.max_row_bytes),
            max_depth: self.number(&bounds::DEPTH)?.unwrap_or(default.max_depth),
            max_in_flight: self.number(&bounds::MAX_IN_FLIGHT)?.unwrap_or(default.max_in_flight),
            max_lifetime: self.duration(&bounds::MAX_LIFETIME)?.unwrap_or(default.max_lifetime),
        })
    }

    fn http(&self, default: HttpConfig) -> Result<HttpConfig, ConfigError> {
        Ok(HttpConfig {
            trusted_proxies: self
                .parsed("ACTIVITY_TRUSTED_PROXIES", FromStr::from_str)?
                .unwrap_or(default.trusted_proxies),
            client_address: self
                .parsed("ACTIVITY_CLIENT_ADDRESS_HEADER", FromStr::from_str)?
                .unwrap_or(default.client_address),
            address: self
                .parsed("ACTIVITY_CLIENT_ADDRESS", FromStr::from_str)?
                .unwrap_or(default.address),
            traceparent: self
                .parsed("ACTIVITY_TRACEPARENT", FromStr::from_str)?
                .unwrap_or(default.traceparent),
            capture: self.bodies(default.capture)?,
            visits: self.visits()?,
        })
    }

    fn visits(&self) -> Result<Visits, ConfigError> {
        const KEYS: &str = "ACTIVITY_VISIT_KEYS";
        let mode = self.parsed("ACTIVITY_VISITS", |text| match text.trim() {
            mode @ ("off" | "cookieless" | "cookie") => Ok(mode.to_owned()),
            _ => Err("off, cookieless or cookie"),
        })?;
        // The error does not repeat a key.
        let keys = self.text(KEYS)?.map(|text| text.parse::<VisitKeys>()).transpose();
        let keys = keys.map_err(|problem| ConfigError::without_value(KEYS, problem))?;
        let salts = self.parsed("ACTIVITY_VISIT_SALTS", |text| {
            let folder = PathBuf::from(text);
            folder.is_absolute().then_some(folder).ok_or("the absolute path of a folder")
        })?;
        let site = self.text("ACTIVITY_VISIT_SITE")?;
        match mode.as_deref() {
            Some("cookieless") => Ok(Visits::Cookieless(Cookieless { salts, site })),
            Some("cookie") => keys.map(Visits::Cookie).ok_or_else(|| {
                ConfigError::without_value(
                    KEYS,
                    "ACTIVITY_VISITS=cookie needs keys to sign with; expected one of at least 32 characters, the same on every replica, such as `openssl rand -hex 32` prints",
                )
            }),
            _ => Ok(Visits::Off),
        }
    }

    fn bodies(&self, default: BodyCapture) -> Result<BodyCapture, ConfigError> {
        Ok(BodyCapture {
            response: self
                .parsed("ACTIVITY_CAPTURE_RESPONSE", FromStr::from_str)?
                .unwrap_or(default.response),
            request: self
                .parsed("ACTIVITY_CAPTURE_REQUEST", FromStr::from_str)?
                .unwrap_or(default.request),
            max_bytes: self.size(&bounds::CAPTURE_BYTES)?.unwrap_or(default.max_bytes),
            headers: self
                .parsed("ACTIVITY_CAPTURE_HEADERS", FromStr::from_str)?
                .unwrap_or(default.headers),
            hide: self.parsed("ACTIVITY_REDACT_JSON", parse_pointers)?.unwrap_or(default.hide),
        })
    }

    fn redact(&self, default: RedactConfig) -> Result<RedactConfig, ConfigError> {
        let keep_query = self.parsed("ACTIVITY_QUERY_KEEP", parse_names)?;
        let kinds = self.parsed("ACTIVITY_REDACT", |text| default.clone().with_kinds(text))?;
        let pattern = self.parsed("ACTIVITY_REDACT_PATTERN", FromStr::from_str)?;
        let kinds = kinds.unwrap_or(default);
        Ok(RedactConfig {
            keep_query: keep_query.unwrap_or(kinds.keep_query),
            pattern: pattern.or(kinds.pattern),
            ..kinds
        })
    }

    fn pipeline(&self, default: &PipelineConfig) -> Result<PipelineConfig, ConfigError> {
        Ok(PipelineConfig {
            queue_rows: self.number(&bounds::QUEUE_ROWS)?.unwrap_or(default.queue_rows),
            queue_bytes: self.size(&bounds::QUEUE_BYTES)?.unwrap_or(default.queue_bytes),
            batch_rows: self.number(&bounds::BATCH_ROWS)?.unwrap_or(default.batch_rows),
            batch_bytes: self.size(&bounds::BATCH_BYTES)?.unwrap_or(default.batch_bytes),
            batch_interval: self
                .duration(&bounds::BATCH_INTERVAL)?
                .unwrap_or(default.batch_interval),
            timeout: self.duration(&bounds::TIMEOUT)?.unwrap_or(default.timeout),
            shutdown_timeout: self
                .duration(&bounds::SHUTDOWN_TIMEOUT)?
                .unwrap_or(default.shutdown_timeout),
        })
    }
}

fn parse_retention(text: &str) -> Result<Option<Duration>, &'static str> {
    const ACCEPTED: &str = "whole days such as 90d, or forever";
    if text == "forever" {
        return Ok(None);
    }
    let age = parse_duration(text).map_err(|_| ACCEPTED)?;
    bounds::is_retention(age).then_some(Some(age)).ok_or(ACCEPTED)
}

/// A deploy's time: RFC 3339 or seconds since 1970, within the range of a 32-bit `DateTime`.
fn parse_site_version(text: &str) -> Result<Timestamp, &'static str> {
    let time = match text.parse::<u32>() {
        Ok(seconds) => SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from(seconds)),
        Err(_) => humantime::parse_rfc3339_weak(text).map_err(|_| SITE_VERSION)?,
    };
    let stamp = Timestamp::from(time);
    let range = 0..=i64::from(u32::MAX) * 1_000_000;
    range.contains(&stamp.as_micros()).then_some(stamp).ok_or(SITE_VERSION)
}

/// Names of query parameters, comma-separated.
fn parse_names(text: &str) -> Result<Vec<String>, String> {
    let name = |name: &str| {
        let is_name = !name.is_empty() && !name.contains(['&', '=', '?', '#', ' ', '<', '>']);
        is_name.then(|| name.to_owned()).ok_or_else(|| {
            format!("{name:?}: expected names of query parameters such as page,sort")
        })
    };
    listed(text)?.map(|word| name(word.trim())).collect()
}

const SITE_VERSION: &str = "an RFC 3339 time such as 2026-11-21T18:30:00Z, or seconds since 1970";

pub(super) fn executable_name() -> String {
    let exe = std::env::current_exe().unwrap_or_default();
    exe.file_stem()
        .unwrap_or_else(|| Path::new("unknown").as_os_str())
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests;
