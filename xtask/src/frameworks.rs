//! `cargo xtask frameworks` and `cargo xtask overhead`: the crate `frameworks`, which only they and
//! its own tests build.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// Runs the application under every framework and checks what is recorded.
#[derive(Debug, clap::Args)]
pub(crate) struct MatrixArgs {
    /// Write the figures to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Change nothing, and fail when docs/frameworks.md differs from the run
    #[arg(long)]
    check: bool,
}

pub(crate) fn matrix(args: &MatrixArgs) -> Result<()> {
    let mut command = program(&[], "matrix")?;
    with_json(&mut command, args.json.as_deref())?;
    if args.check {
        command.arg("--check");
    }
    run(command)
}

/// Measures what capture costs an axum hello-world under load, beside its peers.
#[derive(Debug, clap::Args)]
pub(crate) struct OverheadArgs {
    /// Write the figures to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the table into docs/frameworks.md
    #[arg(long)]
    docs: bool,
    /// Rounds, in each of which every peer has its turn of two seconds
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
}

pub(crate) fn overhead(args: &OverheadArgs) -> Result<()> {
    let mut command = program(&["--release", "--no-default-features"], "overhead")?;
    with_json(&mut command, args.json.as_deref())?;
    command.args(["--rounds", &args.rounds.to_string()]);
    if args.docs {
        command.arg("--docs");
    }
    run(command)
}

/// The program's task `task`, built by cargo with these options.
fn program(options: &[&str], task: &str) -> Result<Command> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no workspace")?;
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(workspace).args(["run", "--quiet", "--package", "frameworks"]);
    command.args(options).args(["--", task]);
    Ok(command)
}

fn with_json(command: &mut Command, json: Option<&Path>) -> Result<()> {
    if let Some(path) = json {
        let path = std::path::absolute(path).context("the current folder is not known")?;
        command.arg("--json").arg(path);
    }
    Ok(())
}

/// Runs it to its end. It has said itself what went wrong.
fn run(mut command: Command) -> Result<()> {
    let status = command.status().context("cargo cannot be run")?;
    if !status.success() {
        bail!("the run of the frameworks failed");
    }
    Ok(())
}
