//! Whose work this thread does right now, and what parts of ours further inside tell of it.
//!
//! An [`Exchange`](super::exchange::Exchange) works on its request while it calls or polls the
//! service, and never otherwise. `tracing`'s current span does not tell that: it stays current
//! where a guard is held across an `.await`.

use std::cell::Cell;

/// What is told of a request from inside: the template of its route.
pub(super) type Told = Option<Box<str>>;

struct Here {
    /// An exchange works.
    works: Cell<bool>,
    /// The key of the activity that it is in charge of; 0 where it is of none.
    serving: Cell<usize>,
    told: Cell<Told>,
}

thread_local! {
    static HERE: Here = const {
        Here { works: Cell::new(false), serving: Cell::new(0), told: Cell::new(None) }
    };
}

/// The key of the activity that this thread works on; 0 where there is none.
pub(super) fn serving() -> usize {
    HERE.try_with(|here| here.serving.get()).unwrap_or(0)
}

/// Tells the exchange that works here the route of its request, where one does.
pub(super) fn tell_route(route: &str) {
    let _ = HERE.try_with(|here| {
        if here.works.get() {
            here.told.set(Some(route.into()));
        }
    });
}

/// While it lives, an exchange works on this thread. Then what was told goes to `to`, however the
/// service is left.
pub(super) struct Working<'a> {
    outer: (bool, usize, Told),
    to: &'a mut Told,
}

impl<'a> Working<'a> {
    /// Works on the activity with this key, or goes on with that of an exchange further outside.
    pub(super) fn on(key: Option<usize>, to: &'a mut Told) -> Self {
        let outer = HERE.try_with(|here| {
            let outer = (here.works.replace(true), here.serving.get(), here.told.take());
            here.serving.set(key.unwrap_or(outer.1));
            outer
        });
        Self { outer: outer.unwrap_or_default(), to }
    }
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        let (works, serving, told) = std::mem::take(&mut self.outer);
        let _ = HERE.try_with(|here| {
            here.works.set(works);
            here.serving.set(serving);
            if let Some(route) = here.told.replace(told) {
                *self.to = Some(route);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_goes_to_the_innermost_exchange_that_works() {
        tell_route("/nobody");
        let (mut outer, mut inner) = (None, None);
        let working = Working::on(Some(1), &mut outer);
        {
            let _working = Working::on(None, &mut inner);
            assert_eq!(serving(), 1);
            tell_route("/inner");
        }
        tell_route("/outer");
        drop(working);
        assert_eq!((outer.as_deref(), inner.as_deref()), (Some("/outer"), Some("/inner")));
        assert_eq!(serving(), 0);
    }

    #[test]
    fn a_panic_takes_nothing_away() {
        let mut told = None;
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _working = Working::on(Some(7), &mut told);
            tell_route("/panics");
            std::panic::resume_unwind(Box::new(()));
        }));
        assert!(caught.is_err());
        assert_eq!((told.as_deref(), serving()), (Some("/panics"), 0));
    }
}
