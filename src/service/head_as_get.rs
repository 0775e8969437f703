//! Calls the handler with GET for HEAD requests ([`Policy::fetch_on_head`]).
//!
//! [`Policy::fetch_on_head`]: crate::Policy::fetch_on_head

use std::net::IpAddr;

use actix_web::{
    body::MessageBody,
    dev::ServiceRequest,
    http::{
        Method,
        header::{IF_RANGE, RANGE},
    },
    rt::spawn,
};

use super::{
    context::{CacheRequest, RequestContext},
    reply::Reply,
    request::{client_network, head_mut},
};
use crate::entry::key::CacheKey;

/// A HEAD request in place of which the handler gets a GET request.
pub(super) struct HeadAsGet {
    context: RequestContext,
    key: CacheKey,
    client: Option<IpAddr>,
}

impl HeadAsGet {
    /// Turns a HEAD request into a GET request, if the policy says so and the response may be stored.
    /// Returns `None` if the request stays as it is.
    pub(super) fn convert(
        context: &RequestContext,
        request: &mut ServiceRequest,
        cache_request: &CacheRequest,
    ) -> Option<Self> {
        let is_wanted = *request.method() == Method::HEAD
            && context.policy().fetches_on_head()
            && !cache_request.directives.no_store;
        if !is_wanted {
            return None;
        }
        let head = head_mut(&context.shared, request)?;
        head.method = Method::GET;
        // RFC 9110 section 14.2: `Range` has no meaning in a HEAD request.
        head.headers.remove(RANGE);
        head.headers.remove(IF_RANGE);
        let (context, key) = (context.clone(), cache_request.key.clone());
        Some(Self { context, key, client: client_network(request) })
    }

    /// Makes the reply to the HEAD request. If the body is still arriving, a task reads it to its end,
    /// so that the response is stored although no client reads it. One such task for a key is enough.
    pub(super) fn answer<B: MessageBody + 'static>(self, reply: Reply<B>) -> Reply<B> {
        let (reply, body) = reply.without_body();
        let Some(body) = body else { return reply };
        let Self { context, key, client } = self;
        let permit = context.shared.store.coordinator().try_continue_fill(&key, client);
        let limit = context.policy().drain_limit();
        if let Some(permit) = permit {
            spawn(async move {
                let _permit = permit;
                if body.drain(limit).await.is_err() {
                    log::debug!("not stored: the response body did not reach its end");
                }
            });
        }
        reply
    }
}
