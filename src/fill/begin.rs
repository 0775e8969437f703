//! Makes the response for the client from the handler's response, and begins to store the handler's
//! response if it may be stored.

use std::{mem, sync::Arc};

use actix_web::{
    HttpResponse,
    body::{BodySize, MessageBody},
    dev::ServiceResponse,
    http::{StatusCode, header::ETAG},
    rt::spawn,
};
use bytes::Bytes;

use super::{
    candidate::{Candidate, ClientConditions, WriteCoding},
    emit::emit_tags,
    judge::{HandlerBody, JudgedResponse, Refusal},
    tee,
    whole_body::WholeBody,
    write::{StoreWork, Write},
};
use crate::{
    clock::Timestamp,
    entry::{lifetime::Lifetime, response::StoredResponse},
    outcome::{NotStored, Stored},
    response::{
        body::CacheBody,
        cached::{ClientTerms, body_for},
        conditional::{
            PolicyCodings, apply_conditions_without_body, apply_request_conditions, client_has_it,
        },
        representation::{StreamedCoding, choose},
        streamed_coding::CodingDecision,
    },
    semantics::{
        body::declared_length,
        staleness::{never_stale, withdraws_stale_responses},
        storing::StoragePlan,
    },
};

/// A response for the client, and the decision about storing it.
pub(crate) struct FillReply<B> {
    pub(crate) response: ServiceResponse<CacheBody<B>>,
    pub(crate) stored: Stored,
    /// The work that the caller must start once the outcome of the request is reported. `None` if
    /// nothing is written.
    pub(crate) work: Option<StoreWork>,
    pub(crate) coding: CodingDecision,
}

/// Makes the response for the client, and begins to store the handler's response if it may be
/// stored. If the body is still arriving, a task receives the body and stores the response at its
/// end.
///
/// `selected` is the stored response that the handler was asked to revalidate or to replace.
pub(crate) fn fill<B: MessageBody + 'static>(
    mut candidate: Box<Candidate>,
    judged: JudgedResponse<B>,
    selected: Option<&Arc<StoredResponse>>,
) -> FillReply<B> {
    let JudgedResponse { mut response, plan, now } = judged;
    candidate.replaced_audience = selected.map(|stored| stored.audience);
    let conditions = candidate.conditions;
    let decision = plan.as_deref().map_err(|refusal| refusal.reason());
    candidate.learn_variance(decision, response.headers());
    match plan {
        Ok(plan) => candidate.store(plan, response, selected, now),
        Err(refusal) => {
            let (reason, status) = (refusal.reason(), response.status());
            log::trace!("not stored: {reason:?}");
            let is_failure = matches!(refusal, Refusal::Failure(_));
            if !is_failure {
                candidate.mark_hit_for_miss(reason, status, now);
            }
            let options = &candidate.shared.settings.options;
            emit_tags(candidate.policy(), options, &candidate.request_tags, &mut response);
            let mut response = response.map_body(|_, body| match body {
                HandlerBody::Whole(bytes) => body_for(status, &bytes),
                HandlerBody::Unread(body) => CacheBody::pass(body),
            });
            if conditions == ClientConditions::ByCache && candidate.special.may_change_reply() {
                let (request, passed) = response.into_parts();
                let codings = PolicyCodings::of(candidate.policy());
                let fields = candidate.request.to_map();
                let passed = apply_conditions_without_body(&fields, codings, passed);
                response = ServiceResponse::new(request, passed);
            }
            let replaced = selected.filter(|_| !is_failure);
            let work = replaced.and_then(|stored| candidate.withdraw(stored, status));
            let work = work.map(StoreWork::Write);
            let coding = conditions.coding_decision(response.status(), WriteCoding::AsInDraft);
            FillReply { response, stored: Stored::No(reason), work, coding }
        }
    }
}

impl ClientConditions {
    /// Returns whether the cache still has to decide if it codes a response with this status. It has
    /// decided for a 304 of its own, of which the request that the handler got says nothing.
    fn coding_decision(self, status: StatusCode, coding: WriteCoding) -> CodingDecision {
        match self {
            Self::ByCache if status == StatusCode::NOT_MODIFIED => CodingDecision::Made,
            Self::ByCache | Self::ByHandler => CodingDecision::Due(coding.vary_origin()),
        }
    }
}

impl Candidate {
    /// Returns the write that forbids the cache to serve `stored` stale, if `status`, the status
    /// code of the handler's response, demands this ([`withdraws_stale_responses`]). The write does
    /// not change the freshness lifetime, and the handler can still revalidate the response.
    ///
    /// The write replaces `stored` by a changed copy, so it must not bring back a response that was
    /// invalidated since the lookup. The fill notices invalidations only after it began. `None` is
    /// therefore also returned if `lookup_is_current` is false.
    pub(crate) fn withdraw(
        mut self: Box<Self>,
        stored: &StoredResponse,
        status: StatusCode,
    ) -> Option<Write> {
        let staleness = never_stale(stored.lifetime.staleness);
        let ends = withdraws_stale_responses(status) && stored.lifetime.staleness != staleness;
        if !ends || !self.lookup_is_current {
            return None;
        }
        // The followers do not wait for this write.
        self.leader = None;
        let lifetime = Lifetime { staleness, ..stored.lifetime };
        Some(Write::new(self, Arc::new(StoredResponse { lifetime, ..stored.clone() })))
    }

