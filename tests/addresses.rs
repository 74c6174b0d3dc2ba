//! Addresses of `ACTIVITY_DB` that lead to a real ClickHouse: whatever its database is called, and
//! through a reverse proxy that gives it a path.
#![cfg(feature = "clickhouse")]

mod database;

use std::net::SocketAddr;

use axum::body::Body;
use axum::http::{Request, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tracing_activity::Config;
use tracing_activity::config::{ClickHouse, Database};

use self::database::{Db, batch, server, wait};

/// What this address means to a service.
fn read(address: &str) -> ClickHouse {
    let vars = [
        ("ACTIVITY_DB", address),
        ("ACTIVITY_USER", &server().user),
        ("ACTIVITY_PASSWORD", &server().password),
        ("ACTIVITY_INSECURE", "true"),
    ];
    let find = |name: &str| vars.iter().find(|(key, _)| *key == name);
    let config = Config::from_lookup(|name| Ok(find(name).map(|(_, it)| (*it).to_owned())));
    match config.unwrap_or_else(|error| panic!("{address}: {error}")).database {
        Database::ClickHouse(it) => it,
        other => panic!("{other:?}"),
    }
}

fn encoded(name: &str) -> String {
    name.bytes().flat_map(|byte| format!("%{byte:02X}").into_bytes()).map(char::from).collect()
}

/// Makes the tables at this address, and stores rows twice.
fn stores(address: &str, name: &str) {
    let db = Db { config: read(address) };
    assert_eq!(db.config.database, name);
    let mut sink = db.sink();
    wait(sink.prepare_and_write(3)).unwrap_or_else(|error| panic!("{address}: {error}"));
    // A service that comes later finds what is there.
    wait(db.sink().prepare_and_write(2)).unwrap_or_else(|error| panic!("{address}: {error}"));
    let quoted = name.replace('\\', "\\\\").replace('`', "\\`");
    let count = server().query(&format!("SELECT count() FROM `{quoted}`.activities")).unwrap();
    let dropped = server().query(&format!("DROP DATABASE `{quoted}`"));
    assert_eq!(count.trim(), "5", "{address}");
    dropped.unwrap();
}

trait PrepareAndWrite {
    fn prepare_and_write(
        &mut self,
        rows: u16,
    ) -> impl Future<Output = Result<(), tracing_activity::sink::SinkError>>;
}

impl<S: tracing_activity::sink::Sink> PrepareAndWrite for S {
    async fn prepare_and_write(
        &mut self,
        rows: u16,
    ) -> Result<(), tracing_activity::sink::SinkError> {
        self.prepare().await?;
        self.write(&batch(rows)).await
    }
}

#[test]
fn a_database_may_have_any_name() {
    let unique = format!("{:08x}", fastrand::u32(..));
    for part in ["my-shop", "a.b", "d/e", "x`y'z", "back\\slash", "l\u{e4} den", "?#@%41"] {
        let name = format!("{part}_{unique}");
        stores(&format!("{}/{}", server().url, encoded(&name)), &name);
    }
    let name = format!("2024_{unique}");
    stores(&format!("{}/{name}/", server().url), &name);
}

/// A reverse proxy at whose path `/click house/` the server stands. All else is not found.
async fn proxy() -> SocketAddr {
    let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
    let upstream: Uri = server().url.parse().unwrap();
    let forward = move |mut request: Request<Body>| {
        let (client, upstream) = (client.clone(), upstream.clone());
        async move {
            let target = request.uri().path_and_query().unwrap().as_str().to_owned();
            let Some(target) = target.strip_prefix("/click%20house") else {
                return Err(axum::http::StatusCode::NOT_FOUND);
            };
            let target =
                if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
            let address = format!("http://{}{target}", upstream.authority().unwrap());
            *request.uri_mut() = address.parse().unwrap();
            client.request(request).await.map_err(|_| axum::http::StatusCode::BAD_GATEWAY)
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = axum::Router::new().fallback(forward);
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

#[test]
fn a_server_may_stand_behind_a_path() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let proxy = runtime.block_on(proxy());
    let name = format!("behind_{:08x}", fastrand::u32(..));
    stores(&format!("http://{proxy}/click%20house/{name}"), &name);
    let db = Db { config: read(&format!("http://{proxy}/elsewhere/{name}")) };
    assert!(wait(db.sink().prepare_and_write(1)).is_err(), "the path is really taken");
}
