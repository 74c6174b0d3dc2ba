//! One set-up in this process: the application is served, the client drives it, and what was seen
//! is printed, a line for each behaviour.

use std::net::{SocketAddr, TcpListener};
use std::sync::Once;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use tracing_activity::ShutdownGuard;
use tracing_activity::config::{Config, SamplingPolicy};
use tracing_activity::sink::MemorySink;

use super::{Behaviour, grpc, http, web};
use crate::app;
use crate::setups::{Protocol, Setup};

/// Long enough for anything that is going to happen.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);

/// What the client saw of an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// The status, or the code of a call. 0 where nothing came.
    pub(super) status: u16,
    /// From before the request until the answer was over, or until the client left.
    pub(super) took: Duration,
}

/// What happened.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Observed {
    /// Place among the behaviours.
    pub(crate) behaviour: usize,
    /// What the client got: a status, or the code of a call. 0 where nothing came.
    pub(crate) status: u16,
    /// Microseconds until the client had it, or left.
    pub(crate) took: u64,
    /// Microseconds until the row was there.
    pub(crate) stored: u64,
    /// The rows, as the sink got them.
    pub(crate) rows: Vec<serde_json::Value>,
}

/// Serves the application by the set-up `key`, and prints what happens.
pub(crate) fn run(key: &str) -> Result<()> {
    let setup = Setup::named(key)?;
    quiet_on_purpose();
    let sink = MemorySink::new();
    let mut config = Config::default();
    config.sample = SamplingPolicy::ALL;
    config.pipeline.batch_interval = Duration::from_millis(1);
    let guard = tracing_activity::builder().config(config).sink(sink.clone()).install()?;
    let listener = TcpListener::bind("127.0.0.1:0").context("no port to listen at")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        if let Err(error) = setup.serve(listener) {
            eprintln!("{key}: {error:#}", key = setup.key);
        }
    });
    for (index, behaviour) in Behaviour::ALL.into_iter().enumerate() {
        let begin = Instant::now();
        let answer = drive(setup.protocol, address, behaviour)
            .with_context(|| format!("{}, {}", setup.key, behaviour.name()))?;
        let rows = rows(&guard, &sink);
        let observed = Observed {
            behaviour: index,
            status: answer.status,
            took: answer.took.as_micros() as u64,
            stored: begin.elapsed().as_micros() as u64,
            rows,
        };
        println!("{}", serde_json::to_string(&observed)?);
    }
    Ok(())
}

fn drive(protocol: Protocol, address: SocketAddr, behaviour: Behaviour) -> Result<Answer> {
    match protocol {
        Protocol::Http1 => http::one(address, behaviour),
        Protocol::Http2 => http::two(address, behaviour),
        Protocol::Grpc => grpc::call(address, behaviour),
        Protocol::GrpcWeb => web::call(address, behaviour),
    }
}

/// The rows of what happened last, once all that began has ended.
fn rows(guard: &ShutdownGuard, sink: &MemorySink) -> Vec<serde_json::Value> {
    let end = Instant::now() + DEADLINE;
    loop {
        let stats = guard.stats();
        let is_done = stats.stored > 0 && stats.in_flight() == 0;
        let rows = if is_done { sink.take() } else { Vec::new() };
        if !rows.is_empty() || Instant::now() > end {
            return rows.iter().filter_map(|row| serde_json::to_value(row).ok()).collect();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until one more request hangs than did `before`.
pub(super) fn wait_for_hanging(before: u64) -> Result<()> {
    let end = Instant::now() + DEADLINE;
    while hanging() == before {
        ensure!(Instant::now() < end, "the request never came to its handler");
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Requests that hang.
pub(super) fn hanging() -> u64 {
    app::HANGING.load(std::sync::atomic::Ordering::SeqCst)
}

/// Panics of the application need not be read by people.
fn quiet_on_purpose() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info.payload_as_str() != Some(app::PANIC) {
                previous(info);
            }
        }));
    });
}
