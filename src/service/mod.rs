//! The walk of a request: admitted, named, looked up, judged, answered. The only room that awaits
//! both the handler and the store.

pub(crate) mod collapse;
mod lease;
pub(crate) mod not_modified;
pub(crate) mod origin;
mod revalidate;
pub(crate) mod stale_if_error;
pub(crate) mod stand_in;
mod unsafe_method;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use actix_service::{Service, forward_ready};
use actix_web::{
    Error, HttpMessage, HttpRequest, HttpResponse,
    body::MessageBody,
    dev::{RequestHead, ServiceRequest, ServiceResponse},
    http::{
        Method, StatusCode,
        header::{CONNECTION, CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING, UPGRADE},
    },
    rt::time::timeout,
};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use pin_project_lite::pin_project;
use smallvec::SmallVec;

use crate::{
    clock::Timestamp,
    entry::key::CacheKey,
    entry::response::StoredResponse,
    entry::selector::Selector,
    fill,
    fill::write::warn,
    outcome::{Bypass, Forward, NotStored, Outcome, Stored},
    policy::{MatchedRules, discriminator_for},
    response::body::CacheBody,
    response::cached::{answer, report},
    semantics::cache_control::RequestDirectives,
    semantics::fields::{lines, list},
    semantics::invalidation::is_safe,
    semantics::requester::Requester,
    semantics::reuse::{Refresh, Reuse, ReuseRequest, ValidationReason, choose},
    semantics::validation::has_handler_only_condition,
    service::origin::{OriginRequest, Purpose, forward},
    service::revalidate::refresh,
    service::unsafe_method::change,
    shared::{ComparedFields, Mode, Shared},
    store::interface::{Lookup, StoreError},
};

/// How long a look-up may take before the handler is asked instead.
pub(crate) const LOOKUP_LIMIT: Duration = Duration::from_millis(50);

/// The service that [`Cache`](crate::Cache) makes.
pub struct CacheMiddleware<S> {
    inner: Rc<S>,
    shared: Arc<Shared>,
}

impl<S> CacheMiddleware<S> {
    pub(crate) const fn new(inner: Rc<S>, shared: Arc<Shared>) -> Self {
        Self { inner, shared }
    }
}

impl<S> fmt::Debug for CacheMiddleware<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheMiddleware").finish_non_exhaustive()
    }
}

/// In a request's extensions: the innermost cache it has come through, and how many.
pub(crate) struct EnclosingCache {
    pub(crate) shared: Arc<Shared>,
    layers: u8,
}

/// In a response's extensions: a cache further in is responsible for it.
struct OwnedByInnerCache;

pub(crate) type Answer<B> = Result<ServiceResponse<CacheBody<B>>, Error>;

impl<S, B> Service<ServiceRequest> for CacheMiddleware<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<CacheBody<B>>;
    type Error = Error;
    type Future = CacheFuture<S::Future, B>;

    forward_ready!(inner);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let layer = request.extensions().get::<EnclosingCache>().map_or(0, |nest| nest.layers);
        let walk = RequestContext { shared: Arc::clone(&self.shared), layer };
        match walk.admit(&request) {
            Admission::Silent => self.pass(walk, request, None),
            Admission::Pass(reason) => self.pass(walk, request, Some(reason)),
            Admission::Unsafe => CacheFuture::walk(change(Rc::clone(&self.inner), walk, request)),
            Admission::LookUp(asked) => match walk.look_up_now(request.headers(), &asked) {
                Some(found) => self.judged(walk, request, asked, found),
                None => CacheFuture::walk(look_up(Rc::clone(&self.inner), walk, request, asked)),
            },
        }
    }
}

