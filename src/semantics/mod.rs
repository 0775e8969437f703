//! The rules of HTTP caching, as pure functions of requests, responses and the time.
//!
//! The functions do not wait, read a clock or use a store, so each rule can be tested by a table of
//! cases. A function that refuses to handle a request or to store a response returns the reason.
//!
//! Comments cite the RFC section that the code below them implements. A section without an RFC
//! number belongs to the RFC that the first line of the file names, or else to RFC 9111.

pub(crate) mod accept_encoding;
pub(crate) mod body;
pub(crate) mod cache_control;
pub(crate) mod client_lifetime;
pub(crate) mod coded_copies;
pub(crate) mod compression;
pub(crate) mod connection;
pub(crate) mod content_security_policy;
pub(crate) mod content_tag;
pub(crate) mod cookies;
pub(crate) mod dates;
pub(crate) mod directive_list;
pub(crate) mod fields;
pub(crate) mod freshness;
pub(crate) mod invalidation;
pub(crate) mod no_vary_search;
pub(crate) mod present_fields;
pub(crate) mod range;
pub(crate) mod recent_values;
pub(crate) mod replayed_fields;
pub(crate) mod request;
pub(crate) mod request_fields;
pub(crate) mod requester;
pub(crate) mod reuse;
pub(crate) mod special_fields;
pub(crate) mod staleness;
pub(crate) mod status;
pub(crate) mod storing;
pub(crate) mod streamed_coding;
pub(crate) mod tags;
pub(crate) mod targeted;
pub(crate) mod validation;
pub(crate) mod vary;
mod weights;
