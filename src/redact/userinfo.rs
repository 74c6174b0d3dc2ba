//! Users and passwords of addresses: `postgres://ana:x@db`.
//!
//! They go up to the last `@` of the authority. Passwords that nobody encoded may have in them what
//! ends an authority - `/`, `#`, `?`, a space: where a user and a colon stand before, the `@` is looked
//! for behind those, too. JSON may escape slashes, and JSON inside of JSON the backslashes.

use std::sync::LazyLock;

use regex::Regex;

use super::SECRET;

/// How far behind a space an `@` is still taken for that of the address.
const BEHIND_SPACE: usize = 64;

static BEGINNING: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r":\\*/\\*/").expect("it is tested"));

/// Puts a mark in place of each of them.
pub(super) fn replace(text: &mut String) {
    let mut out = String::new();
    let (mut copied, mut at) = (0, 0);
    while let Some(found) = BEGINNING.find_at(text, at) {
        let start = found.end();
        // What follows the next address is looked at then.
        let next = BEGINNING.find_at(text, start).map_or(text.len(), |it| it.start());
        at = start;
        let rest = &text[start..next];
        let Some(end) = plain(rest).or_else(|| unencoded(rest)) else { continue };
        if rest[..end] == *SECRET {
            continue;
        }
        out.push_str(&text[copied..start]);
        out.push_str(SECRET);
        (copied, at) = (start + end, start + end);
    }
    if copied > 0 {
        out.push_str(&text[copied..]);
        *text = out;
    }
}

/// `ana:x@tcp(db:3306)`, as Go's driver of `MySQL` has it.
pub(super) fn replace_of_driver(text: &mut String) {
    let mut out = String::new();
    let (mut copied, mut at) = (0, 0);
    while let Some(found) = text[at..].find('@').map(|it| at + it) {
        at = found + 1;
        if !(text[at..].starts_with("tcp(") || text[at..].starts_with("unix(")) {
            continue;
        }
        // What is longer is no password.
        let word = text.as_bytes()[copied..found].iter().rev().take(256);
        let start = found - word.take_while(|it| !it.is_ascii_whitespace() && **it != b'"').count();
        let colon = text.as_bytes()[start..found].iter().position(|it| *it == b':');
        let Some(value) = colon.map(|it| start + it + 1).filter(|it| *it < found) else { continue };
        out.push_str(&text[copied..value]);
        out.push_str(SECRET);
        copied = found;
    }
    if copied > 0 {
        out.push_str(&text[copied..]);
        *text = out;
    }
}

/// The last `@` of the authority.
fn plain(rest: &str) -> Option<usize> {
    let authority = rest.find(|it: char| it.is_whitespace() || matches!(it, '/' | '?' | '#'));
    rest[..authority.unwrap_or(rest.len())].rfind('@').filter(|it| *it > 0)
}

/// The last `@` behind `user:password`, of which the password has what should be encoded.
fn unencoded(rest: &str) -> Option<usize> {
    let is_user =
        |it: char| it.is_ascii_alphanumeric() || matches!(it, '_' | '-' | '.' | '%' | '+');
    let colon = rest.find(|it: char| !is_user(it)).filter(|at| rest[*at..].starts_with(':'))?;
    let password = &rest[colon + 1..];
    let port = password.find(|it: char| !it.is_ascii_digit()).unwrap_or(password.len());
    let is_port = port <= 5
        && (port > 0 || password.is_empty())
        && password[port..].chars().next().is_none_or(|it| {
            it.is_whitespace() || matches!(it, '/' | '?' | '#' | ',' | ')' | '"' | '\'')
        });
    if is_port {
        return None;
    }
    let line = password.find(['\r', '\n', '"', '\'', '<', '>', '`']).unwrap_or(password.len());
    let line = &password[..line];
    let space = line.find(' ').unwrap_or(line.len());
    let mut most = (space + BEHIND_SPACE).min(line.len());
    while !line.is_char_boundary(most) {
        most -= 1;
    }
    let end = line[..space].rfind('@').or_else(|| line[..most].find('@'))?;
    // A host follows.
    let follows = line[end + 1..].starts_with(|it: char| it.is_ascii_alphanumeric() || it == '[');
    follows.then_some(colon + 1 + end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out(text: &str) -> String {
        let mut text = text.to_owned();
        replace(&mut text);
        text
    }

    #[test]
    fn passwords_of_addresses_go_also_where_nobody_encoded_them() {
        for (text, expected) in [
            ("postgres://ana:c4n4ry@db/shop", "postgres://[secret]@db/shop"),
            ("postgres://ana:c4/n4ry@db/shop", "postgres://[secret]@db/shop"),
            ("postgres://ana:c4#n4ry@db/shop", "postgres://[secret]@db/shop"),
            ("postgres://ana:c4?n4ry@db/shop", "postgres://[secret]@db/shop"),
            ("postgres://ana:c4 n4ry@db/shop", "postgres://[secret]@db/shop"),
            ("postgres://ana:1234/c4n4ry@db", "postgres://ana:1234/c4n4ry@db"),
            ("postgres://ana:c4n4@ry:c4n4ry@db/a@b", "postgres://[secret]@db/a@b"),
            ("x://a:b@c and y://d:e@f", "x://[secret]@c and y://[secret]@f"),
            ("https://h.example:8080/a@b", "https://h.example:8080/a@b"),
            ("https://h.example/a:b@c", "https://h.example/a:b@c"),
            ("http://localhost:3000 a@b", "http://localhost:3000 a@b"),
        ] {
            assert_eq!(out(text), expected);
            assert_eq!(out(expected), expected, "once is enough");
        }
    }
}
