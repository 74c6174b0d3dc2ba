//! The set-ups: a framework, and who tells what happens in it.
//!
//! Each serves the application of `app` as a user of the framework would write it. What an emitter
//! cannot tell is stated here with the reason, and nowhere else: the matrix fails when a column is
//! wrong that is not listed, and when one is right that is.

mod actix;
mod axum;
mod poem;
mod salvo;
pub(crate) mod tonic;
mod warp;

use std::future::Future;
use std::net::TcpListener;

use anyhow::{Context as _, Result};

use crate::matrix::{Behaviour, Column};

/// What the application speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
    Grpc,
    GrpcWeb,
}

/// A column that an emitter cannot tell.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Untold {
    pub(crate) column: Column,
    /// Empty: never.
    pub(crate) when: &'static [Behaviour],
    pub(crate) because: &'static str,
}

impl Untold {
    pub(crate) fn concerns(&self, behaviour: Behaviour, column: Column) -> bool {
        self.column == column && (self.when.is_empty() || self.when.contains(&behaviour))
    }
}

/// A framework and its emitter.
#[derive(Debug)]
pub(crate) struct Setup {
    /// Its name on the command line.
    pub(crate) key: &'static str,
    pub(crate) framework: &'static str,
    pub(crate) emitter: &'static str,
    /// It is one of the nine that the matrix counts; others are shown beside them.
    pub(crate) counts: bool,
    pub(crate) protocol: Protocol,
    pub(crate) untold: &'static [Untold],
    serve: fn(TcpListener) -> Result<()>,
}

impl Setup {
    /// Serves the application until the process ends.
    pub(crate) fn serve(&self, listener: TcpListener) -> Result<()> {
        (self.serve)(listener)
    }

    pub(crate) fn named(key: &str) -> Result<&'static Self> {
        ALL.iter().find(|it| it.key == key).with_context(|| {
            let keys: Vec<_> = ALL.iter().map(|it| it.key).collect();
            format!("{key:?} is no set-up: expected one of {}", keys.join(", "))
        })
    }
}

/// Runs `serve` on two threads of tokio.
fn on_tokio<F: Future<Output = Result<()>>>(
    listener: TcpListener,
    serve: impl FnOnce(tokio::net::TcpListener) -> F,
) -> Result<()> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().build()?.block_on(async {
        listener.set_nonblocking(true)?;
        serve(tokio::net::TcpListener::from_std(listener)?).await
    })
}

const NO_ROUTE: Untold =
    Untold { column: Column::Route, when: &[], because: "the span carries the path, and no route" };

const NO_PATH: Untold = Untold {
    column: Column::Url,
    when: &[],
    because: "the span carries service and method, and no path",
};

/// Of calls that ended without a code.
const CALLED_BY_CODE: [Untold; 2] = [
    Untold {
        column: Column::Method,
        when: &[Behaviour::Panic, Behaviour::Leaves, Behaviour::LeavesMidway],
        because: "the span is that of any request; only a code tells that it was a call",
    },
    Untold {
        column: Column::Route,
        when: &[Behaviour::Panic, Behaviour::Leaves, Behaviour::LeavesMidway],
        because: "the span is that of any request; only a code tells that it was a call",
    },
];

const ENDS_UNTOLD: Untold = Untold {
    column: Column::Outcome,
    when: &[Behaviour::LeavesMidway],
    because: "nothing is said when the body is dropped, and a body that was sent in full need not be \
              asked for its end: it looks the same",
};

/// What a call that is dropped before its answer leaves untold.
const DROPPED_BY_WHOM: [Untold; 2] = {
    const BECAUSE: &str = "a limit that the server keeps outside of the layer drops a call as its client \
                               does: the code is CANCELLED, and nobody is blamed";
    [
        Untold { column: Column::Status, when: &[Behaviour::Leaves], because: BECAUSE },
        Untold { column: Column::Outcome, when: &[Behaviour::Leaves], because: BECAUSE },
    ]
};

const GOES_ON: &str = "the handler goes on when the client has left, and its answer counts";

const ENDS_WITH_HEAD: Untold = Untold {
    column: Column::Duration,
    when: &[Behaviour::Slow, Behaviour::LeavesMidway],
    because: "the span ends with the head of the answer, before its body",
};

