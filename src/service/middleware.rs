//! The actix-web service of a cache. The service decides for which requests it looks up the store,
//! and carries out the decision that follows from the lookup.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use actix_service::{Service, forward_ready};
use actix_web::{
    Error, HttpResponse,
    body::MessageBody,
    dev::{Extensions, ServiceRequest, ServiceResponse},
    http::Method,
};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use pin_project_lite::pin_project;

use super::{
    context::{CacheRequest, RequestContext},
    fetch::Fetch,
    first_part::WaitingResponse,
    lookup::Decision,
    passed_tags::call_with_tags,
    reply::{PassReport, gateway_timeout},
    request::may_have_body,
    revalidate::refresh,
    unsafe_method::call_unsafe,
};
use crate::{
    entry::url_keys::AppliedRule,
    outcome::{Bypass, Forward, Outcome},
    response::{body::CacheBody, cached::CachedResponse},
    semantics::{
        invalidation::is_safe,
        request::{bypass_reason, bypass_reason_with_body},
        special_fields::SpecialFields,
    },
    shared::{EnclosingCache, Mode, SharedRef},
};

type ServiceResult<B> = Result<ServiceResponse<CacheBody<B>>, Error>;

/// The service that [`Cache`](crate::Cache) wraps around an inner service, such as a route or a
/// scope.
pub struct CacheMiddleware<S> {
    inner: Rc<S>,
    shared: SharedRef,
    /// The mark of its requests, if no other cache is around it.
    marker: Rc<Extensions>,
}

impl<S> CacheMiddleware<S> {
    pub(crate) fn new(inner: Rc<S>, shared: SharedRef) -> Self {
        let marker = EnclosingCache::outermost(&shared);
        Self { inner, shared, marker }
    }
}

impl<S> fmt::Debug for CacheMiddleware<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheMiddleware").finish_non_exhaustive()
    }
}

impl<S, B> Service<ServiceRequest> for CacheMiddleware<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<CacheBody<B>>;
    type Error = Error;
    type Future = CacheFuture<S::Future, B>;

    forward_ready!(inner);

    fn call(&self, mut request: ServiceRequest) -> Self::Future {
        let mut context = RequestContext {
            shared: self.shared.clone(),
            marker: Rc::clone(&self.marker),
            layer: EnclosingCache::find(request.request(), |outer| outer.layers).unwrap_or(0),
            rule: AppliedRule::default(),
            special: SpecialFields::ALL,
        };
        let inner = &self.inner;
        match context.admit(&mut request) {
            Admission::Pass(report) => pass(inner, context, request, report),
            Admission::Unsafe => {
                CacheFuture::boxed(call_unsafe(Rc::clone(inner), context, request))
            }
            Admission::ReadBody { max } => {
                CacheFuture::boxed(look_up_by_body(Rc::clone(inner), context, request, max))
            }
            Admission::LookUp => {
                let cache_request = match context.keyed_request(&request, None) {
                    Ok(cache_request) => cache_request,
                    Err(report) => return pass(inner, context, request, report),
                };
                match context.lookup_now(request.headers(), &cache_request) {
                    Some(found) => {
                        let decision = context.decide(&request, cache_request, found);
                        dispatch(inner, context, request, decision)
                    }
                    None => {
                        let inner = Rc::clone(inner);
                        CacheFuture::boxed(look_up(inner, context, request, cache_request))
                    }
                }
            }
        }
    }
}

/// The way in which the cache handles a request, decided before any lookup.
enum Admission {
    /// The cache passes the request on without a lookup.
    Pass(PassReport),
    /// The method of the request is unsafe (RFC 9110 section 9.2.1): the request may change its
    /// resource.
    Unsafe,
    /// The body of the request is part of its cache key, if the body has at most `max` bytes.
    ReadBody {
        max: usize,
    },
    LookUp,
}

impl Admission {
    const fn bypass(reason: Forward) -> Self {
        Self::Pass(PassReport::Reason(reason))
    }
}

impl RequestContext {
    /// Decides how the cache handles a request. Sets the rule that applies to the request.
    fn admit(&mut self, request: &mut ServiceRequest) -> Admission {
        let shared = &self.shared;
        let mode = shared.settings.mode.get();
        if mode == Mode::Off {
            return Admission::Pass(PassReport::Nothing);
        }
        let rule = shared.policies.applied_rule(request);
        // Under a rule that lets requests bypass the cache, the policy of the cache decides what
        // unsafe requests purge, and which fields clients receive.
        self.rule = rule.unwrap_or_default();
        let head = request.head();
        let keyed_body = if head.method == Method::GET || head.method == Method::HEAD {
            None
        } else {
            match self.policy().keyed_body(&head.method) {
                Some(max) => Some(max),
                None if is_safe(&head.method) => return Admission::bypass(Forward::Method),
                None => return Admission::Unsafe,
            }
        };
        if mode == Mode::Bypass {
            return Admission::bypass(Forward::Bypass(Bypass::Mode));
        }
        if rule.is_none() {
            self.warn_about_misplaced_rule(request);
            return Admission::bypass(Forward::Bypass(Bypass::Rule));
        }
        let policy = shared.policies.policy(self.rule);
        self.special = SpecialFields::of(&head.headers, &policy.identity.credentials);
        let reason = match keyed_body {
            None if !self.special.has(SpecialFields::BYPASSING) => None,
            None => bypass_reason(&head.headers),
            Some(_) => bypass_reason_with_body(&head.method, &head.headers),
        };
        if let Some(reason) = reason {
            return Admission::bypass(Forward::Bypass(reason));
        }
        if keyed_body.is_none() && may_have_body(request) {
            return Admission::bypass(Forward::Bypass(Bypass::RequestBody));
        }
        if let Some(max) = keyed_body {
            return Admission::ReadBody { max };
        }
        Admission::LookUp
    }

