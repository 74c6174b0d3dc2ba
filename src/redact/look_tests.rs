//! The first look at a text lets nothing pass that the search behind it would take out.

use proptest::prelude::*;
use serde_json::Value as Json;

use super::Redactor;
use crate::config::RedactConfig;

/// Secrets, numbers of cards, mail addresses.
const LOOKED_FOR: &[(bool, bool, bool)] =
    &[(true, true, false), (true, true, true), (false, true, false), (false, false, true)];

proptest! {
    // There are many kinds of secrets.
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(4096),
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_the_first_look_lets_pass_has_no_secret(
        (pieces, escaped, as_json) in (
            prop::collection::vec(piece(), 1..4),
            prop::collection::vec(0..4_u8, 16),
            prop::option::of(prop::bool::ANY),
        ),
        (secrets, cards, emails) in prop::sample::select(LOOKED_FOR),
    ) {
        let config = RedactConfig { secrets, cards, emails, pattern: None, ..Default::default() };
        let redactor = Redactor::new(&config);
        let text = match as_json {
            None => pieces.concat(),
            Some(false) => format!(r#"{{"note":"{}"}}"#, json(&pieces.concat(), &escaped)),
            Some(true) => format!(r#"{{"{}":"c4n4ry"}}"#, json(&pieces.concat(), &escaped)),
        };
        if !redactor.may_change(&text) {
            let mut searched = text.clone();
            redactor.take_out(&mut searched, None);
            // JSON is written anew, and says the same.
            let said = |text: &str| serde_json::from_str::<Json>(text).ok();
            let is_same = searched == text || said(&searched).is_some_and(|it| Some(it) == said(&text));
            prop_assert!(is_same, "{} would be {}", text, searched);
        }
    }
}

/// What texts with secrets are made of: names with what stands behind them, and values.
fn piece() -> impl Strategy<Value = String> {
    const NAMES: &[&str] = &[
        "authorization",
        "Cookies",
        "token",
        "accessToken",
        "refresh_tokens",
        "passwd",
        "password",
        "PWD",
        "pass",
        "passcode",
        "db_pass",
        "cvv",
        "CVC2",
        "api-key",
        "privatekey",
        "credentials",
        "secret_key",
        "passphrase",
        "to\u{212a}en",
        "pa\u{17f}\u{17f}word",
    ];
    const BETWEEN: &[&str] = &["=", ": ", "\":\"", "\\\":\\\"", " "];
    const VALUES: &[&str] = &[
        "c4n4ry",
        "'c4n4ry'",
        "Bearer c4n4ryc4n4ry",
        "basic c4n4ryc4n4ryc4n4ry",
        "eyJhbGciOiJIUzI1NiJ9",
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_c4n4ryc4n4ryc4n4ryc4n4ry0",
        "github_pat_c4n4ryc4n4ryc4n4ry",
        "glpat-c4n4ryc4n4ryc4n4",
        "xoxb-c4n4ryc4n4ry",
        "sk_live_c4n4ryc4n4ry",
        "rk_test_c4n4ryc4n4ry",
        "npm_c4n4ryc4n4ryc4n4ryc4n4ryc4n4ryc4n4ry",
        "AIzac4n4ryc4n4ryc4n4ryc4n4ryc4n4ryc4n4r",
        "-----BEGIN PRIVATE KEY-----",
        "x://ana:c4n4ry@db",
        "x:\\/\\/ana:c4n4ry@db",
        "x:\\\\\\/\\\\\\/ana:c4n4ry@db",
        "https://h/p?key=c4n4ry",
        "https:\\/\\/h\\/p?key=c4n4ry",
        "<CVV>c4n4ry</CVV>",
        "<db:pass>c4n4ry",
        "4111111111111111",
        "4111-1111 1111-1111",
        "ana@shop.example",
        "sk-ant-c4n4ryc4n4ry",
        "SG.c4n4ryc4n4ry.c4n4ry",
        "SK0123456789abcdef0123456789abcdef",
        "hf_c4n4ryC4n4ryc4n4ryc4n4ry",
        "12345678:AAc4n4ryc4n4ryc4n4ryc4n4ryc4n4ryc",
        "abc4Q~c4n4ryc4n4ryc4n4ryc4n4ryc4n4ryc4n4ry",
        "hooks.slack.com/services/c4n4ryc4n4ry",
        "-----BEGIN PGP PRIVATE KEY BLOCK-----",
        "Private-Lines: 1\nc4n4ry",
        "ana:c4n4ry@tcp(db)",
        "/reset?code=c4n4ry",
        "a?b=c4n4ry",
        "/p#t=c4n4ry",
        "x?c4n4ry",
        "pass%77ord=c4n4ry",
        "p\\x61ssword=c4n4ry",
        "p&#97;ssword=c4n4ry",
        "identified by 'c4n4ry'",
        "?sig=c4n4ry",
        "curl -u ana:c4n4ry",
        "mysql -pc4n4ry",
        "redis-cli -a c4n4ry",
        "login ana password c4n4ry",
        "Digest realm=c4n4ry",
        "Token c4n4ryc4n4ry",
        "value=\"c4n4ry\" name=\"password\"",
        "<key>password</key><string>c4n4ry",
        "JSESSIONID=c4n4ry",
        "signing key: c4n4ry",
        "client-key-data: c4n4ry",
        "4111.1111.1111.1111",
        "4111%201111%201111%201111",
        "4111\u{a0}1111\u{a0}1111\u{a0}1111",
        " ",
        "{",
        "\u{e9}",
    ];
    let named = (prop::sample::select(NAMES), prop::sample::select(BETWEEN))
        .prop_map(|(name, between)| format!("{name}{between}c4n4ry "));
    let value = prop::sample::select(VALUES).prop_map(str::to_owned);
    (prop_oneof![named, value], 0..4_u8).prop_map(|(piece, case)| match case {
        0 => piece.to_ascii_uppercase(),
        1 => piece.to_ascii_lowercase(),
        _ => piece,
    })
}

/// A text inside of JSON's quotes, with escapes that nobody needs.
fn json(text: &str, escaped: &[u8]) -> String {
    let choice = escaped.iter().cycle();
    let escape = |(one, choice): (char, &u8)| match (one, choice) {
        ('/', 1) => "\\/".to_owned(),
        (_, 2) if one.is_ascii() => format!("\\u{:04x}", u32::from(one)),
        ('"' | '\\', _) => format!("\\{one}"),
        _ => one.to_string(),
    };
    text.chars().zip(choice).map(escape).collect()
}
