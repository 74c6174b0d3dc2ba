//! The archive once it is here: checked, then opened for the one file wanted.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::Path;

use flate2::read::GzDecoder;
use sha2::{Digest as _, Sha256};

use crate::error::{Context as _, Error};
use crate::hex::hex;

/// Refuses and deletes an archive whose SHA-256 is not `expected`.
///
/// # Errors
///
/// When the digest differs or the file cannot be read.
pub fn verify(archive: &Path, expected: &str) -> Result<(), Error> {
    let found = digest(archive).context(|| format!("reading {}", archive.display()))?;
    if found == expected {
        return Ok(());
    }
    fs::remove_file(archive).context(|| format!("removing {}", archive.display()))?;
    Err(Error::Checksum { found, expected: expected.to_owned() })
}

/// Takes `libchdb.so` out of `archive`; `library` appears whole, by a rename.
///
/// # Errors
///
/// When the archive is damaged or lacks the library, or the disk refuses.
pub fn unpack(archive: &Path, library: &Path) -> Result<(), Error> {
    let mut partial = library.as_os_str().to_owned();
    partial.push(".partial");
    let partial = Path::new(&partial);
    let doing = || format!("unpacking {}", archive.display());
    let file = File::open(archive).context(doing)?;
    let mut tar = tar::Archive::new(GzDecoder::new(BufReader::with_capacity(1 << 20, file)));
    for entry in tar.entries().context(doing)? {
        let mut entry = entry.context(doing)?;
        let path = entry.path().context(doing)?;
        if path.file_name().is_none_or(|name| name != "libchdb.so") {
            continue;
        }
        let mut output = File::create(partial).context(doing)?;
        io::copy(&mut entry, &mut output).context(doing)?;
        output.sync_all().context(doing)?;
        return fs::rename(partial, library).context(doing);
    }
    Err(Error::Archive { archive: archive.to_path_buf() })
}

fn digest(file: &Path) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut reader = BufReader::with_capacity(1 << 20, File::open(file)?);
    loop {
        let bytes = io::BufRead::fill_buf(&mut reader)?;
        if bytes.is_empty() {
            break;
        }
        hasher.update(bytes);
        let count = bytes.len();
        io::BufRead::consume(&mut reader, count);
    }
    Ok(hex(&hasher.finalize()))
}
