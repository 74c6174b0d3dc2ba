//! The environment this crate reads, and nothing else: every variable has one function here.
//!
//! The main crate has its own table; these variables belong to development and are not part of it.

#![allow(
    clippy::disallowed_methods,
    reason = "this is the one place of this crate that reads the environment"
)]

use std::ffi::OsString;
use std::path::PathBuf;

/// Password of the writer, for the binary.
pub const WRITER_PASSWORD: &str = "EMBEDDED_CLICKHOUSE_WRITER_PASSWORD";
/// Password of the reader, for the binary.
pub const READER_PASSWORD: &str = "EMBEDDED_CLICKHOUSE_READER_PASSWORD";
/// Path of the `embedded-clickhouse` binary, instead of searching for it.
pub const BINARY: &str = "EMBEDDED_CLICKHOUSE_BIN";
/// Folder that holds `libchdb.so`, instead of the user's cache folder.
pub const ENGINE_DIR: &str = "ACTIVITY_ENGINE_DIR";
/// `http://user:password@host:port` of a server to use instead of starting one.
pub const TEST_URL: &str = "ACTIVITY_TEST_CLICKHOUSE_URL";

/// A variable as text; empty counts as absent, and so does what is not UTF-8.
#[must_use]
pub fn text(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A variable as a path; empty counts as absent.
#[must_use]
pub fn path(name: &str) -> Option<PathBuf> {
    os(name).map(PathBuf::from)
}

/// The `cargo` that runs this process, if cargo runs it.
pub(crate) fn cargo() -> Option<PathBuf> {
    path("CARGO")
}

/// The user's cache folder: `XDG_CACHE_HOME`, else `~/.cache`.
#[must_use]
pub fn cache_home() -> Option<PathBuf> {
    // The specification of base directories has relative paths ignored.
    path("XDG_CACHE_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| path("HOME").map(|home| home.join(".cache")))
}

/// The first file called `name` on the `PATH`.
#[must_use]
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Makes UTC the time zone of this process. The engine ignores its own setting for it.
///
/// # Safety
///
/// No other thread may exist: call it first thing in `main`.
#[doc(hidden)]
pub unsafe fn pin_timezone() {
    // SAFETY: the caller is the only thread, so nobody reads the environment meanwhile.
    unsafe { std::env::set_var("TZ", "UTC") }
}

fn os(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}
