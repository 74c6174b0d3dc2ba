//! A service on a thread of its own, and a client that sees every byte.

use std::convert::Infallible;
use std::future::Future;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Once, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tracing::Dispatch;
use tracing_activity::config::{Config, SamplingPolicy};
use tracing_activity::model::Activity;
use tracing_activity::sink::MemorySink;
use tracing_activity::{Builder, ShutdownGuard, Stats};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt as _;

/// Long enough for anything that is going to happen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

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
    pub(crate) address: SocketAddr,
    guard: ShutdownGuard,
    sink: MemorySink,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Server {
    /// Serves an axum application.
    pub(crate) fn axum(config: Config, app: impl FnOnce() -> Router + Send + 'static) -> Self {
        Self::axum_built(tracing_activity::builder().config(config), app)
    }

    /// The same, set up by a builder.
    pub(crate) fn axum_built(
        builder: Builder,
        app: impl FnOnce() -> Router + Send + 'static,
    ) -> Self {
        Self::built(builder, |listener| async move {
            let app = app().into_make_service_with_connect_info::<SocketAddr>();
            axum::serve(listener, app).await.unwrap();
        })
    }

    /// Runs `serve` on a thread of its own, under a subscriber that records for this server only.
    pub(crate) fn run<F: Future<Output = ()>>(
        config: Config,
        serve: impl FnOnce(TcpListener) -> F + Send + 'static,
    ) -> Self {
        Self::built(tracing_activity::builder().config(config), serve)
    }

    /// The same, set up by a builder.
    pub(crate) fn built<F: Future<Output = ()>>(
        builder: Builder,
        serve: impl FnOnce(TcpListener) -> F + Send + 'static,
    ) -> Self {
        quiet_on_purpose();
        let sink = MemorySink::new();
        let (layer, guard) = builder.sink(sink.clone()).build().unwrap();
        let dispatch = Dispatch::new(Registry::default().with(layer));
        let (tell, told) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            tracing::dispatcher::with_default(&dispatch, || {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                    tell.send(listener.local_addr().unwrap()).unwrap();
                    tokio::select! {
                        () = serve(listener) => {}
                        _ = stopped => {}
                    }
                });
                // Connections that are still open are dropped under this subscriber.
                drop(runtime);
            });
        });
        Self { address: told.recv().unwrap(), guard, sink, stop, thread }
    }

    /// Sends a request and leaves the answer unread.
    pub(crate) fn send(&self, method: &str, target: &str, headers: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let request = format!(
            "{method} {target} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n{headers}\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        stream
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

    /// Sends a request, reads until `part` came, and goes away.
    pub(crate) fn leave_after(&self, target: &str, part: &str) {
        let _ = self.begin("GET", target, "", part).shutdown(Shutdown::Both);
    }

    /// Sends a request and reads until `part` came.
    pub(crate) fn begin(&self, method: &str, target: &str, headers: &str, part: &str) -> TcpStream {
        let mut stream = self.send(method, target, headers);
        let mut seen = String::new();
        let mut buffer = [0; 64];
        while !seen.contains(part) {
            let count = stream.read(&mut buffer).unwrap();
            assert!(count > 0, "the answer ended before {part:?}: {seen}");
            seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        stream
    }

    /// Waits until so many activities have met their fate.
    pub(crate) fn wait_for(&self, count: u64) {
        wait_until(&format!("{count} activities"), || {
            let stats = self.guard.stats();
            stats.stored >= count && stats.in_flight() == 0
        });
    }

    /// The counters.
    pub(crate) fn stats(&self) -> Stats {
        self.guard.stats()
    }

    /// Waits until so many are under way.
    pub(crate) fn wait_for_open(&self, count: u64) {
        wait_until(&format!("{count} requests"), || self.guard.stats().in_flight() == count);
    }

    /// The activities so far, once there are `count` of them.
    pub(crate) fn activities(&self, count: usize) -> Vec<Activity> {
        self.wait_for(count as u64);
        self.sink.activities()
    }

    /// The only activity so far.
    pub(crate) fn one(&self) -> Activity {
        let mut activities = self.activities(1);
        assert_eq!(activities.len(), 1, "{activities:#?}");
        activities.remove(0)
    }

    /// Ends the capture while the service goes on, and stops that; gives everything that was recorded.
    pub(crate) fn end_capture(self) -> (Vec<Activity>, Stats) {
        let report = self.guard.shutdown(DEADLINE);
        assert!(report.complete, "{}", report.stats);
        let _ = self.stop.send(());
        self.thread.join().unwrap();
        (self.sink.activities(), report.stats)
    }

    /// Stops the service; gives everything that was recorded.
    pub(crate) fn stop(self) -> (Vec<Activity>, Stats) {
        let _ = self.stop.send(());
        self.thread.join().unwrap();
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

/// Parts without end.
pub(crate) fn endless() -> Body {
    let parts = futures_util::stream::repeat_with(|| {
        Ok::<_, Infallible>(Bytes::from_static(b"data: part\n\n"))
    });
    Body::from_stream(futures_util::StreamExt::then(parts, |part| async {
        tokio::task::yield_now().await;
        part
    }))
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
