//! Requests that nobody ends, and callbacks that panic.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actix_web::dev::Service as _;
use actix_web::{HttpMessage as _, web};
use tracing_activity::middleware::Identity;
use tracing_activity::middleware::actix::RequestSpan;
use tracing_activity::model::Outcome::Success;

use crate::server::{ON_PURPOSE, Server, config, wait_until};

struct Broken;

impl Identity for Broken {
    fn user_id(&self) -> Option<Cow<'_, str>> {
        panic!("{ON_PURPOSE}");
    }
}

#[test]
fn a_request_that_a_stopping_server_drops_is_nobodys_fault() {
    let reached = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&reached);
    let server = Server::with(move |config| {
        let reached = Arc::clone(&reached);
        let hang = move || {
            reached.store(true, Ordering::Relaxed);
            std::future::pending::<String>()
        };
        config.route("/hang", web::get().to(hang));
    });
    let client = server.send("GET", "/hang", "");
    wait_until("the handler hangs", || seen.load(Ordering::Relaxed));
    let (activities, _) = server.stop();
    drop(client);
    let [it] = &*activities else { panic!("{activities:#?}") };
    assert_eq!((it.status, it.outcome, &*it.error_kind), (0, Success, "abandoned"));
    assert!(it.incomplete);
}

#[test]
fn callbacks_that_panic_cost_the_client_no_answer_and_the_request_no_row() {
    let opened = RequestSpan::new().on_request(|_, _| panic!("{ON_PURPOSE}"));
    for span in [opened, RequestSpan::new().identity::<Broken>()] {
        let server = Server::new(config(), span, |config| {
            let user = web::scope("").wrap_fn(|request, next| {
                request.extensions_mut().insert(Broken);
                next.call(request)
            });
            config.service(user.route("/", web::get().to(async || "index")));
        });
        for _ in 0..40 {
            assert!(server.get("/").starts_with("HTTP/1.1 200"));
        }
        server.activities(40);
        let (activities, stats) = server.stop();
        assert_eq!((stats.created, stats.stored, stats.panics), (40, 40, 40), "{stats}");
        assert!(activities.iter().all(|it| (it.status, it.outcome) == (200, Success)));
    }
}
