//! Tables under other people's hands: dropped and altered by administrators, on servers that know
//! less, with texts of strangers in them.
#![cfg(feature = "clickhouse")]

#[path = "../database/mod.rs"]
mod database;

mod cluster;
mod hostile;
mod mending;
mod older;
mod retention;
