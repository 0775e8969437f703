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
    Error, HttpMessage,
    body::MessageBody,
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
    inquiry: Inquiry,
) -> Answer<B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    walk.enter(&request);
    let Inquiry { asked, lookup, reason, selected } = inquiry;
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
    let offer = Offer::of(selected.as_deref(), &others);
    let mut asks = !offer.is_empty();
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
    let windows = walk.shared.checked.windows();
    // What rescues nobody now will not later.
    let rescuer = selected.as_ref().filter(|stored| rescues(stored, windows, candidate.requested));
    let mirror = rescuer.map(|_| Mirror::of(request.head()));
    let mut response = match inner.call(request).await {
        Ok(response) => response,
        Err(error) => {
            return walk.rescued_without_answer(selected, mirror, &candidate, reason, error);
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
            None => response = again(&*inner, response).await?,
        }
    }
    if owned {
        return Ok(fill::pass(response));
    }
    if let Some(stored) = selected
        && let Some(answered) = walk.rescued(&stored, &candidate, &response, reason)
    {
        let (request, failed) = response.into_parts();
        let status = Some(failed.status());
        let mut response = ServiceResponse::new(request, answered);
        walk.finish(&mut response, &Outcome::Rescued { reason, status });
        return Ok(response);
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
    let mut response = inner.call(request).await?;
    if walk.note_owner(&response, &key) {
        return Ok(fill::pass(response));
    }
    let mut write = None;
    if let (Some(candidate), Some(stored)) = (candidate, selected)
        && response.status() == StatusCode::OK
    {
        match said_by_head(response.headers(), &stored) {
            Said::Holds => write = freshen::by_head(candidate, &stored, &mut response),
            Said::Outdated => candidate.forget().await,
            Said::Nothing => {}
        }
    }
    let stored = Stored::No(NotStored::Head);
    let settled = Settled { response: fill::pass(response), stored, write };
    Ok(walk.settled(settled, Outcome::Forward { reason, stored }).await)
}

/// Asks once more, without conditions.
async fn again<S, B>(inner: &S, response: ServiceResponse<B>) -> Result<ServiceResponse<B>, Error>
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
    // Routing has consumed the path.
    request.match_info_mut().reset();
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
        if !checked.offers_all_variants() {
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
        stored: &StoredResponse,
        candidate: &Candidate,
        failed: &ServiceResponse<B>,
        reason: Forward,
    ) -> Option<actix_web::HttpResponse<CacheBody<B>>> {
        let now = self.shared.settings.clock.now();
        if !self.may_rescue(stored, candidate, failed.status())
            || candidate.plan(failed, now).is_ok()
        {
            return None;
        }
        log::debug!("stale instead of {} ({})", failed.status(), reason.token());
        Some(self.stale(stored, &candidate.request))
    }

    /// The same where the handler returned an error, and the request with it is lost.
    fn rescued_without_answer<B>(
        &self,
        selected: Option<Arc<StoredResponse>>,
        mirror: Option<Mirror>,
        candidate: &Candidate,
        reason: Forward,
        error: Error,
    ) -> Answer<B> {
        let status = error.as_response_error().status_code();
        let rescuer = selected.filter(|stored| self.may_rescue(stored, candidate, status));
        let (Some(stored), Some(mirror)) = (rescuer, mirror) else { return Err(error) };
        log::debug!("stale instead of an error ({})", reason.token());
        log::trace!("{error}");
        let response = self.stale(&stored, &candidate.request);
        let mut response = ServiceResponse::new(mirror.into_request(), response);
        self.finish(&mut response, &Outcome::Rescued { reason, status: None });
        Ok(response)
    }

    fn stale<B>(
        &self,
        stored: &StoredResponse,
        request: &HeaderMap,
    ) -> actix_web::HttpResponse<CacheBody<B>> {
        let now = self.shared.settings.clock.now();
        let lifetime = stored.lifetime();
        let left = lifetime.left(now).unwrap_or_default();
        answer(&Method::GET, request, stored, lifetime.age(now), left, now)
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
