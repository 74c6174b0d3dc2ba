//! Bodies and headers that the middleware copied, on their way into the row.
//!
//! They are copied as bytes while the request runs. Here, on the worker's thread, they become text
//! without secrets.
//!
//! What hides a value in JSON is its key or its place, so JSON is read, whatever type it is sent as:
//! one document, or one by line, which become a list. Of a document that is cut nothing can be said: it is left out.

use serde_json::Value as Json;

use super::shared::Shared;
use crate::model::Activity;
use crate::redact::Redactor;

/// The first bytes of a body.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct CapturedBody {
    pub(crate) bytes: Vec<u8>,
    pub(crate) content_type: String,
    /// There was more.
    pub(crate) truncated: bool,
}

/// What was captured of one request.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Captured {
    pub(crate) request: Option<CapturedBody>,
    pub(crate) response: Option<CapturedBody>,
    pub(crate) request_headers: Vec<(String, String)>,
    pub(crate) response_headers: Vec<(String, String)>,
}

impl CapturedBody {
    /// Adds what fits of more bytes.
    pub(crate) fn extend(&mut self, more: &[u8], max_bytes: usize) {
        let room = max_bytes.saturating_sub(self.bytes.len()).min(more.len());
        self.bytes.extend_from_slice(&more[..room]);
        self.truncated |= room < more.len();
    }

    fn is_json(&self) -> bool {
        let essence = self.content_type.split(';').next().unwrap_or_default().trim();
        let subtype = essence.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
        let known = ["json", "x-ndjson", "ndjson", "jsonl", "x-jsonlines"];
        known.contains(&subtype.as_str()) || subtype.ends_with("+json")
    }

    fn is_form(&self) -> bool {
        self.content_type.to_ascii_lowercase().starts_with("application/x-www-form-urlencoded")
    }
}

impl Captured {
    pub(super) fn merge(&mut self, newer: Self) {
        self.request = newer.request.or(self.request.take());
        self.response = newer.response.or(self.response.take());
        self.request_headers.extend(newer.request_headers);
        self.response_headers.extend(newer.response_headers);
    }

    /// Memory held, about.
    pub(super) fn bytes(&self) -> usize {
        let bodies = [&self.request, &self.response].into_iter().flatten();
        let bodies = bodies.map(|it| it.bytes.capacity() + it.content_type.len());
        let headers = self.request_headers.iter().chain(&self.response_headers);
        let headers = headers.map(|(name, value)| 48 + name.len() + value.len());
        size_of::<Self>() + bodies.sum::<usize>() + headers.sum::<usize>()
    }

    /// Fills the column `response`, and gives what goes into `data`.
    pub(super) fn fill(&self, shared: &Shared, activity: &mut Activity) -> Vec<(String, Json)> {
        let mut data = Vec::new();
        if let Some(body) = &self.response {
            activity.response = match clean(body, shared, activity) {
                Json::String(text) => text,
                json => json.to_string(),
            };
        }
        if let Some(body) = &self.request {
            data.push(("http.request.body".to_owned(), clean(body, shared, activity)));
        }
        let headers = [
            ("http.request.headers", &self.request_headers),
            ("http.response.headers", &self.response_headers),
        ];
        for (key, headers) in headers {
            if !headers.is_empty() {
                let entry = |(name, value): &(String, String)| {
                    // An address of this host, as `Location` may have it. Others are found in texts.
                    let is_address = value.starts_with('/') && value.contains(['?', '#']);
                    let url = || shared.redactor.url(value);
                    (name.clone(), if is_address { url().into() } else { value.as_str().into() })
                };
                data.push((key.to_owned(), Json::Object(headers.iter().map(entry).collect())));
            }
        }
        data
    }
}

/// A body without its secrets.
fn clean(body: &CapturedBody, shared: &Shared, activity: &mut Activity) -> Json {
    let (redactor, hide): (&Redactor, _) = (&shared.redactor, &shared.http.capture.hide);
    activity.truncated |= body.truncated;
    let mut text = String::from_utf8_lossy(&body.bytes).into_owned();
    if body.is_form() {
        return redactor.query(&text).to_string().into();
    }
    let cleaned = |mut json: Json| {
        for pointer in hide {
            Redactor::hide(&mut json, pointer);
        }
        redactor.json(&mut json);
        json
    };
    match Content::of(&text, body) {
        Content::Json(json) => return cleaned(json),
        Content::Lines(lines) => {
            activity.incomplete |= body.truncated;
            return Json::Array(lines.into_iter().map(cleaned).collect());
        }
        // What is hidden cannot be found in a part of a document.
        Content::Cut if redactor.hides_by_name() || !hide.is_empty() => {
            activity.incomplete = true;
            return "".into();
        }
        Content::Cut | Content::Text => {}
    }
    redactor.text(&mut text);
    text.into()
}

/// What a body holds, whatever it is called.
enum Content {
    Json(Json),
    /// A document by line; one that was cut is left out.
    Lines(Vec<Json>),
    /// The beginning of a document, or one that is malformed.
    Cut,
    Text,
}

impl Content {
    fn of(text: &str, body: &CapturedBody) -> Self {
        if !body.is_json() && !text.trim_start().starts_with(['{', '[']) {
            return Self::Text;
        }
        match serde_json::from_str(text) {
            Ok(json) if !body.truncated => return Self::Json(json),
            Err(error) if !error.is_eof() => {}
            _ => return Self::Cut,
        }
        let mut lines: Vec<_> = text.split('\n').filter(|line| !line.trim().is_empty()).collect();
        if body.truncated {
            lines.pop();
        }
        let documents = lines.iter().map(|line| serde_json::from_str(line));
        match documents.collect::<Result<Vec<_>, _>>() {
            Ok(documents) if !documents.is_empty() => Self::Lines(documents),
            _ if body.is_json() => Self::Cut,
            _ => Self::Text,
        }
    }
}
