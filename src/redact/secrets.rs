//! Secrets by their looks.
//!
//! Each rule is a regular expression with the words that none of its matches goes without. Almost
//! every text holds none of these words, nor anything that begins like them, which a glance tells;
//! an automaton looks for the words themselves, and only texts that hold one are searched. Values
//! behind names are read in `assignments` and `markup`. The expressions are searched in time linear in the text
//! (the promise of `regex`), and are written so that a match takes all that was looked at: searching
//! on never looks twice.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use regex::Regex;

use super::glance::Glance;
use super::{issuers, schemes, userinfo};

/// A kind of secret.
struct Rule {
    /// Words of which one is in every match, whatever their case.
    words: &'static [&'static str],
    pattern: &'static str,
    /// What stands there instead.
    mark: &'static str,
}

const SECRETS: &[Rule] = &[
    // Private keys: of OpenSSL, OpenSSH, PGP, SSH2 and PuTTY.
    Rule {
        words: &["-BEGIN ", "- BEGIN ", "private-lines"],
        pattern: concat!(
            r"-{4,5} ?BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)? ?-{4,5}(?s:.*?)",
            r"(?:-{4,5} ?END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)? ?-{4,5}|\z)",
            r"|Private-Lines: [0-9]+(?:\r?\n|\\n)(?:[A-Za-z0-9+/=]+(?:\r?\n|\\n)?)+",
        ),
        mark: "[secret]",
    },
    // JSON Web Tokens, also when cut short: `{"` begins as `eyJ` in base64, and that as `ZXlK`.
    Rule {
        words: &["eyJ", "ZXlK"],
        pattern: r"(?:eyJ|ZXlKa?[hrbjl])[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){0,4}",
        mark: "[secret]",
    },
    // Addresses that whoever knows them can post to.
    Rule {
        words: &["hooks.slack", "webhook"],
        pattern: concat!(
            r"(hooks\.slack(?:-gov)?\.com\\*/(?:services|workflows|triggers)\\*/)[A-Za-z0-9+/\\_-]{8,}",
            r"|(discord(?:app)?\.com\\*/api\\*/(?:v[0-9]+\\*/)?webhooks\\*/)[0-9]+\\*/[A-Za-z0-9_-]{8,}",
            r"|(webhook\.office\.com\\*/webhookb2\\*/)[A-Za-z0-9@/\\_-]{8,}",
        ),
        mark: "${1}${2}${3}[secret]",
    },
    // The value before its name, and that of a property list.
    Rule {
        words: &["value", "<key>"],
        pattern: concat!(
            r#"(\b(?i:value)\\*["']?\s*[:=]\s*\\*["'])[^"'\\<>\[]+(\\*["']\s*,?\s*\\*["']?(?i:name|key|id)\\*["']?\s*[:=]\s*\\*["']?"#,
            r#"[\w.-]*(?i:password|passwd|secret|token|api[_-]?key|authorization|cookie)\\*["'])"#,
            r"|(<key>[^<]*(?i:password|passwd|secret|token|api[_-]?key)</key>\s*<(?:string|data)>)[^<\[]+",
        ),
        mark: "${1}${3}[secret]${2}",
    },
];

/// How JSON begins to write an ASCII letter that need not be escaped.
pub(super) const ESCAPE: &str = "\\u00";

const EMAILS: &[Rule] = &[Rule {
    words: &["@", ESCAPE],
    pattern: r"[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}",
    mark: "[email]",
}];

/// Words of which one is in every name that `assignments` knows, unless JSON escapes its letters.
const NAMED: &[&str] = &[
    "authorization",
    "cookie",
    "pass",
    "pwd",
    "secret",
    "key",
    "credential",
    "token",
    "cvv",
    "cvc",
    "signature=",
    "sig=",
    "identified",
    "jsessionid",
    "phpsessid",
    "connect.sid",
    "jwt",
    "kennwort",
    "bearer",
    "&#",
    "\\x",
    "_auth",
    // Addresses with a user and a password.
    "://",
    ":\\",
    ":/\\",
    ESCAPE,
    // The same in addresses: letters, digits, and what stands between a name and its value.
    "%3",
    "%4",
    "%5",
    "%6",
    "%7",
];

/// Rules with their automaton.
#[derive(Debug)]
pub(super) struct Patterns {
    glance: Glance,
    words: AhoCorasick,
    rules: Vec<(Regex, &'static str)>,
    /// Values behind names are looked for, too.
    named: bool,
}

impl Patterns {
    fn new(rules: &'static [Rule], named: &[&str]) -> Self {
        let words = rules.iter().flat_map(|rule| rule.words);
        let mut words: Vec<&str> = words.chain(named).copied().collect();
        if !named.is_empty() {
            words.extend(schemes::WORDS);
            words.extend(issuers::INNER.iter().map(|it| it.0));
            words.extend(["@tcp(", "@unix("]);
        }
        let keys = if named.is_empty() { &[] } else { issuers::ISSUED };
        let keys: Vec<&str> = keys.iter().map(|it| it.0).collect();
        let glance = Glance::new(&words, &keys);
        let words = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .kind(Some(AhoCorasickKind::DFA))
            .build(words)
            .expect("a few words fit into an automaton");
        let compiled = |rule: &Rule| (Regex::new(rule.pattern).expect("it is tested"), rule.mark);
        let rules = rules.iter().map(compiled).collect();
        Self { glance, words, rules, named: !named.is_empty() }
    }

