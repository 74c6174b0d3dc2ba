//! The binary's work: hosts one engine from its start to its end.
//!
//! A process hosts one engine, because the engine cannot be started twice in one and ends its
//! process group when told to shut down. The host leads a group of its own and dies with its
//! parent: standard input is a pipe, and its end is the order to stop.
//!
//! Threads: the engine's own; one that waits for standard input to end; one for the readiness
//! line; one for signals; and the main thread, which decides what their events mean.
//!
//! Invariants:
//! - the readiness line is printed once, when the listeners are open and the passwordless user is
//!   used up, and before it nothing;
//! - signal handlers are installed after that, since the engine installs its own while starting;
//! - an engine that ends before it was ready has failed, whatever its result says;
//! - the process leaves by `_exit`: the engine's destructors are not to be trusted with an exit.

use std::fs;
use std::io::{
    self, BufRead as _, BufReader, IsTerminal as _, PipeReader, PipeWriter, Read, Write as _,
};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustix::fs::FileType;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::config;
use crate::error::{Context as _, Error};
use crate::folder::DataFolder;
use crate::http;
use crate::limits::Limits;
use crate::program::{self, CommandLine, Pipes, Program};
use crate::ready::Ready;

/// What the binary was asked to do.
#[derive(Debug)]
pub struct Request {
    /// Data folder; a temporary one when absent.
    pub data: Option<PathBuf>,
    /// HTTP port; 0 takes a free one.
    pub http_port: u16,
    /// Native port; 0 takes a free one, absent opens none.
    pub tcp_port: Option<u16>,
    /// File that receives the readiness line.
    pub ready_file: Option<PathBuf>,
    /// Whether the end of standard input is ignored.
    pub keep_alive: bool,
    /// The engine.
    pub program: Program,
    /// Memory the engine may use.
    pub memory_bytes: u64,
    /// What the writer may not do.
    pub limits: Limits,
    /// Password of the writer.
    pub writer_password: String,
    /// Password of the reader.
    pub reader_password: String,
}

/// Bytes that fit in no pipe, so that writing them ends when somebody reads; a pipe holds 64 KiB.
const MORE_THAN_A_PIPE_HOLDS: usize = 256 << 10;

enum Event {
    Ready { http_port: u16, tcp_port: u16, version: String },
    Ended(Result<(), Error>),
}

/// The write end of the engine's pipe: gone, the engine stops. Whoever stops it takes it.
type Hold = Arc<Mutex<Option<PipeWriter>>>;

/// Hosts the engine until it ends, and leaves the process.
pub fn run(request: &Request) -> ! {
    let code = match host(request) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("embedded-clickhouse: {error}");
            error.exit_code()
        }
    };
    io::stdout().flush().ok();
    signal_hook::low_level::exit(code)
}

fn host(request: &Request) -> Result<(), Error> {
    if !io::stdin().is_terminal() {
        // From a terminal the shell has made a group already, and Ctrl-C must reach it.
        rustix::process::setpgid(None, None).context(|| "leading a process group".to_owned())?;
    }
    let stdin = if request.keep_alive { None } else { take_stdin()? };
    let folder = DataFolder::claim(request.data.as_deref())?;
    let outcome = serve(request, &folder, stdin);
    folder.dismiss();
    outcome
}

fn serve(request: &Request, folder: &DataFolder, stdin: Option<fs::File>) -> Result<(), Error> {
    let users = folder.write(
        "users.xml",
        &config::users_xml(&request.writer_password, &request.reader_password, &request.limits),
    )?;
    let server = folder.write("config.xml", &config::server_xml(&users, request.memory_bytes))?;
    let (ready_reader, ready) = pipe()?;
    let (hold, hold_writer) = pipe()?;
    let (sender, events) = channel();
    announce(ready_reader, &hold_writer, sender.clone())?;
    let stop: Hold = Arc::new(Mutex::new(Some(hold_writer)));
    if let Some(stdin) = stdin {
        stop_at_end(stdin, Arc::clone(&stop))?;
    }
    let line = CommandLine {
        data: folder.path(),
        config: &server,
        http_port: request.http_port,
        tcp_port: request.tcp_port,
    };
    let pipes = Pipes { ready, hold };
    let ended = move |outcome| {
        // The main thread is gone only when the process is.
        sender.send(Event::Ended(outcome)).ok();
    };
    match &request.program {
        Program::Cached => {
            program::run_library(crate::fetch::library_path()?, &line, pipes, ended)?;
        }
        Program::Library(path) => program::run_library(path.clone(), &line, pipes, ended)?,
        Program::Clickhouse(path) => program::run_clickhouse(path, &line, pipes, ended)?,
    }
    let ready = await_ready(&events, folder, request.tcp_port.is_some())?;
    fs::remove_file(&users).ok();
    use_up_default(ready.http_port)?;
    stop_on_signal(Arc::clone(&stop))?;
    tell(&ready, request.ready_file.as_deref())?;
    let outcome = await_end(&events, &stop);
    if let Some(file) = &request.ready_file {
        fs::remove_file(file).ok();
    }
    outcome
}

