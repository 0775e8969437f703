//! Reads the body of a request whose body is part of the cache key.

use actix_web::{
    HttpMessage as _,
    dev::{Payload, ServiceRequest},
    error::PayloadError,
    http::header::CONTENT_LENGTH,
    rt::time::timeout,
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use super::context::RequestContext;
use crate::{coordination::request_bodies::RequestBody, outcome::Bypass};

/// The end of reading a body.
enum End {
    /// The body is complete.
    Complete,
    /// The body is larger than the limit, or all bodies together are. The bytes are those that
    /// arrived last, and are not part of the body that was read.
    Exceeded(Bytes, Bypass),
    /// The body ended with an error.
    Failed(PayloadError),
}

impl RequestContext {
    /// Reads the body of a request, if it has at most `max` bytes and arrives in time, and gives it
    /// back to the request. Otherwise, returns the reason why the request bypasses the cache. In
    /// either case, the handler can read the whole body from the request.
    pub(super) async fn read_body(
        &self,
        request: &mut ServiceRequest,
        max: usize,
    ) -> Result<Bytes, Bypass> {
        if declared_length(request).is_some_and(|length| length > max) {
            return Err(Bypass::RequestBodySize);
        }
        let mut payload = request.take_payload();
        let mut body = self.shared.store.coordinator().begin_request_body();
        let limit = self.policy().request_body_limit();
        let end = timeout(limit, read(&mut payload, &mut body, max)).await;
        let begin = body.freeze();
        let (rest, reason) = match end {
            Ok(End::Complete) => {
                request.set_payload(payload_of(&begin));
                return Ok(begin);
            }
            Ok(End::Exceeded(chunk, reason)) => (Some(Ok(chunk)), reason),
            Ok(End::Failed(error)) => (Some(Err(error)), Bypass::RequestBodyError),
            Err(_) => (None, Bypass::RequestBodyTime),
        };
        let begin = (!begin.is_empty()).then_some(Ok(begin));
        let arrived = stream::iter(begin.into_iter().chain(rest));
        request.set_payload(Payload::Stream { payload: Box::pin(arrived.chain(payload)) });
        Err(reason)
    }
}

/// Appends the bytes of a payload to `body`, until the payload ends or `body` would have more than
/// `max` bytes.
async fn read(payload: &mut Payload, body: &mut RequestBody, max: usize) -> End {
    while let Some(chunk) = payload.next().await {
        let chunk = match chunk {
            Ok(chunk) => chunk,
            Err(error) => return End::Failed(error),
        };
        if chunk.len() > max.saturating_sub(body.len()) {
            return End::Exceeded(chunk, Bypass::RequestBodySize);
        }
        if body.append(&chunk).is_err() {
            return End::Exceeded(chunk, Bypass::RequestBodyMemory);
        }
    }
    End::Complete
}

/// Returns a payload from which a handler reads a body that the cache has read.
pub(super) fn payload_of(body: &Bytes) -> Payload {
    if body.is_empty() { Payload::None } else { Payload::from(body.clone()) }
}

/// Returns the length of the body that the header fields of a request declare.
fn declared_length(request: &ServiceRequest) -> Option<usize> {
    request.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
