//! gRPC over HTTP: what a call is named and how it went.
//!
//! A request only asks for a call: any client may. That it is one the answer tells, by its type or
//! by a code; else it is a request like all others.
//!
//! gRPC-Web names its calls likewise, by types of its own; its trailers are `grpc_web`'s.
//!
//! From gRPC's `PROTOCOL-HTTP2.md`: the path is `/{service}/{method}`, the code stands in the
//! trailers or, when there is no message, in the headers; an answer other than 200 comes from
//! something that speaks no gRPC and is mapped by `http-grpc-status-mapping.md`.

use std::borrow::Cow;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use percent_encoding::percent_decode;

pub(super) const STATUS: &str = "grpc-status";
pub(super) const MESSAGE: &str = "grpc-message";
const TIMEOUT: &str = "grpc-timeout";

pub(super) const CANCELLED: u16 = 1;
pub(super) const UNKNOWN: u16 = 2;
pub(super) const DEADLINE_EXCEEDED: u16 = 4;
pub(super) const UNIMPLEMENTED: u16 = 12;

/// The last code that gRPC defines.
const LAST: u16 = 16;

/// What is called.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) service: Box<str>,
    pub(super) method: Box<str>,
    /// The route that serves it, for when it is no call.
    pub(super) route: Option<Box<str>>,
}

impl Call {
    /// The call that the request asks for.
    pub(super) fn of(parts: &Parts) -> Option<Self> {
        if parts.method != Method::POST || wire(&parts.headers).is_none() {
            return None;
        }
        let (service, method) = parts.uri.path().strip_prefix('/')?.rsplit_once('/')?;
        Some(Self { service: service.into(), method: method.into(), route: None })
    }
}

/// How a body carries the messages of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    /// As they are; the trailers come behind it.
    Native,
    /// With the trailers behind the messages.
    Web,
    /// The same in base64.
    WebText,
}

/// How the body behind these headers carries a call's messages, if its type is one of gRPC's.
pub(super) fn wire(headers: &HeaderMap) -> Option<Wire> {
    let rest = strip(headers.get(CONTENT_TYPE)?.as_bytes(), b"application/grpc")?;
    let (rest, wire) = match strip(rest, b"-web") {
        None => (rest, Wire::Native),
        Some(rest) => strip(rest, b"-text").map_or((rest, Wire::Web), |it| (it, Wire::WebText)),
    };
    matches!(rest, [] | [b'+' | b';' | b' ' | b'\t', ..]).then_some(wire)
}

/// What stands behind a beginning, whatever its case.
fn strip<'a>(text: &'a [u8], beginning: &[u8]) -> Option<&'a [u8]> {
    let (first, rest) = text.split_at_checked(beginning.len())?;
    first.eq_ignore_ascii_case(beginning).then_some(rest)
}

/// Whether who answers so speaks gRPC.
pub(super) fn speaks(headers: &HeaderMap) -> bool {
    wire(headers).is_some() || headers.contains_key(STATUS)
}

/// The code in headers or trailers. One that gRPC does not define counts as UNKNOWN.
pub(super) fn status(headers: &HeaderMap) -> Option<u16> {
    let code = headers.get(STATUS)?.to_str().ok();
    Some(code.and_then(|code| code.parse().ok()).filter(|code| *code <= LAST).unwrap_or(UNKNOWN))
}

/// For how long the client waits for the call, where it tells: at most eight digits and a unit.
pub(super) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|it| it.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_hours(number),
        "M" => Duration::from_mins(number),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// What went wrong, in the service's words.
pub(super) fn message(headers: &HeaderMap) -> Option<Cow<'_, str>> {
    let text = headers.get(MESSAGE)?.as_bytes();
    (!text.is_empty()).then(|| percent_decode(text).decode_utf8_lossy())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_known_by_the_type_of_its_body() {
        for (content_type, expected) in [
            ("application/grpc", Some(Wire::Native)),
            ("application/grpc+proto", Some(Wire::Native)),
            ("Application/gRPC; charset=utf-8", Some(Wire::Native)),
            ("application/grpc-web", Some(Wire::Web)),
            ("application/grpc-web+proto", Some(Wire::Web)),
            ("application/gRPC-Web+JSON ; x=y", Some(Wire::Web)),
            ("application/grpc-web-text", Some(Wire::WebText)),
            ("application/grpc-web-text+proto", Some(Wire::WebText)),
            ("application/grpc-websocket", None),
            ("application/grpcx", None),
            ("application/grpc-x", None),
            ("application/grpc-web-texts", None),
            ("application/json", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, content_type.parse().unwrap());
            assert_eq!(wire(&headers), expected, "{content_type}");
        }
        assert_eq!(wire(&HeaderMap::new()), None);
    }

    #[test]
    fn a_timeout_is_digits_and_a_unit() {
        for (text, expected) in [
            ("50m", Some(Duration::from_millis(50))),
            ("1S", Some(Duration::from_secs(1))),
            ("2M", Some(Duration::from_mins(2))),
            ("99999999H", Some(Duration::from_hours(99_999_999))),
            ("7u", Some(Duration::from_micros(7))),
            ("7n", Some(Duration::from_nanos(7))),
            ("0m", Some(Duration::ZERO)),
            ("m", None),
            ("", None),
            ("5", None),
            ("5s", None),
            ("-5m", None),
            ("+5m", None),
            ("100000000m", None),
        ] {
            let headers = [(TIMEOUT.parse().unwrap(), text.parse().unwrap())];
            assert_eq!(timeout(&headers.into_iter().collect()), expected, "{text:?}");
        }
    }
}
