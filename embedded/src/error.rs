//! What can go wrong, each with its remedy in the message.
//!
//! Messages are lower case without a full stop, so that they read well inside a longer line.

use std::io;
use std::path::{Path, PathBuf};

/// The remedy when no engine can be had on this machine.
const ELSEWHERE: &str =
    "set ACTIVITY_TEST_CLICKHOUSE_URL to a server, or put a `clickhouse` binary on the PATH";

/// Why there is no engine, or why it did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine's library is not on this machine.
    #[error("the engine is not at {}: get it with `cargo xtask engine`", path.display())]
    LibraryMissing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The library is there, and cannot be loaded or lacks a function.
    #[error("the engine at {} cannot be loaded: {reason}; fetch it again with `cargo xtask engine` after deleting it", path.display())]
    Library {
        /// The file.
        path: PathBuf,
        /// What the loader said.
        reason: String,
    },
    /// Another engine works on the data folder.
    #[error("the data folder {} is in use by another engine: stop that one, or choose another folder", data.display())]
    Locked {
        /// The folder.
        data: PathBuf,
    },
    /// The engine ended or fell silent before it was ready.
    #[error("the engine did not start: {reason}")]
    Start {
        /// Its own words.
        reason: String,
    },
    /// The engine did not end as it should.
    #[error("the engine did not stop cleanly: {reason}")]
    Stop {
        /// What happened instead.
        reason: String,
    },
    /// The `embedded-clickhouse` binary is nowhere and cannot be built.
    #[error(
        "there is no embedded-clickhouse binary: build it with `cargo build -p embedded-clickhouse`, or name it in EMBEDDED_CLICKHOUSE_BIN ({reason})"
    )]
    Binary {
        /// What was tried.
        reason: String,
    },
    /// An environment variable is malformed.
    #[error("{name} is `{value}`, expected {expected}")]
    Variable {
        /// The variable.
        name: &'static str,
        /// What it holds, secrets left out.
        value: String,
        /// What it should hold.
        expected: &'static str,
    },
    /// The engine is not published for this platform.
    #[error("the engine is published for linux x86-64 with glibc alone: {ELSEWHERE}")]
    Platform,
    /// A program needed to fetch the engine is missing.
    #[error(
        "`{program}` is needed to fetch the engine and was not found: install it, or {ELSEWHERE}"
    )]
    ProgramMissing {
        /// The program.
        program: &'static str,
    },
    /// The disk has no room for the engine.
    #[error("{} has {free_mb} MB free and the engine needs {needed_mb} MB: make room, name another folder in ACTIVITY_ENGINE_DIR, or {ELSEWHERE}", folder.display())]
    DiskSpace {
        /// The folder that was to receive it.
        folder: PathBuf,
        /// Megabytes free there.
        free_mb: u64,
        /// Megabytes needed.
        needed_mb: u64,
    },
    /// Neither way of downloading worked.
    #[error(
        "the engine could not be fetched: {reason}; go online and run `cargo xtask engine` again (it resumes), or {ELSEWHERE}"
    )]
    Download {
        /// What the last attempts said.
        reason: String,
    },
    /// What was downloaded is not the engine this crate was written for.
    #[error(
        "the engine's archive has sha256 {found}, expected {expected}; it was deleted: run `cargo xtask engine` again, or {ELSEWHERE}"
    )]
    Checksum {
        /// The digest computed.
        found: String,
        /// The digest pinned.
        expected: String,
    },
    /// The archive does not hold the library.
    #[error("the engine's archive {} holds no libchdb.so: delete it and run `cargo xtask engine` again", archive.display())]
    Archive {
        /// The archive.
        archive: PathBuf,
    },
    /// The server answered a query with an error.
    #[error("the server refused a query ({status}): {message}")]
    Query {
        /// Status of the HTTP response.
        status: u16,
        /// The server's message.
        message: String,
    },
    /// A system call failed.
    #[error("{action}: {source}")]
    Io {
        /// What was being done, with the path.
        action: String,
        /// The system's answer.
        source: io::Error,
    },
}

impl Error {
    /// Whether the engine's library is missing, which `cargo xtask engine` mends.
    #[must_use]
    pub fn is_library_missing(&self) -> bool {
        matches!(self, Self::LibraryMissing { .. })
    }

    /// Whether another engine holds the data folder.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        matches!(self, Self::Locked { .. })
    }

    /// Whether a downloaded archive was not the expected one.
    #[must_use]
    pub fn is_checksum(&self) -> bool {
        matches!(self, Self::Checksum { .. })
    }

    /// Exit code of the binary for this error; [`Error::from_exit_code`] is the way back.
    pub(crate) fn exit_code(&self) -> i32 {
        match self {
            Self::LibraryMissing { .. } => 3,
            Self::Locked { .. } => 4,
            _ => 1,
        }
    }

    /// The error behind an exit code of the binary, given its last words.
    pub(crate) fn from_exit_code(
        code: Option<i32>,
        library: &Path,
        data: &Path,
        words: &str,
    ) -> Self {
        match code {
            Some(3) => Self::LibraryMissing { path: library.to_path_buf() },
            Some(4) => Self::Locked { data: data.to_path_buf() },
            _ => Self::Start {
                reason: if words.trim().is_empty() {
                    "it ended without a word".to_owned()
                } else {
                    words.trim().to_owned()
                },
            },
        }
    }
}

/// Adds what was being done to an I/O error.
pub(crate) trait Context<T> {
    /// Turns the error into [`Error::Io`], with `action` in front.
    fn context(self, action: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn context(self, action: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::Io { action: action(), source: source.into() })
    }
}
