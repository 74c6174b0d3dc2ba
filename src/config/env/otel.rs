//! The variables of OpenTelemetry's specification, as far as they concern the export of spans and of
//! the layer's own counters.

use std::str::FromStr;

use super::ConfigError;
use super::reader::{Reader, either};
use crate::config::otlp;
use crate::config::{
    HeadSampling, OtlpConfig, OtlpMetricsConfig, OtlpProtocol, OtlpTarget, Secret,
};

/// The names of the variables of one signal.
struct Signal {
    path: &'static str,
    endpoint: &'static str,
    protocol: &'static str,
    headers: &'static str,
    timeout: &'static str,
    compression: &'static str,
}

const TRACES: Signal = Signal {
    path: "traces",
    endpoint: "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    protocol: "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    headers: "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
    timeout: "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
    compression: "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION",
};

const METRICS: Signal = Signal {
    path: "metrics",
    endpoint: "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
    protocol: "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL",
    headers: "OTEL_EXPORTER_OTLP_METRICS_HEADERS",
    timeout: "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT",
    compression: "OTEL_EXPORTER_OTLP_METRICS_COMPRESSION",
};

impl<F: Fn(&str) -> Result<Option<String>, String>> Reader<F> {
    pub(super) fn otlp(&self, default: OtlpConfig) -> Result<OtlpConfig, ConfigError> {
        let target = self.target(&TRACES, default.target)?;
        let exporter = self.parsed("OTEL_TRACES_EXPORTER", otlp::parse_traces_exporter)?;
        let disabled = self.switch("OTEL_SDK_DISABLED")?.unwrap_or(false);
        let wanted = exporter.unwrap_or(target.endpoint.is_some());
        let argument = self.parsed("OTEL_TRACES_SAMPLER_ARG", |text| {
            let rate = text.trim().parse::<f64>().ok().filter(|it| (0.0..=1.0).contains(it));
            rate.map(|_| text.trim().to_owned()).ok_or("a number from 0 to 1")
        })?;
        let head = self
            .parsed("OTEL_TRACES_SAMPLER", |text| HeadSampling::parse(text, argument.as_deref()))?;
        Ok(OtlpConfig {
            enabled: wanted && !disabled,
            target,
            resource: self
                .parsed("OTEL_RESOURCE_ATTRIBUTES", otlp::parse_pairs)?
                .unwrap_or(default.resource),
            head: head.unwrap_or(default.head),
            propagators: self
                .parsed("OTEL_PROPAGATORS", FromStr::from_str)?
                .unwrap_or(default.propagators),
            queue_spans: self
                .number("OTEL_BSP_MAX_QUEUE_SIZE", 1..=1 << 24)?
                .unwrap_or(default.queue_spans),
            batch_spans: self
                .number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 1..=100_000)?
                .unwrap_or(default.batch_spans),
            batch_interval: self
                .milliseconds("OTEL_BSP_SCHEDULE_DELAY")?
                .unwrap_or(default.batch_interval),
            buffer_bytes: self
                .size("ACTIVITY_OTLP_BUFFER_BYTES", 1 << 10..=usize::MAX)?
                .unwrap_or(default.buffer_bytes),
            metrics: self.otlp_metrics(default.metrics, disabled)?,
        })
    }

    fn otlp_metrics(
        &self,
        default: OtlpMetricsConfig,
        disabled: bool,
    ) -> Result<OtlpMetricsConfig, ConfigError> {
        let target = self.target(&METRICS, default.target)?;
        let wanted = self.parsed("OTEL_METRICS_EXPORTER", otlp::parse_metrics_exporter)?;
        Ok(OtlpMetricsConfig {
            enabled: wanted.unwrap_or(default.enabled) && !disabled,
            target,
            interval: self.milliseconds("OTEL_METRIC_EXPORT_INTERVAL")?.unwrap_or(default.interval),
            temporality: self
                .parsed("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", FromStr::from_str)?
                .unwrap_or(default.temporality),
        })
    }

    /// What is set of one signal: by its own variable, else by that of all.
    fn target(&self, signal: &Signal, default: OtlpTarget) -> Result<OtlpTarget, ConfigError> {
        let protocol = either([signal.protocol, "OTEL_EXPORTER_OTLP_PROTOCOL"], |name| {
            self.parsed(name, OtlpProtocol::from_str)
        })?;
        let protocol = protocol.unwrap_or(default.protocol);
        let common = self.parsed("OTEL_EXPORTER_OTLP_ENDPOINT", otlp::parse_endpoint)?;
        let common = match protocol {
            OtlpProtocol::HttpProtobuf => common.map(|it| otlp::below(&it, signal.path)),
            OtlpProtocol::Grpc => common,
        };
        let own = self.parsed(signal.endpoint, otlp::parse_endpoint)?;
        let headers =
            either([signal.headers, "OTEL_EXPORTER_OTLP_HEADERS"], |name| self.headers(name))?;
        let timeout =
            either([signal.timeout, "OTEL_EXPORTER_OTLP_TIMEOUT"], |name| self.milliseconds(name))?;
        let gzip = either([signal.compression, "OTEL_EXPORTER_OTLP_COMPRESSION"], |name| {
            self.parsed(name, |text| match text.trim() {
                "gzip" => Ok(true),
                "none" => Ok(false),
                _ => Err("gzip or none"),
            })
        })?;
        Ok(OtlpTarget {
            endpoint: own.or(common).or(default.endpoint),
            protocol,
            headers: headers.unwrap_or(default.headers),
            timeout: timeout.unwrap_or(default.timeout),
            gzip: gzip.unwrap_or(default.gzip),
        })
    }

    /// Headers, whose values are not repeated in an error.
    fn headers(&self, name: &'static str) -> Result<Option<Vec<(String, Secret)>>, ConfigError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let pairs = otlp::parse_pairs(&text)
            .map_err(|problem| ConfigError::without_value(name, problem))?;
        let all = pairs.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        if let Some(problem) = otlp::problem_of_headers(all) {
            return Err(ConfigError::without_value(name, problem));
        }
        Ok(Some(pairs.into_iter().map(|(key, value)| (key, Secret::new(value))).collect()))
    }
}
