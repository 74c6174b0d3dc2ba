use tracing::{Instrument, error, info_span, instrument};
use tracing_activity::testing::{Captured, capture, capture_async};

#[instrument]
fn query(id: u32) {}

#[instrument(level = "warn", skip_all, fields(otel.kind = "client"))]
fn remote() {}

#[instrument(err)]
fn pay(works: bool) -> Result<(), std::fmt::Error> {
    query(1);
    if works { Ok(()) } else { Err(std::fmt::Error) }
}

#[instrument]
async fn slow(name: &str) {
    tokio::task::yield_now().await;
}

fn request(work: impl FnOnce()) -> Captured {
    capture(|| info_span!("request", http.request.method = "GET", http.route = "/").in_scope(work))
}

fn main() {
    let paths = [
        request(|| ()),
        request(|| (0..3).for_each(query)),
        request(|| {
            for id in 0..4 {
                query(id);
                remote();
                pay(true).unwrap();
            }
        }),
        request(|| {
            let _ = pay(false);
            error!("it failed");
        }),
        request(|| {
            std::thread::scope(|scope| {
                let span = tracing::Span::current();
                scope.spawn(move || span.in_scope(|| query(7))).join().unwrap();
            });
        }),
    ];
    for captured in paths {
        println!("{}\n  {}", captured.only().trace_hash.unwrap(), captured.to_string().replace('\n', "\n  "));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (captured, ()) = runtime.block_on(capture_async(async {
        let request = info_span!("request", http.request.method = "GET", http.route = "/async");
        async {
            slow("alone").await;
            let one = slow("together").instrument(info_span!("one"));
            let other = tokio::spawn(slow("together").instrument(info_span!("other")));
            one.await;
            other.await.unwrap();
        }
        .instrument(request)
        .await;
    }));
    println!("{}\n  {}", captured.only().trace_hash.unwrap(), captured.to_string().replace('\n', "\n  "));
}
