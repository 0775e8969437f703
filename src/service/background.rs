//! Completes responses that no client waits for.

use std::future::Future;

use actix_web::{Error, body::MessageBody, rt::time::timeout};

use super::{context::RequestContext, reply::Reply};
use crate::outcome::Outcome;

/// The result of a refresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefreshResult {
    /// The response of the refresh is stored, or another request has stored a fresh response.
    Refreshed,
    Failed,
}

/// Waits for a response and reads its body to the end, so that the response is stored although no
/// client waits for it. Stops after [`Policy::background_limit`](crate::Policy::background_limit).
pub(crate) async fn complete_in_background<B: MessageBody>(
    context: &RequestContext,
    reply: impl Future<Output = Result<Reply<B>, Error>>,
) -> RefreshResult {
    let policy = context.policy();
    let work = async {
        let reply = reply.await?;
        let is_fresh = reply.outcome.as_ref().is_none_or(Outcome::leaves_fresh_response);
        let body = context.complete(reply).into_body();
        let is_complete = body.drain(policy.drain_limit()).await.is_ok();
        Ok::<_, Error>(is_fresh && is_complete)
    };
    let limit = policy.background_limit();
    match timeout(limit, work).await {
        Ok(Ok(true)) => return RefreshResult::Refreshed,
        Ok(Ok(false)) => log::debug!("refresh failed: its response is not stored"),
        Ok(Err(error)) => log::debug!("refresh failed: {error}"),
        Err(_) => log::debug!("refresh failed: the handler took longer than {limit:?}"),
    }
    RefreshResult::Failed
}
