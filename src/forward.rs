//! Asking the handler: for what is not stored, or whether what is stored still holds.

use std::{
    cell::Cell,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::Arc,
    task::Poll,
};

use actix_service::Service;
use actix_web::{
    Error, HttpMessage, HttpResponse,
    body::{BodySize, MessageBody},
    dev::{Payload, ServiceRequest, ServiceResponse},
    error::ErrorInternalServerError,
    http::{
        Method, StatusCode, Version,
        header::{CONTENT_ENCODING, HeaderMap, RANGE},
    },
};
use futures_util::StreamExt as _;

use crate::{
    body::CacheBody,
    collapse::Turn,
    fill::{self, Candidate, Conditions, Settled},
    freshen,
    hit::{answer, is_conditional},
    mirror::Mirror,
    outcome::{Forward, NotStored, Outcome, Stored},
    semantics::{
        reuse::{is_for, rescues},
        validation::{Offer, Said, identified, said_by_head, take_conditions},
    },
    service::{Answer, Asked, Walk, is_owned_further_in},
    store::Lookup,
    stored::StoredResponse,
    time::Now,
};

/// A request for the handler, and what is known of it.
pub(crate) struct Inquiry {
    pub(crate) asked: Asked,
    pub(crate) lookup: Lookup,
    pub(crate) reason: Forward,
    /// What is stored and would answer if it still holds.
    pub(crate) selected: Option<Arc<StoredResponse>>,
}

/// Asks the handler, and stores or freshens by what it answers.
pub(crate) async fn forward<S, B>(
    inner: Rc<S>,
    walk: Walk,
    mut request: ServiceRequest,
    inquiry: Box<Inquiry>,
) -> Answer<B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    let (inquiry, leading) = match walk.turn(&request, inquiry).await {
        Turn::Ask(inquiry, leading) => (inquiry, leading),
        Turn::Answer(response, outcome) => return Ok(walk.answered(request, response, outcome)),
        Turn::Pass(reason) => {
            walk.enter(&request);
            let outcome = Outcome::Forward { reason, stored: Stored::No(NotStored::Forwarded) };
            return Ok(walk.passed(inner.call(request).await?, Some(&outcome)));
        }
    };
    walk.enter(&request);
    let Inquiry { asked, lookup, reason, selected } = *inquiry;
    if *request.method() == Method::HEAD {
        return head(inner, walk, request, asked, lookup, reason, selected).await;
    }
    // A part of what is not stored is none of ours: it may be a second of a film.
    if selected.is_none() && request.headers().contains_key(RANGE) {
        let response = inner.call(request).await?;
        walk.note_owner(&response, &asked.key);
        let outcome = Outcome::Forward { reason, stored: Stored::No(NotStored::Range) };
        return Ok(walk.passed(response, Some(&outcome)));
    }
    let others = walk.others(&asked, &lookup, selected.as_ref());
    // Somebody's own page may have the tag of everybody's: their handler knows.
    let forwards = walk.shared.checked.forwards_conditions() || !asked.requester.anonymous();
    let mut candidate = walk.candidate(&mut request, asked, lookup);
    candidate.leading = leading;
    let offer = Offer::of(selected.as_deref(), &others);
    let mut asks = !offer.is_empty();
    let windows = walk.shared.checked.windows();
    // What rescues nobody now will not later.
    let rescuer = selected.as_ref().filter(|stored| rescues(stored, windows, candidate.requested));
    let mirror = (asks || rescuer.is_some()).then(|| Mirror::of(&request));
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
    let answer = inner.call(request).await;
    if let Some(leading) = &mut candidate.leading {
        leading.answered();
    }
    let mut response = match answer {
        Ok(response) => response,
        Err(error) => {
            let rescue = selected.zip(mirror);
            return walk.rescued_without_answer(&Method::GET, rescue, &candidate, reason, error);
        }
    };
    let owned = walk.note_owner(&response, &candidate.key);
    if asks && response.status() == StatusCode::NOT_MODIFIED {
        let identified = || identified(response.headers(), selected.as_ref(), &others);
        match (!owned).then(identified).flatten() {
            Some(stored) => {
                let settled = freshen::by_not_modified(candidate, &stored, response);
                let outcome = Outcome::Validated { reason, stored: settled.stored };
                return Ok(walk.settled(settled, outcome).await);
            }
            // Section 4.3.3: it speaks of something that is not here, and not to the client.
            None => response = again(&*inner, mirror, response).await?,
        }
    }
    if owned {
        return Ok(fill::pass(response));
    }
    if let Some(stored) = selected
        && let Some(answered) = walk.rescued(&Method::GET, &stored, &candidate, &response, reason)
    {
        return Ok(walk.in_place_of(response, answered, reason));
    }
    let settled = fill::settle(candidate, response);
    let outcome = Outcome::Forward { reason, stored: settled.stored };
    Ok(walk.settled(settled, outcome).await)
}

