//! Calls the handler. If a stored response can be validated, the request to the handler is
//! conditional.

use std::{
    future::Future,
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use actix_service::Service;
use actix_web::{
    Error, HttpRequest, HttpResponse,
    body::MessageBody,
    dev::{Payload, ServiceRequest, ServiceResponse},
    error::ErrorInternalServerError,
    http::{
        StatusCode, Uri,
        header::{CONTENT_ENCODING, HeaderMap, RANGE},
    },
    rt::spawn,
};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;

use super::{
    background::complete_in_background,
    context::{CacheRequest, OriginRequest, OwnResponses, RequestContext},
    not_modified::freshen_by_not_modified,
    reply::Reply,
    request::headers_mut,
    request_body::payload_of,
    stand_in::{Routing, StandIn},
};
use crate::{
    coordination::{flights::FlightEnd, leader::Leader},
    entry::response::StoredResponse,
    fill::{
        begin::fill,
        candidate::{Candidate, ClientConditions},
        write::Write,
    },
    options::scope::{self, WithOptions},
    outcome::{Forward, Outcome},
    poll_once::within,
    response::{body::CacheBody, cached::SelectedResponse},
    semantics::{
        request::{has_not_modified, is_conditional},
        reuse::is_allowed_for,
        staleness::withdraws_stale_responses,
        validation::{ValidationConditions, find_validated, remove_conditions},
    },
    shared::Shared,
    store::interface::Lookup,
};

/// A call of the handler, and the data that the cache needs when the handler responds.
pub(crate) struct OriginCall<S> {
    inner: Rc<S>,
    context: RequestContext,
    candidate: Box<Candidate>,
    reason: Forward,
    own_responses: OwnResponses,
    /// The stored response that the cache tries to validate, if there is one.
    selected: Option<SelectedResponse>,
    /// Other stored variants of the cache key. The cache lists their entity tags in `If-None-Match`
    /// too.
    others: Vec<Arc<StoredResponse>>,
    /// Whether the stored response may answer if the handler fails or takes too long.
    fallback: bool,
    stand_in: Option<Box<StandIn>>,
    routing: Routing,
    /// Whether the cache added conditions of its own to the request, to validate a stored response.
    validates: bool,
}

impl<S, B> OriginCall<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    /// Calls the handler, and returns the call and the future of the response. Writes the conditions by
    /// which the cache validates stored responses into the request, in place of the client's conditions.
    /// `leader` is the leader of the flight, if other requests may wait for the response.
    pub(crate) fn begin(
        inner: &Rc<S>,
        context: RequestContext,
        mut request: ServiceRequest,
        origin: OriginRequest,
        leader: Option<Leader>,
    ) -> (Box<Self>, WithOptions<S::Future>) {
        let OriginRequest { cache_request, lookup, reason, selected, .. } = origin;
        let stored = selected.as_ref().map(|selected| &selected.stored);
        let may_validate = has_not_modified(request.method());
        // If responses hold too many bodies, none of the stored bodies can answer the request.
        let others = match reason {
            Forward::Bypass(_) => Vec::new(),
            _ if !may_validate => Vec::new(),
            _ => context.other_validators(&cache_request, &lookup, stored),
        };
        // A handler may give a personal page the entity tag of the public one, so it evaluates the
        // conditions of personal requests itself.
        let forwards =
            context.policy().forwards_conditions() || !cache_request.requester.is_anonymous();
        if reason == Forward::VaryMiss {
            context.note_other_variant(&request, &cache_request, &lookup);
        }
        let own_responses = context.own_responses(&cache_request, &lookup);
        let mut candidate = context.candidate(&request, cache_request, lookup, leader);
        let validated = stored.filter(|_| may_validate).map(Arc::as_ref);
        let conditions = ValidationConditions::of(validated, &others);
        let mut validates = !conditions.is_empty();
        // Checked before the call: a response that is too stale to answer now is so later, too.
        let fallback = stored.is_some_and(|stored| context.may_serve_stale(&candidate.key, stored));
        let stand_in = fallback.then(|| Box::new(StandIn::of(&request)));
        let routing = Routing::of(&request);
        if validates || selected.is_some() || !forwards {
            candidate.conditions = ClientConditions::ByCache;
            let may_be_conditional = context.special.may_change_reply();
            if validates || (may_be_conditional && is_conditional_or_range(request.headers())) {
                match headers_mut(&context.shared, &mut request) {
                    Some(fields) => conditions.write(fields),
                    None => {
                        (validates, candidate.conditions) = (false, ClientConditions::ByHandler);
                    }
                }
            }
        }
        // In a box, for it is moved while the request waits for the handler.
        let call = Box::new(Self {
            inner: Rc::clone(inner),
            context,
            candidate,
            reason,
            own_responses,
            selected,
            others,
            fallback,
            stand_in,
            routing,
            validates,
        });
        let response = scope::call(&**inner, request);
        (call, response)
    }

    /// Waits for the response of the handler, and makes the reply from it.
    ///
    /// This function is not an `async fn`, whose future would have space for its arguments twice. The
    /// future of a miss is so small that the allocator has its size at hand.
    pub(crate) fn reply(
        self: Box<Self>,
        response: WithOptions<S::Future>,
    ) -> impl Future<Output = Result<Reply<B>, Error>> {
        let limit = self.context.policy().wait_limit();
        async move {
            if self.fallback {
                return Box::pin(self.finish_or_serve_stale(limit, Box::pin(response))).await;
            }
            let mut response = pin!(response);
            let result = match self.within_limit(limit, response.as_mut()).await {
                Some(result) => result,
                None => response.await,
            };
            // The future needs no space for a reply that is ready.
            let reply = match self.finish(result) {
                Finish::Replied(reply) => return reply,
                Finish::AsksAgain(reply) => reply,
            };
            reply.await
        }
    }

    /// Waits for the result of the handler, for at most `limit`, the
    /// [`Policy::wait_limit`](crate::Policy::wait_limit). After this time, ends the wait of the
    /// followers (the requests that wait for the response), and returns `None`.
    async fn within_limit<T>(
        &self,
        limit: Duration,
        result: Pin<&mut impl Future<Output = T>>,
    ) -> Option<T> {
        let result = within(limit, result).await;
        if result.is_none()
            && let Some(leader) = &self.candidate.leader
        {
            leader.release_followers();
        }
        result
    }

    /// Replies with the response of the handler, or with a stale response if the handler takes too
    /// long. In the second case, the call of the handler continues in the background if the
    /// coordinator of the store permits it.
    async fn finish_or_serve_stale(
        self: Box<Self>,
        limit: Duration,
        mut response: Pin<Box<impl Future<Output = Result<ServiceResponse<B>, Error>> + 'static>>,
    ) -> Result<Reply<B>, Error> {
        if let Some(result) = self.within_limit(limit, response.as_mut()).await {
            return self.finish(result).reply().await;
        }
        let Some((stale, client_side)) = self.stale_response() else {
            let result = response.await;
            return self.finish(result).reply().await;
        };
        let (context, reason) = (self.context.clone(), self.reason);
        let coordinator = context.shared.store.coordinator();
        if let Some(permit) =
            coordinator.try_continue_fill(&self.candidate.key, self.candidate.client)
        {
            let context = context.clone();
            spawn(async move {
                let _permit = permit;
                let reply = async { self.finish(response.await).reply().await };
                complete_in_background(&context, reply).await;
            });
        }
        let outcome = Outcome::StaleIfError { reason, status: None };
        Ok(Reply::cached(client_side, stale, outcome))
    }

    /// Returns a stale response in place of a response that takes too long, and a copy of the
    /// request for the reply to the client. Returns `None` if no stale response may answer, or if
    /// the copy cannot be made.
    fn stale_response(&self) -> Option<(HttpResponse<CacheBody<B>>, HttpRequest)> {
        let selected = self.selected.as_ref()?;
        let stale = self.context.stale_for_timeout(selected, &self.candidate)?;
        let client_side = self.stand_in.clone()?.into_request()?;
        Some((stale, client_side))
    }

    /// Replies to the request with the result of the handler, or calls the handler again.
    fn finish(mut self: Box<Self>, result: Result<ServiceResponse<B>, Error>) -> Finish<B> {
        if let Some(leader) = &mut self.candidate.leader {
            let end = if result.is_ok() { FlightEnd::NotStored } else { FlightEnd::Failed };
            leader.set_end_on_drop(end);
        }
        let response = match result {
            Ok(response) => response,
            Err(error) => {
                let (reply, write) = self.finish_error(error);
                if let Some(write) = write {
                    write.start();
                }
                return Finish::Replied(reply);
            }
        };
        let asks_again = self.has_unusable_status(&response);
        let owned = self.context.note_inner_cache(
            &response,
            &self.candidate.key,
            &self.candidate.discriminator,
            self.own_responses,
        );
        if self.validates && response.status() == StatusCode::NOT_MODIFIED {
            let stored = self.selected.as_ref().map(|selected| &selected.stored);
            let validated = || find_validated(response.headers(), stored, &self.others);
            if let Some(validated) = (!owned).then(validated).flatten() {
                // The reply holds the body of the selected response again, before `self` is dropped.
                let reply = freshen_by_not_modified(self.candidate, &validated, response);
                let outcome = Outcome::Revalidated { reason: self.reason, stored: reply.stored };
                return Finish::Replied(Ok(Reply::filled(reply, outcome)));
            }
        }
        if asks_again {
            return Finish::AsksAgain(Box::pin(async move {
                let response = self.ask_again(response).await?;
                Ok(self.finish_response(response, owned))
            }));
        }
        Finish::Replied(Ok(self.finish_response(response, owned)))
    }

    /// Replies with a response of the handler. `owned` says whether an inner cache has handled the
    /// request.
    fn finish_response(self: Box<Self>, response: ServiceResponse<B>, owned: bool) -> Reply<B> {
        if owned { Reply::owned_by_inner_cache(response) } else { self.finish_complete(response) }
    }

    /// Calls the handler again after a response that is of no use.
    async fn ask_again(&self, unusable: ServiceResponse<B>) -> Result<ServiceResponse<B>, Error> {
        // A 304 to conditions of the cache must not reach the client. Any other 304 would reach it
        // without a cache, too.
        let fallback = if self.validates { Fallback::Error } else { Fallback::PassOn };
        let Self { inner, context, candidate, routing, .. } = self;
        let (uri, body) = (candidate.uri.clone(), candidate.body.clone());
        let original = Original { routing: routing.clone(), uri, body };
        call_without_conditions(&context.shared, &**inner, original, unusable, fallback).await
    }

    /// Replies with a response of the handler that answers the request, and begins to store it, or
    /// replies with a stale response in place of a failure.
    fn finish_complete(self: Box<Self>, response: ServiceResponse<B>) -> Reply<B> {
        let Self { context, candidate, reason, selected, .. } = *self;
        let judged = candidate.judge(response);
        let status = judged.response.status();
        if let Some(selected) = selected.as_ref().filter(|_| judged.is_failure())
            && let Some(stale) = context.stale_for_failure(selected, &candidate, status)
        {
            let outcome = Outcome::StaleIfError { reason, status: Some(status) };
            return Reply::cached(judged.response.into_parts().0, stale, outcome);
        }
        let reply = fill(candidate, judged, selected.as_ref().map(|selected| &selected.stored));
        let outcome = Outcome::Forward { reason, stored: reply.stored };
        Reply::filled(reply, outcome)
    }

    /// Returns whether the response is a 304 that does not answer conditions of the client. Such a
    /// 304 is of no use unless it validates a stored response (RFC 9110 section 15.4.5, RFC 9111
    /// section 4.3.3). A handler that does not know that `QUERY` is as conditional as `GET` answers
    /// the conditions of the cache with 412 (RFC 9110 section 13.1.2), which is of no use either.
    fn has_unusable_status(&self, response: &ServiceResponse<B>) -> bool {
        let by_client = || {
            self.candidate.conditions == ClientConditions::ByHandler
                && is_conditional(&self.candidate.request.to_map())
        };
        match response.status() {
            StatusCode::NOT_MODIFIED => !by_client(),
            StatusCode::PRECONDITION_FAILED => self.validates && self.candidate.body.is_some(),
            _ => false,
        }
    }

    /// Returns the reply to an error of the handler: a stale response, or the error itself. If the
    /// status code of the error shows that the origin withdrew the stored response (such as 404),
    /// also returns a write. The write, which the caller must start, forbids to serve the stored
    /// response stale.
    fn finish_error(self: Box<Self>, error: Error) -> (Result<Reply<B>, Error>, Option<Write>) {
        let Self { context, candidate, reason, selected, stand_in, .. } = *self;
        let status = error.as_response_error().status_code();
        if withdraws_stale_responses(status) {
            let write = selected.and_then(|selected| candidate.withdraw(&selected.stored, status));
            return (Err(error), write);
        }
        let fallback = selected.zip(stand_in);
        (context.stale_for_error(fallback, &candidate, reason, error), None)
    }
}

