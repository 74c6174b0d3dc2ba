//! The end that a signal asks for: SIGTERM, by which services are stopped, and SIGINT, which is Ctrl-C.
//!
//! The signals are listened to by tokio, on a thread and a runtime of our own: whatever else listens by
//! tokio is told as well, whatever handler was there before is called, and no executor is asked of the
//! application. What listening takes away is that the signal ends the process by itself.

use std::future::{Future, pending};
use std::io;
use std::sync::{Arc, Weak, mpsc};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use super::handle::{Handle, Running};
use crate::pipeline::silence;
use crate::warn;

/// A future that is ready when the process is asked to end. `patience` later, what is still captured
/// by `handle` is delivered, if nobody has seen to it.
///
/// The signals are listened to when this returns, and until the future is dropped.
pub(super) fn asked_to_end(
    handle: &Handle,
    patience: Duration,
) -> impl Future<Output = ()> + Send + use<> {
    let running = handle.running.as_ref().map_or_else(Weak::new, Arc::downgrade);
    let (tell, told) = oneshot::channel();
    let (ready, is_ready) = mpsc::sync_channel(1);
    let listening = thread::Builder::new()
        .name("activity-signal".to_owned())
        .spawn(move || {
            silence::begin();
            if listen(tell, &ready, patience) {
                end(&running);
            }
            silence::end();
        })
        .and_then(|_| is_ready.recv().unwrap_or_else(|_| Err(io::ErrorKind::Other.into())));
    if let Err(error) = listening {
        warn::once(&format!(
            "signals cannot be listened to: {error}; call shutdown before the process ends"
        ));
    }
    async move {
        if told.await.is_err() {
            // Nobody listens, so nobody is told.
            pending::<()>().await;
        }
    }
}

/// Listens until a signal comes, tells, and lets `patience` pass. `false` when nobody wants to know.
fn listen(
    mut tell: oneshot::Sender<()>,
    ready: &mpsc::SyncSender<io::Result<()>>,
    patience: Duration,
) -> bool {
    let runtime = match silence::runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = ready.send(Err(error));
            return false;
        }
    };
    runtime.block_on(async {
        let mut signals = match Signals::new() {
            Ok(signals) => signals,
            Err(error) => {
                let _ = ready.send(Err(error));
                return false;
            }
        };
        let _ = ready.send(Ok(()));
        let came = std::future::poll_fn(|cx| match signals.poll(cx) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending => tell.poll_closed(cx).map(|()| false),
        });
        if !came.await {
            return false;
        }
        let _ = tell.send(());
        tokio::time::sleep(patience.min(Duration::from_hours(365 * 24))).await;
        true
    })
}

/// Ends capture and delivers, at most for the configured time.
fn end(running: &Weak<Running>) {
    if let Some(running) = running.upgrade() {
        Handle { running: Some(running) }.shutdown(None);
    }
}

#[cfg(unix)]
struct Signals([tokio::signal::unix::Signal; 2]);

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self([signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?]))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let came = self.0.iter_mut().any(|it| it.poll_recv(cx).is_ready());
        if came { Poll::Ready(()) } else { Poll::Pending }
    }
}

#[cfg(not(unix))]
struct Signals(std::pin::Pin<Box<dyn Future<Output = io::Result<()>>>>);

#[cfg(not(unix))]
impl Signals {
    #[allow(clippy::unnecessary_wraps, reason = "elsewhere it may fail")]
    fn new() -> io::Result<Self> {
        Ok(Self(Box::pin(tokio::signal::ctrl_c())))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx).map(drop)
    }
}
