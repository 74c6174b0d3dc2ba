//! Gets the Collector: built by Go from `collector-config/builder.yaml`, once a machine.
//!
//! The Collector's own builder writes a small Go program out of the manifest; Go compiles it. Where
//! modules lie is Go's business: mirrors and proxies configured for it count here as well. The
//! result lies in the user's cache folder, `tracing-activity/collector/VERSION/otelcol`, or in the
//! folder that `EMBEDDED_COLLECTOR_DIR` names. `EMBEDDED_COLLECTOR_BIN` names a ready program.
//!
//! Invariants: a program there belongs to the manifest beside it; it appears by a rename, so if it
//! exists it is whole; one process builds, others wait for it.

use std::collections::VecDeque;
use std::fs::{self, File, TryLockError};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use embedded_clickhouse::env;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What the Collector is made of.
pub(super) const MANIFEST: &str = include_str!("../../../collector-config/builder.yaml");

/// Path of a Collector to use instead of building one.
const BINARY: &str = "EMBEDDED_COLLECTOR_BIN";
/// Folder that holds the Collector, instead of the user's cache folder.
const FOLDER: &str = "EMBEDDED_COLLECTOR_DIR";

/// Where Go puts itself when it is installed as its site says.
const USUAL_GO: &str = "/usr/local/go/bin/go";
const BUILDER: &str = "go.opentelemetry.io/collector/cmd/builder";
/// Where the manifest lies beside the program that was built from it.
const NOTE: &str = "builder.yaml";

/// The Collector's path; it is built when it is not there.
///
/// # Errors
/// When there is no Go, or it cannot fetch or compile; each names its remedy.
pub(crate) fn ensure() -> Result<PathBuf> {
    if let Some(path) = env::path(BINARY) {
        ensure!(
            path.is_file(),
            "{BINARY} is `{}`, expected the path of a Collector",
            path.display()
        );
        return Ok(path);
    }
    let folder = folder()?;
    let binary = folder.join("otelcol");
    if is_current(&folder) {
        return Ok(binary);
    }
    let go = go(env::on_path("go"), Path::new(USUAL_GO))?;
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let _lock = lock(&folder)?;
    if is_current(&folder) {
        return Ok(binary);
    }
    let began = Instant::now();
    eprintln!(
        "building the OpenTelemetry Collector {} for {}: minutes, once a machine",
        version()?,
        folder.display()
    );
    let source = folder.join("source");
    generate(&go, &folder, &source)?;
    let partial = folder.join("otelcol.partial");
    compile(&go, &source, &partial)?;
    fs::rename(&partial, &binary).with_context(|| format!("making {}", binary.display()))?;
    fs::write(folder.join(NOTE), MANIFEST)?;
    fs::remove_dir_all(&source).ok();
    eprintln!("built the Collector in {:.0} s", began.elapsed().as_secs_f64());
    Ok(binary)
}

/// Whether the program in `folder` is there and made of the manifest of this build.
fn is_current(folder: &Path) -> bool {
    folder.join("otelcol").is_file()
        && fs::read_to_string(folder.join(NOTE)).is_ok_and(|note| note == MANIFEST)
}

/// The version of the Collector, which its manifest states.
pub(super) fn version() -> Result<&'static str> {
    let line = MANIFEST.lines().find_map(|line| line.strip_prefix("  version: "));
    line.map(str::trim).context("the manifest states no version")
}

fn folder() -> Result<PathBuf> {
    if let Some(folder) = env::path(FOLDER) {
        return Ok(folder);
    }
    let cache = env::cache_home().with_context(|| {
        format!("{FOLDER} must name a folder for the Collector, since HOME and XDG_CACHE_HOME are not set")
    })?;
    Ok(cache.join("tracing-activity/collector").join(version()?))
}

/// The `go` to build with: that of the `PATH`, or the `usual` one.
fn go(on_path: Option<PathBuf>, usual: &Path) -> Result<PathBuf> {
    let found = on_path.or_else(|| usual.is_file().then(|| usual.to_path_buf()));
    found.with_context(|| {
        format!(
            "the Collector is built by Go, which is neither on the PATH nor at {}: \
             install it (https://go.dev/doc/install, 1.25 or newer), \
             or name a ready Collector in {BINARY}",
            usual.display()
        )
    })
}

/// Waits until no other process builds into `folder`.
fn lock(folder: &Path) -> Result<File> {
    let path = folder.join("build.lock");
    let file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            eprintln!("another process is building the Collector; waiting for it");
            file.lock()?;
        }
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    Ok(file)
}

