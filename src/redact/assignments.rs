//! Values behind names that announce a secret: `password=x`, `"api_key": "x"`, `Cookie: a=b; c=d`.
//!
//! A name is found by a regular expression, where its value ends by reading it: quotes end at the
//! quote that is escaped as often as the one that opened them, brackets at the one that closes them,
//! the values of headers with their line. What never ends ends with the text.
//!
//! A value is read once: either it is taken out and searching goes on behind it, or reading stopped
//! before the next name could begin.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::SECRET;
use super::secrets::is_way;

/// A name with what stands between it and its value.
static NAMES: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = concat!(
        r"(?i-u:(?:(?<header>authorization|cookies?)",
        r"|(?<token>token)",
        r"|(?:access|refresh|auth|id|api|session|bearer|csrf|xsrf|reset|device)[_-]?tokens",
        r"|(?:password|passwd|pwd|passphrase|passcode|secret(?:[_-]?key)?",
        r"|(?:api|access|private)[_-]?key|credential|cvv|cvc)s?",
        r"|(?<pass>pass))",
        r"(?:[_-]?(?:confirmation|confirm|repeat|hash|value))?[0-9]{0,4})",
        r#"(?<quote>\\*["'])?\s*(?<between>[:=])\s*"#,
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
    let pass = name.name("pass");
    if pass.is_some_and(|pass| is_way(&bytes[..pass.start()])) {
        return None;
    }
    // What was taken out before is taken out again.
    let inner = behind_wrappers(bytes, start);
    if text[inner..].starts_with(SECRET) {
        return Value::whole(inner, inner + SECRET.len());
    }
    let is_header = name.name("header").is_some();
    if let Some(quote) = Quote::at(bytes, inner) {
        let end = quote.end(bytes);
        if !is_header {
            return Value::whole(inner, end);
        }
        // A header's value may go on behind its first quotes.
        let goes_on = bytes.get(end) == Some(&b';') && name.name("quote").is_none();
        return match quote.inside(bytes, end) {
            _ if goes_on => Value::whole(inner, line_end(bytes, end)),
            (start, end) if start < end => Some(Value { start, end, resume: end }),
            _ => None,
        };
    }
    if matches!(bytes.get(inner), Some(b'{' | b'[')) {
        return Value::whole(inner, brackets_end(bytes, inner));
    }
    if is_header {
        return Value::whole(start, line_end(bytes, start));
    }
    if name.name("token").is_some() && !is_name_of_token(bytes, name) {
        return None;
    }
    let end = word_end(bytes, start);
    if &text[start..end] == "?" {
        return None;
    }
    if pass.is_some() && is_count(&text[start..end], name) {
        return None;
    }
    // `Password { value: "x" }`.
    let is_type = bytes.get(start).is_some_and(u8::is_ascii_uppercase);
    let open = if bytes.get(end) == Some(&b' ') { end + 1 } else { end };
    if is_type && bytes.get(open) == Some(&b'{') {
        return Value::whole(start, brackets_end(bytes, open));
    }
    Value::whole(start, end)
}

/// `unexpected token: x` tells of another kind of tokens than `refresh_token: x` and `token=x`.
fn is_name_of_token(bytes: &[u8], name: &Captures<'_>) -> bool {
    let before = name.get_match().start().checked_sub(1).map(|at| bytes[at]);
    let is_compound =
        before.is_some_and(|it| it.is_ascii_alphanumeric() || matches!(it, b'_' | b'-'));
    is_compound || name.name("quote").is_some() || &name["between"] == "="
}

/// `pass: 3, fail: 1` counts what passed.
fn is_count(value: &str, name: &Captures<'_>) -> bool {
    let is_small = value.len() <= 3 && value.bytes().all(|it| it.is_ascii_digit());
    is_small && name.name("quote").is_none() && &name["between"] == ":"
}

