//! The demo, run as a newcomer runs it, only shorter; and the README's SQL on its rows.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

#[test]
fn every_request_of_the_demo_is_a_row_and_the_readmes_sql_answers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let json = std::env::temp_dir().join(format!("demo-{}.json", std::process::id()));
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["demo", "--requests", "600", "--seconds", "3", "--seed", "7", "--sql"])
        .arg(root.join("README.md"))
        .arg("--json")
        .arg(&json)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("questions of"), "{told}");
    let figures: Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!(figures["requests_sent"], 600);
    assert_eq!(figures["requests_sent"], figures["rows_stored"]);
    assert!(figures["traces_kept"].as_u64() > Some(0));
    assert!(told.contains("A request that failed"), "{told}");
    std::fs::remove_file(json).unwrap();
}
