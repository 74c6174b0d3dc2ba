//! The salts of the day: random, shared by replicas through a folder, and gone after two days.
//!
//! Without its salt a hash of an address cannot be tried out any more, by nobody. So a salt is never
//! derived from anything, and it is deleted when the day after its own has ended.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, UNIX_EPOCH};

use super::random;

pub(super) type Salt = [u8; 16];

const DAY: u64 = 86_400;

/// The salt of tomorrow is made when this many seconds are left: some request will come in them, and
/// with it the occasion.
const AHEAD: u64 = 6 * 3600;

/// Salts by day, counted from 1970 in UTC.
#[derive(Debug)]
pub(super) struct Salts {
    folder: Option<PathBuf>,
    held: RwLock<BTreeMap<u64, Salt>>,
    /// The day on which the folder was last tidied, and the salt of the day before looked for.
    tidied: AtomicU64,
}

impl Salts {
    pub(super) fn new(folder: Option<PathBuf>) -> Self {
        Self { folder, held: RwLock::default(), tidied: AtomicU64::new(u64::MAX) }
    }

    /// The salt of the day of this second, and that of the day before. Where they are shared they
    /// may not be there yet.
    pub(super) fn at(&self, second: u64) -> (Option<Salt>, Option<Salt>) {
        let day = second / DAY;
        {
            let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
            let before = day.checked_sub(1).and_then(|day| held.get(&day).copied());
            if held.contains_key(&day) || self.folder.is_some() {
                return (held.get(&day).copied(), before);
            }
        }
        self.make(day);
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        (held.get(&day).copied(), day.checked_sub(1).and_then(|day| held.get(&day).copied()))
    }

    /// Makes a salt in memory, where there is none yet.
    fn make(&self, day: u64) {
        let Some(salt) = random() else { return };
        self.hold(day, salt);
    }

    fn hold(&self, day: u64, salt: Salt) {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        held.entry(day).or_insert(salt);
    }

    /// Forgets what is two days old, and has what is needed soon. It reads and writes files: once a
    /// day, and when a salt is made. What fails is tried again, and keeps nothing else from its turn.
    pub(super) fn prepare(&self, second: u64) -> io::Result<()> {
        let day = second / DAY;
        let oldest = day.saturating_sub(1);
        let is_tidy = self.tidied.load(Ordering::Relaxed) == day;
        let missing: Vec<u64> = {
            let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
            held.retain(|day, _| *day >= oldest);
            let first = if is_tidy { day } else { oldest };
            let last = day + u64::from(second % DAY >= DAY - AHEAD);
            (first..=last).filter(|day| !held.contains_key(day)).collect()
        };
        let Some(folder) = &self.folder else { return Ok(()) };
        if is_tidy && missing.is_empty() {
            return Ok(());
        }
        make_folder(folder)?;
        let mut result = Ok(());
        for wanted in missing {
            match read_or_create(folder, wanted, wanted >= day) {
                Ok(Some(salt)) => self.hold(wanted, salt),
                Ok(None) => {}
                Err(error) => result = result.and(Err(error)),
            }
        }
        result = result.and(remove_before(folder, &date(oldest)));
        if result.is_ok() {
            self.tidied.store(day, Ordering::Relaxed);
        }
        result
    }
}

const END: &str = ".salt";

/// The file of a salt before it has its name. One that is left was made by who was killed then.
const DRAFT_END: &str = ".salt.tmp";

/// What the names of a day's files begin with: they sort as days do.
fn date(day: u64) -> String {
    let date = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(day * DAY));
    format!("{:.10}", date.to_string())
}

