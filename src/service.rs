//! The walk of a request: admitted, named, looked up, judged, answered. The only room that awaits
//! both the handler and the store.

use std::{
    cell::Cell,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use actix_service::{Service, forward_ready};
use actix_web::{
    Error, HttpMessage, HttpResponse,
    body::MessageBody,
    dev::{Payload, RequestHead, ServiceRequest, ServiceResponse},
    http::{
        Method, StatusCode, Version,
        header::{CONNECTION, CONTENT_LENGTH, RANGE, TRANSFER_ENCODING, UPGRADE},
    },
    rt::time::timeout,
};
use bytes::Bytes;
use futures_util::{StreamExt as _, future::LocalBoxFuture};
use pin_project_lite::pin_project;
use smallvec::SmallVec;

use crate::{
    body::CacheBody,
    fill::{self, Candidate},
    handle::purge,
    hit::{answer, report},
    key::{Key, Target},
    outcome::{Bypass, Forward, NotStored, Outcome, Stored},
    policy::{Matched, split_of, targets},
    semantics::{
        cache_control::RequestDirectives,
        fields::{lines, list},
        requester::Requester,
        reuse::{Reader, Reuse, choose},
    },
    shared::{Mode, Shared},
    store::{Lookup, StoreError},
    time::Now,
};

/// How long a look-up may take before the handler is asked instead.
const LOOKUP_LIMIT: Duration = Duration::from_millis(50);

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
pub(crate) struct Nest {
    pub(crate) shared: Arc<Shared>,
    layers: u8,
}

/// In a response's extensions: a cache further in is responsible for it.
struct OwnedFurtherIn;

type Answer<B> = Result<ServiceResponse<CacheBody<B>>, Error>;

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
        let layer = request.extensions().get::<Nest>().map_or(0, |nest| nest.layers);
        let walk = Walk { shared: Arc::clone(&self.shared), layer };
        match walk.admit(&request) {
            Admission::Silent => self.pass(walk, request, None),
            Admission::Pass(reason) => self.pass(walk, request, Some(reason)),
            Admission::Unsafe => {
                CacheFuture::walk(unsafe_method(Rc::clone(&self.inner), walk, request))
            }
            Admission::LookUp(asked) => match walk.shared.store.lookup_now(&asked.key) {
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
        walk: Walk,
        request: ServiceRequest,
        reason: Option<Forward>,
    ) -> CacheFuture<S::Future, B> {
        walk.enter(&request);
        let outcome = reason
            .map(|reason| Outcome::Forward { reason, stored: Stored::No(NotStored::Forwarded) });
        let inner = self.inner.call(request);
        CacheFuture { step: Step::Passing { inner, walk, outcome } }
    }

    fn judged(
        &self,
        walk: Walk,
        request: ServiceRequest,
        asked: Asked,
        found: Result<Lookup, StoreError>,
    ) -> CacheFuture<S::Future, B> {
        match walk.judge(&request, &asked, found) {
            Judgement::Answer(response, outcome) => {
                let response = walk.answered(request, response, outcome);
                CacheFuture { step: Step::Answered { response: Some(response) } }
            }
            Judgement::Pass(reason) => self.pass(walk, request, Some(reason)),
            Judgement::Fill(reason, lookup) => CacheFuture::walk(fill(
                Rc::clone(&self.inner),
                walk,
                request,
                asked,
                lookup,
                reason,
            )),
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
        Passing { #[pin] inner: F, walk: Walk, outcome: Option<Outcome> },
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
struct Walk {
    shared: Arc<Shared>,
    /// Caches further out.
    layer: u8,
}

/// Where a request goes first. It lives for a moment, so its size does not matter.
#[expect(clippy::large_enum_variant, reason = "boxing would cost every hit an allocation")]
enum Admission {
    /// Not ours at all: not even reported.
    Silent,
    Pass(Forward),
    Unsafe,
    LookUp(Asked),
}

/// A request that may be answered from the store.
struct Asked {
    matched: Matched,
    key: Key,
    split: SmallVec<[u8; 32]>,
    requester: Requester,
    directives: RequestDirectives,
    now: Now,
}

/// What a look-up led to.
enum Judgement<B> {
    Answer(HttpResponse<CacheBody<B>>, Outcome),
    Pass(Forward),
    /// The handler, whose answer may be stored.
    Fill(Forward, Lookup),
}

impl Walk {
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
        let Some(matched) = shared.checked.admit(request) else {
            return Admission::Pass(Forward::Bypass(Bypass::Rule));
        };
        let Ok(key) = shared.checked.key(request, &matched) else {
            return Admission::Pass(Forward::Bypass(Bypass::Host));
        };
        let now = shared.settings.clock.now();
        if shared.store.commons().is_further_in(&key, self.layer, now) {
            return Admission::Silent;
        }
        Admission::LookUp(Asked {
            matched,
            key,
            split: split_of(self.layer, request),
            requester: Requester::of(&head.headers, &shared.checked.personal),
            directives: RequestDirectives::of(&head.headers),
            now,
        })
    }

    fn judge<B>(
        &self,
        request: &ServiceRequest,
        asked: &Asked,
        found: Result<Lookup, StoreError>,
    ) -> Judgement<B> {
        let lookup = match found {
            Ok(lookup) => lookup,
            Err(error) => {
                fill::warn(&self.shared, &error);
                return Judgement::Pass(Forward::Bypass(Bypass::StoreError));
            }
        };
        let checked = &self.shared.checked;
        let honoured = checked.honours_clients().then_some(asked.directives);
        let reader = Reader {
            request: request.headers(),
            requester: asked.requester,
            cookies: &checked.personal.cookies,
            split: &asked.split,
            directives: honoured,
        };
        let commons = self.shared.store.commons();
        let reuse = choose(
            lookup.variants.as_deref(),
            |stored| commons.is_valid(stored),
            |stored| checked.granted(&asked.matched, stored),
            &reader,
            asked.now,
        );
        let reason = match reuse {
            Reuse::Fresh { stored, age, ttl } => {
                let response = answer(request.headers(), &stored, age, ttl, asked.now);
                return Judgement::Answer(response, Outcome::Hit { age, ttl });
            }
            Reuse::Absent => Forward::UriMiss,
            Reuse::OtherVariant => Forward::VaryMiss,
            Reuse::Stale => Forward::Stale,
            Reuse::Declined | Reuse::NotForRequester => Forward::Request,
        };
        // Section 5.2.1.7.
        if honoured.is_some_and(|directives| directives.only_if_cached) {
            return Judgement::Answer(
                HttpResponse::with_body(
                    StatusCode::GATEWAY_TIMEOUT,
                    CacheBody::whole(Bytes::new()),
                ),
                Outcome::Unsatisfiable,
            );
        }
        Judgement::Fill(reason, lookup)
    }

    /// Leaves word for caches and handlers further in.
    fn enter(&self, request: &ServiceRequest) {
        let nest = Nest { shared: Arc::clone(&self.shared), layers: self.layer.saturating_add(1) };
        request.extensions_mut().insert(nest);
    }

    /// Completes an answer that did not come from the handler.
    fn answered<B>(
        &self,
        request: ServiceRequest,
        mut response: HttpResponse<CacheBody<B>>,
        outcome: Outcome,
    ) -> ServiceResponse<CacheBody<B>> {
        self.tell(request.head(), &outcome);
        report(response.headers_mut(), &outcome, &self.shared.settings);
        self.claim(&mut response);
        request.into_response(response)
    }

    /// Completes an answer that passed.
    fn passed<B>(
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
    fn finish<B>(&self, response: &mut ServiceResponse<B>, outcome: &Outcome) {
        if is_owned_further_in(response) {
            return;
        }
        self.tell(response.request().head(), outcome);
        report(response.headers_mut(), outcome, &self.shared.settings);
        self.claim(response.response_mut());
    }

    /// Tells caches further out that this response is not theirs.
    fn claim<B>(&self, response: &mut HttpResponse<B>) {
        if self.layer > 0 {
            response.extensions_mut().insert(OwnedFurtherIn);
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
            Outcome::Unsatisfiable => log::debug!("miss only-if-cached"),
        }
        log::trace!("{} {}", request.method, request.uri.path());
        if let Some(observer) = &self.shared.settings.observer {
            observer(request, outcome);
        }
    }
}

/// Asks a store that has to be waited for.
async fn look_up<S, B>(inner: Rc<S>, walk: Walk, request: ServiceRequest, asked: Asked) -> Answer<B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    let found = timeout(LOOKUP_LIMIT, walk.shared.store.lookup(&asked.key)).await;
    let found = found.unwrap_or_else(|_| Err(StoreError::new("a look-up took too long")));
    match walk.judge(&request, &asked, found) {
        Judgement::Answer(response, outcome) => Ok(walk.answered(request, response, outcome)),
        Judgement::Pass(reason) => {
            walk.enter(&request);
            let outcome = Outcome::Forward { reason, stored: Stored::No(NotStored::Forwarded) };
            let response = inner.call(request).await?;
            Ok(walk.passed(response, Some(&outcome)))
        }
        Judgement::Fill(reason, lookup) => fill(inner, walk, request, asked, lookup, reason).await,
    }
}

/// Asks the handler, and stores what it answers if that may be.
async fn fill<S, B>(
    inner: Rc<S>,
    walk: Walk,
    mut request: ServiceRequest,
    asked: Asked,
    lookup: Lookup,
    reason: Forward,
) -> Answer<B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    walk.enter(&request);
    // An answer to HEAD has no body to store.
    if request.method() == Method::HEAD {
        let response = inner.call(request).await?;
        let outcome = Outcome::Forward { reason, stored: Stored::No(NotStored::Head) };
        walk.note_owner(&response, &asked.key);
        return Ok(walk.passed(response, Some(&outcome)));
    }
    let candidate = Candidate {
        shared: Arc::clone(&walk.shared),
        fill: walk.shared.store.commons().begin_fill(&asked.key, lookup.stamp),
        matched: asked.matched,
        key: asked.key,
        request: request.headers().clone(),
        requester: asked.requester,
        request_no_store: asked.directives.no_store,
        split: asked.split,
        names: lookup.variants.map(|variants| Box::from(variants.names())).unwrap_or_default(),
        requested: asked.now,
        body_seen: watch_payload(&mut request),
    };
    let response = inner.call(request).await?;
    if walk.note_owner(&response, &candidate.key) {
        return Ok(fill::pass(response));
    }
    // `poll_fn` for the context: a store that answers at once is not waited for.
    let mut parts = Some((candidate, response));
    let (mut response, outcome) = poll_fn(|cx| match parts.take() {
        Some((candidate, response)) => Poll::Ready(fill::settle(candidate, response, reason, cx)),
        None => Poll::Pending,
    })
    .await;
    walk.finish(&mut response, &outcome);
    Ok(response)
}

impl Walk {
    /// Remembers that a cache further in answers for a key, if it did.
    fn note_owner<B>(&self, response: &ServiceResponse<B>, key: &Key) -> bool {
        let owned = is_owned_further_in(response);
        if owned {
            let now = self.shared.settings.clock.now();
            self.shared.store.commons().note_further_in(key, self.layer, now);
        }
        owned
    }
}

/// Runs a handler that may change its resource, and forgets what is stored of it before the
/// client learns of the success (section 4.4).
async fn unsafe_method<S, B>(inner: Rc<S>, walk: Walk, request: ServiceRequest) -> Answer<B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    let targets = targets(&request);
    walk.enter(&request);
    let answer = inner.call(request).await;
    // What middlewares return as an error is an answer, too, once the server has made it one.
    let status = match &answer {
        Ok(response) => response.status(),
        Err(error) => error.as_response_error().status_code(),
    };
    // Also where a cache further in has done so: its store may be another.
    if status.is_success() || status.is_redirection() {
        forget(&walk.shared, targets).await;
    }
    let outcome =
        Outcome::Forward { reason: Forward::Method, stored: Stored::No(NotStored::Forwarded) };
    Ok(walk.passed(answer?, Some(&outcome)))
}

/// Forgets what is stored of some URLs; to the end, even if the client has gone and nobody waits:
/// the change is made.
async fn forget(shared: &Arc<Shared>, targets: Vec<Target>) {
    let shared = Arc::clone(shared);
    let mut work = Box::pin(async move {
        for target in &targets {
            if let Err(error) = purge(&shared, target).await {
                fill::warn(&shared, &error);
            }
        }
    });
    if poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await.is_pending() {
        // A panic of the store is reported by the runtime.
        drop(tokio::spawn(work).await);
    }
}

fn is_owned_further_in<B>(response: &ServiceResponse<B>) -> bool {
    response.response().extensions().contains::<OwnedFurtherIn>()
}

/// RFC 9110 section 9.2.1, and the registered methods that are safe. Of methods nobody knows the
/// worst is assumed.
fn is_safe(method: &Method) -> bool {
    matches!(
        method.as_str(),
        "GET"
            | "HEAD"
            | "OPTIONS"
            | "TRACE"
            | "CONNECT"
            | "QUERY"
            | "PROPFIND"
            | "REPORT"
            | "SEARCH"
    )
}

/// What makes a GET or HEAD more than a question for a whole page.
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
    fields.contains_key(RANGE).then_some(Bypass::Range)
}

/// HTTP/2 need not announce a body: whether the handler is given one is seen when it is.
fn watch_payload(request: &mut ServiceRequest) -> Rc<Cell<bool>> {
    let seen = Rc::new(Cell::new(false));
    if request.version() == Version::HTTP_2 {
        let payload = request.take_payload();
        if !matches!(payload, Payload::None) {
            let note = Rc::clone(&seen);
            let watched = payload.inspect(move |chunk| {
                if chunk.as_ref().is_ok_and(|chunk| !chunk.is_empty()) {
                    note.set(true);
                }
            });
            request.set_payload(Payload::Stream { payload: Box::pin(watched) });
        }
    }
    seen
}
