//! One request's flow through a cache: admitted, looked up, decided about, answered.

mod background;
mod collapse;
mod context;
mod head;
mod leader;
mod lease;
mod lookup;
pub(crate) mod middleware;
mod next_step;
mod not_modified;
mod origin;
mod reply;
mod request;
mod revalidate;
mod stale_if_error;
mod stand_in;
mod unsafe_method;
