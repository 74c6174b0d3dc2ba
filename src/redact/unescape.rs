//! Texts in which letters are written as escapes: `p\u0061ssword` as JSON may, `pass%77ord` as
//! addresses may.
//!
//! Secrets are looked for in the text without those escapes, too; if there is one, that text is kept.
//! Only what is visible ASCII is read, and no quote or backslash of JSON: where a quote ends stays as it is.

use std::borrow::Cow;

/// The text without its escapes, if it has any.
pub(super) fn plain(text: &str) -> Option<String> {
    let mut plain = Cow::Borrowed(text);
    // Addresses inside of addresses are escaped twice.
    for _ in 0..3 {
        let Some(once) = once(&plain) else { break };
        plain = Cow::Owned(once);
    }
    match plain {
        Cow::Borrowed(_) => None,
        Cow::Owned(plain) => Some(plain),
    }
}

fn once(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = String::new();
    let (mut copied, mut at) = (0, 0);
    while let Some(found) = text[at..].find(['%', '\\', '&']).map(|it| at + it) {
        let (escape, len) = match bytes[found] {
            b'%' => (hex(bytes, found + 1, 2), 3),
            b'&' => entity(&text[found..]),
            _ if bytes.get(found + 1) == Some(&b'x') => (hex(bytes, found + 2, 2), 4),
            _ => {
                // JSON inside of JSON escapes the backslash.
                let slashes = bytes[found..].iter().take_while(|it| **it == b'\\').count();
                let is_unicode = bytes[found + slashes..].starts_with(b"u00");
                (is_unicode.then(|| hex(bytes, found + slashes + 3, 2)).flatten(), slashes + 5)
            }
        };
        let is_read = |it: &u8| {
            let delimits = matches!(it, b'"' | b'\\' | b'\'');
            it.is_ascii_graphic() && !(delimits && bytes[found] == b'\\')
        };
        match escape.filter(is_read) {
            Some(byte) => {
                out.push_str(&text[copied..found]);
                out.push(char::from(byte));
                copied = found + len;
                at = copied;
            }
            // Of several backslashes none begins another escape.
            None if bytes[found] == b'\\' => {
                at = found + bytes[found..].iter().take_while(|it| **it == b'\\').count();
            }
            None => at = found + 1,
        }
    }
    if copied == 0 {
        return None;
    }
    out.push_str(&text[copied..]);
    Some(out)
}

/// What an entity of HTML stands for, and its length.
fn entity(text: &str) -> (Option<u8>, usize) {
    const NAMED: [(&str, u8); 5] =
        [("&quot;", b'"'), ("&lt;", b'<'), ("&gt;", b'>'), ("&apos;", b'\''), ("&amp;", b'&')];
    if let Some((name, byte)) = NAMED.iter().find(|(name, _)| text.starts_with(name)) {
        return (Some(*byte), name.len());
    }
    let end = text.bytes().take(7).position(|it| it == b';').unwrap_or_default();
    let number = text.get(..end).and_then(|it| it.strip_prefix("&#"));
    let byte = number.and_then(|it| match it.strip_prefix(['x', 'X']) {
        Some(hex) => u8::from_str_radix(hex, 16).ok(),
        None => it.parse().ok(),
    });
    (byte, end + 1)
}

fn hex(bytes: &[u8], at: usize, count: usize) -> Option<u8> {
    let digits = std::str::from_utf8(bytes.get(at..at + count)?).ok()?;
    digits.bytes().all(|it| it.is_ascii_hexdigit()).then(|| u8::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_read_and_what_delimits_is_not() {
        for (text, expected) in [
            (r"p\u0061ss", Some("pass")),
            (r"p\\\u0061ss", Some("pass")),
            ("pass%77ord%3Dx", Some("password=x")),
            ("a%2561", Some("aa")),
            (r"a\u0022b%0a\\d", None),
            (r"p\x61ss", Some("pass")),
            ("%22a%22&quot;p&#97;&#x62;&quot;&nbsp;", Some("\"a\"\"pab\"&nbsp;")),
            ("100% of 5%", None),
            (r"\u00e9%C3%A9", None),
            (r"\\\\u00", None),
        ] {
            assert_eq!(plain(text).as_deref(), expected, "{text}");
        }
    }
}
