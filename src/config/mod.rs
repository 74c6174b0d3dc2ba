//! What can be configured, with defaults that suit a service in production.
//!
//! [`Config`] is plain data: build it in code, or read it from the environment with
//! [`Config::from_env`]. `env` is the only reader of the environment and holds the one table of
//! variables that the README prints.
//!
//! Invariants:
//! - A value of our own variables that cannot be used is a [`ConfigError`] that names the variable,
//!   the value and what is accepted. One of OpenTelemetry's, which an operator sets for programs in all
//!   languages, is a [`ConfigWarning`] and counts as absent, as its specification says. Nothing is
//!   ignored in silence and nothing panics.
//! - What the environment may not say may not be said in code: `bounds` holds for both.
//! - Secrets never appear in `Debug`, errors or logs.
//!
//! Absent on purpose: any decision. What a setting *does* stands in the room that uses it.

mod address;
mod bodies;
mod bounds;
mod database;
pub mod env;
mod filter;
mod http;
mod otlp;
mod redact;
mod sample;
mod units;
mod visits;

use std::time::Duration;

#[cfg(feature = "otlp")]
pub(crate) use address::without_credentials;
pub use bodies::{BodyCapture, HeaderNames, JsonPointer, MediaTypes};
pub use database::{ClickHouse, Database, Secret};
pub use env::{ConfigError, ConfigWarning, EnvVar};
pub use filter::SpanFilter;
pub(crate) use filter::is_exporter as filter_is_exporter;
pub use http::{ClientAddressHeader, HttpConfig, Networks, StoredAddress, TraceparentTrust};
#[cfg(feature = "otlp")]
pub(crate) use otlp::problem_of_headers;
pub use otlp::{
    HeadSampling, OtlpConfig, OtlpMetricsConfig, OtlpProtocol, OtlpTarget, Propagators, Temporality,
};
pub use redact::{RedactConfig, RedactPattern};
pub use sample::{Faults, Override, OverrideRule, SamplingPolicy, Selector, SelectorColumn};
pub use units::{ByteSize, parse_duration};
pub use visits::{Cookieless, VisitKeys, Visits};

use crate::model::Timestamp;

/// Everything that can be set. [`Default`] is what an empty environment gives. Numbers have the bounds
/// of their variables: setting up a layer with others is an error that names the field.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// Where activities go. Default: JSON lines on standard output. `ACTIVITY_DB`.
    pub database: Database,
    /// Name of this service. Default: `service.name` of `OTEL_RESOURCE_ATTRIBUTES`, else the
    /// executable's name. `OTEL_SERVICE_NAME`.
    pub service: String,
    /// Host name. Default: the system's. `ACTIVITY_HOST`.
    pub host: String,
    /// When this deploy was built. Default: the executable's modification time; where that is no time
    /// of a build, such as the 1970 of reproducible builds, what tells this executable from others.
    /// `ACTIVITY_SITE_VERSION`.
    pub site_version: Timestamp,
    /// Revision of this deploy, such as a commit. Default: empty. `ACTIVITY_SITE_REVISION`.
    pub site_revision: String,
    /// Which traces are kept. `ACTIVITY_SAMPLE`.
    pub sample: SamplingPolicy,
    /// What is captured.
    pub capture: CaptureConfig,
    /// What the middleware reads of requests.
    pub http: HttpConfig,
    /// What is taken out before a row leaves the request.
    pub redact: RedactConfig,
    /// How activities travel to the sink.
    pub pipeline: PipelineConfig,
    /// The same requests as OpenTelemetry's spans.
    pub otlp: OtlpConfig,
    /// What of the environment does not count.
    pub(crate) warnings: Vec<ConfigWarning>,
    /// Where this was begun.
    pub(crate) origin: Origin,
}

/// Where a configuration was begun. It is no setting: two configurations that differ in it alone are
/// equal.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum Origin {
    #[default]
    Code,
    /// What it says of exports is said to programs in all languages.
    Environment,
}

