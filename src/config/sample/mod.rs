//! The sampling policy and its small language. `docs/sampling.md` explains it to users.
//!
//! ```text
//! policy   = rule { "," rule }
//! rule     = "all" | "off" | "errors" | "faults"
//!          | "slow>" duration | "start>" duration | "total>" duration
//!          | "rate=" share | "budget=" number "/s"
//!          | selector [ " start" | " total" ] ">" duration | selector "=" share
//!          | "always:" selector | "never:" selector | "drop:" selector
//! selector = ( "ekind:" | "route:" ) text [ "*" ]
//! text     = bare, without , = > and " | "\"" with \" and \\ inside "\""
//! ```
//!
//! Before `>`, the last word of a bare text is no part of it where it is `start` or `total`.
//!
//! The words are the Collector's: `errors` and `faults` are its policy `status_code`, `slow` is
//! `latency`, `rate` is `probabilistic`, `always` is `always_sample`, `never` is `drop`, `budget`
//! is `rate_limiting`. `drop` alone is about the row.
//!
//! Invariants:
//! - What a policy that was read prints reads back as the same policy. One made in code may hold
//!   what the language cannot say, such as a rate above 1.
//! - An error names the column, the rule and what is accepted there. Nothing panics.
//! - A text that would keep nothing has to say so by `off` or `rate=0`: it would more likely be a
//!   mistake.
//!
//! Absent on purpose: which rule wins, and every figure that the decision needs (`sampling`).

mod parse;

use std::fmt::{self, Write as _};
use std::time::Duration;

/// Which traces are kept. Every request is a row whatever the policy says, but for the successes that
/// a `drop` leaves out.
///
/// ```
/// use tracing_activity::config::SamplingPolicy;
/// let text = "errors,slow>250ms,rate=0.05,ekind:checkout=1,never:route:/health";
/// let policy: SamplingPolicy = text.parse().unwrap();
/// assert_eq!(policy.to_string(), text);
/// let error = "errors,slwo>1s".parse::<SamplingPolicy>().unwrap_err();
/// assert!(error.contains("column 8") && error.contains("did you mean slow"), "{error}");
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SamplingPolicy {
    /// Which faults keep their trace: `errors`, `faults`.
    pub faults: Faults,
    /// Keep the traces of requests that took longer: `slow>500ms`. Of an answer that is a stream it
    /// is the time until its head.
    pub slow: Option<Duration>,
    /// Keep the traces of requests whose answer began later: `start>500ms`.
    pub start: Option<Duration>,
    /// Keep the traces of requests whose answer ended later, streams included: `total>1h`.
    pub total: Option<Duration>,
    /// Share of all traces kept at random, from 0 to 1: `rate=0.01`.
    pub rate: f64,
    /// Traces kept per second, about, beyond which shares are kept: `budget=100/s`.
    pub budget: Option<f64>,
    /// What holds for some event kinds or routes only. Of two about the same thing the last
    /// stands.
    pub overrides: Vec<Override>,
}

/// Which faults keep their trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Faults {
    /// None.
    #[default]
    None,
    /// Those of the server: `errors`.
    Server,
    /// Those of the server and of the client: `faults`.
    All,
}

/// A rule for the requests that a selector matches.
#[derive(Debug, Clone, PartialEq)]
pub struct Override {
    /// Which requests.
    pub selector: Selector,
    /// What holds for them.
    pub rule: OverrideRule,
}

/// What an [`Override`] says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OverrideRule {
    /// Their traces are always kept.
    Always,
    /// Their traces are never kept, but for faults of the server where these are kept.
    Never,
    /// They are slow when they took longer than this; of a stream it is the time until its head.
    Slow(Duration),
    /// They are slow when their answer began later than this.
    Start(Duration),
    /// They are slow when their answer ended later than this, streams included.
    Total(Duration),
    /// This share of them is kept at random.
    Rate(f64),
    /// They are no rows where they succeed, and are counted as dropped by rule.
    Drop,
}

/// Requests by their event kind or route.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Selector {
    /// What is looked at.
    pub column: SelectorColumn,
    /// What it is, or begins with.
    pub text: String,
    /// Whether `text` is only the beginning: `*` in the language.
    pub prefix: bool,
}

/// What a [`Selector`] looks at: a column of the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SelectorColumn {
    /// The event kind.
    Ekind,
    /// The route's template.
    Route,
}

