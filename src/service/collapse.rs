//! Many requests for what is not stored, one question to the handler (RFC 9211 section 2.6 calls
//! it collapsing).
//!
//! The first to come asks; the others wait for its answer, and each judges that for itself, as if it
//! had been found in the store: nobody is handed what the store would not give it.
//!
//! ```text
//! the first      asks --- head --------- body ------------- stored
//!                          |               |                   |
//! length known             +-> they read the body as it comes  |
//! whole, or not known                          they are answered from the store
//! cannot be stored         +-> they all ask, and for ten seconds nobody waits for that again
//! gone, no answer          +-> another asks, and the rest wait for it, once
//! takes too long           +-> they ask for themselves; who comes then begins anew
//! ```

use std::{pin::Pin, sync::Arc};

use actix_web::{
    HttpResponse,
    dev::ServiceRequest,
    http::{
        Method, StatusCode,
        header::{HeaderName, RANGE},
    },
    rt::time::{Sleep, timeout},
};

use crate::{
    clock::Timestamp,
    coordination::coordinator::Coordinator,
    coordination::flights::{
        FlightEnd, FlightEvent, FlightFollower, FlightLeader, FlightRole, ResponseInProgress,
    },
    coordination::lease::{LeaseEnd, LeaseGuard},
    entry::key::CacheKey,
    entry::validity::Validity,
    entry::variants::Variants,
    outcome::{Forward, NotStored, Outcome},
    response::body::CacheBody,
    response::cached::{answer, answer_with},
    semantics::reuse::may_serve_stale_on_error,
    semantics::vary::selecting_value,
    service::origin::{OriginRequest, Purpose},
    service::stale_if_error::stale,
    service::{Decision, RequestContext},
    store::interface::Lookup,
};

/// Whose turn it is.
pub(crate) enum CollapseResult<B> {
    /// Another asked, and its answer is this one's, too.
    Answer(HttpResponse<CacheBody<B>>, Outcome),
    /// This one's; others may wait for it.
    Ask(Box<OriginRequest>, Option<Leader>),
    /// This one's, and the store fails.
    Pass(Forward),
}

/// A question that others may wait for.
pub(crate) struct Leader {
    lead: FlightLeader,
    sameness: CollapseKey,
    /// Kept while other processes wait, too.
    lease: Option<LeaseGuard>,
}

/// What requests for one key have in common if they share an answer.
struct CollapseKey {
    text: Box<[u8]>,
    /// Their fields that it takes in.
    names: Box<[HeaderName]>,
}

impl Leader {
    /// Unless the answer comes to be stored, this is how it ends for those who wait.
    pub(crate) const fn set_end_on_drop(&mut self, end: FlightEnd) {
        self.lead.set_end_on_drop(end);
    }

    pub(crate) fn publish_head(&self, coming: ResponseInProgress) {
        self.lead.publish_head(coming);
    }

    pub(crate) fn release_followers(&self) {
        self.lead.release_followers();
    }

    pub(crate) fn has_followers(&self) -> bool {
        self.lead.has_followers()
    }

    pub(crate) fn stored(self) {
        if let Some(lease) = self.lease {
            lease.end(LeaseEnd::Stored);
        }
        self.lead.stored();
    }

    /// The answer cannot be stored: for a while nobody waits for the next one, in any process.
    pub(crate) fn mark_hit_for_miss(
        &mut self,
        coordinator: &Coordinator,
        key: &CacheKey,
        now: Timestamp,
    ) {
        coordinator.mark_hit_for_miss(key, self.rest(), now);
        if let Some(lease) = self.lease.take() {
            lease.end(LeaseEnd::Unstorable);
        }
    }

    /// From now on other processes wait, too.
    pub(crate) fn hold(&mut self, lease: LeaseGuard) {
        self.lease = Some(lease);
    }

    pub(crate) fn rest(&self) -> &[u8] {
        &self.sameness.text
    }

    /// Whether what was found meanwhile tells apart those who were one till then.
    pub(crate) fn parts(&self, found: &Lookup) -> bool {
        let names = found.variants.as_deref().map_or(&[][..], Variants::selecting_fields);
        !names.iter().all(|name| self.sameness.names.contains(name))
    }
}

/// How waiting for another's answer ended.
pub(crate) enum Waited<B> {
    Ended(CollapseResult<B>),
    /// It may be worth it to wait once more.
    Again(Box<OriginRequest>),
}

/// What one who is about to ask found in the store.
pub(crate) enum Look<B> {
    /// It need not ask.
    Found(CollapseResult<B>),
    Nothing(Box<OriginRequest>, Leader),
}

