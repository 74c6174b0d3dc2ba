//! Requests that nobody ends: the process, its runtime or a limit does. And callbacks that panic.

use std::borrow::Cow;
use std::convert::Infallible;
use std::io::{Read as _, Write as _};
use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{Request, Response, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Extension, Router};
use futures_util::{StreamExt as _, stream};
use tower::{Layer as _, Service as _, ServiceExt as _, service_fn};
use tower_http::trace::TraceLayer;
use tracing::Dispatch;
use tracing_activity::middleware::{Identity, IdentityLayer, RequestSpanLayer};
use tracing_activity::model::Activity;
use tracing_activity::model::Outcome::{self, ClientFault, ServerFault, Success};
use tracing_activity::sink::MemorySink;
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::server::{DEADLINE, ON_PURPOSE, Server, config, wait_until};

/// Parts without an end, of which only the first comes.
fn stalled() -> Body {
    let first = stream::iter([Ok::<_, Infallible>(Bytes::from_static(b"data: part\n\n"))]);
    Body::from_stream(first.chain(stream::pending()))
}

fn routes() -> Router {
    Router::new()
        .route("/", get(|| async { "index" }))
        .route("/hang", get(std::future::pending::<()>))
        .route("/download", get(|| async { stalled() }))
        .route(
            "/events",
            get(|| async { ([(header::CONTENT_TYPE, "text/event-stream")], stalled()) }),
        )
        .route("/call", get(|| async { ([(header::CONTENT_TYPE, "application/grpc")], stalled()) }))
}

fn essence(it: &Activity) -> (&str, u16, Outcome, &str, bool) {
    (&it.route, it.status, it.outcome, &it.error_kind, it.incomplete)
}

/// Asks for all of them, and waits until they are under way, for some time.
fn ask(server: &Server) -> Vec<std::net::TcpStream> {
    let hanging = server.send("GET", "/hang", "");
    let others = ["/download", "/events"].map(|target| server.begin("GET", target, "", "part"));
    server.wait_for_open(3);
    let begin = std::time::Instant::now();
    wait_until("some time", || begin.elapsed() >= TIME);
    std::iter::once(hanging).chain(others).collect()
}

const TIME: Duration = Duration::from_millis(20);

const UNFINISHED: [(&str, u16, Outcome, &str, bool); 3] = [
    ("/download", 200, Success, "abandoned", true),
    ("/events", 200, Success, "abandoned", true),
    ("/hang", 0, Success, "abandoned", true),
];

#[test]
fn answers_under_way_when_the_process_ends_are_nobodys_fault() {
    let server = Server::axum(config(), || routes().layer(RequestSpanLayer::new()));
    let clients = ask(&server);
    let (mut activities, stats) = server.end_capture();
    drop(clients);
    activities.sort_by(|a, b| a.route.cmp(&b.route));
    assert_eq!(activities.iter().map(essence).collect::<Vec<_>>(), UNFINISHED);
    assert!(
        activities.iter().all(|it| Duration::from_micros(it.duration) >= TIME),
        "{activities:#?}"
    );
    assert_eq!((stats.created, stats.in_flight()), (3, 0));
}

#[test]
fn what_ends_after_its_age_says_how_whoever_ends_it() {
    let mut config = config();
    config.capture.max_lifetime = Duration::from_millis(1);
    let server = Server::axum(config, || {
        let upload = post(async |body: Bytes| body.len().to_string());
        routes().route("/upload", upload).layer(RequestSpanLayer::new())
    });
    let length = "content-length: 4\r\n";
    let mut upload = server.send("POST", "/upload", length);
    server.activities(1);
    upload.write_all(b"four").unwrap();
    let mut answer = String::new();
    upload.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with('4'), "{answer}");
    server.activities(2);
    let download = server.begin("GET", "/download", "", "part");
    server.activities(3);
    download.shutdown(std::net::Shutdown::Both).unwrap();
    server.activities(4);
    let (activities, stats) = server.stop();
    assert_eq!((stats.created, stats.stored, stats.late_ends), (4, 4, 2), "{stats}");
    let told: Vec<_> = activities.iter().map(|it| (essence(it), it.late_end)).collect();
    let expected = [
        (("/upload", 0, Success, "abandoned", true), false),
        (("/upload", 200, Success, "", false), true),
        (("/download", 200, Success, "abandoned", true), false),
        (("/download", 200, ClientFault, "client_disconnected", false), true),
    ];
    assert_eq!(told, expected);
    for pair in activities.chunks(2) {
        assert_eq!(pair[0].activity_id, pair[1].activity_id);
        assert!(pair[1].duration >= pair[0].duration);
    }
}

