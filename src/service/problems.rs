//! Reports problems that make a cache useless without an error.

use actix_web::dev::ServiceRequest;

use super::context::{CacheRequest, RequestContext};
use crate::{coordination::problems::Problem, entry::key::CacheKey, store::interface::Lookup};

impl RequestContext {
    /// Reports a request for which other variants of its resource were stored, if the requests for
    /// the resource hardly ever find their variant.
    pub(super) fn note_other_variant(
        &self,
        request: &ServiceRequest,
        cache_request: &CacheRequest,
        lookup: &Lookup,
    ) {
        if self.note(Problem::OtherVariant, cache_request) {
            let fields = lookup.variants.as_deref().map(|variants| variants.selecting_fields());
            let fields: Vec<_> =
                fields.unwrap_or_default().iter().map(|name| name.as_str()).collect();
            log::warn!(
                "64 requests for one page of `{}` within a minute each needed another variant: the \
                 page varies by `{}`, and hardly any request finds its variant. Vary by fewer fields, \
                 or normalize them (Policy::vary_languages, vary_codings, vary_cookie)",
                route(request),
                fields.join(", ")
            );
        }
    }

    /// Reports a failed refresh of `key`, if the refreshes of the page keep failing.
    pub(super) fn note_failed_refresh(&self, route: &str, key: &CacheKey) {
        let coordinator = self.shared.store.coordinator();
        if coordinator.note_problem(Problem::FailedRefresh, key, self.shared.now()) {
            log::warn!(
                "the last 5 refreshes of a page of `{route}` failed: clients get the stale page until \
                 its stale window ends. See the errors and Cache-Control of its handler"
            );
        }
    }

    /// Reports a stale response whose request may not start a refresh, if no request for the page
    /// may.
    pub(super) fn note_refused_refresh(
        &self,
        request: &ServiceRequest,
        cache_request: &CacheRequest,
    ) {
        if self.note(Problem::RefusedRefresh, cache_request) {
            log::warn!(
                "20 stale responses of a page of `{}` were served without a refresh, because each \
                 request had cookies or credentials: the page stays stale until its stale window \
                 ends. Name cookies without personal meaning in Policy::ignore_cookies",
                route(request)
            );
        }
    }

    fn note(&self, problem: Problem, cache_request: &CacheRequest) -> bool {
        let coordinator = self.shared.store.coordinator();
        coordinator.note_problem(problem, &cache_request.key, cache_request.now)
    }
}

/// Returns the pattern of the resource that handles a request. The path itself may contain personal
/// data.
pub(super) fn route(request: &ServiceRequest) -> String {
    request.match_pattern().unwrap_or_else(|| "(no route)".to_owned())
}