impl RequestContext {
    /// Waits for who asks already, or takes the turn.
    pub(crate) async fn turn<B>(
        &self,
        request: &ServiceRequest,
        mut inquiry: Box<OriginRequest>,
    ) -> CollapseResult<B> {
        // Fields that others' answers turned out to be selected by.
        let mut learnt = Vec::new();
        let mut patience = self.patience();
        // Again after a leader that left without an answer or whose answer was another variant, and
        // when it turns out that there are variants.
        for _ in 0..3 {
            let Some(sameness) = self.sameness(request, &inquiry, &learnt) else { break };
            let coordinator = self.shared.store.coordinator();
            if coordinator.is_hit_for_miss(&inquiry.asked.key, &sameness.text, inquiry.asked.now) {
                break;
            }
            let waited = match coordinator.join(&inquiry.asked.key, &sameness.text) {
                FlightRole::Leader(lead) => {
                    let leading = Leader { lead, sameness, lease: None };
                    self.lead(request, inquiry, leading, patience.as_mut()).await
                }
                FlightRole::Follower(follow) => {
                    self.follow(request, inquiry, follow, &mut learnt).await
                }
            };
            match waited {
                Waited::Ended(turn) => return turn,
                Waited::Again(next) => inquiry = next,
            }
        }
        CollapseResult::Ask(inquiry, None)
    }

    async fn lead<B>(
        &self,
        request: &ServiceRequest,
        mut inquiry: Box<OriginRequest>,
        mut leading: Leader,
        patience: Option<&mut Pin<Box<Sleep>>>,
    ) -> Waited<B> {
        // Since the look-up another may have asked and gone.
        if self.shared.store.coordinator().stored_count() != inquiry.asked.stored {
            match self.look_once_more(request, inquiry, leading).await {
                Look::Found(turn) => return Waited::Ended(turn),
                Look::Nothing(next, still) => (inquiry, leading) = (next, still),
            }
            if leading.parts(&inquiry.lookup) {
                leading.stored();
                return Waited::Again(inquiry);
            }
        }
        match patience {
            // Apart, for its size: most caches have nobody to wait for.
            Some(patience) => Box::pin(self.sail(request, inquiry, leading, patience)).await,
            None => Waited::Ended(CollapseResult::Ask(inquiry, Some(leading))),
        }
    }

    /// Looks whether another's answer is stored meanwhile, before the handler is asked.
    pub(crate) async fn look_once_more<B>(
        &self,
        request: &ServiceRequest,
        inquiry: Box<OriginRequest>,
        leading: Leader,
    ) -> Look<B> {
        let OriginRequest { asked, reason, purpose, .. } = *inquiry;
        let asked = self.later(asked);
        let found = self.find(request.headers(), &asked).await;
        match self.judge(request, asked, found) {
            Decision::Refresh(_, _, inquiry) if purpose == Purpose::Refresh => {
                Look::Nothing(inquiry, leading)
            }
            Decision::Answer(response, outcome) | Decision::Refresh(response, outcome, _) => {
                leading.stored();
                Look::Found(CollapseResult::Answer(response, outcome.collapsed(reason)))
            }
            Decision::Ask(inquiry) => Look::Nothing(inquiry, leading),
            Decision::Pass(reason) => Look::Found(CollapseResult::Pass(reason)),
        }
    }

    async fn follow<B>(
        &self,
        request: &ServiceRequest,
        inquiry: Box<OriginRequest>,
        mut follow: FlightFollower,
        learnt: &mut Vec<HeaderName>,
    ) -> Waited<B> {
        let limit = self.shared.checked.wait_limit();
        let end = if request.headers().contains_key(RANGE) {
            timeout(limit, follow.end()).await
        } else {
            match timeout(limit, follow.next_event()).await {
                Ok(FlightEvent::Ended(end)) => Ok(end),
                Ok(FlightEvent::ResponseInProgress(coming)) => {
                    return match self.read_along(request, inquiry, &coming) {
                        Ok(turn) => Waited::Ended(turn),
                        Err(inquiry) => {
                            let selecting = coming.response.selecting.iter();
                            learnt.extend(selecting.map(|(name, _)| name.clone()));
                            Waited::Again(inquiry)
                        }
                    };
                }
                Err(elapsed) => Err(elapsed),
            }
        };
        match end {
            Ok(FlightEnd::Stored) => self.look_again(request, *inquiry, Waited::Again).await,
            Ok(FlightEnd::Abandoned) => Waited::Again(inquiry),
            Ok(FlightEnd::NotStored | FlightEnd::Failed) => {
                Waited::Ended(CollapseResult::Ask(inquiry, None))
            }
            Ok(FlightEnd::Overdue) | Err(_) => {
                log::debug!("waited too long for another's answer");
                self.look_again(request, *inquiry, |inquiry| {
                    let instead = self.instead(request, inquiry);
                    Waited::Ended(
                        instead.unwrap_or_else(|inquiry| CollapseResult::Ask(inquiry, None)),
                    )
                })
                .await
            }
        }
    }

