//! Refreshing what is stale while it answers (RFC 5861 section 3).

use std::{
    future::{Future, poll_fn},
    rc::Rc,
    time::Duration,
};

use actix_service::Service;
use actix_web::{
    Error, HttpMessage, HttpRequest,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    rt::{spawn, time::timeout},
};

use crate::{
    outcome::Outcome,
    semantics::validation::CONDITIONS,
    service::RequestContext,
    service::origin::{OriginRequest, Reply, ask, fields_mut},
    service::stand_in::StandIn,
};

/// How long the handler may take for a refresh, its body included.
const LIMIT: Duration = Duration::from_secs(30);

/// Sends a request to the handler in the background; returns one that stands in for it on the
/// client's side. Where there is no reason to, or the key is being refreshed already, the request
/// itself.
///
/// Only a request that is nobody's in particular is sent. It keeps all that middlewares further out
/// found of it (a language, a tenant), so that the handler makes the page that belongs under its
/// key: without that it would make another, to be shown to everybody. What is somebody's cannot be
/// taken out of a request and its extensions for sure, so somebody's request refreshes nothing.
pub(crate) fn refresh<S, B>(
    inner: &Rc<S>,
    walk: &RequestContext,
    mut request: ServiceRequest,
    inquiry: Box<OriginRequest>,
) -> HttpRequest
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    // What the client forbids to store would be fetched in vain.
    let wanted = inquiry.asked.requester.is_anonymous() && !inquiry.asked.directives.no_store;
    let coordinator = walk.shared.store.coordinator();
    let (key, now) = (&inquiry.asked.key, inquiry.asked.now);
    let begun = if wanted { coordinator.try_refresh(key, now) } else { None };
    let Some(begun) = begun else { return request.into_parts().0 };
    let mirror = StandIn::of(&request);
    // Nobody is there who could have the page already, or want a part of it.
    if CONDITIONS.iter().any(|name| request.headers().contains_key(name)) {
        let Some(fields) = fields_mut(&mut request) else { return request.into_parts().0 };
        for name in &CONDITIONS {
            fields.remove(name);
        }
    }
    drop(request.take_payload());
    let (inner, walk) = (Rc::clone(inner), walk.clone());
    spawn(async move {
        let work = async {
            poll_fn(|cx| inner.poll_ready(cx)).await?;
            ask(Rc::clone(&inner), walk.clone(), request, inquiry).await
        };
        match unattended(&walk, work).await {
            Fate::Renewed => begun.succeeded(),
            Fate::Failed => begun.failed(walk.shared.settings.clock.now()),
        }
    });
    mirror.into_request()
}

/// What came of an answer that no client waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is stored, or something else is that is as good.
    Renewed,
    Failed,
}

/// Sees an answer that no client waits for to its end.
pub(crate) async fn unattended<B: MessageBody>(
    walk: &RequestContext,
    work: impl Future<Output = Result<Reply<B>, Error>>,
) -> Fate {
    let work = async {
        let reply = work.await?;
        let renews = reply.outcome.as_ref().is_none_or(Outcome::renews);
        let body = walk.reply(reply).await.into_body();
        let whole = body.drain().await.is_ok();
        Ok::<_, Error>(renews && whole)
    };
    match timeout(LIMIT, work).await {
        Ok(Ok(true)) => return Fate::Renewed,
        Ok(Ok(false)) => log::debug!("a refresh renewed nothing"),
        Ok(Err(error)) => log::debug!("a refresh failed: {error}"),
        Err(_) => log::debug!("a refresh took too long"),
    }
    Fate::Failed
}
