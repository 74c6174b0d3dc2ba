//! Fetching the engine, on archives and a server made here.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use embedded_clickhouse::{env, fetch};
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};

use crate::support::Folder;

#[test]
#[ignore = "fetches 178 MB unless they are there; `cargo xtask engine` does the same"]
fn the_engine_is_fetched_once() {
    let first = fetch::ensure().unwrap();
    println!("{first:?}");
    assert_eq!(fs::metadata(&first.path).unwrap().len(), fetch::LIBRARY_BYTES);
    let second = fetch::ensure().unwrap();
    assert_eq!(second.downloaded_bytes, None);
    assert_eq!(second.path, first.path);
}

#[test]
fn a_doctored_archive_is_refused_and_deleted() {
    let folder = Folder::new();
    let path = folder.path().join("engine.tgz");
    let mut bytes = archive(&[("package/libchdb.so", b"the engine")]);
    let digest = hex(&bytes);
    fs::write(&path, &bytes).unwrap();
    fetch::verify(&path, &digest).unwrap();
    assert!(path.exists());

    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let error = fetch::verify(&path, &digest).unwrap_err();
    assert!(error.is_checksum(), "{error}");
    assert!(error.to_string().contains(&digest), "{error}");
    assert!(error.to_string().contains("`cargo xtask engine`"), "{error}");
    assert!(!path.exists());
}

#[test]
fn the_library_alone_is_unpacked() {
    let folder = Folder::new();
    let path = folder.path().join("engine.tgz");
    let members: [(&str, &[u8]); 3] = [
        ("package/index.js", b"js"),
        ("package/libchdb.so", b"the engine"),
        ("package/chdb_node.node", b"node"),
    ];
    fs::write(&path, archive(&members)).unwrap();
    let library = folder.path().join("libchdb.so");
    fetch::unpack(&path, &library).unwrap();
    assert_eq!(fs::read(&library).unwrap(), b"the engine");
    assert_eq!(names(folder.path()), ["engine.tgz", "libchdb.so"]);
}

#[test]
fn an_archive_cut_short_leaves_no_library() {
    let folder = Folder::new();
    let path = folder.path().join("engine.tgz");
    let noise: Vec<u8> =
        (0..100_000_u32).flat_map(|n| Sha256::digest(n.to_le_bytes())[..8].to_vec()).collect();
    let bytes = archive(&[("package/libchdb.so", &noise)]);
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let library = folder.path().join("libchdb.so");
    fetch::unpack(&path, &library).unwrap_err();
    assert!(!library.exists());
}

#[test]
fn an_archive_without_the_library_says_so() {
    let folder = Folder::new();
    let path = folder.path().join("engine.tgz");
    fs::write(&path, archive(&[("package/index.js", b"js")])).unwrap();
    let error = fetch::unpack(&path, &folder.path().join("libchdb.so")).unwrap_err();
    assert!(error.to_string().contains("holds no libchdb.so"), "{error}");
}

#[test]
fn a_partial_file_is_resumed_where_it_stopped() {
    let folder = Folder::new();
    let file = folder.path().join("partial");
    let content = content();
    let server = Site::serve(content.clone(), true);
    fs::write(&file, &content[..60_000]).unwrap();
    fetch::resume(&server.url, &file, content.len() as u64).unwrap();
    assert_eq!(fs::read(&file).unwrap(), content);
    assert_eq!(server.ranges(), [Some(60_000)]);

    // What is whole is not asked for again.
    fetch::resume(&server.url, &file, content.len() as u64).unwrap();
    assert_eq!(server.ranges().len(), 1);
}

#[test]
fn a_server_that_cannot_resume_is_asked_for_the_whole() {
    let folder = Folder::new();
    let file = folder.path().join("partial");
    let content = content();
    let server = Site::serve(content.clone(), false);
    fs::write(&file, &content[..60_000]).unwrap();
    fetch::resume(&server.url, &file, content.len() as u64).unwrap();
    assert_eq!(fs::read(&file).unwrap(), content);
    assert_eq!(server.ranges(), [Some(60_000), None]);
}

#[test]
fn a_file_longer_than_it_should_be_is_fetched_anew() {
    let folder = Folder::new();
    let file = folder.path().join("partial");
    let content = content();
    let server = Site::serve(content.clone(), true);
    fs::write(&file, vec![0; content.len() + 1]).unwrap();
    fetch::resume(&server.url, &file, content.len() as u64).unwrap();
    assert_eq!(fs::read(&file).unwrap(), content);
}

#[test]
fn an_unreachable_server_leaves_what_has_arrived() {
    let folder = Folder::new();
    let file = folder.path().join("partial");
    fs::write(&file, b"some").unwrap();
    // A port that was free a moment ago: nobody listens.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}/engine.tgz");
    let error = fetch::resume(&url, &file, 100).unwrap_err().to_string();
    assert!(error.contains("ACTIVITY_TEST_CLICKHOUSE_URL"), "{error}");
    assert_eq!(fs::read(&file).unwrap(), b"some");
}

