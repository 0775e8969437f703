//! Handles requests with unsafe methods: `POST`, `PUT`, `DELETE` and all methods that the cache
//! does not know. If such a request succeeds, the cache invalidates stored responses before it
//! sends the response to the client (RFC 9111 section 4.4).

use std::rc::Rc;

use actix_service::Service;
use actix_web::{
    Error,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::{Method, header::HeaderMap},
};

use super::{
    context::{RequestContext, is_owned_by_inner_cache},
    reply::{PassReport, Reply},
};
use crate::{
    entry::{key::CacheKey, lifetime::LifetimeSource, url::UrlTarget},
    fill::{begin::fill, candidate::Candidate},
    options::scope,
    outcome::{Forward, Outcome},
    policy::request_url::{scheme, target_urls},
    poll_once::to_completion,
    purge::{
        execute::{purge_tags, purge_url},
        report::{report_by_request, url_scope},
        target_tags::{group_tag, tags_of_path},
    },
    purge_event::PurgeScope,
    response::body::CacheBody,
    semantics::{
        invalidation::{InvalidationChoices, Queries, invalidated, represents_target},
        request::describes_content,
        special_fields::SpecialFields,
        tags::{CACHE_GROUP_INVALIDATION, groups},
    },
    shared::{Mode, Shared, SharedRef},
};

/// Calls the handler with an unsafe request. If the request succeeds, invalidates the stored
/// responses that the request may have changed.
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
    let choices = context.policy().invalidation_choices();
    let candidate = context.storable_post(&mut request).await;
    context.enter(&mut request);
    context.adapt_to_codings(&mut request);
    let response = match &candidate {
        Some(_) => scope::call(&*inner, request).await,
        None => inner.call(request).await,
    };
    let response = match response {
        Ok(response) => response,
        Err(error) => {
            // The server turns the error of a middleware into a response. Its status code decides,
            // like that of any other response, whether stored responses are invalidated.
            let status = error.as_response_error().status_code();
            let urls = invalidated(&targets, status, &HeaderMap::new(), choices);
            let invalidated = Invalidated::new(urls, targets, choices);
            invalidate(&context.shared, invalidated, None).await;
            return Err(error);
        }
    };
    let urls = invalidated(&targets, response.status(), response.headers(), choices);
    let groups = invalidated_groups(&urls, &targets, scheme, &response);
    let candidate = candidate
        .filter(|_| represents_target(&targets, response.headers()) && !urls.is_empty())
        .and_then(|mut candidate| {
            // If another request has invalidated the key in the meantime, this response may be
            // outdated and is not stored.
            candidate.fill = context.shared.store.coordinator().supersede(&candidate.fill)?;
            Some(candidate)
        });
    // An inner cache may have another store, so this cache also invalidates if an inner cache does.
    let kept = candidate.as_ref().map(|candidate| candidate.key.clone());
    let invalidated = Invalidated { groups, ..Invalidated::new(urls, targets, choices) };
    invalidate(&context.shared, invalidated, kept).await;
    Ok(context.store_post_response(candidate, response).await)
}

/// Returns the cache groups that the response invalidates by `Cache-Group-Invalidation`. Only groups
/// of the origin of the request are invalidated (RFC 9875 section 3).
fn invalidated_groups<B>(
    urls: &[UrlTarget],
    targets: &[UrlTarget],
    scheme: &'static str,
    response: &ServiceResponse<B>,
) -> Vec<Group> {
    if urls.is_empty() {
        return Vec::new();
    }
    let groups = groups(response.headers(), &CACHE_GROUP_INVALIDATION);
    let of_targets = |name: &String| {
        let group =
            |target: &UrlTarget| Group { scheme, host: target.host.clone(), name: name.clone() };
        targets.iter().map(group).collect::<Vec<_>>()
    };
    groups.iter().flat_map(of_targets).collect()
}

/// A cache group of one origin (RFC 9875 section 2.1).
struct Group {
    scheme: &'static str,
    host: String,
    name: String,
}

/// The responses that a successful unsafe request invalidates.
struct Invalidated {
    urls: Vec<UrlTarget>,
    /// URLs whose paths are invalidated with every query.
    paths: Vec<UrlTarget>,
    groups: Vec<Group>,
}

