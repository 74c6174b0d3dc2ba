//! Who connected: what servers leave in a request's extensions, or the application says.

use std::net::IpAddr;
#[cfg(feature = "axum")]
use std::net::SocketAddr;

use http::request::Parts;

use super::layer::Settings;
use crate::capture::guarded;
use crate::config::Networks;

/// The other end of the connection, be it the client or a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    /// It has this address.
    Ip(IpAddr),
    /// It is on a Unix socket, and has no address.
    Unix,
}

impl Peer {
    /// The peer of a request, where anybody knows it.
    pub(super) fn of(settings: &Settings, parts: &Parts) -> Option<Self> {
        if let Some(read) = &settings.peer {
            return settings.or_unix(guarded(|| read(parts)).flatten());
        }
        told(parts).or(settings.or_unix(None))
    }

    /// Whether these networks hold it.
    pub(super) fn is_among(self, networks: &Networks) -> bool {
        match self {
            Self::Ip(address) => networks.contains(address),
            Self::Unix => networks.contains_unix(),
        }
    }

    pub(super) fn address(self) -> Option<IpAddr> {
        match self {
            Self::Ip(address) => Some(address),
            Self::Unix => None,
        }
    }
}

/// What the server told. tonic leaves the same beside what it tells of TLS.
fn told(parts: &Parts) -> Option<Peer> {
    #[cfg(feature = "axum")]
    {
        use axum::extract::ConnectInfo;
        if let Some(info) = parts.extensions.get::<ConnectInfo<SocketAddr>>() {
            return Some(Peer::Ip(info.0.ip()));
        }
        #[cfg(unix)]
        if parts.extensions.get::<ConnectInfo<tokio::net::unix::SocketAddr>>().is_some() {
            return Some(Peer::Unix);
        }
    }
    #[cfg(feature = "tonic")]
    {
        use tonic::transport::server::TcpConnectInfo;
        if let Some(info) = parts.extensions.get::<TcpConnectInfo>() {
            return info.remote_addr().map(|address| Peer::Ip(address.ip()));
        }
        #[cfg(unix)]
        if parts.extensions.get::<tonic::transport::server::UdsConnectInfo>().is_some() {
            return Some(Peer::Unix);
        }
    }
    let _ = parts;
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> Parts {
        http::Request::new(()).into_parts().0
    }

    #[test]
    fn nobody_is_known_unless_it_is_told_or_said() {
        let mut settings = Settings::default();
        assert_eq!(Peer::of(&settings, &parts()), None);
        settings.on_unix = true;
        assert_eq!(Peer::of(&settings, &parts()), Some(Peer::Unix));
        settings.peer = Some(std::sync::Arc::new(|_: &Parts| "192.0.2.7".parse().ok()));
        let peer = Peer::of(&settings, &parts());
        assert_eq!(peer.and_then(Peer::address), "192.0.2.7".parse().ok());
        settings.peer = Some(std::sync::Arc::new(|_: &Parts| None));
        assert_eq!(Peer::of(&settings, &parts()), Some(Peer::Unix));
    }

    #[cfg(feature = "tonic")]
    #[test]
    fn tonic_tells_its_peers() {
        use tonic::transport::server::TcpConnectInfo;
        let mut parts = parts();
        let remote_addr = "192.0.2.7:99".parse().ok();
        parts.extensions.insert(TcpConnectInfo { local_addr: None, remote_addr });
        let peer = Peer::of(&Settings::default(), &parts);
        assert_eq!(peer.and_then(Peer::address), "192.0.2.7".parse().ok());
    }

    #[cfg(all(feature = "tonic", unix))]
    #[test]
    fn tonic_tells_peers_on_unix_sockets() {
        use tonic::transport::server::UdsConnectInfo;
        let mut parts = parts();
        parts.extensions.insert(UdsConnectInfo { peer_addr: None, peer_cred: None });
        assert_eq!(Peer::of(&Settings::default(), &parts), Some(Peer::Unix));
    }

    #[cfg(all(feature = "axum", unix))]
    #[test]
    fn axum_tells_peers_on_unix_sockets() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let address = tokio::net::unix::SocketAddr::from(one.peer_addr().unwrap());
        let mut parts = parts();
        parts.extensions.insert(axum::extract::ConnectInfo(address));
        let peer = Peer::of(&Settings::default(), &parts).unwrap();
        assert!(peer.is_among(&"unix".parse().unwrap()));
        assert!(!peer.is_among(&"private".parse().unwrap()));
        assert_eq!(peer.address(), None);
    }
}
