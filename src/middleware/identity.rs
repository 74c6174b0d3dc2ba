//! Who makes the request: from the application's own user data.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::task::{Context, Poll};

use http::{Extensions, Request};
use tower_layer::Layer;
use tower_service::Service;

use crate::capture::{CurrentActivity, guarded};

/// The application's user data, as its authentication leaves it in the extensions of a request.
///
/// ```
/// use std::borrow::Cow;
/// use tracing_activity::middleware::{Identity, RequestSpanLayer};
///
/// #[derive(Clone)]
/// struct CurrentUser {
///     id: u64,
///     is_admin: bool,
/// }
///
/// impl Identity for CurrentUser {
///     fn user_id(&self) -> Option<Cow<'_, str>> {
///         Some(self.id.to_string().into())
///     }
///
///     fn has_perm(&self, perm: &str) -> bool {
///         perm == "view_activity" && self.is_admin
///     }
/// }
///
/// let layer = RequestSpanLayer::new().identity::<CurrentUser>();
/// ```
pub trait Identity: Send + Sync + 'static {
    /// Who it is: column `user_id`. `None` for somebody unknown.
    fn user_id(&self) -> Option<Cow<'_, str>>;

    /// The session: column `session_id`. Give an identifier, not the token that opens it.
    fn session_id(&self) -> Option<Cow<'_, str>> {
        None
    }

    /// Whether this user may do what `perm` names. Nobody may, unless the application says so.
    fn has_perm(&self, perm: &str) -> bool {
        let _ = perm;
        false
    }
}

/// What an identity says.
#[derive(Debug, Default)]
pub(super) struct Who<'a> {
    pub(super) user: Option<Cow<'a, str>>,
    pub(super) session: Option<Cow<'a, str>>,
}

impl<'a> Who<'a> {
    /// What this identity says.
    pub(super) fn of(it: &'a impl Identity) -> Self {
        Self { user: it.user_id(), session: it.session_id() }
    }
}

/// What the extension `T` says, where there is one.
pub(super) fn who<T: Identity>(extensions: &Extensions) -> Who<'_> {
    extensions.get::<T>().map_or_else(Who::default, Who::of)
}

/// Fills `user_id` and `session_id` from the extension `T` that a layer around this one put into
/// the request.
///
/// [`RequestSpanLayer`](super::RequestSpanLayer) is outside of everything and sees the request
/// before authentication does. This goes behind the authentication:
///
/// ```
/// # #[cfg(feature = "axum")] {
/// # use std::borrow::Cow;
/// use axum::{Router, routing::get};
/// use tracing_activity::middleware::{Identity, IdentityLayer, RequestSpanLayer};
/// # #[derive(Clone)]
/// # struct CurrentUser;
/// # impl Identity for CurrentUser {
/// #     fn user_id(&self) -> Option<Cow<'_, str>> { None }
/// # }
///
/// let app: Router = Router::new()
///     .route("/", get(|| async { "hello" }))
///     .layer(IdentityLayer::<CurrentUser>::new())
///     // .layer(authentication)
///     .layer(RequestSpanLayer::new());
/// # }
/// ```
#[must_use]
pub struct IdentityLayer<T>(PhantomData<fn() -> T>);

impl<T: Identity> IdentityLayer<T> {
    /// A layer that reads `T`.
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T: Identity> Default for IdentityLayer<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Clone for IdentityLayer<T> {
    fn clone(&self) -> Self {
        Self(PhantomData)
    }
}

impl<T> fmt::Debug for IdentityLayer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdentityLayer")
    }
}

impl<T, S> Layer<S> for IdentityLayer<T> {
    type Service = IdentityService<T, S>;

    fn layer(&self, inner: S) -> Self::Service {
        IdentityService { inner, identity: PhantomData }
    }
}

/// A service that tells who makes its requests; made by [`IdentityLayer`].
pub struct IdentityService<T, S> {
    inner: S,
    identity: PhantomData<fn() -> T>,
}

impl<T, S: Clone> Clone for IdentityService<T, S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), identity: PhantomData }
    }
}

impl<T, S: fmt::Debug> fmt::Debug for IdentityService<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentityService").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<T, S, B> Service<Request<B>> for IdentityService<T, S>
where
    T: Identity,
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let who = guarded(|| who::<T>(request.extensions())).unwrap_or_default();
        if (who.user.is_some() || who.session.is_some())
            && let Some(activity) = CurrentActivity::get()
        {
            activity.patch(|patch| {
                let patch = match who.user {
                    Some(user) => patch.user(user),
                    None => patch,
                };
                match who.session {
                    Some(session) => patch.session(session),
                    None => patch,
                }
            });
        }
        self.inner.call(request)
    }
}
