//! A version of ClickHouse as a library, in a process of its own that listens for it.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use embedded_clickhouse::Server;
use serde::Deserialize;

const BRIDGE: &str = include_str!("bridge.py");
/// What the bridge needs beside the library: compression as ClickHouse has it, and the library's own
/// need of a reader of columns.
const BESIDE: [&str; 3] = ["lz4==4.4.5", "clickhouse-cityhash==1.0.2.6", "pyarrow"];
/// How long a library may take until it answers.
const START_PATIENCE: Duration = Duration::from_mins(2);
/// How long it may run: it may hang in the midst of a question.
const LIFETIME: Duration = Duration::from_mins(5);

/// A running library; it ends when this is dropped, and when this process ends in any way.
pub(super) struct Library {
    pub(super) version: String,
    port: u16,
    child: Child,
    _stdin: ChildStdin,
    data: PathBuf,
}

#[derive(Deserialize)]
struct Ready {
    version: String,
    port: u16,
}

impl Library {
    /// Installs `package` unless it is there, and starts it with no data.
    ///
    /// # Errors
    /// When there is no Python, when the package cannot be had, or when it does not start.
    pub(super) fn start(package: &str) -> Result<Self> {
        let folder = install(package)?;
        let data = folder.join("data");
        remove(&data)?;
        fs::create_dir_all(&data).with_context(|| format!("making {}", data.display()))?;
        let bridge = folder.join("bridge.py");
        fs::write(&bridge, BRIDGE).with_context(|| format!("writing {}", bridge.display()))?;
        let mut child = Command::new(python(&folder))
            .arg(&bridge)
            .arg(&data)
            .arg(LIFETIME.as_secs().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("the library's process cannot be started")?;
        let stdin = child.stdin.take().context("a pipe")?;
        let stdout = child.stdout.take().context("a pipe")?;
        let mut library = Self { version: String::new(), port: 0, child, _stdin: stdin, data };
        let (sender, receiver) = channel();
        // The library writes lines of its own.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Ok(ready) = serde_json::from_str::<Ready>(&line) {
                    let _ = sender.send(ready);
                }
            }
        });
        let Ok(ready) = receiver.recv_timeout(START_PATIENCE) else {
            bail!("the library did not start within {} s", START_PATIENCE.as_secs());
        };
        (library.version, library.port) = (ready.version, ready.port);
        Ok(library)
    }

    /// Where it listens. It knows no users.
    pub(super) fn server(&self) -> Server {
        Server {
            url: format!("http://127.0.0.1:{}", self.port),
            user: "default".to_owned(),
            password: String::new(),
            reader: "default".to_owned(),
            reader_password: String::new(),
            engine: None,
        }
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = remove(&self.data);
    }
}

/// Makes a folder with the package below the target folder; answers with it.
fn install(package: &str) -> Result<PathBuf> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/compat");
    let folder = target.join(package.replace("==", "-"));
    let (note, content) = (folder.join("installed"), format!("{package} {}\n", BESIDE.join(" ")));
    if fs::read_to_string(&note).is_ok_and(|it| it == content) {
        return Ok(folder);
    }
    fs::create_dir_all(&target).with_context(|| format!("making {}", target.display()))?;
    let venv = Command::new("python3").args(["-m", "venv"]).arg(&folder).output();
    let venv = venv.context("python3 cannot be run: install it")?;
    let words = String::from_utf8_lossy(&venv.stderr);
    ensure!(venv.status.success(), "python3 -m venv fails: {}", words.trim());
    // Its progress is shown, and stands apart from the rows.
    let pip = Command::new(python(&folder))
        .args(["-m", "pip", "install", "--disable-pip-version-check", package])
        .args(BESIDE)
        .stdout(std::io::stderr())
        .status()
        .context("pip cannot be run")?;
    ensure!(pip.success(), "pip cannot install {package}");
    fs::write(&note, content).with_context(|| format!("writing {}", note.display()))?;
    Ok(folder)
}

fn python(folder: &Path) -> PathBuf {
    folder.join("bin").join("python")
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", folder.display()))
        }
        _ => Ok(()),
    }
}
