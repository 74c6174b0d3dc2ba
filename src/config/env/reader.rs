//! [`Reader`]: the kinds of values that a variable may have, and what an error says of others.

use std::fmt;
use std::time::Duration;

use super::{ConfigError, VARIABLES};
use crate::config::units::{ByteSize, parse_duration};

/// The longest time that a setting may be.
const YEAR: Duration = Duration::from_hours(365 * 24);

/// Reads variables through a function.
pub(super) struct Reader<F> {
    pub(super) lookup: F,
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
                Err(ConfigError { name, value: Some(value), problem })
            }
        }
    }

    pub(super) fn number(
        &self,
        name: &'static str,
        range: std::ops::RangeInclusive<usize>,
    ) -> Result<Option<usize>, ConfigError> {
        self.parsed(name, |text| {
            text.trim().parse().ok().filter(|it| range.contains(it)).ok_or_else(|| {
                match *range.end() {
                    usize::MAX => format!("a number, at least {}", range.start()),
                    end => format!("a number from {} to {end}", range.start()),
                }
            })
        })
    }

    pub(super) fn size(
        &self,
        name: &'static str,
        range: std::ops::RangeInclusive<usize>,
    ) -> Result<Option<usize>, ConfigError> {
        self.parsed(name, |text| {
            let ByteSize(bytes) = text.parse::<ByteSize>().map_err(str::to_owned)?;
            if range.contains(&bytes) {
                return Ok(bytes);
            }
            Err(match *range.end() {
                usize::MAX => format!("at least {}", ByteSize(*range.start())),
                end => format!("{} to {}", ByteSize(*range.start()), ByteSize(end)),
            })
        })
    }

    pub(super) fn duration(
        &self,
        name: &'static str,
        least: Duration,
    ) -> Result<Option<Duration>, ConfigError> {
        self.parsed(name, |text| {
            let duration = parse_duration(text).map_err(str::to_owned)?;
            if duration < least || duration > YEAR {
                let least = humantime::format_duration(least);
                return Err(format!("from {least} to 365d"));
            }
            Ok(duration)
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

/// What the first of two variables says, else the second. Both are checked.
pub(super) fn either<T>(
    [first, second]: [&'static str; 2],
    read: impl Fn(&'static str) -> Result<Option<T>, ConfigError>,
) -> Result<Option<T>, ConfigError> {
    let (first, second) = (read(first)?, read(second)?);
    Ok(first.or(second))
}