#[test]
fn requests_that_a_runtime_drops_as_it_goes_away_are_nobodys_fault() {
    let server = Server::axum(config(), || routes().layer(RequestSpanLayer::new()));
    let clients = ask(&server);
    let (mut activities, _) = server.stop();
    drop(clients);
    activities.sort_by(|a, b| a.route.cmp(&b.route));
    assert_eq!(activities.iter().map(essence).collect::<Vec<_>>(), UNFINISHED);
}

#[test]
fn so_are_those_that_only_another_layer_traces() {
    let mut config = config();
    config.capture.filter = "debug".parse().unwrap();
    let server = Server::axum(config, || routes().layer(TraceLayer::new_for_http()));
    server.get("/");
    let clients = ask(&server);
    let (activities, _) = server.stop();
    drop(clients);
    let unanswered: Vec<_> =
        activities.iter().filter(|it| it.url == "/hang").map(essence).collect();
    assert_eq!(unanswered, [("", 0, Success, "abandoned", true)]);
    assert!(activities.iter().all(|it| it.outcome == Success), "{activities:#?}");
}

#[test]
fn a_client_that_leaves_while_the_runtime_goes_on_is_one_under_every_kind_of_runtime() {
    for (threads, local) in [(0, false), (2, false), (0, true)] {
        let sink = MemorySink::new();
        let (layer, guard) =
            tracing_activity::builder().config(config()).sink(sink.clone()).build().unwrap();
        let subscriber = Dispatch::new(Registry::default().with(layer));
        let mut builder = match threads {
            0 => tokio::runtime::Builder::new_current_thread(),
            _ => tokio::runtime::Builder::new_multi_thread(),
        };
        let dispatch = subscriber.clone();
        // What runs on its threads is recorded.
        let on_start = move || std::mem::forget(tracing::dispatcher::set_default(&dispatch));
        let runtime =
            builder.worker_threads(threads.max(1)).on_thread_start(on_start).build().unwrap();
        tracing::dispatcher::with_default(&subscriber, || {
            let request = |target: &'static str| async move {
                let request = Request::builder().uri(target).body(Body::empty()).unwrap();
                let answer =
                    routes().layer(RequestSpanLayer::new()).oneshot(request).await.unwrap();
                let mut body = answer.into_body().into_data_stream();
                while body.next().await.is_some() {}
            };
            let under_way = |count: u64| {
                wait_until("they are under way", || guard.stats().created == count);
            };
            let tasks = tokio::task::LocalSet::new();
            let spawn = |target| {
                if local {
                    tasks.spawn_local(request(target))
                } else {
                    runtime.spawn(request(target))
                }
            };
            let pass = || runtime.block_on(tasks.run_until(tokio::task::yield_now()));
            // The task is gone as that of a connection is whose client left.
            for (nth, target) in ["/download", "/hang"].into_iter().enumerate() {
                let task = spawn(target);
                pass();
                under_way(nth as u64 + 1);
                task.abort();
                runtime.block_on(tasks.run_until(async { task.await.unwrap_err() }));
            }
            let _stays = spawn("/hang");
            pass();
            under_way(3);
            drop((tasks, runtime));
        });
        guard.shutdown(DEADLINE);
        let activities = sink.activities();
        let ends: Vec<_> = activities.iter().map(|it| (it.outcome, &*it.error_kind)).collect();
        let left = (ClientFault, "client_disconnected");
        assert_eq!(ends, [left, left, (Success, "abandoned")], "{threads} threads, local: {local}");
    }
}

/// A call that is dropped when `limit` is over, as by a layer outside of ours.
fn cut_off(layer: &RequestSpanLayer, headers: &[(&str, &str)], limit: Duration) -> Activity {
    let sink = MemorySink::new();
    let (activities, guard) =
        tracing_activity::builder().config(config()).sink(sink.clone()).build().unwrap();
    let subscriber = Dispatch::new(Registry::default().with(activities));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    tracing::dispatcher::with_default(&subscriber, || {
        let mut service = layer.layer(service_fn(async |_: Request<Body>| {
            std::future::pending::<Result<Response<Body>, Infallible>>().await
        }));
        let mut request = Request::builder().method("POST").uri("/shop.v1.Users/Get");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        runtime.block_on(async {
            let call = service.call(request);
            assert!(tokio::time::timeout(limit, call).await.is_err());
        });
    });
    guard.shutdown(DEADLINE);
    sink.activities().remove(0)
}

const GRPC: (&str, &str) = ("content-type", "application/grpc");

