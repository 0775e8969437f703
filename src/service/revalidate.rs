//! Refreshing a stored response in the background while it answers clients: stale-while-revalidate
//! (RFC 5861 section 3) and refreshes ahead of time.

use std::{future::poll_fn, rc::Rc};

use actix_service::Service;
use actix_web::{
    Error, HttpMessage, HttpRequest,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    rt::spawn,
};

use super::{
    background::{RefreshResult, complete_in_background},
    context::{OriginRequest, RequestContext},
    origin::fetch,
    request::headers_mut,
    stand_in::StandIn,
};
use crate::{semantics::validation::CONDITIONS, shared::Shared};

/// Sends a request to the handler in the background, unless a refresh of the key is running or
/// failed a short while ago. Returns the request for the client's side: a copy if the request
/// itself went to the handler.
///
/// Only anonymous requests refresh. The handler gets the extensions that middlewares further out
/// added to the request (a language, a tenant), for without them it would make another page than
/// the key stands for. Personal data cannot be removed from extensions reliably, so a refresh by a
/// personal request could store a personal page for everyone.
pub(crate) fn refresh<S, B>(
    inner: &Rc<S>,
    context: &RequestContext,
    mut request: ServiceRequest,
    origin: Box<OriginRequest>,
) -> HttpRequest
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    let cache_request = &origin.cache_request;
    // A client that forbids to store the response would make the refresh useless.
    let useful = cache_request.requester.is_anonymous() && !cache_request.directives.no_store;
    let coordinator = context.shared.store.coordinator();
    let permit =
        if useful { coordinator.try_refresh(&cache_request.key, cache_request.now) } else { None };
    let Some(permit) = permit else { return request.into_parts().0 };
    let Some(client_side) = prepare(&context.shared, &mut request) else {
        permit.cancelled();
        return request.into_parts().0;
    };
    let (inner, context) = (Rc::clone(inner), context.clone());
    spawn(async move {
        let reply = async {
            poll_fn(|cx| inner.poll_ready(cx)).await?;
            fetch(Rc::clone(&inner), context.clone(), request, origin).await
        };
        match complete_in_background(&context, reply).await {
            RefreshResult::Refreshed => permit.succeeded(),
            RefreshResult::Failed => permit.failed(context.shared.now()),
        }
    });
    client_side
}

/// Makes a request of a client into a request for the refresh, and returns a copy for the client's
/// side. `None` if actix-web allows no change of the request.
fn prepare(shared: &Shared, request: &mut ServiceRequest) -> Option<HttpRequest> {
    let client_side = StandIn::of(request).into_request()?;
    // The refresh wants the complete response, whichever the client has already.
    if CONDITIONS.iter().any(|name| request.headers().contains_key(name)) {
        let fields = headers_mut(shared, request)?;
        for name in &CONDITIONS {
            fields.remove(name);
        }
    }
    drop(request.take_payload());
    Some(client_side)
}