    /// Makes the cache key of a request, and the other data for its lookup. `body` is the body of the
    /// request, if it is part of the key.
    #[inline]
    fn keyed_request(
        &self,
        request: &ServiceRequest,
        body: Option<Bytes>,
    ) -> Result<CacheRequest, PassReport> {
        let policy = self.policy();
        let bypass = |reason| PassReport::Reason(Forward::Bypass(reason));
        if policy.excludes(request, self.special) {
            return Err(bypass(Bypass::Credentials));
        }
        let variance = self.search_variance(request);
        let key = match &body {
            None => policy.key(request, variance.as_deref()),
            Some(body) => policy.key_with_body(request, variance.as_deref(), body),
        };
        let key = key.map_err(|_| bypass(Bypass::Host))?;
        let discriminator = policy.discriminator(self.layer, request, self.special);
        let discriminator = discriminator.map_err(|_| bypass(Bypass::UntrustedProxy))?;
        let now = self.shared.now();
        let coordinator = self.shared.store.coordinator();
        if let Some(mark) = coordinator.inner_cache(&key.key, &discriminator, now) {
            return Err(PassReport::ExpectsInnerCache(mark));
        }
        Ok(self.cache_request(request, key, discriminator, variance, body, now))
    }
}

impl RequestContext {
    /// Makes the response to a request from a stored response.
    fn reply<B: MessageBody>(
        &self,
        request: &ServiceRequest,
        response: &CachedResponse,
    ) -> HttpResponse<CacheBody<B>> {
        if self.special.may_change_reply() {
            response.respond(request.method(), request.headers())
        } else {
            response.complete(request.method(), request.headers())
        }
    }
}

/// Carries out the decision that followed from the lookup for a request.
fn dispatch<S, B>(
    inner: &Rc<S>,
    context: RequestContext,
    request: ServiceRequest,
    decision: Decision,
) -> CacheFuture<S::Future, B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    let (request, response, outcome) = match decision {
        Decision::Respond(response, outcome) => {
            let response = context.reply(&request, &response);
            (request.into_parts().0, response, outcome)
        }
        Decision::RespondAndRefresh(response, outcome, origin) => {
            let response = context.reply(&request, &response);
            let request = refresh(inner, &context, request, origin, &outcome);
            (request, response, outcome)
        }
        Decision::OnlyIfCached => {
            (request.into_parts().0, gateway_timeout(), Outcome::OnlyIfCached)
        }
        Decision::Fetch(origin) => {
            return match Fetch::begin(inner, context.clone(), request, origin) {
                Fetch::Called(call, response) => CacheFuture::boxed(async move {
                    let reply = call.reply(response).await?;
                    Ok(context.complete_fetched(reply))
                }),
                Fetch::Other(reply) => {
                    CacheFuture::boxed(async move { Ok(context.complete_fetched(reply.await?)) })
                }
            };
        }
        Decision::Bypass(reason) => {
            return pass(inner, context, request, PassReport::Reason(reason));
        }
    };
    CacheFuture::ready(context.complete_cached(request, response, outcome))
}

/// Passes the request to the handler, without an allocation unless the response lists its tags.
fn pass<S, B>(
    inner: &Rc<S>,
    context: RequestContext,
    mut request: ServiceRequest,
    report: PassReport,
) -> CacheFuture<S::Future, B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    context.enter(&mut request);
    context.adapt_to_codings(&mut request);
    let is_safe = matches!(*request.method(), Method::GET | Method::HEAD);
    let is_off = matches!(report, PassReport::Nothing);
    if is_safe && !is_off && context.policy().emits_tags() {
        let inner = Rc::clone(inner);
        return CacheFuture::boxed(async move {
            let response = call_with_tags(&*inner, &context, request).await?;
            Ok(context.complete_passed(response, report))
        });
    }
    let response = inner.call(request);
    CacheFuture { state: State::Passing { response, context, report } }
}

/// Waits for a lookup in a store that cannot answer at once, and carries out the decision that
/// follows from the lookup.
async fn look_up<S, B>(
    inner: Rc<S>,
    context: RequestContext,
    request: ServiceRequest,
    cache_request: CacheRequest,
) -> ServiceResult<B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    let found = context.lookup(request.headers(), &cache_request).await;
    let decision = context.decide(&request, cache_request, found);
    match dispatch(&inner, context, request, decision).split() {
        Split::Ready(response) => Ok(response),
        Split::Pending(future) => future.await,
    }
}

