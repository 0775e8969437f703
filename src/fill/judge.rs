//! Asks the functions of the application whether a response is stored
//! ([`Policy::store_if`](crate::Policy::store_if)), after all checks of the cache.

use actix_web::{
    body::{BodySize, MessageBody},
    dev::ServiceResponse,
    http::header::HeaderMap,
};
use bytes::Bytes;

use super::candidate::Candidate;
use crate::{
    clock::Timestamp,
    entry::response::StoredResponse,
    outcome::NotStored,
    policy::store_if::{StorableResponse, StoreDecision},
    semantics::{reuse::is_server_failure, storing::StoragePlan},
};

/// A response of the handler, and the decision whether it is stored.
pub(crate) struct JudgedResponse<B> {
    pub(crate) response: ServiceResponse<HandlerBody<B>>,
    pub(crate) plan: Result<Box<StoragePlan>, Refusal>,
    /// The time of the decision.
    pub(crate) now: Timestamp,
}

impl<B> JudgedResponse<B> {
    /// Returns whether a stale response may answer in place of this response: the response is a
    /// server error that is not stored, or the application calls it an error.
    pub(crate) fn is_failure(&self) -> bool {
        match &self.plan {
            Ok(_) => false,
            Err(Refusal::Failure(_)) => true,
            Err(Refusal::Response(_)) => is_server_failure(self.response.status()),
        }
    }
}

/// The reason why a response is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The response is not stored.
    Response(NotStored),
    /// The application calls the response an error, for this reason, although its status code may
    /// say otherwise. The response does not change the stored response.
    Failure(&'static str),
}

impl Refusal {
    pub(crate) const fn reason(self) -> NotStored {
        match self {
            Self::Response(reason) => reason,
            Self::Failure(reason) => NotStored::Application(reason),
        }
    }
}

/// The body of a handler's response.
pub(crate) enum HandlerBody<B> {
    /// The handler made the whole body at once.
    Whole(Bytes),
    /// The body as the handler sent it: the cache has not read it.
    Unread(B),
}

impl<B: MessageBody> HandlerBody<B> {
    /// Returns the whole body, or the body as the handler sent it if that is a stream.
    pub(crate) fn into_bytes(self) -> Result<Bytes, B> {
        match self {
            Self::Whole(bytes) => Ok(bytes),
            Self::Unread(body) => body.try_into_bytes(),
        }
    }

    pub(crate) fn size(&self) -> BodySize {
        match self {
            Self::Whole(bytes) => BodySize::Sized(bytes.len() as u64),
            Self::Unread(body) => body.size(),
        }
    }
}

impl Candidate {
    /// Decides whether a response is stored. The functions of the application are asked once, and
    /// only about a response that passes all other checks.
    pub(crate) fn judge<B: MessageBody>(&self, response: ServiceResponse<B>) -> JudgedResponse<B> {
        let now = self.shared.now();
        let plan = match self.plan(&response, now) {
            Ok(plan) if self.policy().has_store_tests() => plan,
            plan => {
                let response = response.map_body(|_, body| HandlerBody::Unread(body));
                return JudgedResponse { response, plan: plan.map_err(Refusal::Response), now };
            }
        };
        let (request, response) = response.into_parts();
        let (head, body) = response.into_parts();
        let size = body.size();
        let (body, seen) = match body.try_into_bytes() {
            Ok(bytes) => (HandlerBody::Whole(bytes.clone()), Some(bytes)),
            // Servers do not poll a body that declares a length of zero.
            Err(body) => (HandlerBody::Unread(body), (size == BodySize::Sized(0)).then(Bytes::new)),
        };
        let seen = StorableResponse::new(head.status(), head.headers(), seen.as_ref());
        let refusal = match self.policy().store_decision(&request, &seen) {
            StoreDecision::Store => None,
            StoreDecision::DoNotStore(reason) => {
                Some(Refusal::Response(NotStored::Application(reason)))
            }
            StoreDecision::KeepStored(reason) => Some(Refusal::Failure(reason)),
        };
        let response = ServiceResponse::new(request, head.set_body(body));
        JudgedResponse { response, plan: refusal.map_or(Ok(plan), Err), now }
    }

    /// Decides whether `updated`, a stored response, may be updated by `answer`: a 304 or a response
    /// to HEAD. `fields` are the fields of the stored response after the update.
    pub(crate) fn judge_update<B>(
        &self,
        answer: &ServiceResponse<B>,
        updated: &StoredResponse,
        fields: &HeaderMap,
        now: Timestamp,
    ) -> Result<Box<StoragePlan>, NotStored> {
        let plan = self.decide(answer, Some(updated), fields, now)?;
        if !self.policy().has_store_tests() {
            return Ok(plan);
        }
        let seen = StorableResponse::new(updated.status, fields, Some(&updated.body));
        match self.policy().store_decision(answer.request(), &seen) {
            StoreDecision::Store => Ok(plan),
            StoreDecision::DoNotStore(reason) | StoreDecision::KeepStored(reason) => {
                Err(NotStored::Application(reason))
            }
        }
    }
}
