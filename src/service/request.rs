//! Reads requests, and changes them before the handler is called, as far as actix-web allows it.

use std::{
    net::{IpAddr, Ipv6Addr},
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::atomic::Ordering,
};

use actix_web::{
    HttpMessage,
    dev::{Extensions, Payload, RequestHead, ServiceRequest},
    http::{Version, header::HeaderMap},
};
use futures_util::{FutureExt as _, StreamExt as _, stream};

use crate::shared::Shared;

/// Returns the address of the client of a request, or of the proxy that forwarded the request. Of an
/// IPv6 address, only the first 64 bits remain, because one client has all addresses that begin with
/// them.
pub(super) fn client_network(request: &ServiceRequest) -> Option<IpAddr> {
    let address = request.peer_addr()?.ip().to_canonical();
    Some(match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => {
            let network = v6.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
    })
}

/// Returns the header fields of a request, so that the cache can change them. Returns `None` in the
/// same cases as [`head_mut`].
pub(super) fn headers_mut<'a>(
    shared: &Shared,
    request: &'a mut ServiceRequest,
) -> Option<&'a mut HeaderMap> {
    head_mut(shared, request).map(|head| &mut head.headers)
}

/// Returns the head of a request, so that the cache can change it. Returns `None` if it cannot be
/// changed, because an outer middleware keeps (or may keep) a clone of the request.
pub(super) fn head_mut<'a>(
    shared: &Shared,
    request: &'a mut ServiceRequest,
) -> Option<&'a mut RequestHead> {
    let has_no_clone =
        if CATCHES_PANICS { has_no_clone(shared, request) } else { routing_is_due(request) };
    has_no_clone.then(|| request.head_mut())
}

/// Whether a panic unwinds, so that it can be caught.
const CATCHES_PANICS: bool = cfg!(panic = "unwind");

/// Adds application data to a request that an inner service still has to route. Returns whether that
/// was possible.
pub(super) fn add_data(
    shared: &Shared,
    request: &mut ServiceRequest,
    data: &Rc<Extensions>,
) -> bool {
    let is_added = CATCHES_PANICS && routing_is_due(request) && has_no_clone(shared, request);
    if is_added {
        request.add_data_container(Rc::clone(data));
    }
    is_added
}

/// Returns whether an inner service may still have to route the request. Routing changes the request,
/// so no outer middleware keeps a clone of it, except around a service without routes.
fn routing_is_due(request: &ServiceRequest) -> bool {
    !request.match_info().unprocessed().is_empty()
}

/// Returns whether no clone of the request exists.
///
/// Actix-web panics if a request is changed while a clone of the request exists, and has no
/// function that returns whether a clone exists. So the cache tries a change, and catches the panic.
/// After the first panic, it never tries again.
fn has_no_clone(shared: &Shared, request: &mut ServiceRequest) -> bool {
    if shared.met_cloned_request.load(Ordering::Relaxed) {
        return false;
    }
    let change = AssertUnwindSafe(|| {
        request.headers_mut();
    });
    let has_clones = catch_unwind(change).is_err();
    if has_clones && !shared.met_cloned_request.swap(true, Ordering::Relaxed) {
        log::warn!(
            "a middleware outside of the cache keeps a clone of HttpRequest while it calls the inner \
             service, so the cache does not change requests from now on, and handlers are called \
             without its conditions: drop the clone before the call, or wrap the cache around the \
             scope or the application if it is wrapped around a route"
        );
    }
    !has_clones
}

/// Returns whether the request may have a body that its header fields do not announce. Only an
/// HTTP/2 request can: it has no body if its head also ends the request.
///
/// A request whose client keeps it open must not lead others, because a handler that reads the body
/// would wait for that client.
pub(super) fn may_have_body(request: &mut ServiceRequest) -> bool {
    if request.version() != Version::HTTP_2 {
        return false;
    }
    let mut payload = request.take_payload();
    let first = payload.next().now_or_never();
    let is_empty = matches!(first, Some(None));
    request.set_payload(match first {
        Some(None) => Payload::None,
        Some(Some(first)) => {
            let first = stream::iter([first]);
            Payload::Stream { payload: Box::pin(first.chain(payload)) }
        }
        None => payload,
    });
    !is_empty
}
