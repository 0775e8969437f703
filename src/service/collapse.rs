//! Collapses requests: many requests for a response that is not stored become one call of the
//! handler (RFC 9211 section 2.6).
//!
//! The first request is the leader and calls the handler. The other requests are followers and wait
//! for the response. Each follower decides for itself whether it may use the response, as if a
//! lookup had found the response in the store. A follower therefore never gets a response that it
//! could not get by a lookup.
//!
//! ```text
//! leader            calls handler -- head ------ body ---------- stored
//!                                     |            |                |
//! length is known                     +-> followers read the body as it arrives
//! length is not known                              followers look up the store
//! not storable                        +-> followers call the handler, and for ten seconds
//!                                         requests do not wait (hit-for-miss)
//! leader disconnects                  +-> another request leads, and the others wait again
//! takes too long                      +-> followers get a stale response or call the handler,
//!                                         and a later request becomes the next leader
//! ```

use std::sync::Arc;

use actix_web::{
    body::MessageBody,
    dev::ServiceRequest,
    http::{Method, header::HeaderName},
    rt::time::timeout,
};

use super::{
    after_wait::{Next, collapsed},
    context::{OriginRequest, Purpose, RequestContext},
    lookup::Decision,
};
use crate::{
    coordination::{
        flights::{
            CollapseKey, CollapseText, FlightEnd, FlightEvent, FlightFollower, FlightRole,
            ResponseInProgress,
        },
        leader::Leader,
        shared_body::NotReadable,
    },
    entry::{
        length_prefixed::{append_optional, append_part},
        variants::Variants,
    },
    response::body::CacheBody,
    semantics::vary::selecting_value,
    store::interface::Lookup,
};

/// The largest number of times that a request tries to follow another request or to become a
/// leader. A request tries again if its leader disconnected, if the leader's response was another
/// variant, or if the leader's response added a selecting field (a request field that chooses the
/// variant).
const MAX_ROUNDS: usize = 3;

/// The part that a request has in the collapsing of requests.
pub(crate) enum Role {
    /// The request calls the handler at once, as most leaders do. If it has a [`Leader`], followers may
    /// wait for its response.
    CallsNow(Box<OriginRequest>, Option<Leader>),
    /// The request is a leader that calls the handler only if no other request or process has stored a
    /// response meanwhile.
    LooksAgain(Box<OriginRequest>, Leader),
    /// The request waits for the response of the leader.
    Follows(Box<OriginRequest>, FlightFollower),
}

impl Role {
    /// Returns the reason for calling the handler.
    pub(crate) fn purpose(&self) -> Purpose {
        let (Self::CallsNow(origin, _) | Self::LooksAgain(origin, _) | Self::Follows(origin, _)) =
            self;
        origin.purpose
    }
}

impl RequestContext {
    /// Returns the role of a request. `learned` are the selecting fields that the responses of leaders
    /// have added.
    pub(crate) fn role(
        &self,
        request: &ServiceRequest,
        origin: Box<OriginRequest>,
        learned: &[HeaderName],
    ) -> Role {
        if origin.never_fresh {
            return Role::CallsNow(origin, None);
        }
        let Some(collapse_key) = self.collapse_key(request, &origin, learned) else {
            return Role::CallsNow(origin, None);
        };
        let store = &self.shared.store;
        let (key, now) = (&origin.cache_request.key, origin.cache_request.now);
        if store.coordinator().is_hit_for_miss(key, collapse_key.as_bytes(), now) {
            return Role::CallsNow(origin, None);
        }
        match store.coordinator().join(key, collapse_key) {
            FlightRole::Leader(flight) => {
                let leader = Leader::new(flight);
                // Most leaders have nothing to wait for.
                if store.supports_leases() || self.may_find_response(&origin) {
                    Role::LooksAgain(origin, leader)
                } else {
                    Role::CallsNow(origin, Some(leader))
                }
            }
            FlightRole::Follower(flight) => Role::Follows(origin, flight),
        }
    }

    /// Waits for the response to another request, or until this request may call the handler. Returns
    /// the next step of the request.
    pub(crate) async fn collapse<B: MessageBody>(
        &self,
        request: &ServiceRequest,
        mut role: Role,
    ) -> Next<B> {
        let mut learned = Vec::new();
        let mut lease_deadline = self.lease_deadline();
        let mut rounds = 0;
        loop {
            let next = match role {
                Role::CallsNow(origin, leader) => Next::Fetch(origin, leader),
                Role::LooksAgain(origin, leader) => {
                    self.lead(request, origin, leader, lease_deadline.as_mut()).await
                }
                Role::Follows(origin, flight) => {
                    self.follow(request, origin, flight, &mut learned).await
                }
            };
            rounds += 1;
            role = match next {
                Next::Retry(origin) if rounds < MAX_ROUNDS => self.role(request, origin, &learned),
                Next::Retry(origin) => return Next::Fetch(origin, None),
                next @ (Next::Respond(..) | Next::Fetch(..) | Next::Bypass(_)) => return next,
            };
        }
    }

