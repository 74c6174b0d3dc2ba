//! Servers that know less than the newest, or allow less: a proxy stands for them.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use tracing_activity::sink::Sink as _;

use crate::database::{Db, batch, wait};

/// Passes on to the server what holds none of its words, and answers the rest as a server that does
/// not know them.
struct Refusing {
    url: String,
    refused: Arc<Mutex<Vec<String>>>,
}

impl Refusing {
    /// Each word has the server's answer.
    fn new(to: &str, words: &'static [(&'static str, &'static str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let refused = Arc::new(Mutex::new(Vec::new()));
        let (to, log) = (to.strip_prefix("http://").unwrap().to_owned(), Arc::clone(&refused));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (to, log) = (to.clone(), Arc::clone(&log));
                std::thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    let Some(request) = read_request(&mut stream) else { return };
                    let text = String::from_utf8_lossy(&request);
                    // A question about settings is none that uses one.
                    let word = words.iter().find(|(word, _)| {
                        text.contains(word) && !text.contains("system.merge_tree_settings")
                    });
                    if let Some((word, answer)) = word {
                        log.lock().unwrap().push((*word).to_owned());
                        let is_error = answer.starts_with("Code: ");
                        let status = if is_error { "500 Internal Server Error" } else { "200 OK" };
                        let status = format!("HTTP/1.1 {status}\r\nConnection: close");
                        let length = answer.len();
                        let head = format!("{status}\r\nContent-Length: {length}\r\n\r\n");
                        stream.write_all((head + answer).as_bytes()).unwrap();
                        return;
                    }
                    let mut server = TcpStream::connect(to).unwrap();
                    server.write_all(&request).unwrap();
                    std::io::copy(&mut server, &mut stream).ok();
                });
            }
        });
        Self { url, refused }
    }

    fn refused(&self) -> Vec<String> {
        self.refused.lock().unwrap().clone()
    }
}

