//! The same application under every framework: which columns of its rows are right, and what the
//! rows cost. `cargo xtask frameworks` and `cargo xtask overhead` run it.
//!
//! It is a crate of its own, so that nobody who builds the library builds nine frameworks.

#[cfg(feature = "matrix")]
mod app;
mod marks;
#[cfg(feature = "matrix")]
mod matrix;
mod overhead;
#[cfg(feature = "matrix")]
mod setups;

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The same application under every framework
#[derive(Debug, Parser)]
#[command(name = "frameworks")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    #[cfg(feature = "matrix")]
    Matrix(matrix::Args),
    Overhead(overhead::Args),
    /// Serve by one set-up, drive it, and print what was seen
    #[cfg(feature = "matrix")]
    #[command(hide = true)]
    Observe {
        setup: String,
    },
    /// Serve hello-world, watched by a peer
    #[command(hide = true)]
    Serve {
        #[arg(value_enum)]
        peer: overhead::Peer,
        #[arg(long)]
        collector: Option<String>,
    },
    /// Take spans and drop them
    #[command(hide = true)]
    Collect,
    /// Ask a service for hello-world
    #[command(hide = true)]
    Load {
        address: SocketAddr,
        connections: usize,
        seconds: f64,
        rate: Option<f64>,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        #[cfg(feature = "matrix")]
        Task::Matrix(args) => matrix::run(&args),
        #[cfg(feature = "matrix")]
        Task::Observe { setup } => matrix::observe(&setup),
        Task::Overhead(args) => overhead::run(&args),
        Task::Serve { peer, collector } => overhead::serve(peer, collector.as_deref()),
        Task::Collect => overhead::collect(),
        Task::Load { address, connections, seconds, rate } => {
            overhead::load(address, connections, seconds, rate)
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
