//! [`Shape`]: what is hashed, as a tree and as a text for people.

use std::fmt;

use super::{Hash, Mark, ShapeSpan, children, describe, number, steps, subtree};
use crate::model::{Level, TraceHash};

/// The shape of a trace: what [`trace_hash`](super::trace_hash) hashes, for people to read.
///
/// Printed, it is a text with a line for every span. Two shapes have the same text exactly when
/// they have the same hash, and the text can be parsed back:
///
/// ```text
/// request  in shop::routes  {method, uri, http.route}
///   SELECT sessions  in shop::store
///   place_order  in shop::checkout  {lines}
///     SELECT products  in shop::store  {id}  x2+
///     & at the same time
///       pay
///         POST pay.example  in shop::payment  kind client  fails: error
///       reserve
///     * again and again, in any order
///       SELECT stock  in shop::store
///       UPDATE stock  in shop::store
/// ```
///
/// Behind a span's name stand, where there is something to say: the target, unless it is that of
/// the span around it; the level, unless it is info; `otel.kind`; the names of the declared fields;
/// the class of the error that arose in it; and `x2+`, when it ran more than once in a row.
///
/// Printing and comparing a shape takes stack in proportion to its depth, dropping it does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    pub(super) root: Node,
}

/// A span and what ran below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) target: String,
    pub(super) level: Level,
    pub(super) kind: String,
    pub(super) fields: Vec<String>,
    pub(super) error: String,
    pub(super) steps: Vec<Step>,
}

/// What stands for one or several children.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) mark: Mark,
    /// One of each kind, in the order of their text.
    pub(super) members: Vec<Node>,
}

/// The line above what ran at the same time.
pub(super) const TOGETHER: &str = "& at the same time";
/// The line above the different steps of a loop.
pub(super) const LOOP: &str = "* again and again, in any order";
/// The mark of a step that ran several times.
pub(super) const REPEATED: &str = "x2+";
/// Between the parts of a line, and before a line for every level.
pub(super) const BETWEEN: &str = "  ";

impl Shape {
    /// The shape of the tree whose root is the first span; `None` when there is none.
    #[must_use]
    pub fn of(spans: &[ShapeSpan<'_>]) -> Option<Self> {
        let children = children(spans);
        let mut hashes: Vec<Hash> = vec![[0; 32]; spans.len()];
        let mut nodes: Vec<Option<Node>> = Vec::new();
        nodes.resize_with(spans.len(), || None);
        let mut bytes = Vec::new();
        // As in the hash: children stand behind their parents.
        for index in (0..spans.len()).rev() {
            let below = &children[index];
            hashes[index] = subtree(spans, index, below, &hashes, &mut bytes);
            let mut node = Node::new(&spans[index]);
            let mut below_it = Vec::new();
            steps(spans, below, &hashes, |mark, members| {
                let members = members.iter().filter_map(|it| nodes[*it as usize].take()).collect();
                below_it.push(Step::new(mark, members, &node.target));
            });
            node.steps = below_it;
            nodes[index] = Some(node);
        }
        Some(Self { root: nodes.first_mut()?.take()? })
    }

    /// The hash of what takes this code path.
    #[must_use]
    pub fn trace_hash(&self) -> TraceHash {
        let mut short = [0; 16];
        short.copy_from_slice(&self.root.hash()[..16]);
        TraceHash::from_bytes(short)
    }

    /// What is different in `new`, in words: a sentence for every change, none when both are equal.
    ///
    /// ```
    /// use tracing_activity::shape::Shape;
    /// let old: Shape = "page  in shop\n  query".parse()?;
    /// let new: Shape = "page  in shop\n  query  x2+".parse()?;
    /// assert_eq!(old.changes(&new), ["`query` in `page` now runs more than once"]);
    /// # Ok::<(), tracing_activity::shape::ParseShapeError>(())
    /// ```
    #[must_use]
    pub fn changes(&self, new: &Self) -> Vec<String> {
        super::changes::changes(&self.root, &new.root)
    }
}

impl Drop for Shape {
    /// Level by level: the default would take stack for each.
    fn drop(&mut self) {
        let mut steps = std::mem::take(&mut self.root.steps);
        while let Some(step) = steps.pop() {
            for mut member in step.members {
                steps.append(&mut member.steps);
            }
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        self.root.print(0, "", false, &mut text);
        f.write_str(text.trim_end_matches('\n'))
    }
}

impl Step {
    /// A step below a span of this target.
    pub(super) fn new(mark: Mark, mut members: Vec<Node>, target: &str) -> Self {
        members.sort_by_cached_key(|member| {
            let mut text = String::new();
            member.print(0, target, false, &mut text);
            text
        });
        Self { mark, members }
    }
}

impl Node {
    fn new(span: &ShapeSpan<'_>) -> Self {
        Self {
            name: span.name.to_owned(),
            target: span.target.to_owned(),
            level: span.level,
            kind: span.kind.to_owned(),
            fields: span.fields.iter().map(|&field| field.to_owned()).collect(),
            error: span.error.to_owned(),
            steps: Vec::new(),
        }
    }

