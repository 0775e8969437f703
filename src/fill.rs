//! What becomes of a handler's answer: stored, or passed on as it is.

use std::{fmt, sync::Arc, task::Context, time::Duration};

use actix_web::{
    HttpMessage,
    body::{BodySize, MessageBody},
    dev::ServiceResponse,
    http::{
        StatusCode,
        header::{
            AGE, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, COOKIE, DATE, EXPIRES, HeaderMap,
            HeaderName, HeaderValue, PROXY_AUTHENTICATE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
            VARY,
        },
    },
};
use bytes::Bytes;
use httpdate::fmt_http_date;
use smallvec::SmallVec;
use tokio::time::timeout;

use crate::{
    body::CacheBody,
    hit::shorten,
    key::Key,
    options::said,
    outcome::{Forward, NotStored, Outcome, Stored},
    policy::{Matched, VaryCookie},
    semantics::{
        cache_control::ResponseDirectives,
        directive_list::DirectiveList,
        fields::{lines, list},
        freshness,
        requester::Requester,
        storing::{self, Exchange, Plan, Storing},
        vary::selecting_value,
    },
    shared::Shared,
    store::{Fill, Put, Reservation},
    stored::{Basis, StoredResponse, copy_fields},
    tag::TagId,
    time::Now,
};

/// How long a response may take to be written once its body is complete.
const PUT_LIMIT: Duration = Duration::from_millis(250);

/// Writes that may outlive their requests at once; what is beyond is not stored.
const MAX_WRITES: usize = 256;

/// A request that goes to the handler and whose answer may be stored.
pub(crate) struct Candidate {
    pub(crate) shared: Arc<Shared>,
    pub(crate) matched: Matched,
    pub(crate) key: Key,
    pub(crate) fill: Fill,
    /// The request's fields as they reached the cache.
    pub(crate) request: HeaderMap,
    pub(crate) requester: Requester,
    pub(crate) request_no_store: bool,
    pub(crate) split: SmallVec<[u8; 32]>,
    /// Fields that select among what is stored already.
    pub(crate) names: Box<[HeaderName]>,
    pub(crate) requested: Now,
    /// Set if the handler was given a body that the head had not announced.
    pub(crate) body_seen: std::rc::Rc<std::cell::Cell<bool>>,
}

/// Decides about an answer, and stores it or sees to it that it is stored as its body passes.
pub(crate) fn settle<B: MessageBody>(
    candidate: Candidate,
    response: ServiceResponse<B>,
    reason: Forward,
    cx: &mut Context<'_>,
) -> (ServiceResponse<CacheBody<B>>, Outcome) {
    let now = candidate.shared.settings.clock.now();
    let verdict = candidate.plan(&response, now);
    let plan = match verdict {
        Ok(plan) => plan,
        Err(why) => {
            log::trace!("not stored: {why:?}");
            return (pass(response), Outcome::Forward { reason, stored: Stored::No(why) });
        }
    };
    candidate.store(plan, response, reason, now, cx)
}

/// The answer as the handler made it.
pub(crate) fn pass<B>(response: ServiceResponse<B>) -> ServiceResponse<CacheBody<B>> {
    response.map_body(|_, body| CacheBody::pass(body))
}

impl Candidate {
    fn plan<B: MessageBody>(
        &self,
        response: &ServiceResponse<B>,
        now: Now,
    ) -> Result<Plan, NotStored> {
        let checked = &self.shared.checked;
        let head = response.response();
        let status = head.status();
        let own = said(
            &response.request().extensions(),
            &head.extensions(),
            |status| checked.gives_lifetimes_to(status),
            status,
        )?;
        let terms = checked.terms(&self.matched, status, own)?;
        let exchange = Exchange {
            request_no_store: self.request_no_store,
            requester: self.requester,
            requested: self.requested,
            status,
            response: head.headers(),
            responded: now,
        };
        let plan = match storing::decide(&exchange, &terms) {
            Storing::Store(plan) => plan,
            Storing::Skip(why) => return Err(why),
        };
        self.body_can_be_stored(status, head.headers(), head.body().size())?;
        // What lies between cache and handler may have changed what the handler chose by.
        let seen = response.request().headers();
        let changed = |name: &HeaderName| !lines(seen, name).eq(lines(&self.request, name));
        if self.body_seen.get() || plan.nominated.iter().any(changed) {
            return Err(NotStored::RequestChanged);
        }
        if self.fill.is_overtaken() {
            return Err(NotStored::Overtaken);
        }
        Ok(plan)
    }

