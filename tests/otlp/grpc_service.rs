//! OTLP's services over gRPC, by hand on hyper: a unary call is a request over HTTP/2 whose body is
//! one message, and an answer with one and trailers. A server of tonic would be built for every test
//! of this crate, while hyper's HTTP/2 comes with the feature whose tests these are.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::receiver::{serve_on_a_thread, unzipped};

/// The methods of the two services.
pub(crate) const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
pub(crate) const METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

/// A call: its path, its metadata, and its message.
type Call = (String, HeaderMap, Bytes);

/// Takes unary calls over HTTP/2, and answers each with an empty message. It ends when this is
/// dropped.
pub(crate) struct Service {
    address: SocketAddr,
    calls: Arc<Mutex<Vec<Call>>>,
    _stop: oneshot::Sender<()>,
}

impl Service {
    pub(crate) fn start() -> Self {
        let calls = Arc::<Mutex<Vec<Call>>>::default();
        let kept = Arc::clone(&calls);
        let serve = async move |listener: TcpListener| loop {
            let (stream, _) = listener.accept().await.unwrap();
            let kept = Arc::clone(&kept);
            let service =
                hyper::service::service_fn(move |request| answer(request, Arc::clone(&kept)));
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
        };
        let (address, stop) = serve_on_a_thread(serve);
        Self { address, calls, _stop: stop }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many calls there were.
    #[allow(dead_code, reason = "for the test that looks at nothing else")]
    pub(crate) fn count(&self) -> usize {
        self.calls.lock().unwrap().len()
    }

    /// The metadata and messages of calls of this method.
    pub(crate) fn calls<M: prost::Message + Default>(&self, method: &str) -> Vec<(HeaderMap, M)> {
        let calls = self.calls.lock().unwrap();
        let calls = calls.iter().filter(|(path, ..)| path == method);
        calls
            .map(|(_, head, message)| (head.clone(), M::decode(message.clone()).unwrap()))
            .collect()
    }
}

/// A message is preceded by whether it is compressed, and by its length in four bytes.
async fn answer(
    request: Request<Incoming>,
    kept: Arc<Mutex<Vec<Call>>>,
) -> Result<Response<impl hyper::body::Body<Data = Bytes, Error = Infallible>>, Infallible> {
    let (head, body) = request.into_parts();
    let mut body = body.collect().await.unwrap().to_bytes();
    let prefix = body.split_to(5);
    assert_eq!(u32::from_be_bytes(prefix[1..].try_into().unwrap()) as usize, body.len());
    let message = if prefix[0] == 1 { unzipped(&body) } else { body };
    kept.lock().unwrap().push((head.uri.path().to_owned(), head.headers, message));
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = Full::new(Bytes::from_static(&[0; 5]))
        .with_trailers(std::future::ready(Some(Ok(trailers))));
    Ok(Response::builder().header("content-type", "application/grpc").body(body).unwrap())
}
