//! What the tests share: engines, folders of their own, and waiting for a condition.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::{Duration, Instant};

use embedded_clickhouse::http::{self, Response};
use embedded_clickhouse::{Engine, Options, fetch, locate};

/// Longest wait for anything in these tests.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

static MACHINE: RwLock<()> = RwLock::new(());

/// Runs beside other tests.
pub(crate) fn shared() -> RwLockReadGuard<'static, ()> {
    prepare();
    MACHINE.read().unwrap_or_else(PoisonError::into_inner)
}

/// Runs while no other test does, for measuring time.
pub(crate) fn alone() -> RwLockWriteGuard<'static, ()> {
    prepare();
    MACHINE.write().unwrap_or_else(PoisonError::into_inner)
}

/// Gets the library and the binary, so that no test measures either.
fn prepare() {
    fetch::ensure().expect("the engine is to be had");
    locate::binary().expect("the binary is built");
}

/// A folder that is removed at the end.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("embedded-test-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Options for an engine on this folder.
    pub(crate) fn options(&self) -> Options {
        Options { data: Some(self.0.clone()), ..Options::default() }
    }

    /// An engine on this folder.
    pub(crate) fn engine(&self) -> Engine {
        Engine::start(self.options()).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// Waits until `condition` holds; fails at the deadline, saying what it waited for.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {DEADLINE:?} for {what}");
        thread::park_timeout(Duration::from_millis(2));
    }
}

/// Whether a process exists and is more than a zombie.
pub(crate) fn is_running(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(") ").next().unwrap_or_default().starts_with('Z'))
}

/// Runs a query as any user.
pub(crate) fn ask(engine: &Engine, user: &str, password: &str, sql: &str) -> Response {
    http::query(&address(engine), user, password, &[], sql).unwrap()
}

pub(crate) fn address(engine: &Engine) -> String {
    format!("127.0.0.1:{}", engine.http_port())
}