impl SamplingPolicy {
    /// Every trace.
    pub const ALL: Self = Self {
        faults: Faults::Server,
        slow: None,
        start: None,
        total: None,
        rate: 1.0,
        budget: None,
        overrides: Vec::new(),
    };
    /// No trace: spans are not even collected.
    pub const OFF: Self = Self {
        faults: Faults::None,
        slow: None,
        start: None,
        total: None,
        rate: 0.0,
        budget: None,
        overrides: Vec::new(),
    };

    /// Whether any request at all could keep its trace.
    #[must_use]
    pub fn can_keep(&self) -> bool {
        self.faults != Faults::None
            || self.slow.or(self.start).or(self.total).is_some()
            || self.rate > 0.0
            || self.overrides.iter().any(|it| match it.rule {
                OverrideRule::Always
                | OverrideRule::Slow(_)
                | OverrideRule::Start(_)
                | OverrideRule::Total(_) => true,
                OverrideRule::Rate(rate) => rate > 0.0,
                OverrideRule::Never | OverrideRule::Drop => false,
            })
    }
}

impl Default for SamplingPolicy {
    /// Server faults, requests slower than 500 ms, and one in a hundred.
    fn default() -> Self {
        let slow = Some(Duration::from_millis(500));
        Self { faults: Faults::Server, slow, rate: 0.01, ..Self::OFF }
    }
}

impl SelectorColumn {
    /// The column's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ekind => "ekind",
            Self::Route => "route",
        }
    }
}

impl fmt::Display for SamplingPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        let mut rule = |f: &mut fmt::Formatter<'_>, text: fmt::Arguments<'_>| {
            let comma = if std::mem::take(&mut first) { "" } else { "," };
            write!(f, "{comma}{text}")
        };
        if !self.can_keep() {
            rule(f, format_args!("off"))?;
        }
        match self.faults {
            Faults::None => {}
            Faults::Server => rule(f, format_args!("errors"))?,
            Faults::All => rule(f, format_args!("faults"))?,
        }
        for (word, limit) in [("slow", self.slow), ("start", self.start), ("total", self.total)] {
            if let Some(limit) = limit {
                rule(f, format_args!("{word}>{}", humantime::format_duration(limit)))?;
            }
        }
        if self.rate > 0.0 {
            rule(f, format_args!("rate={}", self.rate))?;
        }
        for it in &self.overrides {
            rule(f, format_args!("{it}"))?;
        }
        match self.budget {
            Some(budget) => rule(f, format_args!("budget={budget}/s")),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Override {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let selector = &self.selector;
        match self.rule {
            OverrideRule::Always => write!(f, "always:{selector}"),
            OverrideRule::Never => write!(f, "never:{selector}"),
            OverrideRule::Slow(limit) => {
                write!(f, "{selector}>{}", humantime::format_duration(limit))
            }
            OverrideRule::Start(limit) => {
                write!(f, "{selector} start>{}", humantime::format_duration(limit))
            }
            OverrideRule::Total(limit) => {
                write!(f, "{selector} total>{}", humantime::format_duration(limit))
            }
            OverrideRule::Rate(rate) => write!(f, "{selector}={rate}"),
            OverrideRule::Drop => write!(f, "drop:{selector}"),
        }
    }
}

/// What of a request a threshold is held against, where its rule names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Measure {
    Start,
    Total,
}

impl Measure {
    fn of(word: &str) -> Option<Self> {
        match word {
            "start" => Some(Self::Start),
            "total" => Some(Self::Total),
            _ => None,
        }
    }
}

/// A bare text without its last word, where that names a measure.
fn measured(text: &str) -> (&str, Option<Measure>) {
    let last = text.rsplit_once(char::is_whitespace);
    match last.and_then(|(name, word)| Some((name.trim_end(), Measure::of(word)?))) {
        Some((name, measure)) if !name.is_empty() => (name, Some(measure)),
        _ => (text, None),
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { column, text, prefix } = self;
        write!(f, "{}:", column.as_str())?;
        let is_bare = !text.contains([',', '=', '>', '"'])
            && !text.ends_with('*')
            && text.trim() == text
            && measured(text).1.is_none()
            && (*prefix || !text.is_empty());
        if is_bare {
            f.write_str(text)?;
        } else {
            f.write_char('"')?;
            for c in text.chars() {
                if matches!(c, '"' | '\\') {
                    f.write_char('\\')?;
                }
                f.write_char(c)?;
            }
            f.write_char('"')?;
        }
        f.write_str(if *prefix { "*" } else { "" })
    }
}
