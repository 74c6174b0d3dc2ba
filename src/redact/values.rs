//! Values that are no secrets although their names announce some: `password=null`,
//! `token = $1`, `{"password":["is too short"]}`.

use serde_json::Value as Json;

/// What says of a secret whether it is there and what became of it, and names of types.
const STATES: &[&str] = &[
    "null",
    "none",
    "nil",
    "undefined",
    "nan",
    "true",
    "false",
    "yes",
    "no",
    "on",
    "off",
    "ok",
    "empty",
    "blank",
    "missing",
    "required",
    "optional",
    "invalid",
    "valid",
    "expired",
    "wrong",
    "incorrect",
    "changed",
    "reset",
    "updated",
    "unset",
    "present",
    "absent",
    "denied",
    "rejected",
    "failed",
    "passed",
    "sensitive",
    "unknown",
    "redacted",
    "masked",
    "removed",
    "mismatch",
    "revoked",
    "disabled",
    "enabled",
    "include",
    "omit",
    "same-origin",
    "string",
    "str",
    "&str",
    "text",
    "uuid",
    "bytes",
    "bool",
    "boolean",
    "int",
    "integer",
    "varchar",
    "u64",
    "secretstring",
    "tokenstream",
    "is",
    "are",
    "was",
    "were",
    "must",
    "should",
    "cannot",
    "can't",
    "too",
    "not",
    "has",
    "have",
    "does",
    "doesn't",
    "isn't",
    "default",
    "password",
    "token",
];

/// Words of sentences about a value.
const TELLING: &[&str] = &[
    "is",
    "are",
    "was",
    "must",
    "should",
    "cannot",
    "can't",
    "can",
    "too",
    "not",
    "does",
    "doesn't",
    "isn't",
    "least",
    "required",
    "blank",
    "short",
    "long",
    "missing",
    "expired",
    "invalid",
    "incorrect",
    "wrong",
    "failed",
    "match",
    "mismatch",
    "contain",
    "contains",
];

/// The longest value that is taken for none.
const MOST: usize = 200;

/// Whether a value of such a name tells of no secret.
pub(super) fn is_harmless(value: &str) -> bool {
    // What is read and left is short, so that no text is read again and again.
    if value.len() > MOST {
        return false;
    }
    let value = value.trim();
    value.is_empty()
        || is_placeholder(value)
        || is_state(value)
        || is_sentence(value)
        || is_type(value)
}

/// The same of a header's line: "required, but missing".
pub(super) fn is_harmless_line(value: &str) -> bool {
    is_harmless(value)
        || value.len() <= MOST && value.split_ascii_whitespace().next().is_some_and(is_state)
}

fn is_one_of(word: &str, list: &[&str]) -> bool {
    let word = word.trim_end_matches(['.', ',', ';', ':', '!', ')']);
    word.len() <= 12 && list.iter().any(|it| it.eq_ignore_ascii_case(word))
}

fn is_state(value: &str) -> bool {
    is_one_of(value, STATES)
}

/// "must be at least 8 characters".
fn is_sentence(value: &str) -> bool {
    let mut words = value.split_ascii_whitespace().take(12);
    let first = words.next().unwrap_or_default();
    let is_word = first.bytes().all(|it| it.is_ascii_alphabetic() || it == b'\'');
    let mut rest = words.peekable();
    is_word
        && rest.peek().is_some()
        && (is_one_of(first, TELLING) || rest.any(|it| is_one_of(it, TELLING)))
}

/// What stands for a value: `?`, `$1`, `:token`, `@p1`, `%s`, `${TOKEN}`, `{{ token }}`, `<token>`, `****`.
fn is_placeholder(value: &str) -> bool {
    let bytes = value.as_bytes();
    let name = |from: usize| {
        let rest = &bytes[from..];
        !rest.is_empty() && rest.iter().all(|it| it.is_ascii_alphabetic() || *it == b'_')
    };
    let is_all = |mark: u8| bytes.iter().all(|it| *it == mark);
    match bytes[0] {
        b'?' => bytes[1..].iter().all(u8::is_ascii_digit),
        b'$' => {
            let rest = &bytes[1..];
            let is_upper = rest.iter().all(|it| it.is_ascii_uppercase() || *it == b'_');
            matches!(rest.first(), Some(b'{' | b'('))
                || is_upper && rest.len() > 1
                || !rest.is_empty() && rest.len() <= 3 && rest.iter().all(u8::is_ascii_digit)
        }
        b':' => name(1),
        b'@' => {
            let number = value.strip_prefix("@p").unwrap_or_default();
            super::is_secret_name(&value[1..])
                || !number.is_empty() && number.bytes().all(|it| it.is_ascii_digit())
        }
        b'%' => matches!(value, "%s" | "%d" | "%v" | "%q" | "%S") || value.starts_with("%("),
        b'<' => {
            (value.ends_with('>') || value.contains(' ')) && !bytes.iter().any(u8::is_ascii_digit)
        }
        b'*' => is_all(b'*'),
        b'.' => is_all(b'.'),
        b'x' | b'X' => value.len() >= 4 && is_all(bytes[0]),
        b'{' => {
            value.starts_with("{{") || value.starts_with("{}") || value.ends_with('}') && name(1)
        }
        b'[' => {
            let inside = value.trim_start_matches('[').trim_end_matches(']');
            inside.is_empty()
                || ["secret", "redacted", "masked", "filtered", "hidden"]
                    .iter()
                    .any(|it| it.eq_ignore_ascii_case(inside))
        }
        _ => false,
    }
}

