//! Many requests for what is not stored, one question to the handler (RFC 9211 section 2.6 calls
//! it collapsing).
//!
//! The first to come asks; the others wait until its answer is stored, and are then answered from
//! the store, each judged for itself as on any look-up: nobody is handed an answer that is not in
//! the store. Where the answer cannot be stored, all ask at once, and for a while nobody waits for
//! that again. Nobody waits for a body that is still on its way either: it may take its client's
//! time, or never end.

use std::time::Duration;

use actix_web::{
    HttpResponse,
    dev::ServiceRequest,
    http::{Method, StatusCode, header::RANGE},
    rt::time::timeout,
};

use crate::{
    body::CacheBody,
    forward::Inquiry,
    outcome::{Forward, NotStored, Outcome},
    semantics::vary::selecting_value,
    service::{Judgement, Walk},
    store::{End, Join, Lead},
};

/// How long a request waits for another's answer before it asks itself. Long enough for most
/// handlers; a client that waited for it in vain waits once.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whose turn it is.
pub(crate) enum Turn<B> {
    /// Another asked, and its answer is this one's, too.
    Answer(HttpResponse<CacheBody<B>>, Outcome),
    /// This one's; others may wait for it.
    Ask(Box<Inquiry>, Option<Leading>),
    /// This one's, and the store fails.
    Pass(Forward),
}

/// A question that others may wait for.
pub(crate) struct Leading {
    lead: Lead,
    rest: Box<[u8]>,
}

impl Leading {
    /// The handler has answered.
    pub(crate) const fn answered(&mut self) {
        self.lead.answered();
    }

    pub(crate) fn stored(self) {
        self.lead.stored();
    }

    pub(crate) fn rest(&self) -> &[u8] {
        &self.rest
    }
}

impl Walk {
    /// Waits for who asks already, or takes the turn.
    pub(crate) async fn turn<B>(
        &self,
        request: &ServiceRequest,
        mut inquiry: Box<Inquiry>,
    ) -> Turn<B> {
        // Once more after a leader that left without an answer, or whose answer was another variant.
        for last in [false, true] {
            let Some(rest) = self.sameness(request, &inquiry) else { break };
            let (key, reason) = (inquiry.asked.key.clone(), inquiry.reason);
            let commons = self.shared.store.commons();
            if commons.is_unstorable(&key, &rest, inquiry.asked.now) {
                break;
            }
            let end = match commons.join(&key, &rest) {
                Join::Lead(lead) => {
                    let leading = Leading { lead, rest };
                    // Since the look-up another may have asked and gone.
                    let unchanged = commons.flights_stored() == inquiry.asked.stored;
                    let found = if unchanged { None } else { self.shared.store.lookup_now(&key) };
                    let Some(found) = found else {
                        return Turn::Ask(inquiry, Some(leading));
                    };
                    return match self.judge(request, inquiry.asked, found) {
                        Judgement::Answer(response, outcome)
                        | Judgement::Refresh(response, outcome, _) => {
                            leading.stored();
                            Turn::Answer(response, outcome.collapsed(reason))
                        }
                        Judgement::Ask(inquiry) => Turn::Ask(inquiry, Some(leading)),
                        Judgement::Pass(reason) => Turn::Pass(reason),
                    };
                }
                Join::Follow(follow) => timeout(PATIENCE, follow.end()).await,
            };
            match end {
                Ok(End::Stored) => {
                    let found = self.look_up(&key).await;
                    match self.judge(request, inquiry.asked, found) {
                        Judgement::Answer(response, outcome)
                        | Judgement::Refresh(response, outcome, _) => {
                            return Turn::Answer(response, outcome.collapsed(reason));
                        }
                        Judgement::Ask(next) => inquiry = next,
                        Judgement::Pass(reason) => return Turn::Pass(reason),
                    }
                }
                Ok(End::Abandoned) => {}
                Ok(End::NotStored) => break,
                Err(_) => {
                    log::debug!("waited too long for another's answer");
                    break;
                }
            }
            if last {
                break;
            }
        }
        Turn::Ask(inquiry, None)
    }

    /// What requests for one key must have in common to share an answer; nothing if this one shares
    /// none.
    fn sameness(&self, request: &ServiceRequest, inquiry: &Inquiry) -> Option<Box<[u8]>> {
        let Inquiry { asked, lookup, selected, .. } = inquiry;
        let shares = *request.method() == Method::GET
            && !asked.directives.no_store
            && (selected.is_some() || !request.headers().contains_key(RANGE));
        if !shares {
            return None;
        }
        let who = asked.requester;
        let mut text = lookup.stamp.get().to_be_bytes().to_vec();
        text.push(u8::from(who.authorised) | u8::from(who.cookies) << 1);
        text.push(u8::from(who.credentials));
        part(&mut text, Some(&asked.split));
        let names = lookup.variants.as_deref().map_or(&[][..], |variants| variants.names());
        for name in names {
            let value = selecting_value(request.headers(), name, &self.shared.checked.comparison);
            part(&mut text, value.as_deref());
        }
        Some(text.into_boxed_slice())
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
        && !matches!(why, NotStored::Overtaken | NotStored::Busy | NotStored::RequestChanged)
}