    /// Credentials of every kind.
    pub(super) fn secrets() -> &'static Self {
        static PATTERNS: LazyLock<Patterns> = LazyLock::new(|| Patterns::new(SECRETS, NAMED));
        &PATTERNS
    }

    /// Addresses of electronic mail.
    pub(super) fn emails() -> &'static Self {
        static PATTERNS: LazyLock<Patterns> = LazyLock::new(|| Patterns::new(EMAILS, &[]));
        &PATTERNS
    }

    /// `false` when no rule can match.
    pub(super) fn may_match(&self, text: &str) -> bool {
        self.glance.may_find(text)
            && (self.words.is_match(text) || self.named && issuers::holds(text))
    }

    /// Puts marks where the rules match.
    pub(super) fn replace(&self, text: &mut String) {
        if self.named {
            super::assignments::replace(text);
            super::markup::replace(text);
        }
        self.replace_looks(text);
    }

    /// The same of what is a secret by its looks, whatever names stand before it.
    pub(super) fn replace_looks(&self, text: &mut String) {
        if self.named {
            userinfo::replace(text);
            userinfo::replace_of_driver(text);
            schemes::replace(text);
            issuers::replace(text);
            issuers::replace_inner(text);
        }
        for (rule, mark) in &self.rules {
            super::replace(rule, mark, text);
        }
    }
}

/// Whether a field or key of this name holds a secret: by how the name ends, separators left out.
/// Numbers, the plural and what says which of several it is do not count.
pub(crate) fn is_secret_name(name: &str) -> bool {
    const ENDS: &[&str] = &[
        "password",
        "passwd",
        "pwd",
        "passphrase",
        "passcode",
        "secret",
        "token",
        "apikey",
        "accesskey",
        "secretkey",
        "privatekey",
        "authorization",
        "cookie",
        "credential",
        "cvv",
        "cvc",
        "accountkey",
        "signingkey",
        "encryptionkey",
        "masterkey",
        "subscriptionkey",
        "keydata",
        "accesssignature",
        "appkey",
        "authkey",
        "consumerkey",
        "sshkey",
        "licensekey",
        "sessionkey",
        "hmackey",
        "deploykey",
        "rolekey",
        "jwt",
        "jsessionid",
        "phpsessid",
        "connectsid",
        "passwort",
        "kennwort",
    ];
    const WHICH: [&str; 5] = ["confirmation", "confirm", "repeat", "hash", "value"];
    // Others are counted: `max_tokens`.
    const TOKENS: [&str; 11] = [
        "access", "refresh", "auth", "id", "api", "session", "bearer", "csrf", "xsrf", "reset",
        "device",
    ];
    // The longest end and the longest addition have 25 letters.
    let mut end = [0; 40];
    let mut start = end.len();
    let letters = name.bytes().rev().filter(|byte| !matches!(byte, b'_' | b'-' | b'.' | b' '));
    for letter in letters.take(end.len()) {
        start -= 1;
        end[start] = letter.to_ascii_lowercase();
    }
    let without_number = |it: &mut &[u8]| {
        while let Some((b'0'..=b'9', rest)) = it.split_last() {
            *it = rest;
        }
    };
    let mut end = &end[start..];
    without_number(&mut end);
    if let Some(rest) = WHICH.iter().find_map(|it| end.strip_suffix(it.as_bytes())) {
        end = rest;
        without_number(&mut end);
    }
    let of_list = |end: &[u8], list: &[&str]| list.iter().any(|it| end.ends_with(it.as_bytes()));
    if let Some(kind) = end.strip_suffix(b"tokens") {
        return of_list(kind, &TOKENS);
    }
    of_list(end, ENDS)
        || end.strip_suffix(b"s").is_some_and(|end| of_list(end, ENDS))
        || end.strip_suffix(b"pass").is_some_and(|before| !is_way(before))
}

