//! What must not leave a request, and how it is taken out.
//!
//! One [`Redactor`] serves the whole crate: what goes into a row has passed it, and so has what the
//! middleware tells other subscribers about an address.
//!
//! Absent on purpose: what is a column, and when this runs. That is `capture`'s and `middleware`'s.

mod url;

use std::fmt;

pub(crate) use url::path_of;

use crate::config::RedactConfig;

/// Takes secrets out of texts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Redactor {
    /// Names of query parameters whose values stay.
    keep_query: Vec<String>,
}

impl Redactor {
    pub(crate) fn new(config: &RedactConfig) -> Self {
        Self { keep_query: config.keep_query.clone() }
    }

    /// The address without scheme, user, password and fragment, and with every value of its query
    /// replaced by `?`, unless it is listed.
    pub(crate) fn url(&self, url: &str) -> String {
        url::scrubbed(url, &self.keep_query)
    }

    /// A query, without its `?`, whose values are replaced likewise.
    pub(crate) fn query<'a>(&'a self, query: &'a str) -> impl fmt::Display + 'a {
        url::Query { text: query, keep: &self.keep_query }
    }
}
