use super::*;

fn place() -> Place {
    Place {
        origin: "http://db:8123".to_owned(),
        database: "shop".to_owned(),
        user: "ana".to_owned(),
    }
}

fn explain(text: &str) -> SinkError {
    place().explain(&Error::BadResponse(Answer::new(500, text)))
}

fn page(status: u16, text: &str) -> SinkError {
    place().explain(&Error::BadResponse(Answer::new(status, text)))
}

const HTML: &str = "<html>\r\n<head><title>413 Request Entity Too Large</title></head>\r\n<body>\r\n<center><h1>413 Request Entity Too Large</h1></center>\r\n<hr><center>nginx/1.27.4</center>\r\n</body>\r\n</html>";

#[test]
fn the_number_decides_and_not_the_status() {
    let busy = explain("Code: 252. DB::Exception: Too many parts (300). (TOO_MANY_PARTS)");
    assert!(busy.is_busy() && busy.is_retryable());
    let poison = explain(
        "Code: 252. DB::Exception: Too many partitions for single INSERT block (more than 100).",
    );
    assert!(poison.is_rejected());
    assert!(explain("Code: 209. DB::NetException: Timeout exceeded").is_retryable());
    assert!(explain("Code: 201. DB::Exception: Quota for user exceeded").is_busy());
    assert!(explain("Code: 499. DB::Exception: S3 is away").is_retryable());
    assert!(explain("Code: 691. DB::Exception: Unknown element").is_rejected());
    for status in [401, 404, 413, 500] {
        let poison = page(status, "Code: 691. DB::Exception: Unknown element");
        assert!(poison.is_rejected(), "{status}");
    }
    for code in [49, 1000, 1001, 1002, 12_345] {
        let it = explain(&format!("Code: {code}. DB::Exception: std::exception"));
        assert!(!it.is_retryable() && !it.is_rejected() && !it.is_configuration(), "{it}");
        assert!(!it.is_certain(), "{it}");
    }
}

#[test]
fn the_status_decides_where_the_servers_words_are_missing() {
    for status in [502, 500, 504, 408, 520, 599] {
        let it = page(status, "<html>oops</html>");
        assert!(it.is_retryable() && !it.is_busy() && !it.is_certain(), "{it}");
    }
    for status in [429, 503] {
        assert!(page(status, HTML).is_busy(), "{status}");
    }
    for status in [401, 403, 407] {
        for body in ["", "<html><h1>Forbidden</h1></html>", "Error Code: 516 of somebody else"] {
            let it = page(status, body);
            let text = it.to_string();
            assert!(it.is_configuration() && text.contains("ACTIVITY_PASSWORD"), "{text}");
            assert!(text.contains(&status.to_string()) && !text.contains('<'), "{text}");
        }
    }
    for status in [301, 302, 400, 404, 405, 410, 418, 451] {
        let it = page(status, "<h1>no such page</h1>");
        assert!(it.is_configuration() && it.to_string().contains("ACTIVITY_DB"), "{it}");
    }
    for status in [200, 204] {
        let it = page(status, "<h1>Welcome to the hotel's network</h1>");
        assert!(it.is_configuration() && it.to_string().contains("ACTIVITY_DB"), "{it}");
    }
}

#[test]
fn a_proxys_limit_is_named_with_what_to_change() {
    for body in [HTML, "", "Payload Too Large"] {
        let it = page(413, body);
        let text = it.to_string();
        assert!(it.is_too_large() && !it.is_rejected(), "{text}");
        assert!(text.contains("client_max_body_size") && text.contains("ACTIVITY_BATCH_BYTES"));
        assert!(!text.contains('<') && text.contains("413"), "{text}");
    }
}

#[test]
fn a_limit_on_memory_asks_for_less_and_names_the_remedy() {
    let it = explain("Code: 241. DB::Exception: Query memory limit exceeded: would use 41 MiB");
    assert!(it.is_too_large() && it.is_busy() && it.to_string().contains("ACTIVITY_BATCH_BYTES"));
    let it = explain("Code: 241. DB::Exception: Memory limit (total) exceeded: would use 4 GiB");
    assert!(it.is_busy() && !it.is_too_large(), "{it}");
}

