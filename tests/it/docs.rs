//! What the documents say is what the code does.

use std::path::Path;

use tracing_activity::config::{SamplingPolicy, env};

fn readme() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn the_readmes_table_of_variables_is_the_codes() {
    let readme = readme();
    let (_, rest) = readme.split_once("<!-- env:begin -->\n").expect("the table's beginning");
    let (table, _) = rest.split_once("<!-- env:end -->").expect("the table's end");
    assert_eq!(table, env::markdown_table(), "run `cargo xtask env`");
}

#[test]
fn the_readmes_quick_start_is_the_example_and_names_what_it_is_built_of() {
    let readme = readme();
    let block = |kind: &str| {
        let (_, rest) = readme.split_once("## Quick start\n").expect("the quick start");
        let (_, rest) = rest.split_once(&format!("```{kind}\n")).expect("a block");
        rest.split("```").next().unwrap().to_owned()
    };
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/quickstart.rs");
    let example = std::fs::read_to_string(example).unwrap();
    let (essay, program) = example.split_once("\n\n").unwrap();
    assert!(essay.starts_with("//!"));
    assert_eq!(block("rust,no_run"), program);
    let dependencies = block("toml");
    for name in ["axum", "tokio", "tracing_activity", "tracing_subscriber"] {
        assert!(program.contains(&format!("{name}::")), "{name}");
        let line = format!("\n{} = ", name.replace('_', "-"));
        assert!(dependencies.contains(&line), "{name}: {dependencies}");
    }
}

#[test]
fn every_policy_that_the_documents_show_can_be_used() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut policies = 0;
    for file in ["README.md", "docs/sampling.md"] {
        let text = std::fs::read_to_string(root.join(file)).unwrap();
        for line in text.lines().filter_map(|line| line.strip_prefix("ACTIVITY_SAMPLE=")) {
            if let Some((_, error)) = line.split_once(": column ") {
                let given = line.split('"').nth(1).unwrap();
                let real = given.parse::<SamplingPolicy>().unwrap_err();
                assert_eq!(real, format!("column {error}"), "{file}: {line}");
                continue;
            }
            let policy = line.split(" #").next().unwrap().trim();
            let quoted = policy.strip_prefix('\'').and_then(|it| it.strip_suffix('\''));
            let policy = quoted.unwrap_or_else(|| panic!("{file}: a shell needs quotes: {policy}"));
            assert!(policy.parse::<SamplingPolicy>().is_ok(), "{file}: {policy}");
            policies += 1;
        }
        // The rules in the table.
        let cells = text.lines().filter_map(|line| line.strip_prefix("| `"));
        for cell in cells.filter_map(|line| line.split(" | ").next()) {
            for rule in cell.trim_end_matches('`').split("`, `") {
                if file == "docs/sampling.md" {
                    let text = format!("{rule},slow>1h");
                    let text = if rule.contains("slow") { rule } else { &text };
                    let usable = rule == "off" || text.parse::<SamplingPolicy>().is_ok();
                    assert!(usable, "{rule}");
                    policies += 1;
                }
            }
        }
    }
    assert!(policies > 20, "{policies}");
}
