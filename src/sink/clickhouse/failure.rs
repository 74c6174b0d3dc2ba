//! What an error of the server or of the way to it means, and what to do about it.
//!
//! The server's own number decides, see `codes`: it sends the status 500 for what passes by itself and
//! for what never will. Where its words are missing, a proxy speaks, and the status decides.
//!
//! A refusal is certain only if the server's header repeats the number: whoever else words an error
//! may have passed the insert on before.

use http::StatusCode;

use super::INSERT_SETTINGS;
use super::codes::{Class, class};
use super::http::{Answer, Error};
use crate::sink::SinkError;

/// How much of the server's text is repeated.
const LONGEST: usize = 300;

/// What messages name: where, and as whom.
#[derive(Debug)]
pub(super) struct Place {
    /// Scheme, host and port, without a user.
    pub(super) origin: String,
    pub(super) database: String,
    pub(super) user: String,
}

impl Place {
    /// What `error` means.
    pub(super) fn explain(&self, error: &Error) -> SinkError {
        let origin = &self.origin;
        match error {
            Error::BadResponse(answer) => match answer.code() {
                Some(code) => self.explain_code(code, answer),
                None => self.explain_status(answer),
            },
            Error::TimedOut => SinkError::retryable(format!(
                "{origin} did not answer in time; ACTIVITY_TIMEOUT is how long it may take"
            )),
            Error::InvalidParams => SinkError::configuration(
                "the request cannot be formed: check ACTIVITY_DB, and that ACTIVITY_USER and ACTIVITY_PASSWORD are plain ASCII",
            )
            .certain(),
            Error::Unsupported(why) => SinkError::configuration(why.as_str()).certain(),
            Error::Connect(why) => SinkError::retryable(format!(
                "cannot reach ClickHouse at {origin}: {}; check that it runs, and ACTIVITY_DB",
                excerpt(why)
            ))
            .certain(),
            Error::Network(why) => SinkError::retryable(format!(
                "the connection to {origin} failed: {}; check that ClickHouse runs there",
                excerpt(why)
            )),
            Error::Unverified(why) => SinkError::retryable(format!("{origin} {why}")),
        }
    }

    /// An answer that is not ClickHouse's own: of a proxy, or of another server altogether.
    fn explain_status(&self, answer: &Answer) -> SinkError {
        let Self { origin, database, user } = self;
        let status = StatusCode::from_u16(answer.status).unwrap_or_default();
        let page = without_tags(answer);
        let said = format!("{origin} answered {status}: {}", excerpt(&page));
        match answer.status {
            401 | 403 | 407 => SinkError::configuration(format!(
                "{said}; a proxy before ClickHouse refuses the user {user:?}: check ACTIVITY_USER and ACTIVITY_PASSWORD, what the proxy allows, and that ACTIVITY_DB is the address of a ClickHouse server"
            )),
            413 => SinkError::too_large(format!(
                "{said}; a proxy before ClickHouse takes less at a time: raise its limit (client_max_body_size in nginx, and its kind elsewhere), or lower ACTIVITY_BATCH_BYTES; batches are made smaller meanwhile"
            )),
            429 | 503 => {
                SinkError::busy(format!("{origin} is busy: it {}", &said[origin.len() + 1..]))
            }
            408 | 425 | 500.. => SinkError::retryable(said),
            200..300 => SinkError::configuration(format!(
                "{said}; that is not what ClickHouse answers: check that ACTIVITY_DB is the address of a ClickHouse server with the database {database}"
            )),
            _ => SinkError::configuration(format!(
                "{said}; check that ACTIVITY_DB is the address of a ClickHouse server, and what a proxy before it allows"
            )),
        }
    }

    fn explain_code(&self, code: u32, answer: &Answer) -> SinkError {
        let Self { origin, database, user } = self;
        let said = match excerpt(answer) {
            said if said.contains("Code: ") => said,
            said => format!("Code: {code}. {said}"),
        };
        let mut class = class(code);
        if code == 252 && answer.contains("Too many partitions") {
            class = Class::Data;
        }
        // The whole server is short of memory, not this insert of what it may take.
        if code == 241
            && ["(total)", "otal memory", "erver memory"].iter().any(|it| answer.contains(it))
        {
            class = Class::Busy;
        }
        let mismatch = match code {
            53 => answer.contains("While executing Native"),
            117 => answer.contains("Type of "),
            _ => false,
        };
        // The base table has the rows already; only the same token completes the view.
        if answer.contains("while pushing to view") {
            return match class {
                Class::Busy => SinkError::busy(format!(
                    "{origin} is busy in a view on {database}.activities: {said}"
                )),
                Class::Passing => SinkError::retryable(format!(
                    "a view on {database}.activities cannot store now: {said}"
                )),
                Class::Large => SinkError::memory(format!(
                    "a view on {database}.activities takes more memory than the user {user:?} may: raise its max_memory_usage, and lower ACTIVITY_BATCH_BYTES for the batches to come ({said})"
                )),
                _ => SinkError::configuration(format!(
                    "a view on {database}.activities fails: repair or drop it ({said})"
                )),
            };
        }
        match class {
            _ if mismatch => self.mismatch("activities", &said),
            Class::Busy => SinkError::busy(format!("{origin} is busy: {said}")),
            Class::Large => SinkError::memory(format!(
                "an insert goes beyond what the user {user:?} may take: lower ACTIVITY_BATCH_BYTES, or raise its max_memory_usage; batches are made smaller meanwhile ({said})"
            )),
            Class::Passing => SinkError::retryable(format!("{origin} cannot store now: {said}")),
            Class::Schema if matches!(code, 60 | 81) => self.missing(&said),
            Class::Schema => self.mismatch("activities", &said),
            Class::Rights => self.right(code, &said),
            Class::Configuration => self.setting(code, &said),
            Class::Data if answer.is_the_servers() => SinkError::rejected(said),
            Class::Data => SinkError::rejected(said).in_doubt(),
            Class::Unknown => SinkError::unknown(format!("{origin} answered: {said}")),
        }
    }

