//! Requests that may change something: what is stored of it is forgotten before the client learns
//! of the success (section 4.4).

use std::rc::Rc;

use actix_service::Service;
use actix_web::{
    Error,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::{Method, header::HeaderMap},
};

use crate::{
    fill::{self, Candidate},
    handle::purge,
    key::Target,
    outcome::{Forward, NotStored, Outcome, Stored},
    policy::host,
    semantics::invalidation::{invalidated, represents_target},
    service::{Answer, Walk, is_owned_further_in},
    stored::Basis,
};

/// Runs a handler that may change its resource, and forgets what that makes invalid.
pub(crate) async fn change<S, B>(inner: Rc<S>, walk: Walk, mut request: ServiceRequest) -> Answer<B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    let target = host(&request).ok().map(|host| Target {
        host: host.to_owned(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().map(str::to_owned),
    });
    let candidate = walk.storable_post(&mut request).await;
    walk.enter(&request);
    let response = inner.call(request).await?;
    let target = target.filter(|_| !is_owned_further_in(&response));
    let mut candidate = candidate.filter(|_| {
        target.as_ref().is_some_and(|target| represents_target(target, response.headers()))
    });
    if let Some(target) = target {
        let invalidated = invalidated(&target, response.status(), response.headers());
        if !invalidated.is_empty() {
            // What others changed meanwhile is younger than this answer.
            candidate = candidate.and_then(|mut candidate| {
                candidate.fill = walk.shared.store.commons().succeed(&candidate.fill)?;
                Some(candidate)
            });
        }
        for target in &invalidated {
            let spared = candidate.as_ref().map(|candidate| &candidate.fill);
            if let Err(error) = purge(&walk.shared, target, spared).await {
                fill::warn(&walk.shared, &error);
            }
        }
    }
    let now = walk.shared.settings.clock.now();
    // RFC 9110 section 9.3.3: only with explicit freshness.
    let stored = candidate.filter(|candidate| {
        let plan = candidate.plan(&response, now);
        plan.is_ok_and(|plan| plan.lifetime.basis == Basis::Explicit)
    });
    if let Some(candidate) = stored {
        let settled = fill::settle(candidate, response);
        let outcome = Outcome::Forward { reason: Forward::Method, stored: settled.stored };
        return Ok(walk.settled(settled, outcome).await);
    }
    let outcome =
        Outcome::Forward { reason: Forward::Method, stored: Stored::No(NotStored::Forwarded) };
    Ok(walk.passed(response, Some(&outcome)))
}

impl Walk {
    /// A POST whose answer could be stored for later GETs of its URL (RFC 9110 section 9.3.3).
    async fn storable_post(&self, request: &mut ServiceRequest) -> Option<Candidate> {
        let checked = &self.shared.checked;
        if *request.method() != Method::POST || !checked.stores_posts() {
            return None;
        }
        let matched = checked.admit(request)?;
        let key = checked.key(request, &matched).ok().filter(|key| !key.has_parts())?;
        let lookup = self.look_up(&key).await.ok()?;
        let now = self.shared.settings.clock.now();
        let asked = self.asked(request, matched, key, now);
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