/// Asks by HEAD, whose answer has no body to store, but may speak of what is stored (section
/// 4.3.5).
async fn head<S, B>(
    inner: Rc<S>,
    walk: Walk,
    mut request: ServiceRequest,
    asked: Asked,
    lookup: Lookup,
    reason: Forward,
    selected: Option<Arc<StoredResponse>>,
) -> Answer<B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    let key = asked.key.clone();
    let candidate = selected.is_some().then(|| walk.candidate(&mut request, asked, lookup));
    let mirror = candidate.is_some().then(|| Mirror::of(&request));
    let mut response = match inner.call(request).await {
        Ok(response) => response,
        Err(error) => {
            let Some(candidate) = candidate else { return Err(error) };
            let rescue = selected.zip(mirror);
            return walk.rescued_without_answer(&Method::HEAD, rescue, &candidate, reason, error);
        }
    };
    if walk.note_owner(&response, &key) {
        return Ok(fill::pass(response));
    }
    let mut write = None;
    if let (Some(candidate), Some(stored)) = (candidate, selected) {
        if let Some(answered) = walk.rescued(&Method::HEAD, &stored, &candidate, &response, reason)
        {
            return Ok(walk.in_place_of(response, answered, reason));
        }
        // The server states the length of what the handler made, whatever the fields say.
        let same_length = match response.response().body().size() {
            BodySize::Sized(length @ 1..) => length == stored.body.len() as u64,
            BodySize::Sized(0) | BodySize::Stream | BodySize::None => true,
        };
        let said = said_by_head(response.headers(), &stored);
        if response.status() != StatusCode::OK {
            // Section 4.3.5 speaks of 200 alone.
        } else if !same_length || said == Said::Outdated {
            candidate.forget().await;
        } else if said == Said::Holds
            || (said == Said::Nothing && walk.shared.checked.takes_at_word())
        {
            write = freshen::by_head(candidate, &stored, &mut response);
        }
    }
    let stored = Stored::No(NotStored::Head);
    let settled = Settled { response: fill::pass(response), stored, write };
    Ok(walk.settled(settled, Outcome::Forward { reason, stored }).await)
}

