//! Changes to requests of actix-web, within what actix-web allows.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
};

use actix_web::{
    HttpMessage,
    dev::{Payload, ServiceRequest},
    http::{Version, header::HeaderMap},
};
use futures_util::StreamExt as _;

/// The fields of a request, to be changed. `None` if they cannot be changed, since a middleware
/// further out keeps a clone of the request.
///
/// Actix panics when a request is changed of which clones exist, and offers no way to find out
/// whether they do. While routing is not complete there are none, for routing changes the request,
/// too. After that, around a resource or a route, only trying can tell, and only a build that
/// unwinds may try; in a build that aborts on panics such requests are left as they are.
pub(crate) fn headers_mut(request: &mut ServiceRequest) -> Option<&mut HeaderMap> {
    let routing_is_due = !request.match_info().unprocessed().is_empty();
    if routing_is_due || (cfg!(panic = "unwind") && !has_clones(request)) {
        return Some(request.headers_mut());
    }
    None
}

fn has_clones(request: &mut ServiceRequest) -> bool {
    let change = AssertUnwindSafe(|| {
        request.headers_mut();
    });
    catch_unwind(change).is_err()
}

/// A flag that is set once the handler receives bytes of the request's body. HTTP/2 requests need not
/// announce a body in their head.
pub(crate) fn watch_payload(request: &mut ServiceRequest) -> Rc<Cell<bool>> {
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
