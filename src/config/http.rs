//! What is read of a request's head: whose word counts, and which values are harmless.

use std::net::IpAddr;
use std::str::FromStr;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ClientAddressHeader {
    /// `X-Forwarded-For`: what nginx, Envoy and the load balancers of the clouds append.
    #[default]
    XForwardedFor,
    /// `Forwarded`, of RFC 7239.
    Forwarded,
}

impl FromStr for ClientAddressHeader {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim().to_ascii_lowercase().as_str() {
            "x-forwarded-for" => Ok(Self::XForwardedFor),
            "forwarded" => Ok(Self::Forwarded),
            _ => Err("x-forwarded-for or forwarded"),
        }
    }
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

/// A set of addresses: networks, single addresses, and the word `private`.
///
/// ```
/// use tracing_activity::config::Networks;
/// let proxies: Networks = "10.1.0.0/16, 2001:db8::/32, 192.0.2.7".parse().unwrap();
/// assert!(proxies.contains("10.1.2.3".parse().unwrap()));
/// assert!(!proxies.contains("192.0.2.8".parse().unwrap()));
/// let error = "10.1.0.0/33".parse::<Networks>().unwrap_err();
/// assert!(error.contains("10.1.0.0/33"), "{error}");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Networks(Vec<IpNet>);

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
        let behind = self.0.partition_point(|network| network.network() <= address);
        behind.checked_sub(1).is_some_and(|at| self.0[at].contains(&address))
    }
}

impl FromStr for Networks {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut networks = Vec::new();
        for word in text.split(',').map(str::trim) {
            if word == "private" {
                networks.extend(PRIVATE.iter().filter_map(|it| it.parse::<IpNet>().ok()));
                continue;
            }
            let network = word
                .parse::<IpNet>()
                .or_else(|_| word.parse::<IpAddr>().map(|it| IpNet::from(it.to_canonical())))
                .map_err(|_| {
                    format!("{word:?}: expected private, an address or a network such as 10.0.0.0/8, comma-separated")
                })?;
            networks.push(network);
        }
        // What lies side by side becomes one, so that many cost a request no more than few.
        Ok(Self(IpNet::aggregate(&networks)))
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
    fn one_of_two_headers_tells_the_client() {
        use ClientAddressHeader::{Forwarded, XForwardedFor};
        assert_eq!("X-Forwarded-For".parse(), Ok(XForwardedFor));
        assert_eq!("forwarded".parse(), Ok(Forwarded));
        let error = "x-real-ip".parse::<ClientAddressHeader>().unwrap_err();
        assert_eq!(error, "x-forwarded-for or forwarded");
    }

    #[test]
    fn a_malformed_network_is_named() {
        for text in ["10.0.0.0/33", "10.0.0", "private,", "proxy.example", "10.0.0.1, x"] {
            let error = text.parse::<Networks>().unwrap_err();
            assert!(error.contains("10.0.0.0/8, comma-separated"), "{error}");
        }
    }
}