/// All set-ups: those that count first.
pub(crate) const ALL: &[Setup] = &[
    Setup {
        key: "axum-trace-layer",
        framework: "axum",
        emitter: "tower-http `TraceLayer`",
        counts: true,
        protocol: Protocol::Http1,
        untold: &[NO_ROUTE, ENDS_UNTOLD],
        serve: |listener| on_tokio(listener, axum::trace_layer),
    },
    Setup {
        key: "axum-opentelemetry",
        framework: "axum",
        emitter: "axum-tracing-opentelemetry",
        counts: true,
        protocol: Protocol::Http1,
        untold: &[ENDS_WITH_HEAD, ENDS_UNTOLD],
        serve: |listener| on_tokio(listener, axum::opentelemetry),
    },
    Setup {
        key: "axum",
        framework: "axum",
        emitter: "`RequestSpanLayer`",
        counts: true,
        protocol: Protocol::Http1,
        untold: &[],
        serve: |listener| on_tokio(listener, axum::ours),
    },
    Setup {
        key: "tonic",
        framework: "tonic",
        emitter: "`RequestSpanLayer`",
        counts: true,
        protocol: Protocol::Grpc,
        untold: &DROPPED_BY_WHOM,
        serve: |listener| on_tokio(listener, tonic::ours),
    },
    Setup {
        key: "warp-trace",
        framework: "warp",
        emitter: "`warp::trace::request`",
        counts: true,
        protocol: Protocol::Http1,
        untold: &[NO_ROUTE, ENDS_WITH_HEAD, ENDS_UNTOLD],
        serve: |listener| on_tokio(listener, warp::trace),
    },
    Setup {
        key: "actix-tracing",
        framework: "actix-web",
        emitter: "tracing-actix-web",
        counts: true,
        protocol: Protocol::Http1,
        untold: &[ENDS_UNTOLD],
        serve: actix::tracing_logger,
    },
    Setup {
        key: "actix",
        framework: "actix-web",
        emitter: "`actix::RequestSpan`",
        counts: true,
        protocol: Protocol::Http1,
        untold: &[],
        serve: actix::ours,
    },
    Setup {
        key: "poem-tracing",
        framework: "poem",
        emitter: "`poem::middleware::Tracing`",
        counts: true,
        protocol: Protocol::Http1,
        untold: &[
            NO_ROUTE,
            ENDS_WITH_HEAD,
            ENDS_UNTOLD,
            Untold { column: Column::Status, when: &[Behaviour::Leaves], because: GOES_ON },
            Untold { column: Column::Outcome, when: &[Behaviour::Leaves], because: GOES_ON },
            Untold { column: Column::Start, when: &[Behaviour::Leaves], because: GOES_ON },
        ],
        serve: |listener| on_tokio(listener, poem::tracing),
    },
    Setup {
        key: "salvo-logger",
        framework: "salvo",
        emitter: "`salvo::logging::Logger`",
        counts: true,
        protocol: Protocol::Http1,
        untold: &[NO_ROUTE, ENDS_WITH_HEAD, ENDS_UNTOLD],
        serve: |listener| on_tokio(listener, salvo::logger),
    },
    Setup {
        key: "axum-http2",
        framework: "axum over HTTP/2",
        emitter: "`RequestSpanLayer`",
        counts: false,
        protocol: Protocol::Http2,
        untold: &[],
        serve: |listener| on_tokio(listener, axum::ours),
    },
    Setup {
        key: "warp",
        framework: "warp",
        emitter: "`RequestSpanLayer`",
        counts: false,
        protocol: Protocol::Http1,
        untold: &[NO_ROUTE],
        serve: |listener| on_tokio(listener, warp::ours),
    },
    Setup {
        key: "tonic-web",
        framework: "tonic over gRPC-Web",
        emitter: "`RequestSpanLayer`",
        counts: false,
        protocol: Protocol::GrpcWeb,
        untold: &DROPPED_BY_WHOM,
        serve: |listener| on_tokio(listener, tonic::web),
    },
    Setup {
        key: "tonic-trace-layer",
        framework: "tonic",
        emitter: "tower-http `TraceLayer`",
        counts: false,
        protocol: Protocol::Grpc,
        untold: &CALLED_BY_CODE,
        serve: |listener| on_tokio(listener, tonic::trace_layer),
    },
    Setup {
        key: "tonic-opentelemetry",
        framework: "tonic",
        emitter: "tonic-tracing-opentelemetry",
        counts: false,
        protocol: Protocol::Grpc,
        untold: &[NO_PATH, ENDS_WITH_HEAD, ENDS_UNTOLD],
        serve: |listener| on_tokio(listener, tonic::opentelemetry),
    },
];
