//! The rules of HTTP caching, as pure functions of requests, responses and the time.
//!
//! The functions neither wait nor read a clock nor use a store, so that each rule can be tested with
//! a table of cases. They return the reasons for their decisions. The section of the RFC stands
//! above the code that implements it. Sections without an RFC number are those of the RFC that the
//! first line of the file names, or else of RFC 9111.

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
