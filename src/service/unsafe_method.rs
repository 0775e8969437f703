//! Requests that may change something: what is stored of it is forgotten before the client learns
//! of the success (section 4.4).

use std::{future::poll_fn, rc::Rc, sync::Arc, task::Poll};

use actix_service::Service;
use actix_web::{
    Error,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::{Method, header::HeaderMap},
};

use crate::{
    entry::key::CacheKey,
    entry::lifetime::LifetimeSource,
    entry::tag::TagId,
    entry::url::UrlTarget,
    fill::write::warn,
    fill::{self, Candidate},
    outcome::{Forward, NotStored, Outcome, Stored},
    policy::{scheme, target_urls},
    purge::execute::{group_of, purge_tags, purge_url},
    semantics::invalidation::{invalidated, represents_target},
    semantics::tags::{CACHE_GROUP_INVALIDATION, groups},
    service::origin::Reply,
    service::{Answer, RequestContext, is_owned_by_inner_cache},
    shared::Shared,
};

/// Runs a handler that may change its resource, and forgets what that makes invalid.
pub(crate) async fn change<S, B>(
    inner: Rc<S>,
    walk: RequestContext,
    mut request: ServiceRequest,
) -> Answer<B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    let (targets, scheme) = (target_urls(&request), scheme(&request));
    let candidate = walk.storable_post(&mut request).await;
    walk.enter(&request);
    let answer = inner.call(request).await;
    let response = match answer {
        Ok(response) => response,
        Err(error) => {
            // What middlewares return as an error is an answer, too, once the server has made it
            // one.
            let status = error.as_response_error().status_code();
            let stale = Stale::of(invalidated(&targets, status, &HeaderMap::new()));
            forget(&walk.shared, stale, None).await;
            return Err(error);
        }
    };
    let invalidated = invalidated(&targets, response.status(), response.headers());
    let groups = if invalidated.is_empty() {
        Vec::new()
    } else {
        groups(response.headers(), &CACHE_GROUP_INVALIDATION)
    };
    let candidate = candidate
        .filter(|_| represents_target(&targets, response.headers()) && !invalidated.is_empty())
        // What others changed meanwhile is younger than this answer.
        .and_then(|mut candidate| {
            candidate.fill = walk.shared.store.coordinator().supersede(&candidate.fill)?;
            Some(candidate)
        });
    // Also where a cache further in has done so: its store may be another.
    let spared = candidate.as_ref().map(|candidate| candidate.key.clone());
    let groups = groups.iter().flat_map(|group| {
        targets.iter().map(|target| group_of(&walk.shared, scheme, &target.host, group))
    });
    let stale = Stale { groups: groups.collect(), ..Stale::of(invalidated) };
    forget(&walk.shared, stale, spared).await;
    let now = walk.shared.settings.clock.now();
    // RFC 9110 section 9.3.3: only with explicit freshness.
    let stored = candidate.filter(|candidate| {
        let plan = candidate.plan(&response, now);
        plan.is_ok_and(|plan| plan.lifetime.source == LifetimeSource::Explicit)
            && !is_owned_by_inner_cache(&response)
    });
    if let Some(candidate) = stored {
        let settled = fill::settle(candidate, response);
        let outcome = Outcome::Forward { reason: Forward::Method, stored: settled.stored };
        return Ok(walk.reply(Reply::settled(settled, outcome)).await);
    }
    let outcome =
        Outcome::Forward { reason: Forward::Method, stored: Stored::No(NotStored::NotAttempted) };
    Ok(walk.passed(response, Some(&outcome)))
}

/// What a change makes invalid.
struct Stale {
    targets: Vec<UrlTarget>,
    /// The groups that the answer names, which are those of its own origin (RFC 9875 section 3).
    groups: Vec<TagId>,
}

impl Stale {
    fn of(targets: Vec<UrlTarget>) -> Self {
        Self { targets, groups: Vec::new() }
    }
}

/// Forgets what is stored of some URLs and groups; to the end, even if the client has gone and nobody
/// waits: the change is made.
async fn forget(shared: &Arc<Shared>, stale: Stale, spared: Option<CacheKey>) {
    let Stale { targets, groups } = stale;
    if targets.is_empty() {
        return;
    }
    let shared = Arc::clone(shared);
    let mut work = Box::pin(async move {
        for target in &targets {
            if let Err(error) = purge_url(&shared, target, spared.as_ref()).await {
                warn(&shared, &error);
            }
        }
        if !groups.is_empty()
            && let Err(error) = purge_tags(&shared, groups).await
        {
            warn(&shared, &error);
        }
    });
    if poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await.is_pending() {
        // A panic of the store is reported by the runtime.
        drop(tokio::spawn(work).await);
    }
}

impl RequestContext {
    /// A POST whose answer could be stored for later GETs of its URL (RFC 9110 section 9.3.3).
    async fn storable_post(&self, request: &mut ServiceRequest) -> Option<Candidate> {
        let checked = &self.shared.checked;
        let draining = self.shared.store.coordinator().is_draining();
        if *request.method() != Method::POST || !checked.stores_posts() || draining {
            return None;
        }
        let matched = checked.match_rules(request)?;
        let key = checked.key(request, &matched).ok().filter(|key| !key.has_parts())?;
        let now = self.shared.settings.clock.now();
        let asked = self.asked(request, matched, key, now);
        let lookup = self.look_up(request.headers(), &asked).await.ok()?;
        let mut candidate = self.candidate(request, asked, lookup);
        // It has a body, of which the answer is the outcome.
        candidate.body_seen = Rc::default();
        candidate.request = without_content(&candidate.request);
        Some(candidate)
    }
}

/// The fields that a GET of the same URL would have.
fn without_content(fields: &HeaderMap) -> HeaderMap {
    let mut fields = fields.clone();
    fields.retain(|name, _| !name.as_str().starts_with("content-") && name != "transfer-encoding");
    fields
}
