//! Downloads one file by `curl`, going on where an earlier attempt stopped.
//!
//! `curl` knows the machine's proxies and certificates, and needs no TLS library here. The file's
//! length is the progress: nobody else writes it.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use super::progress::Progress;
use crate::error::{Context as _, Error};

/// `curl`'s exit code for a server that cannot go on from the middle of a file.
const NO_RANGES: i32 = 33;

/// Brings `file` to `total` bytes from `address`; what is there already is not fetched again.
///
/// # Errors
///
/// When `curl` is missing or fails; `file` keeps what has arrived, for the next attempt.
pub fn resume(address: &str, file: &Path, total: u64) -> Result<(), Error> {
    if length(file) > total {
        remove(file)?;
    }
    if length(file) == total {
        return Ok(());
    }
    let (mut status, mut words) = transfer(address, file, total)?;
    if status.code() == Some(NO_RANGES) {
        remove(file)?;
        (status, words) = transfer(address, file, total)?;
    }
    if !status.success() {
        return Err(Error::Download { reason: words.trim().to_owned() });
    }
    match length(file) {
        bytes if bytes == total => Ok(()),
        bytes => Err(Error::Download { reason: format!("{bytes} bytes arrived of {total}") }),
    }
}

/// Bytes of a file; 0 when it is absent.
pub(super) fn length(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |meta| meta.len())
}

fn remove(file: &Path) -> Result<(), Error> {
    fs::remove_file(file).context(|| format!("removing {}", file.display()))
}

fn transfer(address: &str, file: &Path, total: u64) -> Result<(ExitStatus, String), Error> {
    let mut child = Command::new("curl")
        .args(["--fail", "--location", "--silent", "--show-error"])
        .args(["--connect-timeout", "20", "--retry", "3"])
        // A stalled transfer is a failed one.
        .args(["--speed-limit", "1024", "--speed-time", "30"])
        .args(["--continue-at", "-", "--output"])
        .arg(file)
        .arg(address)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::ProgramMissing { program: "curl" },
            _ => Error::Download { reason: format!("running curl: {error}") },
        })?;
    let status = watch(&mut child, file, total)?;
    let mut words = String::new();
    if let Some(stderr) = &mut child.stderr {
        stderr.read_to_string(&mut words).ok();
    }
    Ok((status, words))
}

/// Shows progress until the child ends.
fn watch(child: &mut Child, file: &Path, total: u64) -> Result<ExitStatus, Error> {
    let mut progress = Progress::new("fetching the engine", length(file), total);
    loop {
        if let Some(status) = child.try_wait().context(|| "waiting for curl".to_owned())? {
            progress.finish(length(file));
            return Ok(status);
        }
        progress.show(length(file));
        thread::sleep(Duration::from_millis(100));
    }
}
