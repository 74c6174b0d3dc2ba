//! Names of HTTP methods.

/// A known HTTP method in upper case, else `_OTHER`, as OpenTelemetry asks: a column of few
/// values must not be at a client's mercy.
pub(crate) fn known_method(text: &str) -> &'static str {
    const KNOWN: [&str; 10] =
        ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE", "QUERY"];
    let known = KNOWN.iter().find(|known| known.eq_ignore_ascii_case(text));
    known.unwrap_or(&"_OTHER")
}
