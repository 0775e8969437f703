//! Removes the header fields that belong to one connection (RFC 9110 section 7.6.1).
//!
//! They are removed from requests before the cache reads them. Otherwise a client that sends
//! `Accept: x` together with `Connection: accept` would poison the cache: the origin's response to a
//! request without `Accept` would be stored for all clients that send `Accept: x`.
//!
//! They are removed from responses after the cache has read them, because the cache must decide by the
//! fields that the origin sent.

use actix_web::{
    Error,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::header::{
        CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, TE, TRAILER, TRANSFER_ENCODING,
        UPGRADE,
    },
    middleware::Next,
};

pub(crate) async fn strip<B: MessageBody>(
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    strip_fields(request.headers_mut());
    let mut response = next.call(request).await?;
    strip_fields(response.headers_mut());
    Ok(response)
}

fn strip_fields(fields: &mut HeaderMap) {
    let named: Vec<HeaderName> = fields
        .get_all(CONNECTION)
        .flat_map(|line| line.as_bytes().split(|&byte| byte == b','))
        .filter_map(|member| HeaderName::from_bytes(member.trim_ascii()).ok())
        // `Connection` must not remove the host or the framing of a message.
        .filter(|name| ![HOST, CONTENT_LENGTH, TRANSFER_ENCODING].contains(name))
        .collect();
    for name in named.into_iter().chain([CONNECTION, TE, TRAILER, UPGRADE]) {
        fields.remove(name);
    }
    fields.remove("keep-alive");
    fields.remove("proxy-connection");
}
