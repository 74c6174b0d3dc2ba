//! What `cargo xtask collector` says when it cannot do its work. What it does with a Collector is
//! proved by `cargo xtask collector check`, which builds one first.

use std::process::Command;

#[test]
fn a_collector_that_is_not_where_the_environment_says_is_an_error_that_names_the_variable() {
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["collector", "validate"])
        .env("EMBEDDED_COLLECTOR_BIN", "/nowhere/otelcol")
        .output()
        .unwrap();
    assert!(!output.status.success());
    let words = String::from_utf8_lossy(&output.stderr);
    for part in ["EMBEDDED_COLLECTOR_BIN", "`/nowhere/otelcol`", "path of a Collector"] {
        assert!(words.contains(part), "{part} in {words}");
    }
}
