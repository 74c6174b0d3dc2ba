//! The exporters of OpenTelemetry's project, set up by our configuration.
//!
//! They read the environment, too, and let it win over what they are told: the headers of
//! `OTEL_EXPORTER_OTLP_HEADERS` over ours, which they decode a second time, and without a word on
//! those that cannot be sent. Our configuration has read the same variables, and complained of what
//! is wrong. So our HTTP client sends our headers and no others, and compresses by itself (the
//! exporter is built without); over gRPC the metadata are replaced likewise.

use std::io;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
#[cfg(feature = "otlp-grpc")]
use opentelemetry_otlp::WithTonicConfig;
use opentelemetry_otlp::{
    ExporterBuildError, MetricExporter, Protocol, SpanExporter, WithExportConfig, WithHttpConfig,
};

use super::stats::Tally;
use super::transport::{Background, Http};
use crate::config::{
    ConfigError, OtlpConfig, OtlpMetricsConfig, OtlpProtocol, OtlpTarget, Temporality,
    problem_of_headers, without_credentials,
};
use crate::error::Error;

/// Exports of one kind, to be.
struct Wanted<'a> {
    target: &'a OtlpTarget,
    address: String,
    /// Told of spans that the endpoint rejects.
    tally: Option<Arc<Tally>>,
}

/// What exports spans. Those that the endpoint rejects over HTTP are told to `tally`; over gRPC the
/// exporter keeps the answer to itself.
pub(super) fn spans(
    otlp: &OtlpConfig,
    background: &Background,
    tally: Arc<Tally>,
) -> Result<SpanExporter, Error> {
    let wanted =
        Wanted { target: &otlp.target, address: otlp.target.address("traces"), tally: Some(tally) };
    let exporter = SpanExporter::builder();
    match otlp.target.protocol {
        OtlpProtocol::HttpProtobuf => wanted.over_http(exporter.with_http())?.build(),
        #[cfg(feature = "otlp-grpc")]
        OtlpProtocol::Grpc => {
            // The channel is driven by the runtime that it is made on.
            let _inside = background.handle().enter();
            wanted.over_grpc(exporter.with_tonic())?.build()
        }
        #[cfg(not(feature = "otlp-grpc"))]
        OtlpProtocol::Grpc => return Err(without_grpc(background)),
    }
    .map_err(|error| wrong(&error, &wanted.address))
}

/// What exports metrics.
pub(super) fn metrics(
    config: &OtlpMetricsConfig,
    background: &Background,
) -> Result<MetricExporter, Error> {
    use opentelemetry_sdk::metrics::Temporality as Sdk;

    let wanted =
        Wanted { target: &config.target, address: config.target.address("metrics"), tally: None };
    let exporter = MetricExporter::builder().with_temporality(match config.temporality {
        Temporality::Cumulative => Sdk::Cumulative,
        Temporality::Delta => Sdk::Delta,
        Temporality::LowMemory => Sdk::LowMemory,
    });
    match config.target.protocol {
        OtlpProtocol::HttpProtobuf => wanted.over_http(exporter.with_http())?.build(),
        #[cfg(feature = "otlp-grpc")]
        OtlpProtocol::Grpc => {
            let _inside = background.handle().enter();
            wanted.over_grpc(exporter.with_tonic())?.build()
        }
        #[cfg(not(feature = "otlp-grpc"))]
        OtlpProtocol::Grpc => return Err(without_grpc(background)),
    }
    .map_err(|error| wrong(&error, &wanted.address))
}

impl Wanted<'_> {
    fn over_http<B: WithExportConfig + WithHttpConfig>(&self, builder: B) -> Result<B, Error> {
        if !cfg!(feature = "otlp-tls") && self.address.starts_with("https:") {
            return Err(without_feature(
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                "no TLS for https://",
                "otlp-tls",
            ));
        }
        let client =
            Http::new(&self.address, self.headers()?, self.target.gzip, self.tally.clone())
                .map_err(|error| no_roots(&error))?;
        Ok(builder
            .with_http_client(client)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(&self.address)
            .with_timeout(self.target.timeout))
    }

    #[cfg(feature = "otlp-grpc")]
    fn over_grpc<B: WithExportConfig + WithTonicConfig>(&self, builder: B) -> Result<B, Error> {
        use opentelemetry_otlp::Compression;
        use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
        use tonic::metadata::MetadataMap;

        let metadata = MetadataMap::from_headers(self.headers()?);
        let mut builder = builder
            .with_protocol(Protocol::Grpc)
            .with_endpoint(&self.address)
            .with_timeout(self.target.timeout)
            .with_interceptor(move |mut request: tonic::Request<()>| {
                *request.metadata_mut() = metadata.clone();
                Ok(request)
            });
        if self.address.starts_with("https:") {
            builder = builder.with_tls_config(ClientTlsConfig::new().with_native_roots());
        }
        if self.target.gzip {
            builder = builder.with_compression(Compression::Gzip);
        }
        Ok(builder)
    }

    /// The headers of every export, who sends it among them.
    fn headers(&self) -> Result<HeaderMap, Error> {
        let invalid = |problem: String| {
            Error::from(ConfigError::without_value("OTEL_EXPORTER_OTLP_HEADERS", problem))
        };
        let pairs = self.target.headers.iter().map(|(name, value)| (name.as_str(), value.expose()));
        if let Some(problem) = problem_of_headers(pairs.clone()) {
            return Err(invalid(problem));
        }
        let mut headers = HeaderMap::new();
        let agent = concat!("tracing-activity/", env!("CARGO_PKG_VERSION"));
        headers.insert(http::header::USER_AGENT, HeaderValue::from_static(agent));
        for (name, value) in pairs {
            let (name, value) = (HeaderName::try_from(name), HeaderValue::try_from(value));
            let (Ok(name), Ok(mut value)) = (name, value) else {
                return Err(invalid("expected names and values that headers can have".to_owned()));
            };
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(headers)
    }
}

/// The exporter's own error repeats the address, with its credentials.
fn wrong(error: &ExporterBuildError, address: &str) -> Error {
    let problem = error.to_string().replace(address, &without_credentials(address));
    ConfigError::without_value("OTEL_EXPORTER_OTLP_ENDPOINT", problem).into()
}

#[cfg(not(feature = "otlp-grpc"))]
fn without_grpc(_: &Background) -> Error {
    without_feature("OTEL_EXPORTER_OTLP_PROTOCOL", "no gRPC", "otlp-grpc")
}

fn without_feature(name: &'static str, lacks: &str, feature: &str) -> Error {
    ConfigError::without_value(
        name,
        format!(
            "this build has {lacks}; add the feature: tracing-activity = {{ features = [\"{feature}\"] }}"
        ),
    )
    .into()
}

fn no_roots(error: &io::Error) -> Error {
    ConfigError::without_value(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        format!(
            "the system's certificates cannot be read, which https:// needs: {error}; install them (the package ca-certificates), or name their file in SSL_CERT_FILE"
        ),
    )
    .into()
}
