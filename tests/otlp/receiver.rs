//! An OTLP endpoint over HTTP, and ends that do not answer.

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, mpsc};

use axum::Router;
use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::sync::oneshot;

type Received<T> = Arc<Mutex<Vec<(HeaderMap, T)>>>;

/// Takes what is sent to `/v1/traces` and `/v1/metrics`. It ends when this is dropped.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    received: Received<ExportTraceServiceRequest>,
    metrics: Received<ExportMetricsServiceRequest>,
    _stop: oneshot::Sender<()>,
}

impl Receiver {
    pub(crate) fn start() -> Self {
        // An empty answer is an empty message: everything was taken.
        Self::answering(|_| Vec::new())
    }

    /// `answer` is asked for the answer to each request, by its number from 0 on. While it waits, so do
    /// all.
    pub(crate) fn answering(answer: impl Fn(usize) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let answer = Arc::new(answer);
        let (received, metrics) = (Received::default(), Received::default());
        let kept = Arc::clone(&received);
        let kept_metrics = Arc::clone(&metrics);
        let serve = async move |listener| {
            let take = move |headers: HeaderMap, body: Bytes| async move {
                let request = ExportTraceServiceRequest::decode(plain(&headers, body)).unwrap();
                let number = {
                    let mut kept = kept.lock().unwrap();
                    kept.push((headers, request));
                    kept.len() - 1
                };
                ([("content-type", "application/x-protobuf")], answer(number))
            };
            let take_metrics = move |headers: HeaderMap, body: Bytes| async move {
                let request = ExportMetricsServiceRequest::decode(plain(&headers, body));
                kept_metrics.lock().unwrap().push((headers, request.unwrap()));
                [("content-type", "application/x-protobuf")]
            };
            let app = Router::new()
                .route("/v1/traces", post(take))
                .route("/v1/metrics", post(take_metrics));
            axum::serve(listener, app).await.unwrap();
        };
        let (address, stop) = serve_on_a_thread(serve);
        Self { address, received, metrics, _stop: stop }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}/v1/traces", self.address)
    }

    /// Where metrics go.
    pub(crate) fn metrics_endpoint(&self) -> String {
        format!("http://{}/v1/metrics", self.address)
    }

    /// Every export of metrics so far.
    pub(crate) fn metrics(&self) -> Vec<(HeaderMap, ExportMetricsServiceRequest)> {
        self.metrics.lock().unwrap().clone()
    }

    /// Every request so far.
    pub(crate) fn requests(&self) -> Vec<(HeaderMap, ExportTraceServiceRequest)> {
        self.received.lock().unwrap().clone()
    }

    /// Every span so far.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let requests = self.requests().into_iter();
        let resources = requests.flat_map(|(_, request)| request.resource_spans);
        resources.flat_map(|it| it.scope_spans).flat_map(|it| it.spans).collect()
    }
}

/// The body as it was before it was compressed.
fn plain(headers: &HeaderMap, body: Bytes) -> Bytes {
    match headers.get("content-encoding").map(|it| it.to_str().unwrap()) {
        None => body,
        Some("gzip") => unzipped(&body),
        Some(other) => panic!("{other}"),
    }
}

pub(crate) fn unzipped(bytes: &[u8]) -> Bytes {
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
    plain.into()
}

/// Serves what connects to a free port, on a thread of its own, until the sender is dropped.
pub(crate) fn serve_on_a_thread(
    serve: impl AsyncFnOnce(tokio::net::TcpListener) + Send + 'static,
) -> (SocketAddr, oneshot::Sender<()>) {
    let (stop, stopped) = oneshot::channel::<()>();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            tokio::select! {
                () = serve(listener) => {}
                _ = stopped => {}
            }
        });
    });
    (told.recv().unwrap(), stop)
}

/// An address where nobody listens.
pub(crate) fn refused() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}/v1/traces", listener.local_addr().unwrap())
}

/// An address that takes connections and never answers, as long as the listener lives.
pub(crate) fn black_hole() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, format!("http://{address}/v1/traces"))
}
