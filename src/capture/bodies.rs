//! Bodies and headers that the middleware copied, on their way into the row.
//!
//! They are copied as bytes while the request runs. Here, on the worker's thread, they become text
//! without secrets.

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
        let essence = essence.to_ascii_lowercase();
        essence == "application/json" || essence.ends_with("+json")
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
                let entry =
                    |(name, value): &(String, String)| (name.clone(), value.as_str().into());
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
    if body.is_json() {
        if !body.truncated
            && let Ok(mut json) = serde_json::from_slice::<Json>(&body.bytes)
        {
            for pointer in hide {
                Redactor::hide(&mut json, pointer);
            }
            redactor.json(&mut json);
            return json;
        }
        if !hide.is_empty() {
            // What is hidden cannot be found in a part of a document.
            activity.incomplete = true;
            return "".into();
        }
    }
    let text = String::from_utf8_lossy(&body.bytes);
    if body.is_form() {
        return redactor.query(&text).to_string().into();
    }
    let mut text = text.into_owned();
    redactor.text(&mut text);
    text.into()
}
