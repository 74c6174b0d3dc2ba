//! Secrets by their looks.
//!
//! Each rule is a regular expression with the words that none of its matches goes without. Almost
//! every text holds none of these words, which one pass of an automaton tells; only the others are
//! searched. The expressions are searched in time linear in the text (the promise of `regex`), and
//! are written so that a match takes all that was looked at: searching on never looks twice.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use regex::Regex;

/// A kind of secret.
struct Rule {
    /// Words of which one is in every match, whatever their case.
    words: &'static [&'static str],
    pattern: &'static str,
    /// What stands there instead.
    mark: &'static str,
}

const SECRETS: &[Rule] = &[
    Rule {
        words: &["-----BEGIN"],
        pattern: r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)",
        mark: "[secret]",
    },
    // Header lines: to the end of the line, since their values hold separators of all kinds.
    Rule {
        words: &["authorization", "cookie"],
        pattern: r#"(?i)((?:authorization|cookie)(?:\\*["'])?\s*[:=]\s*\\*["']?)[^\r\n"'\\]+"#,
        mark: "${1}[secret]",
    },
    // Assignments, JSON and `Debug`: `password=x`, `"api_key": "x"`, `secret: Some("x")`.
    Rule {
        words: &["passw", "pwd", "passphrase", "secret", "key", "credential", "token"],
        pattern: concat!(
            r"(?i)((?:(?:password|passwd|pwd|passphrase|secret|api[_-]?key|access[_-]?key",
            r#"|private[_-]?key|credentials?)(?:\\*["'])?\s*[:=]|token(?:=|\\*["']\s*:))"#,
            r#"\s*(?:\w+\(){0,3})"#,
            // What was taken out before is taken out again.
            r#"(?:\[secret\]|\\+["'][^"']*(?:["']|\z)|"(?:[^"\\]|\\.)*(?:"|\\?\z)|'[^']*(?:'|\z)|[^\s"',;&(){}\[\]\\]+)"#,
        ),
        mark: "${1}[secret]",
    },
    Rule {
        words: &["bearer", "basic"],
        pattern: r"(?i)\b(bearer\s+)[a-z0-9._~+/=-]{8,}|\b(basic\s+)[a-z0-9+/=]{16,}",
        mark: "${1}${2}[secret]",
    },
    // JSON Web Tokens, also when cut short: `{"` begins as `eyJ` in base64.
    Rule {
        words: &["eyJ"],
        pattern: r"eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){0,4}",
        mark: "[secret]",
    },
    Rule { words: &["AKIA", "ASIA"], pattern: r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b", mark: "[secret]" },
    // Tokens that services mark as such: GitHub, GitLab, Slack, Stripe, Google, npm.
    Rule {
        words: &["gh", "glpat-", "xox", "_live_", "_test_", "AIza", "npm_"],
        pattern: concat!(
            r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{16,}",
            r"|xox[abeprs]-[A-Za-z0-9-]{10,}|[rs]k_(?:live|test)_[A-Za-z0-9]{10,}",
            r"|AIza[A-Za-z0-9_-]{35}|npm_[A-Za-z0-9]{30,})",
        ),
        mark: "[secret]",
    },
    // User and password of an address.
    Rule { words: &["://"], pattern: r"://[^/\s@]+@", mark: "://[secret]@" },
];

const EMAILS: &[Rule] = &[Rule {
    words: &["@"],
    pattern: r"[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}",
    mark: "[email]",
}];

/// Rules with their automaton.
#[derive(Debug)]
pub(super) struct Patterns {
    words: AhoCorasick,
    rules: Vec<(Regex, &'static str)>,
}

impl Patterns {
    fn new(rules: &'static [Rule]) -> Self {
        let words: Vec<_> = rules.iter().flat_map(|rule| rule.words).collect();
        let words = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .kind(Some(AhoCorasickKind::DFA))
            .build(words)
            .expect("a few words fit into an automaton");
        let compiled = |rule: &Rule| (Regex::new(rule.pattern).expect("it is tested"), rule.mark);
        Self { words, rules: rules.iter().map(compiled).collect() }
    }

    /// Credentials of every kind.
    pub(super) fn secrets() -> &'static Self {
        static PATTERNS: LazyLock<Patterns> = LazyLock::new(|| Patterns::new(SECRETS));
        &PATTERNS
    }

    /// Addresses of electronic mail.
    pub(super) fn emails() -> &'static Self {
        static PATTERNS: LazyLock<Patterns> = LazyLock::new(|| Patterns::new(EMAILS));
        &PATTERNS
    }

    /// `false` when no rule can match.
    pub(super) fn may_match(&self, text: &str) -> bool {
        self.words.is_match(text)
    }

    /// Puts marks where the rules match.
    pub(super) fn replace(&self, text: &mut String) {
        for (rule, mark) in &self.rules {
            super::replace(rule, mark, text);
        }
    }
}

