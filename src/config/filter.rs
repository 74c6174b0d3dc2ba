//! Which child spans and events are worth recording, by target and level.

use std::fmt;
use std::str::FromStr;

use tracing_core::Metadata;
use tracing_subscriber::filter::{LevelFilter, Targets};

use super::units::listed;

/// Targets whose spans are the machinery of exporting: never recorded and never a request, else
/// delivering one activity would make more of them.
const EXPORTERS: [&str; 6] = ["h2", "hyper", "hyper_util", "reqwest", "tonic", "clickhouse"];

/// A list of directives as in `RUST_LOG`: `info,my_crate=debug,noisy=off`.
///
/// A request's root span is recognised whatever its level; the filter chooses among the spans and
/// events below it. The targets of HTTP machinery (`h2`, `hyper`, `reqwest`, `tonic`,
/// `clickhouse`, `opentelemetry*`) are always off.
#[derive(Debug, Clone, PartialEq)]
pub struct SpanFilter {
    targets: Targets,
    text: String,
}

impl SpanFilter {
    /// Whether a span or event of this callsite is recorded.
    #[must_use]
    pub fn allows(&self, metadata: &Metadata<'_>) -> bool {
        !is_exporter(metadata.target())
            && self.targets.would_enable(metadata.target(), metadata.level())
    }

    /// The most verbose level any directive lets pass.
    #[must_use]
    pub fn max_level(&self) -> LevelFilter {
        self.targets
            .iter()
            .map(|(_, level)| level)
            .chain(self.targets.default_level())
            .max()
            .unwrap_or(LevelFilter::OFF)
    }
}

/// Whether `target` belongs to the machinery of exporting.
pub(crate) fn is_exporter(target: &str) -> bool {
    let krate = target.split("::").next().unwrap_or(target);
    EXPORTERS.contains(&krate) || krate.starts_with("opentelemetry")
}

impl Default for SpanFilter {
    /// Everything at `INFO` and above.
    fn default() -> Self {
        Self { targets: Targets::new().with_default(LevelFilter::INFO), text: "info".to_owned() }
    }
}

impl fmt::Display for SpanFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for SpanFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // `Targets` would take a mistyped level for the name of a target.
        for directive in listed(text)?.map(str::trim) {
            let (target, level) = directive.split_once('=').unwrap_or(("", directive));
            let named = |c: char| c.is_ascii_alphanumeric() || "_:-.".contains(c);
            if level.is_empty()
                || level.parse::<LevelFilter>().is_err()
                || !target.chars().all(named)
                || (target.is_empty() && directive.contains('='))
            {
                return Err(format!(
                    "{directive:?}: expected a level or TARGET=LEVEL, such as info,my_crate=debug"
                ));
            }
        }
        text.parse::<Targets>()
            .map(|targets| Self { targets, text: text.to_owned() })
            .map_err(|error| format!("{error}; expected directives such as info,my_crate=debug"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exporters_are_told_by_their_crate_and_not_by_a_likeness() {
        for target in [
            "h2",
            "h2::proto::streams",
            "hyper_util::client",
            "opentelemetry_sdk",
            "opentelemetry-otlp",
            "clickhouse::insert",
        ] {
            assert!(is_exporter(target), "{target}");
        }
        for target in ["h2o", "my_app::hyper", "tower_http::trace", "clickhouse_admin"] {
            assert!(!is_exporter(target), "{target}");
        }
    }

    #[test]
    fn a_malformed_directive_is_an_error_that_says_what_is_accepted() {
        for text in ["info,my_crate=loud", "inof", "=info", "info,", "my crate=info", "a=b=info"] {
            let error = text.parse::<SpanFilter>().unwrap_err();
            assert!(error.contains("my_crate=debug"), "{error}");
        }
    }
}
