//! Bodies and headers: nothing unless it is listed, and then the start of it, without secrets.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, SET_COOKIE};
use axum::response::Redirect;
use axum::routing::{get, post};
use tracing_activity::config::Config;
use tracing_activity::middleware::{RequestBodyLayer, RequestSpanLayer};
use tracing_activity::with_activity;

use crate::server::{Server, config, endless};

const JSON: &str =
    r#"{"user":{"name":"ana"},"items":[{"id":1,"note":"c4n4ry"}],"password":"c4n4ry"}"#;

fn app() -> Router {
    let json = [(CONTENT_TYPE, "application/json; charset=utf-8"), (SET_COOKIE, "sid=c4n4ry")];
    Router::new()
        .route("/json", get(move || async move { (json, JSON) }))
        .route(
            "/zip",
            get(|| async { ([(CONTENT_TYPE, "text/a"), (CONTENT_ENCODING, "gzip")], "c4n4ry") }),
        )
        .route("/long", get(|| async { "long ".repeat(10_000) }))
        .route("/endless", get(|| async { ([(CONTENT_TYPE, "text/plain")], endless()) }))
        .route(
            "/echo",
            post(|body: Bytes| async {
                with_activity(|a| a.data("seen", body.len()));
                body
            }),
        )
        .route("/back", get(|| async { Redirect::to("/in?code=c4n4ry&page=2#c4n4ry") }))
        .route("/deaf", post(|_: Body| async { "did not read it" }))
        .layer(RequestBodyLayer::new())
        .layer(RequestSpanLayer::new())
}

fn all() -> Config {
    let mut config = config();
    config.http.capture.response = "application/json,text/*".parse().unwrap();
    config.http.capture.request = "application/*".parse().unwrap();
    let headers = "x-request-id,x-shop-token,x-original-url,content-type,location";
    config.http.capture.headers = headers.parse().unwrap();
    config.http.capture.hide = vec!["/items/*/note".parse().unwrap()];
    config
}

const HEADERS: &str = "authorization: Basic YTpjNG40cnk=\r\ncookie: sid=c4n4ry\r\nx-shop-token: c4n4ry\r\nx-request-id: r7\r\n";

