//! `embedded-clickhouse`: a real ClickHouse server on loopback, as one process.
//!
//! Prints one line of JSON when it is ready and runs until its standard input ends (when that is
//! a pipe) or a signal arrives. Everything else is in the library, `host`.

use std::process::ExitCode;

use embedded_clickhouse::env;
use embedded_clickhouse::host::{self, Request};
use embedded_clickhouse::{Options, Program, limits};
use lexopt::prelude::*;

const USAGE: &str = "\
a real ClickHouse server on loopback, for development and tests

usage: embedded-clickhouse [options]

  --data DIR          data folder (default: a temporary one, removed at the end)
  --http-port N       HTTP port (default: 0, any free one)
  --tcp-port N        native port, 0 for any free one (default: none)
  --ready-file FILE   receives the readiness line when the engine is ready
  --keep-alive        do not stop when standard input ends
  --memory BYTES      memory the engine may use (default: 4 GiB)
  --setting N=VALUE   a setting of the writer's profile
  --pin N=VALUE       the same, which its queries may not change
  --inserts N/SECS    how many inserts the writer may make in so many seconds
  --lib PATH          the engine's library (default: the one `cargo xtask engine` fetched)
  --clickhouse PATH   a `clickhouse` binary to run instead of the library
  --help              this text

users: `activity` writes and `activity_reader` reads; their passwords come from
EMBEDDED_CLICKHOUSE_WRITER_PASSWORD (default: activity) and
EMBEDDED_CLICKHOUSE_READER_PASSWORD (default: reader)";

fn main() -> ExitCode {
    // SAFETY: no thread has been started yet.
    unsafe { env::pin_timezone() };
    match parse() {
        Ok(Some(request)) => host::run(&request),
        Ok(None) => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("embedded-clickhouse: {error}; see --help");
            ExitCode::from(2)
        }
    }
}

fn pair(parser: &mut lexopt::Parser) -> Result<(String, String), lexopt::Error> {
    let text = parser.value()?.string()?;
    Ok(limits::pair(&text).ok_or("expected NAME=VALUE of letters, digits and underscores")?)
}

fn parse() -> Result<Option<Request>, lexopt::Error> {
    let defaults = Options::default();
    let mut request = Request {
        data: None,
        http_port: 0,
        tcp_port: None,
        ready_file: None,
        keep_alive: false,
        program: Program::Cached,
        memory_bytes: defaults.memory_bytes,
        limits: defaults.limits,
        writer_password: env::text(env::WRITER_PASSWORD).unwrap_or(defaults.writer_password),
        reader_password: env::text(env::READER_PASSWORD).unwrap_or(defaults.reader_password),
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("data") => request.data = Some(parser.value()?.into()),
            Long("http-port") => request.http_port = parser.value()?.parse()?,
            Long("tcp-port") => request.tcp_port = Some(parser.value()?.parse()?),
            Long("ready-file") => request.ready_file = Some(parser.value()?.into()),
            Long("keep-alive") => request.keep_alive = true,
            Long("memory") => request.memory_bytes = parser.value()?.parse()?,
            Long("setting") => request.limits.settings.push(pair(&mut parser)?),
            Long("pin") => request.limits.pinned.push(pair(&mut parser)?),
            Long("inserts") => {
                let text = parser.value()?.string()?;
                let rate = limits::rate(&text);
                request.limits.inserts = Some(rate.ok_or("expected --inserts N/SECONDS")?);
            }
            Long("lib") => request.program = Program::Library(parser.value()?.into()),
            Long("clickhouse") => request.program = Program::Clickhouse(parser.value()?.into()),
            Short('h') | Long("help") => return Ok(None),
            _ => return Err(argument.unexpected()),
        }
    }
    Ok(Some(request))
}
