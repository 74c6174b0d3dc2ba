//! Confines the engine, in the kernel, to its data folder.
//!
//! `clickhouse local` lets every user read every file: its scalar function `file()` asks for no
//! grant. Landlock refuses at the system call instead. After [`to_folder`] the calling thread, and
//! every thread it starts, may write the data folder, read a short list of system files, and open
//! no outgoing TCP connection; listening sockets are untouched. It cannot be undone, so the thread
//! that keeps files outside the folder (the ready file) is another one.
//!
//! `/proc/self/environ` and `/proc/self/task` are left out on purpose: the environment of the
//! binary holds passwords.
//!
//! Kernels without Landlock (before 5.13, or with it disabled) run the engine unconfined, and
//! [`to_folder`] says so; TCP is confined from 6.7 on.

use std::path::Path;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _,
    RulesetError, RulesetStatus, path_beneath_rules,
};

/// The newest set of rights this file was written for; older kernels take what they know.
const RIGHTS: ABI = ABI::V5;

/// What the engine reads about the machine and itself. Missing paths are skipped.
const READ_ONLY: [&str; 22] = [
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/share/zoneinfo",
    "/sys",
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/sys",
    "/proc/uptime",
    "/proc/self/cgroup",
    "/proc/self/fd",
    "/proc/self/io",
    "/proc/self/maps",
    "/proc/self/mounts",
    "/proc/self/smaps",
    "/proc/self/stat",
    "/proc/self/statm",
    "/proc/self/status",
];

/// Devices it reads and writes.
const DEVICES: [&str; 4] = ["/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"];

/// Confines this thread and its future children; false when the kernel cannot.
pub(crate) fn to_folder(data: &Path, library: &Path) -> Result<bool, RulesetError> {
    let all = AccessFs::from_all(RIGHTS);
    let read = AccessFs::from_read(RIGHTS);
    let status = Ruleset::default()
        .handle_access(all)?
        .handle_access(AccessNet::ConnectTcp)?
        .create()?
        .add_rules(path_beneath_rules([data], all))?
        .add_rules(path_beneath_rules(DEVICES, all))?
        .add_rules(path_beneath_rules(READ_ONLY, read))?
        .add_rules(path_beneath_rules([library], read))?
        .restrict_self()?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}
