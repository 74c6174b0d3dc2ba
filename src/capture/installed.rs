//! Which layer a subscriber holds, where the subscriber itself does not tell: through a `reload::Layer`
//! nobody can look, and of two layers it shows the second.
//!
//! Subscribers are known by the address of their `Registry`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};

use tracing_core::Dispatch;
use tracing_core::dispatcher::WeakDispatch;
use tracing_subscriber::registry::Registry;

use super::shared::Shared;

#[derive(Clone)]
struct Installed {
    registry: usize,
    subscriber: WeakDispatch,
    shared: Weak<Shared>,
}

static INSTALLED: RwLock<Vec<Installed>> = RwLock::new(Vec::new());

/// A subscriber does not tell its layer by itself.
static ASKED: AtomicBool = AtomicBool::new(false);

fn registry_of(subscriber: &Dispatch) -> Option<usize> {
    subscriber.downcast_ref::<Registry>().map(|it| std::ptr::from_ref(it) as usize)
}

/// Notes that `subscriber` holds this layer. `false` where it holds another, which was first.
pub(super) fn install(subscriber: &Dispatch, shared: &Arc<Shared>) -> bool {
    let Some(registry) = registry_of(subscriber) else { return true };
    // Looked at outside of the lock: the last reference to a subscriber may go away here.
    let before = INSTALLED.read().unwrap_or_else(PoisonError::into_inner).clone();
    let live = |it: &Installed| it.subscriber.upgrade().is_some() && it.shared.strong_count() > 0;
    let (live, gone): (Vec<_>, Vec<_>) = before.into_iter().partition(live);
    let is_gone = |it: &Installed| {
        gone.iter()
            .any(|gone| Weak::ptr_eq(&gone.shared, &it.shared) && gone.registry == it.registry)
    };
    let others = live.iter().filter(|it| it.registry == registry);
    let is_first = others.clone().all(|it| it.shared.as_ptr() == Arc::as_ptr(shared));
    let is_new = others.count() == 0;
    let mut installed = INSTALLED.write().unwrap_or_else(PoisonError::into_inner);
    installed.retain(|it| !is_gone(it));
    if is_new {
        let (subscriber, shared) = (subscriber.downgrade(), Arc::downgrade(shared));
        installed.push(Installed { registry, subscriber, shared });
    }
    is_first
}

/// From now on [`of`] has to be asked.
pub(super) fn must_be_asked() {
    ASKED.store(true, Ordering::Relaxed);
}

/// The layer of this subscriber.
#[cold]
#[inline(never)]
pub(super) fn of(subscriber: &Dispatch) -> Option<Arc<Shared>> {
    if !ASKED.load(Ordering::Relaxed) {
        return None;
    }
    let registry = registry_of(subscriber)?;
    let installed = INSTALLED.read().unwrap_or_else(PoisonError::into_inner);
    installed.iter().rev().find(|it| it.registry == registry)?.shared.upgrade()
}
