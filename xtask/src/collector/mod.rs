//! `cargo xtask collector`: the real OpenTelemetry Collector, built once and run as a process.
//!
//! What is shipped in `collector-config/` must be accepted and obeyed by the Collector itself, and
//! nothing else than the Collector can tell. So it is built here, from its Go modules and for
//! exactly the components that the configurations name, into the cache folder beside the engine.
//!
//! ```text
//!  build     builder.yaml ──> go ──> ~/.cache/tracing-activity/collector/VERSION/otelcol
//!  process   otelcol + a configuration + free ports ──> healthy; kill, restart, stop
//!  proof     OTLP, statsd ──> Collector ──> ClickHouse's native port; counted in the tables
//! ```
//!
//! Reading order: [`build`] (getting the program), [`settings`] (what it is told), [`process`] (a
//! running one), [`signals`] (what is sent to it), [`proof`] (`cargo xtask collector check`).
//!
//! Invariants:
//! - a Collector listens on loopback and on ports that were free, so several run side by side;
//! - a [`Collector`] that is dropped is killed; a restarted one has the ports and the queue of its
//!   predecessor;
//! - the program in the cache belongs to the manifest that lies beside it, and appears by a rename.

mod build;
mod plain;
mod process;
mod proof;
mod settings;
mod signals;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use embedded_clickhouse::{Options, Server, fetch};

pub(crate) use process::Collector;
pub(crate) use settings::{Configuration, Settings, TABLES, Target, make_tables, temporary_folder};

/// Builds the Collector, unless it is there; or does something with it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Let the Collector validate the configurations of `collector-config/`
    Validate,
    /// Run a configuration against a ClickHouse until Ctrl-C
    Run {
        /// Which configuration
        #[arg(long, value_enum, default_value_t = Configuration::Development)]
        config: Configuration,
        /// Where the Collector keeps its queue and its log
        #[arg(long, value_name = "DIR")]
        folder: Option<PathBuf>,
    },
    /// Validate, run and kill the Collector, and count what arrives
    Check(proof::Args),
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let binary = build::ensure()?;
    match &args.what {
        None => println!("the Collector is at {}", binary.display()),
        Some(What::Validate) => validate(&binary)?,
        Some(What::Run { config, folder }) => serve(*config, folder.as_deref())?,
        Some(What::Check(args)) => proof::run(&binary, args)?,
    }
    Ok(())
}

/// Every configuration, as the Collector itself sees it.
fn validate(binary: &Path) -> Result<()> {
    for configuration in Configuration::ALL {
        let file = configuration.file();
        process::validate(binary, &file)?;
        println!("{} is valid", configuration.name());
    }
    Ok(())
}

/// A ClickHouse with its native port open; the engine of this machine, since it may be stopped.
pub(crate) fn clickhouse(options: Options) -> Result<Server> {
    fetch::ensure()?;
    Ok(Server::start(Options { tcp_port: options.tcp_port.or(Some(0)), ..options })?)
}

fn serve(configuration: Configuration, folder: Option<&Path>) -> Result<()> {
    let server = clickhouse(Options::default())?;
    if configuration == Configuration::Production {
        make_tables(&server)?;
    }
    let own = folder.is_none().then(|| settings::temporary_folder("run")).transpose()?;
    let folder = folder.or(own.as_deref()).context("no folder")?.to_path_buf();
    let settings = Settings::new(configuration, Target::of(&server), folder);
    let collector = Collector::start(&settings)?;
    println!("The Collector runs {}:", configuration.name());
    println!("  OTLP over HTTP  {}", collector.otlp_http());
    println!("  OTLP over gRPC  {}", collector.otlp_grpc());
    println!("  statsd          {}", collector.statsd());
    println!("  its own figures {}", collector.telemetry_url());
    println!("  its log         {}", collector.log().display());
    println!("Ask what arrived:");
    println!(
        "  curl -s -u '{}:{}' '{}/?database={}' --data-binary \"SELECT Timestamp, ServiceName, SpanName, Duration FROM otel_traces ORDER BY Timestamp DESC LIMIT 10 FORMAT PrettyCompact\"",
        server.reader,
        server.reader_password,
        server.url,
        settings::DATABASE
    );
    println!("\nCollector and ClickHouse run until Ctrl-C.");
    wait_for_a_signal()?;
    eprintln!("stopping");
    collector.stop()?;
    if let Some(engine) = server.engine {
        engine.stop()?;
    }
    if let Some(folder) = own {
        std::fs::remove_dir_all(folder).ok();
    }
    Ok(())
}

/// Waits for Ctrl-C, or for SIGTERM where there is such a thing: nobody else stops the Collector.
fn wait_for_a_signal() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let mut terminate = signal(SignalKind::terminate())?;
            tokio::select! {
                stopped = tokio::signal::ctrl_c() => Ok(stopped?),
                _ = terminate.recv() => Ok(()),
            }
        }
        #[cfg(not(unix))]
        Ok(tokio::signal::ctrl_c().await?)
    })
}
