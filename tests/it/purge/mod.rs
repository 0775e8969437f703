//! Purges, expiry and invalidation by unsafe requests.

mod app;
mod client_fields;
mod emitted_tags;
mod errors;
mod events;
mod handle;
mod invented_urls;
mod model;
mod paths;
mod post_responses;
mod races;
mod targets;
mod tenants;
mod unsafe_methods;
mod url_invalidation;
mod urls;
