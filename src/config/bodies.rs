//! Which bodies and headers are captured: none, unless they are listed.

use std::str::FromStr;

use super::units::listed;

/// What is kept of the contents of requests and answers.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct BodyCapture {
    /// Content types of answers whose bodies are kept. Default: none.
    /// `ACTIVITY_CAPTURE_RESPONSE`.
    pub response: MediaTypes,
    /// Content types of requests whose bodies are kept. Default: none.
    /// `ACTIVITY_CAPTURE_REQUEST`.
    pub request: MediaTypes,
    /// Bytes kept of a body. `ACTIVITY_CAPTURE_BYTES`.
    pub max_bytes: usize,
    /// Headers that are kept, of requests and answers. Default: none. `ACTIVITY_CAPTURE_HEADERS`.
    pub headers: HeaderNames,
    /// Places in JSON bodies whose values are hidden. `ACTIVITY_REDACT_JSON`.
    pub hide: Vec<JsonPointer>,
}

impl Default for BodyCapture {
    fn default() -> Self {
        Self {
            response: MediaTypes::default(),
            request: MediaTypes::default(),
            max_bytes: 8 << 10,
            headers: HeaderNames::default(),
            hide: Vec::new(),
        }
    }
}

/// A list of content types: `application/json`, `text/*`. `multipart/..` cannot be in it.
///
/// ```
/// use tracing_activity::config::MediaTypes;
/// let types: MediaTypes = "application/json, text/*".parse().unwrap();
/// assert!(types.contains("Application/JSON; charset=utf-8") && types.contains("text/csv"));
/// assert!(!types.contains("application/jsonp"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MediaTypes(Vec<String>);

impl MediaTypes {
    /// Whether the value of a `Content-Type` is of a listed type.
    #[must_use]
    pub fn contains(&self, content_type: &str) -> bool {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        self.0.iter().any(|listed| match listed.strip_suffix('*') {
            Some(prefix) => {
                essence.get(..prefix.len()).is_some_and(|it| it.eq_ignore_ascii_case(prefix))
            }
            None => listed.eq_ignore_ascii_case(essence),
        })
    }
}

impl FromStr for MediaTypes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let token = |it: &str| {
            !it.is_empty()
                && it.bytes().all(|c| c.is_ascii_alphanumeric() || b"+-._!#$&^".contains(&c))
        };
        let listed = listed(text)?.map(str::trim).map(|word| {
            if word.get(..10).is_some_and(|it| it.eq_ignore_ascii_case("multipart/")) {
                return Err(format!(
                    "{word:?} holds parts of any type and is never captured; expected other types, such as application/json"
                ));
            }
            let known = word
                .split_once('/')
                .is_some_and(|(main, sub)| token(main) && (sub == "*" || token(sub)));
            known.then(|| word.to_owned()).ok_or_else(|| {
                format!("{word:?}: expected content types such as application/json,text/*")
            })
        });
        listed.collect::<Result<_, _>>().map(Self)
    }
}

/// A list of names of headers. Those that carry credentials cannot be in it.
///
/// ```
/// use tracing_activity::config::HeaderNames;
/// let names: HeaderNames = "x-request-id, accept-language".parse().unwrap();
/// assert_eq!(names.iter().collect::<Vec<_>>(), ["x-request-id", "accept-language"]);
/// let error = "accept,Cookie".parse::<HeaderNames>().unwrap_err();
/// assert!(error.contains("never captured"), "{error}");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderNames(Vec<String>);

/// Headers that are never captured.
const NEVER: [&str; 9] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "www-authenticate",
    "x-api-key",
    "x-auth-token",
    "x-csrf-token",
    "x-xsrf-token",
];

impl HeaderNames {
    /// The names, in lower case.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl FromStr for HeaderNames {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let listed = listed(text)?.map(|word| {
            let name = word.trim().to_ascii_lowercase();
            if NEVER.contains(&name.as_str()) {
                return Err(format!(
                    "{name:?} carries credentials and is never captured; expected other headers, such as x-request-id"
                ));
            }
            let known = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c);
            if name.is_empty() || !name.bytes().all(known) {
                return Err(format!("{name:?}: expected names of headers such as x-request-id"));
            }
            Ok(name)
        });
        listed.collect::<Result<_, _>>().map(Self)
    }
}

/// A place in a JSON document, as RFC 6901 writes it. The segment `*` stands for every item and
/// every key.
///
/// ```
/// use tracing_activity::config::JsonPointer;
/// let pointer: JsonPointer = "/items/*/price".parse().unwrap();
/// assert_eq!(pointer.segments().collect::<Vec<_>>(), ["items", "*", "price"]);
/// assert!("items".parse::<JsonPointer>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonPointer(Vec<String>);

impl JsonPointer {
    /// Keys and indexes from the outermost inwards.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl FromStr for JsonPointer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong =
            || format!("{text:?}: expected a JSON pointer such as /user/name or /items/*/price");
        let path = text.strip_prefix('/').ok_or_else(wrong)?;
        let segment = |it: &str| {
            let escapes = it.match_indices('~');
            let mut ends = escapes.map(|(at, _)| it.as_bytes().get(at + 1));
            let known = ends.all(|it| matches!(it, Some(b'0' | b'1')));
            known.then(|| it.replace("~1", "/").replace("~0", "~")).ok_or_else(wrong)
        };
        path.split('/').map(segment).collect::<Result<_, _>>().map(Self)
    }
}

/// JSON pointers, comma-separated.
pub(super) fn parse_pointers(text: &str) -> Result<Vec<JsonPointer>, String> {
    listed(text)?.map(|word| word.trim().parse()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_malformed_is_named() {
        for text in ["json", "text/", "/json", "*/*", "application/json,,text/*", "a b/c"] {
            let error = text.parse::<MediaTypes>().unwrap_err();
            assert!(error.contains("application/json,text/*"), "{error}");
        }
        for text in ["multipart/form-data", "text/*,Multipart/*"] {
            let error = text.parse::<MediaTypes>().unwrap_err();
            assert!(error.contains("never captured"), "{error}");
        }
        for text in [
            "",
            "x y",
            "x-api-key",
            "X-Auth-Token",
            "x-csrf-token",
            "set-cookie",
            "x-id,AUTHORIZATION",
        ] {
            assert!(text.parse::<HeaderNames>().is_err(), "{text}");
        }
        for text in ["", "a/b", "/a~", "/a~2"] {
            assert!(text.parse::<JsonPointer>().is_err(), "{text}");
        }
    }

    #[test]
    fn escapes_of_pointers_are_read() {
        let pointer: JsonPointer = "/a~1b/~0c/~01".parse().unwrap();
        assert_eq!(pointer.segments().collect::<Vec<_>>(), ["a/b", "~c", "~1"]);
    }
}
