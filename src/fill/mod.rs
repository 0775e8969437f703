//! What becomes of a handler's answer: stored, or passed on as it is.

pub(crate) mod tee;
pub(crate) mod write;

use std::{sync::Arc, time::Duration};

use actix_web::{
    HttpMessage, HttpResponse,
    body::{BodySize, MessageBody},
    dev::ServiceResponse,
    http::{
        Method, StatusCode,
        header::{
            CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, DATE, EXPIRES,
            HeaderMap, HeaderName, HeaderValue, VARY,
        },
    },
    rt::spawn,
};
use bytes::Bytes;
use httpdate::fmt_http_date;
use smallvec::SmallVec;

use crate::{
    clock::Timestamp,
    entry::key::CacheKey,
    entry::limits::{may_have_body, may_have_field},
    entry::response::{ANNOTATED_FIELDS, StoredResponse, copy_fields},
    entry::stamp::ValidityCheck,
    fill::write::Write,
    options::handler_options,
    outcome::{NotStored, Stored},
    policy::{MatchedRules, RequestTags, VaryCookie},
    response::body::CacheBody,
    response::cached::{body_of, conditioned, has_it, not_modified_instead, shorten},
    semantics::{
        directive_list::DirectiveList,
        fields::{lines, list, trim},
        freshness,
        requester::Requester,
        storing::{self, Exchange, StorageDecision, StoragePlan},
        targeted::Governing,
        validation::CONDITIONS,
        vary::selecting_value,
    },
    service::collapse::{Leader, is_lasting},
    shared::Shared,
    store::Fill,
};

/// A request that goes to the handler and whose answer may be stored.
pub(crate) struct Candidate {
    pub(crate) shared: Arc<Shared>,
    pub(crate) matched: MatchedRules,
    /// The tags that the request gives its answer.
    pub(crate) named: RequestTags,
    pub(crate) key: CacheKey,
    pub(crate) fill: Fill,
    /// The request's fields as they reached the cache.
    pub(crate) request: HeaderMap,
    pub(crate) requester: Requester,
    pub(crate) request_no_store: bool,
    pub(crate) discriminator: SmallVec<[u8; 32]>,
    /// Fields that select among what is stored already.
    pub(crate) names: Box<[HeaderName]>,
    pub(crate) requested: Timestamp,
    pub(crate) conditions: Conditions,
    /// Who waits for the answer.
    pub(crate) leading: Option<Leader>,
    /// Set if the handler was given a body that the head had not announced.
    pub(crate) body_seen: std::rc::Rc<std::cell::Cell<bool>>,
}

/// Who judges the client's conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conditions {
    /// The handler did not see them: they are applied to its answer.
    Taken,
    /// The handler, if it does.
    Left,
}

/// An answer that was decided about.
pub(crate) struct FillReply<B> {
    pub(crate) response: ServiceResponse<CacheBody<B>>,
    pub(crate) stored: Stored,
    /// To be started once it is reported what became of the request.
    pub(crate) write: Option<Write>,
}

/// Decides about an answer, and sees to it that it is stored: at once, or as its body passes.
pub(crate) fn settle<B: MessageBody + 'static>(
    mut candidate: Candidate,
    response: ServiceResponse<B>,
) -> FillReply<B> {
    let now = candidate.shared.settings.clock.now();
    match candidate.plan(&response, now) {
        Ok(plan) => candidate.store(plan, response, now),
        Err(why) => {
            log::trace!("not stored: {why:?}");
            candidate.mark_hit_for_miss(why, response.status(), now);
            let mut response = pass(response);
            if candidate.conditions == Conditions::Taken {
                let (request, passed) = response.into_parts();
                let passed = not_modified_instead(&candidate.request, passed);
                response = ServiceResponse::new(request, passed);
            }
            FillReply { response, stored: Stored::No(why), write: None }
        }
    }
}

/// The answer as the handler made it.
pub(crate) fn pass<B>(response: ServiceResponse<B>) -> ServiceResponse<CacheBody<B>> {
    response.map_body(|_, body| CacheBody::pass(body))
}

