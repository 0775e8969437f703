//! Calls the handler for requests whose responses are not stored, and lists the tags of the responses
//! for a CDN in front of the application ([`Policy::emit_tags`](crate::Policy::emit_tags)).

use actix_service::Service;
use actix_web::{
    Error,
    dev::{ServiceRequest, ServiceResponse},
};

use super::context::{RequestContext, is_owned_by_inner_cache};
use crate::{fill::emit::emit_tags, options::scope};

/// Calls the handler for a `GET` or `HEAD` request whose response is not stored. If the policy says
/// so, the response lists its tags, because a CDN may store it.
pub(super) async fn call_with_tags<S, B>(
    inner: &S,
    context: &RequestContext,
    request: ServiceRequest,
) -> Result<ServiceResponse<B>, Error>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
{
    let policy = context.policy();
    if !policy.emits_tags() {
        return inner.call(request).await;
    }
    let request_tags = policy.request_tags(&request);
    let mut response = scope::call(inner, request).await?;
    if !is_owned_by_inner_cache(&response) {
        emit_tags(policy, &context.shared.settings.options, &request_tags, &mut response);
    }
    Ok(response)
}
