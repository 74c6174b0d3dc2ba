//! A server that reads every request to its end, counts its bytes and answers 200: what is left
//! of a database when its work is taken away.

use std::io::{BufRead as _, BufReader, Read as _, Result, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// Listens on loopback until the process ends.
pub(crate) struct Drain {
    pub(crate) address: SocketAddr,
    bytes: Arc<AtomicU64>,
}

impl Drain {
    pub(crate) fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (address, bytes) = (listener.local_addr()?, Arc::new(AtomicU64::new(0)));
        let counted = Arc::clone(&bytes);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counted = Arc::clone(&counted);
                thread::spawn(move || serve(stream, &counted));
            }
        });
        Ok(Self { address, bytes })
    }

    /// Bytes of the bodies so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::SeqCst)
    }
}

fn serve(stream: TcpStream, bytes: &AtomicU64) -> Result<()> {
    let mut answer = stream.try_clone()?;
    let mut input = BufReader::with_capacity(1 << 20, stream);
    let mut line = String::new();
    loop {
        // The head, to the empty line.
        loop {
            line.clear();
            if input.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line == "\r\n" {
                break;
            }
        }
        // The body, in chunks, to the empty one.
        loop {
            line.clear();
            input.read_line(&mut line)?;
            let length = u64::from_str_radix(line.trim_end(), 16).unwrap_or(0);
            bytes.fetch_add(length, Ordering::SeqCst);
            std::io::copy(&mut input.by_ref().take(length + 2), &mut std::io::sink())?;
            if length == 0 {
                break;
            }
        }
        answer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
    }
}
