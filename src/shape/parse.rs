//! The text of a shape, read back: how a stored text is compared with what runs now.

use std::str::FromStr;

use super::Mark;
use super::tree::{BETWEEN, LOOP, Node, REPEATED, Shape, Step, TOGETHER};
use crate::model::Level;

/// A text was not that of a [`Shape`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the shape, {text:?}: {reason}")]
pub struct ParseShapeError {
    line: usize,
    text: String,
    reason: &'static str,
}

/// Levels that are read: a stored text may come from anywhere, and each level takes stack. Twice the
/// levels that are recorded: a span may stand two levels below the one around it.
const MAX_DEPTH: usize = 500;

impl FromStr for Shape {
    type Err = ParseShapeError;

    /// Reads the text of a shape. Empty lines before and after it are left out.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lines: Vec<(usize, &str)> = text
            .lines()
            .enumerate()
            .map(|(at, line)| (at + 1, line.trim_end()))
            .filter(|(_, line)| !line.is_empty())
            .collect();
        let first = lines.first().copied();
        let mut lines = Lines { lines: &lines };
        let (mark, root) = lines.span(0, "")?;
        match (lines.lines.first(), first) {
            (Some(line), _) => Err(at_line(*line, "is indented like the first, or unevenly")),
            (None, Some(line)) if mark != Mark::Once => {
                Err(at_line(line, "the first span runs once"))
            }
            _ => Ok(Self { root }),
        }
    }
}

fn at_line((line, text): (usize, &str), reason: &'static str) -> ParseShapeError {
    ParseShapeError { line, text: text.to_owned(), reason }
}

/// The lines that are left.
struct Lines<'a> {
    lines: &'a [(usize, &'a str)],
}

impl<'a> Lines<'a> {
    fn error(&self, reason: &'static str) -> ParseShapeError {
        at_line(self.lines.first().copied().unwrap_or((1, "")), reason)
    }

    /// The next line, if it stands at this level.
    fn at(&self, depth: usize) -> Option<&'a str> {
        let (_, line) = self.lines.first()?;
        let text = line.trim_start_matches(' ');
        (line.len() - text.len() == depth * BETWEEN.len()).then_some(text)
    }

    /// The span at this level, inside of one with the target `outer`, with what is below it.
    fn span(&mut self, depth: usize, outer: &str) -> Result<(Mark, Node), ParseShapeError> {
        let Some(text) = self.at(depth) else {
            return Err(self.error("expected a span here, two spaces to a level"));
        };
        if depth > MAX_DEPTH {
            return Err(self.error("is nested too deeply"));
        }
        let (repeated, mut node) = line(text, outer).map_err(|reason| self.error(reason))?;
        self.lines = &self.lines[1..];
        while let Some(text) = self.at(depth + 1) {
            let mark = match text {
                TOGETHER => Mark::Together,
                LOOP => Mark::Loop,
                _ => {
                    let (mark, child) = self.span(depth + 1, &node.target)?;
                    node.steps.push(Step { mark, members: vec![child] });
                    continue;
                }
            };
            let header = self.lines[0];
            self.lines = &self.lines[1..];
            let mut members = Vec::new();
            while self.at(depth + 2).is_some() {
                let (Mark::Once, member) = self.span(depth + 2, &node.target)? else {
                    return Err(self.error("a span above has x2+ where several ran anyway"));
                };
                members.push(member);
            }
            if members.len() < 2 {
                return Err(at_line(header, "expected at least two spans below, one level deeper"));
            }
            node.steps.push(Step::new(mark, members, &node.target));
        }
        Ok((if repeated { Mark::Repeated } else { Mark::Once }, node))
    }
}

/// A line without its indentation: the span alone, and whether it ran several times.
fn line(text: &str, outer: &str) -> Result<(bool, Node), &'static str> {
    let (name, mut rest) = if text.starts_with('"') {
        unquoted(text)?
    } else {
        let end = text.find(BETWEEN).unwrap_or(text.len());
        (text[..end].to_owned(), &text[end..])
    };
    let mut node = Node {
        name,
        target: outer.to_owned(),
        level: Level::Info,
        kind: String::new(),
        fields: Vec::new(),
        error: String::new(),
        steps: Vec::new(),
    };
    let mut repeated = false;
    // Each part at most once, in this order.
    let mut before = 0;
    while !rest.is_empty() {
        let part = rest.strip_prefix(BETWEEN).ok_or("expected two spaces between the parts")?;
        let place;
        (place, rest) = if let Some(part) = part.strip_prefix("in ") {
            let (target, rest) = value(part)?;
            node.target = target;
            (1, rest)
        } else if let Some((level, rest)) = level(part) {
            node.level = level;
            (2, rest)
        } else if let Some(part) = part.strip_prefix("kind ") {
            let (kind, rest) = value(part)?;
            node.kind = kind;
            (3, rest)
        } else if let Some(part) = part.strip_prefix('{') {
            let (fields, rest) = fields(part)?;
            node.fields = fields;
            (4, rest)
        } else if let Some(part) = part.strip_prefix("fails: ") {
            let (error, rest) = value(part)?;
            node.error = error;
            (5, rest)
        } else if let Some(rest) = part.strip_prefix(REPEATED) {
            repeated = true;
            (6, rest)
        } else {
            return Err(
                "expected `in TARGET`, a level, `kind KIND`, `{FIELDS}`, `fails: CLASS` or `x2+`",
            );
        };
        if place <= before {
            return Err(
                "the parts stand in another order: target, level, kind, fields, error, x2+",
            );
        }
        before = place;
    }
    Ok((repeated, node))
}

fn level(part: &str) -> Option<(Level, &str)> {
    [Level::Trace, Level::Debug, Level::Warn, Level::Error].into_iter().find_map(|level| {
        let rest = part.strip_prefix(level.as_str())?;
        (rest.is_empty() || rest.starts_with(BETWEEN)).then_some((level, rest))
    })
}

/// The fields up to the closing brace, and what stands behind it.
fn fields(mut rest: &str) -> Result<(Vec<String>, &str), &'static str> {
    let mut fields = Vec::new();
    loop {
        let (field, behind) = value(rest)?;
        fields.push(field);
        if let Some(behind) = behind.strip_prefix('}') {
            return Ok((fields, behind));
        }
        rest = behind.strip_prefix(", ").ok_or("expected `, ` or `}` behind a field")?;
    }
}

/// A text up to where it ends, in quotes or not, and what stands behind it.
fn value(text: &str) -> Result<(String, &str), &'static str> {
    if text.starts_with('"') {
        return unquoted(text);
    }
    let end = text.find([' ', ',', '}', '{', '"']).unwrap_or(text.len());
    if end == 0 { Err("expected a word") } else { Ok((text[..end].to_owned(), &text[end..])) }
}

/// A text in quotes, and what stands behind it.
fn unquoted(text: &str) -> Result<(String, &str), &'static str> {
    const UNREADABLE: &str = "the text in quotes is not written as in JSON";
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<String>();
    let value = values.next().ok_or(UNREADABLE)?.map_err(|_| UNREADABLE)?;
    Ok((value, &text[values.byte_offset()..]))
}
