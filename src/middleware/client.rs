//! The address of the client, seen through the proxies that are trusted.
//!
//! Every proxy appends the address it was called from, so the list is true from its right end as
//! far as trusted proxies reach. The first address from the right that is none of theirs is the
//! client's. What stands further left the client may have written itself, and so may every header
//! that the proxies do not append to: of the two only the one that is set is read.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use http::header::FORWARDED;

use crate::config::{ClientAddressHeader, Networks};

/// Addresses looked at, from the right.
const MAX_HOPS: usize = 32;

/// The client's address: the peer's, unless the peer is trusted to tell another.
pub(super) fn client_address(
    peer: IpAddr,
    trusted: &Networks,
    header: ClientAddressHeader,
    headers: &HeaderMap,
) -> IpAddr {
    if !trusted.contains(peer) {
        return peer;
    }
    if header == ClientAddressHeader::Forwarded {
        let lines = headers.get_all(FORWARDED).iter().rev();
        let elements = lines.flat_map(|line| split(line.as_bytes(), b',').into_iter().rev());
        return walk(peer, trusted, elements.map(forwarded_for));
    }
    let lines = headers.get_all("x-forwarded-for").iter().rev();
    let addresses = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    walk(peer, trusted, addresses.map(address))
}

/// The first address that is not trusted, else the last that was told. Who hides behind a word
/// or a mistake is not known: then the proxy that told it is the best there is.
fn walk(peer: IpAddr, trusted: &Networks, hops: impl Iterator<Item = Option<IpAddr>>) -> IpAddr {
    let mut nearest = peer;
    for hop in hops.take(MAX_HOPS) {
        let Some(address) = hop else { break };
        nearest = address;
        if !trusted.contains(address) {
            break;
        }
    }
    nearest
}

/// The parts of a header between separators outside of quotes. Quotes that do not pair say nothing:
/// one of the client's must not hide what a proxy wrote behind it.
fn split(line: &[u8], separator: u8) -> Vec<&[u8]> {
    let is_paired = !line.iter().fold(false, |open, byte| open ^ (*byte == b'"'));
    let mut quoted = false;
    let parts = line.split(|byte| {
        quoted ^= is_paired && *byte == b'"';
        *byte == separator && !quoted
    });
    parts.collect()
}

/// The address in `for=` of an element of `Forwarded` (RFC 7239).
fn forwarded_for(element: &[u8]) -> Option<IpAddr> {
    split(element, b';').into_iter().find_map(|pair| {
        let pair = pair.trim_ascii();
        let (name, value) = pair.split_at_checked(4)?;
        name.eq_ignore_ascii_case(b"for=").then(|| address(value))?
    })
}

/// An address with or without port, quotes and brackets.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim().trim_matches('"');
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let parsed = bare.parse::<IpAddr>();
    let parsed = parsed.or_else(|_| text.parse::<SocketAddr>().map(|socket| socket.ip()));
    parsed.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(peer: &str, headers: &[(&'static str, &str)]) -> String {
        told_by(ClientAddressHeader::XForwardedFor, peer, headers)
    }

    fn told_by(
        header: ClientAddressHeader,
        peer: &str,
        headers: &[(&'static str, &str)],
    ) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let trusted: Networks = "10.0.0.0/8, 2001:db8:aa::/48".parse().unwrap();
        client_address(peer.parse().unwrap(), &trusted, header, &map).to_string()
    }

    const XFF: &str = "x-forwarded-for";

    #[test]
    fn a_client_cannot_say_who_it_is() {
        assert_eq!(told("192.0.2.1", &[(XFF, "203.0.113.9")]), "192.0.2.1");
        assert_eq!(told("192.0.2.1", &[("forwarded", "for=203.0.113.9")]), "192.0.2.1");
    }

    #[test]
    fn the_rightmost_untrusted_address_is_the_client() {
        for (header, expected) in [
            ("203.0.113.9", "203.0.113.9"),
            ("1.2.3.4, 203.0.113.9", "203.0.113.9"),
            ("1.2.3.4, 203.0.113.9, 10.7.7.7", "203.0.113.9"),
            ("10.1.1.1, 10.2.2.2", "10.1.1.1"),
            ("203.0.113.9:4711", "203.0.113.9"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
            ("::ffff:203.0.113.9", "203.0.113.9"),
            ("1.2.3.4, unknown, 10.7.7.7", "10.7.7.7"),
            ("1.2.3.4, nonsense", "10.0.0.1"),
            ("", "10.0.0.1"),
            ("\", 203.0.113.9, 10.7.7.7", "203.0.113.9"),
            ("\"1.2.3.4, 203.0.113.9", "203.0.113.9"),
        ] {
            assert_eq!(told("10.0.0.1", &[(XFF, header)]), expected, "{header}");
        }
    }

    #[test]
    fn several_lines_are_one_list() {
        let lines = [(XFF, "1.2.3.4"), (XFF, "203.0.113.9, 10.9.9.9")];
        assert_eq!(told("10.0.0.1", &lines), "203.0.113.9");
    }

    #[test]
    fn the_standard_header_is_read_with_its_quotes() {
        for (header, expected) in [
            ("for=203.0.113.9;proto=https;by=10.0.0.1", "203.0.113.9"),
            ("proto=https; For=\"[2001:db8::17]:4711\"", "2001:db8::17"),
            ("for=1.2.3.4, for=\"203.0.113.9:80\", for=10.3.3.3", "203.0.113.9"),
            ("for=\"a,b\", for=_hidden", "10.0.0.1"),
            ("proto=http", "10.0.0.1"),
            ("for=\"1.2.3.4, for=203.0.113.9", "203.0.113.9"),
            ("for=\"\", for=\"[2001:db8::17]\", for=10.3.3.3", "2001:db8::17"),
            ("\", for=\"[2001:db8::17]:80\", for=10.3.3.3", "2001:db8::17"),
        ] {
            let headers = [("forwarded", header), (XFF, "9.9.9.9")];
            let told = told_by(ClientAddressHeader::Forwarded, "10.0.0.1", &headers);
            assert_eq!(told, expected, "{header}");
        }
    }

    #[test]
    fn the_header_that_the_proxies_do_not_write_is_not_read() {
        let headers = [("forwarded", "for=9.9.9.9"), (XFF, "203.0.113.9")];
        assert_eq!(told("10.0.0.1", &headers), "203.0.113.9");
        assert_eq!(told_by(ClientAddressHeader::Forwarded, "10.0.0.1", &headers), "9.9.9.9");
        assert_eq!(told("10.0.0.1", &headers[..1]), "10.0.0.1");
    }

    #[test]
    fn an_endless_list_is_cut() {
        let long = vec!["10.1.1.1"; 10_000].join(",");
        assert_eq!(told("10.0.0.1", &[(XFF, &long)]), "10.1.1.1");
    }
}
