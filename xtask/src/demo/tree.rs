//! A trace as an indented tree, from the parallel arrays of a row.

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::Value;

/// The columns of a trace. The lists of one kind have the same length.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Trace {
    pub(crate) span_name: Vec<String>,
    /// Index of the parent; the root names itself.
    pub(crate) span_parent: Vec<usize>,
    /// Microseconds from the beginning of the request.
    pub(crate) span_start: Vec<u32>,
    pub(crate) span_duration: Vec<u32>,
    /// Class of the error, empty when none.
    pub(crate) span_error: Vec<String>,
    /// Index of the span of each event.
    pub(crate) event_span: Vec<usize>,
    pub(crate) event_level: Vec<String>,
    pub(crate) event_message: Vec<String>,
    /// The other fields as a JSON object, empty when none.
    pub(crate) event_fields: Vec<String>,
}

impl Trace {
    /// The tree, a span a line, durations in a column. `title` stands for the root's name.
    pub(crate) fn render(&self, title: &str) -> String {
        let mut lines = Vec::new();
        self.walk(0, Indent::default(), title, &mut lines);
        let spans = lines.iter().filter(|line| !line.right.is_empty());
        let width = spans.map(|line| line.left.chars().count()).max().unwrap_or(0);
        let mut text = String::new();
        for Line { left, right } in lines {
            let line = format!("{left:width$}  {right}");
            writeln!(text, "{}", line.trim_end()).ok();
        }
        text
    }

    fn walk(&self, span: usize, indent: Indent, name: &str, lines: &mut Vec<Line>) {
        let Indent { lead, below } = indent;
        let duration = self.span_duration.get(span).copied().unwrap_or(0);
        let start = self.span_start.get(span).copied().unwrap_or(0);
        let mut right = format!("{:>10}  at {}", millis(duration), millis(start));
        if let Some(error) = self.span_error.get(span).filter(|error| !error.is_empty()) {
            // An error without a class of its own goes by this name.
            let class = if error == "error" { "" } else { error };
            write!(right, "  failed {class}").ok();
        }
        lines.push(Line { left: format!("{lead}{name}"), right });
        let children: Vec<usize> = (1..self.span_name.len())
            .filter(|&child| self.span_parent.get(child) == Some(&span))
            .collect();
        let stem = if children.is_empty() { "  " } else { "│ " };
        for event in self.events_to_show(span) {
            lines.push(Line { left: format!("{below}{stem}· {event}"), right: String::new() });
        }
        for (position, &child) in children.iter().enumerate() {
            let (branch, beneath) = if position + 1 == children.len() {
                ("└─ ", "   ")
            } else {
                ("├─ ", "│  ")
            };
            let name = &self.span_name[child];
            let indent =
                Indent { lead: format!("{below}{branch}"), below: format!("{below}{beneath}") };
            self.walk(child, indent, name, lines);
        }
    }

    /// Warnings and errors that happened in `span`, a line each.
    fn events_to_show(&self, span: usize) -> impl Iterator<Item = String> {
        let happened =
            (0..self.event_span.len()).filter(move |&event| self.event_span[event] == span);
        happened.filter_map(|event| {
            let level = self.event_level.get(event)?;
            let message = self.event_message.get(event)?;
            let fields = fields(self.event_fields.get(event)?);
            let separator = if message.is_empty() || fields.is_empty() { "" } else { ", " };
            matches!(level.as_str(), "warn" | "error")
                .then(|| format!("{level}: {message}{separator}{fields}"))
        })
    }
}

/// The fields of an event: `error connection refused, attempts 1`.
fn fields(json: &str) -> String {
    let fields: serde_json::Map<String, Value> = serde_json::from_str(json).unwrap_or_default();
    let fields = fields.into_iter().map(|(name, value)| match value {
        Value::String(text) => format!("{name} {text}"),
        other => format!("{name} {other}"),
    });
    fields.collect::<Vec<_>>().join(", ")
}

/// What stands in front of a span, and of what is under it.
#[derive(Default)]
struct Indent {
    lead: String,
    below: String,
}

struct Line {
    left: String,
    right: String,
}

/// Microseconds as milliseconds: `12.3 ms`.
pub(crate) fn millis(micros: u32) -> String {
    format!("{:.1} ms", f64::from(micros) / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn a_trace_is_drawn_as_a_tree_with_durations_and_errors() {
        let trace = Trace {
            span_name: texts(&["request", "place_order", "pay", "SELECT products"]),
            span_parent: vec![0, 0, 1, 1],
            span_start: vec![0, 100, 200, 300],
            span_duration: vec![50_000, 49_000, 30_500, 700],
            span_error: texts(&["", "", "PaymentError", ""]),
            event_span: vec![2, 3],
            event_level: texts(&["warn", "info"]),
            event_message: texts(&["trying again", "not shown"]),
            event_fields: texts(&[r#"{"error":"connection refused","attempts":1}"#, ""]),
        };
        let expected = "\
POST /checkout            50.0 ms  at 0.0 ms
└─ place_order            49.0 ms  at 0.1 ms
   ├─ pay                 30.5 ms  at 0.2 ms  failed PaymentError
   │    · warn: trying again, attempts 1, error connection refused
   └─ SELECT products      0.7 ms  at 0.3 ms
";
        assert_eq!(trace.render("POST /checkout"), expected);
    }

    #[test]
    fn a_span_whose_parent_is_out_of_range_ends_nothing() {
        let trace = Trace {
            span_name: texts(&["request", "lost"]),
            span_parent: vec![0, 9],
            ..Trace::default()
        };
        assert_eq!(trace.render("GET /").lines().count(), 1);
    }
}
