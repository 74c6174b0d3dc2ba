//! Values behind names that announce a secret: `password=x`, `"api_key": "x"`, `Cookie: a=b; c=d`,
//! `Password("x")`, `--password x`, `{"name":"password","value":"x"}`.
//!
//! A name is found by a regular expression, with what stands between it and its value; where the value
//! ends is `literals`', and which values are none is `values`'.
//!
//! A value is read once: either it is taken out and searching goes on behind it, or reading stopped
//! before the next name could begin. What is read and then left is short, or is a sentence.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::SECRET;
use super::issuers::is_drawn;
use super::literals::{Literal, Quote, block, brackets_end, line_end, word_end};
use super::secrets::is_way;
use super::values::{is_field, is_harmless, is_harmless_line, is_harmless_list};

/// A name with what stands between it and its value.
static NAMES: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = concat!(
        r"(?i-u:(?:(?<header>authorization|cookies?)",
        r"|(?<token>token)",
        r"|(?<sql>identified\s+(?:with\s+[a-z0-9_]{1,40}\s+)?(?:by|as)|password\s+for\s+[a-z0-9_.@%'`-]{1,80})",
        r"|(?:access|refresh|auth|id|api|session|bearer|csrf|xsrf|reset|device)[_-]?tokens",
        r"|(?<word>password|passwd|pwd|passphrase|passwort|kennwort)s?",
        r"|(?:passcode|secret(?:[_-]?key)?|credential|cvv|cvc|jsessionid|phpsessid|connect\.sid",
        r"|(?:api|access|private|account|signing|encryption|master|subscription|app|auth|consumer",
        r"|ssh|license|session|hmac|deploy|role|instrumentation)[_ -]?key|key[_-]?data|bearer[_-]?auth|jwt|\b_auth)s?",
        r"|(?<pass>pass)|\b(?<sig>sig(?:nature)?|access-?signature))",
        r"(?:[_-]?(?:confirmation|confirm|repeat|hash|value))?[0-9]{0,4})",
        r#"(?<quote>\\*["'`])?(?<index>\](?:\[[0-9]*\])?)?"#,
        r#"(?:\s*[,&;]?\s*(?<pair>\\*["']?(?i-u:value)\\*["']?\s*[:=]\s*)"#,
        r"|\s*(?<between>=>|->|<-|:=|===?|=~|!==?|<>|\?\s*[:=]|[:=]|(?i-u:\s(?:like|in\s*\())\s*)\s*",
        r"|(?<call>\()\s*|(?<comma>\s*,\s*)|(?<tag>>)",
        r"|(?<space>\s+)(?<told>(?i-u:(?:is|was|provided|given|received)\s*:?\s+))?)",
    );
    Regex::new(pattern).expect("it is tested")
});

/// Puts a mark in place of each such value.
pub(super) fn replace(text: &mut String) {
    let mut out = String::new();
    let (mut copied, mut at) = (0, 0);
    while let Some(found) = NAMES.captures_at(text, at) {
        let start = found.get_match().end();
        let Some(value) = value(text, &found, start) else {
            at = start;
            continue;
        };
        out.push_str(&text[copied..value.start]);
        out.push_str(SECRET);
        (copied, at) = (value.end, value.resume);
    }
    if copied > 0 {
        out.push_str(&text[copied..]);
        *text = out;
    }
}

/// What is taken out, and where nothing of it is left.
struct Value {
    start: usize,
    end: usize,
    resume: usize,
}

impl Value {
    fn whole(start: usize, end: usize) -> Option<Self> {
        (start < end).then_some(Self { start, end, resume: end })
    }
}

