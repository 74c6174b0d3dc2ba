//! A small web shop whose every request becomes a row.
//!
//! What this example shows of `tracing-activity` is little, which is the point: [`run`] installs
//! it and shuts it down, `routes.rs` adds its layer, and handlers say in a line what was done to
//! which object. The rest is a shop as it might be: handlers call
//! services, services call a database and a payment gateway, and each step is a span.
//!
//! ```text
//! ACTIVITY_DB=clickhouse://USER:PASSWORD@localhost cargo run --example shop
//! curl http://127.0.0.1:3000/products/7
//! ```
//!
//! Without `ACTIVITY_DB` the rows are printed as JSON lines. `cargo xtask demo` starts a
//! ClickHouse, two deploys of this shop and the customers.

mod account;
mod admin;
mod basket;
mod catalogue;
mod checkout;
mod error;
mod latency;
mod mail;
mod orders;
mod payment;
mod routes;
mod shapes;
mod store;

use std::error::Error;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;

use latency::Latency;
use mail::Mailroom;
use payment::Gateway;
use shapes::Shapes;
use store::Store;

/// What every handler can reach.
pub(crate) struct Shop {
    pub(crate) store: Store,
    pub(crate) gateway: Gateway,
    pub(crate) couriers: Latency,
    pub(crate) mailroom: Mailroom,
    pub(crate) deploy: Deploy,
}

pub(crate) type App = Arc<Shop>;

/// Which version of the code runs: two binaries of a real shop, a switch in this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deploy {
    A,
    /// Checks every order for fraud, and has forgotten an index for the search.
    B,
    /// As A, but for one path: the home page of a customer shows ratings, too.
    C,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shop: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let args = Args::parse(std::env::args().skip(1))?;
    let shapes = Shapes::default();
    let mut builder = tracing_activity::builder();
    if args.shapes.is_some() {
        builder = shapes.watch(builder);
    }
    let guard = builder.install()?;

    let runtime = tokio::runtime::Runtime::new()?;
    let served = runtime.block_on(serve(&args));
    // No request runs any more once the runtime is gone: what is flushed now is everything.
    drop(runtime);

    let activities = guard.handle();
    guard.shutdown(Duration::from_secs(10));
    eprintln!("{}", activities.stats());
    if let Some(file) = &args.shapes {
        shapes.write(file)?;
    }
    Ok(served?)
}

async fn serve(args: &Args) -> std::io::Result<()> {
    let shop = Arc::new(Shop {
        store: Store::new(args.seed, args.deploy),
        gateway: Gateway::new(args.seed),
        couriers: Latency::new(args.seed ^ 0xc0),
        mailroom: Mailroom::default(),
        deploy: args.deploy,
    });
    let listener = TcpListener::bind((args.host, args.port)).await.map_err(|error| {
        std::io::Error::new(error.kind(), format!("port {}: {error}; try --port 0", args.port))
    })?;
    // Standard output may be the rows' own way out, so this line is flushed by itself.
    println!("listening on http://{}", listener.local_addr()?);
    std::io::stdout().flush()?;

    let app = routes::app(Arc::clone(&shop));
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>())
        .with_graceful_shutdown(asked_to_stop(args.until_stdin_ends))
        .await?;
    shop.mailroom.close().await;
    Ok(())
}

/// Ends at SIGTERM, Ctrl-C or, when `watch_stdin`, the end of standard input.
async fn asked_to_stop(watch_stdin: bool) {
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated() => {}
        () = stdin_ended(), if watch_stdin => {}
    }
}

async fn stdin_ended() {
    let (sender, ended) = oneshot::channel();
    // A thread of its own: a blocked read would hold up the runtime's end.
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        sender.send(())
    });
    let _ = ended.await;
}

#[cfg(unix)]
async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => drop(terminate.recv().await),
        Err(_) => std::future::pending().await,
    }
}

#[cfg(not(unix))]
async fn terminated() {
    std::future::pending().await
}

/// The command line.
struct Args {
    host: IpAddr,
    port: u16,
    deploy: Deploy,
    seed: u64,
    until_stdin_ends: bool,
    /// Where to write which code paths were taken; rows are not delivered then.
    shapes: Option<PathBuf>,
}

const USAGE: &str = "usage: shop [--host ADDRESS] [--port N] [--deploy a|b|c] [--seed N] \
    [--until-stdin-ends] [--shapes FILE]";

impl Args {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut args = Self {
            host: Ipv4Addr::LOCALHOST.into(),
            port: 3000,
            deploy: Deploy::A,
            seed: 1,
            until_stdin_ends: false,
            shapes: None,
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value; {USAGE}"));
            let refuse = |value: &str| format!("{word} {value:?}: not accepted; {USAGE}");
            match word.as_str() {
                "--host" => {
                    let host = value()?;
                    args.host = host.parse().map_err(|_| refuse(&host))?;
                }
                "--port" => {
                    let port = value()?;
                    args.port = port.parse().map_err(|_| refuse(&port))?;
                }
                "--seed" => {
                    let seed = value()?;
                    args.seed = seed.parse().map_err(|_| refuse(&seed))?;
                }
                "--deploy" => {
                    args.deploy = match value()?.as_str() {
                        "a" => Deploy::A,
                        "b" => Deploy::B,
                        "c" => Deploy::C,
                        other => return Err(refuse(other)),
                    };
                }
                "--shapes" => args.shapes = Some(value()?.into()),
                "--until-stdin-ends" => args.until_stdin_ends = true,
                _ => return Err(format!("{word:?} is not known; {USAGE}")),
            }
        }
        Ok(args)
    }
}
