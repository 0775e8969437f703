//! Unsafe methods: POST, PUT, DELETE and unknown ones invalidate stored responses before the client
//! learns of their success (RFC 9111 section 4.4).

use std::{rc::Rc, sync::Arc};

use actix_service::Service;
use actix_web::{
    Error,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::{Method, header::HeaderMap},
};

use super::{
    context::{RequestContext, is_owned_by_inner_cache},
    reply::Reply,
};
use crate::{
    entry::{key::CacheKey, lifetime::LifetimeSource, tag::TagId, url::UrlTarget},
    fill::{candidate::Candidate, store::fill},
    outcome::{Forward, NotStored, Outcome, Stored},
    policy::request_url::{scheme, target_urls},
    poll_once::to_completion,
    purge::{
        execute::{purge_tags, purge_url},
        tags::group_tag,
    },
    response::body::CacheBody,
    semantics::{
        invalidation::{invalidated, represents_target},
        request::without_content_fields,
        tags::{CACHE_GROUP_INVALIDATION, groups},
    },
    shared::Shared,
};

/// Calls the handler with an unsafe request, and invalidates what its response makes invalid.
pub(crate) async fn call_unsafe<S, B>(
    inner: Rc<S>,
    context: RequestContext,
    mut request: ServiceRequest,
) -> Result<ServiceResponse<CacheBody<B>>, Error>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    let (targets, scheme) = (target_urls(&request), scheme(&request));
    let choices = context.shared.policy.invalidation_choices();
    let candidate = context.storable_post(&mut request).await;
    context.enter(&request);
    let response = match inner.call(request).await {
        Ok(response) => response,
        Err(error) => {
            // Servers turn the errors of middlewares into responses, which count like others.
            let status = error.as_response_error().status_code();
            let urls = invalidated(&targets, status, &HeaderMap::new(), choices);
            invalidate(&context.shared, Invalidated { urls, groups: Vec::new() }, None).await;
            return Err(error);
        }
    };
    let urls = invalidated(&targets, response.status(), response.headers(), choices);
    let groups = invalidated_groups(&context.shared, &urls, &targets, scheme, &response);
    let candidate = candidate
        .filter(|_| represents_target(&targets, response.headers()) && !urls.is_empty())
        .and_then(|mut candidate| {
            // An invalidation by another request in the meantime is younger than this response.
            candidate.fill = context.shared.store.coordinator().supersede(&candidate.fill)?;
            Some(candidate)
        });
    // A cache further in may have another store, so this cache invalidates as well.
    let kept = candidate.as_ref().map(|candidate| candidate.key.clone());
    invalidate(&context.shared, Invalidated { urls, groups }, kept).await;
    Ok(context.store_post_response(candidate, response).await)
}

/// The groups that the response invalidates. They belong to its own origin (RFC 9875 section 3).
fn invalidated_groups<B>(
    shared: &Shared,
    urls: &[UrlTarget],
    targets: &[UrlTarget],
    scheme: &str,
    response: &ServiceResponse<B>,
) -> Vec<TagId> {
    if urls.is_empty() {
        return Vec::new();
    }
    let groups = groups(response.headers(), &CACHE_GROUP_INVALIDATION);
    let of_targets = |group: &String| {
        let tags = targets.iter().map(|target| group_tag(shared, scheme, &target.host, group));
        tags.collect::<Vec<_>>()
    };
    groups.iter().flat_map(of_targets).collect()
}

/// The URLs and groups that a successful unsafe request invalidates.
struct Invalidated {
    urls: Vec<UrlTarget>,
    groups: Vec<TagId>,
}

/// Invalidates URLs and groups, even if the client goes away meanwhile: the handler has made its
/// change. Fills of the key `kept` continue: the response of this request is stored under it.
async fn invalidate(shared: &Arc<Shared>, invalidated: Invalidated, kept: Option<CacheKey>) {
    let Invalidated { urls, groups } = invalidated;
    if urls.is_empty() {
        return;
    }
    let shared = Arc::clone(shared);
    to_completion(async move {
        for url in &urls {
            if let Err(error) = purge_url(&shared, url, kept.as_ref()).await {
                shared.warn_about_store(&error);
            }
        }
        if !groups.is_empty()
            && let Err(error) = purge_tags(&shared, groups).await
        {
            shared.warn_about_store(&error);
        }
    })
    .await;
}

impl RequestContext {
    /// A POST whose response may be stored for later GETs of its URL (RFC 9110 section 9.3.3).
    async fn storable_post(&self, request: &mut ServiceRequest) -> Option<Box<Candidate>> {
        let policy = &self.shared.policy;
        let draining = self.shared.store.coordinator().is_draining();
        if *request.method() != Method::POST || !policy.stores_posts() || draining {
            return None;
        }
        let matched = policy.match_rules(request)?;
        let key = policy.key(request, &matched).ok().filter(|key| !key.has_parts())?;
        let cache_request = self.cache_request(request, matched, key, self.shared.now());
        let lookup = self.lookup(request.headers(), &cache_request).await.ok()?;
        let mut candidate = self.candidate(request, cache_request, lookup);
        // Unlike a GET, a POST has content, and its response is the result of that content.
        candidate.body_seen = Rc::default();
        candidate.request = without_content_fields(&candidate.request);
        Some(candidate)
    }

    /// Stores the response to a POST where that is allowed: with explicit freshness only (RFC 9110
    /// section 9.3.3).
    async fn store_post_response<B: MessageBody + 'static>(
        &self,
        candidate: Option<Box<Candidate>>,
        response: ServiceResponse<B>,
    ) -> ServiceResponse<CacheBody<B>> {
        let now = self.shared.now();
        let candidate = candidate.filter(|candidate| {
            let plan = candidate.plan(&response, now);
            plan.is_ok_and(|plan| plan.lifetime.source == LifetimeSource::Explicit)
                && !is_owned_by_inner_cache(&response)
        });
        let reason = Forward::Method;
        match candidate {
            Some(candidate) => {
                let reply = fill(candidate, response, None);
                let outcome = Outcome::Forward { reason, stored: reply.stored };
                self.complete(Reply::filled(reply, outcome)).await
            }
            None => {
                let stored = Stored::No(NotStored::NotAttempted);
                self.complete_passed(response, Some(&Outcome::Forward { reason, stored }))
            }
        }
    }
}
