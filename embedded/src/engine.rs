//! A started engine, as the process that started it sees it.
//!
//! [`Engine::start`] runs the `embedded-clickhouse` binary and returns when it is ready. The child
//! leads a process group, so that [`Engine::kill`] and [`Engine::freeze`] reach the engine however
//! it runs inside. Its standard input is a pipe whose other end is here: dropping the [`Engine`],
//! leaving the process or being killed all close it, and the engine stops.
//!
//! Invariants: signals go only to a child not yet waited for, so never to a stranger with its
//! number; a temporary data folder is gone after [`Engine::stop`] and after a drop.

use std::fmt;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::error::{Context as _, Error};
use crate::limits::Limits;
use crate::program::Program;
use crate::ready::Ready;
use crate::words::Words;
use crate::{WRITER, env, fetch, http, locate};

/// How long [`Engine::stop`] waits: parts may be waiting to be written.
const STOP_PATIENCE: Duration = Duration::from_secs(30);
/// How long a drop waits before it kills.
const DROP_PATIENCE: Duration = Duration::from_secs(5);
/// How often an ending child is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// How an engine is started. The default is a temporary folder, free ports and known passwords.
#[derive(Clone, PartialEq, Eq)]
pub struct Options {
    /// Data folder, made when absent and kept at the end; `None` is a temporary one.
    pub data: Option<PathBuf>,
    /// HTTP port; 0 takes a free one.
    pub http_port: u16,
    /// Native port; `Some(0)` takes a free one, `None` opens none.
    pub tcp_port: Option<u16>,
    /// Password of [`WRITER`]; default `activity`.
    pub writer_password: String,
    /// Password of [`READER`](crate::READER); default `reader`.
    pub reader_password: String,
    /// Memory the engine may use, in bytes; default 4 GiB. Beyond it queries fail, not the engine.
    pub memory_bytes: u64,
    /// What [`WRITER`] may not do; default nothing more than its rights.
    pub limits: Limits,
    /// The engine; default the library in the cache folder.
    pub program: Program,
    /// How long the engine may take until it is ready; default 60 s.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            data: None,
            http_port: 0,
            tcp_port: None,
            writer_password: "activity".to_owned(),
            reader_password: "reader".to_owned(),
            memory_bytes: 4 << 30,
            limits: Limits::default(),
            program: Program::Cached,
            patience: Duration::from_mins(1),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("data", &self.data)
            .field("http_port", &self.http_port)
            .field("tcp_port", &self.tcp_port)
            .field("memory_bytes", &self.memory_bytes)
            .field("limits", &self.limits)
            .field("program", &self.program)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

/// A running engine; it stops when this is dropped, and when this process ends in any way.
///
/// ```no_run
/// use embedded_clickhouse::{Engine, Options};
///
/// # fn main() -> Result<(), embedded_clickhouse::Error> {
/// let engine = Engine::start(Options::default())?;
/// assert_eq!(engine.query("SELECT 1 + 1")?, "2\n");
/// engine.stop()
/// # }
/// ```
pub struct Engine {
    child: Child,
    stdin: Option<ChildStdin>,
    words: Words,
    ready: Ready,
    temporary: bool,
    writer_password: String,
    ended: bool,
}

impl Engine {
    /// Starts an engine and waits until it answers.
    ///
    /// # Errors
    ///
    /// When there is no library or no binary, when another engine holds the data folder, and with
    /// the engine's own words when it does not start or takes longer than the patience.
    pub fn start(options: Options) -> Result<Self, Error> {
        let library = match &options.program {
            Program::Cached => fetch::library_path()?,
            Program::Library(path) | Program::Clickhouse(path) => path.clone(),
        };
        if options.program == Program::Cached && !library.is_file() {
            return Err(Error::LibraryMissing { path: library });
        }
        let mut child = command(&options, &locate::binary()?)
            .spawn()
            .context(|| "running the embedded-clickhouse binary".to_owned())?;
        let stdin = child.stdin.take();
        let words = Words::listen(child.stderr.take());
        let (sender, lines) = channel();
        if let Some(stdout) = child.stdout.take() {
            thread::spawn(move || {
                let mut line = String::new();
                let mut stdout = BufReader::new(stdout);
                stdout.read_line(&mut line).ok();
                sender.send(line).ok();
                // Later words are read too, or the engine would wait for room in the pipe.
                std::io::copy(&mut stdout, &mut std::io::sink()).ok();
            });
        }
        let failure = match lines.recv_timeout(options.patience) {
            Ok(line) if !line.is_empty() => match Ready::from_line(&line) {
                Some(ready) => {
                    return Ok(Self {
                        child,
                        stdin,
                        words,
                        ready,
                        temporary: options.data.is_none(),
                        writer_password: options.writer_password,
                        ended: false,
                    });
                }
                None => Error::Start { reason: format!("its first line is `{}`", line.trim_end()) },
            },
            Ok(_) | Err(RecvTimeoutError::Disconnected) => {
                let code = wait(&mut child, DROP_PATIENCE).and_then(|status| status.code());
                let data = options.data.unwrap_or_default();
                Error::from_exit_code(code, &library, &data, &words.last())
            }
            Err(RecvTimeoutError::Timeout) => {
                Error::Start { reason: format!("it was not ready after {:?}", options.patience) }
            }
        };
        end(&mut child);
        Err(failure)
    }

