//! The primitives by which threads hand a buffer over: the standard library's, and those of the
//! model checker `shuttle` under `--cfg shuttle`.

#[cfg(not(all(test, shuttle)))]
pub(super) use std::sync::{Mutex, MutexGuard, atomic::AtomicBool};

#[cfg(all(test, shuttle))]
pub(super) use shuttle::sync::{Mutex, MutexGuard, atomic::AtomicBool};
