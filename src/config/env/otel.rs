//! The variables of OpenTelemetry's specification, as far as they concern the export of spans.

use std::str::FromStr;

use super::ConfigError;
use super::reader::{Reader, either};
use crate::config::otlp::{self, TracesExporter};
use crate::config::{HeadSampling, OtlpConfig, OtlpProtocol, Secret};

impl<F: Fn(&str) -> Result<Option<String>, String>> Reader<F> {
    pub(super) fn otlp(&self, default: OtlpConfig) -> Result<OtlpConfig, ConfigError> {
        let common = self.parsed("OTEL_EXPORTER_OTLP_ENDPOINT", otlp::parse_endpoint)?;
        let traces = self.parsed("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", otlp::parse_endpoint)?;
        let exporter = self.parsed("OTEL_TRACES_EXPORTER", TracesExporter::from_str)?;
        let disabled = self.switch("OTEL_SDK_DISABLED")?.unwrap_or(false);
        let protocol = either(
            ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"],
            |name| self.parsed(name, OtlpProtocol::from_str),
        )?;
        let protocol = protocol.unwrap_or(default.protocol);
        let wanted = match exporter {
            Some(exporter) => exporter == TracesExporter::Otlp,
            None => common.is_some() || traces.is_some(),
        };
        let common = match protocol {
            OtlpProtocol::HttpProtobuf => common.map(|it| otlp::traces_below(&it)),
            OtlpProtocol::Grpc => common,
        };
        let argument = self.parsed("OTEL_TRACES_SAMPLER_ARG", |text| {
            let rate = text.trim().parse::<f64>().ok().filter(|it| (0.0..=1.0).contains(it));
            rate.map(|_| text.trim().to_owned()).ok_or("a number from 0 to 1")
        })?;
        let head = self
            .parsed("OTEL_TRACES_SAMPLER", |text| HeadSampling::parse(text, argument.as_deref()))?;
        let headers =
            either(["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"], |name| {
                self.headers(name)
            })?;
        let timeout =
            either(["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"], |name| {
                self.milliseconds(name)
            })?;
        let gzip = either(
            ["OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"],
            |name| {
                self.parsed(name, |text| match text.trim() {
                    "gzip" => Ok(true),
                    "none" => Ok(false),
                    _ => Err("gzip or none"),
                })
            },
        )?;
        Ok(OtlpConfig {
            enabled: wanted && !disabled,
            endpoint: traces.or(common),
            protocol,
            headers: headers.unwrap_or(default.headers),
            timeout: timeout.unwrap_or(default.timeout),
            gzip: gzip.unwrap_or(default.gzip),
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
