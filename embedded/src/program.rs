//! The engine as something that runs: the library in this process, or a `clickhouse` binary.
//!
//! Both are `clickhouse local` with one command line, [`arguments`]. Its queries open the
//! listeners, write one line into a pipe when they are open, and then read from a second pipe for
//! ever: closing that pipe's write end is how the engine is stopped, cleanly and without a signal.

use std::ffi::{CString, OsStr, OsString};
use std::io::{PipeReader, PipeWriter};
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use rustix::io::FdFlags;

use crate::confine;
use crate::error::{Context as _, Error};
use crate::library;

/// Which program is the engine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Program {
    /// The library in the cache folder, as `cargo xtask engine` leaves it there.
    #[default]
    Cached,
    /// This `libchdb.so`.
    Library(PathBuf),
    /// This `clickhouse` binary, run as `clickhouse local`. Best effort: it must be recent enough
    /// to open its listeners in that mode (26.5 or newer), and it runs unconfined.
    Clickhouse(PathBuf),
}

/// Stack of the engine's first thread; a process's own is as large.
const STACK_BYTES: usize = 16 << 20;

/// What the command line says.
pub(crate) struct CommandLine<'a> {
    pub(crate) data: &'a Path,
    pub(crate) config: &'a Path,
    pub(crate) http_port: u16,
    pub(crate) tcp_port: Option<u16>,
}

/// Pipes between the engine and its keeper: the engine writes one line into `ready` and reads
/// `hold` until it ends.
pub(crate) struct Pipes {
    pub(crate) ready: PipeWriter,
    pub(crate) hold: PipeReader,
}

/// Arguments of `clickhouse local`, from the program's name on.
fn arguments(line: &CommandLine<'_>, pipes: &Pipes) -> Vec<OsString> {
    let (mut listen, mut ports) = ("SYSTEM START LISTEN HTTP;".to_owned(), "0");
    if line.tcp_port.is_some() {
        listen.push_str(" SYSTEM START LISTEN TCP;");
        ports = "getServerPort('tcp_port')";
    }
    let query = format!(
        "{listen} SELECT getServerPort('http_port'), {ports}, version() \
         INTO OUTFILE '/dev/fd/{}' TRUNCATE FORMAT TSV; \
         INSERT INTO FUNCTION null('line String') \
         FROM INFILE '/dev/fd/{}' COMPRESSION 'none' FORMAT LineAsString",
        pipes.ready.as_raw_fd(),
        pipes.hold.as_raw_fd(),
    );
    let mut arguments: Vec<OsString> = vec!["clickhouse".into()];
    let mut option = |name: &str, value: &OsStr| {
        arguments.push(name.into());
        arguments.push(value.into());
    };
    option("--path", line.data.as_os_str());
    option("--config-file", line.config.as_os_str());
    option("--log-level", OsStr::new("warning"));
    option("--listen_host", OsStr::new("127.0.0.1"));
    option("--http_port", OsStr::new(&line.http_port.to_string()));
    if let Some(port) = line.tcp_port {
        option("--tcp_port", OsStr::new(&port.to_string()));
    }
    option("--query", OsStr::new(&query));
    arguments
}

/// Runs the library on a thread of its own; `ended` gets what it calls an error, if anything.
pub(crate) fn run_library(
    path: PathBuf,
    line: &CommandLine<'_>,
    pipes: Pipes,
    ended: impl FnOnce(Result<(), Error>) + Send + 'static,
) -> Result<(), Error> {
    let arguments: Vec<CString> = arguments(line, &pipes)
        .into_iter()
        .map(|argument| CString::new(argument.into_vec()))
        .collect::<Result<_, _>>()
        .map_err(|_| Error::Start { reason: "a path holds a zero byte".to_owned() })?;
    let data = line.data.to_path_buf();
    let body = move || {
        let outcome = library::Engine::load(&path).and_then(|engine| {
            match confine::to_folder(&data, &path) {
                Ok(true) => {}
                Ok(false) => eprintln!(
                    "embedded-clickhouse: this kernel has no Landlock: users of the engine can read your files"
                ),
                Err(error) => {
                    return Err(Error::Start {
                        reason: format!("it cannot be confined to its folder: {error}"),
                    });
                }
            }
            match engine.run(arguments) {
                Some(reason) => Err(Error::Start { reason }),
                None => Ok(()),
            }
        });
        // The engine opened the pipes by number: they stay open for as long as it runs.
        drop(pipes);
        ended(outcome);
    };
    thread::Builder::new()
        .name("engine".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(body)
        .context(|| "starting the engine's thread".to_owned())?;
    Ok(())
}

/// Runs a `clickhouse` binary as a child; `ended` gets how it ended.
pub(crate) fn run_clickhouse(
    path: &Path,
    line: &CommandLine<'_>,
    pipes: Pipes,
    ended: impl FnOnce(Result<(), Error>) + Send + 'static,
) -> Result<(), Error> {
    inherit(&pipes.ready)?;
    inherit(&pipes.hold)?;
    let mut child = Command::new(path)
        .arg("local")
        .args(arguments(line, &pipes).into_iter().skip(1))
        .env_remove(crate::env::WRITER_PASSWORD)
        .env_remove(crate::env::READER_PASSWORD)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context(|| format!("running {}", path.display()))?;
    drop(pipes);
    let body = move || {
        let outcome = match child.wait() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => {
                Err(Error::Start { reason: format!("`clickhouse local` ended with {status}") })
            }
            Err(source) => Err(source).context(|| "waiting for `clickhouse local`".to_owned()),
        };
        ended(outcome);
    };
    thread::Builder::new()
        .name("engine".to_owned())
        .spawn(body)
        .context(|| "starting the thread that waits for the engine".to_owned())?;
    Ok(())
}

/// Lets a child inherit `fd`.
fn inherit(fd: impl AsFd) -> Result<(), Error> {
    rustix::io::fcntl_setfd(fd, FdFlags::empty()).context(|| "passing a pipe on".to_owned())
}
