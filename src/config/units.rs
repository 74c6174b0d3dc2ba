//! Amounts as people write them: `500ms`, `64MiB`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A number of bytes, written with a unit: `512`, `8KiB`, `64MiB`, `1GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub usize);

const UNITS: [(&str, u32); 4] = [("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)];

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, shift) in UNITS {
            if self.0 >= 1 << shift && self.0.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}B", self.0)
    }
}

impl FromStr for ByteSize {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const ACCEPTED: &str = "a number of bytes such as 512, 8KiB or 64MiB";
        let text = text.trim();
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let number: usize = number.parse().map_err(|_| ACCEPTED)?;
        let unit = unit.trim();
        let shift = if unit.is_empty() {
            0
        } else {
            UNITS
                .into_iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(unit))
                .map(|(_, shift)| shift)
                .ok_or(ACCEPTED)?
        };
        number.checked_mul(1 << shift).map(Self).ok_or(ACCEPTED)
    }
}

/// A length of time with its unit, such as `500ms`, `30s`, `10m` or `1h 30m`.
///
/// # Errors
/// What is accepted, when `text` is something else. A bare number is refused: its unit would be a
/// guess.
pub fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    humantime::parse_duration(text.trim())
        .map_err(|_| "a length of time with its unit, such as 500ms, 30s or 10m")
}

/// Entries of a list at most. What is looked for in a list is looked for at every request.
const LISTED: usize = 1_000;

/// The entries of a list, which stand between commas.
pub(super) fn listed(text: &str) -> Result<impl Iterator<Item = &str>, String> {
    match text.split(',').count() {
        entries if entries > LISTED => {
            Err(format!("{entries} entries, expected at most {LISTED}, comma-separated"))
        }
        _ => Ok(text.split(',')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_back_as_they_print() {
        for (text, bytes) in
            [("512B", 512), ("8KiB", 8192), ("64MiB", 64 << 20), ("1GiB", 1 << 30), ("1025B", 1025)]
        {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)));
            assert_eq!(ByteSize(bytes).to_string(), text);
        }
        assert_eq!("77".parse(), Ok(ByteSize(77)));
        assert_eq!("8 kib".parse(), Ok(ByteSize(8192)));
    }

    #[test]
    fn sizes_and_durations_without_sense_are_refused() {
        for text in ["", "MiB", "-1", "1.5MiB", "8KB", "99999999999GiB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
        for text in ["", "5", "ms", "-1s", "1 fortnight"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
