//! Start, stop, and the ends nobody asked for.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use embedded_clickhouse::{Engine, Error, Options, Program, Server, env, fetch, locate};
use rustix::fs::Advice;
use rustix::process::{Pid, Signal};

use crate::support::{DEADLINE, Folder, address, alone, is_running, shared, until};

#[test]
fn the_first_query_is_answered_within_two_seconds_of_a_cold_start() {
    let _machine = alone();
    // Cold: no process maps the library, so the kernel can drop what it keeps of it.
    let library = File::open(fetch::library_path().unwrap()).unwrap();
    rustix::fs::fadvise(&library, 0, None, Advice::DontNeed).unwrap();
    let cold = time_to_first_query();
    let warm = time_to_first_query();
    println!("first query after {cold:?} cold, {warm:?} warm");
    assert!(cold <= Duration::from_secs(2), "{cold:?}");
    assert!(warm <= Duration::from_secs(2), "{warm:?}");
}

fn time_to_first_query() -> Duration {
    let start = Instant::now();
    let engine = Engine::start(Options::default()).unwrap();
    assert_eq!(engine.query("SELECT 1").unwrap(), "1\n");
    start.elapsed()
}

#[test]
fn an_idle_engine_stops_within_a_second() {
    let _machine = alone();
    let engine = Engine::start(Options::default()).unwrap();
    engine.query("CREATE DATABASE d").unwrap();
    engine.query("CREATE TABLE d.t (x UInt64) ENGINE = MergeTree ORDER BY x").unwrap();
    engine.query("INSERT INTO d.t SELECT number FROM numbers(1000)").unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", engine.pid())).unwrap();
    for line in
        status.lines().filter(|line| line.starts_with("VmRSS") || line.starts_with("RssAnon"))
    {
        println!("{line}");
    }
    let start = Instant::now();
    engine.stop().unwrap();
    let stop = start.elapsed();
    println!("stopped in {stop:?}");
    assert!(stop <= Duration::from_secs(1), "{stop:?}");
}

#[test]
fn a_temporary_folder_goes_with_the_engine() {
    let _machine = shared();
    let engine = Engine::start(Options::default()).unwrap();
    let data = engine.data().to_path_buf();
    assert!(data.join("metadata").is_dir());
    drop(engine);
    assert!(!data.exists());
}

#[test]
fn a_native_port_is_open_when_asked_for() {
    let _machine = shared();
    let with = Engine::start(Options { tcp_port: Some(0), ..Options::default() }).unwrap();
    TcpStream::connect(("127.0.0.1", with.tcp_port().unwrap())).unwrap();
    let without = Engine::start(Options::default()).unwrap();
    assert_eq!(without.tcp_port(), None);
}

#[test]
fn a_frozen_engine_is_silent_until_thawed() {
    let _machine = shared();
    let engine = Engine::start(Options::default()).unwrap();
    engine.freeze();
    let address = address(&engine);
    let (sender, answers) = channel();
    thread::spawn(move || {
        let answer =
            embedded_clickhouse::http::query(&address, "activity", "activity", &[], "SELECT 1");
        sender.send(answer.unwrap().body).unwrap();
    });
    assert!(answers.recv_timeout(Duration::from_millis(300)).is_err());
    engine.thaw();
    assert_eq!(answers.recv_timeout(DEADLINE).unwrap(), "1\n");
    // A frozen engine can be stopped as well.
    engine.freeze();
    engine.stop().unwrap();
}

#[test]
fn a_missing_library_names_the_command_that_gets_it() {
    let _machine = shared();
    let error = Engine::start(Options {
        program: Program::Library(PathBuf::from("/nowhere/libchdb.so")),
        ..Options::default()
    })
    .unwrap_err();
    assert!(error.is_library_missing(), "{error}");
    assert!(error.to_string().contains("`cargo xtask engine`"), "{error}");

    let empty = Folder::new();
    let output = Command::new(locate::binary().unwrap())
        .env(env::ENGINE_DIR, empty.path())
        .output()
        .unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{words}");
    assert!(words.contains("`cargo xtask engine`"), "{words}");
}

#[test]
fn a_file_that_is_no_library_is_told_from_a_missing_one() {
    let _machine = shared();
    let folder = Folder::new();
    let path = folder.path().join("libchdb.so");
    fs::write(&path, "not a library").unwrap();
    let error = Engine::start(Options { program: Program::Library(path), ..Options::default() })
        .unwrap_err();
    assert!(error.to_string().contains("cannot be loaded"), "{error}");
}