/// Behind `Some(` and up to two more of its kind, where something follows that is read as a whole;
/// else `start`.
fn behind_wrappers(bytes: &[u8], start: usize) -> usize {
    let mut at = start;
    for _ in 0..3 {
        let word = bytes[at..].iter().take_while(|it| it.is_ascii_alphanumeric() || **it == b'_');
        let open = at + word.count();
        if open == at || bytes.get(open) != Some(&b'(') {
            break;
        }
        at = open + 1;
    }
    let is_whole = matches!(bytes.get(at), Some(b'{' | b'[')) || Quote::at(bytes, at).is_some();
    if is_whole { at } else { start }
}

/// A quote that opens, behind the backslashes that escape it.
struct Quote {
    mark: u8,
    escapes: usize,
    /// Where what is quoted begins.
    start: usize,
}

impl Quote {
    fn at(bytes: &[u8], start: usize) -> Option<Self> {
        let escapes = bytes[start..].iter().take_while(|it| **it == b'\\').count();
        let mark = *bytes.get(start + escapes)?;
        matches!(mark, b'"' | b'\'').then_some(Self { mark, escapes, start: start + escapes + 1 })
    }

    /// Behind the quote that closes.
    fn end(&self, bytes: &[u8]) -> usize {
        let mut escapes = 0;
        let mut at = self.start;
        while let Some(byte) = bytes.get(at) {
            at += 1;
            if *byte == b'\\' {
                escapes += 1;
                continue;
            }
            if *byte == self.mark && self.closes(escapes) {
                // SQL writes a quote inside of quotes twice.
                let is_twice = self.mark == b'\'' && self.escapes == 0;
                if !(is_twice && bytes.get(at) == Some(&b'\'')) {
                    return at;
                }
                at += 1;
            }
            escapes = 0;
        }
        at
    }

    /// Whether a quote behind so many backslashes closes. Each level of escaping makes two of one;
    /// a quote inside has one more level.
    fn closes(&self, escapes: usize) -> bool {
        escapes % (2 * self.escapes + 2) <= self.escapes
    }

    /// What stands between the quotes, of which the second ends at `end`.
    fn inside(&self, bytes: &[u8], end: usize) -> (usize, usize) {
        if end <= self.start || bytes[end - 1] != self.mark {
            return (self.start, end);
        }
        let escapes = bytes[self.start..end - 1].iter().rev().take_while(|it| **it == b'\\');
        (self.start, end - 1 - escapes.count().min(self.escapes))
    }
}

/// Behind the bracket that closes the one here.
fn brackets_end(bytes: &[u8], start: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = start;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'{' | b'[' | b'(' => depth += 1,
            b'}' | b']' | b')' => depth = depth.saturating_sub(1),
            b'"' | b'\\' => {
                if let Some(quote) = Quote::at(bytes, at).filter(|quote| quote.mark == b'"') {
                    at = quote.end(bytes);
                } else {
                    at += bytes[at..].iter().take_while(|it| **it == b'\\').count();
                }
                continue;
            }
            _ => {}
        }
        at += 1;
        if depth == 0 {
            break;
        }
    }
    at
}

/// The end of the line, which may be written as an escape.
fn line_end(bytes: &[u8], start: usize) -> usize {
    let ends = |at: &usize| match bytes[*at] {
        b'\r' | b'\n' => true,
        b'\\' => matches!(bytes.get(at + 1), Some(b'r' | b'n')),
        _ => false,
    };
    (start..bytes.len()).find(ends).unwrap_or(bytes.len())
}

/// The end of what stands without quotes.
fn word_end(bytes: &[u8], start: usize) -> usize {
    let ends = |at: &usize| match bytes[*at] {
        b'"' | b'\'' | b',' | b';' | b'&' | b')' | b'{' | b'}' | b'[' | b']' => true,
        b'\\' => matches!(bytes.get(at + 1), Some(b'"' | b'\'' | b'n' | b'r' | b't')),
        byte => byte.is_ascii_whitespace(),
    };
    (start..bytes.len()).find(ends).unwrap_or(bytes.len())
}
