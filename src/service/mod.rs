//! One request's flow through a cache: admitted, looked up, decided about, answered.

mod after_waiting;
mod background;
mod collapse;
mod context;
mod head;
mod leader;
mod lease;
mod lookup;
pub(crate) mod middleware;
mod not_modified;
mod origin;
mod reply;
mod request;
mod revalidate;
mod stale_if_error;
mod stand_in;
mod unsafe_method;
