//! The rows as they are, by one plain query, for what is computed from them here.

use serde::Deserialize;

/// The columns that the checks compute with.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Row {
    pub(crate) when: String,
    pub(crate) minute: String,
    pub(crate) hour: String,
    pub(crate) day: String,
    /// Microseconds since 1970.
    pub(crate) micros: i64,
    pub(crate) duration: u64,
    pub(crate) response_start: u64,
    pub(crate) outcome: String,
    pub(crate) status: u16,
    pub(crate) method: String,
    pub(crate) route: String,
    pub(crate) url: String,
    pub(crate) okind: String,
    pub(crate) oid: String,
    pub(crate) ekind: String,
    pub(crate) error: String,
    pub(crate) error_kind: String,
    pub(crate) user_id: String,
    pub(crate) session_id: String,
    pub(crate) service: String,
    pub(crate) host: String,
    pub(crate) site_revision: String,
    pub(crate) trace_hash: String,
    pub(crate) kept_because: String,
    pub(crate) sample_weight: f64,
    pub(crate) activity_id: String,
    pub(crate) batch_id: String,
    pub(crate) truncated: bool,
    pub(crate) incomplete: bool,
    pub(crate) late_end: bool,
    pub(crate) dropped_spans: u64,
    pub(crate) span_name: Vec<String>,
    pub(crate) span_parent: Vec<usize>,
    pub(crate) span_start: Vec<u64>,
    pub(crate) span_duration: Vec<u64>,
    pub(crate) span_error: Vec<String>,
    pub(crate) attr_key: Vec<String>,
    pub(crate) attr_value: Vec<String>,
    pub(crate) event_level: Vec<String>,
    pub(crate) event_message: Vec<String>,
    pub(crate) event_fields: Vec<String>,
}

/// Plain columns in the order of time.
pub(crate) const SELECT: &str = "\
SELECT when, toString(toStartOfMinute(when)) AS minute, toString(toStartOfHour(when)) AS hour, \
toString(toDate(when)) AS day, toUnixTimestamp64Micro(when) AS micros, duration, response_start, \
outcome, status, method, route, url, okind, oid, ekind, error, error_kind, user_id, session_id, \
service, host, site_revision, trace_hash, kept_because, sample_weight, activity_id, batch_id, \
truncated, incomplete, late_end, dropped_spans, span_name, span_parent, span_start, span_duration, \
span_error, attr_key, attr_value, event_level, event_message, event_fields \
FROM activities ORDER BY when, activity_id \
SETTINGS output_format_json_quote_64bit_integers = 0";

impl Row {
    /// `GET /products/{id}`.
    pub(crate) fn endpoint(&self) -> String {
        format!("{} {}", self.method, self.route).trim_start().to_owned()
    }

    /// Microseconds until its answer began; where nobody told, until it ended.
    pub(crate) fn start(&self) -> u64 {
        if self.response_start == 0 { self.duration } else { self.response_start }
    }

    pub(crate) fn kept(&self) -> bool {
        !self.kept_because.is_empty()
    }

    pub(crate) fn end(&self) -> i64 {
        self.micros + self.duration as i64
    }

    /// The requests that its trace stands for, whole.
    pub(crate) fn weight(&self) -> u64 {
        self.sample_weight.round() as u64
    }
}