/// Whether a field or key of this name holds a secret: by how the name ends, separators left out.
pub(crate) fn is_secret_name(name: &str) -> bool {
    const ENDS: [&str; 16] = [
        "password",
        "passwd",
        "pwd",
        "passphrase",
        "secret",
        "token",
        "apikey",
        "accesskey",
        "secretkey",
        "privatekey",
        "authorization",
        "cookie",
        "credential",
        "credentials",
        "cvv",
        "cvc",
    ];
    // The longest end has thirteen letters.
    let mut end = [0; 16];
    let mut start = end.len();
    let letters = name.bytes().rev().filter(|byte| !matches!(byte, b'_' | b'-' | b'.' | b' '));
    for letter in letters.take(end.len()) {
        start -= 1;
        end[start] = letter.to_ascii_lowercase();
    }
    ENDS.iter().any(|it| end[start..].ends_with(it.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets_out(text: &str) -> String {
        let mut text = text.to_owned();
        Patterns::secrets().replace(&mut text);
        text
    }

    /// Texts with the canary in them, and what must be left.
    const CASES: &[(&str, &str)] = &[
        ("sent Bearer c4n4ry.to_ken-1~x to it", "sent Bearer [secret] to it"),
        ("Basic YW5hOmM0bjRyeWM0bjRyeQ==", "Basic [secret]"),
        ("authorization: Basic YTpjNG40cnk=", "authorization: [secret]"),
        ("Cookie: sid=c4n4ry; theme=c4n4ry\r\nhost: x", "Cookie: [secret]\r\nhost: x"),
        (r#"{"set-cookie":"a=c4n4ry; Path=/","b":1}"#, r#"{"set-cookie":"[secret]","b":1}"#),
        ("password=c4n4ry&x=1", "password=[secret]&x=1"),
        ("db_password: c4n4ry, retry", "db_password: [secret], retry"),
        (r#"{"password": "c4n4ry \" c4n4ry", "a": 1}"#, r#"{"password": [secret], "a": 1}"#),
        (r#"Login { password: Some("c4n4ry"), n: 1 }"#, "Login { password: Some([secret]), n: 1 }"),
        (r#"got \"api_key\":\"c4n4ry\" back"#, r#"got \"api_key\":[secret] back"#),
        (r#"client_secret="c4n4ry never ended"#, "client_secret=[secret]"),
        ("WHERE passwd = 'c4n4ry x' AND 1", "WHERE passwd = [secret] AND 1"),
        ("?access_token=c4n4ry", "?access_token=[secret]"),
        (r#"{"token":"c4n4ry"}"#, r#"{"token":[secret]}"#),
        ("jwt eyJhbGciOiJIUzI1NiJ9.eyJjNG40cnkiOjF9.c4n4ry!", "jwt [secret]!"),
        ("cut eyJhbGciOiJIUzI1NiJ9", "cut [secret]"),
        ("id AKIAIOSFODNN7EXAMPLE here", "id [secret] here"),
        ("ghp_c4n4ryc4n4ryc4n4ryc4n4ry0", "[secret]"),
        ("key sk_live_c4n4ryc4n4ry", "key [secret]"),
        ("postgres://ana:c4n4ry@db/shop", "postgres://[secret]@db/shop"),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nc4n4ry\n-----END RSA PRIVATE KEY----- end",
            "[secret] end",
        ),
        ("-----BEGIN PRIVATE KEY-----\nc4n4ry", "[secret]"),
    ];

    #[test]
    fn secrets_of_every_kind_are_taken_out_and_the_rest_stays() {
        for (text, expected) in CASES {
            assert!(Patterns::secrets().may_match(text), "{text}");
            assert_eq!(secrets_out(text), *expected);
            assert_eq!(secrets_out(expected), *expected, "once is enough");
        }
    }

    #[test]
    fn what_people_write_about_secrets_stays() {
        for text in [
            "unexpected token: `}` at 7",
            "basic understanding of bearer bonds",
            "the password was wrong",
            "secret santa, key lime",
            "-----BEGIN CERTIFICATE-----",
            "https://shop.example/users/a@b",
            "max_tokens=300 token_count: 5",
            "/users/17/keys",
            "/reset?token=?&password=?",
            "SELECT 1 WHERE password = ?",
        ] {
            assert_eq!(secrets_out(text), text);
        }
    }

    #[test]
    fn names_of_secrets_are_told_by_their_end() {
        for name in [
            "password",
            "db.password",
            "X-Api-Key",
            "apiKey",
            "accessToken",
            "set-cookie",
            "Authorization",
            "client_secret",
            "http.request.header.cookie",
            "pwd",
        ] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["token_count", "secretary", "key", "passwords_changed", "", "cookie_banner"] {
            assert!(!is_secret_name(name), "{name}");
        }
    }
}