#[test]
fn a_call_whose_deadline_is_over_says_so_whoever_noticed_it() {
    for layer in [RequestSpanLayer::new(), RequestSpanLayer::new().grpc()] {
        for deadline in ["50m", "50000u", "1m", "0S"] {
            let headers = [GRPC, ("grpc-timeout", deadline)];
            let it = cut_off(&layer, &headers, Duration::from_millis(50));
            let seen = (it.status, it.outcome, it.incomplete);
            assert_eq!(seen, (4, ServerFault, false), "{deadline}: {it:?}");
        }
    }
}

#[test]
fn a_call_that_is_dropped_before_its_deadline_was_cancelled_by_nobody_knows_whom() {
    for headers in [&[GRPC][..], &[GRPC, ("grpc-timeout", "1H")], &[GRPC, ("grpc-timeout", "soon")]]
    {
        let it = cut_off(&RequestSpanLayer::new().grpc(), headers, Duration::from_millis(20));
        let seen = (it.status, it.outcome, &*it.error_kind, it.incomplete);
        assert_eq!(seen, (1, Success, "cancelled", true), "{headers:?}");
        assert_eq!(it.route, "shop.v1.Users/Get");
        assert!(it.duration >= 20_000, "{it:?}");
    }
}

#[test]
fn a_deadline_of_calls_means_nothing_to_other_requests() {
    let headers = [("grpc-timeout", "1m")];
    let it = cut_off(&RequestSpanLayer::new(), &headers, Duration::from_millis(20));
    let seen = (it.status, it.outcome, &*it.error_kind);
    assert_eq!(seen, (0, ClientFault, "client_disconnected"));
}

#[derive(Clone)]
struct Broken;

impl Identity for Broken {
    fn user_id(&self) -> Option<Cow<'_, str>> {
        panic!("{ON_PURPOSE}");
    }
}

#[derive(Clone)]
struct HalfBroken;

impl Identity for HalfBroken {
    fn user_id(&self) -> Option<Cow<'_, str>> {
        Some("u1".into())
    }

    fn session_id(&self) -> Option<Cow<'_, str>> {
        panic!("{ON_PURPOSE}");
    }
}

fn broken<T>() -> Option<T> {
    panic!("{ON_PURPOSE}");
}

#[test]
fn callbacks_that_panic_cost_the_client_no_answer_and_the_request_no_row() {
    type App = fn() -> Router;
    let apps: [(&str, App); 6] = [
        ("route", || routes().layer(RequestSpanLayer::new().route(|_| broken()))),
        ("peer", || routes().layer(RequestSpanLayer::new().peer(|_| broken::<IpAddr>()))),
        ("on_request", || {
            routes().layer(RequestSpanLayer::new().on_request(|_, _| {
                broken::<()>();
            }))
        }),
        ("identity", || {
            let layer = RequestSpanLayer::new().identity::<Broken>();
            routes().layer(layer).layer(Extension(Broken))
        }),
        ("identity of the answer", || {
            let tell = get(|| async { (Extension(HalfBroken), "told").into_response() });
            let layer = RequestSpanLayer::new().identity::<HalfBroken>();
            Router::new().route("/", tell).layer(layer)
        }),
        ("IdentityLayer", || {
            let inner = routes().layer(IdentityLayer::<Broken>::new());
            inner.layer(Extension(Broken)).layer(RequestSpanLayer::new())
        }),
    ];
    for (name, app) in apps {
        let server = Server::axum(config(), app);
        for _ in 0..40 {
            assert!(server.get("/").starts_with("HTTP/1.1 200"), "{name}");
        }
        server.wait_for(40);
        let (activities, stats) = server.stop();
        assert_eq!((stats.created, stats.stored, stats.panics), (40, 40, 40), "{name}: {stats}");
        for it in &activities {
            assert_eq!(essence(it), ("/", 200, Success, "", false), "{name}");
        }
    }
}

type Answers = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

#[test]
fn a_call_that_streams_when_the_process_ends_is_nobodys_fault() {
    let server = Server::run(config(), |listener| async move {
        let streams = service_fn(|_: Request<Body>| -> Answers {
            let answer = Response::builder().header(GRPC.0, GRPC.1).body(stalled());
            Box::pin(async { Ok(answer.unwrap()) })
        });
        let app = Router::new().fallback_service(streams).layer(RequestSpanLayer::new().grpc());
        axum::serve(listener, app).await.unwrap();
    });
    let headers = "content-type: application/grpc\r\ncontent-length: 0\r\n";
    let client = server.begin("POST", "/shop.v1.Users/Watch", headers, "part");
    let (activities, _) = server.end_capture();
    drop(client);
    let [it] = &*activities else { panic!("{activities:#?}") };
    assert_eq!(essence(it), ("shop.v1.Users/Watch", 0, Success, "abandoned", true));
}