    fn hash(&self) -> Hash {
        let fields: Vec<&str> = self.fields.iter().map(String::as_str).collect();
        let span = ShapeSpan {
            name: &self.name,
            target: &self.target,
            level: self.level,
            kind: &self.kind,
            fields: &fields,
            error: &self.error,
            parent: 0,
            ended: 0,
        };
        let mut bytes = Vec::new();
        describe(&mut bytes, &span);
        number(&mut bytes, self.steps.len());
        for step in &self.steps {
            bytes.push(step.mark as u8);
            number(&mut bytes, step.members.len());
            let mut hashes: Vec<Hash> = step.members.iter().map(Self::hash).collect();
            hashes.sort_unstable();
            bytes.extend(hashes.concat());
        }
        *blake3::hash(&bytes).as_bytes()
    }

    /// Prints the span, inside of one with the target `outer`, and what is below it.
    fn print(&self, depth: usize, outer: &str, repeated: bool, out: &mut String) {
        indent(depth, out);
        out.push_str(&name(&self.name));
        let mut part = |word: &str, text: &str| {
            out.push_str(BETWEEN);
            out.push_str(word);
            out.push_str(text);
        };
        if self.target != outer {
            part("in ", &value(&self.target));
        }
        if self.level != Level::Info {
            part("", self.level.as_str());
        }
        if !self.kind.is_empty() {
            part("kind ", &value(&self.kind));
        }
        if !self.fields.is_empty() {
            let fields: Vec<String> = self.fields.iter().map(|field| value(field)).collect();
            part("", &format!("{{{}}}", fields.join(", ")));
        }
        if !self.error.is_empty() {
            part("fails: ", &value(&self.error));
        }
        if repeated {
            part("", REPEATED);
        }
        out.push('\n');
        for step in &self.steps {
            let header = match step.mark {
                Mark::Once | Mark::Repeated => None,
                Mark::Together => Some(TOGETHER),
                Mark::Loop => Some(LOOP),
            };
            if let Some(header) = header {
                indent(depth + 1, out);
                out.push_str(header);
                out.push('\n');
            }
            let depth = depth + if header.is_some() { 2 } else { 1 };
            for member in &step.members {
                member.print(depth, &self.target, step.mark == Mark::Repeated, out);
            }
        }
    }
}

fn indent(depth: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(BETWEEN, depth));
}

/// A span's name, in quotes where it could be taken for something else.
fn name(name: &str) -> String {
    let plain = !name.is_empty()
        && !name.contains(BETWEEN)
        && !name.starts_with([' ', '"', '&', '*'])
        && !name.ends_with(' ')
        && name.chars().all(is_plain);
    if plain { name.to_owned() } else { quoted(name) }
}

/// Another text, likewise.
fn value(value: &str) -> String {
    let usual = |c: char| c.is_alphanumeric() || "_-.:/#<>@+$".contains(c);
    let plain = !value.is_empty() && value.chars().all(|c| usual(c) && is_plain(c));
    if plain { value.to_owned() } else { quoted(value) }
}

/// Not a character that an editor or a terminal might change or hide.
fn is_plain(c: char) -> bool {
    let hidden = matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    !c.is_control() && (c == ' ' || !c.is_whitespace()) && !hidden
}

/// In quotes; what is not plain is escaped as in JSON, and so are two spaces in a row.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' ' if out.ends_with(' ') => out.push_str("\\u0020"),
            c if is_plain(c) => out.push(c),
            c => {
                let mut units = [0; 2];
                out.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
            }
        }
    }
    out.push('"');
    out
}