impl<S, B> CacheMiddleware<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    /// Hands the request on without boxing anything.
    fn pass(
        &self,
        walk: RequestContext,
        request: ServiceRequest,
        reason: Option<Forward>,
    ) -> CacheFuture<S::Future, B> {
        walk.enter(&request);
        let outcome = reason
            .map(|reason| Outcome::Forward { reason, stored: Stored::No(NotStored::NotAttempted) });
        let inner = self.inner.call(request);
        CacheFuture { step: Step::Passing { inner, walk, outcome } }
    }

    fn judged(
        &self,
        walk: RequestContext,
        request: ServiceRequest,
        asked: LookupRequest,
        found: Result<Lookup, StoreError>,
    ) -> CacheFuture<S::Future, B> {
        match walk.judge(&request, asked, found) {
            Decision::Answer(response, outcome) => {
                let response = walk.answered(request, response, outcome);
                CacheFuture { step: Step::Answered { response: Some(response) } }
            }
            Decision::Refresh(response, outcome, inquiry) => {
                let request = refresh(&self.inner, &walk, request, inquiry);
                let response = walk.answered_to(request, response, outcome);
                CacheFuture { step: Step::Answered { response: Some(response) } }
            }
            Decision::Pass(reason) => self.pass(walk, request, Some(reason)),
            Decision::Ask(inquiry) => {
                CacheFuture::walk(forward(Rc::clone(&self.inner), walk, request, inquiry))
            }
        }
    }
}

pin_project! {
    /// What a [`CacheMiddleware`] returns.
    pub struct CacheFuture<F, B> {
        #[pin]
        step: Step<F, B>,
    }
}

