//! What the engine is told: its server settings, its users and what each may do.
//!
//! The library runs with rights a server never has: it was made for one person at a prompt, so
//! ungranted users read any file. Hence three users, each with the least it needs:
//!
//! - `default`, without a password, is the engine's own session. It cannot be closed to loopback,
//!   so it holds two grants and a quota of queries, which [`crate::host`] uses up before anyone
//!   else is told the port;
//! - `activity` writes: it makes and fills databases, tables and views. No files, addresses,
//!   executables, dictionaries (they run programs) or foreign disks, and it cannot end the server;
//! - `activity_reader` reads, under `readonly = 1` and with limits, and sees of
//!   `system` what clients need.
//!
//! Grants do not cover the scalar function `file()`, which asks for none in this build:
//! [`crate::confine`] closes the files themselves.
//!
//! Passwords are written as SHA-256 and the users' file is removed once it has been read.

use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::hex::hex;
use crate::limits::Limits;

/// Queries of `default` until its quota is used up; the engine's own session runs four.
pub(crate) const DEFAULT_USER_QUERIES: u32 = 6;

/// Table engines the writer may name. Each keeps its data inside the data folder.
const TABLE_ENGINES: [&str; 10] = [
    "MergeTree",
    "ReplacingMergeTree",
    "SummingMergeTree",
    "AggregatingMergeTree",
    "CollapsingMergeTree",
    "VersionedCollapsingMergeTree",
    "Memory",
    "Null",
    "Buffer",
    "Merge",
];

/// Rights of the writer, beside the table engines.
const WRITER_RIGHTS: [&str; 22] = [
    "SHOW",
    "SELECT",
    "INSERT",
    "ALTER TABLE",
    "ALTER VIEW",
    "CREATE DATABASE",
    "CREATE TABLE",
    "CREATE VIEW",
    "CREATE TEMPORARY TABLE",
    "CREATE FUNCTION",
    "DROP DATABASE",
    "DROP TABLE",
    "DROP VIEW",
    "DROP FUNCTION",
    "TRUNCATE",
    "OPTIMIZE",
    "KILL QUERY",
    "dictGet",
    "SYSTEM FLUSH LOGS",
    "SYSTEM MERGES",
    "SYSTEM TTL MERGES",
    "SYSTEM DROP CACHE",
];

/// Tables of `system` the reader sees beside those everyone does (tables, columns, settings and
/// the like). The others hold what other people asked.
const READER_TABLES: [&str; 6] =
    ["build_options", "clusters", "events", "metrics", "numbers", "parts"];

/// Server settings: those of a small production server.
pub(crate) fn server_xml(users: &Path, memory_bytes: u64) -> String {
    let users = escape(&users.to_string_lossy());
    let logs = system_log("query_log") + &system_log("part_log");
    format!(
        "<clickhouse>
  <users_config>{users}</users_config>
  <max_server_memory_usage>{memory_bytes}</max_server_memory_usage>
  <mark_cache_size>67108864</mark_cache_size>
  <index_mark_cache_size>16777216</index_mark_cache_size>
  <uncompressed_cache_size>0</uncompressed_cache_size>
  <index_uncompressed_cache_size>0</index_uncompressed_cache_size>
{logs}</clickhouse>
"
    )
}

/// One of the engine's own tables about itself, kept for two days.
fn system_log(name: &str) -> String {
    format!(
        "  <{name}>
    <database>system</database>
    <table>{name}</table>
    <partition_by>event_date</partition_by>
    <ttl>event_date + INTERVAL 2 DAY DELETE</ttl>
    <flush_interval_milliseconds>7500</flush_interval_milliseconds>
  </{name}>
"
    )
}

/// Users, their profiles, quotas and grants.
pub(crate) fn users_xml(writer_password: &str, reader_password: &str, limits: &Limits) -> String {
    let ((settings, constraints), quota) = (limits.profile(), limits.quota());
    let mut writer = grant(&format!("{} ON *.*", WRITER_RIGHTS.join(", ")));
    for engine in TABLE_ENGINES {
        writer.push_str(&grant(&format!("TABLE ENGINE ON {engine}")));
    }
    let session = grant("SYSTEM LISTEN ON *.*") + &grant("CREATE TEMPORARY TABLE ON *.*");
    let mut reader = grant("SHOW, SELECT, dictGet ON *.*") + &query("REVOKE SELECT ON system.*");
    for table in READER_TABLES {
        reader.push_str(&grant(&format!("SELECT ON system.{table}")));
    }
    let users = [
        user("default", "<password></password>", &session),
        user(crate::WRITER, &secret(writer_password), &writer),
        user(crate::READER, &secret(reader_password), &reader),
    ]
    .concat();
    format!(
        "<clickhouse>
  <profiles>
    <default>
      <implicit_select>0</implicit_select>
    </default>
    <activity>
      <implicit_select>0</implicit_select>
{settings}      <constraints>
{constraints}        <merge_tree_disk><const/></merge_tree_disk>
        <merge_tree_storage_policy><const/></merge_tree_storage_policy>
      </constraints>
    </activity>
    <activity_reader>
      <implicit_select>0</implicit_select>
      <readonly>1</readonly>
      <max_execution_time>30</max_execution_time>
      <max_result_rows>1000000</max_result_rows>
      <max_rows_to_read>1000000000</max_rows_to_read>
      <max_memory_usage>2147483648</max_memory_usage>
    </activity_reader>
  </profiles>
  <quotas>
    <default>
      <interval>
        <duration>315360000</duration>
        <queries>{DEFAULT_USER_QUERIES}</queries>
      </interval>
    </default>
    <activity>{quota}</activity>
    <activity_reader></activity_reader>
  </quotas>
  <users>
{users}  </users>
</clickhouse>
"
    )
}

/// A user, with the profile and the quota of its own name, reachable from loopback alone.
fn user(name: &str, credential: &str, grants: &str) -> String {
    format!(
        "    <{name}>
      {credential}
      <networks><ip>127.0.0.1</ip><ip>::1</ip></networks>
      <profile>{name}</profile>
      <quota>{name}</quota>
      <grants>
{grants}      </grants>
    </{name}>
"
    )
}

fn grant(what: &str) -> String {
    query(&format!("GRANT {what}"))
}

fn query(text: &str) -> String {
    format!("        <query>{text}</query>\n")
}

fn secret(password: &str) -> String {
    let digest = hex(&Sha256::digest(password.as_bytes()));
    format!("<password_sha256_hex>{digest}</password_sha256_hex>")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_stored_as_digests() {
        let users = users_xml("correct horse", "battery staple", &Limits::default());
        assert!(!users.contains("correct horse"));
        assert!(!users.contains("battery staple"));
        // printf %s "correct horse" | sha256sum
        let digest = "4104d36f8da2c254349f85836793ebe029e0c957063a34c91c2e9203187b5631";
        assert!(users.contains(digest));
    }

    #[test]
    fn a_path_with_markup_stays_text() {
        let xml = server_xml(Path::new("/a<b>&c/users.xml"), 1);
        assert!(xml.contains("<users_config>/a&lt;b&gt;&amp;c/users.xml</users_config>"));
    }
}
