//! Time grows with the text and not with its square, also for texts made to be slow.
//!
//! `cargo test --release --lib redact::speed -- --nocapture` prints what 1 MiB of each takes.

use std::time::{Duration, Instant};

use super::{Redactor, issuers};
use crate::config::RedactConfig;

/// What hostile texts repeat.
const UNITS: &[&str] = &[
    "eyJ",
    "password=\"",
    "password='\\",
    "-----BEGIN PRIVATE KEY-----",
    "://",
    "bearer ",
    "4111 ",
    "4",
    "a@",
    "a@a.",
    "cookie:\"",
    "token=",
    "secret:Some(",
    "\\\"",
    "AKIA",
    "@",
    "password={",
    "password=[\"",
    "password=Some(",
    "token: a",
    "cookie: \\",
    "secret=\\\\\"",
    "://?a&",
    ":\\/\\/",
    ":\\\\",
    "://a\\/?a\\/",
    "pass: 1",
    "<token>",
    "<token ",
    "<token>a",
    "<token><![CDATA[",
    "://a?",
    "4111111111111111 ",
    "password=",
    "\"'`",
    "\"\"\"",
    "4.1-1 1/1+",
    "4111.1111.1111.111",
    "%70%61%73%73",
    "%25",
    "\\u0070",
    "\\\\",
    "&#112;",
    "&amp;",
    "sk-",
    "sk-ant-",
    "ghp_ghp",
    "xoxb-1",
    "password=r#\"is a ",
    "password=\"\"\"is a ",
    "token: r#\"a ",
    "token r#\"a token ",
    "cookie: no ",
    "cookie=none;",
    "pwd=/",
    "password={{ ",
    "password: |\n",
    "password: |\n a\n  ",
    "name=\"password\">",
    "(\"password\", b\"",
    "[[\"password\",\"a\"],",
    "--password ",
    "--password \"token ",
    "identified by ",
    "password for a ",
    "password is ",
    "password,\"value\"=",
    "value=\"a\",name=\"",
    "<key>password</key>",
    "<key>a",
    "curl -u ",
    "mysql ",
    "mysql -p ",
    "login a password ",
    "Digest realm=",
    "Basic YTpi",
    "Token a1b2c3d4 ",
    "://a:b",
    "://a:b c",
    "://a:@",
    "a:b@tcp(",
    "a:a:",
    "a?b=",
    "a#b",
    "/?a1b2c3",
    "?a",
    "#",
    "12345678:AA",
    "a.atlasv1.",
    "1Q~",
    "hooks.slack.com/services/",
    "Private-Lines: 1\n",
    "sig=",
    "KEY: &'static str = \"",
    "password: &&&&",
    "ENV token ",
    "(password) VALUES ('",
    "(a,password) values (",
    "é",
    "\u{a0}4111",
    "{\"password\":",
    "[",
    "{\"a\":[",
    "AuthToken(",
    "[]byte(",
    "password:[]byte([]byte(",
    "a_",
    "S",
    "cmVmd",
    "v1.0-a",
];

fn redactor() -> Redactor {
    Redactor::new(&RedactConfig { emails: true, ..RedactConfig::default() })
}

fn hostile(bytes: usize) -> impl Iterator<Item = String> {
    UNITS.iter().map(move |unit| unit.repeat(bytes / unit.len()))
}

fn time(redactor: &Redactor, text: &str) -> Duration {
    let mut text = text.to_owned();
    let start = Instant::now();
    redactor.text(&mut text);
    start.elapsed()
}

#[test]
fn time_grows_with_the_text_and_not_with_its_square() {
    let redactor = redactor();
    // The automata are built at the first use.
    for text in hostile(64) {
        let _ = time(&redactor, &text);
    }
    let mut slow = Vec::new();
    for (small, large) in hostile(4 << 10).zip(hostile(128 << 10)) {
        // 32 times the text: quadratic would be 1024 times as long, each time. What a busy machine
        // adds to one look is not in all of them; and a short text may be looked at by quicker means.
        let (mut short, mut long) = (Duration::MAX, Duration::MAX);
        let is_linear = (0..10).any(|_| {
            short = short.min(time(&redactor, &small));
            long = long.min(time(&redactor, &large));
            long < short * 300
        });
        let unit: String = small.chars().take(12).collect();
        if !is_linear {
            slow.push(format!("{unit:?}: {short:?} and then {long:?}"));
        }
    }
    assert!(slow.is_empty(), "{slow:#?}");
}

/// Reported, and not held: how fast the machine is decides.
#[test]
fn what_each_hostile_text_takes() {
    let redactor = redactor();
    for text in hostile(64) {
        let _ = time(&redactor, &text);
    }
    // Unoptimised it takes too long to be of use.
    let bytes = if cfg!(debug_assertions) { 1 << 10 } else { 1 << 20 };
    let units = UNITS.iter().map(|it| (*it).to_owned());
    let keys = issuers::ISSUED.iter().map(|it| it.0.to_owned());
    let mut times: Vec<(Duration, Duration, String)> = units
        .chain(keys)
        .map(|unit| {
            let least = |bytes: usize| {
                let text = unit.repeat(bytes / unit.len());
                (0..3).map(|_| time(&redactor, &text)).min().unwrap_or_default()
            };
            (least(bytes), least(bytes / 4), unit)
        })
        .collect();
    times.sort();
    println!("{bytes} bytes, a quarter of them, the growth");
    for (whole, quarter, unit) in times.iter().rev().take(40) {
        let growth = whole.as_secs_f64() / quarter.as_secs_f64();
        println!(
            "{:9.2} ms {:9.2} ms {growth:5.1} {unit:?}",
            whole.as_secs_f64() * 1e3,
            quarter.as_secs_f64() * 1e3
        );
    }
    assert!(times.len() > UNITS.len());
}
