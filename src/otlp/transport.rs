//! The runtime that exports run on, and the HTTP client.
//!
//! The SDK's batch processor has a thread of its own and no runtime; what it exports by needs one. On
//! the application's runtime an export would depend on it: on one with a single thread that waits for
//! the shutdown, nothing would ever be sent.

use std::fmt;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use flate2::write::GzEncoder;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use prost::Message as _;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::stats::Tally;
use crate::pipeline::silence;

/// Bytes of an answer that are read: it is short or wrong.
const MAX_ANSWER: usize = 1 << 20;

/// A runtime on a silent thread of its own. Dropping it ends what runs there.
#[derive(Debug)]
pub(super) struct Background {
    handle: Handle,
    /// Held until the end.
    _stop: oneshot::Sender<()>,
}

impl Background {
    pub(super) fn start() -> io::Result<Self> {
        let runtime = silence::runtime()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        thread::Builder::new().name("activity-otlp".to_owned()).spawn(move || {
            silence::begin();
            // The sender is dropped to stop.
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
            silence::end();
        })?;
        Ok(Self { handle, _stop: stop })
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }
}

/// Runs the exports of another exporter on the background's runtime.
pub(super) struct InBackground<E> {
    inner: Arc<E>,
    handle: Handle,
    timeout: Duration,
}

impl<E> fmt::Debug for InBackground<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InBackground").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl<E> InBackground<E> {
    pub(super) fn new(inner: E, background: &Background, timeout: Duration) -> Self {
        Self { inner: Arc::new(inner), handle: background.handle.clone(), timeout }
    }
}

impl<E: SpanExporter + 'static> SpanExporter for InBackground<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let (inner, timeout) = (Arc::clone(&self.inner), self.timeout);
        let export = self.handle.spawn(async move {
            match tokio::time::timeout(timeout, inner.export(batch)).await {
                Ok(result) => result,
                Err(_) => Err(OTelSdkError::Timeout(timeout)),
            }
        });
        let failed = |error: tokio::task::JoinError| {
            Err(OTelSdkError::InternalFailure(format!("the export ended early: {error}")))
        };
        export.await.unwrap_or_else(failed)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        let _inside = self.handle.enter();
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        // It comes before the first export, when nobody else holds the exporter.
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            inner.set_resource(resource);
        }
    }
}

#[cfg(feature = "otlp-tls")]
type Connector = hyper_rustls::HttpsConnector<HttpConnector>;
#[cfg(not(feature = "otlp-tls"))]
type Connector = HttpConnector;

/// The HTTP client of OTLP/HTTP: hyper's, which is in the build already by way of ClickHouse's. It
/// sends the configured headers, and compresses where that is configured.
#[derive(Debug)]
pub(super) struct Http {
    client: Client<Connector, Full<Bytes>>,
    headers: HeaderMap,
    gzip: bool,
    /// Told of what the endpoint did not take, where spans are sent.
    tally: Option<Arc<Tally>>,
}

impl Http {
    /// A client for this address.
    ///
    /// # Errors
    /// It asks for TLS and the system's certificates cannot be read.
    pub(super) fn new(
        address: &str,
        headers: HeaderMap,
        gzip: bool,
        tally: Option<Arc<Tally>>,
    ) -> io::Result<Self> {
        let client = Client::builder(TokioExecutor::new()).build(connector(address)?);
        Ok(Self { client, headers, gzip, tally })
    }

    /// Heeds what an answer to spans says. One that cannot be read says nothing.
    fn heed(&self, answer: &Bytes) {
        let Some(tally) = &self.tally else { return };
        let answer = ExportTraceServiceResponse::decode(answer.clone()).ok();
        let partial = answer.and_then(|answer| answer.partial_success);
        let rejected = partial.and_then(|it| u64::try_from(it.rejected_spans).ok());
        if let Some(rejected) = rejected.filter(|it| *it > 0) {
            tally.reject(rejected);
        }
    }

    /// The request with the configured headers, and of its own the type of the body only.
    fn configured(&self, request: Request<Bytes>) -> io::Result<Request<Full<Bytes>>> {
        let (mut parts, mut body) = request.into_parts();
        let content_type = parts.headers.remove(CONTENT_TYPE);
        parts.headers = self.headers.clone();
        parts.headers.extend(content_type.map(|it| (CONTENT_TYPE, it)));
        if self.gzip {
            let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(&body)?;
            body = encoder.finish()?.into();
            parts.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Ok(Request::from_parts(parts, Full::new(body)))
    }
}

#[cfg(feature = "otlp-tls")]
fn connector(address: &str) -> io::Result<Connector> {
    use hyper_rustls::{ConfigBuilderExt as _, HttpsConnectorBuilder};
    use rustls::{ClientConfig, RootCertStore, crypto::ring};

    let config = ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    // A system without certificates is none of what is sent in the clear.
    let config = if address.starts_with("https:") {
        config.with_native_roots()?
    } else {
        config.with_root_certificates(RootCertStore::empty())
    };
    let builder = HttpsConnectorBuilder::new().with_tls_config(config.with_no_client_auth());
    Ok(builder.https_or_http().enable_http1().build())
}

#[cfg(not(feature = "otlp-tls"))]
#[allow(clippy::unnecessary_wraps, reason = "with TLS it may fail")]
fn connector(_: &str) -> io::Result<Connector> {
    Ok(HttpConnector::new())
}

#[async_trait::async_trait]
impl HttpClient for Http {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let request = self.configured(request)?;
        let answer = self.client.request(request).await.map_err(|it| told(&it))?;
        let (parts, body) = answer.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await?;
        let body = body.to_bytes();
        if parts.status.is_success() {
            self.heed(&body);
        }
        Ok(Response::from_parts(parts, body))
    }
}

/// The error with its causes: hyper's own says only that it could not connect.
fn told(error: &dyn std::error::Error) -> HttpError {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text.into()
}