/// Lets the Collector's builder write the program into `source`, and fetches its modules.
fn generate(go: &Path, folder: &Path, source: &Path) -> Result<()> {
    if source.exists() {
        fs::remove_dir_all(source).with_context(|| format!("removing {}", source.display()))?;
    }
    fs::create_dir_all(source)?;
    let manifest = folder.join("manifest.yaml");
    let output = serde_json::to_string(source)?;
    fs::write(
        &manifest,
        MANIFEST.replacen("dist:", &format!("dist:\n  output_path: {output}"), 1),
    )?;
    let spinner = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    spinner.set_message("fetching the Collector's modules");
    spinner.enable_steady_tick(Duration::from_millis(200));
    let mut command = command(go, folder);
    let builder = format!("{BUILDER}@v{}", version()?);
    // Compiled apart, where it can be counted.
    // The builder leaves a folder of its own behind in any case.
    let leavings = source.join("tmp");
    fs::create_dir_all(&leavings)?;
    command.env("TMPDIR", &leavings);
    command.args(["run", &builder, "--skip-compilation", "--config"]).arg(&manifest);
    let done = watch(command, |line| {
        if let Some((_, module)) = line.rsplit_once("downloading ") {
            spinner.set_message(format!("fetching {module}"));
        }
    });
    spinner.finish_and_clear();
    fs::remove_file(&manifest).ok();
    done.context("the Collector's modules cannot be fetched")
}

/// Compiles the program, counting its packages.
fn compile(go: &Path, source: &Path, binary: &Path) -> Result<()> {
    let list = command(go, source).args(["list", "-deps", "."]).output()?;
    let packages = String::from_utf8_lossy(&list.stdout).lines().count() as u64;
    let bar = ProgressBar::with_draw_target(Some(packages), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template(
        "compiling [{bar:40}] {pos} of {len} packages, {elapsed} {msg}",
    ) {
        bar.set_style(style.progress_chars("#> "));
    }
    // Where nobody looks at a bar, a line now and then says that it goes on.
    let (mut compiled, mut said) = (0_u64, Instant::now());
    let hidden = bar.is_hidden();
    let mut command = command(go, source);
    command.args(["build", "-v", "-trimpath", "-ldflags=-s -w", "-o"]).arg(binary).arg(".");
    let done = watch(command, |_| {
        compiled += 1;
        bar.inc(1);
        if hidden && said.elapsed() > Duration::from_secs(15) {
            eprintln!("compiling the Collector: {compiled} of {packages} packages");
            said = Instant::now();
        }
    });
    bar.finish_and_clear();
    done.context("the Collector does not compile")
}

fn command(go: &Path, folder: &Path) -> Command {
    let mut command = Command::new(go);
    // Without C the program runs wherever its kernel does, and is what the Collector's images hold.
    command.current_dir(folder).env("CGO_ENABLED", "0").env("GOWORK", "off").stdin(Stdio::null());
    command
}

/// Runs `command` and hands each line of its standard error to `see`.
///
/// # Errors
/// With its last words, when it fails.
fn watch(mut command: Command, mut see: impl FnMut(&str)) -> Result<()> {
    const KEPT: usize = 12;
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let mut words = VecDeque::new();
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            see(&line);
            if words.len() == KEPT {
                words.pop_front();
            }
            words.push_back(line);
        }
    }
    let status = child.wait()?;
    std::io::stderr().flush().ok();
    if !status.success() {
        bail!("go ended with {status}:\n{}", Vec::from(words).join("\n"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_there_is_no_go_the_error_tells_how_to_get_it_and_how_to_do_without() {
        let error = go(None, Path::new("/nowhere/go")).unwrap_err().to_string();
        for part in ["/nowhere/go", "https://go.dev/doc/install", BINARY] {
            assert!(error.contains(part), "{part} in {error}");
        }
        let found = go(Some("/some/go".into()), Path::new("/nowhere/go")).unwrap();
        assert_eq!(found, Path::new("/some/go"));
    }

    #[test]
    fn every_module_of_the_manifest_is_of_its_version() {
        let version = version().unwrap();
        let modules = MANIFEST.lines().filter_map(|line| line.trim().strip_prefix("- gomod: "));
        let mut counted = 0;
        for module in modules.filter(|module| !module.contains("/confmap/")) {
            assert!(module.ends_with(&format!(" v{version}")), "{module}");
            counted += 1;
        }
        assert!(counted >= 7, "{MANIFEST}");
    }

    #[test]
    fn a_program_built_from_another_manifest_is_not_current() {
        let folder = super::super::settings::temporary_folder("current").unwrap();
        assert!(!is_current(&folder));
        fs::write(folder.join("otelcol"), "").unwrap();
        fs::write(folder.join(NOTE), MANIFEST).unwrap();
        assert!(is_current(&folder));
        fs::write(folder.join(NOTE), "dist:\n").unwrap();
        assert!(!is_current(&folder));
        fs::remove_dir_all(folder).unwrap();
    }
}
