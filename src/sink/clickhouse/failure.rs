//! What an error of the server or of the way to it means, and what to do about it.
//!
//! The status of the answer does not tell: the server sends 500 for what passes by itself and for
//! what never will. The number in its text does: see
//! <https://github.com/ClickHouse/ClickHouse/blob/master/src/Common/ErrorCodes.cpp>.

use ::clickhouse::error::Error;

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
            Error::BadResponse(text) => match code(text) {
                Some(code) => self.explain_code(code, text),
                None => self.explain_status(text),
            },
            Error::TimedOut => SinkError::retryable(format!(
                "{origin} did not answer in time; ACTIVITY_TIMEOUT is how long it may take"
            )),
            Error::InvalidParams(_) => SinkError::configuration(
                "the request cannot be formed: check ACTIVITY_DB, and that ACTIVITY_USER and ACTIVITY_PASSWORD are plain ASCII",
            ),
            Error::Unsupported(_) => SinkError::configuration(
                "https:// needs the feature `tls` of tracing-activity; or use http:// in ACTIVITY_DB",
            ),
            Error::Network(_) => SinkError::retryable(format!(
                "cannot reach ClickHouse at {origin}: {}; check that it runs, and ACTIVITY_DB",
                excerpt(&innermost(error))
            )),
            other => SinkError::unknown(format!("{origin}: {}", excerpt(&other.to_string()))),
        }
    }

    /// An answer that is not ClickHouse's own: of a proxy, or of another server altogether.
    fn explain_status(&self, text: &str) -> SinkError {
        let said = format!("{} answered: {}", self.origin, excerpt(text));
        match text.get(..3).unwrap_or_default() {
            "401" | "403" | "404" | "405" => SinkError::configuration(format!(
                "{said}; check that ACTIVITY_DB is the address of a ClickHouse server"
            )),
            // Halves are smaller.
            "413" => SinkError::rejected(said),
            _ => SinkError::retryable(said),
        }
    }

    fn explain_code(&self, code: u32, text: &str) -> SinkError {
        let Self { origin, database, user } = self;
        let said = excerpt(text);
        // The base table has the rows already; only the same token completes the view.
        if text.contains("while pushing to view") {
            return SinkError::configuration(format!(
                "a view on {database}.activities fails: repair or drop it ({said})"
            ));
        }
        match code {
            192..=194 | 516 => SinkError::configuration(format!(
                "{origin} refuses the user {user:?}: check ACTIVITY_USER and ACTIVITY_PASSWORD ({said})"
            )),
            497 => SinkError::configuration(format!(
                "the user {user:?} lacks a right: ACTIVITY_USER needs INSERT on {database}.activities, and CREATE and ALTER on {database}.* where ACTIVITY_MIGRATE is true ({said})"
            )),
            164 => SinkError::configuration(format!(
                "the user {user:?} may only read: ACTIVITY_USER needs INSERT on {database}.activities ({said})"
            )),
            60 | 81 => self.missing(&said),
            16 => self.mismatch("activities", &said),
            53 if text.contains("While executing Native") => self.mismatch("activities", &said),
            117 if text.contains("Type of ") => self.mismatch("activities", &said),
            115 => SinkError::configuration(format!(
                "the server at {origin} is too old: upgrade it ({said})"
            )),
            252 if text.contains("Too many partitions") => SinkError::rejected(said),
            173 | 202 | 241 | 243 | 252 | 439 => {
                SinkError::busy(format!("{origin} is busy: {said}"))
            }
            // Unknown whether it arrived, or a matter of this moment and this node.
            3
            | 23
            | 33
            | 40
            | 74..=76
            | 159
            | 160
            | 198
            | 203
            | 209
            | 210
            | 218
            | 236
            | 242
            | 271
            | 279
            | 285
            | 286
            | 319
            | 394
            | 425
            | 473
            | 735
            | 999 => SinkError::retryable(format!("{origin} cannot store now: {said}")),
            6 | 26 | 27 | 38 | 41 | 53 | 72 | 117 | 469 | 676 | 691 => SinkError::rejected(said),
            _ => SinkError::unknown(format!("{origin} answered: {said}")),
        }
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

/// The number in `Code: 60. DB::Exception: ..`.
pub(super) fn code(text: &str) -> Option<u32> {
    let (_, rest) = text.split_once("Code: ")?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
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

fn innermost(error: &Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explain(text: &str) -> SinkError {
        let place = Place {
            origin: "http://db:8123".to_owned(),
            database: "shop".to_owned(),
            user: "ana".to_owned(),
        };
        place.explain(&Error::BadResponse(text.to_owned()))
    }

    #[test]
    fn the_number_decides_and_not_the_status() {
        let busy = explain("Code: 252. DB::Exception: Too many parts (300). (TOO_MANY_PARTS)");
        assert!(busy.is_busy() && busy.is_retryable());
        let poison = explain(
            "Code: 252. DB::Exception: Too many partitions for single INSERT block (more than 100).",
        );
        assert!(poison.is_rejected());
        assert!(explain("Code: 209. DB::NetException: Timeout exceeded").is_retryable());
        assert!(explain("Code: 691. DB::Exception: Unknown element").is_rejected());
        assert!(explain("502 Bad Gateway").is_retryable());
        assert!(explain("404 Not Found").is_configuration());
        assert!(explain("413 Payload Too Large").is_rejected());
        let unknown = explain("Code: 1001. DB::Exception: std::exception");
        assert!(!unknown.is_retryable() && !unknown.is_rejected() && !unknown.is_configuration());
    }

    #[test]
    fn what_a_person_has_to_repair_names_the_remedy() {
        for (text, remedy) in [
            ("Code: 516. DB::Exception: ana: Authentication failed", "ACTIVITY_PASSWORD"),
            ("Code: 60. DB::Exception: Table shop.activities does not exist", "ACTIVITY_MIGRATE"),
            ("Code: 81. DB::Exception: Database shop does not exist", "ACTIVITY_MIGRATE"),
            ("Code: 16. DB::Exception: No such column when", "cargo xtask schema"),
            ("Code: 117. DB::Exception: Type of 'when' must be String", "cargo xtask schema"),
            (
                "Code: 53. DB::Exception: Cannot convert: UInt16 to UInt32: While executing Native",
                "cargo xtask schema",
            ),
            ("Code: 164. DB::Exception: Cannot execute query in readonly mode", "INSERT on shop"),
            ("Code: 497. DB::Exception: ana: Not enough privileges", "INSERT on shop"),
            ("Code: 53. DB::Exception: ..: while pushing to view shop.v", "drop it"),
        ] {
            let error = explain(text);
            assert!(error.is_configuration() && error.to_string().contains(remedy), "{error}");
        }
    }

    #[test]
    fn the_servers_words_stay_one_short_line() {
        let error = explain(&format!("Code: 1002. {}\n\u{1b}[2J", "é".repeat(1000)));
        let text = error.to_string();
        assert!(text.chars().count() < 350 && !text.contains(char::is_control), "{text}");
    }
}
