//! What a Collector is told: the configuration, where ClickHouse is, and its ports.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use embedded_clickhouse::Server;

/// The database of the Collector's tables.
pub(crate) const DATABASE: &str = "otel";

/// The tables that the Collector inserts into where it may make none.
pub(crate) const TABLES: &str = include_str!("../../../collector-config/otel.sql");

/// One of the files of `collector-config/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Configuration {
    /// Keeps its queue on disk, and makes no tables
    Production,
    /// Makes its tables, logs what comes in, keeps its queue in memory
    Development,
}

impl Configuration {
    pub(crate) const ALL: [Self; 2] = [Self::Production, Self::Development];

    /// As it is called in the repository.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Production => "collector-config/production.yaml",
            Self::Development => "collector-config/development.yaml",
        }
    }

    pub(crate) fn file(self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(self.name())
    }
}

/// Where ClickHouse is, and who the Collector is there.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// `tcp://HOST:PORT` of the native protocol, or `http://HOST:PORT`.
    pub(crate) endpoint: String,
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) database: String,
}

impl Target {
    /// The writer of `server`, over the native protocol where its port is open.
    pub(crate) fn of(server: &Server) -> Self {
        let port = server.engine.as_ref().and_then(embedded_clickhouse::Engine::tcp_port);
        Self {
            endpoint: port
                .map_or_else(|| server.url.clone(), |port| format!("tcp://127.0.0.1:{port}")),
            user: server.user.clone(),
            password: server.password.clone(),
            database: DATABASE.to_owned(),
        }
    }
}

/// How a Collector is started.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) configuration: Configuration,
    pub(crate) clickhouse: Target,
    /// Holds the queue and the log. A later Collector with the same folder goes on with the queue.
    pub(crate) folder: PathBuf,
    /// What else the configuration reads from the environment.
    pub(crate) environment: Vec<(&'static str, String)>,
}

impl Settings {
    pub(crate) fn new(configuration: Configuration, clickhouse: Target, folder: PathBuf) -> Self {
        Self { configuration, clickhouse, folder, environment: Vec::new() }
    }

    /// Where the queue lies.
    pub(crate) fn queue(&self) -> PathBuf {
        self.folder.join("queue")
    }

    /// Every variable the configuration is given, for a Collector with `ports`.
    pub(super) fn variables(&self, ports: &Ports) -> Vec<(&'static str, String)> {
        let mut variables = vec![
            ("COLLECTOR_HOST", Ipv4Addr::LOCALHOST.to_string()),
            ("COLLECTOR_GRPC_PORT", ports.grpc.to_string()),
            ("COLLECTOR_HTTP_PORT", ports.http.to_string()),
            ("COLLECTOR_STATSD_PORT", ports.statsd.to_string()),
            ("COLLECTOR_HEALTH_PORT", ports.health.to_string()),
            ("COLLECTOR_TELEMETRY_PORT", ports.telemetry.to_string()),
            ("COLLECTOR_STORAGE", self.queue().display().to_string()),
            ("CLICKHOUSE_ENDPOINT", self.clickhouse.endpoint.clone()),
            ("CLICKHOUSE_USER", self.clickhouse.user.clone()),
            ("CLICKHOUSE_PASSWORD", self.clickhouse.password.clone()),
            ("CLICKHOUSE_DATABASE", self.clickhouse.database.clone()),
        ];
        variables.extend(self.environment.iter().cloned());
        variables
    }
}

/// Ports of loopback, each free a moment ago.
#[derive(Debug, Clone)]
pub(super) struct Ports {
    pub(super) grpc: u16,
    pub(super) http: u16,
    pub(super) statsd: u16,
    pub(super) health: u16,
    pub(super) telemetry: u16,
}

impl Ports {
    /// The Collector cannot choose its ports itself, so they are chosen here, all held until the
    /// last is known.
    pub(super) fn free() -> Result<Self> {
        let listeners = (0..4)
            .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .collect::<std::io::Result<Vec<_>>>()?;
        let mut ports = listeners.iter().map(|listener| Ok(listener.local_addr()?.port()));
        let mut next = || -> Result<u16> { ports.next().context("too few listeners")? };
        let statsd = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        Ok(Self { grpc: next()?, http: next()?, statsd, health: next()?, telemetry: next()? })
    }
}

/// Makes the Collector's tables, as an administrator does before a Collector in production.
pub(crate) fn make_tables(server: &Server) -> Result<()> {
    for statement in crate::schema::statements(TABLES) {
        server.query(statement).with_context(|| format!("in otel.sql: {statement}"))?;
    }
    Ok(())
}

/// A new folder among the temporary ones.
pub(crate) fn temporary_folder(purpose: &str) -> Result<PathBuf> {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_nanos());
    let name = format!("collector-{purpose}-{}-{nanos:x}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    Ok(folder)
}
