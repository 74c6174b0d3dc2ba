//! What an application's tests are given: `testing::capture` and `assert_shape!`.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tracing::instrument::WithSubscriber as _;
use tracing::{Instrument as _, Span, info_span, instrument};
use tracing_activity::testing::{Capture, Captured, capture, capture_async};
use tracing_activity::{assert_shape, with_activity};

use crate::support::request;

#[instrument]
async fn load(id: u32) {
    tokio::task::yield_now().await;
}

#[instrument(err)]
async fn pay(works: bool) -> Result<(), std::io::Error> {
    load(7).await;
    if works { Ok(()) } else { Err(std::io::ErrorKind::ConnectionRefused.into()) }
}

#[instrument]
async fn reserve() {
    tokio::task::yield_now().await;
}

/// A small request, as an application has them.
async fn checkout(works: bool) {
    let request = info_span!("request", http.request.method = "POST", http.route = "/checkout");
    async {
        with_activity(|a| a.event("checkout"));
        for id in 0..3 {
            load(id).await;
        }
        let ((), paid) = tokio::join!(reserve(), pay(works));
        if paid.is_ok() {
            load(9).await;
        }
    }
    .instrument(request)
    .await;
}

fn routes(captured: &Captured) -> Vec<&str> {
    captured.iter().map(|activity| activity.route.as_str()).collect()
}

#[tokio::test]
async fn the_shape_of_a_request_is_held_to_a_text_in_the_test() {
    let (captured, ()) = capture_async(checkout(true)).await;
    assert_eq!(captured.only().ekind, "checkout");
    assert_shape!(captured.only(), @"
    request  in it::testing  {http.request.method, http.route}
      load  {id}  x2+
      & at the same time
        pay  {works}
          load  {id}
        reserve
      load  {id}
    ");
}

#[tokio::test]
async fn the_shape_of_a_failure_is_held_to_a_file_beside_the_test() {
    let (captured, ()) = capture_async(checkout(false)).await;
    assert_shape!("a checkout that fails", captured.only());
}

#[tokio::test]
async fn what_changed_is_told_in_words_before_insta_shows_it() {
    let (captured, ()) = capture_async(checkout(true)).await;
    let (failed, ()) = capture_async(checkout(false)).await;
    assert_eq!(
        captured.only().shape.changes(&failed.only().shape),
        ["`pay` in `request` now fails: error", "`load` is gone from `request`",]
    );
}

#[tokio::test]
#[ignore = "fails on purpose: the test below runs it"]
async fn differs_from_its_snapshot() {
    let (captured, ()) = capture_async(checkout(true)).await;
    assert_shape!(captured, @"
    request  in it::testing  {http.request.method, http.route}
      load  {id}
      pay  {works}
        load  {id}
      reserve
      load  {id}
      mail
    ");
}

#[test]
fn a_test_that_fails_tells_in_words_what_changed_and_how_to_accept_it() {
    let run = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "testing::differs_from_its_snapshot", "--nocapture"])
        .env("INSTA_UPDATE", "no")
        .output()
        .unwrap();
    assert!(!run.status.success());
    let text = String::from_utf8_lossy(&run.stderr);
    let words = "\
the shape of this activity changed:
- `load` in `request` now runs more than once
- `pay` and `reserve` in `request` now run at the same time
- `mail` is gone from `request`
If that is meant, accept it with `cargo insta review`.
";
    assert!(text.contains(words), "{text}");
}

#[test]
fn activities_stand_in_the_order_in_which_they_began() {
    let begin = |route: &'static str| info_span!("request", http.route = route);
    let captured = capture(|| {
        let (first, second) = (begin("/first"), begin("/second"));
        begin("/third").in_scope(|| ());
        drop(second);
        drop(first);
    });
    assert_eq!(routes(&captured), ["/first", "/second", "/third"]);
    assert!(captured.iter().all(|activity| activity.trace.is_some()));
}

#[test]
fn captures_on_many_threads_at_once_see_their_own_and_nothing_else() {
    std::thread::scope(|scope| {
        for n in 0..8_usize {
            scope.spawn(move || {
                for _ in 0..5 {
                    let captured = capture(|| {
                        for _ in 0..=n {
                            request!("http.route" = n.to_string()).in_scope(|| ());
                        }
                    });
                    assert_eq!(routes(&captured), vec![n.to_string(); n + 1]);
                }
            });
        }
    });
}

