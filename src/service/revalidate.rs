//! Refreshes stored responses in the background while they answer clients: `stale-while-revalidate`
//! (RFC 5861 section 3), and refreshes shortly before a response becomes stale
//! ([`Policy::refresh_ahead`](crate::Policy::refresh_ahead)).

use std::{future::poll_fn, rc::Rc};

use actix_service::Service;
use actix_web::{
    Error, HttpMessage, HttpRequest,
    body::MessageBody,
    dev::{Payload, ServiceRequest, ServiceResponse},
    rt::spawn,
};
use bytes::Bytes;

use super::{
    background::{RefreshResult, complete_in_background},
    context::{OriginRequest, RequestContext},
    fetch::Fetch,
    problems::route,
    request::{client_network, headers_mut},
    request_body::payload_of,
    stand_in::StandIn,
};
use crate::{
    coordination::problems::Problem, outcome::Outcome, semantics::validation::CONDITIONS,
    shared::Shared,
};

/// Calls the handler in the background with the request of a client, if the coordinator of the
/// store permits a refresh of the key (`Coordinator::try_refresh`). Returns the request for the
/// reply to the client: a copy if the refresh takes the request itself. `outcome` is the outcome of
/// the request of the client, which a stored response answers.
///
/// Only a request without credentials starts a refresh. The request of the refresh keeps the
/// extensions that outer middlewares added, such as a language or a tenant. Without them, the
/// handler could make a response that does not belong to the cache key. If the client is logged in,
/// the extensions may also contain personal data, which cannot be removed reliably. The refresh
/// could then store a personal response for all clients.
pub(crate) fn refresh<S, B>(
    inner: &Rc<S>,
    context: &RequestContext,
    mut request: ServiceRequest,
    origin: Box<OriginRequest>,
    outcome: &Outcome,
) -> HttpRequest
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    let cache_request = &origin.cache_request;
    // If the request has `no-store`, its response is not stored, so a refresh would be useless.
    let useful = cache_request.requester.is_anonymous() && !cache_request.directives.no_store;
    if !useful {
        let is_stale = matches!(outcome, Outcome::StaleHit { .. });
        if is_stale && !cache_request.directives.no_store {
            context.note_refused_refresh(&request, cache_request);
        }
        return request.into_parts().0;
    }
    let coordinator = context.shared.store.coordinator();
    let client = client_network(&request);
    let permit = coordinator.try_refresh(&cache_request.key, client, cache_request.now);
    let Some(permit) = permit else { return request.into_parts().0 };
    let (key, route) = (cache_request.key.clone(), route(&request));
    coordinator.end_problem(Problem::RefusedRefresh, &key);
    let body = cache_request.body.as_ref();
    let Some(client_side) = prepare(&context.shared, &mut request, body) else {
        permit.cancelled();
        return request.into_parts().0;
    };
    let (inner, context) = (Rc::clone(inner), context.clone());
    spawn(async move {
        let reply = async {
            poll_fn(|cx| inner.poll_ready(cx)).await?;
            Fetch::begin(&inner, context.clone(), request, origin).reply().await
        };
        match complete_in_background(&context, reply).await {
            RefreshResult::Refreshed => {
                context.shared.store.coordinator().end_problem(Problem::FailedRefresh, &key);
                permit.succeeded();
            }
            RefreshResult::Failed => {
                context.note_failed_refresh(&route, &key);
                permit.failed(context.shared.now());
            }
        }
    });
    client_side
}

/// Changes the request of a client into the request of a refresh, and returns a copy of the
/// original for the reply to the client. Returns `None` if the copy cannot be made, or if the
/// request cannot be changed because a middleware keeps a clone of it.
///
/// `body` is the body of the request, if it is part of the cache key. Other requests have no body.
fn prepare(
    shared: &Shared,
    request: &mut ServiceRequest,
    body: Option<&Bytes>,
) -> Option<HttpRequest> {
    let client_side = StandIn::of(request).into_request()?;
    // The conditions of the client are removed, because the refresh needs the complete response.
    if CONDITIONS.iter().any(|name| request.headers().contains_key(name)) {
        let fields = headers_mut(shared, request)?;
        for name in &CONDITIONS {
            fields.remove(name);
        }
    }
    request.set_payload(body.map_or(Payload::None, payload_of));
    Some(client_side)
}
