//! Refreshing what is stale while it answers (RFC 5861 section 3).

use std::{future::poll_fn, rc::Rc, time::Duration};

use actix_service::Service;
use actix_web::{
    Error, HttpMessage, HttpRequest,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::header::{AUTHORIZATION, COOKIE, HeaderName},
    rt::{spawn, time::timeout},
};

use crate::{
    forward::{Inquiry, fields_mut, forward},
    mirror::Mirror,
    semantics::{requester::Requester, validation::CONDITIONS},
    service::Walk,
};

/// How long the handler may take to answer a refresh.
const LIMIT: Duration = Duration::from_secs(30);

/// Sends a request to the handler in the background, as nobody's in particular; returns one that
/// stands in for it on the client's side. Where the key is being refreshed already, the request
/// itself.
pub(crate) fn refresh<S, B>(
    inner: &Rc<S>,
    walk: &Walk,
    mut request: ServiceRequest,
    mut inquiry: Box<Inquiry>,
) -> HttpRequest
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    // What the client forbids to store would be fetched in vain.
    let wanted = !inquiry.asked.directives.no_store;
    let commons = walk.shared.store.commons();
    let place = wanted.then(|| commons.begin_refresh(&inquiry.asked.key)).flatten();
    let Some(place) = place else { return request.into_parts().0 };
    let mirror = Mirror::of(&request);
    let selecting = inquiry.selected.iter().flat_map(|stored| stored.selecting.iter());
    let selecting: Vec<_> = selecting.map(|(name, _)| name).collect();
    let credentials = walk.credentials().filter(|name| !selecting.contains(name));
    // Nobody is there who could have the page already, or want a part of it.
    let unwanted = credentials.chain(&CONDITIONS);
    let unwanted: Vec<_> = unwanted.filter(|name| request.headers().contains_key(*name)).collect();
    if !unwanted.is_empty() {
        let Some(fields) = fields_mut(&mut request) else { return request.into_parts().0 };
        for name in unwanted {
            fields.remove(name);
        }
    }
    let mirror = mirror.taking_extensions(&request);
    drop(request.take_payload());
    inquiry.asked.requester = Requester::of(request.headers(), &walk.shared.checked.personal);
    let (inner, walk) = (Rc::clone(inner), walk.clone());
    spawn(async move {
        let _place = place;
        let work = async {
            poll_fn(|cx| inner.poll_ready(cx)).await?;
            forward(Rc::clone(&inner), walk, request, inquiry).await
        };
        match timeout(LIMIT, work).await {
            Ok(Ok(answer)) => answer.into_body().drain().await,
            Ok(Err(error)) => log::debug!("a refresh failed: {error}"),
            Err(_) => log::debug!("a refresh took too long"),
        }
    });
    mirror
}

impl Walk {
    /// The fields by which a refresh would act for somebody, save those that are part of the key.
    fn credentials(&self) -> impl Iterator<Item = &HeaderName> {
        let personal = &self.shared.checked.personal;
        let all = [&AUTHORIZATION, &COOKIE].into_iter().chain(&personal.credentials);
        let keyed = |name: &HeaderName| {
            personal.keyed.contains(name) || (*name == COOKIE && !personal.cookies.keyed.is_empty())
        };
        all.filter(move |name| !keyed(name))
    }
}