    /// `http://127.0.0.1:PORT`, without a user.
    #[must_use]
    pub fn http_url(&self) -> String {
        format!("http://{}", self.http_address())
    }

    /// The HTTP port.
    #[must_use]
    pub fn http_port(&self) -> u16 {
        self.ready.http_port
    }

    /// The native port, if one was asked for.
    #[must_use]
    pub fn tcp_port(&self) -> Option<u16> {
        self.ready.tcp_port
    }

    /// The process, leader of its group.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.ready.pid
    }

    /// The engine's version, such as `26.7.2.1`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.ready.version
    }

    /// The data folder.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.ready.data
    }

    /// The last of what the engine wrote to standard error.
    #[must_use]
    pub fn words(&self) -> String {
        self.words.text()
    }

    /// Runs one query as the writer; the body of the answer.
    ///
    /// # Errors
    ///
    /// When the connection fails, and with the engine's message when it refuses the query.
    pub fn query(&self, sql: &str) -> Result<String, Error> {
        ask(&self.http_address(), WRITER, &self.writer_password, sql)
    }

    /// Stops the engine and waits for its end. A frozen engine is thawed first.
    ///
    /// # Errors
    ///
    /// When it ends with an error or does not end within 30 s; then it is killed.
    pub fn stop(mut self) -> Result<(), Error> {
        self.stdin = None;
        self.thaw();
        let status = wait(&mut self.child, STOP_PATIENCE);
        let outcome = match status {
            Some(status) if status.success() => Ok(()),
            Some(status) => {
                Err(Error::Stop { reason: format!("{status}: {}", self.words.text().trim()) })
            }
            None => Err(Error::Stop {
                reason: format!("it was still running after {STOP_PATIENCE:?} and was killed"),
            }),
        };
        self.finish();
        outcome
    }

    /// Ends the engine by SIGKILL, as a crash would; the data folder stays, a temporary one too.
    pub fn kill(mut self) {
        self.temporary = false;
        end(&mut self.child);
        self.ended = true;
    }

    /// Halts the engine by SIGSTOP: connections stay open and nothing answers.
    pub fn freeze(&self) {
        signal(&self.child, Signal::STOP);
    }

    /// Lets a frozen engine go on.
    pub fn thaw(&self) {
        signal(&self.child, Signal::CONT);
    }

    fn http_address(&self) -> String {
        format!("127.0.0.1:{}", self.ready.http_port)
    }

    /// Makes sure the child is gone and waited for, and a temporary folder with it.
    fn finish(&mut self) {
        end(&mut self.child);
        self.ended = true;
        if self.temporary {
            fs::remove_dir_all(&self.ready.data).ok();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        self.stdin = None;
        self.thaw();
        wait(&mut self.child, DROP_PATIENCE);
        self.finish();
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("ready", &self.ready)
            .field("temporary", &self.temporary)
            .finish_non_exhaustive()
    }
}

/// Runs one query at `address`, an error when it is refused.
pub(crate) fn ask(address: &str, user: &str, password: &str, sql: &str) -> Result<String, Error> {
    let response =
        http::query(address, user, password, &[], sql).context(|| format!("querying {address}"))?;
    if response.status == 200 {
        return Ok(response.body);
    }
    Err(Error::Query { status: response.status, message: response.body.trim().to_owned() })
}

fn command(options: &Options, binary: &Path) -> Command {
    let mut command = Command::new(binary);
    if let Some(data) = &options.data {
        command.arg("--data").arg(data);
    }
    command.args(["--http-port", &options.http_port.to_string()]);
    if let Some(port) = options.tcp_port {
        command.args(["--tcp-port", &port.to_string()]);
    }
    command.args(["--memory", &options.memory_bytes.to_string()]);
    command.args(options.limits.arguments());
    match &options.program {
        Program::Cached => {}
        Program::Library(path) => {
            command.arg("--lib").arg(path);
        }
        Program::Clickhouse(path) => {
            command.arg("--clickhouse").arg(path);
        }
    }
    command
        // In the environment, since everyone on the machine can read arguments.
        .env(env::WRITER_PASSWORD, &options.writer_password)
        .env(env::READER_PASSWORD, &options.reader_password)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    command
}

/// The end of the child, if it comes in time.
fn wait(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + patience;
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(LOOK);
    }
}

/// Kills the child's group unless the child has been waited for, and waits.
fn end(child: &mut Child) {
    if matches!(child.try_wait(), Ok(None)) {
        signal(child, Signal::KILL);
        child.wait().ok();
    }
}

/// Signals the group the child leads. The child must not have been waited for.
fn signal(child: &Child, signal: Signal) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // The only failure is a group that has just ended.
        rustix::process::kill_process_group(pid, signal).ok();
    }
}
