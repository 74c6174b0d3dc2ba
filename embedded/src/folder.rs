//! The data folder: made, claimed, prepared for a start, and removed when it was a temporary one.
//!
//! Invariants:
//! - one process holds a folder, by a lock on `embedded.lock` that the kernel drops with the
//!   process, however it ends;
//! - `metadata/system.sql` exists before the first start. Without it the engine keeps `system` in
//!   memory, and its own logs neither survive a restart nor flush after one;
//! - only the owner may read the folder.
//!
//! Temporary folders of killed processes are swept by later starts: a folder is swept when nobody
//! holds its lock and the lock is older than a day, so that a test may kill an engine and look at
//! what it left.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::{Context as _, Error};

const PREFIX: &str = "embedded-clickhouse-";
const LOCK: &str = "embedded.lock";
const SWEEP_AGE: Duration = Duration::from_hours(24);

/// A data folder this process holds.
#[derive(Debug)]
pub(crate) struct DataFolder {
    path: PathBuf,
    temporary: bool,
    _lock: File,
}

impl DataFolder {
    /// Makes and claims `path`, or a temporary folder.
    pub(crate) fn claim(path: Option<&Path>) -> Result<Self, Error> {
        let temporary = path.is_none();
        let path = path.map_or_else(temporary_path, Path::to_path_buf);
        let doing = || format!("making the data folder {}", path.display());
        DirBuilder::new().recursive(true).mode(0o700).create(&path).context(doing)?;
        let path = path.canonicalize().context(doing)?;
        let lock = File::create(path.join(LOCK)).context(doing)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Locked { data: path }),
            Err(TryLockError::Error(source)) => return Err(source).context(doing),
        }
        if temporary {
            sweep(&std::env::temp_dir());
        }
        let folder = Self { path, temporary, _lock: lock };
        folder.persist_system_database()?;
        Ok(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file only the owner may read.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf, Error> {
        let path = self.path.join(name);
        fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// Removes the folder if it is a temporary one.
    pub(crate) fn dismiss(self) {
        if self.temporary {
            // What cannot be removed now is swept later.
            fs::remove_dir_all(&self.path).ok();
        }
    }

    fn persist_system_database(&self) -> Result<(), Error> {
        let metadata = self.path.join("metadata");
        let file = metadata.join("system.sql");
        if file.exists() {
            return Ok(());
        }
        fs::create_dir_all(&metadata)
            .context(|| format!("making the folder {}", metadata.display()))?;
        // The folder is new, so any identifier is unique in it; this one reads as what it is for.
        let text =
            "ATTACH DATABASE _ UUID '5e57e000-0000-4000-8000-000000000001'\nENGINE = Atomic\n";
        fs::write(&file, text).context(|| format!("writing {}", file.display()))
    }
}

fn temporary_path() -> PathBuf {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_nanos());
    std::env::temp_dir().join(format!("{PREFIX}{}-{nanos:x}", std::process::id()))
}

/// Removes temporary folders whose process is gone for a day.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) && abandoned(&entry.path()) {
            fs::remove_dir_all(entry.path()).ok();
        }
    }
}

fn abandoned(folder: &Path) -> bool {
    let Ok(lock) = File::open(folder.join(LOCK)) else {
        return false;
    };
    let old = lock
        .metadata()
        .and_then(|meta| meta.modified())
        .is_ok_and(|time| time.elapsed().is_ok_and(|age| age > SWEEP_AGE));
    old && lock.try_lock().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_folder_nobody_holds_is_swept_after_a_day() {
        let parent = temporary_path();
        let (old, held, fresh) = (
            parent.join("embedded-clickhouse-1-old"),
            parent.join("embedded-clickhouse-2-held"),
            parent.join("embedded-clickhouse-3-fresh"),
        );
        let long_ago = SystemTime::now() - 2 * SWEEP_AGE;
        let mut locks = Vec::new();
        for folder in [&old, &held, &fresh] {
            fs::create_dir_all(folder).unwrap();
            let lock = File::create(folder.join(LOCK)).unwrap();
            if folder != &fresh {
                lock.set_modified(long_ago).unwrap();
            }
            if folder == &held {
                lock.lock().unwrap();
                locks.push(lock);
            }
        }
        sweep(&parent);
        assert!(!old.exists());
        assert!(held.exists());
        assert!(fresh.exists());
        fs::remove_dir_all(&parent).unwrap();
    }
}
