//! The same application under every framework: which columns of its rows are right, and what the
//! rows cost. `cargo xtask frameworks` and `cargo xtask overhead` run it.
//!
//! It is a crate of its own, so that nobody who builds the library builds nine frameworks.

mod app;
mod matrix;
mod setups;

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
    Matrix(matrix::Args),
    /// Serve by one set-up, drive it, and print what was seen
    #[command(hide = true)]
    Observe {
        setup: String,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Matrix(args) => matrix::run(&args),
        Task::Observe { setup } => matrix::observe(&setup),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
