//! The engine as a C library: loaded, called once, never unloaded.
//!
//! `libchdb.so` holds the whole of `clickhouse local`, and `chdb_query_cmdline` runs it with a
//! command line. Three functions are used; this is the only file that calls into the library.
//!
//! Invariants:
//! - the library is never unloaded: its threads outlive the call;
//! - its signal handlers are off: they would hide crashes behind minutes of stack unwinding, and
//!   the binary installs its own;
//! - a result that carries no error is no proof of success. The engine writes most failures to
//!   standard error; whether it was ever ready decides.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW, Symbol};

use crate::error::Error;

type QueryCmdline = unsafe extern "C" fn(c_int, *mut *mut c_char) -> *mut c_void;
type ResultError = unsafe extern "C" fn(*mut c_void) -> *const c_char;
type SetSignalHandlers = unsafe extern "C" fn(c_int);

/// The loaded engine.
pub(crate) struct Engine {
    query_cmdline: QueryCmdline,
    result_error: ResultError,
}

impl Engine {
    /// Loads the library at `path`.
    pub(crate) fn load(path: &Path) -> Result<Self, Error> {
        if !path.is_file() {
            return Err(Error::LibraryMissing { path: path.to_path_buf() });
        }
        let broken = |error: libloading::Error| Error::Library {
            path: path.to_path_buf(),
            reason: error.to_string(),
        };
        // SAFETY: the file is the pinned build of the engine, or one the user names; its
        // initialisers are those of ClickHouse and expect nothing of the caller.
        let library =
            unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }.map_err(broken)?;
        // SAFETY: the three signatures are those of `chdb.h`. The functions stay valid for ever,
        // because the library is leaked below.
        let (query_cmdline, result_error, set_signal_handlers) = unsafe {
            let query: Symbol<QueryCmdline> = library.get(c"chdb_query_cmdline").map_err(broken)?;
            let error: Symbol<ResultError> = library.get(c"chdb_result_error").map_err(broken)?;
            let signals: Symbol<SetSignalHandlers> =
                library.get(c"chdb_set_signal_handlers_enabled").map_err(broken)?;
            (*query, *error, *signals)
        };
        std::mem::forget(library);
        // SAFETY: takes an integer and sets a flag; called before the engine starts, as required.
        unsafe { set_signal_handlers(0) };
        Ok(Self { query_cmdline, result_error })
    }

    /// Runs `clickhouse local` with these arguments until it ends; what its result calls an error.
    pub(crate) fn run(&self, arguments: Vec<CString>) -> Option<String> {
        let count = arguments.len() as c_int;
        let mut pointers: Vec<*mut c_char> = arguments.into_iter().map(CString::into_raw).collect();
        pointers.push(std::ptr::null_mut());
        let pointers = pointers.leak();
        // SAFETY: `argc` and `argv` are those of a `main`: valid, terminated by null, and leaked,
        // since the engine may keep pointers to them for as long as the process lives.
        let result = unsafe { (self.query_cmdline)(count, pointers.as_mut_ptr()) };
        if result.is_null() {
            return Some("the engine returned no result".to_owned());
        }
        // SAFETY: `result` is the non-null result of the call above and was not destroyed.
        let error = unsafe { (self.result_error)(result) };
        if error.is_null() {
            return None;
        }
        // SAFETY: a non-null error is a terminated string owned by the result, which is not
        // destroyed: the process ends soon.
        let text = unsafe { CStr::from_ptr(error) }.to_string_lossy().into_owned();
        (!text.is_empty()).then_some(text)
    }
}
