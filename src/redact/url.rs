//! Addresses without their secrets.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::sync::LazyLock;

use regex::{Captures, Regex};

/// The address with every value of its query replaced by `?`, except of the parameters to `keep`,
/// and without scheme, user, password and fragment.
pub(super) fn scrubbed(url: &str, keep: &[String]) -> String {
    let without_scheme = after_scheme(url);
    let is_absolute = without_scheme.len() < url.len();
    let (main, query) = match without_scheme.split_once(['?', '#']) {
        Some((main, rest)) if without_scheme[main.len()..].starts_with('?') => {
            (main, rest.split('#').next().unwrap_or_default())
        }
        Some((main, _)) => (main, ""),
        None => (without_scheme, ""),
    };
    let mut out = String::with_capacity(without_scheme.len() + 1);
    if is_absolute {
        let (authority, path) = main.find('/').map_or((main, "/"), |at| main.split_at(at));
        out.push_str(authority.rsplit('@').next().unwrap_or(authority));
        out.push_str(path);
    } else {
        out.push_str(main);
    }
    if query.bytes().any(|byte| byte != b'&') {
        // Writing to a `String` does not fail.
        let _ = write!(out, "?{}", Query { text: query, keep });
    }
    out
}

/// A query whose values print as `?`.
pub(super) struct Query<'a> {
    pub(super) text: &'a str,
    pub(super) keep: &'a [String],
}

impl fmt::Display for Query<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for pair in self.text.split('&').filter(|pair| !pair.is_empty()) {
            f.write_str(separator)?;
            separator = "&";
            match pair.split_once('=') {
                Some((key, _)) if self.keep.iter().any(|kept| kept == key) => f.write_str(pair)?,
                // What ends in `=` may be a token in base64.
                Some((key, value)) if !value.trim_matches('=').is_empty() => {
                    write!(f, "{key}=?")?;
                }
                // A lone word may be a token as well as a key.
                _ => f.write_str("?")?,
            }
        }
        Ok(())
    }
}

/// Replaces the values of the queries of addresses that stand in a text, also of those without a host,
/// and of fragments that are written as queries are; other fragments behind queries are left out. JSON
/// may have escaped their slashes.
pub(super) fn scrub_queries(text: &mut String, keep: &[String]) {
    static ABSOLUTE: LazyLock<Regex> = LazyLock::new(|| {
        let pattern = r#"(:\\*/\\*/(?:[^\s?#"'<>`\\]|\\+/)*(?:\?|#[^\s?=&#"'<>`\\]*\?|#))((?:[^\s"'<>`\\]|\\+/)+)"#;
        Regex::new(pattern).expect("it is tested")
    });
    static RELATIVE: LazyLock<Regex> = LazyLock::new(|| {
        let pattern = concat!(
            r#"([A-Za-z0-9_.~%/}\]-](?:\?|#[^\s?=&#"'<>`\\]*\?|#))"#,
            r#"([A-Za-z_%\[][A-Za-z0-9_.\[\]%-]*=(?:[^\s"'<>`\\]|\\+/)*|[A-Za-z0-9_%-]{6,})"#,
        );
        Regex::new(pattern).expect("it is tested")
    });
    let scrubbed = |found: &Captures<'_>| {
        // What ends a sentence is not the address's.
        let whole = &found[2];
        let main = whole.trim_end_matches(['.', ',', ';', ':', '!', ')', ']', '}']);
        let is_lone = !main.contains('=');
        let is_said = is_lone && !found[1].contains(':') && !is_mixed(main);
        if found[1].ends_with('#') && is_lone || is_said {
            return found[0].to_owned();
        }
        let query = main.split('#').next().unwrap_or_default();
        format!("{}{}{}", &found[1], Query { text: query, keep }, &whole[main.len()..])
    };
    for rule in [&ABSOLUTE, &RELATIVE] {
        if let Cow::Owned(scrubbed) = rule.replace_all(text, scrubbed) {
            *text = scrubbed;
        }
    }
}

/// Whether a lone word has letters and digits, as no word has.
fn is_mixed(word: &str) -> bool {
    word.bytes().any(|it| it.is_ascii_digit()) && word.bytes().any(|it| it.is_ascii_alphabetic())
}

