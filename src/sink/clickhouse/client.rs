//! The HTTP client, with TLS where the address asks for it and nowhere else.
//!
//! The client library's own reads the system's certificates for every address, and panics where there
//! are none, as in an image built from scratch.

use std::io;

use ::clickhouse::Client;

/// A client for this address.
///
/// # Errors
/// It asks for TLS and the system's certificates cannot be read.
#[cfg(feature = "tls")]
pub(super) fn client(url: &str) -> io::Result<Client> {
    use std::time::Duration;

    use hyper_rustls::{ConfigBuilderExt as _, HttpsConnectorBuilder};
    use hyper_util::client::legacy::connect::HttpConnector;
    use hyper_util::rt::TokioExecutor;
    use rustls::{ClientConfig, RootCertStore, crypto::ring};

    // As the library's own client has them: the server closes idle connections after three seconds.
    const KEEPALIVE: Duration = Duration::from_mins(1);
    const IDLE: Duration = Duration::from_secs(2);

    let config = ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let config = if is_encrypted(url) {
        config.with_native_roots()?
    } else {
        config.with_root_certificates(RootCertStore::empty())
    };
    let mut connector = HttpConnector::new();
    connector.set_keepalive(Some(KEEPALIVE));
    connector.enforce_http(false);
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(config.with_no_client_auth())
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector);
    let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE)
        .build(connector);
    Ok(Client::with_http_client(client))
}

#[cfg(not(feature = "tls"))]
#[allow(clippy::unnecessary_wraps, reason = "with TLS it may fail")]
pub(super) fn client(_: &str) -> io::Result<Client> {
    Ok(Client::default())
}

/// What is wrong with this address, as far as it can be told without connecting: in what `init` says of
/// `ACTIVITY_DB`.
pub(crate) fn problem_of(url: &str) -> Option<String> {
    if !cfg!(feature = "tls") && is_encrypted(url) {
        return Some(
            "this build has no TLS for https://; add the feature: tracing-activity = { features = [\"tls\"] }"
                .to_owned(),
        );
    }
    let error = client(url).err()?;
    Some(format!(
        "the system's certificates cannot be read, which https:// needs: {error}; install them (the package ca-certificates), or name their file in SSL_CERT_FILE"
    ))
}

fn is_encrypted(url: &str) -> bool {
    url.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"))
}
