//! Addresses as they may be shown.

/// An address without what it may hold of credentials: user and password, query and fragment.
///
/// It goes by signs alone, since it must hold of what is no address, too: whatever stands before the
/// last `@` may be a password.
pub(crate) fn without_credentials(text: &str) -> String {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) if !scheme.contains(['@', ':', '?', '#']) => (Some(scheme), rest),
        _ => (None, text),
    };
    let (mark, rest) = match rest.rsplit_once('@') {
        Some((_, rest)) => ("***@", rest),
        None => ("", rest),
    };
    let (main, end) = match rest.find(['?', '#']) {
        Some(at) => (&rest[..at], format!("{}***", &rest[at..=at])),
        None => (rest, String::new()),
    };
    let scheme = scheme.map_or(String::new(), |scheme| format!("{scheme}://"));
    format!("{scheme}{mark}{main}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_credential_is_hidden_and_the_rest_is_shown() {
        for (text, shown) in [
            ("http://collector:4318/v1/traces", "http://collector:4318/v1/traces"),
            ("https://ana:hunter2@collector/x", "https://***@collector/x"),
            ("https://ana:hun/t?e#r2@collector/x", "https://***@collector/x"),
            ("https://hunter2@h", "https://***@h"),
            ("https://h/x?api-key=hunter2#hunter2", "https://h/x?***"),
            ("https://h/#hunter2", "https://h/#***"),
            ("ana:hunter2@h", "***@h"),
            ("ana:hunter2://x@h", "***@h"),
            ("hunter2@http://h", "***@http://h"),
            ("", ""),
        ] {
            assert_eq!(without_credentials(text), shown, "{text}");
        }
    }
}
