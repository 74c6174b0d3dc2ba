//! Credentials behind words: `Bearer x`, `Basic x`, `curl -u ana:x`, `mysql -px`, `login ana password x`.
//!
//! "Bearer authentication failed" has none: what follows must look like one.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::SECRET;
use super::issuers::is_drawn;
use super::values::is_harmless;

/// Words of which one is in every text that something is taken out of, unless a name of secrets is:
/// `token`, `password`.
pub(super) const WORDS: &[&str] =
    &["bearer", "basic", "digest", "curl", "mysql", "sshpass", "docker", "redis-cli", "jdbc"];

static SCHEMES: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = concat!(
        r"\b(?:(?i-u:(?<bearer>bearer|token|api-?key))\s+(?<token>[A-Za-z0-9._~+/=-]+)",
        r"|(?i-u:basic)\s+(?<basic>[A-Za-z0-9+/=_-]+)",
        r"|(?i-u:digest)\s+(?<digest>(?:username|realm|nonce|response|uri)=[^\r\n]+))",
    );
    Regex::new(pattern).expect("it is tested")
});

/// Options of programs that take a password, and `.netrc`.
static OPTIONS: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = concat!(
        r#"(?:\bcurl\b[^\r\n|;]*?\s(?:-u|--user)[ =]?["']?[^\s:"']+:(?<user>[^\s"']+)"#,
        r#"|\bmysql[a-z]*\b[^\r\n|;]*?\s-p["']?(?<joined>[^\s"']+)"#,
        r#"|\b(?:sshpass|docker\s+login)\b[^\r\n|;]*?\s-p\s*["']?(?<apart>[^\s"']+)"#,
        r#"|\bredis-cli\b[^\r\n|;]*?\s-a\s+["']?(?<auth>[^\s"']+)"#,
        r#"|\blogin\s+\S+\s+password\s+(?<netrc>\S+)"#,
        r#"|\bjdbc:oracle:[a-z]+:[^/\s]+/(?<oracle>[^@\s]+)@)"#,
    );
    Regex::new(pattern).expect("it is tested")
});

/// Puts a mark in place of each such value.
pub(super) fn replace(text: &mut String) {
    each(&SCHEMES, text, |found| {
        if let Some(value) = found.name("token") {
            let is_bearer = found["bearer"].eq_ignore_ascii_case("bearer");
            return is_token(value.as_str(), if is_bearer { 5 } else { 8 })
                .then_some(value.range());
        }
        if let Some(value) = found.name("basic") {
            return is_basic(value.as_str()).then_some(value.range());
        }
        found.name("digest").map(|it| it.range())
    });
    each(&OPTIONS, text, |found| {
        let value = ["user", "joined", "apart", "auth", "netrc", "oracle"]
            .iter()
            .find_map(|it| found.name(it))?;
        let has_letter = value.as_str().bytes().any(|it| it.is_ascii_alphanumeric());
        (has_letter && !is_harmless(value.as_str())).then_some(value.range())
    });
}

fn each(
    rule: &Regex,
    text: &mut String,
    judge: impl Fn(&Captures<'_>) -> Option<std::ops::Range<usize>>,
) {
    let mut out = String::new();
    let (mut copied, mut at) = (0, 0);
    while let Some(found) = rule.captures_at(text, at) {
        at = found.get_match().end();
        if let Some(value) = judge(&found) {
            out.push_str(&text[copied..value.start]);
            out.push_str(SECRET);
            copied = value.end;
        }
    }
    if copied > 0 {
        out.push_str(&text[copied..]);
        *text = out;
    }
}

/// A word of a sentence is in one case and has no digits.
fn is_token(value: &str, least: usize) -> bool {
    let bytes = value.trim_end_matches(['.', ',']).as_bytes();
    let digit = bytes.iter().any(u8::is_ascii_digit);
    let is_dated = bytes.iter().all(|it| it.is_ascii_digit() || matches!(it, b'-' | b'.' | b'/'));
    bytes.len() >= least && !is_dated && (digit || bytes.len() >= 16 && is_drawn(bytes))
        || bytes.len() >= 32 && bytes.iter().all(u8::is_ascii_alphabetic)
}

/// A user and a password in base64 have a colon between them.
fn is_basic(value: &str) -> bool {
    let mut bits = 0_u32;
    let mut count = 0;
    let mut colon = false;
    let mut printable = true;
    for byte in value.trim_end_matches('=').bytes() {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            _ => 63,
        };
        bits = bits << 6 | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            let decoded = (bits >> count) as u8;
            colon |= decoded == b':';
            printable &= decoded >= b' ' && decoded != 0x7f;
        }
    }
    value.len() >= 4 && colon && printable || value.len() >= 16 && is_drawn(value.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_a_scheme_goes_if_it_looks_like_a_credential() {
        for (text, expected) in [
            ("Bearer c4n4ry", "Bearer [secret]"),
            ("Basic YTpi", "Basic [secret]"),
            ("Token 0123456789abcdef", "Token [secret]"),
            ("Bearer authentication failed", "Bearer authentication failed"),
            ("Basic authentication is required", "Basic authentication is required"),
            ("basic JavaScript support", "basic JavaScript support"),
            ("token refreshed", "token refreshed"),
            ("curl -sS -u ana:c4n4ry https://h", "curl -sS -u ana:[secret] https://h"),
            ("mysql -uroot -pc4n4ry shop", "mysql -uroot -p[secret] shop"),
            ("mysql -p shop", "mysql -p shop"),
            ("machine h login ana password c4n4ry", "machine h login ana password [secret]"),
        ] {
            let mut out = text.to_owned();
            replace(&mut out);
            assert_eq!(out, expected);
            replace(&mut out);
            assert_eq!(out, expected, "once is enough");
        }
    }
}