fn is_conditional_or_range(request: &HeaderMap) -> bool {
    is_conditional(request) || request.contains_key(RANGE)
}

/// The end of a call of the handler.
#[expect(clippy::large_enum_variant, reason = "a value exists only for a moment")]
enum Finish<B> {
    Replied(Result<Reply<B>, Error>),
    /// The handler is called again.
    AsksAgain(LocalBoxFuture<'static, Result<Reply<B>, Error>>),
}

impl<B> Finish<B> {
    async fn reply(self) -> Result<Reply<B>, Error> {
        match self {
            Self::Replied(reply) => reply,
            Self::AsksAgain(reply) => reply.await,
        }
    }
}

/// The result if a request cannot be sent to the handler again.
enum Fallback {
    /// The client gets an error.
    Error,
    /// The client gets the response that the handler sent.
    PassOn,
}

/// The parts of a request that inner services may have changed or taken.
struct Original {
    routing: Routing,
    uri: Uri,
    /// The body of the request, if it is part of the cache key. Other requests have no body.
    body: Option<Bytes>,
}

/// Calls the handler again without conditions, because its 304 validates no stored response. The
/// parameter `fallback` is the result if the conditions cannot be removed from the request.
async fn call_without_conditions<S, B>(
    shared: &Shared,
    inner: &S,
    original: Original,
    unusable: ServiceResponse<B>,
    fallback: Fallback,
) -> Result<ServiceResponse<B>, Error>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
{
    let (request, unusable) = unusable.into_parts();
    // Otherwise dropped now: the response may keep a clone of the request.
    let passed_on = matches!(fallback, Fallback::PassOn).then_some(unusable);
    let payload = original.body.as_ref().map_or(Payload::None, payload_of);
    let mut request = ServiceRequest::from_parts(request, payload);
    let Some(fields) = headers_mut(shared, &mut request) else {
        if let Some(response) = passed_on {
            return Ok(ServiceResponse::new(request.into_parts().0, response));
        }
        return Err(ErrorInternalServerError(
            "the handler answered 304 although it was not asked about that response, and keeps a \
             clone of the request, which therefore cannot be sent to it again",
        ));
    };
    drop(passed_on);
    remove_conditions(fields);
    original.routing.reset(&mut request, original.uri);
    scope::call(inner, request).await
}

impl RequestContext {
    /// Returns the stored variants, besides the selected response, whose entity tags the cache
    /// lists in `If-None-Match`.
    ///
    /// Some handlers give different pages equal entity tags. Clients do not notice, because each
    /// client sends the tag of its own page. But a 304 with this tag could make the cache serve the
    /// wrong page. So the cache lists other variants only if the policy trusts the validators of
    /// the origin. The cache never lists variants for other users. It never lists variants with a
    /// content coding either, because actix's `Compress` does not change the entity tag of a
    /// response that it encodes.
    fn other_validators(
        &self,
        request: &CacheRequest,
        lookup: &Lookup,
        selected: Option<&Arc<StoredResponse>>,
    ) -> Vec<Arc<StoredResponse>> {
        let policy = self.policy();
        if !policy.trusts_origin_validators() {
            return Vec::new();
        }
        let coordinator = self.shared.store.coordinator();
        let all = lookup.variants.iter().flat_map(|variants| variants.responses());
        all.filter(|stored| {
            let mut selecting = stored.selecting.iter();
            selected.is_none_or(|selected| !Arc::ptr_eq(selected, stored))
                && *stored.discriminator == *request.discriminator
                && is_allowed_for(stored, request.requester)
                && !selecting.any(|(name, _)| policy.identity.may_identify_client(name))
                && stored.lines(&CONTENT_ENCODING).next().is_none()
                && coordinator.is_valid(&request.key, stored)
        })
        .cloned()
        .collect()
    }
}
