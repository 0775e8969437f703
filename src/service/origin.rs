//! Asking the handler: for what is not stored, or whether what is stored still holds.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::Poll,
};

use actix_service::Service;
use actix_web::{
    Error, HttpMessage, HttpRequest, HttpResponse,
    body::{BodySize, MessageBody},
    dev::{Payload, ServiceRequest, ServiceResponse},
    error::{ErrorInternalServerError, ErrorServiceUnavailable},
    http::{
        Method, StatusCode, Version,
        header::{CONTENT_ENCODING, HeaderMap, RANGE},
    },
    rt::{spawn, time::timeout},
};
use futures_util::StreamExt as _;

use crate::{
    coordination::flights::FlightEnd,
    entry::response::StoredResponse,
    fill::write::Write,
    fill::{self, Candidate, Conditions, FillReply},
    outcome::{Forward, NotStored, Outcome, Stored},
    response::body::CacheBody,
    response::cached::is_conditional,
    semantics::reuse::{is_allowed_for, may_serve_stale_on_error},
    semantics::validation::{
        HeadVerdict, ValidationConditions, compare_head, find_validated, remove_conditions,
    },
    service::collapse::CollapseResult,
    service::revalidate::unattended,
    service::stand_in::StandIn,
    service::{Answer, LookupRequest, RequestContext, is_owned_by_inner_cache, not_modified},
    store::interface::Lookup,
};

/// A request for the handler, and what is known of it.
pub(crate) struct OriginRequest {
    pub(crate) asked: LookupRequest,
    pub(crate) lookup: Lookup,
    pub(crate) reason: Forward,
    /// What is stored and would answer if it still holds.
    pub(crate) selected: Option<Arc<StoredResponse>>,
    pub(crate) purpose: Purpose,
}

/// What a handler is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A client waits.
    Client,
    /// What is stored is to be renewed, while it answers.
    Refresh,
}

/// What is sent, what is told of it, and what is to be stored when that is done.
pub(crate) struct Reply<B> {
    response: ServiceResponse<CacheBody<B>>,
    /// None where a cache further in tells.
    pub(crate) outcome: Option<Outcome>,
    write: Option<Write>,
}

impl<B> Reply<B> {
    pub(crate) fn new(
        request: HttpRequest,
        response: HttpResponse<CacheBody<B>>,
        outcome: Outcome,
    ) -> Self {
        let response = ServiceResponse::new(request, response);
        Self { response, outcome: Some(outcome), write: None }
    }

    pub(crate) fn settled(settled: FillReply<B>, outcome: Outcome) -> Self {
        let FillReply { response, write, .. } = settled;
        Self { response, outcome: Some(outcome), write }
    }

    fn passed(response: ServiceResponse<B>, reason: Forward, why: NotStored) -> Self {
        let outcome = Some(Outcome::Forward { reason, stored: Stored::No(why) });
        Self { response: fill::pass(response), outcome, write: None }
    }

    fn owned_further_in(response: ServiceResponse<B>) -> Self {
        Self { response: fill::pass(response), outcome: None, write: None }
    }
}

/// Asks the handler, and stores or freshens by what it answers.
pub(crate) async fn forward<S, B>(
    inner: Rc<S>,
    walk: RequestContext,
    request: ServiceRequest,
    inquiry: Box<OriginRequest>,
) -> Answer<B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    let reply = ask(inner, walk.clone(), request, inquiry).await?;
    Ok(walk.reply(reply).await)
}