impl Candidate {
    pub(crate) fn plan<B: MessageBody>(
        &self,
        response: &ServiceResponse<B>,
        now: Timestamp,
    ) -> Result<StoragePlan, NotStored> {
        let head = response.response();
        let plan = self.decide(response, head.status(), head.headers(), now)?;
        self.body_can_be_stored(head.status(), head.headers(), head.body().size())?;
        Ok(plan)
    }

    /// Decides about a response with this status and these fields, which are the answer's own or
    /// were made of it.
    pub(crate) fn decide<B>(
        &self,
        answer: &ServiceResponse<B>,
        status: StatusCode,
        fields: &HeaderMap,
        now: Timestamp,
    ) -> Result<StoragePlan, NotStored> {
        let checked = &self.shared.checked;
        let own = handler_options(
            &answer.request().extensions(),
            &answer.response().extensions(),
            |status| checked.gives_lifetimes_to(status),
            status,
        )?;
        let terms = checked.terms(&self.matched, status, own.ttl)?;
        let exchange = Exchange {
            request_no_store: self.request_no_store,
            requester: self.requester,
            requested: self.requested,
            status,
            response: fields,
            responded: now,
        };
        let mut plan = match storing::decide(&exchange, &terms) {
            StorageDecision::Store(plan) => plan,
            StorageDecision::Skip(why) => return Err(why),
        };
        // What lies between cache and handler may have changed what the handler chose by.
        let seen = answer.request().headers();
        let changed = |name: &HeaderName| {
            !CONDITIONS.contains(name) && !lines(seen, name).eq(lines(&self.request, name))
        };
        if self.body_seen.get() || plan.nominated.iter().any(changed) {
            return Err(NotStored::RequestChanged);
        }
        if self.fill.is_invalidated() {
            return Err(NotStored::Invalidated);
        }
        let (named, matched, key) = (&self.named, &self.matched, &self.key);
        plan.tags = checked.tags(named, matched, status, key, &own.tags, fields)?;
        Ok(plan)
    }

    fn mark_hit_for_miss(&mut self, why: NotStored, status: StatusCode, now: Timestamp) {
        if let Some(leading) = self.leading.as_mut().filter(|_| is_lasting(why, status)) {
            leading.mark_hit_for_miss(self.shared.store.coordinator(), &self.key, now);
        }
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
        if size == BodySize::Stream && never_ends(fields) {
            return Err(NotStored::Endless);
        }
        match size {
            BodySize::Sized(1..) | BodySize::Stream if !may_have_body(status) => {
                Err(NotStored::NoBody)
            }
            // A body whose length is nowhere said and which never comes.
            BodySize::None if may_have_body(status) => Err(NotStored::NoBody),
            BodySize::Sized(_) | BodySize::Stream | BodySize::None => Ok(()),
        }
    }

