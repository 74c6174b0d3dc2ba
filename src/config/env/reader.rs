//! [`Reader`]: the kinds of values that a variable may have, and what an error says of others.

use std::cell::RefCell;
use std::fmt;
use std::time::Duration;

use super::{ConfigError, ConfigWarning, VARIABLES};
use crate::config::bounds::Bound;
use crate::config::units::{ByteSize, parse_duration};

/// Reads variables through a function.
pub(super) struct Reader<F> {
    lookup: F,
    warnings: RefCell<Vec<ConfigWarning>>,
}

impl<F> Reader<F> {
    pub(super) fn new(lookup: F) -> Self {
        Self { lookup, warnings: RefCell::default() }
    }

    /// What of the environment does not count.
    pub(super) fn into_warnings(self) -> Vec<ConfigWarning> {
        self.warnings.into_inner()
    }

    /// Notes that a value does not count, or not all of it: once a variable, though it may be read for
    /// several signals.
    pub(super) fn warn(&self, error: ConfigError, instead: String) {
        let mut warnings = self.warnings.borrow_mut();
        if warnings.iter().all(|known| known.name() != error.name()) {
            warnings.push(ConfigWarning { error, instead });
        }
    }

    /// The value of a variable that is not ours alone: one that cannot be used counts as absent, and is
    /// noted.
    pub(super) fn known<T>(&self, read: Result<Option<T>, ConfigError>) -> Option<T> {
        read.unwrap_or_else(|error| {
            let var = VARIABLES.iter().find(|var| var.name == error.name());
            let default = var.map_or("", |var| var.default).replace('`', "");
            self.warn(error, format!("it counts as not set; default: {default}"));
            None
        })
    }
}

impl<F: Fn(&str) -> Result<Option<String>, String>> Reader<F> {
    pub(super) fn text(&self, name: &'static str) -> Result<Option<String>, ConfigError> {
        debug_assert!(VARIABLES.iter().any(|var| var.name == name), "{name} is not in the table");
        match (self.lookup)(name) {
            Ok(value) => Ok(value.filter(|value| !value.is_empty())),
            Err(problem) => Err(ConfigError::without_value(name, problem)),
        }
    }

    pub(super) fn parsed<T, E: fmt::Display>(
        &self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.text(name)? else { return Ok(None) };
        match parse(&value) {
            Ok(parsed) => Ok(Some(parsed)),
            Err(problem) => {
                let problem = problem.to_string();
                let problem = if problem.contains("expected") {
                    problem
                } else {
                    format!("expected {problem}")
                };
                Err(ConfigError { name, value: Some(shortened(&value)), problem })
            }
        }
    }

    pub(super) fn number(&self, bound: &Bound<usize>) -> Result<Option<usize>, ConfigError> {
        self.parsed(bound.variable, |text| {
            // What is no number gets the same answer as one that is too large.
            bound.accept_some(text.trim().parse().ok())
        })
    }

    pub(super) fn size(&self, bound: &Bound<usize>) -> Result<Option<usize>, ConfigError> {
        self.parsed(bound.variable, |text| {
            let ByteSize(bytes) = text.parse::<ByteSize>().map_err(str::to_owned)?;
            bound.accept_some(Some(bytes))
        })
    }

    pub(super) fn duration(
        &self,
        bound: &Bound<Duration>,
    ) -> Result<Option<Duration>, ConfigError> {
        self.parsed(bound.variable, |text| {
            let duration = parse_duration(text).map_err(str::to_owned)?;
            bound.accept_some(Some(duration))
        })
    }

    pub(super) fn switch(&self, name: &'static str) -> Result<Option<bool>, ConfigError> {
        self.parsed(name, |text| match text.trim() {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err("true or false"),
        })
    }

    /// A duration as OpenTelemetry's variables give it: in milliseconds, without a unit.
    pub(super) fn milliseconds(&self, name: &'static str) -> Result<Option<Duration>, ConfigError> {
        let millis = self.parsed(name, |text| {
            let millis = text.trim().parse::<u64>().ok().filter(|it| (1..=600_000).contains(it));
            millis.ok_or("milliseconds without a unit, from 1 to 600000")
        })?;
        Ok(millis.map(Duration::from_millis))
    }
}

/// A value as an error repeats it: the beginning says enough.
pub(super) fn shortened(value: &str) -> String {
    const MOST: usize = 200;
    match value.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}..", &value[..end]),
        None => value.to_owned(),
    }
}

/// What the first of two variables says, else the second. Both are looked at.
pub(super) fn either<T>(
    [first, second]: [&'static str; 2],
    read: impl Fn(&'static str) -> Option<T>,
) -> Option<T> {
    let (first, second) = (read(first), read(second));
    first.or(second)
}
