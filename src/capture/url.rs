//! Addresses without their secrets.

/// The address with every value of its query replaced by `?`, and without scheme, user, password
/// and fragment.
pub(super) fn scrubbed(url: &str) -> String {
    let without_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    let is_absolute = without_scheme.len() < url.len();
    let (main, query) = match without_scheme.split_once(['?', '#']) {
        Some((main, rest)) if without_scheme[main.len()..].starts_with('?') => {
            (main, rest.split('#').next().unwrap_or_default())
        }
        Some((main, _)) => (main, ""),
        None => (without_scheme, ""),
    };
    let mut out = if is_absolute {
        let (authority, path) = main.find('/').map_or((main, "/"), |at| main.split_at(at));
        let host = authority.rsplit('@').next().unwrap_or(authority);
        format!("{host}{path}")
    } else {
        main.to_owned()
    };
    let mut separator = '?';
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        out.push(separator);
        separator = '&';
        match pair.split_once('=') {
            Some((key, _)) => {
                out.push_str(key);
                out.push_str("=?");
            }
            // A lone word may be a token as well as a key.
            None => out.push('?'),
        }
    }
    out
}

/// The path of a scrubbed address.
pub(super) fn path_of(url: &str) -> &str {
    let path = url.split('?').next().unwrap_or_default();
    match path.find('/') {
        Some(at) => &path[at..],
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_a_query_are_not_kept() {
        for (url, expected) in [
            ("/a/b?x=1&token=s3cret", "/a/b?x=?&token=?"),
            ("/a?s3cret", "/a??"),
            ("/a#s3cret?x", "/a"),
            ("/a?x=1#s3cret", "/a?x=?"),
            ("/a?", "/a"),
            ("/", "/"),
            ("", ""),
            ("https://ana:s3cret@example.org:8443/p?q=s3cret", "example.org:8443/p?q=?"),
            ("http://example.org", "example.org/"),
        ] {
            assert_eq!(scrubbed(url), expected);
        }
    }

    #[test]
    fn the_path_is_what_stands_between_host_and_query() {
        assert_eq!(path_of("example.org/p?q=?"), "/p");
        assert_eq!(path_of("/p/q"), "/p/q");
        assert_eq!(path_of(""), "");
    }
}
