//! Gets the engine: one library, by its package name, through npm.
//!
//! It lies outside `target/`, in the user's cache folder, so that it is fetched once a machine and
//! survives `cargo clean`: `tracing-activity/engine/VERSION/libchdb.so`, or the folder
//! `ACTIVITY_ENGINE_DIR` names.
//!
//! Invariants:
//! - where packages lie is npm's business: it is asked for the archive's address, so mirrors and
//!   proxies configured for npm count here as well, and no host is named in this crate;
//! - nothing is unpacked before its checksum is the pinned one; an archive with another is deleted;
//! - `libchdb.so` appears by a rename, so if it exists it is whole;
//! - one process fetches, others wait for it;
//! - an interrupted download goes on where it stopped.

mod archive;
mod download;
mod progress;

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::env;
use crate::error::{Context as _, Error};

pub use archive::{unpack, verify};
pub use download::resume;

/// The package that holds the engine.
pub const PACKAGE: &str = "@chdb/lib-linux-x64-gnu";
/// Its version.
pub const VERSION: &str = "26.7.3-stable.1";
/// SHA-256 of its archive.
pub const ARCHIVE_SHA256: &str = "c0d32b129e988f2b9a9a31c9141aecf5e1e2453f9a079efc4d36ab8e3f92b2ad";
/// Bytes of its archive.
pub const ARCHIVE_BYTES: u64 = 177_817_999;
/// Bytes of the library inside.
pub const LIBRARY_BYTES: u64 = 566_330_096;

/// What [`ensure`] did.
#[derive(Debug, Clone, PartialEq)]
pub struct Fetched {
    /// The library.
    pub path: PathBuf,
    /// Bytes that came over the network, or `None` when the library was there already.
    pub downloaded_bytes: Option<u64>,
    /// Time it took.
    pub seconds: f64,
}

/// Where the library is, or will be.
///
/// # Errors
///
/// When there is no cache folder to derive it from.
pub fn library_path() -> Result<PathBuf, Error> {
    Ok(folder()?.join("libchdb.so"))
}

/// Makes sure the engine's library is on this machine; progress goes to standard error.
///
/// # Errors
///
/// Each names its remedy: another platform, no npm, no room, no network, a wrong checksum.
pub fn ensure() -> Result<Fetched, Error> {
    let start = Instant::now();
    let folder = folder()?;
    let library = folder.join("libchdb.so");
    let done = |downloaded_bytes| Fetched {
        path: library.clone(),
        downloaded_bytes,
        seconds: start.elapsed().as_secs_f64(),
    };
    if library.is_file() {
        return Ok(done(None));
    }
    if !cfg!(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu")) {
        return Err(Error::Platform);
    }
    fs::create_dir_all(&folder).context(|| format!("making the folder {}", folder.display()))?;
    let _lock = lock(&folder)?;
    if library.is_file() {
        return Ok(done(None));
    }
    let partial = folder.join("engine.tgz.partial");
    let have = download::length(&partial);
    check_space(&folder, have)?;
    let downloaded = download(&folder, &partial, have)?;
    eprintln!("checking and unpacking the engine");
    archive::verify(&partial, ARCHIVE_SHA256)?;
    archive::unpack(&partial, &library)?;
    fs::remove_file(&partial).ok();
    Ok(done(Some(downloaded)))
}

fn folder() -> Result<PathBuf, Error> {
    if let Some(folder) = env::path(env::ENGINE_DIR) {
        return Ok(folder);
    }
    let cache = env::cache_home().ok_or(Error::Variable {
        name: env::ENGINE_DIR,
        value: String::new(),
        expected: "a folder for the engine, since HOME and XDG_CACHE_HOME are not set",
    })?;
    Ok(cache.join("tracing-activity/engine").join(VERSION))
}

/// Waits until no other process fetches into `folder`.
fn lock(folder: &Path) -> Result<File, Error> {
    let path = folder.join("fetch.lock");
    let doing = || format!("locking {}", path.display());
    let file = File::create(&path).context(doing)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            eprintln!("another process is fetching the engine; waiting for it");
            file.lock().context(doing)?;
        }
        Err(TryLockError::Error(source)) => return Err(source).context(doing),
    }
    Ok(file)
}

fn check_space(folder: &Path, have: u64) -> Result<(), Error> {
    let stat = rustix::fs::statvfs(folder)
        .context(|| format!("asking for the free space of {}", folder.display()))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    // A tenth more than counted, so that the disk is not left full to the brim.
    let needed = (ARCHIVE_BYTES.saturating_sub(have) + LIBRARY_BYTES) / 10 * 11;
    if free >= needed {
        return Ok(());
    }
    Err(Error::DiskSpace {
        folder: folder.to_path_buf(),
        free_mb: free / 1_000_000,
        needed_mb: needed / 1_000_000,
    })
}

/// Brings `partial` to its full length: over the address npm gives, else through npm itself.
fn download(folder: &Path, partial: &Path, have: u64) -> Result<u64, Error> {
    if have == ARCHIVE_BYTES {
        return Ok(0);
    }
    let direct = address()
        .and_then(|address| download::resume(&address, partial, ARCHIVE_BYTES))
        .map(|()| ARCHIVE_BYTES.saturating_sub(have));
    let first = match direct {
        Ok(bytes) => return Ok(bytes),
        Err(error @ Error::ProgramMissing { program: "npm" }) => return Err(error),
        Err(error) => error,
    };
    eprintln!("fetching the engine by `npm pack` instead: {first}");
    match pack(folder, partial) {
        Ok(()) => Ok(ARCHIVE_BYTES),
        Err(second) => Err(Error::Download { reason: format!("{first}; {second}") }),
    }
}

/// Asks npm where the archive is.
fn address() -> Result<String, Error> {
    let package = format!("{PACKAGE}@{VERSION}");
    let output = npm(&["view", &package, "dist.tarball"], None)?;
    let address = output.trim();
    if address.starts_with("http") && !address.contains(char::is_whitespace) {
        Ok(address.to_owned())
    } else {
        Err(Error::Download { reason: format!("npm gives no address for {package}") })
    }
}

fn pack(folder: &Path, partial: &Path) -> Result<(), Error> {
    let package = format!("{PACKAGE}@{VERSION}");
    let name = npm(&["pack", &package, "--silent"], Some(folder))?;
    let file = folder.join(name.lines().last().unwrap_or_default().trim());
    fs::rename(&file, partial).context(|| format!("renaming {}", file.display()))
}

fn npm(arguments: &[&str], folder: Option<&Path>) -> Result<String, Error> {
    let mut command = Command::new("npm");
    command.args(arguments).stdin(Stdio::null());
    if let Some(folder) = folder {
        command.current_dir(folder);
    }
    let output = command.output().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::ProgramMissing { program: "npm" },
        _ => Error::Download { reason: format!("running npm: {error}") },
    })?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        let line = words.lines().find(|line| line.contains("error"));
        return Err(Error::Download {
            reason: format!("npm {}: {}", arguments[0], line.unwrap_or("it failed without a word")),
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
