//! The responses of the handler, and the replies that requesters get.

use actix_web::http::{StatusCode, header::HeaderMap};
use bytes::Bytes;

use super::drawn::Answer;

/// A response of the handler, with the request for which it was made.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub(super) request: HeaderMap,
    pub(super) uri: String,
    pub(super) status: StatusCode,
    pub(super) fields: HeaderMap,
    pub(super) body: Bytes,
    /// The response from which its fields are.
    pub(super) answer: Answer,
    /// The time, in seconds since the first request.
    pub(super) at: u64,
    /// The number of the earlier response that this 304 validated.
    pub(super) validates: Option<usize>,
    /// Whether this is the response to a HEAD request, without the fields above.
    pub(super) is_head: bool,
}

/// A response that a requester got.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) fields: HeaderMap,
    pub(super) body: Result<Bytes, ()>,
}
