//! The matrix: every set-up, every behaviour, and whether the row tells the truth.
//!
//! Each set-up runs in a process of its own, with the layer under the global subscriber as an
//! application has it. There a client drives the behaviours over real sockets (`http`, `grpc`, `web`), and
//! what it saw and what was recorded is printed (`observe`). `judge` compares the two, `docs` writes
//! the tables of `docs/frameworks.md`.

mod docs;
mod grpc;
mod http;
mod judge;
mod observe;
mod web;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;

use crate::marks::between;
use crate::setups::{ALL, Setup};
use judge::{Cell, Mark};
use observe::Observed;

pub(crate) use observe::run as observe;

/// What a client does to the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    Fine,
    NotFound,
    Broken,
    Panic,
    Slow,
    Leaves,
    LeavesMidway,
    Nested,
    Spawned,
}

impl Behaviour {
    pub(crate) const ALL: [Self; 9] = [
        Self::Fine,
        Self::NotFound,
        Self::Broken,
        Self::Panic,
        Self::Slow,
        Self::Leaves,
        Self::LeavesMidway,
        Self::Nested,
        Self::Spawned,
    ];

    /// Its name in the table.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Fine => "200",
            Self::NotFound => "404",
            Self::Broken => "500",
            Self::Panic => "panic",
            Self::Slow => "slow stream",
            Self::Leaves => "client leaves",
            Self::LeavesMidway => "client leaves midway",
            Self::Nested => "nested spans",
            Self::Spawned => "spawned child",
        }
    }

    /// The path that is asked for, and the route that serves it.
    pub(crate) const fn target(self) -> (&'static str, &'static str) {
        match self {
            Self::Fine => ("/users/7", "/users/{id}"),
            Self::NotFound => ("/users/404", "/users/{id}"),
            Self::Broken => ("/broken", "/broken"),
            Self::Panic => ("/panic", "/panic"),
            Self::Slow | Self::LeavesMidway => ("/slow", "/slow"),
            Self::Leaves => ("/hang", "/hang"),
            Self::Nested => ("/nested", "/nested"),
            Self::Spawned => ("/spawned", "/spawned"),
        }
    }

    /// The method that is called, and what is given to it.
    pub(crate) const fn call(self) -> (&'static str, &'static str) {
        match self {
            Self::Fine => ("User", "7"),
            Self::NotFound => ("User", "404"),
            Self::Broken => ("Broken", ""),
            Self::Panic => ("Panic", ""),
            Self::Slow | Self::LeavesMidway => ("Slow", ""),
            Self::Leaves => ("Hang", ""),
            Self::Nested => ("Nested", ""),
            Self::Spawned => ("Spawned", ""),
        }
    }
}

/// What is judged of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Column {
    Method,
    Route,
    Url,
    Status,
    Outcome,
    Duration,
    Start,
    Tree,
}

impl Column {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Route => "route",
            Self::Url => "url",
            Self::Status => "status",
            Self::Outcome => "outcome",
            Self::Duration => "duration",
            Self::Start => "start",
            Self::Tree => "tree",
        }
    }
}

/// Runs the application under every framework, and checks what is recorded
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write the figures to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Change nothing, and fail when docs/frameworks.md differs from the run
    #[arg(long)]
    check: bool,
    /// Only this set-up, and no docs; may be given several times
    #[arg(long, value_name = "SET-UP")]
    only: Vec<String>,
}

/// The cells of a set-up, in the order of the behaviours.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) setup: &'static Setup,
    pub(crate) cells: Vec<Cell>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let only = args.only.iter().map(|key| Setup::named(key)).collect::<Result<Vec<_>>>()?;
    let wanted = ALL.iter().filter(|it| only.is_empty() || only.iter().any(|o| o.key == it.key));
    let mut rows = Vec::new();
    for setup in wanted {
        let cells = observed(setup)?.iter().map(|seen| judge::judge(setup, seen)).collect();
        let row = Row { setup, cells };
        println!("{}", docs::line(&row));
        rows.push(row);
    }
    let count = |counts: bool, mark: Option<Mark>| {
        let rows = rows.iter().filter(|row| row.setup.counts == counts);
        let cells = rows.flat_map(|row| &row.cells);
        cells.filter(|cell| mark.is_none_or(|mark| cell.mark() == mark)).count()
    };
    let columns = |counts: bool, mark: Option<Mark>| {
        let rows = rows.iter().filter(|row| row.setup.counts == counts);
        let columns = rows.flat_map(|row| row.cells.iter().flat_map(|cell| cell.columns.values()));
        columns.filter(|it| mark.is_none_or(|mark| **it == mark)).count()
    };
    let figures = |counts| {
        json!({
            "columns": {
                "checked": columns(counts, None),
                "right": columns(counts, Some(Mark::Right)),
                "impossible": columns(counts, Some(Mark::Impossible)),
            },
            "cells": count(counts, None),
            "right": count(counts, Some(Mark::Right)),
            "impossible": count(counts, Some(Mark::Impossible)),
            "wrong": count(counts, Some(Mark::Wrong)),
        })
    };
    let mut figures_of_all = figures(true);
    figures_of_all["further"] = figures(false);
    println!("\n{figures_of_all}");
    if let Some(path) = &args.json {
        std::fs::write(path, format!("{figures_of_all}\n"))
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    let mut wrong = 0;
    for (row, cell) in rows.iter().flat_map(|row| row.cells.iter().map(move |cell| (row, cell))) {
        for problem in &cell.problems {
            eprintln!("{}, {}: {problem}", row.setup.key, cell.behaviour.name());
            wrong += 1;
        }
    }
    ensure!(wrong == 0, "{wrong} columns are not as expected");
    if !only.is_empty() {
        return Ok(());
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/frameworks.md");
    write(&path, &docs::tables(&rows)?, args.check)
}

/// What happened under a set-up, seen in a process of its own.
fn observed(setup: &Setup) -> Result<Vec<Observed>> {
    let program = std::env::current_exe().context("this program cannot be found")?;
    let mut command = Command::new(program);
    command.args(["observe", setup.key]).stderr(Stdio::inherit());
    let output = command.output().with_context(|| format!("{} cannot be run", setup.key))?;
    ensure!(output.status.success(), "{} ended by {}", setup.key, output.status);
    let text = String::from_utf8(output.stdout).context("it printed no text")?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// Writes the tables into the document, or compares them with what is there.
fn write(path: &Path, tables: &str, check: bool) -> Result<()> {
    let before = std::fs::read_to_string(path).context("docs/frameworks.md cannot be read")?;
    let after = between(&before, docs::BEGIN, docs::END, tables)?;
    if before == after {
        println!("docs/frameworks.md holds what was seen");
    } else if check {
        bail!("docs/frameworks.md is out of date: run `cargo xtask frameworks`");
    } else {
        std::fs::write(path, after).context("docs/frameworks.md cannot be written")?;
        println!("wrote docs/frameworks.md");
    }
    Ok(())
}
