//! What HTTP says: pure functions of requests, responses and a point in time.
//!
//! Nothing here waits, reads a clock or knows a store. Section numbers without a name are those
//! of RFC 9111.

pub(crate) mod body;
pub(crate) mod cache_control;
pub(crate) mod client_lifetime;
pub(crate) mod connection;
pub(crate) mod cookies;
pub(crate) mod directive_list;
pub(crate) mod fields;
pub(crate) mod freshness;
pub(crate) mod invalidation;
pub(crate) mod range;
pub(crate) mod request;
pub(crate) mod requester;
pub(crate) mod reuse;
pub(crate) mod staleness;
pub(crate) mod storing;
pub(crate) mod tags;
pub(crate) mod targeted;
pub(crate) mod validation;
pub(crate) mod vary;
