//! Whether a span serves a request, where no `otel.kind` says so.
//!
//! Clients name their requests by the same words as servers do. So a span is a request's root only
//! on evidence of serving, and that is what a caller would not know or not call so: the route, the
//! client's address, the path apart from its host, a server's framework by the span's target. What
//! only a caller knows - the whole address, the server's name, a database - speaks against it.
//! Service and method of a call, and the name of a message's destination, are the same words at both
//! ends: alone they are no evidence. Some fields tell by their value, once the span is there: `uri` by
//! its form, a messaging operation by its word.

use tracing_core::Metadata;

/// What the fields of a span callsite say about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// Nothing.
    Plain,
    /// It has `otel.kind`, whose value decides.
    ByKind,
    /// Without a kind the values of its fields decide.
    ByValue,
    /// It serves a request.
    Request,
}

/// Fields that only the serving side has.
const SERVING: [&str; 13] = [
    "http.route",
    "http.target",
    "http.server_name",
    "http.client_ip",
    "http.client.address",
    "url.path",
    "client.address",
    "client_addr",
    "client_ip",
    "remote_addr",
    "remote.addr",
    "matched_path",
    // The version that a request came in: tower-http, poem, warp and salvo tell it, and whoever writes a
    // span as theirs.
    "version",
];

/// Fields that only the calling side has.
const CALLING: [&str; 10] = [
    "url.full",
    "url.template",
    "http.url",
    "http.request.resend_count",
    "http.resend_count",
    "server.address",
    "server.port",
    "net.peer.name",
    "peer.service",
    "sdk_invocation_id",
];

/// Crates that trace what they serve.
const SERVERS: [&str; 12] = [
    "actix_web",
    "axum",
    "axum_tracing_opentelemetry",
    "ntex",
    "poem",
    "rocket",
    "tide",
    "tower_http",
    "tracing_actix_web",
    "volo_http",
    "volo_grpc",
    "warp",
];

/// What the callsite of a span says.
pub(super) fn mark(metadata: &Metadata<'_>) -> Mark {
    let names = || metadata.fields().iter().map(|field| field.name());
    let has = |wanted: &str| names().any(|name| name == wanted);
    let begins = |prefix: &str| names().any(|name| name.starts_with(prefix));
    let unsaid = if has("otel.kind") { Mark::ByKind } else { Mark::Plain };
    if begins("activity.") {
        return Mark::Request;
    }
    let serves = names().any(|name| SERVING.contains(&name)) || is_server(metadata.target());
    let is_request = is_http(metadata) || begins("rpc.") || begins("messaging.");
    if is_request && serves {
        return Mark::Request;
    }
    if begins("messaging.") {
        return if names().any(is_operation) { Mark::ByValue } else { unsaid };
    }
    let calls = names().any(|name| CALLING.contains(&name)) || begins("db.") || begins("aws.");
    if calls || begins("rpc.") || !is_http(metadata) {
        return unsaid;
    }
    if has("uri") { Mark::ByValue } else { Mark::Request }
}

/// Whether the fields are those of a request over HTTP, whoever makes it.
pub(super) fn is_http(metadata: &Metadata<'_>) -> bool {
    let has = |wanted: &str| metadata.fields().iter().any(|field| field.name() == wanted);
    let conventional = ["http.request.method", "http.method", "http.route", "http.target"];
    conventional.into_iter().any(has)
        || has("method") && ["uri", "path", "matched_path"].into_iter().any(has)
}

/// Whether this is the target of a framework that serves.
fn is_server(target: &str) -> bool {
    let krate = target.split("::").next().unwrap_or(target);
    SERVERS.contains(&krate) || krate.starts_with("salvo")
}

/// Whether the value of this field tells that the span serves.
pub(super) fn tells(field: &str, text: &str) -> bool {
    match field {
        // As requests come in: a caller has to name the host, too.
        "uri" => text.starts_with('/') || text == "*",
        _ if is_operation(field) => {
            let serving = ["process", "deliver", "consume", "receive"];
            serving.iter().any(|word| word.eq_ignore_ascii_case(text))
        }
        _ => false,
    }
}

/// Whether this field names what is done with a message.
pub(super) fn is_operation(field: &str) -> bool {
    matches!(field, "messaging.operation" | "messaging.operation.name" | "messaging.operation.type")
}
