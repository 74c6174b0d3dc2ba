//! The requests that are traced.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use fastrace::local::LocalSpan;
use tracing::field::Empty;
use tracing::{Dispatch, Instrument as _, Span, info, info_span};

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A root, four children with a grandchild each, three fields each, an event with a field and a
    /// message, and a status that comes late.
    Usual,
    /// As usual, with this many children without grandchildren.
    Children(u32),
    /// As usual, with this many events.
    Events(u32),
    /// A future polled ten times under the root.
    Polls,
    /// Children on this many threads of their own.
    Threads(u32),
}

impl Shape {
    /// Serves one such request.
    pub fn run(self, n: u64) {
        let root = info_span!(
            "request",
            http.request.method = "GET",
            url.path = "/products/17",
            http.response.status_code = Empty
        );
        match self {
            Self::Usual => root.in_scope(|| {
                for i in 0..4_u64 {
                    info_span!("child", i, text = "some text", n).in_scope(|| {
                        info_span!("grandchild", i, text = "more text", flag = true)
                            .in_scope(|| ());
                    });
                }
                info!(n, "event");
            }),
            Self::Children(children) => root.in_scope(|| {
                for i in 0..children {
                    info_span!("child", i, text = "some text", n).in_scope(|| ());
                }
            }),
            Self::Events(events) => root.in_scope(|| {
                for i in 0..events {
                    info!(i, text = "text of an event", "event");
                }
            }),
            Self::Polls => poll_ten_times(root.clone()),
            Self::Threads(threads) => root.in_scope(|| children_on_threads(threads, n)),
        }
        root.record("http.response.status_code", 200);
    }
}

fn poll_ten_times(root: Span) {
    let mut left = 10;
    let future = std::future::poll_fn(|_| {
        left -= 1;
        if left == 0 { Poll::Ready(()) } else { Poll::Pending }
    });
    let mut future = pin!(future.instrument(root));
    let mut context = Context::from_waker(Waker::noop());
    while future.as_mut().poll(&mut context).is_pending() {}
}

fn children_on_threads(threads: u32, n: u64) {
    let span = Span::current();
    let dispatch = tracing::dispatcher::get_default(Dispatch::clone);
    std::thread::scope(|scope| {
        for i in 0..threads {
            let (span, dispatch) = (span.clone(), dispatch.clone());
            scope.spawn(move || {
                tracing::dispatcher::with_default(&dispatch, || {
                    span.in_scope(|| {
                        for _ in 0..8 {
                            info_span!("child", i, text = "some text", n).in_scope(|| ());
                        }
                    });
                });
            });
        }
    });
}

/// The usual request, as one writes it with fastrace and values that are known at run time.
pub fn fastrace_request(n: u64) {
    use fastrace::prelude::{Event, Span, SpanContext};
    let root = Span::root("request", SpanContext::random()).with_properties(|| {
        [("http.request.method", "GET".to_owned()), ("url.path", "/products/17".to_owned())]
    });
    let guard = root.set_local_parent();
    for i in 0..4_u64 {
        let _child = LocalSpan::enter_with_local_parent("child").with_properties(|| {
            [("i", i.to_string()), ("text", "some text".to_owned()), ("n", n.to_string())]
        });
        let _grandchild = LocalSpan::enter_with_local_parent("grandchild").with_properties(|| {
            [("i", i.to_string()), ("text", "more text".to_owned()), ("flag", true.to_string())]
        });
    }
    LocalSpan::add_event(
        Event::new("event")
            .with_properties(|| [("n", n.to_string()), ("text", "text of an event".to_owned())]),
    );
    drop(guard);
    root.add_property(|| ("http.response.status_code", 200.to_string()));
}
