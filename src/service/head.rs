//! Handles HEAD requests that the cache passes to the handler. The response to HEAD has no body
//! that could be stored, but it can update a stored response (RFC 9111 section 4.3.5).

use std::{pin::pin, rc::Rc, sync::Arc};

use actix_service::Service;
use actix_web::{
    Error,
    body::{BodySize, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::StatusCode,
    rt::time::timeout,
};

use super::{
    context::{OriginRequest, RequestContext},
    not_modified::{freshen_by_head, remove_entry},
    passed_tags::call_with_tags,
    reply::Reply,
    stand_in::StandIn,
};
use crate::{
    entry::response::StoredResponse,
    fill::{candidate::Candidate, emit::emit_tags, write::Write},
    options::scope,
    outcome::{NotStored, Outcome},
    semantics::{
        reuse::is_server_failure,
        validation::{HeadVerdict, compare_head},
    },
};

/// Calls the handler with a HEAD request, and updates the stored response if there is one.
pub(super) async fn fetch_head<S, B>(
    inner: Rc<S>,
    context: RequestContext,
    request: ServiceRequest,
    origin: OriginRequest,
) -> Result<Reply<B>, Error>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    let OriginRequest { cache_request, lookup, reason, selected, .. } = origin;
    let own_responses = context.own_responses(&cache_request, &lookup);
    let Some(selected) = selected else {
        let response = call_with_tags(&*inner, &context, request).await?;
        if context.note_inner_cache(
            &response,
            &cache_request.key,
            &cache_request.discriminator,
            own_responses,
        ) {
            return Ok(Reply::owned_by_inner_cache(response));
        }
        return Ok(Reply::passed(response, reason, NotStored::Head));
    };
    let candidate = context.candidate(&request, cache_request, lookup, None);
    let stand_in = Box::new(StandIn::of(&request));
    let mut call = pin!(scope::call(&*inner, request));
    let result = match timeout(context.policy().wait_limit(), call.as_mut()).await {
        Ok(result) => result,
        Err(_) => {
            let stale = context.stale_for_timeout(&selected, &candidate);
            match stale.zip(stand_in.clone().into_request()) {
                Some((response, request)) => {
                    let outcome = Outcome::StaleIfError { reason, status: None };
                    return Ok(Reply::cached(request, response, outcome));
                }
                None => call.await,
            }
        }
    };
    let mut response = match result {
        Ok(response) => response,
        Err(error) => {
            let fallback = Some((selected, stand_in));
            return context.stale_for_error(fallback, &candidate, reason, error);
        }
    };
    if context.note_inner_cache(&response, &candidate.key, &candidate.discriminator, own_responses)
    {
        return Ok(Reply::owned_by_inner_cache(response));
    }
    let status = response.status();
    // An error that would be stored in response to GET answers the request.
    let failed =
        is_server_failure(status) && candidate.plan(&response, context.shared.now()).is_err();
    if failed && let Some(stale) = context.stale_for_failure(&selected, &candidate, status) {
        let outcome = Outcome::StaleIfError { reason, status: Some(status) };
        return Ok(Reply::cached(response.into_parts().0, stale, outcome));
    }
    let policy = context.policy();
    let request_tags = policy.emits_tags().then(|| candidate.request_tags.clone());
    let write = update_stored(candidate, &selected.stored, &mut response).await;
    // A response that updates the stored one lists its tags already.
    if let Some(request_tags) = request_tags.filter(|_| write.is_none()) {
        emit_tags(policy, &context.shared.settings.options, &request_tags, &mut response);
    }
    Ok(Reply::passed(response, reason, NotStored::Head).with_write(write))
}

/// Updates the stored response from the handler's response to HEAD. Returns the write of the
/// updated response, if there is one. If the response to HEAD shows that the stored response is
/// outdated, the stored response is removed (RFC 9111 section 4.3.5).
async fn update_stored<B: MessageBody>(
    candidate: Box<Candidate>,
    stored: &Arc<StoredResponse>,
    response: &mut ServiceResponse<B>,
) -> Option<Write> {
    // RFC 9111 section 4.3.5 applies only to responses with status 200.
    if response.status() != StatusCode::OK {
        return None;
    }
    // The size of the handler's body is compared instead of `Content-Length`, because the server
    // sends this size as `Content-Length` even if the handler set another value.
    let same_length = match response.response().body().size() {
        BodySize::Sized(length @ 1..) => length == stored.body.len() as u64,
        BodySize::Sized(0) | BodySize::Stream | BodySize::None => true,
    };
    let verdict = compare_head(response.headers(), stored);
    if !same_length || verdict == HeadVerdict::Outdated {
        remove_entry(candidate).await;
        return None;
    }
    let trusted = candidate.policy().trusts_origin_validators();
    let still_valid = verdict == HeadVerdict::Holds || (verdict == HeadVerdict::Nothing && trusted);
    if still_valid { freshen_by_head(candidate, stored, response) } else { None }
}
