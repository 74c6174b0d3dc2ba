//! What the documents say is what the code does.

use std::path::Path;

use tracing_activity::config::env;

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