/// The same, up to what is told of it.
pub(crate) async fn ask<S, B>(
    inner: Rc<S>,
    walk: RequestContext,
    mut request: ServiceRequest,
    inquiry: Box<OriginRequest>,
) -> Result<Reply<B>, Error>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    let purpose = inquiry.purpose;
    let (inquiry, leading) = match walk.turn(&request, inquiry).await {
        CollapseResult::Ask(inquiry, leading) => (inquiry, leading),
        CollapseResult::Answer(response, outcome) => {
            return Ok(Reply::new(request.into_parts().0, response, outcome));
        }
        CollapseResult::Pass(_) if purpose == Purpose::Refresh => {
            return Err(ErrorServiceUnavailable("what is renewed could not be stored"));
        }
        CollapseResult::Pass(reason) => {
            walk.enter(&request);
            let response = inner.call(request).await?;
            return Ok(Reply::passed(response, reason, NotStored::NotAttempted));
        }
    };
    walk.enter(&request);
    let OriginRequest { asked, lookup, reason, selected, .. } = *inquiry;
    if *request.method() == Method::HEAD {
        return head(inner, walk, request, asked, lookup, reason, selected).await;
    }
    // A part of what is not stored is none of ours: it may be a second of a film.
    if selected.is_none() && request.headers().contains_key(RANGE) {
        let response = inner.call(request).await?;
        walk.note_inner_cache(&response, &asked.key);
        return Ok(Reply::passed(response, reason, NotStored::Range));
    }
    let others = walk.others(&asked, &lookup, selected.as_ref());
    // Somebody's own page may have the tag of everybody's: their handler knows.
    let forwards = walk.shared.checked.forwards_conditions() || !asked.requester.is_anonymous();
    let mut candidate = walk.candidate(&mut request, asked, lookup);
    candidate.leading = leading;
    let offer = ValidationConditions::of(selected.as_deref(), &others);
    let mut asks = !offer.is_empty();
    let windows = walk.shared.checked.windows();
    // What may_serve_stale_on_error nobody now will not later.
    let may_serve_stale_on_error = |stored: &StoredResponse| {
        let validity = walk.shared.store.coordinator().validity(&candidate.key, stored);
        may_serve_stale_on_error(stored, validity.expired_since(), windows, candidate.requested)
    };
    let rescuer = selected.clone().filter(|stored| may_serve_stale_on_error(stored));
    let mirror = (asks || rescuer.is_some()).then(|| StandIn::of(&request));
    if asks || selected.is_some() || !forwards {
        candidate.conditions = Conditions::Taken;
        let conditional =
            is_conditional(request.headers()) || request.headers().contains_key(RANGE);
        if asks || conditional {
            match fields_mut(&mut request) {
                Some(fields) => offer.write(fields),
                None => (asks, candidate.conditions) = (false, Conditions::Left),
            }
        }
    }
    let call = inner.call(request);
    let question = Question { inner, walk, candidate, selected, others, mirror, reason, asks };
    if let Some(rescuer) = rescuer {
        return question.or_stale(Box::pin(call), &rescuer).await;
    }
    let mut call = pin!(call);
    let answer = match question.within_limit(call.as_mut()).await {
        Some(answer) => answer,
        None => call.await,
    };
    question.concluded(answer).await
}

/// A question that the handler was asked, until its answer is here.
struct Question<S> {
    inner: Rc<S>,
    walk: RequestContext,
    candidate: Candidate,
    selected: Option<Arc<StoredResponse>>,
    others: Vec<Arc<StoredResponse>>,
    mirror: Option<StandIn>,
    reason: Forward,
    /// Whether it is by conditions of ours.
    asks: bool,
}

