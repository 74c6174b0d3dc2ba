//! The variables of OpenTelemetry's specification, as far as they concern the export of spans and of
//! the layer's own counters.
//!
//! An operator sets them for programs in all languages, so a value may be meant for others. The
//! specification ("OpenTelemetry Environment Variable Specification", sections "Numeric value" and
//! "Enum value") says of one that is not known: warn, and treat it as not set. Of a list what is known
//! counts. Names are told apart in any case.

use std::str::FromStr;

use super::reader::{Reader, either, shortened};
use super::{ConfigError, bounds};
use crate::config::address::without_credentials;
use crate::config::otlp::{self, Listed};
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
        let target = self.target(&TRACES, default.target);
        let exporter = self.listed("OTEL_TRACES_EXPORTER", otlp::traces_exporter);
        // The specification knows one value of a switch, `true`; whatever else is set means `false`.
        let disabled = self.known(self.parsed("OTEL_SDK_DISABLED", |text| {
            match text.trim().to_ascii_lowercase().as_str() {
                "true" => Ok(true),
                "false" => Ok(false),
                _ => Err("true or false"),
            }
        }));
        let disabled = disabled.unwrap_or(false);
        let wanted = exporter.unwrap_or(target.endpoint.is_some());
        let argument = self.known(self.parsed("OTEL_TRACES_SAMPLER_ARG", |text| {
            let rate = text.trim().parse::<f64>().ok().filter(|it| (0.0..=1.0).contains(it));
            rate.ok_or("a number from 0 to 1")
        }));
        let head = self
            .known(self.parsed("OTEL_TRACES_SAMPLER", |text| HeadSampling::parse(text, argument)));
        let propagators = self.listed("OTEL_PROPAGATORS", otlp::propagators);
        let resource = self.known(self.parsed("OTEL_RESOURCE_ATTRIBUTES", otlp::parse_pairs));
        let queue_spans = self.known(self.number(&bounds::BSP_QUEUE));
        let batch_spans = self.known(self.number(&bounds::BSP_BATCH));
        let batch_interval = self.known(self.milliseconds("OTEL_BSP_SCHEDULE_DELAY"));
        Ok(OtlpConfig {
            enabled: wanted && !disabled,
            target,
            resource: resource.unwrap_or(default.resource),
            head: head.unwrap_or(default.head),
            propagators: propagators.unwrap_or(default.propagators),
            queue_spans: queue_spans.unwrap_or(default.queue_spans),
            batch_spans: batch_spans.unwrap_or(default.batch_spans),
            batch_interval: batch_interval.unwrap_or(default.batch_interval),
            buffer_bytes: self.size(&bounds::OTLP_BUFFER)?.unwrap_or(default.buffer_bytes),
            metrics: self.otlp_metrics(default.metrics, disabled),
        })
    }

    fn otlp_metrics(&self, default: OtlpMetricsConfig, disabled: bool) -> OtlpMetricsConfig {
        let target = self.target(&METRICS, default.target);
        let wanted = self.listed("OTEL_METRICS_EXPORTER", otlp::metrics_exporter);
        let interval = self.known(self.milliseconds("OTEL_METRIC_EXPORT_INTERVAL"));
        let temporality = self.known(
            self.parsed("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", FromStr::from_str),
        );
        OtlpMetricsConfig {
            enabled: wanted.unwrap_or(default.enabled) && !disabled,
            target,
            interval: interval.unwrap_or(default.interval),
            temporality: temporality.unwrap_or(default.temporality),
        }
    }

    /// What is set of one signal: by its own variable, else by that of all.
    fn target(&self, signal: &Signal, default: OtlpTarget) -> OtlpTarget {
        let protocol = either([signal.protocol, "OTEL_EXPORTER_OTLP_PROTOCOL"], |name| {
            self.known(self.parsed(name, OtlpProtocol::from_str))
        });
        let protocol = protocol.unwrap_or(default.protocol);
        let common = self.endpoint("OTEL_EXPORTER_OTLP_ENDPOINT");
        let common = match protocol {
            OtlpProtocol::HttpProtobuf => common.map(|it| otlp::below(&it, signal.path)),
            OtlpProtocol::Grpc => common,
        };
        let own = self.endpoint(signal.endpoint);
        let headers =
            either([signal.headers, "OTEL_EXPORTER_OTLP_HEADERS"], |name| self.headers(name));
        let timeout = either([signal.timeout, "OTEL_EXPORTER_OTLP_TIMEOUT"], |name| {
            self.known(self.milliseconds(name))
        });
        let gzip = either([signal.compression, "OTEL_EXPORTER_OTLP_COMPRESSION"], |name| {
            self.known(self.parsed(name, |text| match text.trim().to_ascii_lowercase().as_str() {
                "gzip" => Ok(true),
                "none" => Ok(false),
                _ => Err("gzip or none"),
            }))
        });
        OtlpTarget {
            endpoint: own.or(common).or(default.endpoint),
            protocol,
            headers: headers.unwrap_or(default.headers),
            timeout: timeout.unwrap_or(default.timeout),
            gzip: gzip.unwrap_or(default.gzip),
        }
    }

    /// A list of which what is known counts. Where nothing is, it counts as not set.
    fn listed<T>(&self, name: &'static str, read: impl FnOnce(&str) -> Listed<T>) -> Option<T> {
        let text = self.known(self.text(name))?;
        let Listed { value, used, unknown, expected } = read(&text);
        if let Some(unknown) = unknown.first() {
            let problem =
                format!("{:?} is not known here, expected {expected}", shortened(unknown));
            let error = ConfigError { name, value: Some(shortened(&text)), problem };
            match value {
                Some(_) => self.warn(error, format!("what is known counts: {used}")),
                None => return self.known(Err(error)),
            }
        }
        value
    }

    /// An address, of which an error repeats what holds no credentials.
    fn endpoint(&self, name: &'static str) -> Option<String> {
        let text = self.known(self.text(name))?;
        match otlp::parse_endpoint(&text) {
            Ok(endpoint) => Some(endpoint),
            Err(accepted) => {
                let value = Some(shortened(&without_credentials(&text)));
                let problem = format!("expected {accepted}");
                self.known(Err(ConfigError { name, value, problem }))
            }
        }
    }

    /// Headers, of which neither names nor values are repeated in an error. Those that can be sent count.
    fn headers(&self, name: &'static str) -> Option<Vec<(String, Secret)>> {
        let text = self.known(self.text(name))?;
        let (pairs, problem) = otlp::headers(&text);
        if let Some(problem) = problem {
            let error = ConfigError::without_value(name, problem);
            if pairs.is_empty() {
                return self.known(Err(error));
            }
            self.warn(error, "the other pairs count".to_owned());
        }
        Some(pairs)
    }
}
