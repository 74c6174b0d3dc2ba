//! Who calls, on whose behalf, and what is kept of what they send.

use std::borrow::Cow;

use actix_web::body::{BodySize, MessageBody as _};
use actix_web::dev::Service as _;
use actix_web::http::header;
use actix_web::{App, HttpMessage as _, HttpResponse, web};
use tracing_activity::config::{Config, TraceparentTrust};
use tracing_activity::middleware::Identity;
use tracing_activity::middleware::actix::RequestSpan;

use crate::server::{Server, config};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

fn routes(config: &mut web::ServiceConfig) {
    config.route("/", web::get().to(async || "index"));
}

fn traceparent() -> String {
    format!("traceparent: 00-{TRACE}-b7ad6b7169203331-01\r\n")
}

#[test]
fn the_callers_trace_is_taken_over_from_who_is_trusted() {
    for (trust, believed) in [(TraceparentTrust::Always, true), (TraceparentTrust::Never, false)] {
        let server = Server::new(config(), RequestSpan::new().traceparent(trust), routes);
        server.request("GET", "/", &traceparent());
        let trace = server.one().remote_trace_id.map(|it| it.to_string());
        assert_eq!(trace.as_deref() == Some(TRACE), believed);
    }
}

#[test]
fn a_trusted_proxy_tells_the_clients_address_and_nobody_else() {
    for (trusted, expected) in [("127.0.0.0/8", "203.0.113.0"), ("192.0.2.0/24", "127.0.0.0")] {
        let span = RequestSpan::new().trusted_proxies(trusted.parse().unwrap());
        let server = Server::new(config(), span, routes);
        let headers = "x-forwarded-for: 1.2.3.4, 203.0.113.9\r\nuser-agent: curl/8\r\n\
                       referer: https://example.org/?q=s3cret\r\n";
        server.request("GET", "/", headers);
        let it = server.one();
        assert_eq!(it.ip.unwrap().to_canonical().to_string(), expected);
        assert_eq!((&*it.user_agent, &*it.referer), ("curl/8", "example.org/?q=?"));
    }
}

#[derive(Clone)]
struct CurrentUser(&'static str);

impl Identity for CurrentUser {
    fn user_id(&self) -> Option<Cow<'_, str>> {
        Some(self.0.into())
    }

    fn session_id(&self) -> Option<Cow<'_, str>> {
        Some("s1".into())
    }
}

#[test]
fn who_authentication_found_is_in_the_row() {
    let span = RequestSpan::new().identity::<CurrentUser>();
    let server = Server::new(config(), span, |config| {
        // Authentication runs inside of the middleware.
        let signed_in = web::scope("/in").wrap_fn(|request, service| {
            request.extensions_mut().insert(CurrentUser("u17"));
            service.call(request)
        });
        config.service(signed_in.route("", web::get().to(async || "hello")));
        config.route("/out", web::get().to(async || "hello"));
    });
    server.get("/in");
    server.activities(1);
    server.get("/out");
    let rows = server.activities(2);
    let who: Vec<_> = rows.iter().map(|it| (&*it.user_id, &*it.session_id)).collect();
    assert_eq!(who, [("u17", "s1"), ("", "")]);
}

#[test]
fn the_span_is_shown_to_who_wants_to_see_it_first() {
    let span = RequestSpan::new().on_request(|span, request| {
        span.record("user.id", request.path());
    });
    let server = Server::new(config(), span, routes);
    server.get("/");
    assert_eq!(server.one().user_id, "/");
}

#[test]
fn bodies_and_headers_are_kept_where_that_is_asked_for() {
    let config = Config::from_lookup(|name| {
        Ok(match name {
            "ACTIVITY_CAPTURE_RESPONSE" => Some("application/json".to_owned()),
            "ACTIVITY_CAPTURE_HEADERS" => Some("x-request-id,x-shop".to_owned()),
            "ACTIVITY_BATCH_INTERVAL" => Some("1ms".to_owned()),
            _ => None,
        })
    });
    let server = Server::new(config.unwrap(), RequestSpan::new(), |config| {
        let answer = async || {
            HttpResponse::Ok()
                .content_type(header::ContentType::json())
                .insert_header(("x-shop", "7"))
                .body(r#"{"price":990,"password":"s3cret"}"#)
        };
        config.route("/", web::get().to(answer));
    });
    let answer = server.request("GET", "/", "x-request-id: r1\r\n");
    assert!(answer.ends_with(r#"{"price":990,"password":"s3cret"}"#), "{answer}");
    let it = server.one();
    assert!(it.response.contains("990") && !it.response.contains("s3cret"), "{}", it.response);
    assert!(it.data.contains("r1") && it.data.contains('7'), "{}", it.data);
}

#[test]
fn a_browser_that_comes_back_is_on_the_same_visit() {
    let config = Config::from_lookup(|name| {
        Ok(match name {
            "ACTIVITY_VISITS" => Some("cookie".to_owned()),
            "ACTIVITY_VISIT_KEYS" => Some("one-key-of-thirty-two-characters-or-more".to_owned()),
            "ACTIVITY_BATCH_INTERVAL" => Some("1ms".to_owned()),
            _ => None,
        })
    });
    let server = Server::new(config.unwrap(), RequestSpan::new(), |config| {
        let answer = async || HttpResponse::Ok().insert_header(("set-cookie", "sid=7")).body("hi");
        config.route("/", web::get().to(answer));
        for header in [("cache-control", "max-age=60"), ("etag", "\"1\"")] {
            let kept = move || async move { HttpResponse::Ok().insert_header(header).body("hi") };
            config.route(&format!("/{}", header.0), web::get().to(kept));
        }
    });
    let browser = "accept: text/html\r\nsec-fetch-dest: document\r\n\
                   user-agent: Mozilla/5.0 (X11; Linux x86_64) Chrome/140.0.0.0 Safari/537.36\r\n";
    for kept in ["/cache-control", "/etag"] {
        let answer = server.request("GET", kept, browser);
        assert!(!answer.contains("__Host"), "a cache may give it to others: {answer}");
    }
    server.activities(2);
    let answer = server.request("GET", "/", browser);
    server.activities(3);
    let set = answer.lines().filter_map(|line| line.strip_prefix("set-cookie: "));
    let cookies: Vec<_> = set.filter_map(|line| line.split(';').next()).collect();
    assert!(cookies.len() > 1 && cookies.contains(&"sid=7"), "{answer}");
    let cookies = format!("cookie: {}\r\n", cookies.join("; "));
    server.request("GET", "/", &format!("{browser}{cookies}"));
    let rows = &server.activities(4)[2..];
    assert!(!rows[0].visit_id.is_empty());
    assert_eq!(rows[0].visit_id, rows[1].visit_id);
    assert_eq!([rows[0].visit_created, rows[1].visit_created], [true, false]);
}

#[actix_web::test]
async fn without_a_subscriber_requests_and_answers_pass_untouched() {
    let app = App::new().configure(routes).wrap(RequestSpan::new());
    let app = actix_web::test::init_service(app).await;
    let request = actix_web::test::TestRequest::get().uri("/").to_request();
    let response = actix_web::test::call_service(&app, request).await;
    assert_eq!(response.response().body().size(), BodySize::Sized(5));
    assert_eq!(actix_web::test::read_body(response).await, "index");
}