pin_project! {
    #[project = StepProjection]
    enum Step<F, B> {
        /// Answered from the store.
        Answered { response: Option<ServiceResponse<CacheBody<B>>> },
        /// Not for the cache.
        Passing { #[pin] inner: F, walk: RequestContext, outcome: Option<Outcome> },
        /// Whatever has to wait for the store.
        Walking { walk: LocalBoxFuture<'static, Answer<B>> },
    }
}

impl<F, B> CacheFuture<F, B> {
    fn walk(walk: impl Future<Output = Answer<B>> + 'static) -> Self {
        Self { step: Step::Walking { walk: Box::pin(walk) } }
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
{
    type Output = Answer<B>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().step.project() {
            StepProjection::Answered { response } => match response.take() {
                Some(response) => Poll::Ready(Ok(response)),
                // Polled after its end, which the contract of futures leaves open.
                None => Poll::Pending,
            },
            StepProjection::Passing { inner, walk, outcome } => {
                let response = ready!(inner.poll(cx))?;
                Poll::Ready(Ok(walk.passed(response, outcome.as_ref())))
            }
            StepProjection::Walking { walk } => walk.as_mut().poll(cx),
        }
    }
}

/// One request's way through one cache.
#[derive(Clone)]
pub(crate) struct RequestContext {
    pub(crate) shared: Arc<Shared>,
    /// Caches further out.
    pub(crate) layer: u8,
}

/// Where a request goes first. It lives for a moment, so its size does not matter.
#[expect(clippy::large_enum_variant, reason = "boxing would cost every hit an allocation")]
enum Admission {
    /// Not ours at all: not even reported.
    Silent,
    Pass(Forward),
    Unsafe,
    LookUp(LookupRequest),
}

/// A request that may be answered from the store.
pub(crate) struct LookupRequest {
    pub(crate) matched: MatchedRules,
    pub(crate) key: CacheKey,
    pub(crate) discriminator: SmallVec<[u8; 32]>,
    pub(crate) requester: Requester,
    pub(crate) directives: RequestDirectives,
    pub(crate) now: Timestamp,
    /// How many answers had been stored for others before this one looked into the store.
    pub(crate) stored: u64,
}

/// What a look-up led to.
pub(crate) enum Decision<B> {
    Answer(HttpResponse<CacheBody<B>>, Outcome),
    /// An answer, and a reason to ask the handler for the next one.
    Refresh(HttpResponse<CacheBody<B>>, Outcome, Box<OriginRequest>),
    /// The handler, whose answer is not stored: the store fails.
    Pass(Forward),
    /// The handler, whose answer may be stored.
    Ask(Box<OriginRequest>),
}

impl RequestContext {
    fn admit(&self, request: &ServiceRequest) -> Admission {
        let shared = &self.shared;
        if shared.settings.mode == Mode::Off {
            return Admission::Silent;
        }
        let head = request.head();
        if head.method != Method::GET && head.method != Method::HEAD {
            return if is_safe(&head.method) {
                Admission::Pass(Forward::Method)
            } else {
                Admission::Unsafe
            };
        }
        if let Some(bypass) = not_plain(head) {
            return Admission::Pass(Forward::Bypass(bypass));
        }
        let Some(matched) = shared.checked.match_rules(request) else {
            return Admission::Pass(Forward::Bypass(Bypass::Rule));
        };
        let Ok(key) = shared.checked.key(request, &matched) else {
            return Admission::Pass(Forward::Bypass(Bypass::Host));
        };
        let now = shared.settings.clock.now();
        if shared.store.coordinator().has_inner_cache(&key, self.layer, now) {
            return Admission::Silent;
        }
        Admission::LookUp(self.asked(request, matched, key, now))
    }

    pub(crate) fn asked(
        &self,
        request: &ServiceRequest,
        matched: MatchedRules,
        key: CacheKey,
        now: Timestamp,
    ) -> LookupRequest {
        let fields = request.headers();
        LookupRequest {
            matched,
            key,
            discriminator: discriminator_for(self.layer, request),
            requester: Requester::of(fields, &self.shared.checked.personal),
            directives: RequestDirectives::of(fields),
            now,
            stored: self.shared.store.coordinator().stored_count(),
        }
    }

    /// Asks the store, if it answers at once.
    pub(crate) fn look_up_now(
        &self,
        fields: &HeaderMap,
        asked: &LookupRequest,
    ) -> Option<Result<Lookup, StoreError>> {
        let compared = ComparedFields { fields, cache: &*self.shared };
        let selector = Selector::new(&compared, &asked.discriminator, asked.now);
        self.shared.store.lookup_now(&asked.key, &selector)
    }

    /// Asks the store, for no longer than a request can wait.
    pub(crate) async fn look_up(
        &self,
        fields: &HeaderMap,
        asked: &LookupRequest,
    ) -> Result<Lookup, StoreError> {
        let compared = ComparedFields { fields, cache: &*self.shared };
        let selector = Selector::new(&compared, &asked.discriminator, asked.now);
        let found = timeout(LOOKUP_LIMIT, self.shared.store.lookup(&asked.key, &selector)).await;
        found.unwrap_or_else(|_| Err(StoreError::new("a look-up took too long")))
    }

    /// Asks the store, at once if it can.
    pub(crate) async fn find(
        &self,
        fields: &HeaderMap,
        asked: &LookupRequest,
    ) -> Result<Lookup, StoreError> {
        match self.look_up_now(fields, asked) {
            Some(found) => found,
            None => self.look_up(fields, asked).await,
        }
    }

    /// The same request, when it has waited for others.
    pub(crate) fn later(&self, asked: LookupRequest) -> LookupRequest {
        let stored = self.shared.store.coordinator().stored_count();
        LookupRequest { now: self.shared.settings.clock.now(), stored, ..asked }
    }

    pub(crate) fn judge<B>(
        &self,
        request: &ServiceRequest,
        asked: LookupRequest,
        found: Result<Lookup, StoreError>,
    ) -> Decision<B> {
        self.judge_with(request, asked, found, |stored, age, left, now| {
            answer(request.method(), request.headers(), stored, age, left, now)
        })
    }

    /// The same with another way to make an answer of what is stored.
    pub(crate) fn judge_with<B>(
        &self,
        request: &ServiceRequest,
        asked: LookupRequest,
        found: Result<Lookup, StoreError>,
        answer: impl FnOnce(
            &Arc<StoredResponse>,
            Duration,
            Duration,
            Timestamp,
        ) -> HttpResponse<CacheBody<B>>,
    ) -> Decision<B> {
        let lookup = match found {
            Ok(lookup) => lookup,
            Err(error) => {
                warn(&self.shared, &error);
                return Decision::Pass(Forward::Bypass(Bypass::StoreError));
            }
        };
        let checked = &self.shared.checked;
        let honored = checked.honors_request_directives().then_some(asked.directives);
        let reader = ReuseRequest {
            request: request.headers(),
            requester: asked.requester,
            comparison: &checked.comparison,
            discriminator: &asked.discriminator,
            directives: honored,
            windows: checked.windows(),
        };
        let coordinator = self.shared.store.coordinator();
        let reuse = choose(
            lookup.variants.as_deref(),
            |stored| coordinator.validity(&asked.key, stored),
            |stored| checked.lifetime_under_policy(&asked.matched, stored),
            &reader,
            asked.now,
        );
        let (reason, selected) = match reuse {
            Reuse::Fresh { stored, age, ttl } => {
                let response = answer(&stored, age, ttl, asked.now);
                let outcome = Outcome::Hit { age, ttl };
                let ahead = checked.refreshes(age.saturating_add(ttl), ttl);
                if !ahead || *request.method() == Method::HEAD {
                    return Decision::Answer(response, outcome);
                }
                return Decision::Refresh(response, outcome, renew(asked, lookup, stored));
            }
            Reuse::Stale { stored, age, over, refresh } => {
                let response = answer(&stored, age, Duration::ZERO, asked.now);
                let outcome = Outcome::StaleHit { age, over };
                if refresh == Refresh::NotDue || *request.method() == Method::HEAD {
                    return Decision::Answer(response, outcome);
                }
                return Decision::Refresh(response, outcome, renew(asked, lookup, stored));
            }
            Reuse::Validate { stored, because: ValidationReason::Stale } => {
                (Forward::Stale, Some(stored))
            }
            Reuse::Validate { stored, because: ValidationReason::Client } => {
                (Forward::Request, Some(stored))
            }
            Reuse::Absent => (Forward::UriMiss, None),
            Reuse::OtherVariant => (Forward::VaryMiss, None),
            Reuse::NotForRequester => (Forward::Request, None),
        };
        // Section 5.2.1.7.
        if honored.is_some_and(|directives| directives.only_if_cached) {
            return Decision::Answer(
                HttpResponse::with_body(
                    StatusCode::GATEWAY_TIMEOUT,
                    CacheBody::whole(Bytes::new()),
                ),
                Outcome::OnlyIfCached,
            );
        }
        if coordinator.is_draining() {
            return Decision::Pass(Forward::Bypass(Bypass::Draining));
        }
        let purpose = Purpose::Client;
        Decision::Ask(Box::new(OriginRequest { asked, lookup, reason, selected, purpose }))
    }

    /// Leaves word for caches and handlers further in.
    pub(crate) fn enter(&self, request: &ServiceRequest) {
        let nest = EnclosingCache {
            shared: Arc::clone(&self.shared),
            layers: self.layer.saturating_add(1),
        };
        request.extensions_mut().insert(nest);
    }

    /// Completes an answer that did not come from the handler.
    pub(crate) fn answered<B>(
        &self,
        request: ServiceRequest,
        response: HttpResponse<CacheBody<B>>,
        outcome: Outcome,
    ) -> ServiceResponse<CacheBody<B>> {
        self.answered_to(request.into_parts().0, response, outcome)
    }

    fn answered_to<B>(
        &self,
        request: HttpRequest,
        response: HttpResponse<CacheBody<B>>,
        outcome: Outcome,
    ) -> ServiceResponse<CacheBody<B>> {
        let mut response = ServiceResponse::new(request, response);
        self.complete(&mut response, &outcome);
        response
    }

    /// Completes an answer that passed.
    pub(crate) fn passed<B>(
        &self,
        response: ServiceResponse<B>,
        outcome: Option<&Outcome>,
    ) -> ServiceResponse<CacheBody<B>> {
        let mut response = fill::pass(response);
        if let Some(outcome) = outcome {
            self.finish(&mut response, outcome);
        }
        response
    }

    /// Reports what became of a request the handler answered; not if a cache further in has.
    pub(crate) fn finish<B>(&self, response: &mut ServiceResponse<B>, outcome: &Outcome) {
        if !is_owned_by_inner_cache(response) {
            self.complete(response, outcome);
        }
    }

    fn complete<B>(&self, response: &mut ServiceResponse<B>, outcome: &Outcome) {
        self.tell(response.request().head(), outcome);
        report(response.headers_mut(), outcome, &self.shared);
        self.claim(response.response_mut());
    }

    /// Tells caches further out that this response is not theirs.
    fn claim<B>(&self, response: &mut HttpResponse<B>) {
        if self.layer > 0 {
            response.extensions_mut().insert(OwnedByInnerCache);
        }
    }

    fn tell(&self, request: &RequestHead, outcome: &Outcome) {
        match outcome {
            Outcome::Hit { ttl, .. } => log::debug!("hit ttl={}", ttl.as_secs()),
            Outcome::Forward { reason: Forward::Bypass(bypass), .. } => {
                log::debug!("bypass {}", bypass.token());
            }
            Outcome::Forward { reason: Forward::Method, .. } => log::debug!("bypass method"),
            Outcome::Forward { reason, .. } => match outcome.detail() {
                Some(detail) => log::debug!("miss {} not stored: {detail}", reason.token()),
                None => log::debug!("miss {}", reason.token()),
            },
            Outcome::Collapsed { reason, .. } => log::debug!("hit collapsed {}", reason.token()),
            Outcome::StaleHit { over, .. } => log::debug!("hit stale={}", over.as_secs()),
            Outcome::Revalidated { reason, .. } => log::debug!("hit validated {}", reason.token()),
            Outcome::StaleIfError { reason, .. } => log::debug!("hit rescued {}", reason.token()),
            Outcome::OnlyIfCached => log::debug!("miss only-if-cached"),
        }
        log::trace!("{} {}", request.method, request.uri.path());
        if let Some(observer) = &self.shared.settings.observer {
            observer(request, outcome);
        }
    }
}

/// What the handler is asked in the background, for the sake of something that answers meanwhile.
fn renew(asked: LookupRequest, lookup: Lookup, stored: Arc<StoredResponse>) -> Box<OriginRequest> {
    let (reason, selected, purpose) = (Forward::Stale, Some(stored), Purpose::Refresh);
    Box::new(OriginRequest { asked, lookup, reason, selected, purpose })
}

/// Asks a store that has to be waited for. What is large and no hit needs is apart.
async fn look_up<S, B>(
    inner: Rc<S>,
    walk: RequestContext,
    request: ServiceRequest,
    asked: LookupRequest,
) -> Answer<B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    let found = walk.look_up(request.headers(), &asked).await;
    match walk.judge(&request, asked, found) {
        Decision::Answer(response, outcome) => Ok(walk.answered(request, response, outcome)),
        Decision::Refresh(response, outcome, inquiry) => {
            let request = refresh(&inner, &walk, request, inquiry);
            Ok(walk.answered_to(request, response, outcome))
        }
        Decision::Pass(reason) => {
            walk.enter(&request);
            let outcome = Outcome::Forward { reason, stored: Stored::No(NotStored::NotAttempted) };
            let response = Box::pin(inner.call(request)).await?;
            Ok(walk.passed(response, Some(&outcome)))
        }
        Decision::Ask(inquiry) => Box::pin(forward(inner, walk, request, inquiry)).await,
    }
}

pub(crate) fn is_owned_by_inner_cache<B>(response: &ServiceResponse<B>) -> bool {
    response.response().extensions().contains::<OwnedByInnerCache>()
}

/// What makes a GET or HEAD more than a question for a page.
fn not_plain(head: &RequestHead) -> Option<Bypass> {
    let fields = &head.headers;
    let upgrades = fields.contains_key(UPGRADE)
        || lines(fields, &CONNECTION)
            .flat_map(list)
            .any(|member| member.eq_ignore_ascii_case(b"upgrade"));
    if upgrades {
        return Some(Bypass::Upgrade);
    }
    let announced = lines(fields, &CONTENT_LENGTH).any(|length| length != b"0");
    if announced || fields.contains_key(TRANSFER_ENCODING) {
        return Some(Bypass::RequestBody);
    }
    has_handler_only_condition(fields).then_some(Bypass::Condition)
}
