//! A database of one's own on a real ClickHouse, for the tests.

#![allow(dead_code, reason = "not every test uses all of it")]

use std::sync::OnceLock;
use std::time::Duration;

use embedded_clickhouse::{Server, connect_or_start};
use tracing_activity::config::{ClickHouse, Database, Secret};
use tracing_activity::model::{Activity, ActivityId, Timestamp};
use tracing_activity::sink::{Batch, ClickHouseSink, Sink as _};

pub(crate) fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| connect_or_start().expect("a ClickHouse server"))
}

/// A database of the test's own.
pub(crate) struct Db {
    pub(crate) config: ClickHouse,
}

impl Db {
    /// Without tables, and not even there.
    pub(crate) fn absent() -> Self {
        let Ok(Database::ClickHouse(mut config)) = server().url.parse() else {
            panic!("{}", server().url)
        };
        config.database = format!("delivery_{:016x}", fastrand::u64(..));
        config.user.clone_from(&server().user);
        config.password = Secret::new(&*server().password);
        Self { config }
    }

    pub(crate) fn new() -> Self {
        let db = Self::absent();
        wait(db.sink().prepare()).unwrap();
        db
    }

    pub(crate) fn with(&self, change: impl FnOnce(&mut ClickHouse)) -> Self {
        let mut config = self.config.clone();
        change(&mut config);
        Self { config }
    }

    pub(crate) fn sink(&self) -> ClickHouseSink {
        ClickHouseSink::new(&self.config, Duration::from_secs(30))
    }

    /// The answer to `sql`, in which `{db}` is the database.
    pub(crate) fn query(&self, sql: &str) -> String {
        server().query(&sql.replace("{db}", &self.config.database)).unwrap().trim_end().to_owned()
    }

    pub(crate) fn count(&self, table: &str) -> u64 {
        self.query(&format!("SELECT count() FROM {{db}}.{table}")).parse().unwrap()
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        let _ = server().query(&format!("DROP DATABASE IF EXISTS {}", self.config.database));
    }
}

pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

pub(crate) fn now() -> Timestamp {
    std::time::SystemTime::now().into()
}

pub(crate) fn activity(n: u16) -> Activity {
    let when = now();
    Activity {
        when,
        activity_id: ActivityId::new(when, fastrand::u64(..)),
        status: n,
        duration: u64::from(n),
        okind: "thing".to_owned(),
        ..Activity::default()
    }
}

pub(crate) fn batch(rows: u16) -> Batch {
    Batch::new((0..rows).map(activity).collect(), 0)
}
