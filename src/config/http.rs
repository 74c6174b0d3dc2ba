//! What is read of a request's head: whose word counts, and which values are harmless.

use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;

use super::{BodyCapture, Visits};

/// How the middleware reads requests.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct HttpConfig {
    /// Peers that are believed who the client is. Default: none. `ACTIVITY_TRUSTED_PROXIES`.
    pub trusted_proxies: Networks,
    /// The header by which they tell it. Default: `X-Forwarded-For`.
    /// `ACTIVITY_CLIENT_ADDRESS_HEADER`.
    pub client_address: ClientAddressHeader,
    /// How much of the client's address is stored. Default: its network. `ACTIVITY_CLIENT_ADDRESS`.
    pub address: StoredAddress,
    /// Whose `traceparent` is believed. Default: that of trusted proxies.
    /// `ACTIVITY_TRACEPARENT`.
    pub traceparent: TraceparentTrust,
    /// What is kept of bodies and headers. Default: nothing.
    pub capture: BodyCapture,
    /// Whether visits are followed. Default: no. `ACTIVITY_VISITS`.
    pub visits: Visits,
}

/// The header in which trusted proxies tell the client's address.
///
/// Only one is read, and it must be the one that the proxies write: any other reaches the service
/// as the client made it up.
///
/// ```
/// use tracing_activity::config::ClientAddressHeader;
/// let header: ClientAddressHeader = "CF-Connecting-IP".parse().unwrap();
/// assert!(matches!(header, ClientAddressHeader::Single(name) if &*name == "cf-connecting-ip"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ClientAddressHeader {
    /// `X-Forwarded-For`: what nginx, Envoy and the load balancers of the clouds append. A list.
    #[default]
    XForwardedFor,
    /// `Forwarded`, of RFC 7239. A list.
    Forwarded,
    /// A header that holds one address, by its name in lower case: `cf-connecting-ip`, `x-real-ip`,
    /// `true-client-ip`, `fly-client-ip`. It is no list: of several such headers the last counts,
    /// and what is no address counts as absent.
    Single(Arc<str>),
}

impl FromStr for ClientAddressHeader {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.trim().to_ascii_lowercase();
        match name.as_str() {
            "x-forwarded-for" => Ok(Self::XForwardedFor),
            "forwarded" => Ok(Self::Forwarded),
            _ if is_header_name(&name) => Ok(Self::Single(name.into())),
            _ => Err(
                "x-forwarded-for, forwarded, or the name of one header such as cf-connecting-ip",
            ),
        }
    }
}

/// Whether this is a token of RFC 9110, section 5.6.2, as every header's name is.
fn is_header_name(text: &str) -> bool {
    let is_of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_of_token)
}

/// How much of a client's address comes into the row: column `ip`, and attributes of spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum StoredAddress {
    /// Its network: the first 24 bits of IPv4, the first 48 of IPv6.
    #[default]
    Truncated,
    /// All of it, which tells of a person.
    Full,
    /// Nothing.
    None,
}

impl FromStr for StoredAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim() {
            "truncated" => Ok(Self::Truncated),
            "full" => Ok(Self::Full),
            "none" => Ok(Self::None),
            _ => Err("truncated, full or none"),
        }
    }
}

/// Whose `traceparent` becomes the trace of a request.
///
/// Who may name the trace may also choose one that the sampling keeps, or one of somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum TraceparentTrust {
    /// Nobody's.
    Never,
    /// That of peers among the trusted proxies.
    #[default]
    Trusted,
    /// Everybody's: where only services of one's own can reach this one.
    Always,
}

impl FromStr for TraceparentTrust {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim() {
            "never" => Ok(Self::Never),
            "trusted" => Ok(Self::Trusted),
            "always" => Ok(Self::Always),
            _ => Err("never, trusted or always"),
        }
    }
}

/// A set of peers: networks, single addresses, and the words `private` and `unix`.
///
/// `private` stands for loopback, the private networks and link-local. `unix` stands for every peer on
/// a Unix socket, which has no address: who may open the socket, the file system decides.
///
/// ```
/// use tracing_activity::config::Networks;
/// let proxies: Networks = "10.1.0.0/16, 2001:db8::/32, 192.0.2.7".parse().unwrap();
/// assert!(proxies.contains("10.1.2.3".parse().unwrap()));
/// assert!(!proxies.contains("192.0.2.8".parse().unwrap()));
/// let local: Networks = "unix".parse().unwrap();
/// assert!(local.contains_unix());
/// let error = "10.1.0.0/33".parse::<Networks>().unwrap_err();
/// assert!(error.contains("10.1.0.0/33"), "{error}");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Networks {
    networks: Vec<IpNet>,
    unix: bool,
}

/// What `private` stands for: loopback, the private networks, link-local.
const PRIVATE: [&str; 8] = [
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "169.254.0.0/16",
    "::1/128",
    "fc00::/7",
    "fe80::/10",
];

