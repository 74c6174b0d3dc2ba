//! Elements of XML whose name announces a secret: `<wsse:Password>x</wsse:Password>`. Their attributes
//! are read as assignments are.
//!
//! What stands between an opening tag and the next tag goes. Where that is no closing tag the text may
//! be cut, or no XML at all - `missing <token> header` - and only a word that follows at once goes.
//! Every byte is read once.

use super::SECRET;
use super::secrets::is_secret_name;

const CDATA: (&str, &str) = ("<![CDATA[", "]]>");

/// Puts a mark in place of each such value.
pub(super) fn replace(text: &mut String) {
    let mut out = String::new();
    let (mut copied, mut at) = (0, 0);
    while let Some(start) = text[at..].find('<').map(|open| at + open + 1) {
        at = start;
        let Some(content) = content(text, start) else { continue };
        let (value, end) = value(text, content);
        at = end;
        if value > content && text[content..value] != *SECRET {
            out.push_str(&text[copied..content]);
            out.push_str(SECRET);
            copied = value;
        }
    }
    if copied > 0 {
        out.push_str(&text[copied..]);
        *text = out;
    }
}

/// Behind the tag whose name begins here, if it opens an element that holds a secret.
fn content(text: &str, start: usize) -> Option<usize> {
    let rest = &text[start..];
    let name = rest.find(|it: char| it.is_ascii_whitespace() || matches!(it, '<' | '>' | '/'))?;
    if !is_secret_name(&rest[..name]) {
        return None;
    }
    let end = name + rest[name..].find(['<', '>'])?;
    let opens = rest[end..].starts_with('>') && !rest[..end].ends_with('/');
    opens.then_some(start + end + 1)
}

/// The end of the value that begins here, and where to read on.
fn value(text: &str, start: usize) -> (usize, usize) {
    let rest = &text[start..];
    if rest.starts_with(CDATA.0) {
        let end = rest.find(CDATA.1).map_or(rest.len(), |end| end + CDATA.1.len());
        return (start + end, start + end);
    }
    let end = rest.find('<').unwrap_or(rest.len());
    if rest[end..].starts_with("</") {
        return (start + end, start + end);
    }
    let word = rest[..end].find(char::is_whitespace).unwrap_or(end);
    // `Vec<Token>, x`.
    let is_word = rest[..word].bytes().any(|it| it.is_ascii_alphanumeric());
    (if is_word { start + word } else { start }, start + end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets_out(text: &str) -> String {
        let mut text = text.to_owned();
        replace(&mut text);
        text
    }

    #[test]
    fn what_an_element_of_a_secret_name_holds_is_taken_out() {
        for (text, expected) in [
            ("<Password>c4n4ry c4n4ry</Password>", "<Password>[secret]</Password>"),
            (
                r#"<u>ana</u><wsse:Password Type="x#Text">c4n4ry</wsse:Password><n>1</n>"#,
                r#"<u>ana</u><wsse:Password Type="x#Text">[secret]</wsse:Password><n>1</n>"#,
            ),
            ("<api_key>\n  c4n4ry\n</api_key>", "<api_key>[secret]</api_key>"),
            ("<pass><![CDATA[c4n4ry</a>c4n4ry]]></pass>", "<pass>[secret]</pass>"),
            ("cut <token>c4n4ry", "cut <token>[secret]"),
            ("cut <token><![CDATA[c4n4ry </a>", "cut <token>[secret]"),
            ("<cvv>c4n4ry<br/>", "<cvv>[secret]<br/>"),
            ("<token>c4n4ry</token><token>c4n4ry", "<token>[secret]</token><token>[secret]"),
        ] {
            assert_eq!(secrets_out(text), expected);
            assert_eq!(secrets_out(expected), expected, "once is enough");
        }
    }

    #[test]
    fn what_is_no_such_element_stays() {
        for text in [
            "missing <token> header",
            "<password/>and <secret />text",
            "<password></password><token/>",
            "a < b, password > c",
            "<max_tokens>300</max_tokens>",
            "Vec<Password>",
            "a: Option<Token>, b",
            "</password>text",
            "<token",
            "<é>x</é>",
        ] {
            assert_eq!(secrets_out(text), text);
        }
    }
}
