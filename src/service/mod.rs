//! The steps of one request: the cache decides whether to handle the request, looks up the store,
//! decides which response answers the request, and responds.

mod after_wait;
mod background;
mod collapse;
mod context;
mod fetch;
mod first_part;
mod handler_tags;
mod head;
mod head_as_get;
mod leader;
mod lease;
mod lookup;
pub(crate) mod middleware;
mod not_modified;
mod origin;
mod passed_tags;
mod problems;
mod reply;
mod request;
mod request_body;
mod revalidate;
mod stale_if_error;
mod stand_in;
mod streamed_coding;
mod unsafe_method;
