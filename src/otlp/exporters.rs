//! The exporters of OpenTelemetry's project, set up by our configuration.
//!
//! They read the environment, too, and let it win over what they are told: the headers of
//! `OTEL_EXPORTER_OTLP_HEADERS` over ours, which they decode a second time, and without a word on
//! those that cannot be sent. Our configuration has read the same variables, and complained of what
//! is wrong. So our HTTP client sends our headers and no others, and compresses by itself (the
//! exporter is built without); over gRPC the metadata are replaced likewise.

use std::io;

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, SpanExporter, WithExportConfig, WithHttpConfig,
};

use super::transport::{Background, Http};
use crate::config::{ConfigError, OtlpConfig, OtlpProtocol, problem_of_headers};
use crate::error::Error;

/// What exports spans.
pub(super) fn spans(otlp: &OtlpConfig, background: &Background) -> Result<SpanExporter, Error> {
    let headers = headers(otlp)?;
    match otlp.protocol {
        OtlpProtocol::HttpProtobuf => SpanExporter::builder()
            .with_http()
            .with_http_client(client(otlp, headers)?)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(otlp.address())
            .with_timeout(otlp.timeout)
            .build()
            .map_err(|error| wrong(&error)),
        OtlpProtocol::Grpc => grpc(otlp, background, headers),
    }
}

fn wrong(error: &ExporterBuildError) -> Error {
    ConfigError::without_value("OTEL_EXPORTER_OTLP_ENDPOINT", error.to_string()).into()
}

/// The headers of every export, who sends it among them.
fn headers(otlp: &OtlpConfig) -> Result<HeaderMap, Error> {
    let invalid = |problem: String| {
        Error::from(ConfigError::without_value("OTEL_EXPORTER_OTLP_HEADERS", problem))
    };
    let pairs = otlp.headers.iter().map(|(name, value)| (name.as_str(), value.expose()));
    if let Some(problem) = problem_of_headers(pairs.clone()) {
        return Err(invalid(problem));
    }
    let mut headers = HeaderMap::new();
    let agent = concat!("tracing-activity/", env!("CARGO_PKG_VERSION"));
    headers.insert(http::header::USER_AGENT, HeaderValue::from_static(agent));
    for (name, value) in pairs {
        let (Ok(name), Ok(mut value)) = (HeaderName::try_from(name), HeaderValue::try_from(value))
        else {
            return Err(invalid("expected names and values that headers can have".to_owned()));
        };
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

fn client(otlp: &OtlpConfig, headers: HeaderMap) -> Result<Http, Error> {
    if !cfg!(feature = "otlp-tls") && otlp.address().starts_with("https:") {
        return Err(without_feature(
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "no TLS for https://",
            "otlp-tls",
        ));
    }
    Http::new(headers, otlp.gzip).map_err(|error| no_roots(&error))
}

#[cfg(feature = "otlp-grpc")]
fn grpc(
    otlp: &OtlpConfig,
    background: &Background,
    headers: HeaderMap,
) -> Result<SpanExporter, Error> {
    use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
    use opentelemetry_otlp::{Compression, WithTonicConfig};
    use tonic::metadata::MetadataMap;

    // The channel is driven by the runtime that it is made on.
    let _inside = background.handle().enter();
    let metadata = MetadataMap::from_headers(headers);
    let mut builder = SpanExporter::builder()
        .with_tonic()
        .with_protocol(Protocol::Grpc)
        .with_endpoint(otlp.address())
        .with_timeout(otlp.timeout)
        .with_interceptor(move |mut request: tonic::Request<()>| {
            *request.metadata_mut() = metadata.clone();
            Ok(request)
        });
    if otlp.address().starts_with("https:") {
        builder = builder.with_tls_config(ClientTlsConfig::new().with_native_roots());
    }
    if otlp.gzip {
        builder = builder.with_compression(Compression::Gzip);
    }
    builder.build().map_err(|error| wrong(&error))
}

#[cfg(not(feature = "otlp-grpc"))]
fn grpc(_: &OtlpConfig, _: &Background, _: HeaderMap) -> Result<SpanExporter, Error> {
    Err(without_feature("OTEL_EXPORTER_OTLP_PROTOCOL", "no gRPC", "otlp-grpc"))
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
        format!("the system's certificates cannot be read: {error}"),
    )
    .into()
}