/// Posts a body as this type; gives the answer.
fn post_body(server: &Server, target: &str, content_type: &str, body: &str) -> String {
    let headers =
        format!("content-type: {content_type}\r\ncontent-length: {}\r\n{HEADERS}", body.len());
    let mut stream = server.send("POST", target, &headers);
    stream.write_all(body.as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn nothing_is_captured_unless_it_is_listed() {
    let server = Server::axum(config(), app);
    server.request("GET", "/json", HEADERS);
    post_body(&server, "/echo", "application/json", JSON);
    for activity in server.activities(2) {
        assert_eq!(activity.response, "");
        let shown = format!("{activity:?}");
        assert!(
            !shown.contains("c4n4ry") && !shown.contains("ana") && !shown.contains("r7"),
            "{shown}"
        );
    }
}

#[test]
fn a_json_answer_is_kept_without_its_secrets_and_reaches_the_client_whole() {
    let server = Server::axum(all(), app);
    assert!(server.request("GET", "/json", HEADERS).ends_with(JSON));
    let activity = server.one();
    let response: serde_json::Value = serde_json::from_str(&activity.response).unwrap();
    assert_eq!(
        response,
        serde_json::json!({
            "user": {"name": "ana"},
            "items": [{"id": 1, "note": "[redacted]"}],
            "password": "[secret]",
        })
    );
    let data: serde_json::Value = serde_json::from_str(&activity.data).unwrap();
    assert_eq!(
        data["http.request.headers"],
        serde_json::json!({"x-request-id": "r7", "x-shop-token": "[secret]"})
    );
    assert_eq!(data["http.response.headers"]["content-type"], "application/json; charset=utf-8");
    assert!(!activity.truncated);
    let shown = format!("{activity:?}");
    assert!(!shown.contains("c4n4ry"), "{shown}");
}

#[test]
fn addresses_in_headers_are_kept_without_the_values_of_their_queries() {
    let mut config = all();
    config.redact.keep_query = vec!["page".to_owned()];
    let server = Server::axum(config, app);
    server.request("GET", "/back", "x-original-url: /back?state=c4n4ry\r\n");
    let activity = server.one();
    let data: serde_json::Value = serde_json::from_str(&activity.data).unwrap();
    assert_eq!(data["http.request.headers"]["x-original-url"], "/back?state=?");
    assert_eq!(data["http.response.headers"]["location"], "/in?code=?&page=2");
}

#[test]
fn a_request_body_is_kept_beside_what_the_handler_says() {
    let server = Server::axum(all(), app);
    assert!(post_body(&server, "/echo", "application/json", JSON).ends_with(JSON));
    post_body(&server, "/echo", "application/x-www-form-urlencoded", "name=c4n4ry&password=c4n4ry");
    let activities = server.activities(2);
    let data = |at: usize| serde_json::from_str::<serde_json::Value>(&activities[at].data).unwrap();
    assert_eq!(data(0)["http.request.body"]["user"]["name"], "ana");
    assert_eq!(data(0)["seen"], JSON.len());
    assert_eq!(data(1)["http.request.body"], "name=?&password=?");
    let shown = format!("{activities:?}");
    assert!(!shown.contains("c4n4ry"), "{shown}");
}

#[test]
fn a_long_body_is_cut_in_the_row_and_whole_at_the_client() {
    let mut config = all();
    config.http.capture.max_bytes = 12;
    let server = Server::axum(config, app);
    let answer = server.get("/long");
    assert_eq!(answer.matches("long ").count(), 10_000);
    let activity = server.one();
    assert_eq!((&*activity.response, activity.truncated), ("long long lo", true));
}

#[test]
fn a_document_that_is_cut_is_not_kept_where_anything_in_it_is_hidden() {
    const START: &str = r#"{"user":{"name":"ana"}"#;
    for (hide, secrets, expected) in
        [(true, true, ""), (true, false, ""), (false, true, ""), (false, false, START)]
    {
        let mut config = all();
        config.http.capture.max_bytes = 22;
        if !hide {
            config.http.capture.hide.clear();
        }
        config.redact.secrets = secrets;
        let server = Server::axum(config, app);
        server.get("/json");
        let activity = server.one();
        assert_eq!((&*activity.response, activity.incomplete), (expected, hide || secrets));
    }
}

#[test]
fn json_is_read_whatever_it_is_called() {
    const LINE: &str = r#"{"items":[{"note":"c4n4ry"}],"x":"c4n4ry","password":{"a":"c4n4ry"}}"#;
    const CLEAN: &str =
        r#"{"items":[{"note":"[redacted]"}],"password":"[secret]","x":"[redacted]"}"#;
    let lines = format!("{LINE}\n\n{LINE}\n");
    for content_type in
        ["text/json", "text/plain", "application/x-ndjson", "application/vnd.shop+json", "text/a"]
    {
        for (max_bytes, body, count) in [
            (8192, LINE, 1),
            (8192, &*lines, 2),
            (100, &*lines, 1),
            (40, LINE, 0),
            (40, &*lines, 0),
        ] {
            let mut config = all();
            config.http.capture.hide.push("/x".parse().unwrap());
            config.http.capture.max_bytes = max_bytes;
            config.http.capture.request = "application/*,text/*".parse().unwrap();
            let server = Server::axum(config, app);
            post_body(&server, "/echo", content_type, body);
            let activity = server.one();
            let shown = format!("{activity:?}");
            assert!(!shown.contains("c4n4ry"), "{content_type}: {shown}");
            let data: serde_json::Value = serde_json::from_str(&activity.data).unwrap();
            let kept = match data["http.request.body"].clone() {
                serde_json::Value::Array(documents) => documents,
                serde_json::Value::String(text) if text.is_empty() => Vec::new(),
                document => vec![document],
            };
            let clean: serde_json::Value = serde_json::from_str(CLEAN).unwrap();
            assert_eq!(kept, vec![clean; count], "{content_type}");
            assert_eq!(activity.incomplete, max_bytes < 8192);
        }
    }
}

#[test]
fn what_a_client_got_before_it_left_is_kept() {
    let server = Server::axum(all(), app);
    server.leave_after("/endless", "part");
    let activity = server.one();
    assert!(activity.response.starts_with("data: part\n\n"), "{}", activity.response);
    assert_eq!(activity.error_kind, "client_disconnected");
}

#[test]
fn compressed_bodies_and_bodies_that_nobody_reads_are_left_out() {
    let server = Server::axum(all(), app);
    server.get("/zip");
    let mut stream =
        server.send("POST", "/deaf", "content-type: application/json\r\ncontent-length: 99\r\n");
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    let _ = stream.shutdown(Shutdown::Both);
    assert!(answer.ends_with("did not read it"), "{answer}");
    let activities = server.activities(2);
    assert_eq!(activities[0].response, "");
    assert!(!activities[1].data.contains("http.request.body"), "{}", activities[1].data);
    assert_eq!(activities[1].outcome, tracing_activity::model::Outcome::Success);
}
