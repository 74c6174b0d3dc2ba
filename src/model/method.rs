//! Names of HTTP methods.

/// What IANA's registry of HTTP methods names: those of RFC 9110, of distributed authoring and its extensions.
/// Its `*` is a reserved word and no method. The usual ones stand first.
/// <https://www.iana.org/assignments/http-methods/http-methods.xhtml>
const REGISTERED: [&str; 40] = [
    "GET",
    "POST",
    "HEAD",
    "PUT",
    "DELETE",
    "PATCH",
    "OPTIONS",
    "CONNECT",
    "TRACE",
    "QUERY",
    "ACL",
    "BASELINE-CONTROL",
    "BIND",
    "CHECKIN",
    "CHECKOUT",
    "COPY",
    "LABEL",
    "LINK",
    "LOCK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MKREDIRECTREF",
    "MKWORKSPACE",
    "MOVE",
    "ORDERPATCH",
    "PRI",
    "PROPFIND",
    "PROPPATCH",
    "REBIND",
    "REPORT",
    "SEARCH",
    "UNBIND",
    "UNCHECKOUT",
    "UNLINK",
    "UNLOCK",
    "UPDATE",
    "UPDATEREDIRECTREF",
    "VERSION-CONTROL",
];

/// A registered HTTP method in upper case, else `_OTHER`, as OpenTelemetry asks: a column of few
/// values must not be at a client's mercy.
pub(crate) fn known_method(text: &str) -> &'static str {
    let known = REGISTERED.iter().find(|known| known.eq_ignore_ascii_case(text));
    known.unwrap_or(&"_OTHER")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registered_method_keeps_its_name_and_an_invented_one_has_none() {
        for method in ["GET", "QUERY", "PROPFIND", "REPORT", "MKCALENDAR", "VERSION-CONTROL"] {
            assert_eq!(known_method(method), method);
        }
        assert_eq!(known_method("propfind"), "PROPFIND");
        for method in ["", "*", "BREW", "GETS", "PROP", "VERSION_CONTROL"] {
            assert_eq!(known_method(method), "_OTHER", "{method}");
        }
    }
}
