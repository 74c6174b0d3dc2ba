//! The lines on standard error: one printer for all of them.
//!
//! Not through `tracing`: the application's subscriber may be the one whose activities are being
//! delivered. A line holds no control characters, so nobody else's text makes a second one or moves the
//! cursor; it has a bounded length; and the same line is printed once in a while only, however often
//! something is set up. Standard error may be closed: that is no reason to fail.
//!
//! Absent on purpose: what is worth a line. The worker keeps its own pace for what goes on and on
//! (`pipeline`).

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::{self, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The same line again only after this long.
const REPEAT: Duration = Duration::from_mins(10);

/// Different lines within that time.
const MOST: usize = 128;

/// Characters of one line.
const LONGEST: usize = 2_000;

static LINES: Mutex<Lines> = Mutex::new(Lines { printed: Vec::new() });

/// Prints `text` as one line, unless it was printed lately, or too many others were.
pub(crate) fn once(text: &str) {
    let verdict = {
        let mut lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
        lines.judge(text, Instant::now())
    };
    match verdict {
        Verdict::Print => print(text),
        Verdict::Last => {
            print(text);
            print("no further lines of this kind are printed for ten minutes");
        }
        Verdict::Silent => {}
    }
}

/// Prints `text` as one line, by one write: other processes may write there, too.
pub(crate) fn print(text: &str) {
    let line = format!("tracing-activity: {}\n", line(text));
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

/// `text` on one line: what would end the line, or steer a terminal, is a space.
fn line(text: &str) -> String {
    // The separators of lines and paragraphs, and what turns the direction of writing around.
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut chars = text.chars().map(|c| if steers(c) { ' ' } else { c });
    let mut line: String = chars.by_ref().take(LONGEST).collect();
    if chars.next().is_some() {
        line.push_str(" ..");
    }
    line
}

#[derive(Debug, PartialEq)]
enum Verdict {
    Print,
    /// As many as may be are printed with this one.
    Last,
    Silent,
}

/// Hashes of the lines printed lately, and when.
struct Lines {
    printed: Vec<(u64, Instant)>,
}

impl Lines {
    fn judge(&mut self, text: &str, now: Instant) -> Verdict {
        self.printed.retain(|(_, at)| now.saturating_duration_since(*at) < REPEAT);
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(text);
        if self.printed.len() >= MOST || self.printed.iter().any(|(known, _)| *known == hash) {
            return Verdict::Silent;
        }
        self.printed.push((hash, now));
        if self.printed.len() == MOST { Verdict::Last } else { Verdict::Print }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_that_steers_no_terminal_and_has_an_end() {
        assert_eq!(line("a\nb\r\u{1b}[31mc\u{9b}d\u{2028}e\u{202e}f\0"), "a b  [31mc d e f ");
        let long = line(&"ä".repeat(1 << 20));
        assert_eq!(long.chars().count(), LONGEST + 3);
        assert!(long.ends_with("ä .."));
    }

    #[test]
    fn the_same_line_is_printed_again_after_a_while_and_the_number_of_others_is_bounded() {
        let mut lines = Lines { printed: Vec::new() };
        let now = Instant::now();
        assert_eq!(lines.judge("a", now), Verdict::Print);
        assert_eq!(lines.judge("a", now + REPEAT / 2), Verdict::Silent);
        assert_eq!(lines.judge("b", now), Verdict::Print);
        assert_eq!(lines.judge("a", now + REPEAT), Verdict::Print);
        let later = now + 3 * REPEAT;
        let printed = (0..1000).map(|n| lines.judge(&n.to_string(), later));
        let printed: Vec<_> = printed.filter(|it| *it != Verdict::Silent).collect();
        assert_eq!((printed.len(), printed.last()), (MOST, Some(&Verdict::Last)));
    }
}
