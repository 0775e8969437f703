//! A request whose response may be stored.

use std::{cell::Cell, rc::Rc, sync::Arc};

use actix_web::http::header::{HeaderMap, HeaderName};
use smallvec::SmallVec;

use super::write::Write;
use crate::{
    clock::Timestamp,
    coordination::{fills::Fill, leader::Leader},
    entry::{key::CacheKey, response::StoredResponse},
    policy::{matched::MatchedRules, response_tags::RequestTags},
    semantics::requester::Requester,
    shared::Shared,
};

/// A request that reaches the handler and whose response may be stored.
pub(crate) struct Candidate {
    pub(crate) shared: Arc<Shared>,
    pub(crate) matched: MatchedRules,
    /// Tags that the request gives its response.
    pub(crate) request_tags: RequestTags,
    pub(crate) key: CacheKey,
    pub(crate) fill: Fill,
    /// Whether no cache key at all was invalidated between the lookup and the start of the fill. If
    /// so, the fill has missed no invalidation of its key since the lookup.
    pub(crate) lookup_is_current: bool,
    /// The request's fields as they reached the cache.
    pub(crate) request: HeaderMap,
    pub(crate) requester: Requester,
    /// The request has `Cache-Control: no-store`.
    pub(crate) request_no_store: bool,
    pub(crate) discriminator: SmallVec<[u8; 32]>,
    /// Fields that select among the entries that are already stored.
    pub(crate) selecting_fields: Box<[HeaderName]>,
    pub(crate) requested: Timestamp,
    pub(crate) conditions: ClientConditions,
    /// Present if this request leads a flight.
    pub(crate) leader: Option<Leader>,
    /// Set once the handler receives a request body that the request head did not announce.
    pub(crate) body_seen: Rc<Cell<bool>>,
}

/// Whether the cache or the handler evaluates the conditions of the client's request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientConditions {
    /// The cache removed them from the request, and applies them to the handler's response.
    ByCache,
    /// The handler sees them.
    ByHandler,
}

impl Candidate {
    /// Turns the candidate into the write of `draft`, whose body is still missing.
    pub(crate) fn into_write(self: Box<Self>, draft: StoredResponse) -> Write {
        let Self { shared, key, fill, leader, .. } = *self;
        Write { shared, key, fill, leader, draft }
    }
}
