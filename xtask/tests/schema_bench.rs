//! The comparison of tables on a few requests: both sides hold the same, and answer the same.

use std::process::Command;

use serde_json::Value;

#[test]
fn both_sides_answer_every_question_alike_and_each_figure_is_in_the_file() {
    let json = std::env::temp_dir().join(format!("schema-bench-{}.json", std::process::id()));
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["schema-bench", "--requests", "12000", "--rounds", "1", "--json"])
        .arg(&json)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    // It fails where the sides disagree.
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    let figures: Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    let keys = [
        "bytes",
        "insert_cpu",
        "merge_cpu",
        "p99_by_ekind",
        "new_paths",
        "child_span",
        "journey",
        "object",
        "funnel",
        "trace_fetch",
        "red",
        "new_shapes_ms",
    ];
    for key in keys {
        assert!(figures[key].as_f64().is_some_and(|it| it > 0.0), "{key} in {figures}");
        assert!(key == "new_shapes_ms" || told.contains(key), "{key} in {told}");
    }
    for key in keys.iter().filter(|it| **it != "new_shapes_ms") {
        let sides = &figures["sides"][key];
        let side = |name: &str| sides[name].as_f64().unwrap();
        let ratio = side("otel_traces") / side("activities");
        let told = figures[key].as_f64().unwrap();
        // Of rounded figures.
        assert!((ratio / told - 1.0).abs() < 0.1, "{key}: {ratio} and {told}");
    }
    assert_eq!(figures["requests"], 12_000);
    std::fs::remove_file(json).unwrap();
}