/// A whole request, with the wish to end the connection after it.
fn read_request(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let (mut bytes, mut part) = (Vec::new(), vec![0; 65_536]);
    loop {
        let read = stream.read(&mut part).ok().filter(|&read| read > 0)?;
        bytes.extend_from_slice(&part[..read]);
        let Some(end) = bytes.windows(4).position(|it| it == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let whole = match length {
            Some(length) => bytes.len() >= end + 4 + length.trim().parse::<usize>().unwrap(),
            None if head.contains("transfer-encoding: chunked") => bytes.ends_with(b"0\r\n\r\n"),
            None => true,
        };
        if whole {
            let first = bytes.windows(2).position(|it| it == b"\r\n").unwrap();
            bytes.splice(first..first, *b"\r\nConnection: close");
            return Some(bytes);
        }
    }
}

fn through(db: &Db, words: &'static [(&'static str, &'static str)]) -> (Db, Refusing) {
    let proxy = Refusing::new(&db.config.url, words);
    let url = proxy.url.clone();
    (db.with(|config| config.url = url), proxy)
}

const SERIALIZATION: (&str, &str) = (
    "string_serialization_version",
    "Code: 115. DB::Exception: Unknown setting 'string_serialization_version': for storage MergeTree. (UNKNOWN_SETTING)",
);
const CODEC: (&str, &str) = (
    "default_compression_codec",
    "Code: 115. DB::Exception: Unknown setting 'default_compression_codec': for storage MergeTree. (UNKNOWN_SETTING)",
);
const VERTICAL: (&str, &str) = (
    "vertical_merge_algorithm_min_rows_to_activate",
    "Code: 452. DB::Exception: Setting vertical_merge_algorithm_min_rows_to_activate should not be changed. (SETTING_CONSTRAINT_VIOLATION)",
);
const BLOCKS: (&str, &str) = (
    "min_compress_block_size",
    "Code: 115. DB::Exception: Setting min_compress_block_size is unknown or not supported at column level. (UNKNOWN_SETTING)",
);

#[test]
fn a_setting_that_only_saves_room_is_left_out_where_the_server_refuses_it() {
    for words in [&[SERIALIZATION][..], &[CODEC], &[VERTICAL], &[BLOCKS]] {
        let db = Db::absent();
        let (older, proxy) = through(&db, words);
        wait(older.sink().prepare()).unwrap();
        wait(older.sink().write(&batch(10))).unwrap();
        assert_eq!((older.count("activities"), proxy.refused().len()), (10, 1), "{words:?}");
        let create = older.query("SHOW CREATE TABLE {db}.activities FORMAT TSVRaw");
        for (setting, _) in [SERIALIZATION, CODEC, VERTICAL, BLOCKS] {
            let left_out = words.iter().any(|(word, _)| *word == setting);
            assert_eq!(!create.contains(setting), left_out, "{setting} in {create}");
        }
        assert!(create.contains("non_replicated_deduplication_window = 10000"), "{create}");
    }
}

#[test]
fn all_of_them_may_be_refused_at_once() {
    let db = Db::absent();
    let (older, proxy) = through(&db, &[SERIALIZATION, CODEC, VERTICAL, BLOCKS]);
    wait(older.sink().prepare()).unwrap();
    wait(older.sink().write(&batch(10))).unwrap();
    assert_eq!((older.count("activities"), proxy.refused().len()), (10, 4));
    // The next start asks for nothing that is refused.
    wait(older.sink().prepare()).unwrap();
    assert_eq!(proxy.refused().len(), 4);
}

#[test]
fn a_setting_that_rows_depend_on_is_not_left_out() {
    let db = Db::absent();
    let (older, _proxy) = through(
        &db,
        &[(
            "non_replicated_deduplication_window",
            "Code: 115. DB::Exception: Unknown setting 'non_replicated_deduplication_window': for storage MergeTree. (UNKNOWN_SETTING)",
        )],
    );
    let error = wait(older.sink().prepare()).unwrap_err();
    assert!(error.is_configuration(), "{error}");
    assert!(error.to_string().contains("non_replicated_deduplication_window"), "{error}");
}

#[test]
fn a_service_without_functions_of_sql_does_without() {
    for answer in [
        "Code: 497. DB::Exception: Not enough privileges. To execute this query, it's necessary to have the grant CREATE FUNCTION ON *.*. (ACCESS_DENIED)",
        "Code: 48. DB::Exception: User-defined functions are not supported here. (NOT_IMPLEMENTED)",
        "Code: 344. DB::Exception: CREATE FUNCTION is disabled. (SUPPORT_IS_DISABLED)",
    ] {
        // It belongs to the server, so another test may have made it: then nobody asks for it.
        let words: &'static [_] = vec![
            ("FUNCTION IF NOT EXISTS", answer),
            (
                "system.functions",
                "Code: 497. DB::Exception: Not enough privileges. (ACCESS_DENIED)",
            ),
        ]
        .leak();
        let db = Db::absent();
        let (managed, proxy) = through(&db, words);
        wait(managed.sink().prepare()).unwrap();
        wait(managed.sink().write(&batch(3))).unwrap();
        assert_eq!(
            managed.query("SELECT sum(requests) FROM {db}.activity_minutes"),
            "3",
            "{:?}",
            proxy.refused()
        );
    }
}

#[test]
fn the_lambda_of_the_function_can_stand_in_a_question() {
    let db = Db::new();
    wait(db.sink().write(&batch(100))).unwrap();
    let (_, lambda) = tracing_activity::schema::HIST_QUANTILE.split_once(" AS ").unwrap();
    let ask = |with: &str, name: &str| -> f64 {
        let sql =
            format!("{with} SELECT {name}(sumMap(dur_hist), 0.5) FROM {{db}}.activity_minutes");
        db.query(&sql).parse().unwrap()
    };
    let named = ask(&format!("WITH {} AS quantile_of", lambda.trim()), "quantile_of");
    assert!(named > 40.0 && named < 60.0, "{named}");
    assert!((named - ask("", "activity_hist_quantile")).abs() < 1e-9, "{named}");
}

#[test]
fn where_the_tables_cannot_be_made_the_servers_age_is_told_and_not_a_remedy_that_is_none() {
    const REFUSAL: (&str, &str) = (
        "CREATE TABLE IF NOT EXISTS",
        "Code: 44. DB::Exception: Cannot create column with type 'Variant(Int64, String)' because experimental Variant type is not allowed.",
    );
    for (version, is_told) in [
        ("[\"24.8.4.1\"]", true),
        ("[\"25.5.2.1\"]", true),
        ("[\"25.8.1.1\"]", false),
        ("[\"26.1.3.4-stable\"]", false),
        ("[\"unknown\"]", false),
    ] {
        let words = Box::leak(Box::new([REFUSAL, ("SELECT version()", version)]));
        let (old, _proxy) = through(&Db::absent(), words);
        let error = wait(old.sink().prepare()).unwrap_err();
        let told = error.to_string().contains("need 25.8 or newer: upgrade it");
        assert_eq!(told, is_told, "{version}: {error}");
        assert!(error.is_configuration(), "{error}");
    }
}
