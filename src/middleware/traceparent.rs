//! The header `traceparent` of W3C Trace Context, level 1: <https://www.w3.org/TR/trace-context/>.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use http::HeaderMap;

use crate::model::{SpanId, TraceId};

/// The span of the caller, as the header `traceparent` names it.
///
/// ```
/// use tracing_activity::middleware::Traceparent;
/// let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// let parent: Traceparent = header.parse().unwrap();
/// assert!(parent.sampled);
/// assert_eq!(parent.to_string(), header);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traceparent {
    /// The trace that the request is a part of.
    pub trace_id: TraceId,
    /// The caller's span.
    pub parent_id: SpanId,
    /// Whether the caller records it.
    pub sampled: bool,
}

/// A text was no `traceparent`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent: {problem} at {at}")]
pub struct ParseTraceparentError {
    problem: &'static str,
    at: usize,
}

/// The trace that the headers name, and the caller's span in it: by one header, or none is believed.
pub(super) fn trace_of(headers: &HeaderMap) -> Option<(&str, SpanId)> {
    let mut all = headers.get_all("traceparent").iter();
    let (only, None) = (all.next()?, all.next()) else { return None };
    let text = only.to_str().ok()?;
    let parent = text.parse::<Traceparent>().ok()?.parent_id;
    Some((&text[TRACE_ID], parent))
}

/// The trace state, of however many headers.
pub(super) fn trace_state(headers: &HeaderMap) -> String {
    let all = headers.get_all("tracestate").iter().filter_map(|it| it.to_str().ok());
    all.collect::<Vec<_>>().join(",")
}

/// Where the trace id stands.
const TRACE_ID: Range<usize> = 3..35;

impl FromStr for Traceparent {
    type Err = ParseTraceparentError;

    /// Reads version 00 exactly, and of later versions the part that all must begin with.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = |problem, at| ParseTraceparentError { problem, at };
        let bytes = text.as_bytes();
        let hex = |from: usize, to: usize| {
            let part = bytes.get(from..to).ok_or(wrong("too short", bytes.len()))?;
            match part.iter().position(|it| !matches!(it, b'0'..=b'9' | b'a'..=b'f')) {
                Some(at) => Err(wrong("expected a lower-case hexadecimal digit", from + at)),
                None => Ok(&text[from..to]),
            }
        };
        let version = hex(0, 2)?;
        let trace_id = hex(TRACE_ID.start, TRACE_ID.end)?;
        let parent_id = hex(36, 52)?;
        let flags = hex(53, 55)?;
        if let Some(at) = [2, 35, 52].into_iter().find(|at| bytes[*at] != b'-') {
            return Err(wrong("expected a hyphen", at));
        }
        match version {
            "ff" => return Err(wrong("version ff is forbidden", 0)),
            "00" if bytes.len() > 55 => return Err(wrong("too long for version 00", 55)),
            _ if bytes.len() > 55 && bytes[55] != b'-' => {
                return Err(wrong("expected a hyphen", 55));
            }
            _ => {}
        }
        if trace_id.bytes().all(|it| it == b'0') {
            return Err(wrong("the trace id is zero", 3));
        }
        if parent_id.bytes().all(|it| it == b'0') {
            return Err(wrong("the parent id is zero", 36));
        }
        let flags = u8::from_str_radix(flags, 16).map_err(|_| wrong("no flags", 53))?;
        Ok(Self {
            trace_id: trace_id.parse().map_err(|_| wrong("no trace id", 3))?,
            parent_id: parent_id.parse().map_err(|_| wrong("no parent id", 36))?,
            sampled: flags & 1 == 1,
        })
    }
}

impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace_id, self.parent_id, u8::from(self.sampled))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let later = format!("01{}-more", &GOOD[2..]);
        assert_eq!(later.parse(), GOOD.parse::<Traceparent>());
        assert_eq!(format!("cc{}", &GOOD[2..]).parse(), GOOD.parse::<Traceparent>());
    }

    #[test]
    fn what_is_malformed_is_refused_with_its_place() {
        for (text, problem) in [
            (String::new(), "too short at 0"),
            (GOOD[..54].to_owned(), "too short at 54"),
            (format!("{GOOD}-x"), "too long for version 00 at 55"),
            (format!("01{}x", &GOOD[2..]), "expected a hyphen at 55"),
            (format!("ff{}", &GOOD[2..]), "version ff is forbidden at 0"),
            (GOOD.to_uppercase(), "expected a lower-case hexadecimal digit at 4"),
            (GOOD.replace("-01", "_01"), "expected a hyphen at 52"),
            (format!(" {}", &GOOD[..54]), "expected a lower-case hexadecimal digit at 0"),
            (format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)), "the trace id is zero at 3"),
            (format!("{}{}-01", &GOOD[..36], "0".repeat(16)), "the parent id is zero at 36"),
        ] {
            let error = text.parse::<Traceparent>().unwrap_err().to_string();
            assert_eq!(error, format!("not a traceparent: {problem}"), "{text}");
        }
    }

    #[test]
    fn of_two_headers_none_is_believed() {
        let mut headers = HeaderMap::new();
        assert_eq!(trace_of(&headers), None);
        headers.append("traceparent", GOOD.parse().unwrap());
        let parent = "b7ad6b7169203331".parse().unwrap();
        assert_eq!(trace_of(&headers), Some(("0af7651916cd43dd8448eb211c80319c", parent)));
        headers.append("traceparent", GOOD.parse().unwrap());
        assert_eq!(trace_of(&headers), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,80}") {
            let _ = text.parse::<Traceparent>();
        }

        #[test]
        fn what_is_printed_is_read_back(trace in 1_u128.., parent in 1_u64.., sampled: bool) {
            let text = format!("00-{trace:032x}-{parent:016x}-{:02x}", u8::from(sampled));
            prop_assert_eq!(text.parse::<Traceparent>().unwrap().to_string(), text);
        }
    }
}