    fn store<B: MessageBody + 'static>(
        mut self: Box<Self>,
        plan: Box<StoragePlan>,
        response: ServiceResponse<HandlerBody<B>>,
        selected: Option<&Arc<StoredResponse>>,
        now: Timestamp,
    ) -> FillReply<B> {
        let status = response.status();
        let (request, response) = response.into_parts();
        let (mut head, body) = response.into_parts();
        let size = body.size();
        let limit = self.shared.max_body_size(self.rule);
        let body = body.into_bytes().map(|bytes| WholeBody::of(bytes, limit, selected));
        let copied = body.as_ref().map_or(&[][..], WholeBody::to_copy);
        let draft = self.prepare(&plan, status, head.headers_mut(), copied, now);
        let mut write = Write::new(self, draft);
        write.replaced = selected.map(Arc::downgrade).unwrap_or_default();
        let (coding, conditions) = (write.candidate.coding, write.candidate.conditions);
        let (response, stored, work) = match body {
            Ok(WholeBody::TooLarge(bytes)) => {
                let response = head.set_body(CacheBody::whole(bytes));
                (response, Stored::No(NotStored::TooLarge), None)
            }
            Ok(body) => {
                let write = write.with_whole_body(&body);
                add_etag(&mut head, &write.draft);
                let complete = head.set_body(body_for(status, body.bytes()));
                let response = write.respond(complete, body.bytes());
                (response, Stored::Yes, Some(StoreWork::Write(write)))
            }
            // Servers do not poll a body that declares a length of zero.
            Err(body) if size == BodySize::Sized(0) => {
                let write = write.with_body(Bytes::new());
                add_etag(&mut head, &write.draft);
                let complete = head.set_body(CacheBody::pass(body));
                let response = write.respond(complete, &Bytes::new());
                (response, Stored::Yes, Some(StoreWork::Write(write)))
            }
            Err(body) => {
                let declared = declared_length(size, head.headers());
                write.respond_in_stream(head, body, declared)
            }
        };
        let response = ServiceResponse::new(request, response);
        let coding = conditions.coding_decision(response.status(), coding);
        FillReply { response, stored, work, coding }
    }
}

/// Adds to the response for the client the `ETag` that the cache made for the stored response. The
/// client keeps an `ETag` that is sent but not stored.
fn add_etag(head: &mut HttpResponse<()>, stored: &StoredResponse) {
    if let Some(tag) = stored.etag_of_cache()
        && !head.headers().contains_key(ETAG)
    {
        head.headers_mut().insert(ETAG, tag.clone());
    }
}

impl Write {
    /// Makes the response to the client from the complete response, which is going to be stored.
    fn respond<B>(
        &self,
        mut complete: HttpResponse<CacheBody<B>>,
        body: &Bytes,
    ) -> HttpResponse<CacheBody<B>> {
        let Candidate { conditions, special, request, method, coding_support, .. } =
            &*self.candidate;
        if *conditions == ClientConditions::ByHandler {
            return complete;
        }
        let (stored, terms) = (&*self.draft, ClientTerms::of(self.policy()));
        if !special.may_change_reply() && stored.coded.is_none() {
            terms.compression.weaken_tag(*coding_support, complete.headers_mut());
            return complete;
        }
        let request = request.to_map();
        let compression = self.policy().compression();
        // There is no copy yet, but the client may have one of an equal body.
        let chosen = choose(&request, *special, stored, compression, StreamedCoding::Possible);
        let representation = chosen.representation;
        representation.write(stored, complete.headers_mut());
        terms.compression.weaken_tag(*coding_support, complete.headers_mut());
        let forms = terms.forms(stored, &representation);
        apply_request_conditions(method, &request, forms, complete, body)
    }

    /// Makes the response to the client while the body is still arriving from the handler. Also
    /// returns whether the response is being stored, and the work that does so.
    fn respond_in_stream<B: MessageBody + 'static>(
        mut self,
        mut head: HttpResponse<()>,
        body: B,
        declared: Option<u64>,
    ) -> (HttpResponse<CacheBody<B>>, Stored, Option<StoreWork>) {
        // The fields are not needed while the body arrives.
        let request = mem::take(&mut self.candidate.request);
        let Candidate { conditions, special, client, coding_support, .. } = &*self.candidate;
        let (address, terms) = (*client, ClientTerms::of(self.policy()));
        terms.compression.weaken_tag(*coding_support, head.headers_mut());
        let evaluates = *conditions == ClientConditions::ByCache && special.may_change_reply();
        let request = evaluates.then(|| request.to_map());
        let Some(request) = request.filter(|request| client_has_it(request, &head)) else {
            return match tee::begin(body, self, declared) {
                Ok((body, work)) => (head.set_body(body), Stored::Yes, Some(work)),
                Err(body) => {
                    let response = head.set_body(CacheBody::pass(body));
                    (response, Stored::No(NotStored::Busy), None)
                }
            };
        };
        // The client gets its 304 at once, and a task reads the body for later requests. One such
        // task for a key is enough.
        let coordinator = self.candidate.shared.store.coordinator();
        let permit = coordinator.try_continue_fill(&self.candidate.key, address);
        let limit = self.policy().drain_limit();
        let codings = terms.codings;
        let work = permit.and_then(|permit| {
            let (body, work) = tee::begin(body, self, declared).ok()?;
            spawn(async move {
                let _permit = permit;
                if body.drain(limit).await.is_err() {
                    log::debug!("not stored: the response body did not reach its end");
                }
            });
            Some(work)
        });
        let stored = if work.is_some() { Stored::Yes } else { Stored::No(NotStored::Busy) };
        let response = head.set_body(CacheBody::none());
        let response = apply_conditions_without_body(&request, codings, response);
        (response, stored, work)
    }
}