/// Whether something may stand there that is no address for the words of other rules: `/reset?code=x`.
pub(super) fn may_hold_query(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(found) = text[at..].find(['?', '#']).map(|it| at + it) {
        // In SQL a space stands before a `?`, and no letter behind it.
        let is_name = |it: &u8| {
            it.is_ascii_alphanumeric() || matches!(it, b'_' | b'.' | b'[' | b']' | b'%' | b'-')
        };
        let before = found.checked_sub(1).map(|it| bytes[it]);
        let is_path = |it: u8| it.is_ascii_alphanumeric() || b"_.~%/}]-#".contains(&it);
        if bytes.get(found + 1).is_some_and(is_name) && before.is_some_and(is_path) {
            return true;
        }
        at = found + 1;
    }
    false
}

/// What stands behind `scheme://` or `//`, else the whole. A `://` further on belongs to a query.
fn after_scheme(url: &str) -> &str {
    if let Some(rest) = url.strip_prefix("//") {
        return rest;
    }
    match url.split_once("://") {
        Some((scheme, rest)) if !scheme.is_empty() && !scheme.contains(['/', '?', '#']) => rest,
        _ => url,
    }
}

/// What of an address stands before that: the scheme.
#[cfg(any(test, feature = "otlp"))]
pub(super) fn scheme(url: &str) -> &str {
    &url[..url.len() - after_scheme(url).len()]
}

/// What of an address the server is asked for: without scheme and authority, which requests over
/// HTTP/2 and to proxies name.
pub(crate) fn path_and_query(url: &str) -> &str {
    let rest = after_scheme(url);
    if rest.len() == url.len() {
        return url;
    }
    rest.find(['/', '?', '#']).map_or("/", |at| &rest[at..])
}

/// The path of a scrubbed address.
pub(crate) fn path_of(url: &str) -> &str {
    let path = url.split('?').next().unwrap_or_default();
    match path.find('/') {
        Some(at) => &path[at..],
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_a_query_are_not_kept() {
        for (url, expected) in [
            ("/a/b?x=1&token=s3cret", "/a/b?x=?&token=?"),
            ("/a?s3cret", "/a??"),
            ("/a#s3cret?x", "/a"),
            ("/a?x=1#s3cret", "/a?x=?"),
            ("/a?", "/a"),
            ("/a?&", "/a"),
            ("/", "/"),
            ("", ""),
            ("https://ana:s3cret@example.org:8443/p?q=s3cret", "example.org:8443/p?q=?"),
            ("http://example.org", "example.org/"),
            ("/login?next=https://app.example/reset/s3cret&x=1", "/login?next=?&x=?"),
            ("/x?czNjcmV0IQ==", "/x??"),
            ("/x?key=&a=1", "/x??&a=?"),
            ("//ana:s3cret@example.org/x", "example.org/x"),
        ] {
            assert_eq!(scrubbed(url, &[]), expected);
        }
    }

    #[test]
    fn the_scheme_of_an_address_is_what_stands_before_its_authority() {
        for (url, expected) in [
            ("https://ana:s3cret@example.org/p", "https://"),
            ("//example.org", "//"),
            ("/login?next=https://app.example", ""),
            ("example.org/x", ""),
        ] {
            assert_eq!(scheme(url), expected);
        }
    }

    #[test]
    fn the_server_is_asked_for_what_stands_behind_the_authority() {
        for (url, expected) in [
            ("/a/b?x=1", "/a/b?x=1"),
            ("http://shop/a?x=1", "/a?x=1"),
            ("https://ana:s3cret@example.org:8443", "/"),
            ("http://example.org?x=/y", "?x=/y"),
            ("//example.org/x", "/x"),
            ("/login?next=https://app.example/reset", "/login?next=https://app.example/reset"),
            ("*", "*"),
            ("", ""),
        ] {
            assert_eq!(path_and_query(url), expected);
        }
    }

    #[test]
    fn values_that_are_listed_stay_and_no_others() {
        let keep = ["page".to_owned(), "sort".to_owned()];
        for (url, expected) in [
            ("/a?page=2&token=s3cret&sort=price", "/a?page=2&token=?&sort=price"),
            ("/a?xpage=s3cret&Page=s3cret", "/a?xpage=?&Page=?"),
            ("/a?page=&x=1", "/a?page=&x=?"),
            ("/a?page", "/a??"),
        ] {
            assert_eq!(scrubbed(url, &keep), expected);
            assert_eq!(scrubbed(&scrubbed(url, &keep), &keep), expected, "once is enough");
        }
    }

    #[test]
    fn the_path_is_what_stands_between_host_and_query() {
        assert_eq!(path_of("example.org/p?q=?"), "/p");
        assert_eq!(path_of("/p/q"), "/p/q");
        assert_eq!(path_of(""), "");
    }
}
