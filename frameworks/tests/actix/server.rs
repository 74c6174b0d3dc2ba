//! A service on a thread of its own, and a client that sees every byte.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Once, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer, web};
use tracing::Dispatch;
use tracing_activity::config::{Config, SamplingPolicy};
use tracing_activity::middleware::actix::RequestSpan;
use tracing_activity::model::Activity;
use tracing_activity::sink::MemorySink;
use tracing_activity::{ShutdownGuard, Stats};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt as _;

/// Long enough for anything that is going to happen.
const DEADLINE: Duration = Duration::from_secs(30);

/// What panics say here on purpose.
pub(crate) const ON_PURPOSE: &str = "out of ink";

/// A configuration that keeps every trace and delivers at once.
pub(crate) fn config() -> Config {
    let mut config = Config::default();
    config.sample = SamplingPolicy::ALL;
    config.pipeline.batch_interval = Duration::from_millis(1);
    config
}

/// A running service and what is recorded of it.
pub(crate) struct Server {
    address: SocketAddr,
    guard: ShutdownGuard,
    sink: MemorySink,
    handle: ServerHandle,
    thread: JoinHandle<std::io::Result<()>>,
}

impl Server {
    /// Serves what `routes` configures.
    pub(crate) fn new(
        config: Config,
        span: RequestSpan,
        routes: impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static,
    ) -> Self {
        quiet_on_purpose();
        let sink = MemorySink::new();
        let builder = tracing_activity::builder().config(config).sink(sink.clone());
        let (layer, guard) = builder.build().unwrap();
        let dispatch = Dispatch::new(Registry::default().with(layer));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let app = move || {
                // This is the worker's thread, which serves nothing else.
                std::mem::forget(tracing::dispatcher::set_default(&dispatch));
                App::new().configure(routes.clone()).wrap(span.clone())
            };
            let server = HttpServer::new(app).workers(1).disable_signals();
            let server = server.h1_allow_half_closed(false).shutdown_timeout(1);
            actix_web::rt::System::new().block_on(async {
                let server = server.listen(listener).unwrap().run();
                tell.send(server.handle()).unwrap();
                server.await
            })
        });
        Self { address, guard, sink, handle: told.recv().unwrap(), thread }
    }

    /// Serves what `routes` configures, as it is by default.
    pub(crate) fn with(routes: impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static) -> Self {
        Self::new(config(), RequestSpan::new(), routes)
    }

    /// Sends a request and leaves the answer unread.
    pub(crate) fn send(&self, method: &str, target: &str, headers: &str) -> TcpStream {
        self.send_bytes(format!("{method} {target} HTTP/1.1\r\n{headers}").as_bytes())
    }

    /// Sends a head of whatever bytes.
    fn send_bytes(&self, head: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(head).unwrap();
        stream.write_all(b"host: shop\r\nconnection: close\r\n\r\n").unwrap();
        stream
    }

    /// The same, and reads the whole answer.
    pub(crate) fn request_bytes(&self, head: &[u8]) {
        let _ = self.send_bytes(head).read_to_end(&mut Vec::new());
    }

    /// Sends a request and reads the whole answer.
    pub(crate) fn request(&self, method: &str, target: &str, headers: &str) -> String {
        let mut answer = Vec::new();
        let _ = self.send(method, target, headers).read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub(crate) fn get(&self, target: &str) -> String {
        self.request("GET", target, "")
    }

    /// Sends a request and goes away when `left` says so.
    pub(crate) fn leave_when(&self, target: &str, left: impl FnMut() -> bool) {
        let stream = self.send("GET", target, "");
        wait_until("the client may leave", left);
        let _ = stream.shutdown(Shutdown::Both);
    }

    /// Sends a request, reads until `part` came, and goes away.
    pub(crate) fn leave_after(&self, target: &str, part: &str) {
        let mut stream = self.send("GET", target, "");
        let (mut seen, mut buffer) = (String::new(), [0; 64]);
        while !seen.contains(part) {
            let count = stream.read(&mut buffer).unwrap();
            assert!(count > 0, "the answer ended before {part:?}: {seen}");
            seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        let _ = stream.shutdown(Shutdown::Both);
    }

    /// The activities so far, once there are `count` of them.
    pub(crate) fn activities(&self, count: usize) -> Vec<Activity> {
        wait_until(&format!("{count} activities"), || {
            let stats = self.guard.stats();
            stats.stored >= count as u64 && stats.in_flight() == 0
        });
        self.sink.activities()
    }

    /// The only activity so far.
    pub(crate) fn one(&self) -> Activity {
        let mut activities = self.activities(1);
        assert_eq!(activities.len(), 1, "{activities:#?}");
        activities.remove(0)
    }

    /// Stops the service; gives everything that was recorded.
    pub(crate) fn stop(self) -> (Vec<Activity>, Stats) {
        // The server stops when it is told so; whoever waits for it is its own thread.
        drop(self.handle.stop(true));
        self.thread.join().unwrap().unwrap();
        let report = self.guard.shutdown(DEADLINE);
        assert!(report.complete, "{}", report.stats);
        (self.sink.activities(), report.stats)
    }
}

/// Waits until `condition` holds.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::yield_now();
    }
}

/// Panics that tests cause need not be read by people.
fn quiet_on_purpose() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !info.payload_as_str().is_some_and(|text| text.contains(ON_PURPOSE)) {
                previous(info);
            }
        }));
    });
}