impl Invalidated {
    /// Makes the invalidation of `urls`, which include the targets of the request.
    fn new(
        mut urls: Vec<UrlTarget>,
        targets: Vec<UrlTarget>,
        choices: InvalidationChoices,
    ) -> Self {
        let mut paths = Vec::new();
        if choices.queries == Queries::All && !urls.is_empty() {
            let same_path = |one: &UrlTarget, other: &UrlTarget| {
                one.host == other.host && one.path == other.path
            };
            urls.retain(|url| !targets.iter().any(|target| same_path(target, url)));
            paths = targets;
        }
        Self { urls, paths, groups: Vec::new() }
    }
}

/// Invalidates URLs, paths and groups. The invalidation is completed even if the client disconnects,
/// because the handler has already changed its data. Fills (handler calls in progress) of the key
/// `kept` are not invalidated, because the response to this request will be stored under this key.
async fn invalidate(shared: &SharedRef, invalidated: Invalidated, kept: Option<CacheKey>) {
    let Invalidated { urls, paths, groups } = invalidated;
    if urls.is_empty() && paths.is_empty() {
        return;
    }
    let shared = shared.clone();
    to_completion(async move {
        for url in &urls {
            let result = purge_url(&shared, url, kept.as_ref()).await;
            report_by_request(&shared, &result, || url_scope(Some(url.host.clone()), url));
            if let Err(error) = result {
                shared.warn_about_store(&error);
            }
        }
        for UrlTarget { host, path, .. } in paths {
            let result = purge_tags(&shared, tags_of_path(&shared, Some(&host), &path)).await;
            report_by_request(&shared, &result, || PurgeScope::Path { host: Some(host), path });
            if let Err(error) = result {
                shared.warn_about_store(&error);
            }
        }
        let tag = |group: &Group| group_tag(&shared, group.scheme, &group.host, &group.name);
        let result = purge_tags(&shared, groups.iter().map(tag).collect()).await;
        for Group { host, name, .. } in groups {
            report_by_request(&shared, &result, || PurgeScope::Group { host, group: name });
        }
        if let Err(error) = result {
            shared.warn_about_store(&error);
        }
    })
    .await;
}

impl RequestContext {
    /// Makes the [`Candidate`] (the data for storing a response) for a POST request whose response
    /// may answer later GET requests for the URL (RFC 9110 section 9.3.3). Returns `None` for all
    /// other requests.
    async fn storable_post(&self, request: &mut ServiceRequest) -> Option<Box<Candidate>> {
        let Shared { policies, store, .. } = &*self.shared;
        let is_post = *request.method() == Method::POST;
        let may_store = policies.stores_posts && self.shared.settings.mode.get() == Mode::On;
        if !is_post || !may_store || store.coordinator().is_draining() {
            return None;
        }
        // The response will answer GET requests.
        let rule = policies.applied_rule_for(request, &Method::GET)?;
        let special = SpecialFields::ALL;
        let context = Self { rule, special, ..self.clone() };
        let policy = context.policy();
        // The purge of a path would make the response to this request invalid, too.
        let purges_path = self.policy().invalidation_choices().queries == Queries::All;
        if !policy.stores_posts() || purges_path {
            return None;
        }
        let key = policy.key(request, None).ok();
        let key = key.filter(|request_key| !request_key.key.has_parts())?;
        let now = self.shared.now();
        let discriminator = policy.discriminator(self.layer, request, special).ok()?;
        let cache_request = context.cache_request(request, key, discriminator, None, None, now);
        let lookup = context.lookup(request.headers(), &cache_request).await.ok()?;
        let mut candidate = context.candidate(request, cache_request, lookup, None);
        candidate.request.retain(|name| !describes_content(name));
        Some(candidate)
    }

    /// Completes the response to an unsafe request. Stores the response if there is a candidate
    /// (only for a POST request), if the response may be stored, and if its freshness is explicit
    /// (RFC 9110 section 9.3.3).
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
                let judged = candidate.judge(response);
                let reply = fill(candidate, judged, None);
                let outcome = Outcome::Forward { reason, stored: reply.stored };
                self.complete(Reply::filled(reply, outcome).coded_while_sending(self))
            }
            None => self.complete_passed(response, PassReport::Reason(reason)),
        }
    }
}