#[test]
fn a_second_process_waits_for_the_first_and_says_so() {
    let folder = Folder::new();
    let lock = File::create(folder.path().join("fetch.lock")).unwrap();
    lock.lock().unwrap();
    let mut second = process(folder.path(), None);
    let mut words = BufReader::new(second.stderr.take().unwrap());
    let mut line = String::new();
    words.read_line(&mut line).unwrap();
    assert!(line.contains("another process is fetching the engine"), "{line}");
    assert!(second.try_wait().unwrap().is_none());
    fs::write(folder.path().join("libchdb.so"), "fetched meanwhile").unwrap();
    lock.unlock().unwrap();
    let output = second.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("downloaded_bytes: None"), "{said}");
}

#[test]
fn without_npm_the_message_names_other_ways() {
    let (folder, programs) = (Folder::new(), Folder::new());
    let said = outcome(folder.path(), programs.path());
    assert!(said.contains("`npm` is needed"), "{said}");
    assert!(said.contains("ACTIVITY_TEST_CLICKHOUSE_URL"), "{said}");
}

#[test]
fn offline_the_message_says_how_to_go_on() {
    let (folder, programs) = (Folder::new(), Folder::new());
    program(programs.path(), "npm", "echo 'npm error network unreachable' >&2; exit 1");
    let said = outcome(folder.path(), programs.path());
    assert!(said.contains("npm error network unreachable"), "{said}");
    assert!(said.contains("go online and run `cargo xtask engine` again"), "{said}");
}

#[test]
fn npm_packs_what_cannot_be_downloaded_and_it_is_checked_too() {
    let (folder, programs) = (Folder::new(), Folder::new());
    let script = "case $1 in pack) echo doctored > p.tgz; echo p.tgz;; *) exit 1;; esac";
    program(programs.path(), "npm", script);
    let said = outcome(folder.path(), programs.path());
    assert!(said.contains(fetch::ARCHIVE_SHA256), "{said}");
    assert_eq!(names(folder.path()), ["fetch.lock"]);
}

/// Where the process below finds its programs.
const PROGRAMS: &str = "EMBEDDED_TEST_PROGRAMS";

#[test]
#[ignore = "the fetching process of other tests"]
fn fetching_process() {
    if env::text(PROGRAMS).is_some() {
        match fetch::ensure() {
            Ok(fetched) => println!("{fetched:?}"),
            Err(error) => println!("{error}"),
        }
    }
}

/// What [`fetching_process`] says when it fetches into `folder` with `programs` for a `PATH`.
fn outcome(folder: &Path, programs: &Path) -> String {
    let output = process(folder, Some(programs)).wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn process(folder: &Path, programs: Option<&Path>) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "fetching::fetching_process", "--ignored", "--nocapture"])
        .env(env::ENGINE_DIR, folder)
        .env(PROGRAMS, "set")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(programs) = programs {
        command.env("PATH", programs);
    }
    command.spawn().unwrap()
}

fn program(folder: &Path, name: &str, script: &str) {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// One file on loopback, with or without ranges, that remembers what it was asked for.
struct Site {
    url: String,
    asked: Arc<Mutex<Vec<Option<usize>>>>,
}

impl Site {
    fn serve(content: Vec<u8>, ranges: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/engine.tgz", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let from = requested(&stream);
                log.lock().unwrap().push(from);
                answer(stream, &content, from.filter(|_| ranges));
            }
        });
        Self { url, asked }
    }

    fn ranges(&self) -> Vec<Option<usize>> {
        self.asked.lock().unwrap().clone()
    }
}

/// Where the request wants to begin, if it says so.
fn requested(stream: &TcpStream) -> Option<usize> {
    BufReader::new(stream)
        .lines()
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| {
            line.to_ascii_lowercase().strip_prefix("range: bytes=").map(str::to_owned)
        })
        .find_map(|range| range.trim_end_matches('-').parse().ok())
}

fn answer(mut stream: TcpStream, content: &[u8], from: Option<usize>) {
    let begin = from.unwrap_or(0);
    let (status, range) = match from {
        Some(begin) => (
            "206 Partial Content",
            format!("Content-Range: bytes {begin}-{}/{}\r\n", content.len() - 1, content.len()),
        ),
        None => ("200 OK", String::new()),
    };
    let length = content.len() - begin;
    let head = format!(
        "HTTP/1.1 {status}\r\n{range}Content-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    // The client may leave early.
    stream.write_all(head.as_bytes()).ok();
    stream.write_all(&content[begin..]).ok();
}

fn content() -> Vec<u8> {
    (0..100_000_u32).map(|n| (n * 7 % 251) as u8).collect()
}

fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        tar.append_data(&mut header, name, *bytes).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