fn read_or_create(folder: &Path, day: u64, may_create: bool) -> io::Result<Option<Salt>> {
    let date = date(day);
    let path = folder.join(format!("{date}{END}"));
    match read(&path)? {
        None if may_create => create(folder, &date, &path).map(Some),
        found => Ok(found),
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Bytes of a salt's file at most: 32 digits, hyphens between them, space around.
const MOST: u64 = 64;

fn read(path: &Path) -> io::Result<Option<Salt>> {
    let no_salt = || {
        let problem = format!("{} is no salt: delete it", path.display());
        io::Error::new(io::ErrorKind::InvalidData, problem)
    };
    // Looked at before it is opened: opening a FIFO waits for who writes into it, for good.
    match fs::metadata(path) {
        Ok(found) if found.is_file() => {}
        Ok(_) => return Err(no_salt()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(of(path, &error)),
    }
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(MOST).read_to_end(&mut bytes)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(of(path, &error)),
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| no_salt())?;
    let salt = uuid::Uuid::parse_str(text.trim()).map_err(|_| no_salt())?;
    Ok(Some(salt.into_bytes()))
}

/// The error with the path that it is about.
fn of(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Makes the file, unless another replica was first: then the salt is its.
fn create(folder: &Path, date: &str, path: &Path) -> io::Result<Salt> {
    let none = || io::Error::other("the system gives no random numbers");
    let salt = random().ok_or_else(none)?;
    // Complete before it has its name: nobody reads a part of it.
    let draft = super::hex(random().ok_or_else(none)?);
    let draft = folder.join(format!("{date}.{draft}{DRAFT_END}"));
    let written = open_new(&draft)
        .and_then(|mut file| {
            file.write_all(super::hex(salt).as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| fs::hard_link(&draft, path));
    let _ = fs::remove_file(&draft);
    match written {
        Ok(()) => Ok(salt),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // A link that leads nowhere.
            read(path)?.ok_or_else(|| of(path, &io::ErrorKind::NotFound.into()))
        }
        Err(error) => Err(error),
    }
}

fn open_new(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Removes the files of the days before this one, drafts included.
fn remove_before(folder: &Path, date: &str) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_ours = |name: &&str| name.ends_with(END) || name.ends_with(DRAFT_END);
        if name.to_str().filter(is_ours).is_some_and(|name| name < date) {
            match fs::remove_file(entry.path()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(of(&entry.path(), &error));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: u64 = 20_833 * DAY + DAY / 2;

    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            let name = format!("activity-salts-{}", super::super::hex(random().unwrap()));
            Self(std::env::temp_dir().join(name))
        }

        fn files(&self) -> Vec<String> {
            let files = fs::read_dir(&self.0).unwrap();
            let mut names: Vec<_> =
                files.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }

        fn replica(&self) -> Salts {
            Salts::new(Some(self.0.clone()))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn replicas_that_begin_at_once_share_the_salts_of_their_folder() {
        let folder = Folder::new();
        let salts: Vec<_> = std::thread::scope(|scope| {
            let replicas: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let replica = folder.replica();
                        replica.prepare(NOON).unwrap();
                        replica.at(NOON).0.unwrap()
                    })
                })
                .collect();
            replicas.into_iter().map(|it| it.join().unwrap()).collect()
        });
        assert!(salts.iter().all(|salt| *salt == salts[0]));
        assert_eq!(folder.files(), ["2027-01-15.salt"]);
        // Who is second takes what the first made.
        let path = folder.0.join("2027-01-15.salt");
        assert_eq!(create(&folder.0, "2027-01-15", &path).unwrap(), salts[0]);
        assert_eq!(folder.files(), ["2027-01-15.salt"]);
        // One that comes a day later knows the salt of the day before.
        let late = folder.replica();
        late.prepare(NOON + DAY).unwrap();
        assert_eq!(late.at(NOON + DAY).1, Some(salts[0]));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode(&folder.0), 0o700);
            assert_eq!(mode(&folder.0.join("2027-01-15.salt")), 0o600);
        }
    }

    #[test]
    fn a_salt_is_there_before_its_day_and_deleted_two_days_after_its_beginning() {
        let folder = Folder::new();
        let replica = folder.replica();
        let midnight = NOON + DAY / 2;
        replica.prepare(midnight - 1).unwrap();
        let (today, _) = replica.at(midnight - 1);
        let (tomorrow, before) = replica.at(midnight);
        assert_eq!((today, tomorrow.is_some()), (before, true));
        assert_ne!(today, tomorrow);
        replica.prepare(midnight + DAY - AHEAD - 1).unwrap();
        assert_eq!(folder.files(), ["2027-01-15.salt", "2027-01-16.salt"]);
        replica.prepare(midnight + DAY).unwrap();
        assert_eq!(folder.files(), ["2027-01-16.salt", "2027-01-17.salt"]);
        assert_eq!(replica.at(midnight).1, None, "nor is it held in memory");
    }

    #[test]
    fn a_salt_is_deleted_at_the_end_of_its_second_day_though_nothing_is_missing_then() {
        let folder = Folder::new();
        let replica = folder.replica();
        let midnight = NOON + DAY / 2;
        let draft = "2027-01-15.0af7651916cd43dd8448eb211c80319c.salt.tmp";
        replica.prepare(NOON).unwrap();
        fs::write(folder.0.join(draft), "who made it was killed").unwrap();
        for second in [midnight - 1, midnight, midnight + DAY - 1] {
            replica.prepare(second).unwrap();
        }
        let [first, second, third] = ["2027-01-15.salt", "2027-01-16.salt", "2027-01-17.salt"];
        assert_eq!(folder.files(), [draft, first, second, third]);
        replica.prepare(midnight + DAY).unwrap();
        assert_eq!(folder.files(), [second, third]);
    }

    #[test]
    fn the_folder_is_looked_into_once_a_day() {
        let folder = Folder::new();
        let replica = folder.replica();
        replica.prepare(NOON).unwrap();
        // There was no salt yesterday: that is known now.
        fs::remove_dir_all(&folder.0).unwrap();
        replica.prepare(NOON + 1).unwrap();
        assert!(!folder.0.exists());
        replica.prepare(NOON + DAY).unwrap();
        assert_eq!(folder.files(), ["2027-01-16.salt"]);
    }

    #[test]
    fn a_salt_that_cannot_be_read_keeps_no_other_from_its_turn() {
        let folder = Folder::new();
        make_folder(&folder.0).unwrap();
        for day in ["2027-01-13", "2027-01-14"] {
            fs::write(folder.0.join(format!("{day}.salt")), "mud").unwrap();
        }
        let replica = folder.replica();
        for _ in 0..2 {
            let error = replica.prepare(NOON).unwrap_err().to_string();
            assert!(error.contains("2027-01-14.salt is no salt"), "{error}");
        }
        assert!(replica.at(NOON).0.is_some());
        assert_eq!(folder.files(), ["2027-01-14.salt", "2027-01-15.salt"]);
        fs::remove_file(folder.0.join("2027-01-14.salt")).unwrap();
        replica.prepare(NOON).unwrap();
    }

    #[test]
    fn salts_in_memory_are_made_when_they_are_asked_for_and_forgotten_alike() {
        let salts = Salts::new(None);
        let (first, before) = salts.at(NOON);
        assert!(first.is_some() && before.is_none());
        assert_eq!(salts.at(NOON + DAY / 2).1, first);
        salts.prepare(NOON + 2 * DAY).unwrap();
        assert_eq!(salts.at(NOON + DAY).1, None);
    }

    #[test]
    fn what_is_no_salt_is_an_error_that_names_the_file() {
        let folder = Folder::new();
        make_folder(&folder.0).unwrap();
        fs::write(folder.0.join("2027-01-15.salt"), "mud").unwrap();
        let error = folder.replica().prepare(NOON).unwrap_err().to_string();
        assert!(error.contains("2027-01-15.salt is no salt: delete it"), "{error}");
    }

    #[test]
    #[cfg(unix)]
    fn whatever_stands_in_a_salts_place_is_an_error_that_names_it_and_never_a_wait() {
        use std::os::unix::fs::symlink;
        type Make = fn(&Path);
        let kinds: [(&str, Make, &str); 7] = [
            (
                "a FIFO",
                |path| {
                    let made = std::process::Command::new("mkfifo").arg(path).status();
                    assert!(made.expect("mkfifo").success());
                },
                "is no salt: delete it",
            ),
            ("a folder", |path| fs::create_dir(path).unwrap(), "is no salt: delete it"),
            ("a device without end", |path| symlink("/dev/zero", path).unwrap(), "is no salt"),
            (
                "a huge file",
                |path| File::create(path).unwrap().set_len(1 << 40).unwrap(),
                "is no salt",
            ),
            ("no text", |path| fs::write(path, [0xff; 32]).unwrap(), "is no salt: delete it"),
            ("a link to itself", |path| symlink(path, path).unwrap(), "2027-01-15.salt: "),
            (
                "a link to nowhere",
                |path| symlink("/no/such/file", path).unwrap(),
                "2027-01-15.salt: ",
            ),
        ];
        for (kind, make, expected) in kinds {
            let folder = Folder::new();
            make_folder(&folder.0).unwrap();
            make(&folder.0.join("2027-01-15.salt"));
            let replica = folder.replica();
            let (told, answer) = std::sync::mpsc::channel();
            std::thread::spawn(move || told.send(replica.prepare(NOON)));
            let answer = answer.recv_timeout(Duration::from_secs(20));
            let error = answer.unwrap_or_else(|_| panic!("{kind} hangs")).unwrap_err().to_string();
            assert!(
                error.contains("2027-01-15.salt") && error.contains(expected),
                "{kind}: {error}"
            );
        }
    }
}
