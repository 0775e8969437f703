//! Changes to requests of actix-web, within what actix-web allows.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::atomic::Ordering,
};

use actix_web::{
    HttpMessage,
    dev::{Payload, ServiceRequest},
    http::{Version, header::HeaderMap},
};
use futures_util::StreamExt as _;

use crate::shared::Shared;

/// The fields of a request, to be changed. `None` if they cannot be changed, since a middleware
/// further out keeps a clone of the request.
///
/// Actix panics if a request is changed while clones of the request exist, and offers no way to
/// find out whether they do. While routing is due there are none, for routing changes the request
/// as well. Around a resource or a route, where routing is complete, only trying can tell. A cache
/// tries until it has met one such middleware, and never in a build that aborts on panics.
pub(super) fn headers_mut<'a>(
    shared: &Shared,
    request: &'a mut ServiceRequest,
) -> Option<&'a mut HeaderMap> {
    let routing_is_due = !request.match_info().unprocessed().is_empty();
    let may_try = || cfg!(panic = "unwind") && !shared.met_cloned_request.load(Ordering::Relaxed);
    if routing_is_due || (may_try() && !has_clones(shared, request)) {
        return Some(request.headers_mut());
    }
    None
}

fn has_clones(shared: &Shared, request: &mut ServiceRequest) -> bool {
    let change = AssertUnwindSafe(|| {
        request.headers_mut();
    });
    let has_clones = catch_unwind(change).is_err();
    if has_clones && !shared.met_cloned_request.swap(true, Ordering::Relaxed) {
        log::warn!(
            "a middleware outside of the cache keeps a clone of HttpRequest while it calls the inner \
             service, so handlers around which the cache is wrapped directly are called without \
             conditions from now on: drop the clone before the call, or wrap the cache around the \
             scope or the application"
        );
    }
    has_clones
}

/// A flag that is set once the handler receives bytes of the request's body. HTTP/2 requests need
/// not announce a body in their head.
pub(super) fn watch_payload(request: &mut ServiceRequest) -> Rc<Cell<bool>> {
    let seen = Rc::new(Cell::new(false));
    if request.version() != Version::HTTP_2 {
        return seen;
    }
    let payload = request.take_payload();
    if !matches!(payload, Payload::None) {
        let flag = Rc::clone(&seen);
        let watched = payload.inspect(move |chunk| {
            if chunk.as_ref().is_ok_and(|chunk| !chunk.is_empty()) {
                flag.set(true);
            }
        });
        request.set_payload(Payload::Stream { payload: Box::pin(watched) });
    }
    seen
}
