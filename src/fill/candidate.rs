//! `Candidate`: a request whose response may be stored.

use std::{net::IpAddr, sync::Arc};

use actix_web::http::{Method, Uri, header::HeaderName};
use bytes::Bytes;

use crate::{
    clock::Timestamp,
    coordination::{fills::Fill, leader::Leader},
    entry::{
        content_coding::ContentCoding, discriminator::Discriminator, key::CacheKey,
        response::Audience, url_keys::AppliedRule,
    },
    policy::{compiled::CompiledPolicy, response_tags::RequestTags},
    semantics::{
        compression::CodingSupport,
        no_vary_search::NoVarySearch,
        request_fields::RequestFields,
        requester::{Requester, Sharing},
        special_fields::SpecialFields,
        streamed_coding::VaryOrigin,
    },
    session::SessionBefore,
    shared::SharedRef,
};

/// A request that reaches the handler and whose response may be stored.
pub(crate) struct Candidate {
    pub(crate) shared: SharedRef,
    /// The rule whose policy applies to the request.
    pub(crate) rule: AppliedRule,
    /// The tags that the policy gives the response to this request.
    pub(crate) request_tags: RequestTags,
    pub(crate) key: CacheKey,
    pub(crate) fill: Fill,
    /// Whether no cache key at all was invalidated between the lookup and the start of the fill. If
    /// so, the fill has missed no invalidation of its key since the lookup.
    pub(crate) lookup_is_current: bool,
    pub(crate) method: Method,
    /// The `No-Vary-Search` in the cache key, if the key has one.
    pub(crate) variance: Option<Arc<NoVarySearch>>,
    /// The body of the request, if it is part of the cache key.
    pub(crate) body: Option<Bytes>,
    /// The target of the request as the cache received it.
    pub(crate) uri: Uri,
    /// The header fields of the request as the cache received them.
    pub(crate) request: RequestFields,
    /// Whether the client accepts a coding of actix's `Compress`.
    pub(crate) coding_support: CodingSupport,
    /// The special fields that the request may have.
    pub(crate) special: SpecialFields,
    pub(crate) requester: Requester,
    /// The clients that may share the stored response.
    pub(crate) sharing: Sharing,
    /// The session of the request before the handler is called.
    pub(crate) session: SessionBefore,
    /// The address or network of the client, or of the proxy that forwarded the request.
    pub(crate) client: Option<IpAddr>,
    /// Whether the request has `Cache-Control: no-store`.
    pub(crate) request_no_store: bool,
    pub(crate) discriminator: Discriminator,
    /// The request fields that select among the variants that are already stored under the key.
    pub(crate) selecting_fields: Box<[HeaderName]>,
    /// The clients that the stored response may answer which this request revalidates or replaces.
    /// If a client that accepts a coding has received it without one, its successors answer everyone
    /// as well.
    pub(crate) replaced_audience: Option<Audience>,
    /// Whether the cache may make coded copies of the response that is being prepared.
    pub(crate) coding: WriteCoding,
    pub(crate) requested: Timestamp,
    pub(crate) conditions: ClientConditions,
    /// The leader of the flight, if other requests may wait for the response to this request
    /// (request collapsing). A flight is one handler call whose response several requests may
    /// share.
    pub(crate) leader: Option<Leader>,
}

/// Whether the cache or the handler evaluates the conditions of the client's request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientConditions {
    /// The cache removed the conditions from the request, and applies them to the handler's
    /// response.
    ByCache,
    /// The handler receives the conditions and evaluates them.
    ByHandler,
}

/// Whether the cache makes coded copies of a response that will be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum WriteCoding {
    /// The draft says whether there may be copies.
    #[default]
    AsInDraft,
    /// There may be copies if the body is large enough. The client prefers this coding.
    ByCache { preferred: Option<ContentCoding> },
}

impl WriteCoding {
    /// Returns the party that added `Accept-Encoding` to `Vary` of the response, if the field is there.
    pub(crate) const fn vary_origin(self) -> VaryOrigin {
        match self {
            Self::AsInDraft => VaryOrigin::Handler,
            Self::ByCache { .. } => VaryOrigin::Cache,
        }
    }
}

impl Candidate {
    /// Returns the policy that applies to the request.
    pub(crate) fn policy(&self) -> &CompiledPolicy {
        self.shared.policy(self.rule)
    }

    /// Returns the body of a stored response for the client. The body counts as held, if the limit
    /// permits it.
    pub(crate) fn hold_body(&self, body: &Bytes) -> Bytes {
        let held_bodies = self.shared.store.coordinator().held_bodies();
        let held = held_bodies.hold(&self.key, body, self.client);
        held.unwrap_or_else(|| body.clone())
    }
}
