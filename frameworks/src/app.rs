//! The application that every framework serves: what its handlers do, whoever calls them.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, stream};
use tokio::sync::oneshot;
use tracing::{Instrument as _, info_span, instrument};

/// Parts of the slow answer.
pub(crate) const PARTS: u32 = 8;

/// Time before each part.
pub(crate) const PAUSE: Duration = Duration::from_millis(60);

/// How long the spawned task runs, most of it behind the answer.
pub(crate) const AFTERWARDS: Duration = Duration::from_secs(1);

/// How long the client would have to wait that leaves.
const LONG: Duration = Duration::from_secs(2);

/// What the handler says that panics.
pub(crate) const PANIC: &str = "out of ink";

/// The spans of the nested handler, from outside to inside.
pub(crate) const NESTED: [&str; 5] = ["checkout", "price", "discount", "customer", "select"];

/// The span of the spawned task.
pub(crate) const SPAWNED: &str = "send_mail";

/// Requests that came to the handler that takes long.
pub(crate) static HANGING: AtomicU64 = AtomicU64::new(0);

/// The name of a user; nobody has a number above 100.
#[instrument]
pub(crate) async fn user(id: u32) -> Option<String> {
    tokio::task::yield_now().await;
    (id <= 100).then(|| format!("user {id}"))
}

/// Runs into the floor.
pub(crate) fn panics() -> String {
    panic!("{PANIC}");
}

/// Parts that come slowly.
pub(crate) fn parts() -> impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static {
    stream::unfold(0, |count| async move {
        tokio::time::sleep(PAUSE).await;
        (count < PARTS).then(|| (Ok(Bytes::from_static(b"part ")), count + 1))
    })
}

/// Answers when the client has left.
pub(crate) async fn hangs() -> String {
    HANGING.fetch_add(1, Ordering::SeqCst);
    tokio::time::sleep(LONG).await;
    "too late".to_owned()
}

/// Five spans, each inside of the one before.
#[instrument]
pub(crate) async fn checkout() -> String {
    price().await
}

#[instrument]
async fn price() -> String {
    tokio::task::yield_now().await;
    discount().await
}

#[instrument]
async fn discount() -> String {
    customer().await
}

#[instrument]
async fn customer() -> String {
    tokio::task::yield_now().await;
    select().await
}

#[instrument]
async fn select() -> String {
    tokio::task::yield_now().await;
    "9.90".to_owned()
}

/// Leaves a task behind that has begun and is not done when the answer is there.
pub(crate) async fn spawns() -> String {
    let (begun, has_begun) = oneshot::channel();
    let task = async move {
        let _ = begun.send(());
        tokio::time::sleep(AFTERWARDS).await;
    };
    tokio::spawn(task.instrument(info_span!("send_mail")));
    has_begun.await.map_or_else(|_| "lost", |()| "sent soon").to_owned()
}