    fn store<B: MessageBody + 'static>(
        self,
        plan: StoragePlan,
        mut response: ServiceResponse<B>,
        now: Timestamp,
    ) -> FillReply<B> {
        let status = response.status();
        let draft = self.prepare(&plan, status, response.headers_mut(), now);
        let wanted = ClientRequest { conditions: self.conditions, request: self.request };
        let Self { shared, key, fill, leading, .. } = self;
        let write = Write { shared, key, fill, leading, draft };
        let limit = write.shared.checked.max_body_size();
        let size = response.response().body().size();
        let (request, response) = response.into_parts();
        let (head, body) = response.into_parts();
        let (response, stored, write) = match body.try_into_bytes() {
            Ok(bytes) if bytes.len() > limit => {
                let response = head.set_body(CacheBody::whole(bytes));
                (response, Stored::No(NotStored::TooLarge), None)
            }
            Ok(bytes) => {
                // A copy: the handler's may be a slice of something much larger.
                let write = write.of(Bytes::copy_from_slice(&bytes));
                let whole = head.set_body(body_of(status, &bytes));
                (wanted.of(whole, &bytes), Stored::Yes, Some(write))
            }
            // Servers do not ask a body for the nothing it declares.
            Err(body) if size == BodySize::Sized(0) => {
                let response = wanted.of(head.set_body(CacheBody::pass(body)), &Bytes::new());
                (response, Stored::Yes, Some(write.of(Bytes::new())))
            }
            Err(body) => {
                let declared = declared_length(size, head.headers());
                let (response, stored) = wanted.of_stream(head, body, write, declared);
                (response, stored, None)
            }
        };
        FillReply { response: ServiceResponse::new(request, response), stored, write }
    }

    /// Completes the fields of a response that is going to be stored, for this client and those
    /// after it; returns what is stored, still without its body.
    pub(crate) fn prepare(
        &self,
        plan: &StoragePlan,
        status: StatusCode,
        fields: &mut HeaderMap,
        now: Timestamp,
    ) -> StoredResponse {
        let client_ttl = self.shared.checked.client_ttl(&self.matched, status);
        let client_ttl = client_ttl.filter(|_| !plan.lifetime.source.is_stated());
        let original_fields = self.dress(plan, fields, now);
        let draft =
            StoredResponse { client_ttl, original_fields, ..self.draft(plan, status, fields) };
        if let Some(limit) = client_ttl {
            let left = plan.lifetime.left(now).unwrap_or_default().min(limit);
            shorten(fields, plan.lifetime.age(now), left, now);
        }
        draft
    }

    /// Completes fields; returns those that were, as they had been.
    fn dress(
        &self,
        plan: &StoragePlan,
        fields: &mut HeaderMap,
        now: Timestamp,
    ) -> Option<Box<[(HeaderName, HeaderValue)]>> {
        // RFC 9110 section 6.6.1: what has no Date is dated when it is received.
        if !fields.contains_key(DATE) {
            insert_date(fields, DATE, now, Duration::ZERO);
        }
        let lifetime = &plan.lifetime;
        let due = self.fields_to_vary_by(plan);
        self.warn_of_encoding(plan, fields);
        if lifetime.source.is_stated() && due.is_empty() {
            return None;
        }
        let original_fields: Vec<_> =
            fields.iter().filter(|(name, _)| ANNOTATED_FIELDS.contains(name)).collect();
        let original_fields = copy_fields(&original_fields);
        if !lifetime.source.is_stated() {
            // Of two lifetimes the shorter is told, whether the handler's stands in `max-age` or, as
            // `Expires`, beside it.
            let mut stated = Governing::of(fields, &[]);
            stated.directives.s_maxage = None;
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
        if !due.is_empty() {
            add_to_vary(fields, &due);
        }
        Some(original_fields)
    }

    /// Whoever has cookies, or another value of what the key is made of, gets another answer: clients
    /// and caches downstream must know.
    fn fields_to_vary_by(&self, plan: &StoragePlan) -> SmallVec<[HeaderName; 2]> {
        let checked = &self.shared.checked;
        let cookie = plan.needs_no_cookie && checked.vary_cookie == VaryCookie::Added;
        let mut due = SmallVec::new();
        for name in checked.keyed_fields().chain(cookie.then_some(&COOKIE)) {
            if !plan.nominated.contains(name) && !due.contains(name) {
                due.push(name.clone());
            }
        }
        due
    }

    fn warn_of_encoding(&self, plan: &StoragePlan, fields: &HeaderMap) {
        let coordinator = self.shared.store.coordinator();
        let varies = plan.nominated.contains(&actix_web::http::header::ACCEPT_ENCODING);
        if fields.contains_key(CONTENT_ENCODING)
            && !varies
            && coordinator.should_warn_about_encoding()
        {
            log::warn!(
                "a response with Content-Encoding but without Vary: Accept-Encoding is stored: \
                 clients that cannot decode it will get it too. Wrap Compress around the cache, \
                 not the other way round, or let the handler send Vary"
            );
        }
    }

    fn draft(&self, plan: &StoragePlan, status: StatusCode, fields: &HeaderMap) -> StoredResponse {
        let comparison = &self.shared.checked.comparison;
        let learnt = plan.nominated.iter().filter(|name| !self.names.contains(name));
        let selecting = self.names.iter().chain(learnt).map(|name| {
            let value = selecting_value(&self.request, name, comparison);
            (name.clone(), value.map(|value| Bytes::copy_from_slice(&value)))
        });
        let named = Named::of(fields);
        let may_be_stored =
            |name: &HeaderName| named.may_be_stored(name) && !plan.withheld.contains(name);
        let kept: Vec<_> = fields.iter().filter(|(name, _)| may_be_stored(name)).collect();
        StoredResponse {
            status,
            fields: copy_fields(&kept),
            body: Bytes::new(),
            lifetime: plan.lifetime,
            stated: plan.stated,
            selecting: selecting.collect(),
            discriminator: Box::from(&*self.discriminator),
            tags: Box::from(&*plan.tags),
            stamp: self.fill.stamp(),
            client_ttl: None,
            original_fields: None,
            validity_check: ValidityCheck::default(),
            received: plan.lifetime.response.monotonic(),
        }
    }
}

