//! What the numbers of a [`Config`] may be, once for both ways to set them: the environment's reader
//! asks here, and so does whoever starts a layer with a configuration made in code.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::units::ByteSize;
use super::{Config, ConfigError, Database, MAX_DEPTH};

/// The longest time that a setting may be.
const YEAR: Duration = Duration::from_hours(365 * 24);

/// A setting and what it may be.
pub(super) struct Bound<T> {
    /// Its variable.
    pub(super) variable: &'static str,
    /// Its place in a [`Config`].
    field: &'static str,
    range: RangeInclusive<T>,
    kind: Kind,
}

/// How a number is written.
#[derive(Clone, Copy)]
enum Kind {
    Number,
    Size,
}

macro_rules! bounds {
    ($($name:ident: $kind:ident $variable:literal, $field:literal, $range:expr;)*) => {
        $(pub(super) const $name: Bound<bounds!(@type $kind)> = Bound {
            variable: $variable,
            field: $field,
            range: $range,
            kind: bounds!(@kind $kind),
        };)*
    };
    (@type time) => { Duration };
    (@type millis) => { Duration };
    (@type $kind:ident) => { usize };
    (@kind size) => { Kind::Size };
    (@kind $kind:ident) => { Kind::Number };
}

const MILLISECOND: Duration = Duration::from_millis(1);
const TEN_MINUTES: Duration = Duration::from_mins(10);

bounds! {
    MAX_SPANS: number "ACTIVITY_MAX_SPANS", "capture.max_spans", 1..=65_535;
    MAX_EVENTS: number "ACTIVITY_MAX_EVENTS", "capture.max_events", 0..=1_000_000;
    MAX_FIELDS: number "ACTIVITY_MAX_FIELDS", "capture.max_fields", 0..=1_000_000;
    MAX_FIELD_BYTES: size "ACTIVITY_MAX_FIELD_BYTES", "capture.max_field_bytes", 0..=1 << 30;
    MAX_ROW_BYTES: size "ACTIVITY_MAX_ROW_BYTES", "capture.max_row_bytes", 0..=1 << 30;
    DEPTH: number "ACTIVITY_MAX_DEPTH", "capture.max_depth", 1..=MAX_DEPTH;
    MAX_IN_FLIGHT: number "ACTIVITY_MAX_IN_FLIGHT", "capture.max_in_flight", 1..=usize::MAX;
    MAX_LIFETIME: time "ACTIVITY_MAX_LIFETIME", "capture.max_lifetime", MILLISECOND..=YEAR;
    CAPTURE_BYTES: size "ACTIVITY_CAPTURE_BYTES", "http.capture.max_bytes", 0..=1 << 20;
    QUEUE_ROWS: number "ACTIVITY_QUEUE_ROWS", "pipeline.queue_rows", 1..=1 << 24;
    QUEUE_BYTES: size "ACTIVITY_QUEUE_BYTES", "pipeline.queue_bytes", 1..=usize::MAX;
    BATCH_ROWS: number "ACTIVITY_BATCH_ROWS", "pipeline.batch_rows", 1..=100_000;
    BATCH_BYTES: size "ACTIVITY_BATCH_BYTES", "pipeline.batch_bytes", 1..=32 << 20;
    BATCH_INTERVAL: time "ACTIVITY_BATCH_INTERVAL", "pipeline.batch_interval", Duration::ZERO..=YEAR;
    TIMEOUT: time "ACTIVITY_TIMEOUT", "pipeline.timeout", MILLISECOND..=YEAR;
    SHUTDOWN_TIMEOUT: time "ACTIVITY_SHUTDOWN_TIMEOUT", "pipeline.shutdown_timeout", Duration::ZERO..=YEAR;
    BSP_QUEUE: number "OTEL_BSP_MAX_QUEUE_SIZE", "otlp.queue_spans", 1..=1 << 24;
    BSP_BATCH: number "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "otlp.batch_spans", 1..=100_000;
    BSP_DELAY: millis "OTEL_BSP_SCHEDULE_DELAY", "otlp.batch_interval", MILLISECOND..=YEAR;
    OTLP_BUFFER: size "ACTIVITY_OTLP_BUFFER_BYTES", "otlp.buffer_bytes", 1 << 10..=usize::MAX;
    OTLP_TIMEOUT: millis "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "otlp.target.timeout", MILLISECOND..=TEN_MINUTES;
    METRICS_TIMEOUT: millis "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "otlp.metrics.target.timeout", MILLISECOND..=TEN_MINUTES;
    METRICS_INTERVAL: millis "OTEL_METRIC_EXPORT_INTERVAL", "otlp.metrics.interval", MILLISECOND..=YEAR;
}

/// What is said of a number or a length of time.
pub(super) trait Amount: PartialOrd + Copy {
    fn expected(bound: &Bound<Self>) -> String;
    fn shown(self, bound: &Bound<Self>) -> String;
}

