//! Where a value ends, as languages and formats write it.
//!
//! Quotes end at the quote that is escaped as often as the one that opened them, also behind the
//! letters and marks that languages put before one; brackets end at the one that closes them, the
//! values of headers with their line, blocks of YAML with their indentation. What never ends ends with
//! the text.

/// Quoted text: `"x"`, `b'x'`, `r#"x"#`, `"""x"""`, `` `x` ``, `@"x"`.
pub(super) struct Literal {
    /// Where what is quoted begins and ends.
    pub(super) start: usize,
    pub(super) inside_end: usize,
    /// Behind the quote that closes.
    pub(super) end: usize,
}

impl Literal {
    pub(super) fn at(bytes: &[u8], start: usize) -> Option<Self> {
        // `b`, `rb`, `f`, `u8`, `L`, `N`, `E`, `@`, `$`, `!!str`: three at most.
        let is_prefix = |it: &&u8| {
            matches!(**it | 0x20, b'b' | b'r' | b'f' | b'u' | b'l' | b'n' | b'e' | b'c')
                || matches!(**it, b'@' | b'$' | b'8' | b'&')
        };
        let prefix = bytes[start..].iter().take(3).take_while(is_prefix).count();
        let mut at = start + prefix;
        let hashes = bytes[at..].iter().take(8).take_while(|it| **it == b'#').count();
        if hashes > 0 {
            at += hashes;
            if prefix == 0 || bytes.get(at) != Some(&b'"') {
                return None;
            }
            return Some(Self::until(
                bytes,
                at + 1,
                |rest| {
                    rest[0] == b'"'
                        && rest[1..].iter().take_while(|it| **it == b'#').count() >= hashes
                },
                1 + hashes,
            ));
        }
        let quote = Quote::at(bytes, at)?;
        let tripled = [quote.mark; 3];
        if quote.escapes == 0 && quote.mark != b'`' && bytes[at..].starts_with(&tripled) {
            return Some(Self::until(bytes, at + 3, |rest| rest.starts_with(&tripled), 3));
        }
        let end = quote.end(bytes);
        let (start, inside_end) = quote.inside(bytes, end);
        Some(Self { start, inside_end, end })
    }

    fn until(bytes: &[u8], start: usize, closes: impl Fn(&[u8]) -> bool, len: usize) -> Self {
        let inside_end =
            (start..bytes.len()).find(|at| closes(&bytes[*at..])).unwrap_or(bytes.len());
        Self { start, inside_end, end: (inside_end + len).min(bytes.len()) }
    }
}

/// A quote that opens, behind the backslashes that escape it.
pub(super) struct Quote {
    pub(super) mark: u8,
    escapes: usize,
    /// Where what is quoted begins.
    start: usize,
}

impl Quote {
    pub(super) fn at(bytes: &[u8], start: usize) -> Option<Self> {
        let escapes = bytes[start..].iter().take_while(|it| **it == b'\\').count();
        let mark = *bytes.get(start + escapes)?;
        let opens = matches!(mark, b'"' | b'\'' | b'`');
        opens.then_some(Self { mark, escapes, start: start + escapes + 1 })
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
pub(super) fn brackets_end(bytes: &[u8], start: usize) -> usize {
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
pub(super) fn line_end(bytes: &[u8], start: usize) -> usize {
    let ends = |at: &usize| match bytes[*at] {
        b'\r' | b'\n' => true,
        b'\\' => matches!(bytes.get(at + 1), Some(b'r' | b'n')),
        _ => false,
    };
    (start..bytes.len()).find(ends).unwrap_or(bytes.len())
}

/// The end of what stands without quotes.
pub(super) fn word_end(bytes: &[u8], start: usize) -> usize {
    let ends = |at: &usize| match bytes[*at] {
        b'"' | b'\'' | b'`' | b',' | b';' | b'&' | b')' | b'{' | b'}' | b'[' | b']' | b'<' => true,
        b'\\' => matches!(bytes.get(at + 1), Some(b'"' | b'\'' | b'n' | b'r' | b't')),
        byte => byte.is_ascii_whitespace(),
    };
    (start..bytes.len()).find(ends).unwrap_or(bytes.len())
}

/// A block of YAML whose mark is here, `|` or `>-`, behind a name that begins at `name`: where its text
/// begins, and where the lines end that are indented further than the name.
pub(super) fn block(bytes: &[u8], name: usize, start: usize) -> Option<(usize, usize)> {
    if !matches!(bytes.get(start), Some(b'|' | b'>')) {
        return None;
    }
    let marks = bytes[start + 1..].iter().take(3);
    let behind = start + 1 + marks.take_while(|it| matches!(it, b'+' | b'-' | b'1'..=b'9')).count();
    let text = behind + bytes[behind..].iter().take_while(|it| matches!(it, b' ' | b'\r')).count();
    if bytes.get(text) != Some(&b'\n') {
        return None;
    }
    let line = bytes[..name].iter().rposition(|it| *it == b'\n').map_or(0, |it| it + 1);
    let indent = |line: &[u8]| line.iter().take_while(|it| matches!(it, b' ' | b'\t')).count();
    let least = indent(&bytes[line..name]);
    let mut end = text + 1;
    while end < bytes.len() {
        let next =
            bytes[end..].iter().position(|it| *it == b'\n').map_or(bytes.len(), |it| end + it);
        let line = &bytes[end..next];
        let is_blank = line.iter().all(u8::is_ascii_whitespace);
        // The first line belongs to it in any case: what was cut out may have lost its indentation.
        let is_first = end == text + 1;
        if !is_blank && indent(line) <= least && !is_first {
            break;
        }
        end = (next + 1).min(bytes.len());
    }
    let begin = text + 1 + indent(&bytes[text + 1..end]);
    let trailing =
        bytes[begin.min(end)..end].iter().rev().take_while(|it| it.is_ascii_whitespace());
    Some((begin, (end - trailing.count()).max(begin)))
}
