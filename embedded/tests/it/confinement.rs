//! The engine is reachable from this machine alone.

use std::collections::HashSet;
use std::fs;

use embedded_clickhouse::{Engine, Options};

use crate::support::shared;

/// State of a listening socket in `/proc/net/tcp`.
const LISTENING: &str = "0A";

#[test]
fn nothing_listens_off_loopback() {
    let _machine = shared();
    let engine = Engine::start(Options { tcp_port: Some(0), ..Options::default() }).unwrap();
    let listening = listening_addresses(engine.pid());
    let mut ports: Vec<u16> = listening.iter().map(|(_, port)| *port).collect();
    ports.sort_unstable();
    let mut expected = vec![engine.http_port(), engine.tcp_port().unwrap()];
    expected.sort_unstable();
    assert_eq!(ports, expected);
    for (address, port) in listening {
        // 127.0.0.1 as the kernel prints it: one number, little-endian.
        assert_eq!(address, "0100007F", "port {port}");
    }
}

/// Local addresses, as the kernel prints them, and ports of the process's listening sockets.
fn listening_addresses(pid: u32) -> Vec<(String, u16)> {
    let inodes: HashSet<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|link| {
            let link = link.to_str()?;
            Some(link.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
        })
        .collect();
    let mut found = Vec::new();
    for table in ["tcp", "tcp6"] {
        let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if fields[3] == LISTENING && inodes.contains(fields[9]) {
                let (address, port) = fields[1].split_once(':').unwrap();
                found.push((address.to_owned(), u16::from_str_radix(port, 16).unwrap()));
            }
        }
    }
    found
}