/// What a client wants of a complete answer.
struct ClientRequest {
    conditions: Conditions,
    request: HeaderMap,
}

impl ClientRequest {
    fn of<B>(&self, whole: HttpResponse<CacheBody<B>>, body: &Bytes) -> HttpResponse<CacheBody<B>> {
        match self.conditions {
            Conditions::Taken => conditioned(&Method::GET, &self.request, whole, body),
            Conditions::Left => whole,
        }
    }

    /// The same of a body that is still to come, and whether it is being stored.
    fn of_stream<B: MessageBody + 'static>(
        &self,
        head: HttpResponse<()>,
        body: B,
        write: Write,
        declared: Option<u64>,
    ) -> (HttpResponse<CacheBody<B>>, Stored) {
        if self.conditions == Conditions::Left || !has_it(&self.request, &head) {
            return match tee::begin(body, write, declared) {
                Ok(body) => (head.set_body(body), Stored::Yes),
                Err(body) => (head.set_body(CacheBody::pass(body)), Stored::No(NotStored::Busy)),
            };
        }
        // Who does not want it is not kept waiting for it. It is read on for those who come, but
        // once at a time: no client is there to slow it down.
        let place = write.shared.store.coordinator().try_background(&write.key);
        let reading = place.and_then(|place| {
            let body = tee::begin(body, write, declared).ok()?;
            spawn(async move {
                let _place = place;
                if body.drain().await.is_err() {
                    log::debug!("not stored: the body did not end well");
                }
            });
            Some(())
        });
        let stored = reading.map_or(Stored::No(NotStored::Busy), |()| Stored::Yes);
        (not_modified_instead(&self.request, head.set_body(CacheBody::none())), stored)
    }
}

/// Whether the media type is one of streams that are left open: server-sent events, and the moving
/// pictures of cameras.
fn never_ends(fields: &HeaderMap) -> bool {
    let text = lines(fields, &CONTENT_TYPE).next().unwrap_or_default();
    let kind = trim(text.split(|&byte| byte == b';').next().unwrap_or_default());
    [&b"text/event-stream"[..], b"multipart/x-mixed-replace"]
        .iter()
        .any(|endless| kind.eq_ignore_ascii_case(endless))
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
fn add_to_vary(fields: &mut HeaderMap, names: &[HeaderName]) {
    let said = lines(fields, &VARY).flat_map(list);
    let members: Vec<_> = said.chain(names.iter().map(usual)).collect();
    if let Ok(line) = HeaderValue::from_bytes(&members.join(&b", "[..])) {
        fields.insert(VARY, line);
    }
}

/// As it is usually written, for whoever reads along.
fn usual(name: &HeaderName) -> &[u8] {
    if *name == COOKIE { b"Cookie" } else { name.as_str().as_bytes() }
}

pub(crate) fn insert_date(
    fields: &mut HeaderMap,
    name: HeaderName,
    now: Timestamp,
    later: Duration,
) {
    if let Ok(date) = HeaderValue::try_from(fmt_http_date(now.system_time() + later)) {
        fields.insert(name, date);
    }
}

/// The fields that `Connection` names: they concern one connection (RFC 9110 section 7.6.1).
pub(crate) struct Named(SmallVec<[HeaderName; 2]>);

impl Named {
    pub(crate) fn of(fields: &HeaderMap) -> Self {
        let members = lines(fields, &CONNECTION).flat_map(list);
        Self(members.filter_map(|member| HeaderName::from_bytes(member).ok()).collect())
    }

    /// Neither one of these nor one that is never stored.
    pub(crate) fn may_be_stored(&self, name: &HeaderName) -> bool {
        may_have_field(name) && !self.0.contains(name)
    }
}