fn value(text: &str, name: &Captures<'_>, start: usize) -> Option<Value> {
    let bytes = text.as_bytes();
    let has = |group: &str| name.name(group).is_some();
    if name.name("pass").is_some_and(|pass| is_way(&bytes[..pass.start()])) {
        return None;
    }
    let begin = name.get_match().start();
    if has("index") && is_mark(text, begin) {
        return None;
    }
    // `sig=x`, as addresses have it.
    if has("sig")
        && (text.as_bytes().get(start - 1) != Some(&b'=')
            || !is_random(&text[start..word_end(bytes, start).min(start + 200)]))
    {
        return None;
    }
    if has("pair") || has("between") {
        return assigned(text, name, start);
    }
    if has("space") {
        return spoken(text, name, start);
    }
    if has("tag") {
        // `<property name="password">x</property>`.
        if !has("quote") || !is_named_by_attribute(bytes, begin) {
            return None;
        }
        let rest = bytes[start..].iter().position(|it| *it == b'<');
        let end = rest.map_or(bytes.len(), |it| start + it);
        return Value::whole(start, end).filter(|_| !is_harmless(&text[start..end]));
    }
    if has("call") == has("quote") || has("comma") && !is_first_of_pair(bytes, begin) {
        return None;
    }
    let inner = behind_wrappers(bytes, start);
    let literal = Literal::at(bytes, inner)?;
    let inside = &text[literal.start..literal.inside_end];
    let is_secret = if has("call") {
        !has("token") || is_name_of_token(bytes, name, "") || is_random(inside)
    } else {
        bytes[begin.saturating_sub(3)..begin].contains(&b'-') || !is_field(inside)
    };
    Value::whole(inner, literal.end).filter(|_| is_secret && !is_harmless(inside))
}

/// The value behind a space: `--password x`, `WITH PASSWORD 'x'`, `the password 'x' was wrong`,
/// `API key x0y1z2a3 was revoked`.
fn spoken(text: &str, name: &Captures<'_>, start: usize) -> Option<Value> {
    let bytes = text.as_bytes();
    let has = |group: &str| name.name(group).is_some();
    let is_option = is_option(bytes, name.get_match().start());
    let is_named = is_option || has("sql") || has("word") && !has("quote");
    if has("quote") || has("header") {
        return None;
    }
    // Where only its looks tell, no more of it is read than a key has.
    let near = &bytes[..bytes.len().min(start + if is_named { bytes.len() } else { 256 })];
    if let Some(literal) = Literal::at(near, start) {
        let inside = text.get(literal.start..literal.inside_end)?;
        let is_secret = is_named && !is_field(inside) || is_random(inside);
        return Value::whole(start, literal.end).filter(|_| is_secret && !is_harmless(inside));
    }
    if matches!(bytes.get(start), Some(b'-' | b'/' | b'|' | b'>')) {
        return None;
    }
    let end = word_end(bytes, start);
    let word = text[start..end].trim_end_matches(['.', ':', '!', '?']);
    let is_secret = is_option && !is_harmless(word) || is_said(word, has("told"));
    Value::whole(start, start + word.len()).filter(|_| is_secret)
}

/// Whether a word of a sentence is one that nobody says: letters and digits, and no sign.
fn is_said(word: &str, told: bool) -> bool {
    let is_part =
        |it: u8| it.is_ascii_alphanumeric() || told && it.is_ascii_graphic() && it != b'(';
    let has = |is: fn(&u8) -> bool| word.as_bytes().iter().any(is);
    (if told { 5 } else { 8 }..=512).contains(&word.len())
        && word.bytes().all(is_part)
        && has(u8::is_ascii_digit)
        && has(u8::is_ascii_alphabetic)
}

