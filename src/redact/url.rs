//! Addresses without their secrets.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::sync::LazyLock;

use percent_encoding::percent_decode_str;
use regex::{Captures, Regex};

/// The target of a request (RFC 9112, 3.2), as sent but for the values of its query and its fragment.
/// What begins with a slash has no authority, however many slashes there are: its path is all that the
/// server looks at. What looks like a password there is no more kept than elsewhere.
pub(super) fn scrubbed_target(target: &str, keep: &[String]) -> String {
    if target.starts_with('/') {
        let (main, query) = split(target);
        return joined(path(main).into_owned(), query, keep);
    }
    let scrubbed = scrubbed(target, keep);
    // Of a tunnel it is the authority.
    let end = scrubbed.find(['/', '?']).unwrap_or(scrubbed.len());
    match scrubbed[..end].rsplit_once('@') {
        Some((userinfo, _)) if userinfo.contains(':') => scrubbed[userinfo.len() + 1..].to_owned(),
        _ => scrubbed,
    }
}

/// A path without what would be user and password if an address began so: `//user:password@host`.
pub(crate) fn path(path: &str) -> Cow<'_, str> {
    let Some(rest) = path.strip_prefix("//") else { return Cow::Borrowed(path) };
    let authority = rest.split('/').next().unwrap_or_default();
    match authority.rsplit_once('@') {
        Some((userinfo, _)) if userinfo.contains(':') => {
            Cow::Owned(format!("//{}{}", super::SECRET, &rest[userinfo.len()..]))
        }
        _ => Cow::Borrowed(path),
    }
}

/// What stands before the query, and the query. The fragment is left out.
fn split(url: &str) -> (&str, &str) {
    let url = url.split('#').next().unwrap_or_default();
    url.split_once('?').unwrap_or((url, ""))
}

/// Both again, the values of the query replaced.
fn joined(mut main: String, query: &str, keep: &[String]) -> String {
    if query.bytes().any(|byte| byte != b'&') {
        // Writing to a `String` does not fail.
        let _ = write!(main, "?{}", Query { text: query, keep });
    }
    main
}

/// The address with every value of its query replaced by `?`, except of the parameters to `keep`,
/// and without scheme, user, password and fragment.
pub(super) fn scrubbed(url: &str, keep: &[String]) -> String {
    let without_scheme = after_scheme(url);
    let is_absolute = without_scheme.len() < url.len();
    let (main, query) = split(without_scheme);
    let mut out = String::with_capacity(without_scheme.len() + 1);
    if is_absolute {
        let (authority, path) = main.find('/').map_or((main, "/"), |at| main.split_at(at));
        out.push_str(authority.rsplit('@').next().unwrap_or(authority));
        out.push_str(path);
    } else {
        out.push_str(main);
    }
    joined(out, query, keep)
}

/// A query without the mark that some put before it. One that stands for a value is no such mark.
pub(crate) fn without_mark(query: &str) -> &str {
    match query.strip_prefix('?') {
        Some(rest) if !rest.is_empty() && !rest.starts_with('&') => rest,
        _ => query,
    }
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
                Some((key, value)) if value.trim_matches('=').is_empty() => match value {
                    _ if !is_name(key) || is_base64(pair) => f.write_str("?")?,
                    "" => f.write_str(pair)?,
                    _ => write!(f, "{key}=?")?,
                },
                Some((key, _)) => write!(f, "{key}=?")?,
                // A lone word may be a token as well as a key.
                None if is_name(pair) => f.write_str(pair)?,
                None => f.write_str("?")?,
            }
        }
        Ok(())
    }
}

/// Characters of the longest name.
const LONGEST_NAME: usize = 40;

/// Digits of a name, one after the other: of what is longer some are a code.
const NAMES_DIGITS: usize = 4;

/// Whether a word by itself reads as the name of a parameter, and not as a value: it is made of
/// letters, and digits stand at the ends of its words only, as in `page2` and `sha-256`. Tokens of
/// any length to speak of have some in between.
fn is_name(word: &str) -> bool {
    let word = percent_decode_str(word).decode_utf8_lossy();
    let is_sign = |c: char| "-_.~[]:;,$!*/()".contains(c);
    let (mut letters, mut digits) = (0, 0);
    for c in word.chars() {
        match c {
            _ if c.is_ascii_digit() => digits += 1,
            _ if c.is_alphabetic() && digits == 0 => letters += 1,
            _ if is_sign(c) => digits = 0,
            _ => return false,
        }
        if digits > NAMES_DIGITS {
            return false;
        }
    }
    (letters > 0 || word.is_empty()) && word.chars().count() <= LONGEST_NAME
}