    async fn follow<B: MessageBody>(
        &self,
        request: &ServiceRequest,
        origin: Box<OriginRequest>,
        mut flight: FlightFollower,
        learned: &mut Vec<HeaderName>,
    ) -> Next<B> {
        let limit = self.policy().wait_limit();
        let reason = origin.reason;
        // A range is cut only from a complete response, so a request with `Range` waits for the end
        // of the body.
        let end = if self.has_range(request.headers()) {
            timeout(limit, flight.end()).await
        } else {
            match timeout(limit, flight.next_event()).await {
                Ok(FlightEvent::Ended(end, _)) => Ok(end),
                Ok(FlightEvent::ResponseInProgress(in_progress)) => {
                    let selecting = in_progress.response.selecting.iter();
                    let selecting = selecting.map(|(name, _)| name.clone());
                    let next = self.follow_body(request, origin, &in_progress);
                    if matches!(next, Next::Retry(_)) {
                        learned.extend(selecting);
                    }
                    return next;
                }
                Err(elapsed) => Err(elapsed),
            }
        };
        match end {
            Ok(FlightEnd::Stored) => match self.next_after_lookup(request, *origin).await {
                Next::Fetch(origin, _) => match self.shared_answer(&origin, reason) {
                    Some((answer, outcome)) => {
                        Next::Respond(answer.respond(request.method(), request.headers()), outcome)
                    }
                    None => Next::Retry(origin),
                },
                next @ (Next::Respond(..) | Next::Bypass(_) | Next::Retry(_)) => next,
            },
            Ok(FlightEnd::Abandoned) => Next::Retry(origin),
            Ok(FlightEnd::NotStored | FlightEnd::Failed) => Next::Fetch(origin, None),
            Ok(FlightEnd::Overdue) | Err(_) => {
                log::debug!("waited too long for the response to another request");
                match self.next_after_lookup(request, *origin).await {
                    Next::Fetch(origin, _) => match self.stale_for_follower(request, &origin) {
                        Some((response, outcome)) => Next::Respond(response, outcome),
                        None => Next::Fetch(origin, None),
                    },
                    next @ (Next::Respond(..) | Next::Bypass(_) | Next::Retry(_)) => next,
                }
            }
        }
    }

    /// Answers the request with a response whose body the cache is still receiving, if that
    /// response may answer the request.
    fn follow_body<B: MessageBody>(
        &self,
        request: &ServiceRequest,
        origin: Box<OriginRequest>,
        in_progress: &ResponseInProgress,
    ) -> Next<B> {
        let known = origin.lookup.variants.as_deref();
        let variants = Variants::merge(known, Arc::clone(&in_progress.response));
        let (variants, reader) = match (variants, in_progress.body.reader()) {
            (Some(variants), Ok(reader)) => (variants, reader),
            (_, Err(NotReadable::NoRoom)) => return Next::Fetch(origin, None),
            (_, Err(NotReadable::Ended)) | (None, _) => return Next::Retry(origin),
        };
        let OriginRequest { cache_request, lookup, reason, selected, never_fresh, purpose } =
            *origin;
        let found = Lookup::new(Some(Arc::new(variants)), lookup.stamp);
        match self.decide(request, cache_request, Ok(found)) {
            Decision::Respond(response, outcome)
            | Decision::RespondAndRefresh(response, outcome, _)
                if Arc::ptr_eq(&response.selected.stored, &in_progress.response) =>
            {
                let body = CacheBody::followed(reader, in_progress.length);
                let response = response.respond_with(body, request.headers());
                let response = self.code_followed(request, response, &in_progress.response);
                Next::Respond(response, outcome.after_waiting(reason))
            }
            // The response in progress may not answer the request, and cannot be revalidated,
            // because it is not stored yet. The request tries again.
            Decision::Fetch(next) => {
                if let Some((answer, outcome)) = self.shared_answer(&next, reason)
                    && Arc::ptr_eq(&answer.selected.stored, &in_progress.response)
                {
                    let body = CacheBody::followed(reader, in_progress.length);
                    let response = answer.respond_with(body, request.headers());
                    let response = self.code_followed(request, response, &in_progress.response);
                    return Next::Respond(response, outcome);
                }
                let cache_request = next.cache_request;
                let origin = Box::new(OriginRequest {
                    cache_request,
                    lookup,
                    reason,
                    selected,
                    never_fresh,
                    purpose,
                });
                if next.never_fresh { Next::Fetch(origin, None) } else { Next::Retry(origin) }
            }
            decision => collapsed(request, decision, reason),
        }
    }

    /// Computes the collapse key of a request: the values that must be equal in all requests of a
    /// flight. Returns `None` if the request must not share a response in progress.
    fn collapse_key(
        &self,
        request: &ServiceRequest,
        origin: &OriginRequest,
        learned: &[HeaderName],
    ) -> Option<CollapseKey> {
        let OriginRequest { cache_request, lookup, selected, .. } = origin;
        let shares = *request.method() != Method::HEAD
            && !cache_request.directives.no_store
            && (selected.is_some() || !self.has_range(request.headers()));
        if !shares {
            return None;
        }
        let policy = self.policy();
        let requester = cache_request.carried;
        // The logical time of the lookup is part of the key, so that requests from before and after
        // an invalidation do not share a response.
        let mut text = CollapseText::from_slice(&lookup.stamp.get().to_le_bytes());
        text.push(u8::from(requester.has_authorization));
        text.push(u8::from(requester.has_cookies));
        text.push(u8::from(requester.has_credentials));
        append_part(&mut text, &cache_request.discriminator);
        let known =
            lookup.variants.as_deref().map_or(&[][..], |variants| variants.selecting_fields());
        let further = learned.iter().filter(|name| !known.contains(name));
        let fields: Box<[_]> = known.iter().chain(further).cloned().collect();
        for name in &fields {
            let value = selecting_value(request.headers(), name, &policy.comparison);
            append_optional(&mut text, value.as_deref());
        }
        Some(CollapseKey::new(text, fields))
    }
}