/// The value behind a separator.
fn assigned(text: &str, name: &Captures<'_>, start: usize) -> Option<Value> {
    let bytes = text.as_bytes();
    // What was taken out before is taken out again.
    let inner = behind_wrappers(bytes, start);
    if text[inner..].starts_with(SECRET) {
        return Value::whole(inner, inner + SECRET.len());
    }
    let is_header = name.name("header").is_some();
    if let Some(literal) = Literal::at(bytes, inner) {
        let inside = &text[literal.start..literal.inside_end];
        // A header's value may go on behind its first quotes.
        let goes_on =
            is_header && bytes.get(literal.end) == Some(&b';') && name.name("quote").is_none();
        if goes_on {
            return Value::whole(inner, line_end(bytes, literal.end));
        }
        if is_harmless(inside) || is_bare_token(name) && !is_name_of_token(bytes, name, inside) {
            return None;
        }
        return if is_header {
            Some(Value { start: literal.start, end: literal.inside_end, resume: literal.end })
        } else {
            Value::whole(inner, literal.end)
        };
    }
    if matches!(bytes.get(inner), Some(b'{' | b'[')) {
        let end = brackets_end(bytes, inner);
        return Value::whole(inner, end).filter(|_| !is_harmless_list(&text[inner..end]));
    }
    if is_header {
        // Behind a quoted name stands one value of several: `"authorization": Sensitive, ..`.
        let is_key = name.name("quote").is_some();
        let end = if is_key { word_end(bytes, start) } else { line_end(bytes, start) };
        return Value::whole(start, end).filter(|_| !is_harmless_line(&text[start..end]));
    }
    if let Some((start, end)) = block(bytes, name.get_match().start(), start) {
        return Value::whole(start, end);
    }
    if let Some(behind) = behind_type(bytes, start) {
        return Literal::at(bytes, behind).and_then(|literal| {
            let inside = &text[literal.start..literal.inside_end];
            Value::whole(behind, literal.end).filter(|_| !is_harmless(inside))
        });
    }
    let end = word_end(bytes, start);
    let word = &text[start..end];
    if bytes.get(start) == Some(&b'<') {
        // `<your token>`, or what somebody put into angles.
        let end = start
            + bytes[start..].iter().take(200).take_while(|it| !matches!(**it, b'>' | b' ')).count();
        return Value::whole(start, end)
            .filter(|_| bytes.get(start + 1) != Some(&b'/') && is_random(&text[start + 1..end]));
    }
    // `Password { value: "x" }`.
    let is_struct = bytes.get(start).is_some_and(u8::is_ascii_uppercase);
    let open = if bytes.get(end) == Some(&b' ') { end + 1 } else { end };
    if is_struct && bytes.get(open) == Some(&b'{') {
        return Value::whole(start, brackets_end(bytes, open));
    }
    let is_type =
        bytes.get(end) == Some(&b'<') && word.starts_with(|it: char| it.is_ascii_uppercase());
    let is_variable = word == "$" && matches!(bytes.get(end), Some(b'{'));
    if is_harmless(word) || is_type || is_variable || is_path(bytes, name, word) {
        return None;
    }
    if is_bare_token(name) && !is_name_of_token(bytes, name, word) {
        return None;
    }
    if is_count(word, name) {
        return None;
    }
    // `<` ends an element, and may stand in a password.
    let mut end = end;
    while bytes.get(end) == Some(&b'<') && bytes.get(end + 1).is_some_and(|it| *it != b'/') {
        end = word_end(bytes, end + 1);
    }
    Value::whole(start, end)
}

fn is_bare_token(name: &Captures<'_>) -> bool {
    name.name("token").is_some()
}

/// Behind the type and the `=` of `KEY: &'static str = "x"`.
fn behind_type(bytes: &[u8], start: usize) -> Option<usize> {
    let is_part = |it: &&u8| {
        it.is_ascii_alphanumeric()
            || matches!(**it, b'&' | b'\'' | b'_' | b':' | b'<' | b'>' | b' ' | b'?' | b'.')
    };
    let rest = &bytes[start..];
    let equal = rest.iter().take(48).take_while(is_part).count();
    let behind = rest.get(equal..)?.strip_prefix(b"= ")?;
    let at = bytes.len() - behind.len();
    (rest[..equal].ends_with(b" ") && Quote::at(bytes, at).is_some() || behind.starts_with(b"b\""))
        .then_some(at)
}

/// Whether the name is that of a mark.
fn is_mark(text: &str, at: usize) -> bool {
    at.checked_sub(1).is_some_and(|open| text.as_bytes()[open..].starts_with(SECRET.as_bytes()))
}

/// `unexpected token: x` tells of another kind of tokens than `refresh_token: x` and `token=x`.
fn is_name_of_token(bytes: &[u8], name: &Captures<'_>, value: &str) -> bool {
    let before = name.get_match().start().checked_sub(1).map(|at| bytes[at]);
    let is_compound =
        before.is_some_and(|it| it.is_ascii_alphanumeric() || matches!(it, b'_' | b'-' | b'.'));
    let is_quoted = name.name("quote").is_some();
    let is_assigned = name.name("between").is_some_and(|it| it.as_str().contains('='));
    // `token = Ident`.
    let is_kind = value.len() <= 16
        && value.bytes().all(|it| it.is_ascii_alphabetic())
        && value.starts_with(|it: char| it.is_ascii_uppercase());
    value.len() > 200
        || is_compound
        || is_quoted
        || is_assigned && !is_kind
        || is_random(value)
        || name.name("pair").is_some()
        || name.name("between").is_some_and(|it| !matches!(it.as_str().trim(), ":" | "="))
            && !is_kind
}

/// What nobody says: letters and digits, eight at least.
fn is_random(value: &str) -> bool {
    let bytes = value.as_bytes();
    let is_one = bytes.iter().all(|it| it.is_ascii_graphic() && !matches!(it, b'(' | b'{' | b'`'));
    value.len() >= 6
        && is_one
        && bytes.iter().any(u8::is_ascii_alphabetic)
        && (bytes.iter().any(u8::is_ascii_digit)
            || value.len() >= 9 && is_drawn(bytes)
            || value.len() >= 24)
}

