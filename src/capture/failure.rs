//! What an error is called and what it says, its sources included.

use std::error::Error;
use std::fmt::{self, Write as _};

/// Sources that are followed. One that names itself would never end.
const MAX_SOURCES: usize = 32;

/// Bytes of an error's text that are written at all.
const MAX_BYTES: usize = 64 << 10;

/// The error and its sources, `: ` between them. A source that the text before ends with already is
/// not repeated: many errors print theirs.
pub(super) fn told<E: Error + ?Sized>(error: &E) -> String {
    let mut text = Bounded(String::new());
    let _ = write!(text, "{error}");
    let mut source = error.source();
    for _ in 0..MAX_SOURCES {
        let Some(error) = source else { break };
        let mut told = Bounded(String::new());
        let _ = write!(told, "{error}");
        if !text.0.ends_with(&told.0) {
            let _ = write!(text, ": {}", told.0);
        }
        source = error.source();
    }
    text.0
}

/// A text that stops growing, and then tells the formatter to stop.
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let room = MAX_BYTES.saturating_sub(self.0.len());
        if part.len() <= room {
            self.0.push_str(part);
            return Ok(());
        }
        self.0.push_str(&part[..part.floor_char_boundary(room)]);
        Err(fmt::Error)
    }
}

/// The name of an error's type, without the way to it and its parameters. A type that is only called
/// `Error` keeps the name of the module that it is the error of.
pub(super) fn class_of<E: ?Sized>() -> Option<String> {
    class(std::any::type_name::<E>())
}

fn class(name: &str) -> Option<String> {
    if name.starts_with("dyn ") {
        return None;
    }
    let name = name.trim_start_matches(['&', ' ']);
    let path = name.split('<').next().unwrap_or_default();
    let mut parts = path.rsplit("::");
    let last = parts.next().filter(|it| !it.is_empty())?;
    let is_plain = last == "Error";
    let module = parts.find(|it| !matches!(*it, "error" | "errors" | "err"));
    Some(match module {
        Some(module) if is_plain => format!("{module}::{last}"),
        _ => last.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_a_name_that_tells_and_no_path() {
        for (name, expected) in [
            ("shop::payment::PayError", Some("PayError")),
            ("std::io::error::Error", Some("io::Error")),
            ("sqlx_core::error::Error", Some("sqlx_core::Error")),
            ("shop::Failed<alloc::vec::Vec<shop::Order>>", Some("Failed")),
            ("&shop::PayError", Some("PayError")),
            ("Error", Some("Error")),
            ("dyn core::error::Error + core::marker::Send", None),
        ] {
            assert_eq!(class(name).as_deref(), expected, "{name}");
        }
    }

    #[derive(Debug)]
    struct Endless;

    impl fmt::Display for Endless {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            loop {
                f.write_str("é")?;
            }
        }
    }

    impl Error for Endless {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(self)
        }
    }

    #[test]
    fn an_error_without_end_ends() {
        assert_eq!(told(&Endless), "é".repeat(MAX_BYTES / 2));
    }
}
