//! What is taken out of texts before they leave a request.

use std::str::FromStr;

use regex::{Regex, RegexBuilder};

/// What is secret.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RedactConfig {
    /// Query parameters whose values are kept; all others become `?`. Default: none.
    /// `ACTIVITY_QUERY_KEEP`.
    pub keep_query: Vec<String>,
    /// Credentials are taken out: by the name of the field or key, and by their looks. Default:
    /// yes. `ACTIVITY_REDACT`.
    pub secrets: bool,
    /// Numbers of payment cards are taken out. Default: yes. `ACTIVITY_REDACT`.
    pub cards: bool,
    /// Mail addresses are taken out. Default: no. `ACTIVITY_REDACT`.
    pub emails: bool,
    /// What else is taken out. `ACTIVITY_REDACT_PATTERN`.
    pub pattern: Option<RedactPattern>,
}

impl Default for RedactConfig {
    fn default() -> Self {
        Self { keep_query: Vec::new(), secrets: true, cards: true, emails: false, pattern: None }
    }
}

impl RedactConfig {
    /// Sets the kinds that `text` lists: `off`, or some of `secrets`, `cards`, `emails`.
    pub(super) fn with_kinds(mut self, text: &str) -> Result<Self, String> {
        (self.secrets, self.cards, self.emails) = (false, false, false);
        if text.trim() == "off" {
            return Ok(self);
        }
        for word in text.split(',').map(str::trim) {
            match word {
                "secrets" => self.secrets = true,
                "cards" => self.cards = true,
                "emails" => self.emails = true,
                _ => {
                    return Err(format!(
                        "{word:?}: expected off, or some of secrets, cards, emails, comma-separated"
                    ));
                }
            }
        }
        Ok(self)
    }
}

/// A regular expression, in the syntax of the crate `regex`, for what an application calls secret.
///
/// ```
/// use tracing_activity::config::RedactPattern;
/// let pattern: RedactPattern = "MRN-[0-9]{8}|patient:\\w+".parse().unwrap();
/// assert_eq!(pattern.as_str(), "MRN-[0-9]{8}|patient:\\w+");
/// assert!("MRN-(".parse::<RedactPattern>().unwrap_err().contains("unclosed group"));
/// ```
#[derive(Debug, Clone)]
pub struct RedactPattern(Regex);

impl RedactPattern {
    /// What stands in the place of a match.
    pub const MARK: &'static str = "[redacted]";

    /// The expression.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    pub(crate) fn regex(&self) -> &Regex {
        &self.0
    }
}

impl PartialEq for RedactPattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl FromStr for RedactPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let regex = RegexBuilder::new(text).size_limit(1 << 20).build().map_err(|error| {
            // The error draws the place over several lines; its last one says what is wrong.
            let error = error.to_string();
            let problem = error.lines().last().unwrap_or_default();
            let problem = problem.trim_start_matches("error: ").to_owned();
            format!("{problem}; expected a regular expression such as MRN-[0-9]+")
        })?;
        if regex.is_match("") {
            return Err("it matches the empty text; expected a regular expression that matches what is secret and nothing else".to_owned());
        }
        Ok(Self(regex))
    }
}
