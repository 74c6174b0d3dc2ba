//! The address of the client, seen through the proxies that are trusted.
//!
//! Every proxy appends the address it was called from, so the list is true from its right end as
//! far as trusted proxies reach. The first address from the right that is none of theirs is the
//! client's. What stands further left the client may have written itself, and so may every header
//! that the proxies do not append to: of the two only the one that is set is read.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use http::header::FORWARDED;

use super::peer::Peer;
use crate::config::{ClientAddressHeader, Networks};

/// Addresses looked at, from the right.
const MAX_HOPS: usize = 32;

/// The client's address: the peer's, unless the peer is trusted to tell another.
pub(super) fn client_address(
    peer: Peer,
    trusted: &Networks,
    header: &ClientAddressHeader,
    headers: &HeaderMap,
) -> Option<IpAddr> {
    if !peer.is_among(trusted) {
        return peer.address();
    }
    match header {
        ClientAddressHeader::Forwarded => {
            let lines = headers.get_all(FORWARDED).iter().rev();
            let elements = lines.flat_map(|line| split(line.as_bytes(), b',').into_iter().rev());
            walk(peer, trusted, elements.filter(is_there).map(forwarded_for))
        }
        ClientAddressHeader::XForwardedFor => {
            let lines = headers.get_all("x-forwarded-for").iter().rev();
            let elements = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
            // nginx writes this of what came to it by a Unix socket.
            let is_hop = |it: &&[u8]| !(trusted.contains_unix() && it.trim_ascii() == b"unix:");
            walk(peer, trusted, elements.filter(is_there).filter(is_hop).map(address))
        }
        ClientAddressHeader::Single(name) => {
            let last = headers.get_all(&**name).iter().next_back();
            last.and_then(|line| address(line.as_bytes())).or(peer.address())
        }
    }
}

/// Empty elements of a list are no elements (RFC 9110, section 5.6.1).
#[allow(clippy::trivially_copy_pass_by_ref, reason = "as `Iterator::filter` calls it")]
fn is_there(element: &&[u8]) -> bool {
    !element.trim_ascii().is_empty()
}

/// The first address that is not trusted, else the last that was told. Who hides behind a word
/// or a mistake is not known: then the proxy that told it is the best there is.
fn walk(
    peer: Peer,
    trusted: &Networks,
    hops: impl Iterator<Item = Option<IpAddr>>,
) -> Option<IpAddr> {
    let mut nearest = peer.address();
    for hop in hops.take(MAX_HOPS) {
        let Some(address) = hop else { break };
        nearest = Some(address);
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
        told_by(&ClientAddressHeader::XForwardedFor, peer, headers)
    }

    fn told_by(
        header: &ClientAddressHeader,
        peer: &str,
        headers: &[(&'static str, &str)],
    ) -> String {
        let peer = Peer::Ip(peer.parse().unwrap());
        told_to(peer, header, headers).unwrap().to_string()
    }

    fn told_to(
        peer: Peer,
        header: &ClientAddressHeader,
        headers: &[(&'static str, &str)],
    ) -> Option<IpAddr> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let trusted: Networks = "10.0.0.0/8, 2001:db8:aa::/48, unix".parse().unwrap();
        client_address(peer, &trusted, header, &map)
    }

    fn single(name: &str) -> ClientAddressHeader {
        name.parse().unwrap()
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
            ("203.0.113.9, , 10.0.0.1", "203.0.113.9"),
            ("1.2.3.4, 203.0.113.9,,\t,", "203.0.113.9"),
            (" , ", "10.0.0.1"),
            ("203.0.113.9, unix:, 10.7.7.7", "203.0.113.9"),
        ] {
            assert_eq!(told("10.0.0.1", &[(XFF, header)]), expected, "{header}");
        }
    }

    #[test]
    fn several_lines_are_one_list() {
        let lines = [(XFF, "1.2.3.4"), (XFF, "203.0.113.9, 10.9.9.9")];
        assert_eq!(told("10.0.0.1", &lines), "203.0.113.9");
        let lines = [(XFF, "203.0.113.9"), (XFF, ""), (XFF, "10.9.9.9")];
        assert_eq!(told("10.0.0.1", &lines), "203.0.113.9");
    }

    #[test]
    fn a_header_with_one_address_is_no_list() {
        for (lines, expected) in [
            (&["203.0.113.9"][..], "203.0.113.9"),
            (&["203.0.113.9:4711"], "203.0.113.9"),
            (&["2001:db8::1"], "2001:db8::1"),
            (&["1.2.3.4", "203.0.113.9"], "203.0.113.9"),
            (&["10.2.2.2"], "10.2.2.2"),
            (&["203.0.113.9, 10.2.2.2"], "10.0.0.1"),
            (&["203.0.113.9", "unknown"], "10.0.0.1"),
            (&[""], "10.0.0.1"),
            (&[], "10.0.0.1"),
        ] {
            let mut headers = vec![(XFF, "9.9.9.9")];
            headers.extend(lines.iter().map(|line| ("cf-connecting-ip", *line)));
            let header = single("CF-Connecting-IP");
            assert_eq!(told_by(&header, "10.0.0.1", &headers), expected, "{lines:?}");
            assert_eq!(told_by(&header, "192.0.2.1", &headers), "192.0.2.1");
        }
    }

    #[test]
    fn a_trusted_peer_on_a_unix_socket_tells_the_client_and_has_no_address() {
        let headers = [(XFF, "203.0.113.9"), ("x-real-ip", "203.0.113.8")];
        let told = |header: &ClientAddressHeader, headers: &[_]| {
            told_to(Peer::Unix, header, headers).map(|it| it.to_string())
        };
        let list = ClientAddressHeader::XForwardedFor;
        assert_eq!(told(&list, &headers).as_deref(), Some("203.0.113.9"));
        assert_eq!(told(&single("x-real-ip"), &headers).as_deref(), Some("203.0.113.8"));
        assert_eq!(told(&list, &[(XFF, "unknown")]), None);
        assert_eq!(told(&list, &[]), None);
        let nobody = Networks::default();
        assert_eq!(client_address(Peer::Unix, &nobody, &list, &HeaderMap::new()), None);
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
            ("for=203.0.113.9, , for=10.3.3.3,", "203.0.113.9"),
        ] {
            let headers = [("forwarded", header), (XFF, "9.9.9.9")];
            let told = told_by(&ClientAddressHeader::Forwarded, "10.0.0.1", &headers);
            assert_eq!(told, expected, "{header}");
        }
    }

    #[test]
    fn the_header_that_the_proxies_do_not_write_is_not_read() {
        let headers = [("forwarded", "for=9.9.9.9"), (XFF, "203.0.113.9")];
        assert_eq!(told("10.0.0.1", &headers), "203.0.113.9");
        assert_eq!(told_by(&ClientAddressHeader::Forwarded, "10.0.0.1", &headers), "9.9.9.9");
        assert_eq!(told("10.0.0.1", &headers[..1]), "10.0.0.1");
    }

    #[test]
    fn an_endless_list_is_cut() {
        let long = vec!["10.1.1.1"; 10_000].join(",");
        assert_eq!(told("10.0.0.1", &[(XFF, &long)]), "10.1.1.1");
    }
}