impl<S, B> Question<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    /// The answer, if it comes before those who wait for it have waited for too long.
    async fn within_limit<T>(&self, call: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        let answer = timeout(self.walk.shared.checked.wait_limit(), call).await.ok();
        if answer.is_none()
            && let Some(leading) = &self.candidate.leading
        {
            leading.release_followers();
        }
        answer
    }

    /// The answer, or something stale if it takes too long; it is then waited for in the background.
    async fn or_stale(
        self,
        mut call: Pin<Box<impl Future<Output = Result<ServiceResponse<B>, Error>> + 'static>>,
        stored: &StoredResponse,
    ) -> Result<Reply<B>, Error> {
        if let Some(answer) = self.within_limit(call.as_mut()).await {
            return self.concluded(answer).await;
        }
        let late = self.walk.rescued_late(&Method::GET, &self.candidate, stored);
        let Some((response, mirror)) = late.zip(self.mirror.clone()) else {
            let answer = call.await;
            return self.concluded(answer).await;
        };
        let (walk, reason) = (self.walk.clone(), self.reason);
        if let Some(place) = walk.shared.store.coordinator().try_background(&self.candidate.key) {
            spawn(async move {
                let _place = place;
                unattended(&walk, async { self.concluded(call.await).await }).await;
            });
        }
        let outcome = Outcome::StaleIfError { reason, status: None };
        Ok(Reply::new(mirror.into_request(), response, outcome))
    }

    async fn concluded(
        mut self,
        answer: Result<ServiceResponse<B>, Error>,
    ) -> Result<Reply<B>, Error> {
        if let Some(leading) = &mut self.candidate.leading {
            leading.set_end_on_drop(if answer.is_ok() {
                FlightEnd::NotStored
            } else {
                FlightEnd::Failed
            });
        }
        let Self { inner, walk, candidate, selected, others, mirror, reason, asks } = self;
        let mut response = match answer {
            Ok(response) => response,
            Err(error) => {
                let rescue = selected.zip(mirror);
                return walk.instead_of_error(&Method::GET, rescue, &candidate, reason, error);
            }
        };
        let owned = walk.note_inner_cache(&response, &candidate.key);
        if asks && response.status() == StatusCode::NOT_MODIFIED {
            let find_validated = || find_validated(response.headers(), selected.as_ref(), &others);
            match (!owned).then(find_validated).flatten() {
                Some(stored) => {
                    let settled = not_modified::by_not_modified(candidate, &stored, response);
                    let outcome = Outcome::Revalidated { reason, stored: settled.stored };
                    return Ok(Reply::settled(settled, outcome));
                }
                // Section 4.3.3: it speaks of something that is not here, and not to the client.
                None => response = again(&*inner, mirror, response).await?,
            }
        }
        if owned {
            return Ok(Reply::owned_further_in(response));
        }
        if let Some(stored) = selected
            && let Some(stale) = walk.instead_of(&Method::GET, &stored, &candidate, &response)
        {
            let outcome = Outcome::StaleIfError { reason, status: Some(response.status()) };
            return Ok(Reply::new(response.into_parts().0, stale, outcome));
        }
        let settled = fill::settle(candidate, response);
        let outcome = Outcome::Forward { reason, stored: settled.stored };
        Ok(Reply::settled(settled, outcome))
    }
}

/// Asks by HEAD, whose answer has no body to store, but may speak of what is stored (section
/// 4.3.5).
async fn head<S, B>(
    inner: Rc<S>,
    walk: RequestContext,
    mut request: ServiceRequest,
    asked: LookupRequest,
    lookup: Lookup,
    reason: Forward,
    selected: Option<Arc<StoredResponse>>,
) -> Result<Reply<B>, Error>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    let Some(stored) = selected else {
        let response = inner.call(request).await?;
        if walk.note_inner_cache(&response, &asked.key) {
            return Ok(Reply::owned_further_in(response));
        }
        return Ok(Reply::passed(response, reason, NotStored::Head));
    };
    let candidate = walk.candidate(&mut request, asked, lookup);
    let mirror = StandIn::of(&request);
    let mut call = pin!(inner.call(request));
    let answer = match timeout(walk.shared.checked.wait_limit(), call.as_mut()).await {
        Ok(answer) => answer,
        Err(_) => match walk.rescued_late(&Method::HEAD, &candidate, &stored) {
            Some(response) => {
                let outcome = Outcome::StaleIfError { reason, status: None };
                return Ok(Reply::new(mirror.into_request(), response, outcome));
            }
            None => call.await,
        },
    };
    let mut response = match answer {
        Ok(response) => response,
        Err(error) => {
            let rescue = Some((stored, mirror));
            return walk.instead_of_error(&Method::HEAD, rescue, &candidate, reason, error);
        }
    };
    if walk.note_inner_cache(&response, &candidate.key) {
        return Ok(Reply::owned_further_in(response));
    }
    if let Some(stale) = walk.instead_of(&Method::HEAD, &stored, &candidate, &response) {
        let outcome = Outcome::StaleIfError { reason, status: Some(response.status()) };
        return Ok(Reply::new(response.into_parts().0, stale, outcome));
    }
    // The server states the length of what the handler made, whatever the fields say.
    let same_length = match response.response().body().size() {
        BodySize::Sized(length @ 1..) => length == stored.body.len() as u64,
        BodySize::Sized(0) | BodySize::Stream | BodySize::None => true,
    };
    let said = compare_head(response.headers(), &stored);
    let mut write = None;
    if response.status() != StatusCode::OK {
        // Section 4.3.5 speaks of 200 alone.
    } else if !same_length || said == HeadVerdict::Outdated {
        candidate.forget().await;
    } else if said == HeadVerdict::Holds
        || (said == HeadVerdict::Nothing && walk.shared.checked.trusts_origin_validators())
    {
        write = not_modified::by_head(candidate, &stored, &mut response);
    }
    Ok(Reply { write, ..Reply::passed(response, reason, NotStored::Head) })
}

