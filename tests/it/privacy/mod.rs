//! No client gets a response that was made for another client.

mod cache_deception;
mod cookies_and_tokens;
mod credential_fields;
mod credentials;
mod echo_app;
mod entity_tags;
mod forwarded_fields;
mod key_hosts;
mod key_parts;
mod key_urls;
mod nonces;
mod outer_middleware;
mod people;
mod poisoning;
mod shared_store;
mod sharing;
mod stored_fields;
mod two_people;
mod vary;
