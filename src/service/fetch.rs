//! Sends a request to the handler, at once or after a wait for the response to another request.

use std::{future::Future, rc::Rc};

use actix_service::Service;
use actix_web::{
    Error,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    error::ErrorServiceUnavailable,
    http::Method,
};
use futures_util::future::LocalBoxFuture;

use super::{
    after_wait::Next,
    collapse::Role,
    context::{CacheRequest, OriginRequest, Purpose, RequestContext},
    head::fetch_head,
    head_as_get::HeadAsGet,
    origin::OriginCall,
    passed_tags::call_with_tags,
    reply::Reply,
};
use crate::{
    coordination::leader::Leader,
    options::scope::WithOptions,
    outcome::{Forward, NotStored},
};

type ReplyFuture<B> = LocalBoxFuture<'static, Result<Reply<B>, Error>>;

/// A request that the cache has sent to the handler, or that waits.
pub(crate) enum Fetch<S: Service<ServiceRequest>, B> {
    /// The handler is called. This is the way of most requests, so it has no future around that of
    /// the handler.
    Called(Box<OriginCall<S>>, WithOptions<S::Future>),
    /// The request waits for another request, or takes one of the rare ways to the handler.
    Other(ReplyFuture<B>),
}

impl<S, B> Fetch<S, B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    /// Sends a request to the handler, or lets it wait for the response to another request. Stores the
    /// response of the handler, or freshens the stored response if the handler responds with 304. If
    /// the policy says so, the handler gets a GET request in place of a HEAD request.
    pub(crate) fn begin(
        inner: &Rc<S>,
        context: RequestContext,
        mut request: ServiceRequest,
        origin: Box<OriginRequest>,
    ) -> Self {
        if *request.method() == Method::HEAD
            && let Some(head) = HeadAsGet::convert(&context, &mut request, &origin.cache_request)
        {
            let fetch = Self::join_or_call(inner, context, request, origin);
            return Self::other(async move { Ok(head.answer(fetch.reply().await?)) });
        }
        Self::join_or_call(inner, context, request, origin)
    }

    fn join_or_call(
        inner: &Rc<S>,
        context: RequestContext,
        request: ServiceRequest,
        origin: Box<OriginRequest>,
    ) -> Self {
        match context.role(&request, origin, &[]) {
            Role::CallsNow(origin, leader) => Self::call(inner, context, request, origin, leader),
            role @ (Role::LooksAgain(..) | Role::Follows(..)) => {
                Self::other(wait(Rc::clone(inner), context, request, role))
            }
        }
    }

    /// Calls the handler. `leader` is the leader of the flight, if other requests may wait for the
    /// response.
    fn call(
        inner: &Rc<S>,
        context: RequestContext,
        mut request: ServiceRequest,
        origin: Box<OriginRequest>,
        leader: Option<Leader>,
    ) -> Self {
        context.enter(&mut request);
        if *request.method() == Method::HEAD {
            return Self::other(fetch_head(Rc::clone(inner), context, request, *origin));
        }
        if origin.selected.is_none() {
            context.remove_range_by_date(&mut request);
            // A range of a response that is not stored is passed through: fetching the whole response
            // could be very expensive.
            if context.has_range(request.headers()) {
                let inner = Rc::clone(inner);
                return Self::other(fetch_range(inner, context, request, *origin, leader));
            }
        }
        let (call, response) = OriginCall::begin(inner, context, request, *origin, leader);
        Self::Called(call, response)
    }

    fn other(reply: impl Future<Output = Result<Reply<B>, Error>> + 'static) -> Self {
        Self::Other(Box::pin(reply))
    }

    /// Waits for the reply to the request.
    pub(crate) async fn reply(self) -> Result<Reply<B>, Error> {
        match self {
            Self::Called(call, response) => call.reply(response).await,
            Self::Other(reply) => reply.await,
        }
    }
}

/// Waits for the response to another request, and calls the handler if that response does not answer
/// the request.
async fn wait<S, B>(
    inner: Rc<S>,
    context: RequestContext,
    request: ServiceRequest,
    role: Role,
) -> Result<Reply<B>, Error>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    let purpose = role.purpose();
    let (origin, leader) = match context.collapse(&request, role).await {
        Next::Fetch(origin, leader) => (origin, leader),
        Next::Retry(origin) => (origin, None),
        Next::Respond(response, outcome) => {
            return Ok(Reply::cached(request.into_parts().0, response, outcome));
        }
        Next::Bypass(_) if purpose == Purpose::Refresh => {
            return Err(ErrorServiceUnavailable("the refreshed response could not be stored"));
        }
        Next::Bypass(reason) => return fetch_bypassed(inner, context, request, reason).await,
    };
    Fetch::call(&inner, context, request, origin, leader).reply().await
}

/// Calls the handler for a request that bypasses the cache after it has waited.
async fn fetch_bypassed<S, B>(
    inner: Rc<S>,
    context: RequestContext,
    mut request: ServiceRequest,
    reason: Forward,
) -> Result<Reply<B>, Error>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    context.enter(&mut request);
    let response = call_with_tags(&*inner, &context, request).await?;
    Ok(Reply::passed(response, reason, NotStored::NotAttempted))
}

/// Calls the handler for a range of a response that is not stored. `_leader` ends its flight when the
/// handler has responded.
async fn fetch_range<S, B>(
    inner: Rc<S>,
    context: RequestContext,
    request: ServiceRequest,
    origin: OriginRequest,
    _leader: Option<Leader>,
) -> Result<Reply<B>, Error>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    let response = call_with_tags(&*inner, &context, request).await?;
    let own_responses = context.own_responses(&origin.cache_request, &origin.lookup);
    let CacheRequest { key, discriminator, .. } = &origin.cache_request;
    context.note_inner_cache(&response, key, discriminator, own_responses);
    Ok(Reply::passed(response, origin.reason, NotStored::Range))
}
