//! The readiness line: what a started engine tells whoever started it.
//!
//! One line of JSON on standard output, and the same in the ready file.

use std::path::PathBuf;

use serde_json::{Value, json};

/// Where a started engine is to be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ready {
    pub(crate) http_port: u16,
    pub(crate) tcp_port: Option<u16>,
    pub(crate) pid: u32,
    pub(crate) version: String,
    pub(crate) data: PathBuf,
}

impl Ready {
    /// The line, without its end.
    pub(crate) fn to_line(&self) -> String {
        json!({
            "http_port": self.http_port,
            "tcp_port": self.tcp_port,
            "pid": self.pid,
            "version": self.version,
            "data": self.data.to_string_lossy(),
        })
        .to_string()
    }

    /// Reads a line back; `None` when it is something else.
    pub(crate) fn from_line(line: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(line).ok()?;
        let port = |name: &str| value[name].as_u64().and_then(|port| u16::try_from(port).ok());
        Some(Self {
            http_port: port("http_port")?,
            tcp_port: port("tcp_port"),
            pid: u32::try_from(value["pid"].as_u64()?).ok()?,
            version: value["version"].as_str()?.to_owned(),
            data: PathBuf::from(value["data"].as_str()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_back() {
        for tcp_port in [None, Some(9000)] {
            let ready = Ready {
                http_port: 8123,
                tcp_port,
                pid: 7,
                version: "26.7.2.1".to_owned(),
                data: PathBuf::from("/d \"quoted\""),
            };
            assert_eq!(Ready::from_line(&ready.to_line()), Some(ready));
        }
        assert_eq!(Ready::from_line("{}"), None);
    }
}