    fn body_can_be_stored(
        &self,
        status: StatusCode,
        fields: &HeaderMap,
        size: BodySize,
    ) -> Result<(), NotStored> {
        let limit = self.shared.checked.max_body_size();
        let head: usize =
            fields.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        if head > limit {
            return Err(NotStored::TooLarge);
        }
        if declared_length(size, fields).is_some_and(|length| length > limit as u64) {
            return Err(NotStored::TooLarge);
        }
        match size {
            // RFC 9110 section 15.3.5: no content; bytes after such a head would be taken for the
            // next response.
            BodySize::Sized(1..) | BodySize::Stream if status == StatusCode::NO_CONTENT => {
                Err(NotStored::NoBody)
            }
            // A body whose length is nowhere said and which never comes.
            BodySize::None if status != StatusCode::NO_CONTENT => Err(NotStored::NoBody),
            BodySize::Sized(_) | BodySize::Stream | BodySize::None => Ok(()),
        }
    }

    fn store<B: MessageBody>(
        self,
        plan: Plan,
        mut response: ServiceResponse<B>,
        reason: Forward,
        now: Now,
        cx: &mut Context<'_>,
    ) -> (ServiceResponse<CacheBody<B>>, Outcome) {
        let shared = Arc::clone(&self.shared);
        let status = response.status();
        let client_ttl = shared.checked.client_ttl(&self.matched, status);
        let client_ttl = client_ttl.filter(|_| plan.lifetime.basis != Basis::Explicit);
        self.dress(&plan, response.headers_mut(), now);
        let draft = self.draft(&plan, status, response.headers(), client_ttl);
        if let Some(limit) = client_ttl {
            let left = plan.lifetime.left(now).unwrap_or_default().min(limit);
            shorten(response.headers_mut(), plan.lifetime.age(now), left, now);
        }
        let ttl = plan.lifetime.left(now).unwrap_or_default().as_secs();
        let write = Write { shared, key: self.key, fill: self.fill, draft };
        let limit = write.shared.checked.max_body_size();
        let stored = |response, stored| (response, Outcome::Forward { reason, stored });
        let size = response.response().body().size();
        let (request, response) = response.into_parts();
        let (head, body) = response.into_parts();
        match body.try_into_bytes() {
            Ok(bytes) if bytes.len() > limit => {
                let response =
                    ServiceResponse::new(request, head.set_body(CacheBody::whole(bytes)));
                stored(response, Stored::No(NotStored::TooLarge))
            }
            Ok(bytes) => {
                log::debug!("store ttl={ttl}");
                // A copy: the handler's may be a slice of something much larger.
                write.start(Bytes::copy_from_slice(&bytes), cx);
                let body = if size == BodySize::None {
                    CacheBody::none()
                } else {
                    CacheBody::whole(bytes)
                };
                stored(ServiceResponse::new(request, head.set_body(body)), Stored::Yes)
            }
            // Servers do not poll a body that is declared empty: it is complete already.
            Err(body) if size.is_eof() => {
                log::debug!("store ttl={ttl}");
                write.start(Bytes::new(), cx);
                let body = CacheBody::pass(body);
                stored(ServiceResponse::new(request, head.set_body(body)), Stored::Yes)
            }
            Err(body) => {
                let declared = declared_length(size, head.headers());
                match Recording::begin(write, declared, limit) {
                    Some(recording) => {
                        log::debug!("store ttl={ttl} when its body is complete");
                        let body = CacheBody::recorded(body, recording);
                        stored(ServiceResponse::new(request, head.set_body(body)), Stored::Yes)
                    }
                    None => {
                        let body = CacheBody::pass(body);
                        let response = ServiceResponse::new(request, head.set_body(body));
                        stored(response, Stored::No(NotStored::Busy))
                    }
                }
            }
        }
    }