/// `pass: 3, fail: 1` counts what passed, `apikeys=3` how many there are.
fn is_count(value: &str, name: &Captures<'_>) -> bool {
    let is_small = value.len() <= 3 && value.bytes().all(|it| it.is_ascii_digit());
    let said = name[0].split([':', '=']).next().unwrap_or_default().trim_end();
    let is_pass =
        name.name("pass").is_some() && name.name("between").is_some_and(|it| it.as_str() == ":");
    is_small
        && name.name("quote").is_none()
        && (is_pass || said.ends_with(['s', 'S']) && !said.ends_with("pass"))
}

/// `pwd=/home/app` is where a process works.
fn is_path(bytes: &[u8], name: &Captures<'_>, value: &str) -> bool {
    let found = name.get_match();
    if value.len() > 256 {
        return false;
    }
    let is_pwd = bytes[found.start()..found.end()]
        .get(..3)
        .is_some_and(|it| it.eq_ignore_ascii_case(b"pwd"));
    let before = bytes[..found.start()].strip_suffix(b"OLD").unwrap_or(&bytes[..found.start()]);
    let begins = !before.last().is_some_and(|it| it.is_ascii_alphanumeric() || *it == b'_');
    let drive = value.as_bytes();
    is_pwd
        && begins
        && (value.starts_with(['/', '~'])
            || value.starts_with("./")
            || drive.get(1..3) == Some(br":\"))
}

/// Whether a word that begins with `-` goes on here, or one that is set: `ENV PASSWORD x`.
fn is_option(bytes: &[u8], at: usize) -> bool {
    let is_part = |it: &&u8| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_' | b'.');
    let word = bytes[..at].iter().rev().take(40).take_while(is_part);
    let start = at - word.count();
    let before = &bytes[..start];
    let sets: [&[u8]; 5] = [b"ENV ", b"ARG ", b"setenv ", b"set -x ", b"set -gx "];
    bytes[start..].starts_with(b"-") && !before.last().is_some_and(u8::is_ascii_alphanumeric)
        || sets.iter().any(|it| before.ends_with(it))
}

/// Whether the quoted name is the value of an attribute that gives something its name.
fn is_named_by_attribute(bytes: &[u8], at: usize) -> bool {
    let word = bytes[..at].iter().rev().take(40);
    let start = at
        - word
            .take_while(|it| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_' | b'.'))
            .count();
    let before = &bytes[..start.saturating_sub(1)];
    before.ends_with(b"name=") || before.ends_with(b"key=") || before.ends_with(b"id=")
}

/// `("cookie", "x")`, `[["password", "x"]]`, `["--password", "x"]`.
fn is_first_of_pair(bytes: &[u8], at: usize) -> bool {
    let is_part = |it: &&u8| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_' | b'.');
    let start = at - bytes[..at].iter().rev().take(40).take_while(is_part).count();
    if bytes[start..].starts_with(b"--") {
        return true;
    }
    let is_quote = |it: &&u8| matches!(it, b'"' | b'\'' | b'\\' | b'b' | b'r');
    let open = start - bytes[..start].iter().rev().take(8).take_while(is_quote).count();
    matches!(open.checked_sub(1).map(|it| bytes[it]), Some(b'(' | b'['))
}

/// Behind `Some(`, `String::from(`, `[]byte(` and up to two more of their kind, where something follows
/// that is read as a whole; else `start`.
fn behind_wrappers(bytes: &[u8], start: usize) -> usize {
    let mut at = start;
    for _ in 0..3 {
        let slice = if bytes[at..].starts_with(b"[]") { 2 } else { 0 };
        let is_part =
            |it: &&u8| it.is_ascii_alphanumeric() || matches!(**it, b'_' | b':' | b'.' | b'&');
        let word = bytes[at + slice..].iter().take(60).take_while(is_part).count();
        let open = at + slice + word;
        if word == 0 || bytes.get(open) != Some(&b'(') {
            break;
        }
        at = open + 1;
    }
    let is_whole = matches!(bytes.get(at), Some(b'{' | b'['))
        || Quote::at(bytes, at).is_some()
        || bytes[at..].starts_with(b"b\"")
        || bytes[at..].starts_with(b"b'");
    if is_whole { at } else { start }
}