#[tokio::test]
async fn spawned_tasks_with_spans_of_their_own_are_seen_on_a_runtime_with_one_thread() {
    let capture = Capture::begin();
    let tasks: Vec<_> = (0..3).map(|_| tokio::spawn(checkout(true))).collect();
    for task in tasks {
        task.await.unwrap();
    }
    let captured = capture.finish_async().await;
    assert_eq!(captured.len(), 3);
    assert!(captured.iter().all(|activity| activity.shape == captured[0].shape), "{captured}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn what_carries_a_span_of_the_capture_is_seen_on_other_threads() {
    let here = std::thread::current().id();
    let (captured, ()) = capture_async(async {
        let request = request!("http.route" = "/spread");
        async {
            // Begins spans of its own there, two levels deep.
            let spawned = tokio::spawn(
                async move {
                    load(1).await;
                    tokio::spawn(load(2).instrument(Span::current())).await.unwrap();
                }
                .instrument(info_span!("spawned")),
            );
            spawned.await.unwrap();
            let blocking = info_span!("blocking");
            let elsewhere = tokio::task::spawn_blocking(move || {
                blocking.in_scope(|| info_span!("inside").in_scope(|| ()));
                std::thread::current().id()
            });
            assert_ne!(elsewhere.await.unwrap(), here);
        }
        .instrument(request)
        .await;
    })
    .await;
    assert_shape!(captured, @"
    request  in it::testing  {http.request.method, http.route}
      spawned
        load  {id}  x2+
      blocking
        inside
    ");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_begins_on_other_threads_is_seen_when_given_the_dispatch() {
    let capture = Capture::begin();
    let unseen = tokio::spawn(checkout(true));
    let seen = tokio::spawn(checkout(true).with_subscriber(capture.dispatch()));
    unseen.await.unwrap();
    seen.await.unwrap();
    assert_eq!(capture.finish_async().await.len(), 1);
}

#[test]
fn after_a_span_is_left_the_subscriber_of_another_thread_is_its_own_again() {
    let outer = Capture::begin();
    let span = request!("http.route" = "/outer");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let inner = capture(|| {
                span.in_scope(|| info_span!("of the outer").in_scope(|| ()));
                request!("http.route" = "/inner").in_scope(|| ());
            });
            assert_eq!(routes(&inner), ["/inner"]);
        });
    });
    drop(span);
    let captured = outer.finish();
    assert_shape!(captured.only(), @"
    request  in it::testing  {http.request.method, http.route}
      of the outer
    ");
}

#[tokio::test]
async fn an_activity_under_way_is_waited_for() {
    let (go, wait) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let capture = Capture::begin();
    let task = tokio::spawn({
        let (go, wait) = (Arc::clone(&go), Arc::clone(&wait));
        async move {
            wait.notify_one();
            go.notified().await;
        }
        .instrument(request!("http.route" = "/later"))
    });
    wait.notified().await;
    let captured = async {
        // The request ends while the capture waits for it.
        let (captured, ()) = tokio::join!(capture.finish_async(), async {
            tokio::task::yield_now().await;
            go.notify_one();
        });
        captured
    }
    .await;
    task.await.unwrap();
    assert_eq!(routes(&captured), ["/later"]);
    assert_ne!(captured.only().error_kind, "abandoned");
}

#[tokio::test]
async fn an_activity_that_never_ends_is_an_error_that_shows_it() {
    let capture = Capture::begin();
    let held = request!("http.route" = "/held");
    held.in_scope(|| info_span!("inside").in_scope(|| ()));
    let unfinished = capture.finish_async_within(Duration::from_millis(20)).await.unwrap_err();
    let text = unfinished.to_string();
    assert!(text.starts_with("1 of 1 activities had not ended after 20ms"), "{text}");
    assert!(text.contains("  inside"), "{text}");
    let captured = unfinished.into_captured();
    assert_eq!(captured.only().error_kind, "abandoned");
}

#[test]
fn nothing_captured_is_told_with_what_may_be_wrong() {
    let captured = capture(|| info_span!("no request").in_scope(|| ()));
    let panic = std::panic::catch_unwind(|| {
        let _ = captured.only();
    });
    let message = *panic.unwrap_err().downcast::<&str>().unwrap();
    assert!(message.contains("is there a span that a request is recognised by"), "{message}");
}