    /// Completes the fields of a response that is going to be stored, for this client and those
    /// after it.
    fn dress(&self, plan: &Plan, fields: &mut HeaderMap, now: Now) {
        // RFC 9110 section 6.6.1: what has no Date is dated when it is received.
        if !fields.contains_key(DATE) {
            insert_date(fields, DATE, now, Duration::ZERO);
        }
        let lifetime = &plan.lifetime;
        if lifetime.basis != Basis::Explicit {
            // Of two lifetimes the shorter is told, whether the handler's stands in `max-age` or, as
            // `Expires`, beside it.
            let stated = ResponseDirectives { s_maxage: None, ..ResponseDirectives::of(fields) };
            let stated = freshness::explicit(&stated, fields, now);
            let told = lifetime.freshness.min(stated.unwrap_or(lifetime.freshness));
            let mut directives = DirectiveList::of(fields);
            directives.limit("max-age", told);
            directives.write(fields);
            if !fields.contains_key(EXPIRES) {
                let left = told.saturating_sub(lifetime.age(now));
                insert_date(fields, EXPIRES, now, left);
            }
        }
        // Whoever has cookies gets another answer: clients and caches downstream must know.
        let due = plan.needs_no_cookie && self.shared.checked.vary_cookie == VaryCookie::Said;
        if due && !plan.nominated.contains(&COOKIE) {
            add_cookie_to_vary(fields);
        }
        self.warn_of_encoding(plan, fields);
    }

    fn warn_of_encoding(&self, plan: &Plan, fields: &HeaderMap) {
        let commons = self.shared.store.commons();
        let varies = plan.nominated.contains(&actix_web::http::header::ACCEPT_ENCODING);
        if fields.contains_key(CONTENT_ENCODING) && !varies && commons.may_warn_of_encoding() {
            log::warn!(
                "a response with Content-Encoding but without Vary: Accept-Encoding is stored: \
                 clients that cannot decode it will get it too. Wrap Compress around the cache, \
                 not the other way round, or let the handler send Vary"
            );
        }
    }

    /// What is stored, still without its body.
    fn draft(
        &self,
        plan: &Plan,
        status: StatusCode,
        fields: &HeaderMap,
        client_ttl: Option<Duration>,
    ) -> StoredResponse {
        let cookies = &self.shared.checked.personal.cookies;
        let learnt = plan.nominated.iter().filter(|name| !self.names.contains(name));
        let selecting = self.names.iter().chain(learnt).map(|name| {
            let value = selecting_value(&self.request, name, cookies);
            (name.clone(), value.map(|value| Bytes::copy_from_slice(&value)))
        });
        let named = Named::of(fields);
        let kept: Vec<_> = fields.iter().filter(|(name, _)| named.may_be_stored(name)).collect();
        StoredResponse {
            status,
            fields: copy_fields(&kept),
            body: Bytes::new(),
            lifetime: plan.lifetime,
            selecting: selecting.collect(),
            split: Box::from(&*self.split),
            tags: self.key.has_parts().then(|| TagId::url(self.key.url())).into_iter().collect(),
            stamp: self.fill.stamp(),
            client_ttl,
        }
    }
}

/// How long a body is to become. One that does not know may have its length in the head, from
/// another server that it comes from: less than that is not the whole.
fn declared_length(size: BodySize, fields: &HeaderMap) -> Option<u64> {
    match size {
        BodySize::Sized(length) => Some(length),
        BodySize::None => None,
        BodySize::Stream => {
            let said = lines(fields, &CONTENT_LENGTH).next();
            said.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok())
        }
    }
}

/// In one line with what is there already: middlewares further out may read only the first, as
/// actix-cors does, which then drops the others.
fn add_cookie_to_vary(fields: &mut HeaderMap) {
    let members: Vec<_> = lines(fields, &VARY).flat_map(list).chain([&b"Cookie"[..]]).collect();
    if let Ok(line) = HeaderValue::from_bytes(&members.join(&b", "[..])) {
        fields.insert(VARY, line);
    }
}

fn insert_date(fields: &mut HeaderMap, name: HeaderName, now: Now, later: Duration) {
    if let Ok(date) = HeaderValue::try_from(fmt_http_date(now.system_time() + later)) {
        fields.insert(name, date);
    }
}

/// The fields that `Connection` names: they concern one connection (RFC 9110 section 7.6.1).
struct Named(SmallVec<[HeaderName; 2]>);

impl Named {
    fn of(fields: &HeaderMap) -> Self {
        let members = lines(fields, &CONNECTION).flat_map(list);
        Self(members.filter_map(|member| HeaderName::from_bytes(member).ok()).collect())
    }

