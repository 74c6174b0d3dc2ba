//! Spans of a row, found the slow and obvious way.

use crate::rows::Row;

/// The children of the span, in the order they were recorded.
pub(crate) fn children(row: &Row, span: usize) -> Vec<usize> {
    (1..row.span_name.len()).filter(|&it| row.span_parent[it] == span).collect()
}

/// Microseconds without those of the children.
pub(crate) fn own_time(row: &Row, span: usize) -> u64 {
    let below: u64 = children(row, span).iter().map(|&it| row.span_duration[it]).sum();
    row.span_duration[span].saturating_sub(below)
}

/// Microseconds and name of the spans that have none below, the longest first.
pub(crate) fn leaves(row: &Row) -> Vec<(u64, &str)> {
    let mut leaves: Vec<(u64, &str)> = (0..row.span_name.len())
        .filter(|&it| children(row, it).is_empty())
        .map(|it| (row.span_duration[it], row.span_name[it].as_str()))
        .collect();
    leaves.sort_by_key(|&(took, _)| std::cmp::Reverse(took));
    leaves
}

/// Every span with its depth, parents before children.
pub(crate) fn tree(row: &Row) -> Vec<(usize, usize)> {
    let mut spans = Vec::new();
    let mut ahead = vec![(0, 0)];
    while let Some((span, depth)) = ahead.pop() {
        spans.push((span, depth));
        ahead.extend(children(row, span).into_iter().rev().map(|child| (child, depth + 1)));
    }
    spans
}