fn await_ready(events: &Receiver<Event>, folder: &DataFolder, tcp: bool) -> Result<Ready, Error> {
    match events.recv() {
        Ok(Event::Ready { http_port, tcp_port, version }) => Ok(Ready {
            http_port,
            tcp_port: tcp.then_some(tcp_port),
            pid: std::process::id(),
            version,
            data: folder.path().to_path_buf(),
        }),
        Ok(Event::Ended(Err(error))) => Err(error),
        Ok(Event::Ended(Ok(()))) | Err(_) => Err(Error::Start {
            reason: "it ended before it was ready; its own words are above".to_owned(),
        }),
    }
}

fn await_end(events: &Receiver<Event>, stop: &Hold) -> Result<(), Error> {
    loop {
        match events.recv() {
            Ok(Event::Ready { .. }) => {}
            Ok(Event::Ended(Ok(()))) if held(stop) => {
                return Err(Error::Stop {
                    reason: "it ended although nobody asked it to".to_owned(),
                });
            }
            Ok(Event::Ended(Ok(()))) => return Ok(()),
            Ok(Event::Ended(Err(error))) => {
                return Err(Error::Stop { reason: error.to_string() });
            }
            Err(_) => {
                return Err(Error::Stop { reason: "its thread is gone".to_owned() });
            }
        }
    }
}

/// Spends the quota of the passwordless user, so that nobody else has any of it.
///
/// A query without a table, such as `SELECT 1`, is not counted and stays possible.
fn use_up_default(http_port: u16) -> Result<(), Error> {
    let address = format!("127.0.0.1:{http_port}");
    for _ in 0..=config::DEFAULT_USER_QUERIES {
        let response = http::query(&address, "default", "", &[], "SELECT 1 FROM numbers(1)")
            .context(|| "asking the engine a first query".to_owned())?;
        if response.status != 200 {
            return Ok(());
        }
    }
    Err(Error::Start {
        reason: "the passwordless user `default` is not bound by its quota".to_owned(),
    })
}

/// Prints the readiness line and writes the ready file, whole or not at all.
fn tell(ready: &Ready, file: Option<&Path>) -> Result<(), Error> {
    let line = ready.to_line();
    if let Some(file) = file {
        let doing = || format!("writing {}", file.display());
        let mut partial = file.as_os_str().to_owned();
        partial.push(".partial");
        fs::write(&partial, format!("{line}\n")).context(doing)?;
        fs::rename(&partial, file).context(doing)?;
    }
    let mut stdout = io::stdout().lock();
    // Nobody may be listening; the engine serves all the same.
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).ok();
    Ok(())
}

/// Takes standard input if it is a pipe or a socket, and leaves `/dev/null` in its place: the
/// engine would read a pipe as a table.
fn take_stdin() -> Result<Option<fs::File>, Error> {
    let doing = || "reading standard input".to_owned();
    let stdin = io::stdin();
    let stat = rustix::fs::fstat(&stdin).context(doing)?;
    if !matches!(FileType::from_raw_mode(stat.st_mode), FileType::Fifo | FileType::Socket) {
        return Ok(None);
    }
    let taken = stdin.as_fd().try_clone_to_owned().context(doing)?;
    let null = fs::File::open("/dev/null").context(doing)?;
    rustix::stdio::dup2_stdin(&null).context(doing)?;
    Ok(Some(fs::File::from(taken)))
}

fn stop_at_end(mut stdin: fs::File, stop: Hold) -> Result<(), Error> {
    spawn("stdin", move || {
        let mut scratch = [0; 1024];
        loop {
            match stdin.read(&mut scratch) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        release(&stop);
    })
}

fn stop_on_signal(stop: Hold) -> Result<(), Error> {
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP])
        .context(|| "installing signal handlers".to_owned())?;
    spawn("signals", move || {
        for _ in signals.forever() {
            release(&stop);
        }
    })
}

/// Waits for the line of ports, and then until the engine's last query reads its pipe.
///
/// Only then has the engine's own session asked all it will ask, and the rest of its quota can be
/// used up without taking what it needs.
fn announce(ready: PipeReader, hold: &PipeWriter, events: Sender<Event>) -> Result<(), Error> {
    let mut hold = hold.try_clone().context(|| "copying a pipe".to_owned())?;
    spawn("ready", move || {
        let mut line = String::new();
        // An engine that ends before it is ready ends the pipe, and its own event says why.
        if BufReader::new(ready).read_line(&mut line).is_ok()
            && let Some(event) = parse_ports(&line)
            && hold.write_all(&vec![b'\n'; MORE_THAN_A_PIPE_HOLDS]).is_ok()
        {
            events.send(event).ok();
        }
    })
}

fn parse_ports(line: &str) -> Option<Event> {
    let mut fields = line.trim_end().split('\t');
    Some(Event::Ready {
        http_port: fields.next()?.parse().ok()?,
        tcp_port: fields.next()?.parse().ok()?,
        version: fields.next()?.to_owned(),
    })
}

fn release(stop: &Hold) {
    drop(stop.lock().unwrap_or_else(PoisonError::into_inner).take());
}

fn held(stop: &Hold) -> bool {
    stop.lock().unwrap_or_else(PoisonError::into_inner).is_some()
}

fn pipe() -> Result<(PipeReader, PipeWriter), Error> {
    io::pipe().context(|| "making a pipe".to_owned())
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .context(|| format!("starting the thread `{name}`"))?;
    Ok(())
}