/// `Option<String>`, `&'a str`.
fn is_type(value: &str) -> bool {
    let value = value.trim_end_matches([',', ';', ')']);
    let Some(open) = value.find('<') else { return false };
    let is_name = |it: &str| {
        !it.is_empty() && it.bytes().all(|it| it.is_ascii_alphabetic() || matches!(it, b':' | b'_'))
    };
    let inside = value[open + 1..].trim_end_matches('>');
    value.ends_with('>')
        && is_name(&value[..open])
        && inside.bytes().all(|it| {
            it.is_ascii_alphanumeric()
                || matches!(it, b':' | b'_' | b'<' | b'>' | b',' | b'&' | b'\'' | b' ')
        })
}

/// The same of what stands in brackets: every text in it is a sentence, or there is none.
pub(super) fn is_harmless_list(text: &str) -> bool {
    if text.len() > 10 * MOST {
        return false;
    }
    if is_placeholder(text) {
        return true;
    }
    let Ok(json) = serde_json::from_str::<Json>(text) else { return false };
    is_harmless_json(&json)
}

pub(super) fn is_harmless_json(value: &Json) -> bool {
    const TYPES: &[&str] = &["string", "number", "integer", "boolean", "object", "array", "null"];
    match value {
        Json::Null | Json::Bool(_) => true,
        Json::Number(_) => false,
        Json::String(text) => is_harmless(text),
        Json::Array(items) => items.iter().all(|it| match it {
            Json::String(text) => text.contains(' ') && is_sentence(text),
            // What a validator says of one rule.
            Json::Object(_) => is_harmless_json(it),
            _ => false,
        }),
        // What a schema or a validator says of it.
        Json::Object(map) => {
            let is_schema =
                map.get("type").and_then(Json::as_str).is_some_and(|it| TYPES.contains(&it));
            let tells = |key: &str| {
                matches!(key, "default" | "example" | "examples" | "const" | "enum" | "value")
            };
            map.is_empty() || is_schema && !map.keys().any(|it| tells(it))
        }
    }
}

/// Whether this may be the name of a field, such as stands beside `password` in a list of them.
pub(super) fn is_field(value: &str) -> bool {
    const FIELDS: &[&str] = &[
        "email",
        "e-mail",
        "mail",
        "user",
        "username",
        "user_name",
        "login",
        "name",
        "phone",
        "id",
        "remember",
        "role",
        "roles",
        "host",
        "port",
        "database",
        "address",
        "code",
        "age",
        "first_name",
        "last_name",
        "url",
        "string",
        "required",
        "text",
        "asc",
        "desc",
    ];
    value.len() <= 40
        && (FIELDS.iter().any(|it| it.eq_ignore_ascii_case(value))
            || super::secrets::is_secret_name(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tells_of_a_secret_is_none() {
        for value in [
            "",
            "null",
            "None",
            "false",
            "$1",
            "$12",
            "?",
            ":token",
            "@p1",
            "%s",
            "${DB_PASSWORD}",
            "$DB_PASSWORD",
            "{{ token }}",
            "<your key>",
            "****",
            "[REDACTED]",
            "xxxx",
            "is too short",
            "must be at least 8 characters",
            "This field is required.",
            "expired,",
            "Option<String>",
            "Vec<u8>,",
            "String",
            "can't be blank",
        ] {
            assert!(is_harmless(value), "{value}");
        }
        for value in [
            "c4n4ry",
            "$ecret",
            "$1x",
            "correct horse battery staple",
            "truelove",
            "nothing",
            "?x",
            "*a*",
            "<a",
            "xx",
            "x1xx",
            "[c4n4ry]",
            "Pa<ss>w0rd",
            "hunter",
            "N0ne",
            "@nna",
            ":-)x",
            "isis",
        ] {
            assert!(!is_harmless(value), "{value}");
        }
    }
}