/// Asks once more, without conditions.
async fn again<S, B>(
    inner: &S,
    before: Option<Mirror>,
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
    take_conditions(fields);
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

/// Status codes by which a handler says that it failed, rather than that the request did.
fn has_failed(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

impl Walk {
    /// The other variants whose entity tags a handler may be offered.
    ///
    /// A handler that gives pages which differ the same tag is one that clients never notice: each
    /// asks by the tag of its own. So only where the policy takes origins at their word; even then
    /// neither the pages of other people nor codings, for actix's own `Compress` leaves the tag as
    /// it is.
    fn others(
        &self,
        asked: &Asked,
        lookup: &Lookup,
        selected: Option<&Arc<StoredResponse>>,
    ) -> Vec<Arc<StoredResponse>> {
        let checked = &self.shared.checked;
        if !checked.takes_at_word() {
            return Vec::new();
        }
        let commons = self.shared.store.commons();
        let all = lookup.variants.iter().flat_map(|variants| variants.responses());
        all.filter(|stored| {
            selected.is_none_or(|selected| !Arc::ptr_eq(selected, stored))
                && *stored.split == *asked.split
                && is_for(stored, asked.requester)
                && !stored.selecting.iter().any(|(name, _)| checked.personal.tells(name))
                && stored.lines(&CONTENT_ENCODING).next().is_none()
                && commons.is_valid(stored)
        })
        .cloned()
        .collect()
    }

    pub(crate) fn candidate(
        &self,
        request: &mut ServiceRequest,
        asked: Asked,
        lookup: Lookup,
    ) -> Candidate {
        Candidate {
            shared: Arc::clone(&self.shared),
            fill: self.shared.store.commons().begin_fill(&asked.key, lookup.stamp),
            matched: asked.matched,
            key: asked.key,
            request: request.headers().clone(),
            requester: asked.requester,
            request_no_store: asked.directives.no_store,
            split: asked.split,
            names: lookup.variants.map(|variants| Box::from(variants.names())).unwrap_or_default(),
            requested: asked.now,
            conditions: Conditions::Left,
            leading: None,
            body_seen: watch_payload(request),
        }
    }

    /// Whether a stored answer may stand in for a handler's with this status. Not one that was
    /// purged since it was looked up.
    fn may_rescue(
        &self,
        stored: &StoredResponse,
        candidate: &Candidate,
        status: StatusCode,
    ) -> bool {
        let now = self.shared.settings.clock.now();
        has_failed(status)
            && rescues(stored, self.shared.checked.windows(), now)
            && !candidate.fill.is_overtaken()
            && self.shared.store.commons().is_valid(stored)
    }

    /// The stored answer in place of a handler's failure, where that is allowed; not where the
    /// failure is itself meant to be stored.
    fn rescued<B: MessageBody>(
        &self,
        method: &Method,
        stored: &StoredResponse,
        candidate: &Candidate,
        response: &ServiceResponse<B>,
        reason: Forward,
    ) -> Option<HttpResponse<CacheBody<B>>> {
        let now = self.shared.settings.clock.now();
        if !self.may_rescue(stored, candidate, response.status())
            || candidate.plan(response, now).is_ok()
        {
            return None;
        }
        log::debug!("stale instead of {} ({})", response.status(), reason.token());
        Some(stale(method, &candidate.request, stored, now))
    }

    fn in_place_of<B>(
        &self,
        failed: ServiceResponse<B>,
        answered: HttpResponse<CacheBody<B>>,
        reason: Forward,
    ) -> ServiceResponse<CacheBody<B>> {
        let status = Some(failed.status());
        let mut response = ServiceResponse::new(failed.into_parts().0, answered);
        self.finish(&mut response, &Outcome::Rescued { reason, status });
        response
    }

    /// The same where the handler returned an error, and the request with it is lost.
    fn rescued_without_answer<B>(
        &self,
        method: &Method,
        rescue: Option<(Arc<StoredResponse>, Mirror)>,
        candidate: &Candidate,
        reason: Forward,
        error: Error,
    ) -> Answer<B> {
        let now = self.shared.settings.clock.now();
        let status = error.as_response_error().status_code();
        let rescue = rescue.filter(|(stored, _)| self.may_rescue(stored, candidate, status));
        let Some((stored, mirror)) = rescue else { return Err(error) };
        log::debug!("stale instead of an error ({})", reason.token());
        log::trace!("{error}");
        let answered = stale(method, &candidate.request, &stored, now);
        let mut response = ServiceResponse::new(mirror.into_request(), answered);
        self.finish(&mut response, &Outcome::Rescued { reason, status: None });
        Ok(response)
    }

    /// Reports what became of a request, and starts to store what is to be stored.
    pub(crate) async fn settled<B>(
        &self,
        settled: Settled<B>,
        outcome: Outcome,
    ) -> ServiceResponse<CacheBody<B>> {
        let Settled { mut response, mut write, .. } = settled;
        self.finish(&mut response, &outcome);
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
    pub(crate) fn note_owner<B>(
        &self,
        response: &ServiceResponse<B>,
        key: &crate::key::Key,
    ) -> bool {
        let owned = is_owned_further_in(response);
        if owned {
            let now = self.shared.settings.clock.now();
            self.shared.store.commons().note_further_in(key, self.layer, now);
        }
        owned
    }
}

fn stale<B>(
    method: &Method,
    request: &HeaderMap,
    stored: &StoredResponse,
    now: Now,
) -> HttpResponse<CacheBody<B>> {
    let lifetime = stored.lifetime();
    let left = lifetime.left(now).unwrap_or_default();
    answer(method, request, stored, lifetime.age(now), left, now)
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
