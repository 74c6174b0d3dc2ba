//! `cargo xtask engine`: the library that ClickHouse runs from, fetched once a machine.

use anyhow::Result;
use embedded_clickhouse::fetch;

pub(crate) fn run() -> Result<()> {
    let fetched = fetch::ensure()?;
    let path = fetched.path.display();
    match fetched.downloaded_bytes {
        Some(bytes) => println!(
            "fetched the engine to {path}: {:.0} MB in {:.1} s",
            bytes as f64 / 1e6,
            fetched.seconds
        ),
        None => println!("the engine is at {path}"),
    }
    Ok(())
}