/// Reads the body of a request, and looks up the store by a cache key with this body.
async fn look_up_by_body<S, B>(
    inner: Rc<S>,
    context: RequestContext,
    mut request: ServiceRequest,
    max: usize,
) -> ServiceResult<B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    let bypass = |reason| PassReport::Reason(Forward::Bypass(reason));
    let body = context.read_body(&mut request, max).await.map_err(bypass);
    let report = match body.and_then(|body| context.keyed_request(&request, Some(body))) {
        Ok(cache_request) => return look_up(inner, context, request, cache_request).await,
        Err(report) => report,
    };
    pass(&inner, context, request, report).await
}

pin_project! {
    /// The future that a [`CacheMiddleware`] returns.
    pub struct CacheFuture<F, B> {
        #[pin]
        state: State<F, B>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F, B> {
        /// The cache answers the request without a call of the handler, and the response is ready.
        Ready { response: Option<ServiceResponse<CacheBody<B>>> },
        /// The handler makes the response, and the cache at most reports the outcome.
        Passing { #[pin] response: F, context: RequestContext, report: PassReport },
        /// The request waits for the store, for other requests or for the handler.
        Boxed { future: LocalBoxFuture<'static, ServiceResult<B>> },
        /// The head of the response waits for the first part of the body.
        Waiting { response: Option<Box<WaitingResponse<B>>> },
    }
}

/// A [`CacheFuture`] that is either ready or boxed. This type is small, so that the future of
/// [`look_up`] stays small.
enum Split<B> {
    Ready(ServiceResponse<CacheBody<B>>),
    Pending(LocalBoxFuture<'static, ServiceResult<B>>),
}

impl<F, B> CacheFuture<F, B> {
    const fn ready(response: ServiceResponse<CacheBody<B>>) -> Self {
        Self { state: State::Ready { response: Some(response) } }
    }

    fn boxed(future: impl Future<Output = ServiceResult<B>> + 'static) -> Self {
        Self { state: State::Boxed { future: Box::pin(future) } }
    }
}

impl<F, B> CacheFuture<F, B>
where
    F: Future<Output = Result<ServiceResponse<B>, Error>> + 'static,
    B: MessageBody + 'static,
{
    fn split(self) -> Split<B> {
        match self.state {
            State::Ready { response: Some(response) } => Split::Ready(response),
            State::Boxed { future } => Split::Pending(future),
            state @ (State::Ready { response: None }
            | State::Passing { .. }
            | State::Waiting { .. }) => Split::Pending(Box::pin(Self { state })),
        }
    }
}

impl<F, B> fmt::Debug for CacheFuture<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheFuture").finish_non_exhaustive()
    }
}

impl<F, B> Future for CacheFuture<F, B>
where
    F: Future<Output = Result<ServiceResponse<B>, Error>>,
    B: MessageBody,
{
    type Output = ServiceResult<B>;

    /// # Panics
    ///
    /// Panics if the future is polled again after it returned [`Poll::Ready`].
    #[expect(clippy::expect_used, reason = "the contract of futures; hanging would hide the fault")]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        const POLLED_AGAIN: &str = "CacheFuture polled after it returned a response";
        let mut state = self.project().state;
        loop {
            let response = match state.as_mut().project() {
                StateProjection::Ready { response } => response.take().expect(POLLED_AGAIN),
                StateProjection::Passing { response, context, report } => {
                    let response = ready!(response.poll(cx))?;
                    context.complete_passed(response, *report)
                }
                StateProjection::Boxed { future } => ready!(future.as_mut().poll(cx))?,
                StateProjection::Waiting { response } => {
                    ready!(response.as_mut().expect(POLLED_AGAIN).poll_wait(cx));
                    let response = response.take().expect(POLLED_AGAIN);
                    return Poll::Ready(Ok(response.into_response()));
                }
            };
            if !WaitingResponse::is_needed(&response) {
                return Poll::Ready(Ok(response));
            }
            let response = Some(Box::new(WaitingResponse::new(response)));
            state.set(State::Waiting { response });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    type ReadyFuture = std::future::Ready<Result<ServiceResponse<()>, Error>>;

    /// A future that hangs when it is polled again would hide the fault of its caller.
    #[test]
    #[should_panic(expected = "polled after it returned a response")]
    fn future_polled_after_its_end_panics() {
        let request = actix_web::test::TestRequest::default().to_http_request();
        let response =
            HttpResponse::with_body(actix_web::http::StatusCode::OK, CacheBody::<()>::none());
        let response = ServiceResponse::new(request, response);
        let mut future = Box::pin(CacheFuture::<ReadyFuture, ()>::ready(response));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(future.as_mut().poll(&mut cx).is_ready());
        let _ = future.as_mut().poll(&mut cx);
    }
}