    fn right(&self, code: u32, said: &str) -> SinkError {
        let Self { origin, database, user } = self;
        SinkError::configuration(match code {
            497 => format!(
                "the user {user:?} lacks a right: ACTIVITY_USER needs INSERT on {database}.activities, and CREATE and ALTER on {database}.* where ACTIVITY_MIGRATE is true ({said})"
            ),
            164 => format!(
                "the user {user:?} may only read: ACTIVITY_USER needs INSERT on {database}.activities ({said})"
            ),
            192..=194 | 516 => format!(
                "{origin} refuses the user {user:?}: check ACTIVITY_USER and ACTIVITY_PASSWORD ({said})"
            ),
            _ => format!(
                "{origin} refuses the user {user:?}: check what the server lets it do, and from where ({said})"
            ),
        })
    }

    fn setting(&self, code: u32, said: &str) -> SinkError {
        let Self { origin, database, .. } = self;
        if let (452 | 472, Some((name, value))) = (code, setting_in(said)) {
            return self.constrained(name, value, said);
        }
        SinkError::configuration(match code {
            115 => format!("the server at {origin} is too old: upgrade it ({said})"),
            116 | 452 | 457 | 471 | 472 => format!(
                "the server at {origin} does not allow a setting of the insert: change the profile of ACTIVITY_USER ({said})"
            ),
            _ => format!(
                "{origin} cannot store until somebody repairs what it names, in the server or in {database}.activities: {said}"
            ),
        })
    }

    fn constrained(&self, name: &str, value: &str, said: &str) -> SinkError {
        SinkError::configuration(format!(
            "the profile of the user {:?} does not allow {name}={value}, without which rows may be lost or doubled: set {name} to {value} in the profile, or take its constraint away ({said})",
            self.user
        ))
    }

    /// There is no table.
    pub(super) fn missing(&self, how: &str) -> SinkError {
        SinkError::schema(format!(
            "{} lacks activities or a table that its views fill: a service with ACTIVITY_MIGRATE=true makes it, or the SQL that `cargo xtask schema` prints ({how})",
            self.database
        ))
    }

    /// The table exists with other columns than this build writes.
    pub(super) fn mismatch(&self, table: &str, how: &str) -> SinkError {
        SinkError::schema(format!(
            "{}.{table} has other columns than this build writes: upgrade it with ACTIVITY_MIGRATE=true or the SQL that `cargo xtask schema` prints ({how})",
            self.database
        ))
    }
}

/// The number in `Code: 60. DB::Exception: ..`, if the text is the server's: a proxy's page may hold
/// such words, too.
pub(super) fn code(text: &str) -> Option<u32> {
    text.match_indices("Code: ").find_map(|(at, word)| {
        let rest = &text[at + word.len()..];
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let told = after.starts_with(". DB::") || (at == 0 && !number.is_empty());
        number.parse().ok().filter(|_| told)
    })
}

/// The setting of an insert that the server's words name, and the value it is sent with.
fn setting_in(said: &str) -> Option<(&'static str, &'static str)> {
    let words = |name: &str| {
        said.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|word| word == name)
    };
    INSERT_SETTINGS.into_iter().find(|(name, _)| words(name))
}

/// The server's own words, short and in one line.
fn excerpt(text: &str) -> String {
    let text = text.split(" (version ").next().unwrap_or(text);
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}..", &text[..at]),
        None => text,
    }
}

/// What a person reads of a page.
fn without_tags(page: &str) -> String {
    let mut text = String::new();
    for part in page.split('<') {
        let shown = part.split_once('>').map_or(part, |(_, shown)| shown);
        for word in shown.split_whitespace() {
            text.push_str(if text.is_empty() { "" } else { " " });
            text.push_str(word);
        }
    }
    if text.is_empty() { "nothing else".to_owned() } else { text }
}

#[cfg(test)]
#[path = "failure_tests.rs"]
mod tests;
