//! What of a value is not kept because of the name of its field: secrets, the values of queries, the
//! host in a client's address. Rows and spans hold to the same names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::is_secret_name;
use crate::config::StoredAddress;

/// What the name of a field says of how its value is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nature {
    /// As it is.
    Plain,
    /// The name announces a secret.
    Secret,
    /// The address of a client, of which the network is kept.
    Ip,
    /// A query, whose values are not kept.
    Query,
    /// An address that may hold a query.
    Address,
    /// What a request asks for: a path or an address, which may hold a query.
    Target,
}

impl Nature {
    pub(crate) fn of(name: &str) -> Self {
        match name {
            "client.address"
            | "http.client_ip"
            | "remote_addr"
            | "remote.addr"
            | "network.peer.address"
            | "net.peer.ip"
            | "net.sock.peer.addr" => Self::Ip,
            "url.query" => Self::Query,
            "uri" | "url" | "path" | "url.path" | "url.full" | "http.url" | "http.target" => {
                Self::Target
            }
            "referer" | "http.referer" | "http.request.header.referer" => Self::Address,
            _ if is_secret_name(name) => Self::Secret,
            _ => Self::Plain,
        }
    }
}

/// What is stored of an address, with or without a port: as a rule its network, of IPv4 /24, of IPv6
/// /48.
pub(crate) fn ip(text: &str, stored: StoredAddress) -> Option<Ipv6Addr> {
    let text = text.trim();
    if stored == StoredAddress::None {
        return None;
    }
    let address = text
        .parse::<IpAddr>()
        .or_else(|_| text.parse::<SocketAddr>().map(|socket| socket.ip()))
        .ok()?;
    Some(match address.to_canonical() {
        IpAddr::V4(v4) if stored == StoredAddress::Full => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) if stored == StoredAddress::Full => v6,
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            Ipv4Addr::new(a, b, c, 0).to_ipv6_mapped()
        }
        IpAddr::V6(v6) => {
            let [a, b, c, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0)
        }
    })
}
