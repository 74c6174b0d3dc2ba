//! `cargo xtask builds`: the same program, built twice from different folders, with different
//! features, profiles and line numbers, gives the same `trace_hash` for each of its code paths.
//!
//! Each build has a copy of the crate in a folder of its own, and a small program beside it that
//! captures a few requests. What both depend on is built once, into a folder of the target
//! directory.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// How a build differs from the other.
struct Build {
    folder: &'static str,
    /// Of the dependency on the crate.
    features: &'static str,
    /// Lines before the program, so that no callsite stands on the line it has in the other.
    lines: usize,
    arguments: &'static [&'static str],
}

const BUILDS: [Build; 2] = [
    Build {
        folder: "one",
        features: r#"default-features = false, features = ["testing"]"#,
        lines: 0,
        arguments: &[],
    },
    Build {
        folder: "another one/further down",
        features: r#"features = ["testing"]"#,
        lines: 100,
        arguments: &[
            "--config",
            "profile.dev.package.tracing-activity.opt-level=3",
            "--config",
            "profile.dev.package.probe.opt-level=3",
            "--config",
            "profile.dev.package.probe.codegen-units=1",
        ],
    },
];

/// The program: a handful of code paths, each printed as hash and text.
const PROGRAM: &str = include_str!("builds/program.rs");

/// Hashes that the program must have printed to count as having worked.
const PATHS: usize = 6;

pub(crate) fn run() -> Result<()> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no workspace")?;
    let folder = target(workspace).join("builds");
    let built =
        BUILDS.iter().map(|build| paths(build, workspace, &folder)).collect::<Result<Vec<_>>>()?;
    println!("{}", built[0]);
    let hashes = built[0].lines().filter(|line| !line.starts_with(' ') && !line.is_empty()).count();
    if hashes < PATHS {
        bail!("the program printed {hashes} paths, not {PATHS}");
    }
    if built[0] != built[1] {
        bail!("the other build hashes otherwise:\n{}", built[1]);
    }
    println!("{hashes} code paths hash alike in {} builds", built.len());
    Ok(())
}

/// Builds the program in a folder of its own, and gives what it prints.
fn paths(build: &Build, workspace: &Path, folder: &Path) -> Result<String> {
    let root = folder.join(build.folder);
    // What an earlier run left there may be of another commit.
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    copy(&workspace.join("src"), &root.join("src"))?;
    for file in ["README.md", "Cargo.lock"] {
        fs::copy(workspace.join(file), root.join(file)).with_context(|| file.to_owned())?;
    }
    let manifest = fs::read_to_string(workspace.join("Cargo.toml"))?;
    fs::write(root.join("Cargo.toml"), alone(&manifest)?)?;
    let probe = root.join("probe");
    fs::create_dir_all(probe.join("src"))?;
    fs::write(probe.join("Cargo.toml"), probe_manifest(build.features))?;
    let mut program = String::new();
    for line in 0..build.lines {
        writeln!(program, "// Line {line} moves the rest down.")?;
    }
    program.push_str(PROGRAM);
    fs::write(probe.join("src/main.rs"), program)?;

    let output = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--offline", "--package", "probe"])
        .args(build.arguments)
        .current_dir(&root)
        .env("CARGO_TARGET_DIR", folder.join("target"))
        // Neither is of use to a program that runs once.
        .envs([("CARGO_INCREMENTAL", "0"), ("CARGO_PROFILE_DEV_DEBUG", "false")])
        .output()
        .context("cargo cannot be run")?;
    if !output.status.success() {
        bail!("{}: {}", build.folder, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Where this workspace is built.
fn target(workspace: &Path) -> PathBuf {
    let own = std::env::current_exe().ok();
    let target = own.as_deref().and_then(Path::parent).and_then(Path::parent);
    target.map_or_else(|| workspace.join("target"), Path::to_owned)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

/// The manifest of the crate, in a workspace with nothing but the probe: without the other members
/// and what only tests need.
fn alone(manifest: &str) -> Result<String> {
    let mut text = String::new();
    let mut section = "";
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        }
        match line.split(' ').next() {
            _ if of_tests_only(section) => {}
            Some("members") => text.push_str("members = [\"probe\"]\n"),
            Some("default-members") => {}
            _ => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    if !text.contains("members = [\"probe\"]") {
        bail!("Cargo.toml has no line that begins with `members = `");
    }
    Ok(text)
}

/// Dependencies of tests, profiles, and examples and tests with a section of their own.
fn of_tests_only(section: &str) -> bool {
    section.contains("dev-dependencies")
        || section.starts_with("[profile")
        || section.starts_with("[[")
}

fn probe_manifest(features: &str) -> String {
    format!(
        r#"[package]
name = "probe"
version = "0.0.0"
edition = "2024"
publish = false

[dependencies]
tracing-activity = {{ path = "..", {features} }}
tracing = {{ version = "0.1", features = ["attributes"] }}
tokio = {{ version = "1", features = ["rt"] }}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_alone_names_the_probe_and_nothing_that_is_not_copied() {
        let manifest = include_str!("../../Cargo.toml");
        let alone = alone(manifest).unwrap();
        assert!(alone.contains("members = [\"probe\"]"), "{alone}");
        for absent in ["embedded", "xtask", "benches", "proptest", "[["] {
            let lines = alone.lines().filter(|line| !line.starts_with('#'));
            assert!(!lines.clone().any(|line| line.contains(absent)), "{absent} is in\n{alone}");
        }
        assert!(alone.contains("[dependencies]"), "{alone}");
    }
}
