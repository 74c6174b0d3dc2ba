//! What the customers did and what they were told, a line of JSON a request.
//!
//! The rows say what the layer saw. This is the other side's book: whoever checks the rows, or a
//! query on them, needs an account that did not pass through what is being checked.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::client::Seen;

/// The book of one deploy, or none. Clones write into the same file.
#[derive(Clone, Default)]
pub(crate) struct Ledger {
    revision: &'static str,
    file: Option<Arc<Mutex<BufWriter<File>>>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    revision: &'a str,
    /// Numbers the visits of a deploy.
    visit: usize,
    #[serde(flatten)]
    seen: &'a Seen,
}

impl Ledger {
    /// A book at `path`, or none without it.
    pub(crate) fn create(path: Option<&Path>) -> Result<Self> {
        let create = |path: &Path| {
            File::create(path).with_context(|| format!("{} cannot be written", path.display()))
        };
        let file = path.map(create).transpose()?;
        let file = file.map(|file| Arc::new(Mutex::new(BufWriter::new(file))));
        Ok(Self { revision: "", file })
    }

    /// The same book, for the deploy `revision`.
    pub(crate) fn of(&self, revision: &'static str) -> Self {
        Self { revision, file: self.file.clone() }
    }

    /// Enters a request of the `visit`-th visitor.
    pub(crate) fn enter(&self, visit: usize, seen: &Seen) -> Result<()> {
        self.write(|file| {
            let entry = Entry { revision: self.revision, visit, seen };
            serde_json::to_writer(&mut *file, &entry)?;
            file.write_all(b"\n")
        })
    }

    /// Writes what is still held in memory.
    pub(crate) fn flush(&self) -> Result<()> {
        self.write(BufWriter::flush)
    }

    fn write(&self, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        write(&mut file).context("the ledger cannot be written")
    }
}
