//! When this executable was built, as far as anything tells: the default of `site_version`.
//!
//! Deploys are told apart by that time, so the replicas of one deploy must agree on it, two deploys must
//! not, and a later deploy should have a later one. The file time does all three, unless the build or the
//! image has set it to a constant, as reproducible builds do. Then the time that such a build is told,
//! `SOURCE_DATE_EPOCH`, does; and where there is none either, a hash of the executable takes the place of
//! a time. It tells deploys apart and knows nothing of their order: it lies before the year 2000, so that
//! every real time is later, and it is warned of.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::parse_site_version;
use crate::model::Timestamp;

/// February 2025, when the first compiler came out that can build this crate. No build is older.
const FIRST_BUILD: Duration = Duration::from_hours(483_333);

/// Clocks of machines that build may be ahead.
const AHEAD: Duration = Duration::from_hours(24);

/// The times that hashes stand for: 1971 to 1999, in seconds.
const HASHED: std::ops::Range<u64> = 31_536_000..946_684_800;

/// When this executable was built.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Built {
    pub(crate) at: Timestamp,
    /// It is no time, but tells this executable from others.
    pub(crate) is_hash: bool,
}

/// When this executable was built: the build's own `ACTIVITY_SITE_VERSION`, else the file's
/// modification time, else the build's `SOURCE_DATE_EPOCH`, else a hash. Found out once.
pub(crate) fn executable_built() -> Built {
    static BUILT: OnceLock<Built> = OnceLock::new();
    *BUILT.get_or_init(|| {
        if let Some(Ok(at)) = option_env!("ACTIVITY_SITE_VERSION").map(parse_site_version) {
            return Built { at, is_hash: false };
        }
        let file = std::env::current_exe();
        let file = file.as_deref().unwrap_or(Path::new("/proc/self/exe"));
        built(file, option_env!("SOURCE_DATE_EPOCH"), SystemTime::now())
    })
}

fn built(file: &Path, epoch: Option<&str>, now: SystemTime) -> Built {
    let modified = file.metadata().and_then(|it| it.modified()).ok();
    let epoch = epoch.and_then(|it| it.trim().parse().ok());
    let epoch = epoch.and_then(|it| UNIX_EPOCH.checked_add(Duration::from_secs(it)));
    let is_build = |time: &SystemTime| (UNIX_EPOCH + FIRST_BUILD..=now + AHEAD).contains(time);
    if let Some(time) = modified.filter(is_build).or(epoch.filter(is_build)) {
        return Built { at: time.into(), is_hash: false };
    }
    let at = hashed(file).map_or(now, |seconds| UNIX_EPOCH + Duration::from_secs(seconds));
    Built { at: at.into(), is_hash: true }
}

/// A second that stands for the content of the file.
fn hashed(file: &Path) -> io::Result<u64> {
    let mut file = File::open(file)?;
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut hasher = blake3::Hasher::new();
    let mut part = vec![0; 256 << 10];
    loop {
        match file.read(&mut part) {
            Ok(0) => break,
            Ok(bytes) => drop(hasher.update(&part[..bytes])),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    Ok(HASHED.start + u64::from_be_bytes(first) % (HASHED.end - HASHED.start))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_hours(500_000);
    const YEAR: u64 = 31_557_600;

    struct Executable(std::path::PathBuf);

    impl Executable {
        fn new(content: &str) -> Self {
            let name = format!("activity-built-{:016x}", fastrand::u64(..));
            let path = std::env::temp_dir().join(name);
            std::fs::write(&path, content).unwrap();
            Self(path)
        }

        fn built(&self, modified: u64, epoch: Option<&str>) -> Built {
            let file = File::options().append(true).open(&self.0).unwrap();
            file.set_modified(UNIX_EPOCH + Duration::from_secs(modified)).unwrap();
            built(&self.0, epoch, UNIX_EPOCH + NOW)
        }
    }

    impl Drop for Executable {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    fn seconds(built: Built) -> u64 {
        built.at.as_micros() as u64 / 1_000_000
    }

    #[test]
    fn the_file_time_of_a_build_counts() {
        let file = Executable::new("a");
        let time = NOW.as_secs() - 1000;
        let built = file.built(time, Some("1790000000"));
        assert_eq!((seconds(built), built.is_hash), (time, false));
        // A clock that is a little ahead.
        assert_eq!(seconds(file.built(NOW.as_secs() + 3600, None)), NOW.as_secs() + 3600);
    }

    #[test]
    fn a_constant_file_time_tells_deploys_apart_and_replicas_alike_all_the_same() {
        let (first, replica, second) =
            (Executable::new("first"), Executable::new("first"), Executable::new("second"));
        let constants = [0, 1, 315_532_800, 315_619_200, 946_684_800, 1_262_304_000];
        // A file time that is yet to come is none either.
        for constant in constants.into_iter().chain([NOW.as_secs() + YEAR]) {
            let of = |file: &Executable| file.built(constant, None);
            assert_eq!(of(&first), of(&replica), "{constant}");
            assert_ne!(of(&first).at, of(&second).at, "{constant}");
            assert!(of(&first).is_hash && HASHED.contains(&seconds(of(&first))), "{constant}");
        }
    }

    #[test]
    fn a_constant_file_time_gives_way_to_the_time_that_the_build_was_told() {
        let file = Executable::new("a");
        let built = file.built(1, Some("1790000000"));
        assert_eq!((seconds(built), built.is_hash), (1_790_000_000, false));
        for epoch in
            ["", "0", "1", "315532800", "never", "-5", "99999999999999999999", "4000000000"]
        {
            assert!(file.built(1, Some(epoch)).is_hash, "{epoch}");
        }
    }

    #[test]
    fn what_cannot_be_read_has_the_time_of_its_start() {
        let it = built(Path::new("/no/such/file"), None, UNIX_EPOCH + NOW);
        assert_eq!(it, Built { at: (UNIX_EPOCH + NOW).into(), is_hash: true });
    }
}