#[test]
fn a_folder_in_use_is_refused() {
    let _machine = shared();
    let folder = Folder::new();
    let first = folder.engine();
    let error = Engine::start(folder.options()).unwrap_err();
    assert!(error.is_locked(), "{error}");
    assert!(error.to_string().contains("in use by another engine"), "{error}");
    assert_eq!(first.query("SELECT 1").unwrap(), "1\n");
    first.stop().unwrap();
    folder.engine().stop().unwrap();
}

#[test]
fn an_engine_that_cannot_start_says_why() {
    let _machine = shared();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = Engine::start(Options {
        http_port: taken.local_addr().unwrap().port(),
        ..Options::default()
    })
    .unwrap_err();
    assert!(matches!(error, Error::Start { .. }), "{error}");
    assert!(error.to_string().contains("Address already in use"), "{error}");
}

#[test]
fn sigterm_stops_the_binary_cleanly() {
    let _machine = shared();
    for keep_alive in [false, true] {
        let folder = Folder::new();
        let ready_file = folder.path().join("ready.json");
        let mut binary = Binary::start(folder.path(), &ready_file, keep_alive);
        assert_eq!(fs::read_to_string(&ready_file).unwrap(), binary.line);
        let pid = i32::try_from(binary.child.id()).unwrap();
        rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
        let status = binary.child.wait().unwrap();
        assert_eq!(status.code(), Some(0));
        assert!(!ready_file.exists());
    }
}

#[test]
fn kept_alive_the_binary_outlives_its_standard_input() {
    let _machine = shared();
    let folder = Folder::new();
    let ready_file = folder.path().join("ready.json");
    let mut binary = Binary::start(folder.path(), &ready_file, true);
    drop(binary.child.stdin.take());
    let (port, pid) = (number(&binary.line, "http_port"), number(&binary.line, "pid"));
    let address = format!("127.0.0.1:{port}");
    for _ in 0..20 {
        let answer =
            embedded_clickhouse::http::query(&address, "activity", "activity", &[], "SELECT 1");
        assert_eq!(answer.unwrap().body, "1\n");
    }
    assert!(is_running(pid));
    binary.child.kill().unwrap();
    binary.child.wait().unwrap();
}

/// The binary run by hand, without [`Engine`].
struct Binary {
    child: Child,
    line: String,
}

impl Binary {
    fn start(data: &Path, ready_file: &Path, keep_alive: bool) -> Self {
        let mut child = Command::new(locate::binary().unwrap())
            .arg("--data")
            .arg(data)
            .arg("--ready-file")
            .arg(ready_file)
            .args(keep_alive.then_some("--keep-alive"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        Self { child, line }
    }
}

#[test]
fn an_engine_stops_when_its_parent_is_killed() {
    let _machine = shared();
    let mut parent = parent("until killed");
    let (pid, data) = engine_of(&mut parent);
    assert!(is_running(pid));
    parent.kill().unwrap();
    parent.wait().unwrap();
    until("the engine to follow its parent", || !is_running(pid));
    until("its temporary folder to go", || !data.exists());
}

#[test]
fn an_engine_in_a_static_stops_when_its_process_ends() {
    let _machine = shared();
    let mut parent = parent("until the end");
    let (pid, data) = engine_of(&mut parent);
    parent.wait().unwrap();
    until("the engine to follow its parent", || !is_running(pid));
    until("its temporary folder to go", || !data.exists());
}

/// Names what the process below is for.
const ROLE: &str = "EMBEDDED_TEST_ROLE";

#[test]
#[ignore = "the parent process of two other tests"]
fn parent_process() {
    static SERVER: OnceLock<Server> = OnceLock::new();
    let Some(role) = env::text(ROLE) else {
        return;
    };
    let server = SERVER.get_or_init(|| embedded_clickhouse::connect_or_start().unwrap());
    let engine = server.engine.as_ref().unwrap();
    println!("\nengine {} {}", engine.pid(), engine.data().display());
    if role == "until killed" {
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    }
}

/// This test program again, running [`parent_process`] alone.
fn parent(role: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "lifecycle::parent_process", "--ignored", "--nocapture"])
        .env(ROLE, role)
        .env_remove(env::TEST_URL)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Process and data folder of the engine a [`parent`] has started.
fn engine_of(parent: &mut Child) -> (u32, PathBuf) {
    // Borrowed, so that the pipe stays open for what the parent prints later.
    let line = BufReader::new(parent.stdout.as_mut().unwrap())
        .lines()
        .map_while(Result::ok)
        .find(|line| line.starts_with("engine "))
        .expect("the parent starts an engine");
    let mut words = line.split(' ').skip(1);
    let pid = words.next().unwrap().parse().unwrap();
    (pid, PathBuf::from(words.next().unwrap()))
}

/// A number in a line of JSON.
fn number(line: &str, name: &str) -> u32 {
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    value[name].as_u64().unwrap().try_into().unwrap()
}
