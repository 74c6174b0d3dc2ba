//! The sampling policy and its small language.
//!
//! ```text
//! policy = "all" | "off" | rule { "," rule }
//! rule   = "errors" | "slow>" duration | "rate=" number from 0 to 1
//! ```
//!
//! A trace is kept when any rule says so. The words map to the Collector's tail-sampling policies:
//! `errors` is `status_code`, `slow` is `latency`, `rate` is `probabilistic`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::units::parse_duration;

/// Which traces are kept. Every request is a row whatever the policy says; it decides about the
/// spans only.
///
/// ```
/// use tracing_activity::config::SamplingPolicy;
/// let policy: SamplingPolicy = "errors,slow>250ms,rate=0.05".parse().unwrap();
/// assert_eq!(policy.to_string(), "errors,slow>250ms,rate=0.05");
/// let error = "errors,slwo>1s".parse::<SamplingPolicy>().unwrap_err();
/// assert!(error.contains("at 7"), "{error}");
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SamplingPolicy {
    /// Keep the traces of server faults.
    pub errors: bool,
    /// Keep the traces of requests that took longer.
    pub slow: Option<Duration>,
    /// Share of all traces kept at random, from 0 to 1.
    pub rate: f64,
}

impl SamplingPolicy {
    /// Every trace.
    pub const ALL: Self = Self { errors: true, slow: None, rate: 1.0 };
    /// No trace: spans are not even collected.
    pub const OFF: Self = Self { errors: false, slow: None, rate: 0.0 };
}

impl Default for SamplingPolicy {
    /// Server faults, requests slower than 500 ms, and one in a hundred.
    fn default() -> Self {
        Self { errors: true, slow: Some(Duration::from_millis(500)), rate: 0.01 }
    }
}

impl fmt::Display for SamplingPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::OFF {
            return f.write_str("off");
        }
        let mut comma = "";
        if self.errors {
            f.write_str("errors")?;
            comma = ",";
        }
        if let Some(slow) = self.slow {
            write!(f, "{comma}slow>{}", humantime::format_duration(slow))?;
            comma = ",";
        }
        if self.rate > 0.0 {
            write!(f, "{comma}rate={}", self.rate)?;
        }
        Ok(())
    }
}

impl FromStr for SamplingPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim() {
            "all" => return Ok(Self::ALL),
            "off" => return Ok(Self::OFF),
            _ => {}
        }
        let mut policy = Self::OFF;
        let mut position = 0;
        for part in text.split(',') {
            let rule = part.trim();
            let at = position + (part.len() - part.trim_start().len());
            position += part.len() + 1;
            let problem = |expected: &str| format!("{rule:?} at {at}: expected {expected}");
            if rule == "errors" {
                policy.errors = true;
            } else if let Some(threshold) = rule.strip_prefix("slow>") {
                policy.slow = Some(parse_duration(threshold).map_err(problem)?);
            } else if let Some(rate) = rule.strip_prefix("rate=") {
                policy.rate = rate
                    .trim()
                    .parse()
                    .ok()
                    .filter(|rate| (0.0..=1.0).contains(rate))
                    .ok_or_else(|| problem("a number from 0 to 1"))?;
            } else {
                return Err(problem("all, off, errors, slow>DURATION or rate=NUMBER"));
            }
        }
        Ok(policy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_reads_back_as_it_prints() {
        for text in ["off", "errors", "slow>1s", "rate=0.5", "errors,slow>500ms,rate=0.01"] {
            assert_eq!(text.parse::<SamplingPolicy>().unwrap().to_string(), text);
        }
        assert_eq!("all".parse::<SamplingPolicy>().unwrap(), SamplingPolicy::ALL);
    }

    #[test]
    fn an_error_names_the_rule_its_position_and_what_is_accepted() {
        for (text, position, expected) in [
            ("errors, slow>5", "at 8", "with its unit"),
            ("rate=1.5", "at 0", "0 to 1"),
            ("rate=NaN", "at 0", "0 to 1"),
            ("errors,", "at 7", "slow>DURATION"),
            ("all,errors", "at 0", "rate=NUMBER"),
            ("", "at 0", "off"),
        ] {
            let error = text.parse::<SamplingPolicy>().unwrap_err();
            assert!(error.contains(position) && error.contains(expected), "{text}: {error}");
        }
    }
}
