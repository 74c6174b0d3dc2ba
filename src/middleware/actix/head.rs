//! actix-web's heads in the form that the rest of the room reads.
//!
//! actix-web speaks version 0.2 of the crate `http`. Of the headers only those are copied that
//! somebody reads: a handful, and those that are to be captured.

use std::borrow::Cow;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{
    HeaderMap as ActixHeaders, HeaderName as ActixName, HeaderValue as ActixValue,
};
use actix_web::http::{StatusCode as ActixStatus, Version as ActixVersion};
use http::header::{
    CONTENT_ENCODING, CONTENT_TYPE, FORWARDED, HeaderName, HeaderValue, REFERER, USER_AGENT,
};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version, request, response};

use crate::capture::Listener;
use crate::config::{ClientAddressHeader, Visits};
use crate::middleware::exchange::Exchange;
use crate::middleware::layer::Settings;
use crate::middleware::span::Head;
use crate::middleware::visit::{OF_ANSWERS, OF_REQUESTS};

/// Opens the span of a request, where anybody listens.
pub(super) fn open(settings: &Settings, request: &ServiceRequest) -> Option<Exchange> {
    if !Exchange::is_wanted() {
        return None;
    }
    let parts = request_parts(settings, request);
    let head = Head {
        parts: &parts,
        route: request.match_pattern().map(Cow::Owned),
        peer: settings.or_unix(request.peer_addr().map(|peer| peer.ip())),
    };
    Exchange::begin(settings, &head)
}

fn request_parts(settings: &Settings, request: &ServiceRequest) -> request::Parts {
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = Method::from_bytes(request.method().as_str().as_bytes()).unwrap_or_default();
    parts.uri = request.uri().to_string().parse::<Uri>().unwrap_or_default();
    parts.version = match request.version() {
        ActixVersion::HTTP_09 => Version::HTTP_09,
        ActixVersion::HTTP_10 => Version::HTTP_10,
        ActixVersion::HTTP_2 => Version::HTTP_2,
        ActixVersion::HTTP_3 => Version::HTTP_3,
        _ => Version::HTTP_11,
    };
    let read = [
        USER_AGENT,
        REFERER,
        FORWARDED,
        CONTENT_TYPE,
        CONTENT_ENCODING,
        HeaderName::from_static("traceparent"),
        HeaderName::from_static("tracestate"),
        HeaderName::from_static("x-forwarded-for"),
    ];
    copy(request.headers(), &read, &OF_REQUESTS, &mut parts.headers);
    let listener = Listener::current();
    let told_by = settings.client_address.as_ref().unwrap_or(&listener.http().client_address);
    if let ClientAddressHeader::Single(name) = told_by
        && let Ok(name) = HeaderName::from_bytes(name.as_bytes())
        && !parts.headers.contains_key(&name)
    {
        copy_one(request.headers(), &name, &mut parts.headers);
    }
    parts
}

/// The head of an answer.
pub(super) fn response_parts<B: MessageBody>(response: &ServiceResponse<B>) -> response::Parts {
    let mut parts = status_parts(response.status());
    copy(response.headers(), &[CONTENT_TYPE, CONTENT_ENCODING], &OF_ANSWERS, &mut parts.headers);
    parts
}

/// Adds cookies to those that the service sets.
pub(super) fn set_cookies<B>(cookies: Vec<HeaderValue>, response: &mut ServiceResponse<B>) {
    for cookie in cookies {
        if let Ok(cookie) = ActixValue::from_bytes(cookie.as_bytes()) {
            response.headers_mut().append(ActixName::from_static("set-cookie"), cookie);
        }
    }
}

/// The head of an answer of which only the status is known.
pub(super) fn status_parts(status: ActixStatus) -> response::Parts {
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status =
        StatusCode::from_u16(status.as_u16()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    parts
}

/// Copies the headers of these names, those that tell of visits where these are followed, and those
/// that are to be captured.
fn copy(from: &ActixHeaders, names: &[HeaderName], of_visits: &[HeaderName], to: &mut HeaderMap) {
    let listener = Listener::current();
    let of_visits = if listener.http().visits == Visits::Off { &[] } else { of_visits };
    for name in names.iter().chain(of_visits) {
        copy_one(from, name, to);
    }
    for name in listener.http().capture.headers.iter() {
        if let Ok(name) = HeaderName::from_bytes(name.as_bytes())
            && !names.contains(&name)
            && !of_visits.contains(&name)
        {
            copy_one(from, &name, to);
        }
    }
}

fn copy_one(from: &ActixHeaders, name: &HeaderName, to: &mut HeaderMap) {
    for value in from.get_all(name.as_str()) {
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            to.append(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;
    use crate::middleware::traceparent::{trace_of, trace_state};

    #[test]
    fn what_the_caller_says_of_its_trace_arrives_whole() {
        let request = TestRequest::default()
            .append_header((
                "traceparent",
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            ))
            .append_header(("tracestate", "ot=th:8"))
            .append_header(("tracestate", "other=1"));
        let headers = request_parts(&Settings::default(), &request.to_srv_request()).headers;
        assert!(trace_of(&headers).is_some());
        assert_eq!(trace_state(&headers), "ot=th:8,other=1");
    }
}