impl Networks {
    /// Whether `address` is one of them. An IPv4 address mapped into IPv6 counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        // They are in order, and none contains another: only the last that begins before can hold it.
        let behind = self.networks.partition_point(|network| network.network() <= address);
        behind.checked_sub(1).is_some_and(|at| self.networks[at].contains(&address))
    }

    /// Whether peers on Unix sockets are among them.
    #[must_use]
    pub fn contains_unix(&self) -> bool {
        self.unix
    }

    /// Whether nobody is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && !self.unix
    }
}

impl FromStr for Networks {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (mut networks, mut unix) = (Vec::new(), false);
        for word in text.split(',').map(str::trim) {
            if word == "private" {
                networks.extend(PRIVATE.iter().filter_map(|it| it.parse::<IpNet>().ok()));
                continue;
            }
            if word == "unix" {
                unix = true;
                continue;
            }
            let network = word
                .parse::<IpNet>()
                .or_else(|_| word.parse::<IpAddr>().map(|it| IpNet::from(it.to_canonical())))
                .map_err(|_| {
                    format!("{word:?}: expected private, unix, an address or a network such as 10.0.0.0/8, comma-separated")
                })?;
            networks.push(network);
        }
        // What lies side by side becomes one, so that many cost a request no more than few.
        Ok(Self { networks: IpNet::aggregate(&networks), unix })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_means_the_networks_that_no_client_of_the_internet_comes_from() {
        let private: Networks = "private".parse().unwrap();
        for inside in ["127.0.0.1", "10.9.8.7", "172.31.0.1", "192.168.1.1", "::1", "fd00::1"] {
            assert!(private.contains(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["8.8.8.8", "172.32.0.1", "2001:db8::1", "11.0.0.1"] {
            assert!(!private.contains(outside.parse().unwrap()), "{outside}");
        }
        assert!(private.contains("::ffff:10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn an_address_is_found_among_many_networks_as_it_is_among_few() {
        let many: Vec<_> = (0..100_000_u32)
            .map(|n| format!("10.{}.{}.{}/31", n >> 15, (n >> 7) & 255, (n & 127) * 2))
            .filter(|it| !it.ends_with("6/31"))
            .chain(
                ["2001:db8::/33", "2001:db8:8000::/33", "0.0.0.1", "255.255.255.255"]
                    .map(str::to_owned),
            )
            .collect();
        let begin = std::time::Instant::now();
        let networks: Networks = many.join(",").parse().unwrap();
        for _ in 0..10_000 {
            for inside in ["10.0.0.1", "10.3.4.8", "2001:db8:ffff::1", "0.0.0.1", "255.255.255.255"]
            {
                assert!(networks.contains(inside.parse().unwrap()), "{inside}");
            }
            for outside in
                ["10.3.4.6", "10.3.4.7", "9.0.0.0", "0.0.0.0", "0.0.0.2", "2001:db9::", "::"]
            {
                assert!(!networks.contains(outside.parse().unwrap()), "{outside}");
            }
        }
        // One by one it would be ten billion comparisons.
        assert!(begin.elapsed() < std::time::Duration::from_secs(20), "{:?}", begin.elapsed());
        assert!(!Networks::default().contains("10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn any_one_header_tells_the_client() {
        use ClientAddressHeader::{Forwarded, Single, XForwardedFor};
        assert_eq!("X-Forwarded-For".parse(), Ok(XForwardedFor));
        assert_eq!("forwarded".parse(), Ok(Forwarded));
        for name in ["CF-Connecting-IP", " x-real-ip", "True-Client-IP", "Fly-Client-IP"] {
            assert_eq!(name.parse(), Ok(Single(name.trim().to_ascii_lowercase().into())));
        }
        for text in ["x-real-ip, x-forwarded-for", "x real ip", "x-real-ip:", "é", "\"x\""] {
            let error = text.parse::<ClientAddressHeader>().unwrap_err();
            assert!(error.contains("or the name of one header"), "{text}: {error}");
        }
    }

    #[test]
    fn peers_on_unix_sockets_are_trusted_by_a_word_of_their_own() {
        let both: Networks = "unix, 10.0.0.0/8".parse().unwrap();
        assert!(both.contains_unix() && both.contains("10.0.0.1".parse().unwrap()));
        assert!(!"private".parse::<Networks>().unwrap().contains_unix());
        assert!(Networks::default().is_empty() && !"unix".parse::<Networks>().unwrap().is_empty());
    }

    #[test]
    fn a_malformed_network_is_named() {
        for text in ["10.0.0.0/33", "10.0.0", "private,", "proxy.example", "10.0.0.1, x"] {
            let error = text.parse::<Networks>().unwrap_err();
            assert!(error.contains("10.0.0.0/8, comma-separated"), "{error}");
        }
    }
}
