//! Tasks of this workspace: `cargo xtask <task>`.

mod bench;
mod builds;
mod collector;
mod compat;
mod customers;
mod demo;
mod engine;
mod env;
mod faults;
mod frameworks;
mod otlp_proof;
mod schema;
mod schema_bench;
mod shapes;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tasks of the tracing-activity workspace
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Start a ClickHouse, a shop and its customers, and show what landed
    Demo(demo::Args),
    /// Measure what capture costs, beside its peers
    Bench(bench::Args),
    /// Fetch the engine that tests and demo use, unless it is there
    Engine,
    /// Build the OpenTelemetry Collector, validate, run and check its configurations
    Collector(collector::Args),
    /// Send the demo's customers to a shop that runs already
    Customers(customers::Args),
    /// Try the tables, inserts and questions on several versions of ClickHouse
    Compat(compat::Args),
    /// Print the SQL that makes the tables, for those who run it themselves
    Schema(schema::Args),
    /// Count the code paths that the shop's requests take, and those that a deploy adds
    Shapes(shapes::Args),
    /// Build a program twice, differently, and compare the hashes of its code paths
    Builds,
    /// Measure the tables beside those of the OpenTelemetry Collector's exporter
    SchemaBench(schema_bench::Args),
    /// Run one application under nine set-ups of frameworks, and check and document their rows
    Frameworks(frameworks::MatrixArgs),
    /// Measure what capture costs an axum hello-world under load from another process
    Overhead(frameworks::OverheadArgs),
    /// Compare rows and OpenTelemetry's spans of the same requests
    OtlpProof(otlp_proof::Args),
    /// Deliver past everything that goes wrong on the way, and count what arrives
    Faults(faults::Args),
    /// Write the table of environment variables into README.md
    Env(env::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Demo(args) => demo::run(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Engine => engine::run(),
        Task::Collector(args) => collector::run(&args),
        Task::Compat(args) => compat::run(&args),
        Task::Customers(args) => customers::run(&args),
        Task::Schema(args) => schema::run(&args),
        Task::Shapes(args) => shapes::run(&args),
        Task::Builds => builds::run(),
        Task::SchemaBench(args) => schema_bench::run(&args),
        Task::Frameworks(args) => frameworks::matrix(&args),
        Task::Overhead(args) => frameworks::overhead(&args),
        Task::OtlpProof(args) => otlp_proof::run(&args),
        Task::Faults(args) => faults::run(&args),
        Task::Env(args) => env::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", with_causes(&error));
            ExitCode::FAILURE
        }
    }
}

/// The message of `error` and of its causes, but for those that a message repeats already.
fn with_causes(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}
