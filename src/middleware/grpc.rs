//! gRPC over HTTP: what a call is named and how it went.
//!
//! From gRPC's `PROTOCOL-HTTP2.md`: the path is `/{service}/{method}`, the code stands in the
//! trailers or, when there is no message, in the headers; an answer other than 200 comes from
//! something that speaks no gRPC and is mapped by `http-grpc-status-mapping.md`.

use std::borrow::Cow;

use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use percent_encoding::percent_decode_str;

pub(super) const UNKNOWN: u16 = 2;
pub(super) const UNIMPLEMENTED: u16 = 12;

/// What is called.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) service: &'a str,
    pub(super) method: &'a str,
}

impl<'a> Call<'a> {
    /// The call, where the request is one.
    pub(super) fn of(parts: &'a Parts) -> Option<Self> {
        let content_type = parts.headers.get(CONTENT_TYPE)?.as_bytes();
        match content_type.strip_prefix(b"application/grpc")? {
            [] | [b'+' | b';', ..] => {}
            _ => return None,
        }
        let (service, method) = parts.uri.path().strip_prefix('/')?.rsplit_once('/')?;
        Some(Self { service, method })
    }
}

/// The code in headers or trailers. One that is no number counts as UNKNOWN.
pub(super) fn status(headers: &HeaderMap) -> Option<u16> {
    let code = headers.get("grpc-status")?.to_str().ok();
    Some(code.and_then(|code| code.parse().ok()).filter(|code| *code < 100).unwrap_or(UNKNOWN))
}

/// What went wrong, in the service's words.
pub(super) fn message(headers: &HeaderMap) -> Option<Cow<'_, str>> {
    let text = headers.get("grpc-message")?.to_str().ok().filter(|text| !text.is_empty())?;
    Some(percent_decode_str(text).decode_utf8_lossy())
}

/// The code that a plain HTTP status stands for.
pub(super) fn code_of(status: StatusCode) -> u16 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => UNIMPLEMENTED,
        429 | 502 | 503 | 504 => 14,
        _ => UNKNOWN,
    }
}

/// Whether OpenTelemetry counts the code as an error of the server.
pub(super) fn is_server_fault(code: u16) -> bool {
    matches!(code, 2 | 4 | 12 | 13 | 14 | 15)
}
