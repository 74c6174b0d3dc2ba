//! The few lines on standard error.
//!
//! Not through `tracing`: the application's subscriber may be the one whose activities are being
//! delivered. Each kind of line is rare by construction.

use std::time::{Duration, Instant};

pub(super) use crate::warn::print;

use super::DropReason;

/// What a line is about. Kinds are limited apart from each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    Configuration,
    Unavailable,
    Failed,
    TooLarge,
    Dropped(DropReason),
    Panic,
}

/// The same line again only after this long.
const REPEAT: Duration = Duration::from_mins(10);
/// Another line of the same kind only after this long.
const SPACING: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Warnings {
    last: Vec<(About, String, Instant)>,
}

impl Warnings {
    /// Prints `text`, unless the same or too many of its kind were printed lately.
    pub(super) fn warn(&mut self, about: About, text: &str) {
        if self.may_print(about, text, Instant::now()) {
            print(text);
        }
    }

    /// What `about` was about is over: the next one is news. Answers whether there was any.
    pub(super) fn over(&mut self, about: About) -> bool {
        let before = self.last.len();
        self.last.retain(|(kind, ..)| *kind != about);
        self.last.len() < before
    }

    fn may_print(&mut self, about: About, text: &str, now: Instant) -> bool {
        match self.last.iter_mut().find(|(kind, ..)| *kind == about) {
            Some((_, last_text, at)) => {
                let wait = if last_text == text { REPEAT } else { SPACING };
                if now.duration_since(*at) < wait {
                    return false;
                }
                text.clone_into(last_text);
                *at = now;
            }
            None => self.last.push((about, text.to_owned(), now)),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_printed_once_until_it_is_over() {
        let mut warnings = Warnings::default();
        let now = Instant::now();
        let wrong = "check ACTIVITY_PASSWORD";
        assert!(warnings.may_print(About::Configuration, wrong, now));
        assert!(!warnings.may_print(About::Configuration, wrong, now + SPACING));
        assert!(!warnings.may_print(About::Configuration, "no table", now));
        assert!(warnings.may_print(About::Configuration, "no table", now + SPACING));
        assert!(warnings.may_print(About::Dropped(DropReason::QueueFull), "queue full", now));
        assert!(warnings.over(About::Configuration));
        assert!(!warnings.over(About::Configuration));
        assert!(warnings.may_print(About::Configuration, wrong, now + SPACING));
    }
}