    /// Section 3.1: fields of one connection or of a proxy are not stored. Neither are
    /// `Content-Length`, which the body itself says, and `Age`, which is counted anew.
    fn may_be_stored(&self, name: &HeaderName) -> bool {
        let never = [
            CONTENT_LENGTH,
            AGE,
            CONNECTION,
            TE,
            TRAILER,
            TRANSFER_ENCODING,
            UPGRADE,
            PROXY_AUTHENTICATE,
        ];
        let never_named = [
            "keep-alive",
            "proxy-connection",
            "proxy-authentication-info",
            "authentication-info",
            "proxy-authorization",
        ];
        !never.contains(name) && !never_named.contains(&name.as_str()) && !self.0.contains(name)
    }
}

/// A response on its way into the store.
struct Write {
    shared: Arc<Shared>,
    key: Key,
    fill: Fill,
    draft: StoredResponse,
}

impl Write {
    /// Stores: at once if the store does not wait, else while the client is served already.
    fn start(self, body: Bytes, cx: &mut Context<'_>) {
        let Some(place) = self.shared.store.commons().begin_write(MAX_WRITES) else {
            log::trace!("not stored: too many writes at once");
            return;
        };
        let mut work = Box::pin(async move {
            let _place = place;
            self.put(body).await;
        });
        if work.as_mut().poll(cx).is_pending() {
            // Not actix's spawn, which wants a local set: tests have none.
            tokio::spawn(timeout(PUT_LIMIT, work));
        }
    }

    async fn put(self, body: Bytes) {
        let response = Arc::new(StoredResponse { body, ..self.draft });
        let store = &self.shared.store;
        match store.put(&self.key, response, &self.fill).await {
            Ok(Put::Stored) => {}
            Ok(Put::TooLarge) => log::debug!("not stored: larger than the store keeps"),
            Ok(Put::Overtaken) => log::debug!("not stored: overtaken by an invalidation"),
            Err(error) => warn(&self.shared, &error),
        }
    }
}

/// Store trouble, at most once an interval.
pub(crate) fn warn(shared: &Shared, error: &crate::store::StoreError) {
    if shared.store.commons().may_warn_of_store(shared.settings.clock.now()) {
        log::warn!("{error}; requests go to their handlers");
    } else {
        log::trace!("{error}");
    }
}

/// A body being copied as it passes to the client.
pub(crate) struct Recording {
    write: Write,
    copy: Vec<u8>,
    reservation: Reservation,
    declared: Option<u64>,
    limit: usize,
}

impl Recording {
    /// `None` if too much is being copied already.
    fn begin(write: Write, declared: Option<u64>, limit: usize) -> Option<Self> {
        // What is known to come is set aside before it does.
        let expected = declared.and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
        let reservation = write.shared.store.commons().reserve(expected)?;
        Some(Self { write, copy: Vec::with_capacity(expected), reservation, declared, limit })
    }

    /// Copies a chunk; `false` where the body grows beyond what is stored.
    pub(crate) fn takes(&mut self, chunk: &[u8]) -> bool {
        let length = self.copy.len() + chunk.len();
        let most =
            self.declared.and_then(|length| usize::try_from(length).ok()).unwrap_or(self.limit);
        if length > most {
            log::trace!("not stored: the body is too large");
            return false;
        }
        if length > self.copy.capacity() {
            // Doubling, as vectors do, but counted.
            let capacity = length.max(self.copy.capacity() * 2).min(most);
            if !self.reservation.grow(capacity - self.copy.capacity()) {
                log::trace!("not stored: too many bodies are being copied");
                return false;
            }
            self.copy.reserve_exact(capacity - self.copy.len());
        }
        self.copy.extend_from_slice(chunk);
        true
    }

    pub(crate) fn is_at_declared_end(&self) -> bool {
        self.declared == Some(self.copy.len() as u64)
    }

    /// The body ended well; it is stored if that is where it should have ended.
    pub(crate) fn finish(self, cx: &mut Context<'_>) {
        if self.declared.is_some_and(|declared| declared != self.copy.len() as u64) {
            log::trace!("not stored: the body ended early");
            return;
        }
        // Exactly as large as it is: a vector that doubled may be half empty.
        self.write.start(Bytes::from(self.copy.into_boxed_slice()), cx);
    }
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recording")
            .field("copied", &self.copy.len())
            .field("declared", &self.declared)
            .finish_non_exhaustive()
    }
}