/// Whether a text that ends with `=` reads as base64: filled up to fours, in letters of both cases.
fn is_base64(text: &str) -> bool {
    let has = |is: fn(&u8) -> bool| text.as_bytes().iter().any(is);
    text.len().is_multiple_of(4) && has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase)
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

/// What stands behind `scheme://` or `//`, else the whole.
fn after_scheme(url: &str) -> &str {
    url.strip_prefix("//").unwrap_or_else(|| after_named_scheme(url))
}

/// What stands behind `scheme://`, else the whole. A `://` further on belongs to a query.
fn after_named_scheme(url: &str) -> &str {
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

/// What of a request's target the server is asked for: without scheme and authority, which requests
/// over HTTP/2 and to proxies name. One that begins with a slash has none.
pub(crate) fn path_and_query(url: &str) -> &str {
    let rest = after_named_scheme(url);
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
            ("/x?key=&a=1", "/x?key=&a=?"),
            ("/x?aGVsbG8=", "/x??"),
            ("//ana:s3cret@example.org/x", "example.org/x"),
        ] {
            assert_eq!(scrubbed(url, &[]), expected);
        }
    }

    #[test]
    fn a_target_is_kept_as_it_was_sent() {
        for (target, expected) in [
            ("//admin", "//admin"),
            ("//x/healthz", "//x/healthz"),
            ("///", "///"),
            ("//", "//"),
            ("//a?b=s3cret", "//a?b=?"),
            ("//ana:s3cret@host/p", "//[secret]@host/p"),
            ("//ana@host/p", "//ana@host/p"),
            ("/\\x", "/\\x"),
            ("/a//b", "/a//b"),
            ("/a#s3cret?x=1", "/a"),
            ("//a?b=1#s3cret", "//a?b=?"),
            ("/p?next=https://app.example/reset/s3cret", "/p?next=?"),
            ("*", "*"),
            ("a.b:443", "a.b:443"),
            ("ana:s3cret@a.b:443", "a.b:443"),
            ("http://ana:s3cret@shop//x?y=1", "shop//x?y=?"),
            ("", ""),
        ] {
            assert_eq!(scrubbed_target(target, &[]), expected, "{target}");
            let again = scrubbed_target(expected, &[]);
            assert_eq!(again, expected, "once is enough");
        }
    }

    #[test]
    fn names_of_a_query_stay_and_a_mark_stands_where_a_value_was() {
        for (query, expected) in [
            ("flag", "flag"),
            ("flag&b=1", "flag&b=?"),
            ("b=1&flag", "b=?&flag"),
            ("a=b=c", "a=?"),
            ("&&a=1&&flag&&", "a=?&flag"),
            ("a=1;b=2", "a=?"),
            ("flag;b=2", "flag;b=?"),
            ("flag;other", "flag;other"),
            ("=x", "=?"),
            ("=", "="),
            ("a=", "a="),
            ("a=&b", "a=&b"),
            (
                "page2&sha-256&include_deleted&items[]&pageSize",
                "page2&sha-256&include_deleted&items[]&pageSize",
            ),
            ("%66lag", "%66lag"),
            ("pass%77ord=s3cret", "pass%77ord=?"),
            ("größe", "größe"),
            ("gr%C3%B6%C3%9Fe=1", "gr%C3%B6%C3%9Fe=?"),
            // What reads as a value.
            ("s3cret", "?"),
            ("%73%33cret", "?"),
            ("482913", "?"),
            ("code48291", "?"),
            ("9f86d081884c7d65", "?"),
            ("550e8400-e29b-41d4-a716-446655440000", "?"),
            ("dGhpc2lzYXNlY3JldA", "?"),
            ("dGhpc2lzYXNlY3JldA==&b", "?&b"),
            ("ana@example.org", "?"),
            ("two+words", "?"),
        ] {
            let printed = Query { text: query, keep: &[] }.to_string();
            assert_eq!(printed, expected, "{query}");
            let again = Query { text: &printed, keep: &[] }.to_string();
            assert_eq!(again, expected, "once is enough: {query}");
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
            ("//example.org/x", "//example.org/x"),
            ("http://shop//x/healthz", "//x/healthz"),
            ("a.b:443", "a.b:443"),
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
            ("/a?page", "/a?page"),
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
