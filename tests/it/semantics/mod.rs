//! The rules of HTTP caching (RFC 9110, RFC 9111 and RFC 5861), over real connections.

mod age_and_cache_status;
mod background_refresh;
mod cache_keys;
mod client_conditions;
mod differential;
mod expire;
mod extreme_input;
pub(crate) mod fields;
mod freshness_lifetimes;
mod head_invalidation;
mod head_requests;
mod incomplete_bodies;
mod interleavings;
mod lifetimes_for_clients;
mod ranges;
mod refresh_requests;
mod replayed_fields;
mod request_directives;
mod response_directives;
mod revalidation;
mod serving_stale;
mod status_codes;
mod targeted_fields;
mod unstorable_requests;
mod unstorable_responses;
mod variant_selection;
