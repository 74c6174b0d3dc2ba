//! What must agree so that `docker compose up` works, and what of it can run without Docker.
//!
//! `files` reads the files, `agreement` compares what they say of each other, `tables` runs the SQL
//! and the users on the embedded engine.

mod agreement;
mod files;
mod rehearsal;
mod tables;