/// Whether `pass` behind this ends a word that names a way, or the like, and no secret: `bypass`.
pub(super) fn is_way(before: &[u8]) -> bool {
    const WAYS: [&str; 7] = ["by", "com", "over", "sur", "tres", "under", "multi"];
    WAYS.iter().any(|way| {
        let end = before.len().checked_sub(way.len()).map(|at| &before[at..]);
        end.is_some_and(|end| end.eq_ignore_ascii_case(way.as_bytes()))
    })
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
        ("postgres://ana:c4n4@ry:c4n4ry@db/a@b", "postgres://[secret]@db/a@b"),
        (r#"Login { refresh_token: "c4n4ry", n: 1 }"#, "Login { refresh_token: [secret], n: 1 }"),
        (r#"Login { token: Some("c4n4ry") }"#, "Login { token: Some([secret]) }"),
        ("refreshToken: c4n4ry, x", "refreshToken: [secret], x"),
        (r#"Cookie: theme="dark"; sid=c4n4ry"#, "Cookie: [secret]"),
        (r#"Cookie: "dark"; sid=c4n4ry"#, "Cookie: [secret]"),
        (r#"cookie: Some("a=\"b\"; sid=c4n4ry"), n: 1"#, r#"cookie: Some("[secret]"), n: 1"#),
        (r#"{"cookie": "a=\"b\"; sid=c4n4ry", "b": 1"#, r#"{"cookie": "[secret]", "b": 1"#),
        (
            r#"Authorization: Digest username="a", response="c4n4ry"\r\nHost: x"#,
            r"Authorization: [secret]\r\nHost: x",
        ),
        (
            "Authorization: Digest username=\"a\", response=\"c4n4ry\"\nHost: x",
            "Authorization: [secret]\nHost: x",
        ),
        (
            r#"got \"authorization\": \"Digest username=\\\"a\\\", response=\\\"c4n4ry\\\"\", ok"#,
            r#"got \"authorization\": \"[secret]\", ok"#,
        ),
        (r#"secret_key = "c4n4ry""#, "secret_key = [secret]"),
        ("SECRET_KEY=c4n4ry x", "SECRET_KEY=[secret] x"),
        (
            "password_confirmation=c4n4ry&passwords=c4n4ry",
            "password_confirmation=[secret]&passwords=[secret]",
        ),
        ("password1: c4n4ry", "password1: [secret]"),
        (r#"cut {"password": {"old":"c4n4ry"}, "a": 1"#, r#"cut {"password": [secret], "a": 1"#),
        (r#"cut {\"password\": {\"old\":\"}c4n4ry\"}, 1"#, r#"cut {\"password\": [secret], 1"#),
        (r#"cut {"secret":["c4n4ry", "]c4n4ry"], 1"#, r#"cut {"secret":[secret], 1"#),
        (r#"L { password: Password { value: "c4n4ry" }, n: 1 }"#, "L { password: [secret], n: 1 }"),
        (r#"L { password: Password("c4n4ry"), n: 1 }"#, "L { password: Password([secret]), n: 1 }"),
        (r#"\"password\":\"a\\\"c4n4ry\", b"#, r#"\"password\":[secret], b"#),
        ("WHERE passwd = 'a''c4n4ry' AND 1", "WHERE passwd = [secret] AND 1"),
        ("password=a(c4n4ry)", "password=[secret])"),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nc4n4ry\n-----END RSA PRIVATE KEY----- end",
            "[secret] end",
        ),
        ("-----BEGIN PRIVATE KEY-----\nc4n4ry", "[secret]"),
        (
            r#"cut {"dsn":"postgres:\/\/ana:c4n4ry@db\/a@b"#,
            r#"cut {"dsn":"postgres:\/\/[secret]@db\/a@b"#,
        ),
        (r#"cut {"dsn":"postgres:/\/ana:c4n4ry@db"#, r#"cut {"dsn":"postgres:/\/[secret]@db"#),
        (r#"cut \"amqp:\\\/\\\/ana:c4n4ry@mq"#, r#"cut \"amqp:\\\/\\\/[secret]@mq"#),
        ("card declined, cvv=c4n4ry", "card declined, cvv=[secret]"),
        ("cvc: c4n4ry, CVV2=c4n4ry", "cvc: [secret], CVV2=[secret]"),
        ("user=ana pass=c4n4ry", "user=ana pass=[secret]"),
        ("Login { pass: c4n4ry, n: 1 }", "Login { pass: [secret], n: 1 }"),
        ("SMTP_PASS=\"c4n4ry\" dbPass: 'c4n4ry'", "SMTP_PASS=[secret] dbPass: [secret]"),
        ("pass=123&passcode=c4n4ry", "pass=[secret]&passcode=[secret]"),
        ("pass: 1234", "pass: [secret]"),
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
            "prompt_tokens: 17, tokens=3",
            "Mailto://a b@c",
            "/reset?token=?&password=?",
            "SELECT 1 WHERE password = ?",
            "all tests pass, none fails",
            "pass: 3, fail: 1",
            "bypass: on, compass=north, Overpass: open",
            "passes: many, passenger: ana, passive=yes",
            "the cvv is missing",
            r"C:\\shop\\bin and a@b",
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
            "password1",
            "password_confirmation",
            "newPasswordRepeat",
            "passwords",
            "accessTokens",
            "refresh_tokens",
            "passwordHash",
            "password_2_confirm",
            "Set-Cookies",
            "authorization-confirmation-1234",
            "pass",
            "db.pass",
            "SMTP_PASS",
            "userPass",
            "pass2",
            "passcode",
            "CVV2",
        ] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in [
            "token_count",
            "secretary",
            "key",
            "passwords_changed",
            "",
            "cookie_banner",
            "max_tokens",
            "hash",
            "sha1",
            "s",
            "passes",
            "passed",
            "bypass",
            "Compass",
            "by",
        ] {
            assert!(!is_secret_name(name), "{name}");
        }
    }
}
