//! Method, path, status, outcome and duration of every kind of request.

use std::io::Read as _;
use std::sync::atomic::Ordering;
use std::time::Instant;

use serde_json::{Value, json};

use crate::app::{DEADLINE, HANGING, app};
use crate::http::{request, send};

/// What a row says about a request.
fn essence(row: &Value) -> [&Value; 5] {
    ["method", "url", "status", "outcome", "error_kind"].map(|column| &row[column])
}

#[test]
fn a_request_is_a_row_with_its_nested_spans() {
    let app = app();
    assert_eq!(request(app.address, "GET", "/products/7?token=s3cret"), 200);
    let row = app.row_of("/products/7?token=?");
    assert_eq!(
        essence(&row),
        [&json!("GET"), &json!("/products/7?token=?"), &json!(200), &json!("success"), &json!("")]
    );
    assert_eq!([&row["okind"], &row["oid"], &row["ekind"]], ["site", "/products/7", "GET"]);
    assert_eq!([&row["service"], &row["site_version"]], ["shop", "2026-11-21 18:30:00"]);
    assert_eq!(row["span_name"], json!(["request", "load", "price"]));
    assert_eq!(row["span_parent"], json!([0, 0, 1]));
    assert!(row["event_message"].as_array().unwrap().contains(&json!("looked up")));
    let id = row["activity_id"].as_str().unwrap().replace('-', "");
    assert_eq!(row["trace_id"], json!(id));
}

#[test]
fn statuses_of_success_client_and_server_fault_are_right() {
    let app = app();
    for (method, url, status, outcome, kind) in [
        ("GET", "/?index=1", 200, "success", ""),
        ("POST", "/orders?created=1", 201, "success", ""),
        ("GET", "/products/500?missing=1", 404, "client_fault", ""),
        ("GET", "/nowhere?none=1", 404, "client_fault", ""),
        ("DELETE", "/orders?method=1", 405, "client_fault", ""),
        ("GET", "/boom?boom=1", 500, "server_fault", "500"),
    ] {
        assert_eq!(request(app.address, method, url), status);
        let url = url.replace("=1", "=?");
        let row = app.row_of(&url);
        let expected = [json!(method), json!(url), json!(status), json!(outcome), json!(kind)];
        assert_eq!(essence(&row), expected.each_ref());
    }
}

#[test]
fn pitfall_12_a_streaming_body_ends_when_its_last_part_is_sent() {
    let app = app();
    assert_eq!(request(app.address, "GET", "/stream?all=1"), 200);
    let row = app.row_of("/stream?all=?");
    assert_eq!([&row["status"], &row["outcome"]], [&json!(200), &json!("success")]);
    let duration =
        row["duration"].as_str().map_or_else(|| row["duration"].as_u64(), |it| it.parse().ok());
    assert!(duration.unwrap() >= 200_000, "ten parts, 20 ms apart: {} us", row["duration"]);
}

#[test]
fn a_panicking_handler_is_a_server_fault_with_its_message() {
    let app = app();
    assert_eq!(request(app.address, "GET", "/panic?case=panic"), 0);
    let row = app.row_of("/panic?case=?");
    assert_eq!(essence(&row)[2..], [&json!(0), &json!("server_fault"), &json!("panic")]);
    assert!(row["error"].as_str().unwrap().starts_with("out of ink at "), "{}", row["error"]);
    assert_eq!(row["kept_because"], "status_code");
}

#[test]
fn a_client_that_leaves_before_the_answer_is_told_apart() {
    let app = app();
    // The callsite must have answered once before silence means anything.
    assert_eq!(request(app.address, "GET", "/?before=1"), 200);
    let connection = send(app.address, "GET", "/hang?case=left");
    let end = Instant::now() + DEADLINE;
    while !HANGING.load(Ordering::Relaxed) {
        assert!(Instant::now() < end, "the request did not reach its handler");
        std::thread::yield_now();
    }
    drop(connection);
    let row = app.row_of("/hang?case=?");
    assert_eq!(essence(&row)[2..], [&json!(0), &json!("client_fault"), &json!("cancelled")]);
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_body_is_one_row() {
    let app = app();
    let mut connection = send(app.address, "GET", "/stream?middle=1");
    let mut start = [0; 32];
    connection.read_exact(&mut start).unwrap();
    drop(connection);
    let row = app.row_of("/stream?middle=?");
    assert_eq!(row["status"], 200);
}