impl Amount for usize {
    fn expected(bound: &Bound<Self>) -> String {
        let shown = |it: &usize| it.shown(bound);
        let what = match bound.kind {
            Kind::Number => "a number, ",
            Kind::Size => "",
        };
        let (least, most) = (bound.range.start(), bound.range.end());
        match (*most, bound.kind) {
            (usize::MAX, _) => format!("{what}at least {}", shown(least)),
            (_, Kind::Number) => format!("a number from {least} to {most}"),
            (_, Kind::Size) => format!("{} to {}", shown(least), shown(most)),
        }
    }

    fn shown(self, bound: &Bound<Self>) -> String {
        match bound.kind {
            Kind::Number => self.to_string(),
            Kind::Size => ByteSize(self).to_string(),
        }
    }
}

impl Amount for Duration {
    fn expected(bound: &Bound<Self>) -> String {
        let days = bound.range.end().as_secs() / 86_400;
        let most = match days {
            0 => humantime::format_duration(*bound.range.end()).to_string(),
            days => format!("{days}d"),
        };
        format!("from {} to {most}", humantime::format_duration(*bound.range.start()))
    }

    fn shown(self, _: &Bound<Self>) -> String {
        humantime::format_duration(self).to_string()
    }
}

impl<T: Amount> Bound<T> {
    /// The value, or what is accepted in its place.
    pub(super) fn accept(&self, value: T) -> Result<T, String> {
        self.range.contains(&value).then_some(value).ok_or_else(|| T::expected(self))
    }

    /// The value where there is one, or what is accepted in its place.
    pub(super) fn accept_some(&self, value: Option<T>) -> Result<T, String> {
        value.map_or_else(|| Err(T::expected(self)), |value| self.accept(value))
    }

    /// What is wrong with the value that a configuration made in code holds.
    fn check(&self, value: T) -> Result<(), ConfigError> {
        self.accept(value).map(drop).map_err(|expected| {
            let why = format!("expected {expected}, as of {}", self.variable);
            ConfigError::of_field(self.field, value.shown(self), why)
        })
    }
}

/// The age of a retention: whole days.
pub(super) fn is_retention(age: Duration) -> bool {
    const DAY: u64 = 86_400;
    let is_whole = age.subsec_nanos() == 0 && age.as_secs().is_multiple_of(DAY);
    is_whole && (1..=36_500).contains(&(age.as_secs() / DAY))
}

impl Config {
    /// Holds the numbers to the bounds that their variables have.
    ///
    /// # Errors
    /// A [`ConfigError`] that names the first field whose value cannot be used, and its variable.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let Self { capture, pipeline, otlp, .. } = self;
        MAX_SPANS.check(capture.max_spans)?;
        MAX_EVENTS.check(capture.max_events)?;
        MAX_FIELDS.check(capture.max_fields)?;
        MAX_FIELD_BYTES.check(capture.max_field_bytes)?;
        MAX_ROW_BYTES.check(capture.max_row_bytes)?;
        DEPTH.check(capture.max_depth)?;
        MAX_IN_FLIGHT.check(capture.max_in_flight)?;
        MAX_LIFETIME.check(capture.max_lifetime)?;
        CAPTURE_BYTES.check(self.http.capture.max_bytes)?;
        QUEUE_ROWS.check(pipeline.queue_rows)?;
        QUEUE_BYTES.check(pipeline.queue_bytes)?;
        BATCH_ROWS.check(pipeline.batch_rows)?;
        BATCH_BYTES.check(pipeline.batch_bytes)?;
        BATCH_INTERVAL.check(pipeline.batch_interval)?;
        TIMEOUT.check(pipeline.timeout)?;
        SHUTDOWN_TIMEOUT.check(pipeline.shutdown_timeout)?;
        BSP_QUEUE.check(otlp.queue_spans)?;
        BSP_BATCH.check(otlp.batch_spans)?;
        BSP_DELAY.check(otlp.batch_interval)?;
        OTLP_BUFFER.check(otlp.buffer_bytes)?;
        OTLP_TIMEOUT.check(otlp.target.timeout)?;
        METRICS_TIMEOUT.check(otlp.metrics.target.timeout)?;
        METRICS_INTERVAL.check(otlp.metrics.interval)?;
        self.check_database()
    }

    fn check_database(&self) -> Result<(), ConfigError> {
        let Database::ClickHouse(it) = &self.database else { return Ok(()) };
        for (field, age) in [
            ("database.retention", it.retention),
            ("database.rollup_retention", it.rollup_retention),
        ] {
            if let Some(age) = age.filter(|age| !is_retention(*age)) {
                let shown = humantime::format_duration(age).to_string();
                let why = "expected whole days, from 1 to 36500, or none";
                return Err(ConfigError::of_field(field, shown, why));
            }
        }
        Ok(())
    }
}

impl<T> fmt::Debug for Bound<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.variable)
    }
}