    async fn look_again<B>(
        &self,
        request: &ServiceRequest,
        inquiry: OriginRequest,
        otherwise: impl FnOnce(Box<OriginRequest>) -> Waited<B>,
    ) -> Waited<B> {
        let OriginRequest { asked, reason, .. } = inquiry;
        let asked = self.later(asked);
        let found = self.find(request.headers(), &asked).await;
        match self.judge(request, asked, found) {
            Decision::Answer(response, outcome) | Decision::Refresh(response, outcome, _) => {
                Waited::Ended(CollapseResult::Answer(response, outcome.collapsed(reason)))
            }
            Decision::Ask(next) => otherwise(next),
            Decision::Pass(reason) => Waited::Ended(CollapseResult::Pass(reason)),
        }
    }

    /// Something stale in place of an answer that does not come, where that is allowed (RFC 5861
    /// section 4).
    pub(crate) fn instead<B>(
        &self,
        request: &ServiceRequest,
        inquiry: Box<OriginRequest>,
    ) -> Result<CollapseResult<B>, Box<OriginRequest>> {
        let now = self.shared.settings.clock.now();
        let windows = self.shared.checked.windows();
        let validity =
            |stored| self.shared.store.coordinator().validity(&inquiry.asked.key, stored);
        let rescuer = inquiry.selected.as_deref().filter(|stored| {
            let validity = validity(stored);
            validity != Validity::Purged
                && may_serve_stale_on_error(stored, validity.expired_since(), windows, now)
        });
        let Some(stored) = rescuer else { return Err(inquiry) };
        let response = stale(request.method(), request.headers(), stored, now);
        let outcome = Outcome::StaleIfError { reason: inquiry.reason, status: None };
        Ok(CollapseResult::Answer(response, outcome))
    }
}

impl RequestContext {
    /// Another's answer whose body is still on its way, where it is this one's, too.
    fn read_along<B>(
        &self,
        request: &ServiceRequest,
        inquiry: Box<OriginRequest>,
        coming: &ResponseInProgress,
    ) -> Result<CollapseResult<B>, Box<OriginRequest>> {
        let known = inquiry.lookup.variants.as_deref();
        let variants = Variants::add(known, Arc::clone(&coming.response), usize::MAX);
        let (Some(variants), Some(reader)) = (variants, coming.body.reader()) else {
            return Err(inquiry);
        };
        let OriginRequest { asked, lookup, reason, selected, purpose } = *inquiry;
        let found = Ok(Lookup::new(Some(Arc::new(variants)), lookup.stamp));
        let fields = request.headers();
        let judged = self.judge_with(request, asked, found, |stored, age, left, now| {
            if Arc::ptr_eq(stored, &coming.response) {
                let body = CacheBody::followed(reader, coming.length);
                answer_with(body, fields, stored, age, left, now)
            } else {
                answer(request.method(), fields, stored, age, left, now)
            }
        });
        match judged {
            Decision::Answer(response, outcome) | Decision::Refresh(response, outcome, _) => {
                Ok(CollapseResult::Answer(response, outcome.collapsed(reason)))
            }
            // What is not in the store is nothing to ask the handler about.
            Decision::Ask(next) => {
                let asked = next.asked;
                Err(Box::new(OriginRequest { asked, lookup, reason, selected, purpose }))
            }
            Decision::Pass(reason) => Ok(CollapseResult::Pass(reason)),
        }
    }

    /// What others must have in common with this request to share an answer; nothing if it shares
    /// none.
    fn sameness(
        &self,
        request: &ServiceRequest,
        inquiry: &OriginRequest,
        learnt: &[HeaderName],
    ) -> Option<CollapseKey> {
        let OriginRequest { asked, lookup, selected, .. } = inquiry;
        let shares = *request.method() == Method::GET
            && !asked.directives.no_store
            && (selected.is_some() || !request.headers().contains_key(RANGE));
        if !shares {
            return None;
        }
        let who = asked.requester;
        let mut text = lookup.stamp.get().to_be_bytes().to_vec();
        text.push(u8::from(who.has_authorization) | u8::from(who.cookies) << 1);
        text.push(u8::from(who.credentials));
        part(&mut text, Some(&asked.discriminator));
        let names =
            lookup.variants.as_deref().map_or(&[][..], |variants| variants.selecting_fields());
        let further = learnt.iter().filter(|name| !names.contains(name));
        let names: Box<[_]> = names.iter().chain(further).cloned().collect();
        for name in &names {
            let value = selecting_value(request.headers(), name, &self.shared.checked.comparison);
            part(&mut text, value.as_deref());
        }
        Some(CollapseKey { text: text.into_boxed_slice(), names })
    }
}

/// With its length, so that no two lists of parts are one text.
fn part(text: &mut Vec<u8>, value: Option<&[u8]>) {
    let length = value.map_or(u64::MAX, |value| value.len() as u64);
    text.extend_from_slice(&length.to_be_bytes());
    text.extend_from_slice(value.unwrap_or_default());
}

/// Whether an answer that is not stored for this reason would not be stored the next time either.
pub(crate) fn is_lasting(why: NotStored, status: StatusCode) -> bool {
    // A handler that fails may succeed soon, and many ask for it meanwhile.
    !status.is_server_error()
        && !matches!(why, NotStored::Invalidated | NotStored::Busy | NotStored::RequestChanged)
}
