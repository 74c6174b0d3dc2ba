//! What is sent to a Collector: spans as OTLP's JSON, and datagrams of statsd.
//!
//! A span here is as small as one may be, and its ids count up, so that what arrived can be counted
//! to the last one. Real spans of a real service are another task's.

use std::net::UdpSocket;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use serde_json::json;

use super::Collector;
use super::plain;

/// Counts the spans that a Collector took: those of requests that it answered with success.
#[derive(Debug)]
pub(super) struct Sender {
    service: &'static str,
    /// How long it waits for an answer.
    pub(super) patience: Duration,
    /// Spans accepted so far; also the id of the last one.
    pub(super) accepted: u64,
}

impl Sender {
    pub(super) fn new(service: &'static str) -> Self {
        Self { service, patience: plain::PATIENCE, accepted: 0 }
    }

    /// Sends `spans` in one request, as one trace.
    ///
    /// # Errors
    /// When it is not accepted whole.
    pub(super) fn send(&mut self, collector: &Collector, spans: u64) -> Result<()> {
        let body = self.request(spans);
        let address = collector.http_address();
        let (status, answer) = plain::post(address, "/v1/traces", &body, self.patience)?;
        ensure!(status == 200, "the Collector answers {status}: {answer}");
        ensure!(!answer.contains("rejectedSpans"), "not all was accepted: {answer}");
        self.accepted += spans;
        Ok(())
    }

    /// A request of OTLP with the next `spans` spans, the first of which is the parent of the rest.
    fn request(&self, spans: u64) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let root = self.accepted + 1;
        let spans: Vec<_> = (root..root + spans)
            .map(|id| {
                let parent = if id == root { String::new() } else { format!("{root:016x}") };
                json!({
                    "traceId": format!("{root:032x}"),
                    "spanId": format!("{id:016x}"),
                    "parentSpanId": parent,
                    "name": if id == root { "GET /products/{id}" } else { "SELECT products" },
                    "kind": if id == root { 2 } else { 3 },
                    "startTimeUnixNano": now.as_nanos().to_string(),
                    "endTimeUnixNano": (now + Duration::from_millis(3)).as_nanos().to_string(),
                    "attributes": [{ "key": "product", "value": { "intValue": id } }],
                    "status": { "code": 1 },
                })
            })
            .collect();
        let service = json!([{ "key": "service.name", "value": { "stringValue": self.service } }]);
        json!({ "resourceSpans": [{
            "resource": { "attributes": service },
            "scopeSpans": [{ "scope": { "name": "check" }, "spans": spans }],
        }] })
        .to_string()
    }
}

/// Sends one datagram to the statsd receiver.
pub(super) fn statsd(collector: &Collector, line: &str) -> Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.send_to(line.as_bytes(), collector.statsd())?;
    Ok(())
}