#[test]
fn a_setting_that_may_not_be_changed_is_named_with_its_value() {
    let it = explain(
        "Code: 452. DB::Exception: Setting async_insert shouldn't be changed. (SETTING_CONSTRAINT_VIOLATION)",
    );
    assert!(it.is_configuration() && it.to_string().contains("async_insert=0"), "{it}");
    assert!(it.to_string().contains("profile"), "{it}");
    let it = explain("Code: 452. DB::Exception: Setting other should not be changed");
    assert!(it.is_configuration() && it.to_string().contains("profile"), "{it}");
}

#[test]
fn what_passes_in_a_view_is_not_blamed_on_the_view() {
    let view = "while pushing to view shop.v (UUID)";
    for text in ["Code: 252. DB::Exception: Too many parts", "Code: 243. DB::Exception: No space"] {
        let it = explain(&format!("{text}: {view}"));
        assert!(it.is_busy() && !it.to_string().contains("drop it"), "{it}");
    }
    let it = explain(&format!("Code: 499. DB::Exception: S3: {view}"));
    assert!(it.is_retryable() && !it.is_busy(), "{it}");
    let it = explain(&format!("Code: 241. DB::Exception: Query memory limit: {view}"));
    assert!(it.is_too_large() && it.is_busy() && !it.is_certain(), "{it}");
    for code in [53, 395, 60, 1001] {
        let it = explain(&format!("Code: {code}. DB::Exception: ..: {view}"));
        assert!(it.is_configuration() && it.to_string().contains("drop it"), "{it}");
    }
}

#[test]
fn a_refusal_is_certain_in_the_servers_own_words_alone() {
    let text = "Code: 117. DB::Exception: bad";
    let it = explain(text);
    assert!(it.is_rejected() && !it.is_certain(), "without the server's header");
    assert!(!place().explain(&Error::TimedOut).is_certain());
    assert!(!place().explain(&Error::Network("reset".to_owned())).is_certain());
    assert!(place().explain(&Error::Connect("refused".to_owned())).is_certain());
}

#[test]
fn what_a_person_has_to_repair_names_the_remedy() {
    for (text, remedy) in [
        ("Code: 516. DB::Exception: ana: Authentication failed", "ACTIVITY_PASSWORD"),
        ("Code: 60. DB::Exception: Table shop.activities does not exist", "ACTIVITY_MIGRATE"),
        ("Code: 81. DB::Exception: Database shop does not exist", "ACTIVITY_MIGRATE"),
        ("Code: 16. DB::Exception: No such column when", "cargo xtask schema"),
        ("Code: 117. DB::Exception: Type of 'when' must be String", "cargo xtask schema"),
        (
            "Code: 53. DB::Exception: Cannot convert: UInt16 to UInt32: While executing Native",
            "cargo xtask schema",
        ),
        ("Code: 164. DB::Exception: Cannot execute query in readonly mode", "INSERT on shop"),
        ("Code: 497. DB::Exception: ana: Not enough privileges", "INSERT on shop"),
        ("Code: 53. DB::Exception: ..: while pushing to view shop.v", "drop it"),
    ] {
        let error = explain(text);
        assert!(error.is_configuration() && error.to_string().contains(remedy), "{error}");
    }
}

#[test]
fn the_number_is_read_from_the_servers_words_alone() {
    assert_eq!(code("Code: 60. DB::Exception: no table"), Some(60));
    assert_eq!(code("x\r\n__exception__\r\nCode: 241. DB::Exception: .."), Some(241));
    assert_eq!(code("Code: 1002"), Some(1002));
    assert_eq!(code("Error Code: 403"), None);
    assert_eq!(code("Code: . DB::"), None);
    assert_eq!(code("Code: 99999999999999. DB::Exception"), None);
    assert_eq!(code("<p>Code: 16</p> Code: 60. DB::Exception"), Some(60));
}

#[test]
fn the_servers_words_stay_one_short_line() {
    let error = explain(&format!("Code: 1002. {}\n\u{1b}[2J", "é".repeat(1000)));
    let text = error.to_string();
    assert!(text.chars().count() < 350 && !text.contains(char::is_control), "{text}");
    let text = page(502, &"<br>\u{1b}[2J<h1>x".repeat(5000)).to_string();
    assert!(text.chars().count() < 400 && !text.contains(char::is_control), "{text}");
}
