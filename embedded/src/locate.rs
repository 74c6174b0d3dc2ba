//! Finds the `embedded-clickhouse` binary, or has cargo build it.
//!
//! Order: `EMBEDDED_CLICKHOUSE_BIN`; under cargo, what cargo builds, so that it is never stale (a
//! fresh build costs cargo about 0.1 s); the file beside the running program, or one folder up
//! from `deps` and `examples`; what cargo builds.
//!
//! Cargo builds into the target folder and profile of the running program, and its messages name
//! the result, so no layout is guessed. The answer is kept for the life of the process.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::PoisonError;

use serde_json::Value;

use crate::env;
use crate::error::Error;

const NAME: &str = "embedded-clickhouse";

/// The binary's path.
///
/// # Errors
///
/// When it is nowhere and cargo cannot build it.
pub fn binary() -> Result<PathBuf, Error> {
    static FOUND: Mutex<Option<PathBuf>> = Mutex::new(None);
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = &*found {
        return Ok(path.clone());
    }
    let path = search()?;
    *found = Some(path.clone());
    Ok(path)
}

fn search() -> Result<PathBuf, Error> {
    if let Some(path) = env::path(env::BINARY) {
        return if path.is_file() {
            Ok(path)
        } else {
            Err(Error::Variable {
                name: env::BINARY,
                value: path.display().to_string(),
                expected: "the path of the embedded-clickhouse binary",
            })
        };
    }
    let place = std::env::current_exe().ok().and_then(|exe| Place::of(&exe));
    if let Some(cargo) = env::cargo() {
        return build(&cargo, place.as_ref());
    }
    if let Some(place) = &place {
        let beside = place.folder.join(NAME);
        if beside.is_file() {
            return Ok(beside);
        }
    }
    build(Path::new("cargo"), place.as_ref())
}

/// Where the running program lies.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    /// The folder of the profile, where cargo leaves binaries.
    folder: PathBuf,
    /// How to make cargo build there; empty outside a target folder.
    options: Vec<OsString>,
}

impl Place {
    fn of(exe: &Path) -> Option<Self> {
        let mut folder = exe.parent()?;
        if matches!(folder.file_name()?.to_str(), Some("deps" | "examples")) {
            folder = folder.parent()?;
        }
        Some(Self {
            folder: folder.to_path_buf(),
            options: Self::options(folder).unwrap_or_default(),
        })
    }

    /// `target/[triple/]profile`, read backwards; the target folder is the one cargo has marked.
    fn options(folder: &Path) -> Option<Vec<OsString>> {
        let is_target = |path: &Path| path.join("CACHEDIR.TAG").is_file();
        let profile = match folder.file_name()?.to_str()? {
            "debug" => "dev",
            other => other,
        };
        let parent = folder.parent()?;
        let mut options: Vec<OsString> = vec!["--profile".into(), profile.into()];
        let target = if is_target(parent) {
            parent
        } else {
            options.extend(["--target".into(), parent.file_name()?.to_owned()]);
            parent.parent().filter(|path| is_target(path))?
        };
        options.extend(["--target-dir".into(), target.as_os_str().to_owned()]);
        Some(options)
    }
}

fn build(cargo: &Path, place: Option<&Place>) -> Result<PathBuf, Error> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let failed = |reason: String| Error::Binary { reason };
    // One build at a time: cargo would wait as well, but say so on the terminal.
    let lock = std::env::temp_dir().join(format!("{NAME}-build.lock"));
    let lock = File::create(lock).and_then(|file| file.lock().map(|()| file));
    let output = Command::new(cargo)
        .args(["build", "--quiet", "--package", NAME, "--bin", NAME])
        .args(["--message-format", "json-render-diagnostics"])
        .arg("--manifest-path")
        .arg(&manifest)
        .args(place.map(|place| place.options.as_slice()).unwrap_or_default())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(format!("running cargo: {error}")))?;
    drop(lock);
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    executable(&String::from_utf8_lossy(&output.stdout))
        .ok_or_else(|| failed("cargo built it and did not say where".to_owned()))
}

/// The executable in cargo's messages.
fn executable(messages: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == NAME)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_is_asked_to_build_where_the_program_lies() {
        let target = std::env::temp_dir().join(format!("embedded-locate-{}", std::process::id()));
        std::fs::create_dir_all(&target).unwrap();
        std::fs::write(target.join("CACHEDIR.TAG"), "").unwrap();
        let text = |exe: &str| {
            let place = Place::of(&target.join(exe)).unwrap();
            let options = place.options.iter().map(|option| option.to_string_lossy());
            options.collect::<Vec<_>>().join(" ")
        };
        let end = format!("--target-dir {}", target.display());
        assert_eq!(text("debug/deps/it-1"), format!("--profile dev {end}"));
        assert_eq!(text("release/xtask"), format!("--profile release {end}"));
        assert_eq!(
            text("x86_64-unknown-linux-gnu/bench/examples/demo"),
            format!("--profile bench --target x86_64-unknown-linux-gnu {end}")
        );
        std::fs::remove_dir_all(&target).unwrap();
    }

    #[test]
    fn a_program_outside_a_target_folder_names_no_place_to_build() {
        let place = Place::of(Path::new("/opt/bin/demo")).unwrap();
        assert_eq!(place.folder, Path::new("/opt/bin"));
        assert!(place.options.is_empty());
    }

    #[test]
    fn the_executable_is_read_from_the_messages() {
        let messages = "{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"embedded_clickhouse\"},\"executable\":null}\n\
                        {\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"embedded-clickhouse\"},\"executable\":\"/t/e\"}\n\
                        {\"reason\":\"build-finished\",\"success\":true}";
        assert_eq!(executable(messages), Some(PathBuf::from("/t/e")));
    }
}