/// Asks once more, without conditions.
async fn again<S, B>(
    inner: &S,
    before: Option<StandIn>,
    response: ServiceResponse<B>,
) -> Result<ServiceResponse<B>, Error>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
{
    let (request, unusable) = response.into_parts();
    drop(unusable);
    let mut request = ServiceRequest::from_parts(request, Payload::None);
    let Some(fields) = fields_mut(&mut request) else {
        return Err(ErrorInternalServerError(
            "the handler holds a request that it is to see again",
        ));
    };
    remove_conditions(fields);
    if let Some(before) = before {
        before.unroute(&mut request);
    }
    inner.call(request).await
}

/// The fields of a request, to be changed. Nothing where somebody else holds the request, as
/// middlewares around a resource may: actix, which offers no other way to know, panics then.
pub(crate) fn fields_mut(request: &mut ServiceRequest) -> Option<&mut HeaderMap> {
    let look = AssertUnwindSafe(|| {
        request.headers_mut();
    });
    catch_unwind(look).ok().map(|()| request.headers_mut())
}

impl RequestContext {
    /// The other variants whose entity tags a handler may be offered.
    ///
    /// A handler that gives pages which differ the same tag is one that clients never notice: each
    /// asks by the tag of its own. So only where the policy takes origins at their word; even then
    /// neither the pages of other people nor codings, for actix's own `Compress` leaves the tag as
    /// it is.
    fn others(
        &self,
        asked: &LookupRequest,
        lookup: &Lookup,
        selected: Option<&Arc<StoredResponse>>,
    ) -> Vec<Arc<StoredResponse>> {
        let checked = &self.shared.checked;
        if !checked.trusts_origin_validators() {
            return Vec::new();
        }
        let coordinator = self.shared.store.coordinator();
        let all = lookup.variants.iter().flat_map(|variants| variants.responses());
        all.filter(|stored| {
            selected.is_none_or(|selected| !Arc::ptr_eq(selected, stored))
                && *stored.discriminator == *asked.discriminator
                && is_allowed_for(stored, asked.requester)
                && !stored.selecting.iter().any(|(name, _)| checked.personal.tells(name))
                && stored.lines(&CONTENT_ENCODING).next().is_none()
                && coordinator.is_valid(&asked.key, stored)
        })
        .cloned()
        .collect()
    }

    pub(crate) fn candidate(
        &self,
        request: &mut ServiceRequest,
        asked: LookupRequest,
        lookup: Lookup,
    ) -> Candidate {
        Candidate {
            shared: Arc::clone(&self.shared),
            fill: self.shared.store.coordinator().begin_fill(&asked.key, lookup.stamp),
            named: self.shared.checked.request_tags(request, &asked.matched),
            matched: asked.matched,
            key: asked.key,
            request: request.headers().clone(),
            requester: asked.requester,
            request_no_store: asked.directives.no_store,
            discriminator: asked.discriminator,
            names: lookup
                .variants
                .map(|variants| Box::from(variants.selecting_fields()))
                .unwrap_or_default(),
            requested: asked.now,
            conditions: Conditions::Left,
            leading: None,
            body_seen: watch_payload(request),
        }
    }

    /// Reports what became of a request, and starts to store what is to be stored.
    pub(crate) async fn reply<B>(&self, reply: Reply<B>) -> ServiceResponse<CacheBody<B>> {
        let Reply { mut response, outcome, mut write } = reply;
        if let Some(outcome) = outcome {
            self.finish(&mut response, &outcome);
        }
        // For the context alone: a store that answers at once is not waited for, and neither is
        // any other.
        poll_fn(|cx| {
            if let Some(write) = write.take() {
                write.start(cx);
            }
            Poll::Ready(())
        })
        .await;
        response
    }

    /// Remembers that a cache further in answers for a key, if it did.
    pub(crate) fn note_inner_cache<B>(
        &self,
        response: &ServiceResponse<B>,
        key: &crate::entry::key::CacheKey,
    ) -> bool {
        let owned = is_owned_by_inner_cache(response);
        if owned {
            let now = self.shared.settings.clock.now();
            self.shared.store.coordinator().mark_inner_cache(key, self.layer, now);
        }
        owned
    }
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
