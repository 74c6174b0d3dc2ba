//! How a proxy misbehaves.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use embedded_clickhouse::proxy::{Action, Reply, Request};

/// A rule of a proxy.
pub(super) type Rule = Box<dyn Fn(&Request) -> Action + Send + Sync>;

/// What nginx says of a body that is too large.
pub(super) const TOO_LARGE: &str = "<html>\r\n<head><title>413 Request Entity Too Large</title></head>\r\n<body>\r\n<center><h1>413 Request Entity Too Large</h1></center>\r\n<hr><center>nginx/1.27.4</center>\r\n</body>\r\n</html>\r\n";

/// An error as ClickHouse words it.
pub(super) fn error(code: u32) -> Reply {
    let text =
        format!("Code: {code}. DB::Exception: made up by a proxy. (MADE_UP) (version 26.7.2.1)");
    Reply::new(500, &text).with("X-ClickHouse-Exception-Code", &code.to_string())
}

/// A page of somebody who is not ClickHouse.
pub(super) fn page(status: u16) -> Reply {
    Reply::new(status, &format!("<html><h1>{status} from a proxy</h1></html>"))
}

/// Passes everything.
pub(super) fn honest() -> Rule {
    Box::new(|_| Action::Pass)
}

/// Does `action` to every insert.
pub(super) fn always(action: Action) -> Rule {
    Box::new(move |request| if request.is_insert() { action.clone() } else { Action::Pass })
}

/// Does `action` to inserts that come within `outage` of the first.
pub(super) fn during(outage: Duration, action: Action) -> Rule {
    let first = OnceLock::new();
    Box::new(move |request| {
        if !request.is_insert() || first.get_or_init(Instant::now).elapsed() > outage {
            return Action::Pass;
        }
        action.clone()
    })
}

/// The same to every request, questions too.
pub(super) fn everything_during(outage: Duration, action: Action) -> Rule {
    let first = OnceLock::new();
    Box::new(move |_| {
        if first.get_or_init(Instant::now).elapsed() > outage {
            Action::Pass
        } else {
            action.clone()
        }
    })
}

/// Does `action` to every other insert, beginning with the first.
pub(super) fn every_other(action: Action) -> Rule {
    let count = AtomicU64::new(0);
    Box::new(move |request| {
        if request.is_insert() && count.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
            action.clone()
        } else {
            Action::Pass
        }
    })
}

/// The first attempt at a batch is stored and answered with `lie`, the next `refusals` with `then` and
/// not stored; so it is with every batch.
pub(super) fn lie_then_refuse(lie: Reply, refusals: u64, then: Reply) -> Rule {
    let seen = std::sync::Mutex::new(std::collections::HashMap::<String, u64>::new());
    Box::new(move |request| {
        let Some(token) = request.parameter("insert_deduplication_token") else {
            return Action::Pass;
        };
        if !request.is_insert() {
            return Action::Pass;
        }
        let Ok(mut seen) = seen.lock() else { return Action::Pass };
        let count = seen.entry(token.to_owned()).or_default();
        *count += 1;
        match *count {
            1 => Action::Lie(lie.clone()),
            n if n <= refusals + 1 => Action::Answer(then.clone()),
            _ => Action::Pass,
        }
    })
}

/// Refuses inserts of more than `most` bytes with nginx' page.
pub(super) fn at_most(most: usize) -> Rule {
    Box::new(move |request| {
        if request.is_insert() && request.body.len() > most {
            Action::Answer(Reply::new(413, TOO_LARGE))
        } else {
            Action::Pass
        }
    })
}

/// Takes every parameter away that is not about what is asked.
pub(super) fn without_settings() -> Rule {
    Box::new(|request| {
        let kept = ["query", "database", "decompress"];
        Action::Change(request.clone().keeping(|name| kept.contains(&name)))
    })
}