impl PartialEq for Origin {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Config {
    /// The variables of OpenTelemetry whose values are not known here, so that they do not count.
    ///
    /// Who sets up a layer with this configuration prints them, once, on standard error.
    #[must_use]
    pub fn warnings(&self) -> &[ConfigWarning] {
        &self.warnings
    }
}

/// Which spans begin an activity. With each, those that have fields `activity.*` do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Roots {
    /// Those that serve a request or a message, by their fields.
    #[default]
    Request,
    /// Those of the middleware: where it tells every request, whatever other libraries trace.
    Middleware,
    /// Those that serve, and all without a parent that the filter lets pass.
    All,
}

/// The greatest [`CaptureConfig::max_depth`].
pub(crate) const MAX_DEPTH: usize = 250;

/// What the layer captures and the caps that keep it bounded.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CaptureConfig {
    /// Which spans begin an activity. `ACTIVITY_ROOTS`.
    pub roots: Roots,
    /// Which child spans and events are recorded, by target and level. `ACTIVITY_FILTER`.
    pub filter: SpanFilter,
    /// Spans recorded per activity. `ACTIVITY_MAX_SPANS`.
    pub max_spans: usize,
    /// Events recorded per activity. `ACTIVITY_MAX_EVENTS`.
    pub max_events: usize,
    /// Fields recorded per activity. `ACTIVITY_MAX_FIELDS`.
    pub max_fields: usize,
    /// Bytes of one field; the rest is cut. `ACTIVITY_MAX_FIELD_BYTES`.
    pub max_field_bytes: usize,
    /// Bytes of all fields of one activity. `ACTIVITY_MAX_ROW_BYTES`.
    pub max_row_bytes: usize,
    /// Nesting recorded; deeper spans count into their ancestor. At most 250: a shape takes stack for
    /// every level. `ACTIVITY_MAX_DEPTH`.
    pub max_depth: usize,
    /// Requests captured at one time. `ACTIVITY_MAX_IN_FLIGHT`.
    pub max_in_flight: usize,
    /// Age at which an unfinished request has a row that says so; if it ends after all, that is a second
    /// row, a `late_end`. `ACTIVITY_MAX_LIFETIME`.
    pub max_lifetime: Duration,
}

impl Default for CaptureConfig {
    fn default() -> Self {
        Self {
            roots: Roots::Request,
            filter: SpanFilter::default(),
            max_spans: 1000,
            max_events: 1000,
            max_fields: 4096,
            max_field_bytes: 8 << 10,
            max_row_bytes: 256 << 10,
            max_depth: 64,
            max_in_flight: 10_000,
            max_lifetime: Duration::from_mins(10),
        }
    }
}

/// How activities travel from the request to the sink.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PipelineConfig {
    /// Activities waiting at most; the newest are dropped beyond. `ACTIVITY_QUEUE_ROWS`.
    pub queue_rows: usize,
    /// Bytes waiting at most; the newest are dropped beyond. `ACTIVITY_QUEUE_BYTES`.
    pub queue_bytes: usize,
    /// Rows in one insert at most. `ACTIVITY_BATCH_ROWS`.
    pub batch_rows: usize,
    /// Bytes in one insert at most. `ACTIVITY_BATCH_BYTES`.
    pub batch_bytes: usize,
    /// Longest wait of an activity for its batch to fill. `ACTIVITY_BATCH_INTERVAL`.
    pub batch_interval: Duration,
    /// Longest time one insert may take. `ACTIVITY_TIMEOUT`.
    pub timeout: Duration,
    /// Longest time the guard waits for delivery when the process ends.
    /// `ACTIVITY_SHUTDOWN_TIMEOUT`.
    pub shutdown_timeout: Duration,
}

impl Default for PipelineConfig {
    fn default() -> Self {
        Self {
            queue_rows: 65_536,
            queue_bytes: 64 << 20,
            batch_rows: 20_000,
            batch_bytes: 16 << 20,
            batch_interval: Duration::from_secs(1),
            timeout: Duration::from_secs(30),
            shutdown_timeout: Duration::from_secs(5),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            database: Database::default(),
            service: env::executable_name(),
            host: gethostname::gethostname().to_string_lossy().into_owned(),
            site_version: env::executable_built().at,
            site_revision: String::new(),
            sample: SamplingPolicy::default(),
            capture: CaptureConfig::default(),
            http: HttpConfig::default(),
            redact: RedactConfig::default(),
            pipeline: PipelineConfig::default(),
            otlp: OtlpConfig::default(),
            warnings: Vec::new(),
            origin: Origin::Code,
        }
    }
}
