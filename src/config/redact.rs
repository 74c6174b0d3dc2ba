//! What is taken out of texts before they leave a request.

/// What is secret.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct RedactConfig {
    /// Query parameters whose values are kept; all others become `?`. Default: none.
    /// `ACTIVITY_QUERY_KEEP`.
    pub keep_query: Vec<String>,
}
